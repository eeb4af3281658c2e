"""Every family's tokenizer: texts, the end of a segment, choices of a judge, ends of steps."""

import asyncio
import unicodedata
from dataclasses import dataclass, field

import pytest

from rsalign import Key, Message, Prompt, Response, Steps, Stop
from rsalign.core.text.detokenization import detokenizer
from rsalign.core.text.reasoning import Reasoning
from rsalign.hooks.segment_end.sentinel import choose_sentinel
from rsalign.policies.tokenization import Tokenization
from rsalign.rewards.judge_templates import Template
from rsalign.rewards.judge_verdicts import weigh_choices
from tests.families.checkpoints import token_ids
from tests.families.vllm_text import text_of_vllm

pytestmark = pytest.mark.vllm

TEXTS = (
    "Two apples, don't you think? (yes)\n\n\tand 1,000.50!",
    "学生たちは日本語を話す。한국어도 있다、是的。",
    "👩‍👩‍👧 🇨🇭 👍🏽 ☕\N{VARIATION SELECTOR-16} é e\N{COMBINING ACUTE ACCENT} Ωμέγα",
    "龘𠮷 \N{MATHEMATICAL DOUBLE-STRUCK CAPITAL X} \N{ZERO WIDTH SPACE}|",
)
QUESTION = (Message("user", "Is 学生 a word?"),)
TURNS = {
    "one turn": [Message("user", "Hi")],
    "three turns": [Message("user", "Hi"), Message("assistant", "Yes?"), Message("user", "Bye")],
}


def encode(tokenizer, text):
    return tokenizer.encode(text, add_special_tokens=False)


@pytest.mark.parametrize("text", TEXTS)
def test_texts_come_back(tokenizer, text):
    """But for the space that SentencePiece puts before a text's first word.

    Qwen's tokenizers compose characters of an accent and a letter.
    """
    tokens = encode(tokenizer, text)
    found = Tokenization(tokenizer, 1000).text(tuple(tokens)).removeprefix(" ")
    assert found in (text, unicodedata.normalize("NFC", text))


@pytest.mark.parametrize("seed", range(20))
def test_text_only_grows_and_is_vllms(tokenizer, seed):
    """Of tokens of a real text with arbitrary ones among them, after several prompts."""
    draw = Key(seed)
    tokens = encode(tokenizer, TEXTS[seed % len(TEXTS)])
    for i in range(6):
        place = draw.child("place", i).below(len(tokens) + 1)
        tokens.insert(place, draw.child("token", i).below(len(tokenizer)))
    for prompt in (encode(tokenizer, "学生"), encode(tokenizer, "A 👩"), [1]):
        reader, read = detokenizer(tokenizer, prompt), ""
        for count, token in enumerate(tokens, 1):
            read += reader.read([token])
            assert read == text_of_vllm(tokenizer, prompt, tokens[:count])


def test_ends_of_answers_have_no_text(tokenizer, family):
    for name, token in token_ids(family).items():
        assert 0 <= token < family.vocab_size
        assert tokenizer.decode([token], skip_special_tokens=True) == "", name
        assert text_of_vllm(tokenizer, [1], [token]) == "", name


def test_the_token_that_ends_a_segment_is_needed_by_no_answer(tokenizer, family):
    """It is not an end, and no turn of an assistant has it."""
    ids = token_ids(family)
    ends = {ids[name] for name in family.ends}
    sentinel = choose_sentinel(tokenizer, family.vocab_size, ends)
    assert sentinel is not None
    assert 0 <= sentinel < family.vocab_size
    assert sentinel not in ends
    if sentinel < len(tokenizer):
        assert tokenizer.decode([sentinel], skip_special_tokens=True) == ""
    if not hasattr(tokenizer, "get_chat_template"):
        return
    tokenization = Tokenization(tokenizer, 1000)
    for turns in TURNS.values():
        prompt = tokenization.encode_chat(tuple(turns))
        answered = (*turns, Message("assistant", "学生 is a word."))
        whole = tokenization.encode_chat(answered, add_generation_prompt=False)
        assert sentinel not in whole[len(prompt) :]


