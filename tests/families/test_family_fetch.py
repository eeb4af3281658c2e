"""What is fetched is what was checked, or nothing lies in the cache."""

from dataclasses import replace

import pytest

from tests.families import fetch
from tests.families.cache import VARIABLE, place, root
from tests.families.fetch import FetchError, fetch_all, folder_of, is_fetched


@pytest.fixture(autouse=True)
def empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, str(tmp_path / "families"))


@pytest.fixture
def only_mistral(monkeypatch):
    """Whose data are in an installed package, so that nothing is downloaded."""
    monkeypatch.setattr(fetch, "PACKAGES", ())


def test_each_tokenizer_has_its_licence_beside_it(only_mistral):
    folders = fetch_all()
    assert [folder.name for folder in folders] == ["mistral_v3", "mistral_tekken"]
    for folder in folders:
        assert "Apache" in (folder / "LICENCE.txt").read_text()
        assert len(list(folder.iterdir())) == 2
    assert fetch_all() == folders


def test_another_file_than_the_one_that_was_checked_is_refused(only_mistral, monkeypatch):
    good, bad = fetch.MISTRAL_FILES
    monkeypatch.setattr(fetch, "MISTRAL_FILES", (good, replace(bad, sha256="0" * 64)))
    with pytest.raises(FetchError, match=r"tekken_240911\.json is not the file that was checked"):
        fetch_all()
    assert is_fetched(good.name)
    assert not is_fetched(bad.name)
    assert [path.name for path in (root() / "tokenizers").iterdir()] == [good.name]


def test_without_npm_it_says_so(monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(FetchError, match="the program npm is missing"):
        fetch_all()


def test_an_unknown_name_is_refused():
    with pytest.raises(FetchError, match="no tokenizer 'llama9': give one of llama2, "):
        folder_of("llama9")


def test_a_folder_is_there_only_when_it_is_whole(tmp_path):
    def write_half(folder):
        (folder / "half").write_text("x")
        raise OSError("full")

    target = tmp_path / "a" / "b"
    with pytest.raises(OSError, match="full"):
        place(target, write_half)
    assert list(target.parent.iterdir()) == []

    def be_late(folder):
        place(target, lambda other: (other / "first").touch())
        (folder / "late").touch()

    assert place(target, be_late) == target
    assert [path.name for path in target.iterdir()] == ["first"]
