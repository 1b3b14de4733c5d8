from __future__ import annotations

import json
import pickle
import shutil
import sys
import warnings
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import ome_zarr.format
import pytest
import zarr
import zarr.codecs as v3
from fsspec.registry import _registry as fsspec_registry

from napari_tokenunify.data import list_datasets, open_volume
from napari_tokenunify.errors import DatasetChoiceError, VolumeError
from napari_tokenunify.geometry import Box

with warnings.catch_warnings():
    warnings.filterwarnings("ignore", "Call to deprecated class Scaler")  # by ome-zarr itself
    import ome_zarr.writer

SHAPE = (6, 9, 13)
ZYX_NM = [{"name": axis, "type": "space", "unit": "nanometer"} for axis in "zyx"]


def values(shape: tuple[int, ...] = SHAPE, dtype: str = "uint8") -> np.ndarray:
    return (np.arange(np.prod(shape)) * 7 % 251).reshape(shape).astype(dtype)


def write(
    folder: Path,
    data: np.ndarray | None = None,
    path: str = "",
    attributes: dict[str, Any] | None = None,
    **options: Any,
) -> np.ndarray:
    data = values() if data is None else data
    options = {"chunks": (4, 8, 8)[: data.ndim], "zarr_format": 3} | options
    array = zarr.create_array(folder, name=path or None, shape=data.shape, dtype=data.dtype, **options)
    array[...] = data
    array.attrs.update(attributes or {})
    return data


def write_image(folder: Path, multiscales: dict[str, Any], arrays: dict[str, np.ndarray], version: str = "0.4") -> None:
    old = version == "0.4"
    content = {"multiscales": [multiscales | ({"version": version} if old else {})]}
    group = zarr.open_group(folder, mode="w", zarr_format=2 if old else 3)
    group.attrs.update(content if old else {"ome": content | {"version": version}})
    for path, data in arrays.items():
        write(folder, data, path, chunks=data.shape, zarr_format=2 if old else 3)


def scales(*levels: list[float], translations: tuple[list[float], ...] = ()) -> list[dict[str, Any]]:
    datasets = [
        {"path": str(n), "coordinateTransformations": [{"type": "scale", "scale": scale}]}
        for n, scale in enumerate(levels)
    ]
    for dataset, translation in zip(datasets, translations, strict=False):
        dataset["coordinateTransformations"].append({"type": "translation", "translation": translation})
    return datasets


def chunk_files(folder: Path) -> list[Path]:
    return [p for p in folder.rglob("*") if p.is_file() and p.name != "zarr.json" and not p.name.startswith(".")]


# --- plain arrays ---------------------------------------------------------------------------------------------------

CODECS = {
    "v2 Blosc": {"zarr_format": 2, "compressors": numcodecs.Blosc("lz4")},
    "v2 Blosc blosclz": {"zarr_format": 2, "compressors": numcodecs.Blosc("blosclz")},
    "v2 gzip": {"zarr_format": 2, "compressors": numcodecs.GZip()},
    "v2 raw": {"zarr_format": 2, "compressors": None},
    "v2 Blosc filter": {"zarr_format": 2, "filters": [numcodecs.Delta("u1"), numcodecs.Blosc()], "compressors": None},
    "v3 Blosc": {"compressors": v3.BloscCodec(cname="lz4")},
    "v3 gzip": {"compressors": v3.GzipCodec()},
    "v3 zstd": {"compressors": v3.ZstdCodec()},
    "v3 raw": {"compressors": None},
    "v3 crc32c": {"compressors": [v3.Crc32cCodec()]},
    "v3 shards of Blosc": {"compressors": v3.BloscCodec(cname="blosclz"), "shards": (8, 16, 16)},
    "v3 shards of zstd": {"compressors": v3.ZstdCodec(), "shards": (8, 16, 16)},
    "v3 shards raw": {"compressors": None, "shards": (8, 16, 16)},
}


