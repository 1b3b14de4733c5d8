from __future__ import annotations

import h5py
import numpy as np
import pytest

from napari_tokenunify.config import ExportConfig
from napari_tokenunify.errors import ConfigError, ExportError
from napari_tokenunify.export import affinity_files, export
from napari_tokenunify.geometry import Box
from napari_tokenunify.segment import open_affinities, write_affinities

SHAPE = (7, 40, 50)
OFFSETS = ((-1, 0, 0), (0, -1, 0), (0, 0, -1), (0, -9, 0))
SIZE_NM = (40.0, 4.0, 5.0)


@pytest.fixture(params=["uint8", "float16"])
def store(request, tmp_path):
    values = np.random.default_rng(0).random((4, *SHAPE), np.float32)
    return write_affinities(tmp_path / "aff.zarr", values, OFFSETS, SIZE_NM, request.param)


def run(**settings):
    stage = export(ExportConfig(**settings))
    while True:
        try:
            next(stage)
        except StopIteration as end:
            return end.value


def arrays(path, kind):
    if kind == "hdf5":
        with h5py.File(path) as file:
            dataset = file["volumes/affinities"]
            return dataset[:], dataset.attrs["resolution"].tolist(), dataset.attrs["offset"].tolist()
    from ome_zarr.io import parse_url
    from ome_zarr.reader import Reader

    location = parse_url(path)
    assert location is not None
    (image,) = list(Reader(location)())
    assert [axis["name"] for axis in image.metadata["axes"]] == list("czyx")
    (transforms,) = image.metadata["coordinateTransformations"]
    shift = transforms[1]["translation"][1:] if len(transforms) > 1 else [0, 0, 0]
    return image.data[0].compute(), transforms[0]["scale"][1:], shift


@pytest.mark.parametrize("kind", ["ome-zarr", "hdf5"])
@pytest.mark.parametrize("box", [None, "1:6,3:40,0:20"])
def test_all_channels_are_written_as_they_are_stored(store, tmp_path, kind, box, monkeypatch):
    monkeypatch.setattr(affinity_files, "_CHUNK", (4, 16, 16))
    monkeypatch.setattr(affinity_files, "_BLOCK", (4, 32, 32))
    out = tmp_path / ("x.h5" if kind == "hdf5" else "x.zarr")
    result = run(affinities=str(store), out=str(out), format=kind, **({"box": box} if box else {}))
    plain = open_affinities(store)
    part = Box.parse(box) if box else Box.whole(SHAPE)
    values, size, offset = arrays(out, kind)
    assert values.dtype == plain.dtype
    scale = 255 if values.dtype == np.uint8 else 1
    np.testing.assert_allclose(values / scale, plain.read(part), atol=1e-6)
    assert size == list(SIZE_NM)
    assert offset == [a * s for a, s in zip(part.start, SIZE_NM, strict=True)]
    assert (result["channels"], result["shape"]) == (4, list(part.shape))
    again = open_affinities(f"{out}::volumes/affinities" if kind == "hdf5" else out, OFFSETS)
    np.testing.assert_array_equal(again.read(Box.whole(part.shape)), plain.read(part))
    with pytest.raises(ExportError, match="is there already"):
        run(affinities=str(store), out=str(out), format=kind)
    run(affinities=str(store), out=str(out), format=kind, overwrite=True)


def test_what_affinities_cannot_be_is_said(store, tmp_path):
    out = str(tmp_path / "x")
    with pytest.raises(ExportError, match="not written as tiff: choose ome-zarr or hdf5"):
        run(affinities=str(store), out=out, format="tiff")
    with pytest.raises(ConfigError, match="no segments and no threshold"):
        run(affinities=str(store), out=out, segments=(3,))
    with pytest.raises(ConfigError, match="one of them"):
        run(out=out)
    with pytest.raises(ConfigError, match="reaches outside"):
        run(affinities=str(store), out=out, box="0:8,0:3,0:3")
