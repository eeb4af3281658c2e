"""A policy and a reward that are small enough for exact results.

The toy policy passes the same `check_policy` as the vLLM policy. The probabilities and rewards are
irregular on purpose: with symmetric ones, a test could not detect a reversed sign.
"""

import asyncio
import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from rsalign.core.checks import at_least, check_settings
from rsalign.core.codes import SPENT, Code, decode
from rsalign.core.errors import ConfigError
from rsalign.core.key import Key
from rsalign.core.most_probable import GreedySegment
from rsalign.core.protocols import Boundary
from rsalign.core.types import Certainty, Message, Prompt, Response, Segment, Stop, Tokens

EOS = 0


@dataclass(frozen=True, slots=True)
class ToyPolicy:
    """An autoregressive policy over the token ids ``0 .. vocab - 1``; 0 is EOS.

    Each next-token distribution is irregular and determined by a hash of the prefix. No probability
    is below ``0.2 / (vocab + 0.2)``.

    Attributes:
        vocab: number of token ids, at least 2.
        salt: different numbers give different policies.
        max_context: greatest length of prompt and response together.
        code: decides what is drawn (`rsalign.core.codes`); None: the keys do.

    Example:
        >>> policy = ToyPolicy(vocab=3)
        >>> len(policy.probs((1,))), round(sum(policy.probs((1,))), 12)
        (3, 1.0)
    """

    overdraws: ClassVar[bool] = False

    vocab: int = 3
    salt: int = 0
    max_context: int = 4096
    code: Code | None = None

    def __post_init__(self) -> None:
        check_settings(
            self,
            vocab=at_least(2, note="EOS and one more token are needed"),
            max_context=at_least(1),
        )

    @property
    def fingerprint(self) -> str:
        """Identifies this policy in a journal."""
        return repr(self)

    @property
    def vocabulary(self) -> str:
        """Token ids of two toys mean the same if there are as many of them."""
        return f"toy {self.vocab}"

    def with_code(self, code: Code) -> "ToyPolicy":
        """Returns the same policy, whose draws the code decides, each from its first token on."""
        return replace(self, code=code)

    def probs(self, prefix: Tokens) -> tuple[float, ...]:
        """Returns the next-token distribution pi(. | prefix), ``(vocab,)``."""
        return _next_token_probs(self.vocab, self.salt, prefix)

    async def extend(
        self, prefix: Tokens, *, max_new_tokens: int, key: Key, boundary: Boundary | None = None
    ) -> Segment:
        """Draws token by token, each at its own address below `key`."""
        _check_request(self, prefix, max_new_tokens)
        await asyncio.sleep(0)  # like an engine: other tasks may run
        length = min(max_new_tokens, self.max_context - len(prefix))
        tokens: Tokens = ()
        log_probs: tuple[float, ...] = ()
        place = None if self.code is None else self.code.value
        while True:
            probs = self.probs(prefix + tokens)
            entropy = _entropy(probs)
            if boundary is not None and tokens and boundary.ends_before(len(tokens), entropy):
                return Segment(tokens, log_probs, Stop.BOUNDARY, boundary_entropy=entropy)
            if place is None or math.fsum(log_probs) < math.log(SPENT):
                token = key.child(len(tokens)).categorical(probs)
            else:
                token, place = decode(place, probs)
            tokens += (token,)
            log_probs += (math.log(probs[token]),)
            if token == EOS:
                return Segment(tokens, log_probs, Stop.EOS)
            if len(tokens) == length:
                return Segment(tokens, log_probs, Stop.LENGTH)
            if boundary is not None and (
                len(tokens) == boundary.max_tokens
                or boundary.ends_after(len(tokens), entropy, str(token))
            ):
                return Segment(tokens, log_probs, Stop.BOUNDARY)

    async def measure(
        self, prefix: Tokens, *, max_new_tokens: int, key: Key, boundary: Boundary | None = None
    ) -> Segment:
        """Draws the same tokens as `extend`, with the certainty at each token."""
        segment = await self.extend(
            prefix, max_new_tokens=max_new_tokens, key=key, boundary=boundary
        )
        laws = [self.probs(prefix + segment.tokens[:i]) for i in range(len(segment.tokens))]
        certainty = Certainty(
            tuple(_entropy(probs) for probs in laws),
            tuple(
                -math.fsum(map(math.log, probs)) / self.vocab - math.log(self.vocab)
                for probs in laws
            ),
        )
        return replace(segment, certainty=certainty)

    async def most_probable(
        self, prefix: Tokens, *, max_new_tokens: int, num: int
    ) -> GreedySegment:
        """Continues by the most probable tokens, and lists `num` of them at each place."""
        _check_request(self, prefix, max_new_tokens)
        await asyncio.sleep(0)
        length = min(max_new_tokens, self.max_context - len(prefix))
        tokens: Tokens = ()
        places = []
        while len(tokens) < length and tokens[-1:] != (EOS,):
            probs = self.probs(prefix + tokens)
            order = sorted(range(self.vocab), key=lambda token: -probs[token])
            places.append(tuple((token, math.log(probs[token])) for token in order[:num]))
            tokens += (order[0],)
        stop = Stop.EOS if tokens[-1] == EOS else Stop.LENGTH
        segment = Segment(tokens, tuple(place[0][1] for place in places), stop)
        return GreedySegment(segment, tuple(places), (EOS,))

    async def log_probs(self, prefix: Tokens, tokens: Tokens) -> tuple[float, ...]:
        """Returns ln pi(token | tokens before it), nats, ``(tokens,)``."""
        await asyncio.sleep(0)
        return tuple(
            math.log(self.probs(prefix + tokens[:i])[token]) for i, token in enumerate(tokens)
        )

    def text(self, tokens: Tokens) -> str:
        """Writes token ids as words separated by spaces, without EOS."""
        return " ".join(str(token) for token in tokens if token != EOS)

    def encode(self, text: str) -> Tokens:
        """Reads token ids from words; the inverse of `text`.

        Raises:
            ConfigError: if a word is not a token id.
        """
        words = text.split()
        known = {str(token): token for token in range(self.vocab)}
        unknown = [word for word in words if word not in known]
        if unknown:
            raise ConfigError(
                f"ToyPolicy cannot encode {unknown[0]!r}: words are 0 .. {self.vocab - 1}"
            )
        return tuple(known[word] for word in words)

    def encode_chat(
        self,
        messages: tuple[Message, ...],
        *,
        chat_template: str | None = None,
        add_generation_prompt: bool = True,
        template_kwargs: Mapping[str, Any] | None = None,
    ) -> Tokens:
        """Concatenates the token ids of all messages."""
        return tuple(token for message in messages for token in self.encode(message.content))


