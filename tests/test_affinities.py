"""Affinities against plain loops over every voxel."""

import itertools

import numpy as np
import pytest

from napari_tokenunify.affinities import DEFAULT_OFFSETS, known_affinities, offset_reach, widen_borders
from napari_tokenunify.errors import AnnotationError, ConfigError

MIXED_OFFSETS = [*DEFAULT_OFFSETS, (2, -1, 3), (0, 4, 0), (-1, 1, 1), (0, 0, -40)]


def loop_affinities(labels, offsets, boundary_id):
    target = np.zeros((len(offsets), *labels.shape), bool)
    mask = np.zeros_like(target)
    for c, p in itertools.product(range(len(offsets)), np.ndindex(labels.shape)):
        q = tuple(a + o for a, o in zip(p, offsets[c], strict=True))
        if any(not 0 <= a < n for a, n in zip(q, labels.shape, strict=True)):
            continue
        pair = int(labels[p]), int(labels[q])
        touches_boundary = boundary_id is not None and boundary_id in pair
        mask[(c, *p)] = touches_boundary or 0 not in pair
        target[(c, *p)] = pair[0] == pair[1] != 0 and not touches_boundary
    return target, mask


def loop_widen(labels, boundary_id):
    result = labels.copy()
    padded = np.pad(labels, ((0, 0), (1, 1), (1, 1)), mode="reflect")
    for z, y, x in np.ndindex(labels.shape):
        ids = set(np.unique(padded[z, y : y + 3, x : x + 3]).tolist()) - {0, boundary_id}
        if labels[z, y, x] not in (0, boundary_id) and len(ids) > 1:
            result[z, y, x] = boundary_id
    return result


@pytest.fixture
def labels():
    return np.random.default_rng(0).integers(0, 4, (4, 6, 7)).astype(np.uint64)


@pytest.mark.parametrize("boundary_id", [None, 0, 2, 99])
def test_affinities_are_those_of_a_plain_loop(labels, boundary_id):
    target, mask = known_affinities(labels, MIXED_OFFSETS, boundary_id)
    expected_target, expected_mask = loop_affinities(labels, MIXED_OFFSETS, boundary_id)
    np.testing.assert_array_equal(mask, expected_mask)
    np.testing.assert_array_equal(target, expected_target)


def test_the_rules_in_one_row_of_voxels():
    row = np.array([[[5, 5, 6, 0, 9, 0, 9, 9]]])
    target, mask = known_affinities(row, [(0, 0, 1)], boundary_id=9)
    assert mask[0, 0, 0].tolist() == [True, True, False, True, True, True, True, False]
    assert target[0, 0, 0].tolist() == [True] + [False] * 7


def test_in_dense_ground_truth_every_pair_inside_is_known(labels):
    _, mask = known_affinities(labels, DEFAULT_OFFSETS, boundary_id=0)
    assert mask[0, 1:].all()
    assert not mask[0, 0].any()


def test_ids_that_differ_only_in_the_lowest_bit_are_two_neurons():
    row = np.array([[[2**63, 2**63 + 1, 2**63 + 1]]], np.uint64)
    target, _ = known_affinities(row, [(0, 0, 1)])
    assert target[0, 0, 0].tolist() == [False, True, False]


@pytest.mark.parametrize("boundary_id", [0, 3])
@pytest.mark.parametrize("shape", [(2, 9, 8), (1, 2, 12)])
def test_borders_are_widened_as_by_a_plain_loop(boundary_id, shape):
    coarse = np.random.default_rng(1).integers(0, 5, (shape[0], 3, 3)).astype(np.uint64)
    labels = coarse.repeat(3, axis=1).repeat(4, axis=2)[:, : shape[1], : shape[2]] + np.uint64(0)
    before = labels.copy()
    np.testing.assert_array_equal(widen_borders(labels, boundary_id), loop_widen(labels, boundary_id))
    np.testing.assert_array_equal(labels, before)


def test_a_boundary_id_too_large_for_the_labels_is_refused():
    with pytest.raises(AnnotationError, match="300 does not fit into labels of type uint8"):
        widen_borders(np.ones((1, 2, 2), np.uint8), 300)


def test_the_reach_of_offsets_holds_all_of_them():
    assert offset_reach(MIXED_OFFSETS) == ((-1, -1, -40), (2, 4, 3))
    assert offset_reach([(0, 0, 1)]) == ((0, 0, 0), (0, 0, 1))


@pytest.mark.parametrize("wrong", [np.zeros((2, 3, 4)), np.zeros((3, 4), np.uint8)])
def test_labels_that_are_none_are_refused(wrong):
    with pytest.raises(AnnotationError, match="convert them first"):
        known_affinities(wrong)


@pytest.mark.parametrize("offsets", [[], [(0, 0, 0)], [(1, 0)]])
def test_useless_offsets_are_refused(labels, offsets):
    with pytest.raises(ConfigError, match="cannot be used"):
        known_affinities(labels, offsets)
