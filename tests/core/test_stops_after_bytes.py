"""Stop strings go to the engine only with a prefix whose text cannot change any more."""

import itertools

import pytest
from made_tokenizers import llama

from rsalign.engines.vllm.environment import import_vllm
from rsalign.engines.vllm.text import new_detokenizer
from rsalign.policies.tokenization import Tokenization

pytestmark = pytest.mark.vllm


def test_no_run_of_bytes_lets_vllm_find_a_stop_string_of_the_prompt():
    import_vllm()
    from vllm import SamplingParams

    tokenizer = llama()
    tokenization = Tokenization(tokenizer, 1000, None, None)
    prompt = tuple(tokenizer.encode("Iris has 5 apples"))
    parts = tokenizer.convert_tokens_to_ids(["<0xC3>", "<0xA9>", "a"])
    sent = 0
    for length in (1, 4, 5, 6):
        for run in itertools.product(parts, repeat=length):
            prefix = prompt + run
            if not tokenization.engine_stops(prefix, ("apples",)):
                continue
            sent += 1
            for drawn in itertools.product(parts, repeat=2):
                params = SamplingParams(stop=["apples"], max_tokens=9)
                detokenizer = new_detokenizer(tokenizer, params, prefix)
                assert detokenizer.update(list(drawn), False) is None, (run, drawn)
    assert sent > 300, "stop strings are withheld without need"
