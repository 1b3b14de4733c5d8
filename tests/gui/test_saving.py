"""Saving: the window does not wait for the disk, and nothing is lost."""

from __future__ import annotations

import shutil
import threading

import pytest

from napari_tokenunify.errors import ProjectError
from napari_tokenunify.gui.saving import Saving
from napari_tokenunify.project import Project, ProjectState


@pytest.fixture
def saving(qapp):
    saving = Saving()
    yield saving
    saving.close()


def test_a_change_does_not_wait_for_the_disk_and_gets_there(tmp_path, saving):
    Project.create(tmp_path / "p", ProjectState(volume="a.tif"))
    project, held = Project(tmp_path / "p", saving.soon), threading.Event()
    saving.soon(held.wait)  # the disk is slow
    project.change(threshold=0.25)
    project.change(threshold=0.75)
    assert project.state.threshold == 0.75
    assert Project(tmp_path / "p").state.threshold == 0.5
    held.set()
    saving.close()
    assert Project(tmp_path / "p").state.threshold == 0.75


def test_what_cannot_be_written_is_told(tmp_path, saving, qtbot):
    Project.create(tmp_path / "p", ProjectState(volume="a.tif"))
    project = Project(tmp_path / "p", saving.soon)
    shutil.rmtree(tmp_path / "p")
    (tmp_path / "p").write_text("in the way")
    with qtbot.waitSignal(saving.failed) as told:
        project.change(threshold=0.25)
    assert "cannot be written" in told.args[0]


def test_after_its_end_changes_are_written_at_once(tmp_path, saving):
    Project.create(tmp_path / "p", ProjectState(volume="a.tif"))
    project = Project(tmp_path / "p", saving.soon)
    saving.close()
    project.change(threshold=0.25)
    assert Project(tmp_path / "p").state.threshold == 0.25


def test_without_a_thread_a_change_that_cannot_be_written_is_none(tmp_path):
    project = Project.create(tmp_path / "p", ProjectState(volume="a.tif"))
    shutil.rmtree(tmp_path / "p")
    (tmp_path / "p").write_text("in the way")
    with pytest.raises(ProjectError):
        project.change(threshold=0.25)
    assert project.state.threshold == 0.5
