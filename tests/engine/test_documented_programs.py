"""What README and the tutorials tell to run is run, on the engines that all tests share."""

import re
from pathlib import Path

import pytest

import rsalign
from rsalign import Aligner
from rsalign.embedded import POLICY, REWARD
from rsalign.rewards import VllmReward

ROOT = Path(rsalign.__file__).parents[1]
CODE = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
TUTORIALS = [
    page
    for page in sorted((ROOT / "docs" / "tutorials").glob("*.md"))
    if CODE.search(page.read_text(encoding="utf-8"))
]
POLICIES = {"embedded", POLICY, "meta-llama/Llama-3.1-8B-Instruct"}
REWARDS = {"embedded", REWARD, "Skywork/Skywork-Reward-V2-Llama-3.1-8B"}


@pytest.fixture
def shared(monkeypatch, policy, reward):
    """Models that are named, in place of which the running engines stand."""

    def open_aligner(model, judge=None, *arguments, **settings):
        if isinstance(model, str):
            assert model in POLICIES
            model = policy
        if isinstance(judge, str):
            assert judge in REWARDS
            judge = reward
        for name in ("engine_args", "reward_args"):
            assert set(settings.pop(name, ())) <= {"gpu_memory_utilization", "max_model_len"}
        return Aligner(model, judge, *arguments, **settings)

    class Shared:
        def __getattr__(self, name):
            return getattr(reward, name)

        def close(self):
            """The engine goes on for other tests."""

    def start(model):
        assert model in REWARDS
        return Shared()

    monkeypatch.setattr(rsalign, "Aligner", open_aligner)
    monkeypatch.setattr(VllmReward, "start", start)


@pytest.mark.engine
@pytest.mark.parametrize("page", TUTORIALS, ids=lambda page: page.stem)
def test_a_tutorial_runs_from_its_first_line_to_its_last(page, shared, capsys):
    program = "\n".join(CODE.findall(page.read_text(encoding="utf-8")))
    exec(compile(program, page.name, "exec"), {"__name__": "__main__"})
    assert capsys.readouterr().out


@pytest.mark.engine
def test_the_program_of_the_readme_runs(shared, capsys):
    program, *_ = CODE.findall((ROOT / "README.md").read_text(encoding="utf-8"))
    exec(compile(program, "README.md", "exec"), {"__name__": "__main__"})
    assert re.search(r"-?\d+\.\d+\n", capsys.readouterr().out)
