from __future__ import annotations

import json
import pickle
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import pytest

from napari_tokenunify.data import list_datasets, open_volume
from napari_tokenunify.errors import DatasetChoiceError, VolumeError
from napari_tokenunify.geometry import Box

z5py = pytest.importorskip("z5py")

SHAPE = (6, 10, 20)
BLOCK = (4, 8, 16)
CODECS = ["raw", "gzip", "bzip2", "xz", "lz4", "blosc", "zstd"]


def values(shape: tuple[int, ...] = SHAPE, dtype: str = "uint8") -> np.ndarray:
    return (np.arange(np.prod(shape)) * 7 % 251).reshape(shape).astype(dtype)


def write(
    folder: Path, path: str = "raw", data: np.ndarray | None = None, compression: str = "gzip", **attributes: Any
) -> np.ndarray:
    """Write an array with z5py."""
    data = values() if data is None else data
    with z5py.File(str(folder), "a") as file:
        chunks = tuple(map(min, BLOCK[-data.ndim :] if data.ndim < 4 else (1, *BLOCK), data.shape))
        array = file.create_dataset(path, data=data, chunks=chunks, compression=compression)
        array.attrs.update(attributes)
    return data


def set_attributes(group: Path, **attributes: Any) -> None:
    file = group / "attributes.json"
    known = json.loads(file.read_text()) if file.exists() else {}
    group.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(known | attributes))


def one_block(folder: Path, shape: tuple[int, ...], content: bytes, dtype: str = "uint8", **compression: Any) -> Path:
    """Write an array of one block by hand; returns the file of the block."""
    size = list(reversed(shape))
    attributes = {"dimensions": size, "blockSize": size, "dataType": dtype, "compression": compression}
    set_attributes(folder / "raw", **attributes)
    block = folder / "raw" / "/".join("0" * len(shape))
    block.parent.mkdir(parents=True)
    block.write_bytes(struct.pack(f">2H{len(size)}I", 0, len(size), *size) + content)
    return block


# --- reading --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compression", CODECS)
def test_an_array_reads_the_same_whatever_the_codec(tmp_path: Path, compression: str):
    data = write(tmp_path / "a.n5", compression=compression)
    volume = open_volume(tmp_path / "a.n5")
    assert volume.format == "N5"
    assert volume.shape == SHAPE
    assert volume.chunks == BLOCK
    for box in (Box.whole(SHAPE), Box((3, 5, 6), (6, 9, 20)), Box((5, 9, 19), (6, 10, 20))):
        np.testing.assert_array_equal(volume.read(box), data[box.slices])
    np.testing.assert_array_equal(volume.dask().compute(), data)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint32", "uint64", "int16", "int64", "float32", "float64"])
def test_images_and_labels_keep_their_type(tmp_path: Path, dtype: str):
    data = write(tmp_path / "a.n5", data=values(dtype=dtype))
    volume = open_volume(tmp_path / "a.n5")
    assert volume.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(volume.read(Box.whole(SHAPE)), data)


@pytest.mark.parametrize(
    "compression",
    [
        {"type": "gzip", "useZlib": True},
        {"type": "raw"},
        {"type": "xz"},
        {"type": "blosc", "shuffle": 2},
        {"type": "zstd"},
    ],
    ids=str,
)
def test_what_tensorstore_writes_reads_the_same(tmp_path: Path, compression: dict[str, Any]):
    tensorstore = pytest.importorskip("tensorstore")
    metadata = {
        "dimensions": SHAPE[::-1],
        "blockSize": BLOCK[::-1],
        "dataType": "uint16",
        "compression": {"cname": "lz4", "clevel": 5} | compression if compression["type"] == "blosc" else compression,
    }
    spec = {"driver": "n5", "kvstore": {"driver": "file", "path": f"{tmp_path}/a.n5/raw/"}, "metadata": metadata}
    tensorstore.open(spec, create=True).result().write(values(dtype="uint16").T).result()
    np.testing.assert_array_equal(open_volume(tmp_path / "a.n5").read(Box.whole(SHAPE)), values(dtype="uint16"))


