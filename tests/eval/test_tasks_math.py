"""GSM8K, GSM-Symbolic and MATH-500: real answers with known verdicts, and odd formats."""

import json
import pickle
import re

import pytest

from eval.graders.math_answers import BoxedLatex, FinalNumber, grade_math
from eval.tasks.gsm8k import Gsm8k
from eval.tasks.gsm_symbolic import GsmSymbolic
from eval.tasks.math500 import Math500
from eval.tasks.protocol import Item
from eval.tasks.rows import DATA
from rsalign import ConfigError, Message

GSM8K = Gsm8k(path="bundled")
PROBLEMS = {item.messages[0].content.split("\n\n")[0]: item for item in GSM8K.load()}
SOLUTIONS = [
    json.loads(line)
    for line in (DATA / "gsm8k" / "model_solutions.jsonl").read_text(encoding="utf-8").splitlines()
]
MATH = Math500(path="bundled").load()


def test_what_is_bundled_is_the_test_split():
    with pytest.raises(ConfigError, match="only split='test' is bundled"):
        Gsm8k(path="bundled", split="train")


def test_gsm8k_agrees_with_its_authors_on_answers_of_models():
    assert 10 < sum(row["is_correct"] for row in SOLUTIONS) < len(SOLUTIONS) - 10
    for row in SOLUTIONS:
        grade = GSM8K.grade(PROBLEMS[row["question"]], row["solution"])
        assert grade.score == row["is_correct"], row["solution"]
        assert grade.answer == GSM8K.extract(row["solution"])


def spelled(latex):
    return BoxedLatex()(rf"\boxed{{{latex}}}")


def gold(number):
    return Item(id="a", messages=(Message("user", "?"),), gold=number)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("3 * 6 = 18\n#### 18", "18"),
        ("#### $1,234.00 in all, and 5 more", "1234"),
        ("#### about 18", "18"),
        ("#### 7\nor rather\n#### 18", "18"),
        (r"so \boxed{18} of the 20", "18"),
        (r"\boxed{\$18}", "18"),
        (r"\boxed{18 \text{ dollars}} #### 20", "18"),
        (r"\boxed{x} but #### 18", "18"),
        ("The answer is 18 dollars. (That is 3 more than 15.)", "18"),
        ("The final answer is: **$18**. It took 2 steps.", "18"),
        ("Answer: 18\n\n(2 steps)", "18"),
        ("The answer is 20, or rather\n#### 18", "18"),
        ("#### 18\nThe answer is 20", "18"),
        ("The answer is easy: 3 + 15 = 18", "18"),
        ("There are 20, 2 leave: 18.", "18"),
        ("-0.50", "-0.5"),
        ("", None),
        ("eighteen", None),
    ],
)
def test_the_final_number(text, number):
    assert FinalNumber()(text) == number
    grade = GSM8K.grade(gold(number or "18"), text)
    assert grade.score == float(number is not None)
    assert grade.answer == number
    assert GSM8K.grade(gold("-17"), text).score == 0


def test_the_first_solution_of_gsm8k_is_its_gold():
    for item in PROBLEMS.values():
        assert re.fullmatch(r"-?\d+(\.\d+)?", item.gold)


def test_gold_numbers_lose_their_commas(tmp_path):
    file = tmp_path / "test.jsonl"
    file.write_text('{"question": "600 + 600?", "answer": "It is\\n#### 1,200"}')
    (item,) = Gsm8k(path=str(file)).load()
    assert item.gold == "1200"
    assert GSM8K.grade(item, "It is 1,200.").score == 1


def test_gsm8k_without_its_mark_is_refused(tmp_path):
    file = tmp_path / "test.jsonl"
    file.write_text('{"question": "1 + 1?", "answer": "2"}')
    with pytest.raises(ConfigError, match="does not end in '#### N'"):
        Gsm8k(path=str(file)).load()


def test_completion_form():
    task = Gsm8k(path="bundled", form="completion", num_shots=2)
    item = task.load()[0]
    assert item.text.count("Question: ") == item.text.count("\nAnswer:") == 3
    assert item.text.endswith(f"Question: {next(iter(PROBLEMS))}\nAnswer:")
    assert "<<" not in item.text
    assert task.stop == ("\n\nQuestion:",)
    assert GSM8K.stop == ()
    assert GSM8K.load()[0].text is None
    # a shot graded as if it were an answer: the shots show what the grader reads
    shot = item.text.split("\n\n")[0].split("\nAnswer: ")[1]
    assert task.grade(gold(shot.split("#### ")[1]), shot).score == 1
    zero = Gsm8k(path="bundled", form="completion", num_shots=0).load()[0].text
    assert zero.count("Question:") == 1


