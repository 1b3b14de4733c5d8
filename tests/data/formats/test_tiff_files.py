from __future__ import annotations

import gc
import weakref
from pathlib import Path

import numpy as np
import pytest
import tifffile

from napari_tokenunify.data import list_datasets, open_volume
from napari_tokenunify.errors import DatasetChoiceError, VolumeError
from napari_tokenunify.geometry import Box

STACK = np.random.default_rng(0).integers(0, 60_000, (12, 50, 70), np.uint16)
WHOLE = Box.whole(STACK.shape)
OME_SIZES = {"PhysicalSizeX": 4.0, "PhysicalSizeY": 4.0, "PhysicalSizeZ": 40.0}
OME_NM = {f"PhysicalSize{axis}Unit": "nm" for axis in "XYZ"}


def _read(uri: object) -> np.ndarray:
    volume = open_volume(str(uri))
    return volume.read(Box.whole(volume.shape))


def test_the_pages_of_a_plain_stack_are_sections_and_the_voxel_size_is_unknown(tmp_path: Path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, STACK, metadata=None, resolution=(72, 72), resolutionunit="INCH")
    volume = open_volume(path)
    assert (volume.shape, volume.format, volume.voxel_size_nm) == (STACK.shape, "TIFF", None)
    assert volume.provenance["voxel_size_source"] == ""
    np.testing.assert_array_equal(volume.read(WHOLE), STACK)


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ({**OME_SIZES, **OME_NM}, (40.0, 4.0, 4.0)),
        ({"PhysicalSizeX": 0.004, "PhysicalSizeY": 0.004, "PhysicalSizeZ": 0.04}, (40.0, 4.0, 4.0)),
        ({**OME_SIZES, **OME_NM, "PhysicalSizeXUnit": "Å"}, (40.0, 4.0, 0.4)),
        ({**OME_SIZES, **OME_NM, "PhysicalSizeXUnit": "pixel"}, None),
        ({**OME_SIZES, **OME_NM, "PhysicalSizeZUnit": "reference frame"}, None),
        ({"PhysicalSizeX": 4.0, "PhysicalSizeY": 4.0}, None),
        ({}, None),
    ],
)
def test_ome_gives_the_voxel_size_if_all_three_are_lengths(tmp_path: Path, sizes: dict, expected: tuple | None):
    tifffile.imwrite(tmp_path / "a.ome.tif", STACK, metadata={"axes": "ZYX", **sizes})
    volume = open_volume(tmp_path / "a.ome.tif")
    assert volume.format == "OME-TIFF"
    assert volume.voxel_size_nm == (None if expected is None else pytest.approx(expected))
    assert volume.provenance["voxel_size_source"] == ("" if expected is None else "OME-XML")


@pytest.mark.parametrize(
    ("metadata", "pixels_per_unit", "expected"),
    [
        ({"spacing": 40.0, "unit": "nm"}, (1 / 4, 1 / 8), (40.0, 8.0, 4.0)),
        ({"spacing": 0.04, "unit": "micron"}, (250, 125), (40.0, 8.0, 4.0)),
        ({"spacing": 0.04, "unit": r"\u00B5m"}, (250, 125), (40.0, 8.0, 4.0)),
        ({"spacing": 40.0, "unit": "um", "zunit": "nm"}, (250, 125), (40.0, 8.0, 4.0)),
        ({"unit": "nm"}, (1 / 4, 1 / 4), None),
        ({"spacing": 40.0}, (1 / 4, 1 / 4), None),
        ({"spacing": 1.0, "unit": "pixel"}, (1, 1), None),
        ({"spacing": 1.0, "unit": "inch"}, (72, 72), None),
        ({"spacing": 40.0, "unit": "nm"}, None, None),
    ],
)
def test_imagej_gives_the_voxel_size_if_its_unit_is_a_length(
    tmp_path: Path, metadata: dict, pixels_per_unit: tuple | None, expected: tuple | None
):
    options = {} if pixels_per_unit is None else {"resolution": pixels_per_unit}
    tifffile.imwrite(tmp_path / "a.tif", STACK, imagej=True, metadata={"axes": "ZYX", **metadata}, **options)
    if pixels_per_unit is None:
        with tifffile.TiffFile(tmp_path / "a.tif", mode="r+") as tif:
            tif.pages[0].tags["XResolution"].overwrite((0, 1))
    volume = open_volume(tmp_path / "a.tif")
    assert volume.format == "ImageJ TIFF"
    assert volume.voxel_size_nm == (None if expected is None else pytest.approx(expected, rel=1e-4))


