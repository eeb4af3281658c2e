"""rsalign.aligned() over a `vllm.LLM` of the caller's: aligned inside, untouched outside."""

import os
import signal

import pytest

from rsalign import Aligner, BestOf, Budget, Cards, ConfigError, FixedSize, Line, Plain, aligned
from rsalign.core.errors import RewardError
from rsalign.embedded import POLICY, REWARD
from rsalign.embedded.problems import problems
from rsalign.engines.vllm.errors import refusal_types
from rsalign.selectors import Soft

pytestmark = pytest.mark.engine

ARGUMENTS = {
    "logprobs_mode": "processed_logprobs",
    "dtype": "float32",
    "enforce_eager": True,
    "block_size": 32,
    "kv_cache_memory_bytes": 64 << 20,
    "enable_chunked_prefill": False,
    "max_num_batched_tokens": 8192,
}
TEXTS = [problem.question for problem in problems("heldout", 4)]
CONVERSATIONS = [[{"role": "user", "content": text}] for text in TEXTS]
BEST = BestOf(n=4, inner=Plain(max_tokens=64))
OWN = {"rsalign": "none"}


@pytest.fixture(scope="module")
def llm(policy):
    """The caller's own engine; `policy` is there to outlive it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
        from vllm import LLM

        return LLM(POLICY, **ARGUMENTS)


def params(**given):
    from vllm import SamplingParams

    return SamplingParams(**{"max_tokens": 48} | given)


def shortest(prompt, response):
    return -len(response)


def plainly(outputs):
    """All that vLLM's outputs say, but for what counts requests and cache hits."""
    return [
        (o.prompt, o.prompt_token_ids, o.prompt_logprobs, o.finished, repr(o.outputs), o.metrics)
        for o in outputs
    ]


@pytest.fixture
def untouched(llm):
    """The engine is after the test what it was before."""
    import torch

    def sample():
        torch.manual_seed(7)  # what vLLM draws unseeded requests from, in process
        seeded = llm.chat(CONVERSATIONS, params(seed=11, logprobs=2), use_tqdm=False)
        return plainly(seeded + llm.generate(TEXTS, params(), use_tqdm=False))

    attributes, before = set(vars(llm)), sample()
    yield
    assert set(vars(llm)) == attributes
    assert not llm.llm_engine.has_unfinished_requests()
    assert sample() == before


def same(outputs, expected):
    def drawn(output):
        answers = [(list(c.token_ids), c.text, c.reward) for c in output.outputs]
        told, spent = output.alignment, output.alignment.usage
        # how far the other samples have come when a budget ends depends on the engine's pace
        tokens = None if told.expired else spent.policy_tokens_drawn
        return answers, told.strategy, tokens, spent.reward_calls

    assert [drawn(output) for output in outputs] == [drawn(output) for output in expected]


def test_answers_are_those_of_the_aligner(llm, policy, reward, untouched):
    from vllm import CompletionOutput, RequestOutput

    with aligned(llm, reward, BEST, seed=5) as aligner:
        assert isinstance(aligner, Aligner)
        chats = llm.chat(CONVERSATIONS, params(max_tokens=64), use_tqdm=False)
        several = llm.generate(TEXTS[0], params(n=3), use_tqdm=False)
    assert all(type(o) is RequestOutput and o.finished for o in chats + several)
    assert all(type(c) is CompletionOutput for o in chats + several for c in o.outputs)
    with Aligner(policy, reward, BEST, seed=5) as aligner:
        same(chats, aligner.chat(CONVERSATIONS, params(max_tokens=64)))
        # prompts are numbered through the block, so that no two calls share their draws
        after = {"prompt": TEXTS[0], "id": len(CONVERSATIONS)}
        same(several, aligner.generate([after], params(n=3)))
    rewards = [c.reward for c in several[0].outputs]
    assert rewards == sorted(rewards, reverse=True)
    assert several[0].alignment.reward == rewards[0]
    assert len({o.request_id for o in chats + several}) == len(chats) + 1


