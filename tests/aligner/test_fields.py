# ruff: noqa: E402
"""The table of what becomes of each field is complete for the installed vLLM, and says it well."""

import inspect
from dataclasses import fields

import pytest

from rsalign import BestOf, Cards, FixedSize, Plain, QAlign, Sampling
from rsalign.aligner.parameters import read_parameters, read_sampling
from rsalign.core.errors import ConfigError
from rsalign.core.sampling import WHOLE_ANSWER_FIELDS
from rsalign.engines.options import RequestOptions
from rsalign.engines.vllm.environment import import_vllm
from rsalign.words.fields import TABLES, Fate

import_vllm()  # it reads the environment as it is imported

from vllm import LLM, SamplingParams
from vllm.entrypoints.anthropic.protocol import AnthropicMessagesRequest
from vllm.entrypoints.openai.chat_completion.protocol import (
    BatchChatCompletionRequest,
    ChatCompletionRequest,
)
from vllm.entrypoints.openai.completion.protocol import CompletionRequest
from vllm.entrypoints.openai.responses.protocol import ResponsesRequest
from vllm.inputs.llm import EmbedsPrompt, TextPrompt, TokensPrompt
from vllm.sampling_params import RepetitionDetectionParams, StructuredOutputsParams
from vllm.v1.engine.async_llm import AsyncLLM


def parameters(method):
    return set(inspect.signature(method).parameters) - {"self"}


INSTALLED = {
    "SamplingParams": set(SamplingParams.__struct_fields__),
    "prompt": {
        key
        for kind in (TextPrompt, TokensPrompt, EmbedsPrompt)
        for key in (*kind.__required_keys__, *kind.__optional_keys__)
    },
    "LLM.generate": parameters(LLM.generate),
    "LLM.chat": parameters(LLM.chat),
    "AsyncLLM.generate": parameters(AsyncLLM.generate),
    "/v1/completions": set(CompletionRequest.model_fields),
    "/v1/chat/completions": set(ChatCompletionRequest.model_fields),
    "/v1/chat/completions/batch": set(BatchChatCompletionRequest.model_fields),
    "/v1/responses": set(ResponsesRequest.model_fields),
    "/v1/messages": set(AnthropicMessagesRequest.model_fields),
}


def test_there_is_a_table_for_each():
    assert INSTALLED.keys() == TABLES.keys()


@pytest.mark.parametrize("table", TABLES)
def test_every_field_of_the_installed_vllm_has_a_row_and_no_other(table):
    assert INSTALLED[table] - TABLES[table].keys() == set(), "vLLM has fields without a row"
    assert TABLES[table].keys() - INSTALLED[table] == set(), "rows of fields that vLLM has not"


@pytest.mark.parametrize("table", TABLES)
def test_what_is_refused_has_a_reason(table):
    for name, row in TABLES[table].items():
        assert row.fate is not Fate.REFUSED or len(row.note) > 20, name


def test_rows_agree_with_the_law():
    """What depends on where the prompt ended is the same in the table and in the law."""
    rows = {name for name, row in TABLES["SamplingParams"].items() if row.fate is Fate.WHOLE}
    assert rows == set(WHOLE_ANSWER_FIELDS)
    names = {each.name for each in fields(Sampling)}
    for name, row in TABLES["SamplingParams"].items():
        law = row.fate in (Fate.LAW, Fate.WHOLE)
        assert (name in names) == (law and name not in ("n", "seed", "max_tokens", "extra_args"))
    engine = {n for n, row in TABLES["AsyncLLM.generate"].items() if row.fate is Fate.ENGINE}
    assert engine <= {each.name for each in fields(RequestOptions)}


def asked(**given):
    return read_parameters(SamplingParams(**given))


