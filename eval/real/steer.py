"""What the pair of policy and reward does together: film reviews, steered to be positive.

The answers are the policy's own. The judge is the task's classifier of words
(`eval.graders.sentiment`), which was trained on other texts than the reward.
"""

from statistics import fmean
from typing import Any

import numpy as np

from eval.graders.sentiment import log_odds, shipped
from eval.real.cache import find_model
from eval.record import list_candidates
from eval.tasks.sentiment import Sentiment
from rsalign import Aligner, BestOf, Plain
from rsalign.embedded.training.measure import within_prompt_auc

NUM_PROMPTS = 40
NUM_ANSWERS = 8


def measure_steering() -> dict[str, Any]:
    """Draws answers to the task's prompts, and compares the best of them with the first.

    ``auc_within_prompt`` is the mean over prompts of the probability that the reward puts an answer
    that the judge takes for positive above one that it takes for negative.
    """
    task = Sentiment(limit=NUM_PROMPTS, form="chat")
    strategy = BestOf(n=NUM_ANSWERS, inner=Plain(max_tokens=task.max_tokens))
    prompts = [list(item.messages) for item in task.load()]
    with Aligner(find_model("policy"), find_model("sentiment"), strategy) as aligner:
        outputs = aligner.chat(prompts)
    drawn = [[one.candidate for one in list_candidates(output)] for output in outputs]
    rewards = np.array([[one.reward for one in row] for row in drawn])
    odds = np.array(
        [[log_odds(one.response.text, shipped("gold")) for one in row] for row in drawn]
    )
    best = rewards.argmax(1)[:, None]
    return {
        "prompts": len(prompts),
        "answers": NUM_ANSWERS,
        "auc_within_prompt": within_prompt_auc(rewards, odds > 0),
        "mean_reward": {
            "plain": fmean(rewards[:, 0]),
            "best": fmean(np.take_along_axis(rewards, best, 1)[:, 0]),
        },
        "judged_positive": {
            "plain": fmean(odds[:, 0] > 0),
            "best": fmean(np.take_along_axis(odds, best, 1)[:, 0] > 0),
        },
    }
