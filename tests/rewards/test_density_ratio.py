"""The log-density ratio: exact on toys; on the real engine against transformers, and useful."""

import asyncio
import itertools
import math

import pytest
import torch
from exact import language_model

from rsalign import ConfigError, Key, Message, PolicyError, Prompt, Response, RewardError, Stop
from rsalign.core.protocols import Reward, StepReward
from rsalign.core.tasks import concurrently
from rsalign.embedded import POLICY, STRONG
from rsalign.embedded.problems import problem
from rsalign.policies.vllm import VllmPolicy
from rsalign.rewards.density_ratio import DensityRatio, Instructed
from rsalign.rewards.steps import Steps
from rsalign.testing import ToyPolicy, check_reward

NUM_PROBLEMS = 60
PROMPT = Prompt((Message("user", "1 2"),), (1, 2))
ONE, OTHER = ToyPolicy(4, salt=1), ToyPolicy(4, salt=2)
ANSWER = Response((3, 1, 2, 2, 0), "3 1 2 2", Stop.EOS)
EXAMPLES = [
    (PROMPT, ANSWER),
    (PROMPT, Response((3, 1), "3 1", Stop.BOUNDARY)),
    (PROMPT, Response((0,), "", Stop.EOS)),
    (PROMPT, Response((), "", None)),
]


def toy_log_prob(policy, prompt, tokens):
    """Of a whole response, by multiplying table entries."""
    return math.log(math.prod(policy.probs(prompt + tokens[:i])[t] for i, t in enumerate(tokens)))


def score(ratio, response=ANSWER, prompt=PROMPT):
    return asyncio.run(ratio.score(prompt, response))


def score_steps(ratio, ends, response=ANSWER, prompt=PROMPT):
    return asyncio.run(ratio.score_steps(prompt, response, ends))


@pytest.mark.parametrize("beta", [1.0, 0.1])
def test_the_ratio_is_exact(beta):
    right = toy_log_prob(ONE, (1, 2), ANSWER.tokens) - toy_log_prob(OTHER, (1, 2), ANSWER.tokens)
    assert abs(right) > 0.1
    scored = score(DensityRatio(ONE, OTHER, beta))
    assert scored == pytest.approx(beta * right, abs=1e-12)
    assert scored.tokens == 2 * (2 + 5)
    assert score(DensityRatio(OTHER, ONE, beta)) == pytest.approx(-beta * right, abs=1e-12)
    assert score(DensityRatio(ONE, ONE)) == 0


def test_the_likelihood_is_a_special_case():
    right = toy_log_prob(ONE, (1, 2), ANSWER.tokens)
    assert score(DensityRatio(ONE)) == pytest.approx(right, abs=1e-12)
    assert score(DensityRatio(ONE, per_token=True)) == pytest.approx(right / 5, abs=1e-12)


def test_steps_add_up_wherever_they_end():
    ratio = DensityRatio(ONE, OTHER, 0.7)
    whole = score(ratio)
    for count in range(1, 5):
        for inner in itertools.combinations(range(1, 5), count):
            values = score_steps(ratio, (*inner, 5))
            assert len(values) == count + 1
            assert math.fsum(values) == pytest.approx(whole, abs=1e-12)
            # a step's value is what it adds to the prefix before it
            for end, value in zip((*inner, 5), itertools.accumulate(values), strict=True):
                prefix = Response(ANSWER.tokens[:end], "", Stop.BOUNDARY)
                assert value == pytest.approx(score(ratio, prefix), abs=1e-12)


def test_each_step_is_its_own_tokens():
    first, second = score_steps(DensityRatio(ONE), (2, 3))
    assert first == pytest.approx(toy_log_prob(ONE, (1, 2), (3, 1)), abs=1e-12)
    assert second == pytest.approx(math.log(ONE.probs((1, 2, 3, 1))[2]), abs=1e-12)
    half, whole = score_steps(DensityRatio(ONE, per_token=True), (2, 3))
    assert (half, whole) == pytest.approx((first / 2, second), abs=1e-12)


def test_nothing_has_no_ratio():
    assert score(DensityRatio(ONE, OTHER), EXAMPLES[-1][1]) == 0
    assert score_steps(DensityRatio(ONE, OTHER), ()) == ()


