"""Run: what a strategy works with, and its three operations: draft, judge and decide."""

import bisect
import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from rsalign.core.checks import finite_reward
from rsalign.core.errors import ConfigError
from rsalign.core.key import Key, Label
from rsalign.core.overdraw import RemainingBoundary, find_segment_end
from rsalign.core.protocols import (
    Boundary,
    Policy,
    Reward,
    get_sampling,
    require_measuring,
    with_sampling,
)
from rsalign.core.sampling import stop_end
from rsalign.core.segment_ends import place_boundary
from rsalign.core.text.partial_texts import PartialTexts
from rsalign.core.text.reasoning import warn_of_thought
from rsalign.core.text.response_text import detokenizer, read_response, token_text
from rsalign.core.trace import Proposal, Trace, Verdict
from rsalign.core.types import (
    Candidate,
    Certainty,
    Prompt,
    Response,
    Scored,
    Segment,
    Stop,
    Tokens,
)


def is_certain(response: Response, kept: int = 0) -> bool:
    """Whether the policy could have drawn nothing else after the first `kept` tokens.

    That is the case if each token after them is known to have had probability 1 (to the rounding of
    the engine's own log-probabilities), so that another draw from there repeats it.
    """
    return response.log_probs is not None and not any(response.log_probs[kept:])


