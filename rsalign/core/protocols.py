"""The interfaces of policies, rewards and strategies. Every method handles one request, not a list.

Many requests at once are many concurrent calls (`rsalign.core.tasks.concurrently`), which the
engine batches. The laws stated here are tested by `rsalign.testing.check_policy`, `check_reward`
and `check_strategy`, for the classes of this package and for your own.
"""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol, cast, runtime_checkable

from rsalign.core.checks import part
from rsalign.core.errors import ConfigError
from rsalign.core.key import Key
from rsalign.core.reward_protocols import PairwiseReward as PairwiseReward
from rsalign.core.reward_protocols import Reward as Reward
from rsalign.core.reward_protocols import StepReward as StepReward
from rsalign.core.types import Candidate, Message, Prompt, Sampling, Segment, Tokens
from rsalign.core.types import Listed as Listed
from rsalign.core.types import Ranked as Ranked
from rsalign.core.types import Scored as Scored

if TYPE_CHECKING:
    from rsalign.core.run import Run


class Boundary(Protocol):
    """The rule that ends a segment before its response ends: an immutable value.

    See `rsalign.segments` for the rules of this package. The rule is applied twice for every token:
    before it is drawn and after. Entropies are those of the model's next-token distribution (full
    vocabulary, temperature 1), in nats. A policy follows the rule exactly, either itself or inside
    its engine, or refuses the boundary. EOS always ends the response, and is not a boundary.

    A rule that has `engine_arguments` but reads only the tokens declares
    ``needs_entropy = False``. A policy may then cut a segment after drawing it
    (`rsalign.core.overdraw`).

    Example:
        >>> from rsalign import FixedSize
        >>> boundary: Boundary = FixedSize(16)
        >>> boundary.max_tokens
        16
    """

    @property
    def max_tokens(self) -> int:
        """Greatest number of tokens of a segment."""
        ...

    @property
    def engine_arguments(self) -> Mapping[str, int | float | str]:
        """The rule for the engine's hook, as flat ``extra_args``; empty if only the size counts."""
        ...

    def ends_before(self, num_drawn: int, entropy: float) -> bool:
        """Whether the segment ends before the next token, whose distribution has this entropy.

        Args:
            num_drawn: tokens of the segment so far, at least 1.
            entropy: entropy of the next token's distribution, nats.
        """
        ...

    def ends_after(self, num_drawn: int, entropy: float, text: str) -> bool:
        """Whether the segment ends after the token that was just drawn.

        Args:
            num_drawn: tokens of the segment, including that token.
            entropy: entropy of the distribution that it was drawn from, nats.
            text: text of that token alone.
        """
        ...


SEGMENTER = part("a segmenter, such as FixedSize(16)")
"""Allows a `Boundary` as a setting."""


@runtime_checkable
class Policy(Protocol):
    """A fixed distribution pi over continuations of a token sequence.

    Temperature, truncation and stop strings are part of pi, not arguments of a call.

    Laws: a segment has at least one token and, including those beyond its boundary, at most
    `max_new_tokens`; `stop` agrees with the tokens; log-probabilities, where known, are those of
    pi, one per token, finite and at most 0; cancelling a call frees its request in the engine.

    A policy may declare ``overdraws`` and ``tells_log_probs`` (`rsalign.core.capabilities`).

    A policy may have an attribute or property ``fingerprint``: a string that identifies pi by the
    content of the model, its precision, temperature and truncation, but not by the model's path or
    the machine. A journal replays draws only for the same fingerprint. Without this attribute, the
    fingerprint is computed from class and attributes (`rsalign.core.fingerprint`).

    Example:
        >>> import asyncio
        >>> from rsalign.testing import ToyPolicy
        >>> policy = ToyPolicy()
        >>> isinstance(policy, Policy)
        True
        >>> segment = asyncio.run(policy.extend((1,), max_new_tokens=8, key=Key(0)))
        >>> len(segment.tokens) == len(segment.log_probs) <= 8
        True
    """

    async def extend(
        self, prefix: Tokens, *, max_new_tokens: int, key: Key, boundary: Boundary | None = None
    ) -> Segment:
        """Draws a continuation of `prefix`.

        Args:
            prefix: the prompt and the kept tokens of a response, at least one token.
            max_new_tokens: greatest number of new tokens, at least 1.
            key: the address of this draw. Equal keys draw equal segments if the engine is
                deterministic (see docs/running.md, "Seeds").
            boundary: rule that ends the segment before the response ends; None: no rule.

        Raises:
            PolicyError: if the engine failed.
            ConfigError: if the prefix does not fit into the context, or if the policy cannot follow
                the boundary exactly.
        """
        ...

    def text(self, tokens: Tokens) -> str:
        """Decodes a response to an ordinary prompt.

        The text may depend on the end of the prompt; see `rsalign.core.text.detokenization`.
        """
        ...


@runtime_checkable
class Likelihood(Protocol):
    """A policy that can also compute the log-probabilities of given tokens.

    `Likelihood`, `Measuring`, `Loaded`, `Shaped`, `Adjustable` and `Encoder` are optional abilities
    of a policy; test for them with ``isinstance``. A wrapper has exactly the abilities of the
    policy that it wraps (`rsalign.core.wrapper`).

    Example:
        >>> from rsalign.testing import ToyPolicy
        >>> isinstance(ToyPolicy(), Likelihood), isinstance(ToyPolicy(), Adjustable)
        (True, False)
    """

    async def log_probs(self, prefix: Tokens, tokens: Tokens) -> tuple[float, ...]:
        """Returns ln pi(token | prefix and the tokens before it), nats, ``(tokens,)``.

        Each value may be a `Ranked`, which also has the token's rank.
        """
        ...


