from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from napari_tokenunify.data.formats.flat_file import FlatFile

INDEXES = [
    (slice(0, 4), slice(0, 5), slice(0, 6)),
    (slice(1, 3), slice(2, 5), slice(3, 4)),
    (2, slice(0, 5), slice(1, 6)),
    (slice(1, 2), 4, 0),
    (slice(2, 2), slice(0, 5), slice(0, 6)),
]


@pytest.mark.parametrize("index", INDEXES)
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["<u2", ">u2", "<f4"])
def test_every_part_equals_the_same_part_in_memory(tmp_path: Path, index: tuple, order: str, dtype: str):
    array = np.arange(120).reshape(4, 5, 6).astype(dtype)
    (tmp_path / "flat").write_bytes(b"head" + array.tobytes(order))
    with (tmp_path / "flat").open("rb") as file:
        flat = FlatFile(file, 4, array.shape, array.dtype, fortran_order=order == "F")
        np.testing.assert_array_equal(flat[index], array[index])


def test_a_file_shorter_than_its_array_is_refused(tmp_path: Path):
    (tmp_path / "flat").write_bytes(bytes(10))
    with (tmp_path / "flat").open("rb") as file, pytest.raises(ValueError, match="10 bytes"):
        FlatFile(file, 0, (11,), np.dtype("u1"))


def test_a_file_cut_off_while_open_is_an_error_and_no_crash(tmp_path: Path):
    path = tmp_path / "flat"
    path.write_bytes(bytes(100_000))
    with path.open("rb") as file:
        flat = FlatFile(file, 0, (100, 1000), np.dtype("u1"))
        path.write_bytes(bytes(10))
        with pytest.raises(ValueError, match="shorter"):
            flat[slice(90, 100), slice(0, 1000)]
