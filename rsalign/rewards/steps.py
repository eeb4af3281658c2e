"""Rewards of a response's steps: where steps end, bounded step values, and their aggregation."""

import bisect
import math
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import TypeAlias

from rsalign.core.checks import REWARD, check_settings
from rsalign.core.errors import ConfigError, RewardError
from rsalign.core.protocols import StepReward
from rsalign.core.types import Prompt, Response, Tokens
from rsalign.rewards.parts import (
    A_STEP_REWARD,
    Composite,
    ask_steps,
    combined,
    describe,
    log_sigmoid,
)
from rsalign.rewards.step_layouts import Aggregate, StepLayout

Splitter: TypeAlias = Callable[[str], Sequence[int]]
"""Returns the character offsets where a text's steps end: increasing, from 1 to its length."""


@dataclass(frozen=True, slots=True)
class Steps:
    """Turns a step reward into a reward of whole responses, by aggregating the step values.

    For step values v_1 .. v_n, `aggregate` is one of:

    - "last": v_n (Snell et al. 2024, arXiv:2408.03314);
    - "min": the smallest value (Wang et al. 2023, arXiv:2312.08935);
    - "mean" and "sum";
    - "product": the logarithm of the product of the probabilities p_i that each step is correct
      (Lightman et al. 2023, arXiv:2305.20050): the sum of ln p_i, where p_i is v_i if the step
      reward's layout gives probabilities, and else sigmoid(v_i).

    A response whose text has no step (for example EOS alone) counts as one step.

    Attributes:
        reward: scores the steps.
        decode: the policy's `text` method.
        aggregate: how to aggregate, see above; None: as the step reward's layout says
            (`StepLayout.aggregate`), or "last" if it has none.
        splitter: finds the ends of steps in the text; None: as the step reward's layout says
            (`StepLayout.split`), or by lines (`newline_ends`) if it has none.
        empty: the reward of a response without tokens.

    Raises:
        ConfigError: if `aggregate` is none of these.

    Example:
        >>> import asyncio
        >>> from rsalign import Message, Prompt, Response, Stop
        >>> class NumCharacters:
        ...     async def score_steps(self, prompt, response, ends):
        ...         return tuple(float(end) for end in ends)
        >>> decode = lambda tokens: "".join(map(chr, tokens))
        >>> text = "12" + chr(10) + "34"
        >>> response = Response(tuple(map(ord, text)), text, Stop.LENGTH)
        >>> prompt = Prompt((Message("user", "Count."),), (1,))
        >>> float(asyncio.run(Steps(NumCharacters(), decode, "sum").score(prompt, response)))
        8.0
    """

    reward: StepReward
    decode: Callable[[Tokens], str]
    aggregate: Aggregate | None = None
    splitter: Splitter | None = None
    empty: float = 0.0
    _probabilities: bool = field(init=False, repr=False, compare=False, default=False)

    def __post_init__(self) -> None:
        check_settings(self, reward=A_STEP_REWARD, empty=REWARD)
        layout = getattr(self.reward, "layout", None)
        if isinstance(layout, StepLayout):
            object.__setattr__(self, "_probabilities", layout.gives_probabilities)
        if self.aggregate is None:
            object.__setattr__(self, "aggregate", getattr(layout, "aggregate", "last"))
        if self.splitter is None:
            by_line = getattr(layout, "split", "\n") == "\n"
            object.__setattr__(self, "splitter", newline_ends if by_line else paragraph_ends)

    @property
    def fingerprint(self) -> str:
        """Identifies this reward in a journal."""
        settings = (self.aggregate, self.splitter, self.empty)
        return f"Steps{describe((self.reward, self.decode, *settings))}"

    async def score(self, prompt: Prompt, response: Response) -> float:
        """The aggregate of the step values; see `Reward`."""
        if not response.tokens:
            return self.empty
        ends = self.find_ends(prompt, response)
        values = await ask_steps(self.reward, prompt, response, ends)
        assert self.aggregate is not None  # set on construction
        how = "log_product" if self._probabilities and self.aggregate == "product" else None
        return combined(_AGGREGATES[how or self.aggregate](values), values)

    def close(self) -> None:
        """Closes the step reward if it can be closed."""
        getattr(self.reward, "close", lambda: None)()

    def find_ends(self, prompt: Prompt, response: Response) -> tuple[int, ...]:
        """Returns the token offsets at which steps end, of which `reward` gives the values.

        Tokens after the text (an end of sequence, a stop) belong to the last step.

        Raises:
            RewardError: if the splitter's ends do not increase, or lie outside the text.
        """
        text, tokens = response.text, response.tokens
        assert self.splitter is not None  # set on construction
        ends = tuple(self.splitter(text)) or (len(text),)
        if list(ends) != sorted(set(ends)) or ends[0] < min(1, len(text)) or ends[-1] > len(text):
            raise RewardError(
                f"the splitter gave {ends} as ends of steps in {text!r}: they must increase within "
                f"1 .. {len(text)}",
                prompt=prompt,
                response=response,
            )

        num_chars = Characters(response, self.decode).of_first

        counts = range(len(tokens) + 1)
        found = {
            len(tokens) if end == len(text) else bisect.bisect_left(counts, end, key=num_chars)
            for end in ends
        }
        return tuple(sorted(min(end, len(tokens)) for end in found))


