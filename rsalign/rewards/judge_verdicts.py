"""Two ways of asking a language model for a verdict: let it write one, or weigh given ones."""

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
from rsalign.rewards.judge_templates import Template
from rsalign.rewards.parts import described


class Writer(Policy, Encoder, Protocol):
    """A policy that can be asked in words, and answers in words."""


class Weigher(Likelihood, Encoder, Protocol):
    """A policy that can be asked in words, and tells how probable given answers are."""


@dataclass(frozen=True, slots=True)
class Written:
    """Verdicts that were written.

    Attributes:
        verdicts: those that could be read, at most one per vote.
        texts: all that was written, ``(votes,)``.
        tokens: tokens that the judge was given and wrote, over all votes.
        cached_tokens: how many of them its prefix cache had.
    """

    verdicts: tuple[str, ...]
    texts: tuple[str, ...]
    tokens: int
    cached_tokens: int


@dataclass(frozen=True, slots=True)
class Weights:
    """Logarithms of the choices' probabilities, not normalised.

    Attributes:
        log_probs: ln pi(choice | question), nats, ``(choices,)``.
        tokens: tokens that the judge was given, over all choices.
    """

    log_probs: tuple[float, ...]
    tokens: int

    @property
    def log_odds(self) -> float:
        """Of the first choice against all others, nats."""
        first, *others = self.log_probs
        highest = max(others)
        return first - highest - math.log(math.fsum(math.exp(o - highest) for o in others))

    @property
    def probability(self) -> float:
        """Of the first choice, among the choices."""
        odds = self.log_odds
        return 1 / (1 + math.exp(-odds)) if odds >= 0 else math.exp(odds) / (1 + math.exp(odds))


JUDGE = part("a policy that can be asked in words, such as VllmPolicy")
"""What a `Writer` or `Weigher` is called where it is a setting."""


async def written(
    policy: Writer,
    template: Template,
    question: tuple[Message, ...],
    *,
    votes: int,
    max_tokens: int,
    key: Key,
) -> Written:
    """Draws verdicts at addresses that the question decides, so that it always has the same answer.

    A judge with one possible continuation (`Sampling.is_point_mass`) writes it once, whatever
    `votes` says: the others would be the same verdict.

    Args:
        policy: the judge.
        template: how a verdict is read.
        question: what is asked.
        votes: number of draws, all at once.
        max_tokens: greatest length of one.
        key: the judge's own address.
    """
    tokens = policy.encode_chat(question)
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
    return Written(
        verdicts=tuple(verdict for verdict in read if verdict is not None),
        texts=texts,
        tokens=sum(len(tokens) + len(segment.tokens) for segment in drawn),
        cached_tokens=sum(segment.cached_tokens for segment in drawn),
    )


async def weighed(policy: Weigher, template: Template, question: tuple[Message, ...]) -> Weights:
    """How probable each of the template's choices is as the beginning of the answer.

    Raises:
        ConfigError: if one choice begins another: then it has the other's probability too.
    """
    tokens = policy.encode_chat(question)
    options = [
        # a template that is nothing but the text leaves out what `encode` may add around it (BOS)
        policy.encode_chat(
            (Message("assistant", choice),), chat_template=_BARE, add_generation_prompt=False
        )
        for choice in template.choices
    ]
    _check_distinct(template.choices, options)
    log_probs = await concurrently(policy.log_probs(tokens, option) for option in options)
    return Weights(
        tuple(math.fsum(steps) for steps in log_probs),
        tokens=sum(len(tokens) + len(option) for option in options),
    )


@contextlib.contextmanager
def blamed_on(prompt: Prompt, response: Response) -> Iterator[None]:
    """A judge that died could not judge this response.

    Raises:
        RewardError: in place of `PolicyError`.
    """
    try:
        yield
    except PolicyError as died:
        raise RewardError(str(died), prompt=prompt, response=response) from died


def unreadable(
    found: Written, template: Template, prompt: Prompt, response: Response
) -> RewardError:
    """The error of a judge none of whose votes can be read."""
    return RewardError(
        f"none of {len(found.texts)} votes has a verdict that {template.pattern!r} finds; the "
        f"first is {found.texts[0]!r}: raise votes or max_tokens, or mend the template",
        prompt=prompt,
        response=response,
    )


def judge_fingerprint(judge: Any) -> str:
    """Tells a judge from others in a journal: who is asked what, and how."""
    values = tuple(getattr(judge, field.name) for field in dataclasses.fields(judge))
    return f"{type(judge).__name__}{described(values)}"


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
