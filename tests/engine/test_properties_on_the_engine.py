"""Arbitrary text and settings on the real engine: an answer, or an error of ours."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rsalign import BestOf, Budget, ConfigError, Plain, Sampling

pytestmark = pytest.mark.engine

SETTINGS = settings(
    max_examples=min(200, settings.default.max_examples),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@SETTINGS
@given(
    text=st.text(max_size=60),
    n=st.integers(1, 3),
    max_tokens=st.integers(1, 24),
    temperature=st.floats(0, 2),
    top_p=st.floats(0.01, 1),
    top_k=st.integers(0, 50),
    stop=st.lists(st.text(max_size=3), max_size=2),
)
def test_anything_is_answered_or_refused(
    aligner, text, n, max_tokens, temperature, top_p, top_k, stop
):
    strategy = BestOf(n=n, inner=Plain(max_tokens=max_tokens))
    try:
        sampling = Sampling(temperature=temperature, top_p=top_p, top_k=top_k, stop=tuple(stop))
    except ConfigError:
        assert "" in stop
        return
    (result,) = aligner.generate([text], sampling, strategy=strategy, on_error="return")
    if result.error is not None:
        assert isinstance(result.error, ConfigError)
        assert not text
        return
    (answer,) = result.outputs
    assert 1 <= len(answer.token_ids) <= max_tokens
    assert answer.reward is not None
    assert answer.cumulative_logprob <= 0
    for string in stop:
        assert string not in answer.text


@SETTINGS
@given(tokens=st.integers(1, 400), n=st.integers(1, 8), seed=st.integers(0, 1000))
def test_a_budget_of_tokens_is_never_exceeded(aligner, tokens, n, seed):
    (result,) = aligner.chat(
        [{"role": "user", "content": "Ann has 12 coins. How many coins does Ann have?"}],
        strategy=BestOf(n=n, inner=Plain(max_tokens=64)),
        budget=Budget(policy_tokens=tokens),
        seed=seed,
    )
    assert result.alignment.usage.policy_tokens_drawn <= tokens
    assert result.alignment.expired or result.outputs[0].reward is not None


def test_a_budget_of_reward_calls(aligner):
    (result,) = aligner.generate(
        "First 1 + 1",
        strategy=BestOf(n=8, inner=Plain(max_tokens=8)),
        budget=Budget(reward_calls=3),
    )
    assert result.alignment.expired
    assert result.alignment.usage.reward_calls == 3
