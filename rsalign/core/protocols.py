"""What a policy, a reward and a strategy must be. Each speaks of one request and never of a list.

Breadth is expressed by `rsalign.core.tasks.concurrently`; batching is the engine's business. The
laws
stated here are asserted by `rsalign.testing.check_policy`, `check_reward` and `check_strategy`,
for our classes and for anyone's.
"""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from rsalign.core.annotated import Listed as Listed
from rsalign.core.annotated import Ranked as Ranked
from rsalign.core.annotated import Scored as Scored
from rsalign.core.checks import part
from rsalign.core.errors import ConfigError
from rsalign.core.key import Key
from rsalign.core.types import Candidate, Message, Prompt, Response, Sampling, Segment, Tokens

if TYPE_CHECKING:
    from rsalign.core.run import Run


class Boundary(Protocol):
    """Where a segment may end before its response does. A value; see `rsalign.segments`.

    The rule is asked twice for every token: before it is drawn and after. Entropies are those of
    the model's next-token law (full vocabulary, temperature 1), in nats. A policy honours the rule
    exactly, here or inside its engine, or refuses the boundary. EOS ends the response in any case,
    and is no boundary.

    A rule that has `engine_arguments` and yet looks at the tokens alone says so by
    ``needs_entropy = False``; a policy may then apply it after the fact (`rsalign.core.overdraw`).
    """

    @property
    def max_tokens(self) -> int:
        """A segment ends at this many tokens at the latest."""
        ...

    @property
    def engine_arguments(self) -> Mapping[str, int | float | str]:
        """The rule for the engine's hook, as flat ``extra_args``; empty if the size is all."""
        ...

    def ends_before(self, num_drawn: int, entropy: float) -> bool:
        """Whether the segment ends before a token that would be drawn with this entropy.

        Args:
            num_drawn: tokens of the segment so far, at least 1.
            entropy: of the law of the token that would come next, nats.
        """
        ...

    def ends_after(self, num_drawn: int, entropy: float, text: str) -> bool:
        """Whether the segment ends with the token just drawn.

        Args:
            num_drawn: tokens of the segment, that token included.
            entropy: of the law it was drawn from, nats.
            text: of that token alone.
        """
        ...


SEGMENTER = part("a segmenter, such as FixedSize(16)")
"""What a `Boundary` is called where it is a setting."""


@runtime_checkable
class Policy(Protocol):
    """A fixed distribution pi over continuations.

    Temperature, truncation and stop strings are part of pi, not of a call.

    Laws: a segment has at least one token and, with those beyond its boundary, at most
    `max_new_tokens`; `stop` agrees with the tokens; log-probabilities, where known, are those of
    pi, one per token, finite and at most 0; cancelling a call frees its request.

    A policy may declare ``overdraws`` and ``tells_log_probs`` (`rsalign.core.capabilities`).

    A policy may have an attribute or property ``fingerprint``, a string that tells pi from every
    other: the content of the model, its precision, temperature and truncation, but not where the
    model lies or on which machine it runs. A journal replays draws of the same fingerprint only.
    Without one, a policy is told by its class and attributes (`rsalign.core.fingerprint`).
    """

    async def extend(
        self, prefix: Tokens, *, max_new_tokens: int, key: Key, boundary: Boundary | None = None
    ) -> Segment:
        """Draws a continuation of `prefix`.

        Args:
            prefix: prompt and what was kept of a response, at least one token.
            max_new_tokens: greatest number of new tokens, at least 1.
            key: the address of this draw. Equal keys draw equal segments where the engine can
                promise it (see README, "Seeds").
            boundary: where the segment may end before the response does.

        Raises:
            PolicyError: if the engine failed.
            ConfigError: if the prefix does not fit the context, or the boundary is of a kind that
                this policy cannot honour exactly.
        """
        ...

    def text(self, tokens: Tokens) -> str:
        """The text of a response to an ordinary prompt.

        For any prompt, see `rsalign.core.text.detokenization`.
        """
        ...


@runtime_checkable
class Likelihood(Protocol):
    """A policy that can also tell how probable given tokens are.

    This, `Measuring`, `Loaded`, `Shaped`, `Adjustable` and `Encoder` are abilities: ask with
    ``isinstance``. A policy in a run has those of the policy that it wraps
    (`rsalign.core.wrapper`).
    """

    async def log_probs(self, prefix: Tokens, tokens: Tokens) -> tuple[float, ...]:
        """Ln pi(token | prefix and the tokens before it), nats, ``(tokens,)``.

        Each may be a `Ranked`, which knows its place.
        """
        ...


@runtime_checkable
class Measuring(Protocol):
    """A policy that can also tell how certain its model was while it drew."""

    async def measure(
        self, prefix: Tokens, *, max_new_tokens: int, key: Key, boundary: Boundary | None = None
    ) -> Segment:
        """As `Policy.extend`, key for key the same tokens; the segment has its `certainty`.

        Raises:
            ConfigError: as `Policy.extend`; and if this engine cannot tell.
        """
        ...


@runtime_checkable
class Loaded(Protocol):
    """A policy that knows how busy its engine is."""

    @property
    def headroom(self) -> float:
        """How many requests the engine could hold for each that is open now."""
        ...


@runtime_checkable
class Shaped(Protocol):
    """A policy that says how its pi is made of a model's raw law."""

    @property
    def sampling(self) -> Sampling:
        """Temperature, truncation and stops."""
        ...


