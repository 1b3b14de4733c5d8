from __future__ import annotations

import gc
import weakref

import pytest
from psygnal import Signal
from qtpy.QtWidgets import QApplication, QWidget

from napari_tokenunify.gui.listening import listen

pytestmark = pytest.mark.gui


class Speaker:
    said = Signal(int)


class Listener(QWidget):
    def __init__(self, speaker, heard):
        super().__init__()
        self._heard = heard
        listen(speaker.said, self.hear)

    def hear(self, number):
        self.setWindowTitle(str(number))  # an error once Qt has deleted the widget
        self._heard.append(number)


def test_a_widget_hears_until_qt_deletes_it(qtbot):
    speaker, heard = Speaker(), []
    listener = Listener(speaker, heard)
    speaker.said.emit(1)
    listener.deleteLater()
    QApplication.sendPostedEvents(None, 52)  # DeferredDelete
    QApplication.processEvents()
    speaker.said.emit(2)
    assert heard == [1]


def test_listening_keeps_no_widget_alive(qtbot):
    speaker = Speaker()
    gone = weakref.ref(Listener(speaker, []))
    gc.collect()
    assert gone() is None
    speaker.said.emit(1)
