from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from scipy.spatial import cKDTree

from napari_tokenunify.affinities import DEFAULT_OFFSETS, known_affinities, widen_borders
from napari_tokenunify.config import SegmentConfig
from napari_tokenunify.errors import ConfigError, SegmentError
from napari_tokenunify.events import Message, Progress
from napari_tokenunify.geometry import Box
from napari_tokenunify.metrics import variation_of_information
from napari_tokenunify.segment import (
    Segmentation,
    block_graph,
    open_affinities,
    segment,
    settle,
    stitch,
    write_affinities,
)
from napari_tokenunify.segment.affinity_writer import AffinityLayout, AffinityWriter
from napari_tokenunify.segment.blocks.grid import BlockGrid
from napari_tokenunify.segment.region_graph import region_graph

SHAPE = (24, 48, 48)
SMALL = {"block": (12, 24, 16), "halo": (8, 12, 12)}
BLOCKS = 12
ARRAYS = ("edges", "count", "largest", "far_edges", "far_count", "sizes")


@pytest.fixture(scope="module")
def cells() -> np.ndarray:
    """Voronoi cells with a membrane between them, which is 0."""
    points = np.random.default_rng(1).random((30, 3)) * SHAPE
    voxels = np.stack(np.indices(SHAPE), axis=-1).reshape(-1, 3)
    return widen_borders((cKDTree(points).query(voxels)[1] + 1).reshape(SHAPE).astype(np.uint32))


