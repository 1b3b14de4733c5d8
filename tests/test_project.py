from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from napari_tokenunify.errors import ProjectError, TrainError
from napari_tokenunify.project import Project, ProjectState, check_place, project_around, whole_file, whole_folder


def test_what_a_project_knows_is_there_when_it_is_opened_again(tmp_path):
    project = Project.create(tmp_path / "brain.tokenunify", ProjectState(volume="stack.zarr"))
    project.change(threshold=0.3, box="0:8,0:64,0:64")
    again = Project(tmp_path / "brain.tokenunify")
    assert (again.state.volume, again.state.threshold, again.state.box) == ("stack.zarr", 0.3, "0:8,0:64,0:64")


def test_a_value_that_cannot_be_used_changes_nothing(tmp_path):
    project = Project.create(tmp_path / "p", ProjectState(volume="stack.zarr"))
    with pytest.raises(ValidationError):
        project.change(threshold=2)
    assert Project(tmp_path / "p").state.threshold == project.state.threshold == 0.5


def test_a_project_is_never_overwritten(tmp_path):
    Project.create(tmp_path / "p", ProjectState(volume="a"))
    with pytest.raises(ProjectError, match="open it"):
        Project.create(tmp_path / "p", ProjectState(volume="b"))


@pytest.mark.parametrize(("content", "sentence"), [(None, "is no project"), ("{}", "cannot be read"), ("x", "read")])
def test_a_folder_that_is_no_project_is_said_in_one_sentence(tmp_path, content, sentence):
    if content is not None:
        (tmp_path / "project.json").write_text(content)
    with pytest.raises(ProjectError, match=sentence):
        Project(tmp_path)


def test_runs_are_numbered_and_listed_in_the_order_of_their_making(tmp_path):
    project = Project.create(tmp_path / "p", ProjectState(volume="a"))
    made = [project.new_run(stage) for stage in ("finetune", "predict", "finetune")]
    assert [path.name for path in made] == ["finetune-1", "predict-1", "finetune-2"]
    (project.folder / "runs" / "notes").mkdir()
    assert project.runs == made


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "a.json"
    path.write_text("before")

    def fill_the_disk():
        with whole_file(path, TrainError) as part:
            part.write_text("after")
            raise OSError(28, "No space left on device")

    with pytest.raises(TrainError, match="what was there before is still there"):
        fill_the_disk()
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_is_there_whole_or_not_at_all(tmp_path):
    def fill():
        with whole_folder(tmp_path / "b" / "a", TrainError) as part:
            part.mkdir()
            raise OSError(28, "No space left on device")

    with pytest.raises(TrainError, match=r"a: cannot be written \(No space"):
        fill()
    assert not list((tmp_path / "b").iterdir())
    with whole_folder(tmp_path / "b" / "a", TrainError) as part:
        part.mkdir()
    with pytest.raises(TrainError, match="is not overwritten"), whole_folder(tmp_path / "b" / "a", TrainError):
        pass


def test_no_project_is_made_inside_another_one(tmp_path):
    Project.create(tmp_path / "p.tokenunify", ProjectState(volume="a.tif"))
    with pytest.raises(ProjectError, match=r"lies inside the project .*p\.tokenunify; choose a folder outside it"):
        Project.create(tmp_path / "p.tokenunify" / "runs" / "q.tokenunify", ProjectState(volume="a.tif"))
    assert not (tmp_path / "p.tokenunify" / "runs").exists()


def test_runs_stand_in_the_order_of_their_making_whatever_is_written_into_them_later(tmp_path):
    project = Project.create(tmp_path / "p.tokenunify", ProjectState(volume="a.tif"))
    made = {"finetune": "10:00:00+00:00", "predict": "12:30:00+02:00", "segment": "10:45:00+00:00"}
    for stage, clock in made.items():
        (project.new_run(stage) / "spec.json").write_text(f'{{"created": "2026-11-23T{clock}"}}')
    newest = project.new_run("predict")  # it has no spec yet
    (project.runs_folder / "finetune-1" / "control").touch()
    assert [run.name for run in project.runs] == ["finetune-1", "predict-1", "segment-1", newest.name]


def test_a_place_that_cannot_be_read_is_in_no_project_and_takes_none(tmp_path):
    nobody = Path("~nobody-of-that-name/x.tokenunify")
    assert project_around(nobody) is None
    with pytest.raises(ProjectError, match="is no place for a folder"):
        check_place(nobody)
    assert project_around(tmp_path / ("long" * 100)) is None


def test_a_copy_gets_a_free_place_and_those_that_nothing_needs_go(tmp_path):
    project = Project.create(tmp_path / "p.tokenunify", ProjectState(volume="raw.npy"))
    first = project.place_for("labels.npy", [])
    assert first == project.kept / "labels-1.npy"
    first.parent.mkdir()
    for name in ("labels-1.npy", "labels-2.npy", "labels-mine.npy", "points-1.csv"):
        (project.kept / name).write_text("something")
    assert project.place_for("labels.npy", ['{"annotations": "' + str(first) + '"}']).name == "labels-2.npy"
    assert sorted(path.name for path in project.kept.iterdir()) == ["labels-1.npy", "labels-mine.npy", "points-1.csv"]
