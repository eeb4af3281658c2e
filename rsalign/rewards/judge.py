"""Language models as judges: of one response, by a score or a probability, or of two responses.

The judge is a policy with a chat template: a separate model, a model behind a server, or the policy
that wrote the responses. The question to it is a `Template`. A judge reward does not close its
policy.
"""

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, cast

from rsalign.core.checks import SEED, at_least, check_settings, check_value
from rsalign.core.errors import ConfigError
from rsalign.core.key import Key
from rsalign.core.protocols import Scored
from rsalign.core.tasks import concurrently
from rsalign.core.types import Prompt, Response
from rsalign.rewards.judge_templates import Template
from rsalign.rewards.judge_verdicts import (
    JUDGE,
    ChoiceWeights,
    Reasoner,
    Weigher,
    Writer,
    judge_errors_as_reward_errors,
    judge_fingerprint,
    unreadable_verdicts_error,
    weigh_after_thought,
    weigh_choices,
    write_verdicts,
)


@dataclass(frozen=True, slots=True)
class PointwiseJudge:
    """The mean score of k verdicts that a language model writes about one response.

    Law: r(x, y) = mean of s(v_i) over the verdicts that can be read, where v_1 .. v_k are sampled
    from the judge given the question, and s is the number in a verdict. If the template has
    choices, s is the choice's number (`Template.values`); without such numbers it is 1 for the
    first choice and 0 for the others, so that r is the share of the first.
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
        if not found.verdicts:
            raise unreadable_verdicts_error(found, prompt, response)
        scores = list(map(self.template.number, found.verdicts))
        mean = math.fsum(scores) / len(scores)
        return Scored(mean, tokens=found.tokens, cached_tokens=found.cached_tokens)


@dataclass(frozen=True, slots=True)
class ProbabilityJudge:
    """The judge's probability that a response is good ("P(True)"), without sampling a verdict.

    Law: p(c) is proportional to pi(c | question) over the template's choices c; the first choice
    c_1 says that the response is good. The reward is ln(p(c_1) / (1 - p(c_1))), p(c_1) itself, or
    the mean of the choices' numbers (`Template.values`) under p. If the template has `thought`, the
    judge writes k texts of reasons t_i first, and p(c) is the mean of p(c | question, t_i); they
    are sampled as in `PointwiseJudge`.

    Papers: Kadavath et al. 2022, arXiv:2207.05221; the mean score, Liu et al. 2023,
    arXiv:2303.16634; after reasons, Zhang et al. 2024, arXiv:2408.15240.

    Attributes:
        policy: the judge, with temperature 1 and without truncation.
        template: the question, with the placeholder ``{response}`` and choices.
        returns: ``"log_odds"`` (nats, unbounded), ``"probability"`` or ``"mean"``; None: the mean
            if the template's choices have numbers, else the log-odds.
        votes: number of texts of reasons, if the template has `thought`.
        max_tokens: greatest length of the reasons.
        seed: seed of the sampled reasons.

    Raises:
        ConfigError: if the policy cannot be used as a judge, the template lacks the placeholder or
            has a pattern, or `returns` or a number is none of the allowed.

    Example:
        >>> reward = ProbabilityJudge(judge, Template.named("right"))  # doctest: +SKIP
    """

    policy: Weigher
    template: Template = field(default_factory=lambda: Template.named("right"))
    returns: Literal["log_odds", "probability", "mean"] | None = None
    votes: int = 1
    max_tokens: int = 1024
    seed: int = 0

    def __post_init__(self) -> None:
        check_settings(self, policy=JUDGE, votes=at_least(1), max_tokens=at_least(1), seed=SEED)
        self.template.require("response")
        if self.template.thought:
            check_value("ProbabilityJudge", "policy", self.policy, Reasoner, JUDGE)
        if self.returns is None:
            how: Any = "mean" if self.template.values else "log_odds"
            object.__setattr__(self, "returns", how)
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
        """The log-odds or the probability of the first choice, or the mean; see `Reward`.

        Raises:
            ConfigError: if one choice begins another, or the judge's law is truncated.
            RewardError: if the judge failed, or no text of reasons has an end of its thought.
        """
        question = self.template.messages(prompt=prompt.text, response=response.text)
        with judge_errors_as_reward_errors(prompt, response):
            if not self.template.thought:
                one = await weigh_choices(self.policy, self.template, question)
                return Scored(self._value((one,)), tokens=one.tokens)
            weights, written = await weigh_after_thought(
                cast("Reasoner", self.policy),
                self.template,
                question,
                votes=self.votes,
                max_tokens=self.max_tokens,
                key=Key(self.seed),
            )
        if not weights:
            raise unreadable_verdicts_error(written, prompt, response)
        value = self._value(weights)
        return Scored(value, tokens=written.tokens, cached_tokens=written.cached_tokens)

    def _value(self, weights: Sequence[ChoiceWeights]) -> float:
        """The reward from the weights of the choices, of which there are several after reasons."""
        if self.returns == "log_odds" and len(weights) == 1:
            return weights[0].log_odds  # exact where the probability rounds to 0 or 1
        rows = [one.probabilities for one in weights]
        mean = [math.fsum(column) / len(rows) for column in zip(*rows, strict=True)]
        if self.returns == "mean":
            return math.fsum(p * v for p, v in zip(mean, self.template.numbers, strict=True))
        if self.returns == "probability":
            return mean[0]
        least = sys.float_info.min
        return math.log(max(mean[0], least)) - math.log(max(math.fsum(mean[1:]), least))


@dataclass(frozen=True, slots=True)
class PairwiseJudge:
    """The judge's probability that one response is better than another, averaged over both orders.

    Law: prefer(x, a, b) = (q(a, b) + 1 - q(b, a)) / 2, where q(a, b) is the probability of the
    verdict "the first response is better" when a is shown first. Showing both orders cancels a
    judge's preference for a position: a judge that looks at the position alone yields 1/2. q is the
    normalised probability of the first choice or, if the template has a pattern, the share of the
    first choice among `votes` verdicts, which are sampled as in `PointwiseJudge`. A third choice
    may stand for a tie: `Template.values` then says what each choice is worth to the first
    response, and q is the mean of these numbers.

    Papers: both orders, Wang et al. 2023, arXiv:2305.17926; comparing by verdicts after long
    reasoning, without converting them to scores, Hong et al. 2025, arXiv:2505.16265.

    Attributes:
        policy: the judge: a `Writer` if the template has a pattern, else a `Weigher`.
        template: the question, with the placeholders ``{one}`` and ``{other}`` and two choices, or
            more with values from 0 to 1.
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
        numbers = self.template.numbers
        if (len(numbers) != 2 and not self.template.values) or not (
            len(numbers) > 1 and numbers[0] == max(numbers) == 1 and numbers[1] == min(numbers) == 0
        ):
            raise ConfigError(
                f"choices={self.template.choices!r}, values={self.template.values!r}: of two "
                "responses one is better, so there must be two choices, or more with values that "
                "begin with 1, 0 and lie between them"
            )
        if self.template.thought:
            raise ConfigError(
                "the template has thought=true, which ProbabilityJudge understands: compare two "
                "responses by a template with a pattern, or without reasons"
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
            self.prefer_first(prompt, first, second)
            for first, second in ((one, other), (other, one))
        )
        return Scored(
            (there + (1 - back)) / 2,
            tokens=there.tokens + back.tokens,
            cached_tokens=there.cached_tokens + back.cached_tokens,
        )

    async def prefer_first(self, prompt: Prompt, first: Response, second: Response) -> Scored:
        """Returns q: the probability of the verdict for the response that is shown first.

        Raises as `prefer` does.
        """
        question = self.template.messages(prompt=prompt.text, one=first.text, other=second.text)
        with judge_errors_as_reward_errors(prompt, first):
            if self.template.pattern is None:
                weights = await weigh_choices(cast("Weigher", self.policy), self.template, question)
                shares = zip(weights.probabilities, self.template.numbers, strict=True)
                return Scored(math.fsum(p * v for p, v in shares), tokens=weights.tokens)
            found = await write_verdicts(
                cast("Writer", self.policy),
                self.template,
                question,
                votes=self.votes,
                max_tokens=self.max_tokens,
                key=Key(self.seed),
            )
        if not found.verdicts:
            raise unreadable_verdicts_error(found, prompt, first)
        share = math.fsum(map(self.template.number, found.verdicts)) / len(found.verdicts)
        return Scored(share, tokens=found.tokens, cached_tokens=found.cached_tokens)
