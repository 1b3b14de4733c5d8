"""The command line: one verb a stage, its flags made from the stage's Config.

Results go to stdout, as a table or with `--json` as JSON; progress and messages go to stderr. Exit code 0 done,
1 failed with one clear sentence, 2 wrong usage, 130 stopped.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from pydantic import BaseModel, Field, ValidationError, create_model
from pydantic_settings import BaseSettings, CliApp, CliSubCommand, SettingsConfigDict, get_subcommand

from napari_tokenunify import __version__
from napari_tokenunify.config import Config, DemoConfig, JobsWatchConfig, what_is_wrong
from napari_tokenunify.errors import ConfigError, TokenUnifyError
from napari_tokenunify.events import Message, Progress
from napari_tokenunify.jobs import JobSpec, JobStopped, LaunchConfig, run_job
from napari_tokenunify.pipeline import GROUPS, STAGES

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from napari_tokenunify.events import Event
    from napari_tokenunify.pipeline import Stage

PROGRAM = "napari-tokenunify"
DONE, FAILED, WRONG_USAGE, STOPPED = 0, 1, 2, 130
EXTENTS = {"shape", "voxel_size_nm", "chunks"}
NONE = {"annotations", "annotated", "reason", "result", "gpu_memory_mb"}
MISSING = {"chunks": "none: any block costs the same", "ended": "not yet", **dict.fromkeys(NONE, "none")}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    Parameters
    ----------
    arguments : sequence of str, optional
        What follows the program's name; by default that of this process.

    Returns
    -------
    int
        0 done, 1 failed, 2 wrong usage, 130 stopped with Ctrl-C.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words == ["--version"]:
        print(__version__)
        return DONE
    # OpenMP threads that spin while they wait take the cores from those that work; read when torch loads.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    command = None
    try:
        command = _parse(words)
        result = _follow(command)
    except SystemExit as stop:  # argparse has shown its help, or what is wrong with the usage
        return DONE if stop.code in {0, None} else WRONG_USAGE
    except ConfigError as error:
        return _say(str(error), WRONG_USAGE)
    except JobStopped as error:
        return _say(str(error), STOPPED)
    except TokenUnifyError as error:
        return _say(str(error), FAILED)
    except KeyboardInterrupt:
        return _say(_left_off(command), STOPPED)
    print(json.dumps(result, indent=1) if command.as_json else _as_text(result), flush=True)
    if isinstance(command.config, DemoConfig) and not command.config.headless:
        _open_napari([result["out"] if result["annotations"] else result["volume"]])
    return DONE


class _Command(NamedTuple):
    """What was asked: a verb, its Config, whether JSON is wanted and, of a job, how it is to run."""

    verb: str
    config: Config
    as_json: bool
    how: _HowToRun | None


class _HowToRun(Config):
    """The flags that every verb has which runs as a job."""

    launch: LaunchConfig = LaunchConfig()
    """Where and how the job's process is started."""
    lane: str | None = "compute"
    """Jobs of one lane run one after the other on a machine; None starts at once, and may share a GPU with others."""
    detach: bool = False
    """Start the job and leave it running; `jobs watch` shows how it goes."""


def _run(command: _Command) -> Generator[Event, None, dict[str, Any]]:
    """Start what was asked for: here, or as a job in the folder where its results go."""
    if command.how is None:
        return STAGES[command.verb].run(command.config)
    settings = command.config.model_dump(mode="json")
    how = command.how
    spec = JobSpec(stage=command.verb, config=settings, lane=how.lane, launcher=how.launch)
    return run_job(Path(settings["out"]), spec, detach=how.detach)


def _left_off(command: _Command | None) -> str:
    if command is None or not isinstance(command.config, JobsWatchConfig):
        return "Stopped."
    return f"Left off watching; the job goes on. To stop it: {PROGRAM} jobs stop {command.config.run}"


def _open_napari(what: list[str]) -> None:
    """Show a project or volumes in napari, in a process of its own: this one never loads Qt."""
    has_screen = sys.platform != "linux" or any(map(os.environ.get, ("DISPLAY", "WAYLAND_DISPLAY")))
    if not has_screen:
        _say("There is no screen here, so look at the pictures instead.", DONE)
    elif find_spec("napari") is None:
        _say("napari is not installed: pip install 'napari-tokenunify[all]', or look at the pictures.", DONE)
    else:
        subprocess.run([sys.executable, "-m", "napari_tokenunify.gui.show", *what], check=False)


def _say(sentence: str, code: int) -> int:
    print(f"{PROGRAM}: {sentence}", file=sys.stderr)
    return code


