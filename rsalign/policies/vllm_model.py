"""Facts about a model that are read once from its engine and shared by all policies over it."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from rsalign.core.errors import ConfigError
from rsalign.core.text.reasoning import Reasoning
from rsalign.core.types import Sampling
from rsalign.engines.model_files import ModelFiles
from rsalign.engines.protocol import VllmEngine
from rsalign.engines.vllm.identity import EngineIdentity
from rsalign.engines.vllm.known_reasoning import known_parser
from rsalign.engines.vllm.reasoning import configured_parser
from rsalign.hooks.guided.request import read_guides
from rsalign.hooks.segment_end.sentinel import Sentinels
from rsalign.policies.tokenization import Tokenization

if TYPE_CHECKING:
    from vllm.config import VllmConfig

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class VllmModel:
    """A model in an engine.

    Attributes:
        tokenization: the model's tokenizer and its context length.
        exact_log_probs: whether the engine reports the log-probabilities of the distribution that
            it samples from (after temperature and truncation).
        eos: the end-of-sequence tokens.
        sentinels: the tokens by which the logits processor may end a segment.
        identity: identifies the model and how it is run.
        guides: the files of each guide and of its reference model.
        parser: the reasoning parser that the engine was started with; "" if none.
        known_parser: the one that the model plainly needs, if the engine has none; "" if none.
        sampling: the settings that the authors recommend, which `vllm.LLM.chat` uses by default
            (``generation_config.json``); those of `Sampling` where they say nothing.
    """

    tokenization: Tokenization
    exact_log_probs: bool
    eos: frozenset[int]
    sentinels: Sentinels
    identity: EngineIdentity
    guides: tuple[tuple[ModelFiles, ModelFiles | str | None], ...]
    parser: str = ""
    known_parser: str = ""
    sampling: Sampling = field(default_factory=Sampling)
    _told: dict[str, str] = field(default_factory=dict, repr=False, compare=False)

    @property
    def fingerprint(self) -> str:
        """Identifies the model, without its guides, by content. Computed once.

        Raises:
            ConfigError: see `EngineIdentity.fingerprint`.
        """
        if "model" not in self._told:
            self._told["model"] = self.identity.fingerprint
        return self._told["model"]

    @property
    def guides_fingerprint(self) -> str:
        """Identifies the guides by content. Computed once.

        Raises:
            ConfigError: if their files have changed since the engine was started.
        """
        if "guides" not in self._told:
            self._told["guides"] = ", ".join(
                f"{model.digest()} over {_digest(reference)}" for model, reference in self.guides
            )
        return self._told["guides"]

    def with_reasoning(self, reasoning: Reasoning | None) -> "VllmModel":
        """The same model, with responses divided so.

        None: by the engine's own parser, or the one that the model plainly needs, if any.

        Raises:
            ConfigError: if the parser is unknown or does not fit the model.
        """
        name = self.parser or self.known_parser
        how = reasoning or (Reasoning(name) if name else None)
        assumed = reasoning is None and bool(name) and not self.parser
        told = self.tokenization
        if (how, assumed) == (told.reasoning, told.assumed):
            return self
        if assumed and how is not None:
            logger.warning(
                "the thought of its answers is told by vLLM's reasoning parser %r, and rewards, "
                "votes and users read what follows; reasoning_parser names another, or 'none'",
                how.parser,
            )
        return replace(self, tokenization=replace(told, reasoning=how, assumed=assumed))

    @classmethod
    def of(cls, engine: VllmEngine, chat_template: str | None = None) -> "VllmModel":
        """Reads the facts from a running engine.

        Args:
            engine: the engine.
            chat_template: replaces the tokenizer's chat template.

        Raises:
            ConfigError: if the engine scores and does not generate.
        """
        model = engine.vllm_config.model_config
        if model.runner_type != "generate":
            raise ConfigError(
                f"the engine of {model.model} runs a reward or embedding model "
                f"(runner={model.runner_type!r}), and a policy generates: give a language model"
            )
        known = end_tokens(engine.vllm_config, engine.tokenizer)
        parser = configured_parser(engine.vllm_config)
        return cls(
            tokenization=Tokenization(
                engine.tokenizer,
                model.max_model_len,
                engine.renderer,
                chat_template,
                model.get_vocab_size(),
            ),
            exact_log_probs=model.logprobs_mode == "processed_logprobs",
            eos=known,
            sentinels=Sentinels.of(engine.tokenizer, model.get_vocab_size(), known),
            identity=EngineIdentity.of(engine.vllm_config, engine.tokenizer),
            parser=parser,
            known_parser=""
            if parser
            else known_parser(model.hf_text_config.model_type, engine.tokenizer),
            sampling=_recommended(model.get_diff_sampling_param()),
            guides=tuple(
                (ModelFiles.of(guide.model), _files(guide.reference))
                for guide in read_guides(engine.vllm_config)
            ),
        )


def _recommended(given: Mapping[str, Any]) -> Sampling:
    """VLLM's default sampling parameters of a model as a `Sampling`; a length is none of it."""
    known = {name: value for name, value in given.items() if name != "max_tokens"}
    if known.get("top_k") is not None:
        known["top_k"] = max(known["top_k"], 0)
    return Sampling(**known)


def end_tokens(config: "VllmConfig", tokenizer: Any) -> frozenset[int]:
    """Returns the end-of-sequence tokens of a model: of its generation config and tokenizer."""
    declared = config.model_config.try_get_generation_config().get("eos_token_id")
    eos = {declared} if isinstance(declared, int) else set(declared or ())
    eos.add(tokenizer.eos_token_id)
    return frozenset(token for token in eos if token is not None)


def _files(reference: str | None) -> ModelFiles | str | None:
    return reference if reference in (None, "policy") else ModelFiles.of(str(reference))


def _digest(reference: ModelFiles | str | None) -> str:
    return reference.digest() if isinstance(reference, ModelFiles) else str(reference)
