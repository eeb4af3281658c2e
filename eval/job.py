"""One job of a sweep: what a configuration asks for, wherever it is answered."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from omegaconf import DictConfig

from eval import engines
from eval.configuration import build, check_node, hash_config, import_target, resolve
from eval.grading import Grading
from eval.record import list_candidates, make_record
from eval.records import Record
from eval.tasks.protocol import ChoiceTask, Item, Task, abstention
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
from rsalign.core.capabilities import needs_reward
from rsalign.core.checks import SEED, check_int
from rsalign.core.foreign import describe_error, errors_as
from rsalign.core.journal import Journal
from rsalign.core.parts import check_part_names
from rsalign.core.protocols import Strategy
from rsalign.words.named_parts import read_part_words
from rsalign.words.values import convert


@dataclass(frozen=True, slots=True)
class SweepJob:
    """What a configuration asks for, wherever it is answered.

    Attributes:
        digest: hash of the configuration.
        task: gives and grades the items.
        strategy: draws the answers; None if the task gives them.
        seeds: under each of which all items are answered.
        budget: hard limits for each.
        parts: further models and judges that the strategy needs, by name, not started yet.
        shares_journal: whether the draws of other jobs of the sweep are used.
        tokens: whether records keep token ids and log-probabilities.
    """

    digest: str
    task: Task | ChoiceTask
    strategy: Strategy | None
    seeds: tuple[int, ...]
    budget: Budget | None
    parts: Mapping[str, Any]
    shares_journal: bool
    tokens: bool

    @classmethod
    def of(cls, config: DictConfig) -> "SweepJob":
        """Builds everything but the engines, and checks the settings of those.

        Raises:
            ConfigError: if the configuration cannot work.
        """
        for part in ("policy", "reward", "grader"):
            check_node(config[part], part)
        task: Task | ChoiceTask = build(config.task, "task")
        draws = not _names(config.strategy, engines.no_strategy)
        if draws and isinstance(task, ChoiceTask):
            raise ConfigError(
                f"task {task.name!r} gives the answers itself, and nothing is drawn: say "
                "strategy=choices"
            )
        if not draws and not isinstance(task, ChoiceTask):
            raise ConfigError(f"strategy=choices weighs given answers: task {task.name!r} has none")
        strategy: Strategy | None = build(config.strategy, "strategy")
        if config.grader.get("reward") is not None and config.grader.reward == config.reward:
            raise ConfigError(
                f"grader.reward={dict(config.reward)} is the reward that is maximised, whose grade "
                "says nothing: name another reward model or a judge"
            )
        if (
            strategy is not None
            and needs_reward(strategy)
            and _names(config.reward, engines.no_reward)
        ):
            raise ConfigError(
                f"reward=none, but {type(strategy).__name__} asks for rewards: name a reward"
            )
        parts = read_part_words(resolve(config.get("parts"), "parts"))
        if strategy is not None:
            check_part_names(strategy, parts, refuses_unused=True)
        elif parts:
            raise ConfigError("parts: strategy=choices uses none: leave them out")
        return cls(
            digest=hash_config(config),
            task=task,
            strategy=strategy,
            seeds=_read_seeds(config),
            budget=build(config.budget.limit, "budget.limit"),
            parts=parts,
            shares_journal=convert("journal", resolve(config.journal), bool),
            tokens=convert("tokens", resolve(config.tokens), bool),
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

    @property
    def drawing_strategy(self) -> Strategy:
        """The strategy, if answers are drawn.

        Raises:
            ConfigError: if they are given.
        """
        _ = self.text_task
        assert self.strategy is not None  # `of` has compared the two
        return self.strategy

    def aligner(self, config: DictConfig, journal: Journal) -> Aligner:
        """The aligner of this job; starts its engines, unless this process has them already."""
        policy, reward = build(config.policy, "policy"), build(config.reward, "reward")
        if stop := self.text_task.stop:
            law = policy.sampling
            policy = policy.with_sampling(replace(law, stop=(*law.stop, *stop)))
        return Aligner(
            policy,
            reward,
            self.drawing_strategy,
            budget=self.budget,
            journal=journal,
            chat_options=resolve(config.policy.get("chat_options")),
            parts=engines.named_parts(self.parts, self.drawing_strategy, policy),
        )

    def grading(self, config: DictConfig) -> Grading:
        """What grades the answers; starts the grader's engine, if it needs one."""
        name = json.dumps(resolve(config.grader), sort_keys=True, default=str)
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
            seed = output.alignment.seed
            failed = make_failed_output(item.id, output.prompt, self.drawing_strategy, seed, error)
            return self._record(failed, item, None)

    def _record(self, output: AlignedOutput, item: Item, grading: Grading | None) -> dict[str, Any]:
        responses = [proposal.candidate.response for proposal in list_candidates(output)]
        answer = [_response(one) for one in output.outputs[:1]]
        grades = []
        if grading is not None and output.error is None:
            prompt = Prompt(item.messages, tuple(output.prompt_token_ids))
            asked = [one for one in (*answer, *responses) if one.stop is not Stop.ABSTAINED]
            grades = grading.grade(item, prompt, asked)
            if len(asked) < len(answer) + len(responses):
                grades.insert(0, abstention(str(answer[0].stop_reason)))
        return make_record(
            output,
            item,
            grades[0] if answer else None,
            grades[len(answer) :],
            config=self.digest,
            task=self.task.name,
            strategy=self.drawing_strategy,
            budget=self.budget,
            tokens=self.tokens,
        )


Answer: TypeAlias = Callable[
    [DictConfig, SweepJob, Sequence[tuple[Item, int]], Callable[[Record], None]], None
]
"""Answers items under seeds, and hands over the record of each as soon as there is one."""


def _response(answer: AlignedCompletion) -> Response:
    stops = {"length": Stop.LENGTH, "abstained": Stop.ABSTAINED}
    stop = stops.get(answer.finish_reason, Stop.EOS)
    return Response(tuple(answer.token_ids), answer.text, stop, stop_reason=answer.stop_reason)


def _read_seeds(config: DictConfig) -> tuple[int, ...]:
    """The seeds of a job.

    Raises:
        ConfigError: if there are none, one occurs twice, or one is no whole number in range.
    """
    given = resolve(config.seeds, "seeds")
    if not isinstance(given, list) or not given:
        raise ConfigError(f"seeds={given!r}: give a list of whole numbers, such as seeds=[0,1]")
    seeds = tuple(check_int("config", "seeds", convert("seeds", one, int), SEED) for one in given)
    if len(set(seeds)) < len(seeds):
        raise ConfigError(f"seeds={given!r}: one occurs twice, and would be answered twice")
    return seeds


def _names(node: DictConfig, function: object) -> bool:
    """Whether a node's target is this function; nothing is built."""
    target = node.get("_target_")
    return target is not None and import_target("config", target) is function
