"""Both of vLLM's interfaces, driven by hand on CPU tensors, decide as the segmenters say."""

from functools import partial
from types import SimpleNamespace

import pytest
import torch
from runners import CONFIG, SENTINEL, TEXTS, Request, Tokenizer, run_v1, run_v2
from vllm import SamplingParams
from vllm.v1.sample.logits_processor import BatchUpdate

from rsalign import ConfigError, PolicyError
from rsalign.engines.reports import open_ticket, read_report
from rsalign.hooks import v1, v2
from rsalign.hooks.loading import add_hooks
from rsalign.hooks.segment_end.marks import MarkTable
from rsalign.hooks.shared.reports import ended_segment
from rsalign.segments import Entropy, LowConfidence, Punctuation

BOUNDARIES = [
    Entropy(1.9, 3),
    Punctuation(".?", 1.6, 2),
    Entropy(1.5, 5),
    None,
    LowConfidence(4, -1.62),
]
RUNS = {
    "v1": partial(run_v1, [v1.SegmentEnd], disturb=False),
    "v1 torn": partial(run_v1, [v1.SegmentEnd], disturb=True),
    "v2": partial(run_v2, [v2.SegmentEnd], disturb=False),
    "v2 torn": partial(run_v2, [v2.SegmentEnd], disturb=True),
}


@pytest.fixture(autouse=True)
def _vocabulary(monkeypatch):
    monkeypatch.setattr("vllm.tokenizers.cached_tokenizer_from_config", lambda config: Tokenizer())


@pytest.mark.parametrize("alike", [False, True])
@pytest.mark.parametrize("run", RUNS.values(), ids=RUNS)
def test_segments_end_where_the_segmenters_say(run, alike):
    """Where all rows ask the same, too, which is sent to the device once."""
    boundaries = BOUNDARIES[1:2] if alike else BOUNDARIES
    requests = [Request(i, boundaries[i % len(boundaries)]) for i in range(120)]
    run(requests)
    for request in requests:
        assert request.drawn == request.expected()
    ends = [len(r.drawn) for r in requests if r.boundary and r.drawn[-1] == SENTINEL]
    assert len(ends) > 60
    assert len(set(ends)) > 5


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("torn", [False, True])
@pytest.mark.parametrize("run", [run_v1, run_v2])
def test_the_entropy_at_the_end_is_reported_once(run, torn, late):
    """Even if it is read long after, when others have been in the request's place."""
    hook = v1.SegmentEnd if run is run_v1 else v2.SegmentEnd
    requests = [Request(i, BOUNDARIES[1 + i % 2], rsalign_report=f"{run}{i}") for i in range(90)]
    told = {}

    def read(request):
        ticket = request.params.extra_args["rsalign_report"]
        told[request] = read_report(ticket, len(request.drawn) - 1)
        assert read_report(ticket, len(request.drawn) - 1) is None

    run([hook], requests, disturb=torn, ended=(lambda request: None) if late else read)
    for request in requests:
        assert request.drawn == request.expected()
        if late:
            read(request)
        if request.drawn[-1] == SENTINEL:
            (entropy,) = told[request]["boundary_entropy"]
            assert entropy == pytest.approx(request.entropies[len(request.drawn) - 1], abs=1e-5)
    assert sum(request.drawn[-1] == SENTINEL for request in requests) > 30


@pytest.mark.parametrize("torn", [False, True])
@pytest.mark.parametrize("run", [run_v1, run_v2])
def test_the_report_tells_a_shared_sentinel_from_a_token_of_the_model_s(run, torn):
    """The model draws the sentinel, too; rows with a spare sentinel are in the same batch."""
    hook = v1.SegmentEnd if run is run_v1 else v2.SegmentEnd
    requests = [
        Request(i, BOUNDARIES[i % 3], shared=i % 4 > 0, rsalign_report=f"shared{run}{i}")
        for i in range(120)
    ]
    run([hook], requests, disturb=torn)
    seen = set()
    for request in requests:
        tokens, by_rule = request.outcome()
        assert request.drawn == tokens
        report = read_report(request.params.extra_args["rsalign_report"], len(tokens) - 1)
        if tokens[-1] == SENTINEL:
            assert ended_segment(report) == by_rule
            seen.add((request.shared, by_rule))
    assert seen == {(False, True), (True, True), (True, False)}