@pytest.mark.parametrize("options", CODECS.values(), ids=CODECS)
def test_an_array_reads_the_same_whatever_the_codec(tmp_path: Path, options: dict[str, Any]):
    data = write(tmp_path / "a.zarr", **options)
    volume = open_volume(tmp_path / "a.zarr")
    assert volume.shape == SHAPE
    assert volume.chunks == (4, 8, 8)
    assert volume.format == f"Zarr v{options.get('zarr_format', 3)}"
    box = Box((3, 5, 6), (6, 9, 13))
    np.testing.assert_array_equal(volume.read(box), data[box.slices])
    np.testing.assert_array_equal(volume.dask().compute(), data)


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int32", "uint32", "uint64", "float16", "float32", ">u2", ">u8"])
def test_images_and_labels_keep_their_type(tmp_path: Path, dtype: str, zarr_format: int):
    data = values(dtype=dtype)
    if zarr_format == 2:
        write(tmp_path / "a.zarr", data, zarr_format=2)
    else:
        order = v3.BytesCodec(endian="big" if dtype.startswith(">") else "little")
        write(tmp_path / "a.zarr", data.astype(dtype.strip(">")), serializer=order)
    volume = open_volume(tmp_path / "a.zarr")
    assert volume.dtype == np.dtype(dtype).newbyteorder("=")
    np.testing.assert_array_equal(volume.read(Box.whole(SHAPE)), data)


@pytest.mark.parametrize(
    ("attributes", "voxel_size", "origin"),
    [
        ({}, None, (0, 0, 0)),
        ({"resolution": [40, 4, 4], "offset": [80, 8, 4]}, (40, 4, 4), (80, 8, 4)),
        ({"voxel_size": [50.0, 4.6, 4.6]}, (50, 4.6, 4.6), (0, 0, 0)),
        ({"voxel_size": [0.05, 0.004, 0.004], "units": ["um", "um", "um"]}, (50, 4, 4), (0, 0, 0)),
        ({"resolution": [40, 40, 40], "units": "angstrom", "offset": [10, 0, 0]}, (4, 4, 4), (1, 0, 0)),
        ({"resolution": [4, 4, 4], "units": ["s", "s", "s"]}, None, (0, 0, 0)),
        ({"resolution": [4, 4]}, None, (0, 0, 0)),
        ({"resolution": [4, 0, 4]}, None, (0, 0, 0)),
        ({"resolution": "4 nm"}, None, (0, 0, 0)),
        ({"resolution": [4, 4, 4], "offset": "somewhere"}, (4, 4, 4), (0, 0, 0)),
    ],
)
def test_the_voxel_size_comes_from_the_attributes(tmp_path: Path, attributes: dict[str, Any], voxel_size, origin):
    write(tmp_path / "a.zarr", attributes=attributes)
    volume = open_volume(tmp_path / "a.zarr")
    assert volume.voxel_size_nm == pytest.approx(voxel_size)
    assert volume.origin_nm == pytest.approx(origin)
    assert bool(volume.provenance["voxel_size_source"]) == (voxel_size is not None)


def test_named_dimensions_are_put_in_order(tmp_path: Path):
    data = write(tmp_path / "a.zarr", dimension_names=["x", "z", "y"])
    volume = open_volume(tmp_path / "a.zarr")
    np.testing.assert_array_equal(volume.read(Box.whole(volume.shape)), data.transpose(1, 2, 0))


def test_the_voxel_size_is_in_the_order_of_axes_that_have_names(tmp_path: Path):
    placement = {"voxel_size": [4, 40, 8], "offset": [1, 2, 3]}
    write(tmp_path / "a.zarr", dimension_names=["x", "z", "y"], attributes=placement)
    volume = open_volume(tmp_path / "a.zarr")
    assert volume.voxel_size_nm == (40, 8, 4)
    assert volume.origin_nm == (2, 3, 1)


@pytest.mark.parametrize("attributes", [{}, {"axis_names": ["c^", "z", "y", "x"]}])
def test_a_channel_must_be_picked(tmp_path: Path, attributes: dict[str, Any]):
    data = write(tmp_path / "a.zarr", values((2, 5, 6, 7)), attributes=attributes, chunks=(1, 5, 6, 7))
    with pytest.raises(VolumeError, match=r"channel axis of length 2: pick one with .*::c=0"):
        open_volume(tmp_path / "a.zarr")
    volume = open_volume(f"{tmp_path / 'a.zarr'}::c=1")
    np.testing.assert_array_equal(volume.read(Box.whole(volume.shape)), data[1])


