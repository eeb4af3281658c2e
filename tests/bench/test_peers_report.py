"""`python -m eval.bench peers`: its figures are what happened."""

import ast
import sys
from itertools import count

from eval.bench import peers
from eval.bench.__main__ import main
from eval.bench.peers import Answered, PeerRow


def row(name, against, *runs):
    made = PeerRow(name, against, answer=lambda seed: None)
    made.runs = [Answered(["1", "2"], drawn, seconds) for drawn, seconds in runs]
    made.rewards = [1.0, 3.0]
    return made


def test_ratios_are_those_of_each_repeat_with_the_row_that_does_the_same():
    rows = [
        row("plain", "", (10, 1.0), (10, 1.0)),
        row("best", "", (40, 2.0), (40, 2.0)),
        row("theirs", "best", (60, 6.0), (60, 2.0)),
    ]
    shares = count()
    _, *lines = peers.table(rows, lambda _: next(shares) / 4, num_prompts=2)
    answers, faster, right, reward, tokens, speed, drawing = lines[2].removeprefix("theirs").split()
    # in the first repeat ours took a third of the time, in the second as long: 2 in the middle
    assert (answers, faster, right, reward) == ("0.50", "2.00", "50%", "2.00")
    # 120 tokens in 8 seconds for 4 answers; 20 a second against 10, then against 30
    assert (tokens, speed, drawing) == ("30", "15", "1.33")
    assert lines[0].split()[2] == lines[1].split()[2] == "1.00"


def test_the_client_needs_nothing_of_this_package():
    """It runs where this package is not installed."""
    imported = [
        name.split(".")[0]
        for node in ast.walk(ast.parse(peers.CLIENT.read_text()))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in (
            [one.name for one in node.names] if isinstance(node, ast.Import) else [node.module]
        )
    ]
    assert set(imported) - set(sys.stdlib_module_names) == {"aiohttp", "its_hub"}


def test_an_interpreter_without_its_hub_is_refused_before_an_engine_starts(capsys):
    assert main(["peers", "--its-hub", sys.executable]) == 2
    assert "its_hub" in capsys.readouterr().err


def test_a_number_that_no_beam_divides_is_refused(capsys):
    assert main(["peers", "--n", "6"]) == 2
    assert "multiple of 4" in capsys.readouterr().err
