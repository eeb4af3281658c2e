"""TreeSearch against an independent search, and the faults of the published one."""

import asyncio
import math
from dataclasses import replace

import pytest
from selector_law import PROMPT, first_word

from rsalign import Aligner, Budget, FixedSize, Key, Prompt, Run, TreeSearch
from rsalign.core.align import align
from rsalign.core.trace import Verdict
from rsalign.populations import tree as module
from rsalign.selectors import MajorityVote
from rsalign.testing import EOS, ToyPolicy, ToyReward, distance, law, law_of

LONGEST = 3


class Nested:
    """The reference: nodes are objects that hold each other, drawn one after the other."""

    def __init__(self, tokens, value, parent):
        self.tokens, self.value, self.parent = tokens, value, parent
        self.n, self.below, self.done = int(parent is not None), [], self.whole()

    def whole(self):
        return self.tokens[-1:] == (EOS,) or len(self.tokens) == LONGEST

    def finished(self):
        return self.done or (bool(self.below) and all(one.finished() for one in self.below))


def reference(policy, value, key, *, rounds, branch, rollouts, c, share):
    """The answer of one search."""
    draws = iter(range(10**6))

    def token(tokens):
        return key.child(next(draws)).categorical(policy.probs(PROMPT.tokens + tokens))

    root, answers = Nested((), 0.0, None), []
    for _ in range(rounds):
        if root.finished():
            break
        node = root
        while node.below:
            bounds = {
                one: one.value + c * math.sqrt(2 * math.log(max(node.n, 1)) / one.n)
                for one in node.below
                if not one.finished()
            }
            node = max(bounds, key=bounds.get)
        for _ in range(branch):
            tokens = (*node.tokens, token(node.tokens))
            node.below.append(Nested(tokens, value(tokens), node))
        answers += [one.tokens for one in node.below if one.done]
        going = [one for one in node.below if not one.done]
        if going:
            best, found = max(going, key=lambda one: one.value), []
            for _ in range(rollouts):
                tokens = best.tokens
                while not Nested(tokens, 0.0, None).whole():
                    tokens = (*tokens, token(tokens))
                found.append(tokens)
            answers += found
            top = max([best.value, *map(value, found)])
            best.value = (1 - share) * best.value + share * top
        while node is not None:
            node.n += 1
            visits = sum(one.n for one in node.below)
            node.value = sum(one.value * one.n for one in node.below) / visits
            node = node.parent
    return max(answers, key=value)


SETTINGS = [
    {"rounds": 1, "branch": 2, "rollouts": 1, "c": 1.0, "share": 0.5},
    {"rounds": 2, "branch": 2, "rollouts": 1, "c": 1.0, "share": 0.5},
    {"rounds": 3, "branch": 2, "rollouts": 1, "c": 0.0, "share": 0.0},
    {"rounds": 2, "branch": 2, "rollouts": 2, "c": 9.0, "share": 1.0},
]


def search_of(rounds, branch, rollouts, c, share, **more):
    return TreeSearch(
        segmenter=FixedSize(1),
        rounds=rounds,
        branch=branch,
        rollouts=rollouts,
        exploration=c,
        rollout_weight=share,
        max_tokens=LONGEST,
        **more,
    )


@pytest.mark.parametrize("salt", range(2))
@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_the_law_is_that_of_an_independent_search(settings, salt):
    policy, reward = ToyPolicy(2, salt), ToyReward(salt)

    async def by_reference(key):
        return reference(policy, reward.value, key, **settings)

    found = law_of(search_of(**settings), policy, reward, PROMPT)
    assert distance(found, law(by_reference)) < 1e-12


def searched(strategy, policy=None, reward=None, seed=0):
    run = Run(policy or ToyPolicy(3), reward or ToyReward(), Key(seed))
    answer = asyncio.run(strategy.sample(PROMPT, run))
    return answer, run.trace


