import importlib.metadata

import pytest

from rsalign.cli import doctor
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
