"""TreeSearch: Monte Carlo tree search over segments, with roll-outs to complete answers.

Law      No target: which prefix grows is decided by values, not at random. Given the drafts all is
         deterministic. Each of `rounds` rounds walks from the root to a node without children, to
         the open child of greatest value + exploration sqrt(2 ln N / n) at each node (N and n are
         the visits of parent and child; the first among equals). It draws `branch` segments there
         from pi. The value of a new prefix is its reward v. From the open one of greatest value,
         `rollouts` answers are drawn to their ends; the value becomes
         (1 - rollout_weight) v + rollout_weight (the greatest of their rewards and v). A visit is
         counted at every node on the way, whose value is the mean of its children weighted by
         visits. The answer is what `answer` chooses from all complete answers, those of roll-outs
         included.
         With `evaluate` no reward is needed: a complete answer is worth the share of all complete
         answers so far that say the same, and every new prefix the mean of its roll-outs.
Paper    ReST-MCTS*: Zhang et al. 2024, arXiv:2406.03816 (MCTS*); `evaluate`: majority votes as
         values as in rStar, Qi et al. 2024, arXiv:2408.06195.
Departs  From the published code: values may have any size, it does not stop before its last round
         (there, a high value of an unfinished answer ends it), equal segments stay different nodes
         (there, they are merged, so that fewer than `branch` are searched), it uses no global
         random state, complete answers are not visited again, and roll-outs are whole answers.
Cost     in each round `branch` segments and their rewards, and `rollouts` ends of answers and
         theirs (with `evaluate`, of each of the segments).
Streams  at the end: any complete answer may win.
"""

from dataclasses import dataclass, field
from typing import ClassVar

from rsalign.core.capabilities import TraceKind, needs_reward
from rsalign.core.checks import at_least, check_settings
from rsalign.core.protocols import SEGMENTER, Boundary
from rsalign.core.run import Run
from rsalign.core.tasks import concurrently
from rsalign.core.trace import Verdict
from rsalign.core.types import Candidate, Prompt
from rsalign.populations.search import NONE_ALLOWED, SEARCH_NOTES, choose_complete
from rsalign.populations.tree import ROOT, Tree
from rsalign.selectors.by_reward import Hard
from rsalign.selectors.extraction import EXTRACTOR, Extract, extracted
from rsalign.selectors.protocol import SELECTOR, Selector


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeSearch:
    """Grows a tree of prefixes, towards where the values of prefixes and roll-outs are greatest.

    If a budget ends the run early, `answer` chooses among the answers that are complete by then.

    Notes: those of `Beam`, and of each draft (in the order of the trace's proposals): ``parents``,
    the number of the draft that it continues (0: the prompt), ``values`` and ``visits``. Of drafts
    on one prefix the one of greatest value counts as accepted, so that records export step pairs.

    Attributes:
        segmenter: where segments end, such as ``FixedSize(16)``.
        rounds: number of expansions.
        branch: drafts of the next segment in each expansion.
        rollouts: complete answers that are drawn after the best of them.
        exploration: weight of the bound, in units of the reward; 0 is greedy.
        rollout_weight: share of the roll-outs in the value, 0 to 1.
        evaluate: takes the answer from a text; complete answers are then valued by how many say the
            same. None: by the reward.
        max_tokens: greatest length of the whole answer in tokens, EOS included.
        answer: the selector that chooses among the complete answers.

    Raises:
        ConfigError: if a setting is out of its range.

    Example:
        >>> from rsalign import Aligner, FixedSize
        >>> from rsalign.testing import ToyPolicy, ToyReward
        >>> strategy = TreeSearch(segmenter=FixedSize(2), rounds=3, branch=2, max_tokens=8)
        >>> with Aligner(ToyPolicy(), ToyReward(), strategy) as aligner:
        ...     [output] = aligner.generate("1 2", use_tqdm=False)
        >>> output.outputs[0].reward == max(output.alignment.diagnostics["rewards"])
        True
    """

    segmenter: Boundary
    rounds: int = 8
    branch: int = 3
    rollouts: int = 1
    exploration: float = 1.0
    rollout_weight: float = 0.5
    evaluate: Extract | None = None
    max_tokens: int = 256
    answer: Selector = field(default_factory=Hard)

    varies_by_policy_alone: ClassVar[bool] = True
    trace_kind: ClassVar[TraceKind] = "tree"
    note_meanings: ClassVar[dict[str, str]] = SEARCH_NOTES | {
        "num_rounds": "expansions",
        "parents": "of each draft, the number of the draft that it continues; 0: the prompt",
        "values": "of each draft, after the search, in units of the reward",
        "visits": "of each draft",
    }

    def __post_init__(self) -> None:
        check_settings(
            self,
            segmenter=SEGMENTER,
            rounds=at_least(1),
            branch=at_least(1),
            rollouts=at_least(1),
            exploration=at_least(0.0),
            rollout_weight=at_least(0.0, 1.0),
            evaluate=EXTRACTOR,
            max_tokens=at_least(1),
            answer=SELECTOR,
        )

    @property
    def needs_reward(self) -> bool:
        """Whether prefixes are valued by the reward, or the selector needs it."""
        return self.evaluate is None or needs_reward(self.answer)

    @property
    def parallel_draws(self) -> int:
        """The drafts of an expansion, or the roll-outs after it."""
        return max(self.branch, self.rollouts * (self.branch if self.evaluate else 1))

    async def sample(self, prompt: Prompt, run: Run) -> Candidate:
        """Searches for `rounds` rounds, or until the tree is exhausted, and chooses an answer."""
        search = _Search(self, prompt, run)

        async def answer_so_far() -> Candidate | None:
            search.record()
            complete = search.complete()
            return await choose_complete(prompt, complete, self.answer, run, search.num_rounds)

        run.trace.answer_by(answer_so_far)
        if run.has_one_answer("it was drawn at once, without a search"):
            await search.draw_only_answer()
        else:
            while search.num_rounds < self.rounds and await search.expand():
                pass
        chosen = await answer_so_far()
        if chosen is None:
            return run.abstain(prompt, NONE_ALLOWED)
        run.trace.commit(chosen.tokens)
        return chosen


