from __future__ import annotations

import numpy as np
import pytest

from napari_tokenunify.errors import SegmentError
from napari_tokenunify.segment.run_length import expected_run_length


def _line(lengths: list[float], skeleton: int, first: int, y: float) -> tuple[list, list, list]:
    x = np.concatenate([[0.0], np.cumsum(lengths)])
    positions = [(0.0, y, value) for value in x]
    edges = [(first + i, first + i + 1) for i in range(len(lengths))]
    return positions, edges, [skeleton] * len(positions)


# Two neurons: one of 10 + 20 + 30 nm with nodes 0 to 3, one of 40 nm with nodes 4 and 5.
A, B = _line([10, 20, 30], 1, 0, 0.0), _line([40], 2, 4, 9.0)
SKELETONS = A[0] + B[0], A[1] + B[1], A[2] + B[2]
BEST = (60**2 + 40**2) / 100


@pytest.mark.parametrize(
    ("segments", "expected"),
    [
        ([1, 1, 1, 1, 2, 2], BEST),
        ([1, 1, 3, 3, 2, 2], (10**2 + 30**2 + 40**2) / 100),  # the edge between 1 and 3 is lost
        ([1, 1, 0, 0, 2, 2], (10**2 + 40**2) / 100),  # no segment there
        ([2, 2, 2, 2, 2, 2], 0),  # all merged
        ([1, 1, 1, 2, 2, 2], (30**2) / 100),  # 2 merges: the second neuron counts for nothing
        ([1, 1, 3, 1, 2, 2], (10**2 + 40**2) / 100),
    ],
)
def test_splits_and_merges_shorten_the_run(segments: list[int], expected: float):
    erl, best = expected_run_length(*SKELETONS, segments)
    assert erl == pytest.approx(expected)
    assert best == pytest.approx(BEST)


def test_a_few_nodes_across_a_border_can_be_forgiven():
    segments = [1, 1, 1, 2, 2, 2]
    erl, _ = expected_run_length(*SKELETONS, segments, merge_threshold=1)
    assert erl == pytest.approx((30**2 + 40**2) / 100)


def _by_walking(positions: np.ndarray, edges: np.ndarray, skeletons: np.ndarray, segments: np.ndarray) -> float:
    """Weigh each edge with the length of its skeleton that lies in its segment."""
    length = [float(np.sqrt(((positions[a] - positions[b]) ** 2).sum())) for a, b in edges]
    good = [
        segments[a] == segments[b] != 0
        and len({s for s, g in zip(skeletons, segments, strict=True) if g == segments[a]}) == 1
        for a, b in edges
    ]
    run = 0.0
    for i, (a, _) in enumerate(edges):
        for j, (c, _) in enumerate(edges):
            if good[i] and good[j] and skeletons[a] == skeletons[c] and segments[a] == segments[c]:
                run += length[i] * length[j]
    return run / sum(length)


@pytest.mark.parametrize("seed", range(5))
def test_it_is_what_walking_along_the_edges_gives(seed: int):
    random = np.random.default_rng(seed)
    skeletons = random.integers(1, 5, 30)
    positions = random.normal(size=(30, 3)) * 100
    children = [i for i in range(30) if skeletons[i] in skeletons[:i]]
    edges = np.array([(i, random.choice(np.flatnonzero(skeletons[:i] == skeletons[i]))) for i in children])
    segments = np.where(random.random(30) < 0.8, skeletons + 20, random.integers(0, 12, 30))
    erl, _ = expected_run_length(positions, edges, skeletons, segments)
    assert erl == pytest.approx(_by_walking(positions, edges, skeletons, segments))
    assert erl > 0


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"segments": [1, 1]}, "6 positions, 6 skeleton ids and 2 segments"),
        ({"edges": [(0, 6)]}, "nodes are 0 to 5"),
        ({"edges": [(0, 5)]}, "nodes of two skeletons"),
        ({"edges": [0, 1, 2]}, "no pairs of node indices"),
        ({"edges": np.empty((0, 2), int)}, "have no length"),
        ({"segments": [1, 1, 1, -1, 2, 2]}, "negative id -1"),
    ],
)
def test_skeletons_that_do_not_fit_are_named(changed: dict, said: str):
    positions, edges, skeletons = SKELETONS
    arguments = {"positions_nm": positions, "edges": edges, "skeletons": skeletons, "segments": [1, 1, 1, 1, 2, 2]}
    with pytest.raises(SegmentError, match=said):
        expected_run_length(**{**arguments, **changed})
