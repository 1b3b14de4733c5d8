from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import zarr
from napari.utils.notifications import Notification, notification_manager

from napari_tokenunify.gui.readers import get_reader, read

pytestmark = pytest.mark.gui


def test_image_and_labels_of_a_file_open_as_layers_with_scale_units_and_axes(make_napari_viewer, volume_file: Path):
    viewer = make_napari_viewer()
    viewer.open(str(volume_file), plugin="napari-tokenunify")
    image, labels = viewer.layers
    assert (image._type_string, labels._type_string) == ("image", "labels")
    for layer in viewer.layers:
        np.testing.assert_array_equal(layer.scale, (40, 4, 4))
        assert [str(unit) for unit in layer.units] == ["nanometer"] * 3
        assert layer.axis_labels == ("z", "y", "x")
        assert layer.metadata["tokenunify"]["format"] == "NumPy .npz"


def test_what_napari_shows_is_what_the_file_holds(make_napari_viewer, volume_file: Path, raw: np.ndarray):
    viewer = make_napari_viewer()
    layer = viewer.open(str(volume_file), plugin="napari-tokenunify")[0]
    np.testing.assert_array_equal(np.asarray(layer.data[3]), raw[3])


def test_an_unknown_voxel_size_shows_as_pixels(make_napari_viewer, tmp_path: Path, raw: np.ndarray):
    np.save(tmp_path / "stack.npy", raw)
    viewer = make_napari_viewer()
    (layer,) = viewer.open(str(tmp_path / "stack.npy"), plugin="napari-tokenunify")
    assert [str(unit) for unit in layer.units] == ["pixel"] * 3
    assert layer.name == "stack"


def test_levels_open_as_one_multiscale_layer(make_napari_viewer, tmp_path: Path, raw: np.ndarray):
    write_two_levels(tmp_path / "pyramid.zarr", raw)
    viewer = make_napari_viewer()
    (layer,) = viewer.open(str(tmp_path / "pyramid.zarr"), plugin="napari-tokenunify")
    assert layer.multiscale
    assert [level.shape for level in layer.data] == [(6, 20, 24), (6, 10, 12)]
    np.testing.assert_array_equal(layer.scale, (40, 4, 4))


def write_two_levels(path: Path, raw: np.ndarray) -> None:
    group = zarr.open_group(path, mode="w")
    group.create_array("0", data=raw, chunks=(2, 10, 12))
    group.create_array("1", data=raw[:, ::2, ::2], chunks=(2, 10, 12))
    axes = [{"name": axis, "type": "space", "unit": "nanometer"} for axis in "zyx"]
    datasets = [
        {"path": str(n), "coordinateTransformations": [{"type": "scale", "scale": [40, 4 * 2**n, 4 * 2**n]}]}
        for n in range(2)
    ]
    group.attrs["ome"] = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": datasets}]}


def test_several_files_open_as_several_layers(tmp_path: Path, raw: np.ndarray):
    paths = [tmp_path / f"{name}.npy" for name in "ab"]
    for path in paths:
        np.save(path, raw)
    assert [attributes["name"] for _, attributes, _ in read([str(path) for path in paths])] == ["a", "b"]


def test_a_damaged_file_is_a_notification_and_the_good_ones_open(make_napari_viewer, tmp_path: Path, raw: np.ndarray):
    (tmp_path / "bad.npy").write_bytes(b"\x93NUMPY")
    np.save(tmp_path / "good.npy", raw)
    said: list[Notification] = []
    viewer = make_napari_viewer()
    with notification_manager:
        notification_manager.notification_ready.connect(said.append)
        viewer.open([str(tmp_path / name) for name in ("bad.npy", "good.npy")], plugin="napari-tokenunify")
        notification_manager.notification_ready.disconnect(said.append)
    assert [layer.name for layer in viewer.layers] == ["good"]
    (notification,) = said
    assert notification.severity == "error"
    assert "bad.npy: cannot be opened" in notification.message


def test_a_folder_without_images_is_left_to_other_plugins(tmp_path: Path):
    (tmp_path / "notes.txt").write_text("hello")
    assert get_reader(str(tmp_path)) is None
