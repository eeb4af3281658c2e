"""What is read once from an engine, and shared by all policies over it."""

from dataclasses import dataclass, field

from rsalign.engines.model_files import ModelFiles
from rsalign.engines.protocol import VllmEngine
from rsalign.engines.vllm.identity import EngineIdentity
from rsalign.hooks.guided.request import read_guides
from rsalign.hooks.segment_end.sentinel import choose_sentinel
from rsalign.policies.tokenization import Tokenization


@dataclass(frozen=True, slots=True)
class VllmModel:
    """A model as its engine serves it.

    Attributes:
        tokenization: its tokenizer and the length of its context.
        exact_log_probs: whether log-probabilities are those of the law that tokens are drawn from.
        eos: the tokens that end a response by themselves.
        sentinel: the stop token by which a hook ends segments; None if there is none to spare.
        identity: what the engine runs.
        guides: what its guides are, by role.
    """

    tokenization: Tokenization
    exact_log_probs: bool
    eos: frozenset[int]
    sentinel: int | None
    identity: EngineIdentity
    guides: tuple[tuple[ModelFiles, ModelFiles | str | None], ...]
    _told: dict[str, str] = field(default_factory=dict, repr=False, compare=False)

    @property
    def fingerprint(self) -> str:
        """Tells the model from others by content; without its guides. Read once.

        Raises:
            ConfigError: see `EngineIdentity.fingerprint`.
        """
        if "model" not in self._told:
            self._told["model"] = self.identity.fingerprint
        return self._told["model"]

    @property
    def guides_fingerprint(self) -> str:
        """Tells the guides from others by content. Read once.

        Raises:
            ConfigError: if their files have changed since the engine was started.
        """
        if "guides" not in self._told:
            self._told["guides"] = ", ".join(
                f"{model.digest()} over {_digest(reference)}" for model, reference in self.guides
            )
        return self._told["guides"]

    @classmethod
    def of(cls, engine: VllmEngine, chat_template: str | None = None) -> "VllmModel":
        """The model of a running engine.

        Args:
            engine: that runs it.
            chat_template: instead of the tokenizer's.
        """
        model = engine.vllm_config.model_config
        declared = model.try_get_generation_config().get("eos_token_id")
        eos = {declared} if isinstance(declared, int) else set(declared or ())
        eos.add(engine.tokenizer.eos_token_id)
        known = frozenset(token for token in eos if token is not None)
        return cls(
            tokenization=Tokenization(
                engine.tokenizer, model.max_model_len, engine.renderer, chat_template
            ),
            exact_log_probs=model.logprobs_mode == "processed_logprobs",
            eos=known,
            sentinel=choose_sentinel(engine.tokenizer, model.get_vocab_size(), known),
            identity=EngineIdentity.of(engine.vllm_config, engine.tokenizer),
            guides=tuple(
                (ModelFiles.of(guide.model), _files(guide.reference))
                for guide in read_guides(engine.vllm_config)
            ),
        )


def _files(reference: str | None) -> ModelFiles | str | None:
    return reference if reference in (None, "policy") else ModelFiles.of(str(reference))


def _digest(reference: ModelFiles | str | None) -> str:
    return reference.digest() if isinstance(reference, ModelFiles) else str(reference)
