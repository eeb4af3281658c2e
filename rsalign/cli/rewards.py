"""`rsalign rewards`: scores responses to one problem by every kind of reward."""

import argparse
import asyncio
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

from rsalign.core.journal import Journal
from rsalign.core.key import Key
from rsalign.core.protocols import Reward
from rsalign.core.tasks import concurrently
from rsalign.core.text.response_text import response_text
from rsalign.core.types import Message, Prompt, Response
from rsalign.embedded import POLICY, REWARD, STRONG
from rsalign.embedded.problems import Problem, problem
from rsalign.policies.vllm import VllmPolicy
from rsalign.rewards import (
    BradleyTerry,
    Cached,
    Capped,
    ClippedSteps,
    DeltaSteps,
    DensityRatio,
    Direction,
    FunctionReward,
    Instructed,
    Journaled,
    LowerConfidenceBound,
    Metered,
    PairwiseJudge,
    PointwiseJudge,
    ProbabilityJudge,
    Routed,
    Scaled,
    Steps,
    Template,
    TransformersReward,
    VllmReward,
    VllmStepReward,
    WeightedSum,
    calibrate,
    own_rewards,
    reference_value,
)

_MAX_TOKENS = 96
_NUM_ANSWERS = 4
_SMALL: dict[str, Any] = {"kv_cache_memory_bytes": 64 << 20}
# questions that the tiny policy can respond to: it knows little but numbers
_SCORE = Template(user="{prompt}\n{response}", pattern=r"(\d)")
_RIGHT = Template(user="{prompt}\n{response}", choices=("Answer", "Then"))
_COMPARE = Template(user="{prompt}\n{one}\n{other}", choices=("First", "Next"))


def add_parser(subparsers: Any) -> None:
    """Adds the command to the argument parser."""
    parser = subparsers.add_parser(
        "rewards", help="score responses to one problem by every kind of reward (embedded models)"
    )
    parser.add_argument("--problem", type=int, default=7, help="number of a held-out problem")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Samples a few responses to a problem and prints every reward's scores of them."""
    asked = problem("heldout", arguments.problem)
    with ExitStack() as stack:
        policy = stack.enter_context(closing(VllmPolicy.start(POLICY, **_SMALL)))
        strong = stack.enter_context(closing(VllmPolicy.start(STRONG, **_SMALL)))
        judge = stack.enter_context(closing(VllmReward.start(REWARD, **_SMALL)))
        journal = Journal(Path(stack.enter_context(tempfile.TemporaryDirectory())) / "journal")
        stack.enter_context(journal)
        messages = (Message("user", asked.question),)
        prompt = Prompt(messages, policy.encode_chat(messages))
        for line in asyncio.run(_report(asked, prompt, policy, strong, judge, journal)):
            print(line)
    return 0


async def _report(
    asked: Problem,
    prompt: Prompt,
    policy: VllmPolicy,
    strong: VllmPolicy,
    judge: VllmReward,
    journal: Journal,
) -> list[str]:
    answers = await _answers(prompt, policy)
    lines = [asked.question]
    for i, answer in enumerate(answers):
        mark = "right" if asked.grade(answer.text) else "wrong"
        lines.append(f"  {i}  {mark}  {' / '.join(answer.text.splitlines())}")
    pool = await own_rewards(
        policy, judge, prompt, num_draws=16, max_tokens=_MAX_TOKENS, key=Key(0, ("pool",))
    )
    calibrated = await calibrate(
        judge, prompt, policy=policy, num_draws=16, max_tokens=_MAX_TOKENS, key=Key(0, ("z",))
    )
    rewards = {
        **dict(_models(asked, prompt, policy, strong, judge)),
        **dict(_combined(policy, judge, reference_value(pool, quantile=0.5))),
        "Journaled": Journaled(judge, journal),
        "calibrate (z-score)": calibrated,
    }
    lines.append("\n" + " " * 28 + "".join(f"{f'answer {i}':>10}" for i in range(len(answers))))
    for name, reward in rewards.items():
        values = await concurrently(reward.score(prompt, answer) for answer in answers)
        lines.append(f"{name:<28}" + "".join(f"{value:>10.3f}" for value in values))
    prefers = await PairwiseJudge(policy, _COMPARE).prefer(prompt, answers[0], answers[1])
    lines.append(
        f"\nPairwiseJudge: answer 0 is better than answer 1 with probability {prefers:.3f}"
    )
    return lines


async def _answers(prompt: Prompt, policy: VllmPolicy) -> list[Response]:
    segments = await concurrently(
        policy.extend(prompt.tokens, max_new_tokens=_MAX_TOKENS, key=Key(0, ("answer", i)))
        for i in range(_NUM_ANSWERS)
    )
    return [
        Response(
            segment.tokens,
            response_text(policy, prompt.tokens, segment.tokens, stop=segment.stop),
            segment.stop,
            segment.log_probs,
        )
        for segment in segments
    ]


def _models(
    asked: Problem, prompt: Prompt, policy: VllmPolicy, strong: VllmPolicy, judge: VllmReward
) -> Iterator[tuple[str, Reward]]:
    steps = VllmStepReward(judge.engine, policy.text)
    yield "VllmReward", judge
    yield "TransformersReward", TransformersReward(REWARD)
    yield "FunctionReward (verifier)", FunctionReward(lambda _, answer: float(asked.grade(answer)))
    yield "Steps(VllmStepReward), min", Steps(steps, policy.text, aggregate="min")
    yield "Steps(ClippedSteps), sum", Steps(ClippedSteps(steps, 1.0), policy.text, aggregate="sum")
    yield "Steps(DeltaSteps), sum", Steps(DeltaSteps(steps), policy.text, aggregate="sum")
    yield "DensityRatio(strong, policy)", DensityRatio(strong, policy)
    instructed = Instructed(policy, "Take care.")
    yield "DensityRatio, instructed", DensityRatio(policy, policy, numerator_prompt=instructed)
    yield "PointwiseJudge, 3 votes", PointwiseJudge(policy, _SCORE, votes=3, max_tokens=32)
    yield "ProbabilityJudge", ProbabilityJudge(policy, _RIGHT)


def _combined(
    policy: VllmPolicy, judge: VllmReward, reference: float
) -> Iterator[tuple[str, Reward]]:
    short = FunctionReward(lambda _, answer: -len(answer) / 100)
    yield "WeightedSum", WeightedSum([judge, short], [1.0, 0.5])
    yield "Direction", Direction([judge, short], [2.0, 1.0])
    yield "BradleyTerry", BradleyTerry(judge, reference)
    yield "Capped", Capped(judge, 0.5)
    yield "LowerConfidenceBound", LowerConfidenceBound([judge, short])
    yield "Routed", Routed([(lambda prompt: "half" in prompt.text, judge)], short)
    yield "Scaled", Scaled(judge, scale=2.0, shift=-1.0)
    yield "Cached", Cached(judge)
    yield "Metered", Metered(judge)