@dataclass(frozen=True, slots=True)
class Run:
    """The policy, reward, key and trace with which a strategy answers one prompt.

    Attributes:
        policy: draws continuations.
        reward: scores responses.
        key: the address of this run; `at` and `branch` extend it.
        trace: records what the strategy does.
        parts: further models and judges, by name (`part`).

    Example:
        >>> import asyncio
        >>> from rsalign.testing import ToyPolicy, ToyReward
        >>> run = Run(ToyPolicy(), ToyReward(), Key(0))
        >>> draft = asyncio.run(run.at("first").draft(Prompt((), (1,)), (), max_tokens=4))
        >>> run.at("first").decide(draft, kept=0, log_accept=0.0)
        True
        >>> [proposal.address for proposal in run.trace.proposals]
        [('first',)]
    """

    policy: Policy
    reward: Reward
    key: Key
    trace: Trace = field(default_factory=Trace)
    parts: Mapping[str, Any] = field(default_factory=dict)
    _texts: PartialTexts = field(default_factory=PartialTexts, repr=False, compare=False)

    def part(self, name: str) -> Any:
        """Returns a named part of the run: a policy, a reward or a judge.

        The strategy must declare it, ``needs = ("draft",)``; a run without that part is then
        refused before it begins (`rsalign.core.parts`). What the part spends is in `Usage.parts`.

        Raises:
            ConfigError: if the run has no such part.
        """
        if name not in self.parts:
            raise ConfigError(
                f"the run has no part {name!r} (it has {', '.join(self.parts) or 'none'}): a "
                f"strategy that uses one declares it, needs = ({name!r},)"
            )
        return self.parts[name]

    def at(self, *labels: Label) -> "Run":
        """Returns the same run with labels added to its address."""
        return replace(self, key=self.key.child(*labels))

    def branch(self, *labels: Label) -> "Run":
        """Returns an inner run with its own trace, for strategies that run others concurrently."""
        return replace(self, key=self.key.child(*labels), trace=self.trace.child(*labels))

    def has_one_answer(self, consequence: str) -> bool:
        """Whether only one continuation is possible; if so, warns the user.

        Args:
            consequence: what the strategy does about it, as a clause for the warning.
        """
        why = get_sampling(self.policy).why_point_mass
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
        kept: int = 0,
    ) -> Candidate:
        """Decodes a response, complete or partial, and scores it with the reward.

        Args:
            prompt: what is answered.
            tokens: tokens of the response, ``(tokens,)``; may be empty.
            stop: why they end; None if nothing was drawn yet.
            log_probs: log-probabilities of all tokens, if known (`Response.log_probs`).
            stop_reason: the stop string or token that ended it (`Response.stop_reason`).
            certainty: certainty at all tokens, if known (`Response.certainty`).
            kept: number of first tokens that were judged before, if any; saves decoding them again.

        Raises:
            RewardError: if the reward failed or did not return a finite number; prompt and response
                are attached.
        """
        text, reasoning = read_response(
            self.policy,
            prompt,
            tokens,
            stop=stop,
            stop_reason=stop_reason,
            stops_after=self._num_unstoppable(prompt, tokens),
            read=partial(
                self._texts.read,
                self.policy,
                prompt.tokens,
                kept=kept,
                continues=stop is Stop.BOUNDARY,
            ),
        )
        response = Response(
            tokens,
            text,
            stop,
            log_probs,
            stop_reason,
            certainty,
            address=self.key.path,
            reasoning=reasoning,
        )
        if (warning := warn_of_thought(self.policy, response)) is not None:
            self.trace.warn(warning)
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
        """Draws a continuation of the kept tokens of a response, and scores the whole response.

        The response ends at the first stop string in its whole text, like one that is drawn at
        once. The policy sees only the rest, so this method also finds a stop string that begins in
        `kept`. Tokens drawn past it are dropped.

        Args:
            prompt: what is answered.
            kept: tokens of the response that stay; empty: a new response.
            max_tokens: greatest length of the *whole* response, including `kept`.
            boundary: rule that ends the new segment.
            kept_log_probs: log-probabilities of `kept`, if known, so that those of the whole
                response are known.
            kept_certainty: certainty of `kept` (``Certainty()`` if nothing is kept), if that of the
                whole response is needed; the policy must be able to measure it (`Measuring`).
            ahead: `Response.beyond` of the response that consists of `kept`; the new segment begins
                with these tokens. Use it for one draft only, whatever becomes of that draft.
                Ignored with `kept_certainty`.

        Raises:
            ConfigError: if the policy cannot measure the requested certainty; if tokens are kept
                and a sampling setting works only for answers drawn at once.
            RewardError: as in `judge`.
        """
        prefix, room, key = prompt.tokens + kept, max_tokens - len(kept), self.key.child("draw")
        boundary = place_boundary(boundary, len(prefix))
        policy = self._policy_after(len(kept))
        if kept_certainty is not None:
            measure = require_measuring(policy).measure
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
            kept=len(kept),
        )
        return replace(judged, response=replace(judged.response, beyond=drawn.beyond))

    async def _resumed(
        self, prefix: Tokens, kept: Tokens, ahead: Segment, room: int, boundary: Boundary | None
    ) -> Segment:
        """Returns the segment that begins with the tokens drawn ahead; draws the rest if needed."""
        length = None
        if boundary is not None:
            length = find_segment_end(
                ahead.tokens, boundary, lambda one: token_text(self.policy, *one)
            )
        if length is not None:
            return ahead.cut(length)
        if ahead.stop is not Stop.BOUNDARY:
            return ahead
        num_drawn = len(ahead.tokens)
        later = await self._policy_after(len(kept) + num_drawn).extend(
            prefix + ahead.tokens,
            max_new_tokens=room - num_drawn,
            key=self.key.child("draw"),
            boundary=RemainingBoundary(boundary, num_drawn) if boundary else None,
        )
        return ahead.join(later)

    def _stopped(self, prompt: Prompt, kept: Tokens, drawn: Segment) -> Segment:
        """Cuts the drawn segment at the first stop string in the text of the whole response."""
        law = get_sampling(self.policy)
        if not law.stop:
            return drawn
        # a stop token ends a response before stop strings are searched
        limit = len(drawn.tokens) - isinstance(drawn.stop_reason, int)
        growing = detokenizer(self.policy, prompt.tokens)
        pieces = [growing.read(kept)]
        pieces += [growing.read((token,)) for token in drawn.tokens[:limit]]
        text, after = "".join(pieces), self._num_unstoppable(prompt, kept + drawn.tokens)
        stop = law.first_stop(text, after)
        if stop is None or not limit:
            return drawn
        ends = list(
            itertools.accumulate(map(len, pieces))
        )  # lengths of the text after 0, 1, ... new tokens
        num_chars = stop_end(text, stop, after)
        assert num_chars is not None  # it was found
        return drawn.upto(bisect.bisect_left(ends, num_chars, lo=1), Stop.STOP, stop)

    def _policy_after(self, num_kept: int) -> Policy:
        """Returns the policy with the sampling settings for the rest of a response.

        Raises:
            ConfigError: if a setting works only for answers drawn at once.
        """
        law = get_sampling(self.policy)
        rest = law.after(num_kept)
        return self.policy if rest is law else with_sampling(self.policy, rest)

    def _num_unstoppable(self, prompt: Prompt, tokens: Tokens) -> int:
        """Returns how many characters the first `min_tokens` tokens have, where no stop counts."""
        min_tokens = get_sampling(self.policy).min_tokens
        if not min_tokens:
            return 0
        return len(detokenizer(self.policy, prompt.tokens).read(tokens[:min_tokens]))

    def decide(self, draft: Candidate, *, kept: int, log_accept: float) -> bool:
        """Decides at random whether `draft` is accepted, and records the proposal.

        Args:
            draft: the proposal.
            kept: number of tokens that it shares with the state that it was proposed from.
            log_accept: ln of the acceptance probability, nats; values above 0 count as 0. An
                excluded draft is never accepted.

        Returns:
            Whether it is accepted.
        """
        if draft.excluded:
            log_accept = -math.inf
        accepted = self.key.child("accept").bernoulli(math.exp(min(0.0, log_accept)))
        self.record_proposal(
            draft,
            verdict=Verdict.ACCEPTED if accepted else Verdict.REJECTED,
            kept=kept,
            log_accept=log_accept,
            address=self.key.path,
        )
        return accepted

    def abstain(self, prompt: Prompt, reason: str) -> Candidate:
        """Returns the outcome that there is no answer, and warns the user.

        It is a candidate whose response has the stop ``ABSTAINED`` and the reason as `stop_reason`.
        Its tokens are those that were committed already, usually none.

        Args:
            prompt: what is not answered.
            reason: why, as a clause: "none of the 4 candidates is allowed".

        Example:
            >>> from rsalign.testing import ToyPolicy, ToyReward
            >>> run = Run(ToyPolicy(), ToyReward(), Key(0))
            >>> run.abstain(Prompt((), (1,)), "it was not asked").response.stop_reason
            'it was not asked'
        """
        self.trace.warn(f"there is no answer: {reason}")
        tokens = self.trace.committed
        text, reasoning = read_response(self.policy, prompt, tokens)
        response = Response(
            tokens,
            text,
            Stop.ABSTAINED,
            stop_reason=reason,
            address=self.key.path,
            reasoning=reasoning,
        )
        return Candidate(response, Scored(0.0, excluded=True))

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
