from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from napari_tokenunify.errors import VolumeError
from napari_tokenunify.gui.opening import NewProject, open_image, open_volume_of
from napari_tokenunify.session import Session

pytestmark = pytest.mark.gui

IMAGE = np.arange(2 * 8 * 8, dtype=np.uint8).reshape(2, 8, 8)


@pytest.fixture
def new(tmp_path: Path) -> NewProject:
    return NewProject("mine", tmp_path / "p.tokenunify", "40,4,4")


def test_a_file_is_used_where_it_lies(new: NewProject, tmp_path: Path):
    np.save(tmp_path / "raw.npy", IMAGE)
    same, address, volume = open_image(new, str(tmp_path / "raw.npy"), IMAGE + 1)
    assert same is new
    assert address == volume.uri == str(tmp_path / "raw.npy")
    assert volume.voxel_size_nm == (40, 4, 4)
    assert not new.folder.exists()


@pytest.mark.parametrize("address", [None, "torn.npy"])
def test_what_we_cannot_open_is_kept_if_it_is_in_memory(new: NewProject, tmp_path: Path, address: str | None):
    (tmp_path / "torn.npy").write_bytes(b"torn")
    _, kept, volume = open_image(new, address and str(tmp_path / address), IMAGE)
    assert kept == str(new.folder / "image.npy")
    np.testing.assert_array_equal(np.asarray(volume.dask()), IMAGE)


def test_what_is_neither_is_told(new: NewProject, tmp_path: Path):
    (tmp_path / "torn.npy").write_bytes(b"torn")
    with pytest.raises(VolumeError, match=r"torn\.npy"):
        open_image(new, str(tmp_path / "torn.npy"), None)


def test_the_volume_of_a_project_is_opened_as_it_was_and_none_if_it_is_gone(new: NewProject, tmp_path: Path):
    np.save(tmp_path / "raw.npy", IMAGE)
    Session().new_project(new.folder, str(tmp_path / "raw.npy"), new.voxel_size)
    folder, volume = open_volume_of(new.folder)
    assert folder == new.folder
    assert volume is not None
    assert volume.voxel_size_nm == (40, 4, 4)
    (tmp_path / "raw.npy").unlink()
    assert open_volume_of(new.folder) == (new.folder, None)
    assert open_volume_of(tmp_path / "nowhere") == (tmp_path / "nowhere", None)
