from __future__ import annotations

from pathlib import Path

import pytest

from napari_tokenunify.data.formats.stores import Files, ancestors, find_datasets, join, uppermost
from napari_tokenunify.errors import Candidate, VolumeError

TREE = {"": ["a", "b", "bad"], "a": ["a/x", "a/y"], "b": [], "a/x": None, "a/y": None}


def inspect(path: str):
    if path == "bad":
        raise VolumeError("store", "has damaged metadata.")
    further = TREE[path]
    return (Candidate(path, (1, 1, 1), "uint8"), ()) if further is None else (None, further)


def test_paths_join_without_empty_parts():
    assert join("", "a", "", "b/", "c") == "a/b/c"
    assert join("/root/", "") == "/root"
    assert join("", "") == ""


def test_groups_above_come_nearest_first():
    assert list(ancestors("a/b/c")) == [("a/b", "c"), ("a", "b/c"), ("", "a/b/c")]


def test_a_search_finds_all_datasets_past_damage():
    assert [found.inner for found in find_datasets("", inspect)] == ["a/x", "a/y"]
    assert [found.inner for found in find_datasets("", inspect, limit=1)] == ["a/x"]
    assert find_datasets("b", inspect) == []


def test_damage_is_said_where_nothing_else_is_found():
    with pytest.raises(VolumeError, match="damaged metadata"):
        find_datasets("bad", inspect)


def test_an_endless_store_is_searched_in_part():
    looks = []

    def endless(path: str):
        looks.append(path)
        return None, [f"{path}/0", f"{path}/1"]

    assert find_datasets("", endless) == []
    assert len(looks) == 2000


def test_a_folder_is_seen_as_files(tmp_path: Path):
    (tmp_path / "b").mkdir()
    (tmp_path / "a").mkdir()
    (tmp_path / "a/file").write_bytes(b"x")
    files = Files.of_folder(str(tmp_path))
    assert files.folders("") == ["a", "b"]
    assert files.folders("a") == files.folders("nothing") == files.folders("a/file") == []
    assert files.read("a/file") == b"x"
    assert files.read("a") is files.read("nothing") is files.read("a/file/more") is None


def test_the_uppermost_group_is_found(tmp_path: Path):
    folder = tmp_path / "store/group/array"
    folder.mkdir(parents=True)
    (tmp_path / "store/meta").touch()
    assert uppermost(folder, ("meta",)) == (folder, "")
    (tmp_path / "store/group/meta").touch()
    assert uppermost(folder, ("meta",)) == (tmp_path / "store", "group/array")
