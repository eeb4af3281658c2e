"""Each layout of process reward models against what its model card computes, step by step.

The references use plain transformers and torch, and nothing of the package. The policy's tokens
are characters, so that its vocabulary differs from that of every model here.
"""

import asyncio
from contextlib import closing

import pytest
import torch
from safetensors.torch import load_file
from step_checkpoints import build_step_model
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
    Qwen2Model,
)

from rsalign import ConfigError, Message, Prompt, Response, RewardError, Stop
from rsalign.core.tasks import concurrently
from rsalign.policies.vllm import VllmPolicy
from rsalign.rewards.implicit_steps import ImplicitStepReward
from rsalign.rewards.process import VllmStepReward
from rsalign.rewards.step_classifier import TransformersStepReward
from rsalign.rewards.step_layouts import STEP_LAYOUTS
from rsalign.rewards.steps import Steps

pytestmark = pytest.mark.engine

SMALL = {"kv_cache_memory_bytes": 64 << 20, "backend": "in_process"}
QUESTIONS = ("Ann has 12 coins. How many are 3 + 4?", "What is 9 - 2 of it, in words?")
ANSWERS = (
    ("First 12 + 7 = 19 .", "So é has\nhalf - 3", "Then 19 - 3 = 16"),
    ("One",),
    ("9 - 2 = 7", "Next 7 + 7 = 14", "It is 14 .", "\N{SLIGHTLY SMILING FACE} 14"),
)
CASES = [(question, answer) for question in QUESTIONS for answer in ANSWERS]
EOS = 0x10FFFF


def decode(tokens):
    return "".join(chr(token) for token in tokens if token != EOS)


def ask(question):
    return Prompt((Message("user", question),), (1,))


def respond(text, *, finished=False):
    tokens = tuple(map(ord, text)) + ((EOS,) if finished else ())
    return Response(tokens, text, Stop.EOS if finished else Stop.BOUNDARY)


def steps_of(answer, layout):
    """The steps of an answer as the layout has them: some lines are steps of their own."""
    return [part for step in answer for part in step.split(STEP_LAYOUTS[layout].split)]


# What the model cards do.


def rendered(tokenizer, *said):
    messages = [
        {"role": role, "content": content}
        for role, content in zip(("user", "assistant") * len(said), said, strict=False)
    ]
    return tokenizer.apply_chat_template(messages, tokenize=False)


def qwen(path, question, steps):
    """Softmax of two labels at every separator."""
    tokenizer, weights = AutoTokenizer.from_pretrained(path), load_file(f"{path}/model.safetensors")
    body = Qwen2Model.from_pretrained(path, dtype=torch.float32).eval()
    text = rendered(tokenizer, question, "<extra_0>".join(steps) + "<extra_0>")
    ids = torch.tensor([tokenizer.encode(text, add_special_tokens=False)])
    hidden = body(ids).last_hidden_state
    inner = torch.relu(hidden @ weights["score.0.weight"].T + weights["score.0.bias"])
    logits = inner @ weights["score.2.weight"].T + weights["score.2.bias"]
    at = ids[0] == tokenizer.encode("<extra_0>", add_special_tokens=False)[0]
    return logits.softmax(-1)[0, at, 1].tolist()


def shepherd(path, question, steps):
    """The probability of + against - after every step tag."""
    tokenizer = AutoTokenizer.from_pretrained(path)
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()
    good, bad = (tokenizer.encode(text, add_special_tokens=False)[-1] for text in "+-")
    tag = tokenizer.encode("ки", add_special_tokens=False)[-1]
    text = f"{question} " + "\n".join(f"{step} ки" for step in steps)
    ids = torch.tensor([[1, *tokenizer.encode(text, add_special_tokens=False)]])
    scores = model(ids).logits[:, :, [good, bad]].softmax(-1)[:, :, 0]
    return scores[ids == tag].tolist()


def rlhflow(path, question, steps):
    """One pass for each step: the probability of + where the assistant's answer begins."""
    tokenizer = AutoTokenizer.from_pretrained(path)
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()
    good, bad = (tokenizer.encode(text, add_special_tokens=False)[-1] for text in "+-")
    said, values = [], []
    for i, step in enumerate(steps):
        said += [f"{question} {step}" if i == 0 else step, "+"]
        text = rendered(tokenizer, *said)
        ids = torch.tensor([tokenizer.encode(text, add_special_tokens=False)])
        # the last ids are the answer + and the end of the turn; the one before them tells the next
        values.append(model(ids).logits[0, -3, [good, bad]].softmax(-1)[0].item())
    return values


