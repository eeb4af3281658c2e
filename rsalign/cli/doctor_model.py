"""`rsalign doctor MODEL`: what a model can do here, told before an engine is started for it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rsalign.cli.findings import Finding
from rsalign.core.errors import RsalignError
from rsalign.core.types import Sampling
from rsalign.engines.vllm.environment import is_cpu_build

if TYPE_CHECKING:
    from vllm.config import VllmConfig

_FLOAT32_BYTES = 4


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """A model as an engine of rsalign would run it.

    Attributes:
        name: path or Hugging Face id.
        config: vLLM's, of an engine that is not started.
        own_length: the context of the model itself, in tokens.
        tokenizer: the model's.
        eos: the end-of-sequence tokens.
    """

    name: str
    config: "VllmConfig"
    own_length: int
    tokenizer: Any
    eos: tuple[int, ...]

    @classmethod
    def read(cls, model: str) -> "ModelFacts":
        """Reads configuration and tokenizer; no weights.

        Raises:
            ConfigError: if vLLM cannot start the model, as far as this is known by now.
        """
        from rsalign.engines.vllm.building import plan_engine
        from rsalign.engines.vllm.environment import import_vllm
        from rsalign.engines.vllm.start_errors import convert_start_errors
        from rsalign.engines.vllm.text import load_tokenizer
        from rsalign.hooks.loading import add_hooks
        from rsalign.policies.vllm_model import end_tokens

        import_vllm()
        with convert_start_errors(model, {}):
            config, own = plan_engine(model)
            tokenizer = load_tokenizer(config.model_config)
        add_hooks(config)
        eos = tuple(sorted(end_tokens(config, tokenizer)))
        return cls(model, config, own, tokenizer, eos)

    def names(self, tokens: tuple[int, ...]) -> str:
        """Returns tokens as text and ids."""
        texts = self.tokenizer.convert_ids_to_tokens(list(tokens)) if tokens else ()
        return ", ".join(f"{text} ({id})" for text, id in zip(texts, tokens, strict=True))


def check_model(model: str) -> list[Finding]:
    """Reports on a model: what it is, its tokens, its context and its defaults."""
    try:
        facts = ModelFacts.read(model)
    except RsalignError as refused:
        return [Finding("fail", str(refused))]
    return [finding for check in MODEL_CHECKS for finding in check(facts)]


def check_architecture(facts: ModelFacts) -> list[Finding]:
    """Reports the architecture, the precision and the size of the vocabulary."""
    model = facts.config.model_config
    known, size = len(facts.tokenizer), model.get_vocab_size()
    quantized = f", {model.quantization}" if model.quantization else ""
    beyond = f", of which {size - known} have no text" if size > known else ""
    kind = ", ".join(model.architectures)
    precision = str(model.dtype).removeprefix("torch.")
    findings = [Finding("ok", f"{kind}, {precision}{quantized}; {size} token ids{beyond}")]
    if model.runner_type != "generate":
        findings.append(Finding("fail", f"it does not generate ({model.runner_type}): no policy"))
    return findings


def check_segment_end(facts: ModelFacts) -> list[Finding]:
    """Reports by which token segments end, here and behind a server."""
    from rsalign.hooks.loading import has_hook
    from rsalign.hooks.segment_end.sentinel import Sentinels, choose_sentinel
    from rsalign.policies.segment_plan import describe_sentinel

    if not has_hook(facts.config, "SegmentEnd"):
        why = "its engine takes no logits processors: use FixedSize or Punctuation(min_entropy=0)"
        return [Finding("note", f"segments: Entropy and the like cannot be used, since {why}")]
    size = facts.config.model_config.get_vocab_size()
    sentinel = Sentinels.of(facts.tokenizer, size, facts.eos).choose(Sampling(), can_report=True)
    findings = []
    if sentinel is None:
        findings.append(Finding("note", "segments: no token can end one: use FixedSize"))
    else:
        findings.append(
            Finding("ok", f"segments end {describe_sentinel(sentinel, facts.tokenizer)}")
        )
    served = choose_sentinel(facts.tokenizer, len(facts.tokenizer), facts.eos)
    if served is None:
        findings.append(
            Finding("note", "segments behind a server: no token is free: use FixedSize there")
        )
    elif sentinel is None or served != sentinel.token:
        text = f"segments behind a server end by {facts.names((served,))}"
        findings.append(Finding("ok", f"{text}; what probability it has there is lost"))
    return findings


def check_chat(facts: ModelFacts) -> list[Finding]:
    """Reports the chat template and what ends a response."""
    if (
        getattr(facts.tokenizer, "chat_template", None)
        or facts.config.model_config.tokenizer_mode == "mistral"
    ):
        findings = [Finding("ok", "it has a chat template")]
    else:
        findings = [Finding("note", "it has no chat template: use generate(), or give one")]
    if facts.eos:
        findings.append(Finding("ok", f"a response ends by {facts.names(facts.eos)}"))
    else:
        findings.append(
            Finding("note", "no token ends a response: give max_tokens or stop strings")
        )
    return findings


def check_defaults(facts: ModelFacts) -> list[Finding]:
    """Reports the sampling parameters that the model's authors recommend."""
    recommended = facts.config.model_config.get_diff_sampling_param()
    if not recommended:
        return []
    told = ", ".join(f"{name}={value}" for name, value in recommended.items())
    return [Finding("note", f"generation_config.json recommends {told}; sampling='model' uses it")]


