"""What a run may cost and what it did cost. Strategies know of neither."""

import math
from dataclasses import dataclass

from rsalign.core.checks import above, at_least, check_settings, setting_error


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """Hard limits for one prompt; None is no limit.

    When one is reached, open requests are cancelled in the engine, and the best answer that there
    is comes back, flagged as expired; nothing raises. It is the first of these that exists and that
    begins with what was already streamed:

    1. what the strategy itself chooses from the answers finished by then (`Trace.answer_by`). A
       strategy that votes, averages or selects does so by the estimator that it was configured
       with, among fewer draws. A selector that would have to ask a judge (`Knockout`) is not run;
    2. the finished answer with the highest reward, the first by address among equals;
    3. a finished answer that could not be judged any more;
    4. the longest partial answer. `completion_tokens` may complete what was certain of it.

    Bounds: `policy_tokens` and `reward_calls` are never exceeded. A draw reserves what it can take
    at most before it starts (of a segment, its greatest size; see `Policy` for those that draw past
    it), and waits while others hold the rest; draws are served in the order in which they ask, and
    the last one is drawn with what is left. Calls of the reward that are open when tokens or calls
    run out may finish. Of attempts that run in parallel and are looked at in order
    (`Cards.proposals`, `Rejection.at_once`), one that finds nothing left ends the run only after
    all earlier ones were rejected, and none takes a call of the reward that an earlier one may
    need; so their number does not change the answer of a run that is finished within the budget.
    `seconds` is exceeded by the time that cancelling takes (one engine step), and by that of the
    completion.

    Attributes:
        policy_tokens: tokens drawn from the policy, discarded ones included.
        reward_calls: calls of the reward.
        seconds: wall-clock time.
        completion_tokens: held back from `policy_tokens`, so that an answer that is not complete
            when a limit is reached goes on from what was certain of it as the policy alone would,
            unjudged, by at most so many tokens and never beyond the strategy's `max_tokens`.
            0: it is left as it stands.

    Raises:
        ConfigError: if a limit is not a positive number, or nothing is left besides the completion.
    """

    policy_tokens: int | None = None
    reward_calls: int | None = None
    seconds: float | None = None
    completion_tokens: int = 0

    def __post_init__(self) -> None:
        none = "None is no limit"
        check_settings(
            self,
            policy_tokens=at_least(1, note=none),
            reward_calls=at_least(1, note=none),
            seconds=above(0.0, note=none),
            completion_tokens=at_least(0, note="0 completes nothing"),
        )
        if self.completion_tokens >= (self.policy_tokens or math.inf):
            raise setting_error(
                self,
                "completion_tokens",
                f"a whole number below policy_tokens={self.policy_tokens}, which it is a part of",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What was spent on one prompt.

    Attributes:
        policy_requests: requests to the engine.
        policy_tokens_drawn: tokens drawn, those of discarded and cancelled draws included.
        policy_tokens_kept: tokens of the answer.
        prompt_tokens: prefix tokens over all requests; a request for a later segment counts its
            whole prefix.
        cached_tokens: how many of these the engine had in its prefix cache.
        reward_calls: calls of the reward.
        reward_tokens: tokens that reward models were given.
        reward_cached_tokens: how many of these they had in their prefix caches.
        seconds: wall-clock time; replaying takes none.
        replayed: draws that a journal had. All of the above but the seconds count them, and its
            rewards, as if they had been asked for.
    """

    policy_requests: int = 0
    policy_tokens_drawn: int = 0
    policy_tokens_kept: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    reward_calls: int = 0
    reward_tokens: int = 0
    reward_cached_tokens: int = 0
    seconds: float = 0.0
    replayed: int = 0

    def __add__(self, other: "Usage") -> "Usage":
        """Both together; seconds add up too."""
        return Usage(
            **{name: getattr(self, name) + getattr(other, name) for name in Usage.__slots__}
        )
