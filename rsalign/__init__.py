"""Decoding-time alignment for vLLM: samplers with exact laws, at the engine's own speed."""

from rsalign.aligner import (
    AlignedCompletion,
    AlignedOutput,
    Aligner,
    Alignment,
    ProgressEvent,
    ResultEvent,
    TextEvent,
)
from rsalign.core.align import Result, align
from rsalign.core.budget import Budget, Usage
from rsalign.core.errors import (
    ConfigError,
    EngineError,
    InstallError,
    PolicyError,
    RewardError,
    RsalignError,
    StrategyError,
)
from rsalign.core.key import Key
from rsalign.core.run import Run
from rsalign.core.trace import Proposal, Trace, Verdict
from rsalign.core.types import Candidate, Message, Prompt, Response, Sampling, Segment, Stop
from rsalign.drop_in.block import aligned
from rsalign.segments import Entropy, FixedSize, Punctuation
from rsalign.segments.thresholds import Constant, Line
from rsalign.strategies.best_of import BestOf
from rsalign.strategies.calibrate import Calibrate
from rsalign.strategies.cards import Cards
from rsalign.strategies.plain import Plain
from rsalign.strategies.qalign import QAlign

__version__ = "0.1.0"

__all__ = [
    "AlignedCompletion",
    "AlignedOutput",
    "Aligner",
    "Alignment",
    "BestOf",
    "Budget",
    "Calibrate",
    "Candidate",
    "Cards",
    "ConfigError",
    "Constant",
    "EngineError",
    "Entropy",
    "FixedSize",
    "InstallError",
    "Key",
    "Line",
    "Message",
    "Plain",
    "PolicyError",
    "ProgressEvent",
    "Prompt",
    "Proposal",
    "Punctuation",
    "QAlign",
    "Response",
    "Result",
    "ResultEvent",
    "RewardError",
    "RsalignError",
    "Run",
    "Sampling",
    "Segment",
    "Stop",
    "StrategyError",
    "TextEvent",
    "Trace",
    "Usage",
    "Verdict",
    "align",
    "aligned",
]
