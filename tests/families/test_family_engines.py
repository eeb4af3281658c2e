"""Every strategy, reward and way to end an answer, on the real engine of every family."""

import asyncio
import math
import statistics

import pytest

from rsalign import (
    BestOf,
    Cards,
    Constant,
    EarlyStop,
    Entropy,
    FixedSize,
    Message,
    Plain,
    Prompt,
    Punctuation,
    QAlign,
    Response,
    SelfCertainty,
    SoftAcceptance,
    Stop,
    TextEvent,
    WholeText,
)
from rsalign.core.tasks import concurrently
from tests.families.vllm_text import text_of_vllm

pytestmark = pytest.mark.engine

LENGTH = 12
TASKS = (
    [{"role": "user", "content": "How do you say 学生 in Swahili?"}],
    [
        {"role": "user", "content": "Two and two?"},
        {"role": "assistant", "content": "Four. 👩‍👩‍👧"},
        {"role": "user", "content": "And three?"},
    ],
)
MARKS = "aeiou.,"


def cards(segmenter, max_tokens=LENGTH):
    return Cards(
        segmenter=segmenter,
        threshold=Constant(value=0.5),
        acceptance=SoftAcceptance(beta=1.0),
        max_tokens=max_tokens,
        max_tries=3,
    )


BY_SIZE = {
    "Plain": Plain(max_tokens=LENGTH),
    "BestOf": BestOf(n=3, inner=Plain(max_tokens=LENGTH)),
    "Cards(FixedSize)": cards(FixedSize(3)),
    "QAlign": QAlign(steps=4, max_tokens=LENGTH, beta=1.0),
}
"""Whole answers, and segments of a given size, which need no hook."""
BY_HOOK = ("Cards(Entropy)", "Cards(Punctuation)", "EarlyStop(SelfCertainty)")
every_strategy = pytest.mark.parametrize("name", [*BY_SIZE, *BY_HOOK])


@pytest.fixture(scope="module")
def strategies(pair):
    """All of them; an uncertain place is one of the half that are most uncertain."""
    measured = pair.aligner.chat(
        TASKS,
        params(ignore_eos=True, max_tokens=32),
        strategy=Plain(measured=True),
        use_tqdm=False,
    )
    entropies = [
        entropy
        for output in measured
        for proposal in output.alignment.trace.proposals
        for entropy in proposal.candidate.response.certainty.entropies
    ]
    assert 0 < min(entropies) < max(entropies) <= math.log(pair.family.vocab_size) + 1e-4
    middle = statistics.median(entropies)
    by_hook = (
        cards(Entropy(middle, min_tokens=2, max_tokens=6)),
        cards(Punctuation(MARKS, min_entropy=0.5, min_tokens=2, max_tokens=6)),
        EarlyStop(
            n=4,
            at_least=2,
            batch=2,
            select=SelfCertainty(extract=WholeText()),
            inner=Plain(max_tokens=LENGTH),
        ),
    )
    return BY_SIZE | dict(zip(BY_HOOK, by_hook, strict=True))


def params(**given):
    from vllm import SamplingParams

    return SamplingParams(**{"max_tokens": LENGTH} | given)


def chat(pair, strategy, sampling, tasks=TASKS):
    return pair.aligner.chat(tasks, sampling, strategy=strategy, use_tqdm=False)


def engines_text(pair, output, **how):
    """The text that vLLM makes of an answer's tokens."""
    answer = output.outputs[0]
    ended = answer.finish_reason == "stop" and not isinstance(answer.stop_reason, str)
    return text_of_vllm(
        pair.tokenizer, output.prompt_token_ids, answer.token_ids, ended=ended, **how
    )


@every_strategy
def test_strategies_answer(pair, strategies, name):
    """With vLLM's text and the length that was asked for."""
    for output in chat(pair, strategies[name], params(ignore_eos=True)):
        (answer,) = output.outputs
        assert len(answer.token_ids) == LENGTH
        assert answer.finish_reason == "length"
        assert answer.text == engines_text(pair, output)


def test_strategies_hand_over_rewards_of_transformers(pair, strategies):
    """Of answers that were cut at their greatest length, which are open."""
    for strategy in strategies.values():
        outputs = chat(pair, strategy, params(ignore_eos=True))
        for task, output in zip(TASKS, outputs, strict=True):
            (answer,) = output.outputs
            expected = pair.reference.score(task, answer.text, Stop.LENGTH)
            if answer.reward is not None:
                assert answer.reward == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("name", ["Cards(Entropy)", "Cards(Punctuation)"])
def test_segments_end_where_the_rule_says(pair, strategies, name):
    """At marks, as the policy reads its tokens, and at no others; or where it is uncertain."""
    outputs = chat(pair, strategies[name], params(ignore_eos=True, n=4))
    segments = [
        proposal.candidate.tokens[proposal.kept :]
        for output in outputs
        for answer in output.outputs
        for proposal in answer.alignment.trace.proposals
        if proposal.candidate.response.stop is Stop.BOUNDARY
    ]
    assert all(2 <= len(segment) <= 6 for segment in segments)
    assert any(len(segment) < 6 for segment in segments)
    if name == "Cards(Entropy)":
        return
    for segment in segments:
        marks = [bool(set(pair.policy.token_text(token)) & set(MARKS)) for token in segment]
        assert not any(marks[1:-1])
        assert marks[-1] or len(marks) == 6


