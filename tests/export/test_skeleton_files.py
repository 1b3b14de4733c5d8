from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from napari_tokenunify.data import Volume
from napari_tokenunify.data.annotation_files import drawing_files, read_drawing
from napari_tokenunify.data.drawn_labels import nearest_voxels
from napari_tokenunify.export import Segments, write_export
from napari_tokenunify.geometry import Box
from napari_tokenunify.segment import skeletons
from tests.export.conftest import ORIGIN, ORIGIN_NM, SHAPE, SIZE_NM


@pytest.mark.parametrize("box", [None, Box((1, 5, 7), (6, 66, 80))])
def test_read_as_swc_each_skeleton_lies_in_its_segment(segmentation, tmp_path, box, monkeypatch):
    monkeypatch.setattr(skeletons, "BLOCK", (4, 32, 40))
    out = tmp_path / "x.skeletons"
    content = Segments.of(segmentation, 0.9, box)
    list(write_export(content, out, "swc"))
    whole = np.zeros([n + o for n, o in zip(SHAPE, ORIGIN, strict=True)], np.uint64)
    inside = (box or Box.whole(SHAPE)).shifted(ORIGIN)
    whole[inside.slices] = segmentation.view(0.9)[:][(box or Box.whole(SHAPE)).slices]
    volume = replace(Volume.from_array(whole, SIZE_NM), origin_nm=ORIGIN_NM)
    files = drawing_files(out)
    assert {int(file.stem) for file in files} == set(np.unique(whole[whole > 0]).tolist())
    for file in files:
        voxels = nearest_voxels(read_drawing([file], volume, "nm").lines.reshape(-1, 3))
        assert set(whole[tuple(voxels.T)].tolist()) == {int(file.stem)}
    assert content.count == len(files)
    assert not list(out.glob(".*"))


def test_parents_come_before_their_children_and_radii_are_in_nm(segmentation, tmp_path):
    out = tmp_path / "x.skeletons"
    segment = int(np.bincount(segmentation.at(1.0).astype(int))[1:].argmax()) + 1
    list(write_export(Segments.of(segmentation, 1.0).only([segment]), out, "swc"))
    (file,) = out.glob("*.swc")
    text = file.read_text().splitlines()
    assert text[:2] == [f"# segment {segment}", "# unit: nm"]
    rows = np.loadtxt(file)
    np.testing.assert_array_equal(rows[:, 0], np.arange(1, len(rows) + 1))
    assert (rows[:, 6] < rows[:, 0]).all()
    assert np.count_nonzero(rows[:, 6] == -1) == 1  # it hangs together
    assert 4 <= np.median(rows[:, 5]) <= 80


def test_a_run_that_was_cut_off_makes_only_the_blocks_that_are_missing(segmentation, tmp_path, monkeypatch):
    from napari_tokenunify.export import skeleton_files, target

    monkeypatch.setattr(skeletons, "BLOCK", (4, 32, 40))
    monkeypatch.setattr(target.shutil, "rmtree", lambda *_, **__: None)  # as if it were killed: nothing is tidied up
    stage = write_export(Segments.of(segmentation, 0.9), tmp_path / "x", "swc")
    for _ in range(6):
        next(stage)
    stage.close()
    monkeypatch.undo()
    monkeypatch.setattr(skeletons, "BLOCK", (4, 32, 40))
    made = []
    plain = skeleton_files.block_skeletons
    monkeypatch.setattr(skeleton_files, "block_skeletons", lambda r, g, b, v: made.append(b.index) or plain(r, g, b, v))
    list(write_export(Segments.of(segmentation, 0.9), tmp_path / "x", "swc"))
    assert made == list(range(5, 27))
    list(write_export(Segments.of(segmentation, 0.9), tmp_path / "y", "swc"))
    for file in (tmp_path / "y").glob("*.swc"):
        assert (tmp_path / "x" / file.name).read_bytes() == file.read_bytes()


@pytest.mark.parametrize("left", [0, 3])
def test_a_run_that_was_cut_off_while_it_tidied_up_loses_nothing(segmentation, tmp_path, monkeypatch, left):
    from napari_tokenunify.export import skeleton_files, target

    def half(folder, **_):
        for entry in sorted(folder.iterdir())[left:] if folder.name == ".parts" else ():
            for file in entry.iterdir():
                file.unlink()
            entry.rmdir()
        raise KeyboardInterrupt

    monkeypatch.setattr(skeletons, "BLOCK", (4, 32, 40))
    list(write_export(Segments.of(segmentation, 0.9), tmp_path / "y", "swc"))
    with monkeypatch.context() as patch:
        patch.setattr(skeleton_files.shutil, "rmtree", half)
        patch.setattr(target.shutil, "rmtree", half)
        with pytest.raises(KeyboardInterrupt):
            list(write_export(Segments.of(segmentation, 0.9), tmp_path / "x", "swc"))
    assert not (tmp_path / "x").exists()
    content = Segments.of(segmentation, 0.9)
    list(write_export(content, tmp_path / "x", "swc"))
    names = sorted(file.name for file in (tmp_path / "y").iterdir())
    assert sorted(file.name for file in (tmp_path / "x").iterdir()) == names
    made = [name for name in names if name.endswith(".swc")]
    for name in made:
        assert (tmp_path / "x" / name).read_bytes() == (tmp_path / "y" / name).read_bytes()
    assert content.count == len(made) > 1


def test_what_was_stopped_while_it_wrote_says_nothing_to_the_next_export(segmentation, tmp_path):
    stage = write_export(Segments.of(segmentation, 0.9), tmp_path / "x", "swc")
    while (event := next(stage)).what != "writing skeletons" or event.done < 2:
        pass
    stage.close()
    list(write_export(Segments.of(segmentation, 0.1), tmp_path / "x", "swc"))
    list(write_export(Segments.of(segmentation, 0.1), tmp_path / "y", "swc"))
    for file in (tmp_path / "y").glob("*.swc"):
        assert (tmp_path / "x" / file.name).read_bytes() == file.read_bytes()
