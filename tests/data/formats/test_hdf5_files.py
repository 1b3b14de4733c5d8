from __future__ import annotations

import json
import threading
from pathlib import Path

import h5py
import numpy as np
import pytest

from napari_tokenunify.data import list_datasets, open_volume
from napari_tokenunify.errors import DatasetChoiceError, VolumeError
from napari_tokenunify.geometry import Box

CREMI_VOXEL_NM = (40.0, 4.0, 4.0)


@pytest.fixture
def cremi(tmp_path: Path, raw: np.ndarray, labels: np.ndarray) -> Path:
    """Return a file as the CREMI challenge has them."""
    path = tmp_path / "sample_A.hdf"
    with h5py.File(path, "w") as file:
        image = file.create_dataset("volumes/raw", data=raw, chunks=(2, 8, 8), compression="gzip")
        ids = file.create_dataset("volumes/labels/neuron_ids", data=labels.astype(np.uint64))
        image.attrs["resolution"] = CREMI_VOXEL_NM
        ids.attrs["resolution"] = CREMI_VOXEL_NM
        ids.attrs["offset"] = (1480.0, 3644.0, 3644.0)
        file["annotations/ids"] = np.arange(7)
        file.attrs["file_format"] = "0.2"
    return path


def _write(path: Path, data: np.ndarray, **attributes: object) -> Path:
    with h5py.File(path, "w") as file:
        file.create_dataset("main", data=data).attrs.update(attributes)
    return path


def test_the_cremi_layout_gives_voxel_size_origin_and_chunks(cremi: Path, raw: np.ndarray, labels: np.ndarray):
    volume = open_volume(f"{cremi}::volumes/raw")
    assert volume.voxel_size_nm == CREMI_VOXEL_NM
    assert volume.provenance["voxel_size_source"] == "attribute resolution"
    assert volume.chunks == (2, 8, 8)
    box = Box((1, 2, 3), (5, 19, 20))
    np.testing.assert_array_equal(volume.read(box), raw[box.slices])

    ids = open_volume(f"{cremi}/volumes/labels/neuron_ids")
    assert ids.origin_nm == (1480.0, 3644.0, 3644.0)
    np.testing.assert_array_equal(ids.read(Box.whole(ids.shape)), labels)


def test_the_only_volume_needs_no_name(tmp_path: Path, raw: np.ndarray):
    path = _write(tmp_path / "cremiA_inputs.h5", raw)
    with h5py.File(path, "a") as file:
        file["table"] = np.arange(6)
    volume = open_volume(path)
    assert volume.provenance["inner"] == "main"
    np.testing.assert_array_equal(volume.read(Box.whole(raw.shape)), raw)
    assert list_datasets(path) == ("",)


def test_without_a_name_all_volumes_are_listed(cremi: Path):
    with pytest.raises(DatasetChoiceError, match="volumes/raw") as caught:
        open_volume(cremi)
    assert [candidate.inner for candidate in caught.value.candidates] == ["volumes/labels/neuron_ids", "volumes/raw"]
    assert list_datasets(cremi) == ("volumes/labels/neuron_ids", "volumes/raw")


@pytest.mark.parametrize("inner", ["volumes/row", "volumes", "volumes/raw/deeper"])
def test_a_wrong_name_lists_what_is_there(cremi: Path, inner: str):
    with pytest.raises(DatasetChoiceError, match=f"no dataset '{inner}'.*volumes/raw"):
        open_volume(f"{cremi}::{inner}")


@pytest.mark.parametrize(
    "data",
    [
        np.zeros((2, 3, 4), [("a", "i4")]),
        np.full((2, 3, 4), b"text"),
        np.array("some text", h5py.string_dtype()),
        h5py.Empty("f4"),
        np.float32(3),
    ],
    ids=["records", "bytes", "text", "empty", "one number"],
)
def test_what_is_no_array_of_numbers_is_no_candidate_and_refused_by_name(cremi: Path, data: object):
    with h5py.File(cremi, "a") as file:
        file["other"] = data
    assert "other" not in list_datasets(cremi)
    with pytest.raises(VolumeError, match=r"'other' holds .*, not an array of numbers"):
        open_volume(f"{cremi}::other")


