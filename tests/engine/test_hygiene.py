"""No process outlives its host, however the host ends, and no run ends in a hang."""

import os
import signal
import subprocess
import sys
import time

import forked
import psutil
import pytest

pytestmark = pytest.mark.engine

PROGRAM = """
import os, signal, sys, time, threading
from rsalign import Aligner, Plain
from rsalign.embedded import POLICY
from rsalign.policies.vllm import VllmPolicy
import psutil

if __name__ == "__main__":
    # a shell starts what runs in the background with interrupts ignored
    signal.signal(signal.SIGINT, signal.default_int_handler)
    policy = VllmPolicy.start(POLICY, backend=sys.argv[1], kv_cache_memory_bytes=64 << 20)
    aligner = Aligner(policy, None, Plain(max_tokens=300))
    print("children", *[c.pid for c in psutil.Process().children(recursive=True)], flush=True)
    how = sys.argv[2]
    if how == "exception":
        raise RuntimeError("planned")
    if how == "interrupt":
        threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
        while True:
            aligner.generate(["First 1 + 1"] * 32)
    if how == "kill":
        time.sleep(60)
    print("answers", len(aligner.generate(["First 1 + 1"] * 4)), flush=True)
"""


def start(tmp_path, backend, how, **environment):
    script = tmp_path / "host.py"
    script.write_text(PROGRAM)
    host = forked.Popen(
        [sys.executable, script, backend, how],
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    for line in host.stdout:
        if line.startswith("children"):
            return host, [int(pid) for pid in line.split()[1:]]
    raise AssertionError(host.stderr.read())


def assert_gone(pids):
    deadline = time.monotonic() + 20
    left = pids
    while left and time.monotonic() < deadline:
        time.sleep(0.1)
        left = [pid for pid in pids if _alive(pid)]
    assert not left, [psutil.Process(pid).cmdline() for pid in left]


def _alive(pid):
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.parametrize("backend", ["in_process", "async"])
@pytest.mark.parametrize(
    ("how", "code", "says"),
    [("normal", 0, ""), ("exception", 1, "planned"), ("interrupt", -signal.SIGINT, "Interrupt")],
)
def test_nothing_is_left(tmp_path, backend, how, code, says):
    # a core that is forked starts in an instant; the test of a kill has one that is spawned
    host, children = start(tmp_path, backend, how, VLLM_WORKER_MULTIPROC_METHOD="fork")
    assert bool(children) == (backend == "async")
    out, err = host.communicate(timeout=60)
    # by the signal, as a shell says it, or as any failure
    assert host.returncode in ((code, 130, 1) if how == "interrupt" else (code,)), err
    assert says in err
    if how == "normal":
        assert "answers 4" in out
    assert_gone(children)


def test_nothing_is_left_after_a_kill(tmp_path):
    host, children = start(tmp_path, "async", "kill", VLLM_WORKER_MULTIPROC_METHOD="spawn")
    assert len(children) >= 2  # the engine and its watchdog
    os.kill(host.pid, signal.SIGKILL)
    host.wait(timeout=10)
    assert_gone(children)
