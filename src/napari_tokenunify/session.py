"""Session: what is open, and the verbs that a window calls. It knows signals, and no widgets.

Nothing here computes or waits: what takes long is a Job in a process of its own. Somebody has to look after the jobs:
a script calls `poll`, a window has a thread for it and passes on to `take` what that has found.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from psygnal import Signal

from napari_tokenunify import data
from napari_tokenunify.chain import stage_config
from napari_tokenunify.config import (
    ComparePretrainingConfig,
    EvaluateConfig,
    ExportConfig,
    FinetuneConfig,
    ImportConfig,
    PredictConfig,
    PretrainConfig,
    ProofreadCarryConfig,
    SegmentConfig,
)
from napari_tokenunify.errors import ConfigError, ProjectError, TokenUnifyError
from napari_tokenunify.export.formats import FORMATS
from napari_tokenunify.geometry import parse_voxel_size
from napari_tokenunify.jobs import Job, JobSpec, JobState
from napari_tokenunify.network.installed import installed_models, suggested_model
from napari_tokenunify.network.presets import NETWORK_PRESETS
from napari_tokenunify.predictions import whole_affinities, would_replace
from napari_tokenunify.project import Project, ProjectState
from napari_tokenunify.segmentations import (
    OpenSegmentation,
    has_edits,
    kept_folders,
    make_room,
    place_of_next,
    take_along,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from napari_tokenunify.config import Config
    from napari_tokenunify.data import Annotations, Volume
    from napari_tokenunify.events import Event
    from napari_tokenunify.jobs import JobStatus
    from napari_tokenunify.proofread import Proofreading
    from napari_tokenunify.segment import Segmentation

AnyConfig = TypeVar("AnyConfig", bound="Config")

_OWN_OUT: Final = frozenset(
    {"predict", "segment", "import", "export", "proofread labels"}
)  # write where their Config says
_CARRY: Final = "proofread carry"
SEGMENTING: Final = ("predict", "segment", "import", _CARRY)
"""Stages that read or write affinities and segments of a project: one after the other."""


class Session:
    """One project at a time, and its jobs.

    Attributes
    ----------
    project_opened : Signal(Project)
        Another project is open; volume, annotations, jobs and segmentation are its own.
    state_changed : Signal(ProjectState)
        What the project remembers has changed.
    job_changed : Signal(JobStatus)
        A job is new, or stands otherwise than before.
    job_said : Signal(JobStatus, Event)
        A metric, a message or a preview of a job.
    affinities_changed : Signal(Path)
        A prediction has written more.
    segmentation_changed : Signal(Segmentation)
        There is another segmentation; edits of the one before are not open any more.
    edited : Signal(Proofreading)
        Edits were opened, made, undone or redone.
    job_ended : Signal(JobStatus)
        A job has ended and what it made is in use; also if it ended while nobody looked.
    said : Signal(str, str)
        A sentence for the user, and its level: "info", "warning" or "error".

    Parameters
    ----------
    soon : callable, optional
        How the project is written when something changes, see `Project`; by default at once.
    """

    project_opened = Signal(object)
    state_changed = Signal(object)
    job_changed = Signal(object)
    job_said = Signal(object, object)
    affinities_changed = Signal(object)
    segmentation_changed = Signal(object)
    edited = Signal(object)
    job_ended = Signal(object)
    said = Signal(str, str)

    def __init__(self, soon: Callable[[Callable[[], None]], object] = lambda save: save()) -> None:
        self._soon = soon
        self._project: Project | None = None
        self._volume: Volume | None = None
        self._open_one = OpenSegmentation()
        self._moved: float | None = None  # a threshold that is not in the project's file yet
        self._jobs: dict[Path, Job] = {}
        self._statuses: dict[Path, JobStatus] = {}

    @property
    def project(self) -> Project:
        """The open project.

        Raises
        ------
        ProjectError
            If none is open.
        """
        if self._project is None:
            raise ProjectError("No project is open: choose an image first.")
        return self._project

    @property
    def is_open(self) -> bool:
        """Whether a project is open."""
        return self._project is not None

    @property
    def state(self) -> ProjectState:
        """What the project remembers, with a threshold that was just moved."""
        kept = self.project.state
        return kept if self._moved is None else kept.model_copy(update={"threshold": self._moved})

    @property
    def volume(self) -> Volume:
        """The project's volume, lazy.

        Raises
        ------
        VolumeError
            If it cannot be opened.
        """
        if self._volume is None:
            state = self.state
            self._volume = data.open_volume(
                state.volume, parse_voxel_size(state.voxel_size) if state.voxel_size else None
            )
        return self._volume

    @property
    def annotations(self) -> str:
        """Address of the labels that training learns from."""
        return self.state.annotations or str(self.project.annotations)

    def annotations_opener(self, uri: str | None = None) -> Callable[[], Annotations]:
        """Return a function that opens the annotations, or others like them; for a thread.

        Raises
        ------
        VolumeError
            If the volume cannot be opened.
        """
        state = self.state
        where, boundary = uri or self.annotations, state.boundary_id
        return partial(data.open_annotations, where, self.volume, boundary, zero_is_boundary=state.zero_is_boundary)

    @property
    def segmentation(self) -> Segmentation | None:
        """The finished segmentation, if there is one."""
        return self._open_one.segmentation

    @property
    def shown_threshold(self) -> float | None:
        """Where the slider stands; None where there is nothing to move."""
        movable = self.segmentation is not None and self.segmentation.spec["has_tree"]
        return self.state.threshold if movable else None

    @property
    def kept_segmentations(self) -> list[Path]:
        """Folders of segmentations from before, which are neither in use nor what a job is at work on."""
        at_work = [self._jobs[status.folder].spec.config for status in self.jobs if not status.state.final]
        named = {str(value) for config in at_work for value in config.values()}
        return [folder for folder in kept_folders(self.project) if str(folder) not in named]

    @property
    def proofreading(self) -> Proofreading | None:
        """The edits of the segmentation, once they were opened."""
        return self._open_one.proofreading

    @property
    def is_carrying(self) -> bool:
        """Whether edits are being carried over to a new segmentation; those that are made now would be left behind."""
        return any(status.stage == _CARRY and not status.state.final for status in self.jobs)

    def proofreading_opener(self) -> Callable[[], Proofreading]:
        """Return a function that opens the edits of the segmentation, for a thread; `use_proofreading` follows.

        Raises
        ------
        ProofreadError
            If there is no segmentation yet.
        """
        return self._open_one.opener()

    def use_proofreading(self, proofreading: Proofreading) -> None:
        """Take edits that were opened, unless there is another segmentation by now; or tell that they have changed."""
        if self._open_one.use(proofreading):
            self.edited.emit(proofreading)

    def place_for(self, name: str) -> Path:
        """Return a free place in the project for what lies in no file, e.g. "labels.npy".

        Copies of that name go that neither the project nor a job needs that is not done.
        """
        unfinished = [self._jobs[status.folder] for status in self.jobs if status.state is not JobState.DONE]
        needed = [job.spec.model_dump_json() for job in unfinished]
        return self.project.place_for(name, [self.state.annotations or "", *needed])

    def be_free(self, *stages: str) -> None:
        """Refuse to go on while a job of these stages is at work.

        Raises
        ------
        ConfigError
            If there is one.
        """
        for status in self.jobs:
            if status.stage in stages and not status.state.final:
                raise ConfigError(f"{status.name} is {status.state}: wait until it is done, or stop it first.")

    @property
    def jobs(self) -> tuple[JobStatus, ...]:
        """How the project's jobs stood when somebody looked last, in the order of their making."""
        return tuple(self._statuses[folder] for folder in self._jobs if folder in self._statuses)

    def new_project(
        self, folder: Path, volume: str, voxel_size: str | None = None, opened: Volume | None = None
    ) -> None:
        """Make a project for a volume and open it.

        Parameters
        ----------
        folder : Path
            Where it is to be.
        volume : str
            Address of the image.
        voxel_size : str, optional
            z,y,x in nm, where the file does not say it.
        opened : Volume, optional
            The volume, if it is open already; opening may take long where it lies far away.

        Raises
        ------
        VolumeError
            If the volume cannot be opened; no project is made then.
        ProjectError
            If there is a project already, or it cannot be written.
        """
        opened = opened or data.open_volume(volume, parse_voxel_size(voxel_size) if voxel_size else None)
        Project.create(
            folder, ProjectState(volume=volume, voxel_size=voxel_size, model=suggested_model(opened.voxel_size_nm))
        )
        self.open_project(folder, opened)

    def open_project(self, folder: Path, opened: Volume | None = None) -> None:
        """Open a project: results are shown again, and how jobs ended meanwhile is told once one looks at them.

        Parameters
        ----------
        folder : Path
            Of the project.
        opened : Volume, optional
            Its volume, if that is open already; else it is opened once it is asked for.

        Raises
        ------
        ProjectError
            If there is none, or it cannot be read.
        """
        if self._project is not None:  # it may be the same one
            try:
                self.keep_threshold()
                self._project.save()
            except ProjectError as error:  # gone meanwhile: no reason not to open another
                self.said.emit(str(error), "warning")
        self._open(Project(folder, self._soon), opened)

    def close(self) -> None:
        """Close the edits; they are on the disk already."""
        self._open_one.close_edits()

    def change(self, **changes: Any) -> None:
        """Remember something else in the project.

        Raises
        ------
        ProjectError
            If it cannot be written.
        pydantic.ValidationError
            If a value cannot be used.
        """
        before = self.state
        moved = {} if self._moved is None else {"threshold": self._moved}
        self.project.change(**{**moved, **changes})
        self._moved = None
        if {"volume", "voxel_size"} & changes.keys():
            self._volume = None
        if self.state != before:
            self.state_changed.emit(self.state)

    def move_threshold(self, threshold: float) -> None:
        """Show the segments at another threshold at once, for a slider that is on its way; `keep_threshold` follows.

        Parameters
        ----------
        threshold : float
            0..1.
        """
        if threshold != self.state.threshold:
            self._moved = threshold
            self.state_changed.emit(self.state)

    def keep_threshold(self) -> None:
        """Remember a threshold that was moved; every other change does so too.

        Raises
        ------
        ProjectError
            If it cannot be written.
        """
        if self._moved is not None:
            self.change()

    def painted_labels(self) -> Path:
        """Return the Zarr array that napari paints into; made if missing.

        Raises
        ------
        VolumeError
            If it cannot be made, or the volume cannot be opened.
        """
        store = self.project.annotations
        if not store.exists():
            data.create_labels(store, self.volume.shape, self.volume.voxel_size_nm)
        return store / "0"

    def models(self) -> list[str]:
        """Return what training can start from: models that are here, then sizes to start from scratch."""
        installed = installed_models()
        return [*installed, *(name for name in NETWORK_PRESETS if name not in installed)]

    def finetune_config(self, **changes: Any) -> FinetuneConfig:
        """Return the settings of the next training; its run folder is made by `start`."""
        return self._config("finetune", FinetuneConfig, changes)

    def pretrain_config(self, **changes: Any) -> PretrainConfig:
        """Return the settings of the next pre-training, by default on the project's own volume."""
        return self._config("pretrain", PretrainConfig, changes)

    def compare_pretraining_config(self, **changes: Any) -> ComparePretrainingConfig:
        """Return the settings of the next comparison of a pre-training with others, on the annotations."""
        return self._config("compare-pretraining", ComparePretrainingConfig, changes)

    def predict_config(self, **changes: Any) -> PredictConfig:
        """Return the settings of the next prediction; it goes on with what is there, if that has the same settings."""
        config = self._config("predict", PredictConfig, changes)
        if "overwrite" in changes:
            return config
        return config.replace(overwrite=would_replace(config, lambda: self.volume))

    def segment_config(self, **changes: Any) -> SegmentConfig:
        """Return the settings of the next segmentation; one that was edited is kept, and the next lies beside it."""
        return self._config("segment", SegmentConfig, {**place_of_next(self.project), **changes})

    def import_config(self, **changes: Any) -> ImportConfig:
        """Return the settings of taking over segments from elsewhere, along affinities of the whole volume if any."""
        known = {
            "affinities": whole_affinities(self.project.affinities, lambda: self.volume),
            **place_of_next(self.project),
        }
        return self._config("import", ImportConfig, {**known, **changes})

    def evaluate_config(self, **changes: Any) -> EvaluateConfig:
        """Return the settings of the next comparison: what is shown, against the annotations."""
        return self._config("evaluate", EvaluateConfig, {"threshold": self.shown_threshold, **changes})

    def export_config(self, **changes: Any) -> ExportConfig:
        """Return the settings of the next export: what is shown, under a name that is free."""
        kind = changes.get("format", ExportConfig.model_fields["format"].default)
        known = {"threshold": self.shown_threshold, "out": str(self._free_export(FORMATS[kind].suffix))}
        return self._config("export", ExportConfig, {**known, **changes})

    def start(self, stage: str, config: Config) -> Job:
        """Start a stage as a job in a run folder of its own; returns at once.

        Raises
        ------
        JobError
            If it cannot be started.
        ProjectError
            If no folder can be made for it.
        """
        if isinstance(config, SegmentConfig | ImportConfig):
            self._make_room(Path(config.out))
        folder = self.project.new_run(stage.replace(" ", "-"))
        if stage not in _OWN_OUT and "out" in type(config).model_fields:  # its results lie in the run folder
            config = config.replace(out=str(folder))
        spec = JobSpec(stage=stage, config=config.model_dump(mode="json"), name=folder.name)
        job = Job.create(folder, spec)
        job.start()
        self._jobs[job.folder] = job
        self.take(job.poll(), job.events())
        return job

    def job(self, folder: Path) -> Job:
        """Return the project's job in a run folder, to pause, resume, stop or kill it."""
        return self._jobs[Path(folder)]

    def poll(self) -> None:
        """Look at all jobs that have not ended, and tell what is new."""
        for folder, job in list(self._jobs.items()):
            before = self._statuses.get(folder)
            if before is None or not before.state.final:
                self.take(job.poll(), job.events())

    def take(self, status: JobStatus, events: Sequence[Event]) -> None:
        """Tell what is new about a job of the project, and make use of what it has made.

        Parameters
        ----------
        status : JobStatus
            How it stands.
        events : sequence of Event
            What it said since the last time; the first time, of a job that was not started here, nobody is told.
        """
        if status.folder.parent != self.project.runs_folder.resolve():  # of the project before
            return
        folder, before = status.folder, self._statuses.get(status.folder)
        if folder not in self._jobs:
            self._jobs[folder] = Job(folder)
        self._statuses[folder] = status
        for event in events if before is not None else ():
            self.job_said.emit(status, event)
        if status != before:
            self.job_changed.emit(status)
            if status.stage == "predict" and (before is None or before.progress != status.progress):
                self.affinities_changed.emit(self.project.affinities)
        untold = self.state.untold
        if not status.state.final and folder.name not in untold:
            self.change(untold=(*untold, folder.name))
        elif status.state.final and folder.name in untold:
            self.change(untold=tuple(name for name in untold if name != folder.name))
            self._ended(status)
            self.job_ended.emit(status)

    def lose(self, folder: Path) -> None:
        """Tell that a job's folder is gone: nobody waits for it any more, until it is back."""
        status = self._statuses.get(folder)
        if status is not None and not status.state.final:
            reason = "its folder was removed, or its disk does not answer now."
            self.take(replace(status, state=JobState.CRASHED, reason=reason, pid=None), ())
        self._jobs.pop(folder, None)
        self._statuses.pop(folder, None)

    def resume(self, folder: Path) -> None:
        """Let a job go on that is paused, was stopped, failed or crashed.

        Raises
        ------
        JobError
            If it cannot.
        """
        job = self.job(folder)
        job.resume()
        self.take(job.poll(), job.events())

    def _config(self, stage: str, kind: type[AnyConfig], changes: dict[str, Any]) -> AnyConfig:
        self.keep_threshold()
        made = stage_config(self.project, stage, **changes)
        if not isinstance(made, kind):
            raise TypeError(f"{stage} takes a {type(made).__name__}")
        return made

    def _free_export(self, suffix: str) -> Path:
        """Return where the next export goes if nobody says otherwise; each export that was started has a number."""
        folder = self.project.folder / "exports"
        number = 1 + sum(run.name.startswith("export-") for run in self.project.runs)
        while (folder / f"segments-{number}{suffix}").exists():
            number += 1
        return folder / f"segments-{number}{suffix}"

    def _open(self, project: Project, volume: Volume | None) -> None:
        self._moved = None
        self._open_one.close()
        self._project, self._volume = project, volume
        self._jobs, self._statuses = {}, {}
        for folder in project.runs:
            try:
                self._jobs[folder] = Job(folder)
            except TokenUnifyError as error:
                self.said.emit(str(error), "warning")
        self.project_opened.emit(project)
        self._open_segmentation()

    def _ended(self, status: JobStatus) -> None:
        """Take over what a job has made, and say how it ended."""
        if status.state in {JobState.FAILED, JobState.CRASHED}:
            self.said.emit(f"{status.name}: {status.reason}", "error")
        if status.state != JobState.DONE:
            return
        if (name := status.folder.name) in self.state.then_segment:
            self.change(then_segment=tuple(other for other in self.state.then_segment if other != name))
            self._segment_predicted()
        elif status.stage == "finetune":
            self.change(trained=str(status.folder))
            self.said.emit(f"{status.name} is trained; predictions use it from now on.", "info")
        elif status.stage in {"segment", "import"}:
            self._take_segmentation(Path((status.result or {}).get("out", self.project.segmentation)))
        elif status.stage == _CARRY:
            self._end_carrying(status)
        elif status.stage == "export":
            self.said.emit(f"{status.name} is written: {(status.result or {}).get('out')}", "info")

    def _segment_predicted(self) -> None:
        """Make segments of what was predicted, as was asked for when it began."""
        try:
            self.be_free(*SEGMENTING)
            self.start("segment", self.segment_config())
        except TokenUnifyError as error:
            self.said.emit(str(error), "error")

    def _make_room(self, folder: Path) -> None:
        """Let a segmentation be overwritten that was opened for edits but never edited."""
        if folder == self.project.segmentation and not has_edits(folder):
            self._open_one.close_edits()
        make_room(folder)

    def _take_segmentation(self, folder: Path) -> None:
        """Show a new segmentation; if the one before was edited, with its edits."""
        old = self.project.segmentation
        if folder == old or folder.parent != self.project.folder:
            self._open_segmentation()
            return
        try:
            if not take_along(old, folder):
                self.said.emit("The new segments have other fragments: your edits are made again on them.", "info")
                self.start(_CARRY, ProofreadCarryConfig(segmentation=str(folder), source=str(old)))
                return
        except TokenUnifyError as error:
            self.said.emit(str(error), "error")
            return
        self._turn_to(folder)
        self.said.emit(f"The new segments are shown, with all your edits. Those before are kept in {old}.", "info")

    def _end_carrying(self, status: JobStatus) -> None:
        old, new = self.project.segmentation, Path(self._jobs[status.folder].spec.config["segmentation"])
        result = status.result or {}
        made, left = result.get("made", 0), result.get("left", [])
        self._turn_to(new)
        words = f"The new segments are shown, and {made} of {made + len(left)} edits were made again on them. "
        words += f"The first that could not be: {left[0]['message']} " if left else ""
        self.said.emit(f"{words}The segments before are kept, with all edits, in {old}.", "warning" if left else "info")

    def _turn_to(self, folder: Path) -> None:
        self.change(segmentation=folder.name)
        self._open_segmentation()

    def _open_segmentation(self) -> None:
        try:
            is_open = self._open_one.open(self.project.segmentation)
        except TokenUnifyError as error:
            self.said.emit(str(error), "error")
            return
        if is_open:
            self.segmentation_changed.emit(self.segmentation)
