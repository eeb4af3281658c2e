"""Digests of single values, and of digests: what is told apart is told by these."""

import hashlib
import struct
from typing import Any

LEAVES = (str, bytes, int, float, complex, bool, type(None), type(...), type(NotImplemented))
"""What is told by its representation; exactly these, and nothing derived from them."""


def hashed(tag: str, *parts: bytes) -> bytes:
    """A digest of a kind of value and of the digests or bytes that it is made of."""
    digest = hashlib.blake2b(tag.encode(), digest_size=16)
    for part in parts:
        digest.update(struct.pack("<q", len(part)))
        digest.update(part)
    return digest.digest()


def leaf(value: Any) -> bytes:
    """The digest of one of `LEAVES`."""
    if isinstance(value, str):
        return hashed("str", value.encode("utf-8", "surrogatepass"))
    if isinstance(value, bytes):
        return hashed("bytes", value)
    if type(value) is int:  # in base 16: Python writes no more than 4300 decimal digits
        return hashed("int", f"{value:x}".encode())
    return hashed(type(value).__qualname__, repr(value).encode())
