"""Runs a server process: the reward, the engine, and vLLM's application over both."""

import asyncio
import faulthandler
import math
import signal
import time
from argparse import Namespace
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, NoReturn, TypeVar

from rsalign.core.errors import ConfigError
from rsalign.engines.vllm.openai_app import listen, parse_flags, run_engine, serve_app
from rsalign.hooks.loading import add_hooks
from rsalign.serve.guarded_reward import GuardedReward
from rsalign.serve.options import Options
from rsalign.serve.plugin import AlignmentPlugin
from rsalign.words.named_parts import StartedParts

T = TypeVar("T")

_SHUTDOWN_SECONDS = 20.0
"""For an orderly end, besides the time in which vLLM finishes open requests."""

_ends_at = math.inf


def serve(policy: str, options: Options, flags: Sequence[str]) -> None:
    """Serves until SIGINT or SIGTERM; then this process ends.

    A reward that hangs in a thread, or that has blocked the event loop, cannot keep the process
    alive. After the signal open requests have ``--drain-seconds``, then vLLM has
    ``--shutdown-timeout`` seconds, and there are 20 more for everything else. Then the process
    writes the stack of every thread to standard error and ends with status 1.

    Args:
        policy: model id or path.
        options: the settings that are no flags of vLLM's.
        flags: of ``vllm serve``.

    Raises:
        ConfigError: if flags or options cannot work together.
    """
    arguments = parse_flags(policy, flags)
    if arguments.model_tag is not None:
        raise ConfigError(f"the model is given as {arguments.model_tag!r}: give it as --policy")
    address, listener = listen(arguments)
    # what needs the policy is started by the plug-in, when the policy's engine is there
    reward = _unless_too_early(options.start_reward)
    try:
        parts = _unless_too_early(options.start_parts)
    except BaseException:
        _close(reward, None)
        raise
    plugin = AlignmentPlugin(options, reward, parts)
    seconds = options.drain_seconds + arguments.shutdown_timeout + _SHUTDOWN_SECONDS
    try:
        with asyncio.Runner(loop_factory=_loop(plugin.drain, seconds)) as runner:
            runner.run(_serve(arguments, address, listener, plugin))
    finally:
        listener.close()
        _close(reward, parts)


async def _serve(
    arguments: Namespace, address: str, listener: Any, plugin: AlignmentPlugin
) -> None:
    signal.signal(signal.SIGTERM, _interrupt)  # until the server has handlers of its own
    async with run_engine(arguments, add_hooks) as client:
        try:
            shut_down = await serve_app(client, address, listener, arguments, plugin)
        finally:
            _end_within(_SHUTDOWN_SECONDS)  # also where nobody told it to: its engine has died
            await plugin.abort()
    await shut_down


def _loop(
    drain: Callable[[], Coroutine[Any, Any, None]], seconds: float
) -> Callable[[], asyncio.AbstractEventLoop]:
    """A factory of event loops that drain the server before vLLM hears of a signal.

    They also bound the time between the signal and the end of the process. vLLM's signal handlers
    run on the loop; a blocked loop never runs them. Handlers that are set by `signal.signal` run
    even then.

    Args:
        drain: lets open requests end. A second signal does not wait for it.
        seconds: the bound.
    """
    import uvloop

    class Loop(uvloop.Loop):
        def add_signal_handler(  # type: ignore[override]
            self, sig: int, callback: Callable[..., object], *args: Any
        ) -> None:
            draining: list[asyncio.Task[None]] = []

            def drain_first() -> None:
                if draining:
                    callback(*args)
                    return
                draining.append(self.create_task(drain()))
                draining[0].add_done_callback(lambda _: callback(*args))

            super().add_signal_handler(sig, drain_first)
            inner = signal.getsignal(sig)

            def handle(number: int, frame: Any) -> None:
                _end_within(seconds)
                if callable(inner):
                    inner(number, frame)

            signal.signal(sig, handle)

    return Loop


def _end_within(seconds: float) -> None:
    """Ends this process after so many seconds, whatever its threads do; the earliest call counts.

    The timer is a thread that never takes the interpreter lock, so that nothing can delay it.
    """
    global _ends_at
    now = time.monotonic()
    if now + seconds < _ends_at:
        _ends_at = now + seconds
        faulthandler.dump_traceback_later(seconds, exit=True)


class _NotYetError(Exception):
    """A reward or a part needs the policy, whose engine is not started yet."""


def _not_yet() -> NoReturn:
    raise _NotYetError


def _unless_too_early(start: Callable[[Callable[[], Any]], T]) -> T | None:
    """What `start` makes; None if it needs the policy."""
    try:
        return start(_not_yet)
    except _NotYetError:
        return None


def _interrupt(*_: Any) -> NoReturn:
    raise KeyboardInterrupt


def _close(reward: GuardedReward | None, parts: StartedParts | None) -> None:
    if parts is not None:
        parts.close()
    close = getattr(reward.reward, "close", None) if reward is not None else None
    if close is not None:
        close()