def test_links_in_a_circle_and_to_other_files_are_not_followed(cremi: Path):
    with h5py.File(cremi, "a") as file:
        file["volumes/up"] = h5py.SoftLink("/volumes")
        file["volumes/itself"] = file["volumes"]
        file["elsewhere"] = h5py.ExternalLink("no_such_file.h5", "/main")
        file["nowhere"] = h5py.SoftLink("/gone")
    assert list_datasets(cremi) == ("volumes/labels/neuron_ids", "volumes/raw")
    assert open_volume(f"{cremi}::volumes/up/raw").shape == (6, 20, 24)
    for inner in ("elsewhere", "nowhere"):
        with pytest.raises(DatasetChoiceError, match="There are"):
            open_volume(f"{cremi}::{inner}")


def _axistags(axes: str) -> str:
    return json.dumps({"axes": [{"key": key, "typeFlags": 2, "resolution": 0, "description": ""} for key in axes]})


@pytest.mark.parametrize("axes", ["zyxc", "czyx", "xyzc", "tzyxc"])
def test_axes_are_those_of_ilastik(tmp_path: Path, raw: np.ndarray, axes: str):
    stored = np.stack([raw, raw + 1])  # c z y x
    stored = (stored[None] if "t" in axes else stored).transpose(["tczyx".index(a) - ("t" not in axes) for a in axes])
    path = _write(tmp_path / "a.h5", stored, axistags=_axistags(axes))
    volume = open_volume(f"{path}::c=1")
    np.testing.assert_array_equal(volume.read(Box.whole(raw.shape)), raw + 1)


def test_axes_are_those_of_the_dimension_labels(tmp_path: Path, raw: np.ndarray):
    path = _write(tmp_path / "a.h5", raw.T)
    with h5py.File(path, "a") as file:
        for dimension, label in zip(file["main"].dims, ("X", "Y", "Z"), strict=True):
            dimension.label = label
    np.testing.assert_array_equal(open_volume(path).read(Box.whole(raw.shape)), raw)


@pytest.mark.parametrize("tags", [_axistags("zy"), _axistags("zzx"), _axistags("abc"), json.dumps({}), 3])
def test_axes_that_do_not_fit_are_the_usual_ones(tmp_path: Path, raw: np.ndarray, tags: object):
    assert open_volume(_write(tmp_path / "a.h5", raw, axistags=tags)).shape == raw.shape


def test_fiji_gives_the_voxel_size_in_micrometres(tmp_path: Path, raw: np.ndarray):
    volume = open_volume(_write(tmp_path / "a.h5", raw, element_size_um=(0.04, 0.004, 0.004)))
    assert volume.voxel_size_nm == pytest.approx(CREMI_VOXEL_NM)


@pytest.mark.parametrize("value", [(0.0, 4.0, 4.0), (4.0, 4.0), "forty", (np.nan, 4.0, 4.0), (np.inf, 1, 1)])
def test_a_voxel_size_that_is_none_is_unknown(tmp_path: Path, raw: np.ndarray, value: object):
    volume = open_volume(_write(tmp_path / "a.h5", raw, resolution=value, offset=value))
    assert volume.voxel_size_nm is None
    assert volume.provenance["voxel_size_source"] == ""
    assert np.isfinite(volume.origin_nm).all()


@pytest.mark.parametrize("part", [0.1, 0.5, 0.99])
def test_a_truncated_file_is_one_sentence(cremi: Path, part: float):
    data = cremi.read_bytes()
    cremi.write_bytes(data[: int(len(data) * part)])
    with pytest.raises(VolumeError, match="damaged") as caught:
        open_volume(f"{cremi}::volumes/raw")
    assert "\n" not in str(caught.value)


