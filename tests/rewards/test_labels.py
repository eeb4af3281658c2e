"""Which label is the reward: every form of `label`, and what is refused with which words."""

import math
from types import SimpleNamespace

import pytest
from transformers import LlamaConfig

from rsalign import ConfigError
from rsalign.rewards.labels import LabelChoice, LabelReader, default_names, label_names

LOGITS = (0.5, -1.0, 2.0)
NAMES = ("rude", "helpful", "2 lines")
LOG_SUM = math.log(math.exp(0.5) + math.exp(2.0))


@pytest.mark.parametrize(
    ("given", "right"),
    [
        (0, 0.5),
        ("2", 2.0),
        ("helpful", -1.0),
        ("2 lines", 2.0),
        ([1, 0.5, -1], 0.5 - 0.5 - 2.0),
        ((0.0, 0.0, 1.0), 2.0),
        ({"helpful": 2, "rude": -1}, -2.5),
        ({1: 2, "0": -1}, -2.5),
        ({"helpful": "2", "rude": "-1e0"}, -2.5),
        ({"log_odds": "helpful"}, -1.0 - LOG_SUM),
        ({"log_odds": 1}, -1.0 - LOG_SUM),
        ({"log_odds": ["helpful", "rude"]}, -1.5),
        ({"probability": ["helpful", 0]}, 1 / (1 + math.exp(1.5))),
        ({"probability": "helpful"}, math.exp(-1.0) / (math.exp(-1.0) + math.exp(LOG_SUM))),
    ],
)
def test_every_form(given, right):
    assert LabelChoice.of(given).reader("m", NAMES).read(LOGITS) == pytest.approx(right, abs=1e-12)


@pytest.mark.parametrize("given", [None, 0, "0", "LABEL_0", [1.0], {"LABEL_0": 1}])
def test_the_only_label(given):
    reader = LabelChoice.of(given).reader("m", ("LABEL_0",))
    assert reader.read((0.25,)) == 0.25
    assert reader.fingerprint == ""


def test_far_logits_do_not_overflow():
    for sign in (1, -1):
        logits = (sign * 4000.0, 0.0)
        odds = LabelChoice.of({"log_odds": 0}).reader("m", ("a", "b"))
        assert odds.read(logits) == sign * 4000.0
        share = LabelChoice.of({"probability": 0}).reader("m", ("a", "b"))
        assert share.read(logits) == (sign + 1) / 2


@pytest.mark.parametrize(
    "given",
    [
        True,
        "",
        1.5,
        [],
        {},
        ["a", "b"],
        [1, None],
        {"a": "b"},
        {"a": math.nan},
        {"log_odds": []},
        {"log_odds": [0, 1, 2]},
        {"log_odds": 0.5},
        {None: 1.0},
        object(),
    ],
)
def test_what_chooses_no_label(given):
    with pytest.raises(ConfigError, match="says of no label that it is the reward: give label="):
        LabelChoice.of(given)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (None, "but a reward is one number: give label="),
        (3, "but no label 3"),
        (-1, "but no label -1"),
        ("Helpful", "but no label 'Helpful'"),
        ([1, 2], "label has 2 weights"),
        ({"helpful": 1, 1: 2}, "and twice a label 1"),
        ({"log_odds": ["rude", 0]}, "and twice a label 0"),
    ],
)
def test_refusals_list_the_labels(given, said):
    with pytest.raises(ConfigError) as refused:
        LabelChoice.of(given).reader("org/m", NAMES)
    listed = "org/m has num_labels=3 (0: 'rude', 1: 'helpful', 2: '2 lines')"
    assert str(refused.value).startswith(listed)
    assert said in str(refused.value)


def test_odds_need_a_second_label():
    with pytest.raises(ConfigError, match="has no other to be compared with"):
        LabelChoice.of({"log_odds": 0}).reader("m", ("LABEL_0",))


def test_a_model_that_returns_another_number_of_values():
    with pytest.raises(ConfigError, match=r"returns 2 values.*has 1 labels"):
        LabelChoice.of(None).reader("m", ("LABEL_0",)).read((1.0, 2.0))


def test_fingerprints_tell_choices_apart():
    def mark(given):
        return LabelChoice.of(given).reader("m", NAMES).fingerprint

    assert mark("helpful") == mark(1) == mark([0, 1, 0]) == mark({1: 1})
    different = [1, 2, [0, 2, 0], {"log_odds": 1}, {"probability": 1}, {"log_odds": [1, 2]}]
    assert len({mark(each) for each in different}) == len(different)


def test_labels_of_configurations():
    named = LlamaConfig(id2label={0: "bad", 1: "good"})
    assert label_names(named) == ("bad", "good")
    assert label_names(LlamaConfig(num_labels=5)) == default_names(5)
    assert label_names(LlamaConfig()) == ("LABEL_0", "LABEL_1")
    for of_class, num_labels in [
        ("Qwen2ForRewardModel", 1),
        ("InternLM2ForRewardModel", 1),
        ("Qwen2ForProcessRewardModel", 2),
    ]:
        assert len(label_names(LlamaConfig(architectures=[of_class]))) == num_labels


@pytest.mark.parametrize(("outer", "inner", "right"), [(1, 2, 1), (2, 1, 1), (2, 2, 2)])
def test_labels_of_composite_configurations(outer, inner, right):
    text = SimpleNamespace(num_labels=inner, id2label=None)
    whole = SimpleNamespace(num_labels=outer, id2label=None, get_text_config=lambda: text)
    assert len(label_names(whole)) == right


def test_a_reader_of_all_labels_counts_those_without_weight():
    assert LabelReader("m", "weights", (0.0, 1.0)).read((math.inf, 3.0)) == 3.0
