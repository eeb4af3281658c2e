"""`Aligner`: aligned generation with the interface of `vllm.LLM`, and its results."""

from rsalign.aligner.aligner import Aligner
from rsalign.aligner.outputs import AlignedCompletion, AlignedOutput, Alignment
from rsalign.aligner.stream import Event, ProgressEvent, ResultEvent, TextEvent

__all__ = [
    "AlignedCompletion",
    "AlignedOutput",
    "Aligner",
    "Alignment",
    "Event",
    "ProgressEvent",
    "ResultEvent",
    "TextEvent",
]
