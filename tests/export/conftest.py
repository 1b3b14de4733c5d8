"""Fixtures for exports: a small segmentation of a box, several chunks large, whose threshold can be moved."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from napari_tokenunify.affinities import DEFAULT_OFFSETS
from napari_tokenunify.segment import MergeTree, Segmentation
from napari_tokenunify.segment.region_graph import region_graph

SHAPE = (9, 70, 90)
SIZE_NM = (40.0, 4.0, 5.0)
ORIGIN = (3, 0, 5)
ORIGIN_NM = (400.0, -8.0, 50.0)  # of the volume


@pytest.fixture(scope="session")
def fragments() -> np.ndarray:
    """Bars of 2 x 10 x 9 voxels, more than 255 of them; some voxels lie in none."""
    z, y, x = np.indices(SHAPE)
    ids = (1 + (z // 2) * 70 + (y // 10) * 10 + x // 9).astype(np.uint64)
    ids[0, :30, :40] = 0
    return ids


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory, fragments: np.ndarray) -> Path:
    """The segmentation's folder; nobody changes it."""
    nodes = int(fragments.max())
    pairs = np.stack([np.arange(1, nodes), np.arange(2, nodes + 1)], axis=1).astype(np.uint64)[::2]
    scores = np.linspace(0.1, 0.9, len(pairs), dtype=np.float32)
    tree = MergeTree(nodes, pairs, scores)
    graph = region_graph(fragments, np.full((3, *SHAPE), 0.5, np.float32), DEFAULT_OFFSETS)
    spec = {
        "method": "mean",
        "value": 0.5,
        "voxel_size_nm": SIZE_NM,
        "origin": ORIGIN,
        "origin_nm": ORIGIN_NM,
        "sources": {"affinities": "affinities.zarr"},
        "settings": {"made_of": {"model": "small"}},
    }
    path = tmp_path_factory.mktemp("export") / "segmentation"
    Segmentation.create(path, fragments, graph, tree.table(0.5), tree=tree, spec=spec)
    return path


@pytest.fixture
def segmentation(folder: Path) -> Segmentation:
    return Segmentation.open(folder)
