"""Puts the sweeps into the wheel: everything else of the build is declared in `setup.cfg`.

In a checkout, ``eval/`` (the programs) and ``conf/`` (their settings) lie beside the package. Names
so general cannot be installed as packages of their own, so a wheel has both, unchanged, in
``rsalign/_sweeps/``, from where `rsalign sweep` and `rsalign report` run them.
"""

from collections.abc import Iterator
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
SWEEPS = "rsalign/_sweeps"
LEFT_OUT = ("eval/bench/*", "eval/real/*", "*/sentiment_training.py", "*.pyc")
"""Benchmarks, and what trains models: they are run from a checkout."""
KEPT = (Path("eval/real/__init__.py"), Path("eval/real/cache.py"))
"""Settings read from there where the real models are."""


def sweep_files() -> Iterator[Path]:
    """Yields the files of ``eval/`` and ``conf/`` that are installed, relative to the root."""
    for folder in ("eval", "conf"):
        for path in sorted((ROOT / folder).rglob("*")):
            relative = path.relative_to(ROOT)
            is_left_out = any(relative.match(pattern) for pattern in LEFT_OUT)
            if path.is_file() and (relative in KEPT or not is_left_out):
                yield relative


class BuildWithSweeps(build_py):
    """Builds the package, and copies the sweeps into it unless the install is editable."""

    def run(self) -> None:
        """Builds the package, then copies the sweeps."""
        super().run()
        for built, source in self._sweeps().items():
            self.mkpath(str(Path(built).parent))
            self.copy_file(source, built, preserve_mode=False)

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        """Lists what was built."""
        return [*super().get_outputs(include_bytecode), *self._sweeps()]

    def get_output_mapping(self) -> dict[str, str]:
        """Maps what was built to its sources."""
        return {**super().get_output_mapping(), **self._sweeps()}

    def _sweeps(self) -> dict[str, str]:
        if self.editable_mode:
            return {}
        built = Path(self.build_lib) / SWEEPS
        return {str(built / path): str(ROOT / path) for path in sweep_files()}


if __name__ == "__main__":
    setup(cmdclass={"build_py": BuildWithSweeps})
