"""Data sets of the benchmark: a small YAML file says where image and labels are, and what is trained and tested on.

    name: mine                      # what the tables call it
    licence: CC-BY-4.0
    voxel_size_nm: [40, 4, 4]       # z, y, x
    train: {raw: mine.h5::raw, labels: mine.h5::labels, sections: [0, 80]}
    test: {raw: mine.h5::raw, labels: mine.h5::labels, sections: [90, 120]}

Paths are relative to the folder of the data; any format that the program opens will do. `data_sets/` holds examples of
the rest. Image and labels of each part are read into memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml
from pydantic import Field, ValidationError

from napari_tokenunify.config import Config, what_is_wrong
from napari_tokenunify.data.annotations import BACKGROUND_ID, Annotations
from napari_tokenunify.data.source import Location
from napari_tokenunify.data.volume import Volume, open_volume
from napari_tokenunify.errors import ConfigError
from napari_tokenunify.geometry import Box

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_tokenunify.geometry import Triple

OWN = Path(__file__).parent / "data_sets"
STROKES = 0.01  # of the voxels, in scribbles


class Part(Config):
    """An image and its labels."""

    raw: str
    """The image."""
    labels: str
    """Its labels, of the same shape."""
    sections: tuple[int, int] | None = None
    """First section and the one after the last; all by default."""


class Sparse(Config):
    """Another volume of the same tissue, a few sections of which are labelled."""

    raw: str
    """The image."""
    labels: str
    """Its labels; 0 is unlabelled."""
    labelled: tuple[int, ...]
    """Sections with labels, in the order in which they are used."""


class DataSet(Config):
    """What a YAML file says."""

    name: str
    """What tables call it."""
    licence: str
    """Under which it may be used."""
    about: str = ""
    """What it is, and whom to cite."""
    voxel_size_nm: tuple[float, float, float]
    """(z, y, x)."""
    train: Part
    """Densely labelled; sparse labels are taken out of these."""
    test: Part
    """What no training sees."""
    sparse: Sparse | None = None
    """Where labelled sections come from; by default from the training part, in neighbours of three."""
    ignore: tuple[int, ...] = ()
    """Ids that do not count beside 0."""
    zero_is_boundary: bool = False
    """0 is membrane or outside; else it is unlabelled."""
    smallest: int = 100
    """Ids of fewer voxels in the whole label volume do not count."""
    tile: tuple[int, int, int] = (64, 160, 160)
    """Voxels (z, y, x) of a tile of prediction."""
    references: dict[str, str] = Field(default_factory=dict)
    """Segmentations of others for the test's image, by their names; 0 is not segmented."""

    def missing(self, data: Path) -> list[str]:
        """Return the files that are not there."""
        parts = [self.train.raw, self.train.labels, self.test.raw, self.test.labels, *self.references.values()]
        if self.sparse:
            parts += [self.sparse.raw, self.sparse.labels]
        places = [Location.parse(_uri(data, part)) for part in dict.fromkeys(parts)]
        return sorted({str(place.path) for place in places if not place.is_remote and not place.path.exists()})

    def sections_to_label(self, data: Path) -> int:
        """Return how many sections there are for sparse labels at most."""
        if self.sparse:
            return len(self.sparse.labelled)
        first, last = self.train.sections or (0, open_volume(_uri(data, self.train.raw)).shape[0])
        return last - first


@dataclass(frozen=True, eq=False)
class Labelled:
    """What is trained on.

    Attributes
    ----------
    volume : Volume
        The image.
    annotations : Annotations
        What is known of it.
    labels : ndarray of uint64, shape (Z, Y, X)
        The ids of neurons alone, 0 where there is none or none is known: what thresholds are tuned on.
    """

    volume: Volume
    annotations: Annotations
    labels: NDArray[np.uint64]


@dataclass(frozen=True, eq=False)
class Unseen:
    """What is tested on: the image, its neurons (0 does not count), and what others made of it."""

    volume: Volume
    truth: NDArray[np.uint64]
    references: dict[str, NDArray[np.uint64]]


def read_data_set(path: Path) -> DataSet:
    """Read a YAML file.

    Raises
    ------
    ConfigError
        If it is none, or says what nobody understands.
    """
    try:
        return DataSet.model_validate(yaml.safe_load(path.read_text()))
    except ValidationError as error:
        raise ConfigError(f"{path}: {what_is_wrong(error)}") from error
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: cannot be read as YAML ({str(error).splitlines()[0]}).") from error


