"""Draws of a draft model, and the probabilities that it and the policy give to tokens.

A *draft* is a smaller policy over the same token ids, the part ``draft`` of a run. It proposes what
the policy would be slow to draw; the policy then only scores it, by one request.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from rsalign.core.capabilities import vocabulary
from rsalign.core.errors import ConfigError
from rsalign.core.overdraw import needs_entropy
from rsalign.core.protocols import (
    Boundary,
    Policy,
    get_sampling,
    innermost,
    require_likelihood,
    with_sampling,
)
from rsalign.core.run import Run
from rsalign.core.tasks import concurrently
from rsalign.core.types import Candidate, Prompt, Response, Sampling, Tokens

DRAFT = "draft"
"""The name of the part that proposes."""

NEEDS_DRAFT: Mapping[str, Any] = MappingProxyType({DRAFT: Policy})
"""What a strategy with a draft declares as `needs`."""

_ENDS = ("stop", "stop_token_ids", "ignore_eos", "min_tokens")


class Drafted(float):
    """A token's log-probability under the policy, which also has the one under the draft.

    Attributes:
        draft: ln q(token | the tokens before it), nats, under the draft's sampling settings.

    Example:
        >>> both = Drafted(-0.5, draft=-2.0)
        >>> both.draft, both - both.draft
        (-2.0, 1.5)
    """

    __slots__ = ("draft",)

    draft: float

    def __new__(cls, value: float, *, draft: float) -> "Drafted":
        """Creates a float with a second one."""
        drafted = super().__new__(cls, value)
        drafted.draft = draft
        return drafted

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickles by the constructor, which needs both numbers."""
        return _drafted, (float(self), self.draft)


def _drafted(value: float, draft: float) -> Drafted:
    return Drafted(value, draft=draft)


def log_ratio(response: Response, kept: int = 0) -> float:
    """Ln (pi / q) of the tokens after the first `kept`, nats: policy over draft.

    Plus infinity if the draft could not write them; minus infinity if only the policy could not.
    """
    both = (response.log_probs or ())[kept:]
    log_draft = math.fsum(value.draft for value in both if isinstance(value, Drafted))
    if log_draft == -math.inf:
        return math.inf
    return math.fsum(both) - log_draft


@dataclass(frozen=True, slots=True)
class Pair:
    """The policy of a run and its draft, which end answers in the same way.

    Temperature and truncation of the draft are its own; stop strings, stop tokens and the least
    length are those of the policy, so that both write the same answers.

    Attributes:
        policy: the policy of the run.
        draft: the part that proposes.
    """

    policy: Policy
    draft: Policy

    @classmethod
    def of(cls, run: Run, name: str = DRAFT, *, covers: bool = False) -> "Pair":
        """The policy and the draft of a run.

        Args:
            run: has the part of this name.
            name: of the part that proposes.
            covers: whether the draft must be able to write whatever the policy can.

        Raises:
            ConfigError: if the draft is no policy; if it reads other token ids; if its stops are
                fixed and differ from the policy's; with `covers`, if it truncates.
        """
        draft = run.part(name)
        if not isinstance(draft, Policy):
            raise ConfigError(
                f"the part {name!r} is {type(innermost(draft)).__name__}, which draws nothing: "
                "give a policy, such as a smaller model of the same family"
            )
        check_same_tokens(run.policy, draft, name)
        law, own = get_sampling(run.policy), get_sampling(draft)
        if covers and (setting := _truncation(own)):
            raise ConfigError(
                f"the draft has {setting}, so that some answers of the policy are never proposed, "
                "and the chain would not reach them: give the draft temperature above 0 and no "
                "truncation (top_p=1, top_k=0, min_p=0)"
            )
        wanted = replace(own, **{name: getattr(law, name) for name in _ENDS})
        if wanted != own:
            draft = with_sampling(draft, wanted)
        return cls(run.policy, draft)

    async def draw(
        self,
        prompt: Prompt,
        kept: Response,
        run: Run,
        *,
        max_tokens: int,
        boundary: Boundary | None = None,
    ) -> Candidate:
        """Draws a continuation from the draft, scored by the reward but not by the policy.

        Arguments are those of `Run.draft`. The response has no log-probabilities: those of the
        policy are not known.
        """
        drawn = await replace(run, policy=self.draft).draft(
            prompt, kept.tokens, max_tokens=max_tokens, boundary=boundary
        )
        return replace(drawn, response=replace(drawn.response, log_probs=None))

    async def draw_scored(
        self,
        prompt: Prompt,
        kept: Response,
        run: Run,
        *,
        max_tokens: int,
        boundary: Boundary | None = None,
        state: Response | None = None,
    ) -> Candidate:
        """As `draw`; the log-probabilities of the new tokens are `Drafted`, those of `kept` stay.

        What the new response has in common with a `state` whose log-probabilities are `Drafted` is
        not scored again.

        Raises:
            ConfigError: if the policy cannot score given tokens under its sampling settings.
        """
        drawn = await replace(run, policy=self.draft).draft(
            prompt,
            kept.tokens,
            max_tokens=max_tokens,
            boundary=boundary,
            kept_log_probs=(0.0,) * len(kept.tokens),  # so that those of the new tokens are told
        )
        told = drawn.response.log_probs
        if state is not None and state.log_probs is not None:
            pairs = zip(state.tokens, drawn.tokens, strict=False)
            common = next((i for i, (one, other) in enumerate(pairs) if one != other), None)
            if common is None:
                common = min(len(state.tokens), len(drawn.tokens))
            if common > len(kept.tokens):
                kept = Response(state.tokens[:common], "", None, state.log_probs[:common])
        known = None if told is None else told[len(kept.tokens) :]
        return await self._scored(prompt, kept, drawn, log_draft=known)

    async def score_drawn(self, prompt: Prompt, kept: Response, drawn: Candidate) -> Candidate:
        """Adds the draft's log-probabilities to a continuation that the policy drew.

        Args:
            prompt: what is answered.
            kept: the response that was continued.
            drawn: by `Run.draft`, with the log-probabilities of `kept` if they are known.
        """
        told = drawn.response.log_probs
        known = None if told is None else told[len(kept.tokens) :]
        return await self._scored(prompt, kept, drawn, log_policy=known)

    async def annotated(self, prompt: Prompt, state: Candidate) -> Candidate:
        """The same response with `Drafted` log-probabilities, which it may have already.

        Costs a request to the draft if a token has none, and one to the policy if the response has
        no log-probabilities at all.
        """
        told = state.response.log_probs
        if told is None:
            return await self._scored(prompt, Response((), "", None, ()), state)
        known = next((i for i, one in enumerate(told) if not isinstance(one, Drafted)), len(told))
        if known == len(told):
            return state
        kept = Response(state.tokens[:known], "", None, told[:known])
        return await self._scored(prompt, kept, state, log_policy=told[known:])

    async def _scored(
        self,
        prompt: Prompt,
        kept: Response,
        drawn: Candidate,
        *,
        log_policy: Sequence[float] | None = None,
        log_draft: Sequence[float] | None = None,
    ) -> Candidate:
        """Asks for what is not known; `kept` may lack log-probabilities, which then stay unknown.

        Those of tokens before the continuation count as `Drafted` zeros: nobody asks for them.
        """
        start, tokens = len(kept.tokens), drawn.tokens[len(kept.tokens) :]

        async def score(policy: Policy, known: Sequence[float] | None) -> Sequence[float]:
            if known is not None:
                return known
            return await score_tokens(policy, prompt, kept.tokens, tokens)

        log_policy, log_draft = await concurrently(
            (score(self.policy, log_policy), score(self.draft, log_draft))
        )
        both = tuple(Drafted(p, draft=float(q)) for p, q in zip(log_policy, log_draft, strict=True))
        before = kept.log_probs
        if before is None:
            before = (Drafted(0.0, draft=0.0),) * start
        return replace(drawn, response=replace(drawn.response, log_probs=before + both))


