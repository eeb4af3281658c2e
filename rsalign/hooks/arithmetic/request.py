"""Which samples are spread jointly, and how that is written into `extra_args`."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rsalign.core.codes import NUM_ARGUMENT as _NUM
from rsalign.core.codes import SEED_ARGUMENT as _SEED
from rsalign.core.codes import CodeBook as CodeBook
from rsalign.core.errors import ConfigError
from rsalign.core.types import Sampling
from rsalign.hooks.shared.arguments import read_arguments

if TYPE_CHECKING:
    from vllm import SamplingParams


@dataclass(frozen=True, slots=True)
class ArithmeticRequest:
    """One sample, with the settings of its law.

    Attributes:
        code: see `CodeBook.code`.
        temperature: vLLM's, as the others.
        top_k: 0 keeps everything.
        top_p: 1 keeps everything.
        min_p: 0 keeps everything.

    Example:
        >>> ArithmeticRequest(0.25, temperature=1.0, top_k=0, top_p=0.9, min_p=0.0).code
        0.25
    """

    code: float
    temperature: float
    top_k: int
    top_p: float
    min_p: float


def read_arithmetic_request(params: "SamplingParams") -> ArithmeticRequest | None:
    """Returns what the `extra_args` of `params` ask for; None if nothing.

    Raises:
        ConfigError: if a key is unknown, its value is not allowed, or the samples cannot be spread:
            seeds that do not fit, a greedy law, log-probabilities.
    """
    given = read_arguments(params.extra_args)
    if _NUM not in given and _SEED not in given:
        return None
    if not (_NUM in given and _SEED in given):
        raise ConfigError(
            f"extra_args has only one of {_NUM} and {_SEED}: give both, the number of samples that "
            "are spread jointly, and the seed of the first of them"
        )
    book = CodeBook(n=given[_NUM], seed=given[_SEED])
    if params.seed is None:
        raise ConfigError(f"seed=None beside {_NUM}: give seed={book.seed} and n={book.n}")
    first = params.seed - book.seed
    if not 0 <= first <= book.n - params.n:
        raise ConfigError(
            f"seed={params.seed} with n={params.n}: the {book.n} samples of {_SEED}={book.seed} "
            f"have the seeds {book.seed} to {book.seed + book.n - 1}; give seed={book.seed} and "
            f"n={book.n} for all of them"
        )
    law = Sampling(
        temperature=params.temperature,
        top_k=params.top_k,
        top_p=params.top_p,
        min_p=params.min_p,
        allowed_token_ids=tuple(params.allowed_token_ids or ()),
    )
    if law.is_point_mass:
        raise ConfigError(
            f"{law.why_point_mass}, beside {_NUM}: greedy samples are all the same; leave it out"
        )
    if params.logprobs is not None:
        raise ConfigError(
            f"logprobs={params.logprobs} beside {_NUM}: a token that its code has chosen is "
            "certain to vLLM, which would say so; leave logprobs out"
        )
    return ArithmeticRequest(
        book.code(first), params.temperature, max(params.top_k, 0), params.top_p, params.min_p
    )
