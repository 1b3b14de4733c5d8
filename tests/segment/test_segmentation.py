from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest

from napari_tokenunify.affinities import DEFAULT_OFFSETS
from napari_tokenunify.data import open_volume
from napari_tokenunify.errors import SegmentError
from napari_tokenunify.segment import Segmentation, fragment_store, segmentation
from napari_tokenunify.segment.merge_tree import MergeTree
from napari_tokenunify.segment.names import named
from napari_tokenunify.segment.region_graph import region_graph

SHAPE = (9, 20, 24)
SIZE_NM = (40.0, 4.0, 4.0)
ORIGIN = (3, 0, 5)


@pytest.fixture(scope="module")
def fragments() -> np.ndarray:
    """Bars of 2 x 5 x 6 voxels, numbered from 1; some voxels lie in none."""
    z, y, x = np.indices(SHAPE)
    ids = (1 + (z // 2) * 16 + (y // 5) * 4 + x // 6).astype(np.uint64)
    ids[0, :3, :3] = 0
    return ids


@pytest.fixture(scope="module")
def tree(fragments: np.ndarray) -> MergeTree:
    nodes = int(fragments.max())
    pairs = np.array([(1, 2), (3, 4), (1, 3), (5, 6)], np.uint64)
    return MergeTree(nodes, pairs, np.array([0.1, 0.2, 0.4, 0.8], np.float32))


@pytest.fixture(scope="module")
def master(tmp_path_factory: pytest.TempPathFactory, fragments: np.ndarray, tree: MergeTree) -> Path:
    """A segmentation of several shards and chunks."""
    affinities = np.random.default_rng(0).random((3, *SHAPE), np.float32)
    graph = region_graph(fragments, affinities, DEFAULT_OFFSETS)
    spec = {"method": "mean", "value": 0.3, "voxel_size_nm": SIZE_NM, "origin": ORIGIN}
    folder = tmp_path_factory.mktemp("master") / "segmentation"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fragment_store, "CHUNK", (2, 4, 6))
        patch.setattr(segmentation, "SHARD", (4, 8, 12))
        Segmentation.create(folder, fragments, graph, tree.table(0.3), tree=tree, spec=spec)
    return folder


@pytest.fixture
def folder(master: Path, tmp_path: Path) -> Path:
    return shutil.copytree(master, tmp_path / "segmentation")


def test_what_is_written_is_read_again(folder: Path, fragments: np.ndarray, tree: MergeTree):
    found = Segmentation.open(folder)
    assert found.shape == found.fragments.shape == SHAPE
    assert found.voxel_size_nm == SIZE_NM
    assert found.nodes == fragments.max()
    assert found.fragments.dtype == np.uint64
    assert (found.fragments[:] == fragments).all()
    assert (found.table == named(tree.table(0.3), found.sizes)).all()
    affinities = np.random.default_rng(0).random((3, *SHAPE), np.float32)
    graph = region_graph(fragments, affinities, DEFAULT_OFFSETS)
    for name in ("edges", "count", "mean", "largest", "far_edges", "far_count", "far_mean", "sizes"):
        assert (getattr(found.graph, name) == getattr(graph, name)).all(), name
    assert found.spec["method"] == "mean"


def test_other_programs_can_open_the_fragments(folder: Path, fragments: np.ndarray):
    volume = open_volume(folder / "fragments.zarr")
    assert volume.format == "OME-Zarr 0.5"
    assert volume.voxel_size_nm == SIZE_NM
    assert volume.origin_nm == tuple(a * s for a, s in zip(ORIGIN, SIZE_NM, strict=True))
    assert (volume.levels[0][:, :, :] == fragments).all()


@pytest.mark.parametrize(
    "index",
    [
        np.s_[:],
        np.s_[4],
        np.s_[-1],
        np.s_[:, 7],
        np.s_[..., 23],
        np.s_[2, ..., 3:11],
        np.s_[3:8, 2:19:3, ::-2],
        np.s_[::-1, 5, 6],
        np.s_[4, 5, 6],
        np.s_[3:3, :, 1:2],
        np.s_[2:400, -5:],
    ],
)
def test_a_view_is_the_table_of_the_fragments(folder: Path, fragments: np.ndarray, tree: MergeTree, index):
    found = Segmentation.open(folder)
    assert np.array_equal(found.fragments[index], fragments[index])
    for threshold in (None, 0.0, 0.15, 1.0):
        table = named(tree.table(0.3 if threshold is None else threshold), found.sizes)
        assert np.array_equal(found.view(threshold)[index], table[fragments][index])


def test_a_view_has_what_viewers_ask_for(folder: Path, fragments: np.ndarray):
    view = Segmentation.open(folder).view(0.15)
    assert (view.shape, view.ndim, view.dtype) == (SHAPE, 3, np.uint64)
    assert (np.asarray(view) == view[:]).all()
    lazy = view.dask()
    assert lazy.shape == SHAPE
    assert (lazy[3, ::2].compute(scheduler="sync") == view[3, ::2]).all()
    with pytest.raises(IndexError):
        view[0, 0, 0, 0]
    with pytest.raises(IndexError):
        view[9]


def test_another_table_shows_without_reading_voxels_again(
    folder: Path, fragments: np.ndarray, monkeypatch: pytest.MonkeyPatch
):
    found = Segmentation.open(folder)
    view = found.view(0.0)
    assert (view[4] == fragments[4]).all()
    monkeypatch.setattr(type(found.fragments), "_packed", None)
    view.set_table(found.at(1.0))
    assert (view[4] == found.at(1.0)[fragments[4]]).all()
    with pytest.raises(SegmentError, match="does not fit 80 fragments"):
        view.set_table(found.table[:-1])


def test_more_chunks_than_are_kept_are_read_right(folder: Path, fragments: np.ndarray, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(fragment_store, "_CACHE_BYTES", 0)
    found = Segmentation.open(folder).fragments
    for z in (*range(9), *range(9)):
        assert (found[z] == fragments[z]).all()
    for x in range(0, 24, 5):
        assert (found[:, :, x] == fragments[:, :, x]).all()


def test_fragments_and_views_cross_to_other_processes(folder: Path, fragments: np.ndarray):
    view = pickle.loads(pickle.dumps(Segmentation.open(folder).view(0.15)))
    assert (view.fragments[:] == fragments).all()


def test_a_threshold_gives_its_table_without_voxels(folder: Path, tree: MergeTree):
    found = Segmentation.open(folder)
    shutil.rmtree(folder / "fragments.zarr" / "0" / "c")
    for threshold in (0.0, 0.15, 0.3, 0.5, 1.0):
        assert (found.at(threshold) == named(tree.table(threshold), found.sizes)).all()
        assert found.at(threshold)[0] == 0


def test_a_method_without_a_tree_has_no_threshold_to_move(tmp_path: Path, fragments: np.ndarray, tree: MergeTree):
    graph = region_graph(fragments, np.ones((3, *SHAPE), np.float32), DEFAULT_OFFSETS)
    table = tree.table(0.3)
    found = Segmentation.create(tmp_path / "s", fragments, graph, table, spec={"method": "multicut"})
    assert found.tree is None
    with pytest.raises(SegmentError, match="made by multicut, which has no threshold to move"):
        found.at(0.5)
    assert (found.view()[3] == named(table, found.sizes)[fragments[3]]).all()


def test_what_is_there_is_not_overwritten(folder: Path, fragments: np.ndarray):
    found = Segmentation.open(folder)
    with pytest.raises(SegmentError, match="is there already"):
        Segmentation.create(folder, fragments, found.graph, found.table)
    with pytest.raises(SegmentError, match="not of the same volume"):
        Segmentation.create(folder.with_name("other"), fragments + np.uint64(1), found.graph, found.table)
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_a_write_that_fails_leaves_nothing(folder: Path, fragments: np.ndarray, monkeypatch: pytest.MonkeyPatch):
    found = Segmentation.open(folder)

    def no_room(*_args: object, **_settings: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", no_room)
    with pytest.raises(SegmentError, match="No space left on device"):
        Segmentation.create(folder.with_name("other"), fragments, found.graph, found.table)
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_a_folder_that_is_none_is_said_in_one_sentence(tmp_path: Path, folder: Path):
    with pytest.raises(SegmentError, match="no such folder"):
        Segmentation.open(tmp_path / "nowhere")
    with pytest.raises(SegmentError, match=r"is no segmentation, as it has no spec\.json"):
        Segmentation.open(tmp_path)
    (folder / "work").mkdir()
    (folder / "spec.json").unlink()
    with pytest.raises(SegmentError, match="is not finished; run the same segment command again"):
        Segmentation.open(folder)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"format": 99}, "newer version"),
        ({"kind": "affinities"}, "describes no segmentation"),
        ({"shape": [9, 20, 25]}, "differ in their shape"),
        ({"has_tree": None}, None),
    ],
)
def test_a_foreign_spec_is_said_in_one_sentence(folder: Path, change: dict, sentence: str | None):
    spec = json.loads((folder / "spec.json").read_text())
    (folder / "spec.json").write_text(json.dumps(spec | change))
    if sentence is not None:
        with pytest.raises(SegmentError, match=sentence):
            Segmentation.open(folder)
    for text in ("{", "[]", json.dumps({key: spec[key] for key in ("kind", "format")})):
        (folder / "spec.json").write_text(text)
        with pytest.raises(SegmentError, match=r"spec\.json"):
            Segmentation.open(folder)


