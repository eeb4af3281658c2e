"""Runs the suite and writes what it found to ``docs/families.md``.

    python -m tests.families.table [arguments of pytest]

Cells of which no test has run (``-k laws``) stay as they are.
"""

import sys
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.families.families import FAMILIES, Family
from tests.families.fetch import CONVERTED, PACKAGES

ROOT = Path(__file__).parent.parent.parent
LONGEST = 400
"""Characters of a refusal that the page shows."""
PAGE = ROOT / "docs" / "families.md"
COLUMNS: Mapping[str, tuple[str, ...]] = {
    "strategies": (
        "test_strategies_answer",
        "test_segments_end_where_the_rule_says",
        "test_ids_without_a_token_are_answers_too",
        "test_the_token_that_ends_a_segment_is_needed_by_no_answer",
    ),
    "laws": (
        "test_the_law_of_cards",
        "test_the_law_of_qalign",
        "test_every_token_is_drawn_by_its_law",
    ),
    "ends and stops": (
        "test_every_end_of_the_model_ends_an_answer",
        "test_a_stop_string_of_several_tokens_ends_an_answer",
        "test_ends_of_answers_have_no_text",
    ),
    "text as vLLM's": (
        "test_our_answers_are_vllms",
        "test_a_stream_has_the_text_of_the_answer",
        "test_text_comes_back_whole",
        "test_texts_come_back",
        "test_text_only_grows_and_is_vllms",
    ),
    "rewards": (
        "test_strategies_hand_over_rewards_of_transformers",
        "test_rewards_are_those_of_transformers",
        "test_rewards_read_what_the_template_writes",
        "test_transformers_rewards_are_those_of_the_model",
        "test_a_text_begins_once",
    ),
    "steps": (
        "test_steps_are_scored_as_open_answers",
        "test_steps_end_with_the_token_that_completes_a_line",
    ),
    "judges": ("test_choices_of_a_judge_are_the_tokens_that_it_would_write",),
    "roles": (
        "test_a_refused_role_costs_one_conversation",
        "test_a_refused_role_is_merged_or_refused",
    ),
    "template options": ("test_options_of_the_template_reach_it",),
    "thoughts": ("test_a_thought_is_no_part_of_the_answer",),
    "own reward": ("test_a_reward_of_the_family_is_right_or_refused",),
}
HEAD = """# Model families

<!-- Written by `python -m tests.families.table`; do not edit. -->

Small checkpoints with the real tokenizers, vocabularies, chat templates and ends of answers of
these families, run by `make families` with vLLM {vllm} and transformers {transformers} on a CPU.
Their weights are random: the table says that rsalign reads and writes what the family's models do,
and nothing of how good they are.

- strategies: Plain, BestOf, Cards (Entropy, Punctuation, FixedSize), QAlign and
  EarlyStop(SelfCertainty) answer, with segments that end where the rule says and the length that
  was asked for, ids without a token included.
- laws: answers of Cards (Entropy, Punctuation, FixedSize) and QAlign have the exact law, and every
  token of the vocabulary is drawn by its own where segments end, by chi-square tests of draws from
  a policy that can draw all of the vocabulary, and gives the ends of an answer, which may end
  segments too, a large part of it.
- ends and stops: every end of the model ends an answer as `stop` and is no text; so does a stop
  string that is spelled by bytes.
- text as vLLM's: answers and finish reasons equal those of `LLM.chat` and `LLM.generate`; emoji of
  several characters and CJK come back whole; streamed text is never taken back.
- rewards, steps: scores of finished and open answers and of steps equal those of plain transformers
  to 1e-4, in the format of the chat template.
- judges: the choices are weighed as the tokens that the judge would write.
- roles: what the template refuses is merged, or costs that conversation only.
- template options: `chat_template_kwargs` and `tools` reach the chat template as in `LLM.chat`.
- thoughts: what vLLM's reasoning parser of the family calls a thought is no part of the answer.
- own reward: a reward model of the family itself; the other columns use one of Llama 3.1 where vLLM
  cannot run it.

"""


