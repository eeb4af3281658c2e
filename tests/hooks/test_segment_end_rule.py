"""The rule on tensors against the segmenters' own words, and what a request may ask for."""

import math
from types import SimpleNamespace

import pytest
import torch

from rsalign import ConfigError, Sampling
from rsalign.hooks.segment_end.request import SegmentRequest, read_segment_request
from rsalign.hooks.segment_end.rule import (
    NO_TOKEN,
    STATE,
    LastTokens,
    Rules,
    add_to_mean,
    compute_entropies,
    decide_ends,
    end_segments,
)
from rsalign.hooks.segment_end.sentinel import Sentinel, Sentinels, choose_sentinel
from rsalign.segments import Entropy, FixedSize, LowConfidence, Punctuation
from rsalign.segments.segmenters import MOST

VOCAB, SENTINEL = 11, 7
ENTROPY = {"rsalign_entropy_threshold": 1.5, "rsalign_sentinel": SENTINEL}


def rules(*requests):
    kinds = [int(bool(request.marks)) for request in requests]
    return Rules.send(requests, kinds, torch.device("cpu"))


def marks(*tokens):
    table = torch.zeros(2, VOCAB + 1, dtype=torch.bool)
    table[1, list(tokens)] = True
    return table


def test_entropies():
    logits = torch.randn(50, 4000, generator=torch.Generator().manual_seed(1)) * 8 + 300
    logits[::3, ::2] = -math.inf
    logits[4, :] = 1.0
    logits[5] = torch.where(torch.arange(4000) == 9, 1e5, -1e5)
    law = logits.double().softmax(-1)
    exact = -torch.special.xlogy(law, law).sum(-1)
    assert compute_entropies(logits) == pytest.approx(exact, abs=2e-6)
    assert compute_entropies(logits)[4] == pytest.approx(math.log(4000), abs=1e-6)
    assert compute_entropies(logits).min() == compute_entropies(logits)[5] == 0


@pytest.mark.parametrize("boundary", [Entropy(1.0, min_tokens=3), Punctuation(".", 0.5, 3)])
def test_fires_where_the_segmenter_says(boundary):
    """`ends_after` a token is said one step later, before the next one."""
    request = read_segment_request(
        {**boundary.engine_arguments, "rsalign_sentinel": SENTINEL}, [SENTINEL]
    )
    for drawn in range(6):
        for entropy in (0.0, 0.5, 1.0, 2.0):
            for previous in (0.0, 0.5, 2.0):
                for last in (2, 5):
                    (fired,) = decide_ends(
                        torch.tensor([entropy]),
                        torch.tensor([drawn]),
                        rules(request),
                        torch.tensor([previous]),
                        LastTokens(torch.tensor([last]), marks(5)),
                    )
                    text = "a." if last == 5 else "a"
                    said = drawn > 0 and (
                        boundary.ends_before(drawn, entropy)
                        or boundary.ends_after(drawn, previous, text)
                    )
                    assert fired == said


def test_an_unknown_entropy_or_token_never_fires():
    """But where any entropy will do, an unknown one does not matter."""
    request = SegmentRequest(math.inf, 1, ".", 0.1, 1, SENTINEL)
    known, unknown = torch.tensor([3.0]), torch.tensor([-math.inf])
    one, mark = torch.tensor([1]), torch.tensor([5])
    asked, seen = rules(request), LastTokens(mark, marks(5))
    assert decide_ends(known, one, asked, known, seen)
    assert not decide_ends(known, one, asked, unknown, seen)
    assert not decide_ends(known, one, asked, known, LastTokens(torch.tensor([NO_TOKEN]), marks(5)))
    assert not decide_ends(known, one, asked, None, None)
    for any_entropy in (0.0, -5.0):
        asked = rules(SegmentRequest(math.inf, 1, ".", any_entropy, 1, SENTINEL))
        assert decide_ends(known, one, asked, unknown, seen)


