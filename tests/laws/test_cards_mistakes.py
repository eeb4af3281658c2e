"""Planted mistakes in segment-level rejection sampling, which the law must not pass."""

from dataclasses import dataclass

import pytest
from cards_law import PROMPT, Setting, line, soft

from rsalign import FixedSize
from rsalign.segments.acceptance import SoftAcceptance
from rsalign.segments.thresholds import Line
from rsalign.strategies.cards import Cards
from rsalign.testing import ToyPolicy, ToyReward, distance, law_of


@dataclass(frozen=True, kw_only=True)
class Loop(Cards):
    """The method once more, one try after another, for mistakes to be planted in."""

    async def sample(self, prompt, run):
        start = (await run.judge(prompt, (), None)).reward
        kept, before = (), start
        while True:
            here, drafts = run.at("segment", len(kept)), []
            for i in range(self.max_tries):
                drafts.append(await self.draft(prompt, kept, self.attempt(here, i)))
            order = self.order(drafts)
            chosen = await self.fall_back(prompt, kept, drafts, here)
            for i in order:
                bar = self.threshold.at(
                    self.position(drafts[i], kept), prompt_reward=start, max_tokens=self.max_tokens
                )
                log_accept = self.acceptance.log_accept(self.reward(drafts[i], before), bar)
                if self.attempt(here, i).decide(drafts[i], kept=len(kept), log_accept=log_accept):
                    chosen = drafts[i]
                    break
            if chosen.response.complete:
                return chosen
            kept, before = chosen.tokens, chosen.reward

    async def draft(self, prompt, kept, run):
        return await run.draft(prompt, kept, max_tokens=self.max_tokens, boundary=self.segmenter)

    def attempt(self, here, i):
        return here.at("try", i)

    def order(self, drafts):
        return range(len(drafts))

    def position(self, draft, kept):
        return len(draft.tokens)

    def reward(self, draft, before):
        return draft.reward

    async def fall_back(self, prompt, kept, drafts, here):
        return max(drafts, key=lambda draft: draft.reward)


class Incremental(Loop):
    def reward(self, draft, before):
        return draft.reward - before


class OneEarlier(Loop):
    def position(self, draft, kept):
        return len(draft.tokens) - 1


class OneLater(Loop):
    def position(self, draft, kept):
        return len(draft.tokens) + 1


class LengthKept(Loop):
    def position(self, draft, kept):
        return len(kept)


class LengthOfSegment(Loop):
    def position(self, draft, kept):
        return len(draft.tokens) - len(kept)


class BestIsTestedFirst(Loop):
    def order(self, drafts):
        return sorted(range(len(drafts)), key=lambda i: -drafts[i].reward)


class LongestIsTestedFirst(Loop):
    def order(self, drafts):
        return sorted(range(len(drafts)), key=lambda i: -len(drafts[i].tokens))


class LastIsNotTested(Loop):
    """As in the published code: one draft more than are tested."""

    def order(self, drafts):
        return range(len(drafts) - 1)


class OneMoreUntested(Loop):
    async def fall_back(self, prompt, kept, drafts, here):
        more = await self.draft(prompt, kept, self.attempt(here, self.max_tries))
        return max([*drafts, more], key=lambda draft: draft.reward)


class ForcesTheFirst(Loop):
    async def fall_back(self, prompt, kept, drafts, here):
        return drafts[0]


class ForcesTheWorst(Loop):
    async def fall_back(self, prompt, kept, drafts, here):
        return min(drafts, key=lambda draft: draft.reward)


class SameKey(Loop):
    def attempt(self, here, i):
        return here.at("try", 0)


class SameKeyForEverySegment(Loop):
    def attempt(self, here, i):
        return here.at("try", i) if here.key.path[-1] == 0 else here.at("try", 0)


MISTAKES = [
    Incremental,
    OneEarlier,
    OneLater,
    LengthKept,
    LengthOfSegment,
    BestIsTestedFirst,
    LongestIsTestedFirst,
    LastIsNotTested,
    OneMoreUntested,
    ForcesTheFirst,
    ForcesTheWorst,
    SameKey,
    SameKeyForEverySegment,
]


def difference(kind, salt):
    policy, reward = ToyPolicy(2, salt), ToyReward(salt)
    strategy = kind(
        segmenter=FixedSize(2),
        threshold=Line(target=0.6),
        acceptance=SoftAcceptance(beta=0.7),
        max_tokens=3,
        max_tries=2,
    )
    bar = line(reward.value, 0.6, 0.5, 3)
    case = Setting(bar=bar, accept=soft(0.7), size=2, max_tokens=3, tries=2)
    return distance(law_of(strategy, policy, reward, PROMPT), case.law(policy, reward.value))


@pytest.mark.parametrize("salt", range(3))
@pytest.mark.parametrize("kind", [Cards, Loop])
def test_without_a_mistake(kind, salt):
    assert difference(kind, salt) < 1e-12


@pytest.mark.parametrize("kind", MISTAKES)
def test_planted_mistakes_are_caught(kind):
    differences = [difference(kind, salt) for salt in range(3)]
    assert max(differences) > 1e-3, differences
    assert sum(far > 1e-6 for far in differences) >= 2, differences
