"""One job of a sweep: a configuration on all items and seeds, resumed where it stopped."""

import logging
import queue
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from eval.configuration import build, config_hash, resolved
from eval.record import candidates, record
from eval.records import Record, RecordFile, read, write_parquet
from eval.tasks.known import known
from eval.tasks.pool import GradingPool
from eval.tasks.protocol import Grade, Item, JudgedElsewhere, Task
from eval.trackers.figures import figures, flat
from eval.trackers.protocol import Tracker
from rsalign import AlignedOutput, Aligner, Budget, ConfigError
from rsalign.cli.generate import plain_data
from rsalign.journal import Journal
from rsalign.protocols import Strategy

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Summary:
    """What came of a job.

    Attributes:
        folder: where its records are.
        num_records: of all seeds.
        num_failed: items whose last attempt failed.
        mean_score: over graded items; None if none was.
    """

    folder: Path
    num_records: int
    num_failed: int
    mean_score: float | None


def run(config: DictConfig, name: str | None = None) -> Summary:
    """Answers and grades what has no record yet.

    Args:
        config: of this job.
        name: of the job, for trackers; default: the configuration's hash.

    Raises:
        ConfigError: if the configuration cannot work; before an engine starts where possible.
        InstallError: if the tracker's package is missing; before an engine starts.
    """
    digest = config_hash(config)
    folder = Path(config.output) / digest
    tracker: Tracker = build(config.tracker, "tracker")
    task: Task = build(config.task, "task")
    if not isinstance(task, Task):
        raise ConfigError(
            f"task={task!r} gives the answers itself, and nothing is drawn: it has no strategies"
        )
    strategy: Strategy = build(config.strategy, "strategy")
    budget: Budget | None = build(config.budget.limit, "budget.limit")
    items = task.load()
    if not items:
        raise ConfigError(f"task {task.name!r} has no items: check its path, split and limit")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(OmegaConf.to_yaml(config, resolve=True))
    with RecordFile(folder / "records.jsonl") as file:
        missing = [
            (item, seed)
            for seed in config.seeds
            for item in items
            if (item.id, seed) not in file.done
        ]
        if missing:
            job = _Job(digest, task, strategy, budget, file, config.tokens)
            with _journal(config, folder) as journal:
                job.answer(config, missing, journal)
    records = read(folder / "records.jsonl")
    if not any(one["error"] for one in records):
        write_parquet(records, folder / "records.parquet")
        if isinstance(task, JudgedElsewhere):
            _write_answers(task, items, records, folder, type(strategy).__name__)
    try:
        tracker.job(digest, name or digest, flat(resolved(config)), figures(records))
    except Exception:  # whatever a tracker does, the records are there and the sweep goes on
        logger.warning("the tracker failed; the records are complete", exc_info=True)
    scores = [one["grade"]["score"] for one in records if one["grade"]]
    graded = [score for score in scores if score is not None]
    return Summary(
        folder=folder,
        num_records=len(records),
        num_failed=sum(one["error"] is not None for one in records),
        mean_score=sum(graded) / len(graded) if graded else None,
    )


def _write_answers(
    task: JudgedElsewhere, items: Sequence[Item], records: Sequence[Record], folder: Path, name: str
) -> None:
    """The answers of each seed, for a judge elsewhere."""
    by_id = {item.id: item for item in items}
    for seed in dict.fromkeys(record["seed"] for record in records):
        answers = [
            (by_id[record["item"]], record["answers"][0]["text"])
            for record in records
            if record["seed"] == seed
        ]
        task.write(answers, folder, name=f"{name}-{seed}")


@dataclass(frozen=True, slots=True)
class _Job:
    digest: str
    task: Task
    strategy: Strategy
    budget: Budget | None
    file: RecordFile
    tokens: bool

    def answer(
        self, config: DictConfig, missing: Sequence[tuple[Item, int]], journal: Journal
    ) -> None:
        """Draws on this thread, grades and records on another."""
        policy, reward = build(config.policy, "policy"), build(config.reward, "reward")
        if self.task.stop:
            law = policy.sampling
            policy = policy.with_sampling(replace(law, stop=(*law.stop, *self.task.stop)))
        done: queue.SimpleQueue[tuple[AlignedOutput, Item] | None] = queue.SimpleQueue()
        failure: list[BaseException] = []
        items = {item.id: item for item, _ in missing}

        def write() -> None:
            try:
                with GradingPool(self.task, known=known(self.task)) as pool:
                    while (answered := done.get()) is not None:
                        self.file.append(self._record(*answered, pool))
            except BaseException as error:  # noqa: BLE001 - raised on the other thread
                failure.append(error)

        writer = threading.Thread(target=write, name="eval-records")
        writer.start()
        try:
            with Aligner(
                policy, reward, self.strategy, budget=self.budget, journal=journal
            ) as aligner:
                for seed in dict.fromkeys(seed for _, seed in missing):
                    aligner.generate(
                        [_prompt(item) for item, of in missing if of == seed],
                        seed=seed,
                        on_error="return",
                        on_result=lambda output: done.put((output, items[output.request_id])),
                    )
        finally:
            done.put(None)
            writer.join()
        if failure:
            raise failure[0]

    def _record(self, output: AlignedOutput, item: Item, pool: GradingPool) -> dict[str, Any]:
        texts = [proposal.candidate.response.text for proposal in candidates(output)]
        answer = [output.outputs[0].text] if output.outputs else []
        distinct = list(dict.fromkeys([*answer, *texts]))
        grades: Mapping[str, Grade] = dict(
            zip(distinct, pool.grade([(item, text) for text in distinct]), strict=True)
        )
        return record(
            output,
            item,
            grades[answer[0]] if answer else None,
            [grades[text] for text in texts],
            config=self.digest,
            task=self.task.name,
            strategy=plain_data(self.strategy),
            budget=self.budget,
            tokens=self.tokens,
        )


def _prompt(item: Item) -> dict[str, Any]:
    if item.text is not None:
        return {"prompt": item.text, "id": item.id}
    messages = [{"role": one.role, "content": one.content} for one in item.messages]
    return {"messages": messages, "id": item.id}


def _journal(config: DictConfig, folder: Path) -> Journal:
    """One journal for all jobs of this process: what one has drawn, another need not draw.

    Draws are addressed by item, seed and place, so that best-of-16 contains best-of-4, and all
    selectors choose among the same draws. Where another process has it, this job has its own, and
    keeps to that when it is started again.
    """
    if config.journal and not (folder / "draws.journal").exists():
        shared = Path(config.output) / "draws.journal"
        try:
            return Journal(shared)
        except ConfigError as error:
            logger.warning("%s; this job keeps a journal of its own", error)
    return Journal(folder / "draws.journal")
