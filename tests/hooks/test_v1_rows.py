"""Who is in which row of the first runner's batch, through everything that can happen to it."""

from vllm import SamplingParams
from vllm.v1.sample.logits_processor import BatchUpdate, MoveDirectionality

from rsalign.hooks.shared.v1_rows import BatchRows

ONE_WAY, SWAP = MoveDirectionality.UNIDIRECTIONAL, MoveDirectionality.SWAP


def follow(*updates):
    """Rows after some updates, and who has left; a request is its prompt's only token."""
    left = []
    rows = BatchRows(lambda params, prompt, drawn: prompt[0] or None, left.append)
    for removed, added, moved in updates:
        news = [(row, SamplingParams(), [name], []) for row, name in added]
        rows.follow(BatchUpdate(4, removed, news, moved))
    rows.follow(None)
    return rows.stored, left


ENTERED = ([], [(0, "a"), (1, "b"), (2, "c"), (3, 0)], [])


def test_who_asks_for_nothing_has_no_row():
    assert follow(ENTERED) == ({0: "a", 1: "b", 2: "c"}, [])


def test_removed_rows_are_filled_from_the_end():
    assert follow(ENTERED, ([0], [], [(2, 0, ONE_WAY)])) == ({0: "c", 1: "b"}, ["a"])
    assert follow(ENTERED, ([0, 2], [], [(3, 0, ONE_WAY)])) == ({1: "b"}, ["a", "c"])


def test_a_new_request_takes_the_row_of_one_that_left():
    assert follow(ENTERED, ([1], [(1, "d")], [])) == ({0: "a", 1: "d", 2: "c"}, ["b"])
    assert follow(ENTERED, ([], [(1, "d")], [])) == ({0: "a", 1: "d", 2: "c"}, ["b"])
    assert follow(ENTERED, ([], [(1, 0)], [])) == ({0: "a", 2: "c"}, ["b"])


def test_rows_are_swapped_or_overwritten():
    assert follow(ENTERED, ([], [], [(0, 2, SWAP)])) == ({0: "c", 1: "b", 2: "a"}, [])
    assert follow(ENTERED, ([], [], [(0, 3, SWAP)])) == ({1: "b", 2: "c", 3: "a"}, [])
    assert follow(ENTERED, ([], [], [(3, 0, SWAP)])) == ({1: "b", 2: "c", 3: "a"}, [])
    assert follow(ENTERED, ([], [], [(2, 0, ONE_WAY)])) == ({0: "c", 1: "b"}, ["a"])


def test_removed_then_added_then_moved():
    update = ([2, 0], [(2, "d")], [(2, 0, ONE_WAY), (1, 3, SWAP)])
    assert follow(ENTERED, update) == ({0: "d", 3: "b"}, ["c", "a"])
