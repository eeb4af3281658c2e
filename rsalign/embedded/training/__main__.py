"""Trains the embedded models from scratch: ``python -m rsalign.embedded.training``.

Training is seeded and single-threaded, so that the same machine produces the same weights. It takes
about half an hour on one core and uses generated data only. It writes the models, `report.json`
and, from that, `README.md`.
"""

import argparse
import json
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import (
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from rsalign.core.key import Key
from rsalign.embedded import MODELS
from rsalign.embedded.problems import problems
from rsalign.embedded.training.measure import measure
from rsalign.embedded.training.policy import PolicyRecipe, train_policy
from rsalign.embedded.training.readme import write
from rsalign.embedded.training.reward import RewardRecipe, train_reward
from rsalign.embedded.training.tokenizer import train_tokenizer

_NUM_TOKENIZER_PROBLEMS = 3000


def main() -> None:
    """Trains and measures the models, and writes them with their report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=MODELS, help="folder of the models")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--keep-solver",
        action="store_true",
        help="train the reward model only, on the policy and strong that are in the folder",
    )
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(1)
    report = Report(arguments.output)
    if not arguments.keep_solver:
        train_solver(arguments.output, Key(arguments.seed), report)
    policy, strong, tokenizer = load_solver(arguments.output)

    key = Key(arguments.seed)
    torch.manual_seed(key.child("reward init").seed())
    with report.stage("reward") as stage:
        reward, log = train_reward(RewardRecipe(), policy, strong, tokenizer, key.child("reward"))
        stage["log"] = log
        save(reward, tokenizer, arguments.output / "reward")
    # measure the model as it is shipped, with weights in bf16
    reward = LlamaForSequenceClassification.from_pretrained(
        arguments.output / "reward", dtype=torch.float32
    ).eval()
    measured = measure(policy, strong, reward, tokenizer, key.child("measure"))
    report.write(seed=arguments.seed, heldout=measured)
    write(arguments.output)


def train_solver(folder: Path, key: Key, report: "Report") -> None:
    """Trains and saves the tokenizer, the policy and the fully trained network."""
    torch.manual_seed(key.child("init").seed())
    with report.stage("policy and strong") as stage:
        tokenizer = train_tokenizer(
            problems("train", _NUM_TOKENIZER_PROBLEMS), key.child("tokenizer")
        )
        policy, strong, log = train_policy(PolicyRecipe(), tokenizer, key.child("policy"))
        stage["log"] = log
        save(policy, tokenizer, folder / "policy")
        save(strong, tokenizer, folder / "strong")


def load_solver(
    folder: Path,
) -> tuple[LlamaForCausalLM, LlamaForCausalLM, PreTrainedTokenizerFast]:
    """Loads both solvers as they are shipped (bf16), since the reward model builds on them."""
    policy, strong = (
        LlamaForCausalLM.from_pretrained(folder / name, dtype=torch.float32).eval()
        for name in ("policy", "strong")
    )
    return policy, strong, PreTrainedTokenizerFast.from_pretrained(folder / "policy")


def save(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, path: Path) -> None:
    """Saves a model in bf16, with its tokenizer."""
    model.to(torch.bfloat16).save_pretrained(path)
    tokenizer.save_pretrained(path)


class Report:
    """Collects results and writes `report.json` after each stage."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "report.json"
        self._content: dict[str, Any] = {}
        if self._path.is_file():
            self._content = json.loads(self._path.read_text())

    @contextmanager
    def stage(self, name: str) -> Iterator[dict[str, Any]]:
        """Measures the time of a stage and writes it with the stage's "log"."""
        stage: dict[str, Any] = {}
        started = time.process_time()
        yield stage
        minutes = (time.process_time() - started) / 60
        self.write(
            cpu_minutes=self._content.get("cpu_minutes", {}) | {name: minutes},
            training=self._content.get("training", {}) | {name: stage["log"]},
        )

    def write(self, **parts: Any) -> None:
        """Adds to the report."""
        self._content |= parts
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.write_text(json.dumps(self._content, indent=1) + "\n")


if __name__ == "__main__":
    main()