@pytest.mark.parametrize("seed", range(5))
def test_visits_add_up_and_the_best_leaf_is_taken(seed):
    strategy = search_of(rounds=6, branch=3, rollouts=2, c=1.0, share=0.5)
    answer, trace = searched(strategy, seed=seed)
    notes, drafts = trace.notes, trace.proposals[:-1]
    parents, visits = notes["parents"], notes["visits"]
    num = len(drafts)
    assert len(parents) == len(visits) == len(notes["values"]) == num
    num_nodes = num - sum("rollout" in one.address for one in drafts)
    for i in range(1, num_nodes + 1):
        below = [j for j in range(num_nodes) if parents[j] == i]
        # 1 for its own evaluation, 1 for each round below it, whose drafts have 1 to begin with
        if below:
            assert visits[i - 1] == 1 + len(below) / 3 + sum(visits[j] - 1 for j in below)
        else:
            assert visits[i - 1] == 1
        tokens = drafts[i - 1].candidate.tokens
        for j in below:
            assert drafts[j].candidate.tokens[: len(tokens)] == tokens
            assert drafts[j].kept == len(tokens)
        # of the steps on one prefix the one of greatest value is taken: a pair for each other
        siblings = [j for j in range(num_nodes) if parents[j] == parents[i - 1]]
        taken = [j for j in siblings if drafts[j].verdict is Verdict.ACCEPTED]
        assert taken == [max(siblings, key=notes["values"].__getitem__)]
    complete = [p.candidate for p in drafts if p.candidate.response.complete]
    assert answer.reward == max(one.reward for one in complete)


# faults of the published search


class Low(ToyReward):
    """All values lie far below any floor."""

    def value(self, tokens):
        return super().value(tokens) - 1e6


def test_values_below_any_floor():
    answer, _ = searched(search_of(rounds=4, branch=2, rollouts=1, c=1.0, share=0.5), reward=Low())
    assert answer.response.complete


def test_equal_steps_stay_different_nodes():
    """A round always has `branch` drafts, however often the policy repeats itself."""
    strategy = search_of(rounds=1, branch=9, rollouts=1, c=1.0, share=0.5)
    _, trace = searched(strategy, ToyPolicy(2))
    firsts = [p for p in trace.proposals if p.address[2:3] == ("branch",)]
    assert len(firsts) == 9 > len({p.candidate.tokens for p in firsts})


class Tempting(ToyReward):
    """Unfinished answers are worth more than complete ones."""

    def value(self, tokens):
        return 1.0 if tokens[-1] == EOS else 50.0 - len(tokens)


@pytest.mark.parametrize("rounds", [1, 2, 5])
def test_a_high_value_ends_no_search_and_is_no_answer(rounds):
    strategy = search_of(rounds=rounds, branch=2, rollouts=1, c=0.5, share=0.5)
    answer, trace = searched(strategy, reward=Tempting())
    assert answer.response.complete
    assert trace.notes["num_rounds"] == rounds


def test_a_search_leaves_no_state_to_the_next():
    strategy = search_of(rounds=4, branch=2, rollouts=1, c=0.5, share=0.5)
    one = searched(strategy)[0]
    searched(strategy, seed=1)
    assert searched(strategy)[0] == one


def test_an_exhausted_tree_ends_the_search():
    strategy = search_of(rounds=500, branch=1, rollouts=1, c=0.5, share=0.5)
    assert searched(strategy)[1].notes["num_rounds"] <= LONGEST


# without a reward


def test_complete_answers_are_valued_by_how_many_agree():
    strategy = search_of(
        rounds=3,
        branch=3,
        rollouts=2,
        c=0.5,
        share=0.5,
        evaluate=first_word,
        answer=MajorityVote(extract=first_word),
    )
    assert not strategy.needs_reward
    run = Run(ToyPolicy(3), ToyReward(), Key(0))
    asyncio.run(strategy.sample(PROMPT, run))
    drafts = run.trace.proposals[:-1]
    first_round = [
        (p, value)
        for p, value in zip(drafts, run.trace.notes["values"], strict=True)
        if p.address[:2] == ("round", 0) and "branch" in p.address
    ]
    ends = [p for p in drafts if p.address[:2] == ("round", 0) and "rollout" in p.address]
    whole = [p for p, _ in first_round if p.candidate.response.complete] + ends
    said = [first_word(p.candidate.response.text) for p in whole]

    def share(proposal):
        word = first_word(proposal.candidate.response.text)
        return 0.0 if word is None else said.count(word) / len(said)

    leaves = [(i, p, v) for i, (p, v) in enumerate(first_round, 1)]
    for number, proposal, value in leaves:
        if number in run.trace.notes["parents"][len(first_round) :] and any(
            int(parent) == number and "branch" in one.address
            for parent, one in zip(run.trace.notes["parents"], drafts, strict=True)
        ):
            continue  # expanded later: its value is that of its children
        own = (
            [proposal]
            if proposal.candidate.response.complete
            else [one for one in ends if one.address[3] == number]
        )
        assert value == pytest.approx(sum(map(share, own)) / len(own))


