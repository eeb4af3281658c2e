"""Runs Python programs of tests as forks of one process that has imported vLLM.

Importing vLLM takes about fifteen seconds of processor time, and tests start dozens of programs
that need it. `Popen` and `run` are those of `subprocess` for a command that begins with
`sys.executable`: instead of a new interpreter, a template process, which imported vLLM when the
first program was asked for, forks. The fork then does what a new interpreter would do with the
command: it has the given arguments, environment, working directory and standard streams, runs the
module, script or text as ``__main__``, and ends as an interpreter does, exit handlers included.

The differences to a new interpreter: modules are imported already, all forks of one template have
the same hash seed, and vLLM forks the processes of its engines where the variable
``VLLM_WORKER_MULTIPROC_METHOD`` says so. vLLM's CPU platform overrides it with "spawn", and each
engine beside a program would import vLLM anew, for ten seconds of processor time.
"""

import contextlib
import functools
import gc
import json
import multiprocessing
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

LONGEST_REQUEST = 1 << 20
"""Bytes; a request holds the command and the environment."""


class Popen(subprocess.Popen[Any]):
    """`subprocess.Popen` of a Python program, which the template process forks.

    Overrides the three methods in which `subprocess.Popen` starts a process and waits for it: the
    program is not a child of this process, so its exit status comes through a pipe.
    """

    def _execute_child(self, args, executable, preexec_fn, close_fds, pass_fds, cwd, env, *rest):
        _startup, _flags, shell, *pipes = rest[:9]
        in_, _, _, out, _, error = pipes
        assert args[0] == sys.executable, "only Python programs can be forked"
        assert not any((shell, preexec_fn, pass_fds)), "not supported"
        request = {
            "args": [os.fspath(argument) for argument in args[1:]],
            "cwd": os.fspath(cwd or os.getcwd()),
            "env": dict(os.environ if env is None else env),
            "new_session": bool(rest[-2]),
        }
        with open(os.devnull, "r+b", buffering=0) as null:
            status, theirs = os.pipe()
            streams = [null.fileno() if fd == -1 else fd for fd in (in_, out)]
            streams.append(2 if error == -1 else error)
            socket.send_fds(_template(), [json.dumps(request).encode()], [*streams, theirs])
        os.close(theirs)
        self._status = open(status, "rb", buffering=0)  # noqa: SIM115
        started = self._status.readline()
        assert started, "the template process has ended; its standard error says why"
        self.pid = int(started)
        self._child_created = True
        self._close_pipe_fds(*pipes)

    def _try_wait(self, wait_flags):
        seconds = 0 if wait_flags & os.WNOHANG else None
        if not select.select([self._status], [], [], seconds)[0]:
            return 0, 0
        with self._status:
            return self.pid, int(self._status.readline())

    def _internal_poll(self, _deadstate=None, **_):
        if self.returncode is None:
            pid, status = self._try_wait(os.WNOHANG)
            if pid == self.pid:
                self._handle_exitstatus(status)
        return self.returncode


def run(
    args: Sequence[Any],
    *,
    input: str | None = None,
    capture_output: bool = False,
    timeout: float | None = None,
    check: bool = False,
    **options: Any,
) -> subprocess.CompletedProcess[str]:
    """`subprocess.run` of a Python program, which the template process forks."""
    if capture_output:
        options |= {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    if input is not None:
        options["stdin"] = subprocess.PIPE
    with Popen(args, **options) as program:
        try:
            out, error = program.communicate(input, timeout=timeout)
        except BaseException:
            program.kill()
            raise
    done = subprocess.CompletedProcess(args, program.returncode, out, error)
    if check:
        done.check_returncode()
    return done


@functools.cache
def _template() -> socket.socket:
    """Starts the template process; it ends when this process closes the socket, or ends."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in (ours, theirs):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, LONGEST_REQUEST)
    with theirs:
        process = subprocess.Popen(
            [sys.executable, __file__, str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            env=os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        )
    process.returncode = 0  # nobody waits for it
    return ours


def _import_what_takes_long() -> None:
    from rsalign.engines.vllm.environment import import_vllm

    import_vllm()
    import vllm.entrypoints.launchers.api_server.entry
    import vllm.entrypoints.llm
    import vllm.v1.engine.async_llm
    import vllm.v1.engine.core
    import vllm.v1.worker.cpu_worker  # noqa: F401

    import rsalign.cli.generate
    import rsalign.policies.vllm
    import rsalign.rewards.vllm  # noqa: F401


def _serve_requests(control: socket.socket) -> None:
    """Forks a program for each request, until nobody can send any more.

    Returns in the fork, which then ends as the interpreter does.
    """
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the system forgets children that have ended
    while True:
        message, streams, _, _ = socket.recv_fds(control, LONGEST_REQUEST, 4)
        if not message:
            return
        if os.fork() == 0:
            control.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            if _becomes_program(streams):
                _run(**json.loads(message))
            return
        for stream in streams:
            os.close(stream)


def _becomes_program(streams: Sequence[int]) -> bool:
    """Forks once more: the child is the program, the parent waits and reports how it ended."""
    *standard, status = streams
    pid = os.fork()
    for number, stream in enumerate(standard):
        if pid == 0:
            os.dup2(stream, number)
        else:
            with contextlib.suppress(OSError):
                os.close(number)
        os.close(stream)
    if pid == 0:
        os.close(status)
        return True
    os.write(status, b"%d\n" % pid)
    os.write(status, b"%d\n" % os.waitpid(pid, 0)[1])
    os._exit(0)


def _run(args: Sequence[str], cwd: str, env: Mapping[str, str], new_session: bool) -> None:
    """Does what a new interpreter does with its command line."""
    if new_session:
        os.setsid()
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    if env.get("VLLM_WORKER_MULTIPROC_METHOD") == "fork":
        _fork_engines()
    own = env.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[:] = [*filter(None, own), *(path for path in sys.path if path not in own)]
    kind, *rest = args
    if kind == "-m":
        sys.argv = rest
        sys.path.insert(0, cwd)
        _kept.update(runpy.run_module(rest[0], run_name="__main__", alter_sys=True))
    elif kind == "-c":
        sys.argv = ["-c", *rest[1:]]
        sys.path.insert(0, "")
        module = type(sys)("__main__")
        sys.modules["__main__"] = module
        exec(compile(rest[0], "<string>", "exec"), module.__dict__)
    else:
        sys.argv = list(args)
        sys.path.insert(0, os.path.dirname(os.path.abspath(kind)))
        _kept.update(runpy.run_path(kind, run_name="__main__"))


def _fork_engines() -> None:
    from vllm.v1.engine import utils

    utils.get_mp_context = functools.partial(multiprocessing.get_context, "fork")


_kept: dict[str, Any] = {}
"""What a program leaves behind lives until exit handlers have run, as in an interpreter."""


def _main() -> None:
    sys.path.remove(os.path.dirname(os.path.abspath(__file__)))
    _import_what_takes_long()
    gc.freeze()
    with socket.socket(fileno=int(sys.argv[1])) as control:
        _serve_requests(control)


if __name__ == "__main__":
    _main()
