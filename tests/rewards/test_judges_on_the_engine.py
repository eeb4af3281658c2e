"""Shipped templates on the real engine, against laws that transformers gives exactly."""

import asyncio
import dataclasses
import json
import math

import pytest
import torch
from exact import language_model, next_probs, tokenizer

from rsalign import Response, Sampling, Stop
from rsalign.rewards.judge import PairwiseJudge, PointwiseJudge, ProbabilityJudge
from rsalign.rewards.judge_templates import Template

pytestmark = pytest.mark.engine

ONE = Response((5,), "Ann has 12 - 7 = 5 coins.", Stop.EOS)
OTHER = Response((6,), "Ann has 4 coins.", Stop.EOS)
VOTES = 300


def short(name):
    """A shipped template whose question fits the small context of the embedded policy."""
    template = Template.named(name)
    compares = "one" in template.placeholders
    user = "{prompt} {one} {other}" if compares else "{prompt} {response}"
    return dataclasses.replace(template, system="", user=user)


def constrained(prompt, texts):
    """The law of which of some texts is written if nothing else may be, by the policy's weights.

    At each token, those that begin none of the texts are left out, and the others are weighed by
    their probabilities.
    """
    words = {i: tokenizer().decode([i]) for i in range(len(tokenizer()))}
    eos = tokenizer().eos_token_id
    law = dict.fromkeys(texts, 0.0)

    def walk(tokens, written, probability):
        row = next_probs([tokens])[0]
        longer = {
            i: row[i].item()
            for i, word in words.items()
            if word and any(text.startswith(written + word) for text in texts)
        }
        if written in texts:
            longer[eos] = row[eos].item()
        total = sum(longer.values())
        for token, p in longer.items():
            if token == eos:
                law[written] += probability * p / total
            else:
                walk([*tokens, token], written + words[token], probability * p / total)

    walk(list(prompt), "", 1.0)
    return law


@pytest.mark.parametrize(
    ("name", "texts"),
    [
        ("mt_bench", ["[[2]]", "[[9]]", "[[11]]", "[2]"]),
        ("boxed", [r"\boxed{3}", r"\boxed{\text{8}}", "8"]),
        ("prometheus", ["So [RESULT] 1\n", "So [RESULT] 5\n", "5"]),
    ],
)
def test_scores_have_the_law_of_the_readable_verdicts(policy, ask, name, texts):
    template, prompt = short(name), ask(3)
    judge = policy.with_sampling(Sampling(structured_outputs=json.dumps({"choice": texts})))
    question = policy.encode_chat(template.messages(prompt=prompt.text, response=ONE.text))
    law = constrained(question, texts)
    assert math.isclose(sum(law.values()), 1, abs_tol=1e-6)
    read = {text: template.verdict(text) for text in texts}
    readable = sum(p for text, p in law.items() if read[text])
    scores = {text: float(verdict) for text, verdict in read.items() if verdict}
    mean = sum(law[text] * value for text, value in scores.items()) / readable
    variance = sum(law[t] * (value - mean) ** 2 for t, value in scores.items()) / readable
    found = asyncio.run(
        PointwiseJudge(judge, template, votes=VOTES, max_tokens=24).score(prompt, ONE)
    )
    assert found == pytest.approx(mean, abs=5 * (variance / (VOTES * readable)) ** 0.5 + 1e-6)


@pytest.mark.parametrize(
    ("name", "texts"),
    [
        ("mt_bench_pairwise", ["[[A]]", "[[B]]", "[[C]]"]),
        ("skywork_critic", ["[[A]]", "[[B]]"]),
        ("rm_r1", ["<answer>[[A]]</answer>", "<answer>[[B]]</answer>"]),
    ],
)
def test_comparisons_have_the_law_of_both_orders(policy, ask, name, texts):
    template, prompt = short(name), ask(3)
    judge = policy.with_sampling(Sampling(structured_outputs=json.dumps({"choice": texts})))

    def first_wins(one, other):
        question = template.messages(prompt=prompt.text, one=one.text, other=other.text)
        law = constrained(policy.encode_chat(question), texts)
        return sum(p * template.number(template.verdict(text)) for text, p in law.items())

    right = (first_wins(ONE, OTHER) + 1 - first_wins(OTHER, ONE)) / 2
    found = asyncio.run(
        PairwiseJudge(judge, template, votes=VOTES, max_tokens=32).prefer(prompt, ONE, OTHER)
    )
    assert found == pytest.approx(right, abs=5 * 0.5 / (2 * VOTES) ** 0.5)


def weights(before, options):
    """Normalised probabilities of some texts after given tokens."""
    logs = []
    for option in options:
        ids = tokenizer().encode(option, add_special_tokens=False)
        with torch.inference_mode():
            rows = language_model()(torch.tensor([[*before, *ids]])).logits[0].log_softmax(-1)
        logs.append(sum(rows[len(before) + i - 1, t].item() for i, t in enumerate(ids)))
    return torch.tensor(logs, dtype=torch.float64).softmax(-1).tolist()


@pytest.mark.parametrize("name", ["score_token", "genrm", "right"])
def test_weighed_choices_are_exact(policy, ask, name):
    template, prompt = short(name), ask(3)
    question = policy.encode_chat(template.messages(prompt=prompt.text, response=ONE.text))
    p = weights(question, [template.lead + choice for choice in template.choices])
    found = asyncio.run(ProbabilityJudge(policy, template).score(prompt, ONE))
    if template.values:
        right = sum(one * value for one, value in zip(p, template.values, strict=True))
    else:
        right = math.log(p[0] / p[1])
    assert found == pytest.approx(right, abs=1e-3)


def test_choices_are_weighed_after_what_was_written(policy, ask):
    template, prompt = short("genrm_cot"), ask(3)
    question = policy.encode_chat(template.messages(prompt=prompt.text, response=ONE.text))
    found = asyncio.run(
        ProbabilityJudge(policy, template, returns="probability", votes=4, max_tokens=12).score(
            prompt, ONE
        )
    )
    seen = []

    class Listening:
        """The same judge, whose reasons are kept."""

        def __getattr__(self, name):
            return getattr(policy, name)

        async def extend(self, prefix, *, max_new_tokens, key, boundary=None):
            drawn = await policy.extend(prefix, max_new_tokens=max_new_tokens, key=key)
            seen.append(drawn)
            return drawn

    listening = Listening()
    judge = ProbabilityJudge(policy, template, returns="probability", votes=4, max_tokens=12)
    object.__setattr__(judge, "policy", listening)
    assert asyncio.run(judge.score(prompt, ONE)) == pytest.approx(found, abs=1e-6)
    assert len(seen) == 4
    assert len({drawn.tokens for drawn in seen}) > 1
    p = []
    for drawn in seen:
        tokens = drawn.tokens[:-1] if drawn.stop is Stop.EOS else drawn.tokens
        lead = template.lead if policy.text(tokens).endswith("\n") else "\n" + template.lead
        p.append(weights([*question, *tokens], [lead + c for c in template.choices])[0])
    assert found == pytest.approx(sum(p) / 4, abs=1e-4)
