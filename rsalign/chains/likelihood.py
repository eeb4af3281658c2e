"""How probable a response was when it was drawn."""

import math

from rsalign.core.errors import ConfigError
from rsalign.core.types import Response


def log_prob(response: Response) -> float:
    """Ln of the probability of the whole response under the law it was drawn from, nats.

    Raises:
        ConfigError: if its log-probabilities are not known.
    """
    if response.log_probs is None:
        raise ConfigError(
            "a response has no log-probabilities, which this strategy needs: give a policy that "
            "tells them under its own law (an engine started with "
            "logprobs_mode='processed_logprobs', or temperature 1 without truncation)"
        )
    return math.fsum(response.log_probs)


def is_certain(response: Response, kept: int = 0) -> bool:
    """Whether the policy could have drawn nothing else after the first `kept` tokens.

    That is: each token after them is known to have had probability 1 (to the rounding of the
    engine's own log-probabilities), so that drawing again from there repeats it.
    """
    return response.log_probs is not None and not any(response.log_probs[kept:])
