"""`make matrix`: tries rsalign with each release of vLLM, and writes the table of docs/versions.md.

    python -m matrix                     all releases
    python -m matrix 0.30.0 0.33.0       some; the other rows stay as they are

Returns 1 if anything failed.
"""

import sys
import sysconfig
import tempfile
from pathlib import Path

from matrix.environments import fetch_sources, make_environment
from matrix.releases import CPU_RELEASES, OTHER_RELEASES, PARTS, pinned_release
from matrix.runs import Outcome, run_tests
from matrix.static import complaints
from matrix.table import read_rows, write_rows


def try_release(release: str, baseline: set[str]) -> list[Outcome]:
    """Returns the cells of a release's row: of the static check, and of each part."""
    sources = make_environment(release) if release in CPU_RELEASES else fetch_sources(release)
    unknown = sorted(complaints(sources, release) - baseline)
    cells = [Outcome.of_check(unknown)]
    for part in PARTS:
        if not part.works_with(release):
            cells.append(Outcome(f"off: {part.off}"))
        elif release in CPU_RELEASES:
            with tempfile.TemporaryDirectory() as where:
                cells.append(run_tests(part.tests, sources, Path(where)))
        else:
            cells.append(Outcome("not run: no CPU wheel"))
    return cells


def main(asked: list[str]) -> int:
    """Tries releases and writes their rows; returns 1 if anything failed."""
    installed = Path(sysconfig.get_path("purelib"))
    baseline = complaints(installed, pinned_release())
    rows, failed = read_rows(), False
    for release in asked or (*CPU_RELEASES, *OTHER_RELEASES):
        cells = try_release(release, baseline)
        for cell in cells:
            print(f"{release}  {cell.text}")
            print("".join(f"    {line}\n" for line in cell.failures), end="")
            failed |= bool(cell.failures)
        rows[release] = [cell.text for cell in cells]
        write_rows(rows)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
