from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from napari_tokenunify.data.annotations import Annotations, open_annotations
from napari_tokenunify.data.volume import Volume, open_volume
from napari_tokenunify.errors import ProofreadError
from napari_tokenunify.geometry import Box
from napari_tokenunify.proofread import Proofreading
from napari_tokenunify.proofread.training_labels import (
    BOUNDARY,
    TrainingLabels,
    vouched_table,
    write_training_labels,
)
from tests.proofread.conftest import SHAPE


@pytest.fixture
def proofreading(folder: Path):
    with Proofreading.open(folder) as found:
        yield found


@pytest.fixture
def volume() -> Volume:
    return Volume.from_array(np.zeros(SHAPE, np.uint8), (40.0, 4.0, 4.0), "raw")


def segments(proofreading: Proofreading) -> list[int]:
    ids, counts = np.unique(proofreading.table()[1:], return_counts=True)
    return ids[np.argsort(-counts, kind="stable")].tolist()


def test_only_what_edits_name_is_labelled(proofreading: Proofreading, volume: Volume, bars: np.ndarray):
    a, b, c, d, *_ = segments(proofreading)
    proofreading.merge(a, b)
    proofreading.lock(c)
    proofreading.delete(d)
    table = vouched_table(proofreading)
    known = set(np.flatnonzero(table).tolist())
    assert known == {a, b, *np.flatnonzero(proofreading.table() == c).tolist()}
    labels = TrainingLabels.of(proofreading, volume).read(Box.whole(SHAPE))
    assert ((labels > 0) == (table[bars] > 0)).all()
    assert len(np.unique(labels[labels > 0])) == 2


def test_a_split_labels_both_sides_of_its_cut_differently(proofreading: Proofreading, volume: Volume, bars: np.ndarray):
    a = segments(proofreading)[0]
    members = np.flatnonzero(proofreading.table() == a)
    edit = proofreading.split([int(members[0])], [int(members[-1])])
    labels = TrainingLabels.of(proofreading, volume).read(Box.whole(SHAPE))
    for u, v in edit.cuts:
        one, other = np.unique(labels[bars == u]), np.unique(labels[bars == v])
        assert len(one) == len(other) == 1
        assert one != other


def test_labels_are_those_of_the_threshold_at_which_the_user_saw_the_segments(
    proofreading: Proofreading, volume: Volume, bars: np.ndarray
):
    proofreading.lock(1, threshold=0.0)
    proofreading.lock(2, threshold=0.0)  # two segments there ...
    joined = proofreading.segmentation.at(1.0)
    assert joined[1] == joined[2], "... that are one at a threshold that she did not look at"
    labels = TrainingLabels.of(proofreading, volume, threshold=0.0).read(Box.whole(SHAPE))
    assert labels[bars == 1].min() > 0
    assert set(labels[bars == 1]).isdisjoint(labels[bars == 2])


def test_own_annotations_win_and_ids_agree_with_them(proofreading: Proofreading, volume: Volume, bars: np.ndarray):
    """One segment overlaps one neuron and takes its id, one overlaps two and is left out, one has an id of its own."""
    a, b, c, *_ = segments(proofreading)
    for segment in (a, b, c):
        proofreading.lock(segment)
    voxels = proofreading.view()[:]
    own = np.zeros(SHAPE, np.uint32)
    places = {segment: np.argwhere(voxels == segment) for segment in (a, b)}
    own[tuple(places[a][0])] = 7
    own[tuple(places[b][0])], own[tuple(places[b][-1])] = 8, 9
    labels = TrainingLabels.of(proofreading, volume, Annotations.from_array(own)).read(Box.whole(SHAPE))
    assert (labels[own > 0] == own[own > 0]).all()
    assert (labels[voxels == a] == 7).all()
    assert (labels[(voxels == b) & (own == 0)] == 0).all()
    assert set(np.unique(labels[voxels == c]).tolist()) == {10}


def test_where_0_is_boundary_it_has_an_id_that_nothing_else_has(proofreading: Proofreading, volume: Volume):
    proofreading.lock(segments(proofreading)[0])
    own = np.zeros(SHAPE, np.uint32)
    own[:, 0] = 7
    annotations = Annotations.from_array(own, (40.0, 4.0, 4.0), BOUNDARY, zero_is_boundary=True)
    labels = TrainingLabels.of(proofreading, volume, annotations).read(Box.whole(SHAPE))
    np.testing.assert_array_equal(labels, np.where(own == 7, 7, BOUNDARY))


def test_what_is_written_is_what_annotations_are(proofreading: Proofreading, volume: Volume, tmp_path: Path):
    proofreading.lock(segments(proofreading)[0])
    labels = TrainingLabels.of(proofreading, volume)
    list(write_training_labels(labels, volume, tmp_path / "edits.zarr"))
    opened = open_annotations(tmp_path / "edits.zarr", volume)
    assert opened.voxel_size_nm == (40.0, 4.0, 4.0)
    assert (opened.read(Box.whole(SHAPE)) == labels.read(Box.whole(SHAPE))).all()
    assert (labels[1:3, :, 4:9] == labels.read(Box((1, 0, 4), (3, 12, 9)))).all()
    with pytest.raises(ProofreadError, match="is there already"):
        list(write_training_labels(labels, volume, tmp_path / "edits.zarr"))
    assert open_volume(tmp_path / "edits.zarr").shape == SHAPE


def test_without_edits_or_on_another_volume_there_are_none(proofreading: Proofreading, volume: Volume):
    with pytest.raises(ProofreadError, match="no labels to learn from yet"):
        TrainingLabels.of(proofreading, volume)
    small = Volume.from_array(np.zeros((2, 2, 2), np.uint8), None, "small")
    with pytest.raises(ProofreadError, match="does not fit the segmentation"):
        TrainingLabels.of(proofreading, small)