LZ4_BLOCK = numcodecs.LZ4().encode(bytes(range(24)) * 4)[4:]
ZSTD_WITHOUT_SIZE = b"\x28\xb5\x2f\xfd\x00\x58" + (1 | 96 << 3).to_bytes(3, "little") + bytes(range(24)) * 4


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        ("gzip", zlib.compress(bytes(range(24)) * 4)),
        ("zstd", ZSTD_WITHOUT_SIZE),
        ("lz4", b"LZ4Block" + struct.pack("<B3I", 0x26, len(LZ4_BLOCK), 96, 0) + LZ4_BLOCK),
        ("lz4", b"LZ4Block" + struct.pack("<B3I", 0x16, 96, 96, 0) + bytes(range(24)) * 4),
        ("lz4", b"".join(b"LZ4Block" + struct.pack("<B3I", 0x16, 24, 24, 0) + bytes(range(24)) for _ in range(4))),
    ],
    ids=["zlib", "zstd of a stream", "lz4 of Java", "lz4 of Java, stored", "lz4 of Java, four frames"],
)
def test_what_java_writes_reads_too(tmp_path: Path, kind: str, content: bytes):
    one_block(tmp_path / "a.n5", (4, 4, 6), content, type=kind)
    expected = np.frombuffer(bytes(range(24)) * 4, "u1").reshape(4, 4, 6)
    np.testing.assert_array_equal(open_volume(tmp_path / "a.n5").read(Box.whole((4, 4, 6))), expected)


def test_blocks_cut_at_the_edge_read_the_same(tmp_path: Path):
    size, block = [5, 4, 3], [4, 4, 3]
    set_attributes(tmp_path / "a.n5/raw", dimensions=size, blockSize=block, dataType="uint8", compressionType="raw")
    data = values((3, 4, 5))
    for number, part in enumerate((data[:, :, :4], data[:, :, 4:])):
        file = tmp_path / "a.n5/raw" / str(number) / "0/0"
        file.parent.mkdir(parents=True)
        file.write_bytes(struct.pack(">2H3I", 0, 3, *part.shape[::-1]) + part.tobytes())
    np.testing.assert_array_equal(open_volume(tmp_path / "a.n5").read(Box.whole((3, 4, 5))), data)


def test_a_missing_block_is_zero(tmp_path: Path):
    data = write(tmp_path / "a.n5")
    (tmp_path / "a.n5/raw/0/0/0").unlink()
    data[:4, :8, :16] = 0
    np.testing.assert_array_equal(open_volume(tmp_path / "a.n5").read(Box.whole(SHAPE)), data)


def test_a_channel_must_be_picked(tmp_path: Path):
    data = write(tmp_path / "a.n5", data=values((2, *SHAPE)))
    with pytest.raises(VolumeError, match=r"channel axis of length 2: pick one with .*::c=0"):
        open_volume(tmp_path / "a.n5")
    np.testing.assert_array_equal(open_volume(f"{tmp_path}/a.n5::c=1").read(Box.whole(SHAPE)), data[1])


# --- groups and levels ----------------------------------------------------------------------------------------------


@pytest.fixture
def container(tmp_path: Path) -> Path:
    folder = tmp_path / "sample.n5"
    write(folder, "volumes/raw", resolution=[4, 5, 40], offset=[8, 10, 80])
    write(folder, "volumes/labels/ids", values(dtype="uint64"))
    write(folder, "partners", values((5, 5)))
    return folder


def test_a_container_lists_what_is_in_it(container: Path):
    assert list_datasets(container) == ("volumes/raw", "volumes/labels/ids")
    assert list_datasets(container / "volumes") == ("volumes/raw", "volumes/labels/ids")
    assert open_volume(container / "volumes/labels").provenance["inner"] == "volumes/labels/ids"
    with pytest.raises(DatasetChoiceError, match=r"no dataset 'volumes/row' inside.*volumes/raw \(6x10x20 uint8\)"):
        open_volume(f"{container}::volumes/row")
    with pytest.raises(VolumeError, match="2-D image"):
        open_volume(f"{container}::partners")


@pytest.mark.parametrize("inner", ["::volumes/raw", "/volumes/raw", "::/volumes/raw/"])
def test_sizes_and_offsets_turn_from_xyz_to_zyx(container: Path, inner: str):
    volume = open_volume(f"{container}{inner}")
    assert volume.voxel_size_nm == (40, 5, 4)
    assert volume.origin_nm == (80, 10, 8)
    assert volume.provenance["voxel_size_source"] == "attributes of N5"


def test_a_container_without_attributes_or_ending_opens_from_inside(container: Path, tmp_path: Path):
    (container / "attributes.json").unlink()
    assert list_datasets(container) == ("volumes/raw", "volumes/labels/ids")
    container.rename(tmp_path / "sample")
    assert open_volume(tmp_path / "sample/volumes/raw").voxel_size_nm == (40, 5, 4)


COSEM = {"axes": ["z", "y", "x"], "units": ["nm", "nm", "nm"]}
COSEM_ENTRY = [{"path": f"s{n}", "transform": COSEM | {"scale": [5, 4 << n, 4 << n]}} for n in (0, 1)]
DOUBLE = {"downsamplingFactors": [2, 2, 1]}

