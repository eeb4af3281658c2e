"""GSM8K, GSM-Symbolic and MATH-500: real answers with known verdicts, and odd formats."""

import json
import pickle
import re
from collections import Counter
from itertools import combinations

import pytest

from eval.graders.agreement import bundled_gsm8k, compare, math, report
from eval.graders.math_answers import FinalExpression, grade_math, grade_number
from eval.tasks.gsm8k import Gsm8k
from eval.tasks.gsm_symbolic import GsmSymbolic
from eval.tasks.math500 import Math500
from eval.tasks.protocol import Item
from eval.tasks.rows import DATA
from rsalign import ConfigError, Message
from rsalign.selectors.extraction import FinalNumber

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
    return FinalExpression()(rf"\boxed{{{latex}}}")


def gold(number):
    return Item(id="a", messages=(Message("user", "?"),), gold=number)


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("3 * 6 = 18\n#### 18", True),
        (r"\boxed{18.00}", True),
        ("#### 36/2", True),
        ("#### 17.999999999999", False),
        ("#### -18", False),
        ("The answer is 3 or 18.", False),
        ("18 = 3 * 6", True),
        ("", False),
    ],
)
def test_grades_of_numbers(text, right):
    grade = GSM8K.grade(gold("18"), text)
    assert grade.score == right
    assert grade.answer == GSM8K.extract(text)
    assert GSM8K.grade(gold("-17"), text).score == 0


@pytest.mark.parametrize("number", ["18.0", "$18", "36/2"])
def test_a_right_number_may_be_written_in_any_way(number):
    assert grade_number("#### 18", number).score == 1


@pytest.mark.parametrize("number", ["", "eighteen", "17 or 18", "1,5"])
def test_a_right_answer_that_is_no_number_is_an_error(number, tmp_path):
    with pytest.raises(ValueError, match="is not a number"):
        grade_number("#### 18", number)
    file = tmp_path / "test.jsonl"
    file.write_text(json.dumps({"question": "?", "answer": f"It is\n#### {number}"}))
    with pytest.raises(ConfigError, match="is not a number"):
        Gsm8k(path=str(file)).load()


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
        (r"\boxed{40}", "40_9", False),
        (r"\boxed{40_{9}}", "40_9", True),
        (r"\fbox{3}", "3", True),
        (r"\boxed {3}", "3", True),
        (r"\boxed{50\%}", "50", True),
        (r"\boxed{50\%}", "0.5", False),
        (r"\boxed{0.333333}", r"\frac13", False),
        (r"\boxed{70{,}000}", "70,000", True),
        (r"\boxed{70\,000}", "70000", True),
        (r"The answer is $3 \times 6 = 18$.", "18", True),
        ("The answer is $x + 1$, since $x$ is 2.", "1+x", True),
        (r"The answer is $\$36$, not $5$.", r"\$36", True),
        ("The answer is 5, since $x = 3$.", "5", True),
        ("It costs $5 and then $6", "6", True),
        (r"\[ x = 7 \]", "7", True),
        ("first $x + 1$ and then $x + 2$", "2 + x", True),
        (r"\(7\)", "7", True),
        ("$$7$$", "7", True),
        (r"\boxed{x=1, y=2}", "x=2, y=1", False),
        (r"\boxed{1 \text{ and } 2}", "2, 1", True),
        (r"\boxed{(1,2)}", "1,2", False),
        (r"\boxed{12, 345}", "12345", False),
        (r"\boxed{12,\,345}", "12,345", False),
        (r"\boxed{12, 345}", "12, 345", True),
        (r"\boxed{0,500}", "500", False),
        (r"\boxed{1010 \text{ (base 2)}}", "1010", False),
        (r"\boxed{3.14...}", "3.14", False),
        (r"\boxed{3--5}", "8", False),
    ],
)
def test_values(text, gold, right):
    assert grade_math(text, gold).score == right


def test_a_gold_answer_that_cannot_be_read_is_an_error():
    with pytest.raises(ValueError, match="is empty"):
        grade_math("3", "")


