from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from napari_tokenunify.chain import Chain, read_chain, run_chain, stage_config
from napari_tokenunify.config import RunConfig
from napari_tokenunify.data import open_volume
from napari_tokenunify.errors import ConfigError, ExportError
from napari_tokenunify.events import Message
from napari_tokenunify.pipeline import STAGES
from napari_tokenunify.project import Project, ProjectState
from tests.train.test_finetuning import data  # noqa: F401 - a fixture

WHOLE = """
project: p.tokenunify
volume: raw.npy
voxel_size: 10,10,10
annotations: labels.npy
model: {seed}
finetune: {{steps: 2, crop: [8, 32, 32], device: cpu, precision: fp32, workers: 0}}
predict: {{device: cpu}}
segment:
evaluate: {{worst: 0}}
export: {{format: tiff, out: segments.tif}}
"""


def finish(generator):
    said = []
    while True:
        try:
            said.append(next(generator))
        except StopIteration as end:
            return end.value, said


def test_a_file_says_the_whole_chain_and_a_second_time_only_what_is_missing_is_done(data):  # noqa: F811
    file = data / "chain.yaml"
    file.write_text(WHOLE.format(seed=data / "seed"))
    result, _ = finish(STAGES["run"].run(RunConfig(file=str(file))))
    assert list(result) == ["out", "finetune", "predict", "segment", "evaluate", "export"]
    assert (result["finetune"]["steps"], result["predict"]["complete"]) == (2, True)
    assert 0 <= result["evaluate"]["voi"] < 20
    assert open_volume(str(data / "segments.tif")).shape == (16, 64, 64)
    assert Project(data / "p.tokenunify").state.trained == result["finetune"]["out"]

    written = (data / "segments.tif").stat().st_mtime_ns
    same, _ = finish(STAGES["run"].run(RunConfig(file=str(file))))
    assert same["export"] == result["export"]
    assert (data / "segments.tif").stat().st_mtime_ns == written

    file.write_text(file.read_text().replace("format: tiff", "format: hdf5"))
    with pytest.raises(ExportError, match="is there already"):
        finish(STAGES["run"].run(RunConfig(file=str(file))))
    file.write_text(file.read_text().replace("format: hdf5", "format: tiff"))

    (data / "segments.tif").unlink()
    again, said = finish(STAGES["run"].run(RunConfig(file=str(file))))
    assert (again["predict"]["tiles"], again["predict"]["out"]) == (0, result["predict"]["out"])
    assert any("finished already" in event.text for event in said if isinstance(event, Message))
    assert (data / "segments.tif").exists()


def test_only_steps_that_are_named_are_done(data):  # noqa: F811
    chain = Chain(project=str(data / "p"), volume=str(data / "raw.npy"), model=str(data / "seed"), predict={})
    result, _ = finish(run_chain(chain))
    assert list(result) == ["out", "predict"]


def test_a_slip_in_the_last_step_is_told_before_the_first_is_done(data):  # noqa: F811
    project = data / "p"
    chain = Chain(project=str(project), volume=str(data / "raw.npy"), predict={}, export={"formt": "tiff"})
    with pytest.raises(ConfigError, match="export: there is no setting formt"):
        next(run_chain(chain))
    assert not (project / "affinities.zarr").exists()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("volume: [", "is no YAML"),
        ("- volume", "must say"),
        ("project: p", "volume is missing"),
        ("{project: p, volume: v, volme: w}", "there is no setting volme"),
        ("{project: p, volume: v, predict: 3}", "predict"),
        ("!!python/object/apply:os.system ['true']", "is no YAML"),
    ],
)
def test_a_file_that_says_nothing_useful_is_told_in_one_sentence(tmp_path: Path, text: str, said: str):
    file = tmp_path / "chain.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=said):
        read_chain(file)


def test_paths_count_from_the_file_and_addresses_stay(tmp_path: Path):
    file = tmp_path / "chain.yaml"
    file.write_text(json.dumps({"project": "p", "volume": "https://here/x.zarr", "annotations": "sub/a.h5::labels"}))
    chain = read_chain(file)
    assert (chain.project, chain.volume) == (str(tmp_path / "p"), "https://here/x.zarr")
    assert chain.annotations == str(tmp_path / "sub/a.h5::labels")


def test_a_project_of_another_volume_is_not_taken(tmp_path: Path):
    np.save(tmp_path / "a.npy", np.zeros((4, 4, 4), np.uint8))
    Project.create(tmp_path / "p", ProjectState(volume="another.tif"))
    with pytest.raises(ConfigError, match=r"is a project of another\.tif"):
        next(run_chain(Chain(project=str(tmp_path / "p"), volume=str(tmp_path / "a.npy"), predict={})))


def test_a_pre_training_begins_with_the_volume_and_is_compared_on_the_annotations(tmp_path: Path):
    project = Project.create(tmp_path / "p", ProjectState(volume="v", voxel_size="8,8,8", annotations="a", minutes=2))
    pretrain = stage_config(project, "pretrain", recipe="mae")
    assert (pretrain.volumes, pretrain.voxel_size, pretrain.recipe) == (("v",), "8,8,8", "mae")
    compare = stage_config(project, "compare-pretraining", model="m")
    assert (compare.volume, compare.annotations, compare.minutes, compare.model) == ("v", "a", 2, "m")


def test_a_trained_network_is_the_one_that_predicts(tmp_path: Path):
    project = Project.create(tmp_path / "p", ProjectState(volume="v", model="small"))
    assert stage_config(project, "predict").model == "small"
    project.change(trained="runs/finetune-1")
    assert stage_config(project, "predict").model == "runs/finetune-1"


def test_paths_in_all_steps_count_from_the_file_and_names_stay(tmp_path):
    (tmp_path / "weights").mkdir()
    (tmp_path / "c.yaml").write_text(
        "project: p\nvolume: v.npy\nmodel: weights\nfinetune: {model: tiny, annotations: a.npy}\n"
        "predict: {out: /there/a.zarr}\nsegment: {mask: m.npy::x, workers: 2}\n"
        "evaluate: {skeletons: sk, labels: 's3://bucket/l'}\nexport: {out: o.zarr}\n"
    )
    chain, here = read_chain(tmp_path / "c.yaml"), str(tmp_path)
    assert (chain.project, chain.model) == (f"{here}/p", f"{here}/weights")
    assert chain.finetune == {"model": "tiny", "annotations": f"{here}/a.npy"}
    assert chain.predict == {"out": "/there/a.zarr"}
    assert chain.segment == {"mask": f"{here}/m.npy::x", "workers": 2}
    assert chain.evaluate == {"skeletons": f"{here}/sk", "labels": "s3://bucket/l"}
    assert chain.export == {"out": f"{here}/o.zarr"}


def test_the_membrane_of_the_project_s_own_labels_is_no_neuron_where_segments_are_compared(tmp_path):
    project = Project.create(tmp_path / "p", ProjectState(volume="v", annotations="mine", boundary_id=255))
    assert stage_config(project, "evaluate").ignore == (0, 255)
    assert stage_config(project, "evaluate", labels="mine").ignore == (0, 255)
    assert stage_config(project, "evaluate", labels="others").ignore == (0,)
    assert stage_config(project, "evaluate", ignore=(7,)).ignore == (7,)
