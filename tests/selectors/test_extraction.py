import pickle
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rsalign import ConfigError
from rsalign.selectors.extraction import (
    EXTRACTORS,
    AfterMarker,
    Boxed,
    FinalNumber,
    LastNumber,
    WholeText,
)

ANSWER = AfterMarker("Answer:")
EVERY = [LastNumber(), FinalNumber(), ANSWER, Boxed(), WholeText()]


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("", None),
        ("none at all", None),
        ("12 + 7 = 19", "19"),
        ("so it is 19.", "19"),
        ("-3", "-3"),
        ("= -3.50", "-3.5"),
        ("5-3", None),
        ("x-3", None),
        ("(2)-3", None),
        ("$-3", "-3"),
        ("1,234,567", "1234567"),
        ("1,2", None),
        ("1, 2", "2"),
        ("in 2024,100", None),
        ("12,3456", None),
        ("007", "7"),
        ("0.0", "0"),
        ("-0", "0"),
        (".5", "0.5"),
        ("3.0", "3"),
        ("1.2.3", None),
        (r"3 \times 6 = 70{,}000 eggs", "70000"),
        ("a third, so 1/3", "1/3"),
        ("50%, or a half", "50"),
        ("5, or > 6", None),
        ("100", "100"),
    ],
)
def test_last_number(text, number):
    assert LastNumber()(text) == number


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("3 * 6 = 18\n#### 18", "18"),
        ("#### $1,234.00 in all, and 5 more", "1234"),
        ("#### about 18", "18"),
        ("####\n**18**", "18"),
        ("#### 7\nor rather\n#### 18", "18"),
        ("#### 3 * 6 = 18 (of 20)", "18"),
        ("#### Step 3\nSo it is 18.", "18"),
        ("#### 18 or 20", None),
        ("#### 18, 20", None),
        (r"so \boxed{18} of the 20", "18"),
        (r"\fbox{18} of 20", "18"),
        (r"\boxed {18} of 20", "18"),
        (r"$\boxed{\text{18}}$ of 20", "18"),
        (r"\boxed{\$18}", "18"),
        (r"\boxed{70{,}000}", "70000"),
        (r"\boxed{50\%}", "50"),
        (r"\boxed{18 \text{ dollars}} #### 20", "18"),
        (r"\boxed{3 \times 6 = 18}", "18"),
        (r"\boxed{x = 18}", "18"),
        (r"\boxed{x} but #### 18", "18"),
        (r"\boxed{18} and \boxed{20}", "20"),
        (r"\boxed{18, 20} #### 18", None),
        (r"\boxed{2\sqrt{3}} #### 18", None),
        ("The answer is 3 * 6 = 18.", "18"),
        ("The answer is 18 dollars. (That is 3 more than 15.)", "18"),
        ("The answer is 18 because 3 * 7 = 21 and 21 - 3 = 18, of 20", "18"),
        ("The final answer is: **$18**. It took 2 steps.", "18"),
        ("The answer is:\n\n$$18$$\n\nsince 2 * 9 = 18. That is 2 days", "18"),
        (r"The answer is \(18\). That is 2 days", "18"),
        (r"The answer is \[ 18 \] in 2 days", "18"),
        ("**Answer:** 18\n\n(2 steps)", "18"),
        ("**Answer**: 18 (2 steps)", "18"),
        ("Answer = 18, in 2 steps", "18"),
        ("The answer is -18, being 2 days late", "-18"),
        ("The answer is 2x.", None),
        ("The answer is 3 * 6.", None),
        ("The answer is 17 or 18. It took 2 steps.", None),
        ("The answer is 17 and 18. It took 2 steps.", None),
        ("#### 17\nThat forgets one.\n#### 18", "18"),
        ("The answer is 20, or rather\n#### 18", "18"),
        ("#### 18\nThe answer is 20", "18"),
        ("The answer is easy: 3 + 15 = 18", "18"),
        ("The answer is 17. No, the answer is 18, of 20", "18"),
        ("There are 20, 2 leave: 18.", "18"),
        ("", None),
        ("eighteen", None),
    ],
)
def test_the_final_number(text, number):
    assert FinalNumber()(text) == number


@given(st.decimals(-(10**9), 10**9, places=3), st.text("ab =+\n"))
def test_the_last_number_is_found_in_any_notation(value, before):
    plain, grouped = f"{value:f}", f"{value:,f}"
    found = LastNumber()(f"7 {before}\nso {plain}.")
    assert Decimal(found) == value
    assert LastNumber()(f"7 {before}; {grouped}") == found


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("Answer: 38", "38"),
        ("Answer: 3\nAnswer:  x  =\n 4 ", "x = 4"),
        ("Answer:", None),
        ("Answer: 3 Answer: ", None),
        ("answer: 3", None),
        ("38", None),
    ],
)
def test_after_marker(text, answer):
    assert ANSWER(text) == answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"\boxed{3}", "3"),
        (r"\boxed{1} then \boxed{\frac{1}{2}}.", r"\frac{1}{2}"),
        (r"\boxed{1} then \boxed{2", "1"),
        (r"\boxed{\boxed{3}}", "3"),
        (r"\boxed{\{1\}}", r"\{1\}"),
        (r"\boxed{}", None),
        (r"\boxed{ a   b }", "a b"),
        (r"\boxed 3", None),
        (r"\fbox{3}", "3"),
        (r"\boxed {3}", "3"),
        ("\\boxed\n{3}", "3"),
        (r"\\boxed{3}", "3"),
        (r"\boxed{1} then \fbox{2}", "2"),
        (r"} \boxed{3}", "3"),
        (r"{ \boxed{3}", "3"),
        (r"\boxed{1 \boxed{2} 3", "2"),
        (r"\boxed{a {b} c} {d}", "a {b} c"),
        ("box {3}", None),
        ("3", None),
    ],
)
def test_boxed(text, answer):
    assert Boxed()(text) == answer


@given(st.recursive(st.text("ab 1+", max_size=4), lambda inner: inner.map(lambda x: f"a{{{x}}}b")))
def test_braces_are_balanced(inside):
    found = Boxed()(rf"so \boxed{{{inside}}} it is }}")
    assert found == (" ".join(inside.split()) or None)


def test_whole_text():
    assert WholeText()(" a \n b ") == "a b"
    assert WholeText()(" \n") is None


@pytest.mark.parametrize("extract", EVERY, ids=repr)
@given(text=st.text() | st.text(r"\boxed{} 1-.,Answer:"))
def test_any_text_has_an_answer_or_none(extract, text):
    answer = extract(text)
    assert answer is None or answer == " ".join(answer.split()) != ""


def test_extractors_are_values():
    assert {type(extract) for extract in EVERY} == set(EXTRACTORS.values())
    for extract in EVERY:
        assert pickle.loads(pickle.dumps(extract)) == extract


@pytest.mark.parametrize("marker", ["", 3, None])
def test_a_marker_is_a_text(marker):
    with pytest.raises(ConfigError, match="announces an answer"):
        AfterMarker(marker)