def training_part(found: DataSet, data: Path, kind: str, seed: int) -> Labelled:
    """Return image and labels for a training.

    Parameters
    ----------
    found : DataSet
        Of what.
    data : Path
        Where its files are.
    kind : str
        "dense", "scribbles" or "sections-N".
    seed : int
        Of the scribbles.
    """
    if kind.startswith("sections-") and found.sparse:
        raw = _read(data, found.sparse.raw, None)
        every = _ids(found, _read(data, found.sparse.labels, None), smallest=0)
        chosen = np.array(found.sparse.labelled[: int(kind.split("-")[1])])
    else:
        raw = _read(data, found.train.raw, found.train.sections)
        every = _cut(_ids(found, _read(data, found.train.labels, None), found.smallest), found.train.sections)
        chosen = spread(len(every), int(kind.split("-")[1])) if kind.startswith("sections-") else np.arange(len(every))
    ids = np.zeros_like(every)
    ids[chosen] = every[chosen]
    if kind == "scribbles":
        ids = scribbles(ids, STROKES, seed)
    boundary = BACKGROUND_ID if found.zero_is_boundary else None
    known = Annotations.from_array(ids, found.voxel_size_nm, boundary)
    return Labelled(Volume.from_array(raw, found.voxel_size_nm, found.name), known, neurons(ids))


def testing_part(found: DataSet, data: Path) -> Unseen:
    """Return what is tested on."""
    sections = found.test.sections
    truth = neurons(_cut(_ids(found, _read(data, found.test.labels, None), found.smallest), sections))
    volume = Volume.from_array(_read(data, found.test.raw, sections), found.voxel_size_nm, f"{found.name}, test")
    references = {
        name: _read(data, uri, sections).astype(np.uint64, copy=False) for name, uri in found.references.items()
    }
    return Unseen(volume, truth, references)


def neurons(ids: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return ids without the boundary's."""
    return np.where(ids == BACKGROUND_ID, np.uint64(0), ids)


def spread(depth: int, count: int) -> NDArray[np.int64]:
    """Return so many sections in neighbours of about three, spread over a depth: z has to be known somewhere."""
    groups = max(1, round(count / 3))
    parts = zip(np.array_split(np.arange(depth), groups), np.array_split(np.arange(count), groups), strict=True)
    return np.concatenate([part[(len(part) - len(some)) // 2 :][: len(some)] for part, some in parts])


def scribbles(labels: NDArray[np.uint64], share: float, seed: int) -> NDArray[np.uint64]:
    """Keep the labels under random strokes of 5 voxels' width in single sections, until a share is painted."""
    rng = np.random.default_rng(seed)
    painted = np.zeros(labels.shape, bool)
    depth, height, width = labels.shape
    while painted.mean() < share:
        z, angle, length = rng.integers(depth), rng.uniform(0, np.pi), rng.uniform(20, 60)
        y, x = rng.uniform(0, height), rng.uniform(0, width)
        for step in np.arange(0, length, 0.5):
            cy, cx = int(y + step * np.sin(angle)), int(x + step * np.cos(angle))
            painted[z, max(0, cy - 2) : max(0, cy + 3), max(0, cx - 2) : max(0, cx + 3)] = True
    return np.where(painted, labels, np.uint64(0))


def fitting(tile: Triple, shape: Triple) -> Triple:
    """Return a tile that is not much larger than a volume, in steps of 8 as networks want it."""
    z, y, x = (min(size, -(-n // 8) * 8) for size, n in zip(tile, shape, strict=True))
    return z, y, x


def _ids(found: DataSet, labels: NDArray[Any], smallest: int) -> NDArray[np.uint64]:
    """Return ids in which 0 is unknown and BACKGROUND_ID boundary."""
    ids = labels.astype(np.uint64)
    names, place, voxels = np.unique(ids, return_inverse=True, return_counts=True)
    kept = np.where((voxels >= smallest) & ~np.isin(names, found.ignore), names, np.uint64(0))
    if found.zero_is_boundary:
        kept[names == 0] = BACKGROUND_ID
    return kept[place].reshape(ids.shape)


def _read(data: Path, uri: str, sections: tuple[int, int] | None) -> NDArray[Any]:
    volume = open_volume(_uri(data, uri))
    _, height, width = volume.shape
    first, last = sections or (0, volume.shape[0])
    return volume.read(Box((first, 0, 0), (last, height, width)))


def _cut(array: NDArray[Any], sections: tuple[int, int] | None) -> NDArray[Any]:
    return array if sections is None else array[slice(*sections)]


def _uri(data: Path, uri: str) -> str:
    return uri if "://" in uri else str(data / uri)
