"""`rsalign generate`: prompts from a file or standard input, answers as JSON lines."""

import argparse
import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

from rsalign.aligner import AlignedOutput, Aligner
from rsalign.aligner.inputs import with_max_tokens
from rsalign.budget import Budget
from rsalign.cli.records import Records, model_id, run_id
from rsalign.cli.settings import build_strategy, parse
from rsalign.embedded import POLICY, REWARD
from rsalign.errors import ConfigError
from rsalign.fingerprint import fingerprint
from rsalign.types import Sampling


@dataclass(frozen=True, slots=True)
class Item:
    """One line of input: its number (from 0) and what the aligner takes."""

    line: int
    value: dict[str, Any]


def add_parser(subparsers: Any) -> None:
    """Declares the command."""
    parser = subparsers.add_parser(
        "generate",
        help="answer prompts from a file or standard input",
        description="Answers prompts; one JSON object a line comes out, as soon as it is known.",
    )
    parser.add_argument(
        "input",
        nargs="?",
        default="-",
        help="text (one prompt a line) or JSON lines with 'prompt', 'messages' or "
        "'prompt_token_ids'; - is standard input",
    )
    parser.add_argument(
        "--output",
        "-o",
        default="-",
        help="JSON lines; - is standard output. A file is continued where an earlier run of the "
        "same command stopped; no record is written twice",
    )
    parser.add_argument(
        "--journal",
        help="where draws and rewards are on record, so that a killed run pays only for what is "
        "missing (default: OUTPUT.journal while it runs)",
    )
    parser.add_argument(
        "--trace",
        metavar="PAGE",
        help="write one HTML page that shows how each answer came about; also the answers that "
        "OUTPUT has already are drawn for it, from the journal where that has them",
    )
    parser.add_argument("--policy", default=POLICY, help="model id or path (default: embedded)")
    parser.add_argument("--reward", default=REWARD, help="model id or path (default: embedded)")
    parser.add_argument("--strategy", default="best_of", help="name, or module:Class of your own")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="strategy parameter; a dot reaches into a part, as in cuts=entropy cuts.power=2",
    )
    parser.add_argument("--chat", action="store_true", help="plain text prompts are user messages")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--max-tokens", type=int, help="greatest length of an answer")
    parser.add_argument("--temperature", type=float, default=1.0)
    parser.add_argument("--top-p", type=float, default=1.0)
    parser.add_argument("--top-k", type=int, default=0)
    parser.add_argument("--budget-policy-tokens", type=int, help="hard limit for each prompt")
    parser.add_argument("--budget-reward-calls", type=int, help="hard limit for each prompt")
    parser.add_argument("--budget-seconds", type=float, help="hard limit for each prompt")
    for what in ("engine", "reward"):
        parser.add_argument(
            f"--{what}-arg",
            action="append",
            default=[],
            metavar="NAME=VALUE",
            help=f"argument of the {what}'s vLLM engine, such as max_model_len=2048",
        )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Reads, answers, writes."""
    strategy = build_strategy(arguments.strategy, parse(arguments.set))
    if arguments.max_tokens is not None:
        strategy = with_max_tokens(strategy, arguments.max_tokens)
    sampling = Sampling(
        temperature=arguments.temperature, top_p=arguments.top_p, top_k=arguments.top_k
    )
    budget = Budget(
        policy_tokens=arguments.budget_policy_tokens,
        reward_calls=arguments.budget_reward_calls,
        seconds=arguments.budget_seconds,
    )
    items = read_items(arguments.input, chat=arguments.chat)
    if arguments.trace:
        _check_page(arguments.trace)
    shared = {
        "policy": model_id(arguments.policy, parse(arguments.engine_arg)),
        "reward": model_id(arguments.reward, parse(arguments.reward_arg)),
        "strategy": fingerprint(strategy),
        "sampling": asdict(sampling),
        "budget": asdict(budget),
        "seed": arguments.seed,
    }
    with Records(arguments.output, [run_id(shared, item.value) for item in items]) as records:
        # a page shows every prompt, also those that need no record any more
        wanted = range(len(items)) if arguments.trace else records.missing
        if not wanted:
            return 0
        with Aligner(
            arguments.policy,
            arguments.reward,
            strategy,
            seed=arguments.seed,
            budget=budget,
            engine_args=parse(arguments.engine_arg),
            reward_args=parse(arguments.reward_arg),
            journal=arguments.journal or records.journal_path,
        ) as aligner:
            outputs = _answer(aligner, items, wanted, sampling, arguments.strategy, records)
            if arguments.trace:
                _write_page(outputs, arguments.trace, aligner)
    failures = sum(not output.finished for output in outputs)
    if failures:
        print(f"rsalign: {failures} of {len(items)} prompts failed", file=sys.stderr)
        return 1
    records.finish(keep_journal=arguments.journal is not None)
    return 0


def _answer(
    aligner: Aligner,
    items: list[Item],
    wanted: Sequence[int],
    sampling: Sampling,
    strategy: str,
    records: Records,
) -> list[AlignedOutput]:
    """Answers the wanted items, and writes the records that are missing."""
    missing = set(records.missing)

    def write(answer: AlignedOutput) -> None:
        index = int(answer.request_id)
        if answer.error is not None:
            print(f"rsalign: line {items[index].line + 1}: {answer.error}", file=sys.stderr)
        elif index in missing:
            records.write(index, record(answer, strategy))

    # a prompt keeps its number, which is the address of its draws, whatever has been done before
    prompts = [items[index].value | {"id": index} for index in wanted]
    return aligner.generate(prompts, sampling, on_result=write, on_error="return")


def _write_page(outputs: list[AlignedOutput], path: str, aligner: Aligner) -> None:
    from rsalign.report import write_page  # loads the templates' library

    write_page(outputs, path, decode=aligner.policy.text)


def _check_page(path: str) -> None:
    """Refuses what cannot be written before anything is paid for."""
    try:
        Path(path).open("a").close()
    except OSError as error:
        raise ConfigError(f"cannot write the page {path}: {error}") from error


def read_items(path: str, *, chat: bool) -> list[Item]:
    """Prompts of a text or JSON-lines file; which of both is seen from its first line.

    Raises:
        ConfigError: if the file cannot be read, or a line cannot be understood.
    """
    try:
        text = sys.stdin.read() if path == "-" else Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read prompts from {path}: {error}") from error
    lines = [(i, line) for i, line in enumerate(text.splitlines()) if line.strip()]
    if not lines:
        raise ConfigError(f"there is no prompt in {path}: give one a line")
    is_json = lines[0][1].lstrip().startswith("{")
    return [Item(i, _item(i, line, is_json=is_json, chat=chat)) for i, line in lines]


def record(answer: AlignedOutput, strategy: str) -> dict[str, Any]:
    """What is written about one prompt."""
    best, how = answer.outputs[0], answer.alignment
    return {
        "index": int(answer.request_id),
        "prompt": answer.prompt,
        "answer": best.text,
        "reward": best.reward,
        "finish_reason": best.finish_reason,
        "strategy": strategy,
        "settings": plain_data(how.strategy),
        "seed": how.seed,
        "forced": how.forced,
        "expired": how.expired,
        "usage": asdict(how.usage),
        "diagnostics": plain_data(how.diagnostics),
    }


def _item(number: int, line: str, *, is_json: bool, chat: bool) -> dict[str, Any]:
    if not is_json:
        if chat:
            return {"messages": [{"role": "user", "content": line}]}
        return {"prompt": line}
    try:
        value = json.loads(line)
    except json.JSONDecodeError as error:
        raise ConfigError(f"line {number + 1} is not JSON: {error}") from error
    if not isinstance(value, dict) or not {"prompt", "messages", "prompt_token_ids"} & set(value):
        raise ConfigError(
            f"line {number + 1} has neither 'prompt' nor 'messages' nor 'prompt_token_ids'"
        )
    if chat and isinstance(value.get("prompt"), str):
        return {"messages": [{"role": "user", "content": value["prompt"]}]}
    return value


def plain_data(part: Any) -> Any:
    """A strategy, or any part of one, as JSON data that tells its kind from others."""
    if is_dataclass(part) and not isinstance(part, type):
        settings = {field.name: plain_data(getattr(part, field.name)) for field in fields(part)}
        return {"class": type(part).__name__} | settings
    if isinstance(part, Mapping):
        return {str(name): plain_data(value) for name, value in part.items()}
    if isinstance(part, list | tuple):
        return [plain_data(value) for value in part]
    if isinstance(part, float) and not math.isfinite(part):
        return str(part)  # JSON has no infinity
    if part is None or isinstance(part, bool | int | float | str):
        return part
    named = part if hasattr(part, "__qualname__") else type(part)
    return f"{named.__module__}:{named.__qualname__}"