def test_a_damaged_chunk_is_an_error_and_the_others_are_read(cremi: Path, raw: np.ndarray):
    with h5py.File(cremi) as file:
        chunk = file["volumes/raw"].id.get_chunk_info(0)
    with cremi.open("r+b") as file:
        file.seek(chunk.byte_offset + 10)
        file.write(bytes(20))
    volume = open_volume(f"{cremi}::volumes/raw")
    with pytest.raises(VolumeError, match="cannot be read: the file seems damaged"):
        volume.read(Box((0, 0, 0), (1, 1, 1)))
    np.testing.assert_array_equal(volume.read(Box((4, 8, 8), (6, 16, 16))), raw[4:6, 8:16, 8:16])


def test_voxels_of_a_missing_file_are_an_error_and_not_zeros(tmp_path: Path, raw: np.ndarray):
    path = tmp_path / "parts.h5"
    layout = h5py.VirtualLayout(raw.shape, raw.dtype)
    layout[:3] = h5py.VirtualSource("part_0.h5", "main", (3, *raw.shape[1:]))
    with h5py.File(path, "w") as file:
        file.create_virtual_dataset("main", layout)
        file.create_dataset("raw_elsewhere", raw.shape, raw.dtype, external=[("voxels.bin", 0, raw.nbytes)])
    with pytest.raises(VolumeError, match=r"part_0\.h5, which is missing"):
        open_volume(f"{path}::main")
    with pytest.raises(VolumeError, match=r"voxels\.bin.*h5repack"):
        open_volume(f"{path}::raw_elsewhere")

    _write(tmp_path / "part_0.h5", raw[:3])
    np.testing.assert_array_equal(open_volume(f"{path}::main").read(Box((0, 0, 0), (3, 20, 24))), raw[:3])


def test_an_unknown_compression_is_named(tmp_path: Path, raw: np.ndarray):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        properties.set_chunk((2, 8, 8))
        properties.set_filter(32001, h5py.h5z.FLAG_OPTIONAL, (1,))  # blosc, known to hdf5plugin only
        h5py.h5d.create(file.id, b"main", h5py.h5t.NATIVE_UINT8, h5py.h5s.create_simple(raw.shape), properties)
    with pytest.raises(VolumeError, match=r"filter 32001 .*h5repack"):
        open_volume(path)


def test_an_open_volume_locks_nobody_out(cremi: Path, raw: np.ndarray):
    volume = open_volume(f"{cremi}::volumes/raw")
    volume.checksum()
    with h5py.File(cremi, "a") as file:
        file["volumes/raw"][0] = 0
        file.flush()
    assert not volume.read(Box((0, 0, 0), (1, 20, 24))).any()
    np.testing.assert_array_equal(volume.read(Box((1, 0, 0), (6, 20, 24))), raw[1:])


def test_a_file_that_a_program_is_writing_can_be_read(cremi: Path, raw: np.ndarray):
    with h5py.File(cremi, "a"):
        volume = open_volume(f"{cremi}::volumes/raw")
        np.testing.assert_array_equal(volume.read(Box.whole(raw.shape)), raw)


def test_a_lock_of_another_program_does_not_matter(cremi: Path, raw: np.ndarray):
    fcntl = pytest.importorskip("fcntl", reason="locks of this kind are of Unix")
    with cremi.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        np.testing.assert_array_equal(open_volume(f"{cremi}::volumes/raw").read(Box.whole(raw.shape)), raw)


def test_a_dataset_replaced_by_another_is_said(cremi: Path, raw: np.ndarray):
    volume = open_volume(f"{cremi}::volumes/raw")
    with h5py.File(cremi, "w") as file:
        file["volumes/raw"] = raw[:, ::2]
    with pytest.raises(VolumeError, match="has changed since it was opened"):
        volume.read(Box((0, 0, 0), (1, 1, 1)))


def test_many_threads_read_the_same_voxels(cremi: Path, raw: np.ndarray):
    volume = open_volume(f"{cremi}::volumes/raw")
    wrong: list[Box] = []

    def read(z: int) -> None:
        for y in range(19):
            box = Box((z, y, 1), (z + 1, y + 2, 23))
            if not np.array_equal(volume.read(box), raw[box.slices]):
                wrong.append(box)

    threads = [threading.Thread(target=read, args=(z,)) for z in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_file_on_a_network_is_refused():
    with pytest.raises(VolumeError, match="download it first"):
        open_volume("https://example.org/sample_A.h5")
