"""Where each artefact of a project and of a run lies on disk; nothing else builds these paths."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import sys
import uuid
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from pydantic import Field, ValidationError

from napari_tokenunify.config import BoxText, Config, VoxelSizeText
from napari_tokenunify.errors import ProjectError, TokenUnifyError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

SUFFIX: Final = ".tokenunify"
_RUN: Final = re.compile(r"(.+)-(\d+)")


class ProjectState(Config):
    """What a project remembers, so that nothing is asked twice."""

    volume: str
    """The image that the project is about: a path, path::inner, or an address."""
    voxel_size: VoxelSizeText | None = None
    """Voxel size z,y,x in nm, where the file does not say it."""
    annotations: str | None = None
    """Labels on the volume; by default the project's own, which are painted in napari."""
    boundary_id: Annotated[int, Field(ge=1)] | None = None
    """The id in the annotations that stands for membrane or outside."""
    zero_is_boundary: bool = False
    """Read 0 in the annotations as boundary, for dense labels; else 0 is unlabelled."""
    model: str = "small"
    """What training and prediction start from: a name, or a path to weights or a run."""
    trained: str | None = None
    """What to predict with, once something was trained: a run's folder; else `model`."""
    minutes: Annotated[float, Field(gt=0)] = 5.0
    """How long to train; a larger value gives a better network."""
    box: BoxText | None = None
    """The part of the volume that is predicted; a larger box takes longer."""
    method: Literal["waterz", "mean", "multicut", "lifted", "mutex", "gasp"] = "mean"
    """How fragments are joined."""
    threshold: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Where the slider stands; a larger value gives fewer, larger segments."""
    fits_labels: bool = True
    """Move the slider to where segments agree best with the labels, after each segmentation; until it is moved."""
    segmentation: Annotated[str, Field(pattern=r"^segmentation(-\d+)?$")] = "segmentation"
    """The folder of the segmentation; one that was edited is kept, and the next one lies beside it."""
    untold: tuple[str, ...] = ()
    """Runs at work, whose end nobody was told yet."""
    improving: str | None = None
    """The run after which an improvement goes on with its next one."""
    then_segment: tuple[str, ...] = ()
    """Predictions at work, after which segments are to be made."""


class Project:
    """A project folder, `NAME.tokenunify`; the volume stays where it is and is never written to.

    Parameters
    ----------
    folder : Path
        A folder that `create` has made.
    soon : callable, optional
        Calls what it is given, `save`, at once or soon, in any thread; by default at once, so that every change is on
        the disk before `change` returns. A window must not wait for a disk.

    Raises
    ------
    ProjectError
        If there is no project, or it cannot be read.
    """

    def __init__(self, folder: Path, soon: Callable[[Callable[[], None]], object] = lambda save: save()) -> None:
        self.folder, self._soon, self._writing = _resolved(folder), soon, Lock()
        try:
            self.state = self._saved = ProjectState.model_validate_json(self._file.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise ProjectError(f"{self.folder}: is no project; choose a folder that has a project.json.") from error
        except (OSError, ValidationError) as error:
            raise ProjectError(f"{self._file}: cannot be read; was it made by a newer version, or edited?") from error

    @classmethod
    def create(cls, folder: Path, state: ProjectState) -> Project:
        """Make a project; an existing one is never overwritten.

        Raises
        ------
        ProjectError
            If there is one already, or it would lie in another one, or the folder cannot be written.
        """
        folder = _resolved(folder)
        check_place(folder)
        _save(folder / "project.json", state)
        return cls(folder)

    def change(self, **changes: Any) -> None:
        """Remember something else.

        Raises
        ------
        ProjectError
            If it cannot be written; the state is then as before.
        pydantic.ValidationError
            If a value cannot be used.
        """
        before, self.state = self.state, self.state.replace(**changes)
        if self.state == before:
            return
        try:
            self._soon(self.save)
        except ProjectError:
            self.state = before
            raise

    def save(self) -> None:
        """Write what is remembered, if it is not on the disk yet.

        Raises
        ------
        ProjectError
            If it cannot be written.
        """
        with self._writing:
            state = self.state
            if state != self._saved:
                _save(self._file, state)
                self._saved = state

    @property
    def annotations(self) -> Path:
        """Labels painted in napari."""
        return self.folder / "annotations.zarr"

    @property
    def affinities(self) -> Path:
        """What was predicted."""
        return self.folder / "affinities.zarr"

    @property
    def segmentation(self) -> Path:
        """Fragments, graph, merge tree, table and edits."""
        return self.folder / self.state.segmentation

    @property
    def runs(self) -> list[Path]:
        """The run folders, in the order of their making."""
        return sorted((path for path in self.runs_folder.glob("*") if _RUN.fullmatch(path.name)), key=_made)

    @property
    def runs_folder(self) -> Path:
        """What holds the run folders."""
        return self.folder / "runs"

    def new_run(self, stage: str) -> Path:
        """Make and return the next folder for a run of a stage, e.g. `runs/finetune-3`."""
        parent = self.runs_folder
        taken = [int(found[2]) for path in parent.glob(f"{stage}-*") if (found := _RUN.fullmatch(path.name))]
        folder = parent / f"{stage}-{max(taken, default=0) + 1}"
        try:
            folder.mkdir(parents=True)
        except OSError as error:
            raise ProjectError(f"{folder}: cannot be made ({error.strerror or error}).") from error
        return folder

    def place_for(self, name: str, needed: Sequence[str]) -> Path:
        """Return a free place for a copy of what lay in no file, and delete the copies that nothing needs.

        Parameters
        ----------
        name : str
            As a file name, e.g. "labels.npy"; the place has a number more.
        needed : sequence of str
            Texts, such as specs of runs, that name the copies which are still needed.
        """
        stem, _, ending = name.rpartition(".")
        pattern, taken = re.compile(rf"{stem}-(\d+)\.{ending}"), [0]
        for path in self.kept.glob(f"{stem}-*.{ending}"):
            found = pattern.fullmatch(path.name)
            if found is None:
                continue
            if any(path.name in text for text in needed):
                taken.append(int(found[1]))
                continue
            try:
                path.unlink()
            except OSError:  # somebody reads it still
                taken.append(int(found[1]))
        return self.kept / f"{stem}-{max(taken) + 1}.{ending}"

    @property
    def kept(self) -> Path:
        """Copies of what lay in no file when it was used: labels, points, segments."""
        return self.folder / "kept"

    @property
    def preflight(self) -> Path:
        """What the check of the image found; JSON."""
        return self.folder / "check.json"

    @property
    def exported(self) -> Path:
        """What `run` has exported where; JSON."""
        return self.folder / "exported.json"

    @property
    def _file(self) -> Path:
        return self.folder / "project.json"


def project_around(path: Path) -> Path | None:
    """Return the project folder that a path lies in, or is; None if there is none, or none that may be read."""
    try:
        path = _resolved(path)
        return next((folder for folder in (path, *path.parents) if (folder / "project.json").is_file()), None)
    except (OSError, ProjectError):
        return None


def _resolved(folder: Path) -> Path:
    try:
        return Path(folder).expanduser().resolve()
    except (OSError, RuntimeError) as error:  # `~` and a user whom nobody knows, links in a circle
        raise ProjectError(f"{folder}: is no place for a folder ({error}); write its whole path.") from error


def check_place(folder: Path) -> None:
    """Refuse to make a project where one is, or inside another one.

    Raises
    ------
    ProjectError
        If it cannot be made there.
    """
    folder, around = _resolved(folder), project_around(folder)
    if around == folder:
        raise ProjectError(f"{folder}: is a project already; open it, or choose another name.")
    if around is not None:
        raise ProjectError(f"{folder}: lies inside the project {around}; choose a folder outside it.")


def _made(run: Path) -> tuple[float, int, str]:
    """Return when a run was made, as its spec says: times of the folder change with each file that is written there."""
    try:
        made = datetime.fromisoformat(json.loads(RunPaths(run).spec.read_text(encoding="utf-8"))["created"]).timestamp()
    except (OSError, ValueError, KeyError, TypeError):
        made = math.inf  # being made
    return made, int(run.name.rpartition("-")[2]), run.name


@dataclass(frozen=True)
class RunPaths:
    """The files of a run folder: what was asked, what happened, what it made.

    Parameters
    ----------
    folder : Path
        The run folder; made by whoever writes into it first.
    """

    folder: Path

    @property
    def spec(self) -> Path:
        """What was asked of the job; JSON."""
        return self.folder / "spec.json"

    @property
    def said(self) -> Path:
        """The metrics of a training that no Job keeps; a line each."""
        return self.folder / "said.jsonl"

    @property
    def events(self) -> Path:
        """What the job said, one JSON object a line."""
        return self.folder / "events.jsonl"

    @property
    def control(self) -> Path:
        """What the job is told: run, pause or stop."""
        return self.folder / "control"

    @property
    def process(self) -> Path:
        """Which process works here; JSON."""
        return self.folder / "process.json"

    @property
    def log(self) -> Path:
        """Everything else that the process printed."""
        return self.folder / "log.txt"

    @property
    def settings(self) -> Path:
        """What the training settled on: Config, crop, batch, precision, versions, data with their hashes; JSON."""
        return self.folder / "training.json"

    @property
    def best(self) -> Path:
        """Weights that were best on the annotations held out."""
        return self.folder / "checkpoints" / "best.safetensors"

    @property
    def last(self) -> Path:
        """Weights of the last checkpoint."""
        return self.folder / "checkpoints" / "last.safetensors"

    @property
    def state(self) -> Path:
        """All that a training needs to go on as if it had never stopped."""
        return self.folder / "state.safetensors"

    @property
    def previous_state(self) -> Path:
        """The state before that, should the last be damaged."""
        return self.folder / "state.previous.safetensors"

    @property
    def previews(self) -> Path:
        """Folder of the predictions of the preview region."""
        return self.folder / "previews"

    @property
    def tensorboard(self) -> Path:
        """Folder of TensorBoard's files."""
        return self.folder / "tensorboard"

    @property
    def summary(self) -> Path:
        """The run in words, tables and curves; Markdown."""
        return self.folder / "summary.md"


