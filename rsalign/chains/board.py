"""Board: what the chains of one prompt have reached together, and whether it is enough."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from rsalign.chains.history import History
from rsalign.chains.stopping import Stopping
from rsalign.core.trace import Progress, Trace
from rsalign.selectors.extraction import Extract, extracted


@dataclass(slots=True)
class Board:
    """Looks at the first t steps of all chains once all have made them, for each t in turn.

    What it decides depends on t alone and not on which chain was faster: a chain that is ahead by
    then has made steps for nothing, and `close` drops them.

    Attributes:
        histories: one per chain.
        steps: greatest number.
        burn_in: first states of each chain that do not count.
        stopping: says when it is enough; None: never before.
        extract: of a text its answer, if answers are voted on.
        trace: is told the progress.
    """

    histories: Sequence[History]
    steps: int
    burn_in: int
    stopping: Stopping | None
    extract: Extract | None
    trace: Trace
    _answers: list[list[str | None]] = field(default_factory=list)
    _num_seen: int = 0
    _enough_at: int | None = None

    def is_enough(self, num_steps: int) -> bool:
        """Whether a chain that has made so many steps may stop."""
        return self._enough_at is not None and num_steps >= self._enough_at

    def advanced(self) -> None:
        """A chain has made a step."""
        slowest = min(len(history.steps) for history in self.histories)
        while self._num_seen < slowest and self._enough_at is None:
            self._num_seen += 1
            self._note_answers()
            self._report()
            if self._is_enough_now():
                self._enough_at = self._num_seen

    def close(self) -> bool:
        """Drops what came after the last step that counts; whether the rule ended the run."""
        for history in self.histories:
            history.keep(self._enough_at or self.steps)
        return self._enough_at is not None

    def _is_enough_now(self) -> bool:
        first = max(0, self.burn_in - 1)  # the start is a state too
        if self.stopping is None or self._num_seen <= first:
            return False
        counted = slice(first, self._num_seen)
        return self.stopping.enough(
            [history.steps[counted] for history in self.histories],
            [answers[counted] for answers in self._answers],
        )

    def _note_answers(self) -> None:
        if self.extract is None:
            return
        if not self._answers:
            self._answers = [[] for _ in self.histories]
        for history, answers in zip(self.histories, self._answers, strict=True):
            state = history.steps[self._num_seen - 1].state
            # not the state that this step was made from: a replica may have brought it
            same = bool(answers) and state is history.steps[self._num_seen - 2].state
            answers.append(answers[-1] if same else extracted(self.extract, state.response.text))

    def _report(self) -> None:
        if self.trace.on_progress is None:
            return
        # of several chains the last, as `Last` does
        answer: str | None = self.histories[-1].steps[self._num_seen - 1].state.response.text
        share: float | None = None
        if self.extract is not None:
            votes = Counter(answer for answers in self._answers for answer in answers)
            total = votes.total()
            votes.pop(None, None)
            if votes:
                answer, count = votes.most_common(1)[0]
                share = count / total
        self.trace.progress(
            Progress(step=self._num_seen, steps=self.steps, answer=answer, share=share)
        )
