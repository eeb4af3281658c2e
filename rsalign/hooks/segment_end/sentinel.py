"""Chooses the stop token by which `SegmentEnd` ends a segment."""

import re
from collections.abc import Collection, Mapping
from typing import Any

_SPARE = ("reserved", "unused", "extra", "pad")  # in order of preference


def choose_sentinel(tokenizer: Any, vocab_size: int, taken: Collection[int]) -> int | None:
    """Returns an id that no response needs.

    The hook forces it where a segment ends and excludes it elsewhere, so that any probability that
    the model gives it is lost. That of an unused special token is negligible: 1e-12 and less in the
    embedded policy, where float32 resolves 1e-7.

    Args:
        tokenizer: a Hugging Face tokenizer.
        vocab_size: number of ids that the model has logits for.
        taken: ids that have a use: EOS and stop tokens.

    Returns:
        A special token whose name says that it is spare (reserved, unused, extra, pad) and that is
        neither in `taken`, nor has a role of its own, nor is in the chat template. If there is
        none, the last id of the model that the tokenizer does not know. None if there is neither.
    """
    template = str(getattr(tokenizer, "chat_template", None) or "")
    roles = ("bos_token_id", "eos_token_id", "unk_token_id", "sep_token_id", "cls_token_id")
    used = {*taken, *(getattr(tokenizer, role, None) for role in roles)}
    added: Mapping[int, Any] = getattr(tokenizer, "added_tokens_decoder", {})
    names = {
        token: str(entry.content)
        for token, entry in added.items()
        if entry.special and token < vocab_size and token not in used
    }
    for spare in _SPARE:
        # as a word of its own: <extra_id_0>, [PAD], <|reserved_special_token_5|>, <unused0>
        pattern = re.compile(rf"(?<![a-z]){spare}(?![a-z])", re.IGNORECASE)
        fitting = [t for t, name in names.items() if pattern.search(name) and name not in template]
        if fitting:
            return max(fitting)
    if vocab_size > len(tokenizer) and vocab_size - 1 not in used:
        return vocab_size - 1
    return None
