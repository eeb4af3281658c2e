"""A language model that reads the tokens of requests as they are drawn, one token a step.

The keys and values of a request's tokens are kept, so that a step costs the newest token. A new
request copies those of the longest prefix that it shares with an earlier one: a segment costs its
own tokens, not those of the answer so far, and n answers to one prompt read that prompt once.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rsalign.core.errors import ConfigError
from rsalign.hooks.guided.key_values import KeyValues


@dataclass(eq=False, slots=True)
class Context:
    """The tokens of one request.

    Attributes:
        prompt: token ids of the prompt.
        drawn: the drawn ones; the engine appends to this very list.

    Example:
        >>> Context([1, 2], [3]).since(1)
        [2, 3]
    """

    prompt: Sequence[int]
    drawn: list[int]

    def __len__(self) -> int:
        return len(self.prompt) + len(self.drawn)

    def since(self, position: int) -> list[int]:
        """Returns the tokens from a position on."""
        if position >= len(self.prompt):
            return list(self.drawn[position - len(self.prompt) :])
        return [*self.prompt[position:], *self.drawn]


class GuideModel:
    """Next-token laws of many requests under one causal language model.

    Each request has a *place* for its keys and values, and every place has room for the longest
    request. There are at most twice as many places as requests were ever open at once.

    Args:
        model: a `transformers` model, on its device, with full attention in all layers.

    Attributes:
        device: where it is.
        vocab_size: number of tokens that it has a probability for.
        num_read: tokens that went through the model, all requests together.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        self._cache = KeyValues(model.config.num_hidden_layers)
        self._read: list[list[int]] = []
        self._place: dict[Context, int] = {}
        self._free: OrderedDict[int, None] = OrderedDict()  # left longest ago first
        self._most_open = 0
        self.device: torch.device = model.device
        self.vocab_size = int(model.config.vocab_size)
        self.num_read = 0

    @classmethod
    def load(
        cls, model: str, *, dtype: torch.dtype, device: torch.device, max_length: int
    ) -> "GuideModel":
        """Loads a model by Hugging Face id or path.

        Args:
            model: see `Guide`.
            dtype: of its weights.
            device: where it is.
            max_length: of the longest request, prompt included.

        Raises:
            ConfigError: if its context is too short, or it cannot read one token at a time.
        """
        from transformers import AutoModelForCausalLM, DynamicCache
        from transformers.utils import logging as transformers_logging

        bars = transformers_logging.is_progress_bar_enabled()
        transformers_logging.disable_progress_bar()  # a library prints none into pipes
        try:
            # False: transformers would else ask on the terminal whether to run the code of a model
            loaded = AutoModelForCausalLM.from_pretrained(
                model, dtype=dtype, trust_remote_code=False
            )
            loaded = loaded.to(device).eval()
        finally:
            if bars:
                transformers_logging.enable_progress_bar()
        layers = DynamicCache(config=loaded.config)
        if any(layers.is_sliding) or any(layers.is_linear):
            raise ConfigError(
                f"the guide {model} has layers that forget (sliding windows or recurrence): give "
                "one with full attention"
            )
        longest = getattr(loaded.config, "max_position_embeddings", max_length)
        if longest < max_length:
            raise ConfigError(
                f"the guide {model} reads {longest} tokens, but a request may have {max_length}: "
                f"start the engine with max_model_len={longest}"
            )
        return cls(loaded)

    def log_probs(self, contexts: Sequence[Context]) -> Tensor:
        """Returns ln pi_r(v|y) of each token v after each context y, nats.

        Only the tokens that a context has gained since the last call go through the model, or its
        last token if there are none.

        Args:
            contexts: of different requests; none is empty.

        Returns:
            float32, ``(contexts, vocab)``.
        """
        with torch.inference_mode():
            laws: dict[Context, Tensor] = {}
            one_new = []
            for context in contexts:
                if self._start(context) == len(context) - 1:
                    one_new.append(context)
                else:  # mostly a new request, whose prompt the next one may share
                    laws[context] = self._forward([context])[0]
            if one_new:
                laws |= zip(one_new, self._forward(one_new), strict=True)
            return torch.stack([laws[context] for context in contexts])

    def leave(self, context: Context) -> None:
        """Notes that a request has left the batch; its keys and values stay while there is room.

        It may come back as another context.
        """
        place = self._place.pop(context, None)
        if place is not None:
            self._free[place] = None

    def _start(self, context: Context) -> int:
        """The first position that has to go through the model."""
        return min(len(self._read[self._placed(context)]), len(context) - 1)

    def _forward(self, contexts: Sequence[Context]) -> Tensor:
        """Reads the new tokens, equally many in all contexts; returns ``(contexts, vocab)``."""
        device = self.device
        places = [self._place[context] for context in contexts]
        starts = [self._start(context) for context in contexts]
        new = [context.since(start) for context, start in zip(contexts, starts, strict=True)]
        ids = torch.tensor(new, device=device)
        steps = torch.arange(ids.shape[1], device=device)
        positions = torch.tensor(starts, device=device)[:, None] + steps
        length = max(starts) + len(steps)
        self._cache.address(places, positions, length)
        later = torch.arange(length, device=device) > positions[:, None, :, None]
        mask = torch.zeros(later.shape, dtype=self._model.dtype, device=device)
        output = self._model(
            input_ids=ids,
            attention_mask=mask.masked_fill_(later, torch.finfo(mask.dtype).min),
            position_ids=positions,
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=1,
        )
        self.num_read += ids.numel()
        for place, start, tokens in zip(places, starts, new, strict=True):
            self._read[place][start:] = tokens
        logits: Tensor = output.logits[:, -1]
        exact = torch.promote_types(logits.dtype, torch.float32)
        return logits.log_softmax(-1, dtype=exact).float()

    def _placed(self, context: Context) -> int:
        """The place of a context; a new one copies the longest prefix that another place has."""
        if context in self._place:
            return self._place[context]
        tokens = context.since(0)
        shared, donor = max(
            ((_common(read, tokens), place) for place, read in enumerate(self._read)),
            default=(0, 0),
        )
        self._most_open = max(self._most_open, len(self._place) + 1)
        if self._free and len(self._read) >= 2 * self._most_open:
            place, _ = self._free.popitem(last=False)
        else:
            place = len(self._read)
            self._read.append([])
        if shared and place != donor:
            self._cache.copy(donor, place, shared)
        self._read[place] = self._read[donor][:shared] if shared else []
        self._place[context] = place
        return place


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    """The length of the longest common prefix."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low