@pytest.fixture(scope="module")
def affinities(cells: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("affinities")
    offsets = (*DEFAULT_OFFSETS, (0, 0, -5))
    array = known_affinities(cells, offsets)[0].astype(np.float32)
    return write_affinities(folder / "affinities.zarr", array, offsets, voxel_size_nm=(8.0, 8.0, 8.0))


@pytest.fixture(scope="module")
def in_blocks(affinities: Path, tmp_path_factory: pytest.TempPathFactory) -> Segmentation:
    folder = tmp_path_factory.mktemp("blocks") / "segmentation"
    run(affinities=str(affinities), out=str(folder), **SMALL)
    return Segmentation.open(folder)


def run(**settings) -> dict:
    stage = segment(SegmentConfig(**settings))
    while True:
        try:
            event = next(stage)
        except StopIteration as end:
            return end.value
        assert isinstance(event, Progress | Message)


def content(folder: Path) -> dict[str, bytes]:
    """Every file by its name; without the time in it there is none that may differ."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "spec.json"
    }


def test_blocks_give_the_segments_of_the_whole(affinities: Path, in_blocks: Segmentation, tmp_path: Path):
    result = run(affinities=str(affinities), out=str(tmp_path / "one"))
    assert (result["blocks"], result["failed"], result["method"], result["threshold"]) == (1, 0, "mean", 0.5)
    whole = Segmentation.open(tmp_path / "one")
    assert result["fragments"] == whole.fragments[:].max() == whole.nodes
    assert result["segments"] == len(np.unique(whole.view()[:])) - (whole.view()[:] == 0).any()
    assert sum(variation_of_information(whole.view()[:], in_blocks.view()[:])) <= 0.05
    assert sum(variation_of_information(whole.fragments[:], in_blocks.fragments[:])) <= 0.15


def test_blocks_that_see_the_whole_give_its_fragments_exactly(affinities: Path, tmp_path: Path):
    run(affinities=str(affinities), out=str(tmp_path / "one"))
    run(affinities=str(affinities), out=str(tmp_path / "many"), block=SMALL["block"], halo=SHAPE)
    whole, joined = (Segmentation.open(tmp_path / name).fragments[:] for name in ("one", "many"))
    pairs = np.unique(np.stack([whole.ravel(), joined.ravel()]), axis=1)
    assert pairs.shape[1] == whole.max() == joined.max()


def test_no_fragment_ends_at_the_face_of_a_block(cells: np.ndarray, in_blocks: Segmentation):
    """Inside a cell, neighbours across a face differ hardly more often than neighbours elsewhere."""
    ids = in_blocks.fragments[:]
    for axis, step in enumerate(SMALL["block"]):
        along, cell = np.moveaxis(ids, axis, 0), np.moveaxis(cells, axis, 0)
        pairs = (cell[1:] == cell[:-1]) & (cell[1:] != 0)
        cut = (along[1:] != along[:-1]) & pairs
        at_face = np.arange(1, len(cell)) % step == 0
        assert pairs[at_face].sum() > 500
        assert cut[at_face].sum() / pairs[at_face].sum() <= cut[~at_face].sum() / pairs[~at_face].sum() + 0.005


def test_ids_are_dense_and_in_the_order_of_blocks(in_blocks: Segmentation):
    ids = in_blocks.fragments[:]
    assert (np.unique(ids) == np.arange(1, in_blocks.nodes + 1)).all()
    for block in (np.s_[:12, :24, :16], np.s_[:12, :24, :32]):
        assert (np.unique(ids[block]) == np.arange(1, ids[block].max() + 1)).all()
    assert (in_blocks.graph.sizes == np.bincount(ids.ravel(), minlength=in_blocks.nodes + 1)).all()


def test_the_graph_of_blocks_is_that_of_the_written_fragments(affinities: Path, in_blocks: Segmentation):
    store = open_affinities(affinities)
    expected = region_graph(in_blocks.fragments[:], store.read(Box.whole(SHAPE)), store.offsets)
    for name in ARRAYS:
        assert np.array_equal(getattr(in_blocks.graph, name), getattr(expected, name)), name
    assert np.allclose(in_blocks.graph.mean, expected.mean, atol=1e-6)
    assert np.allclose(in_blocks.graph.far_mean, expected.far_mean, atol=1e-6)


def test_any_number_of_workers_gives_the_same_bytes(affinities: Path, in_blocks: Segmentation, tmp_path: Path):
    result = run(affinities=str(affinities), out=str(tmp_path / "two"), workers=2, **SMALL)
    assert result["blocks"] == BLOCKS
    assert content(tmp_path / "two") == content(in_blocks.folder)
    assert Segmentation.open(tmp_path / "two").spec == in_blocks.spec


def test_a_run_that_was_killed_goes_on_and_ends_the_same(
    affinities: Path, in_blocks: Segmentation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    out = tmp_path / "killed"
    command = [sys.executable, "-m", "napari_tokenunify", "segment", "--affinities", str(affinities), "--out", str(out)]
    child = subprocess.Popen([*command, "--block", "12,24,16", "--halo", "8,12,12"], stderr=subprocess.PIPE)
    marks, limit = out / "work" / "cut.jsonl", time.monotonic() + 60
    while not marks.exists() or len(marks.read_bytes().splitlines()) < 4:
        assert child.poll() is None, child.communicate()[1].decode()
        assert time.monotonic() < limit
        time.sleep(0.005)
    os.kill(child.pid, signal.SIGKILL)
    child.communicate()
    with pytest.raises(SegmentError, match="is not finished; run the same segment command again"):
        Segmentation.open(out)
    done = len(marks.read_bytes().split(b"\n")) - 1
    again = []
    cut_block = stitch.cut_block
    monkeypatch.setattr(stitch, "cut_block", lambda work, block: again.append(block) or cut_block(work, block))
    run(affinities=str(affinities), out=str(out), **SMALL)
    assert len(again) == BLOCKS - done
    assert content(out) == content(in_blocks.folder)


@pytest.mark.parametrize(
    ("module", "name"), [(stitch, "match_block"), (settle, "settle_block"), (block_graph, "write_block")]
)
def test_a_stop_in_any_pass_is_taken_up_again(
    affinities: Path,
    in_blocks: Segmentation,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    module: ModuleType,
    name: str,
):
    function, calls = getattr(module, name), []

    def stopped(work: object, block: object) -> dict:
        calls.append(block)
        if len(calls) == 10:
            raise KeyboardInterrupt
        return function(work, block)

    monkeypatch.setattr(module, name, stopped)
    with pytest.raises(KeyboardInterrupt):
        run(affinities=str(affinities), out=str(tmp_path / "s"), **SMALL)
    run(affinities=str(affinities), out=str(tmp_path / "s"), **SMALL)
    assert len(calls) == BLOCKS + 1
    assert content(tmp_path / "s") == content(in_blocks.folder)


@pytest.mark.skipif(sys.platform == "win32", reason="folders cannot be locked there")
def test_two_runs_do_not_work_in_the_same_folder(affinities: Path, tmp_path: Path):
    first = segment(SegmentConfig(affinities=str(affinities), out=str(tmp_path / "s"), **SMALL))
    next(first)
    with pytest.raises(SegmentError, match="another run is at work there"):
        run(affinities=str(affinities), out=str(tmp_path / "s"), **SMALL)
    first.close()
    assert run(affinities=str(affinities), out=str(tmp_path / "s"), **SMALL)["failed"] == 0


def test_what_is_finished_is_not_done_again(affinities: Path, in_blocks: Segmentation, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(stitch, "cut_block", None)
    result = run(affinities=str(affinities), out=str(in_blocks.folder), **SMALL)
    assert result["fragments"] == in_blocks.nodes
    with pytest.raises(SegmentError, match=r"is there already, with other settings \(threshold\)"):
        run(affinities=str(affinities), out=str(in_blocks.folder), threshold=0.4, **SMALL)


def test_blocks_that_cannot_be_read_are_named_and_nothing_is_taken_for_whole(cells: np.ndarray, tmp_path: Path):
    array = known_affinities(cells)[0].astype(np.float32)
    array[0, 4, 30, 40] = np.nan
    source = tmp_path / "affinities.npy"
    np.save(source, array)
    settings = {"affinities": str(source), "out": str(tmp_path / "s"), "block": (12, 24, 24), "halo": (0, 0, 0)}
    with pytest.raises(SegmentError, match=r"1 of 8 blocks failed at cut: 0:12,24:48,24:48 .*holds NaN"):
        run(**settings)
    with pytest.raises(SegmentError, match="is not finished"):
        Segmentation.open(tmp_path / "s")
    with pytest.raises(SegmentError, match=r"is half done, with other settings \(method\)"):
        run(**settings, method="waterz")
    array[0, 4, 30, 40] = 1
    np.save(source, array)
    assert run(**settings)["failed"] == 0
    assert not (tmp_path / "s" / "work").exists()


def test_affinities_that_are_missing_are_not_taken_for_whole(affinities: Path, tmp_path: Path):
    copy = shutil.copytree(affinities, tmp_path / "affinities.zarr")
    for chunk in (copy / "0" / "c").rglob("*"):
        if chunk.is_file():
            chunk.unlink()
    with pytest.raises(SegmentError, match=r"12 of 12 blocks failed at cut: .* are missing"):
        run(affinities=str(copy), out=str(tmp_path / "s"), **SMALL)
    assert not (tmp_path / "s" / "spec.json").exists()


def test_a_box_is_cut_out_and_placed_in_the_volume(cells: np.ndarray, affinities: Path, tmp_path: Path):
    run(affinities=str(affinities), out=str(tmp_path / "s"), box="4:20,8:40,16:48", **SMALL)
    part = Segmentation.open(tmp_path / "s")
    assert part.shape == (16, 32, 32)
    assert part.spec["origin"] == [4, 8, 16]
    inside = cells[4:20, 8:40, 16:48]
    assert sum(variation_of_information(inside[inside != 0], part.view()[:][inside != 0])) < 0.2
    with pytest.raises(ConfigError, match="reaches outside the affinities"):
        run(affinities=str(affinities), out=str(tmp_path / "t"), box="4:25,8:40,16:48")


def test_nothing_is_segmented_outside_the_mask(affinities: Path, tmp_path: Path):
    mask = np.ones(SHAPE, np.uint8)
    mask[:, 10:30, 20:40] = 0
    mask[:12, :24, :16] = 0  # a whole block
    np.save(tmp_path / "mask.npy", mask)
    run(affinities=str(affinities), out=str(tmp_path / "s"), mask=str(tmp_path / "mask.npy"), **SMALL)
    found = Segmentation.open(tmp_path / "s")
    assert ((found.fragments[:] != 0) == (mask != 0)).all()
    assert ((found.view()[:] != 0) == (mask != 0)).all()
    np.save(tmp_path / "mask.npy", mask[1:])
    with pytest.raises(ConfigError, match="give one of the same volume"):
        run(affinities=str(affinities), out=str(tmp_path / "t"), mask=str(tmp_path / "mask.npy"))


def test_a_mask_of_the_volume_fits_affinities_of_its_first_corner(cells: np.ndarray, tmp_path: Path):
    whole = (30, *SHAPE[1:])
    np.save(tmp_path / "raw.npy", np.zeros(whole, np.uint8))
    layout = AffinityLayout(SHAPE, DEFAULT_OFFSETS, settings={"volume": str(tmp_path / "raw.npy")})
    writer = AffinityWriter.create(tmp_path / "corner.zarr", layout)
    array = (known_affinities(cells, DEFAULT_OFFSETS)[0] * 255).astype(np.uint8)
    for cell in BlockGrid(SHAPE, layout.cell, (0, 0, 0)):
        writer.write(cell.position, array[(slice(None), *cell.core.slices)])
    mask = np.zeros(whole, np.uint8)
    mask[:12] = 1
    np.save(tmp_path / "mask.npy", mask)
    run(affinities=str(tmp_path / "corner.zarr"), out=str(tmp_path / "s"), mask=str(tmp_path / "mask.npy"), **SMALL)
    found = Segmentation.open(tmp_path / "s").fragments[:]
    assert found[:12].any()
    assert not found[12:].any()
    np.save(tmp_path / "other.npy", mask[:, :-1])
    with pytest.raises(ConfigError, match="give one of the same volume"):
        run(
            affinities=str(tmp_path / "corner.zarr"),
            out=str(tmp_path / "t"),
            mask=str(tmp_path / "other.npy"),
            **SMALL,
        )


@pytest.mark.parametrize("what", ["mask", "tune"])
def test_a_mask_or_labels_that_have_changed_are_other_settings(
    cells: np.ndarray, affinities: Path, tmp_path: Path, what: str
):
    settings = {"affinities": str(affinities), "out": str(tmp_path / "s"), what: str(tmp_path / "given.npy"), **SMALL}
    given = cells.copy() if what == "tune" else np.ones(SHAPE, np.uint8)
    np.save(tmp_path / "given.npy", given)
    run(**settings)
    run(**settings)  # is finished already
    given[1, 30:, 30:] = 0  # where no sample of 27 places looks
    given[:, :2] = 0
    np.save(tmp_path / "given.npy", given)
    word = "labels" if what == "tune" else "mask"
    with pytest.raises(SegmentError, match=rf"with other settings \(voxels of the {word}\)"):
        run(**settings)
    run(**settings, overwrite=True)


def test_affinities_of_others_that_have_changed_are_other_settings(tmp_path: Path):
    values = np.random.default_rng(0).random((3, *SHAPE), np.float32)
    np.save(tmp_path / "a.npy", values)
    settings = {"affinities": str(tmp_path / "a.npy"), "offsets": DEFAULT_OFFSETS, "out": str(tmp_path / "s"), **SMALL}
    run(**settings)
    run(**settings)
    np.save(tmp_path / "a.npy", 1 - values)
    with pytest.raises(SegmentError, match=r"with other settings \(values of the affinities\)"):
        run(**settings)


def test_a_segmentation_of_before_that_says_nothing_of_the_mask_is_the_same(affinities: Path, tmp_path: Path):
    np.save(tmp_path / "mask.npy", np.ones(SHAPE, np.uint8))
    settings = {"affinities": str(affinities), "out": str(tmp_path / "s"), "mask": str(tmp_path / "mask.npy"), **SMALL}
    run(**settings)
    spec = json.loads((tmp_path / "s" / "spec.json").read_text())
    del spec["settings"]["voxels of the mask"]
    (tmp_path / "s" / "spec.json").write_text(json.dumps(spec))
    run(**settings)


def test_overwriting_leaves_a_folder_alone_that_is_no_segmentation(affinities: Path, tmp_path: Path):
    for name in ("work/thesis.txt", "graph/plot.txt", "tree/family.txt"):
        (tmp_path / "mine" / name).parent.mkdir(parents=True)
        (tmp_path / "mine" / name).write_text("years")
    for spec in (None, '{"kind": "of something else"}'):
        if spec is not None:
            (tmp_path / "mine" / "spec.json").write_text(spec)
        before = content(tmp_path / "mine")
        with pytest.raises(SegmentError, match="no segmentation"):
            run(affinities=str(affinities), out=str(tmp_path / "mine"), overwrite=True, **SMALL)
        assert content(tmp_path / "mine") == before
        assert (tmp_path / "mine" / "spec.json").exists() == (spec is not None)


def test_an_empty_mask_gives_no_fragment(affinities: Path, tmp_path: Path):
    np.save(tmp_path / "mask.npy", np.zeros(SHAPE, np.uint8))
    result = run(affinities=str(affinities), out=str(tmp_path / "s"), mask=str(tmp_path / "mask.npy"), **SMALL)
    assert (result["fragments"], result["edges"], result["segments"]) == (0, 0, 0)
    assert not Segmentation.open(tmp_path / "s").view()[:].any()


def test_a_threshold_is_tuned_on_labels(cells: np.ndarray, affinities: Path, tmp_path: Path):
    labels = np.where(np.arange(SHAPE[0])[:, None, None] % 4 == 0, cells, 0)
    np.save(tmp_path / "labels.npy", labels)
    result = run(affinities=str(affinities), out=str(tmp_path / "s"), tune=str(tmp_path / "labels.npy"), **SMALL)
    found = Segmentation.open(tmp_path / "s")
    assert (found.table == found.at(result["threshold"])).all()
    lines = Path(result["tuned"].pop("curve")).read_text().splitlines()
    assert lines[0] == "value,voi_split,voi_merge,adapted_rand_error"
    assert [float(line.split(",")[0]) for line in lines[1:]] == [point["value"] for point in found.spec["curve"]]
    assert {"value": result["threshold"], **result["tuned"]} in found.spec["curve"]
    run(affinities=str(affinities), out=str(tmp_path / "s"), overwrite=True, **SMALL)  # takes it away again
    assert not (tmp_path / "s" / "tuning.csv").exists()


def test_a_network_that_is_sure_of_no_boundary_is_said(cells: np.ndarray, affinities: Path, tmp_path: Path):
    def warnings(path: Path, out: str) -> list[str]:
        found = segment(SegmentConfig(affinities=str(path), out=str(tmp_path / out), **SMALL))
        return [event.text for event in found if isinstance(event, Message) and event.level == "warning"]

    assert not warnings(affinities, "well")
    write_affinities(
        tmp_path / "unsure.zarr", np.full((3, *SHAPE), 0.5, np.float32), DEFAULT_OFFSETS, (10.0, 10.0, 10.0)
    )
    (text,) = warnings(tmp_path / "unsure.zarr", "unsure")
    assert text.startswith("One fragment holds 100% of all voxels")


def test_a_network_that_is_unsure_of_all_boundaries_is_cut_at_lower_ones(cells: np.ndarray, tmp_path: Path):
    unsure = 0.3 + 0.5 * known_affinities(cells, DEFAULT_OFFSETS)[0].astype(np.float32)
    write_affinities(tmp_path / "unsure.zarr", unsure, DEFAULT_OFFSETS, (10.0, 10.0, 10.0))
    config = SegmentConfig(affinities=str(tmp_path / "unsure.zarr"), out=str(tmp_path / "s"), **SMALL)
    said = [event.text for event in segment(config) if isinstance(event, Message)]
    assert any("they count from 0.63 on (usually 0.85)" in text for text in said)
    assert Segmentation.open(tmp_path / "s").spec["boundary_threshold"] == pytest.approx(0.63, abs=0.005)
    assert len(Segmentation.open(tmp_path / "s").graph.sizes) > 20


def test_a_run_that_goes_on_cuts_at_the_boundaries_that_it_began_with(
    affinities: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    found = iter([0.6, 0.5])  # more affinities may be there the second time

    def sampled(_):
        yield Progress(0, 1, "looking at boundaries")
        return next(found)

    monkeypatch.setattr("napari_tokenunify.segment.segment_volume.sampled_threshold", sampled)
    stage = segment(SegmentConfig(affinities=str(affinities), out=str(tmp_path / "s"), **SMALL))
    while not isinstance(event := next(stage), Progress) or event.what != "matching blocks":
        pass
    stage.close()
    assert run(affinities=str(affinities), out=str(tmp_path / "s"), **SMALL)["boundary_threshold"] == 0.6


def test_a_run_of_before_thresholds_were_fitted_goes_on_at_the_usual_one(affinities: Path, tmp_path: Path):
    stage = segment(SegmentConfig(affinities=str(affinities), out=str(tmp_path / "s"), **SMALL))
    while not isinstance(event := next(stage), Progress) or event.what != "matching blocks":
        pass
    stage.close()
    (tmp_path / "s" / "work" / "threshold.json").unlink()
    assert run(affinities=str(affinities), out=str(tmp_path / "s"), **SMALL)["boundary_threshold"] == 0.85


def test_a_finished_folder_of_before_there_was_ignore_is_taken_as_it_is(affinities: Path, tmp_path: Path):
    run(affinities=str(affinities), out=str(tmp_path / "s"), **SMALL)
    path = tmp_path / "s" / "spec.json"
    spec = json.loads(path.read_text())
    del spec["settings"]["ignore"]
    path.write_text(json.dumps(spec))
    run(affinities=str(affinities), out=str(tmp_path / "s"), **SMALL)  # nothing is refused
    with pytest.raises(SegmentError, match=r"with other settings \(ignore\)"):
        run(affinities=str(affinities), out=str(tmp_path / "s"), ignore=(7,), **SMALL)


def test_ids_that_are_ignored_do_not_tune(cells: np.ndarray, affinities: Path, tmp_path: Path):
    membrane = np.arange(SHAPE[2]) % 8 == 0
    np.save(tmp_path / "without.npy", np.where(membrane, 0, cells))
    np.save(tmp_path / "with.npy", np.where(membrane, 9999, cells))
    curves = []
    for name, ignored in (("without", ()), ("with", (9999,))):
        out, tune = str(tmp_path / name), str(tmp_path / f"{name}.npy")
        curves.append(run(affinities=str(affinities), out=out, tune=tune, ignore=ignored, **SMALL)["tuned"]["curve"])
    assert Path(curves[0]).read_text() == Path(curves[1]).read_text()


def test_a_method_that_solves_once_has_a_table_and_no_tree(affinities: Path, tmp_path: Path):
    result = run(affinities=str(affinities), out=str(tmp_path / "s"), method="multicut", beta=0.4, **SMALL)
    assert (result["method"], result["beta"]) == ("multicut", 0.4)
    found = Segmentation.open(tmp_path / "s")
    assert found.tree is None
    assert len(np.unique(found.table)) == result["segments"] + 1


def test_only_a_segmentation_without_edits_is_overwritten(affinities: Path, tmp_path: Path):
    out = tmp_path / "s"
    settings = {"affinities": str(affinities), "out": str(out)}
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "thesis.txt").write_text("mine")
    with pytest.raises(SegmentError, match="is no segmentation; choose another --out"):
        run(**settings, overwrite=True)
    (tmp_path / "s" / "thesis.txt").unlink()
    run(**settings)
    run(**settings, threshold=0.2, overwrite=True)
    assert Segmentation.open(out).spec["value"] == 0.2
    (out / "edits.sqlite").touch()
    with pytest.raises(SegmentError, match="holds edits, and is not overwritten"):
        run(**settings, overwrite=True)
    assert Segmentation.open(out).spec["value"] == 0.2


def test_a_full_disk_is_said_in_one_sentence(affinities: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def no_room(*_args: object, **_settings: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", no_room)
    with pytest.raises(SegmentError, match="the disk is full; make room and run the same command again"):
        run(affinities=str(affinities), out=str(tmp_path / "s"), **SMALL)
    monkeypatch.undo()
    assert run(affinities=str(affinities), out=str(tmp_path / "s"), **SMALL)["failed"] == 0


def test_the_spec_says_how_it_was_made(affinities: Path, in_blocks: Segmentation):
    spec = json.loads((in_blocks.folder / "spec.json").read_text())
    assert spec["sources"]["affinities"] == str(affinities)
    assert spec["settings"]["block"] == [12, 24, 16]
    assert spec["voxel_size_nm"] == [8.0, 8.0, 8.0]
    assert spec["offsets"][-1] == [0, 0, -5]
    assert "bioimage-cpp" in spec["versions"]
    assert len(spec["fragments_hash"]) == 32
