"""Kits for testing strategies, policies and rewards: ours and anyone's."""

from rsalign.testing.checks import check_policy, check_reward, check_strategy
from rsalign.testing.enumerate import BranchKey, law
from rsalign.testing.toy import ToyPolicy, ToyReward, responses

__all__ = [
    "BranchKey",
    "ToyPolicy",
    "ToyReward",
    "check_policy",
    "check_reward",
    "check_strategy",
    "law",
    "responses",
]