# --- groups ---------------------------------------------------------------------------------------------------------


@pytest.fixture(params=[2, 3], ids=["v2", "v3"])
def cremi(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    folder = tmp_path / "sample.zarr"
    zarr.open_group(folder, mode="w", zarr_format=request.param)
    write(folder, path="volumes/raw", zarr_format=request.param, attributes={"resolution": [40, 4, 4]})
    write(folder, values(dtype="uint64"), path="volumes/labels/neuron_ids", zarr_format=request.param)
    write(folder, values((5, 5)), path="annotations/partners", zarr_format=request.param)
    return folder


def test_a_group_lists_what_is_in_it(cremi: Path):
    assert list_datasets(cremi) == ("volumes/raw", "volumes/labels/neuron_ids")
    assert list_datasets(f"{cremi}::volumes") == ("volumes/raw", "volumes/labels/neuron_ids")
    with pytest.raises(DatasetChoiceError, match=r"name one, e\.g\. .*::volumes/raw\. .*6x9x13 uint64"):
        open_volume(cremi)


@pytest.mark.parametrize("inner", ["::volumes/raw", "/volumes/raw", "::/volumes/raw/"])
def test_an_array_in_a_group_opens_by_its_path(cremi: Path, inner: str):
    volume = open_volume(f"{cremi}{inner}")
    assert volume.voxel_size_nm == (40, 4, 4)
    assert volume.provenance["inner"] == "volumes/raw"
    np.testing.assert_array_equal(volume.read(Box.whole(SHAPE)), values())


def test_the_only_volume_in_a_group_opens(cremi: Path):
    volume = open_volume(f"{cremi}::volumes/labels")
    assert volume.provenance["inner"] == "volumes/labels/neuron_ids"
    assert volume.dtype == np.uint64


@pytest.mark.parametrize("inner", ["volumes/row", "volumes/raw/more", "0"])
def test_a_missing_inner_path_lists_what_is_there(cremi: Path, inner: str):
    with pytest.raises(DatasetChoiceError, match=f"no dataset '{inner}' inside.*volumes/raw") as caught:
        open_volume(f"{cremi}::{inner}")
    assert [c.inner for c in caught.value.candidates] == ["volumes/raw", "volumes/labels/neuron_ids"]


def test_a_2d_array_is_refused(cremi: Path):
    with pytest.raises(VolumeError, match="2-D image"):
        open_volume(f"{cremi}::annotations/partners")


def test_a_large_group_is_listed_in_part(tmp_path: Path):
    zarr.open_group(tmp_path / "a.zarr", mode="w")
    write(tmp_path / "a.zarr", values((2, 2, 2)), "0")
    for number in range(1, 320):
        (tmp_path / "a.zarr" / str(number)).mkdir()
        shutil.copy(tmp_path / "a.zarr/0/zarr.json", tmp_path / "a.zarr" / str(number))
    assert len(list_datasets(tmp_path / "a.zarr")) == 300
    assert open_volume(tmp_path / "a.zarr" / "319").shape == (2, 2, 2)


def test_a_group_without_metadata_of_its_own_still_lists(cremi: Path):
    for name in ("zarr.json", ".zgroup"):
        (cremi / name).unlink(missing_ok=True)
    assert list_datasets(cremi) == ("volumes/raw", "volumes/labels/neuron_ids")
    assert open_volume(f"{cremi}::volumes/raw").shape == SHAPE


# --- OME-Zarr -------------------------------------------------------------------------------------------------------

FORMATS = {"0.4": ome_zarr.format.FormatV04(), "0.5": ome_zarr.format.FormatV05()}


@pytest.fixture(params=FORMATS)
def ome(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """An image with two levels and a label image with two, written by ome-zarr."""
    folder, version = tmp_path / "image.zarr", FORMATS[request.param]
    group = zarr.open_group(folder, mode="w", zarr_format=version.zarr_format)
    options = {
        "axes": "zyx",
        "axes_units": dict.fromkeys("zyx", "nanometer"),
        "scale": {"z": 40, "y": 4, "x": 4},
        "scale_factors": [{"z": 1, "y": 2, "x": 2}],
        "fmt": version,
    }
    ome_zarr.writer.write_image(values((6, 16, 20)), group, **options)
    labels = values((6, 16, 20), "uint32")
    ome_zarr.writer.write_labels(labels, group, "neurons", scaler=None, **options)
    return folder


def test_an_image_is_one_volume_with_levels(ome: Path, request: pytest.FixtureRequest):
    volume = open_volume(ome)
    assert volume.format == f"OME-Zarr {request.node.callspec.params['ome']}"
    assert [level.shape for level in volume.levels] == [(6, 16, 20), (6, 8, 10)]
    assert [level.voxel_size_nm for level in volume.levels] == [(40, 4, 4), (40, 8, 8)]
    assert volume.origin_nm == (0, 0, 0)
    assert volume.provenance["voxel_size_source"] == "multiscales metadata"
    np.testing.assert_array_equal(volume.read(Box.whole((6, 16, 20))), values((6, 16, 20)))


def test_an_image_opens_though_it_has_labels_and_these_are_offered(ome: Path):
    assert list_datasets(ome) == ("", "labels/neurons")
    labels = open_volume(f"{ome}::labels/neurons")
    assert labels.dtype == np.uint32
    assert len(labels.levels) == 2
    assert labels.voxel_size_nm == (40, 4, 4)
    assert list_datasets(f"{ome}::labels") == ("",)


@pytest.mark.parametrize("inner", ["::s1", "/s1", "::1"])
def test_one_level_opens_with_its_own_voxel_size_at_the_same_corner(ome: Path, inner: str):
    level = open_volume(f"{ome}{inner}")
    assert len(level.levels) == 1
    assert level.shape == (6, 8, 10)
    assert level.voxel_size_nm == (40, 8, 8)
    assert level.origin_nm == (0, 0, 0)
    assert level.provenance["inner"] == "s1"


def test_a_missing_level_lists_levels_and_labels(ome: Path):
    with pytest.raises(DatasetChoiceError, match=r"no dataset '7' inside.*s0 .*s1 .*labels/neurons"):
        open_volume(f"{ome}::7")


def test_an_image_in_a_group_is_the_one_meant_before_its_labels(ome: Path, tmp_path: Path):
    zarr.open_group(tmp_path / "plate.zarr", mode="w", zarr_format=2 if (ome / ".zgroup").exists() else 3)
    shutil.copytree(ome, tmp_path / "plate.zarr" / "0")
    assert list_datasets(tmp_path / "plate.zarr") == ("", "0/labels/neurons")
    shutil.copytree(ome, tmp_path / "plate.zarr" / "1")
    assert list_datasets(tmp_path / "plate.zarr") == ("0", "1", "0/labels/neurons", "1/labels/neurons")


def test_a_level_in_a_folder_without_ending_knows_its_image(ome: Path, tmp_path: Path):
    moved = tmp_path / "image"
    shutil.copytree(ome, moved)
    assert open_volume(moved).voxel_size_nm == (40, 4, 4)
    level = open_volume(moved / "s1")
    assert level.voxel_size_nm == (40, 8, 8)
    assert level.provenance["inner"] == ""
    with pytest.raises(DatasetChoiceError, match=r"e\.g\. .*image/labels::neurons\."):
        open_volume(f"{moved / 'labels'}::neurons/s7")


@pytest.mark.parametrize(
    ("unit", "voxel_size"),
    [
        ("nanometer", (8, 8, 8)),
        ("micrometer", (8e3, 8e3, 8e3)),
        ("\N{MICRO SIGN}m", (8e3, 8e3, 8e3)),
        ("angstrom", (0.8, 0.8, 0.8)),
        ("millimeter", (8e6, 8e6, 8e6)),
        ("nanometres", (8, 8, 8)),
        ("parsec", None),
        (None, None),
    ],
)
def test_units_become_nanometres(tmp_path: Path, unit: str | None, voxel_size):
    axes = [{"name": axis, "type": "space"} | ({"unit": unit} if unit else {}) for axis in "zyx"]
    write_image(tmp_path / "a.zarr", {"axes": axes, "datasets": scales([8, 8, 8])}, {"0": values()})
    assert open_volume(tmp_path / "a.zarr").voxel_size_nm == pytest.approx(voxel_size)


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_the_transformations_of_datasets_and_image_combine(tmp_path: Path, version: str):
    multiscales = {
        "axes": [{"name": "c", "type": "channel"}, *ZYX_NM],
        "datasets": scales([1, 10, 1, 1], [1, 10, 2, 2], translations=([0, 5, 3, 2], [0, 5, 3.5, 2.5])),
        "coordinateTransformations": [
            {"type": "scale", "scale": [1, 4, 4, 4]},
            {"type": "translation", "translation": [0, 100, 0, 0]},
        ],
    }
    arrays = {"0": values((2, 4, 6, 8)), "1": values((2, 4, 3, 4))}
    write_image(tmp_path / "a.zarr", multiscales, arrays, version)
    volume = open_volume(f"{tmp_path / 'a.zarr'}::c=1")
    assert [level.voxel_size_nm for level in volume.levels] == [(40, 4, 4), (40, 8, 8)]
    assert volume.origin_nm == (120, 12, 8)
    assert open_volume(f"{tmp_path / 'a.zarr'}::1::c=1").origin_nm == (120, 12, 8)
    np.testing.assert_array_equal(volume.read(Box.whole((4, 3, 4)), level=1), arrays["1"][1])


def test_axes_in_another_order_are_turned(tmp_path: Path):
    axes = [{"name": axis, "type": "space", "unit": "nanometer"} for axis in "xyz"]
    write_image(tmp_path / "a.zarr", {"axes": axes, "datasets": scales([4, 5, 40])}, {"0": values()})
    volume = open_volume(tmp_path / "a.zarr")
    assert volume.voxel_size_nm == (40, 5, 4)
    np.testing.assert_array_equal(volume.read(Box.whole(volume.shape)), values().T)


@pytest.mark.parametrize("axes", [None, ["t", "c", "z", "y", "x"]])
def test_an_old_image_without_scales_opens_with_unknown_voxel_size(tmp_path: Path, axes: list[str] | None):
    multiscales = {"datasets": [{"path": "0"}, {"path": "1"}]} | ({"axes": axes} if axes else {})
    write_image(tmp_path / "a.zarr", multiscales, {"0": values((1, 1, *SHAPE)), "1": values((1, 1, 3, 4, 6))})
    volume = open_volume(tmp_path / "a.zarr")
    assert volume.voxel_size_nm is None
    assert len(volume.levels) == 2


def test_a_lost_level_is_left_out_unless_it_is_the_finest(ome: Path):
    shutil.rmtree(ome / "s1")
    assert len(open_volume(ome).levels) == 1
    shutil.rmtree(ome / "s0")
    with pytest.raises(VolumeError, match="finest level 's0' of the image is missing"):
        open_volume(ome)


# --- zip files ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "wrapped"), [("a.zarr.zip", False), ("a.zip", True), ("a.ozx", False), ("a.zarr", True)]
)
def test_a_zipped_store_opens(cremi: Path, tmp_path: Path, name: str, wrapped: bool):
    packed = tmp_path / "zipped" / name
    packed.parent.mkdir()
    with zipfile.ZipFile(packed, "w") as archive:
        for file in sorted(p for p in cremi.rglob("*") if p.is_file()):
            archive.write(file, file.relative_to(cremi.parent if wrapped else cremi))
    assert list_datasets(packed) == ("volumes/raw", "volumes/labels/neuron_ids")
    volume = open_volume(f"{packed}::volumes/raw")
    assert volume.voxel_size_nm == (40, 4, 4)
    with ThreadPoolExecutor(4) as pool:
        blocks = list(pool.map(volume.read, [Box.whole(SHAPE)] * 8))
    assert all(np.array_equal(block, values()) for block in blocks)


# --- damage ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("left", [0, 15, 0.5, -1])
@pytest.mark.parametrize("options", CODECS.values(), ids=CODECS)
def test_a_chunk_that_is_cut_off_is_an_error_never_voxels(tmp_path: Path, options: dict[str, Any], left: float):
    data = np.random.default_rng(0).integers(0, 255, (4, 8, 8)).astype("uint8") // 16
    write(tmp_path / "a.zarr", data, **(options | {"shards": (4, 8, 8)} if "shards" in options else options))
    (chunk,) = chunk_files(tmp_path / "a.zarr")
    content = chunk.read_bytes()
    chunk.write_bytes(content[: int(len(content) * left) if isinstance(left, float) else left])
    volume = open_volume(tmp_path / "a.zarr")
    with pytest.raises(VolumeError, match=r"a\.zarr: the box .* cannot be read: the file seems damaged"):
        volume.read(Box((0, 0, 0), (2, 2, 2)))


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_a_missing_chunk_holds_the_fill_value(tmp_path: Path, zarr_format: int):
    write(tmp_path / "a.zarr", zarr_format=zarr_format, fill_value=9)
    for chunk in chunk_files(tmp_path / "a.zarr"):
        chunk.unlink()
    assert (open_volume(tmp_path / "a.zarr").read(Box.whole(SHAPE)) == 9).all()


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "{}", '{"zarr_format": 3, "node_type": "array"}', '{"zarr_format": 9}', "\0\1", "[" * 99999],
)
@pytest.mark.parametrize(("name", "zarr_format"), [(".zarray", 2), ("zarr.json", 3)])
def test_damaged_metadata_is_said_in_one_sentence(tmp_path: Path, content: str, name: str, zarr_format: int):
    write(tmp_path / "a.zarr", zarr_format=zarr_format)
    (tmp_path / "a.zarr" / name).write_text(content)
    with pytest.raises(VolumeError, match=r"a\.zarr: ") as caught:
        open_volume(tmp_path / "a.zarr")
    assert "\n" not in str(caught.value)


