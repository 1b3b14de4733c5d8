from __future__ import annotations

import re

import pytest

from napari_tokenunify.helped.table import Trained, rows_of, shown, verdict, write_table

ABOUT = {"parts": "all", "steps": 100, "seconds": 60.0, "learning_rate": 1e-3}


def trained(start, *losses, **scores):
    return [
        Trained(start, seed, {"validation_loss": loss, **{k: v[seed] for k, v in scores.items()}}, ABOUT)
        for seed, loss in enumerate(losses)
    ]


def test_mean_and_spread_are_over_seeds():
    (row,) = rows_of(trained("a", 0.1, 0.2, 0.3))
    assert row["validation_loss"] == pytest.approx(0.2)
    assert row["validation_loss_spread"] == pytest.approx(0.1)
    assert shown(row, "validation_loss") == "0.200 ± 0.100"
    assert shown(rows_of(trained("a", 0.1))[0], "validation_loss") == "0.100"
    assert "voi" not in row


@pytest.mark.parametrize(
    ("ours", "theirs", "said"),
    [
        ((0.1, 0.1, 0.2), (0.2, 0.3, 0.3), "It helped: loss is 50% lower than from b, and better with each of 3 seeds"),
        ((0.3, 0.3, 0.3), (0.2, 0.2, 0.2), "It did not help: loss is 50% higher"),
        ((0.1, 0.3, 0.1), (0.2, 0.2, 0.2), "No clear difference: loss is 17% .* better with 2 of 3 seeds only"),
        ((0.1,), (0.2,), "Loss is 50% lower than from b, with 1 seed; that may be chance: use 3 or more"),
        ((), (0.2,), "Nothing can be said yet"),
    ],
)
def test_a_sentence_says_whether_it_helped(ours, theirs, said):
    sentence = verdict([*trained("a", *ours), *trained("b", *theirs)], "a", "b")
    assert re.match(said, sentence), sentence


def test_segments_count_more_than_the_loss_where_they_were_compared():
    done = [*trained("a", 0.1, 0.1, 0.1, voi=(2, 2, 2)), *trained("b", 0.2, 0.2, 0.2, voi=(1, 1, 1))]
    assert verdict(done, "a", "b").startswith("It did not help: VOI is 100% higher")


def test_the_table_has_a_line_for_each_start_and_each_training(tmp_path):
    done = [*trained("a|1", 0.1, 0.2), *trained("b", 0.2, 0.2)]
    path = write_table(tmp_path, done, ["Said."])
    text = path.read_text()
    assert "| a\\|1 | 0.150 ± 0.071 | 2 | 100 | 1.0 | 0.001 | all |" in text
    assert "Said." in text
    assert "| b | 1 | 0.200 |" in text
    assert "a|1,spread,0.0707" in (tmp_path / "table.csv").read_text()
