from __future__ import annotations

from contextlib import suppress

import pytest

from napari_tokenunify.errors import ExportError
from napari_tokenunify.export.target import whole_export


@pytest.mark.parametrize("is_folder", [True, False])
def test_two_processes_do_not_write_one_export(tmp_path, is_folder):
    with whole_export(tmp_path / "x", is_folder=is_folder) as part:
        with (
            pytest.raises(ExportError, match=r"x: another process is writing it; wait"),
            whole_export(tmp_path / "x", is_folder=is_folder),
        ):
            pass
        assert part.exists()
    assert [path.name for path in tmp_path.rglob("*")] == ["x"]


def test_a_file_is_there_once_it_is_whole_and_what_kills_left_behind_goes(tmp_path):
    (tmp_path / ".x.part").write_text("of an older version")
    with whole_export(tmp_path / "x", is_folder=False, fingerprint="any") as part:
        part.write_text("half")
        assert not (tmp_path / "x").exists()
    assert (tmp_path / "x").read_text() == "half"
    (tmp_path / ".x.part").mkdir()
    (tmp_path / ".x.part" / ".x.part").write_text("torn")
    with suppress(ZeroDivisionError), whole_export(tmp_path / "x", is_folder=False) as part:
        part.write_text("new")
        raise ZeroDivisionError
    assert [path.name for path in tmp_path.rglob("*")] == ["x"]
    assert (tmp_path / "x").read_text() == "half"


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