@dataclass(slots=True)
class _Search:
    """One search: the tree, and the roll-outs, which are answers and no nodes.

    Attributes:
        of: the settings.
        prompt: what is answered.
        run: of the strategy.
        tree: the nodes.
        ends: roll-outs, each with the number of the node that it continues.
        num_rounds: rounds so far.
    """

    of: TreeSearch
    prompt: Prompt
    run: Run
    tree: Tree = field(default_factory=Tree)
    ends: list[tuple[int, Candidate]] = field(default_factory=list)
    num_rounds: int = 0
    _fresh: dict[tuple[int, int], Candidate] = field(default_factory=dict)
    _is_recorded: bool = False

    async def draw_only_answer(self) -> None:
        """Draws the one possible answer."""
        here = self.run.at("round", 0, "branch", 0)
        only = await here.draft(self.prompt, (), max_tokens=self.of.max_tokens)
        self.tree.add(ROOT, only, float(only.reward))
        self.num_rounds = 1

    async def expand(self) -> bool:
        """One round; returns False if there was nothing to expand."""
        leaf = self.tree.select(self.of.exploration)
        if leaf is None:
            return False
        here = self.run.at("round", self.num_rounds)
        kept = self.tree.nodes[leaf].candidate
        drafts = await concurrently(
            self._draft((-1, i), here.at("branch", i), kept, self.of.segmenter)
            for i in range(self.of.branch)
        )
        self._fresh.clear()
        numbers = [self.tree.add(leaf, draft, float(draft.reward)) for draft in drafts]
        best = self.tree.best_open(numbers)
        if self.of.evaluate is not None:
            await self._roll_out([i for i in numbers if not self.tree.nodes[i].is_closed], here)
            self._value_by_agreement(numbers)
        elif best is not None:
            await self._roll_out([best], here)
            self._blend(best)
        self.tree.back_up(leaf)
        self.num_rounds += 1
        return True

    async def _draft(
        self, place: tuple[int, int], here: Run, kept: Candidate | None, boundary: Boundary | None
    ) -> Candidate:
        """Draws after a prefix, and remembers the draft until it has its place in the search."""
        response = kept.response if kept else None
        self._fresh[place] = await here.draft(
            self.prompt,
            response.tokens if response else (),
            max_tokens=self.of.max_tokens,
            boundary=boundary,
            kept_log_probs=response.log_probs if response else None,
        )
        return self._fresh[place]

    async def _roll_out(self, numbers: list[int], here: Run) -> None:
        """Draws complete answers after these nodes."""
        places = [(i, k) for i in numbers for k in range(self.of.rollouts)]
        drawn = await concurrently(
            self._draft((i, k), here.at("rollout", i, k), self.tree.nodes[i].candidate, None)
            for i, k in places
        )
        self.ends += [(i, one) for (i, _), one in zip(places, drawn, strict=True)]
        self._fresh.clear()

    def _blend(self, number: int) -> None:
        """Moves the value of a node towards the best of its roll-outs."""
        node, share = self.tree.nodes[number], self.of.rollout_weight
        rewards = [float(one.reward) for i, one in self.ends if i == number and not one.excluded]
        node.value = (1 - share) * node.value + share * max([node.value, *rewards])

    def _value_by_agreement(self, numbers: list[int]) -> None:
        """Values nodes by the share of all complete answers that agree with theirs."""
        assert self.of.evaluate is not None
        told = [extracted(self.of.evaluate, one.response.text) for one in self.complete()]

        def share(one: Candidate) -> float:
            said = extracted(self.of.evaluate, one.response.text)  # type: ignore[arg-type]
            return 0.0 if said is None else told.count(said) / len(told)

        for i in numbers:
            node = self.tree.nodes[i]
            own = [one for number, one in self.ends if number == i and not one.excluded]
            if node.candidate is not None and node.candidate.response.complete:
                own = [] if node.candidate.excluded else [node.candidate]
            node.value = sum(map(share, own)) / len(own) if own else 0.0

    def complete(self) -> list[Candidate]:
        """All complete answers that are allowed, those of a round that was ended early too."""
        found = [node.candidate for node in self.tree.nodes if node.candidate is not None]
        found += [one for _, one in self.ends] + [self._fresh[i] for i in sorted(self._fresh)]
        return [one for one in found if one.response.complete and not one.excluded]

    def record(self) -> None:
        """Records all drafts with their parents, values and visits, once."""
        if self._is_recorded:
            return
        self._is_recorded = True
        nodes = self.tree.nodes[1:]
        parents = [node.parent for node in nodes] + [i for i, _ in self.ends]
        for number, node in enumerate(nodes, 1):
            assert node.candidate is not None
            siblings = self.tree.nodes[node.parent].children
            before = self.tree.nodes[node.parent].candidate
            self._propose(
                node.candidate,
                taken=number == max(siblings, key=self._worth),
                kept=len(before.tokens) if before else 0,
            )
        for _, one in self.ends:
            # it competes with no segment that was drawn on the same prefix
            self._propose(one, taken=True, kept=len(one.tokens))
        self.run.trace.note(
            parents=tuple(map(float, parents)),
            values=tuple([n.value for n in nodes] + [float(one.reward) for _, one in self.ends]),
            visits=tuple([float(n.visits) for n in nodes] + [1.0] * len(self.ends)),
        )

    def _worth(self, number: int) -> tuple[bool, float]:
        """What siblings are compared by: the value; what is excluded comes last."""
        node = self.tree.nodes[number]
        return not (node.candidate is not None and node.candidate.excluded), node.value

    def _propose(self, candidate: Candidate, *, taken: bool, kept: int) -> None:
        is_taken = taken and not candidate.excluded
        self.run.record_proposal(
            candidate,
            verdict=Verdict.ACCEPTED if is_taken else Verdict.REJECTED,
            kept=kept,
            address=candidate.response.address,
        )