PYRAMIDS = {
    "Paintera": ({"multiScale": True, "resolution": [4, 4, 5], "offset": [8, 8, 0]}, {}, DOUBLE),
    "n5-viewer": (
        {"scales": [[1, 1, 1], [2, 2, 1]], "pixelResolution": {"dimensions": [4, 4, 5], "unit": "nm"}},
        {},
        {},
    ),
    "BigDataViewer": ({"downsamplingFactors": [[1, 1, 1], [2, 2, 1]], "resolution": [4, 4, 5]}, {}, {}),
    "n5-spark": ({}, *[{"pixelResolution": {"dimensions": [0.4, 0.4, 0.5], "unit": "pm"}} | d for d in ({}, DOUBLE)]),
    "own resolutions": ({}, {"resolution": [4, 4, 5]}, {"resolution": [8, 8, 5]}),
    "COSEM arrays": (
        {},
        {"transform": COSEM | {"scale": [5, 4, 4], "translate": [0, 8, 8]}},
        {"transform": COSEM | {"scale": [5, 8, 8], "translate": [0, 10, 10]}},
    ),
    "COSEM group": ({"multiscales": [{"datasets": COSEM_ENTRY}]}, {}, {}),
    "nothing": ({}, {}, {}),
    "nonsense": ({"scales": 5, "resolution": "4", "multiscales": [5]}, {"transform": 7}, {"downsamplingFactors": 2}),
}


@pytest.mark.parametrize("name", PYRAMIDS)
def test_a_pyramid_is_one_volume_with_levels(tmp_path: Path, name: str):
    group, first, second = PYRAMIDS[name]
    data = write(tmp_path / "a.n5", "em/s0", **first)
    write(tmp_path / "a.n5", "em/s1", values((6, 5, 10)), **second)
    set_attributes(tmp_path / "a.n5/em", **group)
    volume = open_volume(tmp_path / "a.n5")
    assert volume.provenance["inner"] == "em"
    assert [level.shape for level in volume.levels] == [SHAPE, (6, 5, 10)]
    np.testing.assert_array_equal(volume.read(Box.whole(SHAPE)), data)

    known = name not in {"nothing", "nonsense"}
    unit = 1e-4 if name == "n5-spark" else 1
    sizes = [(5 * unit, 4 * unit, 4 * unit), (5 * unit, 8 * unit, 8 * unit)] if known else [None, None]
    corner = (0, 8, 8) if name in {"Paintera", "COSEM arrays"} else (0, 0, 0)
    assert [level.voxel_size_nm for level in volume.levels] == [pytest.approx(size) for size in sizes]
    assert volume.origin_nm == corner
    level = open_volume(tmp_path / "a.n5/em/s1")
    assert len(level.levels) == 1
    assert level.voxel_size_nm == pytest.approx(sizes[1])
    assert level.origin_nm == corner


def test_a_level_in_a_folder_without_ending_knows_its_group(tmp_path: Path):
    write(tmp_path / "a.n5", "em/s0")
    write(tmp_path / "a.n5", "em/s1", values((3, 5, 10)), downsamplingFactors=[2, 2, 2])
    set_attributes(tmp_path / "a.n5/em", resolution=[4, 4, 5])
    (tmp_path / "a.n5/em").rename(tmp_path / "em")
    assert len(open_volume(tmp_path / "em").levels) == 2
    assert open_volume(tmp_path / "em/s1").voxel_size_nm == (10, 8, 8)
    (tmp_path / "em/attributes.json").unlink()
    assert len(open_volume(tmp_path / "em").levels) == 2


# --- damage ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("left", [0, 3, 15, 16, 40, 0.5, -1])
@pytest.mark.parametrize("compression", CODECS)
def test_a_block_that_is_cut_off_is_an_error_never_voxels(tmp_path: Path, compression: str, left: float):
    write(tmp_path / "a.n5", compression=compression)
    block = tmp_path / "a.n5/raw/0/0/0"
    content = block.read_bytes()
    block.write_bytes(content[: int(len(content) * left) if isinstance(left, float) else left])
    volume = open_volume(tmp_path / "a.n5")
    with pytest.raises(VolumeError, match=r"a\.n5: the box .* cannot be read: the file seems damaged"):
        volume.read(Box((0, 0, 0), (2, 2, 2)))
    assert volume.read(Box((4, 8, 16), (6, 10, 20))).any()


@pytest.mark.parametrize(
    "header",
    [(1, 3, 16, 8, 4), (2, 3, 16, 8, 4), (0, 2, 16, 8, 4), (0, 3, 2**32 - 1, 8, 4), (0, 3, 0, 8, 4), (0, 3, 16, 8, 3)],
)
def test_a_block_with_a_wrong_header_is_an_error(tmp_path: Path, header: tuple[int, ...]):
    write(tmp_path / "a.n5", compression="raw")
    block = tmp_path / "a.n5/raw/0/0/0"
    block.write_bytes(struct.pack(">2H3I", *header) + bytes(16 * 8 * 3 if header[-1] == 3 else 16 * 8 * 4))
    with pytest.raises(VolumeError, match="seems damaged"):
        open_volume(tmp_path / "a.n5").read(Box((0, 0, 0), (2, 2, 2)))


