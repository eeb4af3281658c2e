"""Rewards (`rsalign.core.protocols.Reward`): models, judges, functions, and their combinations.

Importing a class loads no heavy library; making one may.
"""

from rsalign.core.journal import JournaledReward as Journaled
from rsalign.rewards.calibration import calibrate, calibrated_on, own_rewards
from rsalign.rewards.classifier import TransformersReward
from rsalign.rewards.combine import (
    BradleyTerry,
    Capped,
    Direction,
    WeightedSum,
    reference_value,
)
from rsalign.rewards.density_ratio import DensityRatio, Instructed
from rsalign.rewards.ensemble import LowerConfidenceBound, Routed
from rsalign.rewards.function import FunctionReward
from rsalign.rewards.judge import PairwiseJudge, PointwiseJudge, ProbabilityJudge
from rsalign.rewards.judge_templates import Template
from rsalign.rewards.process import VllmStepReward
from rsalign.rewards.remote import RemoteReward
from rsalign.rewards.steps import ClippedSteps, DeltaSteps, Steps
from rsalign.rewards.vllm import VllmReward
from rsalign.rewards.wrappers import Cached, Metered, Scaled

__all__ = [
    "BradleyTerry",
    "Cached",
    "Capped",
    "ClippedSteps",
    "DeltaSteps",
    "DensityRatio",
    "Direction",
    "FunctionReward",
    "Instructed",
    "Journaled",
    "LowerConfidenceBound",
    "Metered",
    "PairwiseJudge",
    "PointwiseJudge",
    "ProbabilityJudge",
    "RemoteReward",
    "Routed",
    "Scaled",
    "Steps",
    "Template",
    "TransformersReward",
    "VllmReward",
    "VllmStepReward",
    "WeightedSum",
    "calibrate",
    "calibrated_on",
    "own_rewards",
    "reference_value",
]
