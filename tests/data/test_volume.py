from __future__ import annotations

import os
import pickle
import threading
from pathlib import Path

import dask.array as da
import h5py
import numpy as np
import pytest
import tifffile
import zarr

from napari_tokenunify.data import Volume, list_datasets, open_volume
from napari_tokenunify.data.source import Location
from napari_tokenunify.errors import DatasetChoiceError, TokenUnifyError, VolumeError
from napari_tokenunify.geometry import Box

BOX = Box((1, 2, 3), (5, 19, 20))


@pytest.fixture
def stack(tmp_path: Path, raw: np.ndarray) -> Path:
    np.save(tmp_path / "stack.npy", raw)
    return tmp_path / "stack.npy"


@pytest.fixture
def channels(tmp_path: Path, raw: np.ndarray) -> Path:
    """Return a file with a time axis of length 3 and a channel axis of length 2."""
    times = np.stack([np.stack([raw + t, raw + t + 10]) for t in range(3)])
    np.save(tmp_path / "channels.npy", times)
    return tmp_path / "channels.npy"


# What a Volume knows


def test_a_volume_says_what_it_is(volume_file: Path, raw: np.ndarray):
    volume = open_volume(f"{volume_file}::raw")
    assert (volume.shape, volume.dtype, volume.nbytes) == (raw.shape, raw.dtype, raw.nbytes)
    assert volume.voxel_size_nm == (40.0, 4.0, 4.0)
    assert volume.origin_nm == (0.0, 0.0, 0.0)
    assert volume.levels[0].ndim == 3
    assert volume.provenance["uri"] == f"{volume_file}::raw"
    assert volume.provenance["inner"] == "raw"
    assert volume.provenance["voxel_size_source"] == "member meta"
    assert volume.provenance["file_bytes"] == volume_file.stat().st_size
    assert volume.provenance["file_modified"] == volume_file.stat().st_mtime


def test_nothing_of_the_size_of_the_volume_is_read_when_it_is_opened(tmp_path: Path):
    with (tmp_path / "a.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(
            file, {"descr": "|u1", "fortran_order": False, "shape": (4000, 5000, 5000)}
        )
        file.truncate(file.tell() + 4000 * 5000 * 5000)
    volume = open_volume(tmp_path / "a.npy")
    assert volume.nbytes == 10**11
    assert not volume.read(volume.centre_box((4, 100, 100))).any()


# Reading


@pytest.mark.parametrize(
    "box", [BOX, Box((0, 0, 0), (6, 20, 24)), Box((5, 19, 23), (6, 20, 24)), Box((2, 0, 5), (3, 20, 6))]
)
def test_a_box_is_the_same_part_of_the_array(stack: Path, raw: np.ndarray, box: Box):
    np.testing.assert_array_equal(open_volume(stack).read(box), raw[box.slices])


@pytest.mark.parametrize(
    "box", [Box((0, 0, 0), (7, 20, 24)), Box((-1, 0, 0), (6, 20, 24)), Box((6, 20, 24), (7, 21, 25))]
)
def test_a_box_outside_is_refused_with_the_size_of_the_volume(stack: Path, box: Box):
    with pytest.raises(VolumeError, match=rf"the box {box} reaches outside the volume of 6, 20, 24 voxels"):
        open_volume(stack).read(box)


def test_stored_axes_are_turned_to_z_y_x(tmp_path: Path, raw: np.ndarray):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        data = file.create_dataset("main", data=raw.transpose(2, 0, 1), chunks=(3, 2, 5))
        for dimension, label in zip(data.dims, "xzy", strict=True):
            dimension.label = label
    volume = open_volume(tmp_path / "a.h5")
    assert volume.chunks == (2, 5, 3)
    np.testing.assert_array_equal(volume.read(BOX), raw[BOX.slices])


