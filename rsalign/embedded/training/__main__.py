"""Trains the embedded models from nothing: ``python -m rsalign.embedded.training``.

Seeded and single-threaded, so that the same machine makes the same weights. Takes about half an
hour on one core, without any data but what it makes. Writes the models, `report.json` and from it
`README.md`.
"""

import argparse
import json
import logging
import time
from pathlib import Path

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from rsalign.embedded import MODELS
from rsalign.embedded.problems import problems
from rsalign.embedded.training.measure import measure
from rsalign.embedded.training.policy import PolicyRecipe, train_policy
from rsalign.embedded.training.readme import write
from rsalign.embedded.training.reward import RewardRecipe, train_reward
from rsalign.embedded.training.tokenizer import train_tokenizer
from rsalign.key import Key

_NUM_TOKENIZER_PROBLEMS = 3000


def main() -> None:
    """Trains, measures and writes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=MODELS, help="folder of the models")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(1)
    key, started = Key(arguments.seed), time.process_time()

    torch.manual_seed(key.child("init").seed())
    tokenizer = train_tokenizer(problems("train", _NUM_TOKENIZER_PROBLEMS), key.child("tokenizer"))
    policy, strong, policy_log = train_policy(PolicyRecipe(), tokenizer, key.child("policy"))
    policy_minutes = (time.process_time() - started) / 60
    save(policy, tokenizer, arguments.output / "policy")
    save(strong, tokenizer, arguments.output / "strong")

    torch.manual_seed(key.child("reward init").seed())
    reward, reward_log = train_reward(
        RewardRecipe(), policy, strong, tokenizer, key.child("reward")
    )
    reward_minutes = (time.process_time() - started) / 60 - policy_minutes
    save(reward, tokenizer, arguments.output / "reward")

    report = {
        "seed": arguments.seed,
        "cpu_minutes": {"policy and strong": policy_minutes, "reward": reward_minutes},
        "training": {"policy and strong": policy_log, "reward": reward_log},
        "heldout": measure(policy, strong, reward, tokenizer, key.child("measure")),
    }
    (arguments.output / "report.json").write_text(json.dumps(report, indent=1) + "\n")
    write(arguments.output)


def save(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, path: Path) -> None:
    """Writes a model in bf16; the model itself is rounded too, so that what follows rests on it."""
    model.to(torch.bfloat16).save_pretrained(path)
    model.to(torch.float32)
    tokenizer.save_pretrained(path)


if __name__ == "__main__":
    main()
