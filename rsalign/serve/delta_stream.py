"""Streams one answer as vLLM's handlers expect it: as outputs with its newest text and tokens."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rsalign.aligner.outputs import AlignedCompletion
from rsalign.core.types import Tokens
from rsalign.engines.vllm.text import new_detokenizer

if TYPE_CHECKING:
    from vllm import CompletionOutput, SamplingParams


@dataclass(slots=True)
class DeltaStream:
    """Turns the tokens of a growing answer into the pieces of one streamed choice.

    The pieces together are what an unstreamed response would have. The newest token is held back:
    if it turns out to be a stop token, its text is not shown. vLLM's detokenizer holds back what
    may begin a stop string, and incomplete characters.

    Attributes:
        index: of the choice.
        params: what was asked for; `output_kind` says whether a piece has what is new or all so
            far.
        prompt: its tokens.
        tokenizer: the policy's.
    """

    index: int
    params: "SamplingParams"
    prompt: Sequence[int]
    tokenizer: Any
    _tokens: Tokens = ()
    _num_read: int = 0
    _num_shown: int = 0
    _stop: str | None = None
    _detokenizer: Any = field(init=False)

    def __post_init__(self) -> None:
        self._detokenizer = new_detokenizer(self.tokenizer, self.params, self.prompt)

    def add(self, tokens: Tokens) -> "CompletionOutput | None":
        """The next piece.

        Args:
            tokens: all tokens of the answer so far.

        Returns:
            None if no more is certain than before.
        """
        # the first is shown at once, as by vLLM
        interval = (self.params.stream_interval or 1) if self._tokens else 1
        if len(tokens) < len(self._tokens) + interval:
            return None
        self._tokens = tokens
        self._read(len(tokens) - 1, by_token=False)
        piece = self._make_piece()
        return piece if piece.token_ids else None

    def finish(self, answer: AlignedCompletion) -> "CompletionOutput":
        """The last piece of a complete answer."""
        self._tokens = tuple(answer.token_ids)
        by_token = answer.finish_reason == "stop" and not isinstance(answer.stop_reason, str)
        self._read(len(self._tokens), by_token=by_token)
        piece = self._make_piece(finished=True)
        piece.finish_reason = answer.finish_reason if self._stop is None else "stop"
        piece.stop_reason = answer.stop_reason if self._stop is None else self._stop
        piece.reward = answer.reward
        piece.components = answer.components
        piece.alignment = answer.alignment
        return piece

    def abort(self, reason: str) -> "CompletionOutput":
        """The last piece of an answer that will not be completed, with this finish reason."""
        piece = self._make_piece(finished=True)
        piece.finish_reason = reason
        return piece

    def _read(self, until: int, *, by_token: bool) -> None:
        """Detokenizes up to this many tokens, or to the first stop string.

        Here also a stop string that lies across two segments of a strategy ends the answer.
        """
        new = list(self._tokens[self._num_read : until])
        if new and self._stop is None:
            self._num_read = until
            self._stop = self._detokenizer.update(new, by_token)

    def _make_piece(self, *, finished: bool = False) -> "CompletionOutput":
        from vllm.outputs import CompletionOutput
        from vllm.sampling_params import RequestOutputKind

        delta = self.params.output_kind == RequestOutputKind.DELTA
        text = self._detokenizer.get_next_output_text(finished, delta)
        shown = self._detokenizer.output_token_ids
        tokens = shown[self._num_shown if delta else 0 :]
        self._num_shown = len(shown)
        if finished and not shown:
            tokens = _NoTokens()
        return CompletionOutput(
            index=self.index,
            text=text,
            token_ids=tokens,
            cumulative_logprob=None,
            logprobs=None,
        )


class _NoTokens(list[int]):
    """An empty list that counts as true.

    vLLM's servers drop pieces without text and tokens before the first token, by the truth of their
    list. An answer without any token, such as an abstention, would never be told to have ended.
    """

    def __bool__(self) -> bool:
        return True
