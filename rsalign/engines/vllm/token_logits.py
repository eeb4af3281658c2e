"""Engines that return logits for every token of a sequence, of labels or of a few tokens."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vllm.config import ModelConfig


def token_logits_arguments(given: Mapping[str, Any], *, causal: bool = False) -> dict[str, Any]:
    """Returns a pooling engine's arguments with what is needed for logits of all tokens.

    Some models (Qwen2ForProcessRewardModel) return those of certain tokens unless told otherwise.

    Args:
        given: the caller's arguments, which win.
        causal: the model is a causal language model, which `classify_by_tokens` then changes.
    """
    from vllm.config import PoolerConfig

    arguments: dict[str, Any] = {"pooler_config": PoolerConfig(tok_pooling_type="ALL")}
    if causal:
        arguments["convert"] = "classify"
    return arguments | dict(given)


def classify_by_tokens(described: "ModelConfig", tokens: Sequence[str]) -> None:
    """Makes the logits of a few tokens of a causal language model the labels of a classifier.

    To be called before the engine is built. vLLM then takes these rows of the output layer as the
    classifier's weights, as it does for Qwen3's rerankers.

    Args:
        described: vLLM's description of the model; is changed.
        tokens: entries of the vocabulary, in the order of the labels.
    """
    for config in (described.hf_config, described.hf_config.get_text_config()):
        config.classifier_from_token = list(tokens)
        config.method = "no_post_processing"
        config.num_labels = len(tokens)


def pools_all_tokens(pooler_config: Any) -> bool:
    """Whether an engine with this configuration returns the logits of all tokens, all of them."""
    if pooler_config is None or pooler_config.tok_pooling_type != "STEP":
        return True
    return pooler_config.step_tag_id is None and not pooler_config.returned_token_ids