@pytest.mark.parametrize(
    "shown",
    [
        {},
        {"max_tokens": 5},
        {"stop": ["\n"]},
        {"stop": [" = ", "Answer: "], "include_stop_str_in_output": True},
        {"stop_token_ids": [212]},
        {"stop_token_ids": [212], "include_stop_str_in_output": True},
        {"skip_special_tokens": False, "spaces_between_special_tokens": False},
        {"detokenize": False},
        {"n": 2, "stop": "4"},
    ],
)
def test_outputs_are_what_vllm_would_return(llm, shown):
    """Greedy decoding has one answer, so that `Plain` must return what vLLM does."""
    asked = params(temperature=0, **shown | {"n": 1})
    calls = [
        lambda: llm.chat(CONVERSATIONS, asked, use_tqdm=False),
        lambda: llm.generate(TEXTS, asked, use_tqdm=False),
    ]
    for call in calls:
        expected = call()
        with aligned(llm):
            got = call()
        for output in got:
            for completion in output.outputs:  # vLLM tells it only if it is asked for logprobs
                assert completion.cumulative_logprob == 0
                completion.cumulative_logprob = None
        assert plainly(got) == plainly(expected)


@pytest.mark.parametrize("flat", [False, True])
def test_log_probabilities_of_drawn_tokens(llm, reward, flat):
    asked = params(logprobs=0, flat_logprobs=flat)
    with aligned(llm, reward, Cards(segmenter=FixedSize(8), threshold=Line(target=1.0))):
        (output,) = llm.generate(TEXTS[1], asked, use_tqdm=False)
    (answer,) = output.outputs
    (scored,) = llm.generate(
        {"prompt_token_ids": output.prompt_token_ids + answer.token_ids},
        params(max_tokens=1, prompt_logprobs=0),
        use_tqdm=False,
    )
    expected = scored.prompt_logprobs[len(output.prompt_token_ids) :]
    assert len(answer.logprobs) == len(answer.token_ids) == len(expected)
    for token, got, right in zip(answer.token_ids, answer.logprobs, expected, strict=True):
        assert got[token].logprob == pytest.approx(right[token].logprob, abs=1e-4)
        assert got[token].decoded_token == right[token].decoded_token
    total = sum(
        right[token].logprob for token, right in zip(answer.token_ids, expected, strict=True)
    )
    assert answer.cumulative_logprob == pytest.approx(total, abs=1e-3)


def test_requests_choose_for_themselves(llm, policy, reward, untouched):
    choices = [
        ({}, BEST),
        ({"rsalign": "plain"}, Plain(max_tokens=48)),
        ({"rsalign_n": 2}, BestOf(n=2, inner=Plain(max_tokens=48))),
        ({"rsalign": "best_of", "rsalign_n": "3"}, BestOf(n=3, inner=Plain(max_tokens=48))),
        ({"rsalign_select": "soft", "rsalign_select.temperature": 9}, None),
    ]
    texts = TEXTS + TEXTS[:1]
    with aligned(llm, reward, BEST):
        outputs = llm.generate(texts, [params(extra_args=extra) for extra, _ in choices])
    with Aligner(policy, reward, BEST) as aligner:
        for i, (output, (_, strategy)) in enumerate(zip(outputs, choices, strict=True)):
            if strategy is not None:
                prompt = {"prompt": texts[i], "id": i}
                same([output], aligner.generate([prompt], params(), strategy=strategy))
    assert outputs[-1].alignment.strategy.select == Soft(temperature=9)


def test_requests_have_lengths_budgets_and_seeds_of_their_own(llm, policy, untouched):
    def fails(prompt, response):
        raise ValueError("a reward that fails")

    asked = [
        ({"rsalign_max_tokens": "9"}, {"max_tokens": 9}, None),
        ({"rsalign_seed": "7"}, {"seed": 7}, None),
        ({"rsalign_budget.reward_calls": "2"}, {}, Budget(reward_calls=2)),
        ({}, {}, None),
    ]
    with aligned(llm, shortest, BEST):
        outputs = llm.generate(TEXTS, [params(extra_args=extra) for extra, _, _ in asked])
        bad = params(extra_args={"rsalign_seed": 7}, seed=8)
        with pytest.raises(ConfigError, match="two seeds, 8 as its own field and 7"):
            llm.generate(TEXTS[0], bad)
    with Aligner(policy, shortest, BEST) as aligner:
        for i, (output, (_, own, budget)) in enumerate(zip(outputs, asked, strict=True)):
            prompt = {"prompt": TEXTS[i], "id": i}
            same([output], aligner.generate([prompt], params(**own), budget=budget))
    assert outputs[2].alignment.expired
    with aligned(llm, fails, BEST):
        extra = {"rsalign_on_reward_error": "best"}
        (best,) = llm.generate(TEXTS[0], params(extra_args=extra))
        with pytest.raises(RewardError):
            llm.generate(TEXTS[0], params())
    assert best.alignment.expired


