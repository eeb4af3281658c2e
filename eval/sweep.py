"""Runs one job of a sweep on all its items and seeds, and continues where it was stopped."""

import logging
import queue
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from omegaconf import DictConfig, OmegaConf

from eval.analysis.items import is_graded, score
from eval.choices import answer_choices
from eval.configuration import build, resolve
from eval.job import Answer, SweepJob
from eval.optional import require
from eval.progress import count_aloud
from eval.provenance import Provenance
from eval.records import Record, RecordFile, read_records, replace_file, write_parquet
from eval.tasks.protocol import ChoiceTask, Item, JudgedElsewhere
from eval.trackers.figures import flatten_config, summarize_records
from eval.trackers.protocol import Tracker
from rsalign import AlignedOutput, ConfigError
from rsalign.core.capabilities import answers_together
from rsalign.core.journal import Journal

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Summary:
    """The result of a job.

    Attributes:
        folder: where its records are.
        num_records: of all seeds.
        num_failed: answers (items and seeds) whose last attempt failed.
        first_failure: the item, the seed and the error of the first of them; empty if there is
            none.
        mean_score: of all records; what is ungradable or failed counts 0. None if nothing was
            graded.
        num_drawn: answers that this run drew; 0 if all records were there already.
    """

    folder: Path
    num_records: int
    num_failed: int
    first_failure: str
    mean_score: float | None
    num_drawn: int


def run(config: DictConfig, name: str | None = None, answer: Answer | None = None) -> Summary:
    """Answers and grades each item and seed that has no record yet.

    Args:
        config: of this job.
        name: of the job, for trackers; default: the configuration's hash.
        answer: answers what is missing; by default in this process.

    Raises:
        ConfigError: if the configuration cannot work; before an engine starts where possible.
        InstallError: if pyarrow or the tracker's package is missing; before an engine starts.
    """
    require("pyarrow.parquet", "records in Parquet")
    tracker: Tracker = build(config.tracker, "tracker")
    job = SweepJob.of(config)
    folder = Path(config.output) / job.digest
    items = job.task.load()
    if not items:
        raise ConfigError(f"task {job.task.name!r} has no items: check its path, split and limit")
    provenance = Provenance.of(config, items, job.seeds)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"output={str(config.output)!r} cannot be written to: {error}") from error
    # all that is written in the folder is written by whoever may write records
    with RecordFile(folder / "records.jsonl") as file:
        with replace_file(folder / "config.yaml") as partial:
            partial.write_text(OmegaConf.to_yaml(config, resolve=True))
        _report_changes(provenance, file, items)
        missing = [
            (item, seed)
            for seed in job.seeds
            for item in items
            if (item.id, seed) not in file.done
            or provenance.changed(item.id, file.done[item.id, seed])
        ]
        if answers_together(job.strategy):  # the journal has what was drawn before
            seeds = {seed for _, seed in missing}
            missing = [(item, seed) for seed in job.seeds if seed in seeds for item in items]
        if missing:
            here = answer_choices if isinstance(job.task, ChoiceTask) else answer_here
            sizes = Counter(seed for _, seed in missing)

            def keep(record: Record) -> None:
                if record["error"] is not None:
                    logger.warning("failed: %s", _describe_failure(record))
                file.append(provenance.sign(record, sizes))

            (answer or here)(config, job, missing, count_aloud(keep, len(missing)))
        records = read_records(folder / "records.jsonl")
        write_parquet(records, folder / "records.parquet")
        if isinstance(job.task, JudgedElsewhere):
            _write_answers(job, items, records, folder)
        try:
            tracker.job(
                job.digest,
                name or job.digest,
                flatten_config(resolve(config)),
                summarize_records(records),
            )
        except Exception:  # whatever a tracker does, the records are there and the sweep goes on
            logger.warning("the tracker failed; the records are complete", exc_info=True)
    failed = [one for one in records if one["error"] is not None]
    return Summary(
        folder=folder,
        num_records=len(records),
        num_failed=len(failed),
        first_failure=_describe_failure(failed[0]) if failed else "",
        mean_score=fmean(map(score, records)) if is_graded(records) else None,
        num_drawn=len(missing),
    )


