"""Cards: segments by rejection sampling against a threshold that rises along the answer.

Law      Let y be kept, q(s) the probability that pi writes the segment s after y and ends it
         there (EOS, the segmenter, or `max_tokens` of the whole), a(s) = P(accept) for the reward
         of y + s (cumulative, not of s alone) against the threshold at the length of y + s,
         A = sum q a, K = max_tries. The next segment is s with probability
             q(s) a(s) (1 + (1 - A) + ... + (1 - A)^(K-1))  +  forced(s).
         P(forced) = (1 - A)^K, of which s has, by `when_exhausted`:
         best: G(r(s))^K - G(r(s)-)^K, split among segments of equal reward in proportion to
         q (1 - a), where G(v) = sum of q (1 - a) over rewards up to v and G(v-) its left limit;
         last: (1 - A)^(K-1) q(s) (1 - a(s)); fail: `TriesExhaustedError`.
         For soft acceptance without the forced branch this is pi(s) exp(min(r, tau) / beta) / Z(y):
         exact for the clipped reward *within* each segment. Z(y) is not corrected for, so the
         whole answer is not tilted by its reward alone. `proposals` changes no draw.
Move     Draft a segment, judge the whole so far, accept or draft again.
Accept   `rsalign.segments.acceptance` against `rsalign.segments.thresholds`.
Paper    CARDS, Li et al. 2024, arXiv:2406.16306; its settings: `Cards.paper`.
Departs  EOS ends the answer and no segment exceeds `max_tokens` (the published code runs past
         both); after K rejections the best of those K is forced (there: of K + 1, the last of
         which is never tested); the reward of the prompt is asked only if the threshold needs it;
         beta and the policy's temperature are two numbers (there: one).
Cost     about 1 / A drafts a segment, at most K; with `proposals` = m fewer than m more, and as
         many fewer rounds. The prefix cache makes the kept tokens cheap. What a policy drew past
         the end of a segment that was taken is the first draft of the next
         (`rsalign.core.overdraw`).
         A draft that is certain to repeat (all of its tokens had probability 1) is drawn and judged
         once; the tries left test it again.
Streams  each segment as soon as it is taken.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from rsalign.chains.likelihood import is_certain
from rsalign.core.capabilities import AnswerLaw
from rsalign.core.checks import at_least, check_settings, part
from rsalign.core.errors import ConfigError, RsalignError
from rsalign.core.protocols import SEGMENTER, Boundary, Policy, headroom, sampling
from rsalign.core.run import Run
from rsalign.core.tasks import until
from rsalign.core.trace import Proposal, Verdict
from rsalign.core.types import Candidate, Prompt, Response
from rsalign.segments.acceptance import Acceptance, SoftAcceptance
from rsalign.segments.thresholds import Line, Threshold
from rsalign.selectors.selection import best

_MOST_AT_ONCE = 8  # for "auto": beyond it hardly a round is saved at acceptance rates that work


class TriesExhaustedError(RsalignError):
    """No draft of a segment was accepted, and ``when_exhausted="fail"``.

    Attributes:
        prompt: what was being answered.
        kept: the answer up to that segment, which was accepted.
        rejected: the drafts.
    """

    def __init__(self, prompt: Prompt, kept: Response, rejected: tuple[Candidate, ...]) -> None:
        highest = max(draft.reward for draft in rejected)
        super().__init__(
            f"all {len(rejected)} drafts of a segment after {len(kept.tokens)} tokens were "
            f"rejected, their highest reward being {highest:.4g}: lower the target (Calibrate "
            "finds one), raise max_tries, or choose when_exhausted='best' or 'last'"
        )
        self.prompt = prompt
        self.kept = kept
        self.rejected = rejected


@dataclass(frozen=True, slots=True, kw_only=True)
class Cards:
    """Cascade reward sampling: an answer grows by accepted segments.

    If a budget ends the run early, drafts of the present segment that were judged but not tested
    yet are tested, in order. If the accepted one completes the answer, it is the answer. If there
    is none, `Budget` decides, whatever `when_exhausted` is: the complete draft with the highest
    reward among those that begin with the accepted segments, although it was rejected, or else the
    accepted segments. A strategy that chooses among several such runs leaves out those that have
    no accepted answer, as long as one has.

    Notes: ``num_segments``; ``num_proposals`` that were tested; ``num_forced`` segments that were
    taken without being accepted; ``acceptance_rate`` of the tested; ``mean_segment_length`` in
    tokens; ``unused_drafts``, begun for nothing because an earlier one of the same round was
    accepted; ``hopeless``; ``prompt_reward``, where the threshold needs it.

    Attributes:
        segmenter: where segments end, such as ``FixedSize(16)``.
        threshold: what a draft is held to. None only inside `Calibrate`, which sets it.
        acceptance: how it is held to it. The default has the paper's beta, which suits rewards of
            a spread of several units.
        max_tokens: bounds the whole answer, EOS included.
        max_tries: drafts of one segment.
        proposals: drafts drawn at once; the first accepted *in order of index* is taken, what is
            still being drawn is then cancelled, and each try has an address of its own, so this
            changes cost but never the answer. ``"auto"`` takes 1 / a of them, with
            a = (accepted + 1) / (tested + 1) over this answer so far (one at first, and twice as
            many in each fruitless round), but at most 8, and no more than the engine has room for
            if every open request did the same (`rsalign.core.protocols.headroom`).
        when_exhausted: what becomes of a segment whose tries are all rejected. ``"best"``: the
            rejected draft with the highest reward (the first of equals); ``"last"``: the last one;
            both are recorded as forced. ``"fail"``: an error.
        hopeless_below: if the *first* segment uses up its tries, and the mean acceptance
            probability of these drafts is below this, the target counts as out of reach: one more
            draw completes the answer untested (forced). So a hopeless answer costs ``max_tries +
            1`` drafts, not as many for every segment. 0: never. Hard acceptance has a mean of
            0 whenever all tries are rejected. With ``"fail"`` it is not asked.

    Raises:
        ConfigError: if a setting is out of its range.
    """

    varies_by_policy_alone: ClassVar[bool] = True
    answer_law: ClassVar[AnswerLaw] = AnswerLaw.REJECTION

    segmenter: Boundary
    threshold: Threshold | None = None
    acceptance: Acceptance = field(default_factory=lambda: SoftAcceptance(beta=0.7))
    max_tokens: int = 256
    max_tries: int = 20
    proposals: int | Literal["auto"] = 1
    when_exhausted: Literal["best", "last", "fail"] = "best"
    hopeless_below: float = 0.0

    def __post_init__(self) -> None:
        check_settings(
            self,
            segmenter=SEGMENTER,
            threshold=part("a threshold, such as Line(target=1.5)"),
            acceptance=part(
                "an acceptance rule, such as SoftAcceptance(beta=0.7) or HardAcceptance()"
            ),
            max_tokens=at_least(1),
            max_tries=at_least(1),
            proposals=at_least(1),
            hopeless_below=at_least(0.0, 1.0, note="0 is never"),
        )

    @classmethod
    def paper(
        cls,
        *,
        segmenter: Boundary,
        target: float = 8.5,
        alpha: float = 0.5,
        beta: float = 0.7,
        max_tokens: int = 128,
        max_tries: int = 20,
    ) -> "Cards":
        """The published settings, up to what the module's docstring lists under *Departs*.

        There the same number is beta and the temperature of the policy. Temperature is the
        policy's affair, so give it that number too: ``Sampling(temperature=0.7, top_k=40)`` (or
        vLLM's `SamplingParams`). The segmenter there: next-token entropy of 3 nats, 4 to 64 tokens.

        Args:
            segmenter: where segments end.
            target: r*, in units of the reward model; 8.5 belongs to the paper's own.
            alpha: weight of the target in the line's start value.
            beta: divides the reward.
            max_tokens: T.
            max_tries: rejections after which a segment is forced.
        """
        return cls(
            segmenter=segmenter,
            threshold=Line(target=target, prompt_weight=1 - alpha),
            acceptance=SoftAcceptance(beta=beta),
            max_tokens=max_tokens,
            max_tries=max_tries,
        )

    async def sample(self, prompt: Prompt, run: Run) -> Candidate:
        """Draws segment by segment."""
        run.has_one_answer(f"segments are drafted once each, and not up to {self.max_tries} times")
        log_accept = await self._log_accept(prompt, run)
        kept, tally = Response((), "", None, ()), _Tally()
        while True:
            if tally.hopeless:
                chosen = await self._rest(prompt, kept, log_accept, run.at("rest"))
            else:
                here = run.at("segment", len(kept.tokens))
                chosen = await self._segment(prompt, kept, log_accept, here, tally)
            tally.num_segments += 1
            tally.num_forced += run.trace.proposals[-1].verdict is Verdict.FORCED
            run.trace.commit(chosen.tokens[len(kept.tokens) :])
            # after every segment, so that they are there if a budget ends the run
            run.trace.note(
                num_segments=tally.num_segments,
                num_proposals=tally.num_tested,
                num_forced=tally.num_forced,
                acceptance_rate=tally.num_accepted / tally.num_tested,
                mean_segment_length=len(chosen.tokens) / tally.num_segments,
                unused_drafts=tally.num_unused,
                hopeless=tally.hopeless,
            )
            if chosen.response.complete:
                return chosen
            kept = chosen.response

    async def _log_accept(self, prompt: Prompt, run: Run) -> Callable[[Candidate], float]:
        """Ln P(accept) of a draft for this prompt."""
        threshold = self.threshold
        if threshold is None:
            raise ConfigError(
                "Cards has no threshold: give threshold=Line(target=...), in the reward's units, "
                "or let Calibrate(inner=Cards(...)) find a target"
            )
        prompt_reward = 0.0
        if threshold.needs_prompt_reward:
            prompt_reward = (await run.judge(prompt, (), None)).reward
            run.trace.note(prompt_reward=prompt_reward)

        def log_accept(draft: Candidate) -> float:
            bar = threshold.at(
                len(draft.tokens), prompt_reward=prompt_reward, max_tokens=self.max_tokens
            )
            return self.acceptance.log_accept(draft.reward, bar)

        return log_accept

    async def _segment(
        self,
        prompt: Prompt,
        kept: Response,
        log_accept: Callable[[Candidate], float],
        run: Run,
        tally: "_Tally",
    ) -> Candidate:
        """The kept tokens and one more segment, which is on record as accepted or forced."""
        drawn: dict[int, Candidate] = {}
        tested: list[Candidate] = []
        accepted = False
        repeats = sampling(run.policy).is_point_mass
        only: Candidate | None = None  # the one possible draft, once it is known to be that

        async def attempt(index: int) -> int:
            drawn[index] = only or await run.at("try", index).draft(
                prompt,
                kept.tokens,
                max_tokens=self.max_tokens,
                boundary=self.segmenter,
                kept_log_probs=kept.log_probs,
                ahead=None if index else kept.beyond,
            )
            return index

        def accepts(index: int) -> bool:
            nonlocal accepted
            tested.append(drawn[index])
            tally.num_tested += 1
            here = run.at("try", index)
            log_probability = log_accept(drawn[index])
            accepted = here.decide(drawn[index], kept=len(kept.tokens), log_accept=log_probability)
            return accepted

        async def answer_so_far() -> Candidate | None:
            # the others in order of index, as they would have been tested
            for index in sorted(drawn)[len(tested) :]:
                if accepted or accepts(index):
                    break
            return tested[-1] if accepted and tested[-1].response.complete else None

        run.trace.answer_by(answer_so_far)
        while (first := len(tested)) < self.max_tries:
            size = tally.round_size(run.policy) if self.proposals == "auto" else self.proposals
            if repeats:
                size = 1
            tries = range(first, min(first + size, self.max_tries))
            await until(map(attempt, tries), accepts)
            if accepted:
                tally.num_accepted += 1
                tally.num_unused += tries.stop - len(tested)
                return tested[-1]
            if repeats := repeats or is_certain(tested[-1].response, len(kept.tokens)):
                only = tested[-1]
        if self.when_exhausted == "fail":
            raise TriesExhaustedError(prompt, kept, tuple(tested))
        mean_accept = math.fsum(math.exp(log_accept(draft)) for draft in tested) / len(tested)
        tally.hopeless = not kept.tokens and mean_accept < self.hopeless_below
        if tally.hopeless:
            run.trace.warn(
                f"the target is out of reach: the drafts of the first segment had a mean "
                f"acceptance probability of {mean_accept:.2g}, below hopeless_below="
                f"{self.hopeless_below:g}; the answer was completed without tests. Lower the "
                "target (Calibrate finds one for each prompt)"
            )
        last = self.when_exhausted == "last"
        chosen = tested[-1 if last else best([draft.reward for draft in tested])]
        _force(chosen, len(kept.tokens), log_accept(chosen), run)
        return chosen

    async def _rest(
        self, prompt: Prompt, kept: Response, log_accept: Callable[[Candidate], float], run: Run
    ) -> Candidate:
        """The kept tokens completed as pi would, untested."""
        chosen = await run.draft(
            prompt, kept.tokens, max_tokens=self.max_tokens, kept_log_probs=kept.log_probs
        )
        _force(chosen, len(kept.tokens), log_accept(chosen), run)
        return chosen


@dataclass(slots=True)
class _Tally:
    """What one answer took so far."""

    num_segments: int = 0
    num_tested: int = 0
    num_accepted: int = 0
    num_forced: int = 0
    num_unused: int = 0
    hopeless: bool = False

    def round_size(self, policy: Policy) -> int:
        """The tries that one acceptance is expected to take; one acceptance is taken on trust."""
        expected = math.ceil((self.num_tested + 1) / (self.num_accepted + 1))
        return max(1, math.floor(min(_MOST_AT_ONCE, expected, headroom(policy))))


def _force(chosen: Candidate, kept: int, log_accept: float, run: Run) -> None:
    run.trace.propose(
        Proposal(
            candidate=chosen,
            kept=kept,
            log_accept=min(0.0, log_accept),
            verdict=Verdict.FORCED,
            address=run.key.path,
        )
    )
