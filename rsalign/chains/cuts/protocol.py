"""What a cut law is, and how it is asked: one position at a time, so that it cannot look ahead."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from rsalign.core.errors import ConfigError
from rsalign.core.types import Prompt, Response, Tokens


@dataclass(slots=True)  # not frozen: a step makes one for each token, and that takes twice as long
class Position:
    """A place where a response may be cut, and what a cut law may know there.

    Attributes:
        index: tokens of the response before the cut.
        num_before: tokens before the cut, the prompt's included.
        token: the last token of the response before the cut; None at 0.
        entropy: of the law of the token after the cut, nats; None unless the law asked for it.
        decode: text of given tokens.
    """

    index: int
    num_before: int
    token: int | None
    entropy: float | None
    decode: Callable[[Tokens], str] = field(repr=False)

    @property
    def text(self) -> str:
        """Of the last token alone; empty at 0."""
        return "" if self.token is None else self.decode((self.token,))


@runtime_checkable
class CutLaw(Protocol):
    """A law on the positions of a response. A value.

    Laws: it yields one weight for each position before it takes the next, finite and not negative;
    position 0 has a positive one, so that every response can be reached; equal positions have equal
    weights.
    """

    @property
    def needs_entropy(self) -> bool:
        """Whether it looks at `Position.entropy`, which takes a policy that can tell it."""
        ...

    @property
    def fixed(self) -> bool:
        """Whether a cut may fall behind the response's end, where it does nothing.

        The weights then depend on the index alone, and nothing is to be corrected for.
        """
        ...

    def weights(self, positions: Iterator[Position]) -> Iterator[float]:
        """The weight h of each position, in order.

        Args:
            positions: 0, 1, ...; taking one before the weight of the last was yielded is refused.
        """
        ...


@dataclass(frozen=True, slots=True)
class Weights:
    """A cut law at one response.

    Attributes:
        values: h of each position, ``(positions,)``.
        log_total: ln H, the normaliser that moves are corrected for; 0 for a fixed law.
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
) -> Weights:
    """The weight of each cut of a response.

    Args:
        law: is asked.
        prompt: what is answered.
        response: at least one token; with its certainty, if the law needs it.
        max_tokens: greatest length of a response; a fixed law has so many positions.
        decode: text of given tokens.

    Raises:
        ConfigError: if the law looks beyond a cut, a weight cannot be one, or the certainty that
            it needs is missing.
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
    return Weights(tuple(values), 0.0 if law.fixed else math.log(total))