def _describe_failure(record: Record) -> str:
    return f"item {record['item']}, seed {record['seed']}: {record['error']['message']}"


def _report_changes(provenance: Provenance, file: RecordFile, items: Sequence[Item]) -> None:
    """Logs which records are of other items or parts than there are now."""
    known = {item.id for item in items}
    changes = Counter(
        name
        for (item, _), kept in file.done.items()
        if item in known
        for name in provenance.changed(item, kept)
    )
    for name, times in changes.items():
        what = "the item's text or gold" if name == "item" else f"the content of the {name}"
        logger.warning(
            "%s: in %d of %d records %s is another than now, under the same name: they are "
            "answered again",
            file.path.parent,
            times,
            len(file.done),
            what,
        )


def _write_answers(
    job: SweepJob, items: Sequence[Item], records: Sequence[Record], folder: Path
) -> None:
    """Writes the answers of each seed for another tool to judge; failed items have none."""
    assert isinstance(job.task, JudgedElsewhere)
    by_id = {item.id: item for item in items}
    name = f"{type(job.strategy).__name__}-{job.digest[:8]}"  # a leaderboard tells them apart by it
    for seed in dict.fromkeys(one["seed"] for one in records):
        answers = [
            (by_id[one["item"]], one["answers"][0]["text"])
            for one in records
            # an item that the task's file no longer has is not judged again
            if one["seed"] == seed and one["answers"] and one["item"] in by_id
        ]
        if answers:
            job.task.write(answers, folder, name=f"{name}-{seed}")


def answer_here(
    config: DictConfig,
    job: SweepJob,
    missing: Sequence[tuple[Item, int]],
    keep: Callable[[Record], None],
) -> None:
    """Draws on this thread; grades and writes records on another (an `eval.job.Answer`)."""
    job.text_task.prepare()  # what grading lacks is missed before an engine starts
    done: queue.SimpleQueue[tuple[AlignedOutput, Item] | None] = queue.SimpleQueue()
    ended: list[BaseException] = []
    items = {item.id: item for item, _ in missing}

    def write() -> None:
        try:
            while (answered := done.get()) is not None:
                keep(job.record(*answered, grading))
        except BaseException as error:  # noqa: BLE001 - raised on the other thread
            ended.append(error)

    with job.grading(config) as grading:
        writer = threading.Thread(target=write, name="eval-records")
        writer.start()
        try:
            with (
                _open_journal(job, Path(config.output)) as journal,
                job.aligner(config, journal) as aligner,
            ):
                for seed in dict.fromkeys(seed for _, seed in missing):
                    if ended:  # nothing that is drawn now would be kept
                        break
                    aligner.generate(
                        [prompt_of(item) for item, of in missing if of == seed],
                        seed=seed,
                        on_error="return",
                        on_result=lambda output: done.put((output, items[output.request_id])),
                    )
        finally:
            done.put(None)
            writer.join()
    if ended:
        raise ended[0]


def prompt_of(item: Item) -> dict[str, Any]:
    """Makes the prompt of an item for `Aligner.generate`; its draws are addressed by its id."""
    if item.text is not None:
        return {"prompt": item.text, "id": item.id}
    messages = [one.given for one in item.messages]
    return {"messages": messages, "id": item.id}


def _open_journal(job: SweepJob, output: Path) -> Journal:
    """Opens one journal for all jobs of this process: what one has drawn, another need not draw.

    Draws are addressed by item, seed and place, so that best-of-16 contains best-of-4, and all
    selectors choose among the same draws. Where another process has it, this job has its own, and
    keeps to that when it is started again. What other journals of the sweep have is read.
    """
    own = output / job.digest / "draws.journal"
    if not job.shares_journal:
        return Journal(own)
    shared, *others = _journals(output)
    if not own.exists():
        try:
            return Journal(shared, also=others)
        except ConfigError as error:
            logger.warning("%s; this job keeps a journal of its own", error)
    return Journal(own, also=[path for path in (shared, *others) if path.exists()])


def _journals(output: Path) -> list[Path]:
    """Paths of the journals of `eval.run` and of the workers of `eval.distributed`."""
    return [output / "draws.journal", *sorted(output.glob("draws-*.journal"))]
