from __future__ import annotations

import pytest
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QDockWidget, QMainWindow, QMessageBox, QWidget

from napari_tokenunify.gui.closing_guard import ClosingGuard
from napari_tokenunify.jobs import JobState
from napari_tokenunify.session import Session
from tests.jobs.conftest import _toys_and_a_state_of_their_own, make_job  # noqa: F401 - fixtures

pytestmark = pytest.mark.gui

PATIENCE_MS = 20_000


class OneJob(Session):
    """A session whose project has one job."""

    def __init__(self, job):
        super().__init__()
        self._one = job

    @property
    def jobs(self):
        return (self._one.poll(),)

    def job(self, folder):
        return self._one


@pytest.fixture
def job(make_job):  # noqa: F811
    job = make_job(steps=100_000)
    job.start()
    yield job
    job.kill()


@pytest.fixture
def window(qtbot, job):
    window, dock, widget = QMainWindow(), QDockWidget(), QWidget()
    dock.setWidget(widget)
    window.addDockWidget(Qt.DockWidgetArea.RightDockWidgetArea, dock)
    window.guard = ClosingGuard(OneJob(job))
    window.guard.attend(widget)
    window.dock = dock
    window.show()
    yield window
    window.guard._session._one.kill()
    window.close()


def answer(monkeypatch, text):
    """Press the button of that name in the next question; return what was asked."""
    asked = []

    def press(question):
        asked.append(question.text())
        chosen = next(button for button in question.buttons() if button.text() == text)
        monkeypatch.setattr(question, "clickedButton", lambda: chosen, raising=False)
        return 0

    monkeypatch.setattr(QMessageBox, "exec", press)
    return asked


def test_a_window_stays_if_the_user_thinks_better_of_it(window, job, monkeypatch):
    asked = answer(monkeypatch, "Cancel")
    assert not window.close()
    assert window.isVisible()
    assert len(asked) == 1
    assert asked[0].startswith("At work: ")


def test_jobs_left_running_run_on(window, job, monkeypatch):
    answer(monkeypatch, "Leave running")
    assert window.close()
    assert not job.poll().state.final


def test_jobs_are_stopped_if_that_is_wanted_even_where_the_dock_is_afloat(window, job, monkeypatch, qtbot):
    window.dock.setFloating(True)
    answer(monkeypatch, "Stop")
    assert window.close()
    qtbot.waitUntil(lambda: job.poll().state is JobState.STOPPED, timeout=PATIENCE_MS)


def test_nothing_is_asked_where_nothing_is_at_work(window, job, monkeypatch):
    asked = answer(monkeypatch, "Cancel")
    job.kill()
    assert window.close()
    assert asked == []


def test_who_has_chosen_in_the_preferences_is_not_asked(window, job, monkeypatch, qtbot):
    asked = answer(monkeypatch, "Cancel")
    monkeypatch.setattr("napari_tokenunify.gui.closing_guard.on_closing", lambda: "stop")
    assert window.close()
    assert asked == []
    qtbot.waitUntil(lambda: job.poll().state is JobState.STOPPED, timeout=PATIENCE_MS)