def test_one_damaged_array_does_not_hide_the_others(cremi: Path):
    (metadata,) = (p for p in (cremi / "volumes/raw").iterdir() if p.name in {"zarr.json", ".zarray"})
    metadata.write_text("{")
    assert open_volume(cremi).provenance["inner"] == "volumes/labels/neuron_ids"
    with pytest.raises(VolumeError, match="metadata of 'volumes/raw' cannot be used"):
        open_volume(f"{cremi}::volumes/raw")


@pytest.mark.parametrize("multiscales", [[], {}, [{}], [{"datasets": []}], [{"datasets": [{"path": 5}]}], "x", None])
def test_strange_multiscales_make_a_plain_group(tmp_path: Path, multiscales: object):
    group = zarr.open_group(tmp_path / "a.zarr", mode="w")
    group.attrs["multiscales"] = multiscales
    write(tmp_path / "a.zarr", path="raw")
    assert open_volume(tmp_path / "a.zarr").provenance["inner"] == "raw"


def test_a_lost_zarr_json_is_said(tmp_path: Path):
    write(tmp_path / "a.zarr")
    (tmp_path / "a.zarr" / "zarr.json").unlink()
    with pytest.raises(VolumeError, match=r"no Zarr store, or one that lost its zarr\.json"):
        open_volume(tmp_path / "a.zarr")


