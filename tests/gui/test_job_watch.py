from __future__ import annotations

import shutil

import pytest

from napari_tokenunify.gui.job_watch import JobWatch
from napari_tokenunify.jobs import JobState
from tests.jobs.conftest import _toys_and_a_state_of_their_own, make_job  # noqa: F401 - fixtures

pytestmark = pytest.mark.gui


def test_a_disk_that_does_not_answer_for_a_while_is_told_once_and_looked_at_again(qtbot, make_job):  # noqa: F811
    job = make_job(steps=3)
    answers, told, seen = [PermissionError("the disk is away")] * 3, [], []

    def folders():
        if answers:
            raise answers.pop()
        return [job.folder]

    watch = JobWatch(folders)
    watch.problem.connect(told.append)
    watch.updated.connect(seen.append)
    watch.start()
    job.start()
    try:
        qtbot.waitUntil(lambda: bool(seen) and seen[-1][0].state is JobState.DONE, timeout=20_000)
    finally:
        watch.close()
    assert told == ["The jobs cannot be seen: the disk is away"]


def test_one_job_that_cannot_be_read_hides_no_other(qtbot, make_job, monkeypatch):  # noqa: F811
    good, bad = make_job("good", steps=3), make_job("bad", steps=3)
    poll = type(bad).poll

    def polled(job):
        if job.folder == bad.folder:
            raise OSError(116, "Stale file handle")
        return poll(job)

    seen = []
    watch = JobWatch(lambda: [bad.folder, good.folder])
    watch.updated.connect(seen.append)
    with monkeypatch.context() as patch:
        patch.setattr(type(bad), "poll", polled)
        watch.start()
        try:
            qtbot.waitUntil(lambda: bool(seen), timeout=20_000)
        finally:
            watch.close()
    assert [status.folder for status in seen[-1]] == [good.folder]


def test_what_is_forgotten_is_reported_anew(qtbot, make_job):  # noqa: F811
    job, reported = make_job(steps=3), []
    job.start()
    watch = JobWatch(lambda: [job.folder])
    watch.reported.connect(lambda status, events: reported.append((status.state, len(events))))
    watch.start()
    try:
        qtbot.waitUntil(lambda: bool(reported) and reported[-1][0] is JobState.DONE, timeout=20_000)
        said = sum(events for _, events in reported)
        reported.clear()
        watch.forget()
        qtbot.waitUntil(lambda: bool(reported), timeout=20_000)
    finally:
        watch.close()
    assert reported[0][0] is JobState.DONE
    assert reported[0][1] <= said, "all at once: of progress the last"


def test_a_folder_that_is_gone_is_told(qtbot, make_job):  # noqa: F811
    job, lost = make_job(steps=3), []
    watch = JobWatch(lambda: [job.folder])
    watch.lost.connect(lost.append)
    watch.start()
    try:
        qtbot.waitUntil(lambda: bool(watch._statuses), timeout=20_000)
        shutil.rmtree(job.folder)
        qtbot.waitUntil(lambda: lost == [job.folder], timeout=20_000)
    finally:
        watch.close()
