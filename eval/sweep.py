"""One job of a sweep: a configuration on all items and seeds, resumed where it stopped."""

import json
import logging
import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any, TypeAlias

from omegaconf import DictConfig, OmegaConf

from eval.analysis.items import is_graded, score
from eval.choices import Choices, answer_choices
from eval.configuration import build, config_hash, resolved
from eval.grading import Grading
from eval.record import candidates, record
from eval.records import Record, RecordFile, read, replaced, write_parquet
from eval.tasks.protocol import ChoiceTask, Item, JudgedElsewhere, Task
from eval.trackers.figures import figures, flat
from eval.trackers.protocol import Tracker
from rsalign import (
    AlignedOutput,
    Aligner,
    Budget,
    ConfigError,
    InstallError,
    Prompt,
    Response,
    RsalignError,
    Stop,
)
from rsalign.aligner.outputs import AlignedCompletion, make_failed_output
from rsalign.cli.generate import plain_data
from rsalign.core.foreign import describe_error, errors_as
from rsalign.core.journal import Journal
from rsalign.core.protocols import Strategy

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Summary:
    """What came of a job.

    Attributes:
        folder: where its records are.
        num_records: of all seeds.
        num_failed: items whose last attempt failed.
        mean_score: of all records; what is ungradable or failed counts 0. None if nothing was
            graded.
    """

    folder: Path
    num_records: int
    num_failed: int
    mean_score: float | None


def run(config: DictConfig, name: str | None = None, answer: "Answer | None" = None) -> Summary:
    """Answers and grades what has no record yet.

    Args:
        config: of this job.
        name: of the job, for trackers; default: the configuration's hash.
        answer: answers what is missing; by default in this process.

    Raises:
        ConfigError: if the configuration cannot work; before an engine starts where possible.
        InstallError: if the tracker's package is missing; before an engine starts.
    """
    tracker: Tracker = build(config.tracker, "tracker")
    job = Job.of(config)
    folder = Path(config.output) / job.digest
    items = job.task.load()
    if not items:
        raise ConfigError(f"task {job.task.name!r} has no items: check its path, split and limit")
    folder.mkdir(parents=True, exist_ok=True)
    # all that is written in the folder is written by whoever may write records
    with RecordFile(folder / "records.jsonl") as file:
        with replaced(folder / "config.yaml") as partial:
            partial.write_text(OmegaConf.to_yaml(config, resolve=True))
        missing = [
            (item, seed)
            for seed in config.seeds
            for item in items
            if (item.id, seed) not in file.done
        ]
        if missing:
            here = answer_choices if isinstance(job.task, ChoiceTask) else answer_here
            (answer or here)(config, job, missing, file.append)
        records = read(folder / "records.jsonl")
        write_parquet(records, folder / "records.parquet")
        if isinstance(job.task, JudgedElsewhere):
            _write_answers(job, items, records, folder)
        try:
            tracker.job(job.digest, name or job.digest, flat(resolved(config)), figures(records))
        except Exception:  # whatever a tracker does, the records are there and the sweep goes on
            logger.warning("the tracker failed; the records are complete", exc_info=True)
    return Summary(
        folder=folder,
        num_records=len(records),
        num_failed=sum(one["error"] is not None for one in records),
        mean_score=fmean(map(score, records)) if is_graded(records) else None,
    )


def _write_answers(
    job: "Job", items: Sequence[Item], records: Sequence[Record], folder: Path
) -> None:
    """The answers of each seed, for a judge elsewhere; items that failed have none."""
    assert isinstance(job.task, JudgedElsewhere)
    by_id = {item.id: item for item in items}
    name = f"{type(job.strategy).__name__}-{job.digest[:8]}"  # a leaderboard tells them apart by it
    for seed in dict.fromkeys(one["seed"] for one in records):
        answers = [
            (by_id[one["item"]], one["answers"][0]["text"])
            for one in records
            if one["seed"] == seed and one["answers"]
        ]
        if answers:
            job.task.write(answers, folder, name=f"{name}-{seed}")


