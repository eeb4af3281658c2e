"""lm-eval on local data: through the command, and piece by piece on the session's engines."""

import json
import math
import os
import pickle
import sys
from pathlib import Path

import forked
import pytest
import torch
from lm_eval.api.instance import Instance
from transformers import AutoTokenizer, LlamaForCausalLM

from rsalign import ConfigError, Message
from rsalign.embedded import POLICY
from rsalign.embedded.problems import OPENERS, problems
from rsalign.harnesses.lm_eval import AlignedLM
from rsalign.harnesses.policy_text import Conversation
from rsalign.testing import ToyPolicy, ToyReward

PROBLEMS = problems("heldout", 12)
SAMPLED = {"until": ["</s>"], "do_sample": True, "max_gen_toks": 48}

ROOT = Path(__file__).parents[2]


def lm_eval(*arguments, cache):
    tasks = ("--include_path", "tests/harnesses/tasks")
    return forked.run(
        [sys.executable, "-m", "rsalign.cli.main", "lm-eval", *tasks, *arguments],
        capture_output=True,
        text=True,
        timeout=380,
        cwd=ROOT,
        env=os.environ | {"HF_HUB_OFFLINE": "1", "HF_DATASETS_CACHE": str(cache)},
    )


@pytest.mark.engine
@pytest.mark.timeout(400)
def test_tasks_through_the_command(tmp_path):
    done = lm_eval(
        *("--tasks", "words,choices", "--apply_chat_template", "--log_samples"),
        *("--model_args", "strategy=best_of,n=4,select=soft,select.temperature=0.5,seed=7"),
        *("engine_args.kv_cache_memory_bytes=67108864", "reward_args.max_model_len=384"),
        *("--output_path", str(tmp_path / "out")),
        cache=tmp_path / "cache",
    )
    assert done.returncode == 0, done.stderr
    (results,) = (tmp_path / "out").rglob("results_*.json")
    scores = json.loads(results.read_text())["results"]
    assert 0 <= scores["words"]["exact_match,answer"] <= 1
    answers = samples(tmp_path, "words")
    assert [one["doc"]["question"] for one in answers] == [one.question for one in PROBLEMS]
    for one in answers:
        (text,) = one["resps"][0]
        graded = text.rpartition("Answer: ")[2].strip() == one["target"]
        assert one["exact_match"] == graded
        assert one["arguments"]["gen_args_0"]["arg_0"].endswith("<|assistant|>")
        assert text.split()[0] in OPENERS
    right = [
        max(range(3), key=lambda i: float(one["resps"][i][0][0])) == 1
        for one in samples(tmp_path, "choices")
    ]
    assert scores["choices"]["acc,none"] == pytest.approx(sum(right) / len(right))


def samples(folder, task):
    (path,) = (folder / "out").rglob(f"samples_{task}_*.jsonl")
    found = [json.loads(line) for line in path.read_text().splitlines()]
    return sorted(found, key=lambda one: one["doc_id"])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("strategy=best_off", "did you mean 'best_of'"),
        ("strategy=best_of,m=3", "has no parameter 'm'"),
        ("strategy=best_of,reward=None", "needs a reward"),
        ("strategy=cards,max_tokens=9", "--gen_kwargs max_gen_toks"),
        ("budget.tokens=9", "did you mean 'policy_tokens'"),
        ("pretrained=gpt2", "Beside the strategy's settings there are policy"),
    ],
)
def test_wrong_arguments_are_refused_before_an_engine_starts(arguments, said):
    given = dict(one.split("=") for one in arguments.split(","))
    given = {name: None if value == "None" else value for name, value in given.items()}
    with pytest.raises(ConfigError, match=said):
        AlignedLM(**given)


def test_the_command_says_what_is_wrong(tmp_path):
    greedy = ("--gen_kwargs", "do_sample=False", "temperature=0")
    done = lm_eval("--tasks", "words", *greedy, cache=tmp_path)
    assert done.returncode == 2
    assert "--gen_kwargs do_sample=True,temperature=1 to let BestOf sample" in done.stderr
    assert "vllm" not in done.stderr.lower(), "an engine was started"


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"do_sample": False, "temperature": 0.7}, "contradicts do_sample=False"),
        ({"do_sample": True, "temperature": 0}, "contradicts temperature=0"),
        ({"until": ["\n"]}, "greedy decoding"),
        (SAMPLED | {"num_beams": 4}, "num_beams=4 cannot be honoured"),
        (SAMPLED | {"top_pp": 0.9}, "did you mean 'top_p'"),
        (SAMPLED | {"max_new_tokens": 9}, "contradict each other"),
        (SAMPLED | {"temperature": -1.0}, "temperature=-1.0.: give a finite number of at least 0"),
        (SAMPLED | {"until": [""]}, "non-empty string"),
    ],
)
def test_generation_arguments_are_honoured_or_refused(asked, said):
    lm = AlignedLM(policy="not a model", reward="nor this", strategy="best_of")
    with pytest.raises(ConfigError, match=said):
        lm.generate_until([generate("First", asked)])


