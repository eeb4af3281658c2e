"""Events of a long run: what would be the answer now, its votes, and what was spent."""

import asyncio
import itertools
from collections import Counter

import pytest

from rsalign import (
    Aligner,
    BestOf,
    Key,
    Message,
    Plain,
    ProgressEvent,
    Prompt,
    QAlign,
    ResultEvent,
    TextEvent,
    Usage,
    Verdict,
    align,
)
from rsalign.chains.stopping import EffectiveSamples
from rsalign.embedded.problems import problem
from rsalign.selectors import MajorityVote
from rsalign.selectors.extraction import LastNumber
from rsalign.testing import ToyPolicy, ToyReward

VOTE = MajorityVote(extract=LastNumber())


async def events_of(aligner, prompt, **given):
    return [event async for event in aligner.astream(prompt, **given)]


def split(events):
    *before, result = events
    assert isinstance(result, ResultEvent)
    kinds = [type(event) for event in before]
    num_progress = kinds.count(ProgressEvent)
    assert kinds == [ProgressEvent] * num_progress + [TextEvent] * (len(kinds) - num_progress)
    return before[:num_progress], before[num_progress:], result.output


def states_of(trace):
    """Texts of the states after each step, ``(chains, steps)``; one proposal a step."""
    return [
        [
            (p.candidate if p.verdict is Verdict.ACCEPTED else p.state).response.text
            for p in chain.proposals
        ]
        for chain in trace.children.values()
    ]


def check_votes(progress, output):
    answers = [[VOTE.extract(text) for text in row] for row in states_of(output.alignment.trace)]
    for t, event in enumerate(progress, start=1):
        votes = [answer for row in answers for answer in row[:t]]
        counts = Counter(answer for answer in votes if answer is not None)
        if counts:
            assert event.share == max(counts.values()) / len(votes)
            assert counts[event.answer] == max(counts.values())
        else:
            assert event.share is None


def check_usage(progress, output):
    spent = [event.usage for event in progress]
    assert all(isinstance(usage, Usage) for usage in spent)
    for name in ("policy_tokens_drawn", "policy_requests", "reward_calls", "seconds"):
        values = [getattr(usage, name) for usage in [*spent, output.alignment.usage]]
        assert values == sorted(values)
        assert values[0] > 0


@pytest.mark.parametrize("chains", [1, 3])
@pytest.mark.parametrize("seed", range(5))
def test_votes_step_by_step(chains, seed):
    strategy = QAlign(steps=12, max_tokens=5, chains=chains, answer=VOTE)
    with Aligner(ToyPolicy(4), ToyReward(), strategy, seed=seed) as aligner:
        progress, texts, output = split(asyncio.run(events_of(aligner, "1 2")))
    assert [(event.step, event.steps) for event in progress] == [(t, 12) for t in range(1, 13)]
    assert "".join(event.text for event in texts) == output.outputs[0].text
    check_votes(progress, output)
    check_usage(progress, output)


def test_without_votes_the_state_is_the_answer():
    strategy = QAlign(steps=10, max_tokens=6)
    with Aligner(ToyPolicy(4), ToyReward(), strategy, seed=3) as aligner:
        progress, _, output = split(asyncio.run(events_of(aligner, "1")))
    (states,) = states_of(output.alignment.trace)
    assert [event.answer for event in progress] == states
    assert len(set(states)) > 1
    assert {event.share for event in progress} == {None}
    assert progress[-1].answer == output.outputs[0].text


def test_a_run_that_stops_early_says_no_more():
    stopping = EffectiveSamples(at_least=4, every=4)
    strategy = QAlign(steps=500, max_tokens=5, stopping=stopping)
    with Aligner(ToyPolicy(4), ToyReward(), strategy) as aligner:
        progress, _, output = split(asyncio.run(events_of(aligner, "1")))
    steps = output.alignment.diagnostics["num_steps"]
    assert [event.step for event in progress] == list(range(1, steps + 1))
    assert steps < 500


def test_strategies_without_steps_have_no_progress():
    strategy = BestOf(n=3, inner=Plain(max_tokens=5))
    with Aligner(ToyPolicy(4), ToyReward(), strategy) as aligner:
        progress, _, _ = split(asyncio.run(events_of(aligner, "1")))
    assert progress == []


def test_events_come_while_the_run_goes_on():
    drawn = []

    class Counting(ToyPolicy):
        async def extend(self, prefix, **given):
            drawn.append(prefix)
            return await super().extend(prefix, **given)

    async def first(aligner):
        events = aligner.astream("1")
        event = await anext(events)
        await events.aclose()
        return event

    with Aligner(Counting(4), ToyReward(), QAlign(steps=1000, max_tokens=5)) as aligner:
        event = asyncio.run(first(aligner))
    assert isinstance(event, ProgressEvent)
    assert len(drawn) < 20


def test_align_tells_too():
    seen = []
    result = asyncio.run(
        align(
            Prompt((Message("user", "1"),), (1,)),
            QAlign(steps=5, max_tokens=4),
            policy=ToyPolicy(4),
            reward=ToyReward(),
            seed=Key(2),
            on_progress=lambda progress, usage: seen.append((progress, usage)),
        )
    )
    assert [progress.step for progress, _ in seen] == [1, 2, 3, 4, 5]
    calls = [usage.reward_calls for _, usage in seen]
    assert calls == [2, 3, 4, 5, 6] == [*calls[:-1], result.usage.reward_calls]
    assert {usage.policy_tokens_kept for _, usage in seen} == {0}


@pytest.mark.engine
def test_progress_on_the_engine(aligner):
    prompt = {"messages": [{"role": "user", "content": problem("heldout", 3).question}]}
    strategy = QAlign(steps=6, max_tokens=64, chains=2, beta=2.0, answer=VOTE)
    progress, texts, output = split(
        asyncio.run(events_of(aligner, prompt, strategy=strategy, seed=5))
    )
    assert [event.step for event in progress] == list(range(1, 7))
    check_votes(progress, output)
    check_usage(progress, output)
    tokens = [event.usage.policy_tokens_drawn for event in progress]
    assert all(one < other for one, other in itertools.pairwise(tokens))
    assert "".join(event.text for event in texts) == output.outputs[0].text
    (whole,) = aligner.generate(prompt, strategy=strategy, seed=5, use_tqdm=False)
    assert whole.outputs == output.outputs