@dataclass(frozen=True, slots=True)
class Job:
    """What a configuration asks for, wherever it is answered.

    Attributes:
        digest: hash of the configuration.
        task: gives and grades the items.
        strategy: how they are answered.
        budget: hard limits for each.
        tokens: whether records keep token ids and log-probabilities.
    """

    digest: str
    task: Task | ChoiceTask
    strategy: Strategy
    budget: Budget | None
    tokens: bool

    @classmethod
    def of(cls, config: DictConfig) -> "Job":
        """Builds everything but the engines.

        Raises:
            ConfigError: if the configuration cannot work.
        """
        task: Task | ChoiceTask = build(config.task, "task")
        _match(task, config.strategy)
        if config.grader.get("reward") is not None and config.grader.reward == config.reward:
            raise ConfigError(
                f"grader.reward={dict(config.reward)} is the reward that is maximised, whose grade "
                "says nothing: name another reward model or a judge"
            )
        return cls(
            digest=config_hash(config),
            task=task,
            strategy=build(config.strategy, "strategy"),
            budget=build(config.budget.limit, "budget.limit"),
            tokens=config.tokens,
        )

    @property
    def text_task(self) -> Task:
        """The task, if its answers are drawn.

        Raises:
            ConfigError: if they are given, so that there is nothing to draw and to grade.
        """
        if not isinstance(self.task, Task):
            raise ConfigError(
                f"task {self.task.name!r} gives the answers itself, which only eval.run weighs"
            )
        return self.task

    def aligner(self, config: DictConfig, journal: Journal) -> Aligner:
        """The aligner of this job; starts its engines, unless this process has them already."""
        policy, reward = build(config.policy, "policy"), build(config.reward, "reward")
        if stop := self.text_task.stop:
            law = policy.sampling
            policy = policy.with_sampling(replace(law, stop=(*law.stop, *stop)))
        return Aligner(policy, reward, self.strategy, budget=self.budget, journal=journal)

    def grading(self, config: DictConfig) -> Grading:
        """What grades the answers; starts the grader's engine, if it needs one."""
        name = json.dumps(resolved(config.grader), sort_keys=True, default=str)
        return Grading(self.text_task, build(config.grader, "grader"), name=name)

    def record(self, output: AlignedOutput, item: Item, grading: Grading | None) -> dict[str, Any]:
        """The record of one item, graded; without `grading` of one that has no answer.

        Where grading fails, the item has: its record has the error, and it is answered again when
        the job is started again.

        Raises:
            ConfigError: if nothing can be graded.
            InstallError: if a package that grading needs is missing.
        """

        def ungraded(raised: BaseException) -> RsalignError:
            return RsalignError(f"grading raised {describe_error(raised)}")

        try:
            with errors_as(ungraded):
                return self._record(output, item, grading)
        except (ConfigError, InstallError):
            raise
        except RsalignError as error:
            logger.warning("item %s, seed %s: %s", item.id, output.alignment.seed, error)
            seed = output.alignment.seed
            failed = make_failed_output(item.id, output.prompt, self.strategy, seed, error)
            return self._record(failed, item, None)

    def _record(self, output: AlignedOutput, item: Item, grading: Grading | None) -> dict[str, Any]:
        responses = [proposal.candidate.response for proposal in candidates(output)]
        answer = [_response(one) for one in output.outputs[:1]]
        grades = []
        if grading is not None and output.error is None:
            prompt = Prompt(item.messages, tuple(output.prompt_token_ids))
            grades = grading.grade(item, prompt, [*answer, *responses])
        return record(
            output,
            item,
            grades[0] if answer else None,
            grades[len(answer) :],
            config=self.digest,
            task=self.task.name,
            strategy=plain_data(self.strategy),
            budget=self.budget,
            tokens=self.tokens,
        )


Answer: TypeAlias = Callable[
    [DictConfig, Job, Sequence[tuple[Item, int]], Callable[[Record], None]], None
]
"""Answers items under seeds, and hands over the record of each as soon as there is one."""


def answer_here(
    config: DictConfig,
    job: Job,
    missing: Sequence[tuple[Item, int]],
    keep: Callable[[Record], None],
) -> None:
    """Draws on this thread, grades and keeps on another (an `Answer`)."""
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
                _journal(config, Path(config.output) / job.digest) as journal,
                job.aligner(config, journal) as aligner,
            ):
                for seed in dict.fromkeys(seed for _, seed in missing):
                    if ended:  # nothing that is drawn now would be kept
                        break
                    aligner.generate(
                        [prompt(item) for item, of in missing if of == seed],
                        seed=seed,
                        on_error="return",
                        on_result=lambda output: done.put((output, items[output.request_id])),
                    )
        finally:
            done.put(None)
            writer.join()
    if ended:
        raise ended[0]


def prompt(item: Item) -> dict[str, Any]:
    """An item as `Aligner.generate` takes it: its draws are addressed by its id."""
    if item.text is not None:
        return {"prompt": item.text, "id": item.id}
    messages = [one.given for one in item.messages]
    return {"messages": messages, "id": item.id}


def _match(task: Task | ChoiceTask, strategy: DictConfig) -> None:
    """Refuses a strategy where answers are given, and the want of one where they are not."""
    weighs = strategy.get("_target_") == f"{Choices.__module__}.{Choices.__name__}"
    if isinstance(task, ChoiceTask) and not weighs:
        raise ConfigError(
            f"task {task.name!r} gives the answers itself, and nothing is drawn: say "
            "strategy=choices"
        )
    if weighs and not isinstance(task, ChoiceTask):
        raise ConfigError(f"strategy=choices weighs given answers: task {task.name!r} has none")


def _response(answer: AlignedCompletion) -> Response:
    stop = Stop.LENGTH if answer.finish_reason == "length" else Stop.EOS
    return Response(tuple(answer.token_ids), answer.text, stop)


def _journal(config: DictConfig, folder: Path) -> Journal:
    """One journal for all jobs of this process: what one has drawn, another need not draw.

    Draws are addressed by item, seed and place, so that best-of-16 contains best-of-4, and all
    selectors choose among the same draws. Where another process has it, this job has its own, and
    keeps to that when it is started again. What other journals of the sweep have is read.
    """
    own = folder / "draws.journal"
    if not config.journal:
        return Journal(own)
    shared, *others = _journals(Path(config.output))
    if not own.exists():
        try:
            return Journal(shared, also=others)
        except ConfigError as error:
            logger.warning("%s; this job keeps a journal of its own", error)
    return Journal(own, also=[path for path in (shared, *others) if path.exists()])


def _journals(output: Path) -> list[Path]:
    """That of `eval.run`, and those of the workers of `eval.distributed`."""
    return [output / "draws.journal", *sorted(output.glob("draws-*.journal"))]
