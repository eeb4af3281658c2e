"""Prompts of one's own: what rows may look like, what each metric says, code of one's own."""

import asyncio
import json
import pickle

import pytest

from eval.graders.task_reward import TaskReward
from eval.tasks.prompts import Prompts, named_task
from rsalign import ConfigError, Message, Prompt, Response, Stop

OWN = """
from dataclasses import dataclass
from eval.tasks.arithmetic import Arithmetic

def polite(answer, row):
    return row["word"] in answer

def odd(answer, row):
    return 7

def unsure(answer, row):
    return None

class Mine(Arithmetic):
    pass
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    (tmp_path / "own_of_prompts.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def task_of(rows, folder, **settings):
    (folder / "mine.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return Prompts(path=str(folder / "mine.jsonl"), **settings)


def score(task, text):
    [item] = task.load()
    return task.grade(item, text).score


@pytest.mark.parametrize(
    ("metric", "answer", "right", "wrong"),
    [
        ("exact", "Paris", "  *paris*. ", "It is Paris"),
        ("exact", ["a", "B"], "b", "c"),
        ("contains", "Paris", "It is\nPARIS!", "Rome"),
        ("contains", "New York", "in new\n york city", "York"),
        ("number", 1200, "so it is 1,200.", "1201"),
        ("math", "1/2", r"\boxed{\frac{1}{2}}", r"\boxed{2}"),
    ],
)
def test_metrics(tmp_path, metric, answer, right, wrong):
    task = task_of([{"prompt": "?", "answer": answer}], tmp_path, metric=metric)
    task.prepare()
    assert (score(task, right), score(task, wrong), score(task, "")) == (1, 0, 0)
    assert pickle.loads(pickle.dumps(task)) == task


def test_rows(tmp_path):
    conversation = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes?"}]
    rows = [
        {"question": "a", "id": "first", "group": "g", "cluster": "c"},
        {"messages": [*conversation, {"role": "user", "content": "Sing."}]},
    ]
    one, two = task_of(rows, tmp_path, system="Be short.").load()
    system = Message("system", "Be short.")
    assert (one.id, one.group, one.cluster) == ("first", "g", "c")
    assert one.messages == (system, Message("user", "a"))
    assert (two.id, len(two.messages), two.text) == ("1", 4, None)
    assert task_of(rows[:1], tmp_path, form="completion").load()[0].text == "a"


def test_a_function_of_ones_own_grades(own):
    rows = [{"prompt": "?", "word": "please"}]
    polite = task_of(rows, own, metric="own_of_prompts:polite")
    assert (score(polite, "please go"), score(polite, "go")) == (1, 0)
    assert score(task_of(rows, own, metric="own_of_prompts:unsure"), "go") is None
    [item] = polite.load()
    grade = task_of(rows, own, metric="own_of_prompts:odd").grade(item, "go")
    assert "returned 7" in grade.details["ungradable"]
    reward = TaskReward(task=polite)
    response = Response((1,), "please", Stop.EOS)
    assert asyncio.run(reward.score(Prompt(item.messages, (1,)), response)) == 1
    assert asyncio.run(reward.score(Prompt((Message("user", "?"),), (1,)), response)) == 1


def test_a_task_of_ones_own(own):
    assert named_task("own_of_prompts:Mine", {"limit": 3}).limit == 3
    for name, settings, said in [
        ("own_of_prompts:Mine", {"limits": 3}, "cannot be made of task.settings"),
        ("own_of_prompts:OWN", {}, "cannot load the task"),
        ("own_of_prompts", {}, "give module:name"),
        ("json:JSONDecoder", {}, "which is no task"),
    ]:
        with pytest.raises(ConfigError, match=said):
            named_task(name, settings)


@pytest.mark.parametrize(
    ("row", "settings", "said"),
    [
        ({"prompt": "?"}, {"metric": "exact"}, "row 1 of .* has no right answer"),
        ({"prompt": "?", "answer": []}, {"metric": "contains"}, "has no right answer"),
        ({"prompt": "?", "answer": ""}, {"metric": "contains"}, "has no right answer"),
        ({"prompt": "?", "answer": "x"}, {"metric": "number"}, "'x' is no number"),
        ({"messages": "?"}, {}, "must be a list of messages"),
        ({"ask": "?"}, {}, "no column 'prompt' or 'question'"),
        ({"messages": [{"role": "user", "content": "a"}] * 2}, {"form": "completion"}, "cannot"),
    ],
)
def test_wrong_rows_are_refused(tmp_path, row, settings, said):
    with pytest.raises(ConfigError, match=said):
        task_of([row], tmp_path, **settings).load()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"metric": "exactly"}, "choose one of none, exact"),
        ({"metric": "no_such_module:f"}, "cannot load the metric"),
        ({"metric": "json:JSONDecoder"}, "name a function"),
        ({"form": "completion", "system": "x"}, "system is part of a conversation"),
    ],
)
def test_wrong_settings_are_refused(settings, said):
    with pytest.raises(ConfigError, match=said):
        Prompts(path="x", **settings)
    with pytest.raises(ConfigError, match=r"task\.path is missing"):
        Prompts().load()
