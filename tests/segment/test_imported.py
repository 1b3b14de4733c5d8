from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from napari_tokenunify.affinities import DEFAULT_OFFSETS
from napari_tokenunify.config import ImportConfig
from napari_tokenunify.errors import ConfigError, SegmentError
from napari_tokenunify.proofread import Proofreading
from napari_tokenunify.segment import Segmentation, import_segments, write_affinities
from napari_tokenunify.segment.imported import read_mapping

SHAPE = (12, 40, 44)
SMALL = {"block": (8, 16, 20)}
FAR = 2**40 + 7  # ids of others may be large


@pytest.fixture
def neurons() -> np.ndarray:
    """Two balls on a stick, one label of two pieces, a thin sheet; the rest is 0."""
    z, y, x = np.indices(SHAPE)
    ids = np.zeros(SHAPE, np.uint64)
    for centre in (10, 32):
        ids[((z - 6) * 2) ** 2 + (y - 12) ** 2 + (x - centre) ** 2 < 81] = FAR
    ids[5:7, 11:13, 10:32] = FAR
    ids[:3, 30:36, :9] = ids[9:, 30:36, 30:] = 3
    ids[:, 24, :] = 9
    return ids


def run(**settings) -> dict:
    stage = import_segments(ImportConfig(**{**SMALL, **settings}))
    while True:
        try:
            next(stage)
        except StopIteration as end:
            return end.value


def saved(folder: Path, name: str, array: np.ndarray) -> str:
    np.save(folder / f"{name}.npy", array)
    return str(folder / f"{name}.npy")


