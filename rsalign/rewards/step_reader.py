"""A prompt and the steps of a response as the tokens that a process reward model reads."""

import bisect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import accumulate, pairwise
from typing import Any

from rsalign.core.checks import quote
from rsalign.core.errors import ConfigError, RewardError, TextTooLongError
from rsalign.core.foreign import describe_error, errors_as
from rsalign.core.types import Message, Prompt, Response, Tokens
from rsalign.rewards.rendering import Rendering
from rsalign.rewards.step_layouts import StepLayout
from rsalign.rewards.steps import Characters, check_ends


@dataclass(frozen=True, slots=True)
class StepInput:
    """What the model reads of one response.

    Attributes:
        tokens: prompt and response, in the reward model's own tokens.
        start: the index of the last token that does not depend on the response.
        places: the index of the token at which each step is judged, ``(steps,)``.
    """

    tokens: Tokens
    start: int
    places: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class StepReader:
    """Renders responses in the layout of a process reward model.

    What is rendered up to a step does not depend on the steps after it, nor on whether the response
    has ended: a value of a causal model at a step stays the same while the response grows. (In a
    layout without a text after each step, the tokenizer may merge the end of a step with the
    characters that follow it.)

    Attributes:
        layout: the layout of the model.
        tokenizer: the model's Hugging Face tokenizer; it must have an offset mapping.
        max_model_len: greatest number of tokens that the model accepts.
        decode: the policy's `text` method; ends of steps count the policy's tokens, and are
            converted by way of the text.

    Raises:
        ConfigError: if the tokenizer has no offset mapping, or the layout needs a chat template or
            a token and there is none.
    """

    layout: StepLayout
    tokenizer: Any
    max_model_len: int
    decode: Callable[[Tokens], str]
    _rendering: Rendering | None = field(init=False, repr=False, compare=False, default=None)

    def __post_init__(self) -> None:
        if not getattr(self.tokenizer, "is_fast", False):
            raise ConfigError(
                f"the tokenizer of {_name(self.tokenizer)} has no offset mapping: give a model "
                "with a fast tokenizer (tokenizer.json)"
            )
        if self.layout.one_token:
            _require_token(self.tokenizer, "after", self.layout.after.strip())
        if self.layout.prompt is None:
            rendering = Rendering(self.tokenizer, self.max_model_len)
            object.__setattr__(self, "_rendering", rendering)

    def read(self, prompt: Prompt, response: Response, ends: tuple[int, ...]) -> StepInput:
        """The tokens of a prompt and the steps that end at `ends`, of which there is one or more.

        Raises:
            ConfigError: if `ends` do not increase within the response.
            RewardError: if the chat template or the tokenizer fails on the conversation, or the
                result is longer than the model's context.
        """
        check_ends(response, ends)
        marks = [self._num_chars(response, end) for end in ends]
        with errors_as(partial(self._unreadable, prompt, response)):
            if self.layout.turn:
                found = self._as_turns(prompt, _slices(response.text, marks))
            elif self.layout.after:
                found = self._with_separators(prompt, _slices(response.text, marks))
            else:
                found = self._as_it_is(prompt, response, marks)
        if len(found.tokens) > self.max_model_len:
            raise TextTooLongError(
                f"prompt and response are {len(found.tokens)} tokens for the reward model, whose "
                f"context has {self.max_model_len}: lower max_tokens, or raise max_model_len where "
                "it is started",
                prompt=prompt,
                response=response,
            )
        return found

    def _as_it_is(self, prompt: Prompt, response: Response, marks: Sequence[int]) -> StepInput:
        """The response without any change; a value at the last token of each step."""
        if self._rendering is not None and self.layout.head != "ratio":
            turn = self._rendering.opened(prompt, response, marks)
            start, *places = (
                max(0, bisect.bisect_right(turn.begins, num_chars - 1) - 1)
                for num_chars in (turn.start, *turn.marks)
            )
            return StepInput(turn.tokens, start, tuple(places))
        opened, add_bos = self._opened(prompt)
        text, marks = opened + response.text, [len(opened) + mark for mark in marks]
        if self.layout.head == "ratio" and response.finished and self._rendering is not None:
            closed = self._rendering._render(
                (*prompt.messages, Message("assistant", response.text)), opens_answer=False
            )
            if closed.startswith(text) and marks[-1] == len(text):
                text, marks[-1] = closed, marks[-1] + 1  # the token that ends the turn is drawn
        return self._places(text, len(opened), marks, add_bos=add_bos)

    def _with_separators(self, prompt: Prompt, steps: Sequence[str]) -> StepInput:
        """Each step with the layout's text after it, at whose last token it is judged."""
        opened, add_bos = self._opened(prompt)
        after, between = self.layout.after, self.layout.between
        pieces = [_trim(step) + after for step in steps]
        if not self.layout.alone:
            joined = [piece + between for piece in pieces[:-1]] + pieces[-1:]
            begins = accumulate(map(len, joined), initial=len(opened))
            marks = [begin + len(piece) for begin, piece in zip(begins, pieces, strict=False)]
            return self._places(opened + "".join(joined), len(opened), marks, add_bos=add_bos)
        tokens = [*self._bos(add_bos), *self._encode(opened)]
        start, places = len(tokens) - 1, []
        for step in steps:
            tokens += (*self._encode(_trim(step)), *self._encode(after))
            places.append(len(tokens) - 1)
            tokens += self._encode(between)
        return StepInput(tuple(tokens[: places[-1] + 1]), max(0, start), tuple(places))

    def _as_turns(self, prompt: Prompt, steps: Sequence[str]) -> StepInput:
        """Each step as a message of the user; it is judged where the assistant's answer begins."""
        *before, last = prompt.messages
        if last.role != "user":
            raise ValueError(f"the last message is of the {last.role}, and not of the user")
        assert self._rendering is not None  # layouts with turns have no text as prompt
        messages = list(before)
        opened = []
        for i, step in enumerate(map(_trim, steps)):
            said = f"{last.text} {step}" if i == 0 else step
            messages.append(Message("user", said))
            opened.append(self._rendering._render(tuple(messages), opens_answer=True))
            messages.append(Message("assistant", self.layout.turn))
        for shorter, longer in pairwise(opened):
            if not longer.startswith(shorter):
                raise ValueError("the chat template renders a turn in another way if one follows")
        text = opened[-1]
        common = self._rendering._render((*before, Message("user", last.text)), opens_answer=False)
        start = next((i for i, (a, b) in enumerate(zip(text, common, strict=False)) if a != b), 0)
        return self._places(text, start, list(map(len, opened)), add_bos=False)

    def _places(self, text: str, start: int, marks: Sequence[int], *, add_bos: bool) -> StepInput:
        """Tokenizes a text, and finds the tokens with the last characters before the marks."""
        encoded = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        begins = [begin for begin, _ in encoded["offset_mapping"]]
        bos = self._bos(add_bos)

        def place(num_chars: int) -> int:
            """The index of the last token that contains part of character number `num_chars`."""
            return max(0, bisect.bisect_right(begins, num_chars - 1) - 1 + len(bos))

        tokens = (*bos, *encoded["input_ids"])
        return StepInput(tokens, place(start), tuple(place(mark) for mark in marks))

    def _opened(self, prompt: Prompt) -> tuple[str, bool]:
        """The text before the response, and whether the token of the beginning comes before it."""
        if self.layout.prompt is None:
            assert self._rendering is not None
            return self._rendering._opened(prompt.messages), False
        return self.layout.prompt.replace("{prompt}", prompt.text), True

    def _bos(self, wanted: bool) -> Tokens:
        bos = getattr(self.tokenizer, "bos_token_id", None)
        return (bos,) if wanted and bos is not None else ()

    def _encode(self, text: str) -> list[int]:
        return list(self.tokenizer.encode(text, add_special_tokens=False))

    def _num_chars(self, response: Response, end: int) -> int:
        """Number of characters of the response's first `end` tokens."""
        if end == len(response.tokens):
            return len(response.text)
        # a stop string that was cut off is not part of the text
        return min(Characters(response, self.decode).of_first(end), len(response.text))

    def _unreadable(
        self, prompt: Prompt, response: Response, failure: BaseException
    ) -> RewardError:
        return RewardError(
            f"the process reward model cannot read this conversation "
            f"({describe_error(failure)}): {quote(prompt.text)}, answered by "
            f"{quote(response.text)}",
            prompt=prompt,
            response=response,
        )


def token_ids(layout: StepLayout, tokenizer: Any) -> list[int]:
    """The ids of the layout's tokens in a vocabulary; empty if it has none.

    Raises:
        ConfigError: if one of the texts is not a single token.
    """
    return [_require_token(tokenizer, "tokens", text) for text in layout.tokens]


def _require_token(tokenizer: Any, setting: str, text: str) -> int:
    """The id of a text that is one token.

    Raises:
        ConfigError: if it is several.
    """
    found = list(tokenizer.encode(text, add_special_tokens=False))
    if len(found) != 1:
        raise ConfigError(
            f"{setting}: {text!r} is {len(found)} tokens in the vocabulary of {_name(tokenizer)}, "
            "but must be one for this layout: name the layout that the model was trained with"
        )
    return int(found[0])


def _slices(text: str, marks: Sequence[int]) -> list[str]:
    return [text[begin:end] for begin, end in pairwise((0, *marks))]


def _trim(step: str) -> str:
    """A step without the line breaks around it, for which a layout has a text of its own."""
    return step.lstrip("\r\n").rstrip()


def _name(tokenizer: Any) -> str:
    return str(getattr(tokenizer, "name_or_path", "the reward model"))
