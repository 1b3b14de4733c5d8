from __future__ import annotations

import numpy as np
import pytest
from qtpy.QtCore import Qt

from napari_tokenunify.gui import segment_table
from napari_tokenunify.gui.project_layers import MARKED
from napari_tokenunify.gui.segment_table import _Rows
from tests.gui.test_proofread_panel import PATIENCE_MS, desk, own_state_folder, project  # noqa: F401 - fixtures
from tests.gui.test_segment_panel import press
from tests.proofread.conftest import affinities, bars, master  # noqa: F401 - fixtures

pytestmark = pytest.mark.gui


@pytest.fixture
def segments(desk, qtbot):  # noqa: F811
    """The list, of 40 segments of one fragment each."""
    found = desk.panel.segments
    settle(desk, qtbot, "<b>40 segments</b>, 0 marked correct.")
    return found


def settle(desk, qtbot, words):  # noqa: F811
    desk.rest()
    qtbot.waitUntil(lambda: desk.panel.segments.words.text() == words, timeout=PATIENCE_MS)


def column(segments, number):
    model = segments.model
    return [model.data(model.index(row, number)) for row in range(model.rowCount())]


def click_row(desk, qtbot, segments, row):  # noqa: F811
    table = segments.table
    index = segments.model.index(row, 0)
    table.scrollTo(index)
    qtbot.mouseClick(table.viewport(), Qt.MouseButton.LeftButton, pos=table.visualRect(index).center())
    desk.rest()


def test_all_segments_are_listed_with_their_numbers_the_largest_first(desk, qtbot, segments):  # noqa: F811
    assert column(segments, _Rows.VOXELS) == ["18"] * 39 + ["17"]
    assert column(segments, _Rows.VOLUME)[0] == "1.15e-05"
    desk.session.proofreading.merge(1, 2, 3, threshold=0.0)
    desk.editing.changed.emit(None)
    desk.session.use_proofreading(desk.session.proofreading)
    settle(desk, qtbot, "<b>38 segments</b>, 0 marked correct.")
    assert (column(segments, _Rows.VOXELS)[0], column(segments, _Rows.FRAGMENTS)[0]) == ("54", "3")


def test_a_click_on_a_row_picks_its_segment_and_leads_there(desk, qtbot, segments):  # noqa: F811
    segments.table.sortByColumn(_Rows.SEGMENT, Qt.SortOrder.AscendingOrder)
    click_row(desk, qtbot, segments, 30)
    assert desk.tools.chosen.segment == int(column(segments, _Rows.SEGMENT)[30]) == 31
    z = desk.viewer.dims.point[0]
    assert int(desk.session.segmentation.fragments[int(z) // 40, 0, 0]) == 21, "the section that 31 lies in"
    assert (np.array(desk.viewer.layers[MARKED].data.table) > 0).nonzero()[0].tolist() == [31]


def test_a_segment_that_is_clicked_in_the_view_stands_out_in_the_list(desk, segments):  # noqa: F811
    desk.click(7)
    assert segments.model.data(segments.table.currentIndex().siblingAtColumn(_Rows.SEGMENT)) == "7"


def test_the_next_to_check_is_the_largest_that_is_not_marked_correct(desk, qtbot, segments):  # noqa: F811
    desk.mode("Merge")
    desk.click(11, 12)
    press(qtbot, desk.tools.do)
    settle(desk, qtbot, "<b>39 segments</b>, 0 marked correct.")
    desk.key("U")
    assert desk.tools.chosen.voxels == 36
    desk.key("R")
    settle(desk, qtbot, "<b>39 segments</b>, 1 marked correct, 5.0% of the voxels.")
    assert column(segments, _Rows.CORRECT)[0] == "✓"
    desk.key("U")
    assert desk.tools.chosen.voxels == 18
    first = desk.tools.chosen.segment
    desk.key("U")
    assert desk.tools.chosen.segment != first, "asked again, the one after it"


def test_what_is_undone_is_not_marked_correct_any_more(desk, qtbot, segments):  # noqa: F811
    desk.click(3)
    desk.key("R")
    settle(desk, qtbot, "<b>40 segments</b>, 1 marked correct, 2.5% of the voxels.")
    desk.key("Control-Z")
    settle(desk, qtbot, "<b>40 segments</b>, 0 marked correct.")


def test_a_segment_is_found_by_the_number_of_any_of_its_fragments(desk, qtbot, segments, monkeypatch):  # noqa: F811
    desk.mode("Merge")
    desk.click(23, 24)
    press(qtbot, desk.tools.do)
    settle(desk, qtbot, "<b>39 segments</b>, 0 marked correct.")
    for number in (23, 24):
        segments.find.setText(str(number))
        qtbot.keyClick(segments.find, Qt.Key.Key_Return)
        desk.rest()
        assert desk.tools.chosen.voxels == 36
    said = []
    monkeypatch.setattr(segment_table, "show_error", said.append)
    segments.find.setText("axon")
    qtbot.keyClick(segments.find, Qt.Key.Key_Return)
    assert said == ["'axon' is not the number of a segment."]


def test_a_number_that_no_fragment_has_is_told(desk, qtbot, segments):  # noqa: F811
    said = []
    desk.editing.failed.connect(said.append)
    segments.find.setText("4711")
    qtbot.keyClick(segments.find, Qt.Key.Key_Return)
    desk.rest()
    assert said == ["There is no fragment 4711: they go from 1 to 40."]


def test_sorting_keeps_what_is_chosen(desk, qtbot, segments):  # noqa: F811
    desk.click(7)
    for order in (Qt.SortOrder.AscendingOrder, Qt.SortOrder.DescendingOrder):
        segments.table.sortByColumn(_Rows.SEGMENT, order)
        numbers = [int(number) for number in column(segments, _Rows.SEGMENT)]
        assert numbers == sorted(numbers, reverse=order == Qt.SortOrder.DescendingOrder)
        assert segments.model.data(segments.table.selectionModel().selectedRows()[0]) == "7"


def test_another_threshold_is_listed_while_the_list_is_seen_and_not_when_hidden(desk, qtbot, segments):  # noqa: F811
    desk.session.change(threshold=0.55)
    desk.rest()
    number = len(np.unique(desk.table[desk.table > 0]))
    assert number < 40
    settle(desk, qtbot, f"<b>{number} segments</b>, 0 marked correct.")
    desk.panel.hide()
    desk.session.change(threshold=0.0)
    desk.rest()
    assert f"{number} segments" in segments.words.text()
    desk.panel.show()
    settle(desk, qtbot, "<b>40 segments</b>, 0 marked correct.")