@dataclass(frozen=True)
class Asked:
    """A judge that only notes which tokens it is asked about."""

    tokenization: Tokenization
    heard: list = field(default_factory=list)

    def encode_chat(self, messages, **options):
        return self.tokenization.encode_chat(messages, **options)

    async def log_probs(self, prefix, tokens):
        self.heard.append(prefix + tokens)
        return (-1.0,) * len(tokens)


@pytest.mark.parametrize("choices", [("Yes", "No"), ("A", "B"), ("1", "10"), ("是", "否")], ids=str)
def test_choices_of_a_judge_are_the_tokens_that_it_would_write(hf_tokenizer, choices):
    """Those of question and choice encoded together, with or without a space between them."""
    judge = Asked(Tokenization(hf_tokenizer, 1000))
    template = Template(user="{response}?", choices=choices)
    if choices == ("1", "10") and begins(hf_tokenizer, *choices):
        return  # refused: one would be given the other's probability
    asyncio.run(weigh_choices(judge, template, QUESTION))
    question = judge.tokenization.render_chat(QUESTION)
    for choice, tokens in zip(choices, judge.heard, strict=True):
        joint = [tuple(encode(hf_tokenizer, question + gap + choice)) for gap in ("", " ")]
        assert tokens in joint


def begins(tokenizer, one, other):
    one, other = encode(tokenizer, one), encode(tokenizer, other)
    return other[: len(one)] == one


class Noted:
    """A step reward that notes where steps end."""

    async def score_steps(self, prompt, response, ends):
        self.ends = ends
        return (0.0,) * len(ends)


@pytest.mark.parametrize("lines", [TEXTS[1:3], ("One.", "", "学生 👩‍👩‍👧", "x"), ("🇨🇭",)], ids=str)
def test_steps_end_with_the_token_that_completes_a_line(tokenizer, lines):
    policy, noted = Tokenization(tokenizer, 1000), Noted()
    tokens = tuple(encode(tokenizer, "\n".join(lines)))
    text = policy.text(tokens)
    response = Response(tokens, text, Stop.LENGTH)
    asyncio.run(Steps(noted, policy.text).score(Prompt(QUESTION, (1,)), response))
    assert noted.ends[-1] == len(tokens)
    for end in noted.ends[:-1]:
        before, after = policy.text(tokens[: end - 1]), policy.text(tokens[:end])
        assert text.startswith(after)
        completed = after[len(before) :]
        assert "\n" in completed
    full = [line for line in lines if line]
    assert len(noted.ends) == len(full)


THOUGHTS = {
    "qwen3": ("qwen3", "<think>\nhm 学\n</think>\n\nFour 👩‍👩‍👧."),
    "gptoss": (
        "openai_gptoss",
        "<|channel|>analysis<|message|>hm 学<|end|>"
        "<|start|>assistant<|channel|>final<|message|>Four 👩‍👩‍👧.",
    ),
}
"""Responses of models that think, and vLLM's parser of them, by family.

DeepSeek-V3's tokenizer has no tokens for a thought, which R1's has: the parser of R1 is refused.
"""


def test_a_thought_is_no_part_of_the_answer(tokenizer, family):
    if family.name not in THOUGHTS:
        pytest.skip("a model that writes no thought")
    parser, response = THOUGHTS[family.name]
    reader = Tokenization(tokenizer, 1000, reasoning=Reasoning(parser))
    tokens = tuple(encode(tokenizer, response))
    prompt = Prompt(QUESTION, reader.encode_chat(QUESTION))
    answer, thought = reader.divide(prompt, tokens, reader.text(tokens), complete=True)
    assert answer.strip() == "Four 👩‍👩‍👧."
    assert thought is not None
    assert thought.strip() == "hm 学"
