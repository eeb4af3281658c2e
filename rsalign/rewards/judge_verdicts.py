"""Two ways to get a verdict from a language model: sample its text, or score given choices."""

import bisect
import contextlib
import dataclasses
import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from rsalign.core.checks import part, quote
from rsalign.core.errors import ConfigError, PolicyError, RewardError
from rsalign.core.key import Key
from rsalign.core.protocols import Encoder, Likelihood, Policy, get_sampling
from rsalign.core.tasks import concurrently
from rsalign.core.text.response_text import read_response, response_text
from rsalign.core.types import Message, Prompt, Response, Segment, Stop, Tokens
from rsalign.rewards.judge_parsing import UnreadableError, after_thought
from rsalign.rewards.judge_questions import encode_question
from rsalign.rewards.judge_templates import Template
from rsalign.rewards.judge_thinking import encode_without_thought
from rsalign.rewards.parts import describe


class Writer(Policy, Encoder, Protocol):
    """A policy that renders conversations and samples text."""


class Weigher(Likelihood, Encoder, Protocol):
    """A policy that renders conversations and computes log-probabilities of given texts."""


class Reasoner(Writer, Weigher, Protocol):
    """A policy that can do both."""


@dataclass(frozen=True, slots=True)
class WrittenVerdicts:
    """Verdicts that a judge has written.

    Attributes:
        verdicts: those that could be read, at most one per vote.
        texts: the full texts, ``(votes,)``.
        faults: why the others could not be read.
        tokens: number of tokens that the judge read and wrote, over all votes.
        cached_tokens: how many of these were in its prefix cache.
    """

    verdicts: tuple[str, ...]
    texts: tuple[str, ...]
    faults: tuple[str, ...]
    tokens: int
    cached_tokens: int


@dataclass(frozen=True, slots=True)
class ChoiceWeights:
    """Unnormalised log-probabilities of the choices of a template.

    Those of the lead before the choices are part of each, and fall out when they are compared.

    Attributes:
        log_probs: ln pi(choice | question), nats, ``(choices,)``.
        tokens: number of tokens that the judge read, over all choices.

    Example:
        >>> weights = ChoiceWeights((-1.0, -1.0), tokens=0)
        >>> weights.log_odds, weights.probability
        (0.0, 0.5)
    """

    log_probs: tuple[float, ...]
    tokens: int

    @property
    def log_odds(self) -> float:
        """Log-odds of the first choice against all others together, nats."""
        first, *others = self.log_probs
        highest = max(others)
        return first - highest - math.log(math.fsum(math.exp(o - highest) for o in others))

    @property
    def probabilities(self) -> tuple[float, ...]:
        """Probabilities of the choices, normalised, ``(choices,)``."""
        highest = max(self.log_probs)
        weights = [math.exp(one - highest) for one in self.log_probs]
        total = math.fsum(weights)
        return tuple(weight / total for weight in weights)

    @property
    def probability(self) -> float:
        """Probability of the first choice, normalised over the choices."""
        odds = self.log_odds
        return 1 / (1 + math.exp(-odds)) if odds >= 0 else math.exp(odds) / (1 + math.exp(odds))


JUDGE = part("a policy that can be asked in words, such as VllmPolicy")
"""How error messages name a setting that must be a `Writer` or a `Weigher`."""


async def write_verdicts(
    policy: Writer,
    template: Template,
    question: tuple[Message, ...],
    *,
    votes: int,
    max_tokens: int,
    key: Key,
) -> WrittenVerdicts:
    """Samples verdicts with keys derived from the question: equal questions get equal verdicts.

    A judge that samples greedily (`Sampling.is_point_mass`) is asked once, whatever `votes` is,
    since all its verdicts would be equal.

    Args:
        policy: the judge.
        template: parses the verdicts.
        question: the rendered template.
        votes: number of verdicts, requested concurrently.
        max_tokens: greatest length of one verdict.
        key: the judge's own key.
    """
    written = await _write(policy, question, votes=votes, max_tokens=max_tokens, key=key)
    verdicts, faults = [], []
    for text, cut in zip(written.texts, written.cut, strict=True):
        try:
            verdicts.append(template.read(text, cut=cut))
        except UnreadableError as fault:
            faults.append(str(fault))
    return WrittenVerdicts(
        verdicts=tuple(verdicts),
        texts=written.texts,
        faults=tuple(faults),
        tokens=written.num_tokens,
        cached_tokens=written.cached_tokens,
    )


async def weigh_choices(
    policy: Weigher, template: Template, question: tuple[Message, ...]
) -> ChoiceWeights:
    """Computes how probable each of the template's choices is as the beginning of the answer.

    Raises:
        ConfigError: if one choice is a prefix of another, whose probability it would include; or if
            a reasoning model would think before it chooses.
    """
    return await _weigh(policy, template, encode_without_thought(policy, question), template.lead)


