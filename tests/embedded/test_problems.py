from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rsalign import ConfigError, Key
from rsalign.embedded.problems import OPENERS, extract_answer, problem, problems


@given(st.sampled_from(["train", "tune", "heldout"]), st.integers(0, 10**9), st.integers())
def test_a_solution_is_right_and_its_numbers_are_single_tokens(split, index, seed):
    made = problem(split, index)
    solution = made.solution(Key(seed))
    assert made.grade(solution)
    assert made.num_right_lines(solution) == len(made.equations) + 1
    assert made.answer == made.equations[-1].result
    assert all(1 < e.result <= 60 for e in made.equations)
    assert 3 <= made.num_changes <= 7


def test_splits_share_no_text():
    texts = {
        split: {p.question for p in problems(split, 3000)} for split in ("train", "tune", "heldout")
    }
    assert not texts["train"] & texts["tune"]
    assert not texts["train"] & texts["heldout"]
    assert not texts["tune"] & texts["heldout"]


def test_a_problem_stays_the_same():
    """Published figures rest on these problems; a change is a breaking change."""
    assert problem("heldout", 0).question == (
        "Iris has 27 eggs. Iris finds 12 eggs. Iris buys 4 eggs. Iris opens 3 bags with 2 eggs "
        "each. How many eggs does Iris have?"
    )
    assert problems("heldout", 3, start=1)[0] == problem("heldout", 1)


def test_difficulty_is_balanced():
    assert set(Counter(p.num_changes for p in problems("tune", 50)).values()) == {10}


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("First 1 + 1 = 2\nAnswer: 2", 2),
        ("Answer: 2\n", 2),
        ("Answer: 2 coins", None),
        ("Answer: -2", -2),
        ("Answer: " + "9" * 5000, None),
        ("Answer: \u0662", None),
        ("Answer: 1\nAnswer: 7", 7),
        ("Answer:", None),
        ("", None),
        ("The answer is 2", None),
    ],
)
def test_only_the_end_is_graded(text, answer):
    assert extract_answer(text) == answer


def test_lines_are_counted_up_to_the_first_wrong_one():
    made = problem("heldout", 0)
    lines = made.solution(Key(0)).split("\n")
    assert made.num_right_lines(lines[0]) == 1
    assert made.num_right_lines("\n".join([*lines[:2], "Then 1 + 1 = 3", *lines[3:]])) == 2
    assert made.num_right_lines("\n".join([lines[0], lines[2]])) == 1
    assert made.num_right_lines("\n".join([*lines, "Answer: 0"])) == len(lines)
    assert made.num_right_lines("no line at all") == 0
    assert made.num_right_lines("First " + "9" * 5000 + " + 1 = 2") == 0
    opener, rest = lines[0].split(" ", 1)
    other = next(word for word in OPENERS if word != opener)
    assert made.num_right_lines(f"{other} {rest}") == 1


@pytest.mark.parametrize(("split", "index"), [("test", 0), ("train", -1)])
def test_unknown_problems_are_refused(split, index):
    with pytest.raises(ConfigError, match="splits are train, tune, heldout"):
        problem(split, index)
