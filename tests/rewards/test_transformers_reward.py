"""Reward models in transformers: their classes, arguments, outputs and inputs, by plain torch."""

import asyncio
import io
import json
import sys

import pytest
import torch
from reward_checkpoints import (
    ARMO,
    GROUPED,
    VALUE_HEAD,
    tokenizer,
    write,
    write_config,
    write_encoder,
    write_own_code,
)
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from rsalign import ConfigError, Message, Prompt, Response, Stop
from rsalign.core.tasks import concurrently
from rsalign.embedded import POLICY, REWARD
from rsalign.rewards.classifier import TransformersReward
from rsalign.words.parts import reward_from
from rsalign.words.read import read_table

ASKED = Prompt((Message("user", "First 4 + 5, then 9 times 2."),), (1,))
ANSWERS = [
    Response((1,), text, stop)
    for text in ("4 + 5 = 9", "First 4 + 5 = 9\nthen 9 times 2 = 18\nAnswer: 18", "no", "")
    for stop in (Stop.EOS, Stop.LENGTH)
]


@pytest.fixture
def start():
    """Starts rewards, and closes them in the end."""
    started = []

    def one(folder, **settings):
        started.append(TransformersReward(str(folder), **settings))
        return started[-1]

    yield one
    for reward in started:
        reward.close()


def scores(reward, answers=ANSWERS):
    """In one batch; each is the same alone."""

    async def main():
        together = await concurrently(reward.score(ASKED, answer) for answer in answers)
        alone = [await reward.score(ASKED, answer) for answer in answers]
        assert list(together) == pytest.approx(alone, abs=1e-4)
        return alone

    return asyncio.run(main())


def ids(answer, tokenizer=tokenizer):
    """What transformers makes of the conversation, by the template as it is."""
    messages = [{"role": "user", "content": ASKED.messages[0].content}]
    messages.append({"role": "assistant", "content": answer.text})
    found = tokenizer().apply_chat_template(messages, tokenize=True, return_dict=False)
    return found if answer.finished else found[:-1]  # the template ends a turn by one token


@torch.inference_mode()
def logits(model, answer, *after):
    inputs = torch.tensor([[*ids(answer), *after]])
    return model(input_ids=inputs, attention_mask=torch.ones_like(inputs))


def test_labels(start, tmp_path):
    model = write(tmp_path, "Llama", num_labels=3, **GROUPED)
    write_config(tmp_path, id2label={"0": "rude", "1": "kind", "2": "long"})
    with pytest.raises(ConfigError, match=r"num_labels=3 \(0: 'rude', 1: 'kind', 2: 'long'\)"):
        start(tmp_path)
    rows = [logits(model, answer).logits[0].tolist() for answer in ANSWERS]
    assert scores(start(tmp_path, label="kind")) == pytest.approx([r[1] for r in rows], abs=1e-4)
    odds = scores(start(tmp_path, label={"log_odds": ["kind", "rude"]}))
    assert odds == pytest.approx([row[1] - row[0] for row in rows], abs=1e-4)
    marks = {start(tmp_path, label=label).fingerprint for label in (0, 1, [0, 1, 0])}
    assert len(marks) == 2


def test_a_configuration_without_a_number_of_labels(start, tmp_path):
    model = write(tmp_path, "Llama", **GROUPED)
    write_config(tmp_path, id2label=None, label2id=None, num_labels=None)
    right = [logits(model, answer).logits[0, 0].item() for answer in ANSWERS]
    assert scores(start(tmp_path)) == pytest.approx(right, abs=1e-4)


def test_a_model_without_a_head_is_refused(start):
    with pytest.raises(ConfigError, match=r"no weights for score\.weight, which would be random"):
        start(POLICY, label=0)


def test_a_model_with_a_score_of_its_own(start, tmp_path):
    """The layout of ArmoRM: several rewards, and one score that it makes of them."""
    name = "LlamaForRewardModelWithGating"
    auto = "AutoModelForSequenceClassification"
    model = write_own_code(tmp_path, ARMO, name, auto=auto, num_labels=4)
    rows = [logits(model, answer) for answer in ANSWERS]
    own = {"trust_remote_code": True}
    right = [row.score.item() for row in rows]
    assert scores(start(tmp_path, **own)) == pytest.approx(right, abs=1e-4)
    right = [row.rewards[0, 2].item() for row in rows]
    assert scores(start(tmp_path, label="LABEL_2", **own)) == pytest.approx(right, abs=1e-4)
    right = [(row.rewards[0] * torch.tensor([1, 0, 0.5, -1])).sum().item() for row in rows]
    weighted = start(tmp_path, label=[1, 0, 0.5, -1], **own)
    assert scores(weighted) == pytest.approx(right, abs=1e-4)


def test_a_value_head_at_a_token_of_its_own(start, tmp_path):
    """The layout of InternLM2's reward models: AutoModel, and a token after the conversation."""
    model = write_own_code(
        tmp_path,
        VALUE_HEAD,
        "LlamaForRewardModel",
        auto="AutoModel",
        num_labels=1,
        reward_token_id=9,
    )
    right = [logits(model, answer, 9).logits.item() for answer in ANSWERS]
    assert scores(start(tmp_path, trust_remote_code=True)) == pytest.approx(right, abs=1e-4)
    with pytest.raises(ConfigError, match=r"own code \(AutoModel\): give trust_remote_code=True"):
        start(tmp_path)


