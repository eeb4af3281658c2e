"""Verdicts in the formats of the shipped templates: spellings, quotations, thoughts and cuts."""

import pytest

from rsalign.rewards.judge_parsing import UnreadableError
from rsalign.rewards.judge_templates import Template

READ = {
    "mt_bench": [
        ("It is helpful. Rating: [[7]]", "7"),
        ("Rating: [[ 7 ]]", "7"),
        ("**Rating: [[8]]**", "8"),
        ("Rating: [[**8**]]", "8"),
        ("Rating: `[[8]]`.", "8"),
        ("rating [[7.5]]", "7.5"),
        ("Rating: [[7/10]]", "7"),
        ("Rating: [[7 / 10]]", "7"),
        ("[[10]]\n\nI hope that this helps.", "10"),
        ("A rating of [[3]] would be harsh. Rating: [[6]]", "6"),
        ("I end with [[5]], as asked.\n<think>[[9]]</think>Rating: [[2]]", "2"),
        ("<think>\nFirst [[9]]?\n</think>\n\nRating: [[4]]", "4"),
        ("so [[9]]?</think>Rating: [[4]]", "4"),  # the prompt opened the thought
        ("```\nRating: [[4]]\n```", None),  # a block that holds more than the verdict
        ("```text\n[[4]]\n```", "4"),
        ("Its code is\n```python\nx = [[7]]\n```\nwhich fails. Rating: [[2]]", "2"),
        ("Rating: [[2]], as\n```python\nx = [[7]]\n```\nfails", "2"),
        ("```python\nx = [[7]]\n```", None),
        ("~~~\ny = [[7]]\n~~~", None),
        ("Rating: [7]", None),
        ("Rating: 7", None),
        ("Rating: [[11]]", None),
        ("Rating: [[0]]", None),
        ("Rating: [[-7]]", None),
        ("Rating: [[7/5]]", None),
        ("Rating: [[seven]]", None),
        ("Rating: [[]]", None),
        ("Rating: [[1e1]]", None),
        ("Rating: [[nan]]", None),
        ("Rating: [[7]] or rather [[N/A]]", None),
        ("The rows are [[1,2],[3,4]]", None),
        ("Rating: [[7", None),
        ("", None),
        ("<think>Rating: [[7]]", None),
    ],
    "mt_bench_pairwise": [
        ("A is better: [[A]]", "A"),
        ("[[B]]", "B"),
        ("[[C]]", "C"),
        ("[[a]]", "A"),
        ("**[[B]]**", "B"),
        ('My verdict is "[[ B ]]".', "B"),
        ('It says "[[A]] is better", which is no reason. [[B]]', "B"),
        ("[[A]] if it were shorter; so [[C]]", "C"),
        ("[[D]]", None),
        ("[[A or B]]", None),
        ("[[AB]]", None),
        ("A", None),
        ("Verdict: A", None),
    ],
    "skywork_critic": [
        ("[[A]]", "A"),
        ("[[B]] because the first says [[A]] of itself", "B"),
        ("<think>[[A]]</think>[[B]]", "B"),
        ("[[C]]", None),
        ("The first one.", None),
    ],
    "rm_r1": [
        ("<type>Chat</type><eval>[[A]] is long</eval><answer>[[B]]</answer>", "B"),
        ("<answer>[[A]]</answer>", "A"),
        ("<answer> [[A]] </answer>", "A"),
        ("<ANSWER>[[a]]</ANSWER>", "A"),
        ("<answer>A</answer>", "A"),
        ("<answer>\n[[B]]\n</answer>\n", "B"),
        ("<answer>[[A]]</answer> no: <answer>[[B]]</answer>", "B"),
        ("<think><answer>[[A]]</answer></think><answer>[[B]]</answer>", "B"),
        ("[[A]]", None),
        ("<answer>[[A]]", None),
        ("<answer>[[C]]</answer>", None),
        ("<answer>both</answer>", None),
    ],
    "boxed": [
        (r"So \boxed{7}", "7"),
        (r"$\boxed{ 7 }$", "7"),
        (r"\boxed{\text{7}}", "7"),
        (r"\boxed{\textbf{7/10}}", "7"),
        (r"\boxed{7/10}", "7"),
        (r"\boxed {7.5}.", "7.5"),
        (r"\boxed{3} is their result, my score is \boxed{9}", "9"),
        (r"\boxed{12}", None),
        (r"\boxed{\frac{7}{10}}", None),
        (r"\boxed{good}", None),
        (r"\boxed{}", None),
        (r"\boxed{7", None),
        ("boxed{7}", None),
    ],
    "boxed_pairwise": [
        (r"\boxed{A}", "A"),
        (r"\boxed{\text{B}}", "B"),
        (r"\boxed{\mathrm{b}}", "B"),
        (r"\boxed{A} solves it; the better one is \boxed{B}", "B"),
        (r"\boxed{1}", None),
    ],
    "prometheus": [
        ("Feedback: It is right. [RESULT] 4", "4"),
        ("Feedback: ...\n[RESULT] 4\n", "4"),
        ("[RESULT]: 4", "4"),
        ("[RESULT] (4)", "4"),
        ("[RESULT] **4**", "4"),
        ("[result] 4.", "4"),
        ("[RESULT] 4/5", "4"),
        ("[RESULT]\n4", "4"),
        ("The form asks for [RESULT] 1. Feedback: fine [RESULT] 5", "5"),
        ("[RESULT] 6", None),
        ("[RESULT] 0", None),
        ("[RESULT] four", None),
        ("[RESULT]", None),
        ("Score: 4", None),
    ],
    "prometheus_relative": [
        ("Feedback: ... [RESULT] A", "A"),
        ("[RESULT] B", "B"),
        ("[RESULT] (b)", "B"),
        ("[RESULT] C", None),
        ("[RESULT] Neither", None),
    ],
}