@pytest.mark.parametrize("name", ["table.npy", "tree/pairs.npy", "tree/scores.npy", "graph/edges.npy"])
@pytest.mark.parametrize("damage", ["missing", "cut", "pickled"])
def test_a_damaged_part_is_said_in_one_sentence(folder: Path, name: str, damage: str):
    path = folder / name
    if damage == "missing":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[:-7])
    else:
        np.save(path, np.array([{}], object), allow_pickle=True)
    found = Segmentation.open(folder)
    with pytest.raises(SegmentError, match=f"{name} is missing or damaged; copy the folder again"):
        assert found.table is found.tree is found.graph


def test_parts_of_other_fragments_are_refused(folder: Path):
    found = Segmentation.open(folder)
    for name, part in (("table.npy", "table"), ("graph/sizes.npy", "graph")):
        np.save(folder / name, np.load(folder / name)[:-1])
        with pytest.raises(SegmentError, match="of other fragments; copy the folder again"):
            getattr(found, part)
    np.save(folder / "tree" / "pairs.npy", np.load(folder / "tree" / "pairs.npy") * 50)
    with pytest.raises(SegmentError, match="merge tree is one of other fragments"):
        found.at(0.5)


def _chunk(folder: Path) -> Path:
    return folder / "fragments.zarr" / "0" / "c" / "0" / "0" / "0"


