"""Every public class shows how it is used."""

import inspect

import pytest

import rsalign

ELSEWHERE = {
    "AlignedClient": "its example needs an `AsyncLLM`, and runs in tests/serve/test_client.py",
    "TriesExhaustedError": "raised by `Cards`, whose example shows how it is used",
}
"""Public classes whose docstring has no example that runs, and where there is one."""


@pytest.mark.parametrize("name", sorted(set(rsalign.__all__) - ELSEWHERE.keys()))
def test_public_classes_have_an_example(name):
    public = getattr(rsalign, name)
    if inspect.isclass(public):
        assert ">>> " in (public.__doc__ or ""), f"{name} has no example"


def test_exceptions_are_public_classes_without_one():
    for name in ELSEWHERE:
        assert ">>> " not in getattr(rsalign, name).__doc__
