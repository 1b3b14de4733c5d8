from __future__ import annotations

from contextlib import suppress

import pytest

from napari_tokenunify.errors import ExportError, SegmentError
from napari_tokenunify.export.target import whole_export


def test_two_processes_do_not_write_one_folder(tmp_path):
    with (
        whole_export(tmp_path / "x", is_folder=True),
        pytest.raises(SegmentError, match="another run is at work"),
        whole_export(tmp_path / "x", is_folder=True),
    ):
        pass


def test_what_a_kill_left_behind_goes(tmp_path):
    left = tmp_path / ".x.part" / "0"
    left.mkdir(parents=True)
    (left / "torn").touch()
    with whole_export(tmp_path / "x", is_folder=True) as part:
        assert not list(part.iterdir())
        (part / "new").touch()
    assert [path.name for path in tmp_path.rglob("*")] == ["x", "new"]


def test_an_error_leaves_what_was_there(tmp_path):
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "old").touch()
    with suppress(ZeroDivisionError), whole_export(tmp_path / "x", is_folder=True) as part:
        (part / "new").touch()
        raise ZeroDivisionError
    assert [path.name for path in tmp_path.rglob("*")] == ["x", "old"]


def test_a_place_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ExportError, match="cannot be written"), whole_export(tmp_path / "file" / "x", is_folder=True):
        pass
