"""Tools for testing strategies, policies and rewards, those of this package and your own.

`law` and `law_of` compute exact distributions by enumeration, `check_policy`, `check_reward`,
`check_strategy` and `check_constraint` test the laws of `rsalign.core.protocols`, and `ToyPolicy`
and `ToyReward` are small enough for exact results.
"""

from rsalign.testing.checks import check_constraint, check_policy, check_reward, check_strategy
from rsalign.testing.enumerate import BranchKey, distance, law, law_of
from rsalign.testing.pools import example_pool
from rsalign.testing.toy import EOS, ToyPolicy, ToyReward, responses

__all__ = [
    "EOS",
    "BranchKey",
    "ToyPolicy",
    "ToyReward",
    "check_constraint",
    "check_policy",
    "check_reward",
    "check_strategy",
    "distance",
    "example_pool",
    "law",
    "law_of",
    "responses",
]
