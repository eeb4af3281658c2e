"""The exact laws of segments and strategies with the vocabularies of real families.

Segments end by a token of the vocabulary, and a model draws from all of it: from up to 262,144
tokens. What it should draw is computed by transformers.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest
import torch
from cards_law import line, soft
from exact import LEVEL, check_draws, power, shaped
from scipy.stats import chisquare
from short_answers import ShortAnswers

from rsalign import (
    Cards,
    Entropy,
    FixedSize,
    Key,
    Message,
    Prompt,
    Punctuation,
    QAlign,
    Run,
    Sampling,
    SoftAcceptance,
    Stop,
)
from rsalign.core.tasks import concurrently
from rsalign.rewards.wrappers import Cached
from rsalign.segments.thresholds import Line
from tests.families.likely import likely_folder
from tests.families.pair import start
from tests.families.vllm_text import text_of_vllm

pytestmark = [pytest.mark.engine, pytest.mark.nightly]

MESSAGES = (Message("user", "Yes or no?"),)
CONVERSATION = [{"role": "user", "content": "Yes or no?"}]
SHORT = 4
"""Tokens of an answer, where all answers are listed."""
FEW = Sampling(temperature=1.5, top_k=5)
"""Five tokens are likely everywhere (`tests.families.likely`)."""
TRIES, STEPS = 3, 4
DRAWS = 2000


@dataclass(frozen=True)
class Asked:
    """A family's policy in transformers, with a prompt before whatever it is given.

    Attributes:
        model: the policy.
        prompt: before all answers.
        ends: the tokens that end an answer.
    """

    model: object
    prompt: Prompt
    ends: tuple[int, ...]

    @torch.inference_mode()
    def log_probs(self, answers: Sequence[Sequence[int]]) -> torch.Tensor:
        """The model's own next-token laws, nats, (answers, vocab), after answers of one length."""
        prefixes = torch.tensor([[*self.prompt.tokens, *answer] for answer in answers])
        return self.model(prefixes, logits_to_keep=1).logits[:, -1].double().log_softmax(-1)


@pytest.fixture(scope="module")
def folder(family, tokenizer):
    if family.body.startswith("gemma"):
        pytest.skip("vLLM reads no head of this model, only its embeddings, which are its head")
    return likely_folder(family, tokenizer)


@pytest.fixture(scope="module")
def pair(family, folder):
    """Its engines, with the policy of this file."""
    with start(family, folder) as pair:
        yield pair


@pytest.fixture(scope="module")
def asked(pair, folder):
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager"
    )
    prompt = Prompt(MESSAGES, pair.policy.encode_chat(MESSAGES))
    return Asked(model.eval(), prompt, pair.ends)


@pytest.fixture(scope="module")
def short(pair, asked):
    """All answers of a law of few tokens."""

    @cache
    def score(text, stop):
        return pair.reference.score(CONVERSATION, text, stop)

    def rewards(answers):
        values = {}
        for answer in answers:
            ended = answer[-1:] in {(end,) for end in asked.ends}
            text = text_of_vllm(pair.tokenizer, asked.prompt.tokens, answer, ended=ended)
            stop = Stop.EOS if ended else Stop.LENGTH if len(answer) == SHORT else Stop.BOUNDARY
            values[answer] = score(text, stop)
        return values

    return ShortAnswers.of(
        SHORT,
        asked.ends,
        lambda answers: asked.log_probs(answers).exp(),
        lambda raw: shaped(raw, temperature=FEW.temperature, top_k=FEW.top_k),
        rewards,
    )