def test_voxels_that_were_lost_or_damaged_are_not_taken_for_whole(folder: Path):
    whole = _chunk(folder).read_bytes()
    for damaged in (whole[:-60], whole[:10], b"", b"\x02" * len(whole), b"\xff" * 40 + whole[40:]):
        _chunk(folder).write_bytes(damaged)
        with pytest.raises(SegmentError, match=r"block at voxel 0, 0, 0 .* the file seems damaged; copy it again"):
            Segmentation.open(folder).view()[0]
    _chunk(folder).unlink()
    found = Segmentation.open(folder)
    with pytest.raises(SegmentError, match="the file seems damaged"):
        found.view()[0]
    _chunk(folder).write_bytes(whole)
    assert found.view()[0].shape == SHAPE[1:]
    shutil.rmtree(folder / "fragments.zarr")
    with pytest.raises(SegmentError, match="holds no fragments that can be read"):
        Segmentation.open(folder)


def test_an_id_that_the_table_does_not_know_is_said_in_one_sentence(folder: Path):
    spec = json.loads((folder / "spec.json").read_text())
    (folder / "spec.json").write_text(json.dumps(spec | {"fragments": 40}))
    with pytest.raises(SegmentError, match=r"holds the id [0-9]+, but there are 40 fragments"):
        Segmentation.open(folder).fragments[:]


def test_fragments_of_another_program_are_refused(folder: Path, fragments: np.ndarray):
    import zarr

    zarr.create_array(
        folder / "fragments.zarr" / "0", data=fragments, chunks=(2, 4, 6), overwrite=True, compressors=None
    )
    with pytest.raises(SegmentError, match="fragments"):
        Segmentation.open(folder)
