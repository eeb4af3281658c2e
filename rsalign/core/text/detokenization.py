"""Incremental detokenization: token ids to text, exactly as vLLM's engine does it.

vLLM (0.32, `vllm.v1.engine.detokenizer`) does not decode a response as a whole. It decodes prompt
and response together and adds the text of one token at a time. The result differs from
``tokenizer.decode(response)`` in three ways: a SentencePiece tokenizer keeps the space before the
first word of the response; a character whose last bytes are missing is omitted instead of becoming
a replacement character; and text never changes when later tokens arrive.

Special tokens are omitted, which is vLLM's default.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

_INVALID_PREFIX = (
    "Invalid prefix encountered"  # the beginning of a message of tokenizers' DecodeStream
)
_WINDOW = 5  # vLLM's INITIAL_INCREMENTAL_DETOKENIZATION_OFFSET
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


class Detokenizer(Protocol):
    """Decodes the tokens of one response as they arrive."""

    def read(self, tokens: Sequence[int]) -> str:
        """Returns the text that the next tokens add; empty while a character is incomplete.

        The concatenated pieces do not depend on how the tokens are divided into calls.
        """
        ...


@runtime_checkable
class Forking(Protocol):
    """A detokenizer that can be copied, so that a response can be continued in several ways."""

    def fork(self) -> Detokenizer | None:
        """Returns a copy that has read the same tokens; None if it cannot be copied after all."""
        ...


def forked(detokenizer: Detokenizer) -> Detokenizer | None:
    """Returns a copy of a detokenizer that is independent of it; None if it cannot be copied."""
    return detokenizer.fork() if isinstance(detokenizer, Forking) else None


@runtime_checkable
class Detokenizing(Protocol):
    """A policy that detokenizes as its engine does, given the prompt that the tokens follow.

    For other policies, `Policy.text` is used (see `rsalign.core.text.response_text`).
    """

    def detokenizer(self, prompt: Sequence[int]) -> Detokenizer:
        """Creates a detokenizer for one response to this prompt."""
        ...

    def token_text(self, token: int) -> str:
        """Returns the text of one token, for boundary rules that read it (`Boundary`).

        Bytes that are not a complete character become replacement characters.
        """
        ...


def detokenizer(tokenizer: Any, prompt: Sequence[int]) -> Detokenizer:
    """Creates a detokenizer that decodes as vLLM does for a response to this prompt.

    Args:
        tokenizer: a Hugging Face tokenizer, or vLLM's own for Mistral models.
        prompt: token ids before the response; empty: the response is decoded as the beginning of a
            text.
    """
    from tokenizers import Tokenizer

    backend = getattr(tokenizer, "_tokenizer", None)
    if isinstance(backend, Tokenizer):
        return _ByStream(backend, prompt)
    return _ByWindow(tokenizer, prompt)


@dataclass(frozen=True, slots=True)
class Word:
    """An ordinary token that replaces an unknown prompt.

    Decoding depends only on the end of the prompt. After an ordinary word, a response has the text
    that it has after almost any prompt.

    Attributes:
        tokens: the token, as a tuple with one element; empty if the vocabulary has no such token.
        text: text of the token.

    Example:
        >>> Word((5,), "the").tokens
        (5,)
    """

    tokens: tuple[int, ...]
    text: str

    @classmethod
    def of(cls, tokenizer: Any) -> "Word":
        """Returns the first token of a vocabulary that is a word."""
        for token in range(len(tokenizer)):
            text = str(tokenizer.decode([token], skip_special_tokens=True))
            if len(text) > 1 and text.isalnum():  # one byte could join with bytes that follow it
                return cls((token,), text)
        return cls((), "")


def token_text(tokenizer: Any, token: int, word: Word) -> str:
    """Decodes one token, keeping the space that `decode` drops before the first word of a text.

    Bytes that are not a complete character become replacement characters.

    Args:
        tokenizer: a Hugging Face tokenizer.
        token: id of the token.
        word: an ordinary token of this tokenizer.
    """
    if token >= len(tokenizer):
        return ""  # the model has more ids than the tokenizer; these have no text
    alone = str(tokenizer.decode([token], skip_special_tokens=True))
    after = str(tokenizer.decode([*word.tokens, token], skip_special_tokens=True))
    return f" {alone}" if after == f"{word.text} {alone}" else alone


class _ByStream:
    """Uses the incremental decoder of the tokenizers library, like vLLM's fast path."""

    def __init__(self, backend: Any, prompt: Sequence[int]) -> None:
        from tokenizers import decoders

        self._backend = backend
        self._new_stream = decoders.DecodeStream
        self._stream = self._new_stream(ids=list(prompt), skip_special_tokens=True)

    def fork(self) -> "_ByStream":
        """See `Forking`."""
        other = copy.copy(self)
        other._stream = copy.copy(self._stream)
        return other

    def read(self, tokens: Sequence[int]) -> str:
        """See `Detokenizer`."""
        return "".join(map(self._step, tokens))

    def _step(self, token: int) -> str:
        try:
            return self._stream.step(self._backend, token) or ""
        except (OverflowError, TypeError):
            return ""  # not a token id; vLLM omits it, too
        except Exception as invalid:
            if not str(invalid).startswith(_INVALID_PREFIX):
                raise
            # the token would change earlier text; vLLM starts a new stream with it
            self._stream = self._new_stream(skip_special_tokens=True)
            return self._stream.step(self._backend, token) or ""


