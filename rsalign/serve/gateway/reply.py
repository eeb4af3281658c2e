"""Responses of the gateway, in OpenAI's form: whole or in pieces."""

import json
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from rsalign.aligner.outputs import AlignedOutput
from rsalign.aligner.stream import ProgressEvent
from rsalign.core.errors import ConfigError, PolicyError, RewardError, RsalignError
from rsalign.core.trace import Verdict
from rsalign.serve.admission import BusyError
from rsalign.serve.responses import count_forced, decided_proposals
from rsalign.strategies.cards import TriesExhaustedError

Send = Callable[[Mapping[str, Any]], Awaitable[None]]
"""ASGI's."""


def status_of(error: RsalignError) -> HTTPStatus:
    """The status of a response to a request that failed."""
    if isinstance(error, BusyError):
        stopping = error.reason == "stopping"
        return HTTPStatus.SERVICE_UNAVAILABLE if stopping else HTTPStatus.TOO_MANY_REQUESTS
    if isinstance(error, TriesExhaustedError):
        return HTTPStatus.UNPROCESSABLE_ENTITY
    if isinstance(error, ConfigError):
        return HTTPStatus.BAD_REQUEST
    if isinstance(error, PolicyError | RewardError):
        return HTTPStatus.SERVICE_UNAVAILABLE
    return HTTPStatus.INTERNAL_SERVER_ERROR


def error_body(message: str, status: HTTPStatus) -> dict[str, Any]:
    """An error in OpenAI's form."""
    return {
        "error": {"message": message, "type": status.phrase, "param": None, "code": int(status)}
    }


def make_block(output: AlignedOutput, name: str, seconds: float) -> dict[str, Any]:
    """The ``rsalign`` block of a response."""
    alignment = output.alignment
    verdicts = [proposal.verdict for proposal in decided_proposals(alignment.trace)]
    return {
        "strategy": name,
        "reward": alignment.reward,
        "expired": alignment.expired,
        "seconds": round(seconds, 6),
        "seed": alignment.seed,
        "accepted": verdicts.count(Verdict.ACCEPTED),
        "rejected": verdicts.count(Verdict.REJECTED),
        "forced": count_forced(alignment.trace),
        "drawn": alignment.usage.policy_tokens_drawn,
        "kept": alignment.usage.policy_tokens_kept,
        "reward_calls": alignment.usage.reward_calls,
        "warnings": list(alignment.warnings),
    }


def make_usage(output: AlignedOutput) -> dict[str, int]:
    """Usage, in which all drawn tokens count."""
    prompt, drawn = len(output.prompt_token_ids), output.alignment.usage.policy_tokens_drawn
    return {
        "prompt_tokens": prompt,
        "completion_tokens": drawn,
        "total_tokens": prompt + drawn,
    }


@dataclass(slots=True, kw_only=True)
class Reply:
    """One response, which is sent when its answer is there, or from the first piece on.

    Attributes:
        send: ASGI's.
        id: of the request.
        model: its name.
        strategy: its name.
        is_chat: which endpoint's form it has.
        stream: whether it is sent in pieces.
        started: whether its beginning was sent.
    """

    send: Send
    id: str
    model: str
    strategy: str
    is_chat: bool
    stream: bool
    started: bool = False
    _created: int = field(default_factory=lambda: int(time.time()))
    _since: float = field(default_factory=time.perf_counter)

    async def add_text(self, text: str) -> None:
        """Sends a piece of the answer, if it is sent in pieces."""
        if self.stream and text:
            delta = {"delta": {"content": text}} if self.is_chat else {"text": text}
            await self._event({"choices": [{"index": 0, **delta, "finish_reason": None}]})

    async def add_progress(self, event: ProgressEvent) -> None:
        """Sends how far the strategy is, and what its answer would be now."""
        progress = {"step": event.step, "steps": event.steps, "answer": event.answer}
        await self._event(
            {"choices": [], "rsalign": {"progress": progress | {"share": event.share}}}
        )

    async def keep_alive(self) -> None:
        """Sends a comment, which clients ignore."""
        if self.stream:
            await self._write(f": {self.strategy}: no more of the answer is certain yet\n\n")

    async def finish(self, output: AlignedOutput, *, include_usage: bool) -> None:
        """Sends the end of a stream, or the whole response."""
        (answer, *_) = output.outputs
        block = make_block(output, self.strategy, time.perf_counter() - self._since)
        last: dict[str, Any] = {"index": 0, "finish_reason": answer.finish_reason}
        if not self.stream:
            message = {"message": {"role": "assistant", "content": answer.text}}
            last |= message if self.is_chat else {"text": answer.text}
            body = self._frame("") | {"choices": [last], "usage": make_usage(output)}
            await send_json(self.send, body | {"rsalign": block}, {"x-request-id": self.id})
            self.started = True
            return
        if self.is_chat:
            last["delta"] = {}
        else:
            last["text"] = ""
        await self._event({"choices": [last], "rsalign": block})
        if include_usage:
            await self._event({"choices": [], "usage": make_usage(output)})
        await self._write("data: [DONE]\n\n")
        await self.send({"type": "http.response.body", "body": b"", "more_body": False})

    async def fail(
        self, message: str, status: HTTPStatus, headers: Mapping[str, str] | None = None
    ) -> None:
        """Sends an error: with its status, or as an event if the response has begun."""
        body = error_body(message, status)
        if not self.started:
            self.started = True
            await send_json(self.send, body, {"x-request-id": self.id, **(headers or {})}, status)
            return
        await self._write(f"data: {json.dumps(body)}\n\ndata: [DONE]\n\n")
        await self.send({"type": "http.response.body", "body": b"", "more_body": False})

    def _frame(self, piece: str) -> dict[str, Any]:
        kind = f"chat.completion{piece}" if self.is_chat else "text_completion"
        return {"id": self.id, "object": kind, "created": self._created, "model": self.model}

    async def _event(self, content: Mapping[str, Any]) -> None:
        text = json.dumps({**self._frame(".chunk"), **content}, ensure_ascii=False)
        await self._write(f"data: {text}\n\n")

    async def _write(self, text: str) -> None:
        if not self.started:
            self.started = True
            headers = {"content-type": "text/event-stream; charset=utf-8", "x-request-id": self.id}
            await self.send(_start(HTTPStatus.OK, headers))
        await self.send({"type": "http.response.body", "body": text.encode(), "more_body": True})


async def send_json(
    send: Send,
    body: Mapping[str, Any],
    headers: Mapping[str, str] | None = None,
    status: HTTPStatus = HTTPStatus.OK,
) -> None:
    """Sends a whole response."""
    await send(_start(status, {"content-type": "application/json", **(headers or {})}))
    text = json.dumps(body, ensure_ascii=False)
    await send({"type": "http.response.body", "body": text.encode(), "more_body": False})


def _start(status: HTTPStatus, headers: Mapping[str, str]) -> Mapping[str, Any]:
    encoded = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
    return {"type": "http.response.start", "status": int(status), "headers": encoded}