def test_a_file_that_is_no_zip_is_said(tmp_path: Path):
    (tmp_path / "a.zarr").write_bytes(b"PK\3\4 cut off")
    with pytest.raises(VolumeError, match="neither a folder nor a whole zip file"):
        open_volume(tmp_path / "a.zarr")


class _Trap:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("place", ["compressor", "filters"])
def test_pickles_are_never_executed(tmp_path: Path, place: str):
    write(tmp_path / "a.zarr", values((4, 8, 8)), zarr_format=2, compressors=None)
    metadata = json.loads((tmp_path / "a.zarr" / ".zarray").read_text())
    pickler = {"id": "pickle", "protocol": 4}
    metadata[place] = [pickler] if place == "filters" else pickler
    (tmp_path / "a.zarr" / ".zarray").write_text(json.dumps(metadata))
    (chunk,) = chunk_files(tmp_path / "a.zarr")
    chunk.write_bytes(pickle.dumps(_Trap(tmp_path / "executed")))
    with pytest.raises(VolumeError):
        open_volume(tmp_path / "a.zarr").read(Box((0, 0, 0), (1, 1, 1)))
    assert not (tmp_path / "executed").exists()


# --- use ------------------------------------------------------------------------------------------------------------


def test_a_store_is_never_written_to(ome: Path, untouched):
    with untouched(ome.parent):
        for uri in (ome, f"{ome}::labels/neurons", f"{ome}::s1"):
            open_volume(uri).checksum()
        list_datasets(ome)
        for missing in (f"{ome}::nothing", ome.with_name("missing.zarr")):
            with pytest.raises(VolumeError):
                open_volume(missing)


