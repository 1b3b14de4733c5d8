from __future__ import annotations

import pytest
from qtpy.QtCore import Qt

from napari_tokenunify.data import Finding
from napari_tokenunify.geometry import Box
from napari_tokenunify.gui.finding_list import FindingList, targets

pytestmark = pytest.mark.gui

LONG = "The stack moves sideways by up to 28 voxels, and stays so, at sections 10-11 and 25-26: align it again. " * 2
FINDINGS = [
    Finding("coverage", "info", "3 neurons."),
    Finding("shift", "warning", LONG, (10, 11, 25, 26)),
    Finding("labels", "error", "These are labels."),
    Finding("tiny", "warning", "Two slips.", (4,), ((4, 5, 6), (4, 8, 9))),
]


@pytest.fixture
def shown(qtbot):
    widget = FindingList()
    qtbot.addWidget(widget)
    widget.resize(340, 100)
    widget.show_findings(FINDINGS)
    return widget


def test_the_gravest_come_first_and_say_so_in_words(shown):
    texts = [shown.item(row).text() for row in range(shown.count())]
    assert [text.split(":")[0] for text in texts] == ["Error", "Warning", "Warning", "Note"]
    assert texts[1].endswith("(2 places)")


def test_enter_and_click_lead_from_place_to_place_and_round_again(shown, qtbot):
    gone = []
    shown.go_to.connect(gone.append)
    shown.setCurrentRow(2)
    qtbot.keyClick(shown, Qt.Key.Key_Return)
    middle = shown.visualItemRect(shown.item(2)).center()
    qtbot.mouseClick(shown.viewport(), Qt.MouseButton.LeftButton, pos=middle)
    qtbot.keyClick(shown, Qt.Key.Key_Enter)
    first, second = Box((4, 5, 6), (5, 6, 7)), Box((4, 8, 9), (5, 9, 10))
    assert gone == [first, second, first]
    shown.setCurrentRow(0)  # leads nowhere
    qtbot.keyClick(shown, Qt.Key.Key_Return)
    assert len(gone) == 3


def test_sections_lead_to_where_each_run_of_them_begins():
    assert targets(FINDINGS[1]) == [10, 25]
    assert targets(FINDINGS[0]) == []


def test_long_messages_are_shown_whole(shown):
    line = shown.fontMetrics().height()
    assert shown.sizeHintForRow(1) >= 4 * line
    assert shown.height() >= sum(shown.sizeHintForRow(row) for row in range(shown.count()))


def test_nothing_to_say_takes_no_room(shown):
    shown.show_findings([])
    assert not shown.isVisible()
