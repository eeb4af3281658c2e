"""MarkovChain: the part that all strategies with chains over responses have in common."""

import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from rsalign.chains.board import Board
from rsalign.chains.cuts.laws import UniformCuts
from rsalign.chains.cuts.protocol import CutLaw
from rsalign.chains.diagnostics import CHAIN_NOTES, summary
from rsalign.chains.ensemble import Ensemble
from rsalign.chains.history import (
    History,
    WeightedSample,
    allowed_rewards,
    collect_sample,
    pool_weights,
)
from rsalign.chains.kernel import (
    Kernel,
    LogWeight,
    Proposing,
    Step,
    Truncated,
    finite_log_weight,
    restricted,
)
from rsalign.chains.metropolis import Combine
from rsalign.chains.moves import MixedKernel, Move
from rsalign.chains.stopping import Stopping
from rsalign.core.capabilities import LAST, AnswerLaw, TraceKind, picks
from rsalign.core.checks import Allowed, above, at_least, check_settings, part, quote, setting_error
from rsalign.core.errors import ConfigError
from rsalign.core.run import Run, is_certain
from rsalign.core.tasks import concurrently
from rsalign.core.trace import Note, Verdict
from rsalign.core.types import Candidate, Prompt
from rsalign.drafting.pair import DRAFT, NEEDS_DRAFT
from rsalign.selectors.by_reward import Last
from rsalign.selectors.extraction import Extract
from rsalign.selectors.protocol import Selection, Selector, WeighingSelector