def test_it_is_a_reward_and_a_step_reward():
    for ratio in (DensityRatio(ONE, OTHER), DensityRatio(ONE, per_token=True)):
        assert isinstance(ratio, Reward)
        assert isinstance(ratio, StepReward)
        asyncio.run(check_reward(ratio, EXAMPLES))


def test_steps_of_it_sum_to_it():
    """A splitter that covers the text loses no token, EOS included."""

    def after_each_space(text):
        return [i + 1 for i, char in enumerate(text) if char == " "] + [len(text)] * bool(text)

    ratio = DensityRatio(ONE, OTHER)
    steps = Steps(ratio, ONE.text, "sum", splitter=after_each_space)
    for prompt, response in EXAMPLES:
        summed = asyncio.run(steps.score(prompt, response))
        assert summed == pytest.approx(score(ratio, response), abs=1e-12)


def test_an_instruction_changes_the_numerator_only():
    ratio = DensityRatio(ONE, ONE, numerator_prompt=Instructed(ONE, "3 3"))
    right = toy_log_prob(ONE, (3, 3, 1, 2), ANSWER.tokens) - toy_log_prob(
        ONE, (1, 2), ANSWER.tokens
    )
    scored = score(ratio)
    assert scored == pytest.approx(right, abs=1e-12)
    assert scored.tokens == (4 + 5) + (2 + 5)


def test_an_instruction_goes_before_a_system_message():
    class Spy(ToyPolicy):
        def encode_chat(self, messages, **_):
            said.append(messages)
            return (1,)

    said = []
    instructed = Instructed(Spy(), "Be brief.")
    user = Message("user", "hello")
    instructed(Prompt((user,), (1,)))
    instructed(Prompt((Message("system", "Be kind."), user), (1,)))
    assert said == [
        (Message("system", "Be brief."), user),
        (Message("system", "Be brief.\n\nBe kind."), user),
    ]


def test_fingerprints_differ_where_values_may():
    made = [
        DensityRatio(ONE, OTHER),
        DensityRatio(OTHER, ONE),
        DensityRatio(ONE),
        DensityRatio(ONE, OTHER, 0.5),
        DensityRatio(ONE, OTHER, per_token=True),
        DensityRatio(ONE, OTHER, numerator_prompt=Instructed(ONE, "1")),
        DensityRatio(ONE, OTHER, numerator_prompt=Instructed(ONE, "2")),
        DensityRatio(ONE, OTHER, numerator_prompt=len),
    ]
    assert len({ratio.fingerprint for ratio in made}) == len(made)
    assert DensityRatio(ONE, OTHER).fingerprint == made[0].fingerprint


class Fails(ToyPolicy):
    """An engine that died."""

    async def log_probs(self, prefix, tokens):
        raise PolicyError("the engine died")


class Truncated(ToyPolicy):
    """Gives the second token no probability."""

    async def log_probs(self, prefix, tokens):
        return (-1.0, -math.inf, *(-1.0,) * (len(tokens) - 2))


class OtherWords(ToyPolicy):
    """The same ids for other texts."""

    def text(self, tokens):
        return " ".join("abcd"[token] for token in tokens)


def test_refusals():
    with pytest.raises(RewardError, match="died") as failed:
        score(DensityRatio(ONE, Fails(4)))
    assert failed.value.response is ANSWER
    with pytest.raises(RewardError, match=r"token 1 .*no probability"):
        score(DensityRatio(ONE, Truncated(4)))
    with pytest.raises(RewardError, match="no probability"):
        score(DensityRatio(Truncated(4), Truncated(4)))
    with pytest.raises(ConfigError, match="different vocabularies"):
        score(DensityRatio(ONE, OtherWords(4)))
    with pytest.raises(ConfigError, match="increase within"):
        score_steps(DensityRatio(ONE), (6,))
    for beta in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(ConfigError, match="above 0"):
            DensityRatio(ONE, OTHER, beta)


@pytest.fixture(scope="module")
def strong():
    strong = VllmPolicy.start(STRONG, backend="in_process", kv_cache_memory_bytes=64 << 20)
    yield strong
    strong.close()


