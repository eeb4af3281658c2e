"""Layouts of process reward models as data: where steps end, and which number is a step's value.

Process reward models differ in what they read and in what they return. A `StepLayout` says both,
so that one class runs them all (`VllmStepReward`, `TransformersStepReward`, `ImplicitStepReward`).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from rsalign.core.checks import above, check_settings
from rsalign.core.errors import ConfigError
from rsalign.rewards.labels import LabelChoice, LabelReader, LabelSetting

Aggregate: TypeAlias = Literal["last", "min", "mean", "sum", "product"]
"""How the values of the steps become one reward; see `rsalign.rewards.steps.Steps`."""
Head: TypeAlias = Literal["labels", "tokens", "value_head", "ratio"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StepLayout:
    r"""What a process reward model reads, and where and how it says what a step is worth.

    Attributes:
        split: what is between two steps of a response: a line break, or two (a blank line);
            `Steps` splits by it.
        prompt: None: the conversation is rendered by the model's chat template. Else the text that
            comes before the steps, in which ``{prompt}`` stands for the prompt's text; the token
            for the beginning of a text comes before it, if the tokenizer has one.
        after: text that is put after each step, in place of the step's own white space. The value
            is read at the last token of `after`. Empty: the steps stay as they are, and the value
            is read at the token with the last character of the step.
        between: text that is put between `after` and the next step.
        one_token: whether `after` (without spaces) must be one token of the vocabulary, so that a
            model of another layout is refused and not read at a piece of text.
        turn: not empty: each step is a message of the user, to which the assistant answers with
            this text. The value is read at the last token before the answer.
        alone: whether prompt, steps and `after` are tokenized one by one and not as one text.
        head: what the model returns: a logit for each of its labels; a logit for each of two
            `tokens` of a causal language model; the one number of a value head
            (``v_head.summary``) on a causal language model; or the logarithm of the ratio of the
            probabilities that two causal language models give to the response so far.
        tokens: texts of one token each, which are the labels of the head ``"tokens"``.
        label: which label is the value, or how it is made of several: see `LabelChoice.of`.
        sigmoid: whether the value is the sigmoid of that number.
        beta: the factor of the log-ratio, of the head ``"ratio"``.
        aggregate: how `Steps` joins the values if it is not told otherwise.

    Raises:
        ConfigError: if the settings contradict each other.

    Example:
        >>> layout = StepLayout.named("qwen2.5-math-prm")
        >>> layout.after, layout.reader("org/prm", ("bad", "good")).read([0.0, 0.0])
        ('<extra_0>', 0.5)
    """

    split: Literal["\n", "\n\n"] = "\n"
    prompt: str | None = None
    after: str = ""
    between: str = ""
    one_token: bool = False
    turn: str = ""
    alone: bool = False
    head: Head = "labels"
    tokens: tuple[str, ...] = ()
    label: LabelSetting = None
    sigmoid: bool = False
    beta: float = 1.0
    aggregate: Aggregate = "last"

    def __post_init__(self) -> None:
        check_settings(self, beta=above(0.0))
        LabelChoice.of(self.label)
        if self.prompt is not None and self.prompt.count("{prompt}") != 1:
            raise ConfigError(f"prompt={self.prompt!r}: write {{prompt}} once, or give None")
        if self.turn and (self.after or self.between or self.alone or self.prompt is not None):
            raise ConfigError(
                f"turn={self.turn!r} is for steps that are messages of a conversation: leave "
                "prompt, after, between and alone as they are"
            )
        if self.between and not self.after:
            raise ConfigError(f"between={self.between!r} needs a text that ends a step: give after")
        if self.one_token and not self.after.strip():
            raise ConfigError(f"one_token=True: after={self.after!r} has no text besides spaces")
        if self.alone and (self.prompt is None or not self.after):
            raise ConfigError("alone=True: give the text before the steps (prompt), and after")
        if (self.head == "tokens") != (len(set(self.tokens)) > 1):
            raise ConfigError(
                f"tokens={self.tokens!r}: give at least two if head='tokens', else none"
            )
        if self.head == "ratio" and (self.after or self.turn or self.sigmoid):
            raise ConfigError(
                "head='ratio' reads the response as it is: leave after and turn empty"
            )
        choice = LabelChoice.of(self.label)
        if self.sigmoid and choice.kind == "probability":
            raise ConfigError(f"label={self.label!r} is a probability: leave sigmoid=False")

    @classmethod
    def named(cls, name: str) -> "StepLayout":
        """A layout of `STEP_LAYOUTS`, by name.

        Raises:
            ConfigError: if there is no layout of this name.
        """
        if name not in STEP_LAYOUTS:
            raise ConfigError(
                f"no layout {name!r}: choose one of {', '.join(sorted(STEP_LAYOUTS))}, or make a "
                "StepLayout"
            )
        return STEP_LAYOUTS[name]

    @property
    def fingerprint(self) -> str:
        """Identifies this layout in a journal."""
        return repr(self)

    @property
    def gives_probabilities(self) -> bool:
        """Whether the value of a step is a probability."""
        return self.sigmoid or LabelChoice.of(self.label).kind == "probability"

    def with_label(self, label: LabelSetting) -> "StepLayout":
        """Returns the layout with another choice of the label, or as it is for None."""
        return self if label is None else replace(self, label=label)

    def reader(self, model: str, names: Sequence[str]) -> "ValueReader":
        """Returns what computes a step's value for a model with these labels.

        Raises:
            ConfigError: if the layout does not fit the labels.
        """
        if self.head == "tokens":
            names = self.tokens
        elif self.head == "value_head":
            names = ("value",)
        return ValueReader(LabelChoice.of(self.label).reader(model, names), self.sigmoid)


@dataclass(frozen=True, slots=True)
class ValueReader:
    """Computes the value of a step from the logits of one token."""

    labels: LabelReader
    sigmoid: bool

    def read(self, logits: Sequence[float]) -> float:
        """Returns the value of a step from the raw logits at its place, ``(labels,)``."""
        value = self.labels.read(logits)
        if not self.sigmoid:
            return value
        return 1 / (1 + math.exp(-value)) if value >= 0 else math.exp(value) / (1 + math.exp(value))


STEP_LAYOUTS: Mapping[str, StepLayout] = {
    # one label, read at the end of each line of the assistant's turn, as it is
    "raw": StepLayout(),
    # Qwen2.5-Math-PRM-7B and -72B, Qwen2.5-Math-7B-PRM800K: arXiv:2501.07301
    "qwen2.5-math-prm": StepLayout(
        split="\n\n",
        after="<extra_0>",
        one_token=True,
        label={"probability": 1},
        aggregate="product",
    ),
    # peiyi9979/math-shepherd-mistral-7b-prm: arXiv:2312.08935
    "math-shepherd": StepLayout(
        prompt="{prompt} ",
        after=" ки",
        between="\n",
        one_token=True,
        head="tokens",
        tokens=("+", "-"),
        label={"probability": "+"},
        aggregate="min",
    ),
    # RLHFlow/Llama3.1-8B-PRM-Mistral-Data and -Deepseek-Data
    "rlhflow": StepLayout(
        split="\n\n", turn="+", head="tokens", tokens=("+", "-"), label={"probability": "+"}
    ),
    # Skywork-o1-Open-PRM-Qwen-2.5-1.5B and -7B
    "skywork-o1-prm": StepLayout(
        prompt="{prompt}\n",
        after="\n",
        alone=True,
        head="value_head",
        sigmoid=True,
        aggregate="mean",
    ),
    # PRIME-RL/EurusPRM-Stage1 and -Stage2, over Qwen2.5-Math-7B-Instruct: arXiv:2412.01981
    "eurus-prm": StepLayout(split="\n\n", head="ratio", beta=0.001),
    # what TRL's PRMTrainer trains, with its default separator
    "trl": StepLayout(
        prompt="{prompt}", after="\n", alone=True, label={"probability": 1}, aggregate="min"
    ),
}
"""The layouts of public process reward models, by name."""
