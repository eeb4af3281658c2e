"""The output of `rsalign generate`: continued where it stopped, never a record twice."""

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
"""Arguments of an engine that divide work and memory, and leave what the model says as it is."""


class Records:
    """An append-only file of JSON lines, one for each prompt.

    A line that a kill cut short is dropped on opening, and its prompt is answered again. One
    process at a time writes a file (`AppendOnlyFile`).

    Args:
        path: the file; ``-`` is standard output, which cannot be continued.
        run_ids: what makes each record, by index (`run_id`); a file that holds records of another
            run is refused.

    Attributes:
        missing: indices without a record, in order.

    Raises:
        ConfigError: if the file holds records of another run, or something else, or another
            process writes it.
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
        """Where draws are on record while this file is not complete."""
        return None if self._file is None else Path(f"{self.path}.journal")

    def write(self, index: int, record: Mapping[str, Any]) -> None:
        """Appends a record; it is safe from a kill when this returns."""
        content = {**record, "run": self._run_ids[index]}
        if self._file is None:
            encoding = sys.stdout.encoding or "utf-8"
            sys.stdout.write(_line(content, encoding).decode(encoding) + "\n")
            sys.stdout.flush()
        else:
            self._file.append(_line(content, "utf-8"))

    def finish(self, *, keep_journal: bool) -> None:
        """Removes the journal of a complete file, unless its owner wants it for longer runs."""
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
    """What tells a model that is named from others, before it is started.

    A folder is told by its content, wherever it lies; an id, an address or a function by its name.

    Args:
        name: as on the command line.
        arguments: of its engine. All but those that only say how it is run count.
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
    """A short hash of all that makes an answer: settings, seed, models and the prompt."""
    content = json.dumps([shared, prompt], sort_keys=True, default=str)
    return hashlib.blake2b(content.encode(), digest_size=8).hexdigest()


def _line(content: Mapping[str, Any], encoding: str) -> bytes:
    """A record as one line; what the encoding does not have is escaped, as JSON can."""
    try:
        return json.dumps(content, ensure_ascii=False).encode(encoding)
    except UnicodeEncodeError:
        return json.dumps(content).encode(encoding)
