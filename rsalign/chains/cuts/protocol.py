"""The protocol of cut laws, and the only way to ask one: position by position.

A law that is given positions one at a time cannot look behind the cut that it weighs.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from rsalign.core.errors import ConfigError
from rsalign.core.types import Prompt, Response, Tokens


@dataclass(slots=True)  # not frozen: a step makes one per token, and freezing doubles the time
class Position:
    """A place where a response may be cut, and what a cut law may know there.

    Attributes:
        index: number of tokens of the response before the cut.
        num_before: number of tokens before the cut, the prompt's included.
        token: the last token of the response before the cut; None at 0.
        entropy: of the distribution of the token after the cut, nats; None unless the law needs it.
        decode: from tokens to their text.
    """

    index: int
    num_before: int
    token: int | None
    entropy: float | None
    decode: Callable[[Tokens], str] = field(repr=False)

    @property
    def text(self) -> str:
        """The text of the last token before the cut alone; empty at 0."""
        return "" if self.token is None else self.decode((self.token,))


@runtime_checkable
class CutLaw(Protocol):
    """A distribution on the positions of a response. An immutable value.

    Laws: it yields one weight for each position before it takes the next one; weights are finite
    and not negative; the weight of position 0 is positive, so that every response can be reached;
    equal positions have equal weights.

    Example:
        >>> from rsalign import UniformCuts
        >>> law = UniformCuts()
        >>> isinstance(law, CutLaw), law.needs_entropy
        (True, False)
    """

    @property
    def needs_entropy(self) -> bool:
        """Whether it reads `Position.entropy`, which the policy must then be able to measure."""
        ...

    @property
    def fixed(self) -> bool:
        """Whether the weights depend on the index alone.

        The cut may then fall behind the end of the response, where it does nothing, and the
        acceptance probability needs no correction.
        """
        ...

    def weights(self, positions: Iterator[Position]) -> Iterator[float]:
        """Yields the weight h of each position, in order.

        Args:
            positions: 0, 1, ...; taking one before the weight of the previous one was yielded is an
                error.
        """
        ...


@dataclass(frozen=True, slots=True)
class CutWeights:
    """The weights of a cut law at one response.

    Attributes:
        values: h of each position, ``(positions,)``.
        log_total: ln H, the normaliser that acceptance probabilities are corrected for; 0 for a
            fixed law.
    """

    values: tuple[float, ...]
    log_total: float


def cut_weights(
    law: CutLaw,
    prompt: Prompt,
    response: Response,
    *,
    max_tokens: int,
    decode: Callable[[Tokens], str],
) -> CutWeights:
    """Asks a cut law for the weight of each position of a response.

    Args:
        law: the cut law.
        prompt: what is answered.
        response: has at least one token, and its certainty if the law needs entropies.
        max_tokens: greatest length of a response, and the number of positions of a fixed law.
        decode: from tokens to their text.

    Raises:
        ConfigError: if the law looks behind a cut, a weight is not finite or negative, or the
            certainty that the law needs is missing.

    Example:
        >>> from rsalign import BlockCuts
        >>> from rsalign.testing import example_pool
        >>> prompt, _, _ = example_pool(0.0)
        >>> response = Response((5, 6, 7, 8), "5 6 7 8", None)
        >>> cut_weights(BlockCuts(size=2), prompt, response, max_tokens=8, decode=str).values
        (1.0, 0.0, 1.0, 0.0)
    """
    if law.needs_entropy and response.certainty is None:
        raise ConfigError(
            f"{law!r} needs the entropies of the response {response.text!r}, which are not known: "
            "draw it with kept_certainty=Certainty()"
        )
    taken = given = 0
    num_positions = max_tokens if law.fixed else len(response.tokens)
    entropies = response.certainty.entropies if law.needs_entropy and response.certainty else None
    # the weights of a fixed law depend on the index alone: it is told nothing else
    before: Sequence[int | None] = (
        (None,) * num_positions if law.fixed else (None, *response.tokens[:-1])
    )
    start = len(prompt.tokens)

    def positions() -> Iterator[Position]:
        nonlocal taken
        for index, token in enumerate(before):
            if taken > given:
                raise ConfigError(
                    f"{law!r} looks beyond the cut at token {given}: its weight may depend on what "
                    "lies before the cut only (yield one weight before the next position is taken)"
                )
            taken += 1
            entropy = None if entropies is None else entropies[index]
            yield Position(index, start + index, token, entropy, decode)

    values: list[float] = []
    for weight in law.weights(positions()):
        if not 0 <= weight < math.inf or taken != given + 1:
            raise ConfigError(
                f"{law!r} gave the weight {weight!r} for the cut at token {given}: give one finite "
                "weight of at least 0 for each position, in order"
            )
        values.append(weight)
        given += 1
    if given != num_positions or not values[0] > 0:
        raise ConfigError(
            f"{law!r} gave {given} weights for {num_positions} positions, the first being "
            f"{values[:1]}: give one for each, and a positive one for position 0"
        )
    try:
        total = math.fsum(values)
    except OverflowError:
        raise ConfigError(
            f"{law!r} gave weights of up to {max(values):.3g}, whose sum is beyond all floats: "
            "scale them, only their ratios count"
        ) from None
    return CutWeights(tuple(values), 0.0 if law.fixed else math.log(total))
