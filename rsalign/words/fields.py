"""What becomes of each field of vLLM's requests where a strategy answers: one table for all doors.

`TABLES` has a row for every field of vLLM's `SamplingParams`, of the parameters of its methods and
of the request bodies of its server. A test compares it with the installed vLLM, so that no field
can be forgotten or ignored silently. Doors refuse by this table (`refuse`), with its reason.
"""

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from rsalign.core.errors import ConfigError


class Fate(StrEnum):
    """What becomes of a field."""

    LAW = "honoured by every strategy"
    """It is part of the law, the length or the number of answers."""
    WHOLE = "honoured by strategies that draw whole answers, refused by those that cut them"
    """It depends on where the prompt ended; see `Sampling.whole_answer_fields`."""
    ENGINE = "sent with every request to the engine"
    """It changes how the engine works, and not what it draws."""
    SHOWN = "honoured where answers are shown"
    """It changes how an answer is presented, and not the answer."""
    VLLM = "honoured by vLLM itself"
    """vLLM's own code deals with it before or after the strategy: templates, tools, formats."""
    NOTHING = "without effect, as in vLLM"
    """vLLM does nothing with it either, or it concerns what is refused."""
    REFUSED = "refused"
    """Nothing can be done with it; the row says why."""


@dataclass(frozen=True, slots=True)
class Row:
    """One field.

    Attributes:
        fate: what becomes of it.
        note: why it is refused, or what there is to know of it.
    """

    fate: Fate
    note: str = ""


def _rows(fate: Fate, *names: str, note: str = "") -> dict[str, Row]:
    return {name: Row(fate, note) for name in names}


BEST_OF = (
    "it is OpenAI's old word for drawing several answers and keeping the most probable; ask for "
    'the strategy instead: rsalign={"strategy": "best_of", "n": 4}'
)
_LIKELIHOOD = (
    "an aligned law has no likelihood that could be computed; ask the policy itself for its own "
    '(rsalign: "none")'
)
_CONTINUES = (
    "the reward would judge the continuation as an answer of its own; send the conversation "
    "without its last message, or render it yourself and continue it as a plain prompt"
)
_TRANSFER = "a strategy sends several requests to the engine, and a transfer belongs to one of them"
_PLAIN_PROMPTS = "strategies answer text and token ids, not images, audio, video or embeddings"
_WATERMARK = (
    "a watermark makes the tokens a function of the text before them, so that draws of one prompt "
    "would all be alike; watermarking=False is honoured"
)
_REPETITION = "it ends an answer for a reason that the answers of strategies do not have"
_BEAM = "beam search and a strategy exclude each other"
_BEAM_ONLY = "of beam search only"

SAMPLING_PARAMS: Mapping[str, Row] = {
    **_rows(Fate.LAW, "n", "seed", "max_tokens", "temperature", "top_p", "top_k", "min_p"),
    **_rows(Fate.LAW, "repetition_penalty", "logit_bias", "allowed_token_ids"),
    **_rows(Fate.LAW, "stop", "stop_token_ids", "ignore_eos"),
    "min_tokens": Row(Fate.LAW, "not beside boundaries of segments that the engine itself finds"),
    **_rows(Fate.WHOLE, "presence_penalty", "frequency_penalty", "bad_words"),
    **_rows(Fate.WHOLE, "structured_outputs", "thinking_token_budget"),
    "extra_args": Row(Fate.LAW, "words of rsalign and weights of guides; others are refused"),
    "skip_reading_prefix_cache": Row(Fate.ENGINE),
    "watermarking": Row(Fate.REFUSED, _WATERMARK),
    **_rows(Fate.SHOWN, "logprobs", "logprob_token_ids", "flat_logprobs", "detokenize"),
    **_rows(Fate.SHOWN, "skip_special_tokens", "spaces_between_special_tokens"),
    **_rows(Fate.SHOWN, "include_stop_str_in_output", "output_kind", "stream_interval"),
    **_rows(Fate.REFUSED, "prompt_logprobs", "prompt_logprob_token_ids", note=_LIKELIHOOD),
    **_rows(Fate.REFUSED, "prompt_logprob_start", note=_LIKELIHOOD),
    "repetition_detection": Row(Fate.REFUSED, _REPETITION),
    "routed_experts_prompt_start": Row(
        Fate.REFUSED, "which experts were used is not told of a strategy's answers"
    ),
    "trace_decode_token_ids": Row(
        Fate.REFUSED, "it forces the tokens, so that there is nothing to choose from"
    ),
    **_rows(Fate.NOTHING, "skip_clone", "output_text_buffer_length", note="set by vLLM itself"),
    **_rows(Fate.NOTHING, "_eos_token_id", "_all_stop_token_ids", note="set by vLLM itself"),
    **_rows(Fate.NOTHING, "_watermarking_skipped", "_bad_words_token_ids", note="set by vLLM"),
}

