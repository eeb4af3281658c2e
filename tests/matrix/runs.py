"""Runs test files on a release, and says how it went."""

import os
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from matrix.releases import ROOT


@dataclass(frozen=True, slots=True)
class Outcome:
    """One cell of the table.

    Attributes:
        text: what the table says.
        failures: what failed, a line each.
    """

    text: str
    failures: tuple[str, ...] = ()

    @classmethod
    def of_check(cls, unknown: Iterable[str]) -> "Outcome":
        """The outcome of a static check, by what it found."""
        found = tuple(unknown)
        return cls(f"**{len(found)} differences**" if found else "all there", found)


def run_tests(tests: Iterable[str], environment: Path, scratch: Path) -> Outcome:
    """Runs test files with the packages of an environment before the installed ones.

    Args:
        tests: files and folders, relative to the repository.
        environment: the folder of a release.
        scratch: an empty folder.
    """
    report = scratch / "report.xml"
    ran = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "--no-header", "-p", "no:cacheprovider"),
            f"--junitxml={report}",
            *tests,
        ],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": f"{ROOT}:{environment}"},
        capture_output=True,
        text=True,
    )
    if not report.exists():
        return Outcome("**did not run**", (ran.stdout[-2000:] + ran.stderr[-2000:],))
    return read_report(ElementTree.parse(report).getroot())


def read_report(report: ElementTree.Element) -> Outcome:
    """Returns the outcome that pytest's report in JUnit's format tells of."""
    cases = list(report.iter("testcase"))
    failures = []
    for case in cases:
        wrong = case.find("failure")
        wrong = case.find("error") if wrong is None else wrong
        if wrong is not None:
            name = f"{case.get('classname')}::{case.get('name')}"
            failures.append(f"{name}: {(wrong.get('message') or '')[:300]}")
    skipped = sum(1 for case in cases if case.find("skipped") is not None)
    if failures:
        return Outcome(f"**{len(failures)} of {len(cases)} failed**", tuple(failures))
    if len(cases) == skipped:
        return Outcome("**nothing ran**", ("all tests were skipped, or there were none",))
    passed = f"{len(cases) - skipped} passed"
    return Outcome(f"{passed}, {skipped} skipped" if skipped else passed)
