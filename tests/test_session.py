from __future__ import annotations

import shutil
import subprocess
import time
from unittest.mock import Mock

import numpy as np
import pytest

from napari_tokenunify.errors import ConfigError, JobError, ProjectError, VolumeError
from napari_tokenunify.events import Metric
from napari_tokenunify.jobs import Job, JobState
from napari_tokenunify.session import SEGMENTING, Session
from tests.train.test_finetuning import data  # noqa: F401 - a fixture

PATIENCE_S = 90.0


@pytest.fixture(autouse=True)
def own_state_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("NAPARI_TOKENUNIFY_STATE", str(tmp_path / "state"))


@pytest.fixture
def session(data):  # noqa: F811
    """A project on a volume with two neurons, whose labels are annotations."""
    session = Session()
    session.new_project(data / "p.tokenunify", str(data / "raw.npy"), "10,10,10")
    session.change(annotations=str(data / "labels.npy"), model=str(data / "seed"))
    return session


def wait(session, job):
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        session.poll()
        status = next(status for status in session.jobs if status.folder == job.folder)
        if status.state.final:
            return status
        time.sleep(0.05)
    raise AssertionError(job.log_tail())


def heard(signal):
    """Collect what a signal says."""
    said = []
    signal.connect(lambda *values: said.append(values))
    return said


def test_the_main_job_from_labels_to_segments(session):
    said, affinities = heard(session.said), heard(session.affinities_changed)
    segmentations, events = heard(session.segmentation_changed), heard(session.job_said)
    quick = {"steps": 2, "crop": (8, 32, 32), "device": "cpu", "precision": "fp32", "workers": 0}
    trained = session.start("finetune", session.finetune_config(**quick))
    status = wait(session, trained)
    assert status.state == JobState.DONE, status
    assert session.state.trained == str(trained.folder)
    assert any(isinstance(event, Metric) and "loss" in event.values for _, event in events)
    assert "is trained" in said[-1][0]
    predicted = session.start("predict", session.predict_config(device="cpu"))
    assert wait(session, predicted).state == JobState.DONE
    assert affinities[-1] == (session.project.affinities,)
    segmented = session.start("segment", session.segment_config())
    assert wait(session, segmented).state == JobState.DONE
    assert session.segmentation is segmentations[-1][0]
    assert session.segmentation.view(0.5)[:].shape == (16, 64, 64)

    again = Session()
    shown, spoken = heard(again.segmentation_changed), heard(again.said)
    again.open_project(session.project.folder)
    again.poll()
    assert [status.name for status in again.jobs] == ["finetune-1", "predict-1", "segment-1"]
    assert (len(shown), spoken) == (1, [])
    assert again.state == session.state


def test_what_ended_while_nobody_looked_is_told_the_next_time_and_then_no_more(session):
    quick = {"steps": 2, "crop": (8, 32, 32), "device": "cpu", "precision": "fp32", "workers": 0}
    job = session.start("finetune", session.finetune_config(**quick))
    assert session.state.untold == ("finetune-1",)
    deadline = time.monotonic() + PATIENCE_S
    while not Job(job.folder).poll().state.final:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    for sentences in (1, 0):
        later = Session()
        said, events = heard(later.said), heard(later.job_said)
        later.open_project(session.project.folder)
        later.poll()
        later.poll()
        assert (len(said), events) == (sentences, [])
        assert later.state.trained == str(job.folder)
        assert later.state.untold == ()


def test_segments_that_were_asked_for_after_a_prediction_are_made_whoever_looks_when_it_is_done(session):
    job = session.start("predict", session.predict_config(device="cpu"))
    session.change(then_segment=(job.folder.name,))
    with pytest.raises(ConfigError, match="wait until it is done, or stop it first"):
        session.be_free(*SEGMENTING)
    deadline = time.monotonic() + PATIENCE_S
    while not Job(job.folder).poll().state.final:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    later = Session()
    later.open_project(session.project.folder)
    later.poll()
    assert later.state.then_segment == ()
    segmented = next(status for status in later.jobs if status.stage == "segment")
    assert wait(later, segmented).state == JobState.DONE
    assert later.segmentation is not None


def test_a_job_that_fails_is_said_once(session):
    said = heard(session.said)
    session.change(annotations="nowhere.tif")
    job = session.start("finetune", session.finetune_config())
    assert wait(session, job).state == JobState.FAILED
    session.poll()
    assert [level for _, level in said] == ["error"]
    assert "nowhere.tif" in said[0][0]


