"""What was kept and what is new are the whole text, wherever a cut falls."""

from hypothesis import given
from hypothesis import strategies as st

from rsalign import Candidate, Proposal, Response, Stop, Verdict
from rsalign.report.canvas import Axis, axis_spanning
from rsalign.report.texts import text_after, text_parts


def in_bytes(tokens):
    return bytes(tokens).decode(errors="replace")


def proposal(text, kept, shown=None):
    tokens = tuple(text.encode())
    response = Response(tokens, in_bytes(tokens) if shown is None else shown, Stop.EOS)
    return Proposal(
        candidate=Candidate(response, 0.0),
        kept=min(kept, len(tokens)),
        log_accept=0.0,
        verdict=Verdict.ACCEPTED,
        state=Candidate(response, 0.0),
    )


@given(st.text(max_size=40), st.integers(0, 60))
def test_characters_of_several_tokens(text, kept):
    tried = proposal(text, kept)
    found = text_parts(tried, in_bytes)
    assert found.kept.text + found.new.text == text
    assert len(found.kept.text.encode()) <= tried.kept
    assert len(found.kept.text.encode()) > tried.kept - 4
    assert found.kept.text + text_after(tried.candidate.response, tried.kept, in_bytes).text == text


@given(st.text("ab.", max_size=20), st.integers(0, 25))
def test_a_stop_string_that_is_no_part_of_the_text(text, kept):
    shown = text.partition(".")[0]
    found = text_parts(proposal(text, kept, shown), in_bytes)
    assert found.kept.text + found.new.text == shown


@given(st.integers(0, 3000), st.integers(0, 3000))
def test_what_is_left_out_is_counted(kept, new):
    text = "k" * kept + "n" * new
    found = text_parts(proposal(text, kept), in_bytes)
    assert set(found.kept.text) <= {"k"}
    assert set(found.new.text) <= {"n"}
    assert len(found.kept.text) + found.kept.num_hidden == kept
    assert len(found.new.text) + found.new.num_hidden == new


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=9), st.integers(2, 9))
def test_all_values_have_room_on_an_axis(values, number):
    axis = axis_spanning(values, 200.0, 10.0)
    for value in values:
        assert 10 <= axis.at(value) <= 200
    ticks = axis.ticks(number)
    assert len(ticks) <= number + 2
    assert all(axis.low <= tick + 1e-6 * abs(tick) for tick in ticks)
    assert all(tick - 1e-6 * abs(tick) <= axis.high for tick in ticks)


def test_ticks_are_round():
    assert Axis(0, 10, 0, 1).ticks(5) == [0, 2, 4, 6, 8, 10]
    assert Axis(-1.1, 1.2, 0, 1).ticks(4) == [-1, 0, 1]