async def weigh_after_thought(
    policy: Reasoner,
    template: Template,
    question: tuple[Message, ...],
    *,
    votes: int,
    max_tokens: int,
    key: Key,
) -> tuple[tuple[ChoiceWeights, ...], WrittenVerdicts]:
    """Computes the same after reasons that the judge writes first, several times over.

    What the judge writes is cut where it comes to the template's `lead`; if it never does, `lead`
    is put behind it.

    Args:
        policy: the judge.
        template: has `thought` and `lead`.
        question: the rendered template.
        votes: number of texts of reasons, requested concurrently.
        max_tokens: greatest length of the reasons.
        key: the judge's own key.

    Returns:
        The weights after each text whose thought has an end, and what was written.

    Raises:
        ConfigError: if one choice is a prefix of another.
    """
    written = await _write(
        policy, question, votes=votes, max_tokens=max_tokens, key=key, keeps_thought=True
    )
    asked, faults = [], []
    for text, tokens in zip(written.texts, written.tokens, strict=True):
        try:
            rest = after_thought(text)
        except UnreadableError as fault:
            faults.append(str(fault))
            continue
        said = rest.rfind(template.lead.strip())
        kept = text if said < 0 else text[: len(text) - len(rest) + said]
        before = tokens[: _num_within(policy, tokens, len(kept))]
        between = kept[len(policy.text(before)) :]
        if said < 0 and not kept.endswith("\n"):
            between += "\n"
        asked.append(_weigh(policy, template, written.question + before, between + template.lead))
    weights = await concurrently(asked)
    found = WrittenVerdicts(
        verdicts=(),
        texts=written.texts,
        faults=tuple(faults),
        tokens=written.num_tokens + sum(one.tokens for one in weights),
        cached_tokens=written.cached_tokens,
    )
    return tuple(weights), found


@dataclass(frozen=True, slots=True)
class _Written:
    """What a judge wrote: texts, their tokens without the end, and whether each was cut."""

    question: Tokens
    texts: tuple[str, ...]
    tokens: tuple[Tokens, ...]
    cut: tuple[bool, ...]
    num_tokens: int
    cached_tokens: int


async def _write(
    policy: Writer,
    question: tuple[Message, ...],
    *,
    votes: int,
    max_tokens: int,
    key: Key,
    keeps_thought: bool = False,
) -> _Written:
    tokens = encode_question(policy, question)
    here = key.child("verdict", _digest(question))
    drawn = await concurrently(
        policy.extend(tokens, max_new_tokens=max_tokens, key=here.child(vote))
        for vote in range(1 if get_sampling(policy).is_point_mass else votes)
    )

    def read(segment: Segment) -> str:
        stop, reason = segment.stop, segment.stop_reason
        if keeps_thought:  # the caller cuts the text, and goes on from its tokens
            return response_text(policy, tokens, segment.tokens, stop=stop, stop_reason=reason)
        asked = Prompt(question, tokens)
        return read_response(policy, asked, segment.tokens, stop=stop, stop_reason=reason)[0]

    texts = tuple(map(read, drawn))
    return _Written(
        question=tokens,
        texts=texts,
        tokens=tuple(
            segment.tokens[:-1] if segment.stop is Stop.EOS else segment.tokens for segment in drawn
        ),
        cut=tuple(segment.stop is Stop.LENGTH for segment in drawn),
        num_tokens=sum(len(tokens) + len(segment.tokens) for segment in drawn),
        cached_tokens=sum(segment.cached_tokens for segment in drawn),
    )


def _num_within(policy: Writer, tokens: Tokens, num_chars: int) -> int:
    """The greatest number of leading tokens whose text has at most so many characters."""

    def length(count: int) -> int:
        return len(policy.text(tokens[:count]))

    return bisect.bisect_right(range(len(tokens) + 1), num_chars, key=length) - 1


async def _weigh(policy: Weigher, template: Template, tokens: Tokens, lead: str) -> ChoiceWeights:
    options = [
        # a template that is nothing but the text leaves out what `encode` may add around it (BOS)
        policy.encode_chat(
            (Message("assistant", lead + choice),),
            chat_template=_BARE,
            add_generation_prompt=False,
        )
        for choice in template.choices
    ]
    _check_distinct(template.choices, options)
    log_probs = await concurrently(policy.log_probs(tokens, option) for option in options)
    return ChoiceWeights(
        tuple(math.fsum(steps) for steps in log_probs),
        tokens=sum(len(tokens) + len(option) for option in options),
    )


@contextlib.contextmanager
def judge_errors_as_reward_errors(prompt: Prompt, response: Response) -> Iterator[None]:
    """Raises a judge's `PolicyError` as a `RewardError` that names the response.

    Raises:
        RewardError: in place of a `PolicyError`.
    """
    try:
        yield
    except PolicyError as died:
        raise RewardError(str(died), prompt=prompt, response=response) from died


def unreadable_verdicts_error(
    found: WrittenVerdicts, prompt: Prompt, response: Response
) -> RewardError:
    """The error to raise if none of a judge's votes can be read."""
    return RewardError(
        f"none of {len(found.texts)} votes can be read: the first is {quote(found.texts[0])}, but "
        f"{found.faults[0]}; raise votes or max_tokens, or correct the template",
        prompt=prompt,
        response=response,
    )


def judge_fingerprint(judge: Any) -> str:
    """Identifies a judge in a journal by its class and all its settings."""
    values = tuple(getattr(judge, field.name) for field in dataclasses.fields(judge))
    return f"{type(judge).__name__}{describe(values)}"


def _check_distinct(choices: tuple[str, ...], options: list[Tokens]) -> None:
    for i, one in enumerate(options):
        for j, other in enumerate(options):
            if i != j and other[: len(one)] == one:
                raise ConfigError(
                    f"the choice {choices[i]!r} begins the choice {choices[j]!r} (tokens {one} and "
                    f"{other}), and would be given its probability too: give choices none of which "
                    "begins another"
                )


def _digest(question: tuple[Message, ...]) -> str:
    said = repr([(message.role, message.content) for message in question])
    return hashlib.blake2b(said.encode(), digest_size=16).hexdigest()


_BARE = "{{ messages[0]['content'] }}"