def test_a_job_is_stopped_and_resumed_from_a_session_that_was_opened_later(session):
    job = session.start("finetune", session.finetune_config(steps=10**6, crop=(8, 32, 32), device="cpu", workers=0))
    later = Session()
    later.open_project(session.project.folder)
    later.job(job.folder).stop()
    assert wait(later, job).state == JobState.STOPPED
    later.resume(job.folder)
    later.job(job.folder).stop()
    assert wait(later, job).state == JobState.STOPPED


def test_painted_labels_are_made_once_and_are_the_annotations(data):  # noqa: F811
    session = Session()
    session.new_project(data / "p", str(data / "raw.npy"), "10,10,10")
    path = session.painted_labels()
    assert session.painted_labels() == path
    assert path.parent == session.project.annotations
    assert session.finetune_config().annotations == str(session.project.annotations)


def test_what_is_chosen_is_heard_and_remembered(session):
    states = heard(session.state_changed)
    session.change(threshold=0.25)
    session.change(threshold=0.25)
    assert [state.threshold for (state,) in states] == [0.25]
    assert session.segment_config().threshold == 0.25


def test_without_a_project_everything_says_what_to_do():
    session = Session()
    assert not session.is_open
    with pytest.raises(ProjectError, match="choose an image"):
        session.finetune_config()


def test_a_volume_that_cannot_be_opened_makes_no_project(tmp_path):
    with pytest.raises(VolumeError):
        Session().new_project(tmp_path / "p", str(tmp_path / "nothing.tif"))
    assert not (tmp_path / "p").exists()


def test_models_to_start_from_are_those_here_and_the_sizes(session):
    assert {"tiny", "small", "base"} <= set(session.models())


def test_a_damaged_run_folder_does_not_hinder_the_project(session):
    folder = session.project.new_run("finetune")
    np.save(folder / "x.npy", np.zeros(1))
    later = Session()
    said = heard(later.said)
    later.open_project(session.project.folder)
    assert later.jobs == ()
    assert said[0][1] == "warning"
    with pytest.raises((JobError, KeyError)):
        later.job(folder)


def test_a_job_whose_folder_is_removed_holds_up_nobody(session):
    job = session.start("finetune", session.finetune_config(steps=10**6, crop=(8, 32, 32), device="cpu", workers=0))
    job.kill()
    said = heard(session.said)
    shutil.rmtree(job.folder)
    session.lose(job.folder)
    assert session.jobs == ()
    assert session.state.untold == ()
    assert said == [("finetune-1: its folder was removed, or its disk does not answer now.", "error")]


def test_a_job_that_could_not_be_started_holds_up_nobody_and_can_be_resumed(session, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(subprocess, "Popen", Mock(side_effect=OSError(12, "Cannot allocate memory")))
        with pytest.raises(JobError, match="Cannot allocate memory"):
            session.start("finetune", session.finetune_config(steps=1, crop=(8, 32, 32), device="cpu", workers=0))
    later = Session()
    later.open_project(session.project.folder)
    later.poll()
    (status,) = later.jobs
    assert (status.state, status.reason) == (JobState.STOPPED, "It was never started; resume it to start it.")
    later.resume(status.folder)
    assert wait(later, later.job(status.folder)).state == JobState.DONE


def test_a_job_of_another_project_is_none_of_its_business(session, tmp_path):
    """A watch may still hold what it saw before another project was opened."""
    job = session.start("segment", session.segment_config(affinities="nowhere.zarr"))
    status = wait(session, job)
    first = session.project.folder
    session.new_project(tmp_path / "other.tokenunify", session.state.volume, session.state.voxel_size)
    assert session.project.folder != first
    session.take(status, [])
    assert session.jobs == ()
    assert session.state.untold == ()
    assert "segment-1" not in (session.project.folder / "project.json").read_text()


def test_a_damaged_segmentation_is_said_and_the_project_opens_without_it(session):
    folder = session.project.segmentation
    folder.mkdir()
    again = Session()
    said = heard(again.said)
    again.open_project(session.project.folder)
    assert (said, again.segmentation) == ([], None), "it is not finished, as somebody is making it"
    (folder / "spec.json").write_text('{"kind": "segm')
    again.open_project(session.project.folder)
    assert again.segmentation is None
    assert [level for _, level in said] == ["error"]
    assert "spec.json is damaged; copy the folder again" in said[0][0]
