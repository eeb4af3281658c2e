"""The gateway's ASGI application, and the process that serves it."""

import asyncio
import json
import logging
import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import aclosing
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from rsalign.aligner import Aligner, ProgressEvent, ResultEvent, TextEvent
from rsalign.core.capabilities import parallel_draws
from rsalign.core.errors import ConfigError, InstallError, PolicyError, RsalignError
from rsalign.serve.admission import Admission, BusyError
from rsalign.serve.gateway.body import Body, read_body
from rsalign.serve.gateway.reply import Reply, Send, error_body, send_json, status_of
from rsalign.serve.options import Options
from rsalign.serve.rules import RequestRules
from rsalign.words.messages import clip
from rsalign.words.parts import policy_from

logger = logging.getLogger(__name__)

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Scope = MutableMapping[str, Any]

_ANSWERING = {"/v1/chat/completions": True, "/v1/completions": False}
_CANCEL = "/rsalign/cancel/"
_LARGEST_BODY = 32 << 20
_LARGEST_ID = 128


class _CancelledError(RsalignError):
    """A request was cancelled by another one."""


@dataclass(slots=True, kw_only=True, eq=False)
class Gateway:
    """An ASGI application that answers OpenAI's requests by strategies.

    Endpoints: ``/v1/chat/completions``, ``/v1/completions``, ``/v1/models``, ``/health``, and
    ``POST /rsalign/cancel/ID``, which ends the request whose ``X-Request-Id`` (its own, or the one
    that its response has) is ID. A client that goes away ends its request as well.

    Attributes:
        aligner: has the policy and the reward.
        rules: what requests may ask for.
        admission: makes room for requests, or refuses them.
        model: the name that is served.
        api_key: that requests must have; None: anyone may ask.
        keep_alive_seconds: longest silence of a stream.
    """

    aligner: Aligner
    rules: RequestRules
    admission: Admission
    model: str
    api_key: str | None = None
    keep_alive_seconds: float = 15.0
    _running: dict[str, "asyncio.Future[None]"] = field(default_factory=dict)
    _cancelled: set[str] = field(default_factory=set)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        if scope["type"] != "http":
            return
        method, path = scope["method"], scope["path"]
        headers = {name.decode("latin-1"): value for name, value in scope["headers"]}
        if path == "/health" and method == "GET":
            await send_json(send, {"status": "ok"})
        elif not self._may_ask(headers):
            await _refuse(send, HTTPStatus.UNAUTHORIZED, "give the API key as a bearer token")
        elif path == "/v1/models" and method == "GET":
            await send_json(send, self._models())
        elif path.startswith(_CANCEL) and method == "POST":
            await self._cancel(send, path.removeprefix(_CANCEL))
        elif path in _ANSWERING and method == "POST":
            given = headers.get("x-request-id", b"").decode("latin-1")[:_LARGEST_ID]
            await self._answer(receive, send, given, is_chat=_ANSWERING[path])
        else:
            await _refuse(send, HTTPStatus.NOT_FOUND, f"{method} {clip(path)}: no such endpoint")

    def _may_ask(self, headers: dict[str, bytes]) -> bool:
        if self.api_key is None:
            return True
        given = headers.get("authorization", b"").removeprefix(b"Bearer ")
        return secrets.compare_digest(given, self.api_key.encode())

    def _models(self) -> dict[str, Any]:
        names = [self.model, *(f"{self.model}:{alias}" for alias in self.rules.aliases())]
        return {
            "object": "list",
            "data": [{"id": name, "object": "model", "owned_by": "rsalign"} for name in names],
        }

    async def _cancel(self, send: Send, name: str) -> None:
        running = self._running.get(name)
        if running is None:
            await _refuse(send, HTTPStatus.NOT_FOUND, f"no request {clip(name)} is under way")
            return
        self._cancelled.add(name)
        running.cancel()
        await send_json(send, {"id": name, "cancelled": True})

    async def _answer(self, receive: Receive, send: Send, name: str, *, is_chat: bool) -> None:
        name = name or f"{'chatcmpl' if is_chat else 'cmpl'}-{secrets.token_hex(12)}"
        reply = Reply(
            send=send, id=name, model=self.model, strategy="plain", is_chat=is_chat, stream=False
        )
        try:
            if name in self._running:
                raise ConfigError(f"X-Request-Id {clip(name)}: a request of this id is under way")
            body = read_body(await _read_json(receive), self.rules, self.model, is_chat=is_chat)
            reply.stream = body.stream
            reply.strategy = body.asked.name if body.asked else "plain"
            await self._run(receive, reply, body)
        except BusyError as error:
            after = {"retry-after": str(error.retry_after_seconds)}
            await reply.fail(str(error), status_of(error), after)
        except _CancelledError as error:
            await reply.fail(str(error), HTTPStatus.CONFLICT)
        except PolicyError as error:
            logger.warning("the policy failed: %s", error)  # with its address
            await reply.fail("no server of the policy answers", status_of(error))
        except RsalignError as error:
            await reply.fail(clip(str(error)), status_of(error))

    async def _run(self, receive: Receive, reply: Reply, body: Body) -> None:
        """Answers while the client is there, and keeps its connection alive."""
        answering = asyncio.ensure_future(self._events(reply, body))
        gone = asyncio.ensure_future(_until_gone(receive))
        self._running[reply.id] = answering
        try:
            while not answering.done() and not gone.done():
                done, _ = await asyncio.wait(
                    (answering, gone),
                    timeout=self.keep_alive_seconds,
                    return_when=asyncio.FIRST_COMPLETED,
                )
                if not done:
                    await reply.keep_alive()
        finally:
            del self._running[reply.id]
            was_cancelled = reply.id in self._cancelled
            self._cancelled.discard(reply.id)
            for each in (answering, gone):
                each.cancel()
            await asyncio.wait((answering, gone))
        if not answering.cancelled():
            answering.result()  # raises what it raised
        elif was_cancelled:
            raise _CancelledError(f"the request was cancelled by {_CANCEL}{clip(reply.id)}")

    async def _events(self, reply: Reply, body: Body) -> None:
        asked = body.asked
        async with (
            self.admission.admit(answers=1, draws=parallel_draws(body.strategy)),
            aclosing(
                self.aligner.astream(  # type: ignore[type-var]
                    body.prompt,
                    body.sampling,
                    strategy=body.strategy,
                    budget=asked.budget if asked else self.rules.budget,
                    seed=secrets.randbits(63) if body.seed is None else body.seed,
                    on_reward_error=asked.on_reward_error if asked else None,
                )
            ) as events,
        ):
            async for event in events:
                if isinstance(event, TextEvent):
                    await reply.add_text(event.text)
                elif isinstance(event, ProgressEvent):
                    if body.stream and body.include_progress:
                        await reply.add_progress(event)
                elif isinstance(event, ResultEvent):
                    await reply.finish(event.output, include_usage=body.include_usage)


