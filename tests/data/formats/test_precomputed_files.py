from __future__ import annotations

import json
import pickle
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_tokenunify.data import list_datasets, open_volume
from napari_tokenunify.errors import DatasetChoiceError, VolumeError
from napari_tokenunify.geometry import Box

tensorstore = pytest.importorskip("tensorstore", reason="the extra 'precomputed' is not installed")

SHAPE = (6, 16, 20)
FINEST = {"resolution": [4, 4, 40], "voxel_offset": [100, 200, 5], "chunk_size": [8, 8, 4], "encoding": "raw"}
COARSER = FINEST | {"resolution": [8, 8, 40], "voxel_offset": [50, 100, 5]}
COMPRESSED = {"encoding": "compressed_segmentation", "compressed_segmentation_block_size": [8, 8, 8]}
SHARDED = {
    "sharding": {
        "@type": "neuroglancer_uint64_sharded_v1",
        "preshift_bits": 0,
        "hash": "identity",
        "minishard_bits": 0,
        "shard_bits": 0,
        "data_encoding": "gzip",
        "minishard_index_encoding": "gzip",
    }
}


def values(shape: tuple[int, ...] = SHAPE, dtype: str = "uint8") -> np.ndarray:
    return (np.arange(np.prod(shape)) * 7 % 251).reshape(shape).astype(dtype)


def write(folder: Path, data: np.ndarray, channels: int = 1, **scale: Any) -> None:
    """Write a scale with tensorstore; `data` has axes (c,) z, y, x."""
    spec = {
        "driver": "neuroglancer_precomputed",
        "kvstore": {"driver": "file", "path": f"{folder}/"},
        "multiscale_metadata": {
            "type": "segmentation" if scale["encoding"] == "compressed_segmentation" else "image",
            "data_type": data.dtype.name,
            "num_channels": channels,
        },
        "scale_metadata": scale | {"size": data.shape[:-4:-1]},
    }
    store = tensorstore.open(spec, create=True, open=True).result()
    store.write(data.reshape(channels, *data.shape[-3:]).T).result()


@pytest.fixture
def image(tmp_path: Path) -> Path:
    folder = tmp_path / "image"
    write(folder, values(), **FINEST)
    write(folder, values((6, 8, 10)), **COARSER)
    return folder


def test_a_folder_with_an_info_file_is_one_volume_with_levels(image: Path):
    volume = open_volume(image)
    assert volume.format == "Neuroglancer precomputed"
    assert [level.shape for level in volume.levels] == [SHAPE, (6, 8, 10)]
    assert [level.voxel_size_nm for level in volume.levels] == [(40, 4, 4), (40, 8, 8)]
    assert volume.origin_nm == (200, 800, 400)
    assert volume.chunks == (4, 8, 8)
    assert list_datasets(image) == ("",)
    box = Box((1, 3, 5), (6, 16, 19))
    np.testing.assert_array_equal(volume.read(box), values()[box.slices])
    np.testing.assert_array_equal(volume.read(Box.whole((6, 8, 10)), level=1), values((6, 8, 10)))
    np.testing.assert_array_equal(volume.dask().compute(), values())


@pytest.mark.parametrize("inner", ["1", "8_8_40"])
def test_one_scale_opens_alone(image: Path, inner: str):
    volume = open_volume(f"{image}::{inner}")
    assert [level.shape for level in volume.levels] == [(6, 8, 10)]
    assert volume.voxel_size_nm == (40, 8, 8)
    assert volume.origin_nm == (200, 800, 400)


def test_an_unknown_scale_lists_the_scales(image: Path):
    with pytest.raises(DatasetChoiceError, match=r"no scale '7'; there are: 4_4_40 \(6x16x20 uint8\), 8_8_40"):
        open_volume(f"{image}::7")


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint32", "uint64", "float32"])
@pytest.mark.parametrize("options", [{}, SHARDED], ids=["chunks", "shards"])
def test_images_and_labels_keep_their_type(tmp_path: Path, dtype: str, options: dict[str, Any]):
    encoding = COMPRESSED if dtype in {"uint32", "uint64"} else {}
    write(tmp_path / "a", values(dtype=dtype), **FINEST | encoding | options)
    volume = open_volume(tmp_path / "a")
    assert volume.dtype == np.dtype(dtype)
    assert volume.chunks == (4, 8, 8)
    np.testing.assert_array_equal(volume.read(Box.whole(SHAPE)), values(dtype=dtype))


