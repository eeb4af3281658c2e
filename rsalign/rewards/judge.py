"""A language model as a judge: of one response by a score or a probability, or of two.

The judge is a policy that knows its chat template: a model of its own, one behind a server, or the
very policy that answered. It is asked in words, and stays open: it belongs to whoever made it. What
it is asked is a `Template`.
"""

import math
from dataclasses import dataclass, field
from typing import Literal, cast

from rsalign.core.checks import SEED, at_least, check_settings, check_value
from rsalign.core.errors import ConfigError
from rsalign.core.key import Key
from rsalign.core.protocols import Scored
from rsalign.core.tasks import concurrently
from rsalign.core.types import Prompt, Response
from rsalign.rewards.judge_templates import Template
from rsalign.rewards.judge_verdicts import (
    JUDGE,
    Weigher,
    Writer,
    blamed_on,
    judge_fingerprint,
    unreadable,
    weighed,
    written,
)


@dataclass(frozen=True, slots=True)
class PointwiseJudge:
    """The mean score of k verdicts that the judge writes.

    Law: r(x, y) = mean of s(v_i) over the verdicts that can be read, where v_1 .. v_k are drawn
    from the judge given the question, and s is the number in a verdict; of a template with choices
    it is 1 for the first and 0 for another, so that r is the share of the first. v_i is drawn at
    the address ``Key(seed).child("verdict", hash of the question, i)``: the same question always
    has the same answer, and a larger `votes` only adds draws.

    Papers: judging by a language model, Zheng et al. 2023, arXiv:2306.05685; votes of a pointwise
    judge, Liu et al. 2025, arXiv:2504.02495 (who also train it, and filter votes by a meta-reward).

    Attributes:
        policy: the judge; its temperature decides how much votes differ.
        template: asks about ``{response}`` and has a pattern.
        votes: number of verdicts, k; their error shrinks as 1 / sqrt(k).
        max_tokens: greatest length of a verdict, its reasons included.
        seed: another seed has other verdicts.

    Raises:
        ConfigError: if the policy cannot be asked, the template asks something else, or a number is
            not at least 1.
    """

    policy: Writer
    template: Template = field(default_factory=lambda: Template.named("score"))
    votes: int = 1
    max_tokens: int = 1024
    seed: int = 0

    def __post_init__(self) -> None:
        check_settings(self, policy=JUDGE, votes=at_least(1), max_tokens=at_least(1), seed=SEED)
        self.template.require("response")
        if self.template.pattern is None:
            raise ConfigError(
                "the template has no pattern that finds a score in what the judge writes: give "
                "one, or use ProbabilityJudge"
            )

    @property
    def fingerprint(self) -> str:
        """Tells this judge from others in a journal."""
        return judge_fingerprint(self)

    async def score(self, prompt: Prompt, response: Response) -> float:
        """The mean score; see `Reward`.

        Raises:
            RewardError: if no verdict can be read, or the judge failed.
        """
        question = self.template.messages(prompt=prompt.text, response=response.text)
        with blamed_on(prompt, response):
            found = await written(
                self.policy,
                self.template,
                question,
                votes=self.votes,
                max_tokens=self.max_tokens,
                key=Key(self.seed),
            )
        scores = [score for score in map(self._score, found.verdicts) if math.isfinite(score)]
        if not scores:
            raise unreadable(found, self.template, prompt, response)
        mean = math.fsum(scores) / len(scores)
        return Scored(mean, tokens=found.tokens, cached_tokens=found.cached_tokens)

    def _score(self, verdict: str) -> float:
        """The number in a verdict; not a number where there is none."""
        if self.template.choices:
            return float(verdict == self.template.choices[0])
        try:
            return float(verdict)
        except ValueError:
            return math.nan


