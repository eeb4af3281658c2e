"""The text that vLLM's own detokenizer makes of tokens."""

from collections.abc import Sequence
from typing import Any

from rsalign.engines.vllm.text import new_detokenizer


def text_of_vllm(
    tokenizer: Any, prompt: Sequence[int], tokens: Sequence[int], *, ended: bool = False
) -> str:
    """Decodes a finished response to a prompt.

    Args:
        tokenizer: of the engine.
        prompt: token ids before the response.
        tokens: of the response.
        ended: whether the last token ended the response and has no text.
    """
    from vllm import SamplingParams

    reader = new_detokenizer(tokenizer, SamplingParams(), prompt)
    reader.update(list(tokens), ended)
    return reader.get_next_output_text(finished=True, delta=False)
