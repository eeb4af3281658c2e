"""Rewards (`rsalign.core.protocols.Reward`): models, judges, functions, and their combinations.

Importing a class loads no heavy library; making one may.
"""

from collections.abc import Callable, Mapping
from typing import Any

from rsalign.core.journaled import JournaledReward as Journaled
from rsalign.rewards.by_completeness import ByCompleteness
from rsalign.rewards.calibration import calibrate, calibrated_on, own_rewards
from rsalign.rewards.classifier import TransformersReward
from rsalign.rewards.combine import (
    BradleyTerry,
    Capped,
    Direction,
    WeightedSum,
    reference_value,
)
from rsalign.rewards.constrained import Constrained
from rsalign.rewards.constraints import Matching, Without
from rsalign.rewards.cost_budget import CostBudget
from rsalign.rewards.density_ratio import DensityRatio, Instructed
from rsalign.rewards.ensemble import LowerConfidenceBound, Routed
from rsalign.rewards.function import FunctionReward
from rsalign.rewards.implicit_steps import ImplicitStepReward
from rsalign.rewards.judge import PairwiseJudge, PointwiseJudge, ProbabilityJudge
from rsalign.rewards.judge_templates import Template, shipped_names
from rsalign.rewards.process import VllmStepReward
from rsalign.rewards.remote import RemoteReward
from rsalign.rewards.step_classifier import TransformersStepReward
from rsalign.rewards.step_layouts import STEP_LAYOUTS, StepLayout
from rsalign.rewards.step_models import make_steps
from rsalign.rewards.steps import ClippedSteps, DeltaSteps, Steps
from rsalign.rewards.vllm import VllmReward
from rsalign.rewards.wrappers import Cached, Metered, Scaled

__all__ = [
    "CONSTRAINTS",
    "JUDGES",
    "REWARDS",
    "STEP_LAYOUTS",
    "TEMPLATES",
    "BradleyTerry",
    "ByCompleteness",
    "Cached",
    "Capped",
    "ClippedSteps",
    "Constrained",
    "CostBudget",
    "DeltaSteps",
    "DensityRatio",
    "Direction",
    "FunctionReward",
    "ImplicitStepReward",
    "Instructed",
    "Journaled",
    "LowerConfidenceBound",
    "Matching",
    "Metered",
    "PairwiseJudge",
    "PointwiseJudge",
    "ProbabilityJudge",
    "RemoteReward",
    "Routed",
    "Scaled",
    "StepLayout",
    "Steps",
    "Template",
    "TransformersReward",
    "TransformersStepReward",
    "VllmReward",
    "VllmStepReward",
    "WeightedSum",
    "Without",
    "calibrate",
    "calibrated_on",
    "own_rewards",
    "reference_value",
]

REWARDS: Mapping[str, Callable[..., Any]] = {
    "vllm": VllmReward.start,
    "vllm_steps": VllmStepReward.start,
    "transformers_steps": TransformersStepReward,
    "implicit_steps": ImplicitStepReward,
    "server": RemoteReward.connect,
    "transformers": TransformersReward,
    "function": FunctionReward,
    "pointwise_judge": PointwiseJudge,
    "probability_judge": ProbabilityJudge,
    "density_ratio": DensityRatio,
    "steps": make_steps,
    "clipped_steps": ClippedSteps,
    "delta_steps": DeltaSteps,
    "weighted_sum": WeightedSum,
    "direction": Direction,
    "bradley_terry": BradleyTerry,
    "capped": Capped,
    "constrained": Constrained,
    "by_completeness": ByCompleteness,
    "lower_confidence_bound": LowerConfidenceBound,
    "routed": Routed,
    "scaled": Scaled,
    "cached": Cached,
}
"""What settings call each class of rewards: the class, or the function that makes one."""

JUDGES: Mapping[str, Callable[..., Any]] = {"pairwise_judge": PairwiseJudge}
"""What settings call each class that compares two answers."""

CONSTRAINTS: Mapping[str, Callable[..., Any]] = {
    "without": Without,
    "matching": Matching,
    "cost_budget": CostBudget,
}
"""What settings call each class of constraints."""

TEMPLATES: Mapping[str, Template] = {name: Template.named(name) for name in shipped_names()}
"""The package's questions for judges, by name."""
