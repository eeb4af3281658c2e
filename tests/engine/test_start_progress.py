"""A start says what it is doing, and vLLM asks no other process what a model class can do."""

import logging
import subprocess
import sys

import pytest

from rsalign.engines.vllm import progress


@pytest.fixture
def unset(monkeypatch, request):
    """A logger for the lines, as it is where nobody has set up logging."""
    logger = logging.getLogger(request.node.name)
    logger.setLevel(logging.WARNING)
    logger.propagate = False  # pytest has handlers above it
    monkeypatch.setattr(progress, "logger", logger)
    return logger


def test_a_command_shows_what_is_done_and_how_long_it_took(unset, capsys):
    progress.show_start_progress()
    progress.show_start_progress()
    assert [type(one) for one in unset.handlers].count(logging.StreamHandler) == 1
    with progress.say_while("starting it"):
        assert capsys.readouterr().err == "starting it ...\n"
    assert capsys.readouterr().err.startswith("starting it: done after 0.0 s")


@pytest.mark.parametrize("terminal", [False, True])
def test_a_program_that_set_up_no_logging_is_told_on_a_terminal_only(
    unset, capsys, monkeypatch, terminal
):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    with progress.say_while("starting it"):
        pass
    assert capsys.readouterr().err.count("\n") == (2 if terminal else 0)


def test_a_program_that_set_up_logging_is_told_there_only(unset, capsys, monkeypatch, caplog):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    unset.setLevel(logging.INFO)
    unset.addHandler(caplog.handler)
    progress.show_start_progress()
    with progress.say_while("starting it"):
        pass
    assert len(caplog.records) == 2
    assert not capsys.readouterr().err


def test_what_failed_is_not_done(unset, capsys):
    progress.show_start_progress()
    with pytest.raises(ZeroDivisionError), progress.say_while("starting it"):
        raise ZeroDivisionError
    assert "done" not in capsys.readouterr().err


def test_an_import_is_told_once_and_says_whether_it_compiles(monkeypatch, tmp_path, capsys, unset):
    progress.show_start_progress()
    (tmp_path / "never_imported.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    for _ in range(2):
        with progress.say_import("never_imported"):
            import never_imported  # noqa: F401
    first, *_ = said = capsys.readouterr().err.splitlines()
    assert first.startswith("importing never_imported, and compiling it")
    assert len(said) == 2


@pytest.mark.engine
def test_no_process_is_started_for_a_model_class(policy, monkeypatch):
    from vllm.model_executor.models.registry import ModelRegistry

    def refuse(*_, **__):
        raise AssertionError("a process was started")

    monkeypatch.setattr(subprocess, "run", refuse)
    registered = ModelRegistry.models["MistralForCausalLM"]
    monkeypatch.setattr(type(registered), "_load_modelinfo_from_cache", lambda *_: None)
    monkeypatch.setattr(type(registered), "_save_modelinfo_to_cache", lambda *_: None)
    assert registered.inspect_model_cls().is_text_generation_model