@pytest.mark.parametrize("temperature", [0.01, 1.0, 100.0])
def test_the_sentinel_is_certain_or_impossible(temperature):
    logits = torch.randn(4, VOCAB, generator=torch.Generator().manual_seed(2))
    before, memory = logits.clone(), torch.full((5, *STATE), -math.inf)
    asked = [SegmentRequest(threshold, 1, "", 0.0, 1, SENTINEL) for threshold in (0.0, 99.0)]
    rows, slots, drawn = torch.tensor([1, 3]), torch.tensor([2, 4]), torch.tensor([1, 1])
    end_segments(
        logits, rows, slots, drawn, rules=rules(*reversed(asked)), last=None, memory=memory
    )
    law = (logits / temperature).softmax(-1)
    assert law[3].tolist() == [float(token == SENTINEL) for token in range(VOCAB)]
    assert (logits / temperature).log_softmax(-1)[3, SENTINEL] == 0
    assert law[1, SENTINEL] == 0
    others = torch.arange(VOCAB) != SENTINEL
    assert torch.equal(logits[:, others], before[:, others]), "the law of the tokens changed"
    assert torch.equal(logits[[0, 2]], before[[0, 2]]), "a row that did not ask was touched"
    assert torch.equal(memory[slots, 1, 0], compute_entropies(before)[rows])
    assert memory[slots, 1, 1].tolist() == [0, 1]


def test_a_shared_sentinel_keeps_its_probability_where_no_segment_ends():
    """Beside a row whose sentinel is spare, and selected from the rules of more rows."""
    logits = torch.randn(3, VOCAB, generator=torch.Generator().manual_seed(3))
    before, memory = logits.clone(), torch.full((3, *STATE), -math.inf)
    never, always = (SegmentRequest(x, 1, "", 0.0, 1, SENTINEL, shared=True) for x in (99.0, 0.0))
    spare = SegmentRequest(99.0, 1, "", 0.0, 1, SENTINEL)
    rows = torch.arange(3)
    asked = rules(spare, always, never, spare).select(torch.tensor([2, 1, 3]))
    end_segments(logits, rows, rows, torch.ones(3).long(), rules=asked, last=None, memory=memory)
    assert torch.equal(logits[0], before[0])
    assert logits.softmax(-1)[1, SENTINEL] == 1
    assert logits[2, SENTINEL] == -math.inf
    assert memory[:, 1, 1].tolist() == [0, 1, 0]


@pytest.mark.parametrize("window", [1, 2, 5])
def test_confidence_falls_where_the_segmenter_says(window):
    """Rows with different windows in one batch, beside one without; a step may be repeated."""
    rule = LowConfidence(window=window, below=-1.9)
    request = read_segment_request(
        {**rule.engine_arguments, "rsalign_sentinel": SENTINEL}, [SENTINEL]
    )
    other = read_segment_request(
        {**LowConfidence(3, -1.8).engine_arguments, "rsalign_sentinel": SENTINEL}, [SENTINEL]
    )
    never = SegmentRequest(math.inf, 1, "", 0.0, 1, SENTINEL)
    laws = torch.randn(12, VOCAB, generator=torch.Generator().manual_seed(window)) * 1.6
    entropies, memory = compute_entropies(laws).tolist(), torch.full((3, *STATE), -math.inf)
    watch, rows, ended = rule.begin_after(3), torch.arange(3), False
    for drawn in range(12):
        for _ in range(1 + drawn % 2):
            logits = laws[drawn].repeat(3, 1)
            end_segments(
                logits,
                rows,
                rows,
                torch.full((3,), drawn),
                rules=rules(request, other, never),
                last=None,
                memory=memory,
            )
        assert bool(logits[0, SENTINEL] > 0) == ended
        assert logits[2, SENTINEL] == -math.inf
        ended = watch.ends_after(drawn + 1, entropies[drawn], "a")


def test_a_mean_that_was_lost_begins_anew():
    unknown, entropy = torch.tensor([-math.inf, 1.0]), torch.tensor([2.0, 2.0])
    drawn, window = torch.tensor([7, 7]), torch.tensor([4, 4])
    assert add_to_mean(unknown, entropy, drawn, window).tolist() == [2.0, 1.25]


