from __future__ import annotations

import pytest
from napari.utils.notifications import notification_manager
from qtpy.QtCore import QObject

from napari_tokenunify.errors import ProofreadError
from napari_tokenunify.gui.background import Background

pytestmark = pytest.mark.gui


@pytest.fixture
def work(qapp):
    parent = QObject()
    yield Background(parent)
    parent.deleteLater()


def failing(error):
    def work():
        raise error

    return work


def events_then(error):
    yield "an event"
    raise error


def test_what_the_work_returns_is_told(work, qtbot):
    with qtbot.waitSignal(work.done) as told:
        work.start(lambda: 42)
    assert told.args == [42]
    assert not work.busy


def test_a_known_problem_is_told_in_its_sentence_and_no_more(work, qtbot):
    before = len(notification_manager.records)
    with qtbot.waitSignal(work.failed) as told:
        work.start(failing(ProofreadError("Point at a segment.")))
    assert told.args == ["Point at a segment."]
    assert len(notification_manager.records) == before


@pytest.mark.parametrize("error", [ValueError("odd"), RuntimeError("odd"), MemoryError("odd"), PermissionError("odd")])
@pytest.mark.parametrize("as_generator", [False, True])
def test_any_other_error_ends_the_work_too_and_is_shown(work, qtbot, error, as_generator):
    with qtbot.waitSignal(work.failed) as told:
        work.start((lambda: events_then(error)) if as_generator else failing(error))
    assert told.args == [f"Something went wrong that should not: {type(error).__name__}: odd"]
    assert notification_manager.records[-1].exception is error
    assert not work.busy
    with qtbot.waitSignal(work.done) as told:
        work.start(lambda: "the next")
    assert told.args == ["the next"]


def test_an_error_of_work_that_nobody_waits_for_any_more_is_not_told(work, qtbot):
    told = []
    work.failed.connect(told.append)
    work.start(failing(ValueError("odd")))
    with qtbot.waitSignal(work.done):
        work.start(lambda: "the next")
    assert told == []
