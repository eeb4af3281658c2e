"""Judges: exact on a toy that is asked in words; mechanics on the real engine."""

import asyncio
import dataclasses
import math
from dataclasses import dataclass

import pytest
import torch
from exact import language_model

from rsalign import ConfigError, Key, Message, PolicyError, Prompt, Response, RewardError, Stop
from rsalign.core.protocols import PairwiseReward, Reward
from rsalign.core.tasks import concurrently
from rsalign.core.types import Sampling, Segment
from rsalign.rewards.judge import (
    PairwiseJudge,
    PointwiseJudge,
    ProbabilityJudge,
)
from rsalign.rewards.judge_templates import Template
from rsalign.testing import ToyPolicy, check_reward, responses

PROMPT = Prompt((Message("user", "What is it?"),), (1,))
ONE = Response((1,), "a dog", Stop.EOS)
OTHER = Response((2,), "a small cat", Stop.EOS)
DIGIT = Template(user="{prompt} {response} How good?", pattern=r"(\d)")
YES = Template(system="Be fair.", user="{prompt} {response}?", choices=("Yes", "No"))
FIRST = Template(user="{prompt} {one} or {other}?", choices=("A", "BC"))
WRITTEN = Template(user="{one} or {other}?", pattern=r"(\d)", choices=("1", "2"))


@dataclass(frozen=True, slots=True)
class ToyJudge(ToyPolicy):
    """A toy that reads any text, one id a character, and writes ids as digits."""

    vocab: int = 7

    def encode(self, text):
        return tuple(1 + ord(char) % (self.vocab - 1) for char in text)

    def encode_chat(self, messages, *, chat_template=None, add_generation_prompt=True):
        return self.encode("|".join(message.content for message in messages))


JUDGE = ToyJudge()


def question(template, **texts):
    return JUDGE.encode_chat(template.messages(prompt="What is it?", **texts))


def log_prob(prefix, text):
    tokens = JUDGE.encode(text)
    return sum(math.log(JUDGE.probs(prefix + tokens[:i])[t]) for i, t in enumerate(tokens))


def score(judge, response=ONE, prompt=PROMPT):
    return asyncio.run(judge.score(prompt, response))


def prefer(judge, one, other, prompt=PROMPT):
    return asyncio.run(judge.prefer(prompt, one, other))


@pytest.mark.parametrize("response", [ONE, OTHER])
def test_votes_have_the_law_of_what_the_judge_writes(response):
    """The last digit of at most 3 tokens, where one is written at all."""
    written = responses(JUDGE, question(DIGIT, response=response.text), 3)
    law = {y: p for y, p in written.items() if JUDGE.text(y)}
    readable = sum(law.values())

    def mean(of):
        return sum(p * of([t for t in y if t]) for y, p in law.items()) / readable

    right = mean(lambda digits: digits[-1])
    variance = mean(lambda digits: (digits[-1] - right) ** 2)
    error = (variance / (4000 * readable)) ** 0.5
    found = score(PointwiseJudge(JUDGE, DIGIT, votes=4000, max_tokens=3), response)
    assert abs(found - right) < 4 * error
    assert readable < 0.95
    assert abs(readable * right - right) > 4 * error, "votes that cannot be read as 0 would pass"
    assert abs(mean(lambda digits: digits[0]) - right) > 4 * error, "first digits would pass"


def test_more_votes_only_add_draws():
    """One vote each at three addresses is three votes, and what cannot be read counts as none."""

    def judge(votes):
        return PointwiseJudge(JUDGE, DIGIT, votes=votes, max_tokens=2, seed=5)

    key = Key(5).child("verdict")
    found = [score(judge(k)) for k in range(1, 9)]
    assert len(set(found)) > 1
    assert all(1 <= value <= 6 for value in found)

    class Spy(ToyJudge):
        async def extend(self, prefix, *, max_new_tokens, key, boundary=None):
            keys.append(key)
            return await ToyJudge.extend(self, prefix, max_new_tokens=max_new_tokens, key=key)

    keys = []
    again = score(PointwiseJudge(Spy(), DIGIT, votes=8, max_tokens=2, seed=5))
    assert again == found[-1]
    assert [k.path[-1] for k in keys] == list(range(8))
    assert {(k.root, k.path[:-2]) for k in keys} == {(5, key.path)}
    (digest,) = {k.path[-2] for k in keys}
    keys.clear()
    score(PointwiseJudge(Spy(), DIGIT, votes=1, max_tokens=2, seed=5), OTHER)
    assert keys[0].path[-2] != digest


