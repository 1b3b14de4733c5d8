from __future__ import annotations

import numpy as np
import pytest

from napari_tokenunify.gui.volume_list import VolumeList

pytestmark = pytest.mark.gui


@pytest.fixture
def volumes(qtbot):
    volumes = VolumeList()
    qtbot.addWidget(volumes)
    volumes.start_with("own.npy", "4x4x4")
    return volumes


def test_files_are_added_once_with_their_extent_and_taken_out_again(volumes, qtbot, tmp_path):
    path = str(tmp_path / "raw.npy")
    np.save(path, np.zeros((4, 8, 8), np.uint8))
    for _ in range(2):
        volumes.add([path])
        qtbot.waitUntil(lambda: not volumes._looking.busy)
    assert volumes.addresses == ("own.npy", path)
    assert "4x8x8, voxel size unknown" in volumes.list.item(1).text()
    volumes.list.setCurrentRow(0)
    volumes.remove.click()
    assert volumes.addresses == (path,)


def test_of_a_file_with_several_datasets_the_images_are_taken(volumes, qtbot, volume_file):
    volumes.add([str(volume_file)])
    qtbot.waitUntil(lambda: len(volumes.addresses) == 2)
    assert volumes.addresses[1] == f"{volume_file}::raw"
    assert "6x20x24, 40x4x4 nm" in volumes.list.item(1).text()


def test_what_cannot_be_opened_is_told_and_not_listed(volumes, qtbot, tmp_path):
    volumes.add([str(tmp_path / "nowhere.tif")])
    qtbot.waitUntil(lambda: "nowhere.tif" in volumes.problem.text())
    assert volumes.addresses == ("own.npy",)
