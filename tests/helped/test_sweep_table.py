from __future__ import annotations

import csv

import pytest

from napari_tokenunify.helped.sweep_table import Size, sentences_of, write_sweep


def size(name, parameters, loss, **changes):
    values = {
        "multiply_adds": 1000 * parameters, "crop": [16, 64, 64], "batch": 2, "steps": 1000, "seconds": 90.0,
        "flop": 12e6 * parameters, "learning_rate": 1e-3,
        "metrics": {"validation_loss": loss, "random_against_inpainting": 0.4, "next_against_inpainting": 0.6},
    }  # fmt: skip
    return Size(name, parameters, **{**values, **changes})


VOI = {"pre-trained": {"voi": 1.5, "voi_spread": 0.1, "affinity_f1": 0.9}, "scratch": {"voi": 2.0}}


def test_the_table_has_a_row_for_each_size_ascending_and_plots_beside_it(tmp_path):
    done = [size("small", 4_000_000, 0.02), size("tiny", 1_000_000, 0.04, tuned=VOI)]
    text = write_sweep(tmp_path, done, ["A sentence."]).read_text()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("|")]
    assert [row[0] for row in rows] == ["size", "---", "tiny", "small"]
    tiny = dict(zip(rows[0], rows[2], strict=True))
    assert tiny["parameters"] == "1 M"
    assert (tiny["loss ↓"], tiny["against inpainting ↓"]) == ("0.04000", "0.500")
    assert (tiny["VOI pre-trained ↓"], tiny["VOI scratch ↓"]) == ("1.500 ± 0.100", "2.000")
    assert (tiny["10^12 operations"], tiny["minutes"], tiny["steps"]) == ("12", "1.5", "1,000")
    assert "A sentence." in text
    for name in ("loss_by_parameters", "loss_by_compute", "voi_by_parameters", "voi_by_compute"):
        assert f"({name}.svg)" in text
        assert "tiny" in (tmp_path / f"{name}.svg").read_text()
    with (tmp_path / "table.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["size"], row["parameters"], row["pretrained_voi"]) for row in rows] == [
        ("tiny", "1000000", "1.5"), ("small", "4000000", ""),
    ]  # fmt: skip


def test_without_annotations_or_a_loss_there_is_no_plot_of_it(tmp_path):
    text = write_sweep(tmp_path, [size("tiny", 1_000_000, 0.04, metrics={})], []).read_text()
    assert "svg" not in text
    assert "VOI" not in text


def test_a_sentence_says_what_more_parameters_give():
    sizes = [size("tiny", 1_000_000, 0.04), size("small", 4_000_000, 0.01), size("base", 16_000_000, 0.0025)]
    assert sentences_of(sizes, 3, "9 steps")[0].startswith("**Twice the parameters: 0.500 times the loss**")
    first, second = sentences_of(sizes[:2], 3, "9 steps")
    assert first == "**small has 0.250 times the loss of tiny.**"
    assert second.startswith("Each size had 9 steps of pre-training on crops of 16x64x64 voxels;")
    assert second.endswith("2 of 3 sizes are done.")


def test_what_is_said_of_one_size_names_its_loss_and_scores():
    said = size("tiny", 992_003, 0.0412, tuned=VOI).sentence
    expected = "tiny, 0.992 M parameters: loss 0.0412 after 1,000 steps, VOI 1.500 pre-trained, VOI 2.000 scratch."
    assert said == expected
    assert size("tiny", 1, 0.1).row["flop"] == pytest.approx(12e6)
