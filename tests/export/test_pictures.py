from __future__ import annotations

from pathlib import Path

import imageio.v3 as imageio
import numpy as np

from napari_tokenunify.data import Volume
from napari_tokenunify.export import save_pictures


def test_the_xz_picture_is_stretched_to_square_pixels(tmp_path: Path, raw: np.ndarray):
    save_pictures(Volume.from_array(raw, (40.0, 4.0, 4.0)), {}, tmp_path)
    assert imageio.imread(tmp_path / "xy.png").shape == (20, 24, 3)
    assert imageio.imread(tmp_path / "xz.png").shape == (60, 24, 3)


def test_an_id_has_one_colour_and_unlabelled_voxels_none(tmp_path: Path, labels: np.ndarray):
    grey = np.full(labels.shape, 100, np.uint8)
    grey[:, 0, 0] = 0
    labels = labels.copy()
    labels[:, :5] = 0
    save_pictures(Volume.from_array(grey), {"labels": Volume.from_array(labels)}, tmp_path)
    picture = imageio.imread(tmp_path / "xy_labels.png")
    left, right = picture[10, 2], picture[10, -2]
    assert (left != right).any()
    assert (picture[6:, :12] == left).all()
    assert len(set(picture[2, 3].tolist())) == 1
