"""Board: the progress of all chains of one prompt, and whether they have done enough."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from rsalign.chains.history import History
from rsalign.chains.range_view import RangeView
from rsalign.chains.stopping import Stopping
from rsalign.core.trace import Progress, Trace
from rsalign.selectors.extraction import Extract, extracted


@dataclass(slots=True)
class Board:
    """Looks at the first t steps of all chains as soon as all have made them, for t = 1, 2, ...

    Its decision depends on t alone and not on which chain was faster. A chain that is ahead at the
    end has made its last steps for nothing; `close` drops them.

    Attributes:
        histories: one per chain.
        steps: greatest number of steps.
        burn_in: number of first states of each chain that do not count.
        stopping: the rule that ends the chains early; None if there is none.
        extract: from a text to its answer, if answers are voted on; else None.
        trace: receives `Progress` events.
    """

    histories: Sequence[History]
    steps: int
    burn_in: int
    stopping: Stopping | None
    extract: Extract | None
    trace: Trace
    _answers: list[list[str | None]] = field(default_factory=list)
    _votes: Counter[str] = field(default_factory=Counter)
    _leader: str | None = None
    _num_seen: int = 0
    _num_behind: int = field(init=False)  # chains that have made no more than `_num_seen` steps
    _enough_at: int | None = None

    def __post_init__(self) -> None:
        self._num_behind = len(self.histories)

    def is_enough(self, num_steps: int) -> bool:
        """Whether a chain that has made this many steps may stop."""
        return self._enough_at is not None and num_steps >= self._enough_at

    def note_step(self, history: History) -> None:
        """Must be called after each step of each chain, with the chain's history."""
        if len(history.steps) != self._num_seen + 1:  # it was ahead of others before
            return
        self._num_behind -= 1
        while not self._num_behind and self._enough_at is None:
            self._num_seen += 1
            self._num_behind = sum(len(h.steps) <= self._num_seen for h in self.histories)
            self._note_answers()
            self._report()
            if self._is_enough_now():
                self._enough_at = self._num_seen

    def close(self) -> bool:
        """Drops the steps that do not count; returns whether the rule ended the run."""
        for history in self.histories:
            history.keep(self._enough_at or self.steps)
        return self._enough_at is not None

    def _is_enough_now(self) -> bool:
        first = max(0, self.burn_in - 1)  # the start is a state too
        if self.stopping is None or self._num_seen <= first:
            return False
        # views: most rules look at most steps only now and then
        return self.stopping.enough(
            [RangeView(history.steps, first, self._num_seen) for history in self.histories],
            [RangeView(answers, first, self._num_seen) for answers in self._answers],
        )

    def _note_answers(self) -> None:
        if self.extract is None:
            return
        if not self._answers:
            self._answers = [[] for _ in self.histories]
        for history, answers in zip(self.histories, self._answers, strict=True):
            state = history.steps[self._num_seen - 1].state
            # compared with the step before, not with the state that this step was made from, which
            # may have come from a replica
            same = bool(answers) and state is history.steps[self._num_seen - 2].state
            answer = answers[-1] if same else extracted(self.extract, state.response.text)
            answers.append(answer)
            if answer is not None:
                self._votes[answer] += 1
                if self._leader is None or self._votes[answer] > self._votes[self._leader]:
                    self._leader = answer

    def _report(self) -> None:
        if self.trace.on_progress is None:
            return
        # the state of the last chain, which `Last` would choose
        answer: str | None = self.histories[-1].steps[self._num_seen - 1].state.response.text
        share: float | None = None
        if self._leader is not None:
            answer = self._leader
            share = self._votes[answer] / (self._num_seen * len(self.histories))
        self.trace.progress(
            Progress(step=self._num_seen, steps=self.steps, answer=answer, share=share)
        )
