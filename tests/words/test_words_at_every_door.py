"""The same word means the same at every door, and a wrong one gets the same message."""

import json
import math
from dataclasses import replace

import pytest
from lm_eval._cli.utils import key_val_to_dict
from lm_eval.utils import simple_parse_args_string
from omegaconf import OmegaConf

from eval import overrides, resolvers
from eval.configuration import build
from rsalign import BestOf, Budget, Calibrate, Cards, ConfigError, Entropy, Plain, QAlign
from rsalign.chains.beta_rules import TargetKL
from rsalign.cli.main import main
from rsalign.harnesses.arguments import Arguments
from rsalign.segments.thresholds import Line
from rsalign.selectors import MajorityVote, Soft
from rsalign.selectors.extraction import AfterMarker
from rsalign.serve.options import Options
from rsalign.serve.rules import RequestRules
from rsalign.strategies import STRATEGIES
from rsalign.words.length import with_max_tokens
from rsalign.words.messages import show
from rsalign.words.parts import strategy_from, strategy_of
from rsalign.words.read import read_arguments, read_flat, read_object, read_words
from rsalign.words.request import requested
from rsalign.words.values import convert

RULES = RequestRules(has_reward=True)


def flat(name, words):
    return {"rsalign": name} | {f"rsalign_{key}": value for key, value in words.items()}


def nested(words):
    return OmegaConf.to_container(OmegaConf.from_dotlist([f"{k}={v}" for k, v in words.items()]))


def typed(words):
    """Values as a client of JSON gives them, where the text is JSON."""

    def value(text):
        try:
            return json.loads(text)
        except ValueError:
            return text

    return {key: value(text) for key, text in words.items()}


def in_lm_eval(name, words):
    given = {}
    for key, value in words.items():
        given |= key_val_to_dict(f"{key}={value}")
    return Arguments.read({"strategy": name, "reward": len} | given).strategy


def in_lm_evals_python(name, words):
    given = simple_parse_args_string(",".join(f"{key}={text}" for key, text in words.items()))
    return Arguments.read({"strategy": name, "reward": len} | given).strategy


def in_a_sweep(name, words):
    resolvers.register()
    settings = [f"+strategy.settings.{key}={value}" for key, value in words.items()]
    chosen = ["strategy=named", f"strategy.name={name}", "strategy.max_tokens=null"]
    return build(overrides.compose_config([*chosen, *settings]).strategy, "strategy")


def in_yaml(name, words):
    made = STRATEGIES[name]
    return build({"_target_": f"{made.__module__}.{made.__name__}"} | nested(words), "strategy")


def in_options(name, words):
    return Options(reward="x", strategy=name, settings=words).request_rules().default


def in_json_options(name, words):
    given = {"reward": "x", "strategy": name, "settings": typed(words)}
    return Options.from_json(json.dumps(given)).request_rules().default


DOORS = {
    "aligned()": lambda name, words: requested(read_flat(flat(name, words)), BestOf()),
    "vllm_xargs": lambda name, words: RULES.read(read_flat(flat(name, words))).strategy,
    "vllm_xargs, typed": lambda name, words: requested(read_flat(flat(name, typed(words))), None),
    "a body": lambda name, words: RULES.read(read_object({"strategy": name} | words)).strategy,
    "a body, typed": lambda name, words: requested(
        read_object({"strategy": name} | typed(words)), None
    ),
    "a body, nested": lambda name, words: requested(
        read_object({"strategy": name} | nested(words)), None
    ),
    "--set": lambda name, words: strategy_of(
        read_arguments(name, [f"{key}={value}" for key, value in words.items()])
    ),
    "Aligner(strategy=...)": lambda name, words: strategy_from({"name": name} | words),
    "rsalign serve": in_options,
    "RSALIGN_SERVE": in_json_options,
    "lm-eval": in_lm_eval,
    "lm-eval in Python": in_lm_evals_python,
    "a sweep": in_a_sweep,
    "YAML": in_yaml,
}

