"""Grown models have the law of the small ones, and what cannot be grown is refused."""

import json

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from rsalign import ConfigError
from rsalign.bench.grown import count_parameters, grow
from rsalign.embedded import POLICY, REWARD


@pytest.mark.parametrize(
    ("model", "kind"),
    [(POLICY, AutoModelForCausalLM), (REWARD, AutoModelForSequenceClassification)],
)
def test_the_law_is_that_of_the_small_model(tmp_path, model, kind):
    grown = grow(model, 4_000_000, tmp_path)
    assert 2.5e6 < count_parameters(grown) < 6e6
    assert count_parameters(grown) > 2 * count_parameters(model)
    ids = torch.randint(3, 500, (3, 40), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        one, other = (kind.from_pretrained(each, dtype=torch.float32) for each in (model, grown))
        assert torch.allclose(one(ids).logits, other(ids).logits, atol=1e-4)
        assert other.config.num_hidden_layers > one.config.num_hidden_layers or (
            other.config.hidden_size > one.config.hidden_size
        )
    assert grow(model, 4_000_000, tmp_path) == grown


def test_what_cannot_be_grown(tmp_path):
    with pytest.raises(ConfigError, match="more than 1000 parameters"):
        grow(POLICY, 1000, tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gpt2"}))
    with pytest.raises(ConfigError, match="only the folder of a Llama checkpoint"):
        grow(str(tmp_path), 10**7, tmp_path)
