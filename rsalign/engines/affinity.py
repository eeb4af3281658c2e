"""Finds the prompt that a request continues, so that all its requests reach one prefix cache."""

import hashlib
import threading
from array import array
from collections import Counter

from rsalign.core.types import Tokens


class PromptIndex:
    """The prompts seen so far; a token prefix belongs to the shortest of them that it begins with.

    A policy gets the prompt and the kept part of a response as one sequence. To hash a fixed number
    of leading tokens would not do: with few, all prompts under one system prompt would go to one
    replica; with many, the requests of a short prompt would move as the response grows.

    Args:
        capacity: the greatest number of prompts to remember; the least recently used go first.

    Example:
        >>> index = PromptIndex()
        >>> prompt = index.find((1, 5, 9))
        >>> index.find((1, 5, 9, 4, 4)) == prompt, index.find((1, 5, 8)) == prompt
        (True, False)
    """

    def __init__(self, capacity: int = 4096) -> None:
        self._capacity = capacity
        self._length: dict[bytes, int] = {}  # by digest; least recently used first
        self._lengths: Counter[int] = Counter()
        self._lock = threading.Lock()  # event loops have threads of their own

    def find(self, prefix: Tokens) -> bytes:
        """Returns the digest of a prefix's prompt; a prefix of no known prompt is a new prompt."""
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
