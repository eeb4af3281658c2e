import pickle
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rsalign import ConfigError
from rsalign.rules.extraction import EXTRACTORS, AfterMarker, Boxed, LastNumber, WholeText

ANSWER = AfterMarker("Answer:")
EVERY = [LastNumber(), ANSWER, Boxed(), WholeText()]


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("", None),
        ("none at all", None),
        ("12 + 7 = 19", "19"),
        ("so it is 19.", "19"),
        ("-3", "-3"),
        ("= -3.50", "-3.5"),
        ("5-3", "3"),
        ("x-3", "3"),
        ("(2)-3", "3"),
        ("$-3", "-3"),
        ("1,234,567", "1234567"),
        ("1,2", "2"),
        ("in 2024,100", "100"),
        ("12,3456", "3456"),
        ("007", "7"),
        ("0.0", "0"),
        ("-0", "0"),
        (".5", "0.5"),
        ("3.0", "3"),
        ("1.2.3", "3"),
        ("100", "100"),
    ],
)
def test_last_number(text, number):
    assert LastNumber()(text) == number


@given(st.decimals(-(10**9), 10**9, places=3), st.text("ab =+\n"))
def test_the_last_number_is_found_in_any_notation(value, before):
    plain, grouped = f"{value:f}", f"{value:,f}"
    found = LastNumber()(f"7 {before} {plain}.")
    assert Decimal(found) == value
    assert LastNumber()(f"7 {before} {grouped}") == found


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
