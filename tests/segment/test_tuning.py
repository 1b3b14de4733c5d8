"""Tuning against scoring every table voxel by voxel."""

from __future__ import annotations

from collections.abc import Generator

import numpy as np
import pytest
from skimage.metrics import adapted_rand_error, variation_of_information

from napari_tokenunify.config import AgglomerateConfig
from napari_tokenunify.data.annotations import Annotations
from napari_tokenunify.errors import SegmentError
from napari_tokenunify.metrics import contingency
from napari_tokenunify.segment.agglomeration import METHODS, agglomerate
from napari_tokenunify.segment.merge_tree import merge_tree
from napari_tokenunify.segment.segmentation import Segmentation
from napari_tokenunify.segment.tuning import Tuning, tune, tune_counts, tune_segmentation
from tests.segment.test_merge_tree import make_graph, random_graph


def volume(nodes: int = 30, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return fragments and sparse labels of neurons of three fragments."""
    rng = np.random.default_rng(seed)
    fragments = rng.integers(1, nodes + 1, (6, 8, 10)).astype(np.uint64)
    labels = ((fragments - 1) // 3 + 1).astype(np.uint32)
    labels[rng.random(labels.shape) < 0.6] = 0
    return fragments, labels


@pytest.mark.parametrize("method", ["mean", "multicut"])
def test_the_curve_holds_the_scores_of_the_labelled_voxels(method: str) -> None:
    graph = random_graph(30, 90, 3)
    fragments, labels = volume()
    tuning = tune(graph, fragments, labels, AgglomerateConfig(method=method))
    assert tuning.method == method
    assert list(tuning.curve) == sorted(tuning.curve)
    for point in tuning.curve[:: len(tuning.curve) // 5]:
        field = "beta" if method == "multicut" else "threshold"
        table = agglomerate(graph, AgglomerateConfig(method=method, **{field: point.value})).table
        split, merge = variation_of_information(labels.astype(int), table[fragments].astype(int), ignore_labels=[0])
        error = adapted_rand_error(labels.astype(int), table[fragments].astype(int), ignore_labels=[0])[0]
        assert point[1:] == pytest.approx((split, merge, error))
    errors = [point.voi_split + point.voi_merge for point in tuning.curve]
    assert min(errors) < max(errors)
    assert errors[[point.value for point in tuning.curve].index(tuning.value)] == pytest.approx(min(errors))


@pytest.mark.parametrize("method", METHODS)
def test_a_wide_range_of_best_values_gives_the_one_in_its_middle(method: str) -> None:
    fragments = np.array([[[1, 1, 2, 2, 3, 3, 4, 4]]], np.uint64)
    labels = np.array([[[5, 5, 5, 5, 9, 9, 9, 9]]])
    graph = make_graph(4, [[1, 2], [2, 3], [3, 4]], [1.0, 0.0, 1.0])
    tuning = tune(graph, fragments, labels, AgglomerateConfig(method=method))
    assert tuning.value == pytest.approx(0.5, abs=0.03)
    assert {point.voi_split + point.voi_merge for point in tuning.curve if 0.1 < point.value < 0.9} == {0}


def test_counts_of_blocks_give_the_same_as_the_voxels() -> None:
    graph = random_graph(30, 90, 3)
    fragments, labels = volume()
    fragments[0] = 0
    counts = contingency(labels[:3], fragments[:3]).add(contingency(labels[3:], fragments[3:]))
    assert tune_counts(graph, counts, AgglomerateConfig()) == tune(graph, fragments, labels, AgglomerateConfig())


def test_without_a_label_in_a_fragment_it_is_said_what_to_do() -> None:
    fragments, labels = volume()
    for none in (np.zeros_like(labels), np.where(fragments > 3, 0, 1)):
        inside = np.where(none == 0, fragments, 0)
        with pytest.raises(SegmentError, match="label some neurons"):
            tune(random_graph(30, 90, 3), inside, none, AgglomerateConfig())


def end(found: Generator[None, None, Tuning]) -> Tuning:
    while True:
        try:
            next(found)
        except StopIteration as stop:
            return stop.value


def stored(folder, fragments: np.ndarray, graph, *, method: str = "mean", origin=(0, 0, 0)) -> Segmentation:
    tree = merge_tree(graph, "mean") if method == "mean" else None
    spec = {"method": method, "origin": list(origin)}
    return Segmentation.create(
        folder, fragments, graph, np.arange(graph.nodes + 1, dtype=np.uint64), tree=tree, spec=spec
    )


def test_a_segmentation_of_a_part_is_tuned_on_the_labels_that_lie_in_it(tmp_path) -> None:
    graph = random_graph(30, 90, 3)
    fragments, labels = volume()
    everywhere = np.full((9, 11, 12), 999, np.uint32)  # what lies outside does not count
    everywhere[2:8, 1:9, 2:] = labels
    everywhere[2:4, 1:3, 2:4] = 77  # nor does boundary
    labels[:2, :2, :2] = 0
    found = stored(tmp_path / "s", fragments, graph, origin=(2, 1, 2))
    tuning = end(tune_segmentation(found, Annotations.from_array(everywhere, boundary_id=77)))
    assert tuning == tune(graph, fragments, labels, AgglomerateConfig(method="mean"))


def test_one_labelled_neuron_or_a_method_without_threshold_cannot_be_tuned(tmp_path) -> None:
    graph = random_graph(30, 90, 3)
    fragments, labels = volume()
    one = Annotations.from_array(np.where(labels == 3, labels, 0))
    with pytest.raises(SegmentError, match="Fewer than two neurons are labelled in what was segmented"):
        end(tune_segmentation(stored(tmp_path / "a", fragments, graph), one))
    with pytest.raises(SegmentError, match="multicut has no threshold"):
        end(
            tune_segmentation(
                stored(tmp_path / "b", fragments, graph, method="multicut"), Annotations.from_array(labels)
            )
        )