def test_a_lost_report_is_no_end_of_a_segment():
    for lost in (None, {"ended": [-float("inf")]}):
        with pytest.raises(PolicyError, match="has lost"):
            ended_segment(lost)


def test_any_marks_may_be_asked_for_and_few_are_kept(monkeypatch):
    """A client cannot fill the memory; whoever is in the batch keeps its own."""
    monkeypatch.setattr("rsalign.hooks.segment_end.marks._MAX_SETS", 4)
    marks = MarkTable(CONFIG.model_config, torch.device("cpu"))
    for number in range(40):
        asked = ["x.", "", f"{number}", "?", f"{number + 1}"]
        rows = marks.rows(asked)
        assert len(marks.values) <= 4 + 1 + len(asked)
        for wanted, row in zip(asked, rows, strict=True):
            has = [token for token, text in enumerate(TEXTS) if set(wanted) & set(text)]
            assert marks.values[row].nonzero()[:, 0].tolist() == has


def test_nobody_else_s_ticket_is_read():
    with open_ticket() as one, open_ticket() as other:
        assert one != other
        assert read_report(one, 0) is None


@pytest.mark.parametrize("name", v2.__all__)
def test_drafted_tokens_are_refused_when_an_engine_starts(name):
    """A request would have several rows; the first runner's vLLM refuses that by itself."""
    config = SimpleNamespace(**vars(CONFIG), speculative_config="ngram")
    with pytest.raises(ConfigError, match="without speculative decoding"):
        getattr(v2, name)(config, None)


@pytest.mark.parametrize("name", v2.__all__)
def test_sampling_that_workers_share_out_is_refused_when_an_engine_starts(name):
    """By the hooks of a server, and before rsalign builds an engine."""
    parallel = SimpleNamespace(enable_batch_sharded_sampling=True)
    config = SimpleNamespace(
        **vars(CONFIG) | {"model_config": SimpleNamespace(runner_type="generate")},
        parallel_config=parallel,
        speculative_config=None,
        use_v2_model_runner=True,
    )
    for refuse in (lambda: getattr(v2, name)(config, None), lambda: add_hooks(config)):
        with pytest.raises(ConfigError, match="enable_batch_sharded_sampling=True"):
            refuse()


def test_nothing_is_touched_when_nobody_asks():
    class Untouchable:
        pass

    for hook in (v1.SegmentEnd, v1.TokenStatistics, v1.Arithmetic):
        idle = hook(CONFIG, torch.device("cpu"), False)
        idle.update_state(BatchUpdate(1, [], [(0, SamplingParams(), [1], [])], []))
        logits = Untouchable()
        assert idle.apply(logits) is logits


@pytest.mark.parametrize("name", ["SegmentEnd", "TokenStatistics", "Arithmetic"])
@pytest.mark.parametrize("interface", [v1, v2])
def test_vllm_loads_the_class_by_its_path_and_hears_its_refusals(interface, name):
    from vllm.exceptions import VLLMValidationError
    from vllm.v1.sample.logits_processor import (
        validate_logits_processors_parameters as validate,
    )
    from vllm.v1.worker.gpu.sample.logits_processor import (
        build_custom_logits_processors_params_validator as build,
    )

    path = f"{interface.__name__}:{name}"
    check = build([path]) if interface is v2 else partial(validate, [path])
    with pytest.raises(VLLMValidationError, match="there are only"):
        check(SamplingParams(extra_args={"rsalign_treshold": 1}))
    with pytest.raises(VLLMValidationError, match="goes to the engine itself"):
        check(SamplingParams(extra_args={"rsalign": "best_of"}))
    check(SamplingParams(extra_args={"theirs": 1}))
