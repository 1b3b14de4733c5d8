"""What napari calls when a file or folder is opened or dropped."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_tokenunify import data
from napari_tokenunify.errors import TokenUnifyError, VolumeError
from napari_tokenunify.gui.layers import volume_layers

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari.types import LayerData

MOST_DATASETS = 8  # more layers than this at once are a burden; the others are named in a notification

NO_LAYERS: list[Any] = [(None,)]  # napari's sign that the file was read and nothing is to be shown

Paths = str | Path | list[str] | list[Path]


def get_reader(path: Paths) -> Callable[[Paths], list[LayerData]] | None:
    """Return the reader for a path, or None for what is no volume, so that napari asks the next plugin.

    Parameters
    ----------
    path : str, Path or list of them
        A file, a store, a folder of sections, or an address; of a list each is opened for itself.
    """
    return None if any(_is_foreign_folder(Path(one)) for one in _each(path)) else read


def read(path: Paths) -> list[LayerData]:
    """Open every volume that lies at `path`.

    What cannot be opened is said in a notification, one sentence each: raised, the same error would reach the
    user with a traceback.
    """
    from napari.utils.notifications import show_error

    layers: list[Any] = []
    for one in _each(path):
        try:
            layers += _layers(str(one))
        except TokenUnifyError as error:
            show_error(str(error))
    return layers or NO_LAYERS


def _layers(uri: str) -> list[LayerData]:
    from napari.utils.notifications import show_info

    names = data.list_datasets(uri)
    if len(names) > MOST_DATASETS:
        show_info(f"{uri} holds {len(names)} datasets; opened are the first {MOST_DATASETS}. Also there: "
                  f"{', '.join(names[MOST_DATASETS:])}. Open one with {uri}::NAME.")  # fmt: skip
    volumes = []
    problems = []
    for name in names[:MOST_DATASETS]:
        try:
            volumes.append(data.open_volume(f"{uri}::{name}" if name else uri))
        except VolumeError as error:
            problems.append(error)
    if not volumes:
        raise problems[0]
    for problem in problems:
        show_info(str(problem))
    return volume_layers(volumes)


def _each(path: Paths) -> list[str | Path]:
    return list(path) if isinstance(path, list) else [path]


def _is_foreign_folder(path: Path) -> bool:
    """Whether `path` is a folder without a single file that could be a section or a store's description."""
    if not path.is_dir():
        return False
    known = {".tif", ".tiff", ".png", ".jpg", ".jpeg"}
    markers = {"zarr.json", ".zgroup", ".zarray", ".zattrs", "attributes.json", "info"}
    return not any(entry.name in markers or entry.suffix.lower() in known for entry in path.iterdir())
