from __future__ import annotations

import itertools
import logging
import threading
from pathlib import Path

import numpy as np
import pytest
import tifffile

from napari_tokenunify.data.formats.flat_file import FlatFile
from napari_tokenunify.data.formats.tiff_pages import PageArray, open_series, quiet_tifffile
from napari_tokenunify.errors import VolumeError

STACK = np.random.default_rng(0).integers(0, 60_000, (5, 50, 70), np.uint16)
COLOURS = np.stack([STACK, STACK // 2, STACK // 3], -1)
STORED = {
    "one strip": {"compression": "zlib"},
    "strips of 7 rows": {"compression": "lzma", "rowsperstrip": 7},
    "tiles": {"tile": (16, 32)},
    "tiles, compressed": {"tile": (16, 32), "compression": "zlib", "predictor": True},
    "big-endian": {"byteorder": ">", "compression": "zlib", "rowsperstrip": 13},
    "big-endian tiles": {"byteorder": ">", "bigtiff": True, "tile": (32, 16)},
    "a volume in tiles": {"volumetric": True, "tile": (2, 16, 32), "compression": "zlib"},
}
PARTS = [
    (slice(0, 5), slice(0, 50), slice(0, 70)),
    (slice(1, 3), slice(6, 8), slice(15, 33)),
    (slice(4, 5), slice(49, 50), slice(69, 70)),
    (2, slice(7, 14), slice(0, 70)),
    (slice(0, 5), 31, 40),
]


def _open(path: Path) -> PageArray | FlatFile:
    with quiet_tifffile(), tifffile.TiffFile(path) as tif:
        return open_series("a.tif", tif.series[0])[0]


@pytest.mark.parametrize("stored", STORED.values(), ids=STORED)
@pytest.mark.parametrize("part", PARTS)
def test_every_part_equals_what_tifffile_reads_whole(tmp_path: Path, stored: dict, part: tuple):
    tifffile.imwrite(tmp_path / "a.tif", STACK, metadata=None, **stored)
    array = _open(tmp_path / "a.tif")
    assert isinstance(array, PageArray)
    whole = tifffile.imread(tmp_path / "a.tif")
    np.testing.assert_array_equal(whole, STACK)
    np.testing.assert_array_equal(array[part], whole[part])


@pytest.mark.parametrize("planes", ["contig", "separate"])
def test_samples_of_a_pixel_are_an_axis(tmp_path: Path, planes: str):
    colours = COLOURS if planes == "contig" else COLOURS.transpose(0, 3, 1, 2)
    options = {"photometric": "rgb", "planarconfig": planes, "compression": "zlib", "rowsperstrip": 9}
    tifffile.imwrite(tmp_path / "a.tif", colours, metadata=None, **options)
    array = _open(tmp_path / "a.tif")
    for part in itertools.product([slice(1, 3), 4], [slice(0, 3), 1], [slice(1, 2), 2], [slice(0, 3), 0]):
        np.testing.assert_array_equal(array[part], colours[part])


def test_plain_values_are_read_in_place(tmp_path: Path):
    tifffile.imwrite(tmp_path / "a.tif", STACK, byteorder=">")
    array = _open(tmp_path / "a.tif")
    assert isinstance(array, FlatFile)
    np.testing.assert_array_equal(array[PARTS[1]], STACK[PARTS[1]])


def test_only_the_strips_asked_for_are_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    tifffile.imwrite(tmp_path / "a.tif", STACK, metadata=None, compression="zlib", rowsperstrip=10)
    array = _open(tmp_path / "a.tif")
    decoded = []
    decode = array._decoded

    def counted(page: int, segment: int, data: bytes) -> np.ndarray:
        decoded.append((page, segment))
        return decode(page, segment, data)

    monkeypatch.setattr(array, "_decoded", counted)
    np.testing.assert_array_equal(array[1:3, 19:31, 5:9], STACK[1:3, 19:31, 5:9])
    assert decoded == [(1, 1), (1, 2), (1, 3), (2, 1), (2, 2), (2, 3)]


def _overwrite_tag(path: Path, page: int, tag: str, values: tuple[int, ...]) -> None:
    with tifffile.TiffFile(path, mode="r+") as tif:
        tif.pages[page].tags[tag].overwrite(values)


@pytest.mark.parametrize(
    ("tag", "value"),
    [("StripOffsets", 0), ("StripOffsets", 2**31), ("StripByteCounts", 0), ("StripByteCounts", 60_000)],
)
def test_a_strip_that_is_not_in_the_file_is_refused_and_never_zeros(tmp_path: Path, tag: str, value: int):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, STACK, metadata=None, compression="zlib", rowsperstrip=25)
    _overwrite_tag(path, 3, tag, (value, 100))
    with pytest.raises(VolumeError, match="section 3 is not wholly in the file"):
        _open(path)


def test_a_page_of_another_size_between_equal_ones_is_refused(tmp_path: Path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        for number in range(12):
            file.write(STACK[0, :40] if number == 5 else STACK[0], metadata=None)
    with pytest.raises(VolumeError, match="section 5 of another size or type"):
        _open(tmp_path / "a.tif")


@pytest.mark.parametrize("compression", ["zlib", "lzw", "packbits"])
def test_a_damaged_strip_is_an_error(tmp_path: Path, compression: str):
    if compression != "zlib":
        pytest.importorskip("imagecodecs", reason="tifffile writes this with imagecodecs only")
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, STACK, metadata=None, compression=compression)
    with tifffile.TiffFile(path) as tif:
        start, count = tif.pages[2].dataoffsets[0], tif.pages[2].databytecounts[0]
    with path.open("r+b") as file:
        file.seek(start)
        file.write(b"\x81" * count)  # 128 times the next byte, for PackBits: far too little
    array = _open(path)
    with pytest.raises(Exception, match=r"."):
        array[2:3, 0:50, 0:70]
    np.testing.assert_array_equal(array[3:4, 0:50, 0:70], STACK[3:4])


def test_a_header_cannot_claim_the_memory_of_the_machine(tmp_path: Path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.zeros((2, 40, 40), np.uint8), metadata=None, compression="zlib")
    for page in (0, 1):
        for tag in ("ImageWidth", "ImageLength", "RowsPerStrip"):
            _overwrite_tag(path, page, tag, 200_000)
    with pytest.raises(VolumeError, match="claims 40000000000 bytes in"):
        _open(path)[0:1, 0:1, 0:1]


def test_the_header_of_a_jpeg_tile_cannot_claim_it_either(tmp_path: Path):
    pytest.importorskip("imagecodecs", reason="tifffile reads and writes JPEG with imagecodecs only")
    path = tmp_path / "a.tif"
    stack = (STACK >> 8).astype(np.uint8)
    tifffile.imwrite(path, stack, metadata=None, compression="jpeg", tile=(32, 32))
    expected = tifffile.imread(path)
    np.testing.assert_array_equal(_open(path)[PARTS[1]], expected[PARTS[1]])
    frame = b"\xff\xc0\x00\x0b\x08"
    path.write_bytes(path.read_bytes().replace(frame + b"\0\x20\0\x20", frame + b"\xff\xdc\xff\xdc"))
    with pytest.raises(VolumeError, match="section 1 is not wholly in the file"):
        _open(path)[PARTS[1]]


def test_threads_share_no_position_in_the_file(tmp_path: Path):
    tifffile.imwrite(tmp_path / "a.tif", STACK, metadata=None, tile=(16, 16), compression="zlib")
    array = _open(tmp_path / "a.tif")
    wrong: list[int] = []

    def read(z: int) -> None:
        for _ in range(10):
            part = slice(z, z + 1), slice(3, 40), slice(5, 60)
            if not np.array_equal(array[part], STACK[part]):
                wrong.append(z)

    threads = [threading.Thread(target=read, args=(z,)) for z in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_tifffile_is_quiet_in_this_thread_only(caplog: pytest.LogCaptureFixture):
    log = logging.getLogger("tifffile")
    with quiet_tifffile():
        log.warning("from here")
        other = threading.Thread(target=log.warning, args=("from there",))
        other.start()
        other.join()
    log.warning("afterwards")
    assert caplog.messages == ["from there", "afterwards"]
