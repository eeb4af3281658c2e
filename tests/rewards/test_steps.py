"""Where steps end, and what is made of their values; exact, on a toy."""

import asyncio
import math

import pytest

from rsalign import ConfigError, Message, Prompt, Response, RewardError, Stop
from rsalign.core.protocols import Reward, Scored
from rsalign.rewards.steps import ClippedSteps, Steps, check_ends, newline_ends
from rsalign.testing import check_reward

PROMPT = Prompt((Message("user", "?"),), (1,))
WORDS = ["", "one", "two", "\n", "\n\n", "three\nfour", "é"]  # 0 is EOS


def decode(tokens):
    return "".join(WORDS[token] for token in tokens)


def response(*tokens, stop=Stop.EOS):
    return Response(tokens, decode(tokens), stop)


class Table:
    """Gives the ends back as values, scaled, so that a wrong end is seen in the number."""

    def __init__(self, scale=0.5):
        self.scale = scale

    async def score_steps(self, prompt, response, ends):
        check_ends(response, ends)
        await asyncio.sleep(0)
        return (*(self.scale * end for end in ends[:-1]), Scored(self.scale * ends[-1], tokens=7))


def score(steps, answer):
    return asyncio.run(steps.score(PROMPT, answer))


ANSWER = response(1, 3, 2, 4, 1, 0)  # ends 2, 4 and 6: values 1, 2, 3


@pytest.mark.parametrize(
    ("aggregate", "value"),
    [
        ("last", 3.0),
        ("min", 1.0),
        ("mean", 2.0),
        ("sum", 6.0),
        ("product", math.log(math.prod(1 / (1 + math.exp(-v)) for v in (1.0, 2.0, 3.0)))),
    ],
)
def test_aggregates(aggregate, value):
    scored = score(Steps(Table(), decode, aggregate), ANSWER)
    assert scored == pytest.approx(value, abs=1e-12)
    assert scored.tokens == 7


def test_the_product_survives_extreme_values():
    assert score(Steps(Table(-500.0), decode, "product"), ANSWER) == pytest.approx(-6000.0)
    assert -1e-300 < score(Steps(Table(500.0), decode, "product"), ANSWER) <= 0


@pytest.mark.parametrize(
    ("tokens", "ends"),
    [
        ((1, 3, 2), (2, 3)),
        ((1, 3, 2, 3), (2, 4)),  # no empty step at the end
        ((4, 1, 3, 3, 2), (4, 5)),  # nor at the beginning; blank lines belong to what is before
        ((1, 5, 0), (2, 3)),  # a token that goes on after the newline ends the step
        ((5, 0), (1, 2)),
        ((0,), (1,)),
        ((3, 0), (2,)),
    ],
)
def test_ends_in_tokens(tokens, ends):
    answer = response(*tokens)
    assert Steps(Table(), decode).find_ends(PROMPT, answer) == ends


def test_what_a_stop_string_cut_off_belongs_to_the_last_step():
    answer = Response((1, 3, 2, 1), "one\ntwo", Stop.STOP, stop_reason="one")
    assert Steps(Table(), decode).find_ends(PROMPT, answer) == (2, 4)


def test_half_a_character_ends_no_step():
    """The first of two tokens of one character is decoded as a replacement mark."""

    def halves(tokens):
        return "".join({1: "\ufffd", 2: "é", 3: "!"}[token] for token in tokens).replace(
            "\ufffdé", "é"
        )

    answer = Response((1, 2, 3), "é!", Stop.BOUNDARY)
    assert Steps(Table(), halves, splitter=lambda text: (1, 2)).find_ends(PROMPT, answer) == (2, 3)


def test_splitters_are_pluggable():
    by_word = Steps(Table(), decode, "sum", splitter=lambda text: (3, 6))
    assert score(by_word, response(1, 2)) == 0.5 * (1 + 2)


def test_nothing_was_drawn_yet():
    nothing = Response((), "", None)
    assert score(Steps(Table(), decode), nothing) == 0.0
    assert score(Steps(Table(), decode, empty=-3.0), nothing) == -3.0


def test_it_is_a_reward():
    steps = Steps(Table(), decode, "mean")
    assert isinstance(steps, Reward)
    answers = [ANSWER, response(1, stop=Stop.BOUNDARY), response(0), Response((), "", None)]
    asyncio.run(check_reward(steps, [(PROMPT, answer) for answer in answers]))


@pytest.mark.parametrize("ends", [(0, 3), (3, 2), (2, 2), (99,)])
def test_wrong_splitters_are_refused(ends):
    with pytest.raises(RewardError, match="splitter gave") as failed:
        score(Steps(Table(), decode, splitter=lambda text: ends), ANSWER)
    assert failed.value.response is ANSWER


def test_wrong_step_rewards_are_refused():
    class Short:
        async def score_steps(self, prompt, response, ends):
            return (1.0,)

    with pytest.raises(RewardError, match=r"gave .* for 3 steps"):
        score(Steps(Short(), decode), ANSWER)


def test_wrong_aggregates_are_refused():
    with pytest.raises(ConfigError, match="'last', 'min'"):
        Steps(Table(), decode, "max")


@pytest.mark.parametrize("ends", [(0,), (2, 1), (1, 1), (7,)])
def test_wrong_ends_are_refused(ends):
    with pytest.raises(ConfigError, match=r"increase within 1 \.\. 6"):
        check_ends(ANSWER, ends)


def test_closing_closes_the_step_reward():
    class Closing(Table):
        closed = False

        def close(self):
            self.closed = True

    table = Closing()
    Steps(table, decode).close()
    assert table.closed
    Steps(Table(), decode).close()


def test_newline_ends_cover_the_text():
    for text in ("a", "a\nb", "\n\na\n \nb\n\n", "a\n\n"):
        ends = newline_ends(text)
        assert ends[-1] == len(text)
        assert all(text[begin:end].strip() for begin, end in zip((0, *ends), ends, strict=False))


def test_fingerprints_differ_where_values_may():
    made = [
        Steps(Table(), decode),
        Steps(Table(), decode, "min"),
        Steps(Table(), decode, empty=1.0),
        Steps(Table(), decode, splitter=len),
        Steps(ClippedSteps(Table(), 0), decode),
    ]
    assert len({steps.fingerprint for steps in made}) == len(made)
    assert Steps(Table(), decode).fingerprint == made[0].fingerprint
