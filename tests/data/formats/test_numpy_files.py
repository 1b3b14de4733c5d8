from __future__ import annotations

import json
import os
import pickle
import tempfile
import threading
import zipfile
from pathlib import Path

import numpy as np
import pytest
from numpy.lib import format as npy_format

from napari_tokenunify.data import list_datasets, open_volume
from napari_tokenunify.errors import DatasetChoiceError, VolumeError
from napari_tokenunify.geometry import Box

BOX = Box((1, 2, 3), (5, 19, 20))


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["u1", "<u2", ">u2", "<f4", ">f8", "<u8", "<i4", "f2"])
def test_npy_of_any_order_is_read_in_the_byte_order_of_this_machine(
    tmp_path: Path, raw: np.ndarray, order: str, dtype: str
):
    array = np.asarray(raw, dtype=dtype, order=order)
    np.save(tmp_path / "a.npy", array)
    volume = open_volume(tmp_path / "a.npy")
    block = volume.read(BOX)
    assert volume.format == "NumPy .npy"
    assert block.dtype == volume.dtype == np.dtype(dtype).newbyteorder("=")
    np.testing.assert_array_equal(block, array[BOX.slices])


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz_is_read_by_the_name_of_its_array(tmp_path: Path, raw: np.ndarray, labels: np.ndarray, save: object):
    path = tmp_path / "a.npz"
    save(path, raw=raw, labels=labels, table=np.arange(3))
    np.testing.assert_array_equal(open_volume(f"{path}::raw").read(BOX), raw[BOX.slices])
    np.testing.assert_array_equal(open_volume(f"{path}::labels").read(BOX), labels[BOX.slices])
    assert list_datasets(path) == ("raw", "labels")
    with pytest.raises(DatasetChoiceError, match=r"raw \(6x20x24 uint8\), labels \(6x20x24 uint32\)"):
        open_volume(f"{path}::row")


@pytest.mark.parametrize(
    ("members", "expected", "source"),
    [
        ({"meta": json.dumps({"voxel_size_nm": [40, 4, 4]})}, (40.0, 4.0, 4.0), "member meta"),
        ({"meta": json.dumps({"voxel_nm": [40, 4, 4]})}, (40.0, 4.0, 4.0), "member meta"),
        ({"voxel_size_nm": np.array([40, 4, 4])}, (40.0, 4.0, 4.0), "member voxel_size_nm"),
        ({"resolution": np.array([40.0, 4, 4])}, (40.0, 4.0, 4.0), "member resolution"),
        (
            {"meta": json.dumps(["no", "dict"]), "resolution": np.array([40, 4, 4])},
            (40.0, 4.0, 4.0),
            "member resolution",
        ),
        ({"meta": json.dumps({"voxel_size_nm": [0, 4, 4]})}, None, ""),
        ({"meta": np.zeros(3)}, None, ""),
        ({"resolution": np.array([{"z": 40}], dtype=object)}, None, ""),
        ({}, None, ""),
    ],
)
def test_the_archive_may_say_the_voxel_size(
    tmp_path: Path, raw: np.ndarray, members: dict, expected: tuple | None, source: str
):
    np.savez(tmp_path / "a.npz", raw=raw, **members)
    volume = open_volume(tmp_path / "a.npz")
    assert volume.voxel_size_nm == expected
    assert volume.provenance["voxel_size_source"] == source
    assert volume.provenance["inner"] == "raw"


def test_pickled_objects_are_never_loaded(tmp_path: Path):
    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (os.mkdir, (str(tmp_path / "trapped"),))

    objects = np.array([[[Trap()]]], dtype=object)
    np.save(tmp_path / "a.npy", objects)
    np.savez(tmp_path / "a.npz", raw=objects, meta=objects)
    (tmp_path / "b.npy").write_bytes(pickle.dumps(Trap()))
    for name in ("a.npy", "a.npz", "b.npy"):
        with pytest.raises(VolumeError):
            open_volume(tmp_path / name)
    assert not (tmp_path / "trapped").exists()


