"""A sequence-classification reward model run by vLLM (pooling runner)."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rsalign.core.errors import PolicyError, RewardError
from rsalign.core.types import Prompt, Response
from rsalign.engines.protocol import Backend, ScoreRequest, VllmEngine
from rsalign.engines.vllm.identity import EngineIdentity
from rsalign.rewards.labels import LabelChoice, LabelReader, LabelSetting
from rsalign.rewards.pairs import PairRendering, choose_rendering, suffix_of
from rsalign.rewards.rendering import Rendering
from rsalign.rewards.reward_engine import labels_of, start_reward_engine

if TYPE_CHECKING:
    from vllm.config import ModelConfig


@dataclass(frozen=True, slots=True)
class VllmReward:
    """The raw score (no sigmoid) of a model in a vLLM engine.

    A conversation is rendered by the model's chat template. An encoder without one (DeBERTa, BERT)
    reads the prompt's text and the response as a pair of texts.

    With prefix caching, scoring a longer version of a response computes its new tokens only. In
    float32, a score computed alone and one computed in a batch agree to 1e-4, and so do the scores
    of vLLM and transformers.

    Attributes:
        engine: a pooling engine that runs the model.
        label: which label is the reward, for a model with several: see `LabelChoice.of`.
        chat_template: used instead of the tokenizer's.

    Raises:
        ConfigError: if the model has several labels and none was chosen, or no chat template.

    Example:
        >>> from rsalign.embedded import REWARD
        >>> reward = VllmReward.start(REWARD)  # doctest: +SKIP
        >>> await reward.score(prompt, response)  # doctest: +SKIP
        2.39
        >>> safe = VllmReward.start("org/safety", label="safe")  # doctest: +SKIP
    """

    engine: VllmEngine
    label: LabelSetting = None
    chat_template: str | None = None
    _reader: LabelReader = field(init=False, repr=False, compare=False)
    _rendering: Rendering | PairRendering = field(init=False, repr=False, compare=False)
    _identity: EngineIdentity = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        model, tokenizer = self.engine.vllm_config.model_config, self.engine.tokenizer
        choice = LabelChoice.of(self.label)
        reader, rendering = _read_model(model, tokenizer, choice, self.chat_template)
        object.__setattr__(self, "_reader", reader)
        object.__setattr__(self, "_rendering", rendering)
        identity = EngineIdentity.of(self.engine.vllm_config, tokenizer)
        object.__setattr__(self, "_identity", identity)

    @classmethod
    def start(
        cls,
        model: str,
        *,
        label: LabelSetting = None,
        chat_template: str | None = None,
        backend: Backend = "auto",
        **engine_args: Any,
    ) -> "VllmReward":
        """Starts a pooling engine; takes the arguments of `VllmPolicy.start` and of the class.

        Raises:
            ConfigError: if the model is missing, has several labels and none was chosen, or has no
                chat template.
        """
        choice = LabelChoice.of(label)

        def check(described: "ModelConfig", tokenizer: Any) -> object:
            return _read_model(described, tokenizer, choice, chat_template)

        engine = start_reward_engine(model, check, backend=backend, **engine_args)
        try:
            return cls(engine, label, chat_template)
        except BaseException:
            engine.close()
            raise

    @property
    def fingerprint(self) -> str:
        """Identifies this reward in a journal by the content of what the engine runs.

        Raises:
            ConfigError: if the model's files have changed since the engine was started or adopted.
        """
        return f"vllm {self._identity.fingerprint}{self._reader.fingerprint}"

    async def score(self, prompt: Prompt, response: Response) -> float:
        """The model's score of a complete or partial response; see `Reward`."""
        asked = self._rendering.encode(prompt, response)
        request = ScoreRequest(tokens=asked.tokens, second_begins=asked.second_begins)
        try:
            result = await self.engine.score(request)
        except PolicyError as died:
            raise RewardError(str(died), prompt=prompt, response=response) from died
        return self._reader.scored(result.scores[0], len(asked.tokens), result.num_cached_tokens)

    def close(self) -> None:
        """Stops the engine if we started it."""
        self.engine.close()


def _read_model(
    described: "ModelConfig", tokenizer: Any, choice: LabelChoice, chat_template: str | None
) -> tuple[LabelReader, Rendering | PairRendering]:
    """How the model's input is written and its output read, from vLLM's description of it."""
    reader = choice.reader(described.model, labels_of(described))
    suffix = suffix_of(described.hf_config)
    return reader, choose_rendering(tokenizer, described.max_model_len, chat_template, suffix)
