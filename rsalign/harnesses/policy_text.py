"""The tokenizer and chat template of an aligner's policy, as lm-eval's `TemplateLM` needs them."""

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from lm_eval.api.model import TemplateLM

from rsalign.aligner import Aligner
from rsalign.aligner.chat_prompts import render_or_merge
from rsalign.core.checks import quote
from rsalign.core.errors import ConfigError
from rsalign.core.fingerprint import fingerprint
from rsalign.core.foreign import describe_error, errors_as
from rsalign.core.text.chat_options import NO_CHAT_OPTIONS
from rsalign.core.types import Message
from rsalign.harnesses.arguments import Arguments

if TYPE_CHECKING:
    from rsalign.policies.tokenization import Tokenization


class Conversation(str):
    """A string rendered by the policy's chat template that keeps the messages it was made of.

    lm-eval renders a conversation to text first and requests a response to the text later. A reward
    model has another chat template and needs the messages.

    Attributes:
        messages: the conversation that was rendered.

    Example:
        >>> text = Conversation("<|user|>Hi", [Message("user", "Hi")])
        >>> text == "<|user|>Hi", text.messages[0].content
        (True, 'Hi')
    """

    messages: tuple[Message, ...]

    def __new__(cls, text: str, messages: Sequence[Message]) -> "Conversation":
        """Creates the string with its messages."""
        made = super().__new__(cls, text)
        made.messages = tuple(messages)
        return made

    def __getnewargs__(self) -> tuple[str, tuple[Message, ...]]:  # type: ignore[override]
        return str(self), self.messages  # so that pickling keeps the messages


class UnreadableError(ConfigError):
    """A text that the policy's tokenizer cannot encode."""


class PolicyText(TemplateLM):
    """Encodes text and renders conversations with the tokenizer of an aligner's policy.

    The engines start at the first request, so that wrong arguments are reported before.

    Args:
        batch_size: ignored; lm-eval always passes it, but the engine batches by itself.
        max_batch_size: ignored, likewise.
        device: ignored; set by the engine's arguments.
        given: the arguments that `Arguments.read` takes.

    Attributes:
        arguments: the parsed arguments of the aligner.

    Raises:
        ConfigError: if an argument is invalid.
    """

    def __init__(
        self, batch_size: Any = None, max_batch_size: Any = None, device: Any = None, **given: Any
    ) -> None:
        super().__init__()
        self.arguments = Arguments.read(given)

    @cached_property
    def aligner(self) -> Aligner:
        """The aligner; created, with its engines, at first use."""
        aligner = self.arguments.aligner()
        if not hasattr(aligner.policy, "tokenization"):
            raise ConfigError(
                f"{type(aligner.policy).__name__} has no `tokenization` (a tokenizer and the "
                "length of the context), which lm-eval needs: give a model id, path or address"
            )
        return aligner

    @property
    def tokenization(self) -> "Tokenization":
        """The tokenizer and context length of the policy."""
        found: Tokenization = self.aligner.policy.tokenization  # type: ignore[attr-defined]
        return found

    @property
    def tokenizer(self) -> Any:
        """The tokenizer of the policy."""
        return self.tokenization.tokenizer

    @property
    def tokenizer_name(self) -> str:
        """lm-eval's cache key of rendered prompts; unlike that of models that get plain text."""
        name = "rsalign__" + self.tokenization.conversations.name.replace("/", "__")
        options = self.arguments.chat_options
        if options == NO_CHAT_OPTIONS:
            return name
        return f"{name}__{fingerprint(options).rpartition(' ')[2]}"

    @property
    def eot_token_id(self) -> int:
        """The end-of-sequence token."""
        return int(self.tokenizer.eos_token_id)

    @property
    def prefix_token_id(self) -> int:
        """The token before a text without a context: BOS or, if there is none, EOS."""
        begin = self.tokenizer.bos_token_id
        return self.eot_token_id if begin is None else int(begin)

    def tok_encode(
        self, string: str, add_special_tokens: bool | None = None, **kwargs: Any
    ) -> list[int]:
        """Token ids, with the tokenizer's special tokens unless the text has them already.

        Raises:
            UnreadableError: if the tokenizer cannot encode the text.
        """
        begin = self.tokenization.conversations.begin
        if isinstance(string, Conversation) or (begin and string.startswith(begin)):
            add_special_tokens = False
        elif add_special_tokens is None:
            add_special_tokens = True

        def unreadable(failure: BaseException) -> UnreadableError:
            return UnreadableError(
                f"the tokenizer cannot read {quote(string)} ({describe_error(failure)})"
            )

        with errors_as(unreadable):
            return list(self.tokenizer.encode(string, add_special_tokens=add_special_tokens))

    def apply_chat_template(
        self, chat_history: Sequence[dict[str, Any]], add_generation_prompt: bool = True
    ) -> str:
        """Renders a conversation for the policy, and keeps its messages for the reward."""
        messages = tuple(map(Message.of, chat_history))
        options = self.arguments.chat_options

        def render(shown: tuple[Message, ...]) -> str:
            return self.tokenization.render_chat(
                shown,
                chat_template=options.chat_template,
                add_generation_prompt=add_generation_prompt,
                continue_final_message=not add_generation_prompt,
                template_kwargs=options.arguments,
            )

        return Conversation(render_or_merge(render, messages, options), messages)

    def _encode_pair(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        if not isinstance(context, Conversation):
            pair: tuple[list[int], list[int]] = super()._encode_pair(context, continuation)
            return pair
        # as in the base class, but without adding special tokens to the rendered text
        start = self.tok_encode(context)
        whole = self.tok_encode(Conversation(context + continuation, context.messages))
        return start, whole[len(start) :]