def same_segments(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether two label volumes differ in nothing but the names."""
    pairs = np.unique(np.stack([one.ravel(), other.ravel()]), axis=1)
    return all(len(np.unique(side)) == len(side) for side in pairs) and bool(((one == 0) == (other == 0)).all())


@pytest.mark.parametrize("with_affinities", [False, True])
def test_segments_come_back_to_the_voxel_and_are_cut_into_fragments(neurons, tmp_path, with_affinities):
    more = {}
    if with_affinities:  # of a network that sees no border at all in one half, and too many in the other
        values = np.random.default_rng(0).random((3, *SHAPE), np.float32)
        values[..., :22] = 1
        more["affinities"] = str(write_affinities(tmp_path / "a.zarr", values, DEFAULT_OFFSETS, (40.0, 4.0, 4.0)))
    result = run(segments=saved(tmp_path, "n", neurons), out=str(tmp_path / "s"), voxel_size="40,4,4", **more)
    found = Segmentation.open(tmp_path / "s")
    view = found.view()[:]
    assert same_segments(view, neurons)
    assert (result["segments"], result["fragments"]) == (3, len(found.table) - 1)
    assert result["fragments"] > 10
    assert found.voxel_size_nm == (40, 4, 4)
    fragments = found.fragments[:]
    for fragment, box in enumerate(ndimage.find_objects(fragments.astype(int)), 1):
        mine = fragments[box] == fragment
        assert ndimage.label(mine)[1] == 1
        assert len(np.unique(neurons[box][mine])) == 1
    with Path(result["ids"]).open() as file:
        names = {int(row["segment"]): int(row["imported_id"]) for row in csv.DictReader(file)}
    assert sorted(names.values()) == [3, 9, FAR]
    np.testing.assert_array_equal(np.vectorize(lambda name: names.get(name, 0))(view), neurons.astype(np.int64))


def test_a_merge_error_of_others_can_be_split_where_it_is_thin(neurons, tmp_path):
    run(segments=saved(tmp_path, "n", neurons), out=str(tmp_path / "s"), voxel_size="8,4,4", block=(16, 64, 64))
    with Proofreading.open(tmp_path / "s") as reading:
        assert reading.table()[reading.fragment_at((6, 12, 10))] == reading.table()[reading.fragment_at((6, 12, 32))]
        reading.split([(6, 12, 10)], [(6, 12, 32)])
        left, right = (reading.table()[reading.fragment_at((6, 12, x))] for x in (10, 32))
        assert left != right
        now = reading.view()[:]
    assert (now == left).sum() > 500
    assert (now == right).sum() > 500


@pytest.mark.parametrize("kind", ["csv", "npy"])
def test_supervoxels_stay_as_they_are_and_the_table_joins_them(tmp_path, kind):
    z, y, x = np.indices(SHAPE)
    ids = (1000 + (z // 6) * 100 + (y // 10) * 10 + x // 11).astype(np.uint64)
    ids[0] = 0
    named = np.unique(ids[ids > 0])
    rows = np.stack([named, np.where(named % 2 == 0, FAR, 5).astype(np.uint64)], axis=1)[:-2]  # two are not named
    rows[3, 1] = 0  # belongs to nothing
    if kind == "csv":
        (tmp_path / "m.csv").write_text("supervoxel,segment\n" + "".join(f"{a},{b}\n" for a, b in rows.tolist()))
    else:
        np.save(tmp_path / "m.npy", rows)
    result = run(
        segments=saved(tmp_path, "v", ids),
        mapping=str(tmp_path / f"m.{kind}"),
        out=str(tmp_path / "s"),
        voxel_size="8,8,8",
    )
    found = Segmentation.open(tmp_path / "s")
    assert same_segments(found.fragments[:], ids)
    assert result["fragments"] == len(named)
    segment_of = {0: 0, **{int(a): int(b) for a, b in rows}, **{int(a): int(a) for a in named[-2:]}}
    assert same_segments(found.view()[:], np.vectorize(segment_of.get)(ids.astype(np.int64)))
    assert result["segments"] == 4


def test_a_part_of_the_volume_lies_where_its_corner_says(neurons, tmp_path):
    import zarr

    saved(tmp_path, "raw", np.zeros((20, 50, 50), np.uint8))
    array = zarr.create_array(tmp_path / "part.zarr", data=neurons.astype(np.uint32))
    array.attrs.update({"resolution": [40, 4, 4], "offset": [80, 12, 20]})
    run(
        segments=str(tmp_path / "part.zarr"),
        out=str(tmp_path / "s"),
        volume=str(tmp_path / "raw.npy"),
        voxel_size="40,4,4",
    )
    assert Segmentation.open(tmp_path / "s").spec["origin"] == [2, 3, 5]
    array.attrs["offset"] = [400, 0, 0]
    with pytest.raises(ConfigError, match=r"begins at the voxel \(10, 0, 0\).*give segments of this volume"):
        run(
            segments=str(tmp_path / "part.zarr"),
            out=str(tmp_path / "t"),
            volume=str(tmp_path / "raw.npy"),
            voxel_size="40,4,4",
        )


def test_a_run_that_was_stopped_goes_on_to_the_same_result(neurons, tmp_path):
    given = saved(tmp_path, "n", neurons)
    run(segments=given, out=str(tmp_path / "whole"))
    for stops in (3, 20, 40):
        stage = import_segments(ImportConfig(segments=given, out=str(tmp_path / "s"), **SMALL))
        for _ in range(stops):
            next(stage)
        stage.close()
    run(segments=given, out=str(tmp_path / "s"))
    run(segments=given, out=str(tmp_path / "two"), workers=2)
    one, *others = (Segmentation.open(tmp_path / name) for name in ("whole", "s", "two"))
    for other in others:
        assert one.spec["fragments_hash"] == other.spec["fragments_hash"]
        np.testing.assert_array_equal(one.table, other.table)
    run(segments=given, out=str(tmp_path / "s"), workers=2)  # is finished already
    with pytest.raises(SegmentError, match=r"other settings \(min_fragment_size\)"):
        run(segments=given, out=str(tmp_path / "s"), min_fragment_size=50)


def test_what_is_no_segmentation_is_told(neurons, tmp_path):
    out = str(tmp_path / "s")
    with pytest.raises(SegmentError, match="holds no segment: every voxel is 0"):
        run(segments=saved(tmp_path, "e", np.zeros(SHAPE, np.uint8)), out=out)
    with pytest.raises(ConfigError, match="segments are whole numbers"):
        run(segments=saved(tmp_path, "f", neurons.astype(np.float32)), out=out)
    with pytest.raises(SegmentError, match="has the id -1"):
        run(segments=saved(tmp_path, "i", -(neurons == 9).astype(np.int32)), out=str(tmp_path / "t"))
    write_affinities(tmp_path / "a.zarr", np.ones((3, 4, 5, 6), np.float32), DEFAULT_OFFSETS)
    with pytest.raises(ConfigError, match="give those of the same volume"):
        run(segments=saved(tmp_path, "n", neurons[:3]), affinities=str(tmp_path / "a.zarr"), out=out)


@pytest.mark.parametrize(
    ("text", "said"),
    [("a,b\n1,2\n1,3\n", "two segments for the supervoxel 1"), ("a,b\nx,2\n", "no table"), ("a\n1\n", "no table")],
)
def test_a_mapping_that_is_none_is_told(tmp_path, text, said):
    (tmp_path / "m.csv").write_text(text)
    with pytest.raises(ConfigError, match=said):
        read_mapping(tmp_path / "m.csv")
    with pytest.raises(ConfigError, match="no table"):
        read_mapping(tmp_path / "none.csv")