def test_the_cost_is_counted():
    scored = score(PointwiseJudge(JUDGE, DIGIT, votes=5, max_tokens=1))
    assert scored.tokens == 5 * (len(question(DIGIT, response=ONE.text)) + 1)
    weighed = score(ProbabilityJudge(JUDGE, YES))
    assert weighed.tokens == 2 * len(question(YES, response=ONE.text)) + len("YesNo")


def test_a_greedy_judge_writes_its_one_verdict_once():
    class Greedy(ToyJudge):
        sampling = Sampling(temperature=0)

        async def extend(self, prefix, *, max_new_tokens, key, boundary=None):
            asked.append(key)
            return await ToyJudge.extend(self, prefix, max_new_tokens=max_new_tokens, key=Key(1))

    asked = []
    one, many = (
        score(PointwiseJudge(Greedy(), DIGIT, votes=votes, max_tokens=2)) for votes in (1, 8)
    )
    assert many == one
    assert many.tokens == one.tokens
    assert len(asked) == 2


def test_votes_for_choices_are_a_share():
    template = Template(user="{response}", pattern=r"(\d)", choices=("3", "4"))
    votes = 400
    share = score(PointwiseJudge(JUDGE, template, votes=votes, max_tokens=1))
    probs = JUDGE.probs(question(template, response=ONE.text))
    right = probs[3] / (probs[3] + probs[4])
    assert share == pytest.approx(right, abs=4 * 0.5 / (votes * (probs[3] + probs[4])) ** 0.5)


def test_unreadable_votes_are_an_error():
    nowhere = Template(user="{response}", pattern="(never)")
    with pytest.raises(
        RewardError, match=r"none of 3 votes can be read: .* nothing that"
    ) as failed:
        score(PointwiseJudge(JUDGE, nowhere, votes=3, max_tokens=2))
    assert failed.value.response is ONE
    no_number = Template(user="{response}", pattern="(.)")
    score(PointwiseJudge(JUDGE, no_number, votes=3, max_tokens=1))
    with pytest.raises(RewardError, match="none of 9 votes"):
        score(PointwiseJudge(Shouting(), no_number, votes=9, max_tokens=1))


class Shouting(ToyJudge):
    """Writes no digits."""

    def text(self, tokens):
        return "!" * len(tokens)


def test_p_true_is_exact():
    prefix = question(YES, response=ONE.text)
    yes, no = (math.exp(log_prob(prefix, choice)) for choice in ("Yes", "No"))
    odds = score(ProbabilityJudge(JUDGE, YES))
    assert odds == pytest.approx(math.log(yes / no), abs=1e-9)
    probability = score(ProbabilityJudge(JUDGE, YES, returns="probability"))
    assert probability == pytest.approx(yes / (yes + no), abs=1e-9)
    turned = Template(system=YES.system, user=YES.user, choices=("No", "Yes"))
    assert score(ProbabilityJudge(JUDGE, turned)) == pytest.approx(-odds, abs=1e-9)


def test_p_true_among_three():
    three = Template(user=YES.user, choices=("Yes", "No", "Maybe"))
    prefix = JUDGE.encode_chat(three.messages(prompt="What is it?", response=ONE.text))
    p = [math.exp(log_prob(prefix, choice)) for choice in three.choices]
    probability = score(ProbabilityJudge(JUDGE, three, returns="probability"))
    assert probability == pytest.approx(p[0] / sum(p), abs=1e-9)
    assert score(ProbabilityJudge(JUDGE, three)) == pytest.approx(
        math.log(p[0] / (p[1] + p[2])), abs=1e-9
    )