@contextmanager
def whole_file(path: Path, error: type[TokenUnifyError], within: Path | None = None) -> Iterator[Path]:
    """Write a file under another name, and give it its own once it is whole and on the disk.

    Until then a file of that name stays as it was, whatever happens: an error, a kill, a power cut. What a kill left
    behind is overwritten the next time. One process at a time may write a file.

    Parameters
    ----------
    path : Path
        The file to make or replace; its folder is made if missing.
    error : type
        What to raise.
    within : Path, optional
        Folder on the same disk to write in; by default that of `path`.

    Yields
    ------
    Path
        Where to write.

    Raises
    ------
    TokenUnifyError
        Of the type `error`, if it cannot be written, e.g. because the disk is full.
    """
    from safetensors import SafetensorError  # here, as what only asks for paths should load nothing

    part = (within or path.parent) / f".{path.name}.part"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.touch()
        mode = part.stat().st_mode  # that of any new file here; some writers make files for their owner alone
        yield part
        part.chmod(mode)
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        part.replace(path)
        _sync_folder(path.parent)
    except (OSError, RuntimeError, SafetensorError) as cause:  # torch and safetensors have their own for a full disk
        reason = getattr(cause, "strerror", None) or cause
        raise error(f"{path}: cannot be written ({reason}); what was there before is still there.") from cause
    finally:
        with suppress(OSError):
            part.unlink()


@contextmanager
def whole_folder(path: Path, error: Callable[[str], TokenUnifyError]) -> Iterator[Path]:
    """Make a folder under another name, and give it its own once all is in it; nothing is left if that fails.

    Parameters
    ----------
    path : Path
        The folder to make; never one that is there.
    error : callable
        Makes of a sentence what to raise.

    Yields
    ------
    Path
        Where to make it: a name that is free.

    Raises
    ------
    TokenUnifyError
        As `error` makes it, if something is there already, or it cannot be written.
    """
    if path.exists():
        raise error(f"{path}: is there already, and is not overwritten; delete it or choose another name.")
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield part
        part.rename(path)
    except OSError as cause:
        reason = cause.strerror or cause
        raise error(f"{path}: cannot be written ({reason}); make room or choose another place.") from cause
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _sync_folder(folder: Path) -> None:
    """Bring the new name to the disk; Windows does so by itself and opens no folders."""
    if sys.platform == "win32":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _save(path: Path, state: ProjectState) -> None:
    with whole_file(path, ProjectError) as part:
        part.write_text(json.dumps(state.model_dump(mode="json"), indent=1) + "\n", encoding="utf-8")