PROMPT: Mapping[str, Row] = {
    **_rows(Fate.LAW, "prompt", "prompt_token_ids"),
    "cache_salt": Row(Fate.ENGINE),
    "prompt_token_offsets": Row(Fate.NOTHING, "where vLLM's renderer found the tokens in the text"),
    **_rows(Fate.REFUSED, "multi_modal_data", "multi_modal_uuids", note=_PLAIN_PROMPTS),
    **_rows(Fate.REFUSED, "media_io_kwargs", "mm_processor_kwargs", note=_PLAIN_PROMPTS),
    "token_type_ids": Row(Fate.REFUSED, "they are for models that judge pairs of texts"),
    **_rows(Fate.REFUSED, "prompt_embeds", "prompt_is_token_ids", note=_PLAIN_PROMPTS),
}
"""The keys of vLLM's prompts: `TextPrompt`, `TokensPrompt` and `EmbedsPrompt`."""

_LLM_METHOD = {
    "sampling_params": Row(Fate.LAW),
    "use_tqdm": Row(Fate.SHOWN),
    **_rows(Fate.ENGINE, "lora_request", "priority", note="one for all prompts, or one for each"),
    "tokenization_kwargs": Row(Fate.VLLM),
    "mm_processor_kwargs": Row(Fate.REFUSED, _PLAIN_PROMPTS),
}
LLM_GENERATE: Mapping[str, Row] = {"prompts": Row(Fate.LAW), **_LLM_METHOD}
LLM_CHAT: Mapping[str, Row] = {
    "messages": Row(Fate.LAW),
    **_LLM_METHOD,
    **_rows(Fate.VLLM, "chat_template", "chat_template_content_format", "chat_template_kwargs"),
    **_rows(Fate.VLLM, "add_generation_prompt", "tools"),
    "continue_final_message": Row(Fate.REFUSED, _CONTINUES),
}
ASYNC_GENERATE: Mapping[str, Row] = {
    **_rows(Fate.LAW, "prompt", "sampling_params"),
    **_rows(Fate.SHOWN, "request_id", "prompt_text"),
    **_rows(Fate.ENGINE, "lora_request", "priority", "data_parallel_rank", "session_id"),
    **_rows(Fate.ENGINE, "trace_headers", "reasoning_ended", "reasoning_parser_kwargs"),
    "tokenization_kwargs": Row(
        Fate.REFUSED, "encode the prompt yourself, and give its prompt_token_ids"
    ),
    "kv_hints": Row(Fate.REFUSED, _TRANSFER),
}

