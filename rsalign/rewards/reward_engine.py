"""Starts vLLM engines of reward models, and reads the labels of the model that an engine runs."""

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rsalign.core.errors import ConfigError, RsalignError
from rsalign.core.foreign import describe_error
from rsalign.engines.model_files import ModelFiles
from rsalign.engines.protocol import Backend, VllmEngine
from rsalign.engines.vllm.environment import import_vllm
from rsalign.engines.vllm.starting import start_engine
from rsalign.engines.vllm.text import load_tokenizer
from rsalign.rewards.labels import default_names, label_names

if TYPE_CHECKING:
    from vllm.config import ModelConfig, VllmConfig

_HEADS = ("score", "classifier", "classifier.out_proj", "score.out_proj", "v_head")
"""Modules whose last weight has one row for each label."""


def start_reward_engine(
    model: str, check: "Callable[[ModelConfig, Any], object]", *, backend: Backend, **given: Any
) -> VllmEngine:
    """Starts a pooling engine after the model was checked.

    Args:
        model: path or Hugging Face id.
        check: called with vLLM's description of the model and the tokenizer before weights are
            loaded; raises `ConfigError` if the model cannot be used. A model that is named by id is
            checked like one that is named by path, because vLLM has read its configuration by then.
        backend: as in `start_engine`.
        given: for vLLM's `EngineArgs`.

    Raises:
        ConfigError: if vLLM cannot run the model as a reward, or `check` refuses it.
    """
    import_vllm()

    def prepare(config: "VllmConfig") -> None:
        described = config.model_config
        if described.convert_type == "embed":
            raise ConfigError(
                f"{model} is a {described.architecture}, which has no head that scores: give a "
                "model that was trained as a reward (AutoModelForSequenceClassification with "
                "num_labels=1), or use a language model as a judge (ProbabilityJudge)"
            )
        _complete(described, getattr(config.load_config, "download_dir", None))
        check(described, load_tokenizer(described))

    try:
        return start_engine(model, backend=backend, pooling=True, prepare=prepare, **given)
    except RsalignError:
        raise
    except Exception as failed:  # vLLM's loader raises AssertionError, KeyError, RuntimeError, ...
        raise ConfigError(
            f"vLLM cannot start {model} as a reward ({describe_error(failed)}): check its "
            f"config.json, or use TransformersReward({model!r}), which runs models that vLLM cannot"
        ) from failed


def labels_of(described: "ModelConfig") -> tuple[str, ...]:
    """Returns the names of the labels of a model in an engine, from vLLM's description of it."""
    return label_names(described.hf_config)


def _complete(described: "ModelConfig", cache: str | None) -> None:
    """Sets the number of labels of a model whose configuration does not say it, by its weights.

    transformers takes such a model to have two labels, and vLLM then fails to load its weights.
    """
    config = described.hf_config
    if label_names(config) != default_names(2) or _says(described, cache):
        return
    files = ModelFiles.of(described.model, described.revision, cache)
    num_labels = num_labels_in_weights(files.folder)
    if num_labels is not None:
        config.num_labels = num_labels
        config.get_text_config().num_labels = num_labels


def _says(described: "ModelConfig", cache: str | None) -> bool:
    """Whether a model's configuration or code says how many labels it has."""
    from transformers import PretrainedConfig

    config, _ = PretrainedConfig.get_config_dict(
        described.model, revision=described.revision, cache_dir=cache
    )
    return bool({"num_labels", "id2label", "_num_labels"} & set(config))


def num_labels_in_weights(folder: Path | None) -> int | None:
    """Returns the number of rows of a model's classification head.

    Args:
        folder: of the model; None: not on this machine.

    Returns:
        None if there is no such head, or no weights in the safetensors format here.
    """
    if folder is None or not folder.is_dir():
        return None
    for file in sorted(folder.glob("*.safetensors")):
        with open(file, "rb") as opened:
            (length,) = struct.unpack("<Q", opened.read(8))
            header = json.loads(opened.read(length))
        for name in _HEADS:
            if f"{name}.weight" in header:
                return int(header[f"{name}.weight"]["shape"][0])
    return None
