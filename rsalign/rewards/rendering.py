"""Prompt and response as input tokens of a reward model, by its tokenizer and chat template."""

import copy
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache, partial
from typing import Any

from rsalign.core.checks import quote
from rsalign.core.errors import ConfigError, RewardError
from rsalign.core.fingerprint import fingerprint
from rsalign.core.foreign import describe_error, errors_as
from rsalign.core.text.chat_template import ChatTemplate
from rsalign.core.text.roles import render_merged
from rsalign.core.types import Message, Prompt, Response, Tokens
from rsalign.rewards.turns import Turn, Turns

_log = logging.getLogger(__name__)


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


@dataclass(frozen=True)
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
    """

    tokenizer: Any
    max_model_len: int
    chat_template: str | None = None
    _template: ChatTemplate = field(init=False, repr=False, compare=False)
    _turns: Turns = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not (self.chat_template or getattr(self.tokenizer, "chat_template", None)):
            raise ConfigError(
                f"the reward model's tokenizer {self.tokenizer.name_or_path} has no chat template: "
                "give chat_template=, or set tokenizer.chat_template and save it (a reward is only "
                "meaningful in the format that the model was trained with)"
            )
        object.__setattr__(self, "_template", ChatTemplate(self.tokenizer))
        object.__setattr__(self, "_turns", Turns(partial(self._render, opens_answer=False)))

    @property
    def fingerprint(self) -> str:
        """Identifies it in a journal by vocabulary, tokenization rules and chat template."""
        own = fingerprint(self.tokenizer)
        return own if self.chat_template is None else f"{own} {fingerprint(self.chat_template)}"

    def tokens(self, prompt: Prompt, response: Response) -> Tokens:
        """The token ids that the reward model reads.

        Raises:
            RewardError: if the chat template or the tokenizer fails on the conversation, or the
                result is longer than the reward model's context.
        """
        with errors_as(partial(self._unreadable, prompt, response)):
            turn = self._turns.write(prompt.messages, response)
            tokens, _ = self._encode(turn, response.text, with_places=False)
        self._check_length(tokens, prompt, response)
        return tokens

    def opened(self, prompt: Prompt, response: Response, marks: Sequence[int]) -> Opened:
        """The response with its turn left open, for rewards that judge it at several places.

        Args:
            prompt: whose conversation the response answers.
            response: whether it is finished makes no difference.
            marks: numbers of characters of the response's text.

        Raises:
            RewardError: as `tokens`.
        """
        with errors_as(partial(self._unreadable, prompt, response)):
            turn, places = self._turns.opened(prompt.messages, response.text, marks)
            tokens, begins = self._encode(turn, response.text, with_places=True)
        self._check_length(tokens, prompt, response)
        return Opened(tokens, begins, turn.text, turn.start, places)

    def _check_length(self, tokens: Tokens, prompt: Prompt, response: Response) -> None:
        if len(tokens) > self.max_model_len:
            raise RewardError(
                f"prompt and response are {len(tokens)} tokens for the reward model, whose context "
                f"has {self.max_model_len}: lower max_tokens, or raise max_model_len in "
                "reward_args",
                prompt=prompt,
                response=response,
            )

    def _encode(
        self, turn: Turn, response: str, *, with_places: bool
    ) -> tuple[Tokens, tuple[int, ...]]:
        """Tokenizes a turn; special tokens are read where the template wrote them.

        Returns:
            The tokens, and where each begins; nothing for the latter unless it is wanted.
        """
        specials = self._specials
        if specials is None or not specials.search(response):
            return self._encode_piece(self.tokenizer, turn.text, 0, with_places=with_places)
        # tokenizers cut a text at special tokens first, so that the part between the last one
        # before the response and the first one after it can be tokenized by itself
        found = [match.span() for match in specials.finditer(turn.text)]
        begin = max((min(end, turn.start) for first, end in found if first < turn.start), default=0)
        end = min((first for first, _ in found if first >= turn.end), default=len(turn.text))
        pieces = [
            (self.tokenizer, turn.text[:begin], 0),
            (self._plain_tokenizer, turn.text[begin:end], begin),
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

    @cached_property
    def _specials(self) -> "re.Pattern[str] | None":
        """Finds the texts of special tokens, with the white space that belongs to them."""
        added = getattr(self.tokenizer, "added_tokens_decoder", {}).values()
        tokens = {str(token): token for token in added if getattr(token, "special", False)}
        tokens |= {text: text for text in self.tokenizer.all_special_tokens if text not in tokens}
        if not tokens:
            return None
        longest_first = sorted(tokens.items(), key=lambda item: -len(item[0]))
        return re.compile(
            "|".join(
                re.escape(text) + (r"\s*" if getattr(token, "rstrip", False) else "")
                for text, token in longest_first
            )
        )

    @cached_property
    def _plain_tokenizer(self) -> Any:
        """A copy that takes the texts of special tokens for ordinary ones.

        A copy, because the setting belongs to the tokenizer, which other threads use.
        """
        tokenizer = copy.deepcopy(self.tokenizer)
        tokenizer.split_special_tokens = True
        return tokenizer

    def _unreadable(
        self, prompt: Prompt, response: Response, failure: BaseException
    ) -> RewardError:
        return RewardError(
            f"the reward model's chat template or tokenizer fails on this conversation "
            f"({describe_error(failure)}): {quote(prompt.text)}, answered by "
            f"{quote(response.text)}",
            prompt=prompt,
            response=response,
        )

    def _render(self, messages: tuple[Message, ...], *, opens_answer: bool) -> str:
        def render(messages: tuple[Message, ...]) -> str:
            return self._template.render(
                messages, chat_template=self.chat_template, add_generation_prompt=opens_answer
            )

        name = str(getattr(self.tokenizer, "name_or_path", ""))
        return render_merged(render, messages, partial(_say_merged, name))

    def _opened(self, messages: tuple[Message, ...]) -> str:
        """The conversation up to where the response begins."""
        return self._turns.before(messages)

    def __hash__(self) -> int:
        return id(self.tokenizer)


def _say_merged(name: str, refusal: BaseException) -> None:
    _say_once(name, describe_error(refusal))


@lru_cache(maxsize=256)
def _say_once(name: str, refusal: str) -> None:
    _log.warning(
        "the chat template of %s refuses a conversation (%s): its system message is put before the "
        "first message of the user, and neighbouring messages of one role are joined",
        name,
        refusal,
    )
