from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from napari_tokenunify.data import Volume
from napari_tokenunify.gui.layers import layer_name, volume_layer, volume_layers


def volume(uri: str, dtype: str, inner: str = "") -> Volume:
    made = Volume.from_array(np.zeros((2, 3, 4), dtype))
    return replace(made, uri=uri, provenance={"uri": uri, "inner": inner})


@pytest.mark.parametrize(
    ("uri", "inner", "dtype", "kind"),
    [
        ("a.h5", "volumes/raw", "uint8", "image"),
        ("a.h5", "volumes/labels/neuron_ids", "uint64", "labels"),
        ("a.npz", "labels", "uint16", "labels"),
        ("a.npz", "prediction_of_labels", "float32", "image"),
        ("ground_truth.tif", "", "uint16", "labels"),
        ("stack.tif", "", "uint16", "image"),
        ("stack.tif", "", "uint32", "labels"),
        ("a.h5", "pyramids", "uint8", "image"),
    ],
)
def test_integers_that_are_wide_or_named_like_labels_are_labels(uri: str, inner: str, dtype: str, kind: str):
    assert volume_layer(volume(uri, dtype, inner))[2] == kind


def test_the_caller_decides_where_it_knows():
    assert volume_layer(volume("labels.tif", "uint8"), as_labels=False)[2] == "image"


def test_a_layer_is_named_after_file_and_dataset():
    assert layer_name(volume("/data/cube.ome.zarr::labels/neurons", "uint8", "labels/neurons")) == "cube neurons"
    assert layer_name(volume("/data/stack.tif", "uint8")) == "stack"


def test_labels_lie_over_images_and_only_the_first_of_each_is_visible():
    layers = volume_layers([volume("a.npz", "uint32", "ids"), volume("a.npz", "uint8", "raw"), volume("a.npz", "u8")])
    assert [(kind, attributes["visible"]) for _, attributes, kind in layers] == [
        ("image", True),
        ("labels", True),
        ("labels", False),
    ]
