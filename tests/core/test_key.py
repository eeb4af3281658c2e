import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rsalign import ConfigError, Key
from rsalign.testing import law

labels = st.lists(st.text(max_size=5) | st.integers(), max_size=4)


@given(st.integers(), labels)
def test_a_draw_depends_on_its_address_only(root, path):
    assert Key(root).child(*path).seed() == Key(root, tuple(path)).seed()
    assert 0 <= Key(root, tuple(path)).seed() < 2**63


@given(st.integers(), labels, labels)
def test_other_addresses_draw_other_values(root, one, other):
    if one != other:
        assert Key(root, tuple(one)).seed() != Key(root, tuple(other)).seed()


def test_labels_are_not_joined():
    assert Key(0, ("a", "b")).seed() != Key(0, ("ab",)).seed()
    assert Key(0, (1, 2)).seed() != Key(0, (12,)).seed()
    assert Key(0, (1,)).seed() != Key(0, ("1",)).seed()


def test_seeds_stay_the_same():
    """Journals and published results rest on these values; a change is a breaking change."""
    assert Key(0).seed() == 3493790168860947455
    assert Key(7, ("prompt", 3, "candidate", 1)).seed() == 5231140230774405760


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=8), st.integers())
def test_categorical_draws_what_has_weight(weights, root):
    if math.fsum(weights) == 0:
        with pytest.raises(ConfigError, match="not all zero"):
            Key(root).categorical(weights)
    else:
        assert weights[Key(root).categorical(weights)] > 0


@pytest.mark.parametrize("weights", [(), (-1, 2), (math.nan,), (math.inf, 1)])
def test_categorical_refuses(weights):
    with pytest.raises((ConfigError, ValueError)):
        Key(0).categorical(weights)


def test_frequencies():
    """20,000 draws: 5 standard errors are 0.018."""
    keys = [Key(1).child(i) for i in range(20_000)]
    assert abs(sum(key.bernoulli(0.3) for key in keys) / 20_000 - 0.3) < 0.018
    third = sum(key.below(3) == 2 for key in keys) / 20_000
    assert abs(third - 1 / 3) < 0.018


def test_below_needs_a_choice():
    with pytest.raises(ConfigError, match="at least one"):
        Key(0).below(0)


def test_law_enumerates():
    async def sum_of_dice(key):
        first = key.child("first").below(3)
        return first + (key.child("second").below(2) if first else 0)

    assert law(sum_of_dice) == pytest.approx({0: 1 / 3, 1: 1 / 6, 2: 1 / 3, 3: 1 / 6})


def test_a_seed_cannot_be_enumerated():
    async def seeded(key):
        return key.seed()

    with pytest.raises(TypeError, match="finite draws"):
        law(seeded)
