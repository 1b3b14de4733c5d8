"""The table of stages: what each is called, where its function is, and which Config it takes.

A stage is a generator: it yields Events and returns a plain dict of what it found or made. It is named by a
dotted path and imported only where it runs, so a process that only asks for it loads nothing heavy.
"""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, get_args

from pydantic_settings import CliPositionalArg

from napari_tokenunify.config import (
    CheckConfig,
    ComparePretrainingConfig,
    Config,
    DemoConfig,
    DoctorConfig,
    EvaluateConfig,
    ExportConfig,
    FinetuneConfig,
    ImportConfig,
    InfoConfig,
    JobsCompareConfig,
    JobsListConfig,
    JobsLogConfig,
    JobsPauseConfig,
    JobsResumeConfig,
    JobsShowConfig,
    JobsStopConfig,
    JobsWatchConfig,
    ModelsExportConfig,
    ModelsGetConfig,
    ModelsImportConfig,
    ModelsInfoConfig,
    ModelsListConfig,
    PredictConfig,
    PretrainConfig,
    ProofreadCarryConfig,
    ProofreadCommentConfig,
    ProofreadCutConfig,
    ProofreadDeleteConfig,
    ProofreadDetachConfig,
    ProofreadGoConfig,
    ProofreadLabelsConfig,
    ProofreadLockConfig,
    ProofreadLogConfig,
    ProofreadMergeConfig,
    ProofreadRedoConfig,
    ProofreadReplayConfig,
    ProofreadSplitConfig,
    ProofreadUndoConfig,
    ProofreadUnlockConfig,
    RunConfig,
    SegmentConfig,
)

if TYPE_CHECKING:
    from collections.abc import Generator

    from napari_tokenunify.events import Event


@dataclass(frozen=True)
class Stage:
    """One verb of the command line and one step of the plugin.

    Attributes
    ----------
    path : str
        `module:function`; the function takes the Config, yields Events and returns a dict.
    config : type of Config
        Its settings; the Config's docstring says what the stage does.
    job : bool
        Whether it takes long: then a Job runs it, in a process of its own, in the folder that the Config's `out` names.
    grows : tuple of str
        Settings of which the same folder takes more later: longer lists, larger numbers. What is done stays done.
    grows_with : str or None
        The setting without which none of them matters: a plain pre-training does not become a sweep.
    """

    path: str
    config: type[Config]
    job: bool = False
    grows: tuple[str, ...] = ()
    grows_with: str | None = None

    def run(self, config: Config) -> Generator[Event, None, dict[str, Any]]:
        """Import the stage's function and start it."""
        module, _, function = self.path.partition(":")
        generator: Generator[Event, None, dict[str, Any]] = getattr(import_module(module), function)(config)
        return generator


STAGES: dict[str, Stage] = {
    "demo": Stage("napari_tokenunify.demo:demo", DemoConfig),
    "run": Stage("napari_tokenunify.chain:run", RunConfig),
    "info": Stage("napari_tokenunify.data.report:info", InfoConfig),
    "check": Stage("napari_tokenunify.data.report:check", CheckConfig),
    "models list": Stage("napari_tokenunify.network.models:list_models", ModelsListConfig),
    "models info": Stage("napari_tokenunify.network.models:show_model", ModelsInfoConfig),
    "models get": Stage("napari_tokenunify.network.models:get_model", ModelsGetConfig),
    "models import": Stage("napari_tokenunify.network.models:import_model", ModelsImportConfig),
    "finetune": Stage("napari_tokenunify.pipeline:finetune", FinetuneConfig, job=True),
    "pretrain": Stage(
        "napari_tokenunify.pipeline:pretrain", PretrainConfig, job=True, grows=("sweep", "seeds"), grows_with="sweep"
    ),
    "compare-pretraining": Stage(
        "napari_tokenunify.helped.comparison:compare_pretraining",
        ComparePretrainingConfig,
        job=True,
        grows=("others", "seeds"),
    ),
    "predict": Stage("napari_tokenunify.segment.prediction.predict:predict", PredictConfig),
    "segment": Stage("napari_tokenunify.segment.segment_volume:segment", SegmentConfig),
    "import": Stage("napari_tokenunify.segment.imported:import_segments", ImportConfig),
    "evaluate": Stage("napari_tokenunify.pipeline:evaluate", EvaluateConfig),
    "proofread merge": Stage("napari_tokenunify.proofread.verbs:merge", ProofreadMergeConfig),
    "proofread split": Stage("napari_tokenunify.proofread.verbs:split", ProofreadSplitConfig),
    "proofread detach": Stage("napari_tokenunify.proofread.verbs:detach", ProofreadDetachConfig),
    "proofread cut": Stage("napari_tokenunify.proofread.verbs:cut", ProofreadCutConfig),
    "proofread delete": Stage("napari_tokenunify.proofread.verbs:delete", ProofreadDeleteConfig),
    "proofread lock": Stage("napari_tokenunify.proofread.verbs:lock", ProofreadLockConfig),
    "proofread unlock": Stage("napari_tokenunify.proofread.verbs:unlock", ProofreadUnlockConfig),
    "proofread comment": Stage("napari_tokenunify.proofread.verbs:comment", ProofreadCommentConfig),
    "proofread undo": Stage("napari_tokenunify.proofread.verbs:undo", ProofreadUndoConfig),
    "proofread redo": Stage("napari_tokenunify.proofread.verbs:redo", ProofreadRedoConfig),
    "proofread go": Stage("napari_tokenunify.proofread.verbs:go", ProofreadGoConfig),
    "proofread log": Stage("napari_tokenunify.proofread.verbs:log", ProofreadLogConfig),
    "proofread replay": Stage("napari_tokenunify.proofread.verbs:replay", ProofreadReplayConfig),
    "proofread carry": Stage("napari_tokenunify.proofread.verbs:carry", ProofreadCarryConfig),
    "proofread labels": Stage("napari_tokenunify.proofread.verbs:labels", ProofreadLabelsConfig),
    "export": Stage("napari_tokenunify.export.export_segments:export", ExportConfig),
    "models export": Stage("napari_tokenunify.network.models:export_model", ModelsExportConfig),
    "doctor": Stage("napari_tokenunify.network.doctor:doctor", DoctorConfig),
    "jobs list": Stage("napari_tokenunify.jobs.verbs:list_jobs", JobsListConfig),
    "jobs show": Stage("napari_tokenunify.jobs.verbs:show_job", JobsShowConfig),
    "jobs watch": Stage("napari_tokenunify.jobs.verbs:watch_job", JobsWatchConfig),
    "jobs pause": Stage("napari_tokenunify.jobs.verbs:pause_job", JobsPauseConfig),
    "jobs stop": Stage("napari_tokenunify.jobs.verbs:stop_job", JobsStopConfig),
    "jobs resume": Stage("napari_tokenunify.jobs.verbs:resume_job", JobsResumeConfig),
    "jobs log": Stage("napari_tokenunify.jobs.verbs:show_log", JobsLogConfig),
    "jobs compare": Stage("napari_tokenunify.jobs.verbs:compare_jobs", JobsCompareConfig),
}
"""The verbs, of one word or two; the first of two is a key of GROUPS."""

