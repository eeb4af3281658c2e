"""Strategies under a stock ``vllm serve``: an endpoint plug-in, loaded by ``VLLM_PLUGINS=rsalign``.

Its options are one JSON object in the environment variable RSALIGN_SERVE, such as
``{"reward": "org/reward-model", "strategy": "best_of", "settings": {"n": 8}}``; names and values
are those of `rsalign.serve.options.Options`. Segments that end by entropy or punctuation need our
logits processors (``--logits-processors``), and self-certainty our worker extension
(``--worker-extension-cls``): see docs/serving.md.
"""

import asyncio
import os
from argparse import Namespace
from typing import Any

from fastapi import FastAPI

from rsalign.policies.vllm import VllmPolicy
from rsalign.serve.app import align_state, prepare_app
from rsalign.serve.client import AlignedClient
from rsalign.serve.guarded_reward import GuardedReward
from rsalign.serve.lifecycle import drain, num_open
from rsalign.serve.observe import Observer, log_to_stderr
from rsalign.serve.options import Options
from rsalign.serve.telemetry import Metrics, Tracing
from rsalign.words.named_parts import StartedParts

ENVIRONMENT = "RSALIGN_SERVE"


class AlignmentPlugin:
    """An `EndpointPlugin` of vLLM.

    Args:
        options: None: read from the environment.
        reward: already started; None: the one that `options` name is started.
        parts: named parts, likewise.
    """

    name = "rsalign"
    required_tasks = ("generate",)

    def __init__(
        self,
        options: Options | None = None,
        reward: GuardedReward | None = None,
        parts: StartedParts | None = None,
    ) -> None:
        self._options = options or Options.from_json(os.environ.get(ENVIRONMENT, "{}"))
        self._reward, self._parts = reward, parts
        self._client: AlignedClient | None = None
        self._state: Any = None

    async def abort(self) -> None:
        """Ends all aligned requests that are under way: their reward may never answer."""
        if self._client is not None:
            await self._client.abort_all()

    async def drain(self) -> None:
        """Lets open requests end, for `Options.drain_seconds` at most."""
        if self._client is not None and self._state is not None:
            state = self._state
            await drain(self._client, lambda: num_open(state), self._options.drain_seconds)

    def attach_router(self, app: FastAPI) -> None:
        """Prepares the application; vLLM calls this before its handlers exist."""
        prepare_app(app)

    async def init_state(self, engine_client: Any, state: Any, args: Namespace) -> None:
        """Starts what is missing and puts the client in place; vLLM's handlers exist by now."""
        if isinstance(engine_client, AlignedClient) or engine_client is None:
            return
        log_to_stderr()
        if self._reward is None:
            self._reward = await asyncio.to_thread(
                self._options.start_reward, lambda: VllmPolicy.adopt(engine_client)
            )
        if self._parts is None:
            self._parts = await asyncio.to_thread(
                self._options.start_parts, lambda: VllmPolicy.adopt(engine_client)
            )
        config = engine_client.vllm_config
        traced = config.observability_config.otlp_traces_endpoint is not None
        client = AlignedClient(
            engine_client,
            self._reward,
            rules=self._options.request_rules(),
            admission=self._options.admission(),
            window=self._options.window(),
            degrades=self._options.on_reward_error == "plain",
            parts=self._parts.parts,
            observer=Observer(
                Metrics(str(config.model_config.served_model_name)),
                Tracing() if traced else None,
            ),
        )
        self._client, self._state = client, state
        if client.observer.metrics is not None:
            client.observer.metrics.watch(client.admission, client.window)
        seconds = self._options.keep_alive_seconds
        if vllm_seconds := getattr(args, "sse_keep_alive_interval", 0):
            seconds = 0.8 * vllm_seconds  # ours come first, and say more
        align_state(state, client, interval_seconds=seconds)
