from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from napari_tokenunify.data.source import Location, as_voxel_size, choose_dataset, default_axes
from napari_tokenunify.errors import Candidate, DatasetChoiceError, VolumeError

RAW = Candidate("volumes/raw", (125, 1250, 1250), "uint8")
LABELS = Candidate("volumes/labels", (125, 1250, 1250), "uint64")
TABLE = Candidate("annotations/ids", (7,), "int64")


@pytest.mark.parametrize(
    ("uri", "where", "inner", "selection"),
    [
        ("stack.tif", "stack.tif", "", {}),
        (" stack.tif ", "stack.tif", "", {}),
        ("a.h5::volumes/raw", "a.h5", "volumes/raw", {}),
        ("a.h5::/volumes/raw/", "a.h5", "volumes/raw", {}),
        ("a.h5/volumes/raw", "a.h5", "volumes/raw", {}),
        ("/data/a.zarr/0", "/data/a.zarr", "0", {}),
        ("/data/a.zarr/b.zarr/0", "/data/a.zarr", "b.zarr/0", {}),
        ("C:\\data\\a.N5\\volumes\\raw", "C:\\data\\a.N5", "volumes/raw", {}),
        ("a.h5/volumes/raw::labels", "a.h5/volumes/raw", "labels", {}),
        ("stack.tif::c=1", "stack.tif", "", {"c": 1}),
        ("a.h5::raw::c=1,t=20", "a.h5", "raw", {"c": 1, "t": 20}),
        ("a.h5::raw::c=x", None, None, None),
        ("a.h5/raw::c=0", "a.h5", "raw", {"c": 0}),
        ("https://example.org/a.zarr", "https://example.org/a.zarr", "", {}),
        ("s3://bucket/a.zarr/0::c=1", "s3://bucket/a.zarr", "0", {"c": 1}),
        ("a.h5::", "a.h5", "", {}),
        ("", None, None, None),
        ("::raw", None, None, None),
        ("a::b::c", None, None, None),
    ],
)
def test_addresses_are_taken_apart(uri: str, where: str | None, inner: str, selection: dict):
    if where is None:
        with pytest.raises(VolumeError, match="is no address: write path"):
            Location.parse(uri)
        return
    location = Location.parse(uri)
    assert (location.where, location.inner, location.selection) == (where, inner, selection)
    assert location.uri == uri.strip()
    assert location.is_remote == ("://" in uri)


def test_a_path_is_an_address_too(tmp_path: Path):
    location = Location.parse(tmp_path / "Stack.OME.TIF")
    assert location.path == tmp_path / "Stack.OME.TIF"
    assert location.suffixes[-2:] == (".ome", ".tif")
    assert Location.parse("~/a.npy").path == Path.home() / "a.npy"


@pytest.mark.parametrize(("ndim", "axes"), [(0, ""), (2, "yx"), (3, "zyx"), (4, "czyx"), (5, "tczyx"), (6, "??????")])
def test_axes_without_names_are_the_usual_ones(ndim: int, axes: str):
    assert default_axes(ndim) == axes


@pytest.mark.parametrize("value", [(40, 4, 4.5), [40.0, 4.0, 4.5], np.array([40, 4, 4.5]), ("40", "4", "4.5")])
def test_three_positive_numbers_are_a_voxel_size(value: object):
    assert as_voxel_size(value) == (40.0, 4.0, 4.5)
    assert as_voxel_size(value, 1000) == (40_000.0, 4000.0, 4500.0)


@pytest.mark.parametrize(
    "value",
    [None, 40, "40,4,4", "", (), (4, 4), (4, 4, 4, 4), (0, 4, 4), (-1, 4, 4), (np.nan, 4, 4), (np.inf, 4, 4),
     (None, 4, 4), ("a", "b", "c"), {"z": 40, "y": 4, "x": 4}, np.ones((3, 3)), (1j, 1, 1), (10**400, 1, 1)],
)  # fmt: skip
def test_anything_else_is_none(value: object):
    assert as_voxel_size(value) is None


def test_the_only_volume_is_chosen():
    assert choose_dataset(Location.parse("a.h5"), [TABLE, RAW]) == "volumes/raw"


def test_what_is_named_is_chosen_even_if_it_is_no_volume():
    assert choose_dataset(Location.parse("a.h5::annotations/ids"), [TABLE, RAW, LABELS]) == "annotations/ids"


def test_several_volumes_or_a_wrong_name_list_the_volumes():
    for uri, problem in (("a.h5", "holds several datasets"), ("a.h5::row", "has no dataset 'row' inside")):
        with pytest.raises(DatasetChoiceError, match=problem) as caught:
            choose_dataset(Location.parse(uri), [TABLE, RAW, LABELS])
        assert caught.value.candidates == (RAW, LABELS)
        assert "name one, e.g. a.h5::volumes/raw. There are: volumes/raw (125x1250x1250 uint8)," in str(caught.value)


def test_a_long_list_is_cut_short_in_the_sentence_only():
    many = [Candidate(f"t{number}", (9, 9, 9), "uint8") for number in range(50)]
    with pytest.raises(DatasetChoiceError, match=r"t11 \(9x9x9 uint8\), \.\.\.") as caught:
        choose_dataset(Location.parse("a.h5"), many)
    assert len(caught.value.candidates) == 50
    assert "t12" not in str(caught.value)


@pytest.mark.parametrize("candidates", [[], [TABLE]])
def test_no_volume_at_all_is_said(candidates: list[Candidate]):
    with pytest.raises(VolumeError, match="no array of three axes or more"):
        choose_dataset(Location.parse("a.h5"), candidates)
