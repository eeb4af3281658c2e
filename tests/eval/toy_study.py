"""Run folders as `eval.sweep` leaves them, by the toy policy and reward: real runs, in no time."""

import itertools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from eval.analysis.timing import mark_timed
from eval.record import DEPENDS_ON_TIMING, list_candidates, make_record
from eval.records import RecordFile
from eval.tasks.protocol import Grade, Item, ungradable
from rsalign import AlignedOutput, Aligner, BestOf, Budget, Cards, FixedSize, Message, Plain, QAlign
from rsalign.core.capabilities import describe_part
from rsalign.core.protocols import Strategy
from rsalign.selectors import MajorityVote, Soft
from rsalign.selectors.extraction import LastNumber
from rsalign.strategies.calibrate import Calibrate
from rsalign.testing import ToyPolicy, ToyReward

MAX_TOKENS = 6
SIZES = (1, 4, 16)
_numbers = itertools.count()
ITEMS = [
    Item(id=f"toy-{i}", messages=(Message("user", text),), group="short" if i < 4 else "long")
    for i, text in enumerate(("1", "2", "1 1", "1 2", "2 1 1", "2 1 2", "1 1 1", "2 2 2 1"))
]


def strategies(size: int) -> dict[str, Strategy]:
    """What is compared, each worth about so many answers."""
    plain = Plain(max_tokens=MAX_TOKENS)
    pool = {"n": size, "inner": plain}
    cards = Cards(segmenter=FixedSize(2), max_tokens=MAX_TOKENS, max_tries=size)
    return {
        "plain": plain,
        "best_of": BestOf(**pool),
        "majority_vote": BestOf(**pool, select=MajorityVote(extract=LastNumber())),
        "soft": BestOf(**pool, select=Soft(temperature=0.5)),
        "cards": Calibrate(inner=cards, draws=2),
        "qalign": QAlign(beta=0.5, steps=2 * size, max_tokens=MAX_TOKENS),
    }


def grade(text: str) -> Grade:
    """Right: a word more of one than of two. Nobody can tell where nothing was written."""
    if not text:
        return ungradable("empty")
    return Grade(score=float(text.count("1") > text.count("2")), answer=text[-1:])


def answer(
    strategy: Strategy,
    seeds: tuple[int, ...] = (0, 1),
    reward: Any = None,
    budget: Budget | None = None,
    journal: Path | None = None,
) -> list[dict[str, Any]]:
    """A record for each item and seed; the items of a seed are one batch."""
    asked = {item.id: item for item in ITEMS}
    limits = {"budget": budget, "journal": journal}
    with Aligner(ToyPolicy(3), reward or ToyReward(), strategy, **limits) as aligner:
        outputs = [
            output
            for seed in seeds
            for output in aligner.generate(
                [{"prompt": item.messages[0].content, "id": item.id} for item in ITEMS],
                seed=seed,
                use_tqdm=False,
                on_error="return",
            )
        ]
    batches = {seed: f"batch-{next(_numbers)}" for seed in seeds}
    return mark_timed(
        make_record(
            output,
            asked[output.request_id],
            grade(output.outputs[0].text) if output.outputs else None,
            grades(output),
            config="toy",
            task="toy",
            strategy=strategy,
            budget=budget,
        )
        | {
            "batch": {
                "id": batches[output.alignment.seed],
                "num_items": len(ITEMS),
                "is_whole": True,
            }
        }
        for output in outputs
    )


def grades(output: AlignedOutput) -> list[Grade]:
    """Of its candidates."""
    return [grade(proposal.candidate.response.text) for proposal in list_candidates(output)]


def timeless(record: Mapping[str, Any]) -> dict[str, Any]:
    """A record without what two runs of one configuration do not share."""
    plain = json.loads(json.dumps(record))
    plain.pop("timed", None)  # derived from the batch
    for path in DEPENDS_ON_TIMING:
        *parts, name = path.split(".")
        node = plain
        for part in parts:
            node = node[part]
        del node[name]
    return plain


def write(
    folder: Path,
    strategy: Strategy,
    size: int,
    records: list[dict[str, Any]],
    **changes: Any,
) -> None:
    """A run folder; `changes` replace parts of its configuration."""
    config: Mapping[str, Any] = {
        "policy": {"_target_": "rsalign.testing.ToyPolicy", "vocab": 3},
        "reward": {"_target_": "rsalign.testing.ToyReward"},
        "strategy": describe_part(strategy),
        "budget": {"answers": size, "limit": None},
        "task": {"_target_": "toy", "limit": len(ITEMS)},
        "seeds": sorted({one["seed"] for one in records}),
        "journal": False,
    }
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(OmegaConf.to_yaml(OmegaConf.create({**config, **changes})))
    with RecordFile(folder / "records.jsonl") as file:
        for one in records:
            file.append(one)


def write_all(folder: Path) -> None:
    """A run folder for each strategy and size."""
    for size in SIZES:
        for name, strategy in strategies(size).items():
            if name != "plain" or size == 1:
                write(folder / f"{name}-{size}", strategy, size, answer(strategy))
