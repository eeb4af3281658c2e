"""Run: what a strategy holds, and the three verbs it speaks in: draft, judge, decide."""

import bisect
import itertools
import math
from dataclasses import dataclass, field, replace

from rsalign.core.checks import finite_reward
from rsalign.core.key import Key, Label
from rsalign.core.overdraw import After, end
from rsalign.core.protocols import Boundary, Policy, Reward, measuring, sampling, with_sampling
from rsalign.core.text.response_text import detokenizer, response_text, token_text
from rsalign.core.trace import Proposal, Trace, Verdict
from rsalign.core.types import (
    Candidate,
    Certainty,
    Prompt,
    Response,
    Segment,
    Stop,
    Tokens,
    stop_end,
)


def is_certain(response: Response, kept: int = 0) -> bool:
    """Whether the policy could have drawn nothing else after the first `kept` tokens.

    That is the case if each token after them is known to have had probability 1 (to the rounding of
    the engine's own log-probabilities), so that another draw from there repeats it.
    """
    return response.log_probs is not None and not any(response.log_probs[kept:])


@dataclass(frozen=True, slots=True)
class Run:
    """One strategy at work on one prompt.

    Attributes:
        policy: draws continuations.
        reward: scores responses.
        key: the address of this run; narrower addresses by `at` and `branch`.
        trace: what happened.
    """

    policy: Policy
    reward: Reward
    key: Key
    trace: Trace = field(default_factory=Trace)

    def at(self, *labels: Label) -> "Run":
        """The same run at a narrower address."""
        return replace(self, key=self.key.child(*labels))

    def branch(self, *labels: Label) -> "Run":
        """An inner run with a trace of its own, for strategies that run concurrently."""
        return replace(self, key=self.key.child(*labels), trace=self.trace.child(*labels))

    def has_one_answer(self, consequence: str) -> bool:
        """Whether the policy's settings leave one possible continuation; warns the user if so.

        Args:
            consequence: what the strategy does about it, a clause for the warning.
        """
        why = sampling(self.policy).why_point_mass
        if why is None:
            return False
        self.trace.warn(
            f"the policy has one possible answer to this prompt ({why}), so that drawing again "
            f"would repeat it: {consequence}"
        )
        return True

    async def judge(
        self,
        prompt: Prompt,
        tokens: Tokens,
        stop: Stop | None,
        *,
        log_probs: tuple[float, ...] | None = None,
        stop_reason: int | str | None = None,
        certainty: Certainty | None = None,
    ) -> Candidate:
        """Decodes a response, whole or partial, and asks the reward about it.

        Args:
            prompt: what is answered.
            tokens: the response's tokens, ``(tokens,)``; none of them yet is allowed.
            stop: why they end; None if nothing was drawn yet.
            log_probs: of all tokens, where known (`Response.log_probs`).
            stop_reason: the stop string or token that ended it (`Response.stop_reason`).
            certainty: of all tokens, where known (`Response.certainty`).

        Raises:
            RewardError: if the reward failed or is not a finite number; prompt and response are
                attached.
        """
        text = response_text(
            self.policy,
            prompt.tokens,
            tokens,
            stop=stop,
            stop_reason=stop_reason,
            stops_after=self._num_unstoppable(prompt, tokens),
        )
        response = Response(
            tokens, text, stop, log_probs, stop_reason, certainty, address=self.key.path
        )
        value = await self.reward.score(prompt, response)
        return Candidate(response, finite_reward(value, self.reward, prompt, response))

    async def draft(
        self,
        prompt: Prompt,
        kept: Tokens,
        *,
        max_tokens: int,
        boundary: Boundary | None = None,
        kept_log_probs: tuple[float, ...] | None = None,
        kept_certainty: Certainty | None = None,
        ahead: Segment | None = None,
    ) -> Candidate:
        """Extends the kept tokens of a response, and judges the whole.

        The response ends at the first stop string in all of its text, as one that is drawn at once
        does: also at one that began in `kept`, which a policy that is asked for the rest cannot
        see, or at one that it was not told of. Tokens drawn past it are dropped.

        Args:
            prompt: what is answered.
            kept: tokens of the response that stay; none starts one.
            max_tokens: bounds the *whole* response, `kept` included.
            boundary: where the new segment may end.
            kept_log_probs: log-probabilities of `kept`, where known, so that the whole has its own.
            kept_certainty: that of `kept` (``Certainty()`` if none is), if the whole is to have its
                own, which takes a policy that can tell (`Measuring`).
            ahead: `Response.beyond` of the response that `kept` is: the new segment begins with
                it. Give it to one draft only, whatever becomes of that draft. With
                `kept_certainty` it is not used.

        Raises:
            ConfigError: if the certainty is asked for and the policy cannot tell; if tokens are
                kept and the policy's law needs answers that are drawn at once.
            RewardError: as `judge`.
        """
        prefix, room, key = prompt.tokens + kept, max_tokens - len(kept), self.key.child("draw")
        policy = self._policy_after(len(kept))
        if kept_certainty is not None:
            measure = measuring(policy).measure
            drawn = await measure(prefix, max_new_tokens=room, key=key, boundary=boundary)
        elif ahead is not None:
            drawn = await self._resumed(prefix, kept, ahead, room, boundary)
        else:
            drawn = await policy.extend(prefix, max_new_tokens=room, key=key, boundary=boundary)
        drawn = self._stopped(prompt, kept, drawn)
        before = kept_log_probs if kept else ()
        log_probs = certainty = None
        if before is not None and drawn.log_probs is not None:
            log_probs = before + drawn.log_probs
        if kept_certainty is not None and drawn.certainty is not None:
            certainty = kept_certainty + drawn.certainty
        judged = await self.judge(
            prompt,
            kept + drawn.tokens,
            drawn.stop,
            log_probs=log_probs,
            stop_reason=drawn.stop_reason,
            certainty=certainty,
        )
        return replace(judged, response=replace(judged.response, beyond=drawn.beyond))

    async def _resumed(
        self, prefix: Tokens, kept: Tokens, ahead: Segment, room: int, boundary: Boundary | None
    ) -> Segment:
        """The segment that begins with what was drawn before."""
        length = None
        if boundary is not None:
            length = end(ahead.tokens, boundary, lambda one: token_text(self.policy, *one))
        if length is not None:
            return ahead.cut(length)
        if ahead.stop is not Stop.BOUNDARY:
            return ahead
        num_drawn = len(ahead.tokens)
        later = await self._policy_after(len(kept) + num_drawn).extend(
            prefix + ahead.tokens,
            max_new_tokens=room - num_drawn,
            key=self.key.child("draw"),
            boundary=After(boundary, num_drawn) if boundary else None,
        )
        return ahead.joined(later)

    def _stopped(self, prompt: Prompt, kept: Tokens, drawn: Segment) -> Segment:
        """As much of what was drawn as the stop strings allow, given what was kept."""
        law = sampling(self.policy)
        if not law.stop:
            return drawn
        # a stop token ends a response before its text is looked at
        limit = len(drawn.tokens) - isinstance(drawn.stop_reason, int)
        growing = detokenizer(self.policy, prompt.tokens)
        pieces = [growing.read(kept)]
        pieces += [growing.read((token,)) for token in drawn.tokens[:limit]]
        text, after = "".join(pieces), self._num_unstoppable(prompt, kept + drawn.tokens)
        stop = law.first_stop(text, after)
        if stop is None or not limit:
            return drawn
        ends = list(itertools.accumulate(map(len, pieces)))  # characters, by number of new tokens
        num_chars = stop_end(text, stop, after)
        assert num_chars is not None  # it was found
        return drawn.upto(bisect.bisect_left(ends, num_chars, lo=1), Stop.STOP, stop)

    def _policy_after(self, num_kept: int) -> Policy:
        """The policy under its law for what follows so many tokens of the response.

        Raises:
            ConfigError: if the law cannot be had for the rest of a response.
        """
        law = sampling(self.policy)
        rest = law.after(num_kept)
        return self.policy if rest is law else with_sampling(self.policy, rest)

    def _num_unstoppable(self, prompt: Prompt, tokens: Tokens) -> int:
        """How many characters of a response belong to tokens in which no stop string counts."""
        min_tokens = sampling(self.policy).min_tokens
        if not min_tokens:
            return 0
        return len(detokenizer(self.policy, prompt.tokens).read(tokens[:min_tokens]))

    def decide(self, draft: Candidate, *, kept: int, log_accept: float) -> bool:
        """Draws whether `draft` is accepted, and records it.

        Args:
            draft: the proposal.
            kept: number of tokens it shares with the state it was proposed from.
            log_accept: ln of the acceptance probability, nats; above 0 counts as 0.
        """
        accepted = self.key.child("accept").bernoulli(math.exp(min(0.0, log_accept)))
        self.record_proposal(
            draft,
            verdict=Verdict.ACCEPTED if accepted else Verdict.REJECTED,
            kept=kept,
            log_accept=log_accept,
            address=self.key.path,
        )
        return accepted

    def record_proposal(
        self,
        candidate: Candidate,
        *,
        verdict: Verdict,
        prob: float = 1.0,
        log_accept: float | None = None,
        kept: int = 0,
        state: Candidate | None = None,
        address: tuple[Label, ...] = (),
    ) -> None:
        """Adds a proposal to the trace.

        Args:
            candidate: what was proposed.
            verdict: what became of it.
            prob: probability of accepting or choosing it, 0 to 1 (a rounding error above is 1).
            log_accept: ln of that probability, nats, instead of `prob`; above 0 counts as 0.
            kept: number of tokens it shares with the state it was proposed from.
            state: the complete response that it would replace; None if it replaces none.
            address: path of the key that it was drawn and decided under (`Proposal.address`).
        """
        if log_accept is None:
            log_accept = math.log(prob) if prob > 0 else -math.inf
        self.trace.propose(
            Proposal(
                candidate=candidate,
                kept=kept,
                log_accept=min(0.0, log_accept),
                verdict=verdict,
                state=state,
                address=address,
            )
        )
