"""Fixtures for proofreading: small segmentations of one voxel a fragment and more, with trees and without."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from napari_tokenunify.affinities import DEFAULT_OFFSETS
from napari_tokenunify.segment import Segmentation
from napari_tokenunify.segment.merge_tree import merge_tree
from napari_tokenunify.segment.region_graph import region_graph
from napari_tokenunify.segment.segmentation import EDITS

SHAPE = (4, 12, 15)
BAR = (2, 3, 3)  # voxels of a fragment
COUNTS = (2, 4, 5)  # fragments along each axis: 40 of them


def at(fragment: int) -> tuple[int, int, int]:
    """The first voxel of a fragment."""
    z, y, x = np.unravel_index(fragment - 1, COUNTS)
    return int(z) * BAR[0], int(y) * BAR[1], int(x) * BAR[2]


@pytest.fixture(scope="session")
def bars() -> np.ndarray:
    """Bars of 2 x 3 x 3 voxels, numbered from 1; one voxel lies in none."""
    z, y, x = np.indices(SHAPE)
    ids = (1 + (z // BAR[0]) * 20 + (y // BAR[1]) * 5 + x // BAR[2]).astype(np.uint64)
    ids[-1, -1, -1] = 0
    return ids


@pytest.fixture(scope="session")
def affinities() -> np.ndarray:
    return np.random.default_rng(5).random((3, *SHAPE), np.float32)


@pytest.fixture(scope="session")
def master(tmp_path_factory: pytest.TempPathFactory, bars: np.ndarray, affinities: np.ndarray) -> Path:
    """A segmentation whose threshold can be moved; nobody edits it."""
    graph = region_graph(bars, affinities, DEFAULT_OFFSETS)
    tree = merge_tree(graph, "mean")
    spec = {"method": "mean", "value": 0.55, "voxel_size_nm": (40.0, 4.0, 4.0), "fragments_hash": "bars"}
    folder = tmp_path_factory.mktemp("master") / "segmentation"
    Segmentation.create(folder, bars, graph, tree.table(0.55), tree=tree, spec=spec)
    return folder


@pytest.fixture
def folder(master: Path, tmp_path: Path) -> Path:
    """A copy to edit."""
    return shutil.copytree(master, tmp_path / "segmentation", ignore=shutil.ignore_patterns(f"{EDITS}*"))