@runtime_checkable
class Adjustable(Protocol):
    """A policy that can draw from another law of the same model."""

    def with_sampling(self, sampling: Sampling) -> Policy:
        """The policy under another law, which shares its engine.

        Raises:
            ConfigError: if the engine cannot have that law.
        """
        ...


@runtime_checkable
class Encoder(Protocol):
    """A policy that knows its tokenizer, so that prompts may be text or messages."""

    def encode(self, text: str) -> Tokens:
        """Token ids of a plain text prompt, as the engine itself would encode it."""
        ...

    def encode_chat(
        self,
        messages: tuple[Message, ...],
        *,
        chat_template: str | None = None,
        add_generation_prompt: bool = True,
    ) -> Tokens:
        """Token ids of a conversation rendered by the chat template.

        Raises:
            ConfigError: if there is no chat template.
        """
        ...


@runtime_checkable
class Reward(Protocol):
    """A fixed function of prompt and response, whole or partial.

    Laws: finite; the same input has the same value, alone or among others (within a tolerance
    that the class states); `response.stop` tells whether the text is finished.

    A reward may have an attribute or property ``fingerprint``, a string that tells it from every
    other reward and changes whenever its values do: what judges and by which settings, such as
    ``"length, 2 points a word"``. A journal replays values of the same fingerprint only. Without
    one, a reward is told by its class (code and constants) and its attributes, and refused by a
    journal if they have no value to compare: see `rsalign.core.fingerprint`. The same holds for
    `StepReward`, `PairwiseReward`, and functions that are given as rewards.
    """

    async def score(self, prompt: Prompt, response: Response) -> float:
        """The reward of `response`; higher is better. May be a `Scored`, which knows its cost.

        Raises:
            RewardError: if it cannot be had.
        """
        ...


@runtime_checkable
class StepReward(Protocol):
    """A process reward: one value per step. It may have a ``fingerprint``, as a `Reward`."""

    async def score_steps(
        self, prompt: Prompt, response: Response, ends: tuple[int, ...]
    ) -> tuple[float, ...]:
        """One value per step, ``(steps,)``; `ends` are offsets into ``response.tokens``."""
        ...


@runtime_checkable
class PairwiseReward(Protocol):
    """A fixed function of a prompt and two responses, for judges that only compare.

    Laws: between 0 and 1; ``prefer(x, a, b) + prefer(x, b, a) == 1`` up to rounding. It may have a
    ``fingerprint``, as a `Reward`.
    """

    async def prefer(self, prompt: Prompt, one: Response, other: Response) -> float:
        """The probability that `one` is better than `other`; 0.5 is a tie.

        Raises:
            RewardError: if it cannot be had.
        """
        ...


@runtime_checkable
class Strategy(Protocol):
    """Hyperparameters with a law: a frozen dataclass that draws one candidate for one prompt.

    Laws: what it commits to the trace concatenates to the result; every key is drawn once; the
    result does not depend on what else runs; no task outlives the call; equal by value, picklable.

    A strategy may declare what others need to know about it, such as ``needs_reward``,
    ``cuts_answers``, ``trace_kind`` and ``note_meanings`` (`rsalign.core.capabilities`). One that
    chooses its answer from what it has drawn says by `Trace.answer_by` how that is done if a budget
    ends the run early.
    """

    async def sample(self, prompt: Prompt, run: "Run") -> Candidate:
        """Draws an answer from the law that the class states."""
        ...


def measuring(policy: Policy) -> Measuring:
    """The policy, if it can tell how certain it is.

    Raises:
        ConfigError: if it cannot.
    """
    if isinstance(policy, Measuring):
        return policy
    raise ConfigError(
        f"{type(_innermost(policy)).__name__} cannot tell how certain it is of each token, which "
        "this strategy needs: use VllmPolicy with an engine of its own, or a setting that does "
        "without"
    )


def likelihood(policy: Policy) -> Likelihood:
    """The policy, if it can tell how probable given tokens are.

    Raises:
        ConfigError: if it cannot.
    """
    if isinstance(policy, Likelihood):
        return policy
    raise ConfigError(
        f"{type(_innermost(policy)).__name__} cannot tell the probability of given tokens, which "
        "this strategy needs: use a policy with log_probs (VllmPolicy has it)"
    )


def _innermost(part: Any) -> Any:
    """What is inside all wrappers, for messages that name what the user gave."""
    while (inner := getattr(part, "wrapped", None)) is not None:
        part = inner
    return part


def headroom(policy: Policy) -> float:
    """As `Loaded.headroom`; infinity if the policy does not know."""
    return policy.headroom if isinstance(policy, Loaded) else math.inf


def sampling(policy: Policy) -> Sampling:
    """As `Shaped.sampling`; the raw law if the policy does not say."""
    return policy.sampling if isinstance(policy, Shaped) else Sampling()


def with_sampling(policy: Policy, law: Sampling) -> Policy:
    """The same policy under another law.

    Raises:
        ConfigError: if the policy's law is fixed, or it cannot have this one.
    """
    if isinstance(policy, Adjustable):
        return policy.with_sampling(law)
    raise ConfigError(
        f"{type(policy).__name__} has no with_sampling(): its law is fixed; leave "
        "sampling_params=None and set lengths in the strategy"
    )