@pytest.mark.parametrize("certain", [-800.0, 800.0])
def test_certainty_does_not_overflow(certain):
    class Sure(ToyJudge):
        async def log_probs(self, prefix, tokens):
            return (min(0.0, certain if tokens == self.encode("Yes") else -certain),)

    assert score(ProbabilityJudge(Sure(), YES)) == certain
    assert score(ProbabilityJudge(Sure(), YES, returns="probability")) == (certain > 0)


SCALE = Template(user="{response}?", choices=("1", "2", "3"), values=(1.0, 2.5, 4.0))
REASONED = Template(user="{response}?", choices=("Yes", "No"), thought=True, lead="So: ")


def test_the_mean_score_is_exact():
    """Weights of the score tokens after a lead, which is part of every choice."""
    led = dataclasses.replace(SCALE, lead="Score: ")
    for template in (SCALE, led):
        prefix = JUDGE.encode_chat(template.messages(response=ONE.text))
        p = [math.exp(log_prob(prefix, template.lead + choice)) for choice in template.choices]
        mean = sum(one * value for one, value in zip(p, template.values, strict=True)) / sum(p)
        assert score(ProbabilityJudge(JUDGE, template)) == pytest.approx(mean, abs=1e-9)
        first = score(ProbabilityJudge(JUDGE, template, returns="probability"))
        assert first == pytest.approx(p[0] / sum(p), abs=1e-9)


def test_p_true_after_reasons_has_the_law_of_the_reasons():
    """The mean over all texts of at most 2 tokens that the judge may write first."""
    prefix = question(REASONED, response=ONE.text)

    def p_yes(reasons):
        before = prefix + tuple(token for token in reasons if token)
        yes, no = (math.exp(log_prob(before, "\nSo: " + choice)) for choice in REASONED.choices)
        return yes / (yes + no)

    law = responses(JUDGE, prefix, 2)
    right = sum(p * p_yes(y) for y, p in law.items())
    error = (sum(p * (p_yes(y) - right) ** 2 for y, p in law.items()) / 3000) ** 0.5
    at_once = p_yes(())
    found = score(
        ProbabilityJudge(JUDGE, REASONED, returns="probability", votes=3000, max_tokens=2)
    )
    assert abs(found - right) < 4 * error
    assert abs(at_once - right) > 4 * error, "a judge that skips its reasons would pass"
    odds = score(ProbabilityJudge(JUDGE, REASONED, votes=3000, max_tokens=2))
    assert odds == pytest.approx(math.log(found / (1 - found)), abs=1e-9)


@dataclass(frozen=True, slots=True)
class Speaker(ToyJudge):
    """Writes one given text, and notes what it is asked to weigh."""

    says: str = ""
    weighed: list = dataclasses.field(default_factory=list, compare=False)

    async def extend(self, prefix, *, max_new_tokens, key, boundary=None):
        return Segment(tuple(map(ord, self.says)), None, Stop.LENGTH)

    def text(self, tokens):
        return "".join(map(chr, tokens))

    def encode_chat(self, messages, *, chat_template=None, add_generation_prompt=True):
        return tuple(map(ord, messages[-1].content))

    async def log_probs(self, prefix, tokens):
        self.weighed.append("".join(map(chr, (*prefix, *tokens))))
        return (-1.0,) * len(tokens)


@pytest.mark.parametrize(
    ("says", "before"),
    [
        ("It is fine.", "It is fine.\nSo: "),
        ("It is fine.\n", "It is fine.\nSo: "),
        ("It is fine.\nSo: Yes", "It is fine.\nSo: "),
        ("So: No, they say.\nSo: Yes, I say", "So: No, they say.\nSo: "),
        ("<think>So: Yes</think>\n", "<think>So: Yes</think>\nSo: "),
        ("<think>So: Yes</think>So: No", "<think>So: Yes</think>So: "),
        ("", "\nSo: "),
    ],
)
def test_choices_are_weighed_where_the_verdict_begins(says, before):
    judge = Speaker(says=says)
    score(ProbabilityJudge(judge, REASONED))
    assert sorted(judge.weighed) == sorted(f"a dog?{before}{choice}" for choice in ("Yes", "No"))


