"""TruthfulQA: written answers against references, and weighed choices."""

import json
import math

import pytest

from eval.graders.references import overlap
from eval.tasks.rows import read_rows
from eval.tasks.truthfulqa import TruthfulQa
from eval.tasks.truthfulqa_choices import TruthfulQaChoices
from rsalign import ConfigError

ROWS = read_rows("bundled", split="", limit=None, bundled="truthfulqa/generation.jsonl")
TASK = TruthfulQa(path="bundled")


def test_references_grade_as_what_they_are():
    """A true reference is closer to itself than to a false one, and the other way round."""
    for item, row in zip(TASK.load(), ROWS, strict=True):
        assert item.group == row["Category"]
        assert item.gold["right"].count("I have no comment.") == 1
        right = TASK.grade(item, row["Best Answer"])
        assert (right.score, right.details["rouge1_right"]) == (1, 1)
        wrong = TASK.grade(item, item.gold["wrong"][0])
        assert (wrong.score, wrong.details["rouge1_wrong"]) == (0, 1)
        assert not wrong.details["tie"]


def test_a_tie_is_a_failure_and_is_told():
    item = TASK.load()[0]
    grade = TASK.grade(item, "zzz")
    assert grade.score == 0
    assert grade.details == {"rouge1_right": 0, "rouge1_wrong": 0, "tie": True}


@pytest.mark.parametrize(
    ("metric", "right"),
    [("rouge1", 6 / 7), ("rouge2", 2 / 5), ("rougeL", 4 / 7)],
)
def test_overlap_is_an_f_measure(metric, right):
    """cats sleep all day / all cats sleep: 3 of 3 and 3 of 4 words, 1 of 2 and of 3 pairs."""
    found = overlap(
        "All cats sleep.", right=["Cats sleep all day.", "No."], wrong=["Dogs bark"], metric=metric
    )
    assert found.right == pytest.approx(right)
    assert found.wrong == 0


def test_the_hub_and_the_authors_have_the_same_items(tmp_path):
    row = ROWS[0]
    columns = "Category,Question,Best Answer,Correct Answers,Incorrect Answers"
    csv, jsonl = tmp_path / "a.csv", tmp_path / "b.jsonl"
    csv.write_text(columns + "\n" + ",".join(f'"{row[name]}"' for name in columns.split(",")))
    lists = {
        "category": row["Category"],
        "question": row["Question"],
        "correct_answers": [f" {answer} " for answer in row["Correct Answers"].split("; ")],
        "incorrect_answers": row["Incorrect Answers"].split("; "),
    }
    jsonl.write_text(json.dumps(lists))
    first = TASK.load()[:1]
    assert TruthfulQa(path=str(csv)).load() == first
    assert TruthfulQa(path=str(jsonl)).load() == first


def test_completion_form():
    task = TruthfulQa(path="bundled", form="completion")
    item = task.load()[0]
    assert item.text.endswith(f"Spain.\n\nQ: {item.messages[0].content}\nA:")
    assert any("true.\n\nQ: And?".find(stop) > 0 for stop in task.stop)
    assert (TASK.stop, TASK.load()[0].text) == ((), None)


@pytest.mark.parametrize("settings", [{"form": "essay"}, {"metric": "bleurt"}])
def test_settings(settings):
    with pytest.raises(ConfigError, match=next(iter(settings))):
        TruthfulQa(**settings)
    with pytest.raises(ConfigError, match="targets='mc0'"):
        TruthfulQaChoices(targets="mc0")


def test_mc1_is_the_most_probable_choice():
    task = TruthfulQaChoices(path="bundled")
    for item in task.load():
        labels, count = item.gold["labels"], len(item.gold["choices"])
        assert labels.count(1) == 1
        assert task.choices(item) == tuple(f" {choice}" for choice in item.gold["choices"])
        for best in range(count):
            log_probs = [-1.0 if i == best else -1.5 for i in range(count)]
            grade = task.grade_choices(item, log_probs)
            assert grade.score == labels[best]
            assert grade.answer == item.gold["choices"][best]
        tie = task.grade_choices(item, [-1.0] * count)
        assert (tie.score, tie.details) == (0, {"tie": True})


def test_mc2_is_the_share_of_true_choices():
    task = TruthfulQaChoices(path="bundled", targets="mc2")
    for item in task.load():
        labels = item.gold["labels"]
        even = task.grade_choices(item, [-2000.0] * len(labels))
        assert even.score == pytest.approx(sum(labels) / len(labels))
        sure = task.grade_choices(item, [0.0 if label else -math.inf for label in labels])
        assert sure.score == 1
        twice = task.grade_choices(item, [math.log(0.2 if label else 0.1) for label in labels])
        true, false = sum(labels), len(labels) - sum(labels)
        assert twice.score == pytest.approx(2 * true / (2 * true + false))


def test_choices_of_the_hub(tmp_path):
    file = tmp_path / "validation.jsonl"
    file.write_text(
        '{"question": "Q", "mc1_targets": {"choices": ["a", "b"], "labels": [1, 0]}, '
        '"mc2_targets": {"choices": ["a", "b"], "labels": [1, 0]}}'
    )
    (item,) = TruthfulQaChoices(path=str(tmp_path)).load()
    assert item.gold == {"choices": ["a", "b"], "labels": [1, 0]}
    assert item.text.endswith("\n\nQ: Q\nA:")


@pytest.mark.parametrize("log_probs", [[], [-1.0], [0.1, -1.0], [math.nan, -1.0], [-math.inf] * 2])
def test_log_probabilities_that_are_none(tmp_path, log_probs):
    file = tmp_path / "a.jsonl"
    file.write_text('{"question": "Q", "mc1_targets": {"a": 1, "b": 0}}')
    task = TruthfulQaChoices(path=str(file))
    with pytest.raises(ConfigError, match="log_probs"):
        task.grade_choices(task.load()[0], log_probs)


def test_the_best_of_all_references_counts_and_words_are_stemmed():
    found = overlap("cats run", right=["fish", "cat runs"], wrong=["dog", "cats"], metric="rouge1")
    assert (found.right, found.wrong) == (1, pytest.approx(2 / 3))
