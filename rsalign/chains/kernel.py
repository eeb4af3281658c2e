"""One step of a chain: cut, draw the rest anew, accept or stay."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from rsalign.chains.cuts.protocol import CutLaw, Weights, cut_weights
from rsalign.chains.metropolis import COMBINE, Combine
from rsalign.core.protocols import Policy
from rsalign.core.run import Run
from rsalign.core.tasks import concurrently
from rsalign.core.text.response_text import token_text
from rsalign.core.trace import Proposal, Verdict
from rsalign.core.types import Candidate, Certainty, Prompt, Response, Tokens

LogWeight = Callable[[Candidate], float]
"""Ln of the target's ratio to the policy, up to a constant; minus infinity excludes a response."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What one step did.

    Attributes:
        state: where the chain is now.
        cut: tokens that were kept; None if the cut fell behind the end and nothing was drawn.
        length: of the state that was cut, tokens.
        considered: the state before, then the proposals.
        probs: of each of them to be the state now, given all of them, ``(1 + proposals,)``.
        moved: whether a proposal was taken.
    """

    state: Candidate
    cut: int | None
    length: int
    considered: tuple[Candidate, ...]
    probs: tuple[float, ...]
    moved: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernel:
    """A move that leaves pi(y) w(y) as it is, on responses of at most `max_tokens` tokens.

    With probability `restart` the cut is at 0, otherwise it is drawn from the cut law; the suffix
    comes from the policy, `candidates` times; `rsalign.chains.metropolis` chooses. For a given cut
    the law of the suffix is the policy's in both directions, EOS and the greatest length included,
    so that only w and the probability H(y)^-1 of having chosen this cut remain in the ratio. A
    restart is chosen with the same probability everywhere and has no H.

    Attributes:
        cuts: where.
        restart: probability of a restart.
        candidates: suffixes of one cut.
        combine: how they compete.
        max_tokens: bounds the *whole* response.
    """

    cuts: CutLaw
    restart: float
    candidates: int
    combine: Combine
    max_tokens: int

    @property
    def first_certainty(self) -> Certainty | None:
        """What a first draw starts from, so that it has a certainty if the cut law needs one."""
        return Certainty() if self.cuts.needs_entropy else None

    async def step(self, prompt: Prompt, state: Candidate, log_weight: LogWeight, run: Run) -> Step:
        """From one state to the next.

        Args:
            prompt: what is answered.
            state: a complete response with at least one token.
            log_weight: ln w.
            run: at an address of this step alone.

        Raises:
            ConfigError: if the cut law is not one.
        """
        length = len(state.tokens)
        if self.restart and run.key.child("restart").bernoulli(self.restart):
            cut, corrects = 0, False
            here = Weights((), 0.0)
        else:
            here = self._weights(prompt, state, run)
            cut, corrects = run.key.child("cut").categorical(here.values), True
        if cut >= length:
            return Step(
                state=state, cut=None, length=length, considered=(state,), probs=(1.0,), moved=False
            )
        proposals = await concurrently(
            self._draft(prompt, state.response, cut, run.at("try", i))
            for i in range(self.candidates)
        )

        def log_worth(candidate: Candidate) -> float:
            if not corrects:
                return log_weight(candidate)
            there = here if candidate is state else self._weights(prompt, candidate, run)
            return log_weight(candidate) - there.log_total

        considered = (state, *proposals)
        probs = COMBINE[self.combine](log_worth(state), [log_worth(draft) for draft in proposals])
        chosen = run.key.child("accept").categorical(probs)
        _record(run, considered, probs, chosen, cut)
        return Step(
            state=considered[chosen],
            cut=cut,
            length=length,
            considered=considered,
            probs=probs,
            moved=chosen > 0,
        )

    async def _draft(self, prompt: Prompt, response: Response, cut: int, run: Run) -> Candidate:
        log_probs, certainty = response.log_probs, response.certainty
        return await run.draft(
            prompt,
            response.tokens[:cut],
            max_tokens=self.max_tokens,
            kept_log_probs=None if log_probs is None else log_probs[:cut],
            kept_certainty=None if certainty is None else certainty.upto(cut),
        )

    def _weights(self, prompt: Prompt, candidate: Candidate, run: Run) -> Weights:
        return cut_weights(
            self.cuts,
            prompt,
            candidate.response,
            max_tokens=self.max_tokens,
            decode=partial(_text, run.policy),
        )


def _text(policy: Policy, tokens: Tokens) -> str:
    """Of given tokens; one alone has the text that rules for the end of a segment see."""
    return token_text(policy, *tokens) if len(tokens) == 1 else policy.text(tokens)


def _record(
    run: Run, considered: tuple[Candidate, ...], probs: tuple[float, ...], chosen: int, kept: int
) -> None:
    state, *proposals = considered
    for i, (candidate, prob) in enumerate(zip(proposals, probs[1:], strict=True)):
        run.trace.propose(
            Proposal(
                candidate=candidate,
                kept=kept,
                log_accept=min(0.0, math.log(prob)) if prob > 0 else -math.inf,
                verdict=Verdict.ACCEPTED if i == chosen - 1 else Verdict.REJECTED,
                state=state,
                address=run.at("try", i).key.path,
            )
        )
