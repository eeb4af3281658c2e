"""Engines of the caller's are looked at before they are used."""

from types import SimpleNamespace

import pytest

from rsalign import ConfigError
from rsalign.engines.vllm.adopted import check_adopted

pytestmark = pytest.mark.vllm


def config(**changes):
    """What is read of vLLM's configuration."""
    values = {"runner_type": "generate", "chunked": True, "second": False} | changes
    return SimpleNamespace(
        model_config=SimpleNamespace(runner_type=values["runner_type"]),
        scheduler_config=SimpleNamespace(enable_chunked_prefill=values["chunked"]),
        use_v2_model_runner=values["second"],
    )


def test_a_cpu_engine_that_splits_prompts_is_refused_with_the_flag_to_add():
    with pytest.raises(ConfigError, match="--no-enable-chunked-prefill"):
        check_adopted(config())


@pytest.mark.parametrize(
    "changes", [{"chunked": False}, {"second": True}, {"runner_type": "pooling"}]
)
def test_others_are_taken(changes):
    check_adopted(config(**changes))
