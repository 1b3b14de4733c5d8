from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import zarr

from napari_tokenunify.config import EvaluateConfig
from napari_tokenunify.errors import AnnotationError, ConfigError, SegmentError
from napari_tokenunify.pipeline import STAGES
from napari_tokenunify.segment import skeleton_scores

SIZE_NM = (40.0, 20.0, 10.0)


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Neurons 3 and 5 along x; the segmentation cuts 3 at x = 30 and joins what is left of it with nothing."""
    monkeypatch.setattr(skeleton_scores, "_BLOCK", (4, 8, 16))
    labels = np.zeros((6, 24, 60), np.uint32)
    labels[1:5, 2:8, :] = 3
    labels[1:5, 12:20, :40] = 5
    segments = labels.copy()
    segments[1:5, 2:8, 30:] = 8
    for name, array in (("labels", labels), ("segmentation", segments)):
        stored = zarr.create_array(tmp_path / f"{name}.zarr", data=array, chunks=(6, 24, 20))
        stored.attrs["resolution"] = SIZE_NM
    return {name: str(tmp_path / f"{name}.zarr") for name in ("labels", "segmentation")}


def run(**settings) -> dict:
    stage = STAGES["evaluate"].run(EvaluateConfig(worst=0, **settings))
    while True:
        try:
            next(stage)
        except StopIteration as end:
            return end.value


def swc(path: Path, z: int, y: int, stop: int, per: float) -> None:
    """Write a node each 10 voxels along x; a voxel's middle lies half a voxel from its corner."""
    z_nm, y_nm = (z + 0.5) * SIZE_NM[0], (y + 0.5) * SIZE_NM[1]
    nodes = [
        f"{i + 1} 0 {(x + 0.5) * SIZE_NM[2] / per} {y_nm / per} {z_nm / per} 1 {i or -1}"
        for i, x in enumerate(range(5, stop, 10))
    ]
    path.write_text("\n".join(nodes) + "\n")


@pytest.mark.parametrize(("unit", "per"), [("nm", 1.0), ("um", 1000.0)])
def test_skeletons_from_files_are_followed(files, tmp_path, unit, per):
    folder = tmp_path / "swc"
    folder.mkdir()
    swc(folder / "a.swc", 2, 4, 60, per)
    swc(folder / "b.swc", 2, 15, 40, per)
    result = run(**files, skeletons=str(folder), skeleton_unit=unit)
    # 3: five edges of 100 nm, of which two lie on each side of the cut; 5: three edges, all right
    assert result["expected_run_length_um"] == pytest.approx((200**2 + 200**2 + 300**2) / 800 / 1000)
    assert result["expected_run_length_of_um"] == pytest.approx((500**2 + 300**2) / 800 / 1000)
    assert result["skeletons"] == 2
    boxed = run(**files, skeletons=str(folder), skeleton_unit=unit, box="0:6,0:24,10:60")
    assert boxed["expected_run_length_of_um"] == pytest.approx((400**2 + 200**2) / 600 / 1000)


def test_paths_in_a_csv_file_are_skeletons(files, tmp_path):
    rows = "index,shape-type,vertex-index,axis-0,axis-1,axis-2\n"
    rows += "".join(f"0,path,{i},2,4,{x}\n" for i, x in enumerate((5, 25, 45)))
    (tmp_path / "paths.csv").write_text(rows)
    result = run(**files, skeletons=str(tmp_path / "paths.csv"))
    assert result["expected_run_length_um"] == pytest.approx(200**2 / 400 / 1000)
    assert result["expected_run_length_of_um"] == pytest.approx(0.4)


def test_without_skeletons_they_are_made_of_the_labels(files):
    result = run(**files, run_length=True)
    best, found = result["expected_run_length_of_um"], result["expected_run_length_um"]
    assert best == pytest.approx((600**2 + 400**2) / 1000 / 1000, rel=0.5)  # the ends lie in corners
    assert found / best == pytest.approx((300**2 + 300**2 + 400**2) / (600**2 + 400**2), rel=0.2)
    perfect = run(labels=files["labels"], segmentation=files["labels"], run_length=True)
    assert perfect["expected_run_length_um"] == perfect["expected_run_length_of_um"] == best
    alone = run(**files, run_length=True, ignore=(0, 3))
    assert alone["skeletons"] == 1
    assert alone["expected_run_length_um"] == alone["expected_run_length_of_um"]


def test_nodes_across_a_border_can_be_forgiven(files, tmp_path):
    stored = zarr.open_array(files["segmentation"])
    stored[1:5, 2:8, 0:6] = 5  # a bit of 3 is taken by 5: one node of its skeleton
    folder = tmp_path / "swc"
    folder.mkdir()
    swc(folder / "a.swc", 2, 4, 60, 1.0)
    swc(folder / "b.swc", 2, 15, 40, 1.0)
    ask = {**files, "skeletons": str(folder), "skeleton_unit": "nm"}
    assert run(**ask)["expected_run_length_um"] == pytest.approx((100**2 + 200**2) / 800 / 1000)
    assert run(**ask, merge_nodes=1)["expected_run_length_um"] == pytest.approx((100**2 + 200**2 + 300**2) / 800 / 1000)


def test_what_cannot_be_followed_is_said(files, tmp_path):
    with pytest.raises(ConfigError, match="holds no skeletons"):
        run(**files, skeletons=str(tmp_path / "none.swc"))
    swc(tmp_path / "a.swc", 2, 4, 60, 1.0)
    with pytest.raises(AnnotationError, match="does not say its unit"):
        run(**files, skeletons=str(tmp_path / "a.swc"))
    with pytest.raises(AnnotationError, match="lie outside the volume"):
        run(**files, skeletons=str(tmp_path / "a.swc"), skeleton_unit="um")
    for name in ("labels", "segmentation"):
        del zarr.open_array(files[name]).attrs["resolution"]
    with pytest.raises(SegmentError, match="needs a voxel size"):
        run(**files, run_length=True)
