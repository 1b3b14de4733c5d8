from __future__ import annotations

import itertools

import numpy as np
import pytest

from napari_tokenunify.data import Annotations
from napari_tokenunify.geometry import Box
from napari_tokenunify.segment import annotation_places as module
from napari_tokenunify.segment import open_affinities, write_affinities
from napari_tokenunify.segment.affinity_writer import AffinityLayout, AffinityWriter
from napari_tokenunify.segment.annotation_places import suggest_places
from tests.segment.fake_networks import SMALL_CELL, small_cells

OFFSETS = ((-1, 0, 0), (0, -1, 0), (0, 0, -1), (0, 3, 0))
SHAPE = (8, 16, 24)  # whole blocks of SMALL_CELL


@pytest.fixture
def small(monkeypatch):
    """Blocks of 4x8x8 voxels, and two places of 4x4x8 in each."""
    small_cells(monkeypatch)
    monkeypatch.setattr(module, "_UNKNOWN", (4, 4, 8))


@pytest.fixture
def values():
    return np.random.default_rng(3).random((4, *SHAPE)).astype(np.float32)


def store(tmp_path, values, **kwargs):
    return open_affinities(write_affinities(tmp_path / "a.zarr", values, OFFSETS, dtype="float16", **kwargs))


def uncertainty(values, box):
    """One voxel and one channel after the other."""
    doubts = []
    for channel, voxel in itertools.product(range(4), itertools.product(*map(range, box.start, box.stop))):
        partner = np.add(voxel, OFFSETS[channel])
        if ((partner >= 0) & (partner < SHAPE)).all():
            doubts.append(1 - abs(2 * float(np.float16(values[channel][voxel])) - 1))
    return np.mean(doubts)


def all_places():
    steps = [range(0, n, s) for n, s in zip(SHAPE, (4, 4, 8), strict=True)]
    return [Box(start, tuple(np.add(start, (4, 4, 8)).tolist())) for start in itertools.product(*steps)]


def test_the_places_are_those_that_a_slow_search_finds(tmp_path, small, values):
    ranked = sorted(all_places(), key=lambda box: -uncertainty(values, box))
    expected = []
    for box in ranked:
        if all((np.abs(np.subtract(box.start, other.start)) > (4, 4, 8)).any() for other in expected):
            expected.append(box)
    found = suggest_places(store(tmp_path, values), most=3)
    assert [place.box for place in found.places] == expected[:3]
    for place in found.places:
        assert place.uncertainty == pytest.approx(uncertainty(values, place.box), rel=1e-5)
    assert (found.seen, found.blocks) == (12, 12)


def test_what_is_labelled_is_left_out(tmp_path, small, values):
    affinities = store(tmp_path, values)
    first = suggest_places(affinities, most=1).places[0]
    ids = np.zeros(SHAPE, np.uint32)
    ids[first.box.slices] = 7
    found = suggest_places(affinities, Annotations.from_array(ids), most=50)
    assert found.places
    assert first.box not in [place.box for place in found.places]
    ids[first.box.slices] = 0
    ids[first.box.start] = 7  # one voxel is no annotation yet
    assert suggest_places(affinities, Annotations.from_array(ids), most=1).places[0] == first


def test_sure_affinities_have_no_uncertainty_and_halves_have_all(tmp_path, small):
    values = np.zeros((4, *SHAPE), np.float32)
    values[:, :, :, 12:] = 1
    values[:, 4:, 8:, 16:] = 0.5
    places = suggest_places(store(tmp_path, values), most=9).places
    assert places[0].uncertainty == pytest.approx(1)
    assert places[-1].uncertainty == 0
    assert places[0].box.start[0] == 4


def test_places_count_in_voxels_of_the_volume(tmp_path, small, values):
    layout = AffinityLayout(SMALL_CELL, OFFSETS, "float16", None, origin=(10, 200, 3000))
    writer = AffinityWriter.create(tmp_path / "a.zarr", layout)
    writer.write((0, 0, 0), values[:, :4, :8, :8].astype(np.float16))
    writer.finish()
    places = suggest_places(open_affinities(tmp_path / "a.zarr")).places
    volume_box = Box((10, 200, 3000), (14, 208, 3008))
    assert places
    assert all(place.box.clipped(volume_box.stop) == place.box for place in places)
    assert {place.box.start for place in places} <= {(10, 200, 3000), (10, 204, 3000)}


def test_only_what_is_predicted_by_now_counts(tmp_path, small, values):
    layout = AffinityLayout(SHAPE, OFFSETS, "float16")
    writer = AffinityWriter.create(tmp_path / "a.zarr", layout)
    assert suggest_places(open_affinities(tmp_path / "a.zarr")).places == ()
    writer.write((1, 0, 2), values[:, 4:, :8, 16:].astype(np.float16))
    found = suggest_places(open_affinities(tmp_path / "a.zarr"), most=9)
    assert (found.seen, found.blocks) == (1, 1)
    assert {place.box.start for place in found.places} <= {(4, 0, 16), (4, 4, 16)}


def test_of_many_blocks_a_sample_is_read_that_the_seed_decides(tmp_path, small, values, monkeypatch):
    monkeypatch.setattr(module, "MOST_BLOCKS", 3)
    affinities = store(tmp_path, values)
    found = suggest_places(affinities, seed=1)
    assert (found.seen, found.blocks) == (3, 12)
    assert found == suggest_places(affinities, seed=1)
    assert any(found != suggest_places(affinities, seed=seed) for seed in range(2, 6))


@pytest.mark.parametrize(
    ("size", "shape"),
    [((10, 10, 10), (16, 64, 64)), ((40, 4, 4), (4, 160, 160)), ((1, 1, 1), (32, 256, 256)), (None, (16, 64, 64))],
)
def test_a_place_is_as_large_in_nm_whatever_the_voxels(size, shape):
    assert module._place_shape(size) == shape