def test_a_thought_without_an_end_is_no_verdict():
    with pytest.raises(RewardError, match=r"none of 1 votes .* its thought has no end"):
        score(ProbabilityJudge(Speaker(says="<think>So: Yes"), REASONED))


def test_ties_are_halves():
    tie = Template(
        user="{one} or {other}?",
        pattern=r"\[\[(.)\]\]",
        choices=("A", "B", "C"),
        values=(1.0, 0.0, 0.5),
    )
    for says, first in (("[[A]]", 1.0), ("[[B]]", 0.0), ("[[C]]", 0.5)):
        judge = PairwiseJudge(Speaker(says=says), tie)
        assert prefer(judge, ONE, OTHER) == 0.5, "whatever its place says"
        assert asyncio.run(judge.prefer_first(PROMPT, ONE, OTHER)) == first
    weighed = dataclasses.replace(tie, pattern=None)
    prefix = question(weighed, one=ONE.text, other=OTHER.text)
    p = [math.exp(log_prob(prefix, choice)) for choice in "ABC"]
    found = asyncio.run(PairwiseJudge(JUDGE, weighed).prefer_first(PROMPT, ONE, OTHER))
    assert found == pytest.approx((p[0] + p[2] / 2) / sum(p), abs=1e-9)
    for values in ((), (0.0, 1.0, 0.5), (1.0, 0.0, 2.0), (1.0, 0.5, 0.0)):
        with pytest.raises(ConfigError, match="begin with 1, 0"):
            PairwiseJudge(JUDGE, dataclasses.replace(tie, values=values))
    with pytest.raises(ConfigError, match="thought=true"):
        PairwiseJudge(JUDGE, dataclasses.replace(REASONED, user="{one} or {other}?"))


def test_both_orders_are_asked_exactly():
    def first_wins(one, other):
        prefix = question(FIRST, one=one.text, other=other.text)
        a, b = (math.exp(log_prob(prefix, choice)) for choice in FIRST.choices)
        return a / (a + b)

    judge = PairwiseJudge(JUDGE, FIRST)
    there, back = first_wins(ONE, OTHER), first_wins(OTHER, ONE)
    assert abs(there + back - 1) > 0.01, "this judge has no position bias to cancel"
    preferred = prefer(judge, ONE, OTHER)
    assert preferred == pytest.approx((there + 1 - back) / 2, abs=1e-9)
    assert preferred + prefer(judge, OTHER, ONE) == pytest.approx(1, abs=1e-12)
    assert prefer(judge, ONE, ONE) == 0.5
    assert isinstance(judge, PairwiseReward)
    assert not isinstance(PointwiseJudge(JUDGE, DIGIT), PairwiseReward)


def test_a_pure_position_bias_cancels():
    class First(ToyJudge):
        async def log_probs(self, prefix, tokens):
            return (-0.01 if tokens == self.encode("A") else -5.0,)

    assert prefer(PairwiseJudge(First(), FIRST), ONE, OTHER) == 0.5


def test_written_preferences_are_symmetric():
    judge = PairwiseJudge(JUDGE, WRITTEN, votes=25, max_tokens=4)
    preferred = prefer(judge, ONE, OTHER)
    assert 0 < preferred < 1
    assert preferred + prefer(judge, OTHER, ONE) == pytest.approx(1, abs=1e-12)
    assert prefer(judge, ONE, OTHER) == preferred
    others = {prefer(PairwiseJudge(JUDGE, WRITTEN, 25, 4, seed), ONE, OTHER) for seed in range(9)}
    assert len(others) > 1
    assert preferred.tokens > 2 * 25 * len(question(WRITTEN, one=ONE.text, other=OTHER.text))


