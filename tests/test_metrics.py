from __future__ import annotations

import itertools

import numpy as np
import pytest
import skimage.metrics
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from napari_tokenunify import metrics
from napari_tokenunify.errors import SegmentError
from napari_tokenunify.metrics import (
    Contingency,
    ContingencySum,
    adapted_rand_error,
    contingency,
    edits_needed,
    variation_of_information,
)

SHAPES = hnp.array_shapes(min_dims=3, max_dims=3, max_side=5)
PAIRS = SHAPES.flatmap(
    lambda shape: st.tuples(*(hnp.arrays(np.int64, shape, elements=st.integers(0, 4)) for _ in range(2)))
)


def _random(seed: int = 0, shape: tuple[int, int, int] = (6, 9, 8)) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    truth, segmentation = random.integers(0, 6, (2, *shape)).repeat(3, axis=-1).astype(np.uint64)
    return truth, segmentation


def _rows(table: Contingency) -> list[tuple[int, int, int]]:
    return list(zip(table.truth.tolist(), table.segments.tolist(), table.voxels.tolist(), strict=True))


@settings(max_examples=60, deadline=None)
@given(PAIRS)
def test_the_variation_of_information_is_that_of_scikit_image(pair: tuple[np.ndarray, np.ndarray]):
    truth, segmentation = pair
    if not truth.any():
        return
    expected = skimage.metrics.variation_of_information(truth, segmentation, ignore_labels=[0])
    np.testing.assert_allclose(variation_of_information(truth, segmentation), expected, atol=1e-12)


@settings(max_examples=60, deadline=None)
@given(PAIRS)
def test_the_adapted_rand_error_is_that_of_scikit_image(pair: tuple[np.ndarray, np.ndarray]):
    truth, segmentation = pair
    labelled = truth != 0
    sizes = [np.bincount(ids[labelled]) if labelled.any() else np.zeros(1) for ids in pair]
    if min(size.max() for size in sizes) < 2:  # no pairs: scikit-image divides by 0
        return
    expected = skimage.metrics.adapted_rand_error(truth, segmentation, ignore_labels=[0])
    error, precision, recall = adapted_rand_error(truth, segmentation)
    np.testing.assert_allclose((error, recall, precision), expected, atol=1e-12)  # its code exchanges the last two


@settings(max_examples=60, deadline=None)
@given(PAIRS)
def test_the_adapted_rand_error_counts_pairs(pair: tuple[np.ndarray, np.ndarray]):
    truth, segmentation = (ids[pair[0] != 0].tolist() for ids in pair)
    if not truth:
        return
    both = in_truth = in_segments = 0
    for a, b in itertools.combinations(range(len(truth)), 2):
        same = truth[a] == truth[b], segmentation[a] == segmentation[b]
        both, in_truth, in_segments = both + all(same), in_truth + same[0], in_segments + same[1]
    error, precision, recall = adapted_rand_error(*pair)
    assert error == pytest.approx(1 - 2 * both / (in_truth + in_segments) if in_truth + in_segments else 0)
    assert recall == pytest.approx(both / in_truth if in_truth else 1)
    assert precision == pytest.approx(both / in_segments if in_segments else 1)


def test_splits_and_merges_are_told_apart():
    whole, halves = np.array([[1, 1, 1, 1]]), np.array([[1, 1, 2, 2]])
    assert variation_of_information(whole, halves) == (1, 0)
    assert variation_of_information(halves, whole) == (0, 1)
    assert variation_of_information(halves, halves[:, ::-1]) == (0, 0)
    assert adapted_rand_error(whole, halves) == pytest.approx((0.5, 1, 1 / 3))
    assert adapted_rand_error(halves, whole) == pytest.approx((0.5, 1 / 3, 1))


def test_a_table_holds_each_pair_once_in_order():
    truth, segmentation = np.array([[3, 3, 0], [1, 3, 1]]), np.array([[7, 5, 5], [5, 7, 0]])
    table = contingency(truth, segmentation)
    assert _rows(table) == [(1, 0, 1), (1, 5, 1), (3, 5, 1), (3, 7, 2)]
    assert (len(table), table.total) == (4, 5)
    assert _rows(contingency(truth, segmentation, ignore=(0, 3), ignore_segments=(0,))) == [(1, 5, 1)]
    assert _rows(contingency(truth, segmentation, ignore=())) == [(0, 5, 1), *_rows(table)]


