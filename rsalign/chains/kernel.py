"""One step of a chain: cut the response, draw the rest anew, accept or stay."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, TypeAlias

from rsalign.chains.cuts.protocol import CutLaw, CutWeights, cut_weights
from rsalign.chains.metropolis import COMBINE, Combine
from rsalign.core.checks import quote
from rsalign.core.errors import ConfigError
from rsalign.core.protocols import Policy
from rsalign.core.run import Run
from rsalign.core.tasks import concurrently
from rsalign.core.text.response_text import token_text
from rsalign.core.trace import Verdict
from rsalign.core.types import Candidate, Certainty, Prompt, Response, Stop, Tokens
from rsalign.drafting.pair import Pair, log_ratio

LogWeight = Callable[[Candidate], float]
"""From a response to ln w, where the target is pi w / Z; minus infinity excludes the response."""


Proposing: TypeAlias = Literal["policy", "draft"]
"""Which model draws suffixes: the policy, or the part ``draft`` of the run."""

Truncated: TypeAlias = Literal["as_scored", "excluded"]
"""How a response that reached its greatest length counts."""

_LARGEST = 1e300  # of a logarithm of a weight: sums and differences of a few stay finite


def finite_log_weight(owner: object, value: float) -> float:
    """Returns an ln w that was computed, if it is small enough to compute with.

    Args:
        owner: the strategy, for messages.
        value: ln w, nats.

    Raises:
        ConfigError: if it is not: the reward divided by beta is too large for floats, and minus
            infinity would mean that the response is excluded.
    """
    if abs(value) <= _LARGEST:  # false for NaN
        return value
    raise ConfigError(
        f"{quote(owner)}: the logarithm of a response's weight is {value:.3g}, beyond what can "
        f"be computed with ({_LARGEST:g}): give a larger beta, a smaller power, or scale the "
        "reward (rsalign.rewards.calibration)"
    )


def restricted(log_weight: LogWeight, truncated: Truncated) -> LogWeight:
    """Ln w of the responses that may be the answer, minus infinity of all others.

    These are what a constraint excludes, what a draft wrote and the policy cannot, and, with
    ``"excluded"``, responses that reached their greatest length.
    """

    def within(candidate: Candidate) -> float:
        too_long = truncated == "excluded" and candidate.response.stop is Stop.LENGTH
        if candidate.excluded or too_long or -math.inf in (candidate.response.log_probs or ()):
            return -math.inf
        return log_weight(candidate)

    return within


def log_prob(response: Response) -> float:
    """The log-probability of the whole response under the law that it was drawn from, nats.

    Raises:
        ConfigError: if its log-probabilities are not known.
    """
    if response.log_probs is None:
        raise ConfigError(
            "a response has no log-probabilities, which this strategy needs: give a policy that "
            "tells them under its own law (an engine started with "
            "logprobs_mode='processed_logprobs', or temperature 1 without truncation)"
        )
    return math.fsum(response.log_probs)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What one step did.

    Attributes:
        state: the state after the step.
        cut: number of tokens that were kept; None if the cut fell behind the end of the response
            and nothing was drawn, or if another move was made, which cuts nowhere.
        length: of the state before the step, tokens.
        considered: the state before the step, then the proposals.
        probs: probability of each of `considered` to be the state after the step, given all of
            them, ``(1 + proposals,)``.
        moved: whether a proposal was accepted.
        from_policy: whether the policy drew the proposals, and not a draft.
    """

    state: Candidate
    cut: int | None
    length: int
    considered: tuple[Candidate, ...]
    probs: tuple[float, ...]
    moved: bool
    from_policy: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernel:
    """A move that keeps pi(y) w(y) invariant, on responses of at most `max_tokens` tokens.

    With probability `restart` the cut is at 0, otherwise it is drawn from the cut law. The policy
    draws the suffix `candidates` times, and `rsalign.chains.metropolis` chooses. Given the cut, the
    suffix has the policy's law in both directions, EOS and the greatest length included. Only w and
    the probability 1 / H(y) of having chosen this cut therefore remain in the acceptance ratio. A
    restart has the same probability at every state, so that it needs no H.

    If a draft q draws the suffix, the worth of a state gains ln pi(suffix) - ln q(suffix). A step
    then costs tokens of the draft and one request for each suffix that scores it by the policy.

    Attributes:
        cuts: the cut law.
        restart: probability of a restart.
        candidates: number of suffixes drawn for one cut.
        combine: how they compete (`rsalign.chains.metropolis.COMBINE`).
        max_tokens: greatest length of the *whole* response.
        proposal: which model draws suffixes.
    """

    cuts: CutLaw
    restart: float
    candidates: int
    combine: Combine
    max_tokens: int
    proposal: Proposing = "policy"

    @property
    def first_certainty(self) -> Certainty | None:
        """``kept_certainty`` of a first draft: so that it is measured if the cut law needs it."""
        return Certainty() if self.cuts.needs_entropy else None

    async def step(self, prompt: Prompt, state: Candidate, log_weight: LogWeight, run: Run) -> Step:
        """Makes one step from a state.

        Args:
            prompt: what is answered.
            state: a complete response with at least one token.
            log_weight: ln w.
            run: at an address that this step alone uses.

        Raises:
            ConfigError: if the cut law breaks its rules (`cut_weights`), or the draft does not fit
                the policy (`Pair.of`).
        """
        length = len(state.tokens)
        if self.restart and run.key.child("restart").bernoulli(self.restart):
            cut, corrects = 0, False
            here = CutWeights((), 0.0)
        else:
            here = self._weights(prompt, state, run)
            cut, corrects = run.key.child("cut").categorical(here.values), True
        if cut >= length:
            return Step(
                state=state, cut=None, length=length, considered=(state,), probs=(1.0,), moved=False
            )
        pair = Pair.of(run, covers=True) if self.proposal == "draft" else None
        if pair is not None:
            state = await pair.annotated(prompt, state)
        draw = self._draft if pair is None else partial(self._propose, pair)
        proposals = await concurrently(
            draw(prompt, state.response, cut, run.at("try", i)) for i in range(self.candidates)
        )

        def log_worth(candidate: Candidate) -> float:
            gained = 0.0 if pair is None else log_ratio(candidate.response, cut)
            if not corrects:
                return log_weight(candidate) + gained
            there = here if candidate is state else self._weights(prompt, candidate, run)
            return log_weight(candidate) + gained - there.log_total

        considered = (state, *proposals)
        step = choose(
            self.combine, considered, [log_worth(one) for one in considered], cut=cut, run=run
        )
        return replace(step, from_policy=pair is None)

    async def _propose(
        self, pair: Pair, prompt: Prompt, response: Response, cut: int, run: Run
    ) -> Candidate:
        log_probs = response.log_probs
        kept = Response(response.tokens[:cut], "", None, log_probs and log_probs[:cut])
        return await pair.draw_scored(prompt, kept, run, max_tokens=self.max_tokens, state=response)

    async def _draft(self, prompt: Prompt, response: Response, cut: int, run: Run) -> Candidate:
        log_probs, certainty = response.log_probs, response.certainty
        return await run.draft(
            prompt,
            response.tokens[:cut],
            max_tokens=self.max_tokens,
            kept_log_probs=None if log_probs is None else log_probs[:cut],
            kept_certainty=None if certainty is None else certainty.upto(cut),
        )

    def _weights(self, prompt: Prompt, candidate: Candidate, run: Run) -> CutWeights:
        return cut_weights(
            self.cuts,
            prompt,
            candidate.response,
            max_tokens=self.max_tokens,
            decode=partial(_text, run.policy),
        )


