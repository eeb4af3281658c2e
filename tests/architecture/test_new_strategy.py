"""A new strategy is its file, one line of the registry, and what it declares about itself."""

import ast
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import pytest

from rsalign import Aligner, BestOf, Plain
from rsalign.core import capabilities
from rsalign.core.nesting import inner_strategies, walk_strategies
from rsalign.core.protocols import Strategy
from rsalign.core.trace import Verdict
from rsalign.report.page import render_page
from rsalign.strategies import STRATEGIES
from rsalign.testing import ToyPolicy, ToyReward
from rsalign.words.build import build_strategy
from rsalign.words.length import with_max_tokens

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class LongerOfTwo:
    """The longer of two draws."""

    inner: Strategy = field(default_factory=Plain)

    needs_reward: ClassVar[bool] = False
    cuts_answers: ClassVar[bool] = False
    trace_kind: ClassVar[str] = "pool"
    note_meanings: ClassVar[dict[str, str]] = {"lengths": "tokens of both draws"}

    async def sample(self, prompt, run):
        draws = [await self.inner.sample(prompt, run.branch("draw", i)) for i in range(2)]
        longest = max(draws, key=lambda draw: len(draw.tokens))
        for draw in draws:
            verdict = Verdict.ACCEPTED if draw is longest else Verdict.REJECTED
            run.record_proposal(draw, verdict=verdict, prob=float(draw is longest))
        run.trace.note(lengths=tuple(float(len(draw.tokens)) for draw in draws), beta=1.0)
        run.trace.commit(longest.tokens)
        return longest


class OneMethod:
    """A complete strategy: it declares nothing."""

    async def sample(self, prompt, run):
        draw = await run.draft(prompt, (), max_tokens=6)
        run.record_proposal(draw, verdict=Verdict.ACCEPTED)
        run.trace.commit(draw.tokens)
        return draw


def answers(strategy):
    with Aligner(ToyPolicy(), ToyReward(), strategy) as aligner:
        return aligner.generate(["1 2"], use_tqdm=False)


def test_the_page_asks_the_strategy():
    text = render_page(answers(LongerOfTwo(inner=Plain(max_tokens=6))), decode=ToyPolicy().text)
    assert "tokens of both draws" in text
    assert "divides the reward" not in text  # a note of others, which this one does not declare


def test_one_method_is_enough():
    text = render_page(answers(OneMethod()), decode=ToyPolicy().text)
    assert "accepted" in text
    strategy = OneMethod()
    assert capabilities.trace_kind(strategy) == "proposals"
    assert capabilities.answer_law(strategy) is capabilities.AnswerLaw.UNKNOWN
    assert capabilities.note_meanings(strategy) == {}
    assert capabilities.threshold_by_length(strategy, {}) is None
    assert not capabilities.answers_in_one_draw(strategy)
    assert capabilities.needs_reward(strategy)
    assert list(walk_strategies(strategy)) == [strategy]


def test_one_line_of_the_registry_names_it(monkeypatch):
    monkeypatch.setitem(STRATEGIES, "longer_of_two", LongerOfTwo)
    made = build_strategy("longer_of_two", {"inner": "best_of", "inner.n": "3"})
    assert made == LongerOfTwo(inner=BestOf(n=3))


def test_walks_reach_what_it_holds():
    strategy = LongerOfTwo(inner=BestOf(n=2, inner=Plain(max_tokens=9)))
    assert [type(one) for one in walk_strategies(strategy)] == [LongerOfTwo, BestOf, Plain]
    assert list(inner_strategies(strategy)) == ["inner"]
    assert with_max_tokens(strategy, 4).inner.inner.max_tokens == 4


@pytest.mark.parametrize("folder", ["rsalign/report", "rsalign/harnesses", "eval/analysis"])
def test_nobody_asks_for_a_class(folder):
    """No module of a strategy is imported; the registry is."""
    for path in (ROOT / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module:
                assert not node.module.startswith("rsalign.strategies."), path
                names = {alias.name for alias in node.names}
                if node.module in ("rsalign", "rsalign.strategies"):
                    kinds = {known.__name__ for known in STRATEGIES.values()}
                    assert not names & kinds, path
