"""Cards: segments by rejection sampling against a threshold that rises along the answer.

Law      Let y be the tokens kept so far, q(s) the probability that pi writes the segment s after y
         and ends it there (at EOS, by the segmenter, or because the whole has `max_tokens` tokens),
         a(s) = P(accept) for the reward of y + s (of the whole, not of s alone) against the
         threshold at the length of y + s, A = sum q a, and K = max_tries. The next segment is s
         with probability
             q(s) a(s) (1 + (1 - A) + ... + (1 - A)^(K-1))  +  forced(s).
         P(forced) = (1 - A)^K. The share of s in it depends on `when_exhausted`:
         best: G(r(s))^K - G(r(s)-)^K, split among segments of equal reward in proportion to
         q (1 - a), where G(v) = sum of q (1 - a) over rewards up to v and G(v-) its left limit;
         last: (1 - A)^(K-1) q(s) (1 - a(s)); fail: `TriesExhaustedError`; finish: as best, and all
         tokens after a forced segment are drawn from pi.
         For soft acceptance without the forced branch this is pi(s) exp(min(r, tau) / beta) / Z(y):
         exact for the clipped reward *within* each segment. Z(y) is not corrected for, so that the
         law of the whole answer is not tilted by its reward alone. `proposals` changes no draw.
         Under a constraint a(s) = 0 for what it excludes, and only the others are forced; if all K
         are excluded, the answer ends there as an abstention.
Move     Draft a segment, judge the whole answer so far, accept it or draft again.
Accept   a rule of `rsalign.segments.acceptance` against a threshold of
         `rsalign.segments.thresholds`.
Paper    CARDS, Li et al. 2024, arXiv:2406.16306; its settings: `Cards.paper`.
Departs  EOS ends the answer and no segment exceeds `max_tokens` (the published code runs past
         both). After K rejections the best of those K is forced (there: of K + 1, the last of which
         is never tested). The reward of the empty response is asked only if the threshold needs it.
         beta and the policy's temperature are two numbers (there: one).
Cost     about 1 / A drafts for each segment, at most K; with `proposals` = m up to m - 1 more, and
         fewer rounds in return. The prefix cache makes the kept tokens cheap. Tokens that a policy
         drew past the end of an accepted segment begin the first draft of the next one
         (`rsalign.core.overdraw`). A draft that is certain to repeat (all of its tokens had
         probability 1) is drawn and judged once; the remaining tries test it again.
Streams  each segment as soon as it is taken.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from rsalign.core.capabilities import AnswerLaw, TraceKind
from rsalign.core.checks import at_least, check_settings
from rsalign.core.errors import RsalignError
from rsalign.core.protocols import SEGMENTER, Boundary, Policy, get_headroom, get_sampling
from rsalign.core.run import Run, is_certain
from rsalign.core.tasks import until
from rsalign.core.trace import Verdict
from rsalign.core.types import Candidate, Prompt, Response
from rsalign.segments.acceptance import ACCEPTANCE, Acceptance, SoftAcceptance
from rsalign.segments.bar import Bar, missing_threshold
from rsalign.segments.conformal import calibrate, score_of
from rsalign.segments.round_size import MOST_AT_ONCE, round_size
from rsalign.segments.thresholds import THRESHOLD, Line, Threshold
from rsalign.selectors.by_reward import index_of_highest

_NONE_ALLOWED = "of {} drafts after {} tokens none is allowed"


class TriesExhaustedError(RsalignError):
    """No draft of a segment was accepted, and ``when_exhausted="fail"``.

    Attributes:
        prompt: what was being answered.
        kept: the accepted answer up to that segment.
        rejected: the drafts of the segment.
    """

    def __init__(self, prompt: Prompt, kept: Response, rejected: tuple[Candidate, ...]) -> None:
        rewards = [draft.reward for draft in rejected if not draft.excluded]
        highest = f"their highest reward being {max(rewards):.4g}" if rewards else "none is allowed"
        super().__init__(
            f"all {len(rejected)} drafts of a segment after {len(kept.tokens)} tokens were "
            f"rejected, {highest}: lower the target (Calibrate "
            "finds one), raise max_tries, or choose when_exhausted='best' or 'last'"
        )
        self.prompt = prompt
        self.kept = kept
        self.rejected = rejected


@dataclass(frozen=True, slots=True, kw_only=True)
class Cards:
    """Cascade reward sampling: draws an answer segment by segment, each by rejection sampling.

    If a budget ends the run early, drafts of the present segment that were judged but not tested
    yet are tested, in order. If the accepted one completes the answer, it is the answer. If there
    is none, `Budget` decides, whatever `when_exhausted` is: the complete draft with the highest
    reward among those that begin with the accepted segments, although it was rejected, or else the
    accepted segments. A strategy that chooses among several such runs leaves out those that have
    no accepted answer, as long as one has.

    Notes: ``num_segments``; ``num_proposals``, drafts that were tested; ``num_forced``, segments
    that were taken without being accepted; ``acceptance_rate`` of the tested drafts;
    ``mean_segment_length`` in tokens; ``unused_drafts``, begun for nothing because an earlier one
    of the same round was accepted; ``hopeless``; ``prompt_reward``, if the threshold needs it.

    Attributes:
        segmenter: where segments end, such as ``FixedSize(16)``.
        threshold: the reward that the answer must reach at the end of each draft, by its length.
            None only inside `Calibrate`, which sets it, and with `Conformal`, which needs none.
        acceptance: the probability of accepting a draft, given its reward and the threshold. The
            default has the paper's beta, which suits rewards with a spread of several units. With
            `Conformal` each try alone is rejected with its share; all tries of a segment are
            compared with the same calibration drafts.
        max_tokens: greatest length of the whole answer in tokens, EOS included.
        max_tries: greatest number of drafts of one segment.
        proposals: number of drafts drawn at once. The first accepted *in order of index* is taken
            and the other draws are cancelled. Each try has its own address, so that this changes
            the cost but never the answer. ``"auto"`` draws as many as are expected to cost least
            (`rsalign.segments.round_size`), at most 8: one at first, and more the more drafts were
            rejected and the fewer requests of others share the engine's steps.
        when_exhausted: what happens if all tries of a segment are rejected. ``"best"`` takes the
            rejected draft with the highest reward (the first of equal ones), ``"last"`` the last
            one; both are recorded as forced. ``"finish"`` does as ``"best"``, and completes the
            answer with one more draw, untested (forced): the drafts of later segments would mostly
            be rejected as well. ``"fail"`` raises an error.
        hopeless_below: if the *first* segment uses up its tries, and the mean acceptance
            probability of these drafts is below this number, the target counts as out of reach: one
            more draw completes the answer untested (forced). A hopeless answer then costs
            ``max_tries + 1`` drafts instead of `max_tries` for every segment. 0 turns this off.
            With hard acceptance the mean is 0 whenever all tries are rejected. It has no effect
            with ``"fail"``.

    Raises:
        ConfigError: if a setting is out of its range.

    Example:
        >>> from rsalign import Aligner, FixedSize
        >>> from rsalign.testing import ToyPolicy, ToyReward
        >>> strategy = Cards(segmenter=FixedSize(2), threshold=Line(target=1.0), max_tokens=6)
        >>> with Aligner(ToyPolicy(), ToyReward(), strategy) as aligner:
        ...     [output] = aligner.generate("1 2", use_tqdm=False)
        >>> output.alignment.diagnostics["num_segments"] <= 3
        True
    """

    varies_by_policy_alone: ClassVar[bool] = True
    trace_kind: ClassVar[TraceKind] = "segments"
    answer_law: ClassVar[AnswerLaw] = AnswerLaw.REJECTION
    note_meanings: ClassVar[dict[str, str]] = {
        "num_proposals": "drafts that were tested",
        "num_forced": "segments taken without being accepted",
        "acceptance_rate": "share of the tried that were accepted",
        "mean_segment_length": "tokens",
        "unused_drafts": "begun for nothing",
        "hopeless": "the target was out of reach",
        "prompt_reward": "of the prompt without an answer",
    }

    segmenter: Boundary
    threshold: Threshold | None = None
    acceptance: Acceptance = field(default_factory=lambda: SoftAcceptance(beta=0.7))
    max_tokens: int = 256
    max_tries: int = 20
    proposals: int | Literal["auto"] = 1
    when_exhausted: Literal["best", "last", "finish", "fail"] = "best"
    hopeless_below: float = 0.0

    def __post_init__(self) -> None:
        check_settings(
            self,
            segmenter=SEGMENTER,
            threshold=THRESHOLD,
            acceptance=ACCEPTANCE,
            max_tokens=at_least(1),
            max_tries=at_least(1),
            proposals=at_least(1),
            hopeless_below=at_least(0.0, 1.0, note="0 is never"),
        )

    @property
    def parallel_draws(self) -> int:
        """The proposals of a round."""
        return MOST_AT_ONCE if self.proposals == "auto" else self.proposals

    @property
    def missing_setting(self) -> str:
        """The threshold, if there is none (see `Strategy`)."""
        hint = (
            "threshold.target=..., in the reward's units, or use calibrate (inner=cards), which "
            "finds one"
        )
        return missing_threshold("cards", self.threshold, self.acceptance, hint)

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
        """The published settings, except for what the module's docstring lists under *Departs*.

        In the paper one number is both beta and the temperature of the policy. Here the temperature
        belongs to the policy, so give it the same number: ``Sampling(temperature=0.7, top_k=40)``
        (or vLLM's `SamplingParams`). The paper's segmenter is ``Entropy(3.0, 4, 64)``.

        Args:
            segmenter: where segments end.
            target: r* of the paper, in the reward's units; 8.5 belongs to its reward model.
            alpha: weight of the target in the start value of the line.
            beta: divides the reward.
            max_tokens: T of the paper.
            max_tries: number of rejections after which a segment is forced.
        """
        return cls(
            segmenter=segmenter,
            threshold=Line(target=target, prompt_weight=1 - alpha),
            acceptance=SoftAcceptance(beta=beta),
            max_tokens=max_tokens,
            max_tries=max_tries,
        )

    def threshold_by_length(self, notes: Mapping[str, Any]) -> Callable[[int], float] | None:
        """The threshold by number of tokens; None if there is none, or r(prompt) is not noted."""
        threshold = self.threshold
        if threshold is None:
            return None
        prompt_reward = notes.get("prompt_reward", None if threshold.needs_prompt_reward else 0.0)
        if not isinstance(prompt_reward, int | float):
            return None
        return lambda num_tokens: threshold.at(
            num_tokens, prompt_reward=prompt_reward, max_tokens=self.max_tokens
        )

    async def sample(self, prompt: Prompt, run: Run) -> Candidate:
        """Draws and commits segment after segment until the answer is complete."""
        run.has_one_answer(f"segments are drafted once each, and not up to {self.max_tries} times")
        bar = await Bar.of(self.threshold, self.acceptance, prompt, run, self.max_tokens)
        if bar is None:
            return run.abstain(prompt, "the constraint allows no answer to this prompt")
        kept, tally = Response((), "", None, ()), _Tally()
        while True:
            if tally.finishing:
                chosen = await self._rest(prompt, kept, bar, run.at("rest"))
            else:
                here = run.at("segment", len(kept.tokens))
                chosen = await self._segment(prompt, kept, bar, here, tally)
            if chosen.abstained:
                run.trace.note(num_proposals=tally.num_tested, num_forced=tally.num_forced)
                return chosen
            tally.num_segments += 1
            tally.num_forced += run.trace.proposals[-1].verdict is Verdict.FORCED
            run.trace.commit(chosen.tokens[len(kept.tokens) :])
            # after every segment, so that the notes exist if a budget ends the run
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

    async def _segment(
        self,
        prompt: Prompt,
        kept: Response,
        bar: Bar,
        run: Run,
        tally: "_Tally",
    ) -> Candidate:
        """The kept tokens and one more segment, which is recorded as accepted or forced."""
        drawn: dict[int, Candidate] = {}
        tested: list[Candidate] = []
        accepted = False
        repeats = get_sampling(run.policy).is_point_mass
        acceptance = await calibrate(
            self.acceptance,
            lambda i: self._calibration_score(prompt, kept, run.at("calibration", i)),
        )

        def log_accept(draft: Candidate) -> float:
            return bar.log_accept(acceptance, draft, draft.reward)

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
        tally.finishing = tally.hopeless or self.when_exhausted == "finish"
        if tally.hopeless:
            run.trace.warn(
                f"the target is out of reach: the drafts of the first segment had a mean "
                f"acceptance probability of {mean_accept:.2g}, below hopeless_below="
                f"{self.hopeless_below:g}; the answer was completed without tests. Lower the "
                "target (Calibrate finds one for each prompt)"
            )
        allowed = [draft for draft in tested if not draft.excluded]
        if not allowed:
            return run.abstain(prompt, _NONE_ALLOWED.format(len(tested), len(kept.tokens)))
        last = self.when_exhausted == "last"
        chosen = allowed[-1 if last else index_of_highest([draft.reward for draft in allowed])]
        _force(chosen, len(kept.tokens), log_accept(chosen), run)
        return chosen

    async def _calibration_score(self, prompt: Prompt, kept: Response, run: Run) -> float:
        """The reward of a draft that is never tested."""
        draft = await run.draft(
            prompt, kept.tokens, max_tokens=self.max_tokens, boundary=self.segmenter
        )
        return score_of(draft)

    async def _rest(self, prompt: Prompt, kept: Response, bar: Bar, run: Run) -> Candidate:
        """The kept tokens and a completion drawn from pi without a test but the constraint's."""
        for i in range(self.max_tries):
            chosen = await (run.at("try", i) if i else run).draft(
                prompt, kept.tokens, max_tokens=self.max_tokens, kept_log_probs=kept.log_probs
            )
            if not chosen.excluded:
                log_accept = bar.log_accept(self.acceptance, chosen, chosen.reward)
                _force(chosen, len(kept.tokens), log_accept, run)
                return chosen
        return run.abstain(prompt, _NONE_ALLOWED.format(self.max_tries, len(kept.tokens)))


@dataclass(slots=True)
class _Tally:
    """Counts of one answer so far."""

    num_segments: int = 0
    num_tested: int = 0
    num_accepted: int = 0
    num_forced: int = 0
    num_unused: int = 0
    hopeless: bool = False
    finishing: bool = False  # what is left is drawn without tests

    def round_size(self, policy: Policy) -> int:
        """The number of drafts that "auto" draws at once."""
        return round_size(self.num_tested, self.num_accepted, get_headroom(policy))


def _force(chosen: Candidate, kept: int, log_accept: float, run: Run) -> None:
    run.record_proposal(
        chosen,
        verdict=Verdict.FORCED,
        log_accept=log_accept,
        kept=kept,
        address=run.key.path,
    )
