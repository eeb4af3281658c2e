"""`rsalign serve`: runs vLLM's OpenAI-compatible server, extended by strategies."""

import argparse
import os
from typing import Any

from rsalign.embedded import POLICY
from rsalign.words.parts import POLICIES, default_reward, model_from
from rsalign.words.read import read_table, split

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
    parser.add_argument("--policy", default=POLICY, help="model id or path (default: embedded)")
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
    limits = parser.add_argument_group("limits")
    limits.add_argument("--max-policy-tokens-per-request", type=int, metavar="N")
    limits.add_argument("--max-reward-calls-per-request", type=int, metavar="N")
    limits.add_argument("--max-seconds-per-request", type=float, metavar="S")
    limits.add_argument(
        "--max-concurrent-requests",
        type=int,
        default=512,
        metavar="N",
        help="answers by strategies under way at once; more get status 429 (default: 512)",
    )
    limits.add_argument(
        "--max-strategy-size",
        type=int,
        default=4096,
        metavar="N",
        help="greatest product of the whole numbers in a request's strategy (default: 4096)",
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
        choices=("fail", "best"),
        default="fail",
        help="a reward that fails or is too slow: status 503, or the best so far (default: fail)",
    )
    parser.set_defaults(run=run, passes_flags=True)


def run(arguments: argparse.Namespace) -> int:
    """Runs the server until it receives a signal to stop."""
    from rsalign.serve.observe import log_to_stderr

    log_to_stderr()
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "INFO")  # the level of `vllm serve`
    from rsalign.serve.options import Options

    policy = model_from("--policy", arguments.policy, POLICIES)
    reward = default_reward(policy) if arguments.reward is None else arguments.reward
    options = Options(
        reward=reward,
        reward_args=read_table(arguments.reward_arg, "--reward-arg"),
        strategy=arguments.strategy,
        settings=dict(split(arguments.set, "--set")),
        max_policy_tokens=arguments.max_policy_tokens_per_request,
        max_reward_calls=arguments.max_reward_calls_per_request,
        max_seconds=arguments.max_seconds_per_request,
        max_concurrent_requests=arguments.max_concurrent_requests,
        max_strategy_size=arguments.max_strategy_size,
        reward_timeout_seconds=arguments.reward_timeout,
        on_reward_error=arguments.on_reward_error,
    )
    from rsalign.serve.launch import serve

    serve(policy, options, arguments.flags)
    return 0