@pytest.mark.parametrize("pending", [1, 20, 10**6])
def test_blocks_add_up_to_the_whole(pending: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(metrics, "_PENDING_ROWS", pending)
    truth, segmentation = _random()
    blocks = [
        contingency(truth[z : z + 2, y : y + 4], segmentation[z : z + 2, y : y + 4])
        for z in (4, 0, 2)
        for y in (0, 8, 4)
    ]
    counts = ContingencySum()
    for block in blocks:
        counts.add(block)
    whole = _rows(contingency(truth, segmentation))
    assert _rows(counts.result()) == whole
    assert _rows(blocks[0].add(*blocks[1:])) == whole
    assert sum(voxels for *_, voxels in whole) == np.count_nonzero(truth)


def test_lazy_arrays_are_read_slab_by_slab(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(metrics, "_SLAB_VOXELS", 500)
    truth, segmentation = _random()
    lazy = zarr.array(segmentation, chunks=(2, 4, 5))
    assert _rows(contingency(truth, lazy)) == _rows(contingency(truth, segmentation))


def test_ids_up_to_the_largest_are_kept_apart():
    largest = 2**64 - 1
    truth = np.array([[largest, largest - 1, 0]], np.uint64)
    segmentation = np.array([[largest - 1, largest, largest]], np.uint64)
    table = contingency(truth, segmentation)
    assert _rows(table) == [(largest - 1, largest, 1), (largest, largest - 1, 1)]
    assert _rows(contingency(truth, segmentation, ignore=(0, largest))) == [(largest - 1, largest, 1)]
    assert variation_of_information(truth, segmentation) == (0, 0)


def test_the_memory_does_not_follow_the_largest_id():
    truth = np.array([[2**60, 5]])
    assert variation_of_information(truth, truth) == (0, 0)


def test_scores_of_a_table_are_those_of_the_arrays():
    truth, segmentation = _random()
    table = contingency(truth, segmentation, ignore=())
    assert variation_of_information(table) == variation_of_information(truth, segmentation)
    assert adapted_rand_error(table) == adapted_rand_error(truth, segmentation)
    assert variation_of_information(table, ignore=()) == variation_of_information(truth, segmentation, ignore=())


def test_small_ids_are_those_below_the_size():
    table = contingency(np.array([1, 1, 1, 2, 2, 3]), np.array([1, 2, 2, 2, 2, 2]))
    assert table.small(2).tolist() == [3]
    assert table.small(3).tolist() == [2, 3]
    assert table.without(table.small(3)).truth.tolist() == [1, 1]


def test_a_table_of_fragments_gives_that_of_segments():
    truth, fragments = _random()
    table = np.array([0, 1, 1, 3, 3, 1], np.uint64)
    assert _rows(contingency(truth, fragments).relabelled(table)) == _rows(contingency(truth, table[fragments]))


def _edits_one_by_one(truth: np.ndarray, fragments: np.ndarray, table: np.ndarray) -> tuple[int, int]:
    """Cut and merge until segments are neurons, and count."""
    owner = {}
    for fragment in np.unique(fragments[(fragments != 0) & (truth != 0)]):
        owner[fragment] = np.bincount(truth[(fragments == fragment) & (truth != 0)].astype(np.int64)).argmax()
    pieces = [[f for f in owner if table[f] == segment] for segment in np.unique(table)]
    cuts = merges = 0
    while mixed := [piece for piece in pieces if len({owner[f] for f in piece}) > 1]:
        piece = mixed[0]
        pieces.remove(piece)
        pieces += [[f for f in piece if owner[f] == owner[piece[0]]], [f for f in piece if owner[f] != owner[piece[0]]]]
        cuts += 1
    pieces = [piece for piece in pieces if piece]
    for a, b in itertools.combinations(range(len(pieces)), 2):
        if pieces[a] and pieces[b] and owner[pieces[a][0]] == owner[pieces[b][0]]:
            pieces[a], pieces[b] = [*pieces[a], *pieces[b]], []
            merges += 1
    return cuts, merges


@settings(max_examples=40, deadline=None)
@given(PAIRS, hnp.arrays(np.uint64, 5, elements=st.integers(1, 3)))
def test_edits_are_those_of_cutting_and_merging_one_by_one(pair: tuple[np.ndarray, np.ndarray], table: np.ndarray):
    truth, fragments = pair
    table[0] = 0
    edits = edits_needed(contingency(truth, fragments), table)
    assert (edits.cuts, edits.merges) == _edits_one_by_one(truth, fragments, table)


def test_edits_do_not_count_what_has_no_ground_truth():
    truth = np.array([1, 1, 1, 2, 2, 0, 0])
    fragments = np.array([1, 1, 2, 3, 3, 4, 0])
    edits = edits_needed(contingency(truth, fragments), np.array([0, 1, 2, 1, 1], np.uint64))
    assert (edits.cuts, edits.merges) == (1, 1)
    assert edits_needed(contingency(truth, fragments), np.array([0, 1, 1, 2, 3], np.uint64)).cuts == 0


@pytest.mark.parametrize(
    ("truth", "segmentation", "said"),
    [
        (np.ones((2, 3), int), np.ones((3, 2), int), r"shape \(2, 3\).*\(3, 2\)"),
        (np.ones(3), np.ones(3, int), "values of type float64 in the labels, not ids"),
        (np.ones(3, int), np.ones(3), "values of type float64 in the segmentation"),
        (np.array([1, -4]), np.array([1, 1]), "negative id -4 in the labels"),
        (np.zeros(3, int), np.ones(3, int), "No labelled voxel is left"),
        (np.ones(3, int), None, "give a segmentation too"),
    ],
)
def test_what_cannot_be_compared_is_said_in_one_sentence(truth: np.ndarray, segmentation: np.ndarray, said: str):
    with pytest.raises(SegmentError, match=said):
        variation_of_information(truth, segmentation)


def test_other_mistakes_are_said_in_one_sentence():
    with pytest.raises(SegmentError, match="ids are 0 or positive, and below"):
        contingency(np.ones(2, int), np.ones(2, int), ignore=(-1,))
    with pytest.raises(SegmentError, match="fragment 3, but the table ends at 2"):
        edits_needed(contingency(np.ones(2, int), np.array([1, 3])), np.arange(3, dtype=np.uint64))
