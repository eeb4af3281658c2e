"""Strategies on the second runner, steps scheduled ahead as on GPUs: the same answers every time.

Their laws are tested by chi-square in ``tests/engine``, whose tests run on this runner, too.
"""

import pytest
from async_scheduling import kept
from preempting import preempting
from scenarios import start

from rsalign import (
    Aligner,
    BestOf,
    Cards,
    EarlyStop,
    Entropy,
    FixedSize,
    LastNumber,
    Line,
    MajorityVote,
    Plain,
    Punctuation,
    QAlign,
    SelfCertainty,
)
from rsalign.embedded import REWARD
from rsalign.embedded.problems import problem
from rsalign.rewards.vllm import VllmReward

pytestmark = pytest.mark.engine

INNER = Plain(max_tokens=24)
THRESHOLD = Line(target=3.0)
STRATEGIES = {
    "plain": INNER,
    "best of 4": BestOf(n=4, inner=INNER),
    "the most certain of 4": BestOf(n=4, inner=INNER, select=SelfCertainty(extract=LastNumber())),
    "cards, by entropy": Cards(segmenter=Entropy(1.0), threshold=THRESHOLD, max_tokens=24),
    "cards, by marks": Cards(
        segmenter=Punctuation("=0123456789", 0.02, 2), threshold=THRESHOLD, max_tokens=24
    ),
    "cards, by size": Cards(segmenter=FixedSize(6), threshold=THRESHOLD, max_tokens=24),
    "qalign": QAlign(steps=4, max_tokens=24),
    "early stop": EarlyStop(
        select=MajorityVote(extract=LastNumber()), n=4, at_least=2, batch=2, inner=INNER
    ),
}


@pytest.fixture(scope="module")
def aligner():
    with kept():
        policy, reward = start(guides=[]), VllmReward.start(REWARD, kv_cache_memory_bytes=16 << 20)
    assert policy.engine.vllm_config.scheduler_config.async_scheduling
    assert reward.engine.vllm_config.use_v2_model_runner
    with Aligner(policy, reward) as aligner:
        yield aligner
    policy.close()
    reward.close()


def answer(aligner, strategy):
    questions = [problem("heldout", index).question for index in range(3)]
    outputs = aligner.generate(questions, strategy=strategy, seed=3, use_tqdm=False)
    return [tuple(output.outputs[0].token_ids) for output in outputs], outputs


@pytest.mark.parametrize("name", STRATEGIES)
def test_answers_do_not_depend_on_preemption(aligner, name):
    """Nor on anything else: drafts, their scores and segment ends are those of the same call."""
    calm, outputs = answer(aligner, STRATEGIES[name])
    with preempting(aligner.policy, every=4) as preempted:
        torn, _ = answer(aligner, STRATEGIES[name])
    assert sum(preempted) > 3
    assert torn == calm
    assert all(0 < len(tokens) <= 24 for tokens in calm)
    assert all(output.alignment.trace.proposals for output in outputs)