def test_a_step_done_twice_keeps_the_one_before_it():
    """A prompt in parts is seen once for each part, with the same number of tokens drawn."""
    request = SegmentRequest(math.inf, 1, ".", 1.0, 1, SENTINEL)
    memory = torch.full((1, *STATE), -math.inf)
    certain, uncertain = torch.eye(VOCAB)[:1] * 99, torch.zeros(1, VOCAB)

    def step(logits, drawn, last):
        logits, zero = logits.clone(), torch.tensor([0])
        end_segments(
            logits,
            zero,
            zero,
            torch.tensor([drawn]),
            rules=rules(request),
            last=LastTokens(torch.tensor([last]), marks(5)),
            memory=memory,
        )
        return bool(logits[0, SENTINEL] > 0)

    assert not step(certain, 0, NO_TOKEN)
    assert not step(uncertain, 0, NO_TOKEN)  # token 1 is drawn from this law
    assert step(certain, 1, 5)
    assert step(uncertain, 1, 5), "a repeated step forgot the entropy before it"
    assert step(certain, 2, 5)
    assert not step(certain, 3, 5)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"rsalign_treshold": 1.0}, "there are only rsalign_entropy_threshold"),
        ({"rsalign_entropy_threshold": math.nan}, "must be finite"),
        ({"rsalign_entropy_threshold": "1"}, "must be of type int or float"),
        ({"rsalign_entropy_min_tokens": 0}, "at least 1 token"),
        ({"rsalign_confidence_window": 0, "rsalign_confidence_below": -1.0}, "at least 1 token"),
        ({"rsalign_confidence_below": "low"}, "must be of type int or float"),
        ({"rsalign_entropy_min_tokens": True}, "must be of type int"),
        ({"rsalign_marks_min_entropy": math.inf}, "must be finite"),
        ({"rsalign_entropy_min_tokens": 2**63}, "give at most 2147483647"),
        ({"rsalign_marks_min_tokens": 2**31}, "give at most 2147483647"),
        ({"rsalign_entropy_threshold": 1e308}, "give at most 2147483647"),
        ({"rsalign_entropy_threshold": 10**400}, "give at most 2147483647"),
        ({"rsalign_marks_min_entropy": -1e39}, "give at most 2147483647"),
        ({"rsalign_arithmetic_seed": 2**63}, "give at most 9223372036854775807"),
        ({"rsalign_sentinel": 3}, "must be one of the request's stop_token_ids"),
        ({"rsalign_shared_sentinel": SENTINEL}, "exclude each other"),
    ],
)
def test_wrong_arguments_are_refused(wrong, says):
    with pytest.raises(ConfigError, match=says):
        read_segment_request(ENTROPY | wrong, [SENTINEL])


@pytest.mark.parametrize(
    "boundary",
    [
        Entropy(MOST, min_tokens=MOST, max_tokens=MOST),
        Entropy(-MOST),
        Punctuation(min_entropy=MOST, min_tokens=MOST, max_tokens=MOST),
    ],
)
def test_what_a_segmenter_takes_reaches_a_tensor(boundary):
    """One that a worker could not make would end its engine."""
    asked = {**boundary.engine_arguments, "rsalign_sentinel": SENTINEL}
    request = read_segment_request(asked, [SENTINEL])
    sent = Rules.send([request], [0], torch.device("cpu"))
    assert sent.threshold == request.threshold  # infinity where none is asked for
    assert sent.mark_entropy.isfinite()
    assert sent.min_tokens == request.min_tokens
    assert sent.mark_min_tokens == request.mark_min_tokens


def test_requests():
    assert read_segment_request(None, []) is None
    assert read_segment_request({"other": 1}, []) is None
    with pytest.raises(ConfigError, match="says not where"):
        read_segment_request({"rsalign_sentinel": SENTINEL}, [SENTINEL])
    with pytest.raises(ConfigError, match="must be one of"):
        read_segment_request({"rsalign_entropy_threshold": 1.0}, [SENTINEL])
    shared = {"rsalign_entropy_threshold": 1.0, "rsalign_shared_sentinel": SENTINEL}
    with pytest.raises(ConfigError, match="only the report tells"):
        read_segment_request(shared, [SENTINEL])
    with pytest.raises(ConfigError, match="rsalign_shared_sentinel=7: must be one of"):
        read_segment_request(shared | {"rsalign_report": "a"}, [2])
    assert read_segment_request(shared | {"rsalign_report": "a"}, [SENTINEL]).shared
    read = read_segment_request(ENTROPY, [2, SENTINEL], min_tokens=9)
    assert not read.shared
    assert (read.threshold, read.min_tokens, read.sentinel) == (1.5, 9, SENTINEL)
    # vLLM's own min_tokens holds for marks, too, whichever of both is greater
    for asked, least in ((4, 9), (12, 12)):
        marks = {**Punctuation(".", 0.5, asked).engine_arguments, "rsalign_sentinel": SENTINEL}
        assert read_segment_request(marks, [SENTINEL], min_tokens=9).mark_min_tokens == least


