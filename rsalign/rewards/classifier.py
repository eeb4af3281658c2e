"""A sequence-classification reward model run by transformers, with dynamic batching."""

from collections.abc import Sequence
from typing import Any

from rsalign.core.checks import at_least, check_int
from rsalign.core.errors import InstallError
from rsalign.core.protocols import Scored
from rsalign.core.types import Prompt, Response, Tokens
from rsalign.engines.model_files import ModelFiles
from rsalign.rewards.batching import Batcher
from rsalign.rewards.labels import LabelChoice, LabelSetting, label_names
from rsalign.rewards.rendering import Rendering


class TransformersReward:
    """The raw score (no sigmoid) of a model in transformers; for models that vLLM cannot run.

    In float32, a score computed alone and one computed in a batch agree to 1e-4.

    Args:
        model: Hugging Face id or path.
        label: which label is the reward, for a model with several: see `LabelChoice.of`.
        dtype: data type of the weights.
        device: torch device that runs the model.
        max_batch_size: greatest number of responses in one forward pass.

    Raises:
        InstallError: if transformers is missing.
        ConfigError: if the model has several labels and none was chosen, or no chat template; or if
            `max_batch_size` is not at least 1.

    Example:
        >>> from rsalign.embedded import REWARD
        >>> reward = TransformersReward(REWARD)  # doctest: +SKIP
        >>> await reward.score(prompt, response)  # doctest: +SKIP
        2.39
    """

    def __init__(
        self,
        model: str,
        *,
        label: LabelSetting = None,
        dtype: str = "float32",
        device: str = "cpu",
        max_batch_size: int = 32,
    ) -> None:
        choice = LabelChoice.of(label)
        size = check_int("TransformersReward", "max_batch_size", max_batch_size, at_least(1))
        try:
            import torch
            from transformers import AutoModelForSequenceClassification, AutoTokenizer
            from transformers.utils import logging as transformers_logging
        except ImportError as missing:
            raise InstallError(f"TransformersReward needs torch and transformers: {missing}") from (
                missing
            )
        self._torch: Any = torch
        self._files, self._dtype = ModelFiles.of(model), dtype
        bars = transformers_logging.is_progress_bar_enabled()
        transformers_logging.disable_progress_bar()  # a library should not print progress bars
        try:
            loaded = AutoModelForSequenceClassification.from_pretrained(model, dtype=dtype)
        finally:
            if bars:
                transformers_logging.enable_progress_bar()
        self._model: Any = loaded.to(device).eval()
        self._reader = choice.reader(model, label_names(self._model.config))
        length = int(self._model.config.max_position_embeddings)
        self._rendering = Rendering(AutoTokenizer.from_pretrained(model), length)
        self._batcher: Batcher[Tokens, float] = Batcher(
            self._forward, max_batch_size=size, name="rsalign-transformers-reward"
        )

    @property
    def fingerprint(self) -> str:
        """Identifies this reward in a journal by the model's content and the precision.

        Raises:
            ConfigError: if the model's files have changed since it was loaded.
        """
        model = f"{self._files.digest()} {self._dtype} {self._rendering.fingerprint}"
        return f"transformers {model}{self._reader.fingerprint}"

    async def score(self, prompt: Prompt, response: Response) -> float:
        """The model's score of a complete or partial response; see `Reward`."""
        tokens = self._rendering.tokens(prompt, response)
        return Scored(await self._batcher(tokens), tokens=len(tokens))

    def close(self) -> None:
        """Ends the thread."""
        self._batcher.close()

    def _forward(self, batch: Sequence[Tokens]) -> list[float]:
        """Scores, ``(batch,)``."""
        torch = self._torch
        # transformers takes the last id that is not the padding id for the end of a row: pad by an
        # id that occurs in no row, since one that ends a row would move the scored position
        used = set().union(*batch)
        pad = next(i for i in range(self._model.config.vocab_size) if i not in used)
        self._model.config.pad_token_id = pad
        width = max(map(len, batch))
        inputs = torch.tensor([[*row, *[pad] * (width - len(row))] for row in batch])
        inputs = inputs.to(self._model.device)
        with torch.inference_mode():
            logits = self._model(input_ids=inputs, attention_mask=(inputs != pad).long()).logits
        return [self._reader.read(row) for row in logits.float().tolist()]
