from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from napari_tokenunify.affinities import DEFAULT_OFFSETS, widen_borders
from napari_tokenunify.cli import main
from napari_tokenunify.config import EvaluateConfig
from napari_tokenunify.data import label_blocks
from napari_tokenunify.errors import AnnotationError, ConfigError, SegmentError, TokenUnifyError, VolumeError
from napari_tokenunify.events import Event, Message, Progress
from napari_tokenunify.metrics import adapted_rand_error, contingency, edits_needed, variation_of_information
from napari_tokenunify.pipeline import STAGES
from napari_tokenunify.segment.merge_tree import MergeTree
from napari_tokenunify.segment.region_graph import region_graph
from napari_tokenunify.segment.segmentation import Segmentation

REAL_DATA = Path(os.environ.get("NTU_DATA", Path(__file__).parents[2] / "../shared/data"))
SHAPE = (8, 20, 24)


def _blobs(ids: int, seed: int, noise: float = 0.0) -> np.ndarray:
    """Grow `ids` regions from random seeds, and move voxels at random."""
    random = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij"), axis=-1)[..., None, :]
    seeds = random.integers(0, SHAPE, (ids, 3))
    distance = np.linalg.norm((grid - seeds) * (2, 1, 1), axis=-1)
    return (np.argmin(distance + random.normal(0, noise, distance.shape), axis=-1) + 1).astype(np.uint64)


LABELS = _blobs(12, 0)
LABELS[LABELS == 12] = 0
LABELS[5, 3, 4] = 77  # a speck
SEGMENTS = _blobs(12, 0, 0.4) * np.uint64(10**15) + np.uint64(1)
SEGMENTS[:, :, :9] += np.uint64(5)
SEGMENTS[:, 15:, 15:] = 0


