"""Preempts all requests of an engine in this process again and again."""

import contextlib


@contextlib.contextmanager
def preempting(policy, every):
    """Preempts all running requests after every so many steps; yields the list of how many."""
    engine, steps, preempted = policy.engine.vllm_engine, [0], []
    scheduler, step = engine.engine_core.engine_core.scheduler, engine.step

    def disturbed():
        outputs = step()
        steps[0] += 1
        if steps[0] % every == 0:
            preempted.append(len(scheduler.running))
            scheduler.reset_prefix_cache(reset_running_requests=True)
        return outputs

    engine.step = disturbed
    try:
        yield preempted
    finally:
        engine.step = step
