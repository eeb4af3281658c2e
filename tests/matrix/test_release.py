"""With every release: what works is there, and what is off says which release it needs."""

import importlib
import logging
import subprocess
import sys

import pytest

from rsalign.core.errors import InstallError
from rsalign.embedded import POLICY
from rsalign.engines.vllm import environment
from rsalign.engines.vllm.building import engine_arguments, prepared_config
from rsalign.engines.vllm.environment import import_vllm, is_supported
from rsalign.engines.vllm.release import SINCE_0_31, parse_release
from rsalign.hooks.loading import add_hooks, hook_path, how_to_have_hook

pytestmark = pytest.mark.vllm


def test_the_installed_release_is_the_one_imported():
    vllm = import_vllm()
    assert is_supported(vllm.__version__)
    assert (parse_release(vllm.__version__) >= (0, 31)) == SINCE_0_31


def test_hooks_load_with_every_release():
    import_vllm()
    assert importlib.import_module("rsalign.hooks.v1").SegmentEnd


@pytest.mark.skipif(SINCE_0_31, reason="serving works with this release")
def test_the_server_says_which_release_it_needs():
    with pytest.raises(InstallError, match=r"serving needs vLLM 0\.31 or newer, and 0\.\d+"):
        importlib.import_module("rsalign.engines.vllm.openai_app")


def test_the_warning_of_a_version_appears_once(caplog):
    """Every engine that starts asks for vLLM."""
    with caplog.at_level(logging.WARNING, logger=environment.__name__):
        for _ in range(3):
            environment.warn_of_version("0.27.0")
            environment.warn_of_version("0.33.0")
    assert [record.getMessage() for record in caplog.records] == [
        "vLLM 0.27.0 is installed; rsalign works with 0.28 to 0.33: install one of these if "
        "something fails"
    ]


def test_the_command_line_needs_no_vllm_to_tell_the_release():
    code = "import rsalign.engines.vllm.release, sys; sys.exit('vllm' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.skipif(SINCE_0_31, reason="the second model runner takes hooks with this release")
def test_an_engine_with_hooks_gets_the_first_runner(monkeypatch):
    """Of an engine on a GPU, where the second one is the default."""
    import_vllm()
    import vllm.config.vllm
    from vllm.engine.arg_utils import EngineArgs

    monkeypatch.setattr(vllm.config.vllm, "HAS_TRITON", True)
    arguments = engine_arguments(POLICY, {}, pooling=False)
    assert EngineArgs(**arguments).create_engine_config().use_v2_model_runner
    config, _ = prepared_config(EngineArgs(**arguments), add_hooks, {})
    assert not config.use_v2_model_runner
    assert hook_path(config, "SegmentEnd") in config.model_config.logits_processors
    monkeypatch.setenv("VLLM_USE_V2_MODEL_RUNNER", "1")
    forced, _ = prepared_config(EngineArgs(**arguments), add_hooks, {})
    assert not forced.model_config.logits_processors
    assert "0.31" in how_to_have_hook(forced, "SegmentEnd")
