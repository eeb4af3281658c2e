"""Named parts of a run: needed, given, metered, limited and journaled each by itself."""

import asyncio
from dataclasses import dataclass
from typing import ClassVar

import pytest

from rsalign import (
    Aligner,
    BestOf,
    Budget,
    ConfigError,
    Journal,
    Knockout,
    Message,
    PairwiseReward,
    Plain,
    Policy,
    Prompt,
    QAlign,
    Reward,
    RewardError,
    align,
)
from rsalign.core.parts import needed_parts
from rsalign.testing import ToyPolicy, ToyReward

PROMPT = Prompt((Message("user", "1"),), (1,))


@dataclass
class Shorter:
    fingerprint: ClassVar[str] = "shorter"
    calls: int = 0

    async def prefer(self, prompt, one, other):
        self.calls += 1
        return 0.5 + 0.01 * (len(other.tokens) - len(one.tokens))


class Broken:
    fingerprint = "broken"

    async def prefer(self, prompt, one, other):
        raise ValueError("no")


@dataclass(frozen=True)
class Drafted:
    """Draws from the part `draft`; its answer is one draw of the policy."""

    needs: ClassVar[tuple[str, ...]] = ("draft", "check")
    needs_reward: ClassVar[bool] = False
    seen: list = None

    async def sample(self, prompt, run):
        draft, check = run.part("draft"), run.part("check")
        await draft.extend(prompt.tokens, max_new_tokens=3, key=run.key.child("draft"))
        answer = await run.draft(prompt, (), max_tokens=3)
        await check.score(prompt, answer.response)
        if self.seen is not None:
            self.seen.extend([draft, check])
        run.trace.commit(answer.tokens)
        return answer


def knockout(judge="judge", n=4):
    return BestOf(n=n, inner=Plain(max_tokens=4), select=Knockout(judge=judge))


def run(strategy, **given):
    return asyncio.run(align(PROMPT, strategy, policy=ToyPolicy(4), **given))


def test_what_a_strategy_needs_is_found_in_all_its_settings():
    nested = BestOf(n=2, inner=QAlign(answer=Knockout(judge="other")), select=Knockout())
    assert set(needed_parts(nested)) == {"judge", "other"}
    assert needed_parts(knockout(Shorter())) == ()
    assert needed_parts(Drafted()) == ("draft", "check")


def test_a_missing_part_is_refused_before_any_work():
    policy = ToyPolicy(4)
    with pytest.raises(ConfigError, match=r"BestOf needs the part 'judge'.*parts=\{'judge'"):
        asyncio.run(align(PROMPT, knockout(), policy=policy))
    with pytest.raises(ConfigError, match="needs the part 'judge'"):
        Aligner(policy, None, knockout())
    with (
        Aligner(policy, None, Plain(max_tokens=2)) as aligner,
        pytest.raises(ConfigError, match="needs the part 'judge'"),
    ):
        aligner.generate("1", strategy=knockout(), use_tqdm=False)
    with pytest.raises(ConfigError, match=r"give a policy .* a reward .* or a judge"):
        run(knockout(), parts={"judge": object()})


def test_parts_keep_their_kind_and_are_counted_apart():
    seen = []
    parts = {"draft": ToyPolicy(4, salt=1), "check": ToyReward()}
    usage = run(Drafted(seen), parts=parts).usage
    draft, check = seen
    assert isinstance(draft, Policy)
    assert not isinstance(draft, Reward)
    assert isinstance(check, Reward)
    assert not isinstance(check, PairwiseReward)
    assert (usage.policy_requests, usage.reward_calls) == (1, 0)
    assert usage.parts["draft"].policy_requests == 1
    assert 1 <= usage.parts["draft"].policy_tokens_drawn <= 3
    assert usage.parts["check"].reward_calls == 1
    assert usage.spent()["check.reward_calls"] == 1
    assert (usage + usage).parts["check"].reward_calls == 2


@pytest.mark.parametrize("named", [True, False])
def test_a_judge_is_the_same_by_name_and_by_hand(named):
    judge = Shorter()
    result = run(knockout("judge" if named else judge), parts={"judge": judge} if named else None)
    assert result.usage.parts["judge"].reward_calls == judge.calls == 3
    assert result.usage.reward_calls == 0


def test_a_part_has_limits_of_its_own():
    judge = Shorter()
    result = run(
        knockout(), parts={"judge": judge}, budget=Budget(parts={"judge": {"reward_calls": 2}})
    )
    assert result.expired
    assert result.usage.parts["judge"].reward_calls == judge.calls == 2
    for wrong in ({"judge": 3}, {"judge": {"calls": 3}}, {"judge": {"seconds": 1.0}}, 3):
        with pytest.raises(ConfigError, match=r"Budget\(parts="):
            Budget(parts=wrong)


def test_a_journal_replays_a_part(tmp_path):
    judge = Shorter()
    results = []
    for _ in range(2):
        with Journal(tmp_path / "journal") as journal:
            results.append(run(knockout(judge), journal=journal))
    assert judge.calls == 3
    first, second = results
    assert first.candidate == second.candidate
    assert first.usage.parts["judge"].reward_calls == second.usage.parts["judge"].reward_calls


def test_a_part_that_fails_is_named():
    with pytest.raises(RewardError, match="the judge Broken raised ValueError"):
        run(knockout(), parts={"judge": Broken()})


def test_the_aligner_hands_on_its_parts():
    with Aligner(ToyPolicy(4), None, knockout(), parts={"judge": Shorter()}) as aligner:
        outputs = aligner.generate(["1", "2"], use_tqdm=False)
    assert [one.alignment.usage.parts["judge"].reward_calls for one in outputs] == [3, 3]
