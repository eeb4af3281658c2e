"""What does not depend on random numbers is the same on both runners, however steps are scheduled.

Every engine has 6 slots for up to 17 requests at once.
"""

import contextlib
import functools

import pytest
from async_scheduling import kept
from scenarios import SCENARIOS, alike, start

pytestmark = pytest.mark.engine

CHUNKED = {
    "enable_chunked_prefill": True,
    "max_num_batched_tokens": 16,
    "long_prefill_token_threshold": 7,
    "enable_prefix_caching": False,
}
ENGINES = {
    "one step after the other": start,
    "scheduled ahead": start,
    "in a process of its own": functools.partial(start, backend="async"),
    "prompts in parts": functools.partial(start, **CHUNKED),
}


@pytest.fixture(scope="module", params=ENGINES)
def second(request):
    """The second runner, in one of its ways to schedule steps."""
    ahead = request.param == "scheduled ahead"
    with kept() if ahead else contextlib.nullcontext():
        policy = ENGINES[request.param]()
    config = policy.engine.vllm_config
    assert config.use_v2_model_runner
    assert config.scheduler_config.async_scheduling == ahead
    yield policy
    policy.close()


@pytest.mark.parametrize("name", SCENARIOS)
def test_the_answers_are_those_of_the_first_runner(second, first, name):
    answers = SCENARIOS[name](second)
    assert alike(answers, first[name])
