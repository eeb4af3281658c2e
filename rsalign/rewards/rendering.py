"""Prompt and response as input tokens of a reward model, by its tokenizer and chat template."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from rsalign.core.checks import quote
from rsalign.core.errors import ConfigError, RewardError, TextTooLongError
from rsalign.core.fingerprint import fingerprint
from rsalign.core.foreign import describe_error, errors_as
from rsalign.core.text.chat_template import ChatTemplate
from rsalign.core.text.roles import render_merged, say_merged
from rsalign.core.types import Message, Prompt, Response, Tokens
from rsalign.rewards.special_texts import SpecialTexts
from rsalign.rewards.turns import Turn, Turns


@dataclass(frozen=True, slots=True)
class Encoded:
    """What a reward model reads of a prompt and a response.

    Attributes:
        tokens: token ids.
        second_begins: index of the first token of the second text, for models that are told which
            token belongs to which of two texts (``token_type_ids``); None for all others.
    """

    tokens: Tokens
    second_begins: int | None = None


@dataclass(frozen=True, slots=True)
class Opened:
    """A response whose turn is left open, as tokens.

    Attributes:
        tokens: of the conversation up to the end of the response.
        begins: where each token begins: number of characters of `text` before it.
        text: the same as text.
        start: number of characters before the response.
        marks: the positions that were asked for, as numbers of characters of `text`.
    """

    tokens: Tokens
    begins: tuple[int, ...]
    text: str
    start: int
    marks: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Rendering:
    """Renders a prompt and a response as tokens for a reward model.

    The turn of a finished response is closed as the chat template closes it. The turn of an
    unfinished response (a partial one, or one cut at its greatest length) is left open, since a
    closed turn would tell the reward model that the text ends there. Up to there its tokens are
    those of the finished response (`rsalign.rewards.turns`), but for a tokenizer that merges
    characters across the end of the response.

    A response that contains the text of a special token, such as ``<|eot_id|>``, was drawn as
    ordinary characters, and is ordinary characters for the reward model, too. A system message or
    an order of roles that the template refuses is merged (`rsalign.core.text.roles`).

    Attributes:
        tokenizer: the reward model's Hugging Face tokenizer.
        max_model_len: greatest number of tokens that the reward model accepts.
        chat_template: used instead of the tokenizer's.
        suffix: tokens that come after the conversation, such as the one at which InternLM2's reward
            models are trained to score it.
    """

    tokenizer: Any
    max_model_len: int
    chat_template: str | None = None
    suffix: Tokens = ()
    _specials: SpecialTexts = field(init=False, repr=False, compare=False)
    _template: ChatTemplate = field(init=False, repr=False, compare=False)
    _turns: Turns = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not hasattr(self.tokenizer, "get_chat_template"):
            raise ConfigError(
                f"the reward model's tokenizer {self.name} writes conversations by rules of its "
                "own, and open answers cannot be written by them: give a folder with a Hugging "
                "Face tokenizer (tokenizer.json) and its chat template, and no tokenizer_mode"
            )
        if not (self.chat_template or getattr(self.tokenizer, "chat_template", None)):
            raise ConfigError(
                f"the reward model's tokenizer {self.name} has no chat template: give "
                "chat_template=, or set tokenizer.chat_template and save it (a reward is only "
                "meaningful in the format that the model was trained with)"
            )
        object.__setattr__(self, "_specials", SpecialTexts(self.tokenizer))
        object.__setattr__(self, "_template", ChatTemplate(self.tokenizer))
        object.__setattr__(self, "_turns", Turns(partial(self._render, opens_answer=False)))

    @property
    def name(self) -> str:
        """The tokenizer's name, or that of its class."""
        return getattr(self.tokenizer, "name_or_path", "") or type(self.tokenizer).__name__

    @property
    def fingerprint(self) -> str:
        """Identifies it in a journal by vocabulary, tokenization rules and chat template."""
        more = [one for one in (self.chat_template, self.suffix) if one]
        return " ".join(map(fingerprint, (self.tokenizer, *more)))

    def encode(self, prompt: Prompt, response: Response) -> Encoded:
        """The tokens that the reward model reads.

        Raises:
            RewardError: if the chat template or the tokenizer fails on the conversation, or the
                result is longer than the reward model's context.
        """
        with errors_as(partial(unreadable_error, prompt, response)):
            turn = self._turns.write(prompt.messages, response)
            tokens, _ = self._encode(turn, response.text, with_places=False)
        tokens += self.suffix
        check_length(len(tokens), self.max_model_len, prompt, response)
        return Encoded(tokens)

    def tokens(self, prompt: Prompt, response: Response) -> Tokens:
        """The token ids alone; see `encode`."""
        return self.encode(prompt, response).tokens

    def opened(self, prompt: Prompt, response: Response, marks: Sequence[int]) -> Opened:
        """The response with its turn left open, for rewards that judge it at several places.

        Args:
            prompt: whose conversation the response answers.
            response: whether it is finished makes no difference.
            marks: numbers of characters of the response's text.

        Raises:
            RewardError: as `encode`.
        """
        with errors_as(partial(unreadable_error, prompt, response)):
            turn, places = self._turns.opened(prompt.messages, response.text, marks)
            tokens, begins = self._encode(turn, response.text, with_places=True)
        check_length(len(tokens), self.max_model_len, prompt, response)
        return Opened(tokens, begins, turn.text, turn.start, places)

    def _encode(
        self, turn: Turn, response: str, *, with_places: bool
    ) -> tuple[Tokens, tuple[int, ...]]:
        """Tokenizes a turn; special tokens are read where the template wrote them.

        Returns:
            The tokens, and where each begins; nothing for the latter unless it is wanted.
        """
        if not self._specials.find(response):
            return self._encode_piece(self.tokenizer, turn.text, 0, with_places=with_places)
        # tokenizers cut a text at special tokens first, so that the part between the last one
        # before the response and the first one after it can be tokenized by itself
        found = self._specials.find(turn.text)
        begin = max((min(end, turn.start) for first, end in found if first < turn.start), default=0)
        end = min((first for first, _ in found if first >= turn.end), default=len(turn.text))
        pieces = [
            (self.tokenizer, turn.text[:begin], 0),
            (self._specials.plain_tokenizer, turn.text[begin:end], begin),
            (self.tokenizer, turn.text[end:], end),
        ]
        encoded = [
            self._encode_piece(tokenizer, text, first, with_places=with_places)
            for tokenizer, text, first in pieces
            if text
        ]
        return sum((one for one, _ in encoded), ()), sum((places for _, places in encoded), ())

    def _encode_piece(
        self, tokenizer: Any, text: str, first: int, *, with_places: bool
    ) -> tuple[Tokens, tuple[int, ...]]:
        if not with_places:
            return tuple(tokenizer.encode(text, add_special_tokens=False)), ()
        encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        places = tuple(begin + first for begin, _ in encoded["offset_mapping"])
        return tuple(encoded["input_ids"]), places

    def _render(self, messages: tuple[Message, ...], *, opens_answer: bool) -> str:
        def render(messages: tuple[Message, ...]) -> str:
            return self._template.render(
                messages, chat_template=self.chat_template, add_generation_prompt=opens_answer
            )

        return render_merged(render, messages, partial(say_merged, self.name))

    def _opened(self, messages: tuple[Message, ...]) -> str:
        """The conversation up to where the response begins."""
        return self._turns.before(messages)

    def __hash__(self) -> int:
        return id(self.tokenizer)


def check_length(num_tokens: int, limit: int, prompt: Prompt, response: Response) -> None:
    """Refuses an input that is longer than the reward model's context.

    Raises:
        RewardError: if it is.
    """
    if num_tokens > limit:
        raise TextTooLongError(
            f"prompt and response are {num_tokens} tokens for the reward model, whose context has "
            f"{limit}: lower max_tokens, or raise max_model_len in reward_args",
            prompt=prompt,
            response=response,
        )


def unreadable_error(prompt: Prompt, response: Response, failure: BaseException) -> RewardError:
    """The error to raise if the chat template or the tokenizer fails."""
    return RewardError(
        f"the reward model's chat template or tokenizer fails on this conversation "
        f"({describe_error(failure)}): {quote(prompt.text)}, answered by {quote(response.text)}",
        prompt=prompt,
        response=response,
    )