async def score_tokens(
    policy: Policy, prompt: Prompt, kept: Tokens, tokens: Tokens
) -> tuple[float, ...]:
    """Ln probability of each of `tokens` after the prompt and the kept tokens, by one request.

    Args:
        policy: must be able to score given tokens (`Likelihood`).
        prompt: what is answered.
        kept: the response before them.
        tokens: ``(tokens,)``.

    Raises:
        ConfigError: if the policy cannot, in general or under its sampling settings.
    """
    if not tokens:
        return ()
    law = get_sampling(policy)
    if (rest := law.after(len(kept))) is not law:
        policy = with_sampling(policy, rest)
    return await require_likelihood(policy).log_probs(prompt.tokens + kept, tokens)


def check_same_tokens(policy: Policy, other: Policy, name: str) -> None:
    """Refuses a part that reads other texts from the same token ids.

    Raises:
        ConfigError: if both tell their vocabularies, and they differ.
    """
    one, two = vocabulary(policy), vocabulary(other)
    if one and two and one != two:
        raise ConfigError(
            f"the part {name!r} ({type(innermost(other)).__name__}) has another tokenizer than the "
            "policy: its token ids mean other texts. Give a model of the same family, with the "
            "same vocabulary"
        )


def require_same_ends(segmenter: Boundary, owner: object) -> None:
    """Refuses a segmenter by which two models would end equal tokens at different places.

    Raises:
        ConfigError: if it reads entropies, which belong to the model that draws.
    """
    if not needs_entropy(segmenter):
        return
    raise ConfigError(
        f"{type(owner).__name__}(segmenter={segmenter!r}): the draft and the policy have different "
        "entropies, so that they would end segments at different places, and the probabilities of "
        "a segment could not be compared: use FixedSize, Blocks or Punctuation(min_entropy=0)"
    )


def _truncation(law: Sampling) -> str:
    """The setting that gives tokens probability 0, as text; empty if none does."""
    if law.greedy:
        return f"temperature={law.temperature:g}"
    for name, cuts in (
        ("top_p", law.top_p < 1),
        ("top_k", law.top_k > 0),
        ("min_p", law.min_p > 0),
        ("allowed_token_ids", bool(law.allowed_token_ids)),
        ("bad_words", bool(law.bad_words)),
        ("structured_outputs", bool(law.structured_outputs)),
    ):
        if cuts:
            return f"{name}={getattr(law, name)!r}"
    return ""