def test_code_of_a_model_is_never_asked_about(start, tmp_path, monkeypatch):
    auto = "AutoModelForSequenceClassification"
    write_own_code(tmp_path, ARMO, "LlamaForRewardModelWithGating", auto=auto, num_labels=4)
    stdin = io.StringIO("y\n" * 9)
    monkeypatch.setattr(sys, "stdin", stdin)
    with pytest.raises(ConfigError, match="trust_remote_code=True"):
        start(tmp_path)
    assert stdin.tell() == 0


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"no_such_argument": 1}, "no_such_argument"),
        ({"dtype": "float31"}, "float31"),
        ({"attn_implementation": "lazy"}, "lazy"),
    ],
)
def test_what_transformers_refuses(start, settings, said):
    with pytest.raises(ConfigError, match=f"transformers cannot load .*{said}"):
        start(REWARD, **settings)


def test_a_missing_model(start):
    with pytest.raises(ConfigError, match="transformers cannot load /no/such/model"):
        start("/no/such/model")


def test_arguments_reach_the_model(start):
    eager = start(REWARD, attn_implementation="eager")
    assert eager.model.config._attn_implementation == "eager"
    usual = start(REWARD)
    assert usual.model.config._attn_implementation == "sdpa"
    assert eager.fingerprint == usual.fingerprint
    assert scores(eager) == pytest.approx(scores(usual), abs=1e-4)
    assert start(REWARD, dtype="bfloat16").fingerprint != usual.fingerprint


def test_a_cap_on_attention_logits(start, tmp_path):
    """Gemma 2's; only eager attention has it."""
    sizes = {**GROUPED, "head_dim": 32, "initializer_range": 0.8}
    write(tmp_path, "Gemma2", attn_logit_softcapping=0.5, **sizes)
    read = AutoModelForSequenceClassification.from_pretrained
    eager = read(tmp_path, attn_implementation="eager", dtype=torch.float32).eval()
    right = [logits(eager, answer).logits.item() for answer in ANSWERS]
    assert scores(start(tmp_path)) == pytest.approx(right, abs=1e-4)
    wrong = scores(start(tmp_path, attn_implementation="sdpa"))
    assert max(abs(a - b) for a, b in zip(wrong, right, strict=True)) > 1e-3


ENCODERS = {
    "DebertaV2": {
        "types": 1,
        "relative_attention": True,
        "pos_att_type": ["c2p", "p2c"],
        "position_biased_input": False,
    },
    "Bert": {"types": 2},
    "Roberta": {"types": 1},
    "ModernBert": {"types": 1},
}


@pytest.mark.parametrize("family", ENCODERS)
def test_encoders_read_pairs(start, tmp_path, family):
    model = write_encoder(tmp_path, family, **ENCODERS[family])
    pairs = AutoTokenizer.from_pretrained(tmp_path)
    reward = start(tmp_path)
    with torch.inference_mode():
        right = [
            model(**pairs(ASKED.text, answer.text, return_tensors="pt")).logits.item()
            for answer in ANSWERS
        ]
    assert scores(reward) == pytest.approx(right, abs=1e-4)
    if family == "Bert":  # the model hears which text is which
        plain = pairs(ASKED.text, ANSWERS[0].text, return_tensors="pt")
        plain["token_type_ids"] *= 0
        assert abs(model(**plain).logits.item() - right[0]) > 1e-3


def test_separators_in_a_pair_are_characters(start, tmp_path):
    write_encoder(tmp_path, "Bert", types=2)
    reward = start(tmp_path)
    separator = reward.rendering.tokenizer.sep_token_id
    written = Response((1,), "a <|reserved_1|> b", Stop.EOS)
    assert reward.rendering.tokens(ASKED, written).count(separator) == 2


def test_an_encoder_with_a_chat_template_reads_conversations(start, tmp_path):
    model = write_encoder(tmp_path, "ModernBert", template=True)
    right = [logits(model, answer).logits.item() for answer in ANSWERS]
    assert scores(start(tmp_path)) == pytest.approx(right, abs=1e-4)


def test_a_decoder_without_a_chat_template(start, tmp_path):
    model = write(tmp_path, "Llama", **GROUPED)
    (tmp_path / "chat_template.jinja").unlink()
    with pytest.raises(ConfigError, match="has no chat template: give chat_template="):
        start(tmp_path)
    own = start(tmp_path, chat_template=tokenizer().chat_template)
    right = [logits(model, answer).logits.item() for answer in ANSWERS]
    assert scores(own) == pytest.approx(right, abs=1e-4)


def test_every_door_takes_the_label(tmp_path):
    model = write(tmp_path, "Llama", num_labels=2, **GROUPED)
    write_config(tmp_path, id2label={"0": "rude", "1": "kind"})
    row = logits(model, ANSWERS[0]).logits[0].tolist()
    odds, folder = {"log_odds": "kind"}, str(tmp_path)
    asked = [
        (("transformers", {"model": folder, "label": odds}), row[1] - row[0]),
        (({"name": "transformers", "model": folder, "label": odds}, {}), row[1] - row[0]),
        (("transformers", {"model": folder, "label.rude": "-2"}), -2 * row[0]),
        (("transformers", {"model": folder, "label": "0"}), row[0]),
        (("transformers", {"model": folder, "label": [0.5, 0.5]}), sum(row) / 2),
    ]
    flags = ["label=kind", f"model={folder}", "attn_implementation=eager"]
    asked.append((("transformers", read_table(flags, "--reward-arg")), row[1]))
    flags = [f"label={json.dumps(odds)}", f"model={folder}"]
    asked.append((("transformers", read_table(flags, "--reward-arg")), row[1] - row[0]))
    for (given, reward_args), right in asked:
        reward = reward_from(given, reward_args)
        assert asyncio.run(reward.score(ASKED, ANSWERS[0])) == pytest.approx(right, abs=1e-4)
        reward.close()
