from __future__ import annotations

import struct
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import tifffile

from napari_tokenunify.data import open_volume
from napari_tokenunify.data.formats import section_files
from napari_tokenunify.data.formats.section_files import natural_key
from napari_tokenunify.errors import VolumeError
from napari_tokenunify.geometry import Box

STACK = np.random.default_rng(0).integers(0, 255, (12, 20, 30), np.uint8)


def _write(folder: Path, stack: np.ndarray, ending: str, first: int = 0) -> Path:
    folder.mkdir(exist_ok=True)
    for number, section in enumerate(stack, first):
        path = folder / f"section {number}.{ending}"
        if ending.startswith("tif"):
            tifffile.imwrite(path, section, photometric="rgb" if section.ndim == 3 else "minisblack")
        else:
            PIL.Image.fromarray(section).save(path)
    return folder


def test_names_with_numbers_sort_as_people_do():
    names = ["s10.png", "s2.png", "S1.png", "s2b.png", "s2a.png", "10.png", "9.png", "s1_z12.png", "s1_z3.png"]
    assert sorted(names, key=natural_key) == [
        "9.png", "10.png", "S1.png", "s1_z3.png", "s1_z12.png", "s2.png", "s2a.png", "s2b.png", "s10.png"
    ]  # fmt: skip


