"""Decoding-time alignment for vLLM: samplers with exact laws, at the engine's own speed."""

from rsalign.align import Result, align
from rsalign.aligner import AlignedCompletion, AlignedOutput, Aligner, Alignment
from rsalign.budget import Budget, Usage
from rsalign.errors import ConfigError, InstallError, PolicyError, RewardError, RsalignError
from rsalign.key import Key
from rsalign.run import Run
from rsalign.segmenters.fixed_size import FixedSize
from rsalign.strategies.best_of import BestOf
from rsalign.strategies.plain import Plain
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
    "Candidate",
    "ConfigError",
    "FixedSize",
    "InstallError",
    "Key",
    "Message",
    "Plain",
    "PolicyError",
    "Prompt",
    "Proposal",
    "Response",
    "Result",
    "RewardError",
    "RsalignError",
    "Run",
    "Sampling",
    "Segment",
    "Stop",
    "Trace",
    "Usage",
    "Verdict",
    "align",
]