def test_a_volume_pickles_and_reads_from_threads(ome: Path):
    volume = pickle.loads(pickle.dumps(open_volume(f"{ome}::labels/neurons")))
    expected = values((6, 16, 20), "uint32")
    with ThreadPoolExecutor(8) as pool:
        blocks = list(pool.map(volume.read, [Box((z, 0, 0), (z + 1, 16, 20)) for z in range(6)] * 4))
    np.testing.assert_array_equal(np.concatenate(blocks[:6]), expected)
    np.testing.assert_array_equal(volume.dask().compute(scheduler="threads"), expected)


# --- network --------------------------------------------------------------------------------------------------------


def test_an_image_opens_over_http(ome: Path, server: str):
    volume = open_volume(f"{server}/{ome.name}")
    assert volume.voxel_size_nm == (40, 4, 4)
    assert volume.checksum() == open_volume(ome).checksum()
    assert list_datasets(f"{server}/{ome.name}/") == ("", "labels/neurons")
    assert open_volume(f"{server}/{ome.name}::labels/neurons").dtype == np.uint32
    assert open_volume(f"{server}/{ome.name}/s1").voxel_size_nm == (40, 8, 8)
    assert pickle.loads(pickle.dumps(volume)).shape == volume.shape


def test_a_dataset_must_be_named_where_nothing_can_be_listed(cremi: Path, server: str):
    address = f"{server}/{cremi.name}"
    assert open_volume(f"{address}::volumes/raw").voxel_size_nm == (40, 4, 4)
    for uri in (address, f"{address}::volumes", f"{address}::nothing"):
        with pytest.raises(VolumeError, match=f"cannot list .* name the dataset, e.g. {address}::volumes/raw"):
            open_volume(uri)


