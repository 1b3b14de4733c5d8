"""Fragments of made-up volumes: they keep neurons apart, fill everything, and do not depend on the block."""

from __future__ import annotations

import os
from collections import deque
from pathlib import Path

import numpy as np
import pytest
from skimage.metrics import variation_of_information
from skimage.segmentation import watershed

from napari_tokenunify.affinities import DEFAULT_OFFSETS, known_affinities
from napari_tokenunify.config import AgglomerateConfig, FragmentsConfig
from napari_tokenunify.errors import SegmentError
from napari_tokenunify.segment.agglomeration import METHODS, agglomerate
from napari_tokenunify.segment.flood import LEVELS, flood
from napari_tokenunify.segment.fragments import fragments
from napari_tokenunify.segment.region_graph import region_graph

MODES = ("sections", "volume")
DATA = Path(os.environ.get("NTU_DATA", Path(__file__).parents[2] / "../shared/data")) / "fib25_train_test.npz"


def config(mode: str = "volume", **settings: float) -> FragmentsConfig:
    return FragmentsConfig(fragment_mode=mode, **settings)


def affinities_of(labels: np.ndarray) -> np.ndarray:
    return known_affinities(labels, DEFAULT_OFFSETS)[0].astype(np.float32)


def voronoi(shape: tuple[int, int, int] = (12, 40, 40), neurons: int = 14, seed: int = 0) -> np.ndarray:
    """Return labels 1..neurons that touch without a membrane between them."""
    rng = np.random.default_rng(seed)
    points = rng.random((neurons, 3)) * shape
    grid = np.stack(np.indices(shape), axis=-1)[..., None, :]
    return (((grid - points) ** 2).sum(-1).argmin(-1) + 1).astype(np.uint32)


def noisy(affinities: np.ndarray, sigma: float, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, sigma, affinities.shape)
    return np.clip(affinities + noise, 0, 1).astype(np.float32)


def neurons_within(ids: np.ndarray, labels: np.ndarray) -> int:
    """Return how many neurons the fragment with most of them holds."""
    pairs = np.unique(np.stack([ids.ravel(), labels.ravel().astype(np.uint64)]), axis=1)
    return int(np.bincount(pairs[0].astype(int)).max())


@pytest.mark.parametrize("mode", MODES)
def test_no_fragment_holds_two_neurons_and_everything_is_filled(mode: str) -> None:
    labels = voronoi()
    found = fragments(affinities_of(labels), DEFAULT_OFFSETS, config(mode))
    assert (found.dtype, found.shape) == (np.uint64, labels.shape)
    assert neurons_within(found, labels) == 1
    ids, first = np.unique(found, return_index=True)
    assert ids.tolist() == list(range(1, len(ids) + 1))
    assert (np.diff(first) > 0).all()


def test_in_sections_no_fragment_reaches_into_another_section() -> None:
    labels = voronoi()
    found = fragments(affinities_of(labels), DEFAULT_OFFSETS, config("sections"))
    assert sum(len(np.unique(section)) for section in found) == found.max()


def test_the_mode_goes_by_the_voxel_size() -> None:
    labels = voronoi()
    affinities = affinities_of(labels)

    def cut(mode: str, size: tuple[float, float, float] | None) -> np.ndarray:
        return fragments(affinities, DEFAULT_OFFSETS, config(mode), voxel_size_nm=size)

    for size, mode in (((40.0, 4.0, 4.0), "sections"), ((20.0, 8.0, 8.0), "volume"), (None, "volume")):
        np.testing.assert_array_equal(cut("auto", size), cut(mode, size))


def test_a_neurite_too_thin_for_a_seed_is_a_fragment_of_its_own() -> None:
    labels = np.ones((7, 21, 21), np.uint32)
    labels[:, 10, 10] = 2  # one voxel wide along z
    labels[3, 4, :] = 3  # along x
    found = fragments(affinities_of(labels), DEFAULT_OFFSETS, config())
    assert neurons_within(found, labels) == 1


def test_the_maxima_of_a_dumbbell_are_apart() -> None:
    labels = np.zeros((1, 40, 90), np.uint32)
    y, x = np.indices((40, 90))
    labels[0, ((y - 20) ** 2 + (x - 20) ** 2 < 225) | ((y - 20) ** 2 + (x - 70) ** 2 < 225)] = 1
    labels[0, 19:22, 20:70] = 1
    affinities, _ = known_affinities(labels, DEFAULT_OFFSETS, 0)
    found = fragments(affinities.astype(np.float32), DEFAULT_OFFSETS, config("sections"))
    assert found[0, 20, 20] != found[0, 20, 70]


