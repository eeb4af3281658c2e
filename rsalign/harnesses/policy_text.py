"""What lm-eval must know of a model before it asks anything: its tokens and its chat template."""

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from lm_eval.api.model import TemplateLM

from rsalign.aligner import Aligner
from rsalign.core.checks import quote
from rsalign.core.errors import ConfigError
from rsalign.core.foreign import describe_error, errors_as
from rsalign.core.types import Message
from rsalign.harnesses.arguments import Arguments

if TYPE_CHECKING:
    from rsalign.policies.tokenization import Tokenization


class Conversation(str):
    """The text that a policy's chat template made of some messages, and these messages.

    A harness renders a conversation first and asks for an answer later, and keeps nothing but the
    text in between. A reward model has a chat template of its own, and needs the messages.

    Attributes:
        messages: what was rendered.
    """

    messages: tuple[Message, ...]

    def __new__(cls, text: str, messages: Sequence[Message]) -> "Conversation":
        """A text with its messages."""
        made = super().__new__(cls, text)
        made.messages = tuple(messages)
        return made

    def __getnewargs__(self) -> tuple[str, tuple[Message, ...]]:  # type: ignore[override]
        return str(self), self.messages  # for harnesses that keep prompts in a cache


class UnreadableError(ConfigError):
    """A text that the policy's tokenizer cannot read."""


class PolicyText(TemplateLM):
    """Text as an aligner's policy reads it.

    The engines start when something is first asked of them, so that what is wrong before costs
    nothing.

    Args:
        batch_size: lm-eval always gives one; the engine batches by itself.
        max_batch_size: likewise.
        device: likewise; it is the engine's business.
        given: see `Arguments`.

    Attributes:
        arguments: what the aligner is made of.

    Raises:
        ConfigError: if an argument cannot work.
    """

    def __init__(
        self, batch_size: Any = None, max_batch_size: Any = None, device: Any = None, **given: Any
    ) -> None:
        super().__init__()
        self.arguments = Arguments.read(given)

    @cached_property
    def aligner(self) -> Aligner:
        """Over the engines, which start now."""
        aligner = self.arguments.aligner()
        if not hasattr(aligner.policy, "tokenization"):
            raise ConfigError(
                f"{type(aligner.policy).__name__} has no `tokenization` (a tokenizer and the "
                "length of the context), which lm-eval needs: give a model id, path or address"
            )
        return aligner

    @property
    def tokenization(self) -> "Tokenization":
        """The policy's."""
        found: Tokenization = self.aligner.policy.tokenization  # type: ignore[attr-defined]
        return found

    @property
    def tokenizer(self) -> Any:
        """The policy's."""
        return self.tokenization.tokenizer

    @property
    def tokenizer_name(self) -> str:
        """What lm-eval keeps rendered prompts under: apart from other models' plain text."""
        return "rsalign__" + str(self.tokenizer.name_or_path).replace("/", "__")

    @property
    def eot_token_id(self) -> int:
        """What ends an answer."""
        return int(self.tokenizer.eos_token_id)

    @property
    def prefix_token_id(self) -> int:
        """What a text without a context is conditioned on: the first token of all, or the last."""
        begin = self.tokenizer.bos_token_id
        return self.eot_token_id if begin is None else int(begin)

    def tok_encode(
        self, string: str, add_special_tokens: bool | None = None, **kwargs: Any
    ) -> list[int]:
        """Token ids, with special tokens as the tokenizer adds them, but never twice.

        Raises:
            UnreadableError: if the tokenizer cannot read the text.
        """
        begin = self.tokenizer.bos_token
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
        """A conversation as the policy reads it; the reward will read its messages."""
        messages = tuple(map(Message.of, chat_history))
        text = self.tokenization.render_chat(
            messages,
            add_generation_prompt=add_generation_prompt,
            continue_final_message=not add_generation_prompt,
        )
        return Conversation(text, messages)

    def _encode_pair(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        if not isinstance(context, Conversation):
            pair: tuple[list[int], list[int]] = super()._encode_pair(context, continuation)
            return pair
        # as there, but no token is added to what the template wrote
        start = self.tok_encode(context)
        whole = self.tok_encode(Conversation(context + continuation, context.messages))
        return start, whole[len(start) :]
