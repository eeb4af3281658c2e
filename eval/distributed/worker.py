"""What runs in each actor: one aligner, that answers and grades batches of items.

Draws are addressed by item and seed, so that it does not matter which worker has an item, nor with
which others it travels.
"""

import json
import logging
import os
import pickle
import sys
import threading
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from omegaconf import OmegaConf

from eval.job import SweepJob
from eval.optional import require
from eval.sweep import prompt_of
from eval.tasks.protocol import Item
from rsalign import AlignedOutput, EngineError, RsalignError
from rsalign.aligner.outputs import make_failed_output
from rsalign.core.journal import Journal
from rsalign.core.protocols import Strategy
from rsalign.engines.loop_thread import LoopThread

Batch: TypeAlias = Mapping[str, Sequence[Any]]
"""Columns of equal length."""

logger = logging.getLogger(__name__)


class AlignerWorker:
    """One aligner; called with batches, from several threads at once.

    Args:
        config: of the job, all interpolations resolved.
        journals: the folder in which draws are on record. Every worker writes a journal of its own
            and reads all that are there, so that what a dead one has drawn is not drawn again.

    Raises:
        ConfigError: if the configuration cannot work here.
        InstallError: if a package that grading needs is missing here.
    """

    def __init__(self, config: Mapping[str, Any], journals: str) -> None:
        made = OmegaConf.create(dict(config))
        self._job = SweepJob.of(made)
        self._job.text_task.prepare()  # what grading lacks is missed before an engine starts
        self._aligner = self._job.aligner(made, journal_of_its_own(Path(journals)))
        self._grading = self._job.grading(made)
        self._loop = LoopThread("eval-worker")

    def __call__(self, batch: Mapping[str, Sequence[Any]]) -> dict[str, list[str]]:
        """The records of a batch, as JSON.

        Args:
            batch: ``item``, a pickled `Item`, and ``seed``, each ``(batch,)``.
        """
        items = [pickle.loads(one) for one in batch["item"]]
        seeds = [int(seed) for seed in batch["seed"]]
        records = []
        for seed in dict.fromkeys(seeds):
            mine = {item.id: item for item, of in zip(items, seeds, strict=True) if of == seed}
            for output in self._outputs([*mine.values()], seed):
                if self._is_dead(output.error):
                    end_this_process(output.error)
                records.append(self._job.record(output, mine[output.request_id], self._grading))
        return {"record": [json.dumps(record, ensure_ascii=False) for record in records]}

    def _outputs(self, items: Sequence[Item], seed: int) -> list[AlignedOutput]:
        """The outputs of items; one that fails, in whatever way, has its error."""
        asked = [prompt_of(item) for item in items]
        try:
            return self._loop.call(self._aligner.agenerate(asked, seed=seed, on_error="return"))
        except Exception as error:
            if len(items) > 1:  # each by itself; what was drawn by now is in the journal
                return [output for item in items for output in self._outputs([item], seed)]
            logger.exception("item %s, seed %s", items[0].id, seed)
            said = RsalignError(f"{type(error).__name__}: {error}")
            return [failed_output(items[0], seed, said, self._job.drawing_strategy)]

    def _is_dead(self, error: RsalignError | None) -> bool:
        """Whether an engine of this process died; a server's failure is not mended by leaving."""
        own = any(hasattr(part, "engine") for part in (self._aligner.policy, self._aligner.reward))
        return own and any(isinstance(one, EngineError) for one in (error, _cause(error)))


def failed_output(item: Item, seed: int, error: RsalignError, strategy: Strategy) -> AlignedOutput:
    """What stands for an item that has no answer."""
    text = item.text or "\n".join(message.text for message in item.messages)
    return make_failed_output(item.id, text, strategy, seed, error)


def journal_of_its_own(folder: Path) -> Journal:
    """A new journal that also knows what is in all others of the folder.

    A journal has one writer. Its lock could tell workers of one machine apart, but not every shared
    file system keeps locks; a name that nobody else has needs none.
    """
    folder.mkdir(parents=True, exist_ok=True)
    others = sorted(folder.glob("draws*.journal"))
    return Journal(folder / f"draws-{uuid.uuid4().hex[:12]}.journal", also=others)


def end_this_process(error: BaseException | None) -> None:
    """Ends the actor as a crash would: Ray starts another and hands it the same batches."""
    logger.error("the engine is dead (%s); this worker ends, to be started again", error)
    sys.stderr.flush()
    os._exit(1)


def _cause(error: BaseException | None) -> BaseException | None:
    return None if error is None else error.__cause__


class Actor:
    """Starts its worker at once, or, in a process that takes the place of a dead one, when needed.

    A first start that fails shall end the job. A later one may fail because what died still holds
    its memory, and an actor that Ray cannot restart would keep its batches waiting for ever
    (https://github.com/ray-project/ray/issues/62746): the batch is lost instead, and the next one
    tries again.

    Args:
        worker: makes the worker.
        arguments: of `worker`.
    """

    def __init__(
        self, worker: Callable[..., Callable[[Batch], Batch]], arguments: Sequence[Any]
    ) -> None:
        self._make: Callable[[], Callable[[Batch], Batch]] = lambda: worker(*arguments)
        self._lock = threading.Lock()
        restarted = require("ray", "workers").get_runtime_context().was_current_actor_reconstructed
        self._worker = None if restarted else self._make()

    def __call__(self, batch: Batch) -> Batch:
        """What the worker makes of a batch; several threads may call."""
        with self._lock:
            if self._worker is None:
                self._worker = self._make()
        return self._worker(batch)
