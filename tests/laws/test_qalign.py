"""QAlign's kernel by exact transition matrices, for every cut law and option; and whole runs."""

import math

import numpy as np
import pytest
from chain_law import BETA, PROMPT, Space, drift, imbalance, kernel_matrix

from rsalign import (
    ConfigError,
    Entropy,
    FixedSize,
    Message,
    Prompt,
    Punctuation,
    Response,
    Stop,
)
from rsalign.chains.cuts import (
    BlockCuts,
    CutWeights,
    EntropyCuts,
    FixedCuts,
    SegmentCuts,
    UniformCuts,
    cut_weights,
)
from rsalign.chains.kernel import Kernel
from rsalign.core.run import Run
from rsalign.selectors import Hard, Last, MajorityVote
from rsalign.strategies.qalign import QAlign
from rsalign.testing import distance, law, law_of, responses

CUTS = {
    "uniform": UniformCuts(),
    "blocks of 2": BlockCuts(size=2),
    "blocks of 3": BlockCuts(size=3),
    "blocks longer than a response": BlockCuts(size=50),
    "segments of 2": SegmentCuts(segmenter=FixedSize(2)),
    "entropy segments": SegmentCuts(segmenter=Entropy(1.0, min_tokens=1, max_tokens=2)),
    "punctuation": SegmentCuts(segmenter=Punctuation("12", 0.0, 1, 3)),
    "entropy": EntropyCuts(),
    "entropy squared": EntropyCuts(power=2.0, floor=0.3),
    "fixed": FixedCuts(),
    "fixed, decaying": FixedCuts(decay=0.6),
}


def log_weight(candidate):
    return candidate.reward / BETA


def kernel(**settings):
    given = {
        "cuts": UniformCuts(),
        "restart": 0.0,
        "candidates": 1,
        "combine": "multi_try",
        "max_tokens": 2,
    }
    return Kernel(**given | settings)


@pytest.mark.parametrize("cuts", CUTS.values(), ids=CUTS)
@pytest.mark.parametrize("restart", [0.0, 0.3])
@pytest.mark.parametrize("shape", [(2, 5), (3, 3)])
def test_every_cut_law_is_in_balance(cuts, restart, shape):
    vocab, max_tokens = shape
    space = Space(vocab, max_tokens, salt=3)
    matrix = kernel_matrix(
        space, kernel(cuts=cuts, restart=restart, max_tokens=max_tokens), log_weight
    )
    assert imbalance(space.tilted(log_weight), matrix) < 1e-12


@pytest.mark.parametrize("combine", ["multi_try", "i_sir"])
@pytest.mark.parametrize("candidates", [1, 2, pytest.param(3, marks=pytest.mark.nightly)])
@pytest.mark.parametrize("cuts", ["uniform", "entropy", "fixed, decaying"])
@pytest.mark.parametrize("restart", [0.0, 0.3, 1.0])
def test_every_combination_is_in_balance(combine, candidates, cuts, restart):
    space = Space(2, 3, salt=1) if candidates == 3 else Space(3, 2, salt=1)
    move = kernel(
        cuts=CUTS[cuts],
        restart=restart,
        candidates=candidates,
        combine=combine,
        max_tokens=space.max_tokens,
    )
    matrix = kernel_matrix(space, move, log_weight)
    assert imbalance(space.tilted(log_weight), matrix) < 1e-12


@pytest.mark.parametrize("combine", ["multi_try", "i_sir"])
def test_three_candidates_are_in_balance(combine):
    """Two others beside the first; with every cut law and restart, nightly."""
    space = Space(2, 3, salt=1)
    move = kernel(cuts=CUTS["entropy"], restart=0.3, candidates=3, combine=combine, max_tokens=3)
    matrix = kernel_matrix(space, move, log_weight)
    assert imbalance(space.tilted(log_weight), matrix) < 1e-12


