"""Chains whose suffixes come from a draft: exact transition matrices."""

import asyncio
import math
import pickle
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from chain_law import BETA, PROMPT, Space, drift, imbalance

from rsalign import Aligner, ConfigError, Sampling, Stop
from rsalign.chains import kernel
from rsalign.chains.cuts import BlockCuts, EntropyCuts, FixedCuts
from rsalign.core.run import Run
from rsalign.core.types import Response
from rsalign.drafting.pair import Drafted, Pair, log_ratio
from rsalign.strategies.power import Power
from rsalign.strategies.qalign import QAlign
from rsalign.strategies.quest import Quest
from rsalign.testing import ToyPolicy, ToyReward, distance, law_of

DRAFT = ToyPolicy(3, salt=40)


def matrix_of(space, strategy, draft):
    async def step(state, run):
        run = replace(run, parts={"draft": draft})
        return (await strategy.step(PROMPT, state, run)).state

    return space.matrix(step)


def targets(space):
    rewards = np.array([state.reward for state in space.states])
    weights = {
        QAlign: space.base * np.exp(rewards / BETA),
        Quest: np.exp(rewards / BETA),
        Power: space.base**3,
    }
    return {kind: one / one.sum() for kind, one in weights.items()}


def chain(kind, **settings):
    own = {"alpha": 3.0} if kind is Power else {"beta": BETA}
    return kind(proposal="draft", **own, **settings)


@pytest.mark.parametrize("kind", [QAlign, Quest, Power])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"cuts": BlockCuts(size=2), "restart": 0.4},
        {"cuts": FixedCuts(decay=0.6)},
    ],
    ids=str,
)
def test_the_target_is_that_of_the_policy(kind, settings):
    space = Space(3, 2, salt=5)
    matrix = matrix_of(space, chain(kind, max_tokens=2, **settings), DRAFT)
    assert imbalance(targets(space)[kind], matrix) < 1e-12


@pytest.mark.parametrize("combine", ["multi_try", "i_sir"])
def test_several_suffixes_of_a_draft_compete(combine):
    space = Space(2, 3, salt=5)
    strategy = chain(QAlign, max_tokens=3, candidates=2, combine=combine, restart=0.4)
    matrix = matrix_of(space, strategy, ToyPolicy(2, salt=40))
    assert imbalance(targets(space)[QAlign], matrix) < 1e-12


