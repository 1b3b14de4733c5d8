from __future__ import annotations

import numpy as np
import pytest

from napari_tokenunify.errors import ProjectError
from napari_tokenunify.gui.compare_panel import ComparePanel
from tests.gui.test_export_panel import own_state_folder, press, segmented, session  # noqa: F401 - fixtures

pytestmark = pytest.mark.gui

PATIENCE_MS = 60_000


@pytest.fixture
def panel(make_napari_viewer, qtbot, session):  # noqa: F811
    panel = ComparePanel(make_napari_viewer(), session)
    qtbot.addWidget(panel)
    return panel


def test_scores_and_the_worst_neurons_are_shown_and_lead_to_their_places(
    panel,
    segmented,  # noqa: F811
    qtbot,
    tmp_path,
):
    truth = np.ones(segmented.volume.shape, np.uint32)
    truth[:, :, 24:] = 2  # two neurons, which are one segment
    np.save(tmp_path / "truth.npy", truth)
    segmented.open_project(segmented.project.folder)
    panel.labels.setText(str(tmp_path / "truth.npy"))
    press(qtbot, panel.button)

    def is_told():
        segmented.poll()
        return "VOI split" in panel.scores.text() and panel.worst.count() == 2

    qtbot.waitUntil(is_told, timeout=PATIENCE_MS)
    assert "<b>VOI merge</b> 1.000" in panel.scores.text()
    assert "merged with" in panel.worst.item(0).text()
    assert len(panel.worst._targets[0]) == 2  # a voxel in each of the neurons that were merged


def test_without_segments_there_is_nothing_to_compare(panel):
    with pytest.raises(ProjectError, match="no segments yet"):
        panel.config()
