"""The stages behind `proofread ...` on the command line: small, as all they do is in Proofreading."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_tokenunify.data.annotations import open_annotations
from napari_tokenunify.data.volume import open_volume
from napari_tokenunify.errors import ConfigError, ProofreadError
from napari_tokenunify.events import Message
from napari_tokenunify.geometry import Box, parse_voxel_size
from napari_tokenunify.proofread.carrying import carry_over
from napari_tokenunify.proofread.joining import join_logs
from napari_tokenunify.proofread.lines import drawn_line, painted_line, plan_along
from napari_tokenunify.proofread.log_files import read_log, restore_log, write_log
from napari_tokenunify.proofread.proofreading import Proofreading
from napari_tokenunify.proofread.training_labels import BOUNDARY, TrainingLabels, write_training_labels

if TYPE_CHECKING:
    from collections.abc import Generator

    from napari_tokenunify.config import (
        ProofreadAtConfig,
        ProofreadCarryConfig,
        ProofreadCommentConfig,
        ProofreadConfig,
        ProofreadCutConfig,
        ProofreadGoConfig,
        ProofreadLabelsConfig,
        ProofreadLogConfig,
        ProofreadReplayConfig,
        ProofreadSplitConfig,
        ProofreadStepsConfig,
    )
    from napari_tokenunify.events import Event
    from napari_tokenunify.geometry import Triple
    from napari_tokenunify.proofread.edits import Edit, Kind, Place
    from napari_tokenunify.proofread.lines import Line

    Stage = Generator[Event, None, dict[str, Any]]


def merge(config: ProofreadAtConfig) -> Stage:
    """Join the segments at two places or more."""
    return _edited("merge", config, [_places(config.at)])


def split(config: ProofreadSplitConfig) -> Stage:
    """Cut a segment between two sides or more."""
    return _edited("split", config, [_places(side) for side in config.at.split("/")])


def detach(config: ProofreadAtConfig) -> Stage:
    """Take one fragment out of its segment."""
    return _edited("detach", config, [_places(config.at)])


def cut(config: ProofreadCutConfig) -> Stage:
    """Divide a fragment along a line."""
    if (config.along is None) == (config.mask is None):
        raise ConfigError("Say where the line is: --along or --mask, one of them.")
    with _open(config) as proofreading:
        axis = None if config.through == "nothing" else "zyx".index(config.through)
        edit = plan_along(proofreading, _line(config, proofreading.segmentation.shape), axis, config.fragment)
        proofreading.commit(edit)
        yield Message(_described(edit)["message"])
        parts = [] if edit.division is None else [edit.division.fragment, *edit.division.parts]
        voxels = [] if edit.division is None else list(edit.division.sizes)
        return {**_result(proofreading, edit), "fragments": parts, "voxels": voxels}


def delete(config: ProofreadAtConfig) -> Stage:
    """Make segments background."""
    return _edited("delete", config, [_places(config.at)])


def lock(config: ProofreadAtConfig) -> Stage:
    """Mark a segment correct."""
    return _edited("lock", config, [_places(config.at)])


def unlock(config: ProofreadAtConfig) -> Stage:
    """Let a segment be changed again."""
    return _edited("unlock", config, [_places(config.at)])


def comment(config: ProofreadCommentConfig) -> Stage:
    """Keep a remark."""
    with _open(config) as proofreading:
        edit = proofreading.comment(config.text, *_places(config.at or ""))
        yield Message("Noted.")
        return _result(proofreading, edit)


def undo(config: ProofreadStepsConfig) -> Stage:
    """Take edits back."""
    return _moved(config, "undo")


def redo(config: ProofreadStepsConfig) -> Stage:
    """Make edits again that were taken back."""
    return _moved(config, "redo")


def go(config: ProofreadGoConfig) -> Stage:
    """Show the segments as they were after an edit."""
    with _open(config) as proofreading:
        proofreading.go_to(None if config.to == "start" else _full_name(proofreading, config.to))
        yield Message(f"{len(proofreading.in_force)} edits are in force now.")
        return _result(proofreading)


def log(config: ProofreadLogConfig) -> Stage:
    """List the edits in force, and write all of them to a file if one is named."""
    with _open(config) as proofreading:
        history, pace = proofreading.history, proofreading.statistics()
        if config.out is not None:
            write_log(history, Path(config.out).expanduser())
            yield Message(f"All {len(history)} edits are in {config.out}.")
        return {
            **_result(proofreading),
            "kinds": pace.kinds,
            "hours": round(pace.hours, 3),
            "edits_per_hour": round(pace.edits_per_hour, 1),
            "branches": [
                {"tip": branch.tip, "edits": branch.edits, "is_current": branch.is_current}
                for branch in history.branches()
            ],
            "edits": [_described(edit) for edit in history.active()],
        }


def replay(config: ProofreadReplayConfig) -> Stage:
    """Take a log over: the whole of it where there are no edits yet, else what agrees with those that are there."""
    theirs = read_log(Path(config.log).expanduser())
    with _open(config) as proofreading:
        if not len(proofreading.history):
            restore_log(proofreading.history, theirs)
            proofreading.go_to(theirs.head)
            yield Message(f"{len(theirs.edits)} edits were taken over.")
            return {**_result(proofreading), "taken": len(theirs.edits), "conflicts": []}
        joined = join_logs(proofreading, theirs)
        yield Message(
            f"{len(joined.taken)} edits were taken over, {joined.known} were known, {len(joined.conflicts)} contradict."
        )
        conflicts = [_described(conflict.edit, conflict.reason) for conflict in joined.conflicts]
        return {**_result(proofreading), "taken": len(joined.taken), "conflicts": conflicts}


def carry(config: ProofreadCarryConfig) -> Stage:
    """Make the edits of one segmentation again on another one of the same volume."""
    with Proofreading.open(config.source, read_only=True) as source, _open(config) as target:
        yield Message("Pointing at the same places again.")
        carried = carry_over(source, target)
        left = [_described(edit, reason) for edit, reason in carried.left]
        return {**_result(target), "made": len(carried.made), "left": left}


def labels(config: ProofreadLabelsConfig) -> Stage:
    """Write what edits say as labels to learn from; if 0 is boundary in the annotations, it gets an id of its own."""
    volume = open_volume(config.volume, parse_voxel_size(config.voxel_size) if config.voxel_size else None)
    boundary = config.boundary_id or (BOUNDARY if config.zero_is_boundary else None)
    own = None
    if config.annotations is not None:
        own = open_annotations(config.annotations, volume, boundary, zero_is_boundary=config.zero_is_boundary)
    out = Path(config.out).expanduser().absolute()
    with Proofreading.open(config.segmentation, read_only=True) as proofreading:
        found = TrainingLabels.of(proofreading, volume, own, threshold=config.threshold)
        voxels = yield from write_training_labels(found, volume, out)
        return {"out": str(out), "boundary_id": boundary, "voxels": voxels, "edits": len(proofreading.in_force)}


def _open(config: ProofreadConfig) -> Proofreading:
    return Proofreading.open(config.segmentation, config.author)


def _edited(kind: Kind, config: ProofreadAtConfig | ProofreadSplitConfig, places: list[list[Place]]) -> Stage:
    with _open(config) as proofreading:
        edit = proofreading.plan(kind, places, threshold=config.threshold)
        if kind == "detach" and (left := proofreading.segments_after(edit, config.threshold) - 1) > 1:
            yield Message(f"The fragment held the rest together, which is {left} segments now.", "warning")
        proofreading.commit(edit)
        table = proofreading.table(config.threshold)
        named = {proofreading.fragment_at(place) for group in places for place in group}
        segments = sorted({int(table[fragment]) for fragment in named})
        yield Message(_described(edit)["message"])
        return {**_result(proofreading, edit), "segments": segments}


def _line(config: ProofreadCutConfig, shape: Triple) -> Line:
    """Return the line that a Config names, and its box."""
    if config.mask is not None:
        return painted_line(open_volume(config.mask), Box.parse(config.box) if config.box else Box.whole(shape))
    corners = [place for place in _places(config.along or "") if not isinstance(place, int)]
    if config.box is not None or len(corners) < len((config.along or "").split()):
        raise ConfigError("--along takes voxels z,y,x and no fragments, and --box goes with --mask alone.")
    return drawn_line(corners)


def _moved(config: ProofreadStepsConfig, verb: str) -> Stage:
    with _open(config) as proofreading:
        done = 0
        while done < config.steps:
            edit = getattr(proofreading, verb)()
            if edit is None:
                break
            done += 1
            yield Message(f"{verb}: {_described(edit)['message']}")
        if not done:
            raise ProofreadError(f"There is nothing to {verb}.")
        return {**_result(proofreading), "steps": done}


def _full_name(proofreading: Proofreading, start: str) -> str:
    """Return the edit whose name starts so."""
    found = [edit.uuid for edit in proofreading.history.all_edits() if edit.uuid.startswith(start)]
    if len(found) != 1:
        many = f"{len(found)} edits have names that start" if found else "no edit has a name that starts"
        raise ProofreadError(f"{many} with {start}: `proofread log` lists them.")
    return found[0]


def _result(proofreading: Proofreading, edit: Edit | None = None) -> dict[str, Any]:
    in_force = proofreading.in_force
    result = {"head": in_force[-1] if in_force else None, "in_force": len(in_force)}
    return result if edit is None else {"edit": edit.uuid, "kind": edit.kind, **result}


def _described(edit: Edit, reason: str = "") -> dict[str, Any]:
    """Return an edit as plain values, and as a line for people."""
    places = " / ".join(" ".join(_as_text(place) for place in group) for group in edit.places)
    line = f"{edit.time:%Y-%m-%d %H:%M} {edit.uuid[:8]} {edit.author}: {edit.kind} {places} {edit.text}".rstrip()
    message = f"{line}: {reason}" if reason else line
    return {"uuid": edit.uuid, "kind": edit.kind, "author": edit.author, "time": edit.time.isoformat(),
            "message": message}  # fmt: skip


def _as_text(place: Place) -> str:
    return str(place) if isinstance(place, int) else ",".join(map(str, place))


def _places(text: str) -> list[Place]:
    """Return the places that a Config names: z,y,x each, or ids of fragments."""
    places: list[Place] = []
    for word in text.split():
        numbers = [int(number) for number in word.split(",")]
        places.append(numbers[0] if len(numbers) == 1 else (numbers[0], numbers[1], numbers[2]))
    return places
