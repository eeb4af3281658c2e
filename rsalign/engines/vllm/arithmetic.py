"""How much of a benchmark's time is not arithmetic of its models."""

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from rsalign.engines.vllm.environment import import_vllm


@dataclass(slots=True)
class ArithmeticTime:
    """Seconds since the last model was loaded, and those of them that models computed.

    Attributes:
        since: when the last model was loaded, on the clock of `time.perf_counter`; 0 if none was.
        seconds: in the forward passes of models of this process since then.

    Example:
        >>> ArithmeticTime(since=0.0, seconds=0.0).describe(now=2.0)
        'how much of the time was arithmetic is not known: the models ran in other processes'
        >>> ArithmeticTime(since=1.0, seconds=3.0).describe(now=5.0)
        '25 % of 4.0 s were not arithmetic of the models'
    """

    since: float = 0.0
    seconds: float = 0.0

    def describe(self, now: float) -> str:
        """Returns the share that was not arithmetic, for people.

        Args:
            now: on the clock of `time.perf_counter`.
        """
        if not self.seconds:
            return (
                "how much of the time was arithmetic is not known: the models ran in other "
                "processes"
            )
        total = now - self.since
        share = 100 * (1 - self.seconds / total)
        return f"{share:.0f} % of {total:.1f} s were not arithmetic of the models"


@contextlib.contextmanager
def timed_arithmetic() -> Iterator[ArithmeticTime]:
    """Times the forward passes and logits of Llama models (grown ones are) in this process.

    On GPUs calls return before the device has computed, so that the times mean nothing there.
    """
    import_vllm()
    from vllm.model_executor.models import llama

    found = ArithmeticTime()

    def timed(method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            started = time.perf_counter()
            result = method(*args, **kwargs)
            found.seconds += time.perf_counter() - started
            return result

        return call

    def begin_again(method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            result = method(*args, **kwargs)
            found.since, found.seconds = time.perf_counter(), 0.0
            return result

        return call

    model, whole = llama.LlamaModel, llama.LlamaForCausalLM
    with contextlib.ExitStack() as stack:
        for owner, name, wrap in (
            (model, "forward", timed),
            (whole, "compute_logits", timed),
            (model, "load_weights", begin_again),
        ):
            method = getattr(owner, name)
            setattr(owner, name, wrap(method))
            stack.callback(setattr, owner, name, method)
        yield found
