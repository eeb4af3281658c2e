"""Journal: every draw and every reward on disk, so that a killed run goes on where it stopped.

A draw has an address, so its record can be found again: a run that is started anew with the same
journal replays what is there at no cost and pays for the rest only. A longer run (n = 8 after
n = 4) pays for the difference. The result is that of a run that was never interrupted.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, TypeAlias

from rsalign.detokenization import Detokenizer
from rsalign.errors import ConfigError
from rsalign.key import Key
from rsalign.protocols import (
    Boundary,
    Likelihood,
    Policy,
    Reward,
    Scored,
    headroom,
    measuring,
    sampling,
)
from rsalign.response_text import detokenizer, token_text
from rsalign.types import Certainty, Prompt, Response, Sampling, Segment, Stop, Tokens

_FORMAT = "rsalign journal 2"

OnReplay: TypeAlias = Callable[[], None]


@dataclass(frozen=True, slots=True)
class JournalStatistics:
    """What a journal was good for.

    Attributes:
        replayed: requests that were answered from it.
        recorded: requests that were paid for and are on record now.
    """

    replayed: int
    recorded: int


class Journal:
    """An append-only file of requests and their answers.

    A record is one line, written at once; a line that a kill cut short is dropped on opening, and
    its request is made again. One process at a time writes a journal.

    Args:
        path: the file; made if it is not there.
        also: files of other journals. What is on record there is found, too; they are read once,
            never written, and other processes may be writing them meanwhile.

    Raises:
        ConfigError: if a file is something else, or `path` is in use by another process.
    """

    def __init__(self, path: str | Path, *, also: Iterable[Path] = ()) -> None:
        self.path = Path(path)
        self._lines: dict[str, bytes] = {}  # read when they are asked for: few are, of many
        self._replayed = self._recorded = 0
        try:
            self._file = self.path.open("a+b", buffering=0)
        except OSError as error:
            raise ConfigError(f"cannot open the journal {path}: {error}") from error
        _lock(self._file, self.path)
        try:
            for other in also:
                self._add(_whole_lines(other.read_bytes(), other))
            self._load()
        except ConfigError:
            self._file.close()
            raise

    def find(self, request: str) -> Any | None:
        """The answer on record, or None."""
        line = self._lines.get(request)
        if line is None:
            return None
        self._replayed += 1
        _, answer = json.loads(line)
        return answer

    def record(self, request: str, answer: Any) -> None:
        """Writes an answer; it is safe from a kill when this returns."""
        line = json.dumps([request, answer]).encode()
        self._lines[request] = line
        self._recorded += 1
        line += b"\n"
        if self._file.write(line) != len(line):  # the next one must not be joined to it
            raise OSError(f"{self.path}: only a part of a draw could be written; is there room?")

    def statistics(self) -> JournalStatistics:
        """What it was good for since it was opened."""
        return JournalStatistics(self._replayed, self._recorded)

    def close(self) -> None:
        """Closes the file. Idempotent."""
        self._file.close()

    def __enter__(self) -> "Journal":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _load(self) -> None:
        self._file.seek(0)
        data = self._file.read()
        whole = _whole_lines(data, self.path)
        self._file.truncate(data.rfind(b"\n") + 1)
        if not whole:
            self._file.write(json.dumps(_FORMAT).encode() + b"\n")
        self._add(whole)

    def _add(self, lines: list[bytes]) -> None:
        self._lines |= {line.split(b'"', 2)[1].decode(): line for line in lines[1:]}


@dataclass(frozen=True, slots=True)
class JournaledPolicy:
    """A policy whose draws are on record; what its inner policy can do, it can do.

    Attributes:
        inner: draws what is not on record.
        journal: the record.
        on_replay: called for each draw that is on record.
    """

    inner: Policy
    journal: Journal
    on_replay: OnReplay | None = None

    def _drawn(self, request: str) -> Any | None:
        found = self.journal.find(request)
        if found is not None and self.on_replay is not None:
            self.on_replay()
        return found

    async def extend(
        self, prefix: Tokens, *, max_new_tokens: int, key: Key, boundary: Boundary | None = None
    ) -> Segment:
        """From the record, or as the inner policy draws."""
        request = _address(
            "extend", fingerprint(self.inner), prefix, max_new_tokens, key.root, key.path, boundary
        )
        if (found := self._drawn(request)) is not None:
            return _segment(found)
        segment = await self.inner.extend(
            prefix, max_new_tokens=max_new_tokens, key=key, boundary=boundary
        )
        self.journal.record(request, _plain(segment))
        return segment

    async def measure(
        self, prefix: Tokens, *, max_new_tokens: int, key: Key, boundary: Boundary | None = None
    ) -> Segment:
        """From the record, or as the inner policy draws.

        Raises:
            ConfigError: if it cannot tell its certainty.
        """
        request = _address(
            "measure", fingerprint(self.inner), prefix, max_new_tokens, key.root, key.path, boundary
        )
        if (found := self._drawn(request)) is not None:
            *drawn, entropies, self_certainties = found
            certainty = Certainty(tuple(entropies), tuple(self_certainties))
            return replace(_segment(drawn), certainty=certainty)
        segment = await measuring(self.inner).measure(
            prefix, max_new_tokens=max_new_tokens, key=key, boundary=boundary
        )
        certainty = segment.certainty or Certainty()
        self.journal.record(
            request, [*_plain(segment), certainty.entropies, certainty.self_certainties]
        )
        return segment

    async def log_probs(self, prefix: Tokens, tokens: Tokens) -> tuple[float, ...]:
        """From the record, or as the inner policy tells.

        Raises:
            ConfigError: if it cannot tell.
        """
        if not isinstance(self.inner, Likelihood):
            raise ConfigError(f"{type(self.inner).__name__} cannot tell log-probabilities")
        request = _address("log_probs", fingerprint(self.inner), prefix, tokens)
        if (found := self.journal.find(request)) is not None:
            return tuple(found)
        log_probs = await self.inner.log_probs(prefix, tokens)
        self.journal.record(request, log_probs)
        return log_probs

    @property
    def headroom(self) -> float:
        """As the inner policy."""
        return headroom(self.inner)

    @property
    def sampling(self) -> Sampling:
        """As the inner policy."""
        return sampling(self.inner)

    def text(self, tokens: Tokens) -> str:
        """As the inner policy."""
        return self.inner.text(tokens)

    def detokenizer(self, prompt: Tokens) -> Detokenizer:
        """As the inner policy."""
        return detokenizer(self.inner, prompt)

    def token_text(self, token: int) -> str:
        """As the inner policy."""
        return token_text(self.inner, token)


@dataclass(frozen=True, slots=True)
class JournaledReward:
    """A reward whose values are on record."""

    inner: Reward
    journal: Journal

    async def score(self, prompt: Prompt, response: Response) -> float:
        """From the record, or as the inner reward scores."""
        request = _address(
            "score",
            fingerprint(self.inner),
            [message.canonical for message in prompt.messages],
            response.text,
            response.tokens,
            response.stop,
        )
        if (found := self.journal.find(request)) is not None:
            value, tokens, cached = found
            return Scored(value, tokens=tokens, cached_tokens=cached)
        value = await self.inner.score(prompt, response)
        tokens, cached = getattr(value, "tokens", 0), getattr(value, "cached_tokens", 0)
        if isinstance(value, float | int):  # anything else is refused by whoever asked
            self.journal.record(request, [float(value), tokens, cached])
        return value


def fingerprint(part: Any) -> str:
    """What tells one policy or reward from another in a journal: its own word, or its kind."""
    return str(getattr(part, "fingerprint", type(part).__qualname__))


def _address(*parts: Any) -> str:
    return hashlib.blake2b(repr(parts).encode(), digest_size=16).hexdigest()


def _plain(segment: Segment) -> list[Any]:
    return [
        segment.tokens,
        segment.log_probs,
        segment.stop,
        segment.stop_reason,
        segment.cached_tokens,
        segment.beyond and _plain(segment.beyond),
    ]


def _segment(found: Any) -> Segment:
    tokens, log_probs, stop, stop_reason, cached_tokens, beyond = found
    return Segment(
        tuple(tokens),
        None if log_probs is None else tuple(log_probs),
        Stop(stop),
        stop_reason,
        cached_tokens,
        beyond=beyond and _segment(beyond),
    )


def _whole_lines(data: bytes, path: Path) -> list[bytes]:
    """The lines of a journal, its format first, without one that a kill cut short."""
    *whole, _ = data.split(b"\n")
    if whole and whole[0] != json.dumps(_FORMAT).encode():
        raise ConfigError(f"{path} is not a journal of this version: choose another path")
    return whole


def _lock(file: Any, path: Path) -> None:
    """One writer at a time; the lock goes with the process, however it ends."""
    if os.name != "posix":
        return
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise ConfigError(
            f"the journal {path} is in use by another process: wait for it, or choose another path"
        ) from None