def test_written_preferences_have_the_law_of_the_judge():
    judge, votes, variance = ToyJudge(salt=1), 3000, 0.0
    first_wins = {}
    for one, other in ((ONE, OTHER), (OTHER, ONE)):
        probs = judge.probs(question(WRITTEN, one=one.text, other=other.text))
        readable = probs[1] + probs[2]
        first_wins[one] = probs[1] / readable
        variance += first_wins[one] * (1 - first_wins[one]) / (votes * readable)
    right = (first_wins[ONE] + 1 - first_wins[OTHER]) / 2
    preferred = prefer(PairwiseJudge(judge, WRITTEN, votes=votes, max_tokens=1), ONE, OTHER)
    assert abs(preferred - right) < 4 * variance**0.5 / 2
    assert abs(first_wins[ONE] - right) > 4 * variance**0.5 / 2, "one order alone would pass"


def test_votes_that_cannot_be_read_prefer_nothing():
    """A sure judge, every other verdict of which is silence."""

    class Sure(ToyJudge):
        async def extend(self, prefix, *, max_new_tokens, key, boundary=None):
            wins = 1 if prefix == question(WRITTEN, one=ONE.text, other=OTHER.text) else 2
            return Segment((wins if key.path[-1] % 2 else 0,), None, Stop.LENGTH)

    judge = PairwiseJudge(Sure(), WRITTEN, votes=7)
    assert (prefer(judge, ONE, OTHER), prefer(judge, OTHER, ONE)) == (1, 0)


def test_an_order_without_a_verdict_is_an_error():
    silent = Template(user="{one} {other}", pattern="(never)", choices=("1", "2"))
    with pytest.raises(RewardError, match="none of 1 votes"):
        prefer(PairwiseJudge(JUDGE, silent, max_tokens=2), ONE, OTHER)


def test_they_are_rewards():
    examples = [
        (PROMPT, ONE),
        (PROMPT, OTHER),
        (PROMPT, Response((3,), "a", Stop.BOUNDARY)),
        (PROMPT, Response((), "", None)),
    ]
    for judge in (
        PointwiseJudge(JUDGE, DIGIT, votes=9, max_tokens=5),
        ProbabilityJudge(JUDGE, YES),
    ):
        assert isinstance(judge, Reward)
        asyncio.run(check_reward(judge, examples, tolerance=0.0))


def test_a_dead_judge_is_a_failed_reward():
    class Dead(ToyJudge):
        async def extend(self, prefix, **_) -> Segment:
            raise PolicyError("it died")

        async def log_probs(self, prefix, tokens):
            raise PolicyError("it died")

    for judge in (PointwiseJudge(Dead(), DIGIT), ProbabilityJudge(Dead(), YES)):
        with pytest.raises(RewardError, match="it died") as failed:
            score(judge)
        assert (failed.value.prompt, failed.value.response) == (PROMPT, ONE)
    for template in (FIRST, WRITTEN):
        with pytest.raises(RewardError, match="it died"):
            prefer(PairwiseJudge(Dead(), template), ONE, OTHER)


def test_fingerprints_differ_where_values_may():
    made = [
        PointwiseJudge(JUDGE, DIGIT),
        PointwiseJudge(ToyJudge(salt=1), DIGIT),
        PointwiseJudge(JUDGE, Template(user="{response}", pattern="(.)")),
        PointwiseJudge(JUDGE, DIGIT, votes=2),
        PointwiseJudge(JUDGE, DIGIT, seed=1),
        ProbabilityJudge(JUDGE, YES),
        ProbabilityJudge(JUDGE, YES, returns="probability"),
        PairwiseJudge(JUDGE, FIRST),
    ]
    assert len({judge.fingerprint for judge in made}) == len(made)
    assert PointwiseJudge(JUDGE, DIGIT).fingerprint == made[0].fingerprint


class Mute:
    """Knows its tokenizer and nothing else."""

    def encode(self, text):
        return (1,)

    def encode_chat(self, messages, *, chat_template=None, add_generation_prompt=True):
        return (1,)


