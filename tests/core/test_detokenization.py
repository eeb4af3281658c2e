"""Texts are those of vLLM's own detokenizer, for every kind of tokenizer, prompt and response."""

import asyncio
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_tokenizers import ALL, TEXTS, UNSEEN, byte_level, in_python, llama, unigram
from vllm import SamplingParams
from vllm.v1.engine import EngineCoreRequest
from vllm.v1.engine.detokenizer import IncrementalDetokenizer

from rsalign import Aligner, FixedSize, Key, Plain, Prompt, Run, Sampling, Stop
from rsalign.aligner.stream import StreamedText, TextEvent
from rsalign.core.text.detokenization import Word, detokenizer, token_text
from rsalign.core.text.response_text import response_text
from rsalign.core.types import Message, Response, Segment
from rsalign.policies.tokenization import Tokenization
from rsalign.rewards.steps import Steps
from rsalign.segments.acceptance import HardAcceptance
from rsalign.segments.thresholds import Constant
from rsalign.strategies.cards import Cards

kinds = pytest.mark.parametrize("make", ALL, ids=lambda make: make.__name__)


def of_vllm(tokenizer, prompt, tokens, *, stop=(), by_token=False):
    """The text of a finished request, all tokens at once or one by one (vLLM does both)."""
    request = EngineCoreRequest(
        request_id="",
        prompt_token_ids=list(prompt),
        mm_features=None,
        sampling_params=SamplingParams(stop=list(stop)),
        pooling_params=None,
        arrival_time=0.0,
        lora_request=None,
        cache_salt=None,
        data_parallel_rank=None,
    )
    made = IncrementalDetokenizer.from_new_request(tokenizer, request)
    found = made.update(list(tokens), by_token)
    return made.get_next_output_text(finished=True, delta=False), found


@st.composite
def responses(draw, tokenizer):
    """Prompts and responses: pieces of texts, cut anywhere, with any tokens among them."""
    encoded = [tokenizer.encode(text, add_special_tokens=False) for text in (*TEXTS, UNSEEN)]
    any_token = st.integers(0, len(tokenizer) - 1)

    def some(least):
        tokens = draw(st.sampled_from(encoded))
        start = draw(st.integers(0, len(tokens) - 1))
        tokens = tokens[start : start + draw(st.integers(least, 12))]
        others = draw(st.lists(any_token, max_size=3))
        at = draw(st.integers(0, len(tokens)))
        return [*tokens[:at], *others, *tokens[at:]]

    prompt = some(1)
    if draw(st.booleans()):
        prompt = [tokenizer.bos_token_id, *prompt]
    if draw(st.integers(0, 4)) == 0:
        prompt = [tokenizer.bos_token_id]  # which has no text
    return tuple(prompt), tuple(some(0))


@kinds
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_it_is_vllms_text_however_it_is_read(make, data):
    tokenizer = make()
    prompt, tokens = data.draw(responses(tokenizer))
    expected, _ = of_vllm(tokenizer, prompt, tokens)
    reader, read, left = detokenizer(tokenizer, prompt), "", tokens
    while left:
        size = data.draw(st.integers(1, len(left)))
        read += reader.read(left[:size])
        assert expected.startswith(read)  # what is there is never taken back
        left = left[size:]
    assert read == expected


@kinds
@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_the_end_of_a_response_is_no_text(make, data):
    """The token that ended it, whatever it says; a stop string; half a character."""
    tokenizer = make()
    policy = Reading(Tokenization(tokenizer, 100))
    prompt, tokens = data.draw(responses(tokenizer))
    if not tokens:
        return
    for stop, reason in ((Stop.EOS, None), (Stop.STOP, tokens[-1])):
        text = response_text(policy, prompt, tokens, stop=stop, stop_reason=reason)
        assert text == of_vllm(tokenizer, prompt, tokens, by_token=True)[0]
    whole = response_text(policy, prompt, tokens)
    if len(whole) > 1:
        start = data.draw(st.integers(0, len(whole) - 1))
        string = whole[start : start + data.draw(st.integers(1, 4))]
        expected, found = of_vllm(tokenizer, prompt, tokens, stop=[string])
        assert found == string
        text = response_text(policy, prompt, tokens, stop=Stop.STOP, stop_reason=string)
        assert text == expected == whole[: whole.index(string)]


@dataclass(frozen=True)
class Reading:
    """A policy that answers what it is told to, in the words of a tokenizer."""

    tokenization: Tokenization
    answer: tuple[int, ...] = ()
    sampling: Sampling = field(default_factory=Sampling)

    async def extend(self, prefix, *, max_new_tokens, key, boundary=None):
        begun = next(
            n
            for n in range(len(self.answer), -1, -1)
            if prefix[len(prefix) - n :] == self.answer[:n]
        )
        left = self.answer[begun:]
        size = min(max_new_tokens, boundary.max_tokens if boundary else max_new_tokens)
        if len(left) > size:
            stop = Stop.BOUNDARY if size < max_new_tokens else Stop.LENGTH
            return Segment(left[:size], None, stop)
        return Segment(left, None, Stop.EOS)

    def text(self, tokens):
        return self.tokenization.text(tokens)

    def detokenizer(self, prompt):
        return self.tokenization.detokenizer(prompt)

    def token_text(self, token):
        return self.tokenization.token_text(token)

    def encode(self, text):
        return self.tokenization.encode(text)

    def encode_chat(self, messages, **how):
        return self.tokenization.encode_chat(messages, **how)


def cards(size):
    """Segments, every one of them taken."""
    return Cards(
        segmenter=FixedSize(size),
        threshold=Constant(value=-1.0),
        acceptance=HardAcceptance(),
        max_tokens=99,
    )


