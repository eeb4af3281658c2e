"""vLLM behind HTTP: replicas of one server, chosen by affinity, and asked again when they fail.

A request goes to the replica that ranks first for its affinity, by rendezvous hashing: when a
replica goes or comes back, no prompts move but its own. What belongs together (the segments and
candidates of one prompt) has one affinity, and so finds its prefix in that replica's cache.
"""

import asyncio
import contextlib
import hashlib
import os
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

from rsalign.core.checks import above, at_least, number, whole
from rsalign.core.errors import ConfigError, EngineError, InstallError
from rsalign.core.tasks import concurrently
from rsalign.engines.answers import Served, Unavailable, meaning
from rsalign.engines.loop_thread import LoopThread

if TYPE_CHECKING:
    from openai import AsyncOpenAI

T = TypeVar("T")

_COOL_DOWN_SECONDS = 10.0  # a replica that failed is asked last for so long
_FIRST_PAUSE_SECONDS = 0.5  # before the second round; doubled before each later one
_CONNECT_SECONDS = 5.0


def is_address(given: object) -> bool:
    """Whether this is the address of a server."""
    return isinstance(given, str) and given.startswith(("http://", "https://"))


class Replicas:
    """Servers of one model at one or several addresses; awaitable from any event loop.

    Faults of the connection and the statuses 502, 503 and 504 send a request on to the next
    replica, and after all of them, with a pause that doubles, through another round. A replica that
    took a request and fell silent is not given it again. A refusal is final.

    Args:
        addresses: ``"http://host:port"``, with or without ``/v1``, or a list of them.
        api_key: default: the environment's OPENAI_API_KEY, if any.
        timeout_seconds: longest silence of a server that has taken a request.
        retries: number of rounds after the first.
        max_open: greatest number of requests that are open at one replica; more wait here.

    Raises:
        InstallError: if the package `openai` is missing.
        ConfigError: if an argument cannot work.
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
            import openai  # noqa: F401 - missed here rather than amid the first request
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
        self._timeout_seconds = number("Replicas", "timeout_seconds", timeout_seconds, above(0.0))
        self._retries = whole("Replicas", "retries", retries, at_least(0))
        self._max_open = whole("Replicas", "max_open", max_open, at_least(1))
        self._lines: dict[asyncio.AbstractEventLoop, _Lines] = {}
        self._closed = False

    @property
    def addresses(self) -> tuple[str, ...]:
        """Where the replicas are."""
        return tuple(replica.address for replica in self._replicas)

    def __repr__(self) -> str:
        return f"Replicas({', '.join(self.addresses)})"  # never the key

    async def ask(self, send: Callable[["AsyncOpenAI"], Awaitable[T]], *, affinity: bytes) -> T:
        """One request; `send` gets the client of a replica, and of another if that one fails.

        It may raise `ConnectionError` itself, for an answer that broke off.

        Raises:
            ConfigError: if the server refuses the request.
            PolicyError: if no replica could be reached, or one failed.
        """
        failures: dict[str, Unavailable] = {}
        for turn in range(self._retries + 1):
            await _pause(turn)
            for replica in self._ranked(affinity):
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

    async def served(self, model: str | None) -> Served:
        """The model of this name, or the only one; every replica that answers must have it.

        Raises:
            ConfigError: if there is none, there are several, or replicas differ.
            PolicyError: if no replica could be reached.
        """
        failures: dict[str, Unavailable] = {}

        async def one(replica: _Replica) -> Served | None:
            try:
                listed: Any = await self._attempt(
                    replica, lambda client: client.get("/v1/models", cast_to=object)
                )
            except Unavailable as failed:
                failures[replica.address] = failed
                return None
            return Served.choose(listed, model, replica.address)

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
        """Of vLLM at the replicas; None where one does not tell, as other servers do not."""
        try:
            answers: dict[str, Any] = await self.ask_each(
                lambda client: client.get("/version", cast_to=object)
            )
        except (ConfigError, EngineError):  # 404, or what other servers have at this path
            return None
        told = {
            str(one["version"])
            for one in answers.values()
            if isinstance(one, dict) and "version" in one
        }
        return ", ".join(sorted(told)) or None

    async def ask_each(self, send: Callable[["AsyncOpenAI"], Awaitable[T]]) -> dict[str, T]:
        """The same request to every replica, once; by address. One out of reach is left out.

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
        """Runs a coroutine that asks, and waits for it; inside a running loop, too."""

        async def run() -> T:
            try:
                return await coroutine
            finally:
                lines = self._lines.pop(asyncio.get_running_loop(), None)
                if lines is not None:
                    await lines.owner.aclose()

        loop = LoopThread("rsalign-connect")
        try:
            return loop.call(run())
        finally:
            loop.stop()

    def close(self) -> None:
        """Ends all connections; what is open fails. Idempotent."""
        self._closed = True
        here = None
        with contextlib.suppress(RuntimeError):
            here = asyncio.get_running_loop()
        while self._lines:
            loop, lines = self._lines.popitem()
            if loop.is_running():
                done = asyncio.run_coroutine_threadsafe(_end(lines.owner), loop)
                if loop is not here:
                    with contextlib.suppress(TimeoutError):  # a loop that is busy does it later
                        done.result(timeout=5)

    def _ranked(self, affinity: bytes) -> list["_Replica"]:
        """All replicas in the order of this affinity; those that failed lately come last."""
        now = time.monotonic()

        def rank(replica: _Replica) -> tuple[bool, bytes]:
            digest = hashlib.blake2b(affinity + replica.address.encode(), digest_size=8).digest()
            return replica.down_until > now, digest

        return sorted(self._replicas, key=rank)

    async def _attempt(
        self, replica: "_Replica", send: Callable[["AsyncOpenAI"], Awaitable[T]]
    ) -> T:
        from openai import APIError

        line = await self._line(replica.address)
        try:
            async with line.gate:
                answer = await send(line.client)
        except (APIError, ConnectionError) as failed:
            error = meaning(failed)
            if isinstance(error, Unavailable):
                replica.down_until = time.monotonic() + _COOL_DOWN_SECONDS
            raise error from failed
        replica.down_until = 0.0
        return answer

    async def _line(self, address: str) -> "_Line":
        if self._closed:
            raise EngineError(f"the connection to {address} was closed: connect again")
        loop = asyncio.get_running_loop()
        lines = self._lines.get(loop)
        if lines is None:
            for gone in [each for each in list(self._lines) if each.is_closed()]:
                self._lines.pop(gone, None)
            owner = self._open()
            lines = self._lines[loop] = _Lines(owner, await anext(owner))
        return lines.of[address]

    async def _open(self) -> AsyncGenerator[dict[str, "_Line"], None]:
        """Clients for the running loop; asyncio ends them when it shuts down its generators."""
        from openai import AsyncOpenAI, DefaultAsyncHttpxClient, Timeout

        # requests wait at the gate and not in the pool of connections, where they would time out
        timeout = Timeout(self._timeout_seconds, connect=_CONNECT_SECONDS, pool=None)
        lines = {
            address: _Line(
                AsyncOpenAI(
                    base_url=address,
                    api_key=self._api_key,
                    max_retries=0,  # ours are enough: theirs would multiply them
                    timeout=timeout,
                    # the one it would make itself starts a stray task when it is collected
                    http_client=DefaultAsyncHttpxClient(timeout=timeout),
                ),
                asyncio.Semaphore(self._max_open),
            )
            for address in self.addresses
        }
        try:
            yield lines
        finally:
            for line in lines.values():
                await line.client.close()


@dataclass(slots=True)
class _Replica:
    address: str
    down_until: float = 0.0


@dataclass(frozen=True, slots=True)
class _Line:
    """A client of one replica on one event loop; requests beyond `max_open` wait at the gate."""

    client: "AsyncOpenAI"
    gate: asyncio.Semaphore


@dataclass(frozen=True, slots=True)
class _Lines:
    """The lines of one event loop, and the generator that ends them."""

    owner: AsyncGenerator[dict[str, _Line], None]
    of: Mapping[str, _Line]


# tenacity would not shorten this: it repeats one call, while a round here tries several replicas
# and leaves out those that fell silent; only these two lines would go
async def _pause(turn: int) -> None:
    if turn:
        await asyncio.sleep(_FIRST_PAUSE_SECONDS * 2 ** (turn - 1))


async def _end(owner: AsyncGenerator[Any, None]) -> None:
    await owner.aclose()


def _unreachable(failures: Mapping[str, Unavailable]) -> EngineError:
    said = "; ".join(f"{address}: {failed}" for address, failed in failures.items())
    error = EngineError(
        f"no server answered ({said}): check that they run and that the addresses are right"
    )
    error.__cause__ = next(iter(failures.values())).__cause__
    return error
