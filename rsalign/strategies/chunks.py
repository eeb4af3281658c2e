"""Chunks: answers towards several attribute models, chunk by chunk (multi-personality generation).

Law      Let g propose (the policy pi_ref, or one of the attribute models), and
             R(s) = pi_ref(s) / g(s) * prod_i (pi_i(s) / pi_ref(s))^a_i
         for the chunk s after the kept tokens, all laws with their sampling settings. Given the
         bound M, the next chunk is s with probability
             g(s) a(s) (1 + (1 - A) + ... + (1 - A)^(K-1)) + (1 - A)^(K-1) g(s) (1 - a(s)),
         where a = min(1, R / M), A = sum g a and K = max_tries: the last term is the forced one.
         Without it, this is in proportion to g min(R, M): the ratio is clipped at M, which loses
         the share sum g (R - M)+ / sum g R of the tilted law (the note `clipped_share` estimates
         it). M is the greatest R among the last `window` chunks that were tested at earlier places,
         and at least exp(log_bound); it never depends on the chunk under test. The normaliser of
         each chunk is dropped, as in `Cards`, so that the whole answer is not in proportion to
         pi_ref prod (pi_i / pi_ref)^a_i. `Particles` estimates that law without a bound, from the
         reward sum_i a_i ln(pi_i / pi_ref) (`DensityRatio`) with beta = 1: see docs/methods.md.
         A chunk that a constraint excludes is never accepted; if all K are excluded, the answer is
         an abstention.
Move     g writes `ahead` chunks one after the other; all are scored at once, one request for each
         model, and kept up to the first that is rejected.
Paper    Multi-Personality Generation, Xie et al. 2025, arXiv:2511.01891 (speculative chunk-level
         rejection sampling).
Departs  The bound is of earlier places only, so that the law given the bound is known. Weights of
         any sign and number. There is a greatest number of tries.
Cost     about 1 / A chunks of g for each chunk, up to `ahead` - 1 more that were begun for nothing,
         and one request to each attribute model for each round of chunks.
Streams  each chunk as soon as it is taken.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from rsalign.core.capabilities import TraceKind
from rsalign.core.checks import at_least, check_settings, setting_error
from rsalign.core.protocols import SEGMENTER, Boundary, Policy
from rsalign.core.run import Run
from rsalign.core.tasks import concurrently
from rsalign.core.trace import Verdict
from rsalign.core.types import Candidate, Prompt, Response
from rsalign.drafting.pair import DRAFT, Pair, require_same_ends, score_tokens
from rsalign.drafting.segments import SEGMENT_NOTES, Tally
from rsalign.strategies.unjudged import judging_whole_answers

POLICY = "policy"
"""The name of the policy where a part's name is asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunks:
    """Writes an answer chunk by chunk towards pi_ref prod (pi_i / pi_ref)^a_i, without a reward.

    Notes: ``num_segments``, ``num_drafts``, ``num_accepted``, ``num_forced``, ``acceptance_rate``;
    ``clipped_share``; ``log_bound`` of the last test; ``num_dropped``, chunks begun for nothing.

    Attributes:
        segmenter: where chunks end, such as ``FixedSize(16)``; it must not read entropies.
        attributes: names of the parts of the run that are the attribute models pi_i, policies that
            can score given tokens.
        weights: the exponents a_i, ``(attributes,)``, of any sign. A request may give others.
        proposal: which model writes the chunks: ``"policy"``, or the name of an attribute model.
        log_bound: least ln M, nats.
        window: number of tested chunks whose greatest ratio is the bound.
        ahead: number of chunks that are written before they are scored together.
        max_tokens: greatest length of the whole answer in tokens, EOS included.
        max_tries: greatest number of chunks at one place.

    Raises:
        ConfigError: if a setting is out of its range, or there are not as many weights as
            attributes; while running, if a model does not fit the policy, or cannot score given
            tokens.

    Example:
        >>> from rsalign import Aligner, FixedSize
        >>> from rsalign.testing import ToyPolicy
        >>> strategy = Chunks(
        ...     segmenter=FixedSize(2),
        ...     attributes=("kind", "brief"),
        ...     weights=(1.0, 0.5),
        ...     max_tokens=6,
        ... )
        >>> parts = {"kind": ToyPolicy(salt=1), "brief": ToyPolicy(salt=2)}
        >>> with Aligner(ToyPolicy(), None, strategy, parts=parts) as aligner:
        ...     [output] = aligner.generate("1 2", use_tqdm=False)
        >>> sorted(output.alignment.usage.parts)
        ['brief', 'kind']
    """

    needs_reward: ClassVar[bool] = False
    trace_kind: ClassVar[TraceKind] = "segments"
    note_meanings: ClassVar[dict[str, str]] = SEGMENT_NOTES | {
        "clipped_share": "of the tilted law, above the bound",
        "log_bound": "of the last test, nats",
        "num_dropped": "chunks begun for nothing",
    }

    segmenter: Boundary
    attributes: tuple[str, ...] = (DRAFT,)
    weights: tuple[float, ...] = (1.0,)
    proposal: str = POLICY
    log_bound: float = 0.0
    window: int = 8
    ahead: int = 2
    max_tokens: int = 256
    max_tries: int = 20

    def __post_init__(self) -> None:
        check_settings(
            self,
            segmenter=SEGMENTER,
            attributes=at_least(1),
            window=at_least(1),
            ahead=at_least(1),
            max_tokens=at_least(1),
            max_tries=at_least(1),
        )
        require_same_ends(self.segmenter, self)
        if len(set(self.attributes)) < len(self.attributes) or POLICY in self.attributes:
            raise setting_error(self, "attributes", "different names of parts, none 'policy'")
        if not all(map(math.isfinite, self.weights)) or len(self.weights) != len(self.attributes):
            raise setting_error(
                self, "weights", f"one finite number for each of attributes={self.attributes!r}"
            )
        if self.proposal not in (POLICY, *self.attributes):
            raise setting_error(self, "proposal", f"'policy' or one of {self.attributes!r}")

    @property
    def needs(self) -> Mapping[str, Any]:
        """The attribute models."""
        return dict.fromkeys(self.attributes, Policy)

    async def sample(self, prompt: Prompt, run: Run) -> Candidate:
        """Writes, tests and commits chunks until the answer is complete."""
        pairs = {name: Pair.of(run, name) for name in self.attributes}
        run = judging_whole_answers(run)
        models = {POLICY: run.policy} | {name: pair.draft for name, pair in pairs.items()}
        kept, tally, bounds = Response((), "", None), Tally(), _Bounds(self.log_bound, self.window)
        here: list[tuple[Candidate, float]] = []
        num_rounds = num_dropped = 0
        while True:
            at = run.at("round", num_rounds)
            drafts = await self._write(prompt, kept, pairs, at)
            ratios = await self._log_ratios(prompt, kept, drafts, models)
            num_rounds, num_tested = num_rounds + 1, 0
            for i, (draft, log_ratio) in enumerate(zip(drafts, ratios, strict=True)):
                num_tested += 1
                here.append((draft, log_ratio))
                tally.num_drafts += 1
                chunk = at.at("chunk", i)
                accepted = chunk.decide(
                    draft, kept=len(kept.tokens), log_accept=log_ratio - bounds.current
                )
                tally.num_accepted += accepted
                if not accepted:
                    if len(here) < self.max_tries:
                        break
                    if draft.excluded:  # the last that is allowed, if there is any
                        allowed = [one for one, _ in here if not one.excluded]
                        if not allowed:
                            return run.abstain(
                                prompt,
                                f"of {len(here)} chunks after {len(kept.tokens)} tokens none is "
                                "allowed",
                            )
                        draft = allowed[-1]
                    chunk.record_proposal(
                        draft, verdict=Verdict.FORCED, kept=len(kept.tokens), address=at.key.path
                    )
                    tally.num_forced += 1
                follows = draft is drafts[i]
                run.trace.commit(draft.tokens[len(kept.tokens) :])
                tally.num_segments += 1
                kept = draft.response
                bounds.see([ratio for _, ratio in here])
                here = []
                if kept.complete or not follows:
                    break
            num_dropped += len(drafts) - num_tested
            tally.note(run)
            run.trace.note(
                clipped_share=bounds.clipped_share,
                log_bound=bounds.current,
                num_dropped=num_dropped,
            )
            if kept.complete:
                return draft

    async def _write(
        self, prompt: Prompt, kept: Response, pairs: dict[str, Pair], run: Run
    ) -> list[Candidate]:
        """Up to `ahead` chunks, each after the one before it; fewer if the answer is complete."""
        drafts: list[Candidate] = []
        for i in range(self.ahead):
            here = run.at("chunk", i)
            drawer = here
            if self.proposal != POLICY:
                drawer = replace(here, policy=pairs[self.proposal].draft)
            drawn = await drawer.draft(
                prompt, kept.tokens, max_tokens=self.max_tokens, boundary=self.segmenter
            )
            drawn = replace(drawn, response=replace(drawn.response, log_probs=None))
            drafts.append(drawn)
            kept = drawn.response
            if kept.complete:
                break
        return drafts

    async def _log_ratios(
        self,
        prompt: Prompt,
        kept: Response,
        drafts: Sequence[Candidate],
        models: dict[str, Policy],
    ) -> list[float]:
        """Ln R of each chunk, ``(drafts,)``, by one request for each model that counts."""
        powers = {POLICY: 1.0 - math.fsum(self.weights)}
        powers |= dict(zip(self.attributes, self.weights, strict=True))
        powers[self.proposal] -= 1.0
        counted = {name: power for name, power in powers.items() if power}
        start, tokens = len(kept.tokens), drafts[-1].tokens[len(kept.tokens) :]
        told = await concurrently(
            score_tokens(models[name], prompt, kept.tokens, tokens) for name in counted
        )
        ends = [len(draft.tokens) - start for draft in drafts]
        return [
            _weighed(tuple(counted.values()), [math.fsum(one[begin:end]) for one in told])
            for begin, end in zip((0, *ends), ends, strict=False)
        ]


