"""As on GPUs: a step is scheduled before the tokens of the one before it are known."""

from contextlib import contextmanager


@contextmanager
def kept():
    """While it is open, engines that are started in this process schedule asynchronously.

    vLLM's platform class for CPUs turns that off, whatever the arguments say.
    """
    from vllm.platforms.cpu import CpuPlatform

    method = CpuPlatform.__dict__["check_and_update_config"]

    def check_and_update_config(cls, config):
        method.__func__(cls, config)
        generates = config.model_config.runner_type == "generate"
        config.scheduler_config.async_scheduling = generates

    CpuPlatform.check_and_update_config = classmethod(check_and_update_config)
    try:
        yield
    finally:
        CpuPlatform.check_and_update_config = method
