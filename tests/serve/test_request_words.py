"""What requests may say, without a server: flat keys, objects, and what is refused."""

from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rsalign import BestOf, Budget, Calibrate, Cards, ConfigError, FixedSize, Message, Plain
from rsalign.segments import Entropy
from rsalign.segments.thresholds import Constant, Line
from rsalign.selectors import Soft
from rsalign.serve.rules import RequestRules, StrategyRequest, split_budget
from rsalign.serve.served_request import ServedRequest
from rsalign.strategies import STRATEGIES
from rsalign.words.build import build_strategy
from rsalign.words.read import read_flat, read_object

RULES = RequestRules(has_reward=True)


@dataclass(frozen=True, kw_only=True)
class Own:
    """A strategy of the operator's own."""

    n: int = 2

    async def sample(self, prompt, run):
        raise NotImplementedError


def ordered(body, rules=RULES):
    return rules.read(read_object(body))


@pytest.mark.parametrize(
    ("body", "strategy"),
    [
        ("plain", Plain()),
        ({"strategy": "best_of", "n": 8}, BestOf(n=8)),
        ({"strategy": "best_of", "inner": "plain"}, BestOf()),
        (
            {"strategy": "best_of", "select": {"name": "soft", "temperature": 0.5}},
            BestOf(select=Soft(temperature=0.5)),
        ),
        (
            {
                "strategy": "calibrate",
                "inner": {"name": "cards", "segmenter": {"name": "entropy", "threshold": 1}},
                "draws": 4,
            },
            Calibrate(inner=Cards(segmenter=Entropy(1)), draws=4),
        ),
        (
            {
                "strategy": "cards",
                "segmenter.n": 8,
                "threshold": {"name": "constant", "value": 2.0},
            },
            Cards(segmenter=FixedSize(8), threshold=Constant(value=2.0)),
        ),
    ],
    ids=str,
)
def test_objects_name_strategies_and_parts(body, strategy):
    wanted = ordered(body)
    assert wanted == StrategyRequest(
        name=body if isinstance(body, str) else body["strategy"], strategy=strategy
    )


def test_the_text_of_a_request_is_in_no_log():
    """Neither that of its prompts nor that of what became of it."""
    wanted = ServedRequest(
        asked=StrategyRequest(name="plain", strategy=Plain()),
        conversations=[(Message("user", "secret"),)],
        failure=ValueError("secret"),
    )
    assert "secret" not in repr(wanted)
    assert "Plain(" in repr(wanted)


def test_flat_keys_say_the_same():
    asked = read_flat({"rsalign": "best_of", "rsalign_n": "8", "rsalign_select.m": 3, "other": 1})
    assert (asked.name, asked.settings) == ("best_of", {"n": "8", "select.m": 3})
    assert read_flat({"other": 1}) is None
    assert read_flat(None) is None


def test_the_default_is_what_is_not_said():
    cards = Cards(segmenter=FixedSize(4), threshold=Line(target=1.0))
    rules = RequestRules(
        default=cards, default_name="cards", default_max_tokens=64, has_reward=True
    )
    assert rules.read(None).strategy == cards
    assert ordered("cards", rules).strategy == cards
    assert ordered({"threshold": {"target": 2.0}}, rules).strategy == Cards(
        segmenter=FixedSize(4), threshold=Line(target=2.0)
    )
    assert ordered({"segmenter": {"name": "entropy", "threshold": 1.0}}, rules).strategy == Cards(
        segmenter=Entropy(1.0), threshold=Line(target=1.0)
    )
    assert ordered("plain", rules).strategy == Plain()
    assert ordered("none", rules) is None
    assert RULES.read(None) is None
    assert rules.read(None).max_tokens == 64
    assert ordered({"max_tokens": 32}, rules).max_tokens == 32
    assert ordered({"max_tokens": 128}, rules).max_tokens == 64
    assert ordered("plain", rules).max_tokens is None
    assert {"plain", "best_of", "cards"} <= set(rules.aliases())
    assert "cards" not in RULES.aliases()  # nothing says what its threshold is


def test_a_default_of_the_operators_own_can_be_tuned_and_not_named_anew():
    rules = RequestRules(default=Own(), default_name=f"{__name__}:Own", has_reward=True)
    assert rules.read(None).strategy == Own()
    assert ordered({"n": 3}, rules).strategy == Own(n=3)
    for other in (f"{__name__}:StrategyRequest", "os:system"):
        with pytest.raises(ConfigError, match="no strategy is called"):
            ordered(other, rules)


