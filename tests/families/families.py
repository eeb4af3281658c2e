"""Which families of models the suite builds: what sets one apart from the next, as data.

Vocabulary sizes, ends of answers and defaults of sampling are those of the model that each names.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

LLAMA_3 = {"temperature": 0.6, "top_p": 0.9}
CALM = {"initializer_range": 0.1}
"""Gemma scales its embeddings: with wider ones a random model only repeats its last token."""


@dataclass(frozen=True)
class Family:
    """A small checkpoint that has a real model's vocabulary, chat template and settings."""

    name: str
    like: str
    """The model whose settings these are."""
    tokenizer: str
    """Of `tests.families.fetch`."""
    body: str
    """The ``model_type`` of transformers."""
    vocab_size: int
    """Logits of the model: often more than the tokenizer has tokens."""
    ends: tuple[str, ...]
    """All tokens that end an answer, as ``generation_config.json`` lists them."""
    starts_text: str | None
    """The token before every text."""
    pads: str | None = None
    template: str | None = None
    """A file in ``templates/``, where the tokenizer's files have no chat template."""
    tokenizer_class: str | None = None
    """In place of the one that the tokenizer's settings name, which needs what is not there."""
    named_tokens: Mapping[int, str] = field(default_factory=dict)
    """Special tokens of the model's own tokenizer class, which tokenizer.json has as unused."""
    is_tied: bool = False
    sampling: Mapping[str, Any] = field(default_factory=dict)
    """Defaults in ``generation_config.json``."""
    body_settings: Mapping[str, Any] = field(default_factory=dict)
    engine_args: Mapping[str, Any] = field(default_factory=dict)
    """What vLLM is started with for this family."""
    reward: str | None = None
    """The family whose reward model judges its answers; its own where vLLM can run that."""


