"""PrioritySampling: different answers in the order of the policy's confidence, without chance.

Law      Deterministic. The first answer is greedy. Each further one begins with the branch that has
         the greatest probability of all that were met and not taken: a prefix of an earlier answer
         and one of the `alternatives` most probable tokens after it, valued by p(token | prefix),
         the one met first among equals. It goes on greedily. All answers are different, and as `n`
         grows every answer is returned. The answer is what `select` chooses.
         With a `constraint` greedy means: the most probable token that can still become allowed.
         Probabilities are those of the model's own law (temperature 1, no truncation).
Paper    priority sampling: Grubisic et al. 2024, arXiv:2402.18734.
Departs  A regular expression (`Matching`), or any other constraint, is applied to the texts here
         and not by the engine's grammar: that begins anew with each request, and would not know
         what the kept prefix has matched already. Only the listed alternatives are tried.
Cost     a greedy end of an answer for each answer, one after the other (a request more wherever the
         constraint refuses a token), and a reward for each answer. No reward for what is refused.
Streams  at the end: any answer may win.
"""

import heapq
import itertools
import math
from dataclasses import dataclass, field, replace
from typing import ClassVar

from rsalign.core.capabilities import TraceKind, needs_reward
from rsalign.core.checks import at_least, check_settings, part
from rsalign.core.constraint import Constraint
from rsalign.core.key import Key
from rsalign.core.most_probable import GreedySegment, Listed, require_listing
from rsalign.core.protocols import Boundary, Policy, get_sampling
from rsalign.core.run import Run
from rsalign.core.text.response_text import read_response
from rsalign.core.types import Candidate, Prompt, Response, Segment, Stop, Tokens
from rsalign.core.wrapper import Wrapper
from rsalign.selectors.by_reward import Hard
from rsalign.selectors.protocol import SELECTOR, Selector
from rsalign.strategies.plain import Plain
from rsalign.strategies.pool import POOL_NOTES, Pool, require_no_certainty
from rsalign.strategies.unjudged import without_reward

_CONSTRAINT = part("a constraint, such as Matching('[0-9]+'), or None")


@dataclass(frozen=True, slots=True, kw_only=True)
class PrioritySampling:
    """Returns `n` different answers in the order of the policy's confidence; `select` chooses.

    The policy must be able to list its most probable tokens: `VllmPolicy`.

    Notes: ``priorities``, the probability of the token at which each answer begins to differ (1 for
    the first); ``num_requests``; and those of `BestOf`.

    Attributes:
        n: number of answers; fewer if there are no more.
        select: the selector that chooses among them.
        alternatives: most probable tokens that are considered at each place. vLLM lists 20 at most
            unless it is started with another ``max_logprobs``.
        constraint: what may be an answer, such as a regular expression (`rsalign.Matching`).
        max_tokens: greatest length of a response in tokens, EOS included.

    Raises:
        ConfigError: if a number is out of its range, or `select` needs certainties; in `sample`, if
            the policy cannot list its most probable tokens.

    Example:
        >>> from rsalign import Aligner
        >>> from rsalign.testing import ToyPolicy, ToyReward
        >>> with Aligner(ToyPolicy(), ToyReward(), PrioritySampling(n=3, max_tokens=4)) as aligner:
        ...     [output] = aligner.generate("1 2", use_tqdm=False)
        >>> output.alignment.diagnostics["priorities"][0]
        1.0
    """

    n: int = 8
    select: Selector = field(default_factory=Hard)
    alternatives: int = 10
    constraint: Constraint | None = None
    max_tokens: int = 256

    trace_kind: ClassVar[TraceKind] = "pool"
    note_meanings: ClassVar[dict[str, str]] = POOL_NOTES | {
        "priorities": "probability of the token at which each answer begins to differ",
        "num_requests": "greedy continuations",
    }

    def __post_init__(self) -> None:
        check_settings(
            self,
            n=at_least(1),
            select=SELECTOR,
            alternatives=at_least(2),
            constraint=_CONSTRAINT,
            max_tokens=at_least(1),
        )
        require_no_certainty(self, self.select)

    @property
    def needs_reward(self) -> bool:
        """Whether the selector does."""
        return needs_reward(self.select)

    async def sample(self, prompt: Prompt, run: Run) -> Candidate:
        """Finds the answers one after the other, and returns the one that is chosen."""
        require_listing(run.policy)
        queue = _Queue(self, prompt, run)
        select_key = run.key.child("select")
        pool = Pool(prompt, run, Plain(), self.select, select_key=lambda _: select_key)
        priorities: list[float] = []
        while len(priorities) < self.n and (branch := queue.pop()) is not None:
            found = await queue.complete(branch)
            if found is not None:
                here = run.at("answer", len(priorities))
                pool.add(len(priorities), await _judge(prompt, found, here))
                priorities.append(math.exp(branch.log_prob))
        run.trace.note(priorities=tuple(priorities), num_requests=queue.num_requests)
        if not priorities:
            return run.abstain(prompt, "the constraint allows none of the listed tokens")
        return pool.answer(await pool.choose())


async def _judge(prompt: Prompt, response: Response, run: Run) -> Candidate:
    return await run.judge(
        prompt,
        response.tokens,
        response.stop,
        log_probs=response.log_probs,
        stop_reason=response.stop_reason,
    )


@dataclass(frozen=True, slots=True)
class _Branch:
    """A prefix and the token after it that an answer begins with; no token: the first answer."""

    kept: Tokens
    kept_log_probs: tuple[float, ...]
    token: int | None
    log_prob: float


