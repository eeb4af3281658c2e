r"""Counts where our grades of public answers differ from math-verify's, and shows each.

    python -m eval.graders.agreement [--gsm8k FILE ...] [--math FILE ...] [--pairs N]

Without files it takes the bundled solutions of models to GSM8K, and the solutions of MATH-500.
``--gsm8k`` reads the files that GSM8K's authors publish: ``test.jsonl``, ``train.jsonl`` and
``example_model_solutions.jsonl``. ``--math`` reads MATH-500's ``test.jsonl``.

Of MATH-500 three kinds of answers are graded: the solution of each problem; the right answer framed
otherwise ("The answer is $...$."); and the right answers to other problems.
"""

import argparse
import json
import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eval.graders.math_answers import grade_math, grade_number
from eval.tasks.protocol import Grade
from eval.tasks.rows import DATA


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A text with the right answer to the problem that it solves.

    Attributes:
        source: where it is from.
        text: the answer.
        gold: the right one.
        number: whether that is a number, as in GSM8K.
        verdict: of the data set's authors on the text, if they gave one.
    """

    source: str
    text: str
    gold: str
    number: bool = False
    verdict: bool | None = None

    def grade(self) -> Grade:
        """Our grade."""
        return (grade_number if self.number else grade_math)(self.text, self.gold)

    def grade_by_math_verify(self) -> tuple[bool, str]:
        """Whether math-verify finds the text right, and what it reads in it.

        It has its own time limits, and so needs the process's main thread.
        """
        from math_verify import LatexExtractionConfig, parse, verify

        read = [LatexExtractionConfig(boxed_match_priority=0)]
        gold = parse(rf"\boxed{{{self.gold}}}", extraction_config=read)
        found = parse(self.text)
        return bool(verify(gold, found)), str(found[0] if found else None)


def gsm8k(rows: Iterable[dict[str, Any]]) -> Iterator[Answer]:
    """Solutions in any of the forms in which GSM8K's authors publish them."""
    for row in rows:
        if "answer" in row:
            gold = _final(row["answer"])
            yield Answer(source="gsm8k solutions", text=row["answer"], gold=gold, number=True)
            continue
        solutions = {model: one for model, one in row.items() if isinstance(one, dict)}
        gold = row["ground_truth"].rpartition("\nA:")[2].strip()
        for model, solution in solutions.items():
            yield Answer(
                source=f"gsm8k {model}",
                text=solution["solution"],
                gold=gold,
                number=True,
                verdict=solution["is_correct"],
            )


def bundled_gsm8k() -> Iterator[Answer]:
    """What models answered to the bundled problems."""
    problems = {row["question"]: row for row in _rows(DATA / "gsm8k" / "test.jsonl")}
    yield from gsm8k(problems.values())
    for row in _rows(DATA / "gsm8k" / "model_solutions.jsonl"):
        yield Answer(
            source=f"gsm8k {row['model']}",
            text=row["solution"],
            gold=_final(problems[row["question"]]["answer"]),
            number=True,
            verdict=row["is_correct"],
        )


def math(rows: Sequence[dict[str, Any]], pairs: int) -> Iterator[Answer]:
    """Solutions, other notations of right answers, and right answers to other problems."""
    for row in rows:
        gold = row["answer"]
        yield Answer(source="math solutions", text=row["solution"], gold=gold)
        for form in (r"The answer is $%s$.", r"\[\boxed{\displaystyle %s}\]", r"So it is $%s$."):
            yield Answer(source="math notations", text=form % gold, gold=gold)
    golds = sorted({row["answer"] for row in rows})[:pairs]
    for gold in golds:
        for other in golds:
            if other != gold:
                yield Answer(source="math pairs", text=rf"\boxed{{{other}}}", gold=gold)


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints one line for each difference, and counts for each source."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--gsm8k", type=Path, nargs="*", default=[])
    parser.add_argument("--math", type=Path, nargs="*", default=[])
    parser.add_argument("--pairs", type=int, default=20, help="answers to compare with each other")
    given = parser.parse_args(arguments)
    logging.getLogger("math_verify").setLevel(logging.CRITICAL)
    answers = [one for file in given.gsm8k for one in gsm8k(_rows(file))]
    answers += [one for file in given.math for one in math(_rows(file), given.pairs)]
    if not answers:
        answers = [*bundled_gsm8k(), *math(_rows(DATA / "math500" / "test.jsonl"), given.pairs)]
    counts: Counter[tuple[str, str]] = Counter()
    for answer in answers:
        for outcome in compare(answer):
            counts[answer.source, outcome] += 1
    print(report(counts))


def compare(answer: Answer) -> list[str]:
    """How the two grade one answer; prints it where they differ."""
    ours = answer.grade()
    theirs, read = answer.grade_by_math_verify()
    right = ours.score == 1
    outcomes = [
        {
            (True, True): "both right",
            (False, False): "both wrong",
            (True, False): "only ours right",
        }.get((right, theirs), "only theirs right")
    ]
    if answer.verdict is not None and right != answer.verdict:
        outcomes.append("ours against the authors")
    if answer.verdict is not None and theirs != answer.verdict:
        outcomes.append("theirs against the authors")
    if right != theirs or len(outcomes) > 1:
        print(
            f"{', '.join(outcomes)}: right is {answer.gold!r}; we read {ours.answer!r}, "
            f"math-verify {read!r} in {answer.text[-80:]!r} ({answer.source})"
        )
    return outcomes


def report(counts: Counter[tuple[str, str]]) -> str:
    """The counts as a table with a row for each source."""
    columns = (
        *("both right", "both wrong", "only ours right", "only theirs right"),
        *("ours against the authors", "theirs against the authors"),
    )
    width = max((len(source) for source, _ in counts), default=0)
    lines = [f"{'':{width}}  {'  '.join(columns)}"]
    for source in sorted({source for source, _ in counts}):
        numbers = (f"{counts[source, column]:{len(column)}}" for column in columns)
        lines.append(f"{source:{width}}  {'  '.join(numbers)}")
    return "\n".join(lines)


def _final(solution: str) -> str:
    return solution.rpartition("####")[2].strip()


def _rows(file: Path) -> list[dict[str, Any]]:
    lines = file.read_text(encoding="utf-8").split("\n")
    return [json.loads(line) for line in lines if line.strip()]


if __name__ == "__main__":
    main()
