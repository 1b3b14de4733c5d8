from __future__ import annotations

import numpy as np
import pytest

from napari_tokenunify.errors import ConfigError
from napari_tokenunify.gui.volume_list import Listed, VolumeList

pytestmark = pytest.mark.gui


@pytest.fixture
def volumes(qtbot):
    volumes = VolumeList()
    qtbot.addWidget(volumes)
    volumes.start_with(Listed("own.npy", (4, 4, 4), in_file=(10, 10, 10)))
    return volumes


def test_files_are_added_once_with_their_extent_and_taken_out_again(volumes, qtbot, tmp_path):
    path = str(tmp_path / "raw.npy")
    np.save(path, np.zeros((4, 8, 8), np.uint8))
    for _ in range(2):
        volumes.add([path])
        qtbot.waitUntil(lambda: not volumes._looking.busy)
    assert volumes.addresses == ("own.npy", path)
    assert volumes.list.item(1).text() == "raw.npy   voxel size unknown, 4x8x8"
    volumes.list.setCurrentRow(0)
    volumes.remove.click()
    assert volumes.addresses == (path,)


def test_of_a_file_with_several_datasets_the_images_are_taken(volumes, qtbot, volume_file):
    volumes.add([str(volume_file)])
    qtbot.waitUntil(lambda: len(volumes.addresses) == 2)
    assert volumes.addresses[1] == f"{volume_file}::raw"
    assert volumes.list.item(1).text().endswith("::raw   40x4x4 nm, 6x20x24")


def test_what_cannot_be_opened_is_told_and_not_listed(volumes, qtbot, tmp_path):
    volumes.add([str(tmp_path / "nowhere.tif")])
    qtbot.waitUntil(lambda: "nowhere.tif" in volumes.problem.text())
    assert volumes.addresses == ("own.npy",)


def write(volumes, text):
    volumes.size.setText(text)
    volumes.size.textEdited.emit(text)


def test_a_voxel_size_that_no_file_says_is_asked_for_and_given_to_the_volumes_marked(volumes, qtbot, tmp_path):
    assert volumes.voxel_sizes() is None
    assert not volumes.size.isEnabled()
    for name in ("raw.npy", "more.npy"):
        np.save(tmp_path / name, np.zeros((4, 8, 8), np.uint8))
    volumes.add([str(tmp_path / name) for name in ("raw.npy", "more.npy")])
    qtbot.waitUntil(lambda: not volumes._looking.busy)
    assert volumes.problem.text() == "The voxel size of raw.npy, more.npy is unknown: mark them and write it above."
    assert len(volumes.list.selectedItems()) == 2
    write(volumes, "40, 4, 4")
    assert "40x4x4 nm, 4x8x8" in volumes.list.item(1).text()
    assert "40x4x4 nm, 4x8x8" in volumes.list.item(2).text()
    assert volumes.problem.isHidden()
    assert volumes.voxel_sizes() == "file 40,4,4 40,4,4"


def test_the_voxel_size_of_the_volume_marked_is_shown_and_can_be_changed_and_taken_back(volumes):
    volumes.list.setCurrentRow(0)
    assert volumes.size.text() == "10,10,10"
    write(volumes, "8")
    assert "8x8x8 nm" in volumes.list.item(0).text()
    assert volumes.voxel_sizes() == "8"
    write(volumes, "8,")
    assert "is no voxel size" in volumes.problem.text()
    with pytest.raises(ConfigError, match="is no voxel size"):
        volumes.voxel_sizes()
    write(volumes, "")
    assert "10x10x10 nm" in volumes.list.item(0).text()
    assert volumes.voxel_sizes() is None
