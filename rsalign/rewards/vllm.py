"""A sequence-classification reward model run by vLLM (pooling runner)."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rsalign.core.errors import ConfigError, PolicyError, RewardError
from rsalign.core.protocols import Scored
from rsalign.core.types import Prompt, Response
from rsalign.engines.protocol import Backend, ScoreRequest, VllmEngine
from rsalign.engines.vllm.environment import import_vllm
from rsalign.engines.vllm.identity import EngineIdentity
from rsalign.engines.vllm.starting import start_engine
from rsalign.rewards.rendering import Rendering


@dataclass(frozen=True, slots=True)
class VllmReward:
    """The raw score (no sigmoid) of a one-label model in a vLLM engine.

    With prefix caching, scoring a longer version of a response computes its new tokens only. In
    float32, a score computed alone and one computed in a batch agree to 1e-4, and so do the scores
    of vLLM and transformers.

    Attributes:
        engine: a pooling engine that runs the model.

    Example:
        >>> from rsalign.embedded import REWARD
        >>> reward = VllmReward.start(REWARD)  # doctest: +SKIP
        >>> await reward.score(prompt, response)  # doctest: +SKIP
        2.39
    """

    engine: VllmEngine
    _rendering: Rendering = field(init=False, repr=False, compare=False)
    _identity: EngineIdentity = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        model = self.engine.vllm_config.model_config
        object.__setattr__(
            self, "_rendering", Rendering(self.engine.tokenizer, model.max_model_len)
        )
        identity = EngineIdentity.of(self.engine.vllm_config, self.engine.tokenizer)
        object.__setattr__(self, "_identity", identity)

    @classmethod
    def start(
        cls,
        model: str,
        *,
        backend: Backend = "auto",
        **engine_args: Any,
    ) -> "VllmReward":
        """Starts a pooling engine; takes the arguments of `VllmPolicy.start`.

        Raises:
            ConfigError: if the model is missing, has another number of labels than one, or has no
                chat template.
        """
        import_vllm()
        check_reward_model(model)
        engine = start_engine(model, backend=backend, pooling=True, **engine_args)
        try:
            return cls(engine)
        except BaseException:
            engine.close()
            raise

    @property
    def fingerprint(self) -> str:
        """Identifies this reward in a journal by the content of what the engine runs.

        Raises:
            ConfigError: if the model's files have changed since the engine was started or adopted.
        """
        return f"vllm {self._identity.fingerprint}"

    async def score(self, prompt: Prompt, response: Response) -> float:
        """The model's score of a complete or partial response; see `Reward`."""
        tokens = self._rendering.tokens(prompt, response)
        try:
            result = await self.engine.score(ScoreRequest(tokens=tokens))
        except PolicyError as died:
            raise RewardError(str(died), prompt=prompt, response=response) from died
        return Scored(
            result.scores[0][0], tokens=len(tokens), cached_tokens=result.num_cached_tokens
        )

    def close(self) -> None:
        """Stops the engine if we started it."""
        self.engine.close()


def check_reward_model(model: str) -> None:
    """Refuses a local model that is not a reward model, before an engine is started.

    A Hugging Face id is not checked here but by the engine, which downloads it.

    Raises:
        ConfigError: if the model does not have exactly one label, or has no chat template.
    """
    folder = Path(model)
    if not (folder / "config.json").is_file():
        return
    config = json.loads((folder / "config.json").read_text())
    labels = config.get("num_labels", len(config.get("id2label", {0: "", 1: ""})))
    if labels != 1:
        raise ConfigError(
            f"{model} has num_labels={labels}, but a reward model has 1: give one that was trained "
            "as a reward (AutoModelForSequenceClassification with num_labels=1)"
        )
    tokenizer = folder / "tokenizer_config.json"
    in_config = tokenizer.is_file() and "chat_template" in json.loads(tokenizer.read_text())
    if not in_config and not (folder / "chat_template.jinja").is_file():
        raise ConfigError(
            f"the reward model {model} has no chat template: set tokenizer.chat_template and save "
            "it (a reward is only meaningful in the format that the model was trained with)"
        )
