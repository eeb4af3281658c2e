"""A process reward model run by transformers, with dynamic batching."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from rsalign.core.checks import at_least, check_int
from rsalign.core.errors import ConfigError, InstallError
from rsalign.core.protocols import Scored
from rsalign.core.types import Prompt, Response, Tokens
from rsalign.engines.model_files import ModelFiles
from rsalign.rewards.batching import Batcher
from rsalign.rewards.labels import LabelSetting, label_names
from rsalign.rewards.loading import load_weights
from rsalign.rewards.parts import describe
from rsalign.rewards.step_layouts import StepLayout
from rsalign.rewards.step_reader import StepInput, StepReader, token_ids

Logits: TypeAlias = tuple[float, ...]


class TransformersStepReward:
    """The value of each step, by a process reward model of any layout with one model.

    It is for models that vLLM cannot run, such as those with a value head; all others are faster
    in `VllmStepReward`, whose values are the same. In float32, values computed alone and in a batch
    agree to 1e-4.

    Args:
        model: Hugging Face id or path.
        decode: the policy's `text` method.
        layout: of the model; one of `STEP_LAYOUTS` by name, or a `StepLayout` of your own.
        label: which label is the value, if not what the layout says: see `LabelChoice.of`.
        dtype: data type of the weights.
        device: torch device that runs the model.
        max_batch_size: greatest number of responses in one forward pass.
        model_args: for ``from_pretrained``, such as ``trust_remote_code=True`` or ``revision``.

    Raises:
        InstallError: if transformers is missing.
        ConfigError: if the layout does not fit the model, or `max_batch_size` is not at least 1.

    Example:
        >>> steps = TransformersStepReward(  # doctest: +SKIP
        ...     "Skywork/Skywork-o1-Open-PRM-Qwen-2.5-1.5B", policy.text, layout="skywork-o1-prm"
        ... )
    """

    def __init__(
        self,
        model: str,
        decode: Callable[[Tokens], str],
        *,
        layout: StepLayout | str = "raw",
        label: LabelSetting = None,
        dtype: str = "float32",
        device: str = "cpu",
        max_batch_size: int = 32,
        **model_args: Any,
    ) -> None:
        size = check_int("TransformersStepReward", "max_batch_size", max_batch_size, at_least(1))
        named = StepLayout.named(layout) if isinstance(layout, str) else layout
        self.layout = named.with_label(label)
        if self.layout.head == "ratio":
            raise ConfigError(
                "the layout has head='ratio', which compares two language models: use "
                "ImplicitStepReward (implicit_steps)"
            )
        try:
            import torch
            from transformers import AutoTokenizer
        except ImportError as missing:
            raise InstallError(
                f"TransformersStepReward needs torch and transformers: {missing}"
            ) from missing
        self._torch: Any = torch
        self._decode, self._dtype = decode, dtype
        known = ("trust_remote_code", "revision", "token", "cache_dir")
        shared = {name: model_args[name] for name in known if name in model_args}
        tokenizer = AutoTokenizer.from_pretrained(model, **shared)
        self._tokens = token_ids(self.layout, tokenizer)
        self._model: Any = self._load(model, dtype, model_args).to(device).eval()
        self._files = ModelFiles.of(model, model_args.get("revision"), model_args.get("cache_dir"))
        self._head = self._value_head(device) if self.layout.head == "value_head" else None
        length = int(self._model.config.get_text_config().max_position_embeddings)
        self._reader = StepReader(self.layout, tokenizer, length, decode)
        self._values = self.layout.reader(model, label_names(self._model.config))
        self._batcher: Batcher[StepInput, list[Logits]] = Batcher(
            self._forward, max_batch_size=size, name="rsalign-transformers-steps"
        )

    @property
    def fingerprint(self) -> str:
        """Identifies this reward in a journal by the model's content, the layout and `decode`.

        Raises:
            ConfigError: if the model's files have changed since it was loaded, or `decode` has no
                fingerprint.
        """
        parts = describe((self._decode, self.layout))
        return f"transformers steps {self._files.digest()} {self._dtype} {parts}"

    async def score_steps(
        self, prompt: Prompt, response: Response, ends: tuple[int, ...]
    ) -> tuple[float, ...]:
        """One value per step, ``(steps,)``; the last is a `Scored` with the cost of all.

        Raises:
            ConfigError: if `ends` do not increase within the response.
            RewardError: if the model failed or the text is longer than its context.
        """
        if not ends:
            return ()
        found = self._reader.read(prompt, response, ends)
        scores = [self._values.read(logits) for logits in await self._batcher(found)]
        return (*scores[:-1], Scored(scores[-1], tokens=len(found.tokens)))

    def close(self) -> None:
        """Ends the thread."""
        self._batcher.close()

    def _load(self, model: str, dtype: str, model_args: dict[str, Any]) -> Any:
        """The model, of the class that returns what the layout reads."""
        import transformers

        # without an answer, transformers would ask on the terminal
        arguments = {"trust_remote_code": False, "dtype": dtype} | model_args
        config = transformers.AutoConfig.from_pretrained(
            model, **{k: v for k, v in arguments.items() if k not in ("device_map", "dtype")}
        )
        if self.layout.head != "labels":
            return load_weights(transformers.AutoModelForCausalLM, model, config, arguments)
        names = " ".join(getattr(config, "architectures", None) or ())
        if "ForTokenClassification" in names:
            made = transformers.AutoModelForTokenClassification
        elif "ForSequenceClassification" in names:
            made = transformers.AutoModelForSequenceClassification
        elif getattr(config, "auto_map", None):
            made = transformers.AutoModel  # the checkpoint's own class, which returns logits
        else:
            raise ConfigError(
                f"transformers has no class {names or 'for this model'} that returns labels "
                f"for each token of {model}: run it with VllmStepReward (vllm_steps)"
            )
        return load_weights(made, model, config, arguments)

    def _value_head(self, device: str) -> Any:
        """The linear layer ``v_head.summary``, which language models have no place for."""
        weights = _find_weights(self._files.folder, "v_head.summary.")
        if "v_head.summary.weight" not in weights:
            raise ConfigError(
                f"{self._files.name} has no weights v_head.summary: give a model with a value "
                "head, or the layout of this model"
            )
        weight = weights["v_head.summary.weight"]
        head = self._torch.nn.Linear(weight.shape[1], weight.shape[0])
        bias = weights.get("v_head.summary.bias", self._torch.zeros(weight.shape[0]))
        head.load_state_dict({"weight": weight.float(), "bias": bias.float()})
        return head.to(device).eval()

    def _forward(self, batch: Sequence[StepInput]) -> list[list[Logits]]:
        """Logits at the places of each response, ``(batch, steps, labels)``."""
        torch = self._torch
        width = max(len(one.tokens) for one in batch)
        # tokens on the right are invisible to those before them
        inputs = torch.tensor([[*one.tokens, *[0] * (width - len(one.tokens))] for one in batch])
        lengths = torch.tensor([[len(one.tokens)] for one in batch])
        mask = (torch.arange(width)[None] < lengths).long()
        inputs, mask = inputs.to(self._model.device), mask.to(self._model.device)
        with torch.inference_mode():
            logits = self._logits(inputs, mask).float()
            return [
                [tuple(row) for row in logits[i, list(one.places)].tolist()]
                for i, one in enumerate(batch)
            ]

    def _logits(self, inputs: Any, mask: Any) -> Any:
        """Logits of all tokens, ``(batch, tokens, labels)``."""
        model = self._model
        if self._head is not None:
            found = model(input_ids=inputs, attention_mask=mask, output_hidden_states=True)
            return self._head(found.hidden_states[-1].float())
        if "ForSequenceClassification" in type(model).__name__:
            body = getattr(model, model.base_model_prefix)
            return model.score(body(input_ids=inputs, attention_mask=mask).last_hidden_state)
        logits = model(input_ids=inputs, attention_mask=mask)[0]
        return logits[..., list(self._tokens)] if self._tokens else logits


def _find_weights(folder: Path | None, prefix: str) -> dict[str, Any]:
    """The weights of a checkpoint whose names begin so."""
    import torch
    from safetensors import safe_open

    found: dict[str, Any] = {}
    for file in sorted(folder.glob("*.safetensors")) if folder is not None else ():
        with safe_open(file, "pt") as opened:
            names = [name for name in opened.keys() if name.startswith(prefix)]  # noqa: SIM118
            found |= {name: opened.get_tensor(name) for name in names}
    for file in sorted(folder.glob("*.bin")) if folder is not None and not found else ():
        loaded = torch.load(file, map_location="cpu", weights_only=True)
        found |= {name: value for name, value in loaded.items() if name.startswith(prefix)}
    return found
