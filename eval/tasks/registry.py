"""All tasks by name."""

from eval.tasks.advbench import AdvBench
from eval.tasks.alpaca_eval import AlpacaEval
from eval.tasks.arithmetic import Arithmetic
from eval.tasks.gsm8k import Gsm8k
from eval.tasks.gsm_symbolic import GsmSymbolic
from eval.tasks.hh_rlhf import HhRlhf
from eval.tasks.ifeval import IfEval
from eval.tasks.math500 import Math500
from eval.tasks.prompts import Prompts
from eval.tasks.protocol import ChoiceTask, Task
from eval.tasks.sentiment import Sentiment
from eval.tasks.truthfulqa import TruthfulQa
from eval.tasks.truthfulqa_choices import TruthfulQaChoices

_KINDS: tuple[type[Task] | type[ChoiceTask], ...] = (
    AdvBench,
    AlpacaEval,
    Arithmetic,
    GsmSymbolic,
    Gsm8k,
    HhRlhf,
    IfEval,
    Math500,
    Prompts,
    Sentiment,
    TruthfulQa,
    TruthfulQaChoices,
)

TASKS: dict[str, type[Task] | type[ChoiceTask]] = {str(kind.name): kind for kind in _KINDS}
"""Each class by its `name`; a configuration gives the fields."""