def test_an_imagej_stack_with_one_header_is_read_whole(tmp_path: Path):
    """As ImageJ writes stacks above 4 GB: only the first section has a header, the values follow each other."""
    tifffile.imwrite(tmp_path / "a.tif", STACK, imagej=True, truncate=True, metadata={"axes": "ZYX"})
    with tifffile.TiffFile(tmp_path / "a.tif") as tif:
        assert len(tif.pages) == 1
    np.testing.assert_array_equal(_read(tmp_path / "a.tif"), STACK)
    data = (tmp_path / "a.tif").read_bytes()
    (tmp_path / "a.tif").write_bytes(data[:-1000])
    with pytest.raises(VolumeError, match=r"cut off|does not fit"):
        open_volume(tmp_path / "a.tif")


def test_the_pyramid_of_an_ome_tiff_gives_levels(tmp_path: Path):
    path = tmp_path / "a.ome.tif"
    parts = [STACK[:, :: 2**n, :: 2**n] for n in range(3)]
    with tifffile.TiffWriter(path) as file:
        file.write(parts[0], subifds=2, tile=(16, 16), metadata={"axes": "ZYX", **OME_SIZES, **OME_NM})
        for part in parts[1:]:
            file.write(part, subfiletype=1, tile=(16, 16))
    volume = open_volume(path)
    assert [level.voxel_size_nm for level in volume.levels] == [(40, 4, 4), (40, 8, 8), (40, 16, 16)]
    for number, part in enumerate(parts):
        np.testing.assert_array_equal(volume.read(Box.whole(part.shape), number), part)


