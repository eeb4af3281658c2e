"""A reward for a server under test that raises what nobody expects, hangs or blocks."""

import sys
import threading
import time

from rsalign.rewards.function import FunctionReward

HANGS = "the reward hangs now"


class NativePanic(BaseException):
    """As libraries in Rust raise it: no `Exception`."""


RAISED = {
    "EXIT": SystemExit(3),
    "INTERRUPT": KeyboardInterrupt(),
    "PANIC": NativePanic("a secret of the operator"),
    "STOP": StopIteration("a secret of the operator"),
}


def score(prompt, response):
    for mood, failure in RAISED.items():
        if mood in prompt:
            raise failure
    while "HANG" in prompt:
        sys.stderr.write(HANGS)
        sys.stderr.flush()
        time.sleep(3600)
    if "LEAVE A THREAD" in prompt:
        threading.Thread(target=time.sleep, args=(3600,), daemon=False).start()
    return float(len(response))


class Stubborn:
    """On the event loop itself, unless the prompt says that a thread is to be taken."""

    def __init__(self):
        self._in_a_thread = FunctionReward(score)

    async def score(self, prompt, response):
        if "THREAD" in prompt.text:
            return await self._in_a_thread.score(prompt, response)
        return score(prompt.text, response.text)


reward = Stubborn()