@pytest.fixture
def uris(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Labels and segments in chunks; blocks are as small as these."""
    monkeypatch.setattr(label_blocks, "_BLOCK_VOXELS", 3 * 7 * 10)
    for name, array in (("labels", LABELS), ("segmentation", SEGMENTS)):
        zarr.create_array(tmp_path / f"{name}.zarr", data=array, chunks=(3, 7, 10))
    return {name: str(tmp_path / f"{name}.zarr") for name in ("labels", "segmentation")}


def _run(**settings: Any) -> tuple[dict[str, Any], list[Event]]:
    stage = STAGES["evaluate"].run(EvaluateConfig(**settings))
    events = []
    while True:
        try:
            events.append(next(stage))
        except StopIteration as end:
            return end.value, events


def _expect(result: dict[str, Any], labels: np.ndarray, segments: np.ndarray) -> None:
    split, merge = variation_of_information(labels, segments)
    error, precision, recall = adapted_rand_error(labels, segments)
    found = [result[key] for key in ("voi_split", "voi_merge", "voi", "adapted_rand_error")]
    assert found == pytest.approx([split, merge, split + merge, error])
    assert [result["rand_precision"], result["rand_recall"]] == pytest.approx([precision, recall])
    assert result["voxels"] == np.count_nonzero(labels)
    assert result["neurons"] == np.count_nonzero(np.unique(labels))
    assert result["segments"] == np.count_nonzero(np.unique(segments[labels != 0]))


def test_blocks_give_the_scores_of_the_whole(uris: dict[str, str]):
    result, events = _run(**uris)
    _expect(result, LABELS, SEGMENTS)
    assert result["borders"] == "raw"
    assert "edits" not in result
    comparing = [event for event in events if isinstance(event, Progress) and event.what == "comparing"]
    assert [event.done for event in comparing] == list(range(3 * 3 * 3 + 1))
    assert json.loads(json.dumps(result)) == result


def test_a_box_is_scored_alone(uris: dict[str, str]):
    result, _ = _run(**uris, box="2:7,1:15,3:20")
    _expect(result, LABELS[2:7, 1:15, 3:20], SEGMENTS[2:7, 1:15, 3:20])


def test_an_id_is_small_if_it_is_so_in_the_whole_volume(uris: dict[str, str]):
    box = (slice(5, 6), slice(0, 8), slice(0, 10))
    sizes = dict(zip(*np.unique(LABELS, return_counts=True), strict=True))
    inside = dict(zip(*np.unique(LABELS[box], return_counts=True), strict=True))
    assert any(inside[id_] < 20 <= sizes[id_] for id_ in inside if id_)
    labels = np.where(np.isin(LABELS, [id_ for id_, size in sizes.items() if size < 20]), 0, LABELS)
    result, _ = _run(**uris, box="5:6,0:8,0:10", min_size=20)
    assert result["ignored"] == 1
    _expect(result, labels[box], SEGMENTS[box])


def test_ids_and_segments_are_ignored_if_named(uris: dict[str, str]):
    result, _ = _run(**uris, ignore=(0, 3, 77), ignore_segments=(0,))
    labels = np.where((SEGMENTS == 0) | np.isin(LABELS, (3, 77)), 0, LABELS)
    _expect(result, labels, SEGMENTS)


def test_borders_are_widened_as_in_the_whole_volume(uris: dict[str, str]):
    result, _ = _run(**uris, widen_borders=True, min_size=2)
    labels = widen_borders(np.where(LABELS == 77, 0, LABELS))
    assert np.count_nonzero(labels) < np.count_nonzero(LABELS)
    _expect(result, labels, SEGMENTS)
    assert result["borders"] == "widened"
    boxed, _ = _run(**uris, widen_borders=True, min_size=2, box="2:7,1:15,3:20")
    _expect(boxed, labels[2:7, 1:15, 3:20], SEGMENTS[2:7, 1:15, 3:20])


def test_each_place_lies_in_the_neuron_and_in_the_segment(uris: dict[str, str]):
    result, _ = _run(**uris, worst=100, box="1:8,0:20,2:24")
    assert len(result["worst"]) == result["neurons"]
    places = [place for neuron in result["worst"] for place in neuron["places"]]
    assert len(places) > 20
    for place in places:
        at = tuple(place["at"])
        assert (LABELS[at], SEGMENTS[at]) == (place["neuron"], place["segment"])
    costs = [neuron["voi_split"] + neuron["voi_merge"] for neuron in result["worst"]]
    assert costs == sorted(costs, reverse=True)
    assert sum(costs) == pytest.approx(result["voi"])


def test_a_place_is_where_the_piece_is_thick(uris: dict[str, str], tmp_path: Path):
    labels = np.zeros(SHAPE, np.uint8)
    labels[:, 3, 5] = labels[4, 3, 2:9] = labels[:, 12, 15] = 1
    np.save(tmp_path / "labels.npy", labels)
    np.save(tmp_path / "segments.npy", np.where(np.arange(SHAPE[1])[None, :, None] < 10, labels, 2 * labels))
    result, _ = _run(segmentation=str(tmp_path / "segments.npy"), labels=str(tmp_path / "labels.npy"))
    first = result["worst"][0]["places"][0]
    assert (first["segment"], first["at"]) == (1, [4, 3, 5])


def test_without_a_list_nothing_is_read_twice(uris: dict[str, str]):
    result, events = _run(**uris, worst=0)
    assert result["worst"] == []
    assert {event.what for event in events if isinstance(event, Progress)} == {"comparing"}


def test_sparse_labels_are_compared_where_they_are(uris: dict[str, str], tmp_path: Path):
    (tmp_path / "points.csv").write_text("z,y,x,id\n1,2,3,5\n1,12,13,5\n4,10,12,6\n")
    result, _ = _run(segmentation=uris["segmentation"], labels=str(tmp_path / "points.csv"))
    assert (result["neurons"], result["voi_merge"]) == (2, 0)
    assert 0 < result["voxels"] < LABELS.size / 10


def test_what_is_easily_overlooked_is_said(uris: dict[str, str]):
    _, events = _run(**uris)
    said = [event.text for event in events if isinstance(event, Message)]
    assert len(said) == 1
    assert "--ignore-segments 0" in said[0]
    result, events = _run(**uris, ignore=(), ignore_segments=(0,))
    said = [event.text for event in events if isinstance(event, Message)]
    assert said == ["Label 0 is not ignored, so what is unlabelled counts as one neuron."]
    assert result["voxels"] == np.count_nonzero(SEGMENTS)


@pytest.mark.parametrize(
    ("changed", "error", "said"),
    [
        ({"box": "0:8,0:20,0:25"}, ConfigError, "reaches outside what was segmented, 0:8,0:20,0:24"),
        ({"box": "4:5,3:4,4:5", "ignore": tuple(range(100))}, SegmentError, "no labelled voxel is left"),
        ({"threshold": 0.5}, ConfigError, "is no segmentation folder"),
        ({"labels": "other_shape.npy"}, AnnotationError, "have 8, 20, 23 voxels"),
        ({"labels": "negative.npy"}, AnnotationError, "negative id -3"),
        ({"segmentation": "negative.npy"}, SegmentError, "negative id -3 in the segmentation"),
        ({"segmentation": "image.npy"}, SegmentError, "values of type float32 in the segmentation"),
        ({"labels": "empty.npy"}, SegmentError, "no labelled voxel is left"),
        ({"segmentation": "absent.npy"}, VolumeError, "nothing is there"),
    ],
)
def test_what_cannot_be_scored_is_said_in_one_sentence(
    changed: dict[str, Any], error: type[TokenUnifyError], said: str, uris: dict[str, str], tmp_path: Path
):
    np.save(tmp_path / "other_shape.npy", LABELS[..., 1:])
    np.save(tmp_path / "negative.npy", np.full(SHAPE, -3, np.int32))
    np.save(tmp_path / "image.npy", np.ones(SHAPE, np.float32))
    np.save(tmp_path / "empty.npy", np.zeros(SHAPE, np.uint8))
    paths = {key: str(tmp_path / value) if ".npy" in str(value) else value for key, value in changed.items()}
    with pytest.raises(error, match=said) as raised:
        _run(**{**uris, **paths})
    assert "\n" not in str(raised.value)


def test_the_command_line_prints_a_table_or_json(uris: dict[str, str], capsys: pytest.CaptureFixture[str]):
    words = ["evaluate", "--segmentation", uris["segmentation"], "--labels", uris["labels"], "--worst", "2"]
    assert main([*words, "--ignore", "0,77", "--min-size", "3"]) == 0
    shown = capsys.readouterr().out
    assert "voi split" in shown
    assert shown.count(": split ") == 2
    assert main([*words, "--ignore", "0", "--ignore", "77", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert {"voi_split", "voi_merge", "voi", "adapted_rand_error", "rand_precision", "rand_recall"} < set(result)
    assert {"voxels", "neurons", "segments", "borders", "worst"} < set(result)
    assert main([*words, "--ignore", "-1"]) == 2


def _folder(path: Path, fragments: np.ndarray, origin: tuple[int, int, int] = (0, 0, 0)) -> Path:
    """Write a segmentation in which all fragments are chained, the lower ids first."""
    nodes = int(fragments.max())
    edges = np.array([(i, i + 1) for i in range(1, nodes)], np.uint64)
    scores = np.linspace(0, 1, nodes - 1).astype(np.float32)
    graph = region_graph(fragments, np.ones((3, *fragments.shape), np.float32), DEFAULT_OFFSETS)
    tree = MergeTree(nodes, edges, scores)
    spec = {"method": "mean", "value": 0.2, "origin": origin}
    Segmentation.create(path, fragments, graph, tree.table(0.2), tree=tree, spec=spec)
    return path


def test_a_segmentation_folder_is_scored_at_any_threshold_and_its_edits_are_counted(tmp_path: Path):
    fragments = _blobs(12, 0, 0.4)
    folder = _folder(tmp_path / "made", fragments)
    np.save(tmp_path / "labels.npy", LABELS)
    for threshold in (None, 0.05, 0.7):
        table = Segmentation.open(folder).at(threshold or 0.2)
        result, _ = _run(segmentation=str(folder), labels=str(tmp_path / "labels.npy"), threshold=threshold, worst=99)
        _expect(result, LABELS, table[fragments])
        edits = edits_needed(contingency(LABELS, fragments), table)
        assert result["edits"] == {"cuts": edits.cuts, "merges": edits.merges}
        places = [place for neuron in result["worst"] for place in neuron["places"]]
        assert places
        for place in places:
            at = tuple(place["at"])
            assert (LABELS[at], table[fragments[at]]) == (place["neuron"], place["segment"])


def test_a_segmentation_of_a_part_is_scored_there(tmp_path: Path):
    fragments = _blobs(12, 0, 0.4)[2:7, 5:, :20]
    folder = _folder(tmp_path / "made", fragments, origin=(2, 5, 0))
    np.save(tmp_path / "labels.npy", LABELS)
    uris = {"segmentation": str(folder), "labels": str(tmp_path / "labels.npy")}
    segments = Segmentation.open(folder).table[fragments]
    result, _ = _run(**uris)
    _expect(result, LABELS[2:7, 5:, :20], segments)
    for place in [place for neuron in result["worst"] for place in neuron["places"]]:
        assert LABELS[tuple(place["at"])] == place["neuron"]
    result, _ = _run(**uris, box="3:6,6:18,2:20")
    _expect(result, LABELS[3:6, 6:18, 2:20], segments[1:4, 1:13, 2:])
    with pytest.raises(ConfigError, match="what was segmented, 2:7,5:20,0:20"):
        _run(**uris, box="1:6,6:18,2:20")
    np.save(tmp_path / "labels.npy", LABELS[:5])
    with pytest.raises(SegmentError, match="the labels are 0:5,0:20,0:24"):
        _run(**uris)


def test_points_on_a_segmentation_of_a_part_are_scored(tmp_path: Path):
    folder = _folder(tmp_path / "made", _blobs(12, 0)[2:7], origin=(2, 0, 0))
    (tmp_path / "points.csv").write_text("z,y,x,id\n3,2,3,5\n4,12,13,6\n")
    result, _ = _run(segmentation=str(folder), labels=str(tmp_path / "points.csv"))
    assert result["neurons"] == 2


@pytest.mark.skipif(not REAL_DATA.is_dir(), reason="needs the real EM volumes: set NTU_DATA to their folder")
@pytest.mark.parametrize(
    ("name", "ignore_segments", "scores"), [("watershed", (), (1.99, 0.33, 0.223)), ("ffn", (0,), (0.60, 0.27, 0.032))]
)
def test_published_results_have_their_published_scores(
    name: str, ignore_segments: tuple[int, ...], scores: tuple[float, float, float]
):
    volume = REAL_DATA / "fib25_train_test.npz"
    result, _ = _run(
        segmentation=f"{volume}::{name}",
        labels=f"{volume}::labels",
        box="130:250,0:250,0:250",
        min_size=100,
        ignore_segments=ignore_segments,
        worst=0,
    )
    found = round(result["voi_split"], 2), round(result["voi_merge"], 2), round(result["adapted_rand_error"], 3)
    assert found == scores
    assert result["ignored"] == 292