@pytest.mark.parametrize("seed", range(40))
def test_a_damaged_block_gives_voxels_or_our_error(tmp_path: Path, seed: int):
    random = np.random.default_rng(seed)
    write(tmp_path / "a.n5", compression=CODECS[seed % len(CODECS)])
    block = tmp_path / "a.n5/raw/0/0/0"
    content = bytearray(block.read_bytes())
    for at in random.integers(0, len(content), 4):
        content[at] = random.integers(256)
    block.write_bytes(content)
    volume = open_volume(tmp_path / "a.n5")
    with suppress(VolumeError):
        assert volume.read(Box((0, 0, 0), BLOCK)).shape == BLOCK


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"blockSize": [0, 0, 0]}, "damaged"),
        ({"blockSize": [-5, 16, 16]}, "damaged"),
        ({"blockSize": [16]}, "damaged"),
        ({"blockSize": None}, "damaged"),
        ({"dimensions": ["a", 1, 2]}, "damaged"),
        ({"dimensions": [-5, 10, 10]}, "damaged"),
        ({"dimensions": [2.5, 10, 10]}, "damaged"),
        ({"dimensions": [], "blockSize": []}, "damaged"),
        ({"dimensions": 5}, "damaged"),
        ({"dimensions": [0, 5, 5]}, "empty"),
        ({"dataType": "string"}, "holds string"),
        ({"dataType": 5}, "holds 5"),
        ({"isLabelMultiset": True}, "holds label multisets"),
        ({"compression": {"type": "jpeg"}}, "compressed with 'jpeg'"),
        ({"compression": 5}, "compressed with '5'"),
        ({"compression": {"type": [1]}}, "compressed with"),
    ],
)
def test_damaged_attributes_are_said_in_one_sentence(tmp_path: Path, change: dict[str, Any], problem: str):
    write(tmp_path / "a.n5")
    set_attributes(tmp_path / "a.n5/raw", **change)
    with pytest.raises(VolumeError, match=problem):
        open_volume(tmp_path / "a.n5")


@pytest.mark.parametrize("content", ["", "{", "[]", "5", "\0", "[" * 99999])
def test_attributes_that_are_no_json_object_are_said(tmp_path: Path, content: str):
    write(tmp_path / "a.n5")
    (tmp_path / "a.n5/raw/attributes.json").write_text(content)
    with pytest.raises(VolumeError, match="damaged") as caught:
        open_volume(tmp_path / "a.n5::raw")
    assert "\n" not in str(caught.value)


def test_one_damaged_array_does_not_hide_the_others(container: Path):
    (container / "volumes/raw/attributes.json").write_text("{")
    assert open_volume(container).provenance["inner"] == "volumes/labels/ids"


def test_a_file_is_no_container(tmp_path: Path):
    (tmp_path / "a.n5").write_bytes(b"x")
    with pytest.raises(VolumeError, match="an N5 container is a folder"):
        open_volume(tmp_path / "a.n5")


# --- use ------------------------------------------------------------------------------------------------------------


def test_a_container_is_never_written_to(container: Path, untouched):
    with untouched(container.parent):
        open_volume(f"{container}::volumes/raw").checksum()
        list_datasets(container)
        for missing in (f"{container}::nothing", container.with_name("missing.n5")):
            with pytest.raises(VolumeError):
                open_volume(missing)


def test_a_volume_pickles_and_reads_from_threads(container: Path):
    volume = pickle.loads(pickle.dumps(open_volume(f"{container}::volumes/raw")))
    with ThreadPoolExecutor(8) as pool:
        blocks = list(pool.map(volume.read, [Box((z, 0, 0), (z + 1, 10, 20)) for z in range(6)] * 4))
    np.testing.assert_array_equal(np.concatenate(blocks[:6]), values())
    np.testing.assert_array_equal(volume.dask().compute(scheduler="threads"), values())


def test_a_dataset_opens_over_http_by_its_name(container: Path, server: str):
    pytest.importorskip("aiohttp")
    volume = open_volume(f"{server}/sample.n5/volumes/raw")
    assert volume.voxel_size_nm == (40, 5, 4)
    np.testing.assert_array_equal(volume.read(Box.whole(SHAPE)), values())
    for inner in ("", "::volumes", "::nothing"):
        with pytest.raises(VolumeError, match="a web server cannot list what is in an N5 group"):
            open_volume(f"{server}/sample.n5{inner}")
