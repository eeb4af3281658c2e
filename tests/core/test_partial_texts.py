"""A response that grows segment by segment is decoded once, and as if it were decoded whole."""

import asyncio
from dataclasses import dataclass, field, replace

import pytest

from rsalign import Key, Run
from rsalign.core.text.detokenization import detokenizer
from rsalign.core.text.partial_texts import PartialTexts
from rsalign.core.text.response_text import Guarded, Redecoding
from rsalign.core.types import Message, Prompt, Stop
from rsalign.segments import FixedSize
from rsalign.testing import ToyPolicy, ToyReward

PROMPT = Prompt((Message("user", "1"),), (1,))
BYTES = "né 漢字 x".encode()


@dataclass
class Stubborn:
    """Reads bytes, counts those it was given, and cannot be copied."""

    counted: list
    pending: bytes = b""

    def read(self, tokens):
        self.counted += tokens
        self.pending += bytes(tokens)
        text = self.pending.decode(errors="ignore")
        self.pending = self.pending[len(text.encode()) :]
        return text


class Bytes(Stubborn):
    """Which can be copied; copies count together."""

    def fork(self):
        return replace(self)


class Late(Stubborn):
    """Which notices late that it cannot be copied."""

    def fork(self):
        return None


@dataclass(frozen=True)
class Reading(ToyPolicy):
    """A policy with a detokenizer of its own."""

    counted: list = field(default_factory=list)
    make: type = Bytes

    def detokenizer(self, prompt):
        return self.make(self.counted)

    def token_text(self, token):
        return self.text((token,))


@pytest.mark.parametrize("guarded", [False, True])
@pytest.mark.parametrize(("make", "num_read"), [(Bytes, 1), (Stubborn, None), (Late, None)])
def test_each_token_is_read_once_where_detokenizers_can_be_copied(make, num_read, guarded):
    policy, texts = Reading(make=make), PartialTexts()
    if guarded:
        inner = policy
        policy = Reading(make=lambda counted: Guarded(inner.make(inner.counted), RuntimeError))
    tokens = tuple(BYTES)
    for end in range(1, len(tokens) + 1):
        text = texts.read(policy, (1,), tokens[:end], kept=end - 1, continues=True)
        assert text == bytes(tokens[:end]).decode(errors="ignore")
    counted = inner.counted if guarded else policy.counted
    everything = len(tokens) * (len(tokens) + 1) // 2
    assert len(counted) == (everything if num_read is None else num_read * len(tokens))


def test_a_prefix_is_continued_in_several_ways():
    policy, texts = Reading(), PartialTexts()
    begin = tuple("né".encode()[:2])  # the middle of a character
    texts.read(policy, (1,), begin, kept=0, continues=True)
    ends = [tuple(BYTES[2:4]), (0xA8, 0x20), ()]
    for end in ends * 2:
        text = texts.read(policy, (1,), begin + end, kept=2, continues=False)
        assert text == bytes(begin + end).decode(errors="ignore")
    assert len(policy.counted) == 2 + 2 * sum(map(len, ends))


@pytest.mark.parametrize("other", ["prompt", "policy", "kept"])
def test_what_another_has_read_is_not_taken(other):
    policy, texts = Reading(), PartialTexts()
    texts.read(policy, (1,), (65, 66), kept=0, continues=True)
    asked = {"prompt": (1,), "policy": policy, "kept": 2}
    asked |= {other: {"prompt": (2,), "policy": Reading(), "kept": 1}[other]}
    tokens = (65, 66, 67)
    assert texts.read(tokens=tokens, continues=False, **asked) == "ABC"
    assert len(asked["policy"].counted) == 3 + 2 * (other != "policy")


def test_few_texts_are_held():
    policy, texts = Reading(), PartialTexts()
    for i in range(2000):
        texts.read(policy, (i,), (65,), kept=0, continues=True)
    assert len(texts._known) == 256
    texts.read(policy, (1999,), (65, 66), kept=1, continues=False)
    assert len(policy.counted) == 2001


def test_drafts_read_their_own_tokens_only():
    async def grow(run):
        answer, stop, num_drafts = (), Stop.BOUNDARY, 0
        while stop is Stop.BOUNDARY:
            draft = await run.at(num_drafts).draft(
                PROMPT, answer, max_tokens=90, boundary=FixedSize(1)
            )
            answer, stop, num_drafts = draft.tokens, draft.response.stop, num_drafts + 1
        return num_drafts

    policy, reward = Reading(), ToyReward()
    num_drafts = [asyncio.run(grow(Run(policy, reward, Key(seed)))) for seed in range(40)]
    assert max(num_drafts) > 4
    assert len(policy.counted) <= sum(num_drafts)


@pytest.mark.parametrize("prompt", [(), (5, 6, 7)])
def test_copies_of_the_detokenizers_of_models_are_independent(prompt):
    from transformers import AutoTokenizer

    from rsalign.embedded import POLICY

    tokenizer = AutoTokenizer.from_pretrained(POLICY)
    tokens = tokenizer.encode("Ann has 12 coins.\nAnn é 漢 buys 7.", add_special_tokens=False)
    slow = type("Slow", (), {name: getattr(tokenizer, name) for name in SLOW})()
    slow.is_fast, Slow = False, type(slow)
    Slow.__len__ = lambda self: len(tokenizer)
    for kind in (tokenizer, slow):
        whole = detokenizer(kind, prompt).read(tokens)
        for cut in range(len(tokens)):
            first = detokenizer(kind, prompt)
            begun = first.read(tokens[:cut])
            copies = [first.fork(), first.fork()]
            copies[0].read([9, 9, 9])
            assert begun + copies[1].read(tokens[cut:]) == whole
            assert begun + first.read(tokens[cut:]) == whole


SLOW = (
    "get_added_vocab",
    "all_special_tokens",
    "convert_ids_to_tokens",
    "convert_tokens_to_string",
)


def test_a_copy_that_decodes_again_has_read_the_same():
    first = Redecoding(lambda tokens: bytes(tokens).decode(errors="replace"))
    first.read(BYTES[:2])
    other = first.fork()
    assert other.read(BYTES[2:]) == first.read(BYTES[2:]) == "é 漢字 x"
