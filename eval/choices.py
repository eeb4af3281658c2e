"""Tasks of given answers: nothing is drawn, and the policy weighs each of them by its own law.

No strategy is involved (``strategy=choices`` builds none), since an aligned sampler has no
likelihood that could be computed: the figures are the policy's.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any

from omegaconf import DictConfig

from eval.configuration import build
from eval.job import SweepJob
from eval.record import choice_record
from eval.records import Record
from eval.tasks.protocol import ChoiceTask, Item
from rsalign import ConfigError, EngineError, RsalignError
from rsalign.core.budget import Usage
from rsalign.core.foreign import describe_error, errors_as
from rsalign.core.protocols import Encoder, Likelihood
from rsalign.core.tasks import concurrently
from rsalign.engines.loop_thread import LoopThread

_MOST_OPEN = 64  # choices at once


def answer_choices(
    config: DictConfig,
    job: SweepJob,
    missing: Sequence[tuple[Item, int]],
    keep: Callable[[Record], None],
) -> None:
    """Weighs the choices of items and grades them (an `eval.job.Answer`).

    An item whose choices cannot be weighed gets a record with the error, and the others go on.

    Raises:
        ConfigError: if the policy cannot weigh given text.
        EngineError: if the policy's engine is gone.
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
                    kept = loop.call(_weigh_choices(policy, job, item, seed))
            except EngineError:
                raise
            except RsalignError as error:
                kept = choice_record(item, seed, config=job.digest, task=job.task.name, error=error)
            keep(kept)
    finally:
        loop.stop()


async def _weigh_choices(policy: Any, job: SweepJob, item: Item, seed: int) -> Record:
    assert isinstance(job.task, ChoiceTask)
    started = time.perf_counter()
    text, choices = item.text or "", job.task.choices(item)
    start = policy.encode(text)
    # what a choice adds to the prompt, wherever the tokenizer draws the line
    added = [policy.encode(text + choice)[len(start) :] for choice in choices]
    by_token = await concurrently(
        (policy.log_probs(start, tokens) for tokens in added), limit=_MOST_OPEN
    )
    log_probs = [min(0.0, sum(each)) for each in by_token]
    best = log_probs.index(max(log_probs))
    answer: dict[str, Any] = {
        "text": choices[best],
        "reward": None,
        "num_tokens": len(added[best]),
        "finish_reason": "stop",
    }
    if job.tokens:
        answer |= {"token_ids": list(added[best]), "log_probs": list(by_token[best])}
    return choice_record(
        item,
        seed,
        config=job.digest,
        task=job.task.name,
        answer=answer,
        grade=job.task.grade_choices(item, log_probs),
        usage=Usage(
            policy_requests=len(choices),
            prompt_tokens=sum(len(start) + len(tokens) for tokens in added),
            seconds=time.perf_counter() - started,
        ),
        log_probs=log_probs,
    )
