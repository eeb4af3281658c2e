"""Entropy and self-certainty of each token, by the rule and by both of vLLM's interfaces."""

import math
from types import SimpleNamespace

import pytest
import torch
from runners import LENGTH, Request, Tokenizer, run_v1, run_v2
from vllm import SamplingParams

from rsalign import ConfigError, Sampling
from rsalign.engines.reports import is_unread, open_ticket, publish_report, read_report
from rsalign.hooks import loading, v1, v2
from rsalign.hooks.token_statistics.request import read_statistics_request, write_statistics_request
from rsalign.hooks.token_statistics.rule import compute_token_statistics
from rsalign.segments import Entropy, Punctuation

BOUNDARIES = [Entropy(1.9, 3), None, Punctuation(".?", 1.6, 2)]


@pytest.fixture(autouse=True)
def _vocabulary(monkeypatch):
    monkeypatch.setattr("vllm.tokenizers.cached_tokenizer_from_config", lambda config: Tokenizer())


def self_certainty(probs):
    """The published formula: -1/V sum_j ln(V p_j), over what is possible."""
    possible = probs[probs > 0]
    return float(-(len(possible) * possible).log().mean())


@pytest.mark.parametrize("vocab", [7, 504, 50_000])
def test_the_rule(vocab):
    logits = torch.randn(40, vocab, generator=torch.Generator().manual_seed(1)) * 6 + 100
    logits[::3, ::2] = -math.inf
    logits[1] = 5.0
    law = logits.double().softmax(-1)
    found = compute_token_statistics(logits)
    assert found.shape == (40, 2)
    assert found.dtype == torch.float32
    exact = -torch.special.xlogy(law, law).sum(-1)
    assert found[:, 0].tolist() == pytest.approx(exact.tolist(), abs=2e-6)
    certain = [self_certainty(probs) for probs in law]
    assert found[:, 1].tolist() == pytest.approx(certain, abs=2e-5)
    assert found[1].tolist() == pytest.approx([math.log(vocab), 0], abs=1e-5)


def test_a_place_is_not_given_away_while_it_is_read():
    """A request that is no longer awaited loses its place: the engine runs on another thread."""
    with open_ticket() as ticket:
        publish_report(ticket, lambda num_drawn: {"awaited": [float(is_unread(ticket))]})
        assert read_report(ticket, 1) == {"awaited": [1.0]}
        assert not is_unread(ticket)
        assert read_report(ticket, 1) is None


@pytest.mark.parametrize("width", [1, 32])
@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("torn", [False, True])
@pytest.mark.parametrize("run", [run_v1, run_v2])
def test_every_token_is_measured_and_no_logit_changed(monkeypatch, run, torn, late, width):
    """With preempted requests, and read at once or long after; next to the segment end.

    From any width of the memory, which grows.
    """
    module = v1 if run is run_v1 else v2
    monkeypatch.setattr(f"{module.TokenStatistics.__module__}.INITIAL_WIDTH", width)
    requests = [
        Request(i, BOUNDARIES[i % 3], **({"rsalign_statistics": f"{run}{i}"} if i % 4 else {}))
        for i in range(90)
    ]
    told = {}

    def read(request):
        if "rsalign_statistics" in (request.params.extra_args or {}):
            ticket = request.params.extra_args["rsalign_statistics"]
            told[request] = read_report(ticket, len(request.drawn) - 1)

    classes = [module.TokenStatistics, module.SegmentEnd]
    run(classes, requests, disturb=torn, ended=(lambda request: None) if late else read)
    for request in requests:
        assert request.drawn == request.expected()
        if late:
            read(request)
        if request in told:
            num = len(request.drawn)  # one more than was asked for: the law of the next token
            certainties = [self_certainty(probs) for probs in request.law]
            assert told[request]["entropies"] == pytest.approx(request.entropies[:num], abs=1e-5)
            assert told[request]["self_certainties"] == pytest.approx(certainties[:num], abs=1e-5)
    assert len(told) > 60


@pytest.mark.parametrize("hooks", [v1, v2])
def test_room_is_taken_for_what_is_drawn_and_not_for_what_may_be(hooks):
    """A thousand requests for ten thousand tokens each would else take gigabytes at once."""
    made = []

    class Hook(hooks.TokenStatistics):
        def __init__(self, *args):
            super().__init__(*args)
            made.append(self)

    request = Request(0, None, rsalign_statistics=f"room {hooks.__name__}")
    request.params.max_tokens = 1 << 20
    (run_v1 if hooks is v1 else run_v2)([Hook], [request], disturb=False)
    memory = made[0]._memory.values
    assert len(request.drawn) <= memory.shape[1] <= 2 * LENGTH + 32


def test_requests():
    assert read_statistics_request(SamplingParams()) is None
    assert read_statistics_request(SamplingParams(extra_args={"other": 1})) is None
    params = SamplingParams(extra_args={"rsalign_statistics": "t"}, max_tokens=5)
    assert read_statistics_request(params).ticket == "t"
    for wrong, says in (
        ({"extra_args": {"rsalign_statistics": 1}}, "must be of type str"),
        ({"extra_args": {"rsalign_statistics": ""}}, "give a ticket"),
        ({"extra_args": {"rsalign_statistics": "t"}, "n": 2}, "one request for each"),
        ({"extra_args": {"rsalign_statistic": "t"}}, "there are only"),
    ):
        with pytest.raises(ConfigError, match=says):
            read_statistics_request(SamplingParams(**wrong))


def config(*named, v2_runner=False):
    model = SimpleNamespace(
        logits_processors=list(named), runner_type="generate", return_sampling_mask=False
    )
    return SimpleNamespace(
        model_config=model, use_v2_model_runner=v2_runner, speculative_config=None
    )


FIRST, LAST = "rsalign.hooks.v1:TokenStatistics", "rsalign.hooks.v1:SegmentEnd"
CHOOSES = "rsalign.hooks.v1:Arithmetic"


@pytest.mark.parametrize(
    ("named", "loaded"),
    [
        ([], [FIRST, LAST]),
        (["their.own:Processor"], ["their.own:Processor", FIRST, LAST]),
        ([LAST, "their.own:Processor"], [FIRST, LAST, "their.own:Processor"]),
        ([LAST], [FIRST, LAST]),
        ([v1.SegmentEnd], [FIRST, v1.SegmentEnd]),
        ([v1.SegmentEnd, v1.TokenStatistics], [v1.SegmentEnd, v1.TokenStatistics]),
    ],
)
def test_what_measures_is_loaded_before_what_forces(named, loaded):
    started = config(*named)
    loading.add_hooks(started)
    assert started.model_config.logits_processors == [*loaded, CHOOSES]
    assert loading.measures_before_segment_end(started) == (FIRST in loaded)


def test_what_cannot_be_measured_is_refused():
    law = Sampling()
    assert write_statistics_request(config(FIRST, LAST), law, "t") == {"rsalign_statistics": "t"}
    with pytest.raises(ConfigError, match=r"--logits-processors rsalign\.hooks\.v2:Token"):
        write_statistics_request(config(FIRST, LAST, v2_runner=True), law, "t")
    with pytest.raises(ConfigError, match="before SegmentEnd changes them"):
        write_statistics_request(config(LAST, FIRST), law, "t")
    for hiding in (Sampling(logit_bias=((1, 1.0),)), Sampling(allowed_token_ids=(1,))):
        with pytest.raises(ConfigError, match="hides its own law"):
            write_statistics_request(config(FIRST), hiding, "t")
