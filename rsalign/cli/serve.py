"""`rsalign serve`: runs vLLM's OpenAI-compatible server, extended by strategies."""

import argparse
import os
from typing import TYPE_CHECKING, Any

from rsalign.cli.part_flags import add_parts
from rsalign.core.errors import ConfigError
from rsalign.embedded import POLICY
from rsalign.engines.remote import is_address
from rsalign.words.named_parts import read_parts
from rsalign.words.parts import POLICIES, default_reward, model_from
from rsalign.words.read import read_table, split

if TYPE_CHECKING:
    from rsalign.serve.options import Options

_EPILOG = (
    "Any other flag goes to `vllm serve`: --port, --served-model-name, --api-key, "
    "--tensor-parallel-size, --max-model-len, --otlp-traces-endpoint, ..."
)


def add_parser(subparsers: Any) -> None:
    """Adds the command to the argument parser."""
    parser = subparsers.add_parser(
        "serve",
        help="vLLM's OpenAI-compatible server, with strategies",
        description="Serves vLLM's own OpenAI application; requests may ask for a strategy.",
        epilog=_EPILOG,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--policy",
        nargs="+",
        default=[POLICY],
        help="model id or path (default: embedded), or addresses of running servers of one model: "
        "then this process has no engine, and takes --host, --port, --served-model-name and "
        "--api-key",
    )
    parser.add_argument(
        "--reward",
        help="model id or path, address of a vLLM pooling server, module:name of your own, or a "
        "kind of reward by name, such as density_ratio, with --reward-arg for its settings "
        "(default: the embedded one for the embedded policy, otherwise none; '' is none)",
    )
    parser.add_argument(
        "--strategy", help="for requests that name none (default: plain vLLM sampling)"
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="strategy parameter"
    )
    parser.add_argument(
        "--reward-arg",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="argument of the reward's vLLM engine, such as gpu_memory_utilization=0.3, or setting "
        "of a named kind of reward, such as numerator=org/model",
    )
    add_parts(parser)
    limits = parser.add_argument_group("limits")
    limits.add_argument("--max-policy-tokens-per-request", type=int, metavar="N")
    limits.add_argument("--max-reward-calls-per-request", type=int, metavar="N")
    limits.add_argument("--max-seconds-per-request", type=float, metavar="S")
    limits.add_argument(
        "--max-concurrent-requests",
        type=int,
        default=512,
        metavar="N",
        help="draws that the requests under way can have open together; more wait, or get status "
        "429 (default: 512)",
    )
    limits.add_argument(
        "--max-waiting-requests",
        type=int,
        default=64,
        metavar="N",
        help="requests that wait for room; more get status 429 (default: 64)",
    )
    limits.add_argument(
        "--max-wait-seconds",
        type=float,
        default=30.0,
        metavar="S",
        help="longest time that a request waits for room (default: 30)",
    )
    limits.add_argument(
        "--max-open-draws",
        type=int,
        metavar="N",
        help="draws of strategies open in the engine at once, shared fairly among requests "
        "(default: half of --max-num-seqs)",
    )
    limits.add_argument(
        "--max-open-draws-beside",
        type=int,
        metavar="N",
        help="the same while requests that draw once are answered (default: a 32nd)",
    )
    limits.add_argument(
        "--max-strategy-size",
        type=int,
        default=1024,
        metavar="N",
        help="greatest product of the whole numbers in a request's strategy (default: 1024)",
    )
    limits.add_argument(
        "--reward-timeout",
        type=float,
        default=60.0,
        metavar="S",
        help="time limit of one call, seconds (default: 60)",
    )
    limits.add_argument(
        "--on-reward-error",
        choices=("fail", "best", "plain"),
        default="fail",
        help="a reward that fails or is too slow: status 503, the best so far, or a plain draw "
        "with a warning (default: fail)",
    )
    parser.add_argument(
        "--wait-for-reward",
        type=float,
        default=0.0,
        metavar="SECONDS",
        help="how long to wait at the start for a reward server that does not answer (default: 0)",
    )
    parser.add_argument(
        "--drain-seconds",
        type=float,
        default=10.0,
        metavar="S",
        help="what open requests have to end in after SIGTERM; then they end with the best so far "
        "(default: 10)",
    )
    parser.set_defaults(run=run, passes_flags=True)


def run(arguments: argparse.Namespace) -> int:
    """Runs the server until it receives a signal to stop."""
    from rsalign.serve.flags import check_flags
    from rsalign.serve.observe import log_to_stderr

    log_to_stderr()
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "INFO")  # the level of `vllm serve`
    addresses = [one for one in arguments.policy if is_address(one)]
    if addresses:
        return _run_gateway(arguments, addresses)
    if len(arguments.policy) > 1:
        raise ConfigError(
            f"--policy {' '.join(arguments.policy)}: give one model, or addresses of servers"
        )
    policy = model_from("--policy", arguments.policy[0], POLICIES)
    reward = default_reward(policy) if arguments.reward is None else arguments.reward
    options = _options(arguments, reward)
    check_flags(policy, reward, arguments.flags)
    from rsalign.serve.launch import serve

    serve(policy, options, arguments.flags)
    return 0


def _run_gateway(arguments: argparse.Namespace, addresses: list[str]) -> int:
    """Runs a server of strategies in front of other servers."""
    from rsalign.serve.gateway.app import serve

    if len(addresses) < len(arguments.policy):
        raise ConfigError(
            f"--policy {' '.join(arguments.policy)}: give addresses of servers of one model only"
        )
    parser = argparse.ArgumentParser(prog="rsalign serve", allow_abbrev=False)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--served-model-name")
    parser.add_argument("--api-key")
    given = parser.parse_args(arguments.flags)
    serve(
        addresses,
        _options(arguments, arguments.reward),
        host=given.host,
        port=given.port,
        model=given.served_model_name,
        api_key=given.api_key,
    )
    return 0


def _options(arguments: argparse.Namespace, reward: str | None) -> "Options":
    from rsalign.serve.options import Options

    return Options(
        reward=reward,
        reward_args=read_table(arguments.reward_arg, "--reward-arg"),
        parts=read_parts(arguments.part),
        strategy=arguments.strategy,
        settings=dict(split(arguments.set, "--set")),
        max_policy_tokens=arguments.max_policy_tokens_per_request,
        max_reward_calls=arguments.max_reward_calls_per_request,
        max_seconds=arguments.max_seconds_per_request,
        max_concurrent_requests=arguments.max_concurrent_requests,
        max_waiting_requests=arguments.max_waiting_requests,
        max_wait_seconds=arguments.max_wait_seconds,
        max_open_draws=arguments.max_open_draws,
        max_open_draws_beside=arguments.max_open_draws_beside,
        max_strategy_size=arguments.max_strategy_size,
        reward_timeout_seconds=arguments.reward_timeout,
        on_reward_error=arguments.on_reward_error,
        wait_for_reward_seconds=arguments.wait_for_reward,
        drain_seconds=arguments.drain_seconds,
    )
