from __future__ import annotations

import numpy as np
import pytest
import zarr

from napari_tokenunify.data import Volume, create_labels, open_annotations
from napari_tokenunify.errors import VolumeError

SHAPE = (6, 300, 40)


@pytest.mark.parametrize("voxel_size_nm", [(40.0, 4.0, 4.0), None])
def test_painted_labels_are_annotations_of_the_volume(tmp_path, voxel_size_nm):
    path = create_labels(tmp_path / "project" / "annotations.zarr", SHAPE, voxel_size_nm)
    assert not list(path.glob("0/c/**/*"))  # nothing painted, nothing stored
    array = zarr.open_array(path / "0", mode="r+")
    array[2, 10:20, 5] = 7
    volume = Volume.from_array(np.zeros(SHAPE, np.uint8), voxel_size_nm)
    annotations = open_annotations(path, volume)
    assert annotations.voxel_size_nm == voxel_size_nm
    assert np.count_nonzero(annotations.labels.dask().compute() == 7) == 10


def test_labels_that_are_there_are_not_overwritten(tmp_path):
    create_labels(tmp_path / "a.zarr", SHAPE, None)
    with pytest.raises(VolumeError, match="not overwritten"):
        create_labels(tmp_path / "a.zarr", SHAPE, None)
