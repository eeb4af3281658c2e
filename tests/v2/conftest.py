"""vLLM's second model runner, the default on GPUs, on a CPU: `make v2` (see ``docs/v2.md``)."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent


def _why_not() -> str | None:
    """Why these tests cannot run in this process; None if they can."""
    if os.environ.get("VLLM_USE_V2_MODEL_RUNNER") != "1":
        return "vLLM's second model runner: run `make v2`, which installs Triton outside .venv"
    try:
        import triton  # noqa: F401
        import triton_interpreted  # noqa: F401
    except ImportError as missing:
        return f"vLLM's second model runner needs Triton ({missing}): run `make v2`"
    return None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skips the tests of this folder where there is no Triton, and says what to do."""
    reason = _why_not()
    for item in items:
        if reason is not None and HERE in item.path.parents:
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def first(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the first model runner answers to each of the scenarios, from a process of its own."""
    path = tmp_path_factory.mktemp("first") / "answers.json"
    environment = {name: v for name, v in os.environ.items() if name != "TRITON_INTERPRET"}
    # a path without Triton, as a CPU build of vLLM has it
    environment |= {"VLLM_USE_V2_MODEL_RUNNER": "0", "PYTHONPATH": str(HERE.parents[1])}
    subprocess.run(
        [sys.executable, str(HERE / "scenarios.py"), str(path)],
        check=True,
        env=environment,
        timeout=600,
    )
    answers: dict[str, Any] = json.loads(path.read_text())
    return answers
