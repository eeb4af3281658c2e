"""Thought and answer: how the text of a reasoning model is divided, in one place.

A reasoning model writes a thought and then its answer. Everything that reads a response's text (the
reward, votes, extractors, judges, the user) reads the *answer*; the thought is kept beside it, as
`Response.reasoning`. The tokens of a response are always all of them: lengths, budgets, stop
strings, segments and log-probabilities count the thought, too.

The law of a strategy is a law of whole responses (thought and answer), in which the reward of a
complete response is that of its answer alone: ``pi(thought, answer) * exp(r(answer) / beta)``, for
example.

A partial response whose thought has not ended has no answer yet. The rewards of such partial
responses guide `Cards` and other strategies that judge segments. They are those of the thought so
far, read as the text of the response; or, with ``judge_thought=False``, those of an empty answer,
so that no segment of the thought is preferred to another. A response that is complete without an
answer (cut at its greatest length) has an empty answer in any case, and a warning tells.
"""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from rsalign.core.checks import at_least, check_settings
from rsalign.core.types import Prompt, Response, Stop, Tokens


@dataclass(frozen=True, slots=True)
class Reasoning:
    """How the text of a reasoning model is divided into thought and answer.

    Attributes:
        parser: name of vLLM's reasoning parser, such as ``"qwen3"``, ``"deepseek_r1"`` or
            ``"openai_gptoss"`` (vLLM's ``--reasoning-parser``); ``"none"`` divides nothing.
        keep: whether the text that rewards, votes and users read is the whole text, with the
            thought.
        judge_thought: whether a partial response without an answer is judged by its thought so far;
            False: as an empty answer.

    Raises:
        ConfigError: if a value has another type.

    Example:
        >>> Reasoning.of("qwen3") == Reasoning("qwen3", keep=False)
        True
    """

    parser: str
    keep: bool = False
    judge_thought: bool = True

    def __post_init__(self) -> None:
        check_settings(self, parser=at_least(1))

    @classmethod
    def of(cls, given: "str | Reasoning") -> "Reasoning":
        """Makes it from the name of a parser; a `Reasoning` is returned as it is.

        Raises:
            ConfigError: if it is neither.
        """
        return given if isinstance(given, Reasoning) else cls(given)

    @property
    def divides(self) -> bool:
        """Whether there is a parser."""
        return self.parser != NO_PARSER


NO_PARSER = "none"
"""The name of a parser that divides nothing."""


@dataclass(frozen=True, slots=True)
class Division:
    """The text of a response, divided.

    Attributes:
        whole: the whole text, as it is shown where the thought is kept.
        reasoning: the thought; None if there is none.
        answer: the answer; None while there is none yet.

    Example:
        >>> Division("<think>hm</think>4", "hm", "4").text(Reasoning("qwen3"), complete=True)
        '4'
    """

    whole: str
    reasoning: str | None
    answer: str | None

    def text(self, how: Reasoning, *, complete: bool) -> str:
        """What rewards, votes and users read of the response.

        Args:
            how: what is to be read.
            complete: whether no token may follow.
        """
        if how.keep:
            return self.whole
        if self.answer is not None or complete or not how.judge_thought:
            return self.answer or ""
        return self.reasoning or ""


@runtime_checkable
class Dividing(Protocol):
    """A policy that can divide the text of its responses into thought and answer."""

    @property
    def divides(self) -> bool:
        """Whether it does: whether it has a reasoning parser."""
        ...

    def divide(
        self,
        prompt: Prompt,
        tokens: Tokens,
        text: str,
        *,
        complete: bool,
    ) -> tuple[str, str | None]:
        """Returns what is read of a response (see this module), and its thought or None.

        Args:
            prompt: what is answered; its options tell whether the model was asked to think.
            tokens: of the response, without the token that ended it, ``(tokens,)``.
            text: its whole text (`rsalign.core.text.response_text`).
            complete: whether no token may follow.
        """
        ...


def warn_of_thought(policy: object, response: Response) -> str | None:
    """What the user should know about the thought of a response; None if there is nothing."""
    if not response.complete:
        return None
    divides = isinstance(policy, Dividing) and policy.divides
    end = next((mark for mark in THOUGHT_ENDS if mark in response.text), None)
    if not divides and end is not None:
        return (
            f"answers have {end!r} in their text: the model thinks first, and rewards and "
            "votes read thought and answer as one text. Name the model's parser, such as "
            "reasoning_parser='qwen3', or turn the thought off (chat_template_kwargs)"
        )
    if response.stop is Stop.LENGTH and response.reasoning and not response.text:
        return (
            "answers were cut at their greatest length before anything came after their thought, "
            "and count as empty: raise max_tokens, which counts thought and answer together, or "
            "bound the thought (thinking_token_budget in SamplingParams)"
        )
    return None


THOUGHT_ENDS = ("</think>", "[/THINK]")
"""How the templates and answers of reasoning models mark the end of a thought."""
THOUGHT_STARTS = ("<think>", "[THINK]")
"""How they mark its beginning, which may be the end of the prompt."""


def has_thought(prompt: str, text: str) -> bool:
    """Tells whether a response has a thought, or may still begin one, by these marks.

    Args:
        prompt: the end of what is before the response.
        text: of the response so far.

    Example:
        >>> has_thought("<assistant>", "<think>Two and two"), has_thought("<assistant>", "Four.")
        (True, False)
    """
    begun = max(prompt.rfind(mark) for mark in THOUGHT_STARTS)
    ended = max(prompt.rfind(mark) for mark in THOUGHT_ENDS)
    if begun > ended or any(mark in text for mark in (*THOUGHT_STARTS, *THOUGHT_ENDS)):
        return True
    return ended < 0 and any(mark.startswith(text.strip()) for mark in THOUGHT_STARTS)
