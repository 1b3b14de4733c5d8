from __future__ import annotations

import pytest

from napari_tokenunify.errors import ConfigError
from napari_tokenunify.gui.helped_panel import HelpedPanel
from napari_tokenunify.jobs import JobState, JobStatus
from tests.gui.test_train_panel import own_folders, session  # noqa: F401 - fixtures

pytestmark = pytest.mark.gui


@pytest.fixture
def panel(qtbot, session):  # noqa: F811
    panel = HelpedPanel(session)
    qtbot.addWidget(panel)
    return panel


def test_without_a_pre_training_there_is_nothing_to_compare(panel):
    assert not panel.button.isEnabled()
    assert "Nothing is pre-trained yet" in panel.words.text()
    with pytest.raises(ConfigError, match="Nothing is pre-trained"):
        panel.config()


def test_it_says_how_long_it_will_take_and_asks_for_that(panel, session, tmp_path):  # noqa: F811
    panel.offer([tmp_path / "pretrain-2", tmp_path / "pretrain-1"])
    panel.minutes.setValue(2)
    assert panel.words.text() == "6 trainings, 12 minutes."
    panel.other.setCurrentIndex(panel.other.findData(str(tmp_path / "pretrain-1")))
    assert panel.words.text() == "9 trainings, 18 minutes."
    config = panel.config()
    assert (config.model, config.others) == (str(tmp_path / "pretrain-2"), (str(tmp_path / "pretrain-1"),))
    assert (config.minutes, config.seeds, config.volume) == (2, 3, session.state.volume)
    assert config.annotations == str(session.project.annotations)


def test_the_table_and_what_it_says_are_shown_when_it_is_done(panel, session, tmp_path):  # noqa: F811
    panel.offer([tmp_path / "pretrain-1"])
    common = {"seeds": 2, "steps": 100, "minutes": 1.0, "learning_rate": 1e-3}
    rows = [
        {**common, "start": "pretrain-1 (paper)", "affinity_f1": 0.9, "affinity_f1_spread": 0.01, "voi": 1.0},
        {**common, "start": "scratch", "affinity_f1": 0.8, "affinity_f1_spread": 0.02, "voi": 2.0},
    ]
    result = {"rows": rows, "verdict": "It helped: ...", "table": str(tmp_path / "table.md")}
    run = session.project.new_run("compare-pretraining")
    running = JobStatus(JobState.RUNNING, "compare-pretraining", run.name, run)
    session.job_changed.emit(running)
    assert not panel.button.isEnabled()
    assert panel.table.isHidden()
    session.job_changed.emit(JobStatus(JobState.DONE, "compare-pretraining", run.name, run, result=result))
    assert "It helped" in panel.words.text()
    assert [panel.table.verticalHeaderItem(row).text() for row in range(2)] == ["F1 ↑", "VOI ↓"]
    assert panel.table.horizontalHeaderItem(1).text() == "scratch"
    assert panel.table.item(0, 0).text() == "0.900\n± 0.010"
    assert panel.table.item(1, 1).text() == "2.000"
    assert "learning rate 0.001" in panel.table.horizontalHeaderItem(0).toolTip()
    assert panel.button.isEnabled()
