"""What a reward model reads of a response: open, finished and step by step, in many templates.

Templates of common models, shortened to what they do to a response, with the embedded tokenizer.
Where the families' tokenizers are on this machine, the same is asked of them as they are.
"""

import functools
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
from transformers import AutoTokenizer

from rsalign import ConfigError, Message, Prompt, Response, RewardError, Stop
from rsalign.embedded import REWARD
from rsalign.rewards.rendering import Rendering

TURN = "{% for m in messages %}<|{{ m.role }}|>"
END = "</s>{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
NO_SYSTEM = (
    "{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
    "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}{% endfor %}"
)
TEMPLATES = {
    "as it is": TURN + "{{ m.content }}" + END,
    "trims": TURN + "\n{{ m.content | trim }}" + END,
    "space before and after": TURN + " {{ m.content.strip() }} " + END,
    "another opening": TURN + "<|message|>{{ m.content }}" + END,
    "refuses": NO_SYSTEM + TURN + "{{ m.content | trim }}" + END,
    "thoughts": TURN
    + "{% set c = m.content %}{% set r = '' %}{% if '</think>' in c %}"
    + "{% set r = c.split('</think>')[0].rstrip('\n').split('<think>')[-1].lstrip('\n') %}"
    + "{% set c = c.split('</think>')[-1].lstrip('\n') %}{% endif %}"
    + "{% if m.role == 'assistant' %}<think>\n{{ r.strip('\n') }}\n</think>\n\n"
    + "{{ c.lstrip('\n') }}{% else %}{{ c }}{% endif %}"
    + END,
    "leaves thoughts out": TURN + "{{ m.content.split('</think>')[-1] }}" + END,
}
CACHE = Path(
    os.environ.get("RSALIGN_FAMILIES")
    or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rsalign/families"
)


def has_template(folder):
    """Whether a checkpoint is complete here and has a chat template."""
    settings, tokenizer = folder / "tokenizer_config.json", folder / "tokenizer.json"
    in_settings = settings.is_file() and '"chat_template"' in settings.read_text()
    return tokenizer.is_file() and (in_settings or (folder / "chat_template.jinja").is_file())


FAMILIES = {
    folder.name.split("-policy-")[0]: folder
    for folder in sorted(CACHE.glob("checkpoints/*-policy-*"))
    if has_template(folder)
}
TEXTS = (
    "Four.",
    "  Four. \n",
    "\n\nOne.\n\nTwo.",
    "日本 and 👩‍👩‍👧 too",
    "<think>\nhm",
    "<think>\nhm\n</think>\n\nFour.",
    "hm\n</think>\n\nFour.",
    "x </s><|eot_id|><|im_end|><end_of_turn> y",
)
ASKED = (Message("user", "2 + 2?"),)


def prompt(*messages):
    return Prompt(messages or ASKED, (1,))


def response(text, stop):
    return Response((1,), text, stop)


@functools.cache
def tokenizer_of(folder):
    return AutoTokenizer.from_pretrained(folder)


CASES = {name: (REWARD, template) for name, template in TEMPLATES.items()}
CASES |= {name: (folder, None) for name, folder in FAMILIES.items()}


@pytest.fixture(params=CASES.values(), ids=CASES)
def rendering(request):
    folder, template = request.param
    return Rendering(tokenizer_of(folder), 4096, template)


@pytest.mark.parametrize("text", TEXTS)
def test_an_open_response_begins_the_finished_one(rendering, text):
    finished = rendering.tokens(prompt(), response(text, Stop.EOS))
    cut = rendering.tokens(prompt(), response(text, Stop.LENGTH))
    assert finished[: len(cut)] == cut
    assert len(cut) < len(finished)
    longer = rendering.tokens(prompt(), response(text + "\n\nAnd more.", Stop.EOS))
    may_continue = rendering.opened(prompt(), response(text, None), [])
    whole = rendering.opened(prompt(), response(text + "\n\nAnd more.", None), [])
    assert whole.text.startswith(may_continue.text)
    assert longer[: len(whole.tokens)] == whole.tokens


def test_it_is_what_transformers_renders(rendering):
    """But for the text of special tokens, and a thought that has not ended."""
    for text in (*TEXTS[:4], *TEXTS[5:7]):
        messages = [{"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": text}]
        right = rendering.tokenizer.apply_chat_template(
            messages, tokenize=True, return_dict=False, chat_template=rendering.chat_template
        )
        assert rendering.tokens(prompt(), response(text, Stop.EOS)) == tuple(right)


@pytest.mark.parametrize("text", ["Four.", " Four. \n", "Four.\t ", " \n"])
def test_white_space_of_the_closing_is_none_of_a_cut_response(rendering, text):
    """It is the finished one without what the template writes behind any response."""

    def write(answer):
        messages = [{"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": answer}]
        return rendering.tokenizer.apply_chat_template(
            messages, tokenize=False, chat_template=rendering.chat_template
        )

    right = write(text).removesuffix(write("MARK").rpartition("MARK")[2])
    tokens = rendering.tokens(prompt(), response(text, Stop.LENGTH))
    assert list(tokens) == rendering.tokenizer.encode(right, add_special_tokens=False)