def generate(context, asked, doc_id=0):
    arguments = (context, asked)
    return Instance("generate_until", {}, arguments, 0, metadata=("a task", doc_id, 1))


def likelihood(*arguments):
    return Instance("loglikelihood", {}, arguments, 0, metadata=("a task", 0, 1))


@pytest.fixture(scope="module")
def lm(policy, reward):
    return AlignedLM(policy=policy, reward=reward, strategy="best_of", n=3, seed=2)


def rendered(lm, index):
    message = {"role": "user", "content": PROBLEMS[index].question}
    return lm.apply_chat_template([message])


@pytest.mark.engine
def test_answers_are_those_of_the_aligner(lm, aligner):
    """Stops, lengths and laws of each request; the reward reads messages, not rendered text."""
    asked = [
        SAMPLED,
        SAMPLED | {"until": ["\n", "Answer"]},
        SAMPLED | {"max_gen_toks": 5},
        SAMPLED | {"temperature": 0.5, "top_k": 3, "top_p": 0.9},
    ]
    requests = [generate(rendered(lm, i), law, doc_id=i) for i, law in enumerate(asked)]
    answers = lm.generate_until(requests, disable_tqdm=True)
    assert "\n" in answers[0]
    assert "\n" not in answers[1]
    assert answers[1].split()[0] in OPENERS
    assert len(lm.tok_encode(answers[2], add_special_tokens=False)) <= 5
    from vllm import SamplingParams

    laws = [
        SamplingParams(max_tokens=48),
        SamplingParams(max_tokens=48, stop=["\n", "Answer"]),
        SamplingParams(max_tokens=5),
        SamplingParams(max_tokens=48, temperature=0.5, top_k=3, top_p=0.9),
    ]
    prompts = [
        {"messages": [Message("user", PROBLEMS[i].question)], "id": f"a task/{i}/0"}
        for i in range(len(laws))
    ]
    strategy = lm.arguments.strategy
    expected = aligner.generate(prompts, laws, strategy=strategy, seed=2, use_tqdm=False)
    assert answers == [one.outputs[0].text for one in expected]


@pytest.mark.engine
def test_an_answer_depends_on_its_document_and_repeat_alone(lm):
    prompts = [rendered(lm, i) for i in range(3)]
    alone = lm.generate_until([generate(prompts[2], SAMPLED, doc_id=2)], disable_tqdm=True)
    many = [generate(text, SAMPLED, doc_id=i) for i, text in enumerate(prompts)]
    *_, last, repeated = lm.generate_until([*many, many[2]], disable_tqdm=True)
    assert [last] == alone
    assert repeated != last


def exact(context, continuation):
    """(ln p, greedy) by transformers in float32."""
    model = LlamaForCausalLM.from_pretrained(POLICY, dtype=torch.float32).eval()
    with torch.inference_mode():
        logits = model(torch.tensor([context + continuation])).logits[0, len(context) - 1 : -1]
    laws = logits.double().log_softmax(-1)
    tokens = torch.tensor(continuation)
    greedy = bool((laws.argmax(-1) == tokens).all())
    return laws.gather(1, tokens[:, None]).sum().item(), greedy


@pytest.mark.engine
def test_likelihoods_are_the_policy_s(lm, policy):
    tokenizer = AutoTokenizer.from_pretrained(POLICY)
    chat = rendered(lm, 0)
    plain = AlignedLM(policy=policy, strategy="plain")
    (likeliest,) = plain.generate_until([generate(chat, {"max_gen_toks": 8})], disable_tqdm=True)
    texts = (likeliest, "First 27 + 12 = 39", "First", "Answer: 7")
    pairs = [(chat, text) for text in texts]
    pairs += [("First 1 + 1 =", " 2"), ("", "First 1")]
    found = lm.loglikelihood([likelihood(*pair) for pair in pairs], disable_tqdm=True)

    def encoded(text):
        return tokenizer.encode(text, add_special_tokens=False)

    for (context, continuation), (log_prob, greedy) in zip(pairs, found, strict=True):
        start = encoded(context) or [lm.prefix_token_id]
        rest = encoded(context + continuation)[len(encoded(context)) :]
        wanted, wanted_greedy = exact(start, rest)
        assert log_prob == pytest.approx(wanted, abs=1e-4)
        assert greedy is wanted_greedy
    assert found[0][1] is True
    assert not all(greedy for _, greedy in found)


