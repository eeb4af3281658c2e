"""Loads a reward model with transformers: its class, its arguments, and what would be wrong."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rsalign.core.errors import ConfigError, InstallError
from rsalign.core.foreign import describe_error
from rsalign.engines.model_files import ModelFiles
from rsalign.rewards.label_counts import num_labels_in_weights, says_labels
from rsalign.rewards.labels import default_names, label_names

_OF_THE_HUB = frozenset(
    {
        *("cache_dir", "code_revision", "force_download", "local_files_only", "proxies"),
        *("revision", "subfolder", "token", "trust_remote_code"),
    }
)
"""Arguments that also concern the configuration and the tokenizer."""
_COUNT_FROM_PADDING = frozenset(
    {
        *("camembert", "data2vec-text", "longformer", "mpnet", "roberta"),
        *("roberta-prelayernorm", "xlm-roberta", "xlm-roberta-xl"),
    }
)
"""Types of models whose first position is the padding id plus 1."""


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A reward model in transformers.

    Attributes:
        model: ready to score.
        config: its configuration.
        tokenizer: its tokenizer.
        files: its files, as they were when it was loaded.
        runs_own_code: whether its class comes from its own files.
    """

    model: Any
    config: Any
    tokenizer: Any
    files: ModelFiles
    runs_own_code: bool

    @classmethod
    def load(
        cls, name: str, *, dtype: str, device: str | None, arguments: Mapping[str, Any]
    ) -> "LoadedModel":
        """Loads a model.

        Args:
            name: Hugging Face id or path.
            dtype: of the weights.
            device: that runs the model; None: where it was loaded.
            arguments: of ``from_pretrained``.

        Raises:
            InstallError: if transformers is missing.
            ConfigError: if the model cannot be loaded, or its weights lack a part of it.
        """
        try:
            from transformers import AutoConfig, AutoTokenizer
        except ImportError as missing:
            raise InstallError(f"TransformersReward needs torch and transformers: {missing}") from (
                missing
            )
        # False: transformers would else ask on the terminal whether to run the model's code
        given = {"trust_remote_code": False, **arguments}
        of_hub = {key: value for key, value in given.items() if key in _OF_THE_HUB}
        files = ModelFiles.of(name, given.get("revision"), given.get("cache_dir"))
        try:
            config = AutoConfig.from_pretrained(name, **of_hub)
            tokenizer = AutoTokenizer.from_pretrained(name, **of_hub)
            model = _load(name, config, files, given | {"dtype": dtype})
        except ConfigError:
            raise
        except Exception as failed:  # its own code, or any of transformers' errors
            raise ConfigError(
                f"transformers cannot load {name} as a reward model: {describe_error(failed)}"
            ) from failed
        keeps_place = given.get("device_map") is not None or getattr(model, "is_quantized", False)
        if device is not None and not keeps_place:
            model = model.to(device)
        own = not type(model).__module__.startswith("transformers.")
        return cls(model.eval(), model.config, tokenizer, files, own)

    @property
    def max_model_len(self) -> int:
        """Greatest number of tokens that the model has positions for."""
        config = self.config.get_text_config()
        positions = getattr(config, "max_position_embeddings", None)
        if not isinstance(positions, int) or positions < 1:
            return sys.maxsize
        if config.model_type in _COUNT_FROM_PADDING:
            positions -= config.pad_token_id + 1
        return positions


def _load(name: str, config: Any, files: ModelFiles, arguments: dict[str, Any]) -> Any:
    from transformers import AutoModel, AutoModelForSequenceClassification

    if label_names(config) == default_names(2) and not says_labels(
        name, arguments.get("revision"), arguments.get("cache_dir")
    ):
        rows = num_labels_in_weights(files.folder)
        arguments = arguments if rows is None else {"num_labels": rows} | arguments
    own = getattr(config, "auto_map", None) or {}
    is_other = "AutoModel" in own and "AutoModelForSequenceClassification" not in own
    auto = AutoModel if is_other and arguments["trust_remote_code"] else None
    return load_weights(auto or AutoModelForSequenceClassification, name, config, arguments)


def load_weights(auto: Any, name: str, config: Any, arguments: Mapping[str, Any]) -> Any:
    """Loads a model with all of its weights, and with the attention that it was trained with.

    Args:
        auto: transformers' class that makes it, such as `AutoModelForTokenClassification`.
        name: Hugging Face id or path.
        config: the model's.
        arguments: of ``from_pretrained``.

    Raises:
        ConfigError: if weights are missing, which would be random.
    """
    from transformers.utils import logging as transformers_logging

    if getattr(config.get_text_config(), "attn_logit_softcapping", None) is not None:
        # other implementations leave the cap on attention logits out (Gemma 2)
        arguments = {"attn_implementation": "eager", **arguments}
    bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()  # a library should not print progress bars
    try:
        model, report = auto.from_pretrained(name, output_loading_info=True, **arguments)
    finally:
        if bars:
            transformers_logging.enable_progress_bar()
    parameters = dict(model.named_parameters())
    missing = sorted(key for key in report["missing_keys"] if key in parameters)
    if missing:
        own = getattr(config, "auto_map", None) or {}
        hint = "give a model that was trained as a reward"
        if own and not arguments.get("trust_remote_code"):
            hint = f"its class is its own code ({', '.join(own)}): give trust_remote_code=True"
        raise ConfigError(
            f"{name} has no weights for {', '.join(missing[:4])}, which would be random: {hint}"
        )
    return model