@pytest.mark.parametrize("options", [{}, {"compression": "zlib"}])
def test_a_channel_is_picked_from_colours(tmp_path: Path, options: dict):
    colours = np.stack([STACK, STACK // 2, STACK // 3], -1)
    tifffile.imwrite(tmp_path / "a.tif", colours, photometric="rgb", metadata=None, **options)
    with pytest.raises(VolumeError, match=r"channel axis of length 3: pick one with .*::c=0 \(0 to 2\)"):
        open_volume(tmp_path / "a.tif")
    np.testing.assert_array_equal(_read(f"{tmp_path / 'a.tif'}::c=2"), STACK // 3)


@pytest.mark.parametrize("imagej", [False, True])
def test_channels_and_times_of_a_hyperstack_are_picked(tmp_path: Path, imagej: bool):
    name = "a.tif" if imagej else "a.ome.tif"
    hyperstack = np.arange(2 * 3 * 4).reshape(2, 3, 4, 1, 1) + np.zeros((2, 3, 4, 9, 8), int)
    tifffile.imwrite(tmp_path / name, hyperstack.astype(np.uint16), imagej=imagej, metadata={"axes": "TZCYX"})
    volume = open_volume(f"{tmp_path / name}::c=3,t=1")
    assert volume.shape == (3, 9, 8)
    assert volume.read(Box.whole(volume.shape))[:, 0, 0].tolist() == [15, 19, 23]


def test_frames_without_depth_are_refused_with_what_to_do(tmp_path: Path):
    tifffile.imwrite(tmp_path / "a.tif", STACK, imagej=True, metadata={"axes": "TYX"})
    with pytest.raises(VolumeError, match=r"none of depth.*save them as slices"):
        open_volume(tmp_path / "a.tif")


def test_one_page_is_a_2d_image(tmp_path: Path):
    tifffile.imwrite(tmp_path / "a.tif", STACK[0])
    with pytest.raises(VolumeError, match="one 2-D image"):
        open_volume(tmp_path / "a.tif")


@pytest.mark.parametrize("options", [{}, {"compression": "zlib"}])
def test_one_section_whose_depth_is_said_is_a_volume(tmp_path: Path, options: dict):
    tifffile.imwrite(tmp_path / "a.ome.tif", STACK[:1], metadata={"axes": "ZYX", **OME_SIZES, **OME_NM}, **options)
    volume = open_volume(tmp_path / "a.ome.tif")
    assert volume.shape == (1, *STACK.shape[1:])
    assert volume.voxel_size_nm is not None
    np.testing.assert_array_equal(np.asarray(volume.dask()), STACK[:1])
    tifffile.imwrite(tmp_path / "b.ome.tif", STACK[:1], metadata={"axes": "ZYX"}, **options)
    with pytest.raises(VolumeError, match="one 2-D image"):
        open_volume(tmp_path / "b.ome.tif")


def test_several_series_are_chosen_by_number(tmp_path: Path):
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as file:
        file.write(STACK)
        file.write(STACK[:5, :20].astype(np.uint8))
    with pytest.raises(DatasetChoiceError, match=r"series0 \(12x50x70 uint16\), series1 \(5x20x70 uint8\)"):
        open_volume(path)
    assert list_datasets(path) == ("series0", "series1")
    np.testing.assert_array_equal(_read(f"{path}::series1"), STACK[:5, :20].astype(np.uint8))
    assert open_volume(f"{path}::series1").provenance["inner"] == "series1"
    with pytest.raises(DatasetChoiceError, match="no dataset 'series2'"):
        open_volume(f"{path}::series2")


@pytest.mark.parametrize("odd", [0, 5, 7, 11])
def test_a_section_of_another_size_is_never_left_out_without_a_word(tmp_path: Path, odd: int):
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as file:
        for number, section in enumerate(STACK):
            file.write(section[:40] if number == odd else section, metadata=None, compression="zlib")
    with pytest.raises(VolumeError, match=r"of (different|another) size or type"):
        open_volume(path)


def test_the_sections_of_equal_size_can_be_asked_for(tmp_path: Path):
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as file:
        for section in (*STACK[:3], STACK[3, :40]):
            file.write(section, metadata=None)
    with pytest.raises(DatasetChoiceError, match=r"the first is page 3: .* a\.tif::series0|series0"):
        open_volume(path)
    np.testing.assert_array_equal(_read(f"{path}::series0"), STACK[:3])


def test_a_small_picture_of_the_stack_beside_it_is_no_odd_section(tmp_path: Path):
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as file:
        for section in STACK[:3]:
            file.write(section, metadata=None)
        file.write(STACK[0, ::5, ::5], metadata=None, subfiletype=1)
    np.testing.assert_array_equal(_read(path), STACK[:3])


WRITTEN = {
    "plain": {"metadata": None},
    "described": {},
    "strips": {"metadata": None, "compression": "zlib", "rowsperstrip": 16},
    "tiles": {"metadata": None, "tile": (16, 16), "bigtiff": True},
    "ImageJ": {"imagej": True, "metadata": {"axes": "ZYX"}},
    "OME": {"ome": True, "metadata": {"axes": "ZYX"}, "compression": "zlib"},
}


@pytest.mark.parametrize("options", WRITTEN.values(), ids=WRITTEN)
@pytest.mark.parametrize("part", [0.001, 0.01, 0.2, 0.5, 0.8, 0.95, 0.99])
def test_a_truncated_file_is_refused_and_never_padded(tmp_path: Path, options: dict, part: float):
    tifffile.imwrite(tmp_path / "whole.tif", STACK, **options)
    data = (tmp_path / "whole.tif").read_bytes()
    (tmp_path / "cut.tif").write_bytes(data[: int(len(data) * part)])
    with pytest.raises(VolumeError) as caught:
        open_volume(tmp_path / "cut.tif")
    assert "\n" not in str(caught.value)


def test_an_ome_tiff_of_several_files_is_read_whole_or_not_at_all(tmp_path: Path):
    paths = [tmp_path / "first.ome.tif", tmp_path / "second.ome.tif"]
    blocks = "".join(
        f'<TiffData FirstZ="{6 * n}" IFD="0" PlaneCount="6"><UUID FileName="{path.name}">urn:uuid:{n}</UUID></TiffData>'
        for n, path in enumerate(paths)
    )
    for n, path in enumerate(paths):
        xml = (
            f'<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="urn:uuid:{n}"><Image ID="Image:0">'
            '<Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint16" SizeX="70" SizeY="50" SizeZ="12" SizeC="1" '
            f'SizeT="1"><Channel ID="Channel:0:0" SamplesPerPixel="1"/>{blocks}</Pixels></Image></OME>'
        )
        part = STACK[6 * n : 6 * n + 6]
        tifffile.imwrite(path, part, description=xml, metadata=None, compression="zlib", byteorder="<>"[n])
    np.testing.assert_array_equal(_read(paths[0]), STACK)
    paths[1].unlink()
    with pytest.raises(VolumeError, match="12 sections, but only 6 are there"):
        open_volume(paths[0])


def test_a_description_that_does_not_fit_the_pages_is_refused(tmp_path: Path):
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(path, STACK, metadata={"axes": "ZYX"})
    path.write_bytes(path.read_bytes().replace(b"<Pixels", b"<Pix ls"))
    with pytest.raises(VolumeError, match="description that does not fit its pages"):
        open_volume(path)


@pytest.mark.parametrize("dtype", ["bool", "complex64"])
def test_what_is_neither_intensity_nor_label_is_refused(tmp_path: Path, dtype: str):
    tifffile.imwrite(tmp_path / "a.tif", STACK.astype(dtype), photometric="minisblack")
    with pytest.raises(VolumeError, match=f"has the data type {dtype}"):
        open_volume(tmp_path / "a.tif")


def test_a_codec_that_is_not_there_is_named(tmp_path: Path):
    tifffile.imwrite(tmp_path / "a.tif", STACK, metadata=None, compression="zlib")
    with tifffile.TiffFile(tmp_path / "a.tif", mode="r+") as tif:
        for page in tif.pages:
            page.tags["Compression"].overwrite(34676)  # SGILOG, which nothing here decodes
    with pytest.raises(VolumeError, match=r"cannot be decoded here .*SGILOG.*install imagecodecs"):
        open_volume(tmp_path / "a.tif")


def test_an_open_volume_does_not_hold_what_tifffile_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Thousands of pages with thousands of tiles each would stay in memory as Python numbers."""
    frames: list[weakref.ref] = []
    made = tifffile.TiffPageSeries.__init__

    def noted(series: tifffile.TiffPageSeries, *args: object, **kwargs: object) -> None:
        made(series, *args, **kwargs)
        frames.append(weakref.ref(series))

    monkeypatch.setattr(tifffile.TiffPageSeries, "__init__", noted)
    tifffile.imwrite(tmp_path / "a.tif", STACK, metadata=None, compression="zlib")
    volume = open_volume(tmp_path / "a.tif")
    gc.collect()
    assert frames
    assert not [frame for frame in frames if frame() is not None]
    np.testing.assert_array_equal(volume.read(WHOLE), STACK)


def test_a_file_on_a_network_is_refused():
    with pytest.raises(VolumeError, match="download it first"):
        open_volume("https://example.org/stack.tif")
