"""Checks what rsalign takes of vLLM against a release's sources, by mypy, without importing them.

mypy reads every module, name, parameter, attribute and overridden method of vLLM that rsalign uses
with a type. What it says of a release and not of the pinned one, on which all tests run, is a
difference between the two that rsalign does not know of. The constants of
`rsalign.engines.vllm.release` are set as in that release, so that only its own branches are read.
"""

import re
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Sequence
from pathlib import Path

from matrix.releases import ROOT, is_off, numbers

_OURS = ("rsalign", "eval/bench")
_BESIDE = ("annotated_types", "fastapi", "msgspec", "pydantic", "pydantic_core", "starlette")
"""Packages that give vLLM's classes their constructors. No other is read: where the installed
packages can be found, mypy takes a module that a release lacks from the installed vLLM."""
_CONFIGURATION = f"""\
[mypy]
no_site_packages = True
ignore_missing_imports = True
[mypy-{",".join(f"{name}.*" for name in _BESIDE)}]
follow_imports = silent
[mypy-vllm.*]
follow_imports = silent
ignore_missing_imports = False
"""


def complaints(sources: Path, release: str, ours: Sequence[str] = _OURS) -> set[str]:
    """Returns what mypy says of rsalign with a release of vLLM, without line numbers.

    Args:
        sources: the folder that holds the release's ``vllm``.
        release: such as ``"0.33.0"``.
        ours: files and folders of rsalign, relative to the repository.
    """
    with tempfile.TemporaryDirectory() as where:
        beside, configuration = Path(where) / "beside", Path(where) / "mypy.ini"
        beside.mkdir()
        installed = Path(sysconfig.get_path("purelib"))
        for name in (*_BESIDE, "vllm"):
            home = sources if name == "vllm" else installed
            (beside / name).symlink_to(home / name)
        configuration.write_text(_CONFIGURATION)
        found = subprocess.run(
            [
                *(sys.executable, "-m", "mypy", "--config-file", str(configuration)),
                *("--cache-dir", "/dev/null", "--no-error-summary", "--hide-error-context"),
                *_release_options(release),
                *ours,
            ],
            cwd=ROOT,
            env={"MYPYPATH": f"{ROOT}:{beside}"},
            capture_output=True,
            text=True,
        )
    if found.returncode not in (0, 1):
        raise RuntimeError(f"mypy failed: {found.stdout[-2000:]}{found.stderr[-2000:]}")
    lines = re.findall(r"^(\S+?):\d+: error: (.*)$", found.stdout, re.MULTILINE)
    return {
        f"{path}: {text}"
        for path, text in lines
        if path.startswith(tuple(ours)) and not is_off(path, release)
    }


def _release_options(release: str) -> list[str]:
    text = (ROOT / "rsalign" / "engines" / "vllm" / "release.py").read_text()
    names = re.findall(r"^(SINCE_(\d+)_(\d+)) =", text, re.MULTILINE)
    return [
        word
        for name, *since in names
        for word in (
            "--always-true" if numbers(release) >= tuple(map(int, since)) else "--always-false",
            name,
        )
    ]
