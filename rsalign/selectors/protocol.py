"""What a selector must be: a law on the candidates of one pool."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Protocol, runtime_checkable

from rsalign.core.checks import part
from rsalign.core.errors import ConfigError
from rsalign.core.key import Key
from rsalign.core.trace import Note
from rsalign.core.types import Candidate, Prompt


@dataclass(frozen=True, slots=True)
class Selection:
    """Which candidate is the answer, and what this rests on.

    Attributes:
        index: of the chosen candidate.
        probs: of each candidate being chosen, given the pool (and whatever the selector says it
            had drawn before it asked anyone), ``(candidates,)``.
        notes: diagnostics. `BestOf` adds ``rewards``, ``kl_estimate`` and, unless it is here,
            ``effective_sample_size`` of `probs`.

    Raises:
        ConfigError: if `probs` is not a distribution that can choose `index`.
    """

    index: int
    probs: tuple[float, ...]
    notes: Mapping[str, Note] = field(default_factory=dict)

    def __post_init__(self) -> None:
        possible = 0 <= self.index < len(self.probs) and self.probs[self.index] > 0
        total = math.fsum(self.probs)
        if not possible or min(self.probs) < 0 or not math.isclose(total, 1, abs_tol=1e-9):
            raise ConfigError(
                f"a selector chose candidate {self.index} with the probabilities {self.probs!r}: "
                "they must be one for each candidate, not negative, sum to 1 and allow the chosen "
                "one; mend its `select`"
            )


@runtime_checkable
class Selector(Protocol):
    """A frozen dataclass that says which of several candidates is the answer.

    Laws: `Selection.probs` is the law of its index; every key is drawn once, and only finite
    choices; the result depends on prompt, candidates and key alone; equal by value, picklable.

    A selector may declare ``needs_reward``, ``needs_certainty`` and ``asks_judge``
    (`rsalign.core.capabilities`).
    """

    async def select(self, prompt: Prompt, candidates: Sequence[Candidate], key: Key) -> Selection:
        """Chooses one.

        Args:
            prompt: what they answer.
            candidates: ``(candidates,)``, at least one, in the order they were numbered when
                drawing began (not the order they were finished in).
            key: the address of this choice.

        Raises:
            ConfigError: if the candidates lack what the choice needs.
        """
        ...


SELECTOR = part("a selector, such as Hard() or Soft(temperature=0.5) of rsalign.selectors")
"""What a `Selector` is called where it is a setting."""


@runtime_checkable
class WeighingSelector(Protocol):
    """A selector that can be told how many draws each candidate stands for.

    Attributes:
        weighs: true.
    """

    weighs: ClassVar[bool]

    async def select(
        self,
        prompt: Prompt,
        candidates: Sequence[Candidate],
        key: Key,
        *,
        weights: Sequence[float] | None = None,
    ) -> Selection:
        """As `Selector.select`.

        Args:
            prompt: what they answer.
            candidates: each distinct response once, ``(candidates,)``.
            key: the address of this choice.
            weights: of each, above 0, ``(candidates,)``; None: all alike.
        """
        ...


def certain(index: int, n: int, notes: Mapping[str, Note] | None = None) -> Selection:
    """The selection of one of `n` candidates with probability 1."""
    return Selection(index, tuple(float(i == index) for i in range(n)), notes or {})
