"""A toy policy whose tokens can be banned, as an engine's can."""

import math
from dataclasses import dataclass, field, replace

from rsalign import Sampling
from rsalign.testing import ToyPolicy


@dataclass(frozen=True)
class BiasedToy(ToyPolicy):
    """The toy under a `Sampling.logit_bias`."""

    law: Sampling = field(default_factory=Sampling)

    @property
    def sampling(self):
        return self.law

    def with_sampling(self, sampling):
        return replace(self, law=sampling)

    def probs(self, prefix):
        bias = dict(self.law.logit_bias)
        plain = super().probs(prefix)
        weights = [p * math.exp(bias.get(token, 0.0)) for token, p in enumerate(plain)]
        total = math.fsum(weights)
        return tuple(weight / total for weight in weights)
