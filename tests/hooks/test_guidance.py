"""What requests may ask of guides, how engines are told of them, and the rule on tensors."""

from types import SimpleNamespace

import pytest
import torch

from rsalign import ConfigError, Sampling
from rsalign.aligner.parameters import read_sampling, refuse_unsupported
from rsalign.hooks.guided.request import (
    Guide,
    check_guidance,
    read_guidance,
    read_guides,
    start_arguments,
    write_guidance,
)
from rsalign.hooks.guided.rule import add_rewards
from rsalign.hooks.loading import add_hooks
from rsalign.hooks.shared.arguments import is_guidance
from rsalign.strategies.plain import Plain
from rsalign.words.read import read_flat
from rsalign.words.request import requested

ALPHA = "rsalign_guided_alpha"


def config(**arguments):
    return SimpleNamespace(
        additional_config=arguments.get("additional_config", {}),
        model_config=SimpleNamespace(
            runner_type="generate", logits_processors=arguments.get("logits_processors")
        ),
        speculative_config=None,
    )


@pytest.mark.parametrize(
    ("asked", "alphas"),
    [
        (None, ()),
        ({"rsalign": "best_of", "rsalign_n": 3}, ()),
        ({ALPHA: 0.5}, (0.5,)),
        ({f"{ALPHA}_0": 2}, (2.0,)),
        ({f"{ALPHA}_2": -1.5, ALPHA: 1}, (1.0, 0.0, -1.5)),
        ({ALPHA: 0, f"{ALPHA}_1": 0.0}, ()),
    ],
)
def test_weights_of_a_request(asked, alphas):
    assert read_guidance(asked) == alphas
    assert read_guidance(write_guidance(alphas)) == alphas


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({ALPHA: "1"}, "='1': give a number"),
        ({ALPHA: True}, "give a number"),
        ({ALPHA: None}, "give a number"),
        ({ALPHA: float("nan")}, "between -1000 and 1000"),
        ({f"{ALPHA}_1": float("inf")}, "between -1000 and 1000"),
        ({ALPHA: 1, f"{ALPHA}_0": 1}, "are the same"),
        ({f"{ALPHA}_999999999999": 1}, "never more than 64 guides"),
    ],
)
def test_wrong_weights_are_refused(asked, says):
    with pytest.raises(ConfigError, match=says):
        read_guidance(asked)


def test_keys_that_are_not_for_guides():
    assert is_guidance(ALPHA)
    assert is_guidance(f"{ALPHA}_12")
    for other in ("rsalign", "rsalign_guided", f"{ALPHA}_", f"{ALPHA}_01", f"{ALPHA}_x"):
        assert not is_guidance(other)


def test_an_engine_is_told_of_its_guides():
    mine = {"seed": 3, "additional_config": {"other": 1}, "logits_processors": ["a:B"]}
    arguments = start_arguments(["org/one", Guide("two", "policy")], mine)
    assert arguments["additional_config"]["other"] == arguments["seed"] - 2 == 1
    engine = config(**arguments)
    add_hooks(engine)
    loaded = ["rsalign.hooks.v1:Guided", "a:B", "rsalign.hooks.v1:TokenStatistics"]
    last = ["rsalign.hooks.v1:SegmentEnd", "rsalign.hooks.v1:Arithmetic"]
    assert engine.model_config.logits_processors == [*loaded, *last]
    assert read_guides(engine) == (Guide("org/one"), Guide("two", "policy"))
    ends = config(additional_config=arguments["additional_config"], logits_processors=last[:1])
    add_hooks(ends)
    assert ends.model_config.logits_processors == [loaded[0], loaded[2], *last]
    assert start_arguments((), mine) == mine
    by_hand = config(additional_config={"rsalign_guides": ["one", {"model": "two"}]})
    assert read_guides(by_hand) == (Guide("one"), Guide("two"))
    check_guidance(Sampling(guidance=(0.5, 1.0)), engine)
    check_guidance(Sampling(guidance=(0.0,)), config())
    for alphas, other in [((1.0, 1.0, 1.0), engine), ((1.0,), config()), ((1.0,), by_hand)]:
        with pytest.raises(ConfigError, match="guides; start it with"):
            check_guidance(Sampling(guidance=alphas), other)
    with pytest.raises(ConfigError, match=r"repetition_penalty=1\.5 has no meaning"):
        check_guidance(Sampling(guidance=(1.0,), repetition_penalty=1.5), engine)
    with pytest.raises(ConfigError, match="guides has 3"):
        start_arguments([3], {})
    with pytest.raises(ConfigError, match="a list of models"):
        read_guides(config(additional_config={"rsalign_guides": [{"path": "x"}]}))


def test_guidance_is_part_of_the_law_and_not_of_the_strategy():
    from vllm import SamplingParams

    params = SamplingParams(extra_args={ALPHA: 0.5, "rsalign_max_tokens": 7})
    asked = read_flat(params.extra_args)
    assert (asked.max_tokens, requested(asked, Plain())) == (7, Plain())
    assert read_sampling(params).guidance == (0.5,)
    assert read_sampling(params).reshapes
    assert not Sampling(guidance=(0.0,)).reshapes
    refuse_unsupported(SamplingParams(extra_args={ALPHA: 0.5}))
    with pytest.raises(ConfigError, match="extra_args"):
        refuse_unsupported(params)
    with pytest.raises(ConfigError, match="guidance"):
        Sampling(guidance=(float("inf"),))


def test_the_rule():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(5, 7, generator=generator)
    logits[3, 2] = -float("inf")
    rewards = torch.randn(2, 3, 6, generator=generator).log_softmax(-1)
    alphas = torch.tensor([[0.5, -1.0, 0.0], [2.0, 0.25, 0.0]])
    rows = torch.tensor([3, 0, 2])
    guided = logits.clone()
    add_rewards(guided, rows, alphas, rewards)
    assert torch.equal(guided[[1, 4]], logits[[1, 4]])
    for i, row in enumerate(rows.tolist()):
        weight = logits[row, :6].double().softmax(-1)
        for alpha, reward in zip(alphas[:, i], rewards[:, i], strict=True):
            weight = weight * reward.double().exp() ** alpha.double()
        law = torch.cat([weight / weight.sum(), torch.zeros(1, dtype=torch.double)])
        torch.testing.assert_close(guided[row].double().softmax(-1), law, atol=1e-6, rtol=1e-5)
    assert guided[3].softmax(-1)[2] == 0