@pytest.mark.parametrize(
    ("latex", "spelling"),
    [
        (r"\dfrac12", "0.5"),
        (r"\tfrac{1}3", "1/3"),
        (r"\left( 3, \frac{\pi}{2} \right)", "(3, 1.570796326794896619231322...)"),
        (r"10,\!080", "10080"),
        ("1,2", "{1, 2}"),
        ("2, 1, 2", "{1, 2}"),
        ("3,500,12", "{12, 3, 500}"),
        (r"36^{\circ}", "36"),
        (r"18 \text{ dollars}", "18"),
        (r"\text{Evelyn}", "evelyn"),
        (r"\displaystyle \text{Evelyn}", "evelyn"),
        (r"\text{(C)}", "C"),
        ("no", "no"),
        (r"2 \sqrt 5", "4.472135954999579392818347..."),
        (r"\sqrt{20}", "4.472135954999579392818347..."),
        (r"\sqrt{20} \text{ cm}", "4.472135954999579392818347..."),
        (r"(1+\sqrt{2})(1-\sqrt{2})", "-1"),
        (r"2\frac{1}{2}\pi", "7.853981633974483096156608..."),
        (r"\frac{5\pi}{2}", "7.853981633974483096156608..."),
        (r"3 \times 6", "18"),
        ("2^9", "512"),
        ("5!", "120"),
        (r"\pi r^2", "pi*r**2"),
        ("(x+1)(x-1)", "x**2 - 1"),
        (r"\displaystyle x^2-1", "x**2 - 1"),
        ("0.1x + 0.2x", "3*x/10"),
        ("y = 2x + 3", "2*x + 3"),
        ("2x + 3 = y", "2*x + 3"),
        ("f(x) = x + 1", "x + 1"),
        (r"\frac{x^2-1}{x-1}", "x + 1"),
        (r"2\frac{3}{2}\pi", "9.424777960769379715387930..."),  # not a mixed number
        ("(x+1)^{99}", "(x+1)^{99}"),
        ("4x - 2y = 6", "2*x - y - 3 = 0"),
        ("6 = 4x - 2y", "2*x - y - 3 = 0"),
        ("x < 3", "x - 3 < 0"),
        ("3 > x", "x - 3 < 0"),
        (r"x \le 3", "x - 3 <= 0"),
        ("x = 1, y = 2", "x = 1, y = 2"),
        (r"1 \pm i", "{1 + -1*i, 1 + 1*i}"),
        ("i^2", "-1"),
        ("[0,1)", "[0, 1)"),
        (r"x \in [0,1)", "[0, 1)"),
        (r"(-\infty,0]\cup(1,2)", "(-oo, 0] or (1, 2)"),
        (r"\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}", "[1, 2; 3, 4]"),
        (r"(1,2)\cup(-\infty,0]", "(-oo, 0] or (1, 2)"),
        (r"\begin{pmatrix} 1 & 2 & 3 \\ 4 & 5 & 6 \end{pmatrix}", "[1, 2, 3; 4, 5, 6]"),
        ("2i", "2*i"),
        ("a + b + c", "a + b + c"),
        ("x = x^2", "x**2 - x = 0"),
        (r"\frac{\sqrt{3+2\sqrt{2}}-\sqrt{2}}{2001}", "1/2001"),
        ("x^{13} + y^{13}", "x**13 + y**13"),
        # what is not computed is compared as it is written
        ("3:2", "3:2"),
        (r"3 \! : \! 2", "3:2"),
        ("40_{9}", "40_9"),
        ("R - r", "R-r"),
        (r"1/0", "1/0"),
        ("1.5.2x", "1.5.2x"),
        ("5t", "5*t"),
        (r"\tan 9 < [\frac12", r"\tan9<[\frac{1}{2}"),
        ("east", "east"),
        (r"\binom{5}{2}", r"\binom{5}{2}"),
        ("9^{9^{9}}", "9^{9^{9}}"),
        ("(((999^{999})^{999})^{999})", "(((999^{999})^{999})^{999})"),
        ("(x+y+z)^{24}", "(x+y+z)^{24}"),
        ("(x+1)^{13}(x-1)^{13}", "(x+1)^{13}(x-1)^{13}"),
        ("(999^{999})^{3}", "(999^{999})^{3}"),
        ("x^{9999}", "x^{9999}"),
        (r"\,", None),
    ],
)
def test_one_spelling(latex, spelling):
    assert spelled(latex) == spelling


NEARLY = ["1/3", "0.333333", "0.3333333333333333333333333333333333", r"\sqrt{2}", "1.41421356237"]
NEARLY += [
    "1.414213562373095048801689",
    r"(1+\sqrt{2})^{100}",
    "189482250299273866835746159841800035874",
]
NEARLY += [
    "x",
    "2x",
    "R",
    "50",
    "0.5",
    r"\text{even}",
    r"\text{vene}",
    "40",
    "40_9",
    "(1,2)",
    "1,2",
]


def test_what_is_nearly_equal_is_not_equal():
    for one, other in combinations(NEARLY, 2):
        assert spelled(one) != spelled(other)
        assert grade_math(rf"\boxed{{{one}}}", other).score == 0


def test_equal_votes_have_equal_grades_and_one_vote_is_right():
    golds = [item.gold for item in MATH]
    answers = [*golds, *NEARLY, r"\frac12", "50\\%", "x + x", r"\sqrt{8}/2", r"\{2,1\}"]
    votes = {answer: spelled(answer) for answer in answers}
    for right in answers:
        grades = {answer: grade_math(rf"\boxed{{{answer}}}", right).score for answer in answers}
        assert all(grades[one] == (votes[one] == votes[right]) for one in answers)
        assert grades[right] == 1


def test_grades_agree_with_math_verify_and_the_authors():
    """On all bundled answers; see `eval.graders.agreement` for more."""
    rows = [
        json.loads(line)
        for line in (DATA / "math500" / "test.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    counts = Counter(
        (answer.source, outcome)
        for answer in [*bundled_gsm8k(), *math(rows, pairs=8)]
        for outcome in compare(answer)
    )
    assert {outcome for _, outcome in counts} == {"both right", "both wrong"}
    assert counts["gsm8k solutions", "both right"] == len(PROBLEMS)
    assert counts["math solutions", "both right"] == len(MATH)
    assert counts["math pairs", "both wrong"] == 8 * 7
    assert "both right" in report(counts)


def test_extractors_are_values():
    for extract in (FinalNumber(), FinalExpression()):
        assert pickle.loads(pickle.dumps(extract)) == extract
    assert FinalExpression()("none") is None
    assert FinalExpression()("First $x + 1$, and then $x + 2$.") == "x + 2"
