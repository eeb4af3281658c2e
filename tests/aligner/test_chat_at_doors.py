"""What a call, an aligner, a record and a sweep say of conversations reaches the template."""

import json

import pytest

from rsalign import Aligner, ConfigError, Plain
from rsalign.cli.main import main
from rsalign.core.text.reasoning import Reasoning
from rsalign.harnesses.arguments import Arguments
from rsalign.testing import ToyPolicy
from rsalign.words.parts import reasoning_from

HEARD = []


class Listening(ToyPolicy):
    """A toy that keeps the arguments of its template, and thinks up to its token 1."""

    fingerprint = "listening"
    reasoning = None

    def encode_chat(self, messages, **how):
        HEARD.append(how.get("template_kwargs"))
        return super().encode_chat(messages)

    def with_reasoning(self, reasoning):
        made = type(self)()
        object.__setattr__(made, "reasoning", reasoning)
        return made

    @property
    def divides(self):
        return self.reasoning is not None

    def divide(self, prompt, tokens, text, *, complete):
        thought, end, answer = text.partition("1")
        return (answer if end else ""), thought or None


POLICY = Listening()


@pytest.fixture(autouse=True)
def heard():
    HEARD.clear()
    return HEARD


def test_an_aligner_divides_and_does_not_close_what_it_was_given(heard):
    closed = []
    Listening.close = lambda self: closed.append(self)
    try:
        with Aligner(POLICY, None, Plain(max_tokens=8), reasoning_parser="toy") as aligner:
            assert aligner.policy is not POLICY
            outputs = aligner.generate(["1"] * 20, use_tqdm=False)
        assert closed == []
    finally:
        del Listening.close
    for output in outputs:
        answer = output.outputs[0]
        thought, end, said = POLICY.text(tuple(answer.token_ids)).partition("1")
        assert (answer.text, answer.reasoning) == (said if end else "", thought or None)


async def collect(aligner, prompt):
    events = [event async for event in aligner.astream(prompt)]
    return [event.text for event in events[:-1]], events[-1].output.outputs[0]


def test_a_stream_has_the_answer_and_nothing_of_the_thought():
    import asyncio

    pieces = []
    with Aligner(POLICY, None, Plain(max_tokens=8), reasoning_parser="toy") as aligner:
        for seed in range(20):
            told = {"prompt": "1", "id": seed}
            streamed, answer = asyncio.run(collect(aligner, told))
            assert "".join(streamed) == answer.text
            pieces += streamed
    assert any(pieces)


def test_rows_and_flags_of_generate(tmp_path, heard, capsys):
    rows = [
        {"messages": [{"role": "user", "content": "1"}]},
        {"messages": [{"role": "user", "content": "1"}], "reasoning_effort": "low", "tools": [{}]},
        {"prompt": "1", "documents": [{"text": "t"}]},
    ]
    file = tmp_path / "rows.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    flags = ["--policy", f"{__name__}:POLICY", "--strategy", "plain", "--max-tokens", "8"]
    options = ["--chat", "--chat-option", "chat_template_kwargs.a=1", "--reasoning-parser", "toy"]
    assert main(["generate", str(file), *flags, *options]) == 0
    assert heard == [
        {"a": 1},
        {"a": 1, "reasoning_effort": "low", "enable_thinking": True, "tools": [{}]},
        {"a": 1, "documents": [{"text": "t"}]},
    ]
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {"1" in record["answer"].split()[:0] for record in records} == {False}
    assert any("reasoning" in record for record in records)
    assert main(["generate", str(file), *flags]) == 2  # the third row has no messages
    assert main(["generate", str(file), *flags, "--chat-option", "b=1"]) == 2
    assert "there is no chat option 'b'" in capsys.readouterr().err


def test_sampling_by_name_needs_a_policy_that_tells(tmp_path, capsys):
    with Aligner(POLICY, None, Plain(max_tokens=2)) as aligner:
        with pytest.raises(ConfigError, match="Listening does not tell what the model's authors"):
            aligner.generate("1", "model", use_tqdm=False)
        with pytest.raises(ConfigError, match="sampling='models': give a Sampling, or 'model'"):
            aligner.generate("1", "models", use_tqdm=False)
    file = tmp_path / "one.txt"
    file.write_text("1")
    assert main(["generate", str(file), "--sampling", "model", "--top-k", "5"]) == 2
    assert "--sampling model and top_k exclude each other" in capsys.readouterr().err


def test_arguments_of_lm_eval():
    given = {
        "policy": POLICY,
        "strategy": "plain",
        "chat_options.chat_template_kwargs.enable_thinking": "false",
        "chat_options.reasoning_effort": "low",
        "reasoning_parser": "toy",
    }
    arguments = Arguments.read(given)
    assert arguments.chat_options.variables == {"enable_thinking": False, "reasoning_effort": "low"}
    assert arguments.reasoning_parser == Reasoning("toy")
    with pytest.raises(ConfigError, match="there is no chat option 'effort'"):
        Arguments.read({"chat_options.effort": "low"})


def test_a_reasoning_parser_by_name_or_with_its_settings():
    assert reasoning_from('{"parser": "qwen3", "keep": true}') == Reasoning("qwen3", keep=True)
    assert reasoning_from(None) is None
    with pytest.raises(ConfigError, match="parser"):
        Aligner(POLICY, None, Plain(), reasoning_parser=3)
