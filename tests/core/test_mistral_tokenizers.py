"""Mistral's own tokenizer, whose files the package mistral_common has: vLLM renders, we decode."""

import shutil
from pathlib import Path

import pytest

from rsalign.core.fingerprint import fingerprint
from rsalign.engines.vllm.building import engine_arguments, has_mistral_tokenizer_only
from rsalign.engines.vllm.text import new_detokenizer
from rsalign.policies.conversations import Conversations
from rsalign.policies.tokenization import Tokenization

TEXT = "Grüße, 你好 \N{MAN}\N{ZERO WIDTH JOINER}\N{WOMAN}! def f(x):\n    return x"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    mistral_common = pytest.importorskip("mistral_common")
    data = Path(mistral_common.__file__).parent / "data"
    made = tmp_path_factory.mktemp("tekken")
    shutil.copy(min(data.glob("tekken_*.json")), made / "tekken.json")
    return made


@pytest.fixture(scope="module")
def tokenizer(folder):
    from vllm.tokenizers.mistral import MistralTokenizer

    return MistralTokenizer.from_pretrained(str(folder))


def test_a_folder_with_no_other_tokenizer_is_opened_by_mistrals_own(folder, tmp_path):
    assert engine_arguments(str(folder), {}, pooling=False)["tokenizer_mode"] == "mistral"
    given = engine_arguments(str(folder), {"tokenizer_mode": "hf"}, pooling=False)
    assert given["tokenizer_mode"] == "hf"
    for name, found in (("tekken.json", True), ("tokenizer.json", False)):
        (tmp_path / name).touch()
        assert has_mistral_tokenizer_only(str(tmp_path)) == found
    assert not has_mistral_tokenizer_only("org/model")


def test_its_text_is_that_of_vllms_detokenizer(tokenizer):
    from vllm import SamplingParams

    tokenization = Tokenization(tokenizer, 999)
    tokens = tokenization.encode(TEXT)[1:]
    prompt = tokenization.encode("Hello")
    for end in range(1, len(tokens) + 1):
        growing = new_detokenizer(tokenizer, SamplingParams(), prompt)
        growing.update(list(tokens[:end]), False)
        theirs = growing.get_next_output_text(finished=True, delta=False)
        assert tokenization.detokenizer(prompt).read(tokens[:end]) == theirs
    assert theirs == TEXT


def test_its_marks_and_its_fingerprint(folder, tokenizer):
    from vllm.tokenizers.mistral import MistralTokenizer

    assert Conversations(tokenizer).begin == "<s>"
    again = MistralTokenizer.from_pretrained(str(folder))
    assert fingerprint(tokenizer) == fingerprint(again)
    other = MistralTokenizer.from_pretrained(str(folder))
    other._vocab_dict = {**other.get_vocab(), "one more": 1 << 20}
    assert fingerprint(tokenizer) != fingerprint(other)
