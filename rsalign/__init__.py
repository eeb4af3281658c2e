"""Decoding-time alignment for vLLM: the public interface of the package.

Every name in `__all__` is public and can be imported from here. `rsalign.rewards` (which also has
the functions that calibrate rewards), `rsalign.testing` and `rsalign.embedded` are public too. All
other modules are internal: they may change in any release.

Each name is loaded when it is first used (PEP 562), so that ``import rsalign`` is quick. A new
public name goes into `__all__`, `rsalign.public_names` and the imports for type checkers; a test
compares them.
"""

import importlib
from typing import TYPE_CHECKING, Any

from rsalign.public_names import PUBLIC_NAMES

if TYPE_CHECKING:
    from rsalign.aligner import (
        AlignedCompletion,
        AlignedOutput,
        Aligner,
        Alignment,
        Event,
        ProgressEvent,
        ResultEvent,
        TextEvent,
    )
    from rsalign.chains.beta_rules import BetaRule, TargetKL, TargetSampleSize
    from rsalign.chains.cuts import (
        BlockCuts,
        CutLaw,
        EntropyCuts,
        FixedCuts,
        SegmentCuts,
        UniformCuts,
    )
    from rsalign.chains.stopping import DecidedLead, EffectiveSamples, Stopping
    from rsalign.core.align import Result, align
    from rsalign.core.budget import Budget, Usage
    from rsalign.core.codes import CodeBook
    from rsalign.core.constraint import Constraint
    from rsalign.core.errors import (
        ConfigError,
        EngineError,
        InstallError,
        PolicyError,
        RewardError,
        RsalignError,
        StrategyError,
    )
    from rsalign.core.journal import Journal
    from rsalign.core.key import Key
    from rsalign.core.protocols import (
        Boundary,
        Encoder,
        Likelihood,
        PairwiseReward,
        Policy,
        Reward,
        StepReward,
        Strategy,
    )
    from rsalign.core.run import Run
    from rsalign.core.text.chat_options import ChatOptions
    from rsalign.core.text.reasoning import Reasoning
    from rsalign.core.trace import Proposal, Trace, Verdict
    from rsalign.core.types import Candidate, Message, Prompt, Response, Sampling, Segment, Stop
    from rsalign.drop_in.block import aligned
    from rsalign.hooks.guided.request import Guide
    from rsalign.policies.vllm import VllmPolicy
    from rsalign.policies.vllm_server import VllmServerPolicy
    from rsalign.populations import (
        LookAhead,
        Multinomial,
        PartialReward,
        ParticleGibbs,
        Resampling,
        Residual,
        Stratified,
        Systematic,
        Twist,
    )
    from rsalign.report import write_page
    from rsalign.rewards import (
        BradleyTerry,
        ByCompleteness,
        Cached,
        Capped,
        ClippedSteps,
        Constrained,
        CostBudget,
        DeltaSteps,
        DensityRatio,
        Direction,
        FunctionReward,
        ImplicitStepReward,
        Instructed,
        Journaled,
        LowerConfidenceBound,
        Matching,
        Metered,
        PairwiseJudge,
        PointwiseJudge,
        ProbabilityJudge,
        RemoteReward,
        Routed,
        Scaled,
        StepLayout,
        Steps,
        Template,
        TransformersReward,
        TransformersStepReward,
        VllmReward,
        VllmStepReward,
        WeightedSum,
        Without,
    )
    from rsalign.segments import Blocks, Entropy, FixedSize, LowConfidence, Punctuation
    from rsalign.segments.acceptance import Acceptance, HardAcceptance, SoftAcceptance
    from rsalign.segments.conformal import Conformal
    from rsalign.segments.thresholds import Constant, Line, Threshold, above_mean, upper_quantile
    from rsalign.selectors import (
        BestOfMajority,
        ByWeight,
        ChiSquaredPessimism,
        ConfidenceWeightedVote,
        Hard,
        Knockout,
        Last,
        MajorityVote,
        MinimumBayesRisk,
        RewardWeightedVote,
        Selection,
        Selector,
        SelfCertainty,
        Soft,
        StatisticalRejection,
        TopFraction,
    )
    from rsalign.selectors.extraction import (
        AfterMarker,
        Boxed,
        FinalNumber,
        LastNumber,
        WholeText,
    )
    from rsalign.selectors.utilities import ExactMatch, Rouge1, UnigramF1, Utility
    from rsalign.serve.admission import BusyError
    from rsalign.serve.client import AlignedClient
    from rsalign.strategies import (
        ArithmeticSampling,
        Beam,
        Cautious,
        Chunks,
        DeepConf,
        Distinct,
        Dvts,
        EarlyDrop,
        EarlyStop,
        Gsi,
        Particles,
        Plain,
        Power,
        PrioritySampling,
        Quest,
        Rsd,
        Speculate,
        StochasticBeam,
        TreeSearch,
    )
    from rsalign.strategies.best_of import BestOf
    from rsalign.strategies.calibrate import Calibrate
    from rsalign.strategies.cards import Cards, TriesExhaustedError
    from rsalign.strategies.qalign import QAlign
    from rsalign.strategies.rejection import Rejection