def test_every_end_of_the_model_ends_an_answer(pair):
    """As ``stop``, at once or after some text, of which it is no part."""
    words = pair.ids_of("学生 and 👩‍👩‍👧")
    for end in pair.ends:
        sampling = params(allowed_token_ids=sorted({*words, end}), temperature=2.0, n=6)
        reasons = set()
        for strategy in BY_SIZE.values():
            (output,) = chat(pair, strategy, sampling, TASKS[:1])
            for answer in output.outputs:
                reasons.add(answer.finish_reason)
                assert end not in answer.token_ids[:-1]
                if answer.finish_reason == "stop":
                    assert answer.token_ids[-1] == end
                else:
                    assert len(answer.token_ids) == LENGTH
                assert not any(special in answer.text for special in pair.family.ends)
            assert output.outputs[0].text == engines_text(pair, output)
        assert "stop" in reasons


def test_our_answers_are_vllms(pair):
    """Greedy decoding of conversations and of plain text; with every end allowed and preferred."""
    for sampling in (
        params(temperature=0),
        params(temperature=0, logit_bias=dict.fromkeys(pair.ends, 6.0)),
        params(temperature=0, ignore_eos=True, allowed_token_ids=pair.ids_of("学生 👩‍👩‍👧 é")),
    ):
        own = pair.llm.chat(list(TASKS), sampling, use_tqdm=False)
        ours = pair.aligner.chat(TASKS, sampling, use_tqdm=False)
        texts = ["Ann has 3 apples.", "学生たち 👩‍👩‍👧"]
        own += pair.llm.generate(texts, sampling, use_tqdm=False)
        ours += pair.aligner.generate(texts, sampling, use_tqdm=False)
        for one, other in zip(own, ours, strict=True):
            assert other.prompt_token_ids == one.prompt_token_ids
            answer, expected = other.outputs[0], one.outputs[0]
            assert list(answer.token_ids) == list(expected.token_ids)
            assert answer.text == expected.text
            assert answer.finish_reason == expected.finish_reason
            # vLLM names those of the model's ends that its tokenizer does not call its end
            named = None if expected.stop_reason in pair.ends else expected.stop_reason
            assert answer.stop_reason == named


def test_a_stop_string_of_several_tokens_ends_an_answer(pair):
    """A character that most tokenizers spell by its bytes, and that segments cut in pieces."""
    some = [token for token in set(pair.ids_of("学龘")) if pair.policy.token_text(token) != " "]
    sampling = params(
        allowed_token_ids=sorted(some),
        temperature=2.0,
        ignore_eos=True,
        stop=["龘"],
        max_tokens=64,
        n=16,
    )
    reasons = set()
    for strategy in BY_SIZE.values():
        (output,) = chat(pair, strategy, sampling, TASKS[:1])
        for answer in output.outputs:
            reasons.add(answer.stop_reason)
            assert "龘" not in answer.text
            assert answer.stop_reason == ("龘" if answer.finish_reason == "stop" else None)
            if answer.finish_reason == "length":
                assert len(answer.token_ids) == 64
    assert "龘" in reasons


@every_strategy
def test_a_stream_has_the_text_of_the_answer(pair, strategies, name):
    """Whose pieces are never taken back."""

    async def streamed():
        pieces = [""]
        events = pair.aligner.astream("学生 👩‍👩‍👧:", params(), strategy=strategies[name])
        async for event in events:
            if isinstance(event, TextEvent):
                pieces.append(event.text)
        return "".join(pieces)

    (output,) = pair.aligner.generate(
        "学生 👩‍👩‍👧:", params(), strategy=strategies[name], use_tqdm=False
    )
    assert asyncio.run(streamed()) == output.outputs[0].text


@pytest.mark.parametrize("text", ["学生たち、한국어 ☕", "👩‍👩‍👧 🇨🇭 é e\N{COMBINING ACUTE ACCENT}"])
def test_text_comes_back_whole(pair, text):
    """A grammar makes the engine write it; strategies that draw whole answers hand it over."""
    from vllm.sampling_params import StructuredOutputsParams

    only = params(max_tokens=96, structured_outputs=StructuredOutputsParams(choice=[text]))
    own = pair.llm.chat(list(TASKS), only, use_tqdm=False)
    if {output.outputs[0].text for output in own} != {text}:
        pytest.skip("vLLM's grammars do not work with this tokenizer")
    whole = Plain(max_tokens=96)
    for strategy in (whole, BestOf(n=2, inner=whole)):
        ours = chat(pair, strategy, only)
        assert {output.outputs[0].text for output in ours} == {text}


