"""What the package promises about itself."""

import subprocess
import sys
from pathlib import Path

import pytest

import rsalign

ROOT = Path(rsalign.__file__).parent


def test_public_names_are_sorted_documented_and_there():
    assert rsalign.__all__ == sorted(rsalign.__all__)
    for name in rsalign.__all__:
        assert getattr(rsalign, name).__doc__, f"{name} has no docstring"


def test_importing_is_light():
    """Neither torch nor vllm: whoever only wants types does not wait for them."""
    program = (
        "import sys, rsalign, rsalign.testing;"
        "heavy = {'torch', 'vllm', 'transformers', 'scipy', 'numpy', 'tqdm'} & set(sys.modules);"
        "sys.exit(', '.join(sorted(heavy)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, f"import rsalign loads {done.stderr}"


def test_policies_and_engines_load_vllm_only_when_they_are_used():
    program = (
        "import sys, rsalign.engines.vllm.starting, rsalign.engines.vllm.llm_class;"
        "import rsalign.engines.vllm.text, rsalign.engines.remote, rsalign.hooks.shared.admission;"
        "import rsalign.policies.vllm, rsalign.rewards.vllm;"
        "sys.exit(', '.join({'torch', 'vllm', 'transformers', 'openai'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, f"without any engine they load {done.stderr}"


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda p: str(p.relative_to(ROOT)))
def test_files_hold_one_idea(path):
    assert path.name not in {"utils.py", "helpers.py", "common.py", "misc.py"}
    assert len(path.read_text().splitlines()) <= 400


def test_models_are_small():
    models = [path for path in (ROOT / "embedded" / "models").rglob("*") if path.is_file()]
    assert models
    assert sum(path.stat().st_size for path in models) < 8e6
