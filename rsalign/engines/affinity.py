"""Which requests belong together, for the sake of prefix caches."""

import hashlib
import threading
from array import array
from collections import Counter

from rsalign.core.types import Tokens


class Prompts:
    """The prompts that were seen; a prefix belongs to the shortest of them that begins it.

    A policy is given a prompt and what is kept of a response as one sequence, and all requests of a
    prompt shall meet in one cache. Hashing so many leading tokens would not do: with few, prompts
    under one system prompt would crowd at one replica; with many, short ones would move as they
    grow.
    """

    def __init__(self, capacity: int = 4096) -> None:
        self._capacity = capacity
        self._length: dict[bytes, int] = {}  # by digest; least recently used first
        self._lengths: Counter[int] = Counter()
        self._lock = threading.Lock()  # event loops have threads of their own

    def find(self, prefix: Tokens) -> bytes:
        """The digest of its prompt; where none is known, the prefix is a prompt itself."""
        hashed, done = hashlib.blake2b(digest_size=8), 0
        with self._lock:
            for length in sorted({*self._lengths, len(prefix)}):
                hashed.update(array("q", prefix[done:length]).tobytes())
                done = length
                if length >= len(prefix) or hashed.digest() in self._length:
                    break
            digest = hashed.digest()
            if self._length.pop(digest, None) is None:
                self._lengths[done] += 1
            self._length[digest] = done
            if len(self._length) > self._capacity:
                forgotten = self._length.pop(next(iter(self._length)))
                self._lengths -= Counter((forgotten,))  # drops what falls to zero
        return digest
