"""The rule of guided sampling, on tensors: the same for both of vLLM's model runners.

A token v after the text y is drawn with probability

    pi(v|y) * prod_k (pi_rk(v|y) / pi_refk(v|y))^alpha_k / Z(y)

where pi is the policy, pi_rk the k-th guide, pi_refk its reference (1 for a guide without one) and
alpha_k its weight. With one guide and alpha = 1 / beta this is GenARM (Xu et al. 2024,
arXiv:2410.08193, equation 5). With the policy as the reference it is decoding-time realignment
(Liu et al. 2024, arXiv:2402.02992), pi^(1 - lambda) * pi_r^lambda, whose lambda is alpha.
Temperature and truncation apply to the product.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from rsalign.core.errors import ConfigError
from rsalign.engines.vllm.text import load_tokenizer
from rsalign.hooks.guided.guide_model import Context, GuideModel
from rsalign.hooks.guided.request import SAME_POLICY, Guide, read_guides

if TYPE_CHECKING:
    from vllm.config import VllmConfig

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class GuidedRequest:
    """A guided request in the engine.

    Attributes:
        alphas: weight of each guide, ``(guides,)``; empty if the request cannot be guided, and
            shall end at once.
        context: its tokens.
    """

    alphas: tuple[float, ...]
    context: Context


class Guides:
    """The guides of an engine, which add their rewards to the logits of the requests in a batch.

    Args:
        guides: in the order of the weights.
        models: by name, each once.
        vocab_size: of the policy.
        end: the token that ends a request that cannot be guided.
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
        """Loads the guides that an engine was started with.

        Raises:
            ConfigError: if one has another vocabulary than the policy, or cannot guide.
        """
        policy, guides = config.model_config, read_guides(config)
        tokenizer = load_tokenizer(policy)
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

    def enter(self, alphas: Sequence[float], context: Context | None) -> GuidedRequest | None:
        """Returns a request that enters the batch, or None if it is not guided.

        One that asks for more guides than there are ends at once: it is too late to refuse it, and
        it would be worse to draw it without guidance.

        Args:
            alphas: its weights (`read_guidance`).
            context: None if its prompt has no tokens.
        """
        if not alphas:
            return None
        if len(alphas) > len(self._guides) or context is None:
            logger.error(
                "a request for guidance=%s ends with no text: there are %d guides, and they read "
                "prompts of tokens",
                tuple(alphas),
                len(self._guides),
            )
            return GuidedRequest((), Context([], []))
        others = (0.0,) * (len(self._guides) - len(alphas))
        return GuidedRequest((*alphas, *others), context)

    def guide(self, logits: Tensor, requests: Mapping[int, GuidedRequest]) -> None:
        """One step: makes the logits of guided requests those of the guided law; in place.

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
            served = list(guided.values())
            alphas = torch.tensor([request.alphas for request in served], device=logits.device)
            add_rewards(logits, rows, alphas.T, self._rewards(served, logits[rows]))

    def leave(self, request: GuidedRequest) -> None:
        """Notes that a request has left the batch, ended or preempted."""
        for model in self.models.values():
            model.leave(request.context)

    def _rewards(self, requests: Sequence[GuidedRequest], logits: Tensor) -> Tensor:
        """Ln pi_r / pi_ref of all guides, nats; any finite number where the weight is 0.

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
        """Ln of a model's next-token law, (requests, vocab); 0 for requests without its weight."""
        model = self.models[name]
        needing = [i for i, request in enumerate(requests) if name in self._needed(request)]
        if not needing:
            return torch.zeros(len(requests), model.vocab_size, device=model.device)
        read = model.log_probs([requests[i].context for i in needing])
        if len(needing) == len(requests):
            return read
        law = read.new_zeros(len(requests), model.vocab_size)
        law[needing] = read
        return law

    def _needed(self, request: GuidedRequest) -> set[Any]:
        """The names of the models that have to read a request."""
        weighed = zip(self._guides, request.alphas, strict=True)
        return {
            name for guide, alpha in weighed if alpha for name in (guide.model, guide.reference)
        }


def add_rewards(logits: Tensor, rows: Tensor, alphas: Tensor, rewards: Tensor) -> None:
    """Makes the policy's logits those of the guided law; in place.

    A token that the policy cannot draw stays impossible. One that a guide does not know becomes
    impossible.

    Args:
        logits: of the whole batch, float32, ``(batch, vocab)``.
        rows: of the guided requests, ``(rows,)``.
        alphas: weights of the guides, ``(guides, rows)``.
        rewards: ln pi_r / pi_ref of each token, finite, nats, ``(guides, rows, known)``, where
            `known` may be less than `vocab`: models pad their vocabulary differently.
    """
    known = rewards.shape[-1]
    guided = logits[rows]
    guided[:, :known] += (alphas[:, :, None] * rewards).sum(0)
    guided[:, known:] = -float("inf")
    logits[rows] = guided


def _vocabulary(name: str) -> dict[str, int]:
    from transformers import AutoTokenizer

    try:
        vocabulary: dict[str, int] = AutoTokenizer.from_pretrained(
            name, trust_remote_code=False
        ).get_vocab()
    except (OSError, ValueError) as missing:
        raise ConfigError(f"cannot load the guide {name}: {missing}") from missing
    return vocabulary