def _text(policy: Policy, tokens: Tokens) -> str:
    """The text of tokens. A single token has the text that segmenters see."""
    return token_text(policy, *tokens) if len(tokens) == 1 else policy.text(tokens)


def choose(
    combine: Combine,
    considered: tuple[Candidate, ...],
    log_worths: Sequence[float],
    *,
    cut: int,
    run: Run,
) -> Step:
    """Chooses the next state among the present one and proposals that share its first tokens.

    Args:
        combine: how proposals compete.
        considered: the present state, then the proposals, ``(1 + proposals,)``.
        log_worths: ln v of each (`rsalign.chains.metropolis`), ``(1 + proposals,)``.
        cut: number of tokens that all of them share because they were kept.
        run: the step's own; the choice is made and recorded there.
    """
    state, *proposals = considered
    probs = COMBINE[combine](log_worths[0], log_worths[1:])
    chosen = run.key.child("accept").categorical(probs)
    for i, (candidate, prob) in enumerate(zip(proposals, probs[1:], strict=True)):
        run.record_proposal(
            candidate,
            verdict=Verdict.ACCEPTED if i == chosen - 1 else Verdict.REJECTED,
            prob=prob,
            kept=cut,
            state=state,
            address=run.at("try", i).key.path,
        )
    return Step(
        state=considered[chosen],
        cut=cut,
        length=len(state.tokens),
        considered=considered,
        probs=probs,
        moved=chosen > 0,
    )