async def _refuse(send: Send, status: HTTPStatus, message: str) -> None:
    await send_json(send, error_body(message, status), status=status)


async def _read_json(receive: Receive) -> Any:
    """The body of a request.

    Raises:
        ConfigError: if it is no JSON, or too large.
    """
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if len(body) > _LARGEST_BODY:
            raise ConfigError(f"the body has more than {_LARGEST_BODY >> 20} MiB")
        if not message.get("more_body"):
            break
    try:
        return json.loads(body)
    except ValueError as wrong:
        raise ConfigError(f"the body is no JSON: {wrong}") from wrong


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def serve(
    addresses: list[str],
    options: Options,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    model: str | None = None,
    api_key: str | None = None,
) -> None:
    """Serves until SIGINT or SIGTERM.

    Args:
        addresses: of servers of one model.
        options: as of a server with an engine; those of the engine's draws have no effect.
        host: to listen on.
        port: to listen on.
        model: the name that is served; default: the one that the servers have.
        api_key: that requests must have.

    Raises:
        ConfigError: if options cannot work, or no server answers.
        InstallError: if uvicorn is missing.
    """
    try:
        import uvicorn
    except ImportError as error:
        raise InstallError(
            f"the gateway needs uvicorn ({error}): pip install 'rsalign[gateway]'"
        ) from error
    if options.on_reward_error == "plain":
        raise ConfigError("--on-reward-error plain: the gateway has fail and best")
    policy = policy_from(addresses, {})
    reward = options.start_reward()
    with Aligner(policy, reward) as aligner:
        gateway = Gateway(
            aligner=aligner,
            rules=options.request_rules(),
            admission=options.admission(),
            model=model or str(getattr(policy, "model", "model")),
            api_key=api_key,
            keep_alive_seconds=options.keep_alive_seconds,
        )
        server = uvicorn.Config(
            gateway,
            host=host,
            port=port,
            lifespan="off",
            log_level="info",
            timeout_graceful_shutdown=max(1, round(options.drain_seconds)),
        )
        uvicorn.Server(server).run()
