"""The region graph against a loop over every pair of voxels, whole and from blocks."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from napari_tokenunify.affinities import DEFAULT_OFFSETS
from napari_tokenunify.errors import SegmentError
from napari_tokenunify.geometry import Box
from napari_tokenunify.segment.region_graph import RegionGraph, block_statistics, merge_statistics, region_graph

OFFSETS = (*DEFAULT_OFFSETS, (-2, 0, 0), (0, 3, 0), (1, -2, 2))


def random_fragments(seed: int = 0, shape: tuple[int, int, int] = (5, 7, 9), ids: int = 9) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, ids + 1, shape).astype(np.uint64)


def random_affinities(shape: tuple[int, ...], channels: int = 3, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).random((channels, *shape), np.float32)


def slow_contacts(
    fragments: np.ndarray, affinities: np.ndarray, offsets: tuple[tuple[int, int, int], ...], near: bool
) -> dict[tuple[int, int], list[float]]:
    found: dict[tuple[int, int], list[float]] = {}
    for channel, offset in enumerate(offsets):
        if (sum(map(abs, offset)) == 1) is not near:
            continue
        for p in product(*map(range, fragments.shape)):
            q = tuple(a + b for a, b in zip(p, offset, strict=True))
            if not all(0 <= a < n for a, n in zip(q, fragments.shape, strict=True)):
                continue
            u, v = sorted((int(fragments[p]), int(fragments[q])))
            if u != v and u != 0:
                found.setdefault((u, v), []).append(float(affinities[(channel, *p)]))
    return dict(sorted(found.items()))


def assert_equal_graphs(one: RegionGraph, other: RegionGraph) -> None:
    assert one.nodes == other.nodes
    for name in ("edges", "count", "largest", "far_edges", "far_count", "sizes"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)
    np.testing.assert_allclose(one.mean, other.mean, atol=1e-6)
    np.testing.assert_allclose(one.far_mean, other.far_mean, atol=1e-6)


def test_contacts_are_those_of_a_loop_over_all_pairs_of_voxels() -> None:
    fragments = random_fragments()
    affinities = random_affinities(fragments.shape, len(OFFSETS))
    graph = region_graph(fragments, affinities, OFFSETS)
    near = slow_contacts(fragments, affinities, OFFSETS, near=True)
    far = slow_contacts(fragments, affinities, OFFSETS, near=False)
    np.testing.assert_array_equal(graph.edges, list(near))
    np.testing.assert_array_equal(graph.count, [len(values) for values in near.values()])
    np.testing.assert_allclose(graph.mean, [np.mean(values) for values in near.values()], atol=1e-6)
    np.testing.assert_array_equal(graph.largest, np.array([max(values) for values in near.values()], np.float32))
    np.testing.assert_array_equal(graph.far_edges, list(far))
    np.testing.assert_array_equal(graph.far_count, [len(values) for values in far.values()])
    np.testing.assert_allclose(graph.far_mean, [np.mean(values) for values in far.values()], atol=1e-6)
    np.testing.assert_array_equal(graph.sizes[1:], np.bincount(fragments.ravel().astype(int))[1:])
    assert graph.sizes[0] == 0
    assert (graph.nodes, graph.mean.dtype, graph.count.dtype) == (9, np.float32, np.float64)


@pytest.mark.parametrize("core", [(2, 3, 4), (5, 1, 9), (1, 7, 2)])
def test_blocks_with_a_halo_give_the_graph_of_the_whole(core: tuple[int, int, int]) -> None:
    fragments = random_fragments(3, (6, 7, 9), 20)
    affinities = random_affinities(fragments.shape, len(OFFSETS))
    parts = []
    for start in product(*(range(0, n, c) for n, c in zip(fragments.shape, core, strict=True))):
        own = Box(start, tuple(a + c for a, c in zip(start, core, strict=True))).clipped(fragments.shape)
        assert own is not None
        outer = own.grown((2, 3, 2)).clipped(fragments.shape)
        assert outer is not None
        inner = own.shifted(tuple(-a for a in outer.start))
        parts.append(block_statistics(fragments[outer.slices], affinities[(..., *outer.slices)], OFFSETS, inner))
    assert_equal_graphs(merge_statistics(parts, 20), region_graph(fragments, affinities, OFFSETS))


@pytest.mark.parametrize("values", [1, 200, 500])
def test_the_slabs_a_block_is_done_in_do_not_show(values: int, monkeypatch: pytest.MonkeyPatch) -> None:
    fragments = random_fragments(5, (7, 6, 8), 20)
    affinities = random_affinities(fragments.shape, len(OFFSETS))
    whole = region_graph(fragments, affinities, OFFSETS)
    monkeypatch.setattr("napari_tokenunify.segment.region_graph._SLAB_VALUES", values)
    assert_equal_graphs(region_graph(fragments, affinities, OFFSETS), whole)


def test_ids_far_apart_are_counted_like_those_close_together() -> None:
    close = random_fragments(4)
    far = np.where(close == 0, 0, close * 10**9).astype(np.uint64)
    affinities = random_affinities(close.shape)
    one, other = (block_statistics(ids, affinities, DEFAULT_OFFSETS) for ids in (close, far))
    np.testing.assert_array_equal(one.ids * 10**9, other.ids)
    np.testing.assert_array_equal(one.voxels, other.voxels)
    assert one.voxels.sum() == (close != 0).sum()


def test_without_fragments_or_contacts_the_graph_is_empty() -> None:
    affinities = np.ones((3, 2, 3, 4), np.float32)
    empty = region_graph(np.zeros((2, 3, 4), np.uint64), affinities, DEFAULT_OFFSETS)
    alone = region_graph(np.ones((2, 3, 4), np.uint64), affinities, DEFAULT_OFFSETS)
    assert (empty.nodes, empty.edges.shape, empty.sizes.tolist()) == (0, (0, 2), [0])
    assert (alone.nodes, alone.edges.shape, alone.sizes.tolist()) == (1, (0, 2), [0, 24])
    assert alone.far_edges.shape == (0, 2)
    assert len(merge_statistics([], 3).sizes) == 4


@pytest.mark.parametrize(
    ("affinities", "offsets", "message"),
    [
        (np.full((3, 2, 2, 2), np.nan, np.float32), DEFAULT_OFFSETS, "NaN"),
        (np.full((3, 2, 2, 2), 255, np.float32), DEFAULT_OFFSETS, "from 255 to 255"),
        (np.ones((2, 2, 2, 2), np.float32), DEFAULT_OFFSETS, "do not fit 3 offsets"),
        (np.ones((3, 2, 2, 3), np.float32), DEFAULT_OFFSETS, "do not cover"),
    ],
)
def test_affinities_that_cannot_be_used_are_named(affinities: np.ndarray, offsets: tuple, message: str) -> None:
    with pytest.raises(SegmentError, match=message):
        region_graph(np.ones((2, 2, 2), np.uint64), affinities, offsets)


def test_an_id_past_the_number_of_fragments_is_named() -> None:
    part = block_statistics(np.full((1, 1, 2), 7, np.uint64), np.ones((3, 1, 1, 2), np.float32), DEFAULT_OFFSETS)
    with pytest.raises(SegmentError, match="the id 7"):
        merge_statistics([part], 5)


def test_the_spread_of_a_contact_is_the_mean_over_its_pairs_whole_and_from_blocks() -> None:
    fragments = random_fragments()
    affinities = random_affinities(fragments.shape, len(OFFSETS))
    spread = random_affinities(fragments.shape, 1, seed=7)[0]
    own = [Box((0, 0, 0), (2, 7, 9)), Box((2, 0, 0), (5, 7, 9))]
    parts = [block_statistics(fragments, affinities, OFFSETS, box, spread) for box in own]
    slow = slow_contacts(fragments, np.stack([spread] * len(OFFSETS)), OFFSETS, near=True)
    for found in (parts, [block_statistics(fragments, affinities, OFFSETS, None, spread)]):
        graph = merge_statistics(found, 9)
        np.testing.assert_array_equal(graph.edges, list(slow))
        np.testing.assert_allclose(graph.spread, [np.mean(values) for values in slow.values()], atol=1e-6)
        assert_equal_graphs(graph, region_graph(fragments, affinities, OFFSETS))


def test_without_spread_in_every_block_there_is_none() -> None:
    fragments, spread = random_fragments(), random_affinities((5, 7, 9), 1)[0]
    affinities = random_affinities(fragments.shape)
    with_it = block_statistics(fragments, affinities, DEFAULT_OFFSETS, Box((0, 0, 0), (2, 7, 9)), spread)
    without = block_statistics(fragments, affinities, DEFAULT_OFFSETS, Box((2, 0, 0), (5, 7, 9)))
    assert merge_statistics([with_it, without], 9).spread is None
    assert region_graph(fragments, affinities, DEFAULT_OFFSETS).spread is None
