"""Who grades the answers of a job: its task, and a reward where the configuration names one."""

from collections.abc import Sequence
from dataclasses import replace
from types import TracebackType

from eval.graders.reward import RewardGrader
from eval.tasks.pool import GradingPool, grade_key, shared_grades
from eval.tasks.protocol import Grade, Item, Task
from rsalign import Prompt, Response
from rsalign.core.tasks import concurrently
from rsalign.engines.loop_thread import LoopThread

_MOST_OPEN = 64  # questions to a grader at once


class Grading:
    """Grades answers, each text once in this process; a context manager, used from any thread.

    With a grader the verdict is that of the grader. What the task found in the text, by which
    answers are compared, stays; its own score is in ``details["task"]``.

    Args:
        task: whose items are answered.
        grader: asks a reward; None: the task's verdict counts.
        name: of the grader; graders of one name give equal grades.

    Raises:
        ConfigError: if the task cannot be pickled.
    """

    def __init__(self, task: Task, grader: RewardGrader | None = None, *, name: str = "") -> None:
        self._pool = GradingPool(task, known=shared_grades(task))
        self._grader = grader
        self._judged = shared_grades(task, name)
        self._loop = None if grader is None else LoopThread("eval-grading")

    def __enter__(self) -> "Grading":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def grade(self, item: Item, prompt: Prompt, responses: Sequence[Response]) -> list[Grade]:
        """The verdicts on answers to one item, in their order.

        Args:
            item: the problem.
            prompt: as the answers were drawn for it.
            responses: the answers.

        Raises:
            InstallError: if a package that the task needs is missing.
        """
        own = self._pool.grade([(item, response.text) for response in responses])
        if self._grader is None or self._loop is None:
            return own
        judged = self._loop.call(self._judge(self._grader, item, prompt, responses))
        return [
            replace(verdict, answer=found.answer, details={**verdict.details, "task": found.score})
            for verdict, found in zip(judged, own, strict=True)
        ]

    def close(self) -> None:
        """Ends all grading; the grader's engine runs on."""
        self._pool.close()
        if self._loop is not None:
            self._loop.stop()
            self._loop = None

    async def _judge(
        self, grader: RewardGrader, item: Item, prompt: Prompt, responses: Sequence[Response]
    ) -> list[Grade]:
        # a reward model closes the turn of an answer that has ended, and only of such a one
        given = [grade_key(item, repr((each.text, each.finished))) for each in responses]
        unknown = {
            at: response
            for at, response in zip(given, responses, strict=True)
            if at not in self._judged
        }
        verdicts = await concurrently(
            (grader.grade(item, prompt, response) for response in unknown.values()),
            limit=_MOST_OPEN,
        )
        self._judged.update(zip(unknown, verdicts, strict=True))
        return [self._judged[at] for at in given]
