"""Chooses the stop token by which `SegmentEnd` ends a segment: the *sentinel*."""

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from rsalign.core.types import Sampling

_SPARE = ("reserved", "unused", "extra", "pad", "control", "dummy", "placeholder")
"""Words in the names of tokens that no response needs, in order of preference."""
_ROLES = ("bos_token_id", "eos_token_id", "unk_token_id", "sep_token_id", "cls_token_id")


@dataclass(frozen=True, slots=True)
class Sentinel:
    """The token that the hook forces where a segment ends.

    Attributes:
        token: its id.
        shared: whether responses need it, too. The hook then leaves its probability as it is where
            no segment ends, and the report of the request tells who chose it. Otherwise the token
            is spare, and the hook excludes it where no segment ends.

    Example:
        >>> Sentinel(2, shared=True).argument
        {'rsalign_shared_sentinel': 2}
    """

    token: int
    shared: bool

    @property
    def argument(self) -> dict[str, int]:
        """The hook's argument."""
        return {"rsalign_shared_sentinel" if self.shared else "rsalign_sentinel": self.token}


@dataclass(frozen=True, slots=True)
class Sentinels:
    """The tokens of one model that may end segments.

    Attributes:
        spare: a token whose name says that no response needs it; None: there is none.
        substitute: the token that responses need least; None: they need all.
        eos: the end-of-sequence tokens.

    Example:
        >>> Sentinels(spare=None, substitute=1, eos=(2,)).choose(Sampling(), can_report=True)
        Sentinel(token=2, shared=True)
    """

    spare: int | None
    substitute: int | None
    eos: tuple[int, ...]

    @classmethod
    def of(cls, tokenizer: Any, vocab_size: int, eos: Collection[int]) -> "Sentinels":
        """Finds the tokens of a model; arguments as in `choose_sentinel`."""
        return cls(
            spare=find_spare_token(tokenizer, vocab_size, eos),
            substitute=choose_sentinel(tokenizer, vocab_size, eos),
            eos=tuple(sorted(eos)),
        )

    def choose(self, law: Sampling, *, can_report: bool) -> Sentinel | None:
        """Chooses the token for a request.

        A spare token comes first, since it needs no report. Otherwise it is a token that ends a
        response anyway (EOS, or a stop token of `law`), which costs no probability; and where there
        is none, or nobody can read the report, the substitute, whose probability is lost.

        Args:
            law: what the tokens are drawn from. Its stop tokens are never excluded.
            can_report: whether the sender can read the request's report.

        Returns:
            None if no token can end a segment.
        """
        stops = (() if law.ignore_eos else self.eos) + law.stop_token_ids
        if self.spare is not None and self.spare not in stops:
            return Sentinel(self.spare, shared=False)
        if can_report and stops:
            return Sentinel(stops[0], shared=True)
        if self.substitute is not None and self.substitute not in stops:
            return Sentinel(self.substitute, shared=False)
        return None


def find_spare_token(tokenizer: Any, vocab_size: int, taken: Collection[int]) -> int | None:
    """Returns a special token whose name says that it is spare; None if there is none.

    Arguments as in `choose_sentinel`. The word (reserved, unused, extra, pad, control, dummy,
    placeholder) stands by itself in the name, as in ``<extra_id_0>``, ``[PAD]``, ``[control_8]``
    and ``<|reserved_special_token_5|>``. The token has no role of its own, and is not in the chat
    template.
    """
    names = _unused_names(tokenizer, vocab_size, {*taken, *_roles(tokenizer)})
    for spare in _SPARE:
        pattern = re.compile(rf"(?<![a-z]){spare}(?![a-z])", re.IGNORECASE)
        fitting = [token for token, name in names.items() if pattern.search(name)]
        if fitting:
            return max(fitting)
    return None


def choose_sentinel(tokenizer: Any, vocab_size: int, taken: Collection[int]) -> int | None:
    """Returns the id that responses need least, for a hook whose report nobody reads.

    The hook forces it where a segment ends and excludes it elsewhere, so that any probability that
    the model gives it is lost. That of an unused special token is negligible: 1e-12 and less in the
    embedded policy, where float32 resolves 1e-7.

    Args:
        tokenizer: a Hugging Face tokenizer, or one of vLLM's own.
        vocab_size: number of ids that the model has logits for.
        taken: ids that have a use: EOS and stop tokens.

    Returns:
        In this order: a spare token (`find_spare_token`); the token that begins a text; another
        special token that the chat template does not use; an id of the model that stands for no
        text in the tokenizer. None if there is none of these.
    """
    spare = find_spare_token(tokenizer, vocab_size, taken)
    if spare is not None:
        return spare
    used = {*taken, getattr(tokenizer, "eos_token_id", None)}
    names = _unused_names(tokenizer, vocab_size, used)
    bos = getattr(tokenizer, "bos_token_id", None)
    if bos in names:
        return int(bos)
    if names:
        return max(names)
    return next(_ids_without_text(tokenizer, vocab_size, used), None)


def _roles(tokenizer: Any) -> set[int | None]:
    return {getattr(tokenizer, role, None) for role in _ROLES}


def _unused_names(tokenizer: Any, vocab_size: int, used: Collection[int | None]) -> dict[int, str]:
    """The special tokens that are neither in `used` nor in the chat template, by id."""
    template = str(getattr(tokenizer, "chat_template", None) or "")
    return {
        token: name
        for token, name in _special_names(tokenizer).items()
        if 0 <= token < vocab_size and token not in used and name not in template
    }


def _special_names(tokenizer: Any) -> dict[int, str]:
    added: Mapping[int, Any] | None = getattr(tokenizer, "added_tokens_decoder", None)
    if added is not None:
        return {token: str(entry.content) for token, entry in added.items() if entry.special}
    # vLLM's own tokenizers, such as Mistral's
    ids = [int(token) for token in getattr(tokenizer, "all_special_ids", ())]
    names = tokenizer.convert_ids_to_tokens(ids) if ids else []
    return dict(zip(ids, map(str, names), strict=True))


def _ids_without_text(
    tokenizer: Any, vocab_size: int, used: Collection[int | None]
) -> Iterator[int]:
    """The ids, from the last, for which the model has a logit but the tokenizer has no token."""
    size = len(tokenizer)
    yield from (token for token in range(vocab_size - 1, size - 1, -1) if token not in used)
    convert = getattr(tokenizer, "convert_ids_to_tokens", None)
    if convert is None:
        return
    for token in range(min(size, vocab_size) - 1, -1, -1):
        if token not in used and not convert(token):
            yield token
