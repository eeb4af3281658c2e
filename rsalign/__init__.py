"""Decoding-time alignment for vLLM: samplers with exact laws, at the engine's own speed."""

from rsalign.align import Result, align
from rsalign.aligner import (
    AlignedCompletion,
    AlignedOutput,
    Aligner,
    Alignment,
    ProgressEvent,
    ResultEvent,
    TextEvent,
    aligned,
)
from rsalign.budget import Budget, Usage
from rsalign.errors import (
    ConfigError,
    EngineError,
    InstallError,
    PolicyError,
    RewardError,
    RsalignError,
    StrategyError,
)
from rsalign.key import Key
from rsalign.rules.thresholds import Constant, Line
from rsalign.run import Run
from rsalign.segmenters import Entropy, FixedSize, Punctuation
from rsalign.strategies.best_of import BestOf
from rsalign.strategies.calibrate import Calibrate
from rsalign.strategies.cards import Cards
from rsalign.strategies.plain import Plain
from rsalign.strategies.qalign import QAlign
from rsalign.trace import Proposal, Trace, Verdict
from rsalign.types import Candidate, Message, Prompt, Response, Sampling, Segment, Stop

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
