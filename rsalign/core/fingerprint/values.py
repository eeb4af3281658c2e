"""Digests of values that contain no code: plain values, arrays, tensors and tokenizers.

Values of a library are recognized only if the library is loaded; it need not be installed.
"""

import functools
import hashlib
import json
import os
import struct
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from rsalign.core.fingerprint.digester import Digester

LEAVES = (str, bytes, int, float, complex, bool, type(None), type(...), type(NotImplemented))
"""Types whose values are identified by their representation; no subclasses."""


def hash_parts(tag: str, *parts: bytes) -> bytes:
    """Hashes the kind of a value together with the digests or bytes of its parts."""
    digest = hashlib.blake2b(tag.encode(), digest_size=16)
    for part in parts:
        digest.update(struct.pack("<q", len(part)))
        digest.update(part)
    return digest.digest()


def digest_leaf(value: Any) -> bytes:
    """Returns the digest of a value of one of `LEAVES`."""
    if isinstance(value, str):
        return hash_parts("str", value.encode("utf-8", "surrogatepass"))
    if isinstance(value, bytes):
        return hash_parts("bytes", value)
    if type(value) is int:  # in base 16: Python writes no more than 4300 decimal digits
        return hash_parts("int", f"{value:x}".encode())
    return hash_parts(type(value).__qualname__, repr(value).encode())


def digest_array(digester: "Digester", value: Any, where: str) -> bytes | None:
    """Returns the digest of a NumPy array, number or function; None if it is none of these."""
    numpy: Any = sys.modules.get("numpy")
    if numpy is None:
        return None
    if isinstance(value, numpy.ufunc):
        name: str = value.__name__
        for home in ("numpy", "scipy.special"):
            if getattr(sys.modules.get(home), name, None) is value:
                return hash_parts("ufunc", home.encode(), name.encode())
        digester.refuse(value, where)
    if isinstance(value, numpy.ndarray | numpy.generic):
        about = (repr(value.dtype.descr if value.dtype.names else value.dtype.str), value.shape)
        if value.dtype.hasobject:
            content = digester.digest(value.tolist(), where)
        else:
            content = hashlib.blake2b(value.tobytes(), digest_size=16).digest()
        digest = hash_parts("array", repr(about).encode(), content)
        if isinstance(value, numpy.generic):  # its type is its dtype's
            return digest
        return digester.add_subclass(value, (numpy.ndarray, numpy.memmap), digest, where)
    return None


def digest_tensor(value: Any) -> bytes | None:
    """Returns the digest of a torch tensor on any device; None if it is not a tensor."""
    torch: Any = sys.modules.get("torch")
    if torch is None or not isinstance(value, getattr(torch, "Tensor", ())):
        return None
    value = cast(Any, value)
    if value.layout != torch.strided:
        value = value.to_dense()
    plain = value.detach().cpu().contiguous().reshape(-1)
    content = hashlib.blake2b(plain.view(torch.uint8).numpy(), digest_size=16).digest()
    return hash_parts(
        "tensor", str(value.dtype).encode(), repr(tuple(value.shape)).encode(), content
    )


def digest_tokenizer(value: Any) -> bytes | None:
    """Returns the digest of a tokenizer (vocabulary, rules, chat template, no paths).

    It is one of Hugging Face, or one of vLLM's own, such as Mistral's, whose rules are those of
    their vocabulary, class and version. None if it is not a tokenizer.
    """
    homes = [one.__module__ for one in type(value).__mro__]
    # first: vLLM's tokenizers of Hugging Face's models are classes of both
    if any(home.startswith("transformers.") for home in homes):
        if not hasattr(value, "get_vocab") or not hasattr(value, "special_tokens_map"):
            return None
        settings = (value.chat_template, sorted(map(repr, value.special_tokens_map.items())))
        return hash_parts("tokenizer", _vocabulary(value), repr(settings).encode())
    if any(home.startswith("vllm.tokenizers.") for home in homes) and hasattr(value, "get_vocab"):
        rules = (type(value).__name__, getattr(value, "version", None), value.all_special_tokens)
        return hash_parts("tokenizer", _words(value), repr(rules).encode())
    return None


@functools.lru_cache(maxsize=16)
def _words(tokenizer: Any) -> bytes:
    return hash_parts("words", repr(sorted(tokenizer.get_vocab().items(), key=repr)).encode())


@functools.lru_cache(maxsize=16)
def _vocabulary(tokenizer: Any) -> bytes:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        file = getattr(tokenizer, "vocab_file", None)
        rules = Path(file).read_bytes() if file and os.path.isfile(file) else b""
        words = repr(sorted(tokenizer.get_vocab().items())).encode()
        return hash_parts("words", rules, words)
    rules = json.loads(backend.to_str())
    for state in ("truncation", "padding"):  # left over from the last call
        rules.pop(state, None)
    return hash_parts("rules", json.dumps(rules, sort_keys=True).encode())