def test_a_part_that_comes_back_too_small_is_an_error():
    class Short:
        shape, dtype = (4, 5, 6), np.dtype("u1")

        def __getitem__(self, index: tuple) -> np.ndarray:
            return np.zeros((1, 5, 6), np.uint8)

    with pytest.raises(VolumeError, match=r"came back with shape \(1, 5, 6\)"):
        Volume.from_array(Short()).read(Box((0, 0, 0), (2, 5, 6)))


def test_any_failure_while_reading_is_one_sentence_with_the_box():
    class Broken:
        shape, dtype = (4, 5, 6), np.dtype("u1")

        def __getitem__(self, index: tuple) -> np.ndarray:
            raise ZeroDivisionError("first line\nsecond line")

    with pytest.raises(VolumeError) as caught:
        Volume.from_array(Broken(), name="broken").read(Box((0, 0, 0), (2, 5, 6)))
    assert str(caught.value) == (
        "broken: the box 0:2,0:5,0:6 cannot be read: the file seems damaged there (ZeroDivisionError: first line)."
    )


# Channels, times and what else is no (z, y, x)


def test_a_channel_and_a_time_are_picked_by_the_sentence_that_says_how(channels: Path, raw: np.ndarray):
    with pytest.raises(VolumeError, match=rf"time axis of length 3: pick one with {channels}::t=0 \(0 to 2\)"):
        open_volume(channels)
    with pytest.raises(VolumeError, match=rf"channel axis of length 2: pick one with {channels}::t=1,c=0 \(0 to 1\)"):
        open_volume(f"{channels}::t=1")
    volume = open_volume(f"{channels}::t=1,c=1")
    assert volume.provenance["selection"] == {"t": 1, "c": 1}
    np.testing.assert_array_equal(volume.read(BOX), (raw + 11)[BOX.slices])


def test_axes_of_length_one_need_no_pick(tmp_path: Path, raw: np.ndarray):
    np.save(tmp_path / "a.npy", raw[None, None])
    volume = open_volume(tmp_path / "a.npy")
    assert volume.shape == raw.shape
    np.testing.assert_array_equal(volume.read(BOX), raw[BOX.slices])


def test_a_channel_that_is_not_there_is_refused(channels: Path, stack: Path):
    with pytest.raises(VolumeError, match=r"has 2 along axis 'c': pick 0 to 1"):
        open_volume(f"{channels}::t=0,c=2")
    with pytest.raises(VolumeError, match=r"has no axis 'c' to pick from: its axes are zyx \(6, 20, 24\)"):
        open_volume(f"{stack}::c=0")
    with pytest.raises(VolumeError, match=r"has no axis 'z' to pick from"):
        open_volume(f"{stack}::z=0")


@pytest.mark.parametrize(
    ("shape", "what"), [((9,), "an array of 1 axes"), ((9, 9), "one 2-D image"), ((2,) * 6, "an array of 6 axes")]
)
def test_what_has_no_depth_is_refused(tmp_path: Path, shape: tuple, what: str):
    np.save(tmp_path / "a.npy", np.zeros(shape, np.uint8))
    with pytest.raises(VolumeError, match=f"is {what}.*: give a stack of sections"):
        open_volume(tmp_path / "a.npy")


@pytest.mark.parametrize(
    "dtype", ["bool", "complex64", "int8", "S3", "U3", "datetime64[s]", [("a", "u1"), ("b", "u1")]]
)
def test_a_data_type_that_is_neither_intensity_nor_label_is_refused(tmp_path: Path, dtype: object):
    np.save(tmp_path / "a.npy", np.zeros((3, 4, 5), dtype))
    with pytest.raises(VolumeError, match=r"has the data type .* neither intensity .* nor label .*: convert it first"):
        open_volume(tmp_path / "a.npy")


@pytest.mark.parametrize("dtype", ["u1", "u2", "u4", "u8", "i2", "i4", "i8", "f2", "f4", "f8"])
def test_intensities_and_labels_are_accepted(tmp_path: Path, dtype: str):
    np.save(tmp_path / "a.npy", np.ones((3, 4, 5), dtype))
    assert open_volume(tmp_path / "a.npy").dtype == np.dtype(dtype)