class _ByWindow:
    """Decodes the last few tokens each time, for tokenizers in Python, like vLLM's slow path.

    The text of a token is what it adds to the text of the tokens since the last complete character.
    """

    def __init__(self, tokenizer: Any, prompt: Sequence[int]) -> None:
        self._tokenizer = tokenizer
        self._added = set(tokenizer.get_added_vocab())
        self._special = set(tokenizer.all_special_tokens)
        self._pieces = self._tokens_of(prompt[-_WINDOW - 2 :])
        self._read_offset = len(self._pieces)
        self._prefix_offset = max(self._read_offset - _WINDOW, 0)

    def fork(self) -> "_ByWindow":
        """See `Forking`."""
        other = copy.copy(self)
        other._pieces = list(self._pieces)
        return other

    def read(self, tokens: Sequence[int]) -> str:
        """See `Detokenizer`."""
        return "".join(map(self._step, tokens))

    def _step(self, token: int) -> str:
        known = 0 <= token < len(self._tokenizer)
        self._pieces += self._tokens_of([token]) if known else [""]
        before = self._text(self._pieces[self._prefix_offset : self._read_offset])
        after = self._text(self._pieces[self._prefix_offset :])
        if len(after) <= len(before) or after.endswith(_REPLACEMENT):
            return ""
        self._pieces = self._pieces[self._read_offset :]
        self._prefix_offset, self._read_offset = 0, len(self._pieces)
        return after[len(before) :]

    def _tokens_of(self, tokens: Sequence[int]) -> list[str]:
        found = self._tokenizer.convert_ids_to_tokens(list(tokens), skip_special_tokens=True)
        return ["" if one is None else one for one in found]

    def _text(self, pieces: list[str]) -> str:
        """Joins pieces to a text; tokens that were added to the vocabulary are joined by spaces."""
        joined = self._tokenizer.convert_tokens_to_string
        if self._tokenizer.is_fast or not self._added:
            return str(joined(pieces))
        texts: list[str] = []
        run: list[str] = []
        for piece in pieces:
            if piece in self._special:
                continue
            if piece in self._added:
                if run:
                    texts.append(joined(run))
                    run = []
                texts.append(piece)
            else:
                run.append(piece)
        if run:
            texts.append(joined(run))
        return " ".join(texts)