def test_a_budget_takes_what_is_complete():
    result = asyncio.run(
        align(
            Prompt((), (1,)),
            search_of(rounds=9, branch=3, rollouts=1, c=0.5, share=0.5),
            policy=ToyPolicy(3),
            reward=ToyReward(),
            budget=Budget(reward_calls=6),
        )
    )
    assert result.expired
    assert result.candidate.response.complete
    assert len(result.trace.notes["parents"]) == len(result.trace.proposals) - 1


def test_at_the_door():
    strategy = search_of(rounds=2, branch=2, rollouts=1, c=0.5, share=0.5)
    with Aligner(ToyPolicy(), ToyReward(), strategy) as aligner:
        [output] = aligner.generate("1 2", use_tqdm=False)
    assert set(output.alignment.diagnostics) >= {"parents", "values", "visits"}


# planted mistakes


def replay(trace, c, share):
    """Follows the recorded drafts round by round with nested means; whether all is as recorded."""
    notes, drafts = trace.notes, trace.proposals[:-1]
    tree = {0: Nested((), 0.0, None)}
    tree[0].n = 0
    ends = [
        (int(p), d) for p, d in zip(notes["parents"], drafts, strict=True) if "rollout" in d.address
    ]
    steps = list(zip(map(int, notes["parents"]), drafts, strict=True))[: len(drafts) - len(ends)]
    for number in range(int(notes["num_rounds"])):
        node = tree[0]
        while node.below:
            going = [one for one in node.below if not one.finished()]
            node = max(
                going,
                key=lambda one, at=node: (
                    one.value + c * math.sqrt(2 * math.log(max(at.n, 1)) / one.n)
                ),
            )
        mine = [(i, p, d) for i, (p, d) in enumerate(steps, 1) if d.address[1] == number]
        if any(tree[p] is not node for _, p, _ in mine):
            return False
        for i, p, d in mine:
            tree[i] = Nested(d.candidate.tokens, d.candidate.reward, tree[p])
            tree[i].done = d.candidate.response.complete
            node.below.append(tree[i])
        own = [(p, d.candidate.reward) for p, d in ends if d.address[1] == number]
        if own:
            best = tree[own[0][0]]
            best.value = (1 - share) * best.value + share * max([best.value, *(r for _, r in own)])
        while node is not None:
            node.n += 1
            visits = sum(one.n for one in node.below)
            node.value = sum(one.value * one.n for one in node.below) / visits
            node = node.parent
    found = [(tree[i].value, tree[i].n) for i in range(1, len(steps) + 1)]
    told = list(zip(notes["values"], notes["visits"], strict=True))[: len(steps)]
    return found == [(pytest.approx(value), visits) for value, visits in told]


def right(self, number):
    return BACK_UP(self, number)


def least(self, number):
    """The least of the children instead of their mean."""
    BACK_UP(self, number)
    while number >= 0:
        node = self.nodes[number]
        node.value, number = min(self.nodes[i].value for i in node.children), node.parent


def unweighted(self, number):
    """A mean that forgets the visits."""
    BACK_UP(self, number)
    while number >= 0:
        node = self.nodes[number]
        values = [self.nodes[i].value for i in node.children]
        node.value, number = sum(values) / len(values), node.parent


def one_level(self, number):
    """Nothing above the parent is told."""
    parent, self.nodes[number].parent = self.nodes[number].parent, -1
    BACK_UP(self, number)
    self.nodes[number].parent = parent


BACK_UP, SELECT = module.Tree.back_up, module.Tree.select


@pytest.mark.parametrize("back_up", [right, least, unweighted, one_level])
def test_planted_mistakes_in_the_means(back_up, monkeypatch):
    monkeypatch.setattr(module.Tree, "back_up", back_up)
    agree = []
    for seed in range(6):
        strategy = replace(
            search_of(rounds=6, branch=2, rollouts=2, c=0.7, share=0.4), max_tokens=9
        )
        agree.append(replay(searched(strategy, ToyPolicy(4), seed=seed)[1], 0.7, 0.4))
    assert all(agree) if back_up is right else not all(agree)


@pytest.mark.parametrize("c", [0.0, -0.7, 7.0])
def test_planted_mistakes_in_the_bound(c, monkeypatch):
    monkeypatch.setattr(module.Tree, "select", lambda self, exploration: SELECT(self, c))
    strategy = replace(search_of(rounds=7, branch=3, rollouts=1, c=0.7, share=0.4), max_tokens=9)
    traces = [searched(strategy, ToyPolicy(4), seed=seed)[1] for seed in range(6)]
    assert not all(replay(trace, 0.7, 0.4) for trace in traces)