@pytest.mark.parametrize("candidates", [1, 2])
def test_truncated_responses_can_be_excluded(candidates):
    space = Space(3, 2, salt=2)
    strategy = QAlign(beta=BETA, max_tokens=2, truncated="excluded", candidates=candidates)

    async def step(state, run):
        return (await strategy.step(PROMPT, state, run)).state

    matrix = space.matrix(step)
    finished = np.array([state.response.finished for state in space.states])
    target = np.where(finished, space.tilted(log_weight), 0)
    target /= target.sum()
    assert imbalance(target, matrix) < 1e-12
    assert not matrix[:, ~finished][finished].any()
    assert matrix[~finished][:, finished].any()


def test_the_spectral_gap_grows_with_candidates_and_rounds_converge():
    space = Space(3, 2, salt=1)
    target = space.tilted(log_weight)
    gaps, far = [], []
    for candidates in (1, 2):
        matrix = kernel_matrix(space, kernel(candidates=candidates), log_weight)
        gaps.append(1 - sorted(abs(np.linalg.eigvals(matrix)))[-2])
        far.append(np.abs(space.base @ np.linalg.matrix_power(matrix, 300) - target).max())
    assert gaps[0] < gaps[1]
    assert max(far) < 1e-6


class Mutant(Kernel):
    """A kernel whose idea of a cut's probability is wrong."""

    def _weights(self, prompt, candidate, run):
        found = super()._weights(prompt, candidate, run)
        return self.wrong(found, candidate)


def mutant(wrong, **settings):
    made = kernel(**settings)
    kind = type("Wrong", (Mutant,), {"wrong": staticmethod(wrong)})
    return kind(**{name: getattr(made, name) for name in Kernel.__slots__})


def total(values, log_total):
    return CutWeights(values, log_total)


def eos_not_counted(found, candidate):
    size = len(candidate.tokens) - (candidate.tokens[-1] == 0)
    return total(found.values[:size] or (1.0,), math.log(max(1, size)))


