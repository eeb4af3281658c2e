"""The rule of guided sampling, on tensors.

pi(v|y) * prod_k (pi_rk(v|y) / pi_refk(v|y))^alpha_k / Z(y), where pi is the policy, pi_rk the k-th
guide and pi_refk what it is measured against (1 for a guide without reference). With one guide and
alpha = 1 / beta this is GenARM (Xu et al. 2024, arXiv:2410.08193, equation 5); with the policy as
the reference it is decoding-time realignment (Liu et al. 2024, arXiv:2402.02992), alpha being its
lambda: pi^(1 - lambda) * pi_r^lambda. Temperature and truncation apply to the product.
"""

from torch import Tensor


def add_rewards(logits: Tensor, rows: Tensor, alphas: Tensor, rewards: Tensor) -> None:
    """Makes the policy's logits those of the guided law; in place.

    A token that the policy cannot draw stays impossible; one that a guide does not know becomes so.

    Args:
        logits: of the whole batch, float32, ``(batch, vocab)``.
        rows: those that are guided, ``(rows,)``.
        alphas: weights of the guides, ``(guides, rows)``.
        rewards: ln pi_r / pi_ref of each token, finite, nats, ``(guides, rows, known)``, where
            `known` may be less than `vocab`: models pad their vocabulary differently.
    """
    known = rewards.shape[-1]
    guided = logits[rows]
    guided[:, :known] += (alphas[:, :, None] * rewards).sum(0)
    guided[:, known:] = -float("inf")
    logits[rows] = guided