MISTAKES = {
    "the ratio left out": lambda response, kept=0: 0.0,
    "the ratio upside down": lambda response, kept=0: -log_ratio(response, kept),
    "the draft's probability alone": lambda response, kept=0: (
        -math.fsum(value.draft for value in response.log_probs[kept:])
    ),
    "the mean over tokens": lambda response, kept=0: (
        log_ratio(response, kept) / (len(response.tokens) - kept)
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_move_the_target(mistake, monkeypatch):
    space = Space(2, 3, salt=5)
    monkeypatch.setattr(kernel, "log_ratio", MISTAKES[mistake])
    matrix = matrix_of(space, chain(QAlign, max_tokens=3), ToyPolicy(2, salt=40))
    assert drift(targets(space)[QAlign], matrix) > 1e-3


@pytest.mark.parametrize("settings", [{"pool": 2}, {"restart": 0.5}], ids=str)
def test_a_run_starts_from_the_policy(settings):
    space, draft = Space(2, 2, salt=5), ToyPolicy(2, salt=40)
    strategy = chain(QAlign, steps=1, max_tokens=2, **settings)
    found = law_of(strategy, space.policy, space.reward, PROMPT, {"draft": draft})
    weights = np.exp([state.reward / BETA for state in space.states])
    first = dict.fromkeys(space.tokens, 0.0)
    if "pool" in settings:
        for i, one in enumerate(space.tokens):
            for j, other in enumerate(space.tokens):
                both = space.base[i] * space.base[j]
                first[one] += both * weights[i] / (weights[i] + weights[j])
                first[other] += both * weights[j] / (weights[i] + weights[j])
    else:
        first = dict(zip(space.tokens, space.base, strict=True))
    start = np.array([first[y] for y in space.tokens])
    after = start @ matrix_of(space, strategy, draft)
    assert distance(found, dict(zip(space.tokens, after, strict=True))) < 1e-12


def test_log_z_counts_no_draft():
    """A suffix of the draft drawn at 0 is no draw of the policy, from which ln Z is estimated."""
    space = Space(3, 2, salt=5)
    settings = {"steps": 8, "max_tokens": 2, "restart": 1.0}
    with Aligner(
        space.policy, space.reward, chain(QAlign, **settings), parts={"draft": DRAFT}
    ) as aligner:
        [output] = aligner.generate("1", use_tqdm=False)
    [inner] = output.alignment.trace.children.values()
    first = inner.proposals[0].state
    assert output.alignment.diagnostics["log_z"] == pytest.approx(first.reward / BETA)
    assert output.alignment.usage.parts["draft"].policy_tokens_drawn >= 8
    assert 2 <= output.alignment.usage.policy_requests <= 9  # a draw, and scores of what is new


@dataclass(frozen=True)
class Narrow(ToyPolicy):
    """Never draws its last token in the first place, and has other stops as told."""

    sampling: Sampling = field(default_factory=Sampling)

    def probs(self, prefix):
        probs = ToyPolicy.probs(self, prefix)
        if len(prefix) > 1:
            return probs
        return tuple(p / (1 - probs[-1]) for p in probs[:-1]) + (0.0,)

    async def log_probs(self, prefix, tokens):
        laws = [self.probs(prefix + tokens[:i]) for i in range(len(tokens))]
        return tuple(
            math.log(law[token]) if law[token] else -math.inf
            for law, token in zip(laws, tokens, strict=True)
        )

    @property
    def vocabulary(self):
        return ToyPolicy(self.vocab).vocabulary


@pytest.mark.parametrize("kind", [QAlign, Power])
def test_what_the_policy_cannot_write_is_never_a_state(kind):
    space = Space(3, 2, salt=5, policy=Narrow(3, 5))
    matrix = matrix_of(space, chain(kind, max_tokens=2), DRAFT)
    possible = space.base > 0
    assert not matrix[possible][:, ~possible].any()
    inside = matrix[possible][:, possible]
    assert imbalance(targets(space)[kind][possible], inside) < 1e-12


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(temperature=0.0),
        Sampling(top_p=0.9),
        Sampling(top_k=2),
        Sampling(min_p=0.1),
        Sampling(allowed_token_ids=(0, 1)),
    ],
    ids=str,
)
def test_a_draft_that_truncates_is_refused(sampling):
    with pytest.raises(ConfigError, match=r"the draft has .*never proposed"):
        law_of(
            QAlign(steps=1, max_tokens=2, proposal="draft"),
            ToyPolicy(3),
            ToyReward(),
            PROMPT,
            {"draft": Narrow(3, 1, sampling=sampling)},
        )


@pytest.mark.parametrize(
    ("draft", "message"),
    [
        (ToyPolicy(4), "another tokenizer"),
        (ToyReward(), "ToyReward, which draws nothing"),
        (Narrow(3, sampling=Sampling(stop=("2",))), "no with_sampling"),
    ],
    ids=str,
)
def test_a_draft_that_does_not_fit_is_refused(draft, message):
    with pytest.raises(ConfigError, match=message):
        Pair.of(Run(ToyPolicy(3), ToyReward(), None, parts={"draft": draft}))


def test_cuts_by_entropies_of_another_model_are_refused():
    with pytest.raises(ConfigError, match="proposal='draft', cuts="):
        QAlign(proposal="draft", cuts=EntropyCuts())


def test_states_keep_what_the_draft_told():
    run = Run(ToyPolicy(3), ToyReward(), None, parts={"draft": DRAFT})
    space = Space(3, 2)
    state = space.states[-1]
    pair = Pair.of(run)
    once = asyncio.run(pair.annotated(PROMPT, state))
    assert asyncio.run(pair.annotated(PROMPT, once)) is once
    unknown = replace(state, response=replace(state.response, log_probs=None))
    both = asyncio.run(pair.annotated(PROMPT, unknown)).response.log_probs
    assert both == once.response.log_probs == state.response.log_probs
    told = tuple(asyncio.run(DRAFT.log_probs(PROMPT.tokens, state.tokens)))
    assert [value.draft for value in both] == list(told)
    assert [value.draft for value in pickle.loads(pickle.dumps(both))] == list(told)


def test_a_draft_of_probability_zero_has_an_infinite_ratio():
    both = (Drafted(-1.0, draft=-2.0), Drafted(-math.inf, draft=-math.inf))
    response = Response((1, 2), "1 2", Stop.LENGTH, both)
    assert log_ratio(response) == math.inf
    assert log_ratio(replace(response, log_probs=(both[0], Drafted(-math.inf, draft=-1.0)))) == (
        -math.inf
    )
