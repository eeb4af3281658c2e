"""Identifies a model by the content of its files, wherever they are."""

import functools
import hashlib
import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from rsalign.core.errors import ConfigError

WHOLE_BYTES = 512 << 20
"""Larger files are sampled; others are read whole, at about 1 GB a second."""
_BLOCK_BYTES = 4096
_BLOCKS_OF_A_TENSOR = 16
_BLOCKS_OF_A_FILE = 4096
_NOT_THE_MODEL = frozenset(
    {
        "optimizer.pt",
        "scheduler.pt",
        "scaler.pt",
        "trainer_state.json",
        "training_args.bin",
        "readme",
        "license",
        "notice",
    }
)
_NOT_THE_MODEL_SUFFIXES = frozenset(
    {".md", ".txt.lock", ".lock", ".log", ".png", ".jpg", ".jpeg", ".pdf", ".gitattributes"}
)

_Stamp = tuple[str, int, int]
"""Name, size in bytes, and time of the last change in nanoseconds."""


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """The files of a model, as they were at one time.

    These are the files of the folder itself and of its numbered folders (``1_Pooling``): weights,
    configuration, tokenizer, chat template and code, but not documents, nor what a training run
    leaves beside them. A Hugging Face id stands for its snapshot in the cache.

    Attributes:
        name: the path or id, as it was given.
        revision: of an id.
        cache: the folder of the Hugging Face cache; None: the usual one.
        folder: of the files; None: not on this machine, or not in files (an address).
        stamps: name, size and time of the last change of each file.

    Example:
        >>> ModelFiles.of("s3://bucket/model").digest()
        's3://bucket/model'
    """

    name: str
    revision: str | None
    cache: str | None
    folder: Path | None
    stamps: tuple[_Stamp, ...]

    @classmethod
    def of(cls, name: str, revision: str | None = None, cache: str | None = None) -> "ModelFiles":
        """Lists the files of a model, given by path or Hugging Face id; reads none of them."""
        folder = _folder(name, revision, cache)
        stamps = () if folder is None else tuple(_stamps(folder))
        return cls(name, revision, cache, folder, stamps)

    def digest(self) -> str:
        """Returns a digest of the content, or the name where there are no files here.

        Files of at most `WHOLE_BYTES` are read whole. Of a larger file in the safetensors format
        the header and up to 16 blocks of 4 KiB of each tensor are read; of any other its size and
        4096 such blocks. So the digest changes when a model is trained further, even if only one
        tensor changes. It misses a change of single numbers in a large file outside these blocks. A
        process reads each file once, unless the file changes.

        Raises:
            ConfigError: if the files have changed since they were listed: the engine then runs
                another model than the files hold.
        """
        if self.folder is None:
            return f"{self.name}@{self.revision}" if self.revision else self.name
        if tuple(_stamps(self.folder)) != self.stamps:
            raise ConfigError(
                f"the files of {self.name} have changed since it was started, so that a journal "
                "cannot tell what draws or judges: start it anew"
            )
        content = hashlib.blake2b(digest_size=16)
        root = self.folder if self.folder.is_dir() else self.folder.parent
        for name, size, changed in self.stamps:
            # one file's name says nothing: model.gguf may be called anything
            label = name if self.folder.is_dir() else ""
            content.update(_framed(label.encode()) + digest_file(str(root / name), size, changed))
        return content.hexdigest()


def _folder(name: str, revision: str | None, cache: str | None) -> Path | None:
    path = Path(name)
    if path.exists():
        return path
    try:
        from huggingface_hub import try_to_load_from_cache
        from huggingface_hub.errors import HFValidationError
    except ImportError:
        return None
    for file in ("config.json", "adapter_config.json", "params.json"):
        try:
            found = try_to_load_from_cache(name, file, cache_dir=cache, revision=revision)
        except (HFValidationError, ValueError):  # an address, or something else that is no id
            return None
        if isinstance(found, str):
            return Path(found).parent
    return None


def _stamps(folder: Path) -> Iterator[_Stamp]:
    """Lists the files that make the model, by name."""
    if folder.is_file():
        about = folder.stat()
        yield folder.name, about.st_size, about.st_mtime_ns
        return
    inner = [one for one in folder.iterdir() if one.is_dir() and _is_numbered(one.name)]
    for path in sorted(one for place in (folder, *inner) for one in place.iterdir()):
        if path.is_file() and _is_of_the_model(path):
            about = path.stat()
            yield path.relative_to(folder).as_posix(), about.st_size, about.st_mtime_ns


def _is_numbered(name: str) -> bool:
    number, _, rest = name.partition("_")
    return number.isdigit() and bool(rest)


def _is_of_the_model(path: Path) -> bool:
    name = path.name.lower()
    return not (
        name.startswith((".", "events.out", "rng_state"))
        or name in _NOT_THE_MODEL
        or path.stem.lower() in ("readme", "license", "notice")
        or path.suffix.lower() in _NOT_THE_MODEL_SUFFIXES
    )


@functools.lru_cache(maxsize=4096)
def digest_file(path: str, size: int, changed: int) -> bytes:
    """Returns the digest of one file; `changed` is part of the cache's key."""
    with open(path, "rb") as file:
        if size <= WHOLE_BYTES:
            return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).digest()
        content = hashlib.blake2b(struct.pack("<q", size), digest_size=16)
        for start, length in _samples(file, size, is_safetensors=path.endswith(".safetensors")):
            file.seek(start)
            content.update(file.read(length))
        return content.digest()


def _samples(file: BinaryIO, size: int, *, is_safetensors: bool) -> Iterator[tuple[int, int]]:
    """The parts of a large file that are read: starts and lengths, bytes."""
    if not is_safetensors:
        yield from _blocks(0, size, _BLOCKS_OF_A_FILE)
        return
    (length,) = struct.unpack("<Q", file.read(8))
    header = json.loads(file.read(length))
    yield 0, 8 + length
    for name, tensor in header.items():
        if name != "__metadata__":
            begin, end = tensor["data_offsets"]
            yield from _blocks(8 + length + begin, end - begin, _BLOCKS_OF_A_TENSOR)


def _blocks(start: int, length: int, count: int) -> Iterator[tuple[int, int]]:
    """Blocks spread evenly from the first byte to the last; the whole part if it is smaller."""
    if length <= count * _BLOCK_BYTES:
        yield start, length
        return
    for i in range(count):
        yield start + i * (length - _BLOCK_BYTES) // (count - 1), _BLOCK_BYTES


def _framed(data: bytes) -> bytes:
    return struct.pack("<q", len(data)) + data
