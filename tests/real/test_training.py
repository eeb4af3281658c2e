"""Frozen layers, trained layers and the checkpoint made of both are one model."""

import shutil

import pytest
import torch
from transformers import AutoTokenizer, LlamaForSequenceClassification

from eval.real.features import Trunk
from eval.real.objectives import Polarity, Preference
from eval.real.texts import Pair, Review, Text
from eval.real.top import Top
from eval.real.train import Examples, Recipe, train
from rsalign.core.key import Key
from rsalign.embedded import POLICY

DEPTH = 2
OPENS = 4
"""Tokens of a prompt."""


@pytest.fixture
def body(tmp_path):
    """A Llama with few layers, where a trained model lies."""
    shutil.copytree(POLICY, tmp_path / "policy")
    (tmp_path / "policy" / "LICENSE").touch()
    return str(tmp_path / "policy")


def text(word, length):
    tokens = (5, 6, 7, 8, *[word] * length, 9)
    return Text(tokens, OPENS, OPENS + length)


def reviews(num, good=20, bad=30):
    return [
        Review("", text(good if index % 2 else bad, 8 + index % 5), bool(index % 2))
        for index in range(num)
    ]


def test_the_checkpoint_scores_as_the_trained_layers_do(body, tmp_path):
    torch.manual_seed(0)
    top = Top(body, DEPTH).eval()
    torch.nn.init.normal_(top.score.weight)
    for layer in top.model.layers:  # not those of the body
        torch.nn.init.normal_(layer.mlp.down_proj.weight, std=0.05)
    examples = Examples(reviews(6), Polarity(), Trunk(body, DEPTH, tmp_path / "states"))
    check = examples.check(top)
    top.save(body, tmp_path / "reward", {"figures": 1})
    whole = LlamaForSequenceClassification.from_pretrained(tmp_path / "reward").eval()
    assert whole.config.num_labels == 1
    assert AutoTokenizer.from_pretrained(tmp_path / "reward").chat_template
    whole.config.pad_token_id = None
    for (review,), finished, opened in zip(
        examples.texts, check.finished, check.opened, strict=True
    ):
        with torch.inference_mode():
            ends = [
                float(whole(torch.tensor([review.tokens[:end]])).logits)
                for end in (len(review.tokens), review.end)
            ]
        # the frozen layers ran in bfloat16
        assert [*finished, *opened] == pytest.approx(
            ends, abs=0.05 * float(torch.tensor(ends).abs().max())
        )


def test_states_are_read_again_and_belong_to_their_texts(body, tmp_path):
    texts = [review.text.tokens for review in reviews(5)]
    trunk = Trunk(body, DEPTH, tmp_path / "states")
    first = trunk.states(texts)
    assert [len(state) for state in first] == [len(tokens) for tokens in texts]
    [alone] = trunk.states(texts[3:4])
    assert torch.allclose(alone.float(), first[3].float(), rtol=0.05, atol=0.05)
    [file, _] = sorted((tmp_path / "states").iterdir(), key=lambda one: -one.stat().st_size)
    changed = file.stat().st_mtime_ns
    again = Trunk(body, DEPTH, tmp_path / "states").states(texts)
    assert all(map(torch.equal, first, again))
    assert file.stat().st_mtime_ns == changed
    other = Trunk(body, DEPTH + 1, tmp_path / "states").states(texts)
    assert not any(map(torch.equal, first, other))


@pytest.mark.parametrize("objective", [Polarity(), Preference()], ids=["reviews", "pairs"])
def test_training_learns_what_can_be_learned(objective, body, tmp_path):
    examples = reviews(24)
    if isinstance(objective, Preference):
        examples = [
            Pair(good.text, bad.text)
            for bad, good in zip(examples[::2], examples[1::2], strict=True)
        ]
    read = Examples(examples, objective, Trunk(body, DEPTH, tmp_path / "states"))
    top = Top(body, DEPTH)
    before = read.check(top.eval())
    recipe = Recipe(epochs=4, batch_size=4, learning_rate=1e-3, head_learning_rate=1e-2)
    top, log = train(top, read, read, recipe, Key(0))
    after = read.check(top)
    assert before.loss == pytest.approx(0.693, abs=0.001)
    assert after.loss < 0.2
    assert after.loss == pytest.approx(min(one["tuning_loss"] for one in log))
    assert read.accuracy(after.finished) == read.accuracy(after.opened) == 1
