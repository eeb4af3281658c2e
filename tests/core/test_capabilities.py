"""What a strategy declares about itself is all that others ask; it may declare nothing."""

from dataclasses import dataclass, field
from typing import ClassVar

from rsalign import Aligner, BestOf, Plain
from rsalign.core import capabilities
from rsalign.core.nesting import inner_strategies, walk_strategies
from rsalign.core.protocols import Strategy
from rsalign.core.trace import Verdict
from rsalign.report.page import render_page
from rsalign.testing import ToyPolicy, ToyReward
from rsalign.words.length import with_max_tokens


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


def test_walks_reach_what_it_holds():
    strategy = LongerOfTwo(inner=BestOf(n=2, inner=Plain(max_tokens=9)))
    assert [type(one) for one in walk_strategies(strategy)] == [LongerOfTwo, BestOf, Plain]
    assert list(inner_strategies(strategy)) == ["inner"]
    assert with_max_tokens(strategy, 4).inner.inner.max_tokens == 4