@pytest.mark.parametrize("shape", [(10**6, 10**6, 10**6), (7, 20, 24), (-6, 20, 24), (0, 20, 24)])
def test_a_header_that_claims_another_size_is_refused(tmp_path: Path, raw: np.ndarray, shape: tuple):
    path = tmp_path / "a.npy"
    with path.open("wb") as file:
        npy_format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
        file.write(raw.tobytes())
    with pytest.raises(VolumeError, match=r"damaged|is empty"):
        open_volume(path)

    for compression in (zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED):
        with zipfile.ZipFile(tmp_path / "a.npz", "w", compression) as archive:
            archive.write(path, "raw.npy")
            archive.writestr("next.bin", bytes(100_000))  # what would be read in place of the missing voxels
        with pytest.raises(VolumeError, match=r"damaged|is empty"):
            open_volume(tmp_path / "a.npz").read(Box((0, 0, 0), (1, 1, 1)))


@pytest.mark.parametrize("name", ["a.npy", "a.npz"])
@pytest.mark.parametrize("part", [0, 0.01, 0.5, 0.99])
def test_a_truncated_file_is_one_sentence(tmp_path: Path, raw: np.ndarray, name: str, part: float):
    path = tmp_path / name
    np.save(path, raw) if name.endswith("npy") else np.savez(path, raw=raw)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * part)])
    with pytest.raises(VolumeError, match="damaged") as caught:
        open_volume(path)
    assert "\n" not in str(caught.value)


def test_a_damaged_compressed_member_is_an_error(tmp_path: Path):
    path = tmp_path / "a.npz"
    np.savez_compressed(path, raw=np.random.default_rng(0).integers(0, 255, (60, 60, 60), np.uint8))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 255
    path.write_bytes(data)
    volume = open_volume(path)
    for _ in range(2):  # the second read starts over, and finds no half-unpacked array
        with pytest.raises(VolumeError, match="the file seems damaged"):
            volume.read(BOX)


def test_a_part_inside_npy_is_refused(tmp_path: Path, raw: np.ndarray):
    np.save(tmp_path / "a.npy", raw)
    with pytest.raises(VolumeError, match="leave out the part after '::'"):
        open_volume(f"{tmp_path / 'a.npy'}::raw")


def test_a_plain_archive_is_read_in_place(tmp_path: Path, raw: np.ndarray, monkeypatch: pytest.MonkeyPatch):
    np.savez(tmp_path / "a.npz", other=np.arange(1000), raw=raw)
    monkeypatch.setattr(tempfile, "TemporaryFile", None)
    np.testing.assert_array_equal(open_volume(f"{tmp_path / 'a.npz'}::raw").read(BOX), raw[BOX.slices])


def test_a_compressed_archive_is_unpacked_once_and_leaves_nothing(
    tmp_path: Path, raw: np.ndarray, monkeypatch: pytest.MonkeyPatch
):
    np.savez_compressed(tmp_path / "a.npz", raw=raw)
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    made = []
    temporary_file = tempfile.TemporaryFile
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda **k: made.append(1) or temporary_file(**k))
    volume = open_volume(tmp_path / "a.npz")
    assert not made
    threads = [threading.Thread(target=volume.read, args=(BOX,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    np.testing.assert_array_equal(volume.read(BOX), raw[BOX.slices])
    assert len(made) == 1
    del volume, threads, thread
    assert not list((tmp_path / "temporary").iterdir())


def test_a_full_disk_is_said_as_such(tmp_path: Path, raw: np.ndarray, monkeypatch: pytest.MonkeyPatch):
    np.savez_compressed(tmp_path / "a.npz", raw=raw)

    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("shutil.copyfileobj", full)
    with pytest.raises(VolumeError, match=r"needs 0\.0 GB in .* to be unpacked .*No space left.*: make room there"):
        open_volume(tmp_path / "a.npz").read(BOX)


def test_a_file_on_a_network_is_refused():
    with pytest.raises(VolumeError, match="download it first"):
        open_volume("https://example.org/a.npy")
