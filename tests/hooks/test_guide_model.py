"""A guide reads each token once, and its laws are those of the model without any cache."""

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, MistralConfig

from rsalign import ConfigError
from rsalign.embedded import STRONG
from rsalign.hooks.guided.guide_model import Context, GuideModel

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def model():
    return AutoModelForCausalLM.from_pretrained(STRONG, dtype=torch.float32).eval()


@pytest.fixture
def guide(model):
    return GuideModel(model)


def tokens(seed, count):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(10, 490, (count,), generator=generator).tolist()


def right(guide, model, contexts):
    """Draws nothing: asks for the laws, and compares them with those of whole sequences."""
    laws = guide.log_probs(contexts)
    for law, context in zip(laws, contexts, strict=True):
        with torch.inference_mode():
            whole = model(torch.tensor([context.since(0)])).logits[0, -1].log_softmax(-1)
        torch.testing.assert_close(law, whole, atol=2e-5, rtol=1e-5)
    return True


def test_requests_of_different_lengths_that_come_and_go(guide, model):
    """Whatever is in the batch, in whatever order, and whoever is left out of a step."""
    chance = torch.Generator().manual_seed(1)
    open_, number = [], 0
    for step in range(40):
        while len(open_) < 4:
            number += 1
            open_.append(Context(tokens(number % 3, 3 + 11 * (number % 5)), []))
        taking_part = [context for context in open_ if torch.rand((), generator=chance) < 0.8]
        if taking_part:
            assert right(guide, model, taking_part)
        for context in taking_part:
            context.drawn.append(int(torch.randint(10, 490, (), generator=chance)))
        if step % 5 == 4:
            guide.leave(open_.pop(step % len(open_)))
        open_.reverse()


def test_a_token_costs_the_same_at_any_position(guide, model):
    contexts = [Context(tokens(seed, 5 + 40 * seed), []) for seed in range(3)]
    guide.log_probs(contexts)
    assert guide.num_read == sum(map(len, contexts))
    for _ in range(60):
        before = guide.num_read
        for context in contexts:
            context.drawn.append(tokens(len(context), 1)[0])
        guide.log_probs(contexts)
        assert guide.num_read - before == len(contexts)
    assert right(guide, model, contexts)


def test_what_is_asked_again_costs_one_token(guide, model):
    """A prompt that is computed in parts, or a step that is done twice."""
    context = Context(tokens(0, 30), [])
    first = guide.log_probs([context])
    assert guide.num_read == 30
    torch.testing.assert_close(guide.log_probs([context]), first, atol=1e-5, rtol=1e-5)
    assert guide.num_read == 31


def test_answers_to_one_prompt_read_it_once(guide, model):
    prompt = tokens(0, 50)
    contexts = [Context(list(prompt), []) for _ in range(8)]
    assert right(guide, model, contexts)
    assert guide.num_read == 50 + 7


def test_a_segment_costs_its_own_tokens(guide, model):
    """Each is a new request, whose prompt is what was kept; and so is one that was preempted."""
    kept = tokens(0, 40)
    for _ in range(4):
        contexts = [Context(list(kept), []) for _ in range(2)]
        for i in range(6):
            assert right(guide, model, contexts)
            for j, context in enumerate(contexts):
                context.drawn.append(tokens(2 * (len(kept) + i) + j, 1)[0])
        for context in contexts:
            guide.leave(context)
        kept += contexts[0].drawn
    # the first token of a segment is known, but its law is that of a new request
    assert guide.num_read <= 40 + 4 * 2 * (6 + 1)


def test_as_many_are_remembered_as_were_ever_open(guide, model):
    for seed in range(12):
        contexts = [Context(tokens(2 * seed + i, 9), []) for i in range(2)]
        assert right(guide, model, contexts)
        for context in contexts:
            guide.leave(context)
            guide.leave(context)  # is nothing to one that has left
    assert len(guide._read) == 4


def test_models_that_cannot_guide(tmp_path):
    size = {
        "vocab_size": 20,
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "max_position_embeddings": 64,
    }
    LlamaForCausalLM(LlamaConfig(**size)).save_pretrained(tmp_path / "short")
    sliding = MistralConfig(**size, num_key_value_heads=2, sliding_window=8)
    AutoModelForCausalLM.from_config(sliding).save_pretrained(tmp_path / "sliding")
    how = {"dtype": torch.float32, "device": CPU}
    assert GuideModel.load(str(tmp_path / "short"), **how, max_length=64).vocab_size == 20
    with pytest.raises(ConfigError, match="reads 64 tokens, but a request may have 65"):
        GuideModel.load(str(tmp_path / "short"), **how, max_length=65)
    with pytest.raises(ConfigError, match="layers that forget"):
        GuideModel.load(str(tmp_path / "sliding"), **how, max_length=8)