TOOL = {
    "type": "function",
    "function": {
        "name": "count",
        "description": "Counts.",
        "parameters": {"type": "object", "properties": {"upto": {"type": "integer"}}},
    },
}
OPTIONS = {
    "llama3_2": [{"chat_template_kwargs": {"date_string": "01 Jan 2025"}}, {"tools": [TOOL]}],
    "qwen2_5": [{"tools": [TOOL]}],
    "qwen3": [{"chat_template_kwargs": {"enable_thinking": False}}, {"tools": [TOOL]}],
    "mistral_nemo": [{"tools": [TOOL]}],
    "mistral_v3": [{"tools": [TOOL]}],
    "mistral_tekken": [{"tools": [TOOL]}],
    "gptoss": [{"chat_template_kwargs": {"reasoning_effort": "high"}}],
}


def test_options_of_the_template_reach_it(pair):
    """As they do through `LLM.chat`."""
    if pair.family.name not in OPTIONS:
        pytest.skip("its template has no options")
    greedy = params(temperature=0, max_tokens=3)
    plain = pair.llm.chat(list(TASKS), greedy, use_tqdm=False)
    for options in OPTIONS[pair.family.name]:
        own = pair.llm.chat(list(TASKS), greedy, use_tqdm=False, **options)
        ours = pair.aligner.chat(TASKS, greedy, use_tqdm=False, **options)
        for one, other, without in zip(own, ours, plain, strict=True):
            assert other.prompt_token_ids == one.prompt_token_ids != without.prompt_token_ids
            assert other.outputs[0].text == one.outputs[0].text


CONVERSATIONS = {
    "one turn": TASKS[0],
    "three turns": TASKS[1],
    "system": [{"role": "system", "content": "Be kind."}, *TASKS[0]],
}
ANSWERS = (
    "Four.",
    "  four \n",
    "学生たち 👩‍👩‍👧",
    "One.\n\nTwo <b>",
    "<think>\nhm\n</think>\n\nFour.",
)


@pytest.mark.parametrize("conversation", CONVERSATIONS)
def test_rewards_are_those_of_transformers(pair, conversation):
    """Of finished answers and of open ones."""
    messages = CONVERSATIONS[conversation]
    if pair.reference.refusal(messages):
        pytest.skip("the template refuses a role of this conversation")
    prompt = as_prompt(messages)
    cases = [(answer, stop) for answer in ANSWERS for stop in Stop if stop is not Stop.ABSTAINED]

    async def scored():
        return await concurrently(
            pair.reward.score(prompt, Response((1,), answer, stop)) for answer, stop in cases
        )

    expected = [pair.reference.score(messages, answer, stop) for answer, stop in cases]
    assert asyncio.run(scored()) == pytest.approx(expected, abs=1e-4)


def test_steps_are_scored_as_open_answers(pair):
    """The value of a step is the reward of the answer up to there."""
    texts = ("First one", "First one\nthen 学生", "First one\nthen 学生\nat last 👩‍👩‍👧")
    tokens = pair.ids_of(texts[-1])
    ends = tuple(len(pair.ids_of(text)) for text in texts)
    assert all(tokens[:end] == pair.ids_of(text) for text, end in zip(texts, ends, strict=True))
    response = Response(tuple(tokens), texts[-1], Stop.EOS)
    for messages in TASKS:
        whole = pair.reference.tokens(messages, texts[-1], Stop.BOUNDARY)
        beginnings = [pair.reference.tokens(messages, text, Stop.BOUNDARY) for text in texts]
        assert all(whole[: len(beginning)] == beginning for beginning in beginnings)
        values = asyncio.run(pair.steps.score_steps(as_prompt(messages), response, ends))
        expected = [pair.reference.scores(beginning)[-1] for beginning in beginnings]
        assert values == pytest.approx(expected, abs=1e-4)


def test_ids_without_a_token_are_answers_too(pair):
    """A model has logits for more ids than its tokenizer knows; they can be drawn."""
    padding = range(len(pair.tokenizer), pair.family.vocab_size)
    if not padding:
        pytest.skip("the tokenizer knows all ids of the model")
    some = [*pair.ids_of("学生"), padding[0], padding[-1]]
    for name in BY_SIZE:
        outputs = chat(pair, BY_SIZE[name], params(allowed_token_ids=some, ignore_eos=True))
        assert {len(output.outputs[0].token_ids) for output in outputs} == {LENGTH}


def test_a_refused_role_costs_one_conversation(pair, tell):
    """Merged into the first turn, or refused with the reason; the others are answered."""
    tasks = [TASKS[0], CONVERSATIONS["system"], [*TASKS[0], *TASKS[0]]]
    outputs = pair.aligner.chat(
        tasks,
        params(),
        strategy=BY_SIZE["BestOf"],
        on_error="return",
        use_tqdm=False,
    )
    assert outputs[0].error is None
    assert outputs[0].outputs
    for output in outputs[1:]:
        if output.error is not None:
            tell(output.error)
            assert "role" in str(output.error).lower()


def as_prompt(messages):
    return Prompt(tuple(Message(m["role"], m["content"]) for m in messages), (1,))