def tokenizer(names, *, size=100, template="", **roles):
    decoder = {t: SimpleNamespace(content=name, special=True) for t, name in names.items()}
    return type(
        "Tokenizer",
        (),
        {
            "__len__": lambda self: size,
            "added_tokens_decoder": decoder,
            "chat_template": template,
            "bos_token_id": 1,
            "eos_token_id": 2,
        }
        | roles,
    )()


@pytest.mark.parametrize(
    ("given", "vocab", "taken", "chosen"),
    [
        (tokenizer({2: "</s>", 8: "<|reserved_0|>", 9: "<|reserved_1|>", 5: "<pad>"}), 100, (), 9),
        (tokenizer({8: "<|reserved_0|>", 9: "<|reserved_1|>"}), 100, (9,), 8),
        (tokenizer({8: "<unused1>", 9: "<|reserved_1|>"}, template="<|reserved_1|>"), 100, (), 8),
        (tokenizer({3: "<pad>"}), 100, (), 3),
        (tokenizer({2: "<pad>"}), 128, (), 127),  # pad is EOS
        (tokenizer({7: "[control_8]", 5: "[IMG]"}), 100, (), 7),
        (tokenizer({7: "<|dummy_1|>", 8: "<|placeholder1|>", 9: "[control_9]"}), 100, (), 9),
        (tokenizer({0: "<unk>", 1: "<s>", 2: "</s>", 9: "<tool>"}), 100, (), 1),
        (tokenizer({0: "<unk>", 1: "<s>", 2: "</s>"}, template="{{'<s>'}}"), 100, (), 0),
        (tokenizer({1: "<s>", 4: "<tool>"}, template="<s><tool>"), 128, (), 127),
        (tokenizer({}, size=3, convert_ids_to_tokens=lambda _, i: ("a", None, "b")[i]), 3, (), 1),
        (tokenizer({9: "<padlock>"}), 100, (), 9),
        (tokenizer({120: "<|reserved_1|>"}), 100, (), None),  # the model has no logit for it
        (tokenizer({}), 128, (127,), 126),
        (tokenizer({2: "</s>"}), 100, (), None),
    ],
)
def test_the_sentinel_is_a_token_that_nobody_needs(given, vocab, taken, chosen):
    assert choose_sentinel(given, vocab, taken) == chosen


@pytest.mark.parametrize(
    ("law", "can_report", "chosen"),
    [
        (Sampling(), True, Sentinel(9, shared=False)),
        (Sampling(stop_token_ids=(9,)), True, Sentinel(2, shared=True)),
        (Sampling(stop_token_ids=(9,), ignore_eos=True), True, Sentinel(9, shared=True)),
        (Sampling(stop_token_ids=(9,)), False, None),
    ],
)
def test_a_spare_token_comes_before_one_that_responses_need(law, can_report, chosen):
    known = Sentinels.of(tokenizer({9: "<unused1>"}), 100, (2,))
    assert known.choose(law, can_report=can_report) == chosen


@pytest.mark.parametrize(
    ("law", "can_report", "chosen"),
    [
        (Sampling(), True, Sentinel(2, shared=True)),
        (Sampling(), False, Sentinel(1, shared=False)),
        (Sampling(ignore_eos=True), True, Sentinel(1, shared=False)),
        (Sampling(ignore_eos=True, stop_token_ids=(1,)), False, None),
    ],
)
def test_without_a_spare_token_a_report_saves_all_probability(law, can_report, chosen):
    known = Sentinels.of(tokenizer({1: "<s>", 2: "</s>"}), 100, (2,))
    assert known.choose(law, can_report=can_report) == chosen


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Entropy(math.nan),
        lambda: Entropy(1.0, min_tokens=0),
        lambda: Entropy(1.0, min_tokens=9, max_tokens=8),
        lambda: Punctuation(""),
        lambda: Punctuation(min_entropy=math.inf),
        lambda: Punctuation(min_tokens=65),
        lambda: FixedSize(0),
        lambda: FixedSize(MOST + 1),
        lambda: Entropy(1e308),
        lambda: Entropy(10**400),
        lambda: Entropy(1.0, min_tokens=2**63, max_tokens=2**63),
        lambda: Punctuation(min_entropy=-1e308),
        lambda: Punctuation(min_tokens=2**63, max_tokens=2**63),
    ],
)
def test_segmenters_refuse_what_cannot_be(wrong):
    with pytest.raises(ConfigError):
        wrong()