@pytest.mark.parametrize("mode", MODES)
def test_a_mask_leaves_out_what_is_false_and_nothing_else(mode: str) -> None:
    labels = voronoi()
    mask = np.ones(labels.shape, bool)
    mask[:, :, 15:20] = False
    mask[4, 3, 17] = True  # an island without any neighbour
    found = fragments(affinities_of(labels), DEFAULT_OFFSETS, config(mode), mask=mask)
    np.testing.assert_array_equal(found != 0, mask)
    assert not set(np.unique(found[:, :, :15])) & set(np.unique(found[:, :, 20:])) - {0}


@pytest.mark.parametrize("mode", MODES)
def test_small_fragments_go_to_the_neighbour_they_hang_on(mode: str) -> None:
    labels = voronoi()
    affinities = noisy(affinities_of(labels), 0.3)
    few = fragments(affinities, DEFAULT_OFFSETS, config(mode, min_fragment_size=50, boundary_threshold=0.5))
    many = fragments(affinities, DEFAULT_OFFSETS, config(mode, min_fragment_size=0, boundary_threshold=0.5))
    assert few.max() < many.max()
    assert len(np.unique(np.stack([few.ravel(), many.ravel()]), axis=1).T) == many.max()  # they are joined, not cut
    graph = region_graph(few, affinities, DEFAULT_OFFSETS)
    small = graph.sizes < 50
    start = 1 if mode == "sections" else 0
    own = region_graph(few, affinities[start:], DEFAULT_OFFSETS[start:])
    assert (own.mean[small[own.edges].any(axis=1)] <= 0.5).all()


@pytest.mark.parametrize("mode", MODES)
def test_more_smoothing_gives_fewer_fragments(mode: str) -> None:
    affinities = noisy(affinities_of(voronoi()), 0.3)
    counts = [
        fragments(affinities, DEFAULT_OFFSETS, config(mode, seed_smoothing=sigma)).max() for sigma in (0.0, 1.0, 3.0)
    ]
    assert counts[0] > counts[1] > counts[2]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_affinities_that_are_the_same_everywhere_are_cut_too(mode: str, value: float) -> None:
    found = fragments(np.full((3, 4, 8, 8), value, np.float32), DEFAULT_OFFSETS, config(mode))
    assert np.unique(found).tolist() == list(range(1, (4 if mode == "sections" else 1) + 1))


def test_order_and_direction_of_the_channels_do_not_matter() -> None:
    labels = voronoi()
    offsets = ((0, 0, 1), (0, -5, 0), (1, 0, 0), (0, 1, 0))
    other = known_affinities(labels, offsets)[0].astype(np.float32)
    np.testing.assert_array_equal(
        fragments(other, offsets, config()), fragments(affinities_of(labels), DEFAULT_OFFSETS, config())
    )


def test_inside_a_block_with_a_halo_the_cut_is_that_of_the_whole() -> None:
    affinities = noisy(affinities_of(voronoi((10, 60, 60), 40)), 0.1)
    whole = fragments(affinities, DEFAULT_OFFSETS, config())
    part = fragments(np.ascontiguousarray(affinities[:, :, :44, :44]), DEFAULT_OFFSETS, config())
    a, b = whole[:, :24, :24], part[:, :24, :24]
    pairs = np.unique(np.stack([a.ravel(), b.ravel()]), axis=1).shape[1]
    assert pairs == len(np.unique(a)) == len(np.unique(b))


def test_inputs_are_left_as_they_are() -> None:
    affinities = affinities_of(voronoi())
    affinities.flags.writeable = False
    mask = np.ones(affinities.shape[1:], bool)
    mask.flags.writeable = False
    fragments(affinities, DEFAULT_OFFSETS, config(), mask=mask)


@pytest.mark.parametrize(
    ("affinities", "offsets", "mask", "message"),
    [
        (np.full((3, 2, 4, 4), np.nan, np.float32), DEFAULT_OFFSETS, None, "NaN"),
        (np.ones((3, 2, 4, 4), np.float32), ((-2, 0, 0), (0, -1, 0), (0, 0, -1)), None, "along z"),
        (np.ones((3, 2, 4, 4), np.float32), DEFAULT_OFFSETS, np.ones((2, 4, 5), bool), "The mask has the shape"),
        (np.ones((3, 0, 4, 4), np.float32), DEFAULT_OFFSETS, None, "empty"),
    ],
)
def test_what_cannot_be_used_is_said(
    affinities: np.ndarray, offsets: tuple, mask: np.ndarray | None, message: str
) -> None:
    with pytest.raises(SegmentError, match=message):
        fragments(affinities, offsets, config(), mask=mask)


