"""Steps of a response: where they end, and one number for the values of all."""

import bisect
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from rsalign.core.checks import REWARD, check_settings
from rsalign.core.errors import ConfigError, RewardError
from rsalign.core.protocols import Scored, StepReward
from rsalign.core.types import Prompt, Response, Tokens
from rsalign.rewards.combine import log_sigmoid
from rsalign.rewards.parts import A_STEP_REWARD, ask_steps, described

Splitter: TypeAlias = Callable[[str], Sequence[int]]
"""Offsets into a text where its steps end: increasing, at least 1, at most its length."""

Aggregate: TypeAlias = Literal["last", "min", "mean", "sum", "product"]


@dataclass(frozen=True, slots=True)
class Steps:
    """One number for a response: its steps' values, aggregated.

    Law, for values v_1 .. v_n of the steps' ends: "last": v_n (Snell et al. 2024,
    arXiv:2408.03314); "min": the least (Wang et al. 2023, arXiv:2312.08935); "mean"; "sum";
    "product": sum of ln sigmoid(v_i), the logarithm of the product of the probabilities that each
    step is right (Lightman et al. 2023, arXiv:2305.20050).

    A response whose text has no step (EOS alone) is one step.

    Attributes:
        reward: judges the steps.
        decode: the policy's `text`.
        aggregate: see above.
        splitter: where steps end; `newline_ends` unless given.
        empty: the value where no token has been drawn yet, so that there is nothing to judge.

    Raises:
        ConfigError: if `aggregate` is none of these.
    """

    reward: StepReward
    decode: Callable[[Tokens], str]
    aggregate: Aggregate = "last"
    splitter: Splitter = field(default_factory=lambda: newline_ends)
    empty: float = 0.0

    def __post_init__(self) -> None:
        check_settings(self, reward=A_STEP_REWARD, empty=REWARD)

    @property
    def fingerprint(self) -> str:
        """Tells this reward from others in a journal."""
        settings = (self.aggregate, self.splitter, self.empty)
        return f"Steps{described((self.reward, self.decode, *settings))}"

    async def score(self, prompt: Prompt, response: Response) -> float:
        """The aggregate of the steps' values; see `Reward`."""
        if not response.tokens:
            return self.empty
        ends = self._ends(prompt, response)
        values = await ask_steps(self.reward, prompt, response, ends)
        costs = [value for value in values if isinstance(value, Scored)]
        return Scored(
            _AGGREGATES[self.aggregate](values),
            tokens=sum(cost.tokens for cost in costs),
            cached_tokens=sum(cost.cached_tokens for cost in costs),
        )

    def close(self) -> None:
        """Closes the step reward if it can be closed."""
        getattr(self.reward, "close", lambda: None)()

    def _ends(self, prompt: Prompt, response: Response) -> tuple[int, ...]:
        """Offsets into the tokens; what follows the text (EOS, a stop) belongs to its last step."""
        text, tokens = response.text, response.tokens
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


class Characters:
    """How much of a response's text its first tokens are.

    Args:
        response: whose tokens are counted.
        decode: the policy's `text`: of a response to an ordinary prompt.
    """

    def __init__(self, response: Response, decode: Callable[[Tokens], str]) -> None:
        self._response = response
        self._decode = decode
        text = decode(response.tokens)
        # after a prompt without text (BOS alone) some tokenizers drop a space that `decode` keeps
        self._num_dropped = max(0, _num_leading(text) - _num_leading(response.text))

    def of_first(self, num_tokens: int) -> int:
        """Characters that the first so many tokens have; half a character is none yet."""
        text = self._decode(self._response.tokens[:num_tokens]).rstrip(_REPLACEMENT)
        return max(0, len(text) - self._num_dropped)


def newline_ends(text: str) -> tuple[int, ...]:
    r"""A step is a line with the blank lines after it; the last one takes the rest of the text.

    Example:
        >>> newline_ends("one\n\ntwo\nthree")
        (5, 9, 14)
        >>> newline_ends("one\n")
        (4,)
        >>> newline_ends("\n")
        ()
    """
    if not text.strip():
        return ()
    lines = _LINE_ENDS.finditer(text.rstrip())
    return (*(line.end() for line in lines if text[: line.start()].strip()), len(text))


def check_ends(response: Response, ends: tuple[int, ...]) -> None:
    """Refuses ends of steps that do not increase within the response.

    Raises:
        ConfigError: if so.
    """
    length = len(response.tokens)
    if list(ends) != sorted(set(ends)) or (ends and not 1 <= ends[0] <= ends[-1] <= length):
        raise ConfigError(
            f"ends={ends}: ends of steps must increase within 1 .. {length}, the response's length"
        )


def _num_leading(text: str) -> int:
    """Spaces at the beginning."""
    return len(text) - len(text.lstrip(" "))


_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
_LINE_ENDS = re.compile(r"\n(?:[^\S\n]*\n)*")
_AGGREGATES: Mapping[str, Callable[[Sequence[float]], float]] = {
    "last": lambda values: values[-1],
    "min": min,
    "mean": lambda values: math.fsum(values) / len(values),
    "sum": math.fsum,
    "product": lambda values: math.fsum(map(log_sigmoid, values)),
}
