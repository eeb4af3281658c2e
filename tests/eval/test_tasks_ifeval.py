"""IFEval: the original's verdicts, with and without the tokenizer's data."""

import asyncio
import os
import subprocess
import sys

import nltk
import pytest
from nltk.tokenize.punkt import PunktTrainer, save_punkt_params

from eval.graders.instructions import NEED_TOKENIZER, prepare_checks
from eval.graders.task_reward import TaskReward
from eval.tasks.ifeval import IfEval
from eval.tasks.protocol import Item
from rsalign import ConfigError, Message, Prompt, Response, Stop

TASK = IfEval(path="bundled")
ITEMS = TASK.load()

prepare_checks()
from lm_eval.tasks.ifeval.utils import process_results  # noqa: E402 - it downloads on import


@pytest.fixture
def no_data(monkeypatch, tmp_path):
    monkeypatch.setattr(nltk.data, "path", [str(tmp_path)])


@pytest.fixture
def data(monkeypatch, tmp_path):
    """A sentence tokenizer in NLTK's own layout, trained here on the requests themselves."""
    monkeypatch.setattr(nltk.data, "path", [str(tmp_path)])
    folder = tmp_path / "tokenizers" / "punkt_tab" / "english"
    folder.mkdir(parents=True)
    trainer = PunktTrainer()
    trainer.train("\n".join(item.messages[0].content for item in ITEMS), finalize=True)
    save_punkt_params(trainer.get_params(), dir=str(folder))


def asking(*instructions, **arguments):
    given = [{} for _ in instructions]
    given[0] = arguments
    gold = {"instructions": list(instructions), "arguments": given}
    return Item(id="a", messages=(Message("user", "Write."),), gold=gold)


TEXTS = [
    "Hello there. This is a reply, with a comma.\n\n* one\n* two\n\nP.S. the end",
    "hello there this is a reply in lower case with no commas at all and nothing else",
    "THIS IS ALL IN CAPITAL LETTERS AND IN ENGLISH, AS IT SHOULD BE WRITTEN HERE",
    '"Quoted [name] [address] [date]"\n<<A title>>\n*one* *two* *three*\n***\nMore.',
    '{"key": "a value of the JSON object"}',
    "Sure!\nMy answer is yes.\nIs there anything else I can help with?",
    "one answer\n******\nanother answer",
    "Das ist eine Antwort auf Deutsch, und sie ist nicht besonders lang geraten.",
    "**SECTION 1** word\n\n***\n\nSection 2 word " + "word " * 400,
]


@pytest.mark.usefixtures("data")
def test_verdicts_are_the_originals():
    loose = IfEval(path="bundled", reading="loose")
    verdicts = set()
    for item in ITEMS:
        row = {
            "key": item.id,
            "prompt": item.messages[0].content,
            "instruction_id_list": item.gold["instructions"],
            "kwargs": item.gold["arguments"],
        }
        for text in [*TEXTS, f"{item.messages[0].content}\n\n{TEXTS[0]}"]:
            theirs = process_results(row, [text])
            strict, generous = TASK.grade(item, text), loose.grade(item, text)
            if item.id in DRAWN:
                assert "random" in strict.details["ungradable"]
                continue
            assert strict.score == theirs["prompt_level_strict_acc"]
            assert generous.score == theirs["prompt_level_loose_acc"]
            assert list(strict.details["strict"]) == theirs["inst_level_strict_acc"]
            assert list(strict.details["loose"]) == theirs["inst_level_loose_acc"]
            verdicts.add((strict.score, generous.score))
    assert verdicts == {(0, 0), (0, 1), (1, 1)}


DRAWN = {"1122", "1129"}  # ask for letters that the original replaces by random ones

KNOWN = [
    (asking("punctuation:no_comma"), "No comma here.", "One, two."),
    (asking("startend:quotation"), '"All of it."', '"Not" all of it.'),
    (asking("detectable_format:title"), "<<Poem>>\nRoses", "Poem\nRoses"),
    (asking("language:response_language", language="de"), TEXTS[7], TEXTS[0]),
    (asking("length_constraints:number_words", num_words=5, relation="less than"), "a b", "a " * 5),
    (asking("keywords:existence", keywords=["rose", "violet"]), "A Rose. Violet.", "A rose."),
    (asking("detectable_format:json_format"), '```json\n{"a": [1]}\n```', "a: 1"),
    (asking("combination:two_responses"), "one ****** two", "one ****** one"),
    (
        asking("combination:repeat_prompt", prompt_to_repeat="Do it."),
        "Do it. Done.",
        "Done. Do it.",
    ),
]


@pytest.mark.parametrize(
    ("item", "right", "wrong"),
    KNOWN,
    ids=lambda v: "" if isinstance(v, str) else v.gold["instructions"][0],
)
def test_known_verdicts(item, right, wrong):
    assert TASK.grade(item, right).score == 1
    assert TASK.grade(item, wrong).score == 0