def test_refusals():
    for make, says in (
        (lambda: PointwiseJudge(object(), DIGIT), "give a policy"),
        (lambda: PointwiseJudge(Mute(), DIGIT), "has no extend"),
        (lambda: ProbabilityJudge(Mute(), YES), "has no log_probs"),
        (lambda: PairwiseJudge(Mute(), FIRST), "has no log_probs"),
        (lambda: PairwiseJudge(Mute(), WRITTEN), "has no extend"),
        (lambda: PointwiseJudge(JUDGE, DIGIT, votes=0), "votes=0"),
        (lambda: PointwiseJudge(JUDGE, DIGIT, max_tokens=0), "max_tokens=0"),
        (lambda: PointwiseJudge(JUDGE, YES), "no pattern"),
        (lambda: ProbabilityJudge(JUDGE, DIGIT), "must be written"),
        (lambda: ProbabilityJudge(JUDGE, YES, returns="odds"), "returns='odds'"),
        (lambda: PointwiseJudge(JUDGE, WRITTEN), "placeholders are"),
        (lambda: PairwiseJudge(JUDGE, YES), "placeholders are"),
        (
            lambda: PairwiseJudge(JUDGE, Template(user="{one}{other}", choices=("A", "B", "C"))),
            "two choices",
        ),
    ):
        with pytest.raises(ConfigError, match=says):
            make()
    begins = Template(user="{response}", choices=("Yes", "Yes, but"))
    with pytest.raises(ConfigError, match="'Yes' begins the choice 'Yes, but'"):
        score(ProbabilityJudge(JUDGE, begins))


ASKED = Template(system="How many?", user="{prompt}\n{response}", pattern=r"(\d+)")
WEIGHED = Template(user="{prompt}\n{response}", choices=(" 12", " 7", "First 12"))
COMPARED = Template(user="{one}\n{other}", choices=(" 12", "First"))
COMPARED_IN_WORDS = Template(
    user="{one}\n{other}", pattern="(First|Then)", choices=("First", "Then")
)


@pytest.fixture
def answers(policy, ask):
    """Two answers to one problem, and one to another."""

    async def main():
        drawn = await concurrently(
            policy.extend(ask(i).tokens, max_new_tokens=40, key=Key(4, (i, j)))
            for i, j in ((0, 0), (0, 1), (1, 0))
        )
        return [Response(s.tokens, policy.text(s.tokens), s.stop) for s in drawn]

    return asyncio.run(main())


@pytest.mark.engine
def test_on_the_engine_verdicts_are_reproducible(policy, ask, answers):
    judge = PointwiseJudge(policy, ASKED, votes=4, max_tokens=24)
    examples = [(ask(0), answers[0]), (ask(0), answers[1]), (ask(1), answers[2])]
    asyncio.run(check_reward(judge, examples, tolerance=0.0))
    first = score(judge, answers[0], ask(0))
    assert math.isfinite(first)
    assert first != score(PointwiseJudge(policy, ASKED, 4, 24, seed=1), answers[0], ask(0))
    assert first.tokens > 4 * 40


@torch.inference_mode()
def exact_probability(policy, template, prompt, response):
    """P(first choice) among the choices, by transformers."""
    prefix = policy.encode_chat(template.messages(prompt=prompt.text, response=response.text))
    tokenizer, logs = policy.engine.tokenizer, []
    for choice in template.choices:
        ids = tokenizer.encode(choice, add_special_tokens=False)
        logits = language_model()(torch.tensor([[*prefix, *ids]])).logits[0, len(prefix) - 1 : -1]
        log_probs = logits.double().log_softmax(-1)
        logs.append(log_probs.gather(-1, torch.tensor(ids)[:, None]).sum())
    return torch.stack(logs).softmax(-1)[0].item()


