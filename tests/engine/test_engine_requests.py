"""Requests and results of engines, to vLLM's parameters and back; no engine is started."""

import math
from types import SimpleNamespace

import pytest
from vllm.logprobs import FlatLogprobs, Logprob

from rsalign import PolicyError, Sampling
from rsalign.engines.options import RequestOptions
from rsalign.engines.protocol import DrawRequest, ScoreRequest
from rsalign.engines.vllm.requests import (
    draw_result,
    pooling_params,
    sampling_params,
    score_result,
)

PROMPT = (3, 1, 4)
LOG_PROBS = {7: Logprob(-0.5, rank=1), 9: Logprob(-1.5, rank=2)}


def ask(**given):
    return DrawRequest(prompt=PROMPT, sampling=Sampling(), max_tokens=5, **given)


def output(logprobs, prompt_logprobs=None):
    drawn = SimpleNamespace(
        token_ids=[7, 9], logprobs=logprobs, text="ab", finish_reason="stop", stop_reason=9
    )
    return SimpleNamespace(outputs=[drawn], prompt_logprobs=prompt_logprobs, num_cached_tokens=2)


def test_log_probabilities_of_a_prompt_are_computed_and_not_read_from_the_cache():
    assert sampling_params(ask(prompt_log_probs=True)).skip_reading_prefix_cache
    assert sampling_params(ask()).skip_reading_prefix_cache is False
    known = [None, {1: Logprob(-2.0, rank=4)}, {4: Logprob(-3.0, rank=5), 8: Logprob(-1.0)}]
    first, *rest = draw_result(output(None, known), ask(prompt_log_probs=True)).prompt_log_probs
    assert first is None
    assert [(float(each), each.rank) for each in rest] == [(-2.0, 4), (-3.0, 5)]
    with pytest.raises(PolicyError, match="no log-probabilities of the prompt"):
        draw_result(output(None), ask(prompt_log_probs=True))


@pytest.mark.parametrize("told", [2, 3])
def test_a_prefix_that_is_not_asked_for_may_come_from_the_cache(told):
    """The engine tells nothing of the 2 cached tokens, or puts anything there."""
    assert not sampling_params(ask(prompt_log_probs=True, scored_from=2)).skip_reading_prefix_cache
    rows = [None, {99: Logprob(math.nan)}, {PROMPT[2]: Logprob(-3.0, rank=5)}][-told:]
    far = ask(prompt_log_probs=True, scored_from=2)
    assert draw_result(output(None, rows), far).prompt_log_probs is None  # 2 cached: one too many
    near = output(None, rows)
    near.num_cached_tokens = 1
    *before, last = draw_result(near, far).prompt_log_probs
    assert (before, float(last)) == ([None, None], -3.0)


def test_a_result_has_the_log_probabilities_of_the_drawn_tokens():
    flat = FlatLogprobs()
    for token in (7, 9):
        flat.append({token: LOG_PROBS[token]})
    result = draw_result(output(flat), ask(num_log_probs=0))
    assert (result.tokens, result.log_probs, result.listed) == ((7, 9), (-0.5, -1.5), None)
    assert (result.text, result.finish_reason, result.stop_reason) == ("ab", "stop", 9)
    assert result.num_cached_tokens == 2
    listing = ask(options=RequestOptions(num_logprobs=2))
    listed = draw_result(output([LOG_PROBS, LOG_PROBS]), listing)
    assert (listed.log_probs, listed.listed) == ((-0.5, -1.5), (LOG_PROBS, LOG_PROBS))
    assert draw_result(output(None), ask()).log_probs is None


def test_parameters_carry_what_hooks_and_stops_need():
    request = ask(hook_arguments={"rsalign_marks": "."}, stop_token_ids=(12,), stop=("x",), seed=5)
    params = sampling_params(request)
    assert (params.extra_args, params.stop_token_ids) == ({"rsalign_marks": "."}, [12])
    assert (params.stop, params.detokenize, params.seed) == (["x"], True, 5)
    assert not sampling_params(ask()).detokenize


def test_scores_of_a_sequence_and_of_each_token():
    import torch

    def pooled(data):
        return SimpleNamespace(outputs=SimpleNamespace(data=data), num_cached_tokens=None)

    whole, each = ScoreRequest(tokens=PROMPT), ScoreRequest(tokens=PROMPT, each_token=True)
    assert score_result(pooled(torch.tensor([0.25])), whole).scores == ((0.25,),)
    rows = score_result(pooled(torch.tensor([[0.25], [0.5]])), each)
    assert (rows.scores, rows.num_cached_tokens) == (((0.25,), (0.5,)), 0)
    assert (pooling_params(whole).task, pooling_params(each).task) == ("classify", "token_classify")
    fresh = ScoreRequest(tokens=PROMPT, each_token=True, read_cache=False)
    assert pooling_params(fresh).skip_reading_prefix_cache
