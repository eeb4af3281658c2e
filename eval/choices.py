"""Tasks of given answers: nothing is drawn, and the policy weighs each of them by its own law."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from eval.configuration import build
from eval.record import record
from eval.records import Record
from eval.tasks.protocol import ChoiceTask, Item
from rsalign import AlignedOutput, ConfigError, EngineError, RsalignError
from rsalign.aligner.outputs import AlignedCompletion, Alignment, make_failed_output
from rsalign.core.budget import Usage
from rsalign.core.foreign import describe_error, errors_as
from rsalign.core.protocols import Encoder, Likelihood
from rsalign.core.tasks import concurrently
from rsalign.core.trace import Trace
from rsalign.engines.loop_thread import LoopThread

if TYPE_CHECKING:
    from eval.sweep import Job

_MOST_OPEN = 64  # choices at once


@dataclass(frozen=True, slots=True)
class Choices:
    """What stands for a strategy where the answers are given.

    An aligned sampler has no likelihood that could be computed: the figures are the policy's.
    """


def answer_choices(
    config: DictConfig,
    job: "Job",
    missing: Sequence[tuple[Item, int]],
    keep: Callable[[Record], None],
) -> None:
    """Weighs the choices of items, and grades them at once (an `eval.sweep.Answer`).

    Raises:
        ConfigError: if the policy cannot weigh given text.
    """
    policy: Any = build(config.policy, "policy")
    if not isinstance(policy, Likelihood) or not isinstance(policy, Encoder):
        raise ConfigError(
            f"{type(policy).__name__} cannot tell how probable given text is, which task "
            f"{job.task.name!r} asks for: take policy=vllm"
        )
    loop = LoopThread("eval-choices")
    try:
        for item, seed in missing:
            try:
                with errors_as(
                    lambda raised: RsalignError(f"weighing raised {describe_error(raised)}")
                ):
                    kept = loop.call(_weighed(policy, job, item, seed))
            except RsalignError as error:
                if isinstance(error, EngineError):
                    raise  # the engine is gone
                failed = make_failed_output(item.id, item.text or "", job.strategy, seed, error)
                kept = _record(failed, job, item)
            keep(kept)
    finally:
        loop.stop()


async def _weighed(policy: Any, job: "Job", item: Item, seed: int) -> Record:
    assert isinstance(job.task, ChoiceTask)
    started = time.perf_counter()
    text, choices = item.text or "", job.task.choices(item)
    start = policy.encode(text)
    # what a choice adds to the prompt, wherever the tokenizer draws the line
    added = [policy.encode(text + choice)[len(start) :] for choice in choices]
    found = await concurrently(
        (policy.log_probs(start, tokens) for tokens in added), limit=_MOST_OPEN
    )
    log_probs = [min(0.0, sum(each)) for each in found]
    grade = job.task.grade_choices(item, log_probs)
    best = log_probs.index(max(log_probs))
    alignment = Alignment(
        strategy=job.strategy,
        reward=None,
        usage=Usage(
            policy_requests=len(choices),
            prompt_tokens=sum(len(start) + len(tokens) for tokens in added),
            seconds=time.perf_counter() - started,
        ),
        trace=Trace(),
        diagnostics={"log_probs": tuple(log_probs)},
        seed=seed,
        forced=False,
        expired=False,
    )
    answered = AlignedOutput(
        request_id=item.id,
        prompt=text,
        prompt_token_ids=list(start),
        outputs=[
            AlignedCompletion(
                index=0,
                text=choices[best],
                token_ids=list(added[best]),
                cumulative_logprob=log_probs[best],
                finish_reason="stop",
                stop_reason=None,
                reward=None,
                alignment=alignment,
            )
        ],
        finished=True,
        alignment=alignment,
    )
    return _record(answered, job, item, grade)


def _record(answered: AlignedOutput, job: "Job", item: Item, grade: Any = None) -> Record:
    return record(
        answered,
        item,
        grade,
        [],
        config=job.digest,
        task=job.task.name,
        strategy={"class": Choices.__name__},
        budget=None,
        tokens=job.tokens,
    )
