"""What is wrong with a command line, as far as this can be seen before vLLM is imported.

Importing vLLM takes many seconds; a port in use or a missing model is told before.
"""

import argparse
import errno
import importlib
import socket
from collections.abc import Sequence

from rsalign.core.errors import ConfigError
from rsalign.core.foreign import describe_error, errors_as
from rsalign.engines.vllm.model_folder import check_model
from rsalign.serve.known_flags import check_known

_PORT = 8000
"""Of vLLM's server, unless told otherwise."""


def check_flags(policy: str, reward: object, flags: Sequence[str]) -> None:
    """Refuses what `rsalign serve` could not do, without importing vLLM.

    Args:
        policy: model id or path.
        reward: as `rsalign.serve.options.Options.reward`; its module is imported if it names one.
        flags: of ``vllm serve``.

    Raises:
        ConfigError: if vLLM has no such flag, the port is in use, the model's folder cannot be one,
            the reward's module cannot be imported, or a flag asks for several servers.
    """
    parser = argparse.ArgumentParser(allow_abbrev=False, add_help=False)
    parser.add_argument("--host", default="")
    parser.add_argument("--port", default=str(_PORT))
    parser.add_argument("--uds")
    parser.add_argument("--api-server-count", "-asc", default="1")
    parser.add_argument("--headless", action="store_true")
    parser.add_argument("--grpc", action="store_true")
    parser.add_argument("--load-format", default="auto")
    given, _ = parser.parse_known_args(list(flags))
    if given.api_server_count != "1" or given.headless or given.grpc:
        raise ConfigError(
            "rsalign serve runs one API server: leave out --api-server-count, --headless and "
            "--grpc, or use the plug-in under `vllm serve` (VLLM_PLUGINS=rsalign)"
        )
    check_known(flags)
    check_model(policy, given.load_format)
    if isinstance(reward, str) and ":" in reward and "/" not in reward:
        _import(reward)
    if given.uds is None and given.port.isdecimal():
        _check_port(given.host, int(given.port))


def _import(name: str) -> None:
    module = name.partition(":")[0]

    def failed(raised: BaseException) -> ConfigError:
        return ConfigError(
            f"--reward {name}: {module} cannot be imported: {describe_error(raised)}"
        )

    with errors_as(failed):
        importlib.import_module(module)


def _check_port(host: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server does
        try:
            probe.bind((host, port))
        except OSError as failure:
            what = "is in use" if failure.errno == errno.EADDRINUSE else f"({failure.strerror})"
            raise ConfigError(
                f"--host {host or '0.0.0.0'} --port {port}: the address {what}: give another --port"
            ) from None