@pytest.mark.parametrize("settings", [{"form": "essay"}, {"num_shots": 9}, {"num_shots": -1}])
def test_settings_of_word_problems(settings):
    for kind in (Gsm8k, GsmSymbolic):
        with pytest.raises(ConfigError, match=next(iter(settings))):
            kind(**settings)


def test_gsm_symbolic(tmp_path):
    rows = [
        {"id": 7, "instance": i, "question": f"{i} + {i}?", "answer": f"Twice.\n#### {2 * i}"}
        for i in range(3)
    ]
    file = tmp_path / "GSM_p2.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    task = GsmSymbolic(path=str(file), variant="p2")
    items = task.load()
    assert [item.id for item in items] == ["7-0", "7-1", "7-2"]
    assert {item.cluster for item in items} == {"template 7"}
    assert task.grade(items[2], "It is 4.").score == 1
    assert task.grade(items[2], "It is 5.").score == 0
    with pytest.raises(ConfigError, match="variant='p3'"):
        GsmSymbolic(variant="p3")


def test_math500_accepts_its_own_solutions_and_no_others():
    task = Math500(path="bundled")
    rows = [
        json.loads(line)
        for line in (DATA / "math500" / "test.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    for item, row, other in zip(MATH, rows, rows[1:] + rows[:1], strict=True):
        assert item.id == row["unique_id"]
        assert item.group == f"{row['subject']} {row['level']}"
        assert task.grade(item, row["solution"]).score == 1
        alike = spelled(row["answer"]) == spelled(other["answer"])
        assert task.grade(item, other["solution"]).score == alike


@pytest.mark.parametrize(
    ("text", "gold", "right"),
    [
        (r"\boxed{0.5}", r"\frac12", True),
        (r"\boxed{(3,\pi/2)}", r"\left( 3, \frac{\pi}{2} \right)", True),
        (r"\boxed{\text{(A)}}", r"\text{(A)}", True),
        (r"\boxed{x=3}", "3", True),
        (r"\boxed{1,2,3}", "3,2,1", True),
        (r"\boxed{[0,1)}", "[0,1]", False),
        (r"\boxed{6 - 5i}", "6-5i", True),
        (r"\boxed{2^{9}}", "512", True),
        ("it is $\\frac{14}{3}$, I think", r"\frac{14}{3}", True),
        (r"first \boxed{1}, in the end \boxed{2}", "2", True),
        (r"\boxed{1} or \boxed{2}", "1,2", False),
        (r"\boxed{2} or 3", "3", False),
        (r"\boxed{2} or \boxed{", "2", True),
        (r"\boxed{\text{even}}", r"\text{odd}", False),
        ("no idea", "3", False),
        (r"\boxed{40}", "40_9", True),  # a known limit: the base is ignored
    ],
)
def test_values(text, gold, right):
    assert grade_math(text, gold).score == right


def test_a_gold_answer_that_cannot_be_read_is_an_error():
    with pytest.raises(ValueError, match="cannot read the right answer"):
        grade_math("3", "")


@pytest.mark.parametrize(
    ("latex", "spelling"),
    [
        (r"\dfrac12", r"\frac{1}{2}"),
        (r"\tfrac{1}2", r"\frac{1}{2}"),
        (r"\left( 3, \frac{\pi}{2} \right)", r"(3,\frac{\pi}{2})"),
        (r"10,\!080", "10080"),
        ("1,000,000", "1000000"),
        ("1,2", "1,2"),
        ("3,500,12", "3,500,12"),
        (r"\$36", "36"),
        (r"36^\circ", "36"),
        (r"36^{\circ}", "36"),
        (r"50\%", "50"),
        (r"18 \text{ dollars}", "18"),
        (r"\text{Evelyn}", "Evelyn"),
        (r"x = 3", "3"),
        (r"a = b = 3", "a=b=3"),
        (r"2 \sqrt 5", r"2\sqrt{5}"),
        (r"\pi r^2", r"\pi r^2"),
        (r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", r"\begin{pmatrix}1\\2\end{pmatrix}"),
        (r"\,", None),
    ],
)
def test_one_spelling(latex, spelling):
    assert BoxedLatex()(rf"so \boxed{{{latex}}}.") == spelling


def test_votes_for_one_value_are_one_in_math500():
    """Two of its answers are spelled alike only if math-verify finds them equal."""
    for one in MATH:
        for other in MATH:
            if spelled(one.gold) == spelled(other.gold):
                assert grade_math(rf"\boxed{{{one.gold}}}", other.gold).score == 1


def test_extractors_are_values():
    for extract in (FinalNumber(), BoxedLatex()):
        assert pickle.loads(pickle.dumps(extract)) == extract
    assert BoxedLatex()("3") is None
