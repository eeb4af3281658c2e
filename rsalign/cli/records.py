"""The output file of `rsalign generate`, which a later run of the same command continues."""

import hashlib
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from rsalign.core.append_only import AppendOnlyFile
from rsalign.core.errors import ConfigError
from rsalign.engines.model_files import ModelFiles
from rsalign.words.messages import guess

_HOW_IT_IS_RUN = frozenset(
    {
        "backend",
        "block_size",
        "cpu_offload_gb",
        "data_parallel_size",
        "disable_log_stats",
        "download_dir",
        "enable_chunked_prefill",
        "enable_prefix_caching",
        "enforce_eager",
        "gpu_memory_utilization",
        "kv_cache_memory_bytes",
        "max_num_batched_tokens",
        "max_num_seqs",
        "pipeline_parallel_size",
        "tensor_parallel_size",
    }
)
"""Engine arguments that affect speed and memory, but not the model's distribution."""


class Records:
    """An append-only file of JSON lines, one for each prompt.

    On opening a file, an incomplete last line (of a killed process) is removed, and its prompt is
    processed again. Only one process at a time can write a file (`AppendOnlyFile`).

    Args:
        path: the file; ``-`` is standard output, which cannot be continued.
        run_ids: for each prompt, the hash of everything its record depends on (`run_id`).

    Attributes:
        missing: indices of the prompts without a record, in order.

    Raises:
        ConfigError: if the file contains records with other hashes or anything else, or another
            process is writing it.

    Example:
        >>> with Records("-", [run_id({"seed": 0}, {"prompt": "Hello"})]) as records:
        ...     records.missing
        [0]
    """

    def __init__(self, path: str, run_ids: Sequence[str]) -> None:
        self.path = path
        self._run_ids = run_ids
        self._file: AppendOnlyFile | None = None
        done: set[int] = set()
        if path != "-":
            self._file = AppendOnlyFile(path, "the output", instead="choose another --output")
            try:
                done = self._written(self._file.lines())
            except ConfigError:
                self._file.close()
                raise
        self.missing = [index for index in range(len(run_ids)) if index not in done]

    @property
    def journal_path(self) -> Path | None:
        """Path of the journal kept until this file is complete; None for standard output."""
        return None if self._file is None else Path(f"{self.path}.journal")

    def write(self, index: int, record: Mapping[str, Any]) -> None:
        """Appends a record; once this returns, killing the process does not lose it."""
        content = {**record, "run": self._run_ids[index]}
        if self._file is None:
            encoding = sys.stdout.encoding or "utf-8"
            sys.stdout.write(_line(content, encoding).decode(encoding) + "\n")
            sys.stdout.flush()
        else:
            self._file.append(_line(content, "utf-8"))

    def finish(self, *, keep_journal: bool) -> None:
        """Removes the journal of a complete file, unless `keep_journal`."""
        if self.journal_path is not None and not keep_journal:
            self.journal_path.unlink(missing_ok=True)

    def __enter__(self) -> "Records":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._file is not None:
            self._file.close()

    def _written(self, whole: list[bytes]) -> set[int]:
        done = set()
        for line in whole:
            try:
                record = json.loads(line)
                index, run = record["index"], record["run"]
                if not isinstance(index, int) or index < 0:
                    raise TypeError(f"no index: {index!r}")
            except (ValueError, KeyError, TypeError):
                raise ConfigError(
                    f"{self.path} holds something else than records of rsalign generate: choose "
                    "another output"
                ) from None
            if index >= len(self._run_ids) or run != self._run_ids[index]:
                raise ConfigError(
                    f"{self.path} holds records of another run (record {index}): use the same "
                    "prompts and settings to continue it, or choose another output"
                )
            done.add(index)
        return done


def model_id(name: str, arguments: Mapping[str, Any]) -> str:
    """Identifies a model that has not been started, for `run_id`.

    A folder is identified by its content, an id, an address or a function by its name.

    Args:
        name: the model as given on the command line.
        arguments: its engine's arguments; those that affect only speed and memory are ignored.
    """
    counted = {key: value for key, value in arguments.items() if key not in _HOW_IT_IS_RUN}
    if name.lstrip()[:1] == "{":  # settings of a reward, as JSON
        told = _told(guess(name))
    else:
        told = ModelFiles.of(name).digest() if os.path.exists(name) else name
    return " ".join([told, *(f"{key}={_told(counted[key])}" for key in sorted(counted))])


def _told(value: Any) -> str:
    """A setting as text; a folder, such as the model of a reward's part, by its content."""
    if isinstance(value, Mapping):
        return str({key: _told(value[key]) for key in sorted(value)})
    if isinstance(value, list | tuple):
        return str([_told(each) for each in value])
    if isinstance(value, str) and os.path.isdir(value):
        return ModelFiles.of(value).digest()
    return repr(value)


def run_id(shared: Mapping[str, Any], prompt: Mapping[str, Any]) -> str:
    """A short hash of everything that a record depends on: settings, seed, models, prompt."""
    content = json.dumps([shared, prompt], sort_keys=True, default=str)
    return hashlib.blake2b(content.encode(), digest_size=8).hexdigest()


def _line(content: Mapping[str, Any], encoding: str) -> bytes:
    """Encodes a record as one line; characters outside the encoding are escaped."""
    try:
        return json.dumps(content, ensure_ascii=False).encode(encoding)
    except UnicodeEncodeError:
        return json.dumps(content).encode(encoding)