@pytest.mark.engine
def test_rolling_likelihoods_use_all_the_context_there_is(lm):
    tokenizer = AutoTokenizer.from_pretrained(POLICY)
    text = "\n".join(f"First {i} + {i} = {2 * i}" for i in range(1, 30))
    tokens = tokenizer.encode(text, add_special_tokens=False)
    request = Instance("loglikelihood_rolling", {}, (text,), 0, metadata=("a task", 0, 1))
    room = lm.tokenization.max_model_len
    assert len(tokens) + 1 < room
    (found,) = lm.loglikelihood_rolling([request], disable_tqdm=True)
    assert found == pytest.approx(exact([lm.prefix_token_id], tokens)[0], abs=1e-3)

    many = tokens * (room // len(tokens) + 2)
    long = Instance(
        "loglikelihood_rolling", {}, (tokenizer.decode(many),), 0, metadata=("a task", 1, 1)
    )
    (both,) = lm.loglikelihood_rolling([long], disable_tqdm=True)
    assert both < found


@pytest.mark.engine
def test_what_cannot_be_done_is_refused(lm):
    with pytest.raises(ConfigError, match="the context has"):
        lm.generate_until([generate("First 1\n" * 2000, SAMPLED)], disable_tqdm=True)
    begun = [{"role": "user", "content": "1 + 1"}, {"role": "assistant", "content": "First"}]
    prefilled = lm.apply_chat_template(begun, add_generation_prompt=False)
    assert prefilled.endswith("<|assistant|>First")
    with pytest.raises(ConfigError, match="gen_prefix"):
        lm.generate_until([generate(prefilled, SAMPLED)], disable_tqdm=True)


def test_a_policy_without_a_tokenizer_is_refused():
    lm = AlignedLM(policy=ToyPolicy(), reward=ToyReward(), strategy="best_of")
    with pytest.raises(ConfigError, match="needs: give a model id"):
        lm.loglikelihood([likelihood("1", "2")])


def test_a_conversation_survives_a_cache():
    given = Conversation("<|user|>1", [Message("user", "1")])
    again = pickle.loads(pickle.dumps(given))
    assert again == given
    assert again.messages == given.messages


UNREADABLE = "a \ud83d"


@pytest.mark.engine
def test_a_request_that_fails_counts_as_wrong_and_costs_the_others_nothing(lm, caplog):
    asked = SAMPLED | {"max_gen_toks": 4}
    contexts = ["First", UNREADABLE, "Next", "First " * 600]  # the last is longer than the context
    alone = lm.generate_until([generate("First", asked, doc_id=0)])
    answers = lm.generate_until(
        [generate(text, asked, doc_id=i) for i, text in enumerate(contexts)]
    )
    assert answers[0] == alone[0]
    assert [bool(answer) for answer in answers] == [True, False, True, False]
    assert "2 of 4 requests failed" in caplog.text
    pairs = [("First", " 1"), (UNREADABLE, " 1"), ("First " * 600, " 1"), ("Next", " 2")]
    found = lm.loglikelihood([likelihood(*pair) for pair in pairs])
    assert found[1:3] == [(-math.inf, False)] * 2
    (first,) = lm.loglikelihood([likelihood(*pairs[0])])
    assert found[0] == pytest.approx(first)
    rolling = lm.loglikelihood_rolling([likelihood("First 1"), likelihood(UNREADABLE)])
    assert rolling[0] > rolling[1] == -math.inf


@pytest.mark.engine
def test_a_call_of_which_all_fails_is_an_error(lm):
    """A score of 0 would say nothing."""
    with pytest.raises(ConfigError, match="cannot read"):
        lm.generate_until([generate(UNREADABLE, SAMPLED)])
    with pytest.raises(ConfigError, match="cannot read"):
        lm.loglikelihood([likelihood(UNREADABLE, " 1")])
