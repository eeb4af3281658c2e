"""Implicit process rewards: the log-likelihood ratio of two language models, by their own reading.

Law      v_k = beta (ln pi_1(y_1 .. y_k | x) - ln pi_2(y_1 .. y_k | x)) for the first k steps of a
         response y, so that the last value is the reward of the whole response.
Papers   Yuan et al. 2024, arXiv:2412.01981 (EurusPRM, with beta 0.001).
Departs  `DensityRatio` is the same ratio over the tokens that the policy drew. Here the text is
         tokenized anew and rendered by the reward model's chat template, so that the policy may
         have another vocabulary.
Cost     one request to each model for the prompt and the whole response; nothing is sampled.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any, Protocol, runtime_checkable

from rsalign.core.checks import check_settings, part
from rsalign.core.errors import ConfigError, PolicyError, RewardError
from rsalign.core.protocols import Likelihood, Scored
from rsalign.core.tasks import concurrently
from rsalign.core.types import Prompt, Response, Tokens
from rsalign.rewards.parts import describe
from rsalign.rewards.step_layouts import STEP_LAYOUTS, StepLayout
from rsalign.rewards.step_reader import StepReader


@runtime_checkable
class Reading(Likelihood, Protocol):
    """A policy that also has a tokenizer, such as `VllmPolicy` and `VllmServerPolicy`."""

    @property
    def tokenization(self) -> Any:
        """The tokenizer and the length of the context."""
        ...


_MODEL = part("a policy that has log_probs() and a tokenizer; VllmPolicy does")


@dataclass(frozen=True, slots=True)
class ImplicitStepReward:
    """Beta times the log-ratio of the response up to each step's end; beta times nats.

    The token that ends the assistant's turn counts for a finished response. In float32, a value
    computed alone and one computed in a batch agree to 1e-3 times beta. The models are not closed:
    one of them may be the policy that is being sampled from.

    Attributes:
        numerator: pi_1, the process reward model.
        denominator: pi_2, the model that it was trained from, with the same vocabulary.
        decode: the policy's `text` method.
        layout: a `StepLayout` with the head ``"ratio"``.

    Raises:
        ConfigError: if the layout has another head, or the tokenizer no offset mapping.

    Example:
        >>> steps = ImplicitStepReward(  # doctest: +SKIP
        ...     VllmPolicy.start("PRIME-RL/EurusPRM-Stage2"),
        ...     VllmPolicy.start("Qwen/Qwen2.5-Math-7B-Instruct"),
        ...     policy.text,
        ... )
    """

    numerator: Reading
    denominator: Reading
    decode: Callable[[Tokens], str]
    layout: StepLayout = STEP_LAYOUTS["eurus-prm"]
    _reader: StepReader = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_settings(self, numerator=_MODEL, denominator=_MODEL)
        if self.layout.head != "ratio":
            raise ConfigError(
                f"the layout has head={self.layout.head!r}, but two language models give a ratio: "
                "give one with head='ratio', or use VllmStepReward"
            )
        models = (self.numerator.tokenization, self.denominator.tokenization)
        length = min(int(one.max_model_len) for one in models)
        reader = StepReader(self.layout, models[0].tokenizer, length, self.decode)
        object.__setattr__(self, "_reader", reader)

    @property
    def fingerprint(self) -> str:
        """Identifies this reward in a journal by the models, the layout and `decode`."""
        parts = (self.numerator, self.denominator, self.decode, self.layout)
        return f"ImplicitStepReward{describe(parts)}"

    async def score_steps(
        self, prompt: Prompt, response: Response, ends: tuple[int, ...]
    ) -> tuple[float, ...]:
        """The log-ratio up to each step, ``(steps,)``; the last is a `Scored` with the cost of all.

        Raises:
            ConfigError: if `ends` do not increase within the response, or the models have
                different vocabularies.
            RewardError: if an engine failed, a token has no probability, or the text is longer than
                the context of a model.
        """
        if not ends:
            return ()
        found = self._reader.read(prompt, response, ends)
        before, tokens = found.tokens[: found.start + 1], found.tokens[found.start + 1 :]
        tokens = tokens[: max(found.places) - found.start]
        models = (self.numerator, self.denominator)
        self._check_vocabularies(prompt, response)
        try:
            over, under = await concurrently(
                model.log_probs(before, tokens) if tokens else _nothing() for model in models
            )
        except PolicyError as died:
            raise RewardError(str(died), prompt=prompt, response=response) from died
        ratios = [one - other for one, other in zip(over, under, strict=True)]
        if not all(map(math.isfinite, ratios)):
            raise RewardError(
                f"a token of {response.text!r} has no probability under one of the two models: use "
                "a law without truncation",
                prompt=prompt,
                response=response,
            )
        sums = [0.0, *accumulate(ratios)]
        values = [self.layout.beta * sums[max(0, place - found.start)] for place in found.places]
        given = len(models) * (len(before) + len(tokens))
        return (*values[:-1], Scored(values[-1], tokens=given))

    def _check_vocabularies(self, prompt: Prompt, response: Response) -> None:
        """Refuses models that encode the same text as different tokens."""
        one, other = (
            model.tokenization.tokenizer.encode(response.text, add_special_tokens=False)
            for model in (self.numerator, self.denominator)
        )
        if list(one) != list(other):
            raise ConfigError(
                "numerator and denominator have different vocabularies: they read the same text "
                f"as {list(one)[:8]} and {list(other)[:8]}; give two models with one tokenizer"
            )


async def _nothing() -> tuple[float, ...]:
    return ()
