from __future__ import annotations

import csv

import numpy as np
import pytest

from napari_tokenunify.errors import ExportError
from napari_tokenunify.export import Content, Segments, content, write_export
from napari_tokenunify.geometry import Box


def rows(path):
    with path.open(newline="") as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


@pytest.mark.parametrize("box", [None, Box((1, 5, 7), (6, 66, 80))])
def test_each_segment_has_a_row_with_what_its_voxels_say(segmentation, fragments, tmp_path, box, monkeypatch):
    monkeypatch.setattr(content, "_BLOCK", (4, 32, 32))
    list(write_export(Segments.of(segmentation, 0.7, box), tmp_path / "x.csv", "csv"))
    inside = box.slices if box else np.s_[:]
    segments, pieces = segmentation.view(0.7)[:][inside], fragments[inside]
    found = rows(tmp_path / "x.csv")
    assert [row["id"] for row in found] == [i for i in np.unique(segments).tolist() if i]
    for row in found:
        where = np.argwhere(segments == row["id"])
        assert row["voxels"] == len(where)
        assert row["volume_um3"] == pytest.approx(len(where) * 40 * 4 * 5 / 1e9)
        assert row["fragments"] == len(np.unique(pieces[segments == row["id"]]))
        spans = [(row[f"{axis}_start"], row[f"{axis}_stop"]) for axis in "zyx"]
        assert spans == list(zip(where.min(0), where.max(0) + 1, strict=True))


def test_a_table_of_an_array_is_refused(tmp_path):
    with pytest.raises(ExportError, match="made of a segmentation"):
        list(write_export(Content.of_array(np.ones((2, 3, 4), np.uint8), is_labels=True), tmp_path / "x.csv", "csv"))
    assert not list(tmp_path.iterdir())
