"""Which tests of the suite run: those whose tokenizers have been fetched."""

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

import pytest

from tests.families.checkpoints import policy_folder, reward_folder
from tests.families.families import BY_NAME, FAMILIES, Family
from tests.families.fetch import folder_of, is_fetched
from tests.families.pair import Pair, start

QUICK = "qwen2_5"
"""The family whose engines `make test` starts: its model has logits for ids without a token."""
QUICK_TEXTS = (QUICK, "llama2", "llama3_1", "mistral_tekken")
"""Of which `make test` runs what needs no engine: one of each kind of tokenizer."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks what `make test` leaves out."""
    for item in items:
        family = getattr(item, "callspec", None) and item.callspec.params.get("family")
        if not isinstance(family, Family):
            continue
        has_engine = item.get_closest_marker("engine") is not None
        if family.name not in ((QUICK,) if has_engine else QUICK_TEXTS):
            item.add_marker(pytest.mark.nightly)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Every test that names `family` runs for each."""
    if "family" in metafunc.fixturenames:
        metafunc.parametrize(
            "family", FAMILIES, ids=lambda family: family.name, indirect=True, scope="module"
        )


@pytest.fixture(scope="module")
def family(request: pytest.FixtureRequest) -> Family:
    """One of the families whose tokenizer has been fetched."""
    family: Family = request.param
    needed = {family.tokenizer, family.reward or family.tokenizer}
    if missing := [name for name in sorted(needed) if not is_fetched(name)]:
        pytest.skip(f"no {folder_of(missing[0])}: `make families` fetches it")
    return family


@pytest.fixture(scope="module")
def tokenizer(family: Family) -> Any:
    """The policy's tokenizer as vLLM loads it."""
    return load_tokenizer(family.name)


@lru_cache(maxsize=1)  # the tests of one family follow each other
def load_tokenizer(name: str) -> Any:
    from vllm.tokenizers import get_tokenizer

    family = BY_NAME[name]
    return get_tokenizer(str(policy_folder(family)), **family.engine_args)


@pytest.fixture(scope="module")
def hf_tokenizer(family: Family, tokenizer: Any) -> Any:
    """The same, of the families that have it in the format of Hugging Face."""
    if "tokenizer_mode" in family.engine_args:
        pytest.skip("Mistral's own tokenizers render conversations by rules and not by a template")
    return tokenizer


@pytest.fixture(scope="module")
def pair(family: Family) -> Iterator[Pair]:
    """Its engines, which all tests of a file share."""
    with start(family) as pair:
        yield pair


@pytest.fixture
def tell(record_property: Any, family: Family) -> Callable[[object], None]:
    """Notes the words of a refusal for the table in the documentation."""

    def note(error: object) -> None:
        words = " ".join(str(error).split())
        for folder in (policy_folder(family), reward_folder(family)):
            words = words.replace(str(folder), "MODEL")
        record_property("refused", words)

    return note