QALIGN = QAlign()


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize(
    ("name", "words", "strategy"),
    [
        ("best_of", {"n": "8"}, BestOf(n=8)),
        ("best_of", {"n": "0x4"}, BestOf(n=4)),
        ("best_of", {"n": "1e1"}, BestOf(n=10)),
        ("best_of", {"n": "4.0"}, BestOf(n=4)),
        ("best_of", {"n": "'8'"}, BestOf(n=8)),
        ("best_of", {"n": '"0x8"'}, BestOf(n=8)),
        ("qalign", {"pool": "'6'"}, QAlign(pool=6)),
        ("qalign", {"recycle": "'False'"}, QAlign(recycle=False)),
        ("qalign", {"beta": "'0.5'"}, QAlign(beta=0.5)),
        ("qalign", {"tempering": "'2'"}, QAlign(tempering=(2.0,))),
        (
            "qalign",
            {"combine": "'i_sir'", "candidates": "2"},
            QAlign(combine="i_sir", candidates=2),
        ),
        ("qalign", {"recycle": "False"}, QAlign(recycle=False)),
        ("qalign", {"recycle": "false"}, QAlign(recycle=False)),
        ("qalign", {"recycle": "true"}, QALIGN),
        ("qalign", {"pool": "None"}, QALIGN),
        ("qalign", {"pool": "null"}, QALIGN),
        ("qalign", {"pool": "6"}, QAlign(pool=6)),
        ("qalign", {"stopping": "none"}, QALIGN),
        ("qalign", {"tempering": "[2]"}, QAlign(tempering=(2.0,))),
        ("qalign", {"tempering": "2"}, QAlign(tempering=(2.0,))),
        ("qalign", {"tempering": "[2,4]"}, QAlign(tempering=(2.0, 4.0))),
        ("qalign", {"tempering": "[2,inf]"}, QAlign(tempering=(2.0, math.inf))),
        ("qalign", {"tempering": "[]"}, QALIGN),
        ("qalign", {"beta": "0.5"}, QAlign(beta=0.5)),
        ("qalign", {"beta": "5e-1"}, QAlign(beta=0.5)),
        ("qalign", {"beta": "2"}, QAlign(beta=2)),
        ("qalign", {"combine": "i_sir", "candidates": "2"}, QAlign(combine="i_sir", candidates=2)),
        (
            "qalign",
            {"beta.name": "target_kl", "beta.nats": "1", "pool": "16"},
            QAlign(beta=TargetKL(nats=1), pool=16),
        ),
        (
            "best_of",
            {"select.name": "soft", "select.temperature": "0.5"},
            BestOf(select=Soft(temperature=0.5)),
        ),
        (
            "best_of",
            {
                "select.name": "majority_vote",
                "select.extract.name": "after_marker",
                "select.extract.marker": "4",
            },
            BestOf(select=MajorityVote(extract=AfterMarker("4"))),
        ),
        (
            "calibrate",
            {
                "inner.segmenter.name": "entropy",
                "inner.segmenter.threshold": "2",
                "inner.proposals": "auto",
                "inner.threshold.target": "1",
                "draws": "4",
            },
            Calibrate(
                inner=Cards(segmenter=Entropy(2), threshold=Line(target=1), proposals="auto"),
                draws=4,
            ),
        ),
    ],
    ids=str,
)
def test_the_same_text_means_the_same(door, name, words, strategy):
    if door == "lm-eval in Python" and "," in str([*words.values()]):
        pytest.skip("its commas separate arguments")
    assert DOORS[door](name, words) == strategy


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize(
    ("name", "words", "message"),
    [
        ("best_of", {"n": "x"}, "n='x': must be of type int: give a whole number, such as 16"),
        ("best_of", {"n": "2.5"}, "n=2.5: must be of type int: give a whole number, such as 16"),
        ("best_of", {"n": "True"}, "n=True: must be of type int: give a whole number, such as 16"),
        ("best_of", {"n": "None"}, "n=None: must be of type int: give a whole number, such as 16"),
        ("best_of", {"n": "inf"}, "n=inf: must be of type int: give a whole number, such as 16"),
        ("best_of", {"n": "{}"}, "n={}: must be of type int: give a whole number, such as 16"),
        ("best_of", {"n": "[1]"}, "n=[1]: must be of type int: give a whole number, such as 16"),
        ("qalign", {"recycle": "1"}, "recycle=1: must be of type bool: give true or false"),
        (
            "qalign",
            {"recycle": "maybe"},
            "recycle='maybe': must be of type bool: give true or false",
        ),
        (
            "qalign",
            {"pool": "x"},
            "pool='x': must be of type int or None: give a whole number, suc",
        ),
        (
            "qalign",
            {"tempering": "hot"},
            "tempering='hot': give numbers, such as 2,4,inf, or a list",
        ),
        ("qalign", {"combine": "i-sir"}, "combine='i-sir': give 'multi_try' or 'i_sir'"),
        (
            "qalign",
            {"beta": "kl"},
            "no rule for beta is called 'kl' (known: target_kl, target_sampl",
        ),
        (
            "qalign",
            {"beta": "true"},
            "beta=True: name the rule for beta (known: target_kl, target_",
        ),
        (
            "qalign",
            {"cuts": "3"},
            "cuts=3: name the cut law (known: blocks, entropy, fixed, segment",
        ),
        (
            "best_of",
            {"select": "sofft"},
            "no selector is called 'sofft'; did you mean 'soft'? (know",
        ),
        (
            "best_of",
            {"inner": "null"},
            "inner=None: name the strategy (known: allocated, arithmetic_sampling, beam, best_of, ",
        ),
        ("best_of", {"select": "{}"}, "select={}: name the selector (known: best_of_majority, "),
    ],
    ids=str,
)
def test_a_wrong_text_gets_the_same_message(door, name, words, message):
    with pytest.raises(ConfigError) as refused:
        DOORS[door](name, words)
    said = str(refused.value).removeprefix("strategy: ").removeprefix(f"strategy {name}: ")
    assert said.startswith(message)


