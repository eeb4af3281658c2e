"""What a harness asks of a generation, as the law and the length of its answer."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from rsalign.aligner.parameters import sampling
from rsalign.core.capabilities import draws_once
from rsalign.core.errors import ConfigError
from rsalign.core.protocols import Strategy
from rsalign.words.messages import suggest

_LENGTHS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
"""All of lm-eval's names for the greatest length of an answer."""


@dataclass(frozen=True, kw_only=True)
class Generation:
    """Law and length; attributes as vLLM's `SamplingParams`, which need not be installed.

    Attributes:
        max_tokens: greatest length of an answer.
        temperature: 0 is greedy.
        stop: strings that end an answer and are no part of it.
        top_p: as in `rsalign.Sampling`, as are those that follow.
    """

    max_tokens: int = 256
    temperature: float = 0.0
    stop: tuple[str, ...] = ()
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    # what vLLM has beside them, and no harness asks for
    logit_bias: None = None
    allowed_token_ids: None = None
    stop_token_ids: None = None
    n: int = 1
    seed: None = None

    def __post_init__(self) -> None:
        sampling(self)  # refuses what no law can be

    @classmethod
    def read(cls, asked: Mapping[str, Any], *, max_tokens: int, strategy: Strategy) -> "Generation":
        """Understands lm-eval's ``generation_kwargs``: all of them, or none.

        Args:
            asked: by the task, or by ``--gen_kwargs``.
            max_tokens: if the task does not say.
            strategy: that will draw the answer.

        Raises:
            ConfigError: if something is asked that cannot be honoured.
        """
        asked = dict(asked)
        lengths = {name: asked.pop(name) for name in _LENGTHS if name in asked}
        if len(set(lengths.values())) > 1:
            raise ConfigError(f"{lengths} contradict each other: give max_gen_toks alone")
        until = asked.pop("until", None) or ()
        temperature = _temperature(asked.pop("do_sample", None), asked.pop("temperature", None))
        if temperature == 0 and not draws_once(strategy):
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
        return temperature or 0.0  # lm-eval's tasks are greedy unless they say otherwise
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
