"""Journal: every draw and every reward on disk, so that a killed run goes on where it stopped.

A request has an address: who is asked (`rsalign.core.fingerprint`) and all that the
answer depends on.
So its record can be found again: a run that is started anew with the same journal replays what is
there at no cost and pays for the rest only. A longer run (n = 8 after n = 4) pays for the
difference. The result is that of a run that was never interrupted. Another part, or the same under
other settings, has other addresses, and nothing is replayed.
"""

import contextlib
import json
import logging
import threading
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, TypeAlias

from rsalign.core.append_only import AppendOnlyFile
from rsalign.core.checks import check_value, finite_or_none, finite_reward, part, quote
from rsalign.core.errors import ConfigError
from rsalign.core.fingerprint import fingerprint, name_of
from rsalign.core.journal_lines import address, plain, plain_number, read_of, scored_of, segment_of
from rsalign.core.key import Key
from rsalign.core.protocols import (
    Boundary,
    Likelihood,
    Measuring,
    PairwiseReward,
    Policy,
    Ranked,
    Reward,
    StepReward,
    require_likelihood,
    require_measuring,
)
from rsalign.core.types import Prompt, Response, Segment, Tokens
from rsalign.core.wrapper import Wrapper

logger = logging.getLogger(__name__)

_FORMAT = "rsalign journal 3"
_REMEMBERED = 64
"""Parts whose fingerprints are remembered, to say when one has changed."""

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
    its request is made again. One process at a time writes a journal (`AppendOnlyFile`).

    Args:
        path: the file; made if it is not there.
        also: files of other journals. What is on record there is found, too; they are read once,
            never written, and other processes may be writing them meanwhile.

    Raises:
        ConfigError: if a file is something else, or `path` is in use by another process.
    """

    def __init__(self, path: str | Path, *, also: Iterable[Path] = ()) -> None:
        self.path = Path(check_value("Journal", "path", path, str | Path, part("a file's path")))
        self._lines: dict[str, bytes] = {}  # read when they are asked for: few are, of many
        self._replayed = self._recorded = 0
        self._held: dict[int, _Held] = {}
        self._last: OrderedDict[int, tuple[object, str]] = OrderedDict()
        self._lock = threading.Lock()  # runs may begin and end on several threads
        self._file = AppendOnlyFile(self.path, "the journal")
        try:
            for other in also:
                whole, _, _ = other.read_bytes().rpartition(b"\n")
                self._add(whole.split(b"\n"), other)
            lines = [line for line in self._file.lines() if line]
            if not lines:
                self._file.append(json.dumps(_FORMAT).encode())
            self._add(lines, self.path)
        except BaseException:
            self._file.close()
            raise

    def fingerprint_of(self, part: object) -> str:
        """The fingerprint under which a part's answers are on record.

        Raises:
            ConfigError: if it has none (`rsalign.core.fingerprint`).
        """
        held = self._held.get(id(part))
        if held is not None:
            return held.fingerprint
        word = fingerprint(part)
        with self._lock:
            _, before = self._last.pop(id(part), (part, word))
            self._last[id(part)] = (part, word)
            if len(self._last) > _REMEMBERED:
                self._last.popitem(last=False)
        if word != before:
            logger.warning(
                "%s is not what it was when this journal first knew it: nothing that it said then "
                "is replayed. If only what it counts or caches has changed, give it a fingerprint "
                "(see rsalign.core.fingerprint)",
                name_of(part),
            )
        return word

    @contextlib.asynccontextmanager
    async def hold_fingerprints(self, *parts: object) -> AsyncIterator[None]:
        """While this is open, a part counts as what it is now.

        So a reward that counts its calls, or caches, is one reward for all of a run, and one whose
        settings were changed is another in the next run.

        Raises:
            ConfigError: if a part has no fingerprint; before anything is drawn.
        """
        words = [(part, self.fingerprint_of(part)) for part in parts if part is not None]
        with self._lock:
            for part, word in words:
                self._held.setdefault(id(part), _Held(part, word)).runs += 1
        try:
            yield
        finally:
            with self._lock:
                for part, _ in words:
                    held = self._held[id(part)]
                    held.runs -= 1
                    if not held.runs:
                        del self._held[id(part)]

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
        line = json.dumps([request, answer], default=plain_number).encode()
        self._file.append(line)
        self._lines[request] = line
        self._recorded += 1

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

    def _add(self, lines: list[bytes], path: Path) -> None:
        if lines and lines[0] != json.dumps(_FORMAT).encode():
            if lines[0].startswith(b'"rsalign journal '):
                raise ConfigError(
                    f"the journal {path} is of another version of rsalign (it is "
                    f"{lines[0].decode()}, and this version writes {_FORMAT!r}), by whose records "
                    "it cannot be told who said what: choose another path, or go on with the "
                    "version that began it"
                )
            raise ConfigError(f"{path} is not a journal: choose another path")
        for number, line in enumerate(lines[1:], 2):
            begin, *rest = line.split(b'"', 2)
            if begin != b"[" or len(rest) != 2 or not line.endswith(b"]"):
                raise ConfigError(
                    f"the journal {path} is damaged: line {number} is {quote(line)}, which is no "
                    "record; remove that line, or choose another path"
                )
            self._lines[rest[0].decode()] = line


@dataclass(slots=True)
class _Held:
    """A part in runs that are open, and its fingerprint when the first of them began."""

    part: object  # kept, so that its address is its own
    fingerprint: str
    runs: int = 0


@dataclass(frozen=True, slots=True)
class JournaledPolicy(Wrapper):
    """A policy whose draws are on record.

    Attributes:
        inner: draws what is not on record.
        journal: the record.
        on_replay: called for each draw that is on record.

    Raises:
        ConfigError: if the policy has no fingerprint.
    """

    inner: Policy
    journal: Journal
    on_replay: OnReplay | None = None
    _who: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_who", self.journal.fingerprint_of(self.inner))

    async def extend(
        self, prefix: Tokens, *, max_new_tokens: int, key: Key, boundary: Boundary | None = None
    ) -> Segment:
        """From the record, or as the inner policy draws."""
        draw = self.inner.extend
        return await self._draw("extend", draw, prefix, max_new_tokens, key, boundary)

    def text(self, tokens: Tokens) -> str:
        """As the inner policy."""
        return self.inner.text(tokens)

    async def _draw(
        self,
        verb: str,
        draw: Callable[..., Any],
        prefix: Tokens,
        max_new_tokens: int,
        key: Key,
        boundary: Boundary | None,
    ) -> Segment:
        rule = None if boundary is None else fingerprint(boundary)
        request = address(verb, self._who, prefix, max_new_tokens, key.root, key.path, rule)
        if (found := self.journal.find(request)) is not None:
            if self.on_replay is not None:
                self.on_replay()
            return segment_of(found)
        segment: Segment = await draw(
            prefix, max_new_tokens=max_new_tokens, key=key, boundary=boundary
        )
        self.journal.record(request, plain(segment))
        return segment


@JournaledPolicy.implements(Measuring)
async def measure(
    self: JournaledPolicy,
    prefix: Tokens,
    *,
    max_new_tokens: int,
    key: Key,
    boundary: Boundary | None = None,
) -> Segment:
    """From the record, or as the inner policy draws."""
    draw = require_measuring(self.inner).measure
    return await self._draw("measure", draw, prefix, max_new_tokens, key, boundary)


@JournaledPolicy.implements(Likelihood)
async def log_probs(self: JournaledPolicy, prefix: Tokens, tokens: Tokens) -> tuple[float, ...]:
    """From the record, or as the inner policy tells."""
    request = address("log_probs", self._who, prefix, tokens)
    if (found := self.journal.find(request)) is not None:
        return tuple(value if rank is None else Ranked(value, rank=rank) for value, rank in found)
    values = await require_likelihood(self.inner).log_probs(prefix, tokens)
    self.journal.record(request, [[value, getattr(value, "rank", None)] for value in values])
    return values


@dataclass(frozen=True, slots=True)
class JournaledReward(Wrapper):
    """A reward whose values are on record.

    Attributes:
        inner: judges what is not on record.
        journal: the record.

    Raises:
        ConfigError: if the reward has no fingerprint.
    """

    inner: Reward
    journal: Journal
    _who: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_who", self.journal.fingerprint_of(self.inner))

    async def score(self, prompt: Prompt, response: Response) -> float:
        """From the record, or as the inner reward scores."""
        request = address("score", self._who, prompt, read_of(response))
        if (found := self.journal.find(request)) is not None:
            return scored_of(found)
        value = finite_reward(
            await self.inner.score(prompt, response), self.inner, prompt, response
        )
        self._keep(request, [value])
        return value

    def _keep(self, request: str, values: Iterable[object], *, several: bool = False) -> None:
        """Records values, unless one is no finite number, which whoever asked refuses."""
        rows = []
        for value in values:
            found = finite_or_none(value)
            if found is None:
                return
            cost = getattr(found, "tokens", 0), getattr(found, "cached_tokens", 0)
            rows.append([float(found), *cost])
        self.journal.record(request, rows if several else rows[0])


@JournaledReward.implements(StepReward)
async def score_steps(
    self: JournaledReward, prompt: Prompt, response: Response, ends: tuple[int, ...]
) -> tuple[float, ...]:
    """From the record, or as the inner reward scores."""
    request = address("score_steps", self._who, prompt, read_of(response), ends)
    if (found := self.journal.find(request)) is not None:
        return tuple(map(scored_of, found))
    inner: StepReward = self.wrapped
    values = tuple(await inner.score_steps(prompt, response, ends))
    self._keep(request, values, several=True)
    return values


@JournaledReward.implements(PairwiseReward)
async def prefer(self: JournaledReward, prompt: Prompt, one: Response, other: Response) -> float:
    """From the record, or as the inner reward prefers."""
    request = address("prefer", self._who, prompt, read_of(one), read_of(other))
    if (found := self.journal.find(request)) is not None:
        return scored_of(found)
    inner: PairwiseReward = self.wrapped
    value = await inner.prefer(prompt, one, other)
    self._keep(request, [value])
    return value
