"""A sequence-classification reward model run by transformers, with dynamic batching."""

from collections.abc import Sequence
from typing import Any

from rsalign.core.checks import at_least, check_int
from rsalign.core.errors import ConfigError
from rsalign.core.fingerprint import fingerprint
from rsalign.core.foreign import describe_error
from rsalign.core.protocols import Scored
from rsalign.core.types import Message, Prompt, Response, Stop
from rsalign.rewards.batching import Batcher
from rsalign.rewards.labels import (
    LabelChoice,
    LabelReader,
    LabelSetting,
    default_names,
    label_names,
)
from rsalign.rewards.loading import LoadedModel
from rsalign.rewards.outputs import read_rows
from rsalign.rewards.pairs import PairRendering, choose_rendering, suffix_of
from rsalign.rewards.rendering import Encoded, Rendering

_NOT_THE_LAW = frozenset(
    {
        *("attn_implementation", "cache_dir", "device_map", "force_download", "local_files_only"),
        *("low_cpu_mem_usage", "max_memory", "offload_folder", "proxies", "revision", "token"),
        *("trust_remote_code", "use_safetensors"),
    }
)
"""Arguments that do not change what the model computes, or that its files tell."""


class TransformersReward:
    """The raw score (no sigmoid) of a model in transformers; for models that vLLM cannot run.

    A conversation is rendered by the model's chat template. An encoder without one (DeBERTa, BERT)
    reads the prompt's text and the response as a pair of texts. In float32, a score computed alone
    and one computed in a batch agree to 1e-4.

    The reward is a logit of the output, ``logits``, or, for a model with code of its own that
    returns one (ArmoRM), its ``score``. A cap on attention logits (Gemma 2) is honoured: such a
    model runs with eager attention unless `model_args` say otherwise.

    Args:
        model: Hugging Face id or path.
        label: which label is the reward, for a model with several: see `LabelChoice.of`.
        chat_template: used instead of the tokenizer's.
        dtype: data type of the weights.
        device: torch device that runs the model, unless `model_args` have a ``device_map``.
        max_batch_size: greatest number of responses in one forward pass.
        **model_args: for ``from_pretrained`` of the model, such as ``trust_remote_code``,
            ``attn_implementation``, ``device_map``, ``revision`` or ``quantization_config``. Code
            in the model's folder is run only with ``trust_remote_code=True``.

    Attributes:
        model: the loaded torch module.
        rendering: how a conversation and its answer become the tokens that the model reads.

    Raises:
        InstallError: if transformers is missing.
        ConfigError: if the model cannot be loaded, has several labels and none was chosen, or no
            chat template; or if `max_batch_size` is not at least 1.

    Example:
        >>> from rsalign.embedded import REWARD
        >>> reward = TransformersReward(REWARD)  # doctest: +SKIP
        >>> await reward.score(prompt, response)  # doctest: +SKIP
        2.39
        >>> armo = TransformersReward("RLHFlow/ArmoRM-Llama3-8B-v0.1",  # doctest: +SKIP
        ...     trust_remote_code=True, dtype="bfloat16", device_map="auto")
    """

    def __init__(
        self,
        model: str,
        *,
        label: LabelSetting = None,
        chat_template: str | None = None,
        dtype: str = "float32",
        device: str = "cpu",
        max_batch_size: int = 32,
        **model_args: Any,
    ) -> None:
        choice = LabelChoice.of(label)
        size = check_int("TransformersReward", "max_batch_size", max_batch_size, at_least(1))
        loaded = LoadedModel.load(model, dtype=dtype, device=device, arguments=model_args)
        self._files, self.model = loaded.files, loaded.model
        law = {key: value for key, value in model_args.items() if key not in _NOT_THE_LAW}
        self._dtype = f"{dtype} {fingerprint(law)}" if law else dtype
        self.rendering: Rendering | PairRendering = choose_rendering(
            loaded.tokenizer, loaded.max_model_len, chat_template, suffix_of(loaded.config)
        )
        self._has_choice = label is not None
        names = label_names(loaded.config)
        if loaded.runs_own_code and (num_values := self._probe(model)) != len(names):
            names = ("score",) if num_values == 1 else default_names(num_values)
        self._reader: LabelReader = choice.reader(model, names)
        self._batcher: Batcher[Encoded, Scored] = Batcher(
            self._forward, max_batch_size=size, name="rsalign-transformers-reward"
        )

    @property
    def fingerprint(self) -> str:
        """Identifies this reward in a journal by the model's content and the precision.

        Raises:
            ConfigError: if the model's files have changed since it was loaded.
        """
        model = f"{self._files.digest()} {self._dtype} {self.rendering.fingerprint}"
        return f"transformers {model}{self._reader.fingerprint}"

    async def score(self, prompt: Prompt, response: Response) -> float:
        """The model's score of a complete or partial response; see `Reward`."""
        asked = self.rendering.encode(prompt, response)
        return await self._batcher(asked)

    def close(self) -> None:
        """Ends the thread."""
        self._batcher.close()

    def _forward(self, batch: Sequence[Encoded]) -> list[Scored]:
        """Scores, ``(batch,)``."""
        rows = zip(self._rows(batch), batch, strict=True)
        return [self._reader.scored(row, len(asked.tokens)) for row, asked in rows]

    def _rows(self, batch: Sequence[Encoded]) -> list[list[float]]:
        """What the model returns for each response, ``(batch, labels)``."""
        import torch

        # transformers takes the last id that is not the padding id for the end of a row: pad by an
        # id that occurs in no row, since one that ends a row would move the scored position
        used = {token for row in batch for token in row.tokens}
        config = self.model.config.get_text_config()
        pad = next(i for i in range(config.vocab_size) if i not in used)
        config.pad_token_id = self.model.config.pad_token_id = pad
        width = max(len(row.tokens) for row in batch)
        ids = [[*row.tokens, *[pad] * (width - len(row.tokens))] for row in batch]
        inputs = {"input_ids": torch.tensor(ids)}
        inputs["attention_mask"] = (inputs["input_ids"] != pad).long()
        if any(row.second_begins is not None for row in batch):
            seconds = torch.tensor([[row.second_begins or width] for row in batch])
            inputs["token_type_ids"] = (torch.arange(width) >= seconds).long()
            inputs["token_type_ids"] *= inputs["attention_mask"]
        on_device = {name: each.to(self.model.device) for name, each in inputs.items()}
        with torch.inference_mode():
            output = self.model(**on_device)
        ends = [len(row.tokens) - 1 for row in batch]
        return read_rows(output, ends, wants_labels=self._has_choice)

    def _probe(self, model: str) -> int:
        """The number of values that a model with code of its own returns for a response."""
        asked = Prompt((Message("user", "Hello"),), (0,)), Response((0,), "Hello", Stop.EOS)
        try:
            (row,) = self._rows([self.rendering.encode(*asked)])
        except ConfigError:
            raise
        except Exception as failed:
            raise ConfigError(
                f"{model} cannot score a response ({describe_error(failed)}): it must take "
                "input_ids and attention_mask as the models of transformers do"
            ) from failed
        return len(row)
