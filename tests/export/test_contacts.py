from __future__ import annotations

import csv
from collections import defaultdict
from dataclasses import replace

import numpy as np
import pytest

from napari_tokenunify.errors import ExportError
from napari_tokenunify.export import Content, Segments, write_export
from napari_tokenunify.export.contacts import segment_uncertainty


@pytest.fixture
def unsure(segmentation):
    """The same with affinities that differ from contact to contact."""
    random = np.random.default_rng(0)
    graph = segmentation.graph
    mean = random.random(len(graph.edges)).astype(np.float32)
    segmentation.graph = replace(graph, mean=mean, largest=np.minimum(mean + 0.1, 1).astype(np.float32))
    return segmentation


def test_each_pair_that_touches_has_a_row(unsure, tmp_path):
    list(write_export(Segments.of(unsure, 0.7), tmp_path / "x.csv", "csv-contacts"))
    table, graph = unsure.at(0.7), unsure.graph
    expected = defaultdict(list)
    for (u, v), count, mean, largest in zip(graph.edges, graph.count, graph.mean, graph.largest, strict=True):
        pair = tuple(sorted((int(table[u]), int(table[v]))))
        if pair[0] != pair[1]:
            expected[pair].append((count, mean, largest))
    with (tmp_path / "x.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(int(row["segment"]), int(row["neighbour"])) for row in rows] == sorted(expected)
    for row in rows:
        count, mean, largest = np.array(expected[int(row["segment"]), int(row["neighbour"])]).T
        assert float(row["voxel_pairs"]) == count.sum()
        assert float(row["mean_affinity"]) == pytest.approx((count * mean).sum() / count.sum(), abs=1e-4)
        assert float(row["largest_affinity"]) == pytest.approx(largest.max(), abs=1e-4)
        doubt = (count * (1 - np.abs(2 * mean - 1))).sum() / count.sum()
        assert float(row["uncertainty"]) == pytest.approx(doubt, abs=1e-4)


def test_a_segment_is_as_unsure_as_all_its_contacts(unsure):
    table, graph = unsure.at(0.7), unsure.graph
    ids = np.unique(table[1:])
    found = segment_uncertainty(graph, table, ids)
    for segment, value in zip(ids, found, strict=True):
        touches = (table[graph.edges] == segment).any(axis=1)
        doubt = 1 - np.abs(2 * graph.mean[touches].astype(float) - 1)
        assert value == pytest.approx((graph.count[touches] * doubt).sum() / graph.count[touches].sum())


def test_arrays_have_no_contacts(tmp_path):
    array = Content.of_array(np.ones((2, 3, 4), np.uint8), is_labels=True)
    with pytest.raises(ExportError, match="made of a segmentation"):
        list(write_export(array, tmp_path / "x.csv", "csv-contacts"))