@pytest.mark.parametrize("ending", ["png", "tif", "TIFF", "PNG"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_sections_are_read_in_natural_order(tmp_path: Path, ending: str, dtype: type):
    stack = STACK.astype(dtype) * (257 if dtype is np.uint16 else 1)
    volume = open_volume(_write(tmp_path / "stack", stack, ending))
    assert (volume.shape, volume.dtype, volume.chunks) == (stack.shape, stack.dtype, (1, 20, 30))
    assert volume.voxel_size_nm is None
    for box in (Box((0, 0, 0), stack.shape), Box((1, 5, 7), (11, 6, 30)), Box((9, 0, 0), (10, 1, 1))):
        np.testing.assert_array_equal(volume.read(box), stack[box.slices])


def test_jpg_sections_are_read_as_pillow_reads_them(tmp_path: Path):
    folder = _write(tmp_path / "stack", STACK, "jpg")
    expected = np.asarray(PIL.Image.open(folder / "section 11.jpg"))
    np.testing.assert_array_equal(open_volume(folder).read(Box((11, 0, 0), (12, 20, 30)))[0], expected)


def test_hidden_files_and_what_is_no_image_are_left_alone(tmp_path: Path):
    folder = _write(tmp_path / "stack", STACK, "png")
    (folder / ".section 3.tif").write_bytes(b"junk")
    (folder / "._section 3.png").write_bytes(b"junk")
    (folder / "Thumbs.db").write_bytes(b"junk")
    (folder / "notes.txt").write_text("thick section after 4")
    (folder / "other.png").mkdir()
    assert open_volume(folder).shape == STACK.shape


@pytest.mark.parametrize("ending", ["png", "tif"])
def test_a_channel_is_picked_from_sections_in_colour(tmp_path: Path, ending: str):
    folder = _write(tmp_path / "stack", np.stack([STACK, STACK // 2, STACK // 3], -1), ending)
    with pytest.raises(VolumeError, match=r"channel axis of length 3: pick one with .*stack::c=0"):
        open_volume(folder)
    volume = open_volume(f"{folder}::c=1")
    assert volume.chunks == (1, 20, 30)
    np.testing.assert_array_equal(volume.read(Box.whole(STACK.shape)), STACK // 2)


def test_kinds_of_files_in_one_folder_are_counted(tmp_path: Path):
    folder = _write(tmp_path / "stack", STACK[:3], "png")
    _write(folder, STACK[:2], "tif")
    with pytest.raises(VolumeError, match="mixes 3 PNG, 2 TIFF: keep"):
        open_volume(folder)


@pytest.mark.parametrize("ending", ["png", "tif"])
@pytest.mark.parametrize("odd", [STACK[0, :19], STACK[0].astype(np.uint16), np.stack([STACK[0]] * 3, -1)])
def test_the_first_odd_section_is_named(tmp_path: Path, ending: str, odd: np.ndarray):
    folder = _write(tmp_path / "stack", STACK, ending)
    for number in (2, 10):
        _write(folder, odd[None], ending, first=number)
    with pytest.raises(
        VolumeError, match=rf"different size or type: section 2\.{ending} is .*, section 0\.{ending} is"
    ):
        open_volume(folder)


def test_an_empty_folder_and_one_without_images_are_said(tmp_path: Path):
    with pytest.raises(VolumeError, match="is an empty folder: name the folder"):
        open_volume(tmp_path)
    (tmp_path / "scan.bmp").write_bytes(b"BM")
    with pytest.raises(VolumeError, match=r"holds no TIFF, PNG or JPG images, but scan\.bmp"):
        open_volume(tmp_path)


def test_an_inner_path_is_refused(tmp_path: Path):
    with pytest.raises(VolumeError, match="leave out the part after '::'"):
        open_volume(f"{_write(tmp_path / 'stack', STACK, 'png')}::raw")


def test_a_stack_in_one_file_is_to_be_opened_itself(tmp_path: Path):
    tifffile.imwrite(tmp_path / "stack.tif", STACK)
    with pytest.raises(VolumeError, match=r"stack\.tif: has 12 pages, .* open this file itself"):
        open_volume(tmp_path)


@pytest.mark.parametrize("mode", ["P", "CMYK"])
def test_colours_that_are_no_intensity_are_refused(tmp_path: Path, mode: str):
    ending = "png" if mode == "P" else "jpg"
    for number in (0, 1):
        PIL.Image.fromarray(STACK[number]).convert(mode).save(tmp_path / f"{number}.{ending}")
    with pytest.raises(VolumeError, match=f"mode {mode}: save the sections as grey images"):
        open_volume(tmp_path)


def test_black_and_white_sections_are_refused(tmp_path: Path):
    PIL.Image.fromarray(STACK[0] > 99).save(tmp_path / "0.png")
    with pytest.raises(VolumeError, match="data type bool"):
        open_volume(tmp_path)


@pytest.mark.parametrize("options", [{"planarconfig": "separate", "photometric": "rgb"}, {"photometric": "minisblack"}])
def test_tiff_sections_of_odd_layout_are_refused(tmp_path: Path, options: dict):
    section = np.stack([STACK[0]] * 3) if "planarconfig" in options else STACK[0].astype(np.complex64)
    tifffile.imwrite(tmp_path / "0.tif", section, **options)
    with pytest.raises(VolumeError, match=r"0\.tif: .*save the sections as grey, 8 or 16 bit"):
        open_volume(tmp_path)


@pytest.mark.parametrize("ending", ["png", "jpg", "tif"])
@pytest.mark.parametrize("content", [b"", b"no image at all"])
def test_a_file_that_is_no_image_is_named(tmp_path: Path, ending: str, content: bytes):
    folder = _write(tmp_path / "stack", STACK, ending)
    (folder / f"section 7.{ending}").write_bytes(content)
    with pytest.raises(VolumeError, match=rf"section 7\.{ending}: is "):
        open_volume(folder)


@pytest.mark.parametrize("ending", ["png", "jpg", "tif"])
def test_a_truncated_section_is_an_error_when_it_is_read(tmp_path: Path, ending: str):
    folder = _write(tmp_path / "stack", STACK, ending)
    path = folder / f"section 7.{ending}"
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * 0.8)])
    with pytest.raises(VolumeError, match=r"cut off|damaged"):
        open_volume(folder).read(Box((7, 0, 0), (8, 20, 30)))


def test_a_section_replaced_by_another_is_said(tmp_path: Path):
    folder = _write(tmp_path / "stack", STACK, "png")
    volume = open_volume(folder)
    _write(folder, STACK[:1, :10], "png", first=4)
    with pytest.raises(VolumeError, match=r"section 4\.png: has changed"):
        volume.read(Box((4, 0, 0), (5, 1, 1)))


def _decodes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list that grows with the name of each PNG that is decoded."""
    decoded: list[str] = []
    reader = section_files._READERS["PNG"]

    def counted(file: object) -> object:
        decoded.append(Path(file.name).name)
        return reader(file)

    monkeypatch.setitem(section_files._READERS, "PNG", counted)
    return decoded


def test_only_the_sections_asked_for_are_decoded_and_each_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    volume = open_volume(_write(tmp_path / "stack", STACK, "png"))
    decoded = _decodes(monkeypatch)
    for _ in range(3):
        volume.read(Box((3, 0, 0), (6, 5, 5)))
    assert decoded == ["section 3.png", "section 4.png", "section 5.png"]


def test_decoded_sections_are_kept_up_to_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    volume = open_volume(_write(tmp_path / "stack", STACK, "png"))
    monkeypatch.setattr(section_files, "_CACHE_BYTES", 2 * STACK[0].nbytes)
    decoded = _decodes(monkeypatch)
    for z in (0, 1, 0, 2, 0, 1):  # 2 takes the place of 1, which was not used for longest
        np.testing.assert_array_equal(volume.read(Box((z, 0, 0), (z + 1, 20, 30)))[0], STACK[z])
    assert decoded == [f"section {z}.png" for z in (0, 1, 2, 1)]


def _png(side: int, data: bytes) -> bytes:
    """Return a square PNG of 8 bit, whatever its data."""
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    chunks = [
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in ((b"IHDR", header), (b"IDAT", data), (b"IEND", b""))
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def test_a_section_above_the_limit_of_pillow_opens(tmp_path: Path):
    """Pillow's `Image.open` takes images above 179 million pixels for an attack; sections are larger."""
    (tmp_path / "0.png").write_bytes(_png(15_000, bytes(30_000)))
    limit = PIL.Image.MAX_IMAGE_PIXELS
    assert open_volume(tmp_path).shape == (1, 15_000, 15_000)
    assert limit == PIL.Image.MAX_IMAGE_PIXELS < 15_000**2


def test_a_header_that_claims_more_than_the_file_can_hold_is_refused(tmp_path: Path):
    (tmp_path / "0.png").write_bytes(_png(100_000, bytes(30_000)))
    with pytest.raises(VolumeError, match="claims 100000 x 100000 pixels"):
        open_volume(tmp_path)


def test_a_crop_of_a_large_tiff_section_reads_only_its_part(tmp_path: Path):
    for number in range(3):
        tifffile.memmap(tmp_path / f"{number}.tif", shape=(20_000, 20_000), dtype=np.uint8)[9000, 9000] = number + 1
    volume = open_volume(tmp_path)
    volume.read(Box((0, 0, 0), (1, 1, 1)))
    tracemalloc.start()
    try:
        block = volume.read(Box((0, 8995, 8995), (3, 9005, 9005)))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert block[:, 5, 5].tolist() == [1, 2, 3]
    assert peak < 5e6