def _weighed(powers: Sequence[float], log_probs: Sequence[float]) -> float:
    """Sum of power times ln probability; minus infinity if a model that counts for it has 0."""
    terms = [power * value for power, value in zip(powers, log_probs, strict=True)]
    return -math.inf if -math.inf in terms else math.fsum(terms)


@dataclass(slots=True)
class _Bounds:
    """Ln M, from the chunks that were tested at earlier places."""

    least: float
    window: int
    seen: list[float] = field(default_factory=list)
    _pairs: list[tuple[float, float]] = field(default_factory=list)

    @property
    def current(self) -> float:
        """Ln M at this place."""
        return max(self.least, *self.seen[-self.window :], -math.inf)

    def see(self, log_ratios: Sequence[float]) -> None:
        """Takes in the chunks of a place that is done."""
        finite = [ratio for ratio in log_ratios if math.isfinite(ratio)]
        self._pairs += [(ratio, self.current) for ratio in finite]
        self.seen += finite

    @property
    def clipped_share(self) -> float:
        """An estimate of sum g (R - M)+ / sum g R, from all chunks that were tested."""
        highest = max((ratio for ratio, _ in self._pairs), default=-math.inf)
        whole = math.fsum(math.exp(ratio - highest) for ratio, _ in self._pairs)
        kept = math.fsum(math.exp(min(ratio, bound) - highest) for ratio, bound in self._pairs)
        return 1.0 - kept / whole if self._pairs else 0.0
