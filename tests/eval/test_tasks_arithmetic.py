import pytest

from eval.tasks.arithmetic import Arithmetic
from eval.tasks.line_check import sound_lines
from rsalign import ConfigError, Key
from rsalign.embedded.problems import problem, problems


def test_solutions_are_right_and_others_wrong():
    task = Arithmetic(start=5, limit=10)
    for index, item in enumerate(task.load(), 5):
        asked = problem("heldout", index)
        assert (item.id, item.messages[0].content) == (f"heldout-{index}", asked.question)
        assert item.group == f"{asked.num_changes} changes"
        solution = asked.solution(Key(index))
        grade = task.grade(item, solution)
        assert (grade.score, grade.answer) == (1, str(asked.answer))
        assert grade.details["right_lines"] == grade.details["lines"] == solution.count("\n") + 1
        wrong = task.grade(item, solution[:-1] if asked.answer > 9 else f"{solution}1")
        assert wrong.score == 0
        assert wrong.answer is not None


def test_a_lucky_answer_is_told():
    task = Arithmetic(limit=1)
    (item,) = task.load()
    grade = task.grade(item, f"Answer: {item.gold['answer']}")
    assert grade.score == 1
    assert grade.details["right_lines"] == 0


def test_votes():
    extract = Arithmetic().extract
    assert extract("First 1 + 1 = 2\nAnswer: 02\n") == "2"
    assert extract("Answer: 2. Or 3?") is None


@pytest.mark.parametrize("settings", [{"split": "test"}, {"start": -1}, {"limit": 0}])
def test_settings(settings):
    with pytest.raises(ConfigError, match=next(iter(settings))):
        Arithmetic(**settings)


def test_sound_lines_count_what_is_wrong_in_itself():
    for made in problems("tune", 20):
        solution = made.solution(Key(0))
        for end, next_character in enumerate(solution):
            if not next_character.isdigit():  # a number is one token
                assert sound_lines(made.question, solution[:end]) == 0
        assert sound_lines(made.question, solution) == 0
        assert sound_lines(made.question, f"{solution}1") == -1  # not the last result
    for text, wrong in {
        "First 12 + 7 = 20\n": 1,
        "First 12 + 7 = 20\nThen 20 * 2 = 41": 2,
        "Nonsense\n": 1,
        "First 8 / 0 = 8\n": 1,
        "First 9 / 2 = 4\nSo 4 / 2 = 2": 1,
        "Answer: 3": 1,
    }.items():
        assert sound_lines("", text) == -wrong
