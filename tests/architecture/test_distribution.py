"""What a wheel has: all that its programs import, and nothing of benchmarks or training."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from setuptools import find_packages
from setuptools.config.setupcfg import read_configuration

import rsalign
from rsalign.cli import sweeps

ROOT = Path(rsalign.__file__).parents[1]
sys.path.insert(0, str(ROOT))
import setup as build  # noqa: E402

METADATA = read_configuration(ROOT / "setup.cfg")
PACKAGES = METADATA["options"]["packages"]
INSTALLED = [
    *(path for name in PACKAGES for path in (ROOT / name.replace(".", "/")).glob("*.py")),
    *(ROOT / path for path in build.sweep_files() if path.suffix == ".py"),
]
OPTIONAL = {"rsalign.bench": "rsalign/cli/bench.py"}
"""What is imported though no wheel has it, and the only file that may: it says so first."""


def module_of(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(path):
    """Modules of ours that a file imports, and the names from them, which may be modules."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        yield from (name for name in names if name.split(".")[0] in ("rsalign", "eval"))


def exists(name):
    path = ROOT / name.replace(".", "/")
    return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


def missing(files):
    there = {module_of(path) for path in files}
    for path in files:
        for name in imported(path):
            allowed = any(
                name.startswith(optional) and path == ROOT / user
                for optional, user in OPTIONAL.items()
            )
            if exists(name) and name not in there and not allowed:
                yield f"{path.relative_to(ROOT)} imports {name}"


def test_a_wheel_has_all_packages_but_benchmarks_and_training():
    there_are = find_packages(str(ROOT), include=["rsalign", "rsalign.*"])
    assert set(there_are) - set(PACKAGES) == {"rsalign.bench"}
    assert not [name for name in PACKAGES if "training" in name]


def test_a_wheel_has_all_that_its_files_import():
    assert not list(missing(INSTALLED))
    without = [path for path in INSTALLED if path.name != "registry.py"]
    assert list(missing(without)), "the check finds a file that is left out"


def test_a_wheel_has_all_that_its_settings_name():
    there = {module_of(path) for path in INSTALLED}
    named = {
        target.rpartition(".")[0]
        for path in build.sweep_files()
        if path.suffix == ".yaml"
        for target in re.findall(r"_target_: ((?:rsalign|eval)\.[\w.]+)", (ROOT / path).read_text())
    }
    assert "eval.engines" in named
    # a class method, such as VllmPolicy.start, is named with its class
    assert not {
        name for name in named if name not in there and name.rpartition(".")[0] not in there
    }


def test_the_programs_are_found_in_a_wheel_and_in_a_checkout(tmp_path):
    assert sweeps.find_programs() == ROOT
    package = tmp_path / "rsalign"
    with pytest.raises(rsalign.InstallError, match="has no sweeps"):
        sweeps.find_programs(package)
    for path in ("eval/run.py", "conf/config.yaml"):
        (package / "_sweeps" / path).parent.mkdir(parents=True)
        (package / "_sweeps" / path).touch()
    assert sweeps.find_programs(package) == package / "_sweeps"


def test_the_command_line_hands_over_to_the_programs(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "rsalign.cli.main", "report", str(tmp_path / "none")],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 2
    assert "rsalign report:" in done.stderr
    assert "is no folder" in done.stderr


def test_what_is_published_names_one_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == rsalign.__version__
    assert citation["license"] == METADATA["metadata"]["license"]
