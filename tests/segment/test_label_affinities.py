from __future__ import annotations

import numpy as np
import pytest

from napari_tokenunify.affinities import known_affinities
from napari_tokenunify.data import Volume
from napari_tokenunify.errors import SegmentError
from napari_tokenunify.geometry import Box
from napari_tokenunify.segment.label_affinities import LabelAffinities, Mapping, read_ids

SHAPE = (5, 7, 9)
OFFSETS = ((-1, 0, 0), (0, -1, 0), (0, 0, -1), (2, 0, -3))
BOXES = [Box.whole(SHAPE), Box((0, 0, 0), (2, 3, 4)), Box((3, 2, 5), (5, 7, 9)), Box((2, 3, 4), (3, 4, 5))]


@pytest.mark.parametrize("box", BOXES)
@pytest.mark.parametrize("mapped", [False, True])
def test_a_part_is_what_it_is_in_the_whole(box: Box, mapped: bool):
    ids = np.random.default_rng(0).integers(0, 4, SHAPE).astype(np.uint32)
    mapping = Mapping(np.array([1, 3], np.uint64), np.array([2, 0], np.uint64)) if mapped else None
    segments = np.array([0, 2, 2, 0])[ids] if mapped else ids
    whole = known_affinities(segments, OFFSETS)[0]
    found = LabelAffinities(Volume.from_array(ids, (8, 8, 8)), mapping, OFFSETS).read(box)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, whole[(slice(None), *box.slices)])


def test_an_empty_mapping_changes_nothing():
    ids = np.arange(5, dtype=np.uint64)
    none = np.empty(0, np.uint64)
    assert Mapping(none, none)(ids).tolist() == ids.tolist()


def test_a_negative_id_is_told():
    with pytest.raises(SegmentError, match="has the id -3"):
        read_ids(Volume.from_array(np.full(SHAPE, -3, np.int16), None), Box.whole(SHAPE))