FAMILIES = (
    Family(
        name="llama2",
        like="Llama-2-7b-chat",
        tokenizer="llama2",
        body="llama",
        vocab_size=32000,
        ends=("</s>",),
        starts_text="<s>",
        template="llama2.jinja",
        sampling={"temperature": 0.6, "top_p": 0.9},
    ),
    Family(
        name="llama3",
        like="Meta-Llama-3-8B-Instruct",
        tokenizer="llama3",
        body="llama",
        vocab_size=128256,
        ends=("<|end_of_text|>", "<|eot_id|>"),
        starts_text="<|begin_of_text|>",
        sampling=LLAMA_3,
    ),
    Family(
        name="llama3_1",
        like="Llama-3.1-8B-Instruct",
        tokenizer="llama3_1",
        body="llama",
        vocab_size=128256,
        # the second was named <|eom_id|> later: an end of answers that looks like a spare token
        ends=("<|end_of_text|>", "<|reserved_special_token_4|>", "<|eot_id|>"),
        starts_text="<|begin_of_text|>",
        sampling=LLAMA_3,
    ),
    Family(
        name="llama3_2",
        like="Llama-3.2-1B-Instruct",
        tokenizer="llama3_2",
        body="llama",
        vocab_size=128256,
        ends=("<|end_of_text|>", "<|eom_id|>", "<|eot_id|>"),
        starts_text="<|begin_of_text|>",
        is_tied=True,
        sampling=LLAMA_3,
    ),
    Family(
        name="qwen2_5",
        like="Qwen2.5-0.5B-Instruct",
        tokenizer="qwen2_5",
        body="qwen2",
        vocab_size=151936,
        ends=("<|im_end|>", "<|endoftext|>"),
        starts_text=None,
        pads="<|endoftext|>",
        is_tied=True,
        sampling={"temperature": 0.7, "top_p": 0.8, "top_k": 20, "repetition_penalty": 1.1},
    ),
    Family(
        name="qwen3",
        like="Qwen3-0.6B",
        tokenizer="qwen3",
        body="qwen3",
        vocab_size=151936,
        ends=("<|im_end|>", "<|endoftext|>"),
        starts_text=None,
        pads="<|endoftext|>",
        is_tied=True,
        sampling={"temperature": 0.6, "top_p": 0.95, "top_k": 20},
    ),
    Family(
        name="gemma2",
        like="gemma-2-2b-it",
        tokenizer="gemma2",
        body="gemma2",
        vocab_size=256000,
        ends=("<eos>", "<end_of_turn>"),
        starts_text="<bos>",
        pads="<pad>",
        template="gemma2.jinja",
        is_tied=True,
        body_settings={
            "query_pre_attn_scalar": 32,
            "attn_logit_softcapping": 50.0,
            "final_logit_softcapping": 30.0,
            **CALM,
        },
    ),
    Family(
        name="gemma3",
        like="gemma-3-1b-it",
        tokenizer="gemma3",
        body="gemma3_text",
        vocab_size=262144,
        ends=("<eos>", "<end_of_turn>"),
        starts_text="<bos>",
        pads="<pad>",
        is_tied=True,
        sampling={"top_k": 64, "top_p": 0.95},
        body_settings={
            "query_pre_attn_scalar": 32,
            "sliding_window": 512,
            "layer_types": ["sliding_attention", "full_attention"],
            **CALM,
        },
        reward="llama3_1",
    ),
    Family(
        name="mistral_nemo",
        like="Mistral-Nemo-Instruct-2407",
        tokenizer="mistral_nemo",
        body="mistral",
        vocab_size=131072,
        ends=("</s>",),
        starts_text="<s>",
        body_settings={"sliding_window": None},
    ),
    Family(
        name="mistral_v3",
        like="Mistral-7B-Instruct-v0.3 with its own tokenizer (SentencePiece)",
        tokenizer="mistral_v3",
        body="mistral",
        vocab_size=32768,
        ends=("</s>",),
        starts_text="<s>",
        body_settings={"sliding_window": None},
        engine_args={"tokenizer_mode": "mistral"},
        reward="llama3_1",
    ),
    Family(
        name="mistral_tekken",
        like="Mistral-Small-3 with its own tokenizer (tekken.json)",
        tokenizer="mistral_tekken",
        body="mistral",
        vocab_size=131072,
        ends=("</s>",),
        starts_text="<s>",
        sampling={"temperature": 0.15},
        body_settings={"sliding_window": None},
        engine_args={"tokenizer_mode": "mistral"},
        reward="llama3_1",
    ),
    Family(
        name="gptoss",
        like="gpt-oss-20b's tokenizer on a Llama body",
        tokenizer="gptoss",
        body="llama",
        vocab_size=201088,
        ends=("<|return|>", "<|endoftext|>", "<|call|>"),
        starts_text="<|startoftext|>",
        pads="<|endoftext|>",
        template="gptoss.jinja",
    ),
    Family(
        name="deepseek_v3",
        like="DeepSeek-V3's tokenizer on a Llama body",
        tokenizer="deepseek_v3",
        body="llama",
        vocab_size=129280,
        ends=("<\uff5cend▁of▁sentence\uff5c>",),
        starts_text="<\uff5cbegin▁of▁sentence\uff5c>",
        # transformers takes this one too where a configuration's model_type is deepseek_v3
        tokenizer_class="PreTrainedTokenizerFast",
        sampling={"temperature": 0.6, "top_p": 0.95},
    ),
    Family(
        name="internlm2",
        like="internlm2-chat-7b's tokenizer on a Llama body",
        tokenizer="internlm2",
        body="llama",
        vocab_size=92544,
        ends=("</s>", "<|im_end|>"),
        starts_text="<s>",
        pads="</s>",
        # its own class is in a Python file that the package lacks; it adds these names only
        tokenizer_class="PreTrainedTokenizerFast",
        named_tokens={
            0: "<unk>",
            1: "<s>",
            2: "</s>",
            92538: "<|plugin|>",
            92539: "<|interpreter|>",
            92540: "<|action_end|>",
            92541: "<|action_start|>",
            92542: "<|im_end|>",
            92543: "<|im_start|>",
        },
    ),
    Family(
        name="smollm2",
        like="SmolLM2-135M-Instruct",
        tokenizer="smollm2",
        body="llama",
        vocab_size=49152,
        ends=("<|im_end|>", "<|endoftext|>"),
        starts_text=None,
        pads="<|im_end|>",
        is_tied=True,
    ),
)
BY_NAME = {family.name: family for family in FAMILIES}