MUTANTS = {
    "no length term": ("uniform", lambda w, y: total(w.values, 0.0)),
    "inverted ratio": ("uniform", lambda w, y: total(w.values, -w.log_total)),
    "EOS not counted": ("uniform", eos_not_counted),
    "plain length ratio, weighted cuts": (
        "entropy",
        lambda w, y: total(w.values, math.log(len(y.tokens))),
    ),
    "floor instead of ceil": (
        "blocks of 2",
        lambda w, y: total(w.values, math.log(max(1, len(y.tokens) // 2))),
    ),
    "a fixed law that is corrected": (
        "fixed",
        lambda w, y: total(w.values, math.log(len(y.tokens))),
    ),
}


@pytest.mark.parametrize(("cuts", "wrong"), MUTANTS.values(), ids=MUTANTS)
def test_planted_mistakes_are_caught(cuts, wrong):
    space = Space(2, 5, salt=3)
    target = space.tilted(log_weight)
    right = kernel_matrix(space, kernel(cuts=CUTS[cuts], max_tokens=5), log_weight)
    matrix = kernel_matrix(space, mutant(wrong, cuts=CUTS[cuts], max_tokens=5), log_weight)
    assert drift(target, right) < 1e-12
    assert drift(target, matrix) > 1e-3


def test_a_constant_suffix_length_is_caught():
    class Constant(Kernel):
        async def _draft(self, prompt, response, cut, run):
            return await run.draft(prompt, response.tokens[:cut], max_tokens=cut + self.max_tokens)

    space = Space(3, 2, salt=1)
    made = kernel()
    wrong = Constant(**{name: getattr(made, name) for name in Kernel.__slots__})
    assert imbalance(space.tilted(log_weight), kernel_matrix(space, wrong, log_weight)) > 1e-2


@pytest.mark.parametrize("steps", [1, 2, pytest.param(3, marks=pytest.mark.nightly)])
def test_a_run_is_a_power_of_the_matrix(steps):
    space = Space(2, 3, salt=4)
    expected = space.base @ np.linalg.matrix_power(
        kernel_matrix(space, kernel(max_tokens=3), log_weight), steps
    )
    found = law_of(QAlign(steps=steps, beta=BETA, max_tokens=3), space.policy, space.reward, PROMPT)
    assert distance(found, dict(zip(space.tokens, expected, strict=True))) < 1e-12


def test_a_pool_starts_the_chain_by_soft_best_of_n():
    space = Space(2, 3, salt=4)
    first = dict.fromkeys(space.tokens, 0.0)
    for i, one in enumerate(space.states):
        for j, other in enumerate(space.states):
            mass = space.base[i] * space.base[j]
            share = 1 / (1 + math.exp(log_weight(other) - log_weight(one)))
            first[one.tokens] += mass * share
            first[other.tokens] += mass * (1 - share)
    matrix = kernel_matrix(space, kernel(max_tokens=3), log_weight)
    expected = np.array([first[y] for y in space.tokens]) @ matrix
    found = law_of(
        QAlign(steps=1, beta=BETA, max_tokens=3, pool=2), space.policy, space.reward, PROMPT
    )
    assert distance(found, dict(zip(space.tokens, expected, strict=True))) < 1e-12


@pytest.mark.parametrize(
    ("factor", "vocab", "max_tokens"),
    [
        (2.0, 3, 1),
        (math.inf, 3, 1),
        pytest.param(2.0, 2, 2, marks=pytest.mark.nightly),
        pytest.param(math.inf, 2, 2, marks=pytest.mark.nightly),
    ],
)
def test_tempered_replicas_exchange_exactly(factor, vocab, max_tokens):
    space = Space(vocab, max_tokens, salt=4)
    n = len(space.tokens)

    def hot(candidate):
        return log_weight(candidate) / factor

    cold_matrix = kernel_matrix(space, kernel(max_tokens=max_tokens), log_weight)
    hot_matrix = kernel_matrix(space, kernel(max_tokens=max_tokens), hot)
    swap = np.zeros((n * n, n * n))
    for i, one in enumerate(space.states):
        for j, other in enumerate(space.states):
            change = (1 / BETA - 1 / (BETA * factor)) * (other.reward - one.reward)
            accept = min(1.0, math.exp(change))
            swap[i * n + j, j * n + i] += accept
            swap[i * n + j, i * n + j] += 1 - accept
    both = np.kron(cold_matrix, hot_matrix)
    start = np.kron(space.base, space.base)
    expected = (start @ both @ swap @ both).reshape(n, n).sum(1)
    strategy = QAlign(steps=2, beta=BETA, max_tokens=max_tokens, tempering=(factor,))
    found = law_of(strategy, space.policy, space.reward, PROMPT)
    assert distance(found, dict(zip(space.tokens, expected, strict=True))) < 1e-12
    # and what it tends to: the product of both targets
    product = np.kron(space.tilted(log_weight), space.tilted(hot))
    assert imbalance(product, swap) < 1e-12


def test_independent_chains_and_the_best_of_their_states():
    space = Space(2, 2, salt=4)
    strategy = QAlign(
        steps=1, beta=BETA, max_tokens=2, chains=2, answer=Hard(), recycle=False, burn_in=1
    )
    found = law_of(strategy, space.policy, space.reward, PROMPT)
    one = space.base @ kernel_matrix(space, kernel(), log_weight)
    rewards = np.array([state.reward for state in space.states])
    below = np.array([one[rewards < reward].sum() for reward in rewards])
    expected = (below + one) ** 2 - below**2
    assert distance(found, dict(zip(space.tokens, expected, strict=True))) < 1e-12


def test_recycled_weights_are_the_chain_on_average():
    """The mean weight of a response over all runs is its expected number of visits."""
    space = Space(2, 3, salt=4)
    matrix = kernel_matrix(space, kernel(max_tokens=3, candidates=2), log_weight)
    visits = sum(space.base @ np.linalg.matrix_power(matrix, t) for t in range(2))
    seen = dict.fromkeys(space.tokens, 0.0)

    class Spy(Hard):
        async def select(self, prompt, candidates, key, *, weights=None):
            self.last.append(dict(zip((y.tokens for y in candidates), weights, strict=True)))
            return await super().select(prompt, candidates, key)

    spy = Spy()
    object.__setattr__(spy, "last", [])
    strategy = QAlign(steps=1, beta=BETA, max_tokens=3, candidates=2, answer=spy)

    async def weighed(key):
        await strategy.sample(PROMPT, Run(space.policy, space.reward, key))
        return tuple(sorted(spy.last[-1].items()))

    for outcome, mass in law(weighed).items():
        for tokens, weight in outcome:
            seen[tokens] += mass * weight
    assert distance(seen, dict(zip(space.tokens, visits, strict=True))) < 1e-12


def test_a_majority_of_nothing_but_the_pool_is_a_weighted_vote():
    space = Space(2, 3, salt=4)
    strategy = QAlign(
        steps=1,
        burn_in=1,
        beta=BETA,
        max_tokens=3,
        pool=3,
        answer=MajorityVote(extract=lambda text: text or "none"),
    )
    answers = law_of(strategy, space.policy, space.reward, PROMPT)
    assert set(answers) <= set(responses(space.policy, PROMPT.tokens, 3))
    assert sum(answers.values()) == pytest.approx(1, abs=1e-12)


class LooksAhead(UniformCuts):
    def weights(self, positions):
        positions = list(positions)
        for _ in positions:
            yield float(len(positions))


class Stale(UniformCuts):
    def weights(self, positions):
        yield from (1.0 for _ in list(positions)[:1])


@pytest.mark.parametrize("cuts", [LooksAhead(), Stale()])
def test_a_law_that_looks_beyond_the_cut_is_refused(cuts):
    space = Space(2, 3, salt=4)
    with pytest.raises(ConfigError, match="beyond the cut"):
        kernel_matrix(space, kernel(cuts=cuts, max_tokens=3), log_weight)


@pytest.mark.parametrize("weights", [(0.0, 1.0), (1.0, -1.0), (1.0, math.nan), (math.inf, 1.0)])
def test_a_weight_that_cannot_be_one_is_refused(weights):
    class Odd(UniformCuts):
        def weights(self, positions):
            for position in positions:
                yield weights[position.index % 2]

    with pytest.raises(ConfigError, match="weight"):
        kernel_matrix(Space(2, 3), kernel(cuts=Odd(), max_tokens=3), log_weight)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("steps", 0),
        ("steps", True),
        ("max_tokens", 0),
        ("candidates", 1.5),
        ("chains", 0),
        ("pool", 1),
        ("restart", 1.1),
        ("combine", "other"),
        ("burn_in", 33),
        ("tempering", (1.0,)),
        ("tempering", (3.0, 2.0)),
        ("cuts", UniformCuts),
        ("answer", Last),
        ("stopping", 3),
        ("truncated", "dropped"),
        ("beta", 0.0),
        ("beta", math.inf),
    ],
)
def test_settings_out_of_range_are_refused(name, value):
    with pytest.raises(ConfigError, match=f"QAlign\\({name}="):
        QAlign(**{name: value})


@pytest.mark.parametrize(("prompt", "size"), [(1, 4), (3, 4), (4, 4), (5, 4), (6, 4), (2, 1)])
def test_blocks_are_cut_one_token_behind_their_end_the_prompt_counted(prompt, size):
    """Nothing but the law is at stake elsewhere, which holds for any offset; the cache is not."""
    tokens = tuple(range(1, 13))
    response = Response(tokens, "", Stop.LENGTH)
    found = cut_weights(
        BlockCuts(size=size),
        Prompt((Message("user", ""),), (1,) * prompt),
        response,
        max_tokens=12,
        decode=str,
    )
    cached = [i for i in range(1, 12) if (prompt + i) % size == 1 % size]
    assert [i for i, weight in enumerate(found.values) if weight] == [0, *cached]
