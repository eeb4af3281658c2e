"""The embedded models' exact laws at a short horizon, computed in float32 by transformers."""

import functools
from collections import Counter

import torch
from scipy.stats import chisquare
from transformers import AutoTokenizer, LlamaForCausalLM, LlamaForSequenceClassification

from rsalign.embedded import POLICY, REWARD

REST = "everything less likely"
LEAST = 1e-5  # an answer less likely than this is not followed up; what is lost is counted


@functools.cache
def language_model(path=POLICY):
    return LlamaForCausalLM.from_pretrained(path, dtype=torch.float32).eval()


@functools.cache
def reward_model():
    return LlamaForSequenceClassification.from_pretrained(REWARD, dtype=torch.float32).eval()


@functools.cache
def tokenizer():
    return AutoTokenizer.from_pretrained(POLICY)


@torch.inference_mode()
def next_probs(prefixes):
    """Next-token laws, (prefixes, vocab), of prefixes of one length."""
    logits = language_model()(torch.tensor(prefixes)).logits[:, -1]
    return logits.double().softmax(-1)


def answers(prompt, max_tokens):
    """Probability of every answer above `LEAST`, and of all others together."""
    eos, open_, done = tokenizer().eos_token_id, {(): 1.0}, {}
    for length in range(1, max_tokens + 1):
        prefixes = list(open_)
        probs = next_probs([list(prompt + prefix) for prefix in prefixes])
        longer = {}
        for prefix, row in zip(prefixes, probs, strict=True):
            for token in (row * open_[prefix] > LEAST).nonzero()[:, 0].tolist():
                ended = token == eos or length == max_tokens
                (done if ended else longer)[(*prefix, token)] = open_[prefix] * row[token].item()
        open_ = longer
    return done | {REST: 1 - sum(done.values())}


def check_draws(draws, law, *, level=1e-6):
    """Chi-square of draws against a law; cells that expect fewer than 5 draws are joined."""
    seen, expected, observed = Counter(draws), [], []
    rest_expected = rest_observed = 0.0
    for answer, p in law.items():
        count = sum(n for y, n in seen.items() if y not in law) if answer == REST else seen[answer]
        if p * len(draws) >= 5:
            expected.append(p * len(draws))
            observed.append(count)
        else:
            rest_expected += p * len(draws)
            rest_observed += count
    if rest_expected >= 1:
        expected.append(rest_expected)
        observed.append(rest_observed)
    assert len(expected) > 5, "the law has too few cells to test anything"
    scale = sum(observed) / sum(expected)
    return chisquare(observed, [value * scale for value in expected]).pvalue > level
