"""What a reward of the family is, computed by transformers alone.

The conversation is rendered by the tokenizer's own chat template. A response that was cut at its
greatest length is the same response when it is finished, without what the template writes after it;
one that goes on is the beginning of a longer one.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from jinja2 import TemplateError

from rsalign import Stop

Conversation = Sequence[Mapping[str, str]]

_MARKER = "MARKER"


class Reference:
    """A reward model that is run by transformers, one conversation at a time, in float32.

    Attention is ``eager``, the only one that soft-caps logits as Gemma-2 was trained.

    Args:
        folder: of a ``...ForSequenceClassification`` with one label.
        tokenizer: of this folder, if it is loaded already.
    """

    def __init__(self, folder: Path, tokenizer: Any = None) -> None:
        self._folder = folder
        self._tokenizer = tokenizer

    @property
    def tokenizer(self) -> Any:
        """The reward model's own, of Hugging Face."""
        if self._tokenizer is None:
            from transformers import AutoTokenizer

            self._tokenizer = AutoTokenizer.from_pretrained(self._folder)
        return self._tokenizer

    @cached_property
    def _model(self) -> Any:
        import torch
        from transformers import AutoModelForSequenceClassification

        return AutoModelForSequenceClassification.from_pretrained(
            self._folder, dtype=torch.float32, attn_implementation="eager"
        ).eval()

    def render(self, conversation: Conversation, answer: str, stop: Stop) -> str:
        """The text that the reward model reads."""
        if stop is Stop.BOUNDARY:
            return self._render(conversation, answer + _MARKER).rpartition(_MARKER)[0]
        text = self._render(conversation, answer)
        ending = self._render(conversation, _MARKER).rpartition(_MARKER)[2]
        assert text.endswith(ending)
        return text[: len(text) - len(ending)] if stop is Stop.LENGTH else text

    def refusal(self, conversation: Conversation) -> str | None:
        """The words with which the template refuses a conversation; None: it does not."""
        try:
            self._render(conversation, _MARKER)
        except TemplateError as error:
            return str(error)
        return None

    def tokens(self, conversation: Conversation, answer: str, stop: Stop) -> list[int]:
        """The token ids of `render`, whose text has all special tokens already."""
        text = self.render(conversation, answer, stop)
        ids: list[int] = self.tokenizer.encode(text, add_special_tokens=False)
        return ids

    def score(self, conversation: Conversation, answer: str, stop: Stop) -> float:
        """The model's score at the last token."""
        return self.scores(self.tokens(conversation, answer, stop))[-1]

    def scores(self, tokens: Sequence[int]) -> list[float]:
        """The model's score after each token, ``(tokens,)``."""
        import torch

        with torch.inference_mode():
            body = self._model.base_model(input_ids=torch.tensor([tokens]))
            values: list[float] = self._model.score(body.last_hidden_state)[0, :, 0].tolist()
        return values

    def _render(self, conversation: Conversation, answer: str) -> str:
        whole = [*conversation, {"role": "assistant", "content": answer}]
        return str(self.tokenizer.apply_chat_template(whole, tokenize=False))