@dataclass(frozen=True, slots=True)
class ClippedSteps(Composite):
    """``min(r_k - eta, 0)`` for every step k: steps can only lower the sum, never raise it.

    A process reward model gives every correct step a high value, so that a sum over steps grows
    with needless correct ones. Clipped, a step of value `eta` or more adds 0. To apply both
    transformations of the paper, clip first: ``DeltaSteps(ClippedSteps(model, eta))``.

    Paper: Gao et al. 2024, arXiv:2410.15115, who shape rewards in training.

    Attributes:
        step_reward: gives r_k.
        eta: the value of a good step, in the step reward's own units. The paper chooses it such
            that most steps get 0.

    Raises:
        ConfigError: if `eta` is not finite.

    Example:
        >>> import asyncio
        >>> from rsalign import Message, Prompt, Response
        >>> class Values:
        ...     async def score_steps(self, prompt, response, ends):
        ...         return (0.5, 2.0)
        >>> prompt = Prompt((Message("user", "Hi"),), (1,))
        >>> call = ClippedSteps(Values(), eta=1.0).score_steps(
        ...     prompt, Response((2, 3), "ab", None), (1, 2)
        ... )
        >>> [float(value) for value in asyncio.run(call)]
        [-0.5, 0.0]
    """

    step_reward: StepReward
    eta: float

    def __post_init__(self) -> None:
        check_settings(self, step_reward=A_STEP_REWARD, eta=REWARD)

    @property
    def layout(self) -> StepLayout | None:
        """How steps end; the values are no probabilities."""
        return _layout_of_sums(self.step_reward)

    async def score_steps(
        self, prompt: Prompt, response: Response, ends: tuple[int, ...]
    ) -> tuple[float, ...]:
        """The clipped step values, ``(steps,)``, all at most 0."""
        values = await ask_steps(self.step_reward, prompt, response, ends)
        return tuple(combined(min(value - self.eta, 0.0), [value]) for value in values)


@dataclass(frozen=True, slots=True)
class DeltaSteps(Composite):
    """``r_k - r_{k+1}``: differences whose sum from step k on is r_k, however many steps follow.

    So the sum cannot be raised by repeating good steps. In a complete response with K steps, step
    ``K - 1`` gets ``r_{K-1}`` and step K gets 0, because the final answer is left to an outcome
    reward; the sum over all steps is r_1 (0 if there is only one step).

    Paper: Gao et al. 2024, arXiv:2410.15115, who shape rewards in training.
    Departs: the paper has complete responses only. In a partial response more steps will follow,
    so that none of those present is the last: step K gets r_K, and the sum is r_1, too.

    Attributes:
        step_reward: gives r_k.

    Example:
        >>> import asyncio
        >>> from rsalign import Message, Prompt, Response, Stop
        >>> class Values:
        ...     async def score_steps(self, prompt, response, ends):
        ...         return (3.0, 2.0, 7.0)
        >>> prompt = Prompt((Message("user", "Hi"),), (1,))
        >>> whole = Response((2, 3, 4), "abc", Stop.EOS)
        >>> values = asyncio.run(DeltaSteps(Values()).score_steps(prompt, whole, (1, 2, 3)))
        >>> [float(value) for value in values]
        [1.0, 2.0, 0.0]
    """

    step_reward: StepReward

    def __post_init__(self) -> None:
        check_settings(self, step_reward=A_STEP_REWARD)

    @property
    def layout(self) -> StepLayout | None:
        """How steps end; the values are no probabilities."""
        return _layout_of_sums(self.step_reward)

    async def score_steps(
        self, prompt: Prompt, response: Response, ends: tuple[int, ...]
    ) -> tuple[float, ...]:
        """The difference of each step's value and the next one's, ``(steps,)``."""
        values = await ask_steps(self.step_reward, prompt, response, ends)
        last = values[-1:] if response.complete else ()
        counted = values[: len(values) - len(last)]
        # the last step that counts is followed by 0
        deltas = [value - after for value, after in pairwise((*counted, 0.0))]
        deltas += [0.0] * len(last)
        return tuple(combined(delta, [value]) for delta, value in zip(deltas, values, strict=True))


