"""Tokenizers of the kinds that language models have, trained here on a few lines.

Each kind makes text of tokens in its own way: a space that belongs to a word, characters of several
tokens, words that are changed by what follows them.
"""

import json
import shutil
from functools import cache
from pathlib import Path

import mistral_common
from tokenizers import (
    AddedToken,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    trainers,
)
from transformers import PreTrainedTokenizerFast
from transformers.tokenization_python import PreTrainedTokenizer
from vllm.tokenizers.mistral import MistralTokenizer

TEXTS = (
    "Ann has 3 apples. Ann buys 4 more, and Tom has 12 pens; how many are there?",
    "  two spaces\n\n\tand a tab, don't you think? (yes) [no] {perhaps} it's 1,000.50!",
    "中文字和日本語のテキスト、한국어 텍스트도 있다。",
    "emoji 🍎🙈 and a family 👩‍👩‍👧 and a flag 🇨🇭, café naïve Ωμέγα",
)
UNSEEN = "🦊🧿 學習 żółć, x🦊y"  # characters that have to be put together of bytes
SPECIAL = ["<s>", "</s>", "<unk>", "<|turn|>"]
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]


def _finished(tokenizer):
    tokenizer.add_special_tokens([AddedToken(name, special=True) for name in SPECIAL])
    tokenizer.add_tokens(["<tool>", "</tool>"])  # added, but not special: they are shown
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )


@cache
def llama():
    """SentencePiece BPE as Llama 2 has it: a space before the text, bytes for missing pieces."""
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    tokenizer.train_from_iterator(
        TEXTS[:2], trainers.BpeTrainer(vocab_size=190, special_tokens=SPECIAL[:3])
    )
    made = json.loads(tokenizer.to_str())  # a trainer would take bytes for special tokens
    vocabulary = made["model"]["vocab"]
    vocabulary |= {name: len(vocabulary) + i for i, name in enumerate(BYTES)}
    tokenizer = Tokenizer.from_str(json.dumps(made))
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    return _finished(tokenizer)


@cache
def unigram():
    """SentencePiece Unigram with Metaspace, as T5 and many multilingual models have it."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.train_from_iterator(
        TEXTS, trainers.UnigramTrainer(vocab_size=200, special_tokens=SPECIAL, unk_token="<unk>")
    )
    return _finished(tokenizer)


@cache
def byte_level():
    """Byte-level BPE as GPT-2, Llama 3 and Qwen have it: characters may be cut anywhere."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        TEXTS,
        trainers.BpeTrainer(vocab_size=420, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()),
    )
    return _finished(tokenizer)


@cache
def word_piece():
    """WordPiece, whose decoder closes the space before punctuation: later tokens change text."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(cleanup=True)
    tokenizer.train_from_iterator(
        TEXTS, trainers.WordPieceTrainer(vocab_size=260, special_tokens=SPECIAL)
    )
    return _finished(tokenizer)


class Characters(PreTrainedTokenizer):
    """A tokenizer in Python: a token is a byte, and special ones stand by themselves."""

    def __init__(self, **given):
        self._vocabulary = {chr(byte): byte for byte in range(256)}
        super().__init__(bos_token="<s>", eos_token="</s>", **given)

    @property
    def vocab_size(self):
        return 256

    def get_vocab(self):
        return self._vocabulary | self.added_tokens_encoder

    def _tokenize(self, text, **given):
        return [chr(byte) for byte in text.encode()]

    def _convert_token_to_id(self, token):
        return self._vocabulary.get(token)

    def _convert_id_to_token(self, index):
        return chr(index)

    def convert_tokens_to_string(self, tokens):
        data = b"".join(
            t.encode("latin-1") if t in self._vocabulary else t.encode() for t in tokens
        )
        return data.decode(errors="replace")


@cache
def in_python():
    """A tokenizer without the tokenizers library, with words that were added."""
    tokenizer = Characters()
    tokenizer.add_tokens(["<tool>", "</tool>"])
    return tokenizer


@cache
def tekken():
    """Mistral's own, as vLLM wraps it."""
    return _mistral("tekken_240911.json", "tekken.json")


@cache
def mistral_sentencepiece():
    """Mistral's older one, with SentencePiece's own library."""
    return _mistral("mistral_instruct_tokenizer_240323.model.v3", "tokenizer.model.v3")


def _mistral(name, stored):
    import tempfile

    folder = Path(tempfile.mkdtemp())
    shutil.copy(Path(mistral_common.__file__).parent / "data" / name, folder / stored)
    return MistralTokenizer.from_pretrained(str(folder))


ALL = (llama, unigram, byte_level, word_piece, in_python, tekken, mistral_sentencepiece)