def test_sections_need_no_offset_along_z() -> None:
    affinities = affinities_of(voronoi())[1:]
    found = fragments(affinities, DEFAULT_OFFSETS[1:], config("sections"))
    assert neurons_within(found, voronoi()) <= 2  # of single voxels nothing tells where they belong


def slow_flood(cost: np.ndarray, seeds: np.ndarray, limit: int) -> np.ndarray:
    """Take the cheapest step of the oldest voxel, with one queue a level."""
    ids = seeds.copy()
    queues: list[deque] = [deque() for _ in range(256)]
    queues[0].extend((tuple(p), tuple(p)) for p in np.argwhere(seeds != 0).tolist())
    level = 0
    while level < limit:
        if not queues[level]:
            level += 1
            continue
        p, source = queues[level].popleft()
        if p != source:
            if ids[p] != 0:
                continue
            ids[p] = ids[source]
        for axis in range(3):
            for up in (0, 1):
                q = list(p)
                q[axis] += 1 if up else -1
                if 0 <= q[axis] < ids.shape[axis] and ids[tuple(q)] == 0:
                    step = int(cost[(axis, *q)] if up else cost[(axis, *p)])
                    queues[max(step, level)].append((tuple(q), p))
    return ids


@pytest.mark.parametrize("limit", [100, LEVELS + 1])
@pytest.mark.parametrize("levels", [3, LEVELS + 1])
def test_the_flood_is_that_of_queues_written_down_slowly(limit: int, levels: int) -> None:
    rng = np.random.default_rng(1)
    for shape in ((4, 6, 8), (1, 7, 5)):
        cost = (rng.integers(0, levels, (3, *shape)) * (LEVELS // (levels - 1))).astype(np.uint8)
        seeds = np.where(rng.random(shape) < 0.05, rng.permutation(np.prod(shape)).reshape(shape) + 1, 0)
        ids = seeds.astype(np.uint64)
        flood(cost.reshape(3, -1), shape, ids.reshape(-1), 0, limit)
        np.testing.assert_array_equal(ids, slow_flood(cost, seeds, limit))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("method", METHODS)
def test_perfect_affinities_of_neurons_give_the_neurons_back(mode: str, method: str) -> None:
    labels = voronoi()
    affinities = affinities_of(labels)
    cut = fragments(affinities, DEFAULT_OFFSETS, config(mode))
    graph = region_graph(cut, affinities, DEFAULT_OFFSETS)
    segments = agglomerate(graph, AgglomerateConfig(method=method)).table[cut]
    pairs = np.unique(np.stack([segments.ravel(), labels.ravel()]), axis=1).shape[1]
    assert pairs == len(np.unique(labels)) == len(np.unique(segments))


@pytest.mark.skipif(not DATA.exists(), reason="needs fib25_train_test.npz in the folder NTU_DATA")
@pytest.mark.parametrize("mode", MODES)
def test_perfect_affinities_of_real_neurons_give_them_back(mode: str) -> None:
    with np.load(DATA, allow_pickle=False) as data:
        labels = data["labels"][140:170, 60:180, 60:180].astype(np.int64)
    affinities = affinities_of(labels)
    ids, counts = np.unique(labels, return_counts=True)
    labels[np.isin(labels, ids[counts < 100])] = 0
    cut = fragments(affinities, DEFAULT_OFFSETS, config(mode))
    graph = region_graph(cut, affinities, DEFAULT_OFFSETS)
    for method in METHODS:
        segments = agglomerate(graph, AgglomerateConfig(method=method)).table[cut].astype(np.int64)
        assert sum(variation_of_information(labels, segments, ignore_labels=[0])) <= 0.15, method


def test_a_watershed_on_the_boundary_alone_would_not_do() -> None:
    """Why the flood goes along affinities: on a boundary map voxels of a thin membrane fall to either side."""
    labels = voronoi()
    affinities = affinities_of(labels)
    ours = fragments(affinities, DEFAULT_OFFSETS, config())
    inner = affinities.copy()
    for axis in range(3):
        np.moveaxis(inner[axis], axis, 0)[0] = 1
    boundary = 1 - inner.min(axis=0)
    on_boundary = watershed(boundary, np.where(boundary < 0.5, ours, 0).astype(np.int64))
    assert neurons_within(on_boundary.astype(np.uint64), labels) > 1