@pytest.mark.engine
def test_on_the_engine_p_true_agrees_with_transformers(policy, ask, answers):
    for index, response in zip((0, 0, 1), answers, strict=True):
        right = exact_probability(policy, WEIGHED, ask(index), response)
        judge = ProbabilityJudge(policy, WEIGHED, returns="probability")
        assert score(judge, response, ask(index)) == pytest.approx(right, abs=1e-4)
        odds = score(ProbabilityJudge(policy, WEIGHED), response, ask(index))
        assert odds == pytest.approx(math.log(right / (1 - right)), abs=1e-3)
    examples = [(ask(0), answers[0]), (ask(1), answers[2])]
    asyncio.run(check_reward(ProbabilityJudge(policy, WEIGHED), examples, tolerance=1e-3))


@pytest.mark.engine
@pytest.mark.parametrize("template", [COMPARED, COMPARED_IN_WORDS])
def test_on_the_engine_both_orders_are_symmetric(policy, ask, answers, template):
    judge = PairwiseJudge(policy, template, votes=4, max_tokens=24)
    there = prefer(judge, answers[0], answers[1], ask(0))
    back = prefer(judge, answers[1], answers[0], ask(0))
    assert there + back == pytest.approx(1, abs=1e-6)
    assert prefer(judge, answers[0], answers[0], ask(0)) == pytest.approx(0.5, abs=1e-6)
    assert prefer(judge, answers[0], answers[1], ask(0)) == pytest.approx(there, abs=1e-6)


@pytest.mark.engine
def test_on_the_engine_a_tempered_law_weighs_nothing(policy, ask, answers):
    from rsalign import Sampling

    judge = ProbabilityJudge(policy.with_sampling(Sampling(temperature=0.5)), WEIGHED)
    with pytest.raises(ConfigError, match="temperature 1"):
        score(judge, answers[0], ask(0))


@dataclass(frozen=True, slots=True)
class GemmaJudge(ToyJudge):
    """Its template has no system messages, and no texts with a forbidden word."""

    def encode_chat(self, messages, *, chat_template=None, add_generation_prompt=True):
        if messages[0].role == "system":
            raise ValueError("System role not supported")
        if "forbidden" in messages[-1].content:
            raise ValueError("no such word")
        return self.encode("|".join(message.content for message in messages))


def test_a_judge_without_system_messages():
    """The system message is put before the user's."""
    merged = Template(user=f"{YES.system}\n\n{YES.user}", choices=YES.choices)
    found = score(ProbabilityJudge(GemmaJudge(), YES))
    assert found == score(ProbabilityJudge(JUDGE, merged))
    templates = map(Template.named, ("score", "right", "compare", "compare_with_reasons"))
    assert all(template.system for template in templates)
    written = Template(system="Be fair.", user="{response}", pattern=r"(\d)")
    assert score(PointwiseJudge(GemmaJudge(), written, votes=50)) > 0
    pairs = Template(system="Be fair.", user="{one} {other}", choices=("A", "BC"))
    assert 0 < prefer(PairwiseJudge(GemmaJudge(), pairs), ONE, OTHER) < 1


def test_a_question_that_a_template_refuses_concerns_one_response():
    said = Response((1,), "a forbidden cat", Stop.EOS)
    for judge in (ProbabilityJudge(GemmaJudge(), YES), PointwiseJudge(GemmaJudge(), DIGIT)):
        with pytest.raises(RewardError, match="no such word") as failed:
            score(judge, said)
        assert failed.value.response is said


def test_a_judge_without_a_template_is_a_mistake_of_the_user():
    @dataclass(frozen=True, slots=True)
    class Bare(ToyJudge):
        def encode_chat(self, messages, *, chat_template=None, add_generation_prompt=True):
            raise ConfigError("there is no chat template")

    with pytest.raises(ConfigError, match="there is no chat template"):
        score(ProbabilityJudge(Bare(), YES))

    @dataclass(frozen=True, slots=True)
    class Broken(ToyJudge):
        def encode_chat(self, messages, *, chat_template=None, add_generation_prompt=True):
            return {}["role"]

    with pytest.raises(ConfigError, match=r"template fails on a question \(KeyError: 'role'"):
        score(ProbabilityJudge(Broken(), YES))