@pytest.mark.parametrize("door", [door for door in DOORS if door != "YAML"])
@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"n": "0"}, "n=0"),
        ({"n": "-1"}, "n=-1"),
        ({"m": "3"}, "strategy best_of has no parameter 'm' (known: inner, n, select)"),
        ({"n.k": "3"}, "strategy best_of: n has no parameter 'k': it is a value and not a part"),
        (
            {"inner.max_token": "3"},
            "strategy plain has no parameter 'max_token'; did you mean 'max_tokens'?",
        ),
    ],
    ids=str,
)
def test_a_wrong_parameter_gets_the_same_message(door, words, message):
    with pytest.raises(ConfigError) as refused:
        DOORS[door]("best_of", words)
    assert message in str(refused.value)


RESERVED = {
    "max_tokens": ("9", 9),
    "seed": ("7", 7),
    "on_reward_error": ("best", "best"),
    "budget.seconds": ("2.5", {"seconds": 2.5}),
    "budget.policy_tokens": ("0x20", {"policy_tokens": 32}),
}
READERS = {
    "flat": lambda word, value: read_flat({f"rsalign_{word}": value}),
    "object": lambda word, value: read_object({word: value}),
    "--set": lambda word, value: read_arguments(None, [f"{word}={value}"]),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("word", RESERVED)
def test_words_that_every_strategy_understands(reader, word):
    text, value = RESERVED[word]
    assert getattr(READERS[reader](word, text), word.partition(".")[0]) == value


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(
    ("word", "text", "message"),
    [
        ("max_tokens", "0", "max_tokens=0: give a whole number of at least 1"),
        ("max_tokens", "2.5", "max_tokens=2.5: give a whole number of at least 1"),
        ("seed", "x", "seed='x': must be of type int or None: give a whole number"),
        ("on_reward_error", "panic", "on_reward_error='panic': give 'fail' or 'best'"),
        ("budget.seconds", "true", "budget.seconds=True: must be of type float or None"),
        ("budget.seconds", "-1", "Budget(seconds=-1.0): give a finite number above 0"),
        ("budget.policy_tokens", "1.5", "budget.policy_tokens=1.5: must be of type int or None"),
        ("budget.dollars", "1", "the budget has no limit 'dollars' (known: completion_tokens, pol"),
        ("budget", "5", "budget=5: give its limits by name, such as budget.seconds=10"),
    ],
)
def test_wrong_words_that_every_strategy_understands(reader, word, text, message):
    with pytest.raises(ConfigError) as refused:
        READERS[reader](word, text)
    assert str(refused.value).startswith(message)


def test_budgets_mean_the_same_at_every_door():
    expected = Budget(seconds=2.5, policy_tokens=32)
    words = {"budget.seconds": "2.5", "budget.policy_tokens": "32"}
    assert RULES.read(read_flat(flat("best_of", words))).budget == expected
    body = {"strategy": "plain", "budget": nested(words)["budget"]}
    assert RULES.read(read_object(body)).budget == expected
    assert Options(reward="x", strategy="plain", settings=words).request_rules().budget == expected
    assert Arguments.read({"strategy": "plain"} | words).budget == expected
    assert read_arguments("plain", [f"{k}={v}" for k, v in words.items()]).within(None) == expected
    with pytest.raises(ConfigError, match=r"budget\.seconds=2\.5 contradicts max_seconds=9"):
        Options(reward="x", strategy="plain", settings=words, max_seconds=9.0)


def test_none_asks_for_nothing_else():
    for read in (
        lambda: requested(read_flat({"rsalign": "none", "rsalign_n": 3}), BestOf()),
        lambda: RULES.read(read_object({"strategy": "none", "n": 3})),
        lambda: RULES.read(read_flat({"rsalign": "none", "rsalign_n": "3"})),
    ):
        with pytest.raises(ConfigError, match="'n' is given, but rsalign='none' asks for the engi"):
            read()
    assert RULES.read(read_flat({"rsalign": "none", "rsalign_entropy_threshold": 1.0})) is None


@pytest.mark.parametrize(
    "body",
    [
        "x" * 10_000_000,
        {"strategy": "x" * 10_000_000},
        {"strategy": "best_of", "x" * 1_000_000: 1},
        {"strategy": "best_of", "n": "x" * 1_000_000},
        {"strategy": "best_of", "n": ["x" * 1_000_000]},
        {"strategy": "best_of", "select": "x" * 1_000_000},
        {"strategy": "best_of", "budget": {"x" * 1_000_000: 1}},
        {"strategy": "best_of", "budget": "x" * 1_000_000},
        {"strategy": "none", "x" * 1_000_000: 1},
        {"strategy": ["x"] * 1_000_000},
        ["x"] * 1_000_000,
        {"strategy": "best_of", "n": int("9" * 4000)},
        {"on_reward_error": "x" * 1_000_000},
        {"strategy": "qalign", "tempering": "x" * 1_000_000},
        {"strategy": "best_of"} | {"x." * 100_000: 1},
    ],
    ids=range(15),
)
def test_a_message_shows_at_most_a_line_of_what_was_given(body):
    with pytest.raises(ConfigError) as refused:
        RULES.read(read_object(body))
    assert len(str(refused.value)) < 700  # the names that are known take half of it


def test_what_is_said_twice_must_agree():
    one = read_flat({"rsalign_n": "8", "rsalign": "best_of"})
    assert one.joined(read_object({"inner": "plain"})).settings == {"n": "8", "inner": "plain"}
    for other, message in (
        ("qalign", "two strategies are asked for, 'best_of' and 'qalign'"),
        ({"n": 9}, "'n' is given twice, as 8 and as 9"),
    ):
        with pytest.raises(ConfigError, match=message):
            one.joined(read_object(other))
    with pytest.raises(ConfigError, match=r"'select\.temperature' is given twice, as 1 and as 2"):
        read_object({"select": {"temperature": 1}, "select.temperature": 2})


@pytest.mark.parametrize("one", [8, 8.0, "8", "0x8", " 8 "])
def test_what_is_said_twice_may_be_written_in_two_ways(one):
    assert read_object({"n": one}).joined(read_flat({"rsalign_n": "8"})).given() == ("n",)
    assert read_arguments("best_of", [f"n={one}", "n=8"]).strategy() == BestOf(n=8)


def test_true_is_not_one():
    with pytest.raises(ConfigError, match="'recycle' is given twice, as 1 and as True"):
        read_arguments("qalign", ["recycle=1", "recycle=true"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--max-tokens", "9", "--set", "max_tokens=8"],
            "'max_tokens' is given twice, as 8 and as 9",
        ),
        (["--budget-seconds", "9", "--set", "budget.seconds=8"], "'budget.seconds' is given twice"),
        (["--seed", "9", "--set", "seed=8"], "'seed' is given twice, as 8 and as 9"),
        (["--set", "n={}"], "n={}: must be of type int"),
        (["--set", "n=4", "--set", "n=8"], "'n' is given twice, as 4 and as 8: give it once"),
        (
            ["--engine-arg", "max_model_len=64", "--engine-arg", "max_model_len=128"],
            "'max_model_len' is given twice, as 64 and as 128",
        ),
        (["--engine-arg", "x"], "--engine-arg 'x': give name=value"),
    ],
)
def test_the_command_line_says_so(arguments, message, tmp_path, capsys):
    source = tmp_path / "in.txt"
    source.write_text("Ann has")
    assert main(["generate", str(source), *arguments]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "declared", "meant"),
    [
        ("4", int | str, 4),
        ("none", str | None, None),
        ("true", str | bool, True),
        ("2,4", str | tuple[int, ...], (2, 4)),
        ("four", int | str, "four"),
    ],
)
def test_text_fits_everything_and_so_is_tried_last(text, declared, meant):
    found = convert("setting", text, declared)
    assert found == meant
    assert type(found) is type(meant)


def test_the_seed_0_is_a_seed():
    assert read_words(None, {"seed": 0}).joined(read_words("plain", {})).seed == 0
    assert read_words("plain", {}).joined(read_words(None, {"seed": "0"})).seed == 0


def test_whole_numbers_keep_all_their_digits():
    for number in (16, 2**53 + 1, 2**63 - 1):
        found = read_words(None, {"seed": str(number)}).seed
        assert found == number
        assert type(found) is int
        assert show(str(number)) == str(number)


def test_what_is_not_set_is_as_in_the_default_of_the_same_class():
    default = BestOf(n=2, inner=Plain(max_tokens=5))
    asked = read_words("best_of", {"n": 8}).strategy(default)
    assert asked == BestOf(n=8, inner=Plain(max_tokens=5))
    assert read_words("plain", {}).strategy(default) == Plain()


def test_a_length_reaches_every_strategy_inside():
    nested = BestOf(n=2, inner=Calibrate(inner=Cards(segmenter=Entropy(3.0), max_tokens=9)))
    limited = with_max_tokens(nested, 5)
    assert limited.inner.inner.max_tokens == 5
    assert limited == BestOf(n=2, inner=Calibrate(inner=replace(nested.inner.inner, max_tokens=5)))
