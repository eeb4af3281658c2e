"""Starts vLLM engines of reward models, and reads the labels of the model that an engine runs."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from rsalign.core.errors import ConfigError, RsalignError
from rsalign.core.foreign import describe_error
from rsalign.engines.model_files import ModelFiles
from rsalign.engines.protocol import Backend, VllmEngine
from rsalign.engines.vllm.environment import import_vllm
from rsalign.engines.vllm.starting import start_engine
from rsalign.engines.vllm.text import load_tokenizer
from rsalign.rewards.label_counts import num_labels_in_weights, says_labels
from rsalign.rewards.labels import default_names, label_names

if TYPE_CHECKING:
    from vllm.config import ModelConfig, VllmConfig


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
    described: object = None

    def prepare(config: "VllmConfig") -> None:
        nonlocal described
        model_config = config.model_config
        if model_config.convert_type == "embed":
            raise ConfigError(
                f"{model} is a {model_config.architecture}, which has no head that scores: give a "
                "model that was trained as a reward (AutoModelForSequenceClassification with "
                "num_labels=1), or use a language model as a judge (ProbabilityJudge)"
            )
        _complete(model_config, getattr(config.load_config, "download_dir", None))
        check(model_config, load_tokenizer(model_config))
        described = model_config

    try:
        return start_engine(model, backend=backend, pooling=True, prepare=prepare, **given)
    except RsalignError as refused:
        # refused by vLLM for what the model is, and not by us, nor because it is missing
        if described is None and "rchitecture" not in str(refused):
            raise
        raise ConfigError(f"{refused}. {_instead(model)}") from refused
    except Exception as failed:  # vLLM's loader raises AssertionError, KeyError, RuntimeError, ...
        raise ConfigError(
            f"vLLM cannot start {model} as a reward ({describe_error(failed)}): check its "
            f"config.json. {_instead(model)}"
        ) from failed


def _instead(model: str) -> str:
    return f"For a model that vLLM cannot run, use TransformersReward({model!r})"


def labels_of(described: "ModelConfig") -> tuple[str, ...]:
    """Returns the names of the labels of a model in an engine, from vLLM's description of it."""
    return label_names(described.hf_config)


def _complete(described: "ModelConfig", cache: str | None) -> None:
    """Sets the number of labels of a model whose configuration does not say it, by its weights.

    transformers takes such a model to have two labels, and vLLM then fails to load its weights.
    """
    config = described.hf_config
    if label_names(config) != default_names(2) or says_labels(
        described.model, described.revision, cache
    ):
        return
    files = ModelFiles.of(described.model, described.revision, cache)
    num_labels = num_labels_in_weights(files.folder)
    if num_labels is not None:
        config.num_labels = num_labels
        config.get_text_config().num_labels = num_labels
