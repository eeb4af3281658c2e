"""What every task promises; the tasks' own tests are beside."""

import json
import pickle
from dataclasses import fields
from pathlib import Path

import pytest
import yaml
from hydra.utils import instantiate

import eval
from eval.tasks.protocol import ChoiceTask, Grade, Task
from eval.tasks.registry import TASKS
from rsalign import ConfigError, Message

CONF = Path(eval.__file__).parent.parent / "conf" / "task"
NOT_BUNDLED = ("alpaca_eval", "gsm_symbolic", "prompts")
BUNDLED = [kind for name, kind in TASKS.items() if name not in NOT_BUNDLED]


def bundled(kind):
    return kind() if kind.name == "arithmetic" else kind(path="bundled")


def test_the_registry_is_by_name():
    assert {name: kind.name for name, kind in TASKS.items()} == {name: name for name in TASKS}
    for kind in TASKS.values():
        assert isinstance(kind(), ChoiceTask if kind.name == "truthfulqa_choices" else Task)


@pytest.mark.parametrize("kind", BUNDLED, ids=lambda kind: kind.name)
def test_items(kind):
    task = bundled(kind)
    items = task.load()
    assert len(items) >= 20
    assert len({item.id for item in items}) == len(items)
    assert task.load() == items
    assert pickle.loads(pickle.dumps(task)).load() == items
    assert type(task)(**{field.name: getattr(task, field.name) for field in fields(task)}) == task
    for item in items:
        assert item.messages
        assert all(isinstance(one, Message) and one.content for one in item.messages)
        assert item.messages[-1].role == "user"
        assert item.text is None or item.text.strip()
        assert json.loads(json.dumps(item.gold)) == item.gold


@pytest.mark.parametrize("kind", BUNDLED, ids=lambda kind: kind.name)
def test_a_limit_takes_the_first(kind):
    task = bundled(kind)
    limited = type(task)(
        **{**{field.name: getattr(task, field.name) for field in fields(task)}, "limit": 3}
    )
    assert limited.load() == task.load()[:3]
    with pytest.raises(ConfigError, match="limit=0"):
        kind(limit=0)


@pytest.mark.parametrize(
    "kind", [kind for kind in BUNDLED if kind.name != "truthfulqa_choices"], ids=lambda k: k.name
)
@pytest.mark.parametrize(
    "text", ["", " \n", "\x00", "{}[]\\boxed{", "\\boxed{\\frac{1}{0}}", "?" * 99]
)
def test_nonsense_is_no_success(kind, text):
    task = bundled(kind)
    task.prepare()
    for item in task.load()[:12]:
        grade = task.grade(item, text)
        assert grade == task.grade(item, text)
        json.dumps(dict(grade.details))
        if grade.score is None:
            assert grade.details["ungradable"]
        elif task.name != "ifeval":  # which asks for no commas, and gets none
            assert grade.score == 0, text


@pytest.mark.parametrize("score", [-0.1, 1.1, float("nan"), float("inf")])
def test_a_grade_is_between_0_and_1(score):
    with pytest.raises(ConfigError, match="between 0 and 1"):
        Grade(score=score)


# but for `named`, which names a class of one's own
FILES = sorted(file for file in CONF.glob("*.yaml") if file.stem != "named")


def test_every_task_has_a_configuration():
    kinds = {instantiate(yaml.safe_load(file.read_text())).name for file in FILES}
    assert kinds == set(TASKS)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_configuration_gives_the_defaults(file):
    """So that a sweep and a script which say nothing do the same."""
    task = instantiate(yaml.safe_load(file.read_text()))
    if file.stem == "hh_rlhf_helpful":
        assert task == type(task)(subset="helpful-base")
    else:
        assert task == type(task)()
