"""What is said about annotations, against counting by hand."""

import numpy as np
import pytest

from napari_tokenunify.affinities import known_affinities
from napari_tokenunify.data.annotation_checks import check_annotations, summarise
from napari_tokenunify.data.annotations import Annotations
from napari_tokenunify.data.label_blocks import label_blocks
from napari_tokenunify.data.label_cells import CellCounter
from napari_tokenunify.geometry import Box

OFFSETS = [(-1, 0, 0), (0, -1, 0), (0, 0, -1), (0, -3, 2)]


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr("napari_tokenunify.data.label_blocks._BLOCK_VOXELS", 3000)


def blobs(shape=(8, 60, 70), seed=0):
    """Return labels of coarse random blobs, with gaps and a boundary id 2."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 9, (shape[0] // 2, shape[1] // 5, shape[2] // 5))
    return coarse.repeat(2, 0).repeat(5, 1).repeat(5, 2).astype(np.uint32)


def kinds(labels, voxel_size_nm=(10.0, 10.0, 10.0), **options):
    return {f.kind: f for f in check_annotations(Annotations.from_array(labels, voxel_size_nm, **options))}


def touching(shape=(4, 30, 30)):
    labels = np.zeros(shape, np.uint8)
    labels[:, :15], labels[:, 15:] = 5, 6
    return labels


def test_the_summary_counts_what_a_plain_count_finds():
    labels = blobs()
    labels[3] = 0
    summary = summarise(Annotations.from_array(labels, boundary_id=2), OFFSETS)
    target, mask = known_affinities(labels, OFFSETS, 2)
    neurons, sizes = np.unique(labels[(labels != 0) & (labels != 2)], return_counts=True)
    assert summary.neurons.tolist() == neurons.tolist()
    assert summary.sizes.tolist() == sizes.tolist()
    assert summary.boundary_voxels == (labels == 2).sum()
    assert summary.labelled_voxels == np.count_nonzero(labels)
    assert summary.sections == (0, 1, 2, 4, 5, 6, 7)
    assert summary.known_pairs == tuple(mask.sum(axis=(1, 2, 3)))
    assert summary.joined_pairs == tuple(target.sum(axis=(1, 2, 3)))


def test_cells_count_voxels_and_first_voxel_of_each_id(monkeypatch):
    monkeypatch.setattr("napari_tokenunify.data.label_cells._PENDING_ROWS", 50)
    labels = blobs().astype(np.uint64)
    cell = (3, 16, 9)
    counter = CellCounter(labels.shape, cell)
    for box in (Box((z, 0, x), (z + 4, 60, min(x + 32, 70))) for z in (0, 4) for x in (0, 32, 64)):
        counter.add(labels[box.slices], box)
    cells = counter.result()
    expected = {}
    for place, neuron in np.ndenumerate(labels):
        if neuron:
            key = (int(neuron), *(p // c for p, c in zip(place, cell, strict=True)))
            voxels, first = expected.get(key, (0, place))
            expected[key] = (voxels + 1, first)
    places = zip(*np.unravel_index(cells.cells, cells.grid), strict=True)
    first = zip(*np.unravel_index(cells.first, labels.shape), strict=True)
    columns = zip(cells.ids.tolist(), places, cells.voxels.tolist(), first, strict=True)
    assert {(i, *map(int, p)): (n, tuple(map(int, f))) for i, p, n, f in columns} == expected


def test_the_summary_is_two_sentences():
    summary = summarise(Annotations.from_array(touching()), [(-1, 0, 0), (0, -1, 0), (0, -3, 2)])
    assert str(summary) == (
        "2 neurons in 4 of 4 sections: 3,600 labelled voxels (100.00%). Known pairs along z 2,700 (100.0% joined), "
        "y 3,480 (96.6% joined), (0,-3,2) 3,024 (88.9% joined)."
    )


def test_good_annotations_give_only_the_coverage():
    labels = np.zeros((4, 30, 30), np.uint8)
    labels[:2, :15, :15], labels[:2, :15, 15:], labels[:2, 15:], labels[2:] = 1, 2, 3, 4
    findings = check_annotations(Annotations.from_array(labels))
    assert [(f.kind, f.severity, f.sections) for f in findings] == [("coverage", "info", (0, 1, 2, 3))]


def test_nothing_labelled_is_an_error():
    (finding,) = check_annotations(Annotations.from_array(np.zeros((2, 5, 5), np.uint8)))
    assert (finding.kind, finding.severity) == ("nothing-labelled", "error")


def test_single_voxels_are_an_error_as_nothing_is_known():
    labels = np.zeros((5, 9, 9), np.uint8)
    labels[::2, ::2, ::2] = 3
    assert kinds(labels)["nothing-known"].severity == "error"


def test_sections_labelled_one_by_one_say_nothing_along_z():
    labels = touching()
    labels[1::2] = 0
    assert "along z," in kinds(labels)["direction-unknown"].message


def test_neurons_that_nowhere_touch_show_no_border():
    labels = touching()
    labels[:, 14:16] = 0
    assert "along z, y, x" in kinds(labels)["no-border"].message
    assert "no-border" not in kinds(labels, zero_is_boundary=True)


def test_only_boundary_shows_no_neuron():
    assert "no-neuron" in kinds(np.full((2, 5, 5), 4, np.uint8), boundary_id=4)


def test_a_boundary_id_that_is_nowhere_painted_is_said():
    assert "boundary id 9" in kinds(touching(), boundary_id=9)["boundary-absent"].message


def test_an_id_of_three_voxels_is_named_with_its_place():
    labels = touching()
    labels[2, 7, 3:6] = 77
    finding = kinds(labels)["tiny-id"]
    assert finding.message.startswith("The id 77 has fewer than 10 voxels")
    assert (finding.sections, finding.places) == ((2,), ((2, 7, 3),))


def test_many_tiny_ids_are_counted_and_some_named():
    labels = np.arange(1, 301).reshape(3, 10, 10)
    finding = kinds(labels)["tiny-id"]
    assert "300 ids (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, ...) have" in finding.message
    assert len(finding.places) == 20


def two_spots(first, second, shape=(100, 60, 60)):
    labels = np.zeros(shape, np.uint8)
    for z, y, x in (first, second):
        labels[z, y : y + 5, x : x + 5] = 8
    return labels


@pytest.mark.parametrize(
    ("first", "second", "voxel_size_nm", "far"),
    [
        ((5, 2, 2), (5, 50, 50), (40.0, 40.0, 40.0), True),
        ((5, 2, 2), (5, 50, 50), (40.0, 8.0, 8.0), False),
        ((0, 20, 20), (99, 22, 22), (40.0, 40.0, 40.0), False),  # annotated sections follow each other
        ((0, 2, 2), (99, 50, 50), (40.0, 40.0, 40.0), True),
    ],
)
def test_parts_far_apart_in_annotated_sections_are_named(first, second, voxel_size_nm, far):
    findings = kinds(two_spots(first, second), voxel_size_nm)
    assert ("far-parts" in findings) == far
    if far:
        assert findings["far-parts"].places == (first, second)
        assert findings["far-parts"].sections == tuple(sorted({first[0], second[0]}))
        assert "The id 8 has parts more than 1 micrometre apart" in findings["far-parts"].message


def test_a_long_neuron_is_in_one_part_however_long():
    labels = np.zeros((3, 40, 300), np.uint8)
    labels[1, 20, :] = 3
    labels[1, 25, :100] = labels[1, 25, 250:] = 4
    finding = kinds(labels, (25.0, 25.0, 25.0))["far-parts"]
    assert "The id 4 has" in finding.message
    assert finding.places == ((1, 25, 0), (1, 25, 250))


def test_without_a_voxel_size_far_is_said_in_voxels():
    labels = np.zeros((1, 10, 400), np.uint8)
    labels[0, :, :9] = labels[0, :, 390:] = 1
    labels[0, :, 200:210] = 2
    message = kinds(labels, None)["far-parts"].message
    assert message.startswith("The id 1 has parts more than 100 voxels apart")


def test_pairs_of_an_unlabelled_block_with_the_boundary_beside_it_count():
    labels = np.zeros((1, 2, 4000), np.uint8)
    annotations = Annotations.from_array(labels, boundary_id=1)
    second = list(label_blocks(annotations.labels, (0, 0, 0)))[1].start[2]
    labels[0, :, second - 1] = 1
    assert second > 0
    assert summarise(annotations, [(0, 0, -1), (0, 0, 1)]).known_pairs == (4, 4)
