"""What process reward models read: the ids of the cards on real vocabularies; refusals."""

import os
from dataclasses import replace
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from rsalign import ConfigError, Message, Prompt, Response, RewardError, Stop
from rsalign.embedded import REWARD
from rsalign.rewards.step_layouts import STEP_LAYOUTS, StepLayout
from rsalign.rewards.step_reader import StepReader, token_ids
from rsalign.rewards.steps import newline_ends, paragraph_ends

QUESTION = "Janet has 3 ducks. What is 12 - 7?"
STEPS = ["Step 1: 12 - 7 = 5 eggs.", "Step 2: \N{CJK UNIFIED IDEOGRAPH-65E5} is 5.", "It is: 18"]


def decode(tokens):
    return "".join(map(chr, tokens))


def read(layout, tokenizer, steps, *, messages=None):
    text = layout.split.join(steps)
    ends = (newline_ends if layout.split == "\n" else paragraph_ends)(text)
    prompt = Prompt(messages or (Message("user", QUESTION),), (1,))
    response = Response(tuple(map(ord, text)), text, Stop.EOS)
    return StepReader(layout, tokenizer, 4096, decode).read(prompt, response, ends)


@pytest.fixture
def real(request):
    """A real tokenizer, where one was fetched (`make families`)."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rsalign/families"
    root = Path(os.environ.get("RSALIGN_FAMILIES") or cache)
    found = sorted(root.glob(f"checkpoints/{request.param}-reward-*"))
    if not found:
        pytest.skip(f"no tokenizer of {request.param} here: make families")
    return AutoTokenizer.from_pretrained(found[0])


def chat(*said):
    roles = ("user", "assistant") * len(said)
    return [{"role": role, "content": one} for role, one in zip(roles, said, strict=False)]


@pytest.mark.parametrize("real", ["llama2", "llama3_1", "mistral_nemo", "gemma2"], indirect=True)
def test_math_shepherd(real):
    found = read(STEP_LAYOUTS["math-shepherd"], real, STEPS)
    text = f"{QUESTION} " + "\n".join(f"{step} ки" for step in STEPS)
    assert list(found.tokens) == real.encode(text)
    tag = real.encode("ки", add_special_tokens=False)[-1]
    tags = {tag, real.encode(" ки", add_special_tokens=False)[-1]}
    assert [found.tokens[place] in tags for place in found.places] == [True] * 3


@pytest.mark.parametrize("real", ["llama3_1", "qwen2_5", "gemma2", "mistral_nemo"], indirect=True)
def test_rlhflow(real):
    layout = STEP_LAYOUTS["rlhflow"]
    found = read(layout, real, STEPS)
    said = []
    for i, (step, place) in enumerate(zip(STEPS, found.places, strict=True)):
        said += [f"{QUESTION} {step}" if i == 0 else step, "+"]
        text = real.apply_chat_template(chat(*said), tokenize=False)
        ids = real.encode(text, add_special_tokens=False)
        assert list(found.tokens[: place + 1]) == ids[: place + 1]
        assert ids[place + 1] == token_ids(layout, real)[0]


@pytest.mark.parametrize("real", ["qwen2_5", "qwen3"], indirect=True)
def test_qwen(real):
    layout = STEP_LAYOUTS["qwen2.5-math-prm"]
    with pytest.raises(ConfigError, match=r"after: '<extra_0>' is \d tokens .* name the layout"):
        read(layout, real, STEPS)
    real.add_tokens(["<extra_0>"], special_tokens=True)
    found = read(layout, real, STEPS)
    # as the finished response is rendered: Qwen3's template puts an empty thought before it
    whole = real.apply_chat_template(chat(QUESTION, "Answer"), tokenize=False)
    before = whole[: whole.rindex("Answer")]
    ids = real.encode(before + "<extra_0>".join(STEPS) + "<extra_0>", add_special_tokens=False)
    assert list(found.tokens) == ids
    mark = real.convert_tokens_to_ids("<extra_0>")
    assert list(found.places) == [i for i, token in enumerate(ids) if token == mark]


@pytest.mark.parametrize("name", ["skywork-o1-prm", "trl"])
@pytest.mark.parametrize("real", ["qwen2_5", "llama3_1", "llama2"], indirect=True)
def test_pieces_are_tokenized_alone(real, name):
    found = read(STEP_LAYOUTS[name], real, STEPS)

    def encode(text):
        return real.encode(text, add_special_tokens=False)

    bos = [] if real.bos_token_id is None else [real.bos_token_id]
    ids = bos + encode(QUESTION + ("\n" if name == "skywork-o1-prm" else ""))
    places = []
    for step in STEPS:
        ids += encode(step) + encode("\n")
        places.append(len(ids) - 1)
    assert list(found.tokens) == ids
    assert list(found.places) == places


@pytest.fixture(scope="module")
def embedded():
    return AutoTokenizer.from_pretrained(REWARD)


def test_a_conversation_goes_before_the_steps(embedded):
    """Earlier turns stay; the steps begin in the last turn of the user."""
    messages = (
        Message("system", "Be brief."),
        Message("user", "What is 2 + 2?"),
        Message("assistant", "4"),
        Message("user", "And 3 + 3?"),
    )
    found = read(STEP_LAYOUTS["rlhflow"], embedded, ["It is", "6"], messages=messages)
    text = embedded.decode(found.tokens)
    assert text.startswith("<|system|>Be brief.</s><|user|>What is 2 + 2?</s><|assistant|>4</s>")
    assert text.endswith("<|user|>And 3 + 3? It is</s><|assistant|>+</s><|user|>6</s><|assistant|>")
    with pytest.raises(RewardError, match="last message is of the assistant"):
        read(STEP_LAYOUTS["rlhflow"], embedded, ["6"], messages=messages[:3])


def test_a_template_that_renders_earlier_turns_in_another_way(embedded):
    """Values of steps would depend on later ones."""
    source = "{% for m in messages %}{{ loop.last }}{{ m.content }}{% endfor %}"
    changing = AutoTokenizer.from_pretrained(REWARD)
    changing.chat_template = source
    with pytest.raises(RewardError, match="another way if one follows"):
        read(STEP_LAYOUTS["rlhflow"], changing, ["a", "b"])


def test_white_space_around_steps_is_the_layouts(embedded):
    layout = replace(STEP_LAYOUTS["trl"], after="|", between=" / ", alone=False)
    found = read(layout, embedded, ["one ", "", "  two", "three\r"])
    shown = embedded.decode(found.tokens, skip_special_tokens=True)
    assert shown == f"{QUESTION}one| /   two| / three|"
    assert [embedded.decode([found.tokens[place]]) for place in found.places] == ["|"] * 3


def test_tokens_that_are_several(embedded):
    layout = replace(STEP_LAYOUTS["math-shepherd"], tokens=("good", "bad"))
    with pytest.raises(ConfigError, match=r"tokens: 'good' is \d tokens"):
        token_ids(replace(layout, label=0), embedded)


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        ({"split": ";"}, "split="),
        ({"prompt": "Q:"}, "write {prompt} once"),
        ({"turn": "+", "after": "|"}, "messages of a conversation"),
        ({"between": "|"}, "give after"),
        ({"alone": True}, "alone=True"),
        ({"after": "\n", "one_token": True}, "one_token=True"),
        ({"head": "tokens"}, "at least two"),
        ({"head": "tokens", "tokens": ("+", "+")}, "at least two"),
        ({"tokens": ("+", "-")}, "else none"),
        ({"head": "ratio", "after": "|"}, "reads the response as it is"),
        ({"beta": 0.0}, "beta="),
        ({"label": "x", "head": "labels", "sigmoid": 3}, "sigmoid="),
        ({"label": {"probability": 1}, "sigmoid": True}, "is a probability"),
        ({"label": []}, "label="),
        ({"aggregate": "best"}, "aggregate="),
    ],
)
def test_contradictions_are_refused(settings, fault):
    with pytest.raises(ConfigError, match=fault):
        StepLayout(**settings)


def test_names():
    assert StepLayout.named("trl") is STEP_LAYOUTS["trl"]
    with pytest.raises(ConfigError, match=r"no layout 'tlr': choose one of .*math-shepherd"):
        StepLayout.named("tlr")
    assert len({layout.fingerprint for layout in STEP_LAYOUTS.values()}) == len(STEP_LAYOUTS)
    page = Path(__file__).parents[2].joinpath("docs/rewards.md").read_text()
    assert all(f"| `{name}` |" in page for name in STEP_LAYOUTS)