LAW = {
    "presence_penalty": (0.5, 0.5),
    "frequency_penalty": (-1.0, -1.0),
    "min_tokens": (3, 3),
    "ignore_eos": (True, True),
    "bad_words": (["no"], ("no",)),
    "thinking_token_budget": (0, 0),
    "structured_outputs": (StructuredOutputsParams(choice=["b", "a"]), '{"choice": ["b", "a"]}'),
    "top_k": (7, 7),
    "stop": ("x", ("x",)),
}


@pytest.mark.parametrize("name", LAW)
def test_what_is_law_reaches_it(name):
    value, expected = LAW[name]
    assert getattr(asked(**{name: value}).sampling, name) == expected
    assert getattr(asked().sampling, name) == getattr(Sampling(), name)


def test_the_order_of_a_schema_is_kept():
    """It is the order of the answer's fields."""
    schema = {"properties": {"b": {}, "a": {}}}
    grammar = read_sampling(SamplingParams(structured_outputs=StructuredOutputsParams(json=schema)))
    assert grammar.structured_outputs == '{"json": {"properties": {"b": {}, "a": {}}}}'


REFUSED = {
    "prompt_logprobs": 1,
    "prompt_logprob_token_ids": [[1, 2]],
    "prompt_logprob_start": 1,
    "repetition_detection": RepetitionDetectionParams(2, 1, 2),
    "routed_experts_prompt_start": 1,
    "trace_decode_token_ids": [4, 5],
    "watermarking": True,
}


def test_each_refused_parameter_is_tried():
    rows = TABLES["SamplingParams"].items()
    assert {name for name, row in rows if row.fate is Fate.REFUSED} == set(REFUSED)


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_says_why(name):
    with pytest.raises(ConfigError) as refused:
        asked(**{name: REFUSED[name]})
    assert str(refused.value).startswith(f"{name}=")
    assert str(refused.value).endswith(TABLES["SamplingParams"][name].note)


def test_a_parameter_that_the_table_does_not_know_is_refused():
    class Params(SamplingParams):
        surprise: int = 0

    assert read_parameters(Params()).n == 1
    with pytest.raises(ConfigError, match="surprise=3 cannot be honoured"):
        read_parameters(Params(surprise=3))


def test_what_goes_with_requests_to_the_engine():
    options = asked(watermarking=False, skip_reading_prefix_cache=True, logprobs=3).options
    assert options.given() == {
        "watermarking": False,
        "skip_reading_prefix_cache": True,
        "num_logprobs": 3,
    }
    assert asked(logprobs=0).options.given() == {}
    salted = asked(logprobs=2).options.over(RequestOptions(cache_salt="s"))
    assert salted.given() == {"cache_salt": "s", "num_logprobs": 2}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("logprobs", 0),
        ("logprob_token_ids", [3]),
        ("detokenize", False),
        ("skip_special_tokens", False),
        ("spaces_between_special_tokens", False),
        ("include_stop_str_in_output", True),
    ],
)
def test_how_answers_are_shown(name, value):
    assert getattr(asked(**{name: value}).presentation, name) == value
    assert asked().presentation is None


@pytest.mark.parametrize(
    "strategy", [QAlign(), Cards(segmenter=FixedSize(4)), BestOf(inner=QAlign())]
)
@pytest.mark.parametrize("name", WHOLE_ANSWER_FIELDS)
def test_methods_that_cut_answers_refuse_what_needs_whole_ones(strategy, name):
    from rsalign.core.align import check_law

    law = read_sampling(SamplingParams(**{name: LAW[name][0]}))
    with pytest.raises(ConfigError, match=f"^{name}=.* continues answers from the middle"):
        check_law(strategy, law)
    for whole in (Plain(), BestOf(n=2)):
        check_law(whole, law)


def test_the_page_about_fields_is_that_of_the_table():
    """Written by ``python -m rsalign.words.fields > docs/fields.md``."""
    from pathlib import Path

    from rsalign.words.fields import markdown

    page = Path(__file__).parents[2] / "docs" / "fields.md"
    assert page.read_text() == markdown()