# what all bodies of requests share
_BODY = {
    "model": Row(Fate.LAW, "NAME:STRATEGY asks for a strategy"),
    **_rows(Fate.LAW, "temperature", "top_p", "top_k"),
    "cache_salt": Row(Fate.ENGINE),
    "watermarking": Row(Fate.REFUSED, _WATERMARK),
    **_rows(Fate.NOTHING, "mm_payload", "return_mm_kwargs", note="of media, which are refused"),
    **_rows(Fate.REFUSED, "kv_transfer_params", "ec_transfer_params", note=_TRANSFER),
    "vllm_xargs": Row(Fate.LAW, "words of rsalign and weights of guides; others are refused"),
    "chat_template_kwargs": Row(Fate.VLLM),
    "stream": Row(Fate.SHOWN),
}
_OPENAI = {
    **_BODY,
    **_rows(Fate.LAW, "min_p", "repetition_penalty", "logit_bias", "seed", "stop"),
    **_rows(Fate.LAW, "stop_token_ids", "ignore_eos"),
    **_rows(Fate.WHOLE, "presence_penalty", "frequency_penalty", "structured_outputs"),
    **_rows(Fate.ENGINE, "priority", "session_id"),
    **_rows(Fate.SHOWN, "skip_special_tokens", "include_stop_str_in_output"),
    "request_id": Row(Fate.VLLM),
    "user": Row(Fate.NOTHING),
}
_COMPLETING = {
    **{name: row for name, row in _OPENAI.items() if name != "chat_template_kwargs"},
    **_rows(Fate.LAW, "max_tokens", "n", "min_tokens", "allowed_token_ids"),
    **_rows(Fate.WHOLE, "response_format", "bad_words", "thinking_token_budget"),
    **_rows(Fate.SHOWN, "logprobs", "logprob_token_ids", "spaces_between_special_tokens"),
    **_rows(Fate.SHOWN, "stream_interval"),
    **_rows(Fate.VLLM, "stream_options", "truncate_prompt_tokens", "truncation_side"),
    **_rows(Fate.VLLM, "add_special_tokens", "return_tokens_as_token_ids", "return_token_ids"),
    "return_token_offsets": Row(Fate.VLLM, "of the tokens in the prompt"),
    "use_beam_search": Row(Fate.REFUSED, _BEAM),
    "length_penalty": Row(Fate.NOTHING, _BEAM_ONLY),
    "prompt_logprobs": Row(Fate.REFUSED, _LIKELIHOOD),
    "routed_experts_prompt_start": SAMPLING_PARAMS["routed_experts_prompt_start"],
    "repetition_detection": Row(Fate.REFUSED, _REPETITION),
}
COMPLETION: Mapping[str, Row] = {
    **_COMPLETING,
    "prompt": Row(Fate.LAW),
    "echo": Row(Fate.VLLM, "with logprobs it asks for those of the prompt, which are refused"),
    "suffix": Row(Fate.VLLM, "it is part of the prompt, for models that fill in"),
    "prompt_embeds": Row(Fate.REFUSED, _PLAIN_PROMPTS),
}
CHAT: Mapping[str, Row] = {
    **_COMPLETING,
    "messages": Row(Fate.LAW, "the reward gets them, too"),
    "max_completion_tokens": Row(Fate.LAW),
    "top_logprobs": Row(Fate.SHOWN),
    "chat_template_kwargs": Row(Fate.VLLM),
    **_rows(Fate.VLLM, "tools", "parallel_tool_calls", "reasoning_effort", "include_reasoning"),
    "tool_choice": Row(Fate.WHOLE, 'a tool that is required or named is a grammar; "auto" is free'),
    **_rows(Fate.VLLM, "add_generation_prompt", "documents", "chat_template"),
    "return_prompt_text": Row(Fate.VLLM),
    "continue_final_message": Row(Fate.REFUSED, _CONTINUES),
    "echo": Row(Fate.REFUSED, "vLLM's chat asks with it for log-probabilities of the prompt"),
    **_rows(Fate.NOTHING, "media_io_kwargs", note="of media, which are refused"),
    **_rows(Fate.NOTHING, "mm_processor_kwargs", note="of media, which are refused"),
}
BATCH: Mapping[str, Row] = {
    **_rows(Fate.LAW, "messages", "model", "max_tokens", "max_completion_tokens", "n", "seed"),
    **_rows(Fate.LAW, "temperature", "top_p", "top_k", "min_p", "repetition_penalty", "stop"),
    "logit_bias": Row(Fate.LAW),
    **_rows(Fate.WHOLE, "presence_penalty", "frequency_penalty", "response_format"),
    "structured_outputs": Row(Fate.WHOLE),
    **_rows(Fate.ENGINE, "priority", "cache_salt"),
    **_rows(Fate.SHOWN, "logprobs", "top_logprobs", "logprob_token_ids"),
    "include_stop_str_in_output": Row(Fate.SHOWN),
    **_rows(Fate.VLLM, "tool_choice", "include_reasoning", "request_id", "chat_template"),
    **_rows(Fate.VLLM, "add_generation_prompt", "chat_template_kwargs"),
    **_rows(Fate.VLLM, "return_tokens_as_token_ids", "return_token_ids"),
    "best_of": Row(Fate.REFUSED, BEST_OF),
    "use_beam_search": Row(Fate.REFUSED, _BEAM),
    **_rows(Fate.NOTHING, "length_penalty", "early_stopping", note=_BEAM_ONLY),
    **_rows(Fate.NOTHING, "user", "guided_decoding_backend"),
    **_rows(Fate.NOTHING, "media_io_kwargs", note="of media, which are refused"),
    **_rows(Fate.NOTHING, "mm_processor_kwargs", note="of media, which are refused"),
    "watermarking": Row(Fate.REFUSED, _WATERMARK),
    "continue_final_message": Row(Fate.REFUSED, _CONTINUES),
    "echo": CHAT["echo"],
}
RESPONSES: Mapping[str, Row] = {
    **_OPENAI,
    "input": Row(Fate.LAW, "not if its last message is incomplete: " + _CONTINUES),
    "max_output_tokens": Row(Fate.LAW),
    "text": Row(Fate.WHOLE, "its format may be a grammar"),
    "tool_choice": CHAT["tool_choice"],
    "include": Row(Fate.SHOWN, "log-probabilities of the answer"),
    "top_logprobs": Row(Fate.SHOWN),
    **_rows(Fate.VLLM, "background", "instructions", "max_tool_calls", "parallel_tool_calls"),
    **_rows(Fate.VLLM, "previous_response_id", "prompt", "reasoning", "include_reasoning"),
    **_rows(Fate.VLLM, "store", "tools", "truncation", "enable_response_messages"),
    "previous_input_messages": Row(Fate.VLLM),
    **_rows(Fate.NOTHING, "metadata", "service_tier", "prompt_cache_key"),
    **_rows(Fate.NOTHING, "media_io_kwargs", note="of media, which are refused"),
    **_rows(Fate.NOTHING, "mm_processor_kwargs", note="of media, which are refused"),
}
MESSAGES: Mapping[str, Row] = {
    **_BODY,
    "messages": Row(Fate.LAW, "the reward gets them, too"),
    **_rows(Fate.LAW, "max_tokens", "stop_sequences"),
    "output_config": Row(Fate.WHOLE, "its format may be a grammar"),
    "tool_choice": CHAT["tool_choice"],
    **_rows(Fate.VLLM, "thinking", "system", "tools"),
    "metadata": Row(Fate.NOTHING),
}
TABLES: Mapping[str, Mapping[str, Row]] = {
    "SamplingParams": SAMPLING_PARAMS,
    "prompt": PROMPT,
    "LLM.generate": LLM_GENERATE,
    "LLM.chat": LLM_CHAT,
    "AsyncLLM.generate": ASYNC_GENERATE,
    "/v1/completions": COMPLETION,
    "/v1/chat/completions": CHAT,
    "/v1/chat/completions/batch": BATCH,
    "/v1/responses": RESPONSES,
    "/v1/messages": MESSAGES,
}
"""By what has the fields: a class of vLLM's, one of its methods, or an endpoint."""

