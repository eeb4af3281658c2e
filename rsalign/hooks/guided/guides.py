"""The guides of an engine at work: what both of vLLM's model runners share."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from rsalign.core.errors import ConfigError
from rsalign.hooks.guided.guide_model import Context, GuideModel
from rsalign.hooks.guided.request import SAME_POLICY, Guide, guides_of
from rsalign.hooks.guided.rule import add_rewards

if TYPE_CHECKING:
    from vllm.config import VllmConfig

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class GuidedRequest:
    """A request in the engine.

    Attributes:
        alphas: weight of each guide, ``(guides,)``; empty: it asked for what there is not.
        context: what it has written.
    """

    alphas: tuple[float, ...]
    context: Context


class Guides:
    """Rewards of the requests in a batch, added to their logits.

    Args:
        guides: in the order of the weights.
        models: by name, each once.
        vocab_size: of the policy.
        end: the token that a request ends with if it cannot be guided.
    """

    def __init__(
        self, guides: Sequence[Guide], models: Mapping[str, GuideModel], vocab_size: int, end: int
    ) -> None:
        self.models = models
        self._guides = guides
        self._known = min([vocab_size, *(model.vocab_size for model in models.values())])
        self._end = end

    @classmethod
    def load(cls, config: "VllmConfig", device: torch.device) -> "Guides":
        """Loads those that an engine was started with.

        Raises:
            ConfigError: if one has another vocabulary, or cannot guide.
        """
        from vllm.tokenizers import cached_tokenizer_from_config

        policy, guides = config.model_config, guides_of(config)
        tokenizer = cached_tokenizer_from_config(policy)
        # On CPUs a law must not depend on what else is in the batch. vLLM's own products do not,
        # but torch's round otherwise for other sizes; in float64 that is gone when float32 is left.
        dtype = torch.float64 if device.type == "cpu" else policy.dtype
        models: dict[str, GuideModel] = {}
        for name in [name for guide in guides for name in (guide.model, guide.reference) if name]:
            if name == SAME_POLICY or name in models:
                continue
            if _vocabulary(name) != tokenizer.get_vocab():
                raise ConfigError(
                    f"the guide {name} has another vocabulary than {policy.model}: guides weigh "
                    "the policy's own tokens, so give one with the same tokenizer"
                )
            models[name] = GuideModel.load(
                name, dtype=dtype, device=device, max_length=policy.max_model_len
            )
        return cls(guides, models, policy.get_vocab_size(), tokenizer.eos_token_id)

    def request(self, asked: Sequence[float], context: Context | None) -> GuidedRequest | None:
        """A request as it enters; None if it asks for nothing.

        One that asks for what there is not ends at once: it is too late to refuse it, and to draw
        it without guidance would be worse.

        Args:
            asked: its weights (`read_guidance`).
            context: None if its prompt has no tokens.
        """
        if not asked:
            return None
        if len(asked) > len(self._guides) or context is None:
            logger.error(
                "a request for guidance=%s ends with no text: there are %d guides, and they read "
                "prompts of tokens",
                tuple(asked),
                len(self._guides),
            )
            return GuidedRequest((), Context([], []))
        unasked = (0.0,) * (len(self._guides) - len(asked))
        return GuidedRequest((*asked, *unasked), context)

    def guide(self, logits: Tensor, requests: Mapping[int, GuidedRequest]) -> None:
        """One step; in place.

        Args:
            logits: of the whole batch, float32, ``(batch, vocab)``.
            requests: by row.
        """
        for row in [row for row, request in requests.items() if not request.alphas]:
            logits[row] = -float("inf")
            logits[row, self._end] = 0.0
        guided = {row: request for row, request in requests.items() if request.alphas}
        if guided:
            rows = torch.tensor(list(guided), device=logits.device)
            asked = list(guided.values())
            alphas = torch.tensor([request.alphas for request in asked], device=logits.device)
            add_rewards(logits, rows, alphas.T, self._rewards(asked, logits[rows]))

    def leave(self, request: GuidedRequest) -> None:
        """It is not in the batch any more, for now or for ever."""
        for model in self.models.values():
            model.leave(request.context)

    def _rewards(self, requests: Sequence[GuidedRequest], logits: Tensor) -> Tensor:
        """Ln pi_r / pi_ref of all guides; what has no weight may be any number.

        Returns:
            ``(guides, requests, known)``.
        """
        laws = {name: self._law(name, requests) for name in self.models}
        if any(guide.reference == SAME_POLICY for guide in self._guides):
            own = logits.log_softmax(-1)
            # what the policy cannot draw stays impossible, whatever is added
            laws[SAME_POLICY] = own.masked_fill_(own.isneginf(), 0.0)
        rewards = []
        for guide in self._guides:
            reward = laws[guide.model][:, : self._known]
            if guide.reference is not None:
                reward = reward - laws[guide.reference][:, : self._known]
            rewards.append(reward)
        return torch.stack(rewards)

    def _law(self, name: str, requests: Sequence[GuidedRequest]) -> Tensor:
        """Ln of a model's next-token law, (requests, vocab); 0 for those that need it not."""
        model = self.models[name]
        asking = [i for i, request in enumerate(requests) if name in self._needed(request)]
        if not asking:
            return torch.zeros(len(requests), model.vocab_size, device=model.device)
        read = model.log_probs([requests[i].context for i in asking])
        if len(asking) == len(requests):
            return read
        law = read.new_zeros(len(requests), model.vocab_size)
        law[asking] = read
        return law

    def _needed(self, request: GuidedRequest) -> set[Any]:
        """Models that have to read it."""
        weighed = zip(self._guides, request.alphas, strict=True)
        return {
            name for guide, alpha in weighed if alpha for name in (guide.model, guide.reference)
        }


def _vocabulary(name: str) -> dict[str, int]:
    from transformers import AutoTokenizer

    try:
        vocabulary: dict[str, int] = AutoTokenizer.from_pretrained(name).get_vocab()
    except (OSError, ValueError) as missing:
        raise ConfigError(f"cannot load the guide {name}: {missing}") from missing
    return vocabulary
