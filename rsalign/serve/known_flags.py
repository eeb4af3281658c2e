"""Refuses flags that vLLM does not have, without importing it.

vLLM's own parser can only be made once vLLM is imported, which takes from seconds to more than a
minute. Its flags are the fields of its configuration classes, or are written out in its sources. A
flag whose name occurs nowhere in these files cannot be one; any other is left to the parser.
"""

import difflib
import importlib.util
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from rsalign.core.checks import quote
from rsalign.core.errors import ConfigError

_FOLDERS = ("config", "engine", "entrypoints", "utils")


def check_known(flags: Sequence[str]) -> None:
    """Refuses a flag that vLLM's sources do not mention.

    Args:
        flags: of ``vllm serve``, with their values.

    Raises:
        ConfigError: names the flag and the most similar ones.
    """
    asked = [flag for flag in flags if flag.startswith("--") and len(flag) > len("--")]
    if not asked:
        return
    names = set(_names())
    for flag in asked:
        # --speculative-config.model=x sets a part of --speculative-config; lists end in "+"
        name = re.split(r"[=.+]", flag[2:], maxsplit=1)[0].replace("-", "_")
        # the parser takes the beginning of a flag for the flag
        if not names or any(one.startswith((name, name.removeprefix("no_"))) for one in names):
            continue
        similar = difflib.get_close_matches(name, names, n=2, cutoff=0.75)
        advice = " or ".join(f"--{one.replace('_', '-')}" for one in similar)
        raise ConfigError(
            f"{quote(flag)} is no flag of rsalign serve or of vllm serve"
            + (f": did you mean {advice}?" if advice else ": `vllm serve --help=all` lists them")
        )


def _names() -> Iterator[str]:
    """All names in vLLM's sources that a flag may have; nothing if vLLM is not there."""
    found = importlib.util.find_spec("vllm")
    for folder in (found.submodule_search_locations or []) if found is not None else []:
        for part in _FOLDERS:
            for file in Path(folder, part).rglob("*.py"):
                text = file.read_text(encoding="utf-8")
                yield from re.findall(r"^    (\w+):", text, re.MULTILINE)
                for written in re.findall(r"[\"']--([\w-]+)[\"']", text):
                    yield written.replace("-", "_")
