import importlib.metadata
from types import SimpleNamespace

import pytest
from transformers import AutoTokenizer

from rsalign.cli import doctor
from rsalign.cli.doctor_model import ModelFacts, check_thoughts
from rsalign.cli.main import main
from rsalign.embedded import POLICY


@pytest.mark.engine
def test_a_working_machine(capsys):
    assert main(["doctor"]) == 0
    report = capsys.readouterr().out
    assert "vLLM 0.32" in report
    assert "logits processors: V1 interface" in report
    assert "fail" not in report


@pytest.mark.engine
def test_a_model_before_its_engine_is_started(capsys, tmp_path):
    assert main(["doctor", POLICY]) == 0
    report = capsys.readouterr().out
    assert "LlamaForCausalLM, float32" in report
    assert "segments end by '<|reserved" in report
    assert "it has a chat template" in report
    assert "a context of 512 tokens" in report
    assert main(["doctor", str(tmp_path)]) == 1
    assert capsys.readouterr().out.startswith(f"fail  {tmp_path} has no config.json")


def thinking(model_type, tokenizer):
    """What doctor reads of a model whose template writes thoughts."""
    outputs = SimpleNamespace(reasoning_parser="")
    model = SimpleNamespace(hf_text_config=SimpleNamespace(model_type=model_type))
    config = SimpleNamespace(structured_outputs_config=outputs, model_config=model)
    return ModelFacts("org/thinker", config, 512, tokenizer, (2,))


@pytest.mark.vllm
def test_the_reasoning_parser_of_a_model_is_suggested():
    """Only one that has the name of the model's type and works with its tokenizer."""
    tokenizer = AutoTokenizer.from_pretrained(POLICY)
    tokenizer.add_tokens(["<think>", "</think>"])
    assert check_thoughts(thinking("qwen3_moe", tokenizer)) == []
    tokenizer.chat_template = "{% if enable_thinking %}{{ '<think></think>' }}{% endif %}"
    (named,) = check_thoughts(thinking("qwen3_moe", tokenizer))
    assert (named.level, "by vLLM's parser 'qwen3', which" in named.text) == ("ok", True)
    for kind in ("mistral", "llama"):  # has a parser that needs Mistral's tokenizer; has none
        (other,) = check_thoughts(thinking(kind, tokenizer))
        assert other.text.endswith("the one that the model's card names")
    tokenizer.chat_template = "{{ messages[0].content.split('</think>')[-1] }}"
    (silent,) = check_thoughts(thinking("qwen3_moe", tokenizer))
    assert "does not ask for any" in silent.text
    configured = thinking("qwen3", tokenizer)
    configured.config.structured_outputs_config.reasoning_parser = "qwen3"
    assert levels(check_thoughts(configured)) == ["ok"]


def levels(findings):
    return [finding.level for finding in findings]


def test_what_breaks_vllm_on_cpu_is_named(monkeypatch):
    monkeypatch.setattr(doctor, "is_cpu_build", lambda: True)
    monkeypatch.setattr(doctor, "_version", lambda name: "1.0" if name == "torchvision" else None)
    (finding,) = doctor.check_vllm()
    assert finding.level == "fail"
    assert "pip uninstall torchvision" in finding.text


def test_missing_models_are_named(monkeypatch, tmp_path):
    monkeypatch.setattr(doctor, "POLICY", str(tmp_path))
    (finding,) = doctor.check_models()
    assert finding.level == "fail"
    assert "make models" in finding.text


def test_little_memory_is_named(monkeypatch):
    monkeypatch.setattr(doctor, "_available_gib", lambda: 0.5)
    assert levels(doctor.check_memory()) == ["fail"]
    monkeypatch.setattr(doctor, "_available_gib", lambda: 50.0)
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "4")
    assert levels(doctor.check_memory()) == ["note"]


def test_an_old_cpu_is_named(monkeypatch):
    monkeypatch.setattr(doctor, "is_cpu_build", lambda: True)
    monkeypatch.setattr(doctor, "_cpu_flags", lambda: frozenset({"sse2"}))
    assert "fail" in levels(doctor.check_processor())


def test_versions_are_those_installed():
    (finding,) = doctor.check_packages()
    assert f"rsalign {importlib.metadata.version('rsalign')}" in finding.text