def test_the_engines_own_sampling_inside_the_block(llm, reward, untouched):
    import torch

    own = {"seed": 3, "logprobs": 3, "prompt_logprobs": 1, "min_tokens": 4}
    expected = llm.chat(CONVERSATIONS, params(**own), use_tqdm=False)
    torch.manual_seed(9)
    unseeded = llm.generate(TEXTS, params(), use_tqdm=False)
    mixed = [params(extra_args=OWN, **own), params()] * 2
    with aligned(llm, reward, BEST):
        got = llm.chat(CONVERSATIONS, params(extra_args=OWN, **own), use_tqdm=False)
        torch.manual_seed(9)
        assert plainly(llm.generate(TEXTS, params(extra_args=OWN))) == plainly(unseeded)
        mixed = llm.chat(CONVERSATIONS, mixed, use_tqdm=False)
    assert plainly(got) == plainly(expected)
    assert plainly(mixed[::2]) == plainly(expected[::2])
    assert [hasattr(output, "alignment") for output in mixed] == [False, True] * 2
    assert [o.prompt for o in mixed] == [o.prompt for o in expected]


def test_every_form_of_prompt(llm, untouched):
    from vllm import TextPrompt, TokensPrompt

    ids = llm.get_tokenizer().encode(TEXTS[0])
    forms = [
        TEXTS[0],
        [TEXTS[0], TextPrompt(prompt=TEXTS[1])],
        TokensPrompt(prompt_token_ids=ids),
        [TokensPrompt(prompt_token_ids=ids, prompt="as it was"), {"prompt_token_ids": ids[:9]}],
        ids,
        [],
    ]
    chats = [
        {"messages": CONVERSATIONS[0]},
        {"messages": CONVERSATIONS[:2], "add_generation_prompt": False},
        {"messages": CONVERSATIONS[0], "chat_template": "{{ messages[0].content }} So"},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": TEXTS[0]}]}]},
        {"messages": CONVERSATIONS[0], "tokenization_kwargs": {"truncate_prompt_tokens": 8}},
    ]
    greedy = params(temperature=0, max_tokens=6)

    def answers():
        outputs = [llm.generate(form, greedy, use_tqdm=False) for form in forms]
        outputs += [llm.chat(**chat, sampling_params=greedy, use_tqdm=False) for chat in chats]
        return [[(*o[:2], *o[3:4]) for o in plainly(output)] for output in outputs], [
            [list(o.outputs[0].token_ids) for o in output] for output in outputs
        ]

    expected = answers()
    with aligned(llm):
        assert answers() == expected


def test_seeded_prompts_are_called_by_their_position(llm, policy, reward, untouched):
    """Others by their number in the block; one call may have both, even where names meet."""
    seeded, plain = params(seed=9, max_tokens=8), params(max_tokens=8)
    with aligned(llm, reward, BEST, seed=5):
        first = llm.generate([TEXTS[0]] * 3, seeded, use_tqdm=False)
        again = llm.generate([TEXTS[0]] * 3, seeded, use_tqdm=False)
        # the first has number 6, and so is called as the one at position 6
        mixed = llm.generate([TEXTS[1]] * 8, [plain] + [seeded] * 7, use_tqdm=False)
    with Aligner(policy, reward, BEST, seed=9) as aligner:
        expected = aligner.generate([TEXTS[0]] * 3, params(max_tokens=8), use_tqdm=False)
        positions = [{"prompt": TEXTS[1], "id": i} for i in range(1, 8)]
        others = aligner.generate(positions, params(max_tokens=8), use_tqdm=False)
    with Aligner(policy, reward, BEST, seed=5) as aligner:
        number = {"prompt": TEXTS[1], "id": 6}
        alone = aligner.generate([number], params(max_tokens=8), use_tqdm=False)
    same(first, expected)
    same(again, expected)
    same(mixed, [*alone, *others])
    assert len({tuple(output.outputs[0].token_ids) for output in first}) > 1
    assert [output.outputs[0].alignment.seed for output in mixed] == [5] + [9] * 7