def _parse(words: list[str]) -> _Command:
    """Turn the words of the command line into what they ask for."""
    commands = _commands()
    try:
        parsed = CliApp.run(commands, cli_args=words or ["--help"])
    except ValidationError as error:
        raise ConfigError(what_is_wrong(error, flag=True)) from error
    chosen, verb = _chosen(parsed)
    while verb not in STAGES:
        chosen, second = _chosen(chosen)
        verb = f"{verb} {second}"
    settings = chosen.model_dump()
    as_json = bool(settings.pop("as_json"))
    stage = STAGES[verb]
    how = _HowToRun(**{name: settings.pop(name) for name in _HowToRun.model_fields}) if stage.job else None
    return _Command(verb, stage.config(**settings), as_json, how)


def _chosen(parsed: BaseModel) -> tuple[BaseModel, str]:
    """Return the sub-command that was given, and its name."""
    chosen = cast("BaseModel | None", get_subcommand(parsed, is_required=False))
    names = list(type(parsed).model_fields)
    if chosen is None:
        raise ConfigError(f"Say what to do, one of {', '.join(names)}; each explains itself with --help.")
    return chosen, next(name for name in names if getattr(parsed, name) is chosen)


def _commands() -> type[BaseSettings]:
    """Build the model whose sub-commands are the stages; those of two words are sub-commands of the first word."""
    fields: dict[str, Any] = {}
    groups: dict[str, dict[str, Any]] = {}
    for name, stage in STAGES.items():
        first, _, second = name.partition(" ")
        if second:
            groups.setdefault(first, {})[second] = _sub_command(_verb(stage))
        else:
            fields[name] = _sub_command(_verb(stage))
    for name, verbs in groups.items():
        fields[name] = _sub_command(create_model(name, __doc__=GROUPS[name], **verbs))
    return create_model("Commands", __base__=_Commands, __doc__=_Commands.__doc__, **fields)


def _verb(stage: Stage) -> type[BaseModel]:
    """Add `--json` to the fields of a stage's Config, and to those of a job how it is to run."""
    wants_json = Field(False, alias="json", description="Print the result as JSON on stdout.")
    bases = (_HowToRun, stage.config) if stage.job else stage.config
    return create_model(stage.config.__name__, __base__=bases, __doc__=stage.config.__doc__, as_json=(bool, wants_json))


def _sub_command(model: type[BaseModel]) -> tuple[Any, Any]:
    sub_command: Any = CliSubCommand
    return sub_command[model], Field(description=model.__doc__)


class _Commands(BaseSettings):
    """Segment neurons in electron-microscopy volumes. Each verb explains itself: napari-tokenunify VERB --help."""

    model_config = SettingsConfigDict(
        cli_prog_name=PROGRAM,
        cli_kebab_case=True,
        cli_implicit_flags="toggle",
        cli_hide_none_type=True,
        cli_avoid_json=True,
    )


def _follow(command: _Command) -> dict[str, Any]:
    """Drive what was asked for to its end with a progress bar on stderr, and return its result."""
    from rich.console import Console
    from rich.progress import Progress as Bars

    stage, quiet = _run(command), command.as_json
    console = Console(stderr=True)
    columns = Bars.get_default_columns()
    if command.how is not None or isinstance(command.config, JobsWatchConfig):
        columns = columns[:-1]  # a job says itself how long it will take
    with Bars(*columns, console=console, transient=True, disable=quiet or not console.is_terminal) as bars:
        task = bars.add_task("starting", total=None)
        while True:
            try:
                event = next(stage)
            except StopIteration as end:
                return cast("dict[str, Any]", end.value)
            if isinstance(event, Progress):
                bars.update(task, completed=event.done, total=event.total, description=event.what)
            elif isinstance(event, Message) and not quiet:
                style = "yellow" if event.level == "warning" else None
                console.print(event.text, style=style, highlight=False, markup=False, soft_wrap=True)


def _as_text(result: dict[str, Any]) -> str:
    """Write a result for people: a name and its value a line; a list of things has a line for each."""
    rows = [(name, line) for name, value in result.items() if name != "provenance" for line in _lines(name, value)]
    width = max(len(name) for name, _ in rows)
    names = [name if number == 0 or rows[number - 1][0] != name else "" for number, (name, _) in enumerate(rows)]
    return "\n".join(
        f"{name.replace('_', ' ').ljust(width)}  {line}" for name, (_, line) in zip(names, rows, strict=True)
    )


def _lines(name: str, value: object) -> list[str]:
    if value is None:
        return [MISSING.get(name, "unknown")]
    if isinstance(value, dict):
        if "message" in value:  # written for people already
            return [f"{value['severity']}: {value['message']}" if "severity" in value else value["message"]]
        words = (f"{key.replace('_', ' ')} {', '.join(_lines(key, part))}" for key, part in value.items())
        return [", ".join(words) or "none"]
    if isinstance(value, list) and all(isinstance(item, int | float) for item in value):
        between = " x " if name in EXTENTS else ", "
        return [between.join(f"{item:g}" for item in value)] if value else ["none"]
    if isinstance(value, list):
        return [line for item in value for line in _lines("", item)] or ["none"]
    return [f"{value:g}" if isinstance(value, float) else str(value)]