@pytest.mark.parametrize(
    ("body", "match"),
    [
        ("nope", "no strategy is called 'nope'"),
        (7, "give a strategy's name, or an object"),
        (["best_of"], "give a strategy's name, or an object"),
        ({"strategy": ["best_of"]}, "give a strategy's name"),
        ({"strategy": "best_of", "m": 1}, "no parameter 'm'"),
        ({"strategy": "best_of", "n": 1.5}, "must be of type int"),
        ({"strategy": "best_of", "n": "four"}, "must be of type int"),
        ({"strategy": "best_of", "n": {}}, "n={}: must be of type int"),
        ({"strategy": "best_of", "select": {}}, "select={}: name the selector"),
        ({"strategy": "none", "n": 3}, "'n' is given, but rsalign='none' asks for the engine's"),
        ({"strategy": "none", "entropy_threshold": 1.0}, "is given, but rsalign='none'"),
        ({"strategy": "plain", "budget": {"seconds": True}}, "budget.seconds=True: must be of"),
        ({"strategy": "plain", "budget": 5}, "budget=5: give its limits by name"),
        ({"strategy": "best_of", "n": True}, "must be of type int"),
        ({"strategy": "best_of", "n": 0}, "of at least 1"),
        ({"strategy": "best_of", "n": 5000}, "multiply to 5000"),
        ({"strategy": "best_of", "n": 65, "inner": {"name": "best_of", "n": 65}}, "to 4225"),
        ({"strategy": "best_of", "inner": 5}, "inner=5"),
        ({"strategy": "best_of", "inner": None}, "inner=None"),
        ({"strategy": "os:system"}, "no strategy is called"),
        ({"strategy": "best_of", "inner": "os:system"}, "no strategy is called"),
        ({"strategy": "best_of", "select": "os:getcwd"}, "no selector is called"),
        (
            {"strategy": "best_of", "select": {"name": "knockout", "judge": "os:getcwd"}},
            "cannot name a judge",
        ),
        ({"strategy": "best_of", "select": {"name": {"a": 1}}}, "give the name of a part"),
        ({"strategy": "plain", "inner": "plain"}, "no parameter 'inner'"),
        ({"strategy": "plain", "max_tokens": 0}, "at least 1"),
        ({"strategy": "plain", "max_tokens": "x"}, "at least 1"),
        ({"strategy": "best_of", "inner": {"name": "plain", "max_tokens": 4}}, "as a whole"),
        ({"strategy": "plain", "budget": {"seconds": -1}}, "number above 0"),
        ({"strategy": "plain", "budget": {"policy_tokens": 1.5}}, "whole number"),
        ({"strategy": "plain", "budget": {"days": 1}}, "no limit 'days' .known: completion_tokens"),
        ({"strategy": "plain", "on_reward_error": "panic"}, "'fail' or 'best'"),
        ({"strategy": "best_of", "inner." * 9 + "n": 1}, "8 deep at most"),
    ],
    ids=str,
)
def test_what_is_refused(body, match):
    with pytest.raises(ConfigError, match=match):
        ordered(body)


def test_parameters_of_no_strategy_are_refused():
    """But those of logits hooks are the engine's to read."""
    assert (
        RULES.read(read_flat({"rsalign_entropy_threshold": 1.0, "rsalign_guided_alpha": 1})) is None
    )
    for key in ("rsalign_n", "rsalign_entropy_treshold"):
        with pytest.raises(ConfigError, match=r"name a strategy .*there are only .*guided_alpha"):
            RULES.read(read_flat({key: 4}))


def test_more_than_the_servers_budget_is_refused_and_less_is_not():
    rules = RequestRules(has_reward=True, budget=Budget(policy_tokens=100, seconds=9.0))
    body = {"strategy": "plain", "budget": {"policy_tokens": 50, "reward_calls": 3}}
    assert ordered(body, rules).budget == Budget(policy_tokens=50, reward_calls=3, seconds=9.0)
    for name, value in (("policy_tokens", 101), ("seconds", 9.1)):
        with pytest.raises(ConfigError, match="this server allows"):
            ordered({"strategy": "plain", "budget": {name: value}}, rules)


def test_answers_share_a_budget():
    assert split_budget(Budget(policy_tokens=100, seconds=3.0), 3) == Budget(
        policy_tokens=33, seconds=3.0
    )
    with pytest.raises(ConfigError, match="5 answers have to share 4 reward calls"):
        split_budget(Budget(reward_calls=4), 5)


def test_a_strategy_that_needs_a_reward_needs_a_reward():
    rules = RequestRules()
    assert ordered("plain", rules).strategy == Plain()
    assert "best_of" not in rules.aliases()
    with pytest.raises(ConfigError, match="this server has none"):
        ordered("best_of", rules)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=6,
)
KEYS = st.sampled_from(
    [
        *("strategy", "n", "inner", "select", "segmenter", "threshold", "acceptance", "proposals"),
        *("max_tries", "draws", "quantile", "beta", "steps", "chains", "cuts", "pool", "answer"),
        *("inner.n", "select.extract", "select.temperature", "threshold.target", "segmenter.n"),
        *("max_tokens", "budget.seconds", "budget", "on_reward_error", "name", "candidates"),
    ]
)
VALUES = JSON | st.sampled_from([*STRATEGIES, "soft", "hard", "majority_vote", "line", "entropy"])


@settings(max_examples=5 * settings.default.max_examples)
@given(st.sampled_from([*STRATEGIES]), st.dictionaries(KEYS, VALUES, max_size=4))
def test_whatever_is_said_is_understood_or_refused(name, said):
    """Never another error, and what is understood is a strategy."""
    try:
        wanted = ordered({"strategy": name} | said)
    except ConfigError:
        return
    if wanted is not None:
        assert hasattr(wanted.strategy, "sample")


def test_the_builder_is_the_command_lines():
    assert ordered({"strategy": "best_of", "n": 2}).strategy == build_strategy("best_of", {"n": 2})