def test_all_instructions_count():
    item = asking("punctuation:no_comma", "startend:quotation")
    assert TASK.grade(item, '"Both"').score == 1
    half = TASK.grade(item, '"One, two"')
    assert half.score == 0
    assert half.details["strict"] == (False, True)


def test_asterisks_do_not_count_in_the_loose_reading():
    item = asking("startend:end_checker", end_phrase="The end.")
    assert TASK.grade(item, "**The end.**").score == 0
    assert IfEval(reading="loose").grade(item, "**The end.**").score == 1


@pytest.mark.usefixtures("no_data")
def test_without_data_the_same_items_are_ungradable_for_every_answer():
    for text in TEXTS:
        for item in ITEMS:
            grade = TASK.grade(item, text)
            if item.id in DRAWN:
                continue
            needy = not NEED_TOKENIZER.isdisjoint(item.gold["instructions"])
            assert (grade.score is None) == needy
            assert not needy or "nltk.downloader punkt_tab" in grade.details["ungradable"]


@pytest.mark.usefixtures("data")
def test_sentences_are_counted_with_data():
    item = asking("length_constraints:number_sentences", num_sentences=3, relation="at least")
    assert TASK.grade(item, "It is one. It is two. It is three.").score == 1
    assert TASK.grade(item, "It is one. It is two.").score == 0
    item = asking(
        "change_case:capital_word_frequency", capital_frequency=2, capital_relation="at least"
    )
    assert TASK.grade(item, "ONE and TWO.").score == 1
    assert TASK.grade(item, "ONE and two.").score == 0


def test_grading_neither_downloads_nor_draws():
    """In a fresh process: the checks are first imported there, and language detection draws."""
    program = """
import socket, sys, nltk
def refuse(*_): raise SystemExit("it opened a connection")
socket.socket.connect = refuse
nltk.data.path = []
from eval.tasks.ifeval import IfEval
task = IfEval(path="bundled")
task.prepare()
import os, langdetect
detected = {str(langdetect.detect_langs("ein Wort or two")) for _ in range(20)}
print(os.environ.get("LOCAL_RANK"), len(detected))
"""
    root = os.path.dirname(os.path.dirname(sys.modules["eval"].__file__))
    env = {name: value for name, value in os.environ.items() if name != "LOCAL_RANK"}
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        env={**env, "PYTHONPATH": root},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["None", "1"]


def test_rows_of_the_hub_have_nulls(tmp_path):
    file = tmp_path / "train.jsonl"
    file.write_text(
        '{"key": 1, "prompt": "P", "instruction_id_list": ["detectable_format:title"], '
        '"kwargs": [{"num_words": null}]}'
    )
    (item,) = IfEval(path=str(file)).load()
    assert item.gold["arguments"] == [{}]
    assert item.group == "detectable_format"


def test_an_unknown_instruction_is_refused():
    with pytest.raises(ConfigError, match="unknown instructions \\['a:b'\\]"):
        TASK.grade(asking("a:b"), "x")
    with pytest.raises(ConfigError, match="reading='lenient'"):
        IfEval(reading="lenient")


def test_which_checks_need_the_tokenizer():
    assert {*NEED_TOKENIZER} == {
        "change_case:capital_word_frequency",
        "length_constraints:number_sentences",
    }


@pytest.mark.parametrize("text", ['Sure!\n"quoted"', '"quoted"\nBye!', 'Sure!\n"quoted"\nBye!'])
def test_a_loose_reading_leaves_out_the_first_line_the_last_or_both(text):
    quoted = asking("startend:quotation")
    assert TASK.grade(quoted, text).score == 0
    assert IfEval(path="bundled", reading="loose").grade(quoted, text).score == 1


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        (
            "keywords:letter_frequency",
            {"letter": "Q", "let_frequency": 1, "let_relation": "at least"},
        ),
        ("startend:end_checker", {"end_phrase": " Quite so. "}),
    ],
)
def test_a_check_may_change_case_and_blanks_of_its_arguments(name, arguments):
    grade = TASK.grade(asking(name, **arguments), "Quite so.")
    assert "ungradable" not in grade.details
    assert grade.score == 1


@pytest.mark.usefixtures("no_data")
def test_the_check_is_a_reward_that_orders_answers_which_do_not_follow_all():
    reward = TaskReward(task=TASK)
    item = next(one for one in ITEMS if len(one.gold["instructions"]) > 1)
    prompt = Prompt(item.messages, (1,))

    def value(text):
        return asyncio.run(reward.score(prompt, Response((1,), text, Stop.EOS)))

    shares = {text: value(text) for text in TEXTS}
    graded = {text: TASK.grade(item, text) for text in TEXTS}
    for text, share in shares.items():
        strict = graded[text].details["strict"]
        assert share == sum(strict) / len(strict)
    assert len(set(shares.values())) > 1
    other, response = Prompt((Message("user", "Sing."),), (1,)), Response((1,), "La", Stop.EOS)
    with pytest.raises(ConfigError, match="none of the items of task ifeval"):
        asyncio.run(reward.score(other, response))
