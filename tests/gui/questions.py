"""Answering the questions that a panel asks in a window of their own."""

from __future__ import annotations

from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QApplication, QMessageBox


def answer(button):
    """Answer the question that comes, and return what it said."""
    said = []

    def choose():
        question = QApplication.activeModalWidget()
        assert isinstance(question, QMessageBox)
        said.append(f"{question.text()} {question.informativeText()}")
        assert question.defaultButton().text() == "Keep"
        next(one for one in question.buttons() if one.text() == button).click()

    QTimer.singleShot(50, choose)
    return said
