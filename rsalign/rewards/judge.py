"""Language models as judges: of one response, by a score or a probability, or of two responses.

The judge is a policy with a chat template: a separate model, a model behind a server, or the policy
that wrote the responses. The question to it is a `Template`. A judge reward does not close its
policy.
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
    judge_errors_as_reward_errors,
    judge_fingerprint,
    unreadable_verdicts_error,
    weigh_choices,
    write_verdicts,
)


@dataclass(frozen=True, slots=True)
class PointwiseJudge:
    """The mean score of k verdicts that a language model writes about one response.

    Law: r(x, y) = mean of s(v_i) over the verdicts that can be parsed, where v_1 .. v_k are sampled
    from the judge given the question, and s is the number in a verdict. If the template has
    choices, s is 1 for the first choice and 0 for the others, so that r is the share of the first.
    v_i is sampled with the key ``Key(seed).child("verdict", hash of the question, i)``: the same
    question always gets the same verdicts, and a larger `votes` adds verdicts to those.

    Papers: judging by a language model, Zheng et al. 2023, arXiv:2306.05685; several votes of a
    pointwise judge, Liu et al. 2025, arXiv:2504.02495 (who also train the judge, and filter its
    votes by a second reward model).

    Attributes:
        policy: the judge; a higher temperature makes its votes differ more.
        template: the question, with the placeholder ``{response}`` and a pattern.
        votes: number of verdicts, k; the standard error of their mean shrinks as 1 / sqrt(k).
        max_tokens: greatest length of a verdict, including its reasoning.
        seed: seed of the sampled verdicts.

    Raises:
        ConfigError: if the policy cannot be used as a judge, the template lacks the placeholder or
            the pattern, or a number is not at least 1.

    Example:
        >>> from rsalign import VllmPolicy
        >>> judge = VllmPolicy.start("Qwen/Qwen3-8B")  # doctest: +SKIP
        >>> reward = PointwiseJudge(judge, Template.named("score"), votes=4)  # doctest: +SKIP
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
        """Identifies this judge in a journal."""
        return judge_fingerprint(self)

    async def score(self, prompt: Prompt, response: Response) -> float:
        """The mean score; see `Reward`.

        Raises:
            RewardError: if no verdict can be parsed, or the judge failed.
        """
        question = self.template.messages(prompt=prompt.text, response=response.text)
        with judge_errors_as_reward_errors(prompt, response):
            found = await write_verdicts(
                self.policy,
                self.template,
                question,
                votes=self.votes,
                max_tokens=self.max_tokens,
                key=Key(self.seed),
            )
        scores = [score for score in map(self._score, found.verdicts) if math.isfinite(score)]
        if not scores:
            raise unreadable_verdicts_error(found, self.template, prompt, response)
        mean = math.fsum(scores) / len(scores)
        return Scored(mean, tokens=found.tokens, cached_tokens=found.cached_tokens)

    def _score(self, verdict: str) -> float:
        """The number in a verdict; NaN if there is none."""
        if self.template.choices:
            return float(verdict == self.template.choices[0])
        try:
            return float(verdict)
        except ValueError:
            return math.nan


@dataclass(frozen=True, slots=True)
class ProbabilityJudge:
    """The judge's probability that a response is good ("P(True)"), without sampling a verdict.

    Law: p(c) is proportional to pi(c | question) over the template's choices c; the first choice
    c_1 says that the response is good. The reward is ln(p(c_1) / (1 - p(c_1))), or p(c_1) itself.

    Paper: Kadavath et al. 2022, arXiv:2207.05221.

    Attributes:
        policy: the judge, with temperature 1 and without truncation.
        template: the question, with the placeholder ``{response}`` and choices.
        returns: ``"log_odds"`` (nats, unbounded) or ``"probability"``.

    Raises:
        ConfigError: if the policy cannot be used as a judge, the template lacks the placeholder or
            has a pattern, or `returns` is neither of the two.

    Example:
        >>> reward = ProbabilityJudge(judge, Template.named("right"))  # doctest: +SKIP
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
        """Identifies this judge in a journal."""
        return judge_fingerprint(self)

    async def score(self, prompt: Prompt, response: Response) -> float:
        """The log-odds or the probability of the first choice; see `Reward`.

        Raises:
            ConfigError: if one choice begins another, or the judge's law is truncated.
            RewardError: if the judge failed.
        """
        question = self.template.messages(prompt=prompt.text, response=response.text)
        with judge_errors_as_reward_errors(prompt, response):
            found = await weigh_choices(self.policy, self.template, question)
        value = found.log_odds if self.returns == "log_odds" else found.probability
        return Scored(value, tokens=found.tokens)


@dataclass(frozen=True, slots=True)
class PairwiseJudge:
    """The judge's probability that one response is better than another, averaged over both orders.

    Law: prefer(x, a, b) = (q(a, b) + 1 - q(b, a)) / 2, where q(a, b) is the probability of the
    verdict "the first response is better" when a is shown first. Showing both orders cancels a
    judge's preference for a position: a judge that looks at the position alone yields 1/2. q is the
    normalised probability of the first choice or, if the template has a pattern, the share of the
    first choice among `votes` verdicts, which are sampled as in `PointwiseJudge`.

    Papers: both orders, Wang et al. 2023, arXiv:2305.17926; comparing by verdicts after long
    reasoning, without converting them to scores, Hong et al. 2025, arXiv:2505.16265.

    Attributes:
        policy: the judge: a `Writer` if the template has a pattern, else a `Weigher`.
        template: the question, with the placeholders ``{one}`` and ``{other}`` and two choices.
        votes: number of verdicts for each order, if the template has a pattern.
        max_tokens: greatest length of a verdict, including its reasoning.
        seed: seed of the sampled verdicts.

    Raises:
        ConfigError: if the policy cannot be used as a judge, the template lacks the placeholders or
            the two choices, or a number is not at least 1.

    Example:
        >>> judge = PairwiseJudge(policy, Template.named("compare"))  # doctest: +SKIP
        >>> await judge.prefer(prompt, one, other)  # doctest: +SKIP
        0.73
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
        """Identifies this judge in a journal."""
        return judge_fingerprint(self)

    async def prefer(self, prompt: Prompt, one: Response, other: Response) -> float:
        """The probability that `one` is better; see `PairwiseReward`.

        Raises:
            ConfigError: as in `ProbabilityJudge.score`.
            RewardError: if no verdict can be parsed in one of the orders, or the judge failed; its
                attached response is the one that was shown first.
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
        with judge_errors_as_reward_errors(prompt, first):
            if self.template.pattern is None:
                weights = await weigh_choices(cast("Weigher", self.policy), self.template, question)
                return Scored(weights.probability, tokens=weights.tokens)
            found = await write_verdicts(
                cast("Writer", self.policy),
                self.template,
                question,
                votes=self.votes,
                max_tokens=self.max_tokens,
                key=Key(self.seed),
            )
        if not found.verdicts:
            raise unreadable_verdicts_error(found, self.template, prompt, first)
        share = found.verdicts.count(self.template.choices[0]) / len(found.verdicts)
        return Scored(share, tokens=found.tokens, cached_tokens=found.cached_tokens)
