"""The embedded models' exact laws at a short horizon, computed in float32 by transformers."""

import functools
import math
from collections import Counter

import torch
from scipy.stats import chi2, chisquare, ncx2
from transformers import AutoTokenizer, LlamaForCausalLM, LlamaForSequenceClassification

from rsalign.embedded import POLICY, REWARD

REST = "everything less likely"
LEAST = 1e-5  # an answer less likely than this is not followed up; what is lost is counted
LEVEL = 1e-6  # of every test on draws: it errs once in a million


@functools.cache
def language_model(path=POLICY):
    return LlamaForCausalLM.from_pretrained(path, dtype=torch.float32).eval()


@functools.cache
def reward_model():
    return LlamaForSequenceClassification.from_pretrained(REWARD, dtype=torch.float32).eval()


@functools.cache
def tokenizer(path=POLICY):
    return AutoTokenizer.from_pretrained(path)


@torch.inference_mode()
def next_probs(prefixes, path=POLICY):
    """Next-token laws, (prefixes, vocab), of prefixes of one length."""
    logits = language_model(path)(torch.tensor(prefixes)).logits[:, -1]
    return logits.double().softmax(-1)


def answers(prompt, max_tokens, path=POLICY, shape=lambda probs: probs):
    """Probability of every answer above `LEAST`, and of all others together.

    `shape` turns raw next-token laws, (prefixes, vocab), into those that are drawn from.
    """
    eos, open_, done = tokenizer(path).eos_token_id, {(): 1.0}, {}
    for length in range(1, max_tokens + 1):
        prefixes = list(open_)
        probs = shape(next_probs([list(prompt + prefix) for prefix in prefixes], path))
        longer = {}
        for prefix, row in zip(prefixes, probs, strict=True):
            for token in (row * open_[prefix] > LEAST).nonzero()[:, 0].tolist():
                ended = token == eos or length == max_tokens
                (done if ended else longer)[(*prefix, token)] = open_[prefix] * row[token].item()
        open_ = longer
    return done | {REST: 1 - sum(done.values())}


def shaped(probs, *, temperature, top_k):
    """Raw next-token laws tempered and truncated, (prefixes, vocab)."""
    logits = probs.log() / temperature
    kept = logits.topk(top_k).indices
    masked = torch.full_like(logits, float("-inf")).scatter(1, kept, logits.gather(1, kept))
    return masked.softmax(-1)


@torch.inference_mode()
def rewards(prompt, answers):
    """The reward model's score of every answer, open or finished as it is; `REST` has none."""
    eos, values = tokenizer().eos_token_id, {}
    opened = tokenizer().apply_chat_template(
        [{"role": "user", "content": prompt.text}], tokenize=False, add_generation_prompt=True
    )
    for answer in answers:
        if answer == REST:
            continue
        text = opened + tokenizer().decode(answer, skip_special_tokens=True)
        ids = tokenizer().encode(text, add_special_tokens=False)
        ids += [eos] if answer[-1:] == (eos,) else []
        hidden = reward_model().model(torch.tensor([ids])).last_hidden_state[0, -1]
        values[answer] = reward_model().score(hidden).item()
    return values


def check_draws(draws, law, *, level=LEVEL):
    """Chi-square of draws against a law; cells that expect fewer than 5 draws are joined."""
    num_draws, seen = len(draws), Counter(draws)
    strays = sum(count for answer, count in seen.items() if answer not in law)
    assert REST in law or not strays, "something was drawn that the law does not have"
    expected, observed = [], []
    for cell in _cells(law, num_draws):
        expected.append(num_draws * math.fsum(law[answer] for answer in cell))
        observed.append(sum(strays if answer == REST else seen[answer] for answer in cell))
    assert len(expected) > 5, "the law has too few cells to test anything"
    scale = sum(observed) / sum(expected)
    return chisquare(observed, [value * scale for value in expected]).pvalue > level


def power(right, wrong, num_draws, *, level=LEVEL):
    """Probability that `check_draws` tells draws from one law from another (in the limit)."""
    cells = _cells(wrong, num_draws)
    pairs = [
        (math.fsum(right.get(y, 0.0) for y in cell), math.fsum(wrong[y] for y in cell))
        for cell in cells
    ]
    distance = num_draws * math.fsum((p - q) ** 2 / q for p, q in pairs)
    return ncx2.sf(chi2.isf(level, len(cells) - 1), len(cells) - 1, distance)


def _cells(law, num_draws):
    """Answers that are counted together."""
    often = [[answer] for answer, p in law.items() if p * num_draws >= 5]
    seldom = [answer for answer, p in law.items() if p * num_draws < 5]
    joined = num_draws * math.fsum(law[answer] for answer in seldom) >= 1
    return [*often, seldom] if joined else often
