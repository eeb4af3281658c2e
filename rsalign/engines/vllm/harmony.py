"""The harmony format of gpt-oss: messages in channels, divided by special tokens.

A response looks like ``<|channel|>analysis<|message|>2 + 2 is 4.<|end|><|start|>assistant
<|channel|>final<|message|>Four.<|return|>``, on one line. Without its special tokens it reads
``analysis2 + 2 is 4.assistantfinalFour.``, so it is divided by token ids. vLLM does the same with
the library ``openai_harmony``, which downloads a vocabulary when it is used; the tokenizer's own is
used here.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rsalign.core.text.detokenization import detokenizer

NAME = "openai_gptoss"
"""The name of vLLM's reasoning parser for this format."""
_START, _CHANNEL, _MESSAGE = "<|start|>", "<|channel|>", "<|message|>"
_FORMAT = "<|constrain|>"  # before the format of the content, such as json
_ENDS = ("<|end|>", "<|return|>", "<|call|>")
_TOOL_NAMESPACE = "functions."


@dataclass(slots=True)
class _Message:
    """One message, perhaps incomplete."""

    header: list[int] = field(default_factory=list)
    channel: list[int] = field(default_factory=list)
    form: list[int] = field(default_factory=list)
    content: list[int] | None = None


@dataclass(frozen=True, slots=True)
class Harmony:
    """Divides responses in the harmony format.

    Attributes:
        tokenizer: of the model.
        marks: the ids of the format's special tokens, by text.
    """

    tokenizer: Any
    marks: Mapping[str, int]

    @classmethod
    def of(cls, tokenizer: Any) -> "Harmony":
        """Finds the format's special tokens in a vocabulary.

        Raises:
            KeyError: if one is missing.
        """
        vocab = tokenizer.get_vocab()
        return cls(
            tokenizer, {text: vocab[text] for text in (_START, _CHANNEL, _FORMAT, _MESSAGE, *_ENDS)}
        )

    def divide(self, tokens: Sequence[int], text: str) -> tuple[str | None, str | None]:
        """Returns the thought and the answer; None for what is not there.

        The channel ``analysis`` is the thought. ``final``, and ``commentary`` to the user, are the
        answer. A call of a tool is part of the answer, as ``name(arguments)``. Text that is not in
        the format is the answer.

        Args:
            tokens: of the response.
            text: of the response without special tokens.
        """
        thoughts: list[str] = []
        answers: list[str] = []
        messages = list(self._messages(tokens))
        if all(one.content is None for one in messages):
            in_header = bool(tokens) and tokens[0] in (self.marks[_CHANNEL], self.marks[_START])
            return None, None if in_header or not tokens else text
        for one in messages:
            if one.content is None:
                continue
            header, channel = self._text(one.header), self._text(one.channel)
            said, recipient = self._text(one.content), _recipient(f"{header} {channel}")
            if recipient is not None:
                answers.append(f"{recipient.removeprefix(_TOOL_NAMESPACE)}({said})")
            elif channel.split()[:1] == ["analysis"]:
                thoughts.append(said)
            else:
                answers.append(said)
        return "\n".join(thoughts) or None, "\n".join(answers) or None

    def _messages(self, tokens: Sequence[int]) -> Iterator[_Message]:
        marks = self.marks
        ends = {marks[text] for text in _ENDS}
        message = _Message()
        part = message.header
        for token in tokens:
            if token in ends or token == marks[_START]:
                yield message
                message = _Message()
                part = message.header
            elif token == marks[_CHANNEL]:
                part = message.channel
            elif token == marks[_FORMAT]:
                part = message.form
            elif token == marks[_MESSAGE]:
                part = message.content = []
            else:
                part.append(token)
        yield message

    def _text(self, tokens: Sequence[int]) -> str:
        # as the engine does, the end of an incomplete character is left out
        return detokenizer(self.tokenizer, ()).read(tokens)


def _recipient(header: str) -> str | None:
    """The recipient of a message (``to=functions.search``); None if it is for the user."""
    _, found, rest = header.partition("to=")
    return rest.split()[0] if found and rest.split() else None
