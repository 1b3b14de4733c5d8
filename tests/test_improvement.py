from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from napari_tokenunify.errors import ProofreadError
from napari_tokenunify.improvement import Improvement
from napari_tokenunify.jobs import JobState, JobStatus
from tests.test_segmentations import edits_of, own_state_folder, segmented, session  # noqa: F401 - fixtures
from tests.test_session import heard, wait


class Started:
    """Stands in for a job; remembers what was asked."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder


@pytest.fixture
def starts(session, monkeypatch):  # noqa: F811
    """Jobs that would be started."""
    asked = []

    def start(stage, config):
        asked.append((stage, config))
        folder = session.project.folder / "runs" / f"{stage.replace(' ', '-')}-9"
        session._statuses[folder] = JobStatus(JobState.RUNNING, stage, folder.name, folder)
        session._jobs[folder] = Started(folder)
        return Started(folder)

    segmented(session)
    monkeypatch.setattr(session, "start", start)
    return asked


def end(session, stage, state=JobState.DONE, **result):  # noqa: F811
    """Let a job end."""
    folder = session.project.folder / "runs" / f"{stage.replace(' ', '-')}-9"
    status = replace(session._statuses[folder], state=state, result=result)
    session._statuses[folder] = status
    session.job_ended.emit(status)


def test_each_step_begins_when_the_one_before_is_done(session, starts):  # noqa: F811
    improvement, told = Improvement(session), heard(session.said)
    improvement.begin()
    assert improvement.job.stage == "proofread labels"
    end(session, "proofread labels", out="edits-1.zarr")
    end(session, "finetune")
    end(session, "predict")
    assert improvement.job.stage == "segment"
    assert session.state.improving == "segment-9"
    end(session, "segment")
    assert improvement.job is None
    assert [stage for stage, _ in starts] == ["proofread labels", "finetune", "predict", "segment"]
    assert starts[0][1].out == str(session.project.folder / "edits-1.zarr")
    assert starts[1][1].annotations == "edits-1.zarr"
    assert told == []


def test_one_that_fails_is_waited_for_and_goes_on_when_it_was_resumed(session, starts):  # noqa: F811
    improvement = Improvement(session)
    improvement.begin()
    end(session, "proofread labels", JobState.FAILED)
    assert len(starts) == 1
    assert improvement.job.state is JobState.FAILED
    end(session, "proofread labels", out="edits-1.zarr")
    assert len(starts) == 2


def test_other_jobs_of_the_same_kind_have_nothing_to_do_with_it(session, starts):  # noqa: F811
    improvement = Improvement(session)
    folder = session.project.folder / "runs" / "finetune-3"
    session.job_ended.emit(JobStatus(JobState.DONE, "finetune", "finetune-3", folder))
    assert starts == []
    improvement.begin()
    with pytest.raises(ProofreadError, match="wait until it is done"):
        improvement.begin()
    improvement.end()
    assert session.state.improving is None


def test_without_edits_it_says_what_to_do(session):  # noqa: F811
    segmented(session)
    edits_of(session)
    improvement, told = Improvement(session), heard(session.said)
    improvement.begin()
    (folder,) = (status.folder for status in session.jobs if status.stage == "proofread labels")
    assert wait(session, session.job(folder)).state is JobState.FAILED
    assert "merge, split or mark segments correct first" in told[-1][0]


def test_the_labels_hold_what_the_edits_say(session):  # noqa: F811
    segmented(session)
    edits_of(session).merge((4, 20, 5), (4, 20, 40), threshold=0.3)
    session.change(threshold=0.3)
    config = Improvement(session).labels_config()
    assert config.threshold == 0.3, "as the user sees the segments"
    job = session.start("proofread labels", config)
    assert wait(session, job).state is JobState.DONE, job.log_tail()
    import zarr

    written = np.asarray(zarr.open_array(Path(config.out) / "0", mode="r")[:])
    assert written[4, 20, 5] == written[4, 20, 40] > 0