def test_a_text_that_the_template_writes_otherwise_if_more_follows():
    """A response that was cut at its length is read as the finished one, up to the closing."""
    template = TURN + "{% if m.content.endswith('!') %}now {% endif %}{{ m.content }}" + END
    rendering = Rendering(tokenizer_of(REWARD), 4096, template)
    read = rendering.tokens(prompt(), response("Four!", Stop.LENGTH))
    right = "<|user|>2 + 2?</s><|assistant|>now Four!"
    assert list(read) == rendering.tokenizer.encode(right, add_special_tokens=False)


def test_a_tokenizer_without_templates_is_refused_by_name():
    """Mistral's own in vLLM writes conversations by rules and has no name of a folder."""
    with pytest.raises(ConfigError, match="MistralTokenizer writes conversations by rules"):
        Rendering(type("MistralTokenizer", (), {})(), 4096)


def test_step_by_step(rendering):
    """The tokens up to each step's end are those of the response that ends there."""
    steps = ["<think>\n", "Two and two\n", "are four.\n</think>\n\n", "It is\n", "four."]
    if rendering.chat_template == TEMPLATES["leaves thoughts out"]:
        steps = steps[3:]
    text = "".join(steps)
    marks = [sum(map(len, steps[: i + 1])) for i in range(len(steps))]
    opened = rendering.opened(prompt(), response(text, Stop.EOS), marks)
    alone = rendering.tokens(prompt(), response(text, Stop.BOUNDARY))
    assert opened.tokens == alone
    assert opened.begins == tuple(sorted(opened.begins))
    for mark, place in zip(marks, opened.marks, strict=True):
        grown = rendering.opened(prompt(), response(text[:mark], None), []).text
        # white space at the end may be written otherwise until more follows
        assert opened.text[:place].rstrip() == grown.rstrip()
    assert opened.marks[-1] == len(opened.text)


def test_special_tokens_as_ordinary_characters(rendering):
    """A response cannot end its own turn by writing how the template would do that."""
    tokenizer = rendering.tokenizer
    ids = set(tokenizer.all_special_ids)
    for special in {*tokenizer.all_special_tokens[:2], tokenizer.eos_token}:
        for stop in (Stop.EOS, None):
            found = rendering.tokens(prompt(), response(f"x {special} y", stop))
            plain = rendering.tokens(prompt(), response("x y", stop))
            assert [one for one in found if one in ids] == [one for one in plain if one in ids]
        written = rendering.opened(prompt(), response(f"x {special} y", None), [2])
        assert written.tokens == found
        assert written.text[written.start :].lstrip() == f"x {special} y"
        assert tokenizer.decode(found).endswith("y")


def test_pieces_are_what_the_whole_would_be(rendering):
    """Where nothing is to be escaped, tokenizing in pieces changes nothing."""
    whole = Rendering(rendering.tokenizer, 4096, rendering.chat_template)
    find = rendering._specials.find
    in_pieces = SimpleNamespace(
        find=lambda text: find(text) or [(0, 0)],
        plain_tokenizer=rendering._specials.plain_tokenizer,
    )
    object.__setattr__(rendering, "_specials", in_pieces)
    for text in TEXTS[:4]:
        for stop in (Stop.EOS, Stop.LENGTH, None):
            asked = (prompt(), response(text, stop))
            assert rendering.tokens(*asked) == whole.tokens(*asked)
            assert rendering.opened(*asked, [2]) == whole.opened(*asked, [2])


def test_a_system_message_that_the_template_refuses():
    rendering = Rendering(AutoTokenizer.from_pretrained(REWARD), 512, TEMPLATES["refuses"])
    system, user = Message("system", "Be kind."), ASKED[0]
    merged = Message("user", "Be kind.\n\n2 + 2?")
    for stop in (Stop.EOS, Stop.LENGTH, None):
        answer = response("Four.", stop)
        assert rendering.tokens(prompt(system, user), answer) == rendering.tokens(
            prompt(merged), answer
        )
    twice = rendering.tokens(prompt(user, user), response("Four.", Stop.EOS))
    once = prompt(Message("user", "2 + 2?\n\n2 + 2?"))
    assert twice == rendering.tokens(once, response("Four.", Stop.EOS))


def test_a_refusal_concerns_one_response():
    refuses = (
        TURN + "{% if 'z' in m.content %}{{ raise_exception('no z') }}{% endif %}{{ m.content }}"
    )
    refuses += END
    rendering = Rendering(AutoTokenizer.from_pretrained(REWARD), 512, refuses)
    with pytest.raises(RewardError, match="no z") as refused:
        rendering.tokens(prompt(Message("system", "s"), *ASKED), response("xyz", Stop.EOS))
    assert refused.value.response.text == "xyz"


def test_a_template_that_leaves_the_response_out():
    rendering = Rendering(AutoTokenizer.from_pretrained(REWARD), 512, "{{ messages[0].content }}")
    with pytest.raises(RewardError, match="leaves the response out"):
        rendering.tokens(prompt(), response("Four.", Stop.EOS))