class Characters:
    """Maps numbers of leading tokens of a response to numbers of characters of its text.

    Args:
        response: the response.
        decode: the policy's `text` method, which decodes a response to an ordinary prompt.

    Example:
        >>> from rsalign import Response
        >>> text = Characters(Response((65, 66), "AB", None), lambda t: "".join(map(chr, t)))
        >>> text.of_first(1)
        1
    """

    def __init__(self, response: Response, decode: Callable[[Tokens], str]) -> None:
        self._response = response
        self._decode = decode
        text = decode(response.tokens)
        # after a prompt without text (BOS alone), some tokenizers drop a space that `decode` keeps
        self._num_dropped = max(0, _num_leading(text) - _num_leading(response.text))

    def of_first(self, num_tokens: int) -> int:
        """Number of complete characters of the first `num_tokens` tokens."""
        text = self._decode(self._response.tokens[:num_tokens]).rstrip(_REPLACEMENT)
        return max(0, len(text) - self._num_dropped)


def newline_ends(text: str) -> tuple[int, ...]:
    r"""Splits into lines: a step is a line and the blank lines after it; the last takes the rest.

    Example:
        >>> newline_ends("one\n\ntwo\nthree")
        (5, 9, 14)
        >>> newline_ends("one\n")
        (4,)
        >>> newline_ends("\n")
        ()
    """
    return _ends(text, _LINE_ENDS)


def paragraph_ends(text: str) -> tuple[int, ...]:
    r"""Splits at blank lines: a step is a paragraph and the blank lines after it.

    Example:
        >>> paragraph_ends("one\ntwo\n\nthree")
        (9, 14)
    """
    return _ends(text, _PARAGRAPH_ENDS)


def check_ends(response: Response, ends: tuple[int, ...]) -> None:
    """Refuses step ends that do not increase within the response.

    Raises:
        ConfigError: if they do not.
    """
    length = len(response.tokens)
    if list(ends) != sorted(set(ends)) or (ends and not 1 <= ends[0] <= ends[-1] <= length):
        raise ConfigError(
            f"ends={ends}: ends of steps must increase within 1 .. {length}, the response's length"
        )


def _layout_of_sums(step_reward: StepReward) -> StepLayout | None:
    layout = getattr(step_reward, "layout", None)
    if not isinstance(layout, StepLayout):
        return None
    return replace(layout, label=None, sigmoid=False, aggregate="last")


def _ends(text: str, breaks: re.Pattern[str]) -> tuple[int, ...]:
    """Where the pieces of a text end, each with the break after it; the last takes the rest."""
    if not text.strip():
        return ()
    found = breaks.finditer(text.rstrip())
    return (*(one.end() for one in found if text[: one.start()].strip()), len(text))


def _num_leading(text: str) -> int:
    """Number of leading spaces."""
    return len(text) - len(text.lstrip(" "))


_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
_LINE_ENDS = re.compile(r"\n(?:[^\S\n]*\n)*")
_PARAGRAPH_ENDS = re.compile(r"\n(?:[^\S\n]*\n)+")
_AGGREGATES: Mapping[str, Callable[[Sequence[float]], float]] = {
    "last": lambda values: values[-1],
    "min": min,
    "mean": lambda values: math.fsum(values) / len(values),
    "sum": math.fsum,
    "product": lambda values: math.fsum(map(log_sigmoid, values)),
    # a probability that is rounded to 0 is still no impossibility
    "log_product": lambda values: math.fsum(math.log(max(v, sys.float_info.min)) for v in values),
}