def skywork(path, question, steps):
    """The sigmoid of the value head at a line break after each step, tokenized on their own."""
    tokenizer, weights = AutoTokenizer.from_pretrained(path), load_file(f"{path}/model.safetensors")
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()
    ids = tokenizer.encode(tokenizer.bos_token + question + "\n", add_special_tokens=False)
    flags = [0] * len(ids)
    line_break = tokenizer.encode("\n", add_special_tokens=False)[-1]
    for step in steps:
        own = [*tokenizer.encode(step, add_special_tokens=False), line_break]
        ids, flags = ids + own, flags + [0] * (len(own) - 1) + [1]
    hidden = model(torch.tensor([ids]), output_hidden_states=True).hidden_states[-1][0]
    values = hidden @ weights["v_head.summary.weight"].T + weights["v_head.summary.bias"]
    return values[torch.tensor(flags) == 1, 0].sigmoid().tolist()


def trl(path, question, steps):
    """What PRMTrainer trains: the second of two labels at the separator after each step."""
    tokenizer = AutoTokenizer.from_pretrained(path)
    model = AutoModelForTokenClassification.from_pretrained(path, dtype=torch.float32).eval()
    ids = [tokenizer.bos_token_id, *tokenizer.encode(question, add_special_tokens=False)]
    ends = []
    for step in steps:
        ids += tokenizer.encode(step, add_special_tokens=False)
        ids += tokenizer.encode("\n", add_special_tokens=False)
        ends.append(len(ids) - 1)
    return model(torch.tensor([ids])).logits[0, ends].softmax(-1)[:, 1].tolist()


def raw(path, question, steps):
    """The logit of a one-label model at the end of each line."""
    tokenizer = AutoTokenizer.from_pretrained(path)
    model = AutoModelForSequenceClassification.from_pretrained(path, dtype=torch.float32).eval()
    text = "\n".join(steps)
    opened = tokenizer.apply_chat_template(
        [{"role": "user", "content": question}], tokenize=False, add_generation_prompt=True
    )
    ids = tokenizer.encode(opened + text, add_special_tokens=False)
    logits = model.score(model.model(torch.tensor([ids])).last_hidden_state)[0, :, 0]
    parts = [opened + "\n".join(steps[:k]) + "\n" for k in range(1, len(steps))] + [opened + text]
    return [logits[len(tokenizer.encode(p, add_special_tokens=False)) - 1].item() for p in parts]


KINDS = {
    "raw": ("one_label", raw),
    "qwen2.5-math-prm": ("process", qwen),
    "math-shepherd": ("causal", shepherd),
    "rlhflow": ("causal", rlhflow),
    "skywork-o1-prm": ("value_head", skywork),
    "trl": ("token_labels", trl),
}
"""The checkpoint of each layout, and what its card computes."""
IN_VLLM = [name for name in KINDS if name != "skywork-o1-prm"]
IN_TRANSFORMERS = [name for name in KINDS if name != "qwen2.5-math-prm"]


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    """A checkpoint of each kind, built when it is asked for."""
    built = {}

    def path(layout):
        kind = KINDS[layout][0]
        if kind not in built:
            built[kind] = build_step_model(kind, tmp_path_factory.mktemp(kind))
        return built[kind]

    return path


@pytest.fixture(scope="module", params=[*IN_VLLM, *(f"{name} hf" for name in IN_TRANSFORMERS)])
def model(request, paths):
    """The name of a layout, and a step reward of it."""
    layout, _, hf = request.param.partition(" ")
    if hf:
        reward = TransformersStepReward(paths(layout), decode, layout=layout)
    else:
        reward = VllmStepReward.start(paths(layout), decode=decode, layout=layout, **SMALL)
    yield layout, reward
    reward.close()


def values_of(reward, question, response):
    steps = Steps(reward, decode)
    ends = steps.find_ends(ask(question), response)
    return asyncio.run(reward.score_steps(ask(question), response, ends))


@torch.inference_mode()
def card(paths, layout, question, answer):
    return KINDS[layout][1](paths(layout), question, steps_of(answer, layout))


def test_values_are_those_of_the_card(model, paths):
    layout, reward = model
    separator = STEP_LAYOUTS[layout].split
    for question, answer in CASES:
        right = card(paths, layout, question, answer)
        for finished in (False, True):
            response = respond(separator.join(answer), finished=finished)
            assert values_of(reward, question, response) == pytest.approx(right, abs=1e-4)
    assert len(set(right)) == len(right), "steps of equal value prove nothing"


def test_a_value_does_not_depend_on_later_steps(model):
    """Also where the line breaks after a step are still to come."""
    layout, reward = model
    separator = STEP_LAYOUTS[layout].split
    question, answer = QUESTIONS[1], ANSWERS[2]
    whole = values_of(reward, question, respond(separator.join(answer), finished=True))
    for k in range(1, len(answer)):
        begun = separator.join(answer[:k])
        for text in (begun + separator, begun + separator + "An op"):
            values = values_of(reward, question, respond(text))[:k]
            assert values == pytest.approx(whole[:k], abs=1e-4)
        if layout != "raw":  # which reads the line break itself
            values = values_of(reward, question, respond(begun))
            assert values == pytest.approx(whole[:k], abs=1e-4)