def test_as_a_harness_calls(llm, reward, untouched):
    """Prompts as token ids, a greedy and a sampled group, `until` strings, lengths of one's own."""
    from vllm import TokensPrompt

    tokenizer = llm.get_tokenizer()
    prompts = [TokensPrompt(prompt_token_ids=tokenizer.encode(text)) for text in TEXTS]
    rest = {"skip_special_tokens": False, "spaces_between_special_tokens": False}
    asked = [params(temperature=0, stop=["Answer:", "\n\n"], **rest)] * 2
    asked += [params(temperature=0.8, stop=["\n"], max_tokens=12, seed=1234, **rest)] * 2
    seen = []
    bar = make_bar(seen)
    with aligned(llm, reward, BEST):
        outputs = llm.generate(prompts, sampling_params=asked, use_tqdm=bar, lora_request=None)
        assert llm.generate(prompts, sampling_params=asked, use_tqdm=False)[2:] != outputs[2:]
        again = llm.generate(prompts, sampling_params=asked, use_tqdm=False)
    assert seen == [{"total": 4, "desc": "Processed prompts"}, 1, 1, 1, 1, "closed"]
    texts = [output.outputs[0].text for output in outputs]
    assert not any(stop in text for text in texts[:2] for stop in ("Answer:", "\n\n"))
    assert not any("\n" in text for text in texts[2:])
    assert all(output.outputs[0].stop_reason in ("Answer:", "\n", None) for output in outputs)
    # a seed of its own counts wherever a request stands, as it does in vLLM
    assert [o.outputs[0].text for o in again[2:]] == texts[2:]
    default = llm.get_default_sampling_params()
    with aligned(llm):
        (output,) = llm.generate(prompts[0], use_tqdm=False)
    assert len(output.outputs[0].token_ids) <= default.max_tokens == 16


def make_bar(seen):
    class Bar:
        def __init__(self, **given):
            seen.append(given)

        def update(self, by):
            seen.append(by)

        def close(self):
            seen.append("closed")

    return Bar


def test_blocks_nest_and_end_in_any_order(llm, untouched):
    def strategy_of_a_call():
        (output,) = llm.generate(TEXTS[0], params(), use_tqdm=False)
        return getattr(output, "alignment", None) and output.alignment.strategy

    with aligned(llm, shortest, BEST):
        with aligned(llm, strategy=Plain()):
            assert strategy_of_a_call() == Plain(max_tokens=48)
            (own,) = llm.generate(TEXTS[0], params(extra_args=OWN), use_tqdm=False)
            assert not hasattr(own, "alignment")
        assert strategy_of_a_call() == BestOf(n=4, inner=Plain(max_tokens=48))

    def held():
        with aligned(llm, shortest, BEST):
            yield

    outer, inner = held(), aligned(llm, strategy=Plain())
    next(outer)
    kept = llm.generate
    with inner:
        outer.close()
        assert strategy_of_a_call() == Plain(max_tokens=48)
    assert strategy_of_a_call() is None
    assert not hasattr(kept(TEXTS[0], params(), use_tqdm=False)[0], "alignment")

    llm.chat = mine = lambda *given: None  # what the caller had put there comes back
    with aligned(llm):
        assert llm.chat is not mine
    assert llm.chat is mine
    del llm.chat


def test_errors_leave_the_engine_as_it_was(llm, untouched):
    def broken(prompt, response):
        raise ZeroDivisionError

    with pytest.raises(RewardError, match="ZeroDivisionError"), aligned(llm, broken, BEST):
        llm.generate(TEXTS, params(), use_tqdm=False)
    with pytest.raises(LookupError), aligned(llm, shortest, BEST):
        raise LookupError
    with pytest.raises(ConfigError, match="BestOf needs a reward"), aligned(llm, strategy=BEST):
        pass


def test_an_interrupt_leaves_no_request_behind(llm, untouched):
    def interrupts(prompt, response):
        os.kill(os.getpid(), signal.SIGINT)
        return 0.0

    many = BestOf(n=32, inner=Plain())
    # a shell starts what runs in the background with interrupts ignored
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt), aligned(llm, interrupts, many):
            llm.generate(TEXTS, params(max_tokens=400, stop_token_ids=[]), use_tqdm=False)
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_reward_cannot_ask_the_engine_that_it_judges(llm, untouched):
    def asks(prompt, response):
        return len(llm.generate(prompt, params(extra_args=OWN))[0].outputs[0].text)

    with pytest.raises(RewardError, match="one call at a time"), aligned(llm, asks, BEST):
        llm.generate(TEXTS, params(), use_tqdm=False)


