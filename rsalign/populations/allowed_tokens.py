"""Allowed tokens: a token is drawn without those that a constraint refused (AWRS).

Law      Of one token: let p be the policy's law of it. Tokens are drawn from p without replacement
         until one, x, is allowed. One more is drawn without x and the refused ones. Let q be the
         probability of a draw given the draws before it. The weight is the product of 1 - q over
         all refused tokens, times 1 if the last draw is allowed, too, and q(x) otherwise. Then
             E[weight 1{x}] = p(x) [x is allowed],
         so that the token is properly weighted. If nothing is allowed, the weight is 0.
Paper    adaptive weighted rejection sampling: Lipkin et al. 2025, arXiv:2504.05410; this is the
         recursive form, whose number of draws is bounded by the vocabulary.
Cost     two draws of one token each for a token whose first draw is allowed, one more for each
         refused draw; the constraint is asked about these tokens only, not about the vocabulary.
"""

import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from rsalign.core.errors import ConfigError
from rsalign.core.key import Key
from rsalign.core.overdraw import needs_entropy
from rsalign.core.protocols import Boundary, Policy, get_sampling, with_sampling
from rsalign.core.text.response_text import token_text
from rsalign.core.types import Segment, Stop, Tokens

_BAN = -100.0  # of a logit: the least that engines take; exp(-100) is 0 beside any other token

Allows = Callable[[Segment], Awaitable[bool]]
"""Whether the tokens of a segment, drawn after the prefix, are allowed or can still become so."""


@dataclass(frozen=True, slots=True)
class Weighed:
    """A token with its weight.

    Attributes:
        segment: the token alone; None if no token is allowed.
        log_weight: ln of the weight, nats; minus infinity if no token is allowed.
        num_asked: number of tokens that the constraint was asked about.
    """

    segment: Segment | None
    log_weight: float
    num_asked: int


async def draw_token(policy: Policy, prefix: Tokens, allows: Allows, key: Key) -> Weighed:
    """Draws one allowed token with its weight.

    Args:
        policy: must tell the log-probabilities of its draws and take a `Sampling.logit_bias`.
        prefix: prompt and tokens so far.
        allows: asked about each drawn token.
        key: the address; draw i is at ``("try", i)``.

    Raises:
        ConfigError: if the policy's law is truncated (top_p, top_k, min_p), since a law without
            some of its tokens is then another law, or if it does not tell log-probabilities.
    """
    banned: list[int] = []
    log_weight = log_left = 0.0  # log_left: of the mass of tokens that were not refused
    while True:
        drawn = await _draw(policy, prefix, tuple(banned), key.child("try", len(banned)))
        if drawn is None:
            return Weighed(None, -math.inf, len(banned))
        token, prob = drawn.tokens[0], math.exp(_log_prob(drawn))
        if await allows(drawn):
            break
        banned.append(token)
        log_weight += _log_rest(prob)
        log_left = log_weight
        if log_left == -math.inf:
            return Weighed(None, -math.inf, len(banned))
    accepted = replace(drawn, log_probs=(min(0.0, log_left + _log_prob(drawn)),))
    asked = len(banned) + 1
    if _log_rest(prob) == -math.inf:  # all that is left is this token
        return Weighed(accepted, log_weight, asked)
    other = await _draw(policy, prefix, (*banned, token), key.child("other"))
    if other is not None and not await allows(other):
        log_weight += math.log(prob)
    return Weighed(accepted, log_weight, asked + (other is not None))


async def draw_segment(
    policy: Policy,
    prefix: Tokens,
    allows: Allows,
    *,
    max_new_tokens: int,
    boundary: Boundary | None,
    key: Key,
) -> tuple[Segment | None, float, int]:
    """Draws allowed tokens up to a boundary; the weight is the product of the tokens' weights.

    Args:
        policy: as in `draw_token`.
        prefix: prompt and kept tokens.
        allows: asked about the tokens drawn so far, as one segment.
        max_new_tokens: greatest number of tokens, at least 1.
        boundary: rule that ends the segment; it may not read entropies.
        key: the address; token i is at ``("token", i)``.

    Returns:
        The segment, None if no token is allowed after some prefix; ln of the weight, nats; and the
        number of tokens that the constraint was asked about.
    """
    drawn: Segment | None = None
    log_weight, num_asked = 0.0, 0
    while True:
        before = drawn
        size = len(before.tokens) if before else 0

        def joined(token: Segment, before: Segment | None = before, size: int = size) -> Segment:
            whole = before.join(token) if before else token
            is_last = token.stop is Stop.LENGTH
            stops = Stop.LENGTH if size + 1 == max_new_tokens else Stop.BOUNDARY
            return replace(whole, stop=stops) if is_last else whole

        async def allows_joined(token: Segment) -> bool:
            return await allows(joined(token))

        so_far = prefix + (before.tokens if before else ())
        weighed = await draw_token(policy, so_far, allows_joined, key.child("token", size))
        num_asked += weighed.num_asked
        log_weight += weighed.log_weight
        if weighed.segment is None:
            return None, -math.inf, num_asked
        drawn = joined(weighed.segment)
        if drawn.stop is not Stop.BOUNDARY:
            return drawn, log_weight, num_asked
        if boundary is not None and (
            len(drawn.tokens) == boundary.max_tokens
            or boundary.ends_after(len(drawn.tokens), 0.0, token_text(policy, drawn.tokens[-1]))
            or boundary.ends_before(len(drawn.tokens), 0.0)
        ):
            return drawn, log_weight, num_asked


def require_tokens_one_by_one(policy: Policy, boundary: Boundary) -> None:
    """Refuses a policy or boundary with which tokens cannot be drawn one at a time.

    Raises:
        ConfigError: says what cannot be combined.
    """
    law = get_sampling(policy)
    if law.top_p < 1 or law.top_k > 0 or law.min_p > 0:
        raise ConfigError(
            "tokens that a constraint refuses are left out of the policy's law, which top_p, top_k "
            "and min_p would then truncate elsewhere: set top_p=1, top_k=0 and min_p=0"
        )
    if law.stop:
        raise ConfigError(
            "a stop string can end between tokens that are drawn one at a time: give "
            "stop_token_ids, or let the constraint decide where an answer ends"
        )
    if needs_entropy(boundary):
        raise ConfigError(
            f"segmenter={boundary!r} reads entropies, which are not measured where tokens are "
            "drawn one at a time: take FixedSize, or Punctuation(min_entropy=0)"
        )


async def _draw(policy: Policy, prefix: Tokens, banned: Tokens, key: Key) -> Segment | None:
    """Draws a token that is not banned; None if there is no other."""
    if banned:
        law = get_sampling(policy)
        bias = dict(law.logit_bias) | dict.fromkeys(banned, _BAN)
        policy = with_sampling(policy, replace(law, logit_bias=tuple(bias.items())))
    drawn = await policy.extend(prefix, max_new_tokens=1, key=key)
    return None if drawn.tokens[0] in banned else drawn


def _log_prob(drawn: Segment) -> float:
    if drawn.log_probs is None:
        raise ConfigError(
            "the policy does not tell the log-probabilities of its draws, which the weights of "
            "allowed tokens need: give one that does (an engine started with "
            "logprobs_mode='processed_logprobs', or temperature 1 without truncation)"
        )
    return drawn.log_probs[0]


def _log_rest(prob: float) -> float:
    """Ln (1 - prob); minus infinity if nothing is left but rounding."""
    return math.log1p(-prob) if prob < 1 - 1e-12 else -math.inf