@pytest.fixture(scope="module")
def drawn(policy):
    """8 answers of the policy to each of the first held-out problems."""

    async def main():
        asked = [problem("heldout", i) for i in range(NUM_PROBLEMS)]
        messages = [(Message("user", one.question),) for one in asked]
        prompts = [Prompt(m, policy.encode_chat(m)) for m in messages]
        segments = await concurrently(
            policy.extend(prompts[i].tokens, max_new_tokens=160, key=Key(11, (i, j)))
            for i in range(NUM_PROBLEMS)
            for j in range(8)
        )
        return [
            (
                asked[k // 8],
                prompts[k // 8],
                Response(s.tokens, policy.text(s.tokens), s.stop, s.log_probs),
            )
            for k, s in enumerate(segments)
        ]

    return asyncio.run(main())


@torch.inference_mode()
def exact_log_prob(path, prefix, tokens):
    logits = language_model(path)(torch.tensor([[*prefix, *tokens]])).logits[0]
    log_probs = logits[len(prefix) - 1 : -1].double().log_softmax(-1)
    return log_probs.gather(-1, torch.tensor(tokens)[:, None]).sum().item()


@pytest.mark.engine
def test_on_the_engine_it_agrees_with_transformers(policy, strong, drawn):
    ratio = DensityRatio(strong, policy)
    for _, prompt, response in drawn[::16]:
        right = exact_log_prob(STRONG, prompt.tokens, response.tokens) - exact_log_prob(
            POLICY, prompt.tokens, response.tokens
        )
        assert score(ratio, response, prompt) == pytest.approx(right, abs=1e-3)
        own = score(DensityRatio(policy), response, prompt)
        assert own == pytest.approx(math.fsum(response.log_probs), abs=1e-3)


@pytest.mark.engine
def test_on_the_engine_it_is_a_reward(policy, strong, drawn):
    examples = [(prompt, response) for _, prompt, response in drawn[::24]]
    examples.append((examples[0][0], Response((), "", None)))
    ratio = DensityRatio(strong, policy, 0.5)
    asyncio.run(check_reward(ratio, examples, tolerance=1e-3))
    for prompt, response in examples[:3]:
        ends = (5, 9, len(response.tokens))
        values = score_steps(ratio, ends, response, prompt)
        assert math.fsum(values) == pytest.approx(score(ratio, response, prompt), abs=1e-9)


@pytest.mark.engine
def test_on_the_engine_it_prefers_right_answers(policy, strong, drawn):
    """Of a right and a wrong answer to the same problem.

    20 problems have 14 with answers of both kinds, too few: over the first 150, in groups of 20,
    the share is 0.75 to 0.98, and 0.91 over all.
    """
    ratio = DensityRatio(strong, policy)

    async def main():
        return await concurrently(ratio.score(prompt, response) for _, prompt, response in drawn)

    rewards = asyncio.run(main())
    wins = []
    for begin in range(0, len(drawn), 8):
        group = range(begin, begin + 8)
        right = [k for k in group if drawn[k][0].grade(drawn[k][2].text)]
        wins += [
            (rewards[k] > rewards[j]) + 0.5 * (rewards[k] == rewards[j])
            for k in right
            for j in group
            if j not in right
        ]
    assert len(wins) > 300
    assert sum(wins) / len(wins) > 0.8


@pytest.mark.engine
def test_on_the_engine_an_instruction_changes_the_prompt(policy, drawn):
    _, prompt, response = drawn[0]
    instructed = Instructed(policy, "Answer: 7")
    ratio = DensityRatio(policy, policy, numerator_prompt=instructed)
    longer = instructed(prompt)
    assert len(longer) > len(prompt.tokens)
    right = exact_log_prob(POLICY, longer, response.tokens) - exact_log_prob(
        POLICY, prompt.tokens, response.tokens
    )
    assert score(ratio, response, prompt) == pytest.approx(right, abs=1e-3)


@pytest.mark.engine
def test_on_the_engine_a_tempered_law_has_no_likelihood(policy, drawn):
    from rsalign import Sampling

    _, prompt, response = drawn[0]
    with pytest.raises(ConfigError, match="temperature 1"):
        score(DensityRatio(policy.with_sampling(Sampling(temperature=0.5))), response, prompt)