@pytest.mark.parametrize(
    ("name", "text", "verdict"), [(name, *row) for name, rows in READ.items() for row in rows]
)
def test_what_is_read(name, text, verdict):
    assert Template.named(name).verdict(text) == verdict


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("mt_bench", "Good.", "nothing that the pattern"),
        ("mt_bench", "[[11]]", r"'11' is outside the scale 1 \.\. 10"),
        ("mt_bench", "[[x]]", "'x' is no number"),
        ("mt_bench", "<think>[[7]]", "its thought has no end"),
        ("rm_r1", "<answer>both</answer>", "'both' is none of A, B"),
        ("genrm", "Yes", "has no pattern"),
    ],
)
def test_reasons(name, text, reason):
    with pytest.raises(UnreadableError, match=reason):
        Template.named(name).read(text)


@pytest.mark.parametrize(
    ("name", "text", "verdict"),
    [
        ("score", "Score: 1", None),  # it may have been going to say 10, or 1.5
        ("score", "Score: 1 ", "1"),
        ("score", "Score: 1/10", "1"),
        ("prometheus", "[RESULT] 4", None),
        ("prometheus", "[RESULT] 4 of", "4"),
        ("compare_with_reasons", "Better: A", None),  # or "Better: A bit of both"
        ("compare_with_reasons", "Better: A.", "A"),
        ("mt_bench", "Rating: [[7]]", "7"),
        ("mt_bench", "Rating: [[7", None),
        ("boxed", r"\boxed{7}", "7"),
        ("rm_r1", "<answer>[[A]]</answer>", "A"),
    ],
)
def test_a_text_that_was_cut(name, text, verdict):
    template = Template.named(name)
    assert template.verdict(text, cut=True) == verdict
    assert template.verdict(text) is not None or verdict is None


def test_numbers_of_verdicts():
    tie, first, scored = (
        Template.named(name) for name in ("mt_bench_pairwise", "skywork_critic", "boxed")
    )
    assert [tie.number(one) for one in "ABC"] == [1.0, 0.0, 0.5]
    assert [first.number(one) for one in "AB"] == [1.0, 0.0]
    assert scored.number("7.5") == 7.5
    assert Template.named("score_token").numbers == (1.0, 2.0, 3.0, 4.0, 5.0)
