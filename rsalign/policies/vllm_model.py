"""What is read once from an engine, and shared by all policies over it."""

from dataclasses import dataclass

from rsalign.engines.protocol import Engine
from rsalign.hooks.sentinel import choose_sentinel
from rsalign.policies.tokenization import Tokenization


@dataclass(frozen=True, slots=True)
class VllmModel:
    """A model as its engine serves it.

    Attributes:
        tokenization: its tokenizer and the length of its context.
        exact_log_probs: whether log-probabilities are those of the law that tokens are drawn from.
        eos: the tokens that end a response by themselves.
        sentinel: the stop token by which a hook ends segments; None if there is none to spare.
    """

    tokenization: Tokenization
    exact_log_probs: bool
    eos: frozenset[int]
    sentinel: int | None

    @classmethod
    def of(cls, engine: Engine, chat_template: str | None = None) -> "VllmModel":
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
        )
