"""`python -m eval.bench guided` prints what it says."""

import pytest

from eval.bench.__main__ import main

pytestmark = pytest.mark.engine


def test_a_line_for_each_number_of_requests(policy, capsys):
    assert main(["guided", "--requests", "1", "3", "--repeats", "1"]) == 0
    *_, names, one, three = capsys.readouterr().out.splitlines()
    assert names.endswith("read / drawn")
    for line, requests in ((one, 1), (three, 3)):
        count, own, reading, both, ratio, read = (
            float(figure.replace(",", "")) for figure in line.split()
        )
        assert count == requests
        assert min(own, reading, both, ratio) > 0
        assert read == 1  # the guide reads each token once, late in a response too
