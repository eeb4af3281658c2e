"""`rsalign generate`: responds to prompts from a file or standard input, as JSON lines."""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from rsalign.aligner import AlignedOutput, Aligner
from rsalign.cli.part_flags import add_parts
from rsalign.cli.records import Records, model_id, run_id
from rsalign.cli.sampling_flags import add_sampling, read_sampling
from rsalign.core.capabilities import answers_together, describe_part
from rsalign.core.errors import ConfigError
from rsalign.core.fingerprint import fingerprint
from rsalign.core.key import Label
from rsalign.core.parts import check_part_names
from rsalign.core.text.chat_options import ChatOptions
from rsalign.core.text.rows import Row, read_rows
from rsalign.core.types import Sampling
from rsalign.embedded import POLICY
from rsalign.words.fields import TABLES
from rsalign.words.messages import show
from rsalign.words.named_parts import read_parts
from rsalign.words.parts import (
    POLICIES,
    REWARDS,
    default_reward,
    is_none,
    reasoning_from,
    strategy_of,
)
from rsalign.words.read import Specification, read_arguments, read_table, read_words

_PROMPTS = ("prompt", "messages", "prompt_token_ids")
_CHAT = ("chat_template_kwargs", "tools", "documents", "reasoning_effort")
"""Columns that the chat template of this prompt is given."""
_SETTINGS = TABLES["SamplingParams"].keys() | TABLES["LLM.chat"].keys() - {"messages", *_CHAT}
"""Columns with names of sampling parameters or settings, which are refused."""
_OF_A_PROMPT = TABLES["prompt"].keys() | {"messages", "id", *_CHAT}
"""Columns that are passed to the aligner, which refuses those that it cannot honour."""


@dataclass(frozen=True, slots=True)
class Item:
    """One prompt of the input.

    Attributes:
        place: where it was read, for error messages, such as ``"line 3"``.
        value: the prompt as the aligner takes it, with an ``"id"`` if the file has one. The random
            seeds depend on the id or, without one, on the prompt's position in the file.

    Example:
        >>> Item("line 1", {"prompt": "Hello"}).place
        'line 1'
    """

    place: str
    value: dict[str, Any]


