"""Which token may mean "the segment ends here"."""

import re
from collections.abc import Collection
from typing import Any

from rsalign.errors import ConfigError

_SPARE = ("reserved", "unused", "extra", "pad")  # in order of preference


def choose_sentinel(tokenizer: Any, vocab_size: int, taken: Collection[int]) -> int:
    """An id that no response needs.

    The hook forces it where a segment ends and excludes it elsewhere, so that whatever probability
    the model gives it is lost. That of a special token without a use is nothing: 1e-12 and less in
    the embedded policy, where float32 resolves 1e-7.

    Args:
        tokenizer: a Hugging Face tokenizer.
        vocab_size: number of ids that the model has logits for.
        taken: ids that mean something: EOS and stop tokens.

    Returns:
        A special token that is named as spare, is neither in `taken` nor BOS, EOS or a token of
        conversations, and is not in the chat template; else the last id that the tokenizer does not
        know.

    Raises:
        ConfigError: if there is neither.
    """
    template = str(getattr(tokenizer, "chat_template", None) or "")
    roles = (
        tokenizer.bos_token_id,
        tokenizer.eos_token_id,
        getattr(tokenizer, "unk_token_id", None),
    )
    used = {*taken, *roles}
    names = {
        token: str(added.content)
        for token, added in tokenizer.added_tokens_decoder.items()
        if added.special and token < vocab_size and token not in used
    }
    for spare in _SPARE:
        # as a word of its own: <extra_id_0>, [PAD], <|reserved_special_token_5|>, <unused0>
        pattern = re.compile(rf"(?<![a-z]){spare}(?![a-z])", re.IGNORECASE)
        fitting = [t for t, name in names.items() if pattern.search(name) and name not in template]
        if fitting:
            return max(fitting)
    if vocab_size > len(tokenizer) and vocab_size - 1 not in used:
        return vocab_size - 1
    raise ConfigError(
        f"the tokenizer of {tokenizer.name_or_path} has no spare token that could end a segment "
        "inside the engine: use FixedSize"
    )