INERT = frozenset(
    {
        *("user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key"),
        *("prompt_cache_retention", "stream_options", "system_fingerprint"),
    }
)
"""Fields that say nothing of an answer, which clients send to endpoints that do not know them."""
_ALLOWED_VALUES = {"watermarking": (False,)}  # of refused fields


def is_refused(row: Row, name: str, value: Any, default: Any) -> bool:
    """Whether a field of this value is refused wherever a strategy answers."""
    if row.fate is not Fate.REFUSED or _same(value, default):
        return False
    return value not in _ALLOWED_VALUES.get(name, ())


def refuse(table: str, given: Iterable[tuple[str, Any, Any]]) -> None:
    """Refuses what a table says cannot be honoured, and what it does not know.

    Args:
        table: one of `TABLES`.
        given: name, value and default of each field.

    Raises:
        ConfigError: naming the field and the reason.
    """
    rows = TABLES[table]
    for name, value, default in given:
        row = rows.get(name)
        unknown = row is None and not _same(value, default)
        if unknown or (row is not None and is_refused(row, name, value, default)):
            reason = row.note if row is not None else f"it is not known in {table}"
            raise ConfigError(f"{name}={_short(value)} cannot be honoured: {reason}")


def _same(value: Any, default: Any) -> bool:
    if value is None or default is None:
        return value is default
    return bool(value == default)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:100]}..."


def markdown() -> str:
    """The tables as docs/fields.md shows them."""
    parts = [_HEAD]
    for table, rows in TABLES.items():
        parts.append(f"\n## `{table}`\n\n| what becomes of it | fields |\n|---|---|\n")
        for fate in Fate:
            names = [name for name in rows if rows[name].fate is fate and name[0] != "_"]
            if names:
                shown = ", ".join(f"`{name}`" for name in names)
                parts.append(f"| {fate.value} | {shown} |\n")
        notes: dict[str, list[str]] = {}
        for name, row in rows.items():
            if row.note and name[0] != "_":
                notes.setdefault(row.note, []).append(f"`{name}`")
        if notes:
            parts.append("\n")
        parts += [f"- {', '.join(names)}: {note}\n" for note, names in notes.items()]
    return "".join(parts)


_HEAD = """# What becomes of each field of a request

vLLM's requests have many fields. Where a strategy answers, each of them is honoured or refused with
the reason; none is ignored. This page is written by `python -m rsalign.words.fields`, and a test
compares the table behind it with the installed vLLM.

Strategies that draw whole answers (`plain`, `best_of`, `early_stop`, `rejection`) also honour what
depends on where the prompt ended, such as penalties and grammars: it holds for each draw. Those
that continue answers from the middle (`cards`, `calibrate`, `qalign`, `quest`, `power`, and others
over them) refuse it: an engine that continues an answer takes its first part for the prompt.
`min_tokens` is honoured by all of them: the engine is told what is left of it.
"""

if __name__ == "__main__":
    sys.stdout.write(markdown())