def test_a_channel_must_be_picked(tmp_path: Path):
    data = values((2, *SHAPE))
    write(tmp_path / "a", data, channels=2, **FINEST)
    with pytest.raises(VolumeError, match=r"channel axis of length 2: pick one with .*::c=0"):
        open_volume(tmp_path / "a")
    np.testing.assert_array_equal(open_volume(f"{tmp_path}/a::c=1").read(Box.whole(SHAPE)), data[1])


def test_a_missing_chunk_is_zero(image: Path):
    for chunk in (image / "4_4_40").iterdir():
        chunk.unlink()
    assert not open_volume(image).read(Box.whole(SHAPE)).any()


@pytest.mark.parametrize("left", [0, 7, -30])
@pytest.mark.parametrize("encoding", [{}, COMPRESSED, {"encoding": "png"}, {"encoding": "jpeg"}, SHARDED], ids=str)
def test_a_chunk_that_is_cut_off_is_an_error_never_voxels(tmp_path: Path, encoding: dict[str, Any], left: int):
    write(tmp_path / "a", values(dtype="uint32" if encoding is COMPRESSED else "uint8"), **FINEST | encoding)
    for chunk in (tmp_path / "a/4_4_40").iterdir():
        chunk.write_bytes(chunk.read_bytes()[:left])
    volume = open_volume(tmp_path / "a")
    with pytest.raises(VolumeError, match="cannot be read: the file seems damaged"):
        volume.read(Box.whole(SHAPE))


@pytest.mark.parametrize(
    "change",
    [
        "",
        "{",
        "[]",
        "{}",
        '{"scales": []}',
        '{"scales": [{}]}',
        '{"@type": "neuroglancer_legacy_mesh"}',
        {"data_type": "string"},
        {"num_channels": -1},
        {"scales": [{"key": "4_4_40"}]},
        {"@type": "neuroglancer_annotations_v1"},
    ],
    ids=str,
)
def test_a_damaged_info_file_is_said_in_one_sentence(image: Path, change: str | dict[str, Any]):
    info = image / "info"
    info.write_text(change if isinstance(change, str) else json.dumps(json.loads(info.read_text()) | change))
    with pytest.raises(VolumeError, match="image: ") as caught:
        open_volume(image)
    assert "\n" not in str(caught.value)


def test_a_folder_without_info_is_said(tmp_path: Path):
    with pytest.raises(VolumeError, match="has no info file"):
        open_volume(f"precomputed://{tmp_path}/nothing")


def test_a_missing_package_is_named(image: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "tensorstore", None)
    with pytest.raises(VolumeError, match=r"pip install 'napari-tokenunify\[precomputed\]'"):
        open_volume(image)


def test_a_volume_is_never_written_to(image: Path, untouched):
    with untouched(image.parent):
        open_volume(image).checksum()
        with pytest.raises(VolumeError):
            open_volume(f"precomputed://{image.parent}/missing")


def test_a_volume_pickles_and_reads_from_threads(image: Path):
    volume = pickle.loads(pickle.dumps(open_volume(image)))
    with ThreadPoolExecutor(8) as pool:
        blocks = list(pool.map(volume.read, [Box((z, 0, 0), (z + 1, 16, 20)) for z in range(6)] * 4))
    np.testing.assert_array_equal(np.concatenate(blocks[:6]), values())


def test_a_volume_opens_over_http(image: Path, server: str):
    volume = open_volume(f"precomputed://{server}/{image.name}")
    assert volume.checksum() == open_volume(image).checksum()
    assert open_volume(f"precomputed://{server}/{image.name}/::1").voxel_size_nm == (40, 8, 8)
    renamed = image.rename(image.with_name("image.precomputed"))
    assert open_volume(f"{server}/{renamed.name}").shape == SHAPE
    with pytest.raises(VolumeError, match="has no info file"):
        open_volume(f"precomputed://{server}/nothing")


@pytest.mark.slow  # seconds of retries
def test_an_unreachable_host_is_said_in_one_sentence():
    with pytest.raises(VolumeError, match="cannot be reached: check the address and the network"):
        open_volume("precomputed://http://127.0.0.1:9/image")
