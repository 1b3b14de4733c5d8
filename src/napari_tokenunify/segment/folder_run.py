"""A folder that a segmentation is made in: one run at a time, gone on with if the settings are the same."""

from __future__ import annotations

import hashlib
import json
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from napari_tokenunify.data.source import Location
from napari_tokenunify.errors import SegmentError
from napari_tokenunify.events import Progress
from napari_tokenunify.project import whole_file
from napari_tokenunify.segment.blocks.run import WORK, run_blocks
from napari_tokenunify.segment.folder_lock import locked
from napari_tokenunify.segment.fragment_store import FRAGMENTS
from napari_tokenunify.segment.segmentation import discard, read_spec

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence

    from napari_tokenunify.config import Config
    from napari_tokenunify.events import Event
    from napari_tokenunify.segment.block_work import BlockWork
    from napari_tokenunify.segment.blocks.grid import Block
    from napari_tokenunify.segment.blocks.workers import Result, Workers

HOW: Final = frozenset({"out", "workers", "cluster", "overwrite"})  # settings that do not change the result
_SETTINGS: Final = "settings.json"
_PACKAGES: Final = ("napari-tokenunify", "bioimage-cpp", "numpy", "zarr")


@dataclass(eq=False)
class Run:
    """Runs passes over all blocks and keeps the largest memory of any process."""

    work: BlockWork
    workers: Workers
    peak_mb: float = 0.0

    def blocks(
        self,
        name: str,
        function: Callable[[BlockWork, Block], Result],
        what: str,
        rounds: Sequence[Sequence[Block]] = (),
    ) -> Generator[Event, None, list[Any]]:
        """Run one pass, in one round or in several, and return what it made of each block, in the order of the grid."""
        results: list[Any] = [None] * len(self.work.grid)
        marks = self.work.folder / WORK / f"{name}.jsonl"
        yield Progress(0, len(results), what)
        done = 0
        for blocks in rounds or [list(self.work.grid)]:
            with closing(run_blocks(partial(function, self.work), blocks, marks, self.workers)) as answers:
                for answer in answers:
                    done += 1
                    results[answer.block.index] = answer.result
                    self.peak_mb = max(self.peak_mb, answer.peak_mb)
                    yield Progress(done, len(results), what)
        return results


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Make the folder, and keep other runs out of it.

    Raises
    ------
    SegmentError
        If it cannot be made, or another run is at work there.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SegmentError(f"{folder}: cannot be made ({error.strerror}); choose another --out.") from error
    with locked(folder):
        yield


def prepare(folder: Path, settings: dict[str, Any], kind: type[Config], *, overwrite: bool) -> dict[str, Any] | None:
    """Make the folder ready for work.

    Parameters
    ----------
    folder : Path
        Where the segmentation is, or is to be.
    settings : dict
        What decides on the result, as plain values.
    kind : type of Config
        What they come from: a setting that there was not when a run began was as it is by default.
    overwrite : bool
        Whether a segmentation that is there goes.

    Returns
    -------
    dict or None
        The spec, if there is nothing left to do.

    Raises
    ------
    SegmentError
        If something else is there.
    """
    if overwrite and ((folder / FRAGMENTS).is_dir() or (folder / WORK / _SETTINGS).exists()):
        discard(folder)
    spec = read_spec(folder)
    before = spec.get("settings", {}) if spec else read_json(folder / WORK / _SETTINGS)
    if before is not None:
        fields = kind.model_fields.items()
        plain = json.loads(json.dumps({name: field.get_default() for name, field in fields if not field.is_required()}))
        before = {name: value for name, value in plain.items() if name in settings} | before
    others = [] if before is None else [name for name in settings if settings[name] != before.get(name, settings[name])]
    if others:
        names = ", ".join(sorted(others))
        state = "is there already" if spec else "is half done"
        raise SegmentError(
            f"{folder}: {state}, with other settings ({names}); use these, another --out or --overwrite."
        )
    if before is None:
        if not _is_empty(folder):
            raise SegmentError(f"{folder}: is there already, and is no segmentation; choose another --out.")
        write_json(folder / WORK / _SETTINGS, settings)
    return spec


def _is_empty(folder: Path) -> bool:
    """Whether nothing is in a folder but what a kill left before the settings were written."""
    return {path.name for path in folder.rglob("*")} <= {WORK, f".{_SETTINGS}.part"}


def absolute(uri: str | None) -> str | None:
    """Return an address that means the same in the working folder of another process."""
    if uri is None or Location.parse(uri).is_remote:
        return uri
    path, mark, inner = uri.partition("::")
    return f"{Path(path).expanduser().absolute()}{mark}{inner}"


def about(work: BlockWork, settings: dict[str, Any], sources: dict[str, Any]) -> dict[str, Any]:
    """Return what a spec says of where a segmentation lies and comes from."""
    store = work.affinities
    return {
        "shape": work.grid.shape,
        "voxel_size_nm": store.voxel_size_nm,
        "origin": [a + b for a, b in zip(store.origin, work.start, strict=True)],
        "origin_nm": store.origin_nm,
        "offsets": store.offsets,
        "sources": sources,
        "settings": settings,
        "versions": {name: metadata.version(name) for name in _PACKAGES},
    }


def joined_hash(written: list[dict[str, Any]]) -> str:
    """Return one hash of all fragments, of what `write_block` has returned for each block."""
    return hashlib.blake2b("".join(one["hash"] for one in written).encode(), digest_size=16).hexdigest()


def read_json(path: Path) -> Any:
    """Read what `write_json` wrote; None if it is not there."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise SegmentError(f"{path}: is damaged; start again with --overwrite.") from error


def write_json(path: Path, value: object) -> None:
    """Write plain values; all or nothing."""
    with whole_file(path, SegmentError) as part:
        part.write_text(json.dumps(value, indent=1), encoding="utf-8")
