"""What a selector must be: a rule, possibly random, that chooses one candidate of a pool."""

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
    """Which candidate was chosen, and what the choice rests on.

    Attributes:
        index: of the chosen candidate.
        probs: the probability of each candidate being chosen, given the pool (and what the selector
            says it had drawn before it asked a judge), ``(candidates,)``.
        notes: diagnostics. `BestOf` adds ``rewards``, ``kl_estimate`` and, unless it is here,
            ``effective_sample_size`` of `probs`.

    Raises:
        ConfigError: if `probs` is not a distribution that can choose `index`.

    Example:
        >>> Selection(1, (0.25, 0.75)).index
        1
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
    """A frozen dataclass that chooses one of several candidates.

    Laws: `Selection.probs` is the distribution of `Selection.index`; each key is used for one draw,
    and only for draws from finitely many outcomes; the result depends on prompt, candidates and key
    alone; selectors are equal by value and can be pickled.

    A selector may declare ``needs_reward``, ``needs_certainty``, ``asks_judge``,
    ``picks`` and ``note_meanings``
    (`rsalign.core.capabilities`).

    Example:
        >>> from dataclasses import dataclass
        >>> @dataclass(frozen=True)
        ... class First:
        ...     async def select(
        ...         self, prompt: Prompt, candidates: Sequence[Candidate], key: Key
        ...     ) -> Selection:
        ...         return certain(0, len(candidates))
        >>> isinstance(First(), Selector)
        True
    """

    async def select(self, prompt: Prompt, candidates: Sequence[Candidate], key: Key) -> Selection:
        """Chooses one candidate.

        Args:
            prompt: what they answer.
            candidates: ``(candidates,)``, at least one, in the order of their numbers, which were
                given when drawing began (not in the order in which they were finished).
            key: the address of this choice.

        Raises:
            ConfigError: if the candidates lack what the choice needs.
        """
        ...


SELECTOR = part("a selector, such as Hard() or Soft(temperature=0.5) of rsalign.selectors")
"""What a `Selector` must be where it is a setting, for `check_settings`."""


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
        """Chooses one candidate, as `Selector.select`.

        Args:
            prompt: what they answer.
            candidates: each distinct response once, ``(candidates,)``.
            key: the address of this choice.
            weights: number of draws that each stands for, above 0, ``(candidates,)``; None: one
                each.
        """
        ...


def certain(index: int, n: int, notes: Mapping[str, Note] | None = None) -> Selection:
    """The selection of one of `n` candidates with probability 1."""
    return Selection(index, tuple(float(i == index) for i in range(n)), notes or {})
