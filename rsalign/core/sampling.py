"""Sampling: the settings that turn a model's next-token distribution into the policy's own."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

from rsalign.core.checks import above, at_least, check_settings
from rsalign.core.errors import ConfigError

_UNSPLITTABLE = 1e-6  # a nucleus of this mass is one token in any vocabulary of up to a million


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How tokens are drawn from a model's next-token distribution; the names are vLLM's.

    The result is the distribution pi that a policy draws from. Most settings depend only on the
    tokens so far, so a response that is drawn in segments has the same distribution as one that is
    drawn at once. Those in `whole_answer_fields` also depend on where the prompt ended. An engine
    cannot know that once part of the answer is sent to it as a prompt, so only strategies that draw
    whole answers can use them (`rsalign.core.capabilities.cuts_answers`).

    Attributes:
        temperature: 0 is greedy decoding.
        top_p: probability mass of the nucleus; 1 keeps every token.
        top_k: number of most probable tokens kept; 0 keeps every token.
        min_p: least probability, relative to the most probable token.
        repetition_penalty: divides the logits of tokens that occur in the prompt or response.
        logit_bias: pairs of token id and the number that is added to its logit.
        allowed_token_ids: if not empty, all other tokens have probability 0.
        stop: strings that end a response; they are not part of its text.
        stop_token_ids: tokens that end a response.
        guidance: weight of each of the engine's guides (`rsalign.hooks.guided.rule`), in their
            order; empty: no guide counts. pi is made from the guided distribution.
        ignore_eos: the end-of-sequence token does not end a response.
        min_tokens: no token and no string ends a response before it has so many tokens.
        presence_penalty: subtracted from the logits of tokens that occur in the response.
        frequency_penalty: subtracted once for each occurrence of the token in the response.
        bad_words: words that the response never completes.
        structured_outputs: the grammar that the response must follow, as a JSON object of those
            fields of vLLM's `StructuredOutputsParams` that are set; empty: no grammar.
        thinking_token_budget: greatest number of tokens that a reasoning model may think; None: no
            limit.

    Raises:
        ConfigError: if a value is out of range or of another type.

    Example:
        >>> sampling = Sampling(temperature=0.7, presence_penalty=0.5)
        >>> sampling.whole_answer_fields
        ('presence_penalty',)
        >>> Sampling(top_k=1).why_point_mass
        'top_k=1 allows one token at each place'
    """

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    logit_bias: tuple[tuple[int, float], ...] = ()
    allowed_token_ids: tuple[int, ...] = ()
    stop: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    guidance: tuple[float, ...] = ()
    ignore_eos: bool = False
    min_tokens: int = 0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    bad_words: tuple[str, ...] = ()
    structured_outputs: str = ""
    thinking_token_budget: int | None = None

    def __post_init__(self) -> None:
        check_settings(
            self,
            temperature=at_least(0.0, note="0 is greedy"),
            top_p=above(0.0, 1.0),
            top_k=at_least(-1, note="0 keeps everything"),
            min_p=at_least(0.0, 1.0),
            repetition_penalty=above(0.0),
            stop=at_least(1),
            stop_token_ids=at_least(0),
            allowed_token_ids=at_least(0),
            min_tokens=at_least(0),
            presence_penalty=at_least(-2.0, 2.0),
            frequency_penalty=at_least(-2.0, 2.0),
            bad_words=at_least(1),
            thinking_token_budget=at_least(0),
        )

    def first_stop(self, text: str, after: int = 0) -> str | None:
        """Returns the stop string that is completed first in a text; None if there is none.

        Args:
            text: the text of a response.
            after: ignore strings that end within so many characters (the text of the first
                `min_tokens` tokens).
        """
        ends = {stop: stop_end(text, stop, after) for stop in self.stop}
        found = {stop: end for stop, end in ends.items() if end is not None}
        return min(found, key=found.__getitem__, default=None)

    @property
    def whole_answer_fields(self) -> tuple[str, ...]:
        """Names of the settings in use that work only if an answer is drawn at once."""
        return tuple(name for name in WHOLE_ANSWER_FIELDS if getattr(self, name) != _UNSET[name])

    def after(self, num_kept: int) -> "Sampling":
        """Returns the settings for drawing the rest of a response (they adjust `min_tokens`).

        Args:
            num_kept: number of tokens that the response has already.

        Raises:
            ConfigError: if tokens are kept and a setting works only for answers drawn at once.
        """
        if num_kept and (names := self.whole_answer_fields):
            raise ConfigError(
                f"{names[0]}={getattr(self, names[0])!r} cannot be honoured after {num_kept} kept "
                f"tokens: {WHOLE_ANSWER_FIELDS[names[0]]}"
            )
        if not self.min_tokens or not num_kept:
            return self
        return replace(self, min_tokens=max(0, self.min_tokens - num_kept))

    @property
    def greedy(self) -> bool:
        """Whether the most probable token is always taken, with probability 1.

        The threshold of the temperature is that of vLLM.
        """
        return self.temperature < 1e-5

    @property
    def is_point_mass(self) -> bool:
        """Whether only one continuation is possible, so that drawing again is useless.

        This holds for greedy decoding; ``top_k=1``; ``min_p=1``; a `top_p` so small that it keeps
        one token in any vocabulary (the most probable token has at least probability
        1 / vocabulary); and a single allowed token.

        ``top_k=1`` and ``min_p=1`` keep all tokens that share the greatest logit (vLLM masks what
        is *below* the k-th value), and vLLM draws among them with the request's seed. Such exact
        ties are rare but do occur in 16-bit arithmetic. They count as one continuation here. Their
        log-probabilities are therefore read from the engine and not assumed to be 0, unlike those
        of greedy decoding.
        """
        return self.why_point_mass is not None

    @property
    def why_point_mass(self) -> str | None:
        """Which setting leaves only one continuation, as text for messages; None if none does."""
        if self.greedy:
            return f"temperature={self.temperature:g} is greedy"
        for name, leaves_one in (
            ("top_k", self.top_k == 1),
            ("min_p", self.min_p == 1),
            ("top_p", self.top_p <= _UNSPLITTABLE),
            ("allowed_token_ids", len(set(self.allowed_token_ids)) == 1),
        ):
            if leaves_one:
                return f"{name}={getattr(self, name)!r} allows one token at each place"
        return None

    @property
    def reshapes(self) -> bool:
        """Whether pi differs from the model's own next-token distribution."""
        return (
            self.temperature != 1
            or self.top_p < 1
            or self.top_k > 0
            or self.min_p > 0
            or self.repetition_penalty != 1
            or bool(self.logit_bias)
            or bool(self.allowed_token_ids)
            or any(self.guidance)
            or self.min_tokens > 0
            or bool(self.whole_answer_fields)
        )


WHOLE_ANSWER_FIELDS: Mapping[str, str] = {
    "presence_penalty": "it counts the tokens of the answer, and an engine that continues an "
    "answer takes those before the cut for the prompt",
    "frequency_penalty": "it counts the tokens of the answer, and an engine that continues an "
    "answer takes those before the cut for the prompt",
    "bad_words": "a word may begin before the cut, where an engine that continues an answer does "
    "not look for it",
    "structured_outputs": "a grammar (response_format, structured_outputs, a required tool) is "
    "read from the first token of an answer, and an engine cannot continue in the middle of it",
    "thinking_token_budget": "the end of the thinking that it forces has several tokens, and an "
    "engine that continues an answer does not know that it was being written",
}
"""Settings of `Sampling` that work only for answers drawn at once, each with the reason."""
_UNSET = {each.name: each.default for each in fields(Sampling)}


def stop_end(text: str, stop: str, after: int = 0) -> int | None:
    """Returns where a stop string first ends beyond `after` characters; None if it does not.

    Example:
        >>> stop_end("one. two. three", "."), stop_end("one. two. three", ".", after=4)
        (4, 9)
    """
    found = text.find(stop, max(0, after - len(stop) + 1))
    return None if found < 0 else found + len(stop)