@dataclass(frozen=True, slots=True)
class ProbabilityJudge:
    """P(True): how probable the good verdict is to the judge, who writes nothing.

    Law: p(c) is proportional to pi(c | question) over the template's choices c, of which the first
    is the good one, c_1. The reward is ln(p(c_1) / (1 - p(c_1))), or p(c_1) itself. Nothing is
    drawn.

    Paper: Kadavath et al. 2022, arXiv:2207.05221.

    Attributes:
        policy: the judge, at temperature 1 and without truncation.
        template: asks about ``{response}`` and has choices.
        returns: ``"log_odds"`` (nats, unbounded) or ``"probability"``.

    Raises:
        ConfigError: if the policy cannot be asked, the template asks something else, or `returns`
            is neither.
    """

    policy: Weigher
    template: Template = field(default_factory=lambda: Template.named("right"))
    returns: Literal["log_odds", "probability"] = "log_odds"

    def __post_init__(self) -> None:
        check_settings(self, policy=JUDGE)
        self.template.require("response")
        if self.template.pattern is not None:
            raise ConfigError(
                "the template has a pattern, so that its verdict must be written: give one with "
                "choices only, or use PointwiseJudge"
            )

    @property
    def fingerprint(self) -> str:
        """Tells this judge from others in a journal."""
        return judge_fingerprint(self)

    async def score(self, prompt: Prompt, response: Response) -> float:
        """The log-odds or the probability of the first choice; see `Reward`.

        Raises:
            ConfigError: if one choice begins another, or the judge's law is truncated.
            RewardError: if the judge failed.
        """
        question = self.template.messages(prompt=prompt.text, response=response.text)
        with blamed_on(prompt, response):
            found = await weighed(self.policy, self.template, question)
        value = found.log_odds if self.returns == "log_odds" else found.probability
        return Scored(value, tokens=found.tokens)


@dataclass(frozen=True, slots=True)
class PairwiseJudge:
    """How probably one response is better than another, asked in both orders.

    Law: prefer(x, a, b) = (q(a, b) + 1 - q(b, a)) / 2, where q(a, b) is the probability of the
    verdict "the first is better" with a shown first. A judge that prefers a place whatever stands
    there says 1/2: what q(a, b) gains by the place, q(b, a) gains too. q is the choices' normalised
    probability, or, of a template with a pattern, the share of the first choice among `votes`
    verdicts, drawn as in `PointwiseJudge`.

    Papers: both orders, Wang et al. 2023, arXiv:2305.17926; verdicts after long reasoning that are
    used without making scores of them, Hong et al. 2025, arXiv:2505.16265.

    Attributes:
        policy: the judge; what its template needs (`Writer` for a pattern, else `Weigher`).
        template: asks about ``{one}`` and ``{other}`` and has two choices.
        votes: verdicts for each order, if they are written.
        max_tokens: greatest length of a verdict, its reasons included.
        seed: another seed has other verdicts.

    Raises:
        ConfigError: if the policy cannot be asked, the template asks something else, or a number is
            not at least 1.
    """

    policy: Writer | Weigher
    template: Template = field(default_factory=lambda: Template.named("compare"))
    votes: int = 1
    max_tokens: int = 1024
    seed: int = 0

    def __post_init__(self) -> None:
        weighs = getattr(self.template, "pattern", None) is None
        check_value("PairwiseJudge", "policy", self.policy, Weigher if weighs else Writer, JUDGE)
        check_settings(self, votes=at_least(1), max_tokens=at_least(1), seed=SEED)
        self.template.require("one", "other")
        if len(self.template.choices) != 2:
            raise ConfigError(
                f"choices={self.template.choices!r}: of two responses one is better, so there must "
                "be two choices"
            )

    @property
    def fingerprint(self) -> str:
        """Tells this judge from others in a journal."""
        return judge_fingerprint(self)

    async def prefer(self, prompt: Prompt, one: Response, other: Response) -> float:
        """The probability that `one` is better; see `PairwiseReward`.

        Raises:
            ConfigError: as in `ProbabilityJudge.score`.
            RewardError: if in one order no verdict can be read, or the judge failed; the response
                that is attached was shown first.
        """
        there, back = await concurrently(
            self._first_wins(prompt, first, second)
            for first, second in ((one, other), (other, one))
        )
        return Scored(
            (there + (1 - back)) / 2,
            tokens=there.tokens + back.tokens,
            cached_tokens=there.cached_tokens + back.cached_tokens,
        )

    async def _first_wins(self, prompt: Prompt, first: Response, second: Response) -> Scored:
        """q: the probability of the verdict for the response that is shown first."""
        question = self.template.messages(prompt=prompt.text, one=first.text, other=second.text)
        with blamed_on(prompt, first):
            if self.template.pattern is None:
                weights = await weighed(cast("Weigher", self.policy), self.template, question)
                return Scored(weights.probability, tokens=weights.tokens)
            found = await written(
                cast("Writer", self.policy),
                self.template,
                question,
                votes=self.votes,
                max_tokens=self.max_tokens,
                key=Key(self.seed),
            )
        if not found.verdicts:
            raise unreadable(found, self.template, prompt, first)
        share = found.verdicts.count(self.template.choices[0]) / len(found.verdicts)
        return Scored(share, tokens=found.tokens, cached_tokens=found.cached_tokens)
