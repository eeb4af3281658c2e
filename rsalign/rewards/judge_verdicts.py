"""Two ways to get a verdict from a language model: sample its text, or score given choices."""

import contextlib
import dataclasses
import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from rsalign.core.checks import part
from rsalign.core.errors import ConfigError, PolicyError, RewardError
from rsalign.core.key import Key
from rsalign.core.protocols import Encoder, Likelihood, Policy, get_sampling
from rsalign.core.tasks import concurrently
from rsalign.core.text.response_text import response_text
from rsalign.core.types import Message, Prompt, Response, Tokens
from rsalign.rewards.judge_questions import encode_question
from rsalign.rewards.judge_templates import Template
from rsalign.rewards.parts import describe


class Writer(Policy, Encoder, Protocol):
    """A policy that renders conversations and samples text."""


class Weigher(Likelihood, Encoder, Protocol):
    """A policy that renders conversations and computes log-probabilities of given texts."""


@dataclass(frozen=True, slots=True)
class WrittenVerdicts:
    """Verdicts that a judge has written.

    Attributes:
        verdicts: those that could be parsed, at most one per vote.
        texts: the full texts, ``(votes,)``.
        tokens: number of tokens that the judge read and wrote, over all votes.
        cached_tokens: how many of these were in its prefix cache.
    """

    verdicts: tuple[str, ...]
    texts: tuple[str, ...]
    tokens: int
    cached_tokens: int


@dataclass(frozen=True, slots=True)
class ChoiceWeights:
    """Unnormalised log-probabilities of the choices of a template.

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
    tokens = encode_question(policy, question)
    here = key.child("verdict", _digest(question))
    drawn = await concurrently(
        policy.extend(tokens, max_new_tokens=max_tokens, key=here.child(vote))
        for vote in range(1 if get_sampling(policy).is_point_mass else votes)
    )
    texts = tuple(
        response_text(
            policy, tokens, segment.tokens, stop=segment.stop, stop_reason=segment.stop_reason
        )
        for segment in drawn
    )
    read = (template.verdict(text) for text in texts)
    return WrittenVerdicts(
        verdicts=tuple(verdict for verdict in read if verdict is not None),
        texts=texts,
        tokens=sum(len(tokens) + len(segment.tokens) for segment in drawn),
        cached_tokens=sum(segment.cached_tokens for segment in drawn),
    )


async def weigh_choices(
    policy: Weigher, template: Template, question: tuple[Message, ...]
) -> ChoiceWeights:
    """Computes how probable each of the template's choices is as the beginning of the answer.

    Raises:
        ConfigError: if one choice is a prefix of another, whose probability it would include.
    """
    tokens = encode_question(policy, question)
    options = [
        # a template that is nothing but the text leaves out what `encode` may add around it (BOS)
        policy.encode_chat(
            (Message("assistant", choice),), chat_template=_BARE, add_generation_prompt=False
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
    found: WrittenVerdicts, template: Template, prompt: Prompt, response: Response
) -> RewardError:
    """The error to raise if none of a judge's votes can be parsed."""
    return RewardError(
        f"none of {len(found.texts)} votes has a verdict that {template.pattern!r} finds; the "
        f"first is {found.texts[0]!r}: raise votes or max_tokens, or correct the template",
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
