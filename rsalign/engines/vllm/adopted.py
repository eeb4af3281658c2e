"""What is looked at before an engine that the caller started is used."""

from typing import TYPE_CHECKING

from rsalign.core.errors import ConfigError
from rsalign.engines.vllm.environment import is_cpu_build
from rsalign.engines.vllm.logits_processors import model_runner

if TYPE_CHECKING:
    from vllm.config import VllmConfig


def check_adopted(config: "VllmConfig") -> None:
    """Refuses an engine that rsalign's requests would end.

    Every draw of rsalign has a seed. On CPUs vLLM's first model runner splits long prompts unless
    told otherwise, and fails on a seeded request whose prompt is split ("CPU Generator does not use
    offset"), with all other requests that are open.

    Raises:
        ConfigError: if the engine is such a one.
    """
    if (
        is_cpu_build()
        and config.model_config.runner_type == "generate"
        and config.scheduler_config.enable_chunked_prefill
        and model_runner(config) == "v1"
    ):
        raise ConfigError(
            "this engine splits prompts (chunked prefill), and vLLM's CPU build ends with all of "
            "its requests on a seeded one whose prompt is split: start it with "
            "enable_chunked_prefill=False and max_num_batched_tokens of at least max_model_len (on "
            "the command line, --no-enable-chunked-prefill --max-num-batched-tokens 16384)"
        )