@runtime_checkable
class Measuring(Protocol):
    """A policy that can also measure how certain its model is at each token that it draws."""

    async def measure(
        self, prefix: Tokens, *, max_new_tokens: int, key: Key, boundary: Boundary | None = None
    ) -> Segment:
        """Draws the same tokens as `Policy.extend`, and sets the segment's `certainty`.

        Raises:
            ConfigError: as in `Policy.extend`; also if this engine cannot measure certainty.
        """
        ...


@runtime_checkable
class Loaded(Protocol):
    """A policy that reports the load of its engine."""

    @property
    def headroom(self) -> float:
        """Number of requests that cost as much as a step by itself, per open request."""
        ...


@runtime_checkable
class Shaped(Protocol):
    """A policy that reports its sampling settings."""

    @property
    def sampling(self) -> Sampling:
        """Temperature, truncation, stops and further settings."""
        ...


@runtime_checkable
class Adjustable(Protocol):
    """A policy that can draw from the same model with other sampling settings."""

    def with_sampling(self, sampling: Sampling) -> Policy:
        """Returns a policy with these settings that shares the engine.

        Raises:
            ConfigError: if the engine does not support them.
        """
        ...


@runtime_checkable
class Encoder(Protocol):
    """A policy with a tokenizer, so that prompts may be text or messages.

    Example:
        >>> from rsalign.testing import ToyPolicy
        >>> ToyPolicy().encode("1 2")
        (1, 2)
    """

    def encode(self, text: str) -> Tokens:
        """Encodes a plain text prompt to token ids, as the engine does."""
        ...

    def encode_chat(
        self,
        messages: tuple[Message, ...],
        *,
        chat_template: str | None = None,
        add_generation_prompt: bool = True,
        template_kwargs: Mapping[str, Any] | None = None,
    ) -> Tokens:
        """Renders a conversation with the chat template and encodes it to token ids.

        `template_kwargs` are further arguments of the template, such as ``tools`` or
        ``enable_thinking`` (`ChatOptions`); a policy without that parameter takes none.

        Raises:
            ConfigError: if there is no chat template, or it refuses the conversation.
        """
        ...


@runtime_checkable
class Strategy(Protocol):
    """A decoding method with its settings: a frozen dataclass that draws one answer to one prompt.

    Laws: the committed pieces concatenate to the result; every key is used once; the result does
    not depend on what else runs; no task outlives the call; strategies are equal by value and
    picklable.

    A strategy may declare what others need to know about it, such as ``needs_reward``,
    ``cuts_answers``, ``trace_kind`` and ``note_meanings`` (`rsalign.core.capabilities`). A strategy
    that selects its answer among responses tells the trace how (`Trace.answer_by`), so that the
    selection also works if a budget ends the run early.

    Example:
        >>> from dataclasses import dataclass
        >>> @dataclass(frozen=True)
        ... class FirstDraw:
        ...     needs_reward = False
        ...
        ...     async def sample(self, prompt, run):
        ...         draft = await run.draft(prompt, (), max_tokens=8)
        ...         run.decide(draft, kept=0, log_accept=0.0)
        ...         run.trace.commit(draft.tokens)
        ...         return draft
        >>> import asyncio
        >>> from rsalign import align
        >>> from rsalign.testing import ToyPolicy
        >>> result = asyncio.run(align(Prompt((), (1,)), FirstDraw(), policy=ToyPolicy()))
        >>> result.trace.committed == result.candidate.tokens
        True
    """

    async def sample(self, prompt: Prompt, run: "Run") -> Candidate:
        """Draws an answer from the distribution that the class documents."""
        ...


def require_measuring(policy: Policy) -> Measuring:
    """Returns the policy if it can measure certainty (`Measuring`).

    Raises:
        ConfigError: if it cannot.
    """
    if isinstance(policy, Measuring):
        return policy
    raise ConfigError(
        f"{type(innermost(policy)).__name__} cannot tell how certain it is of each token, which "
        "this strategy needs: use VllmPolicy with an engine of its own, or a setting that does "
        "without"
    )


def require_likelihood(policy: Policy) -> Likelihood:
    """Returns the policy if it can compute log-probabilities of given tokens (`Likelihood`).

    Raises:
        ConfigError: if it cannot.
    """
    if isinstance(policy, Likelihood):
        return policy
    raise ConfigError(
        f"{type(innermost(policy)).__name__} cannot tell the probability of given tokens, which "
        "this strategy needs: use a policy with log_probs (VllmPolicy has it)"
    )


def innermost(part: Any) -> Any:
    """Returns the part inside all wrappers, for messages that name what the user gave."""
    while (inner := getattr(part, "wrapped", None)) is not None:
        part = inner
    return part


def get_headroom(policy: Policy) -> float:
    """Returns `Loaded.headroom`; infinity if the policy does not report it."""
    return policy.headroom if isinstance(policy, Loaded) else math.inf


def get_sampling(policy: Policy) -> Sampling:
    """Returns the policy's sampling settings; the defaults of `Sampling` if it reports none."""
    # asked at every draft: a check against the protocol takes ten times as long
    return cast(Sampling, getattr(policy, "sampling", _UNSHAPED))


_UNSHAPED = Sampling()
"""Made once: to make one means to check each of its settings."""


def with_sampling(policy: Policy, law: Sampling) -> Policy:
    """Returns the same policy with other sampling settings.

    Raises:
        ConfigError: if the settings of the policy are fixed, or it does not support these.
    """
    if isinstance(policy, Adjustable):
        return policy.with_sampling(law)
    raise ConfigError(
        f"{type(policy).__name__} has no with_sampling(): its settings are fixed; "
        "leave sampling_params=None and set lengths in the strategy"
    )
