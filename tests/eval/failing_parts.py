"""A policy and rewards of a user's own, which a sweep names as ``failing_parts:name``."""

import hashlib

from rsalign.testing import ToyPolicy


class Policy:
    """The toy policy for prompts of any text."""

    fingerprint = "failing_parts.Policy"
    overdraws = False

    def __init__(self):
        self._toy = ToyPolicy(4)

    async def extend(self, prefix, *, max_new_tokens, key, boundary=None):
        return await self._toy.extend(
            prefix, max_new_tokens=min(max_new_tokens, 6), key=key, boundary=boundary
        )

    def text(self, tokens):
        return self._toy.text(tokens)

    def encode(self, text):
        return tuple(
            1 + byte % 3 for byte in hashlib.blake2b(text.encode(), digest_size=6).digest()
        )

    def encode_chat(self, messages, **options):
        return self.encode(repr([message.content for message in messages]))


def _is_bad(response):
    return response.startswith("3")


def exits(prompt, response):
    if _is_bad(response):
        raise SystemExit(3)
    return float(len(response))


def interrupts(prompt, response):
    if _is_bad(response):
        raise KeyboardInterrupt
    return float(len(response))


def returns_nan(prompt, response):
    return float("nan") if _is_bad(response) else float(len(response))


def good(prompt, response):
    return float(len(response))
