"""Cautious: at uncertain tokens several trials to the next mark, the most probable of which stays.

Law      Let h be the entropy of the model's next-token distribution, and
         K(h) = 1 + floor((most_trials - 1) clip((h - low) / (high - low), 0, 1)).
         Where K(h) = 1 one token is drawn from pi. Elsewhere K(h) trials are drawn independently
         from q(s), the law under pi of what comes up to and with the first mark, the end of the
         response, or the token of number `trial_tokens`. The trial of least perplexity
         exp(-(1/|s|) ln pi(s)) stays, the first among equals: a trial s is chosen with probability
         G(s)^K - (G(s) - q(s) and its ties)^K as in `BestOf`, G being the distribution function of
         the mean log-probability under q. No reward is used.
Paper    Cautious Next Token Prediction: Wang et al. 2025, arXiv:2507.03038.
Departs  A mark is any token whose *text* contains one, so that a full stop with line breaks in the
         same token ends a trial, which the published ids of single marks miss. The entropy is the
         model's own (temperature 1, all tokens), and the perplexity that of pi. Trials are drawn at
         once, for any number of prompts.
Cost     the answer, and (K - 1) trials at each uncertain token. Tokens drawn up to the next mark to
         find out whether one of them is uncertain are used as the first trial.
Streams  each token and trial that stays.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

from rsalign.core.capabilities import TraceKind
from rsalign.core.checks import at_least, check_settings, setting_error
from rsalign.core.errors import ConfigError
from rsalign.core.run import Run
from rsalign.core.tasks import concurrently
from rsalign.core.text.response_text import token_text
from rsalign.core.trace import Verdict
from rsalign.core.types import Candidate, Certainty, Prompt, Response, Stop, Tokens
from rsalign.segments.segmenters import MOST, Punctuation
from rsalign.strategies.unjudged import without_reward


@dataclass(frozen=True, slots=True, kw_only=True)
class Cautious:
    """Draws tokens as they come where the model is sure, and the best of K trials where it is not.

    The policy must be able to measure certainty (`rsalign.Measuring`).

    Notes: ``num_uncertain`` places with more than one trial, and ``num_trials`` at all of them.

    Attributes:
        most_trials: K at an entropy of `high` and above.
        low: entropy at which K begins to grow, nats.
        high: entropy from which on K is `most_trials`, nats, above `low`.
        marks: characters that end a trial.
        trial_tokens: a trial ends after this many tokens at the latest.
        max_tokens: greatest length of the whole answer in tokens, EOS included.

    Raises:
        ConfigError: if a setting is out of its range; in `sample`, if the policy cannot measure.

    Example:
        >>> from rsalign import Aligner
        >>> from rsalign.testing import ToyPolicy
        >>> strategy = Cautious(most_trials=4, marks="2", max_tokens=8)
        >>> with Aligner(ToyPolicy(), None, strategy) as aligner:
        ...     [output] = aligner.generate("1 2", use_tqdm=False)
        >>> diagnostics = output.alignment.diagnostics
        >>> diagnostics["num_trials"] >= 2 * diagnostics["num_uncertain"]
        True
    """

    most_trials: int = 10
    low: float = 0.01
    high: float = 1.5
    marks: str = ",.:;?!\n"
    trial_tokens: int = 64
    max_tokens: int = 256

    needs_reward: ClassVar[bool] = False
    varies_by_policy_alone: ClassVar[bool] = True
    trace_kind: ClassVar[TraceKind] = "segments"
    note_meanings: ClassVar[dict[str, str]] = {
        "num_uncertain": "places where several trials were drawn",
        "num_trials": "trials at these places",
    }

    def __post_init__(self) -> None:
        check_settings(
            self,
            most_trials=at_least(1),
            low=at_least(0.0),
            high=at_least(0.0),
            marks=at_least(1, note="each character is a mark"),
            trial_tokens=at_least(1, MOST),
            max_tokens=at_least(1),
        )
        if self.high <= self.low:
            raise setting_error(self, "high", f"an entropy above low={self.low}")

    @property
    def parallel_draws(self) -> int:
        """The trials of one place."""
        return self.most_trials

    def num_trials(self, entropy: float) -> int:
        """The number of trials at a token whose distribution has this entropy, nats.

        Example:
            >>> [Cautious(most_trials=5, low=0.0, high=2.0).num_trials(h) for h in (0, 0.5, 1, 9)]
            [1, 2, 3, 5]
        """
        share = (entropy - self.low) / (self.high - self.low)
        return 1 + math.floor((self.most_trials - 1) * min(1.0, max(0.0, share)))

    async def sample(self, prompt: Prompt, run: Run) -> Candidate:
        """Draws token by token or trial by trial until the response is complete."""
        # what is unfinished is not judged: no reward is needed to choose
        drafts = without_reward(run)
        state = Response((), "", None, log_probs=())
        places = trials = 0
        if run.has_one_answer("trials would all be the same"):
            only = await drafts.at("only").draft(prompt, (), max_tokens=self.max_tokens)
            state = only.response
        while not state.complete:
            here = drafts.at("place", len(state.tokens))
            ahead = await self._trial(prompt, state, here.at("trial", 0), measured=True)
            sure, num = self._first_uncertain(state, ahead)
            if sure:
                run.trace.commit(ahead.tokens[len(state.tokens) :][:sure])
            if num == 1:
                state = ahead
                continue
            places, trials = places + 1, trials + num
            state = _upto(ahead, len(state.tokens) + sure)
            state = await self._best_trial(prompt, state, ahead, num, here, run)
            run.trace.commit(state.tokens[len(run.trace.committed) :])
        run.trace.note(num_uncertain=places, num_trials=trials)
        answer = await run.judge(
            prompt,
            state.tokens,
            state.stop,
            log_probs=state.log_probs,
            stop_reason=state.stop_reason,
        )
        if answer.excluded:
            run.record_proposal(answer, verdict=Verdict.REJECTED, prob=0.0)
            return run.abstain(prompt, "the response that was drawn is not allowed")
        run.record_proposal(answer, verdict=Verdict.ACCEPTED, kept=len(answer.tokens))
        run.trace.commit(answer.tokens[len(run.trace.committed) :])
        return answer

    async def _trial(
        self, prompt: Prompt, kept: Response, run: Run, *, measured: bool = False, short: int = 0
    ) -> Response:
        """Draws up to the next mark; `short` tokens of the trial have been drawn already."""
        marks = Punctuation(
            self.marks, min_entropy=0.0, min_tokens=1, max_tokens=self.trial_tokens - short
        )
        drawn = await run.draft(
            prompt,
            kept.tokens,
            max_tokens=self.max_tokens,
            boundary=marks,
            kept_log_probs=kept.log_probs,
            # of the new tokens alone: those before are not asked about again
            kept_certainty=Certainty() if measured else None,
        )
        return drawn.response

    def _first_uncertain(self, kept: Response, ahead: Response) -> tuple[int, int]:
        """How many new tokens are sure, and the number of trials at the next; 1: all are sure."""
        assert ahead.certainty is not None  # it was asked for
        new = len(ahead.tokens) - len(kept.tokens)
        for i, entropy in enumerate(ahead.certainty.entropies[:new]):
            if (num := self.num_trials(entropy)) > 1:
                return i, num
        return new, 1

    async def _best_trial(
        self, prompt: Prompt, state: Response, ahead: Response, num: int, here: Run, run: Run
    ) -> Response:
        """Draws the other trials after `state`, and returns the response with the best one."""
        length = len(ahead.tokens) - len(state.tokens)

        async def first() -> Response:
            # it was drawn from an earlier token on, so that its limit came too soon
            if ahead.complete or length == self.trial_tokens or self._has_mark(ahead, run):
                return ahead
            return await self._trial(prompt, ahead, here.at("trial", 0, "rest"), short=length)

        others = [self._trial(prompt, state, here.at("trial", k)) for k in range(1, num)]
        drawn = await concurrently([first(), *others])
        start = len(state.tokens)
        best = max(range(num), key=lambda k: _mean_log_prob(drawn[k], start))
        for k, response in enumerate(drawn):
            run.record_proposal(
                Candidate(response, 0.0),
                verdict=Verdict.ACCEPTED if k == best else Verdict.REJECTED,
                prob=float(k == best),
                kept=start,
                address=here.at("trial", k).key.path,
            )
        return drawn[best]

    def _has_mark(self, response: Response, run: Run) -> bool:
        text = token_text(run.policy, response.tokens[-1])
        return any(mark in text for mark in self.marks)


def _mean_log_prob(response: Response, start: int) -> float:
    """Minus ln of the perplexity of the tokens from `start` on, nats."""
    if response.log_probs is None:
        raise ConfigError(
            "Cautious: a response has no log-probabilities, by which trials are compared: give a "
            "policy that tells them (temperature 1, or logprobs_mode='processed_logprobs')"
        )
    values = response.log_probs[start:]
    return math.fsum(values) / len(values)


def _upto(response: Response, num_tokens: int) -> Response:
    """The first tokens of a response, open; its text is not needed."""
    log_probs = response.log_probs and response.log_probs[:num_tokens]
    tokens: Tokens = response.tokens[:num_tokens]
    return Response(tokens, "", Stop.BOUNDARY if tokens else None, log_probs)
