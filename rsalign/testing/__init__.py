"""Kits for testing strategies, policies and rewards: ours and anyone's."""

from rsalign.testing.checks import check_policy, check_reward, check_strategy
from rsalign.testing.enumerate import BranchKey, distance, law, law_of
from rsalign.testing.toy import EOS, ToyPolicy, ToyReward, responses

__all__ = [
    "EOS",
    "BranchKey",
    "ToyPolicy",
    "ToyReward",
    "check_policy",
    "check_reward",
    "check_strategy",
    "distance",
    "law",
    "law_of",
    "responses",
]