@dataclass(frozen=True, slots=True)
class ToyReward:
    """An irregular reward in (-2, 2), determined by a hash of the response's tokens.

    Attributes:
        salt: different numbers give different rewards.

    Example:
        >>> -2 < ToyReward().value((1, 2, 0)) < 2
        True
    """

    salt: int = 0

    @property
    def fingerprint(self) -> str:
        """Identifies this reward in a journal."""
        return repr(self)

    def value(self, tokens: Tokens) -> float:
        """Returns the reward of a response with these tokens."""
        return 4 * _unit(("reward", self.salt, *tokens)) - 2

    async def score(self, prompt: Prompt, response: Response) -> float:
        """Returns `value` of the response's tokens; the prompt does not matter."""
        await asyncio.sleep(0)
        return self.value(response.tokens)


def responses(policy: ToyPolicy, prompt: Tokens, max_tokens: int) -> dict[Tokens, float]:
    """Returns every response of at most `max_tokens` tokens with its probability under `policy`.

    Example:
        >>> round(sum(responses(ToyPolicy(), (1,), max_tokens=3).values()), 12)
        1.0
    """
    complete: dict[Tokens, float] = {}

    def grow(tokens: Tokens, mass: float) -> None:
        for token, p in enumerate(policy.probs(prompt + tokens)):
            longer = (*tokens, token)
            if token == EOS or len(longer) == max_tokens:
                complete[longer] = mass * p
            else:
                grow(longer, mass * p)

    grow((), 1.0)
    return complete


@functools.lru_cache(maxsize=1 << 14)  # enumerations ask for the same few again and again
def _next_token_probs(vocab: int, salt: int, prefix: Tokens) -> tuple[float, ...]:
    weights = [0.2 + 0.8 * _unit(("policy", salt, token, *prefix)) for token in range(vocab)]
    total = math.fsum(weights)
    return tuple(weight / total for weight in weights)


@functools.lru_cache(maxsize=1 << 14)
def _entropy(probs: tuple[float, ...]) -> float:
    return -math.fsum(p * math.log(p) for p in probs)


@functools.lru_cache(maxsize=1 << 16)
def _unit(parts: tuple[str | int, ...]) -> float:
    return Key(0, parts).seed() / 2**63


def _check_request(policy: ToyPolicy, prefix: Tokens, max_new_tokens: int) -> None:
    if max_new_tokens < 1:
        raise ConfigError(f"max_new_tokens is {max_new_tokens}, but must be at least 1")
    if not prefix or len(prefix) >= policy.max_context:
        raise ConfigError(
            f"the prefix has {len(prefix)} tokens, but the context of {policy.max_context} needs "
            "at least 1 of them and room for 1 more"
        )