def test_alone_and_among_others(model, paths):
    layout, reward = model
    separator = STEP_LAYOUTS[layout].split
    asked = [(q, a, respond(separator.join(a))) for q, a in CASES]
    steps = Steps(reward, decode)

    async def together():
        return await concurrently(
            reward.score_steps(ask(q), r, steps.find_ends(ask(q), r)) for q, _, r in asked
        )

    for (question, answer, _), values in zip(asked, asyncio.run(together()), strict=True):
        assert values == pytest.approx(card(paths, layout, question, answer), abs=1e-4)
        assert values[-1].tokens >= 0


def test_an_answer_without_text(model):
    _, reward = model
    assert len(values_of(reward, QUESTIONS[0], Response((EOS,), "", Stop.EOS))) == 1
    assert asyncio.run(reward.score_steps(ask(QUESTIONS[0]), respond("a"), ())) == ()


def test_steps_join_as_the_layout_says(model, paths):
    layout, reward = model
    question, answer = CASES[2]
    right = card(paths, layout, question, answer)
    joined = {
        "last": right[-1],
        "min": min(right),
        "mean": sum(right) / len(right),
        "product": torch.tensor(right, dtype=torch.float64).log().sum().item()
        if layout != "raw"
        else torch.nn.functional.logsigmoid(torch.tensor(right)).sum().item(),
    }
    response = respond(STEP_LAYOUTS[layout].split.join(answer))
    for aggregate in (None, "last", "min", "mean", "product"):
        value = asyncio.run(Steps(reward, decode, aggregate).score(ask(question), response))
        expected = joined[aggregate or STEP_LAYOUTS[layout].aggregate]
        assert value == pytest.approx(expected, abs=1e-3)


def test_a_long_answer_names_the_context(model):
    _, reward = model
    with pytest.raises(RewardError, match="context has 512"):
        values_of(reward, QUESTIONS[0], respond("12 + 7 = 19 " * 100))


# Two models.


@torch.inference_mode()
def log_ratio(paths, question, steps, *, finished):
    """The log-ratio of the answer's tokens up to the end of each step, times 0.001."""
    tokenizer = AutoTokenizer.from_pretrained(paths[0])
    models = [AutoModelForCausalLM.from_pretrained(p, dtype=torch.float32).eval() for p in paths]
    opened = tokenizer.apply_chat_template(
        [{"role": "user", "content": question}], tokenize=False, add_generation_prompt=True
    )
    text = rendered(tokenizer, question, "\n\n".join(steps))
    ids = torch.tensor([tokenizer.encode(text, add_special_tokens=False)])
    of_tokens = [
        model(ids).logits[0, :-1].log_softmax(-1).gather(1, ids[0, 1:, None])[:, 0]
        for model in models
    ]
    ratio = 0.001 * (of_tokens[0] - of_tokens[1])

    def length(said):
        return len(tokenizer.encode(opened + said, add_special_tokens=False))

    begins = length("") - 1
    inner = [length("\n\n".join(steps[:k]) + "\n\n") - 1 for k in range(1, len(steps))]
    # the token that ends the turn counts where it was drawn
    last = length("\n\n".join(steps)) - 1 + finished
    return [ratio[begins:end].sum().item() for end in (*inner, last)]


def test_a_log_ratio_is_that_of_transformers(tmp_path_factory):
    folders = [tmp_path_factory.mktemp("causal") for _ in range(2)]
    paths = [build_step_model("causal", folder, seed=i) for i, folder in enumerate(folders)]
    with (
        closing(VllmPolicy.start(paths[0], **SMALL)) as tuned,
        closing(VllmPolicy.start(paths[1], **SMALL)) as base,
    ):
        reward = ImplicitStepReward(tuned, base, decode)
        for question, answer in CASES:
            for finished in (False, True):
                response = respond("\n\n".join(answer), finished=finished)
                right = log_ratio(paths, question, list(answer), finished=finished)
                values = values_of(reward, question, response)
                assert values == pytest.approx(right, abs=1e-6, rel=1e-4)
        whole = values_of(reward, question, response)
        for k in range(1, len(answer)):
            cut = respond("\n\n".join(answer[:k]) + "\n\n")
            assert values_of(reward, question, cut) == pytest.approx(whole[:k], abs=1e-6)
        with pytest.raises(ConfigError, match="head='labels'"):
            ImplicitStepReward(tuned, base, decode, STEP_LAYOUTS["raw"])