@dataclass
class Findings:
    """A plugin of pytest that notes how each family's tests ended.

    Attributes:
        outcomes: by family and test, one for each case.
        words: of refusals, by family.
    """

    outcomes: dict[tuple[str, str], set[str]] = field(default_factory=lambda: defaultdict(set))
    words: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    refusing: set[tuple[str, str]] = field(default_factory=set)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Notes the outcome of a test, or of its preparation where that ended it."""
        if report.when == "teardown" or (report.when == "setup" and report.passed):
            return
        test, _, case = report.nodeid.rpartition("::")[2].partition("[")
        family = case.rstrip("]").partition("-")[0]
        outcome = "expected to fail" if hasattr(report, "wasxfail") else report.outcome
        self.outcomes[family, test].add(outcome)
        for name, value in report.user_properties:
            if name == "refused":
                words = str(value)
                self.words[family].add(words if len(words) <= LONGEST else f"{words[:LONGEST]}...")
                self.refusing.add((family, test))

    def cell(self, family: str, tests: tuple[str, ...]) -> str | None:
        """What one column of the table says of a family; None: none of the tests has run."""
        if not any((family, test) in self.outcomes for test in tests):
            return None
        found = set().union(*(self.outcomes.get((family, test), set()) for test in tests))
        if found & {"failed", "expected to fail"}:
            return "**wrong**"
        if any((family, test) in self.refusing for test in tests):
            return "refused"
        return "works" if "passed" in found else "n/a"


def page(findings: Findings, old: str) -> str:
    """The text of the page.

    Args:
        findings: of the tests that have run.
        old: the page that is there, for the others.
    """
    import transformers
    import vllm

    versions = {"vllm": vllm.__version__, "transformers": transformers.__version__}
    lines = [
        "| family | like | tokenizer | " + " | ".join(COLUMNS) + " |",
        "|---" * (len(COLUMNS) + 3) + "|",
    ]
    words = []
    for family in FAMILIES:
        before = _cells(old, family.name)
        cells = {name: findings.cell(family.name, tests) for name, tests in COLUMNS.items()}
        shown = [cell or before.get(name, "not run") for name, cell in cells.items()]
        lines.append(f"| {' | '.join((family.name, family.like, _source(family), *shown))} |")
        found = {f"- {family.name}: `{one}`" for one in findings.words[family.name]}
        if None in cells.values():
            found |= {one for one in old.splitlines() if one.startswith(f"- {family.name}: `")}
        words += sorted(found)
    lines += ["", "## What is refused, with these words", "", *words]
    return HEAD.format(**versions) + "\n".join(lines) + "\n"


def _cells(old: str, family: str) -> dict[str, str]:
    """The cells of a family's row of the page that is there, by their columns."""
    table = [line.strip("| ").split(" | ") for line in old.splitlines() if line.startswith("| ")]
    rows = {name: cells for name, *cells in table}
    return dict(zip(rows.get("family", ()), rows.get(family, ()), strict=True))


def _source(family: Family) -> str:
    of_npm = {package.name: package.npm for package in PACKAGES}
    if family.tokenizer == CONVERTED:
        return "of `make real`"
    return of_npm.get(family.tokenizer) or f"mistral_common {version('mistral_common')}"


def main() -> None:
    findings = Findings()
    arguments = ["-m", "", str(Path(__file__).parent), *sys.argv[1:]]
    code = pytest.main(arguments, plugins=[findings])
    if not findings.outcomes:
        sys.exit(f"table: no test has run (pytest ended with {code!r})")
    PAGE.write_text(page(findings, PAGE.read_text()))
    print(f"wrote {PAGE.relative_to(ROOT)}")
    sys.exit(code)


if __name__ == "__main__":
    main()