@pytest.mark.filterwarnings("ignore:Consolidated metadata is currently not part")
def test_consolidated_metadata_lists_over_http(cremi: Path, server: str):
    zarr.consolidate_metadata(cremi)
    address = f"{server}/{cremi.name}"
    assert list_datasets(address) == ("volumes/raw", "volumes/labels/neuron_ids")
    assert list_datasets(f"{address}::volumes") == ("volumes/raw", "volumes/labels/neuron_ids")
    assert open_volume(f"{address}::volumes/labels").dtype == np.uint64
    with pytest.raises(DatasetChoiceError, match=r"no dataset 'nothing' inside.*volumes/raw"):
        open_volume(f"{address}::nothing")


def test_a_cut_off_chunk_over_http_is_an_error(server: str, tmp_path: Path):
    write(tmp_path / "a.zarr", values((4, 8, 8)))
    (chunk,) = chunk_files(tmp_path / "a.zarr")
    chunk.write_bytes(chunk.read_bytes()[:-5])
    with pytest.raises(VolumeError, match="seems damaged"):
        open_volume(f"{server}/a.zarr").read(Box((0, 0, 0), (1, 1, 1)))


def test_a_wrong_address_is_said_in_one_sentence(server: str):
    with pytest.raises(VolumeError, match=r"no Zarr store is there.*precomputed://"):
        open_volume(f"{server}/nothing.zarr")


@pytest.mark.parametrize("host", ["127.0.0.1:9", "no-such-host.invalid"])
def test_an_unreachable_host_is_said_in_one_sentence(host: str, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("aiohttp")
    monkeypatch.setenv("NO_PROXY", "*")
    with pytest.raises(VolumeError, match=r"cannot be reached: check the address and the network \(") as caught:
        open_volume(f"http://{host}/a.zarr")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("scheme", "package"), [("http", "aiohttp"), ("s3", "s3fs"), ("gs", "gcsfs")])
def test_a_missing_package_is_named(scheme: str, package: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(fsspec_registry, scheme, raising=False)
    with pytest.raises(VolumeError, match=r"pip install 'napari-tokenunify\[cloud\]'"):
        open_volume(f"{scheme}://bucket/a.zarr")
