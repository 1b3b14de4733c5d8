"""The benchmarks' own parts: data sets from YAML, runs that are scored and not repeated, tables, ratios."""

from __future__ import annotations

import argparse
import csv
import importlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from napari_tokenunify.data.annotations import BACKGROUND_ID
from napari_tokenunify.data.synthetic import synthetic_em
from napari_tokenunify.errors import ConfigError

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
SET = """
name: tissue
licence: CC0
voxel_size_nm: [10, 10, 10]
train: {raw: "tissue.npz::raw", labels: "tissue.npz::labels", sections: [0, 16]}
test: {raw: "tissue.npz::raw", labels: "tissue.npz::labels", sections: [16, 28]}
tile: [8, 32, 32]
references: {half: "tissue.npz::half"}
"""


@pytest.fixture(autouse=True)
def benchmark_folder(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)


def module(name: str):
    return importlib.import_module(name)


@pytest.fixture(scope="module")
def tissue(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("tissue")
    made = synthetic_em((28, 48, 48), (10.0, 10.0, 10.0))
    half = np.where(np.arange(48) < 24, made.labels, 0)
    np.savez(folder / "tissue.npz", raw=made.raw, labels=made.labels, half=half)
    (folder / "tissue.yaml").write_text(SET)
    return folder


def test_the_data_sets_that_come_along_can_be_read():
    data_set = module("data_set")
    found = [data_set.read_data_set(path) for path in sorted(data_set.OWN.glob("*.yaml"))]
    assert [one.name for one in found] == ["fib25_train_test", "isbi2012"]
    assert all(one.licence for one in found)


def test_a_key_that_nobody_knows_is_said_with_the_file(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(SET + "sauce: red\n")
    with pytest.raises(ConfigError, match=r"mine\.yaml: there is no setting sauce"):
        module("data_set").read_data_set(path)


def test_flat_crops_keep_the_sections_that_the_unet_needs(tissue):
    data_set, quality = module("data_set"), module("quality")
    found = data_set.read_data_set(tissue / "tissue.yaml")
    part = data_set.training_part(found, tissue, "sections-3", seed=1)
    assert quality.task_for(quality.build("tiny", 0), part, 0).crop[0] == 8
    assert quality.task_for(quality.build("unet", 0), part, 0).crop[0] == 16


def test_the_unet_takes_volumes_of_few_sections():
    network = module("quality").build("unet", 0).module.eval()
    thin = torch.rand(1, 1, 10, 32, 32)
    with torch.no_grad():
        assert network(thin).shape == (1, 3, 10, 32, 32)
        deep = torch.cat([thin, thin[:, :, -1:].expand(-1, -1, 6, -1, -1)], dim=2)
        torch.testing.assert_close(network(thin), network(deep)[:, :, :10])


def test_files_that_are_missing_are_named(tissue, tmp_path):
    found = module("data_set").read_data_set(tissue / "tissue.yaml")
    assert found.missing(tissue) == []
    assert found.missing(tmp_path) == [str(tmp_path / "tissue.npz")]


def test_sparse_labels_are_a_part_of_the_dense_ones(tissue):
    data_set = module("data_set")
    found = data_set.read_data_set(tissue / "tissue.yaml")
    dense, sections, strokes = (
        data_set.training_part(found, tissue, kind, seed=1).labels for kind in ("dense", "sections-3", "scribbles")
    )
    assert dense.shape == (16, 48, 48)
    assert np.flatnonzero(sections.any(axis=(1, 2))).tolist() == [6, 7, 8]
    for sparse in (sections, strokes):
        assert sparse.any()
        assert np.array_equal(sparse[sparse > 0], dense[sparse > 0])
    assert 0.009 < np.count_nonzero(strokes) / strokes.size < 0.05


def test_boundary_is_known_only_where_something_was_labelled(tissue):
    data_set = module("data_set")
    found = data_set.read_data_set(tissue / "tissue.yaml").replace(zero_is_boundary=True, smallest=0)
    part = data_set.training_part(found, tissue, "sections-3", seed=0)
    ids = part.annotations.labels.dask().compute()
    assert not ids[0].any()
    assert ids[7].all()
    assert (ids[7] == BACKGROUND_ID).any() == (part.labels[7] == 0).any()
    assert BACKGROUND_ID not in part.labels


@pytest.mark.parametrize(("depth", "count"), [(20, 3), (20, 10), (20, 20), (5, 4), (50, 30)])
def test_sections_are_spread_and_none_comes_twice(depth, count):
    chosen = module("data_set").spread(depth, count)
    assert len(set(chosen.tolist())) == count
    assert 0 <= chosen.min() <= chosen.max() < depth


def test_thresholds_are_tuned_where_most_is_labelled():
    quality = module("quality")
    labels = np.zeros((100, 2, 2), np.uint64)
    labels[[3, 80, 81]] = 1
    chosen = quality.sections_to_tune(labels)
    assert chosen.stop - chosen.start == quality.TUNED
    assert chosen.start <= 80 <= 81 < chosen.stop
    assert quality.sections_to_tune(labels[:10]) == slice(0, 10)


def test_the_truth_itself_is_without_error_and_gaps_are_filled_with_what_is_near(tissue):
    data_set, quality = module("data_set"), module("quality")
    unseen = data_set.testing_part(data_set.read_data_set(tissue / "tissue.yaml"), tissue)
    judge = quality.Judge.of(unseen)
    table = np.arange(int(unseen.truth.max()) + 1, dtype=np.uint64)
    scores = judge.scores(unseen.truth, table)
    assert scores["voi"] == pytest.approx(0)
    assert scores["run_length_um"] == pytest.approx(scores["run_length_of_um"])
    one = judge.scores(unseen.truth, np.ones_like(table))
    assert one["voi_merge"] > 0
    assert one["voi_split"] == pytest.approx(0)
    assert 0 < one["on"]["half"]["voi"] != one["voi"]
    grown = quality.filled(unseen.references["half"], (10.0, 10.0, 10.0))
    assert grown.all()
    assert np.array_equal(grown[..., :24], unseen.references["half"][..., :24])


def test_a_training_on_several_sets_takes_turns():
    turns = module("quality").Turns((range(10, 20), range(20, 30)))
    assert [turns[i] for i in range(4)] == [10, 20, 11, 21]


def options(tissue: Path, out: Path, **more) -> argparse.Namespace:
    usual = {
        "sets": [tissue / "tissue.yaml"],
        "data": tissue,
        "networks": ["tiny"],
        "arms": ["intensity", "half"],
        "methods": ["mean"],
        "seeds": [0, 1],
        "minutes": None,
        "steps": None,
        "leave_one_out": False,
        "proofread": 5,
        "until": None,
        "results": out / "results.jsonl",
        "table": out / "table",
        "only_table": False,
    }
    return argparse.Namespace(**usual | more)


def test_runs_are_scored_once_and_told_in_a_table(tissue, tmp_path, monkeypatch):
    segmentation, run = module("segmentation"), module("segmentation_run").run
    monkeypatch.setattr(module("quality"), "BLURS", (1.0,))
    monkeypatch.setattr(module("quality"), "BOUNDARIES", (0.5, 0.6))
    given = options(tissue, tmp_path)
    sets = segmentation.found_sets(given.sets, given.data)
    ran = []

    def here(command, **_):
        one = segmentation.Run.model_validate_json(command[command.index("--one") + 1])
        ran.append(one.arm)
        row = run(one, sets, tissue, Path(command[command.index("--pictures") + 1]))
        return argparse.Namespace(returncode=0, stdout="noise\n" + json.dumps(row))

    monkeypatch.setattr(segmentation.subprocess, "run", here)
    rows = segmentation.do_all(given, [])
    assert ran == ["intensity", "half"]  # the second seed would give the same
    assert len(segmentation.do_all(given, [])) == 2
    assert len(ran) == 2
    assert {"cuts", "merges", "answers_to_half", "best_voi"} <= rows[0]["scores"]["mean"].keys()
    assert rows[1]["segmented"] == pytest.approx(0.5, abs=0.1)
    text = module("segmentation_report").write_report(rows, given.table)
    assert "| intensity | mean |" in text
    assert "VOI on half" in text
    with (given.table / "table.csv").open() as file:
        assert [row["arm"] for row in csv.DictReader(file)] == ["intensity", "half"]
    assert {path.name for path in (given.table / "pictures" / "tissue").iterdir()} >= {
        "xy_intensity.png",
        "xy_truth.png",
    }
    assert (given.table / "effort.png").stat().st_size > 0


def test_an_untrained_network_and_too_few_sections_are_skipped(tissue, tmp_path, capsys):
    segmentation = module("segmentation")
    given = options(tissue, tmp_path, arms=["*"], networks=["tiny", "nowhere"], seeds=[0, 1], steps=3)
    found = list(segmentation.runs(given, segmentation.found_sets(given.sets, tissue)))
    names = {(one.arm, one.seed) for one in found}
    assert ("tiny/sections-3", 1) in names
    assert not {arm for arm, _ in names} & {"tiny/none", "tiny/sections-30", "nowhere/none", "tiny/others"}
    assert all(one.steps == 3 and one.minutes is None for one in found if one.network)
    said = capsys.readouterr().err
    assert "tiny/sections-30: skipped, as there are 16 sections to label" in said
    assert "nowhere/none: skipped" in said


def test_another_seed_is_in_the_same_row_with_its_range():
    report = module("segmentation_report")
    common = {"set": "a", "arm": "x/dense", "asked_minutes": 5.0, "asked_steps": None, "labelled": 10}
    scores = {"voi_split": 1.0, "on": {"ffn": {"voi": 0.5}}, "answers_to_half": None, "run_length_of_um": 1.0}
    rows = [{**common, "seed": seed, "scores": {"waterz": {**scores, "voi": 1.0 + seed}}} for seed in (0, 1)]
    groups = report.grouped(report.flat(rows))
    assert [len(same) for same in groups] == [2]
    text = report.markdown(groups)
    assert "1.500 (1.000-2.000)" in text
    assert "0 of 2 get there" in text
    assert "VOI on ffn" in text


def test_a_ratio_that_falls_by_a_third_is_said_and_a_better_one_is_not():
    rows, run_all = module("rows"), module("run_all")
    speed = rows.Row("speed", 6.0, 5, at_least=True, is_ratio=True)
    time = rows.Row("time", 0.8, 1.1, is_ratio=True)
    found = {"a: speed": speed, "a: time": time}
    assert speed.met
    assert run_all.fallen(found, {"a: speed": 8.0, "a: time": 0.6}) == []
    assert run_all.fallen(found, {"a: speed": 3.0, "a: time": 2.0}) == []
    (said,) = run_all.fallen(found, {"a: speed": 9.0, "a: time": 0.8, "a: gone": 1.0})
    assert said == "a: speed: 6, stored 9: worse by 33%"
    (said,) = run_all.fallen(found, {"a: time": 0.5})
    assert "worse by 38%" in said


def test_of_several_runs_the_worst_ratio_is_stored(tmp_path):
    rows, run_all = module("rows"), module("run_all")
    given = argparse.Namespace(size="small", ratios=tmp_path / "ratios.json", store=True)
    for found in (6.0, 4.0, 5.0):
        row = rows.Row("speed", found, at_least=True, is_ratio=True)
        assert run_all.compared(run_all.Found({"scan": [row]}), given)
    assert json.loads(given.ratios.read_text()) == {"small": {"scan: speed": 4.0}}
    given.store = False
    slow = rows.Row("speed", 2.0, at_least=True, is_ratio=True)
    assert not run_all.compared(run_all.Found({"scan": [slow]}), given)
    assert not run_all.compared(run_all.Found(broken=["scan"]), given)


def test_what_has_fallen_is_measured_again_and_the_better_one_counts(tmp_path, monkeypatch):
    rows, run_all = module("rows"), module("run_all")
    (tmp_path / "ratios.json").write_text('{"small": {"scan: speed": 6.0, "segment: speed": 6.0, "scan: memory": 1.0}}')
    options = argparse.Namespace(size="small", ratios=tmp_path / "ratios.json", data=tmp_path)

    def measured(speed, memory):
        return [
            rows.Row("speed", speed, at_least=True, is_ratio=True),
            rows.Row("memory", memory, is_ratio=True),
        ]

    ran = []
    monkeypatch.setattr(run_all, "run", lambda name, *_: ran.append(name) or measured(5.5, 1.5))
    found = run_all.Found({"scan": measured(3.0, 1.1), "segment": measured(5.0, 2.0)})
    run_all.measure_again(found, options)
    assert ran == ["scan"]
    assert found.rows["scan"] == measured(5.5, 1.1)


def test_rows_are_kept_and_read_again_and_a_missed_target_ends_with_1(tmp_path, capsys):
    rows, run_all = module("rows"), module("run_all")
    kept = rows.Rows()
    kept.add(rows.Row("memory", 400, 300, unit="MB", note="for a crop"))
    kept.add(rows.Row("told", 0.1234))
    with pytest.raises(SystemExit) as ended:
        kept.end(tmp_path / "rows.json")
    assert ended.value.code == 1
    assert "| memory | 400 MB | <= 300 MB | NO | for a crop |" in capsys.readouterr().out
    again = [rows.Row(**row) for row in json.loads((tmp_path / "rows.json").read_text())]
    assert again == kept.rows
    assert "| scan | told | 0.123 |" in run_all.table(run_all.Found({"scan": again}))


def test_every_benchmark_of_the_list_is_there_and_ratios_are_of_them():
    run_all = module("run_all")
    assert all((BENCHMARKS / f"{name}.py").exists() for name in run_all.BENCHMARKS)
    stored = json.loads(run_all.RATIOS.read_text())
    names = {name.partition(":")[0] for ratios in stored.values() for name in ratios}
    assert names <= run_all.BENCHMARKS.keys()