def between(values, share):
    """A number in the widest gap near the place that so large a share of the values is below."""
    distinct = sorted(set(values))
    middle = int(share * len(distinct))
    near = range(
        max(1, middle - len(distinct) // 8), min(len(distinct), middle + len(distinct) // 8)
    )
    at = max(near, key=lambda i: distinct[i] - distinct[i - 1])
    return (distinct[at - 1] + distinct[at]) / 2


def check(pair, asked, strategy, right, wrong, *, told):
    """Draws answers by a strategy, and tests them against its law and wrong ones.

    Args:
        pair: draws and judges.
        asked: what.
        strategy: of answers of `FEW` tokens.
        right: the law of its answers.
        wrong: other laws.
        told: which of these so many draws tell from the right one in every family, but for once in
            a million; whether they do the others depends on the family's reward.
    """
    policy, reward = pair.policy.with_sampling(FEW), Cached(pair.reward)

    async def main():
        answers = await concurrently(
            strategy.sample(asked.prompt, Run(policy, reward, Key(5, (i,)))) for i in range(DRAWS)
        )
        return [answer.tokens for answer in answers]

    drawn = asyncio.run(main())
    assert check_draws(drawn, right)
    certain = {name for name, law in wrong.items() if power(right, law, DRAWS) > 1 - 1e-6}
    assert certain >= told
    for name in certain:
        assert not check_draws(drawn, wrong[name]), name


@pytest.mark.parametrize("name", ["FixedSize", "Entropy", "Punctuation"])
def test_the_law_of_cards(pair, asked, short, name):
    entropy = between(short.entropies.values(), 0.5)
    mark = pair.ids_of(".")[-1]
    segmenter, size, ends = {
        "FixedSize": (FixedSize(2), 2, lambda answer, drawn: False),
        "Entropy": (
            Entropy(entropy, 1, SHORT),
            SHORT,
            lambda answer, drawn: short.entropies[answer] >= entropy,
        ),
        "Punctuation": (
            Punctuation(".", entropy, 1, SHORT),
            SHORT,
            lambda answer, drawn: answer[-1] == mark and short.entropies[answer[:-1]] >= entropy,
        ),
    }[name]
    base = short.base()
    values = [short.rewards[answer] for answer in base]
    beta = 0.3 * float(np.std(values))
    threshold = Line(target=between(values, 0.7), prompt_weight=0.5)
    bar = line(short.rewards.__getitem__, threshold.target, threshold.prompt_weight, SHORT)

    def law(size=size, ends=ends, **mistake):
        return short.cards(size, ends, bar=bar, accept=soft(beta), tries=TRIES, **mistake)

    strategy = Cards(
        segmenter=segmenter,
        threshold=threshold,
        acceptance=SoftAcceptance(beta=beta),
        max_tokens=SHORT,
        max_tries=TRIES,
    )
    wrong = {
        "the policy itself": base,
        "no end of tries": law(exhausted="never"),
        "the last draft is forced": law(exhausted="last"),
        "whole answers": law(SHORT, lambda answer, drawn: False),
        "segments of one token": law(1, lambda answer, drawn: False),
    }
    told = {"the policy itself", "segments of one token"}
    check(pair, asked, strategy, law(), wrong, told=told)


def test_the_law_of_qalign(pair, asked, short):
    """Of its state after a few steps from a plain draw."""
    base = short.base()
    beta = float(np.std([short.rewards[answer] for answer in base])) / 2
    strategy = QAlign(beta=beta, steps=STEPS, recycle=False, max_tokens=SHORT)
    wrong = {
        "the policy itself": base,
        "no length term": short.chain(STEPS, beta, length_term=0.0),
        "inverted ratio": short.chain(STEPS, beta, length_term=-1.0),
    }
    told = {"the policy itself", "inverted ratio"}
    check(pair, asked, strategy, short.chain(STEPS, beta), wrong, told=told)


@pytest.mark.parametrize("name", ["Entropy", "Punctuation"])
def test_every_token_is_drawn_by_its_law(pair, asked, name):
    """Of the whole vocabulary, wherever segments end, the ends of answers likely among them.

    The tokens stand side by side by their ids, each as wide as it is probable; where a uniformly
    chosen place in the drawn token lies is uniform, and independent of what was drawn before.
    """
    ends, answers, length = list(asked.ends), 300, 8
    at_first = torch.special.entr(asked.log_probs([()])[0].exp()).sum().item()
    boundary = {
        "Entropy": Entropy(at_first, 1),
        "Punctuation": Punctuation("aeiou.,", 0.5, 1),
    }[name]

    async def draw(key):
        tokens, segments = (), 0
        while True:
            segment = await pair.policy.extend(
                asked.prompt.tokens + tokens,
                max_new_tokens=length - len(tokens),
                key=key.child(segments),
                boundary=boundary,
            )
            tokens, segments = tokens + segment.tokens, segments + 1
            if segment.stop is not Stop.BOUNDARY:
                return tokens, segments

    async def main():
        return await concurrently(draw(Key(7, (i,))) for i in range(answers))

    drawn = asyncio.run(main())
    assert sum(segments > 1 for _, segments in drawn) > answers / 10
    places, expected, ended = [], 0.0, 0
    for place in range(length):
        open_ = [tokens for tokens, _ in drawn if len(tokens) > place]
        for first in range(0, len(open_), 32):
            some = open_[first : first + 32]
            probs = asked.log_probs([tokens[:place] for tokens in some]).exp()
            below = probs.cumsum(-1)
            expected += probs[:, ends].sum().item()
            for row, tokens in enumerate(some):
                p = probs[row, tokens[place]].item()
                inside = Key(7, ("place", len(places))).below(1 << 53) / (1 << 53)
                places.append(below[row, tokens[place]].item() - inside * p)
                ended += tokens[place] in ends
    observed, _ = np.histogram(places, bins=40, range=(0, 1))
    assert observed.sum() == len(places) > 5 * answers / 2
    assert chisquare(observed).pvalue > LEVEL
    assert ended > 50
    others = len(places) - ended, len(places) - expected
    assert chisquare([ended, others[0]], [expected, others[1]]).pvalue > LEVEL