@dataclass(slots=True)
class _Queue:
    """The branches that were met and not taken, the most probable first.

    Attributes:
        of: the settings.
        prompt: what is answered.
        run: of the strategy.
        num_requests: greedy continuations so far.
        eos: the tokens that end a response, once something was drawn.
    """

    of: PrioritySampling
    prompt: Prompt
    run: Run
    num_requests: int = 0
    eos: Tokens = ()
    _heap: list[tuple[float, int, _Branch]] = field(default_factory=list)
    _order: "itertools.count[int]" = field(default_factory=itertools.count)

    def __post_init__(self) -> None:
        self.push(_Branch((), (), None, 0.0))

    def push(self, branch: _Branch) -> None:
        """Adds a branch that was met."""
        heapq.heappush(self._heap, (-branch.log_prob, next(self._order), branch))

    def pop(self) -> _Branch | None:
        """Takes the most probable branch; of equal ones the first met."""
        return heapq.heappop(self._heap)[2] if self._heap else None

    async def complete(self, branch: _Branch) -> Response | None:
        """Goes on greedily to a complete answer; None if nothing allowed was found."""
        while True:
            drawn, listed = await self._draw(branch)
            start = len(branch.kept) + (branch.token is not None)
            refused = await self._first_refused(drawn, len(branch.kept))
            last = len(drawn.tokens) if refused is None else refused
            for place in range(start, min(last + 1, len(drawn.tokens))):
                taken = drawn.tokens[place]
                for token, log_prob in listed[place - start]:
                    if token != taken:
                        kept = drawn.tokens[:place]
                        self.push(_Branch(kept, self._logs(drawn, place), token, log_prob))
            if refused is None:
                return drawn
            if refused < start:  # the token that the branch begins with
                return None
            following = await self._best_allowed(drawn, refused, listed[refused - start])
            if following is None:
                return None
            branch = following

    async def _best_allowed(self, drawn: Response, place: int, listed: Listed) -> _Branch | None:
        """Takes the most probable allowed alternative at a place out of the queue."""
        kept, logs = drawn.tokens[:place], self._logs(drawn, place)
        for token, log_prob in listed:
            branch = _Branch(kept, logs, token, log_prob)
            entry = next((one for one in self._heap if one[2] == branch), None)
            if entry is None:  # the refused one
                continue
            self._heap.remove(entry)
            heapq.heapify(self._heap)
            open_ = Response((*kept, token), "", Stop.BOUNDARY)
            if await self._allows(open_):
                return branch
        return None

    @staticmethod
    def _logs(drawn: Response, length: int) -> tuple[float, ...]:
        assert drawn.log_probs is not None  # listing tells them
        return drawn.log_probs[:length]

    async def _draw(self, branch: _Branch) -> tuple[Response, tuple[Listed, ...]]:
        first = None if branch.token is None else (branch.token, branch.log_prob)
        greedy = _Greedily(self.run.policy, self.of.alternatives, first, self.eos)
        here = without_reward(replace(self.run, policy=greedy)).at("request", self.num_requests)
        self.num_requests += 1
        drawn = await here.draft(
            self.prompt,
            branch.kept,
            max_tokens=self.of.max_tokens,
            kept_log_probs=branch.kept_log_probs,
        )
        if not greedy.drawn:
            return drawn.response, ()
        self.eos = greedy.drawn[0].eos
        return drawn.response, greedy.drawn[0].listed

    async def _first_refused(self, drawn: Response, kept: int) -> int | None:
        """The place of the first token that the constraint refuses; None if all is allowed.

        What is allowed has allowed beginnings only, so that the place can be found by halving.
        """
        if self.of.constraint is None or await self._allows(drawn):
            return None
        low, high = kept, len(drawn.tokens) - 1  # tokens[:low] are allowed; the answer is not
        while low < high:
            middle = (low + high) // 2
            if await self._allows(Response(drawn.tokens[: middle + 1], "", Stop.BOUNDARY)):
                low = middle + 1
            else:
                high = middle
        return low

    async def _allows(self, response: Response) -> bool:
        if self.of.constraint is None:
            return True
        text, reasoning = read_response(
            self.run.policy,
            self.prompt,
            response.tokens,
            stop=response.stop,
            stop_reason=response.stop_reason,
        )
        read = replace(response, text=text, reasoning=reasoning)
        return await self.of.constraint.allows(self.prompt, read)


@dataclass(frozen=True, slots=True)
class _Greedily(Wrapper):
    """A policy that continues greedily, after one token that is given, and keeps the lists."""

    inner: Policy
    num: int
    first: tuple[int, float] | None
    eos: Tokens = ()
    drawn: list[GreedySegment] = field(default_factory=list)

    async def extend(
        self, prefix: Tokens, *, max_new_tokens: int, key: Key, boundary: Boundary | None = None
    ) -> Segment:
        if self.first is None:
            return await self._greedy(prefix, max_new_tokens)
        token, log_prob = self.first
        head = Segment((token,), (log_prob,), Stop.BOUNDARY)
        if token in get_sampling(self.inner).stop_token_ids:
            return replace(head, stop=Stop.STOP, stop_reason=token)
        if token in self.eos:
            return replace(head, stop=Stop.EOS)
        if max_new_tokens == 1:
            return replace(head, stop=Stop.LENGTH)
        return head.join(await self._greedy((*prefix, token), max_new_tokens - 1))

    async def _greedy(self, prefix: Tokens, max_new_tokens: int) -> Segment:
        inner = require_listing(self.inner)
        self.drawn.append(
            await inner.most_probable(prefix, max_new_tokens=max_new_tokens, num=self.num)
        )
        return self.drawn[-1].segment

    def text(self, tokens: Tokens) -> str:
        return self.inner.text(tokens)
