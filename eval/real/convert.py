"""Makes an ordinary Hugging Face checkpoint of the model's GGUF file.

The weights come out as what the 4-bit file holds, in float32. Two things that transformers does not
take from a GGUF file are set by hand:

- the tokenizer splits numbers into digits, as the file's ``tokenizer.ggml.pre = smollm`` says;
- an answer ends at ``<|im_end|>``, and a text that is continued without a chat template at
  ``<|endoftext|>``: both are EOS ids in ``generation_config.json``.
"""

import logging
from importlib.util import find_spec
from pathlib import Path

import torch
from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig, PreTrainedTokenizerFast

from eval.real.cache import complete_folder
from eval.real.fetch import GGUF
from rsalign import InstallError

logger = logging.getLogger(__name__)

_ENDS = ("<|im_end|>", "<|endoftext|>")


def convert(source: Path, into: Path) -> None:
    """Writes the checkpoint of the GGUF file in `source` into a new folder, 538 MB.

    Raises:
        InstallError: if a package that reads GGUF files is missing.
    """
    for package in ("gguf", "accelerate"):
        if find_spec(package) is None:
            raise InstallError(
                f"reading a GGUF file needs the package {package}: pip install --no-deps -r "
                "requirements/real.txt"
            )
    tokenizer = _tokenizer(source)
    model = AutoModelForCausalLM.from_pretrained(
        source,
        gguf_file=GGUF,
        dtype=torch.float32,
        quantization_config=GgufConfig(dequantize=True),
    )
    model.generation_config.eos_token_id = tokenizer.convert_tokens_to_ids(list(_ENDS))
    with complete_folder(into) as folder:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        (folder / "LICENSE").write_bytes((source / "LICENSE").read_bytes())


def _tokenizer(source: Path) -> PreTrainedTokenizerFast:
    tokenizer = AutoTokenizer.from_pretrained(source, gguf_file=GGUF)
    tokenizer.backend_tokenizer.pre_tokenizer = Sequence(
        [Digits(individual_digits=True), ByteLevel(add_prefix_space=False, use_regex=True)]
    )
    return tokenizer