def test_a_reward_started_for_the_block_ends_with_it_alone(llm, untouched):
    small = {"kv_cache_memory_bytes": 64 << 20}
    with aligned(llm, REWARD, BEST, reward_args=small, budget=Budget(reward_calls=2)):
        outputs = llm.chat(CONVERSATIONS, params(logprobs=0), use_tqdm=False)
    assert all(o.alignment.expired and o.alignment.usage.reward_calls == 2 for o in outputs)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda m: m.generate("1", params(watermarking=True)), "draws of one prompt"),
        (lambda m: m.generate("1", params(prompt_logprobs=1)), "no likelihood"),
        (lambda m: m.generate("1", params(routed_experts_prompt_start=1)), "which experts"),
        (
            lambda m: m.generate(
                ["1", "2"], [params(), params(min_tokens=2, trace_decode_token_ids=[4, 5])]
            ),
            "trace_decode_token_ids",
        ),
        (
            lambda m: m.generate(
                "1", params(presence_penalty=1.0, extra_args={"rsalign": "qalign"})
            ),
            "continues answers from the middle",
        ),
        (lambda m: m.generate("1", params(extra_args={"rsalign": "best"})), "mean 'best_of'"),
        (lambda m: m.generate("1", params(extra_args={"top_w": 3})), "extra_args has 'top_w'"),
        (lambda m: m.generate("1", params(extra_args=OWN | {"rsalign_n": 3})), "'n' is given, but"),
        (
            lambda m: m.generate("1", params(extra_args={"rsalign_inner.max_tokens": 3})),
            "bounded as a whole; give max_tokens",
        ),
        (lambda m: m.generate("1", params(), priority=[1, 2]), "2 priority for 1 prompts"),
        (lambda m: m.generate("1", params(), mm_processor_kwargs={"a": 1}), "not images"),
        (lambda m: m.generate("1", [params(), params()]), "must be the same"),
        (lambda m: m.generate({"prompt": ""}, params()), "empty"),
        (lambda m: m.chat([{"role": "user"}], params()), "'role' and 'content'"),
        (
            lambda m: m.chat(
                CONVERSATIONS[0],
                params(),
                add_generation_prompt=False,
                continue_final_message=True,
            ),
            "answer of its own",
        ),
        (lambda m: m.enqueue("1", params()), "leave the block"),
        (lambda m: m.enqueue_chat(CONVERSATIONS[0], params()), "leave the block"),
    ],
)
def test_what_cannot_be_honoured_is_refused_before_any_work(llm, call, says):
    judged = []
    with aligned(llm, lambda prompt, response: judged.append(1) or 0.0, BEST):
        with pytest.raises(refusal_types(), match=says):
            call(llm)
        assert not judged
        with pytest.raises(TypeError, match="max_tokens"):
            llm.generate("1", max_tokens=3)


def test_what_cannot_be_a_block(llm, policy):
    with pytest.raises(ConfigError, match=r"works on a vllm\.LLM"), aligned(policy):
        pass
    llm.enqueue(TEXTS, params(), use_tqdm=False)
    with aligned(llm), pytest.raises(ConfigError, match="in its queue"):
        llm.generate(TEXTS[0], params(), use_tqdm=False)
    assert len(llm.wait_for_completion(use_tqdm=False)) == len(TEXTS)


def test_it_is_a_decorator_too(llm, untouched):
    @aligned(llm, shortest, BEST)
    def evaluate():
        return llm.generate(TEXTS, params(), use_tqdm=False)

    once, again = evaluate(), evaluate()
    assert plainly(once) == plainly(again)
    assert once[0].alignment.strategy.n == 4


def test_a_prompt_that_fails_costs_the_others_nothing(llm):
    good, wrong = params(max_tokens=4), params(max_tokens=4)
    wrong.temperature = 3.0  # with which vLLM would not let it be made
    asked = params(max_tokens=4, extra_args={"rsalign": "no such strategy"})

    def picky(prompt, response):
        if prompt == "Then":
            raise SystemExit(3)
        return float(len(response))

    prompts = ["First", "a \ud83d", "First", "First", "Then", "Next"]
    given = [good, good, wrong, asked, good, good]
    with aligned(llm, picky, BestOf(n=2, inner=Plain(max_tokens=4)), on_error="return"):
        outputs = llm.generate(prompts, given, use_tqdm=False)
    assert [output.error is None for output in outputs] == [True, *[False] * 4, True]
    assert all(output.outputs[0].text for output in (outputs[0], outputs[-1]))
    for failed in outputs[1:-1]:
        assert failed.outputs[0].finish_reason == "error"
        assert failed.outputs[0].text == ""
    with aligned(llm, picky, BestOf(n=2, inner=Plain(max_tokens=4))):
        with pytest.raises(ConfigError, match="prompt 1"):
            llm.generate(prompts[:2], good, use_tqdm=False)
        assert llm.generate("First", good, use_tqdm=False)[0].outputs[0].reward is not None
