"""Where each public name of `rsalign` is defined; it is imported from there at first use."""

PUBLIC_NAMES = {
    "rsalign.aligner": (
        "AlignedCompletion AlignedOutput Aligner Alignment Event ProgressEvent "
        "ResultEvent TextEvent"
    ),
    "rsalign.chains.beta_rules": "BetaRule TargetKL TargetSampleSize",
    "rsalign.chains.cuts": "BlockCuts CutLaw EntropyCuts FixedCuts SegmentCuts UniformCuts",
    "rsalign.chains.stopping": "DecidedLead EffectiveSamples Stopping",
    "rsalign.core.align": "Result align",
    "rsalign.core.budget": "Budget Usage",
    "rsalign.core.codes": "CodeBook",
    "rsalign.core.constraint": "Constraint",
    "rsalign.core.errors": (
        "ConfigError EngineError InstallError PolicyError RewardError RsalignError StrategyError"
    ),
    "rsalign.core.journal": "Journal",
    "rsalign.core.key": "Key",
    "rsalign.core.protocols": (
        "Boundary Encoder Likelihood PairwiseReward Policy Reward StepReward Strategy"
    ),
    "rsalign.core.run": "Run",
    "rsalign.core.text.chat_options": "ChatOptions",
    "rsalign.core.text.reasoning": "Reasoning",
    "rsalign.core.trace": "Proposal Trace Verdict",
    "rsalign.core.types": "Candidate Message Prompt Response Sampling Segment Stop",
    "rsalign.drop_in.block": "aligned",
    "rsalign.hooks.guided.request": "Guide",
    "rsalign.policies.vllm_server": "VllmServerPolicy",
    "rsalign.policies.vllm": "VllmPolicy",
    "rsalign.populations": (
        "LookAhead Multinomial PartialReward ParticleGibbs Resampling Residual Stratified "
        "Systematic Twist"
    ),
    "rsalign.report": "write_page",
    "rsalign.rewards": (
        "BradleyTerry ByCompleteness Cached Capped ClippedSteps Constrained CostBudget "
        "DeltaSteps DensityRatio Direction FunctionReward ImplicitStepReward Instructed "
        "Journaled LowerConfidenceBound Matching Metered PairwiseJudge PointwiseJudge "
        "ProbabilityJudge RemoteReward Routed Scaled StepLayout Steps Template "
        "TransformersReward TransformersStepReward VllmReward VllmStepReward WeightedSum "
        "Without"
    ),
    "rsalign.segments": "Blocks Entropy FixedSize LowConfidence Punctuation",
    "rsalign.segments.acceptance": "Acceptance HardAcceptance SoftAcceptance",
    "rsalign.segments.conformal": "Conformal",
    "rsalign.segments.thresholds": "Constant Line Threshold above_mean upper_quantile",
    "rsalign.selectors": (
        "BestOfMajority ByWeight ChiSquaredPessimism ConfidenceWeightedVote Hard Knockout Last "
        "MajorityVote MinimumBayesRisk RewardWeightedVote Selection Selector "
        "SelfCertainty Soft StatisticalRejection TopFraction"
    ),
    "rsalign.selectors.extraction": "AfterMarker Boxed FinalNumber LastNumber WholeText",
    "rsalign.selectors.utilities": "ExactMatch Rouge1 UnigramF1 Utility",
    "rsalign.serve.admission": "BusyError",
    "rsalign.serve.client": "AlignedClient",
    "rsalign.strategies": (
        "ArithmeticSampling Beam Cautious Chunks DeepConf Distinct Dvts EarlyDrop EarlyStop Gsi "
        "Particles Plain Power PrioritySampling Quest Rsd Speculate StochasticBeam TreeSearch"
    ),
    "rsalign.strategies.best_of": "BestOf",
    "rsalign.strategies.calibrate": "Calibrate",
    "rsalign.strategies.cards": "Cards TriesExhaustedError",
    "rsalign.strategies.qalign": "QAlign",
    "rsalign.strategies.rejection": "Rejection",
}
"""Module: the public names that it defines."""