@dataclass(frozen=True, slots=True, kw_only=True)
class MarkovChain(ABC):
    """Chains that target pi(y) w(y) / Z on responses of at most `max_tokens` tokens.

    A subclass defines w by `log_weight`.

    What a constraint excludes has w = 0: a chain may start there, takes the first allowed proposal
    and never returns. If the chains visit nothing that is allowed, the answer is an abstention.

    If a budget ends the run early, `answer` chooses among the states visited until then. If the
    policy has one possible answer, it is drawn once and no step is made.

    Attributes:
        steps: number of steps of each chain. With the same seed a larger number only adds steps.
        max_tokens: greatest length of the whole response in tokens, EOS included.
        cuts: the cut law: where a response is cut (`rsalign.chains.cuts`).
        restart: probability that a step draws the whole response anew instead.
        candidates: number of suffixes drawn at once for each cut. They save rounds, not tokens:
            k steps with one candidate mix better than one step with k.
        combine: how candidates compete: ``"multi_try"`` (independent multiple-try Metropolis) or
            ``"i_sir"`` (resampling of the current state and all candidates).
        chains: number of independent chains for each prompt; they never wait for each other.
        pool: None: each chain starts from its own draw of the policy. A number: that many responses
            are drawn first, each chain starts from one of them, drawn in proportion to w (soft
            best-of-n), and all of them count in the answer by their weights.
        tempering: factors above 1, ascending, infinity allowed. For each factor each chain gets a
            replica with the target pi w^(1/factor), and neighbours exchange states. A replica costs
            as much as the chain itself.
        answer: the selector that chooses the answer from the states, repeats included
            (`rsalign.selectors`). `Last` gives a draw from the target, as far as the chain has
            mixed. Selectors that can weigh (`MajorityVote`, `RewardWeightedVote`,
            `MinimumBayesRisk`, `Hard`) are given each distinct response once, with its weight.
        burn_in: number of first states of each chain that do not count.
        recycle: whether proposals count too, with the probability that they had of being accepted.
        stopping: a rule that may end the chains before `steps` (`rsalign.chains.stopping`).
        truncated: how a response that reached `max_tokens` counts: ``"as_scored"``, by its reward,
            or ``"excluded"`` from the target.
        moves: other moves, each made in a share of the steps (`rsalign.chains.moves`), such as
            `ParticleGibbs`.
        proposal: ``"draft"``: the part ``draft`` of the run, a smaller policy with the same tokens,
            draws suffixes, which the policy scores. Chains still start from draws of the policy.

    Raises:
        ConfigError: if a setting is out of its range, or two contradict each other.
    """

    steps: int = 32
    max_tokens: int = 256
    cuts: CutLaw = field(default_factory=UniformCuts)
    restart: float = 0.0
    candidates: int = 1
    combine: Combine = "multi_try"
    chains: int = 1
    pool: int | None = None
    tempering: tuple[float, ...] = ()
    answer: Selector = field(default_factory=Last)
    burn_in: int = 0
    recycle: bool = True
    stopping: Stopping | None = None
    truncated: Truncated = "as_scored"
    moves: tuple[Move, ...] = ()
    proposal: Proposing = "policy"

    def __post_init__(self) -> None:
        self.check()

    def check(self, **allowed: Allowed) -> None:
        """Checks all settings; a subclass calls it in its ``__post_init__``.

        Args:
            **allowed: what the subclass's own settings may be (`check_settings`).

        Raises:
            ConfigError: names the setting, and says what is allowed.
        """
        check_settings(
            self,
            MarkovChain,
            steps=at_least(1),
            max_tokens=at_least(1),
            cuts=part("a cut law, such as UniformCuts()"),
            restart=at_least(0.0, 1.0),
            candidates=at_least(1),
            chains=at_least(1),
            pool=at_least(2, note="None is for plain draws"),
            tempering=above(1.0, infinity=True, note="ascending, such as (2.0, math.inf)"),
            answer=part("a selector, such as Last()"),
            burn_in=at_least(0, note="at most steps"),
            stopping=part("a rule of rsalign.chains.stopping"),
            moves=part("moves, such as (ParticleGibbs(segmenter=FixedSize(16)),)"),
            **allowed,
        )
        if self.burn_in > self.steps:
            raise setting_error(self, "burn_in", f"a whole number of at most steps={self.steps}")
        if not all(low < high for low, high in itertools.pairwise(self.tempering)):
            raise setting_error(
                self, "tempering", "factors in ascending order, such as (2.0, math.inf)"
            )
        if math.fsum(move.share for move in self.moves) > 1 + 1e-9:
            raise setting_error(self, "moves", "moves whose shares sum to at most 1")
        reads = self.cuts.needs_entropy or any(move.needs_entropy for move in self.moves)
        if reads and any(move.drops_entropy for move in self.moves):
            raise ConfigError(
                f"{type(self).__name__}(cuts={self.cuts!r}, moves={quote(self.moves)}): a cut law "
                "or a move reads the entropies of a state, which ancestors=True leaves unknown: "
                "leave out one of them"
            )
        if self.proposal == "draft" and self.cuts.needs_entropy:
            raise ConfigError(
                f"{type(self).__name__}(proposal='draft', cuts={self.cuts!r}): entropies are of "
                "the policy, which does not draw the suffixes: use cuts=UniformCuts()"
            )
        if self.stopping is not None and self.stopping.needs_answers and self._extract is None:
            raise ConfigError(
                f"{type(self).__name__}(stopping={self.stopping!r}) looks at votes, but "
                f"answer={self.answer!r} extracts no answers: vote, by MajorityVote(extract=...)"
            )

    varies_by_policy_alone: ClassVar[bool] = True
    trace_kind: ClassVar[TraceKind] = "chains"
    note_meanings: ClassVar[dict[str, str]] = CHAIN_NOTES

    @property
    def needs(self) -> Mapping[str, Any]:
        """The draft, if it proposes."""
        return NEEDS_DRAFT if self.proposal == DRAFT else {}

    @property
    def answer_law(self) -> AnswerLaw:
        """The chain's target law if the answer is its last state."""
        is_state = picks(self.answer) == LAST
        return AnswerLaw.CHAIN_STATE if is_state else AnswerLaw.CHAIN_ELECTION

    @property
    def independent_draws(self) -> int:
        """Draws of the policy that the chains of a prompt start from."""
        return self.pool or self.chains * (1 + len(self.tempering))

    @property
    def parallel_draws(self) -> int:
        """Those of the pool, or of a step of all chains if these are more."""
        step = max(self.candidates, *(move.parallel_draws for move in self.moves), 1)
        return max(self.pool or 1, self.chains * (1 + len(self.tempering)) * step)

    @abstractmethod
    def log_weight(self, prompt_rewards: Sequence[float]) -> LogWeight:
        """The function from a response to ln w.

        Args:
            prompt_rewards: of the allowed draws that the chains were started from, ``(draws,)``.
        """

    def finite_log_weight(self, value: float) -> float:
        """Returns an ln w that a subclass has computed, if it is small enough to compute with.

        Raises:
            ConfigError: if it is not.
        """
        return finite_log_weight(self, value)

    def weight_notes(self, prompt_rewards: Sequence[float]) -> Mapping[str, Note]:
        """Notes about w, such as the beta found for this prompt; arguments as in `log_weight`."""
        return {}

    def weight_warnings(self, prompt_rewards: Sequence[float]) -> Sequence[str]:
        """Warnings for the user about w; arguments as in `log_weight`."""
        return ()

    def why_no_weight(self, prompt_rewards: Sequence[float]) -> str | None:
        """Why w cannot be found from these rewards, of the allowed draws; None if it can be."""
        return None

    @property
    def kernel(self) -> Kernel | MixedKernel:
        """The move that all chains make."""
        kernel = Kernel(
            cuts=self.cuts,
            restart=self.restart,
            candidates=self.candidates,
            combine=self.combine,
            max_tokens=self.max_tokens,
            proposal=self.proposal,
        )
        return MixedKernel(kernel=kernel, moves=self.moves) if self.moves else kernel

    @property
    def _extract(self) -> Extract | None:
        return getattr(self.answer, "extract", None)

    async def step(
        self, prompt: Prompt, state: Candidate, run: Run, log_weight: LogWeight | None = None
    ) -> Step:
        """Makes one step from a state, for callers that drive a chain by themselves.

        Args:
            prompt: what is answered.
            state: a complete response, with log-probabilities or certainty if they are needed.
            run: at an address that this step alone uses.
            log_weight: ln w; None: ``log_weight(())``, for a w that does not depend on other draws.
        """
        log_weight = restricted(log_weight or self.log_weight(()), self.truncated)
        return await self.kernel.step(prompt, state, log_weight, run)

    async def sample(self, prompt: Prompt, run: Run) -> Candidate:
        """Runs the chains and chooses an answer from the states that they visited."""
        factors = (1.0, *self.tempering)
        num_draws = self.pool or self.chains * len(factors)
        drawn: dict[int, Candidate] = {}
        histories: list[History] = []

        async def draw(i: int) -> None:
            drawn[i] = await run.at("start", i).draft(
                prompt,
                (),
                max_tokens=self.max_tokens,
                kept_log_probs=(),
                kept_certainty=self.kernel.first_certainty,
            )

        async def answer_so_far() -> Candidate | None:
            if not drawn:
                return None
            draws = [drawn[i] for i in sorted(drawn)]
            rewards = allowed_rewards(draws)
            log_weight = restricted(self.log_weight(rewards), self.truncated)
            firsts = draws
            if self.pool:
                firsts = [chain[0] for chain in self._starts(draws, log_weight, factors, run)]
            visited = histories or [History(start=first) for first in firsts]
            return await self._answer(prompt, draws, visited, log_weight, run)

        run.trace.answer_by(answer_so_far)
        is_stuck = run.has_one_answer(f"it was drawn once, and {self.steps} steps were not made")
        await concurrently(draw(i) for i in range(1 if is_stuck else num_draws))
        draws = [drawn[i] for i in sorted(drawn)]
        if is_stuck:
            draws *= num_draws
        elif any(is_certain(draw.response) for draw in draws):
            is_stuck = True
            run.trace.warn(
                "the policy has one possible answer to this prompt (all tokens have probability "
                f"1): {self.steps} steps, which could only repeat it, were not made"
            )
        rewards = allowed_rewards(draws)
        if (why := self.why_no_weight(rewards)) is not None:
            return run.abstain(prompt, why)
        log_weight = restricted(self.log_weight(rewards), self.truncated)
        for warning in () if is_stuck else self.weight_warnings(rewards):
            run.trace.warn(warning)
        starts = self._starts(draws, log_weight, factors, run)
        histories += [History(start=chain[0]) for chain in starts]
        board = Board(
            histories=histories,
            steps=self.steps,
            burn_in=self.burn_in,
            stopping=self.stopping,
            extract=self._extract,
            trace=run.trace,
        )
        ensemble = Ensemble(
            kernel=self.kernel, factors=factors, steps=0 if is_stuck else self.steps
        )
        await ensemble.run(prompt, starts, log_weight, run, board)
        run.trace.note(stopped_early=board.close())
        chosen = await self._answer(prompt, draws, histories, log_weight, run)
        if chosen is None:
            num_steps = sum(len(history.steps) for history in histories)
            return run.abstain(
                prompt, f"{len(draws)} draws and {num_steps} steps from them found nothing allowed"
            )
        run.trace.commit(chosen.tokens)
        return chosen

    async def _answer(
        self,
        prompt: Prompt,
        draws: Sequence[Candidate],
        histories: Sequence[History],
        log_weight: LogWeight,
        run: Run,
    ) -> Candidate | None:
        """Chooses the answer and records the notes; also for chains that were ended early.

        Returns None if a constraint excludes all that the chains have visited.

        Args:
            prompt: what is answered.
            draws: the draws of the policy that the chains were started from.
            histories: ``(chains,)``; they may have made different numbers of steps.
            log_weight: ln w.
            run: the strategy's own.
        """
        # if chains were ended within their burn-in, their latest states count
        burn_in = min(self.burn_in, *(len(history.steps) for history in histories))
        sample = collect_sample(
            histories,
            burn_in=burn_in,
            recycle=self.recycle,
            log_weight=log_weight,
            pool=draws if self.pool else (),
            pool_weights=pool_weights(draws, log_weight) if self.pool else (),
        )
        if not sample.candidates:
            return None
        run.trace.note(
            **summary(histories, sample, draws, log_weight, burn_in=burn_in),
            **self.weight_notes(allowed_rewards(draws)),
        )
        return await self._choose(prompt, histories, sample, log_weight, burn_in, run)

    def _starts(
        self,
        draws: Sequence[Candidate],
        log_weight: LogWeight,
        factors: Sequence[float],
        run: Run,
    ) -> list[list[Candidate]]:
        """The first state of each replica of each chain, ``(chains, replicas)``."""
        size = len(factors)
        if self.pool is None:
            return [list(draws[c * size : (c + 1) * size]) for c in range(self.chains)]
        key = run.key.child("resample")
        return [
            [
                draws[key.child(c, j).categorical(pool_weights(draws, log_weight, factor))]
                for j, factor in enumerate(factors)
            ]
            for c in range(self.chains)
        ]

    async def _choose(
        self,
        prompt: Prompt,
        histories: Sequence[History],
        sample: WeightedSample,
        log_weight: LogWeight,
        burn_in: int,
        run: Run,
    ) -> Candidate:
        key = run.key.child("answer")
        if isinstance(self.answer, WeighingSelector):
            candidates: Sequence[Candidate] = sample.candidates
            selection: Selection = await self.answer.select(
                prompt, candidates, key, weights=sample.weights
            )
        else:
            states = [y for history in histories for y in history.allowed_states(burn_in)]
            candidates = [y for y in states if log_weight(y) > -math.inf] or states
            selection = await self.answer.select(prompt, candidates, key)
        run.trace.note(**selection.notes)
        chosen, prob = candidates[selection.index], selection.probs[selection.index]
        run.record_proposal(chosen, verdict=Verdict.ACCEPTED, prob=prob)
        return chosen
