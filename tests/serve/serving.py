"""A server process for tests, and what they need to talk to it."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import forked

HERE = Path(__file__).parent
KEY = "a-key-for-tests"
QUESTION = "Ann has 12 coins. Ann buys 7 coins. Ann loses 3 coins. How many coins does Ann have?"
MESSAGES = [{"role": "user", "content": QUESTION}]
CARDS = {
    "strategy": "cards",
    "segmenter": {"name": "fixed_size", "n": 4},
    "threshold": {"name": "line", "target": 3.0},
}


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def start(command, **options):
    """Starts a Python program: as a fork, or, where Triton is loaded, as an interpreter of its own.

    Triton's library has threads, which a fork has not, and for which it would wait when it ends.
    """
    forks = os.environ.get("VLLM_USE_V2_MODEL_RUNNER") != "1"
    return (forked.Popen if forks else subprocess.Popen)(command, **options)


class Served:
    """A server on loopback; it ends when `stop` is called, and its log is kept."""

    def __init__(self, log, command, **environment):
        self.log = log
        self.port = free_port()
        self.address = f"http://127.0.0.1:{self.port}"
        path = os.pathsep.join([str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])])
        with log.open("w") as out:
            self._process = start(
                [*command, "--host", "127.0.0.1", "--port", str(self.port)],
                stdout=out,
                stderr=subprocess.STDOUT,
                env=os.environ
                | {"PYTHONPATH": path, "VLLM_WORKER_MULTIPROC_METHOD": "fork"}
                | environment,
                start_new_session=True,
            )

    @property
    def pid(self):
        return self._process.pid

    def wait(self, seconds=280):
        """Until it answers."""
        deadline = time.monotonic() + seconds
        while self.get("/health")[0] != 200:
            assert self._process.poll() is None, self.log.read_text()[-5000:]
            assert time.monotonic() < deadline, self.log.read_text()[-5000:]
            time.sleep(0.2)
        return self

    def get(self, path, key=KEY):
        """Status and text."""
        return self.ask(path, None, key)[:2]

    def ask(self, path, body, key=KEY):
        """Status, text and headers; `body` is JSON data, or bytes as they are."""
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        request = urllib.request.Request(self.address + path, data, headers)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, answer.read().decode(), answer.headers
        except urllib.error.HTTPError as refused:
            with refused:
                return refused.code, refused.read().decode(), refused.headers
        except OSError:
            return 0, "", {}

    def metric(self, name, **labels):
        """The sum of a metric's samples that have these labels."""
        from prometheus_client.parser import text_string_to_metric_families

        families = text_string_to_metric_families(self.get("/metrics")[1])
        return sum(
            sample.value
            for family in families
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    def settled(self):
        """Waits until nothing is under way, in the engine or above it; what is left if it is."""
        deadline = time.monotonic() + 30
        while True:
            left = {
                name: self.metric(name)
                for name in (
                    "vllm:num_requests_running",
                    "vllm:num_requests_waiting",
                    "rsalign:requests_open",
                )
            }
            if not any(left.values()) or time.monotonic() > deadline:
                return left
            time.sleep(0.2)

    def interrupt(self):
        """Tells it to stop, and does not wait."""
        self._process.send_signal(signal.SIGTERM)

    def stop(self):
        """Ends it as an operator would; its exit status."""
        if self._process.poll() is None:
            self.interrupt()
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self._process.wait(timeout=30)
        os.killpg(self._process.pid, signal.SIGKILL)
        return self._process.wait()


def rsalign_serve(*flags):
    """The command line of our server on the embedded policy."""
    return [
        *(sys.executable, "-m", "rsalign.cli.main", "serve", "--served-model-name", "tiny"),
        *("--kv-cache-memory-bytes", str(64 << 20), "--api-key", KEY, "--drain-seconds", "2"),
        *flags,
    ]
