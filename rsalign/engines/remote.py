"""Servers of one model over HTTP: chooses a replica for each request, and another if that fails.

A request goes to the replica that ranks first for its affinity, by rendezvous hashing: when a
replica goes or comes back, no prompts move but its own. The requests of one prompt (segments,
candidates) have one affinity, and so find their prefix in that replica's prefix cache.
"""

import asyncio
import contextlib
import hashlib
import os
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

from rsalign.core.checks import above, at_least, check_float, check_int
from rsalign.core.errors import ConfigError, EngineError, InstallError
from rsalign.core.tasks import concurrently
from rsalign.engines.answers import ServedModel, Unavailable, convert_server_error
from rsalign.engines.loop_thread import LoopThread

if TYPE_CHECKING:
    from openai import AsyncOpenAI

T = TypeVar("T")

_COOL_DOWN_SECONDS = 10.0  # for which a replica that failed is ranked last
_FIRST_PAUSE_SECONDS = 0.5  # before the second round; doubled before each later one
_CONNECT_SECONDS = 5.0


def is_address(given: object) -> bool:
    """Tells whether a value is the address of a server."""
    return isinstance(given, str) and given.startswith(("http://", "https://"))


class Replicas:
    """Servers of one model at one or several addresses; may be awaited from any event loop.

    After an error of the connection or a status 502, 503 or 504, a request goes to the next
    replica. When all have failed there is another round, after a pause that doubles each time. A
    replica that accepted a request and sent nothing does not get it again. A refusal is final.

    Args:
        addresses: ``"http://host:port"``, with or without ``/v1``, or a list of them.
        api_key: None takes the environment's OPENAI_API_KEY, if any.
        timeout_seconds: longest time for which a server may send nothing.
        retries: number of rounds after the first.
        max_open: greatest number of open requests at one replica; others wait here.

    Raises:
        InstallError: if the package `openai` is missing.
        ConfigError: if an argument is not allowed.

    Example:
        >>> Replicas(["http://one:8000", "http://two:8000/v1"])
        Replicas(http://one:8000, http://two:8000)
    """

    def __init__(
        self,
        addresses: str | Sequence[str],
        *,
        api_key: str | None = None,
        timeout_seconds: float = 300.0,
        retries: int = 4,
        max_open: int = 256,
    ) -> None:
        try:
            import openai  # noqa: F401 - fails here rather than in the first request
        except ImportError as missing:
            raise InstallError(f"servers need `pip install openai`: {missing}") from missing
        given = [addresses] if isinstance(addresses, str) else list(addresses)
        wrong = [each for each in given if not is_address(each)]
        if wrong or not given:
            raise ConfigError(
                f"the address of a server is {wrong[0] if wrong else given!r}: give "
                "http://host:port or https://host, or a list of them"
            )
        roots = (each.rstrip("/").removesuffix("/v1").rstrip("/") for each in given)
        self._replicas = [_Replica(root) for root in dict.fromkeys(roots)]
        self._api_key = api_key or os.environ.get("OPENAI_API_KEY") or "none"
        self._timeout_seconds = check_float(
            "Replicas", "timeout_seconds", timeout_seconds, above(0.0)
        )
        self._retries = check_int("Replicas", "retries", retries, at_least(0))
        self._max_open = check_int("Replicas", "max_open", max_open, at_least(1))
        self._clients: dict[asyncio.AbstractEventLoop, _LoopClients] = {}
        self._closed = False

    @property
    def addresses(self) -> tuple[str, ...]:
        """The addresses of the replicas, without ``/v1``."""
        return tuple(replica.address for replica in self._replicas)

    def __repr__(self) -> str:
        return f"Replicas({', '.join(self.addresses)})"  # never the key

    async def ask(self, send: Callable[["AsyncOpenAI"], Awaitable[T]], *, affinity: bytes) -> T:
        """Sends one request to a replica, and to another if that one fails.

        Args:
            send: sends the request by the client of a replica. It may raise `ConnectionError` for
                an answer that broke off.
            affinity: equal for requests that should reach the same replica.

        Raises:
            ConfigError: if the server refuses the request.
            PolicyError: if no replica could be reached, or one failed.
        """
        failures: dict[str, Unavailable] = {}
        for turn in range(self._retries + 1):
            await _pause(turn)
            for replica in self.rank(affinity):
                before = failures.get(replica.address)
                if before is not None and before.silent:
                    continue
                try:
                    return await self._attempt(replica, send)
                except Unavailable as failed:
                    failures[replica.address] = failed
            if all(failed.silent for failed in failures.values()):
                break
        raise _unreachable(failures)

    async def served(self, model: str | None) -> ServedModel:
        """Returns the model of this name, or the only one; every replica that answers must have it.

        Raises:
            ConfigError: if there is none, there are several, or replicas differ.
            PolicyError: if no replica could be reached.
        """
        failures: dict[str, Unavailable] = {}

        async def one(replica: _Replica) -> ServedModel | None:
            try:
                listed: Any = await self._attempt(
                    replica, lambda client: client.get("/v1/models", cast_to=object)
                )
            except Unavailable as failed:
                failures[replica.address] = failed
                return None
            return ServedModel.choose(listed, model, replica.address)

        for turn in range(self._retries + 1):
            await _pause(turn)
            answers = await concurrently(one(replica) for replica in self._replicas)
            found = [answer for answer in answers if answer is not None]
            if len({answer.name for answer in found}) > 1:
                raise ConfigError(
                    f"{self!r} serve different models, {', '.join(each.name for each in found)}: "
                    "give addresses of one model, or model=..."
                )
            if found:
                shortest = min(found, key=lambda answer: answer.max_model_len or 0)
                return replace(shortest, version=await self._version())
        raise _unreachable(failures)

    async def _version(self) -> str | None:
        """The version of vLLM at the replicas; None if one does not say, as other servers."""
        try:
            answers: dict[str, Any] = await self.ask_each(
                lambda client: client.get("/version", cast_to=object)
            )
        except (ConfigError, EngineError):  # 404, or another kind of server
            return None
        told = {
            str(one["version"])
            for one in answers.values()
            if isinstance(one, dict) and "version" in one
        }
        return ", ".join(sorted(told)) or None

    async def ask_each(self, send: Callable[["AsyncOpenAI"], Awaitable[T]]) -> dict[str, T]:
        """Sends a request to every replica once, and returns the answers by address.

        A replica that cannot be reached is left out.

        Raises:
            ConfigError: if a server refuses the request.
            PolicyError: if one failed.
        """

        async def one(replica: _Replica) -> list[tuple[str, T]]:
            try:
                return [(replica.address, await self._attempt(replica, send))]
            except Unavailable:
                return []

        answers = await concurrently(one(replica) for replica in self._replicas)
        return dict(answer for found in answers for answer in found)

    def call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Runs a coroutine that sends requests, and waits for it; works inside a running loop."""

        async def run() -> T:
            try:
                return await coroutine
            finally:
                clients = self._clients.pop(asyncio.get_running_loop(), None)
                if clients is not None:
                    await clients.closer.aclose()

        loop = LoopThread("rsalign-connect")
        try:
            return loop.call(run())
        finally:
            loop.stop()

    def close(self) -> None:
        """Closes all connections; open requests fail. Idempotent."""
        self._closed = True
        here = None
        with contextlib.suppress(RuntimeError):
            here = asyncio.get_running_loop()
        while self._clients:
            loop, clients = self._clients.popitem()
            if loop.is_running():
                done = asyncio.run_coroutine_threadsafe(_close(clients.closer), loop)
                if loop is not here:
                    with contextlib.suppress(TimeoutError):  # a busy loop closes them later
                        done.result(timeout=5)

    def rank(self, affinity: bytes) -> list["_Replica"]:
        """Returns all replicas in this affinity's order; those that failed recently come last."""
        now = time.monotonic()

        def place(replica: _Replica) -> tuple[bool, bytes]:
            digest = hashlib.blake2b(affinity + replica.address.encode(), digest_size=8).digest()
            return replica.down_until > now, digest

        return sorted(self._replicas, key=place)

    async def _attempt(
        self, replica: "_Replica", send: Callable[["AsyncOpenAI"], Awaitable[T]]
    ) -> T:
        from openai import APIError

        replica_client = await self._client(replica.address)
        try:
            async with replica_client.semaphore:
                answer = await send(replica_client.client)
        except (APIError, ConnectionError) as failed:
            error = convert_server_error(failed)
            if isinstance(error, Unavailable):
                replica.down_until = time.monotonic() + _COOL_DOWN_SECONDS
            raise error from failed
        replica.down_until = 0.0
        return answer

    async def _client(self, address: str) -> "_ReplicaClient":
        if self._closed:
            raise EngineError(f"the connection to {address} was closed: connect again")
        loop = asyncio.get_running_loop()
        clients = self._clients.get(loop)
        if clients is None:
            for gone in [each for each in list(self._clients) if each.is_closed()]:
                self._clients.pop(gone, None)
            closer = self._open()
            clients = self._clients[loop] = _LoopClients(closer, await anext(closer))
        return clients.by_address[address]

    async def _open(self) -> AsyncGenerator[dict[str, "_ReplicaClient"], None]:
        """Yields clients for the running loop; asyncio closes them when it ends its generators."""
        from openai import AsyncOpenAI, DefaultAsyncHttpxClient, Timeout

        # requests wait for the semaphore, not in the connection pool, where they would time out
        timeout = Timeout(self._timeout_seconds, connect=_CONNECT_SECONDS, pool=None)
        clients = {
            address: _ReplicaClient(
                AsyncOpenAI(
                    base_url=address,
                    api_key=self._api_key,
                    max_retries=0,  # `ask` retries: retries of the client would multiply them
                    timeout=timeout,
                    # the client's own starts a stray task when it is garbage-collected
                    http_client=DefaultAsyncHttpxClient(timeout=timeout),
                ),
                asyncio.Semaphore(self._max_open),
            )
            for address in self.addresses
        }
        try:
            yield clients
        finally:
            for each in clients.values():
                await each.client.close()


@dataclass(slots=True)
class _Replica:
    address: str
    down_until: float = 0.0


@dataclass(frozen=True, slots=True)
class _ReplicaClient:
    """The client of one replica on one event loop, and what limits its open requests."""

    client: "AsyncOpenAI"
    semaphore: asyncio.Semaphore


@dataclass(frozen=True, slots=True)
class _LoopClients:
    """The clients of one event loop by address, and the generator that closes them."""

    closer: AsyncGenerator[dict[str, _ReplicaClient], None]
    by_address: Mapping[str, _ReplicaClient]


# tenacity would not shorten this: it repeats one call, while a round here tries several replicas
# and leaves out those that fell silent; only these two lines would go
async def _pause(turn: int) -> None:
    if turn:
        await asyncio.sleep(_FIRST_PAUSE_SECONDS * 2 ** (turn - 1))


async def _close(generator: AsyncGenerator[Any, None]) -> None:
    await generator.aclose()


def _unreachable(failures: Mapping[str, Unavailable]) -> EngineError:
    said = "; ".join(f"{address}: {failed}" for address, failed in failures.items())
    error = EngineError(
        f"no server answered ({said}): check that they run and that the addresses are right"
    )
    error.__cause__ = next(iter(failures.values())).__cause__
    return error
