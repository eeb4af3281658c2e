"""Impossible command lines are told in one line, before vLLM is imported."""

import socket
import subprocess
import sys

import pytest

from rsalign import ConfigError
from rsalign.embedded import POLICY
from rsalign.serve.flags import check_flags
from rsalign.serve.known_flags import check_known


@pytest.fixture
def taken():
    """A port that another process listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield str(listener.getsockname()[1])


@pytest.fixture
def free():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        _, port = found.getsockname()
    return str(port)


@pytest.mark.parametrize(
    ("policy", "reward", "flags", "says"),
    [
        ("/nowhere/model", None, [], "no model at /nowhere/model"),
        (POLICY, "no_module_of_mine:score", [], "no_module_of_mine cannot be imported"),
        (POLICY, None, ["--api-server-count", "2"], "one API server"),
        (POLICY, None, ["--api-server-count=2"], "one API server"),
        (POLICY, None, ["--headless"], "one API server"),
        (POLICY, None, ["--max-model-length", "64"], "--max-model-length.*mean --max-model-len"),
        (POLICY, None, ["--no-prefix-cashing"], "--no-prefix-cashing.* is no flag"),
        (POLICY, None, ["--wibble=2"], "--wibble=2.* is no flag.*--help=all"),
    ],
)
def test_what_cannot_work_is_refused(free, policy, reward, flags, says):
    with pytest.raises(ConfigError, match=says):
        check_flags(policy, reward, ["--port", free, *flags])


@pytest.mark.vllm
def test_no_flag_of_vllm_is_refused():
    from rsalign.engines.vllm.openai_app import FlexibleArgumentParser, make_arg_parser

    parser = make_arg_parser(FlexibleArgumentParser())
    flags = [one for action in parser._actions for one in action.option_strings]
    assert {"--max-model-len", "--no-enable-prefix-caching", "-tp"} <= set(flags)
    check_known(flags)
    check_known(
        ["--speculative-config.model=x", "--lora-modules+", "--seed=-1", "--max_num_seqs=4"]
    )


@pytest.mark.parametrize("form", ["--port {}", "--port={}"])
def test_a_port_in_use_is_told(taken, free, form):
    flags = ["--host", "127.0.0.1", *form.format(taken).split()]
    with pytest.raises(ConfigError, match=f"--port {taken}: the address is in use"):
        check_flags(POLICY, None, flags)
    check_flags(POLICY, "json:loads", ["--host", "127.0.0.1", *form.format(free).split()])


def test_the_command_tells_it_without_importing_vllm(taken):
    script = (
        "import sys; from rsalign.cli.main import main\n"
        f"status = main(['serve', '--host', '127.0.0.1', '--port', '{taken}'])\n"
        "print(status, 'vllm' in sys.modules, 'torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout.split() == ["2", "False", "False"]
    assert done.stderr.startswith(
        f"rsalign: --host 127.0.0.1 --port {taken}: the address is in use"
    )
    assert done.stderr.count("\n") == 1