__version__ = "0.1.0"

__all__ = [
    "Acceptance",
    "AfterMarker",
    "AlignedClient",
    "AlignedCompletion",
    "AlignedOutput",
    "Aligner",
    "Alignment",
    "ArithmeticSampling",
    "Beam",
    "BestOf",
    "BestOfMajority",
    "BetaRule",
    "BlockCuts",
    "Blocks",
    "Boundary",
    "Boxed",
    "BradleyTerry",
    "Budget",
    "BusyError",
    "ByCompleteness",
    "ByWeight",
    "Cached",
    "Calibrate",
    "Candidate",
    "Capped",
    "Cards",
    "Cautious",
    "ChatOptions",
    "ChiSquaredPessimism",
    "Chunks",
    "ClippedSteps",
    "CodeBook",
    "ConfidenceWeightedVote",
    "ConfigError",
    "Conformal",
    "Constant",
    "Constrained",
    "Constraint",
    "CostBudget",
    "CutLaw",
    "DecidedLead",
    "DeepConf",
    "DeltaSteps",
    "DensityRatio",
    "Direction",
    "Distinct",
    "Dvts",
    "EarlyDrop",
    "EarlyStop",
    "EffectiveSamples",
    "Encoder",
    "EngineError",
    "Entropy",
    "EntropyCuts",
    "Event",
    "ExactMatch",
    "FinalNumber",
    "FixedCuts",
    "FixedSize",
    "FunctionReward",
    "Gsi",
    "Guide",
    "Hard",
    "HardAcceptance",
    "ImplicitStepReward",
    "InstallError",
    "Instructed",
    "Journal",
    "Journaled",
    "Key",
    "Knockout",
    "Last",
    "LastNumber",
    "Likelihood",
    "Line",
    "LookAhead",
    "LowConfidence",
    "LowerConfidenceBound",
    "MajorityVote",
    "Matching",
    "Message",
    "Metered",
    "MinimumBayesRisk",
    "Multinomial",
    "PairwiseJudge",
    "PairwiseReward",
    "PartialReward",
    "ParticleGibbs",
    "Particles",
    "Plain",
    "PointwiseJudge",
    "Policy",
    "PolicyError",
    "Power",
    "PrioritySampling",
    "ProbabilityJudge",
    "ProgressEvent",
    "Prompt",
    "Proposal",
    "Punctuation",
    "QAlign",
    "Quest",
    "Reasoning",
    "Rejection",
    "RemoteReward",
    "Resampling",
    "Residual",
    "Response",
    "Result",
    "ResultEvent",
    "Reward",
    "RewardError",
    "RewardWeightedVote",
    "Rouge1",
    "Routed",
    "RsalignError",
    "Rsd",
    "Run",
    "Sampling",
    "Scaled",
    "Segment",
    "SegmentCuts",
    "Selection",
    "Selector",
    "SelfCertainty",
    "Soft",
    "SoftAcceptance",
    "Speculate",
    "StatisticalRejection",
    "StepLayout",
    "StepReward",
    "Steps",
    "StochasticBeam",
    "Stop",
    "Stopping",
    "Strategy",
    "StrategyError",
    "Stratified",
    "Systematic",
    "TargetKL",
    "TargetSampleSize",
    "Template",
    "TextEvent",
    "Threshold",
    "TopFraction",
    "Trace",
    "TransformersReward",
    "TransformersStepReward",
    "TreeSearch",
    "TriesExhaustedError",
    "Twist",
    "UniformCuts",
    "UnigramF1",
    "Usage",
    "Utility",
    "Verdict",
    "VllmPolicy",
    "VllmReward",
    "VllmServerPolicy",
    "VllmStepReward",
    "WeightedSum",
    "WholeText",
    "Without",
    "above_mean",
    "align",
    "aligned",
    "upper_quantile",
    "write_page",
]

_MODULE_OF = {name: module for module, names in PUBLIC_NAMES.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    """A public name, imported from its module at first use.

    Raises:
        AttributeError: if there is no such name.
    """
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'rsalign' has no attribute {name!r}")
    module = importlib.import_module(_MODULE_OF[name])
    value = getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """All public names, loaded or not."""
    return sorted({*globals(), *__all__})