ANSWER = " Ann has 3 apples 🦊 and 中文.\nTom"


@pytest.mark.parametrize("strategy", [Plain(max_tokens=99), cards(1), cards(3)], ids=repr)
@kinds
def test_outputs_rewards_and_streams_have_the_same_text(make, strategy):
    tokenizer = make()
    answer = (*tokenizer.encode(ANSWER.strip(), add_special_tokens=False), tokenizer.eos_token_id)
    policy, heard = Reading(Tokenization(tokenizer, 999), answer), []

    def reward(prompt, response):
        heard.append(response)
        return 1.0

    async def streamed(aligner):
        events = [event async for event in aligner.astream("Question:")]
        return [event.text for event in events if isinstance(event, TextEvent)]

    with Aligner(policy, reward, strategy) as aligner:
        (output,) = aligner.generate("Question:", use_tqdm=False)
        pieces = asyncio.run(streamed(aligner))
    expected, _ = of_vllm(tokenizer, output.prompt_token_ids, answer, by_token=True)
    assert output.outputs[0].text == expected == heard[-1] == "".join(pieces)
    assert all(expected.startswith(text) for text in heard)


def test_a_first_space_is_kept_where_there_is_one():
    """What was wrong: the space before the first word, and with it what a function reads."""
    for make in (llama, unigram):
        tokenizer = make()
        answer = tuple(tokenizer.encode("Ann has 3", add_special_tokens=False))
        assert tokenizer.decode(answer) == "Ann has 3"
        policy = Reading(Tokenization(tokenizer, 99))
        prompt = tuple(tokenizer.encode("Say: ", add_special_tokens=False))
        assert response_text(policy, prompt, answer) == " Ann has 3" == policy.text(answer)
        assert response_text(policy, (tokenizer.bos_token_id,), answer) == "Ann has 3"


@kinds
def test_stop_strings_across_segments_are_found(make):
    """At any place of the answer, as vLLM finds them in a response that is drawn at once."""
    tokenizer = make()
    answer = tuple(tokenizer.encode(ANSWER.strip(), add_special_tokens=False))
    asked = Prompt((Message("user", "x"),), tuple(tokenizer.encode("Ann 🧿 said:")))
    whole, _ = of_vllm(tokenizer, asked.tokens, answer)
    for start in range(0, len(whole) - 3, 2):
        stop = ("never", whole[start : start + 3])
        policy = Reading(Tokenization(tokenizer, 999), answer, Sampling(stop=stop))
        expected, found = of_vllm(tokenizer, asked.tokens, answer, stop=stop)
        for size in (1, 2, 5):
            run = Run(policy, Zero(), Key(0))
            response = asyncio.run(cards(size).sample(asked, run)).response
            assert (response.text, response.stop_reason) == (expected, found)


class Zero:
    async def score(self, prompt, response):
        return 0.0


@dataclass
class Recording:
    """A step reward that remembers where steps end."""

    ends: list[int]

    async def score_steps(self, prompt, response, ends):
        self.ends.extend(ends)
        return tuple(0.0 for _ in ends)


@kinds
def test_steps_end_where_their_text_does(make):
    """Also after a prompt without text, where the response has lost a space."""
    tokenizer = make()
    tokens = tuple(tokenizer.encode("Ann has 3.\nTom has 12 🍎.\nyes", add_special_tokens=False))
    policy = Reading(Tokenization(tokenizer, 999))
    for prompt in ((tokenizer.bos_token_id,), tuple(tokenizer.encode("Say:"))):
        text = response_text(policy, prompt, tokens)
        recording = Recording([])
        steps = Steps(recording, policy.text)
        asyncio.run(steps.score(Prompt((), prompt), Response(tokens, text, None)))
        lines = [response_text(policy, prompt, tokens[:end]) for end in recording.ends]
        begun = ["".join(text.splitlines(keepends=True)[: i + 1]) for i in range(len(lines))]
        assert [line.rstrip() for line in lines] == [part.rstrip() for part in begun]


@kinds
def test_a_token_alone_has_its_space(make):
    tokenizer = make()
    word = Word.of(tokenizer)
    assert len(word.tokens) == (make is not in_python)  # there each byte is a token
    tokens = tokenizer.encode("apples Ann", add_special_tokens=False)
    texts = [token_text(tokenizer, token, word) for token in tokens]
    assert "".join(texts).lstrip() == "apples Ann"
    assert sum(text.startswith(" ") for text in texts) >= 1
    assert token_text(tokenizer, tokenizer.eos_token_id, word) == ""


def test_a_request_within_a_character_has_no_stop_strings():
    """vLLM would find them in the prefix; `Run.draft` finds those of the response."""
    tokenizer = byte_level()
    tokens = tuple(tokenizer.encode("stop\n🦊 go", add_special_tokens=False))
    tokenization = Tokenization(tokenizer, 99)
    inside = [n for n in range(1, len(tokens)) if tokenizer.decode(tokens[:n]).endswith("\ufffd")]
    assert inside
    for n in range(1, len(tokens)):
        expected = () if n in inside else ("stop",)
        assert tokenization.engine_stops(tokens[:n], ("stop",)) == expected
    # the fault itself: the whole prefix is taken for the response's text
    assert of_vllm(tokenizer, tokens[: inside[-1]], tokens[inside[-1] :])[0].startswith("stop\n🦊")


def test_reading_is_not_quadratic():
    """A token is looked at once, whatever came before: work is counted, not timed."""
    seen = []

    class Counting:
        def read(self, tokens):
            seen.append(len(tokens))
            return "x" * len(tokens)

    pieces = StreamedText(Counting(), ("never",))
    for _ in range(500):
        pieces.add((1,))
    assert sum(seen) == 499  # the newest is held back
