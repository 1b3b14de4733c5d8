from __future__ import annotations

import pytest
from qtpy.QtCore import Qt

from napari_tokenunify.gui.job_panel import JobPanel
from napari_tokenunify.jobs import JobState
from tests.jobs.conftest import _toys_and_a_state_of_their_own, make_job  # noqa: F401 - fixtures

pytestmark = pytest.mark.gui


@pytest.fixture
def panel(qtbot):
    panel = JobPanel()
    qtbot.addWidget(panel)
    panel.resize(500, 600)
    panel.show()
    yield panel
    panel.watch.close()


def row(panel, job):
    return panel._rows[job.folder][1]


def shows(panel, job, state):
    return lambda: job.folder in panel._rows and str(state) in row(panel, job).title.text()


def test_without_jobs_the_panel_says_so(panel, qtbot):
    qtbot.waitUntil(lambda: panel.watch._looking is not None and panel.watch._looking.done())
    assert panel.empty.isVisible()
    assert not panel.details.isVisible()


def test_a_job_is_watched_paused_resumed_and_stopped_by_its_buttons(panel, qtbot, make_job):  # noqa: F811
    job = make_job(steps=100_000)
    job.start()
    qtbot.waitUntil(shows(panel, job, JobState.RUNNING), timeout=20_000)
    mine = row(panel, job)
    assert mine.pause.isVisible()
    assert not mine.resume.isVisible()
    qtbot.mouseClick(mine.pause, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(shows(panel, job, JobState.PAUSED), timeout=20_000)
    qtbot.mouseClick(mine.resume, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(shows(panel, job, JobState.RUNNING), timeout=20_000)
    qtbot.waitUntil(lambda: "left" in mine.bar.format(), timeout=20_000)
    qtbot.mouseClick(mine.stop, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(shows(panel, job, JobState.STOPPED), timeout=20_000)
    assert mine.resume.isVisible()
    assert not mine.stop.isVisible()


def test_the_chosen_job_shows_its_curve_its_numbers_and_its_log(panel, qtbot, make_job):  # noqa: F811
    job = make_job(steps=30)
    job.start()
    qtbot.waitUntil(shows(panel, job, JobState.DONE), timeout=20_000)
    assert panel.chosen == job.folder
    qtbot.waitUntil(lambda: "loss" in panel.details.curves.lines)
    steps, _ = panel.details.curves.lines["loss"].getData()
    assert len(steps) == 30
    assert "loss" in panel.details.words.text()
    qtbot.mouseClick(panel.details.show_log, Qt.MouseButton.LeftButton)
    assert panel.details.log.isVisible()


def test_a_failure_is_told_in_its_sentence(panel, qtbot, make_job):  # noqa: F811
    job = make_job(steps=4, ends="fails")
    job.start()
    qtbot.waitUntil(shows(panel, job, JobState.FAILED), timeout=20_000)
    qtbot.waitUntil(lambda: job.poll().reason in panel.details.words.text())


def test_an_order_that_cannot_be_followed_comes_as_a_sentence(panel, qtbot, make_job):  # noqa: F811
    job = make_job(steps=2)
    job.start()
    qtbot.waitUntil(shows(panel, job, JobState.DONE), timeout=20_000)
    with qtbot.waitSignal(panel.watch.problem, timeout=20_000) as said:
        panel.watch.order(job.folder, "resume")
    assert "nothing to resume" in said.args[0]


def test_a_hidden_panel_does_not_look(panel):
    panel.hide()
    assert not panel.watch._timer.isActive()
    panel.show()
    assert panel.watch._timer.isActive()


def test_napari_opens_it_from_its_menu(make_napari_viewer):
    viewer = make_napari_viewer()
    _, panel = viewer.window.add_plugin_dock_widget("napari-tokenunify", "TokenUnify jobs")
    assert isinstance(panel, JobPanel)
    panel.watch.close()