def check_thoughts(facts: ModelFacts) -> list[Finding]:
    """Reports how the thought of a reasoning model is told from its answer."""
    from rsalign.engines.vllm.known_reasoning import known_parser, thinks, writes_thoughts
    from rsalign.engines.vllm.reasoning import configured_parser

    configured = configured_parser(facts.config)
    if configured:
        return [Finding("ok", f"its thought is found by vLLM's parser {configured!r}")]
    if not writes_thoughts(str(getattr(facts.tokenizer, "chat_template", None) or "")):
        return []
    kind = str(facts.config.model_config.hf_text_config.model_type)
    if known := known_parser(kind, facts.tokenizer):
        told = "which is taken unless reasoning_parser names another, or 'none'"
        return [Finding("ok", f"its thought is found by vLLM's parser {known!r}, {told}")]
    if not thinks(facts.tokenizer):
        told = "its chat template leaves thoughts out of conversations, and does not ask for any"
        return [Finding("note", f"{told}: if it does think, name vLLM's reasoning_parser")]
    return [
        Finding(
            "note",
            "its chat template writes thoughts: rewards and votes read them as part of the answer "
            "unless reasoning_parser names one of vLLM's, the one that the model's card names",
        )
    ]


def check_inputs(facts: ModelFacts) -> list[Finding]:
    """Reports that strategies take the text of a model that also takes images or sounds."""
    if not facts.config.model_config.is_multimodal_model:
        return []
    return [
        Finding(
            "note",
            "it also takes images, audio or video: strategies answer text only, and refuse a "
            "conversation with others; requests without a strategy go to vLLM with them",
        )
    ]


def check_context(facts: ModelFacts) -> list[Finding]:
    """Reports the length of the context, and what limits it on a CPU."""
    model = facts.config.model_config
    length, own = model.max_model_len, facts.own_length
    space = facts.config.cache_config.kv_cache_memory_bytes
    if is_cpu_build() and space:
        parallel = facts.config.parallel_config
        heads, size = model.get_num_kv_heads(parallel), model.get_head_size()
        each = 2 * model.get_num_layers(parallel) * heads * size * _FLOAT32_BYTES
        if each and space // each < length:
            length = space // each
            return [_short_context(f"about {length}", own)]
    if length < own:
        return [_short_context(str(length), own)]
    return [Finding("ok", f"a context of {length} tokens")]


def _short_context(length: str, own: int) -> Finding:
    return Finding(
        "note",
        f"a context of {length} tokens here, of the model's {own}: give max_model_len with as much "
        "kv_cache_memory_bytes as it needs",
    )


MODEL_CHECKS: tuple[Callable[[ModelFacts], list[Finding]], ...] = (
    check_architecture,
    check_chat,
    check_segment_end,
    check_thoughts,
    check_inputs,
    check_defaults,
    check_context,
)
"""In the order of the report; each gets the same facts."""
