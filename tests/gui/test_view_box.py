from __future__ import annotations

import numpy as np
import pytest
from napari.components import ViewerModel

from napari_tokenunify.data import open_volume
from napari_tokenunify.gui.view_box import visible_box


@pytest.fixture
def volume(tmp_path):
    np.save(tmp_path / "raw.npy", np.zeros((24, 64, 64), np.uint8))
    return open_volume(tmp_path / "raw.npy", (40.0, 4.0, 4.0))


def test_what_is_visible_is_a_box_inside_the_volume(volume):
    viewer = ViewerModel()
    viewer.add_image(volume.dask(), scale=volume.voxel_size_nm)
    box = visible_box(viewer, volume, (8, 32, 32))
    assert box.shape == (8, 32, 32)
    assert box.clipped(volume.shape) == box


@pytest.mark.parametrize("shape", [None, (64, 64)])
def test_a_viewer_that_shows_nothing_or_a_flat_picture_shows_no_part_of_a_volume(volume, shape):
    viewer = ViewerModel()
    if shape is not None:
        viewer.add_image(np.zeros(shape, np.uint8))
    assert visible_box(viewer, volume, (8, 32, 32)) is None