def add_parser(subparsers: Any) -> None:
    """Adds the command to the argument parser."""
    parser = subparsers.add_parser(
        "generate",
        help="answer prompts from a file or standard input",
        description="Answers prompts; one JSON object a line comes out, as soon as it is known.",
    )
    parser.add_argument(
        "input",
        nargs="?",
        default="-",
        help="text (one prompt a line), or JSON lines, a JSON array, CSV or Parquet with 'prompt', "
        "'messages' or 'prompt_token_ids', perhaps gzipped; - is standard input",
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
    parser.add_argument(
        "--policy",
        default=POLICY,
        help="model id or path, address of a server, or module:name of your own "
        "(default: embedded)",
    )
    parser.add_argument(
        "--reward",
        help="model id or path, address of a vLLM pooling server, module:name of your own, or a "
        "kind of reward by name, such as density_ratio, with --reward-arg for its settings "
        "(default: the embedded one for the embedded policy, otherwise none; '' is none)",
    )
    parser.add_argument(
        "--strategy", default="best_of", help="name, or module:name of a class of your own"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="strategy parameter; a dot reaches into a part, as in cuts=entropy cuts.power=2",
    )
    parser.add_argument("--chat", action="store_true", help="plain text prompts are user messages")
    parser.add_argument(
        "--chat-option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="how conversations are rendered, such as reasoning_effort=low, merge_system=true, "
        "date=2026-11-30, or chat_template_kwargs.enable_thinking=false",
    )
    parser.add_argument(
        "--reasoning-parser",
        metavar="NAME",
        help="vLLM's name of the parser that finds a reasoning model's thought, such as qwen3: "
        "rewards and votes then read the answer alone",
    )
    parser.add_argument("--seed", type=int, help="root of all randomness (default: 0)")
    parser.add_argument("--max-tokens", type=int, help="greatest length of an answer")
    add_sampling(parser)
    parser.add_argument("--budget-policy-tokens", type=int, help="hard limit for each prompt")
    parser.add_argument("--budget-reward-calls", type=int, help="hard limit for each prompt")
    parser.add_argument("--budget-seconds", type=float, help="hard limit for each prompt")
    add_parts(parser)
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
    """Reads the prompts, responds to them, and writes the records."""
    asked = _asked(arguments)
    strategy, own = strategy_of(asked), arguments.reward
    reward = default_reward(arguments.policy) if own is None else own
    sampling = read_sampling(arguments)
    budget, seed = asked.within(None), asked.seed or 0
    chat_options = ChatOptions.read(read_table(arguments.chat_option, "--chat-option"))
    reasoning = reasoning_from(arguments.reasoning_parser)
    items = read_items(arguments.input, chat=arguments.chat)
    if arguments.trace:
        _check_page(arguments.trace)
    engine_args = read_table(arguments.engine_arg, "--engine-arg")
    reward_args = read_table(arguments.reward_arg, "--reward-arg")
    parts = read_parts(arguments.part)
    check_part_names(strategy, parts, refuses_unused=True)
    shared = {
        "policy": model_id(POLICIES.get(arguments.policy, arguments.policy), engine_args),
        "reward": None if is_none(reward) else model_id(REWARDS.get(reward, reward), reward_args),
        "strategy": fingerprint(strategy),
        "sampling": sampling if isinstance(sampling, str) else asdict(sampling),
        "budget": asdict(budget),
        "seed": seed,
    }
    told: dict[str, Any] = {
        "chat_options": None if chat_options == ChatOptions() else asdict(chat_options),
        "parts": parts,
        "reasoning": None if reasoning is None else asdict(reasoning),
        "prompts": [item.value for item in items] if answers_together(strategy) else None,
    }
    shared |= {name: value for name, value in told.items() if value}
    with Records(arguments.output, [run_id(shared, item.value) for item in items]) as records:
        # a page shows every prompt, including those whose record was written earlier
        needs_all = arguments.trace or (answers_together(strategy) and records.missing)
        wanted = range(len(items)) if needs_all else records.missing
        if not wanted:
            return 0
        with Aligner(
            arguments.policy,
            reward,
            strategy,
            seed=seed,
            budget=budget,
            engine_args=engine_args,
            reward_args=reward_args,
            on_reward_error=asked.on_reward_error or "fail",
            journal=arguments.journal or records.journal_path,
            chat_options=chat_options,
            reasoning_parser=reasoning,
            parts=parts,
        ) as aligner:
            outputs = _answer(aligner, items, wanted, sampling, arguments.strategy, records)
            if arguments.trace:
                _write_page(outputs, arguments.trace, aligner)
    _tell_warnings(outputs)
    if failures := sum(not output.finished for output in outputs):
        print(f"rsalign: {failures} of {len(items)} prompts failed", file=sys.stderr)
        return 1
    records.finish(keep_journal=arguments.journal is not None)
    return 0


def _answer(
    aligner: Aligner,
    items: list[Item],
    wanted: Sequence[int],
    sampling: Sampling | Literal["model"],
    strategy: str,
    records: Records,
) -> list[AlignedOutput]:
    """Responds to the wanted items and writes the missing records."""
    missing = set(records.missing)
    indices = {str(_name(item, index)): index for index, item in enumerate(items)}

    def write(answer: AlignedOutput) -> None:
        index = indices[answer.request_id]
        if answer.error is not None:
            print(f"rsalign: {items[index].place}: {answer.error}", file=sys.stderr)
        elif index in missing:
            records.write(index, build_record(answer, index, items[index].value, strategy))

    prompts = [items[index].value | {"id": _name(items[index], index)} for index in wanted]
    # a custom policy may have fixed sampling parameters; it works as long as no flag changes them
    is_fixed = sampling == Sampling() and not hasattr(aligner.policy, "with_sampling")
    return aligner.generate(
        prompts, None if is_fixed else sampling, on_result=write, on_error="return"
    )


def _tell_warnings(outputs: Sequence[AlignedOutput]) -> None:
    """Prints each distinct warning once to standard error, with its number of prompts."""
    warned = Counter(text for output in outputs for text in output.alignment.warnings)
    for text, number in warned.items():
        print(f"rsalign: warning ({number} of {len(outputs)} prompts): {text}", file=sys.stderr)


def _write_page(outputs: list[AlignedOutput], path: str, aligner: Aligner) -> None:
    from rsalign.report import write_page  # imports jinja2

    write_page(outputs, path, decode=aligner.policy.text)


def _check_page(path: str) -> None:
    """Refuses a page that cannot be written, before anything is sampled."""
    try:
        Path(path).open("a").close()
    except OSError as error:
        raise ConfigError(f"cannot write the page {path}: {error}") from error


def read_items(path: str, *, chat: bool) -> list[Item]:
    """Reads prompts from a file or from standard input (``-``).

    See `rsalign.core.text.rows.read_rows` for the supported file formats.

    Raises:
        ConfigError: if the file cannot be read, or a prompt is invalid.
    """
    items = [Item(row.place, _item(row, chat=chat)) for row in read_rows(path)]
    if not items:
        raise ConfigError(f"there is no prompt in {path}: give one a line")
    places: dict[str, str] = {}
    for index, item in enumerate(items):
        name = str(_name(item, index))
        if name in places:
            raise ConfigError(
                f"{item.place} has the id {show(name)}, as {places[name]} has: give each prompt an "
                "id of its own (a prompt without one has its position, from 0)"
            )
        places[name] = item.place
    return items


def _name(item: Item, index: int) -> Label:
    """The label that the prompt's random seeds depend on."""
    name: Label = item.value.get("id", index)
    return name


def build_record(
    answer: AlignedOutput, index: int, given: Mapping[str, Any], strategy: str
) -> dict[str, Any]:
    """Builds the output record of one prompt.

    Args:
        answer: the aligner's output.
        index: position of the prompt in the input.
        given: the prompt as it was passed to the aligner.
        strategy: the strategy as given on the command line.
    """
    best, how = answer.outputs[0], answer.alignment
    return {
        "index": index,
        **({"id": given["id"]} if "id" in given else {}),
        "prompt": answer.prompt,
        "answer": best.text,
        **({} if best.reasoning is None else {"reasoning": best.reasoning}),
        "reward": best.reward,
        **({"components": dict(best.components)} if best.components else {}),
        "finish_reason": best.finish_reason,
        "strategy": strategy,
        "settings": describe_part(how.strategy),
        "seed": how.seed,
        "forced": how.forced,
        "expired": how.expired,
        "warnings": list(how.warnings),
        "usage": how.usage.spent(),
        "diagnostics": describe_part(how.diagnostics),
    }


def _asked(arguments: argparse.Namespace) -> Specification:
    """Combines ``--set`` with the flags that set the same options."""
    flags = {
        "max_tokens": arguments.max_tokens,
        "seed": arguments.seed,
        "budget.policy_tokens": arguments.budget_policy_tokens,
        "budget.reward_calls": arguments.budget_reward_calls,
        "budget.seconds": arguments.budget_seconds,
    }
    words = read_words(None, {word: value for word, value in flags.items() if value is not None})
    return read_arguments(arguments.strategy, arguments.set).joined(words)


def _item(row: Row, *, chat: bool) -> dict[str, Any]:
    """Converts one row of the input to a prompt for the aligner."""
    if isinstance(row.value, str):
        return _text(row.value, chat=chat)
    if isinstance(row.value, list) and row.value and isinstance(row.value[0], Mapping):
        return {"messages": row.value}
    if not isinstance(row.value, Mapping):
        raise ConfigError(f"{row.place} is {show(row.value)}: give text, or an object for a prompt")
    # in a table every row has all columns: an empty cell is a value that is not given
    value = {name: each for name, each in row.value.items() if each is not None}
    if value.get("id") == "":
        del value["id"]
    elif not isinstance(value.get("id", 0), Label) or isinstance(value.get("id"), bool):
        raise ConfigError(f"{row.place}: id={show(value['id'])}: give text or a whole number")
    given = [name for name in _PROMPTS if value.get(name) not in (None, "")]
    for name in _PROMPTS:
        if name in value and name not in given and given:
            del value[name]
    if not any(name in value for name in _PROMPTS):
        raise ConfigError(
            f"{row.place} has neither 'prompt' nor 'messages' nor 'prompt_token_ids', but "
            f"{show(list(row.value))}"
        )
    for name in ("messages", "prompt_token_ids", *_CHAT[:-1]):
        if name in value and value[name] == "":
            del value[name]
        elif isinstance(value.get(name), str):  # a cell of a CSV file
            value[name] = _parse(value[name], f"{row.place}: {name}")
    if {"prompt", "messages"} <= set(value):
        raise ConfigError(
            f"{row.place} has both 'prompt' and 'messages', and only one of them can be answered: "
            "leave out the other"
        )
    for name in value:
        if name in _SETTINGS:
            raise ConfigError(
                f"{row.place} has {name!r}, which would say how it is answered, but that is said "
                "for all prompts of a file together, by flags: leave it out, or rename the column "
                "if it means something else"
            )
    # other columns (a reference answer, a source, ...) are ignored
    value = {name: each for name, each in value.items() if name in _OF_A_PROMPT}
    if chat and "prompt_token_ids" not in value and isinstance(value.get("prompt"), str):
        text = value.pop("prompt")
        value |= _text(text, chat=True)
    for name in _CHAT:
        if name in value and "messages" not in value:
            raise ConfigError(
                f"{row.place} has {name!r}, which is for the chat template of 'messages', and "
                "there are none: give them, rename the column if it means something else, or say "
                "--chat"
            )
    return value


def _parse(cell: str, what: str) -> Any:
    try:
        return json.loads(cell)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{what}={show(cell)} is not JSON: {error}") from error


def _text(text: str, *, chat: bool) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}]} if chat else {"prompt": text}
