"""What a record rests on beside the settings: the item, the content of models and code, the run.

A hash of settings says nothing of what a path, a function or a model's name holds. Each record
keeps fingerprints of that, so that a changed row, reward function or model folder under the same
name is noticed, and what it changes is answered again.
"""

import re
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hydra.utils import get_object
from omegaconf import DictConfig

from eval.configuration import find_targets, resolve
from eval.records import Record
from eval.tasks.protocol import Item
from rsalign.core.fingerprint import fingerprint
from rsalign.core.fingerprint.values import hash_parts
from rsalign.engines.model_files import ModelFiles
from rsalign.words.models import load

PARTS = ("policy", "reward", "grader", "strategy", "task")
"""The parts of a configuration whose content is compared. Of a task only the code is: its data are
compared item by item. Named parts are compared, too, where there are any."""

_OWN_OBJECT = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")
_STARTS_ENGINES = "eval.engines."


@dataclass(frozen=True, slots=True)
class Provenance:
    """Of the records that one run of a job writes.

    Attributes:
        parts: fingerprints of the content of each of `PARTS`.
        items: fingerprints of the items, by id.
        batches: what the items of one seed have in common that this run answers beside each other.
    """

    parts: Mapping[str, str]
    items: Mapping[str, str]
    batches: Mapping[int, Mapping[str, Any]]

    @classmethod
    def of(cls, config: DictConfig, items: Sequence[Item], seeds: Sequence[int]) -> "Provenance":
        """Reads the content of all parts and items; starts nothing.

        Raises:
            ConfigError: if a part of one's own cannot be imported or told from others.
        """
        return cls(
            parts={
                part: _digest(part, resolve(config[part]))
                for part in (*PARTS, *(["parts"] if config.get("parts") else []))
            },
            items={item.id: fingerprint(item) for item in items},
            batches={seed: {"id": uuid.uuid4().hex} for seed in seeds},
        )

    def changed(self, item: str, kept: Mapping[str, str]) -> list[str]:
        """Names what is not as it was when a record was written.

        Args:
            item: the id of its item.
            kept: ``fingerprints`` of the record.
        """
        now = {"item": self.items.get(item), **self.parts}
        return [name for name, one in now.items() if one != kept.get(name)]

    def sign(self, record: Record, num_missing: Mapping[int, int]) -> Record:
        """Adds ``fingerprints`` and ``batch`` to a record of this run.

        Args:
            record: of an item of the job.
            num_missing: how many items this run answers under each seed.
        """
        seed = record["seed"]
        return {
            **record,
            "fingerprints": {"item": self.items[record["item"]], **self.parts},
            "batch": {
                **self.batches[seed],
                "num_items": num_missing[seed],
                "is_whole": num_missing[seed] == len(self.items),
            },
        }


def _digest(part: str, node: Any) -> str:
    found = [one.encode() for one in sorted(_contents(part, node))]
    return hash_parts(part, *found).hex()[:16] if found else ""


def _contents(part: str, node: Any) -> Iterator[str]:
    """What is behind the names in a node: files of models, and code of one's own."""
    for path, target in find_targets(node, part):
        name = str(target["_target_"])
        if name.startswith("eval.") and not name.startswith(_STARTS_ENGINES):
            yield f"{path}: {fingerprint(get_object(name))}"
    for path, text in _texts(node, part):
        if _OWN_OBJECT.fullmatch(text):
            yield f"{path}: {fingerprint(load(path, text))}"
        elif part != "task" and ("/" in text or path.endswith(".model")):
            files = ModelFiles.of(text)
            if files.folder is not None:
                yield f"{path}: {files.digest()}"


def _texts(node: Any, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(node, Mapping):
        for name, value in node.items():
            if name != "_target_":
                yield from _texts(value, f"{path}.{name}")
    elif isinstance(node, list | tuple):
        for i, value in enumerate(node):
            yield from _texts(value, f"{path}[{i}]")
    elif isinstance(node, str):
        yield path, node
