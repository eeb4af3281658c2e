"""Prompt and response as input tokens of a reward model, by its tokenizer and chat template."""

from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import Any

from rsalign.core.checks import quote
from rsalign.core.errors import ConfigError, RewardError
from rsalign.core.fingerprint import fingerprint
from rsalign.core.foreign import describe_error, errors_as
from rsalign.core.text.chat_template import ChatTemplate
from rsalign.core.types import Message, Prompt, Response, Tokens


@dataclass(frozen=True, slots=True)
class Rendering:
    """Renders a prompt and a response as tokens for a reward model.

    The turn of a finished response is closed as the chat template closes it. The turn of an
    unfinished response (a partial one, or one cut at its greatest length) is left open, since a
    closed turn would tell the reward model that the text ends there.

    Attributes:
        tokenizer: the reward model's Hugging Face tokenizer.
        max_model_len: greatest number of tokens that the reward model accepts.
    """

    tokenizer: Any
    max_model_len: int
    _template: ChatTemplate = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not getattr(self.tokenizer, "chat_template", None):
            raise ConfigError(
                f"the reward model's tokenizer {self.tokenizer.name_or_path} has no chat template: "
                "set tokenizer.chat_template (a reward is only meaningful in the format that the "
                "model was trained with)"
            )
        object.__setattr__(self, "_template", ChatTemplate(self.tokenizer))

    @property
    def fingerprint(self) -> str:
        """Identifies it in a journal by vocabulary, tokenization rules and chat template."""
        return fingerprint(self.tokenizer)

    def tokens(self, prompt: Prompt, response: Response) -> Tokens:
        """The token ids that the reward model reads.

        Raises:
            RewardError: if the chat template or the tokenizer fails on the conversation, or the
                result is longer than the reward model's context.
        """
        with errors_as(partial(self._unreadable, prompt, response)):
            if response.finished:
                text = self._render(
                    (*prompt.messages, Message("assistant", response.text)), opens_answer=False
                )
            else:
                text = self._opened(prompt.messages) + response.text
            tokens = tuple(self.tokenizer.encode(text, add_special_tokens=False))
        if len(tokens) > self.max_model_len:
            raise RewardError(
                f"prompt and response are {len(tokens)} tokens for the reward model, whose context "
                f"has {self.max_model_len}: lower max_tokens, or raise max_model_len in "
                "reward_args",
                prompt=prompt,
                response=response,
            )
        return tokens

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
        return self._template.render(messages, add_generation_prompt=opens_answer)

    def _opened(self, messages: tuple[Message, ...]) -> str:
        return _opened(self, messages)

    def __hash__(self) -> int:
        return id(self.tokenizer)


@lru_cache(maxsize=4096)
def _opened(rendering: Rendering, messages: tuple[Message, ...]) -> str:
    """The conversation up to where the response begins; cached, as many responses share it."""
    return rendering._render(messages, opens_answer=True)
