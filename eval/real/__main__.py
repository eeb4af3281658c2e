"""Makes the real models: ``python -m eval.real --reviews PATH --dialogues PATH``.

Fetches SmolLM2-135M-Instruct, converts it, and trains a reward for film reviews and one for
dialogues on top of it. What exists already is kept: delete a folder of the cache to make it anew.
It takes about 25 minutes on one core, most of them in the frozen layers, whose states are kept: a
run that was stopped goes on where it was. The folder ``states`` may be deleted at the end.
"""

import argparse
import json
import logging
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from transformers import AutoTokenizer
from transformers.utils import logging as transformers_logging

from eval.real.cache import folder
from eval.real.convert import convert
from eval.real.features import Trunk
from eval.real.fetch import fetch
from eval.real.measure import measure_pairs, measure_reviews
from eval.real.objectives import Objective, Polarity, Preference
from eval.real.texts import Part, read_pairs, read_reviews
from eval.real.top import Top
from eval.real.train import Examples, Recipe, train
from rsalign import RsalignError
from rsalign.core.key import Key
from rsalign.rewards.rendering import Rendering

T = TypeVar("T")

DEPTH = 27
"""Frozen layers, of 30."""

REVIEWS = Recipe(epochs=3)
PAIRS = Recipe(epochs=2)
NUM_REVIEWS: dict[Part, int] = {"train": 4000, "tune": 200, "heldout": 600}
NUM_PAIRS: dict[Part, int] = {"train": 640, "tune": 200, "heldout": 600}
"""Greatest number of examples in each part: as many as half an hour on one core allows."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Makes what is missing; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="eval.real", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--reviews",
        default="stanfordnlp/imdb",
        help="film reviews: a file or folder, or a Hugging Face id (default: %(default)s)",
    )
    parser.add_argument(
        "--dialogues",
        default="Anthropic/hh-rlhf",
        help="dialogues with two replies: as above (default: %(default)s)",
    )
    given = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", force=True)
    transformers_logging.disable_progress_bar()
    torch.set_num_threads(1)
    try:
        _make(folder(), given.reviews, given.dialogues)
    except RsalignError as error:
        sys.stderr.write(f"eval.real: {error}\n")
        return 2
    return 0


def _make(cache: Path, reviews: str, dialogues: str) -> None:
    gguf, policy = cache / "gguf", cache / "policy"
    if not policy.is_dir():
        if not gguf.is_dir():
            fetch(gguf)
        convert(gguf, policy)
    trunk = Trunk(str(policy), DEPTH, cache / "states")
    rendering = Rendering(AutoTokenizer.from_pretrained(policy), trunk.max_model_len)
    if not (cache / "sentiment").is_dir():
        _train(
            cache / "sentiment",
            lambda part: read_reviews(reviews, part, NUM_REVIEWS[part], rendering),
            Polarity(),
            trunk,
            REVIEWS,
            measure_reviews,
        )
    if not (cache / "hh").is_dir():
        _train(
            cache / "hh",
            lambda part: read_pairs(dialogues, part, NUM_PAIRS[part], rendering),
            Preference(),
            trunk,
            PAIRS,
            measure_pairs,
        )
    steering = cache / "steering.json"
    if not steering.is_file():
        from eval.real.steer import measure_steering  # vLLM, which training does without

        steering.write_text(json.dumps(measure_steering(), indent=1) + "\n", encoding="utf-8")


def _train(
    into: Path,
    read: Callable[[Part], Sequence[T]],
    objective: Objective[T],
    trunk: Trunk,
    recipe: Recipe,
    measure: Callable[[Top, Examples[T]], dict[str, Any]],
) -> None:
    """Trains a reward, measures it and writes it into a new folder, with its figures."""
    started = time.process_time()
    parts: list[Part] = ["tune", "train", "heldout"]
    tuning, training, heldout = (Examples(read(part), objective, trunk) for part in parts)
    key = Key(0).child(into.name)
    torch.manual_seed(key.child("training").seed())
    top, log = train(Top(trunk.model, trunk.depth), training, tuning, recipe, key)
    figures = {
        "training": {"examples": len(training), "layers": len(top.model.layers), "passes": log},
        "heldout": measure(top, heldout),
        "cpu_minutes": (time.process_time() - started) / 60,
    }
    top.save(trunk.model, into, figures)
    logging.getLogger(__name__).info("%s: %s", into.name, json.dumps(figures["heldout"]))


if __name__ == "__main__":
    sys.exit(main())
