"""Converts a harness's generation arguments to sampling parameters and a response length."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from rsalign.aligner.parameters import read_sampling
from rsalign.core.capabilities import answers_in_one_draw
from rsalign.core.errors import ConfigError
from rsalign.core.protocols import Strategy
from rsalign.words.messages import suggest

_LENGTHS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
"""lm-eval's names for the greatest length of a response."""


@dataclass(frozen=True, kw_only=True)
class Generation:
    """Sampling parameters of one request, with the attributes of vLLM's `SamplingParams`.

    The aligner takes it in place of a `SamplingParams`, so that vLLM need not be installed.

    Attributes:
        max_tokens: greatest length of a response.
        temperature: 0 is greedy decoding.
        stop: strings that end a response and are not part of it.
        top_p: as in `rsalign.Sampling`, like the remaining attributes.

    Example:
        >>> from rsalign import BestOf
        >>> asked = {"until": ["."], "do_sample": True, "temperature": 0.7}
        >>> law = Generation.read(asked, max_tokens=64, strategy=BestOf(n=4))
        >>> law.temperature, law.stop, law.max_tokens
        (0.7, ('.',), 64)
    """

    max_tokens: int = 256
    temperature: float = 0.0
    stop: tuple[str, ...] = ()
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    # further attributes that the aligner reads; no harness sets them
    logit_bias: None = None
    allowed_token_ids: None = None
    stop_token_ids: None = None
    n: int = 1
    seed: None = None

    def __post_init__(self) -> None:
        read_sampling(self)  # raises an error for invalid values

    @classmethod
    def read(cls, asked: Mapping[str, Any], *, max_tokens: int, strategy: Strategy) -> "Generation":
        """Converts lm-eval's ``generation_kwargs``; refuses them if one cannot be honoured.

        Args:
            asked: arguments of the task, or of ``--gen_kwargs``.
            max_tokens: greatest length, if the task does not set it.
            strategy: the strategy that will answer.

        Raises:
            ConfigError: if an argument is unknown, contradicts another, or does not fit the
                strategy (greedy decoding with one that compares several samples).
        """
        asked = dict(asked)
        lengths = {name: asked.pop(name) for name in _LENGTHS if name in asked}
        if len(set(lengths.values())) > 1:
            raise ConfigError(f"{lengths} contradict each other: give max_gen_toks alone")
        until = asked.pop("until", None) or ()
        temperature = _temperature(asked.pop("do_sample", None), asked.pop("temperature", None))
        if temperature == 0 and not answers_in_one_draw(strategy):
            name = type(strategy).__name__
            raise ConfigError(
                "the task asks for greedy decoding (do_sample=False or temperature=0), under which "
                f"all that {name} draws is the same answer: add --gen_kwargs "
                f"do_sample=True,temperature=1 to let {name} sample, or use strategy=plain"
            )
        known = [one.name for one in fields(cls)]
        known = known[known.index("top_p") : known.index("logit_bias")]
        for name in asked:
            if name not in known:
                spoken = [*known, "temperature", "do_sample", "until", "max_gen_toks"]
                raise ConfigError(
                    f"generation argument {name}={asked[name]!r} cannot be honoured"
                    f"{suggest(name, spoken)}"
                )
        return cls(
            max_tokens=int(next(iter(lengths.values()), max_tokens)),
            temperature=temperature,
            stop=(until,) if isinstance(until, str) else tuple(until),
            **asked,
        )


def _temperature(do_sample: bool | None, temperature: float | None) -> float:
    if do_sample is None:
        return temperature or 0.0  # lm-eval's default is greedy decoding
    if do_sample:
        if temperature == 0:
            raise ConfigError("do_sample=True contradicts temperature=0: give only one of them")
        return 1.0 if temperature is None else temperature
    if temperature:
        raise ConfigError(
            f"temperature={temperature} contradicts do_sample=False, which the task may say: give "
            f"--gen_kwargs do_sample=True,temperature={temperature}"
        )
    return 0.0