GROUPS = {
    "models": "List the networks' weights that have a name, look at them, download, import and export them.",
    "proofread": "Correct segments: merge, split, cut, delete, mark correct, with endless undo; share and reuse edits.",
    "jobs": "List the jobs that were started, watch, pause, stop and resume them, and compare runs.",
}
"""What the verbs with the same first word have in common."""

_POSITIONAL = get_args(CliPositionalArg[str])[1]  # the mark of an argument without a flag


def command_line(name: str, config: Config) -> str:
    """Return the command that does the same; settings that are as by default are left out.

    Parameters
    ----------
    name : str
        A key of STAGES.
    config : Config
        Of that stage.
    """
    words = ["napari-tokenunify", *name.split()]
    for field, info in type(config).model_fields.items():
        value = getattr(config, field)
        if not info.is_required() and value == info.default:
            continue
        flag = "--" + field.replace("_", "-")
        if _POSITIONAL in info.metadata:
            words += [str(one) for one in value] if isinstance(value, tuple) else [str(value)]
        elif isinstance(value, bool):
            words.append(flag if value else flag.replace("--", "--no-", 1))
        else:
            words.append(f"{flag}={_as_word(value)}" if _as_word(value).startswith("-") else flag)
            words += [] if words[-1] != flag else [_as_word(value)]
    return shlex.join(words)


def python_code(name: str, config: Config) -> str:
    """Return the lines of Python that do the same; settings that are as by default are left out."""
    kind = type(config).__name__
    settings = ", ".join(f"{field}={value!r}" for field, value in config.model_dump(exclude_defaults=True).items())
    return (
        f"from napari_tokenunify.config import {kind}\n"
        "from napari_tokenunify.pipeline import STAGES\n\n"
        f'for event in STAGES["{name}"].run({kind}({settings})):\n'
        "    print(event)\n"
    )


def _as_word(value: Any) -> str:
    if isinstance(value, tuple) and (not value or isinstance(value[0], tuple) or any("," in str(one) for one in value)):
        return json.dumps(value)
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def finetune(config: FinetuneConfig) -> Generator[Event, None, dict[str, Any]]:
    """Run `train.finetune`, and let it follow the segments that its affinities would give."""
    from napari_tokenunify.segment import crop_scores
    from napari_tokenunify.train import finetune as train

    return (yield from train(config, crop_scores))


def pretrain(config: PretrainConfig) -> Generator[Event, None, dict[str, Any]]:
    """Run `train.pretraining.pretrain`, or `helped.sweep` if several sizes are asked for."""
    function = "helped.sweep:sweep" if config.sweep else "train.pretraining.pretraining:pretrain"
    return (yield from Stage(f"napari_tokenunify.{function}", PretrainConfig).run(config))


def evaluate(config: EvaluateConfig) -> Generator[Event, None, dict[str, Any]]:
    """Run `segment.evaluate` on the segments as they were edited."""
    from napari_tokenunify.proofread import open_edited
    from napari_tokenunify.segment import Segmentation
    from napari_tokenunify.segment import evaluate as score

    return (yield from score(config, Segmentation.open if config.ignore_edits else open_edited))
