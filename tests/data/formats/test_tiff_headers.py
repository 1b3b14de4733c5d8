from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import tifffile

from napari_tokenunify.data.formats.tiff_headers import BITS, LENGTH, SAMPLE_FORMAT, SAMPLES, WIDTH, read_headers
from napari_tokenunify.errors import VolumeError

SECTIONS = np.zeros((5, 20, 24), np.uint16)


@pytest.mark.parametrize("bigtiff", [False, True])
@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_the_headers_say_what_tifffile_says(tmp_path: Path, bigtiff: bool, byteorder: str):
    path = tmp_path / "a.tif"
    colours = np.zeros((5, 20, 24, 3), np.float16)
    tifffile.imwrite(path, colours, photometric="rgb", bigtiff=bigtiff, byteorder=byteorder, metadata=None)
    headers = read_headers("a.tif", path)
    with tifffile.TiffFile(path) as tif:
        assert list(headers) == [page.offset for page in tif.pages]
    for tags in headers.values():
        assert (tags[LENGTH], tags[WIDTH], tags[SAMPLES]) == ((20,), (24,), (3,))
        assert (tags[BITS], tags[SAMPLE_FORMAT]) == ((16, 16, 16), (3, 3, 3))


def test_equal_pages_have_equal_headers_and_others_do_not(tmp_path: Path):
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as file:
        for section in (SECTIONS[0], SECTIONS[1], SECTIONS[2, :10], SECTIONS[3].astype(np.uint8)):
            file.write(section, metadata=None)
    first, second, shorter, narrower = read_headers("a.tif", path).values()
    assert first == second
    assert first[LENGTH] != shorter[LENGTH]
    assert first[BITS] != narrower[BITS]


@pytest.mark.parametrize(
    "content", [b"", b"II", b"RIFF, and no TIFF at all", b"II\0*" + bytes(20), b"MM*\0" + bytes(20)]
)
def test_what_is_no_tiff_is_said(tmp_path: Path, content: bytes):
    (tmp_path / "a.tif").write_bytes(content)
    with pytest.raises(VolumeError, match="is no TIFF file, whatever its name says"):
        read_headers("a.tif", tmp_path / "a.tif")


@pytest.mark.parametrize("length", [4, 9, 20, 2000, 4900])
def test_a_chain_that_leaves_the_file_is_refused(tmp_path: Path, length: int):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.random.default_rng(0).integers(0, 9, (5, 30, 30), np.uint8), metadata=None)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(VolumeError, match="cut off or damaged after page"):
        read_headers("a.tif", path)


@pytest.mark.parametrize("back_to", [0, 90])
def test_a_chain_in_a_circle_comes_to_an_end(tmp_path: Path, back_to: int):
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as file:
        for _ in range(200):
            file.write(SECTIONS[0, :4, :4], metadata=None, contiguous=False)
    targets = list(read_headers("a.tif", path))
    with tifffile.TiffFile(path) as tif:
        link = tif.pages.next_page_offset
    with path.open("r+b") as file:
        file.seek(link)
        file.write(struct.pack("<I", targets[back_to]))
    with pytest.raises(VolumeError, match="after page 200"):
        read_headers("a.tif", path)


def test_a_file_without_a_page_is_refused(tmp_path: Path):
    (tmp_path / "a.tif").write_bytes(b"II*\0" + bytes(30))
    with pytest.raises(VolumeError, match="without any page"):
        read_headers("a.tif", tmp_path / "a.tif")