# Voxel size given by the user


def test_the_users_voxel_size_wins_and_levels_keep_their_ratio(tmp_path: Path):
    path = tmp_path / "a.ome.tif"
    parts = [np.zeros((6, 41 // 2**n + n % 2, 64 // 2**n), np.uint8) for n in range(3)]
    with tifffile.TiffWriter(path) as file:
        file.write(parts[0], subifds=2, tile=(16, 16), metadata={"axes": "ZYX"})
        for part in parts[1:]:
            file.write(part, subfiletype=1, tile=(16, 16))
    volume = open_volume(path, voxel_size_nm=(30.0, 5.0, 5.0))
    assert [level.voxel_size_nm for level in volume.levels] == [(30, 5, 5), (30, 10, 10), (30, 20, 20)]
    assert volume.provenance["voxel_size_source"] == "given by the user"


def test_levels_keep_the_ratio_that_the_file_says(tmp_path: Path):
    group = zarr.create_group(tmp_path / "a.zarr", zarr_format=3)
    levels = []
    for name, depth, size in (("0", 15, 10.0), ("1", 6, 25.0)):
        group.create_array(name, shape=(depth, 8, 8), dtype="uint8")
        levels.append({"path": name, "coordinateTransformations": [{"type": "scale", "scale": [size, 4.0, 4.0]}]})
    axes = [{"name": axis, "type": "space", "unit": "nanometer"} for axis in "zyx"]
    group.attrs["ome"] = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": levels}]}
    volume = open_volume(tmp_path / "a.zarr", voxel_size_nm=(20.0, 5.0, 5.0))
    assert [level.voxel_size_nm for level in volume.levels] == [(20, 5, 5), (50, 5, 5)]


@pytest.mark.parametrize("size", [(0.0, 4.0, 4.0), (4.0, 4.0), (float("nan"), 4.0, 4.0), (-4.0, 4.0, 4.0)])
def test_a_voxel_size_that_is_none_is_refused(stack: Path, size: tuple):
    with pytest.raises(VolumeError, match=r"cannot have the voxel size .*: give three positive numbers"):
        open_volume(stack, voxel_size_nm=size)


# Checksums


def test_a_checksum_depends_on_values_shape_and_type_only(tmp_path: Path, raw: np.ndarray):
    image = raw.astype(np.uint16)
    same = [image, image.astype(">u2"), np.asfortranarray(image), da.from_array(image, chunks=4)]
    (expected,) = {Volume.from_array(array).checksum() for array in same}
    changed = image.copy()
    changed[3, 10, 12] += 1
    others = [changed, image.astype(np.uint32), image.astype(np.int16), image.reshape(6, 24, 20), image[:, ::-1]]
    assert expected not in {Volume.from_array(array).checksum() for array in others}
    assert len(expected) == 64


def test_a_checksum_is_of_the_box_or_of_the_middle():
    image = np.random.default_rng(0).integers(0, 255, (40, 140, 150), np.uint8)
    volume = Volume.from_array(image)
    middle = image[4:36, 6:134, 11:139]
    assert volume.centre_box((32, 128, 128)).slices == (slice(4, 36), slice(6, 134), slice(11, 139))
    assert volume.checksum() == Volume.from_array(middle).checksum()
    assert volume.checksum(BOX) == Volume.from_array(image[BOX.slices]).checksum()


# dask, workers and threads


@pytest.mark.parametrize("name", ["a.npy", "a.tif", "a.h5"])
def test_dask_reads_the_same_as_read(tmp_path: Path, raw: np.ndarray, name: str):
    path = tmp_path / name
    if name == "a.npy":
        np.save(path, raw.astype(">u2"))
    elif name == "a.tif":
        tifffile.imwrite(path, raw.astype(np.uint16), compression="zlib", rowsperstrip=3)
    else:
        with h5py.File(path, "w") as file:
            file.create_dataset("main", data=raw.astype(np.uint16), chunks=(4, 8, 8))
    volume = open_volume(path)
    array = volume.dask()
    assert (array.shape, array.dtype) == (volume.shape, volume.dtype)
    for part in (BOX.slices, (3,), (slice(None), 4, slice(None, None, -2)), (slice(0, 0),), ([0, 5, 0],)):
        np.testing.assert_array_equal(array[part].compute(scheduler="threads"), raw[part])


def test_dask_gets_whole_chunks_but_not_millions_of_them():
    class Huge:
        shape, dtype = (2000, 12_000, 10_000), np.dtype("u1")

        def __init__(self, chunks: tuple | None) -> None:
            self.chunks = chunks

        def __getitem__(self, index: tuple) -> np.ndarray:
            return np.zeros([part.stop - part.start for part in index], np.uint8)

    for chunks in (None, (1, 1, 10_000), (1, 12_000, 10_000), (64, 64, 64), (2, 8, 8), (128, 512, 512)):
        array = Volume.from_array(Huge(chunks)).dask()
        assert array.npartitions <= 3e5
        for joined, own, extent in zip(array.chunksize, chunks or (1, 1, 1), Huge.shape, strict=True):
            assert joined % own == 0 or joined == extent
        assert array.chunksize[0] == (chunks or (1,))[0]  # sections are never joined


def test_dask_says_our_own_error(tmp_path: Path, raw: np.ndarray):
    np.save(tmp_path / "a.npy", raw)
    array = open_volume(tmp_path / "a.npy").dask()
    (tmp_path / "a.npy").write_bytes((tmp_path / "a.npy").read_bytes()[:500])
    with pytest.raises(VolumeError, match=r"a\.npy: the box"):
        array.compute(scheduler="synchronous")


def test_a_volume_of_a_file_crosses_to_another_process_as_its_address(channels: Path):
    volume = open_volume(f"{channels}::t=1,c=1", voxel_size_nm=(30.0, 5.0, 5.0))
    data = pickle.dumps(volume)
    assert len(data) < 1000
    copy = pickle.loads(data)
    assert (copy.uri, copy.voxel_size_nm, copy.shape) == (volume.uri, volume.voxel_size_nm, volume.shape)
    assert copy.checksum() == volume.checksum()


def test_a_volume_in_memory_crosses_whole(raw: np.ndarray):
    copy = pickle.loads(pickle.dumps(Volume.from_array(raw, (40.0, 4.0, 4.0))))
    assert copy.voxel_size_nm == (40.0, 4.0, 4.0)
    np.testing.assert_array_equal(copy.read(BOX), raw[BOX.slices])


def test_many_threads_read_one_volume(stack: Path, raw: np.ndarray):
    volume = open_volume(stack)
    wrong: list[int] = []

    def read(z: int) -> None:
        for y in range(19):
            box = Box((z, y, 0), (z + 1, y + 1, 24))
            if not np.array_equal(volume.read(box), raw[box.slices]):
                wrong.append(z)

    threads = [threading.Thread(target=read, args=(z,)) for z in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


# Arrays in memory


def test_an_array_in_memory_is_a_volume_without_a_copy(raw: np.ndarray):
    volume = Volume.from_array(raw, (40.0, 4.0, 4.0), name="layer 'raw'")
    assert np.shares_memory(volume.read(BOX), raw)
    assert (volume.uri, volume.voxel_size_nm, volume.chunks) == ("layer 'raw'", (40.0, 4.0, 4.0), None)
    assert Volume.from_array(raw.tolist()).shape == raw.shape
    assert Volume.from_array(da.from_array(raw, chunks=(2, 5, 6))).chunks == (2, 5, 6)


@pytest.mark.parametrize("array", [np.zeros((4, 5)), np.zeros((2, 3, 4, 5)), np.zeros((2, 3, 4), bool), [[["a"]]]])
def test_an_array_that_is_no_volume_is_refused_by_its_name(array: object):
    with pytest.raises(VolumeError, match=r"^layer: "):
        Volume.from_array(array, name="layer")


# What cannot be opened


def test_a_missing_path_is_said_in_one_sentence(tmp_path: Path):
    for uri in (tmp_path / "no such file.h5", tmp_path / "none.zarr", f"{tmp_path / 'a.h5'}::volumes/raw", "a\0b.npy"):
        with pytest.raises(VolumeError, match="nothing is there: check the path"):
            open_volume(uri)


@pytest.mark.parametrize("name", ["notes.docx", "stack", "volume.nii.gz"])
def test_an_unknown_format_names_the_known_ones(tmp_path: Path, name: str):
    (tmp_path / name).write_bytes(b"neither this nor that")
    with pytest.raises(VolumeError, match="is of no known format: convert it to OME-Zarr, HDF5 or a multi-page TIFF"):
        open_volume(tmp_path / name)


@pytest.mark.parametrize("ending", ["npy", "npz", "h5", "tif", "zarr.zip", "n5", "zarr", "xyz", "jpg"])
def test_an_empty_file_is_one_sentence(tmp_path: Path, ending: str):
    (tmp_path / f"a.{ending}").write_bytes(b"")
    with pytest.raises(VolumeError) as caught:
        open_volume(tmp_path / f"a.{ending}")
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(str(tmp_path / f"a.{ending}"))


def test_one_picture_is_not_a_stack(tmp_path: Path):
    (tmp_path / "section.PNG").write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(VolumeError, match="one 2-D image: give the folder"):
        open_volume(tmp_path / "section.PNG")


def test_a_wrong_ending_does_not_matter(tmp_path: Path, raw: np.ndarray):
    np.save(tmp_path / "array.npy", raw)
    (tmp_path / "array.npy").rename(tmp_path / "array.h5")
    tifffile.imwrite(tmp_path / "b.tif", raw)
    (tmp_path / "b.tif").rename(tmp_path / "stack")
    assert open_volume(tmp_path / "array.h5").format == "NumPy .npy"
    assert open_volume(tmp_path / "stack").format == "TIFF"


def test_a_file_that_may_not_be_read_is_said_as_such(stack: Path, monkeypatch: pytest.MonkeyPatch):
    def refused(*arguments: object, **options: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refused)
    with pytest.raises(VolumeError, match="may not be read by you: ask its owner"):
        open_volume(stack)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes on this system")
def test_what_is_neither_file_nor_folder_is_not_waited_for(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe.npy")
    with pytest.raises(VolumeError, match="nothing is there"):
        open_volume(tmp_path / "pipe.npy")


# Datasets


def test_the_datasets_of_a_file_are_listed(volume_file: Path, stack: Path):
    assert list_datasets(volume_file) == ("raw", "labels")
    assert list_datasets(f"{volume_file}::raw") == ("",)
    assert list_datasets(stack) == ("",)
    with pytest.raises(VolumeError, match="nothing is there"):
        list_datasets(stack.with_name("none.npy"))


def test_a_missing_inner_path_lists_what_is_there(volume_file: Path):
    with pytest.raises(DatasetChoiceError, match="has no dataset 'image' inside") as caught:
        open_volume(f"{volume_file}::image")
    assert [candidate.inner for candidate in caught.value.candidates] == ["raw", "labels"]
    copy = pickle.loads(pickle.dumps(caught.value))
    assert isinstance(copy, TokenUnifyError)
    assert (copy.uri, copy.candidates) == (caught.value.uri, caught.value.candidates)


def test_a_location_survives_being_made_of_a_volumes_address(channels: Path):
    assert Location.parse(open_volume(f"{channels}::t=0,c=0").uri).path == channels
