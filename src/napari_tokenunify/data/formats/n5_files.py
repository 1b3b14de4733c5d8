"""N5 containers, in a folder or on a network, read block by block.

The axes of N5 are x, y, z; they are turned round here. The reader is our own: z5py 3.0 dies of a damaged
`attributes.json` (a division by zero), reads a block that is cut off as zeros, and knows neither gzip with
`useZlib` nor the LZ4 of N5 for Java. Format: https://github.com/saalfeldlab/n5#file-system-specification.
"""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import count, product
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_tokenunify.data.formats.n5_blocks import COMPRESSIONS, read_block
from napari_tokenunify.data.formats.placement import Placement
from napari_tokenunify.data.formats.stores import Files, ancestors, find_datasets, join, open_with_access, uppermost
from napari_tokenunify.data.source import Location, Source, SourceLevel, choose_dataset, default_axes
from napari_tokenunify.errors import Candidate, VolumeError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

Attributes = dict[str, Any]

_DTYPES = {f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)} | {"float32", "float64"}
_READS_AT_ONCE = 8


def open_source(location: Location) -> Source:
    """Open `container.n5::group/dataset`, or a group of levels s0, s1, ... as one volume with its levels.

    The voxel size is read from the attributes `transform` (COSEM), or `pixelResolution` or `resolution` with
    `downsamplingFactors` or `scales` (n5-viewer, Paintera, BigDataViewer; x, y, z; nm where no unit is named), of
    the array or the group that holds its levels. Blocks that are not there are zeros, as N5 has it.
    """
    if location.is_remote:
        address = location.where.rstrip("/")
        return open_with_access(
            location, lambda options: _open(_Container(location, Files.of_address(address, options)))
        )
    if not location.path.is_dir():
        raise VolumeError(location.uri, "is a file, but an N5 container is a folder: extract it first.")
    root, top = uppermost(location.path, ("attributes.json",))
    return _open(_Container(location, Files.of_folder(str(root)), top))


def _open(container: _Container) -> Source:
    path = join(container.top, container.location.inner)
    if container.is_dataset(path):
        return _array_source(container, path)
    if container.level_names(path):
        return _image_source(container, path)
    path = join(container.top, _choose(container, path))
    return _array_source(container, path) if container.is_dataset(path) else _image_source(container, path)


@dataclass(frozen=True)
class _Container:
    """A container, open for reading.

    Attributes
    ----------
    location : Location
        What was asked for.
    files : Files
        Its files.
    top : str
        Path in `files` of what `location` names before `::`; not "" where that is inside a larger container.
    """

    location: Location
    files: Files
    top: str = ""
    _known: dict[str, Attributes | None] = field(default_factory=dict)

    def attributes(self, path: str) -> Attributes:
        """Return the attributes of a group or dataset; empty if it has none.

        Raises
        ------
        VolumeError
            If they are no JSON object.
        """
        return self._attributes(path) or {}

    def exists(self, path: str) -> bool:
        """Whether there is a group or dataset at `path`."""
        return self._attributes(path) is not None or (self.files.can_list and bool(self.files.folders(path)))

    def _attributes(self, path: str) -> Attributes | None:
        if path not in self._known:
            content = self.files.read(join(path, "attributes.json"))
            try:
                attributes = None if content is None else json.loads(content)
            except ValueError as error:
                raise self.damaged(path, str(error)) from error
            if not isinstance(attributes, dict | None):
                raise self.damaged(path, "it holds no JSON object")
            self._known[path] = attributes
        return self._known[path]

    def damaged(self, path: str, reason: str) -> VolumeError:
        """Return the error for attributes that cannot be used."""
        name = join(path, "attributes.json")
        return VolumeError(self.location.uri, f"the file {name} in it is damaged ({reason}): copy it again.")

    def is_dataset(self, path: str) -> bool:
        """Whether there is an array at `path`."""
        return {"dimensions", "dataType"} <= set(self.attributes(path))

    def level_names(self, path: str) -> list[str]:
        """Return the names of the levels of the group at `path`, finest first; none if it is no such group."""
        match self.attributes(path):
            case {"multiscales": [{"datasets": [{"path": str()}, *_] as datasets}, *_]}:
                names = [str(dataset.get("path")).strip("/") for dataset in datasets]
                return [name for name in names if self.is_dataset(join(path, name))]
        names = []
        for number in count():
            if not self.is_dataset(join(path, f"s{number}")):
                return names
            names.append(f"s{number}")
        return names

    def array(self, path: str) -> _N5Array:
        """Open the dataset at `path`.

        Raises
        ------
        VolumeError
            If its attributes are damaged, or it holds what is no array of numbers.
        """
        attributes = self.attributes(path)
        dimensions, block_size = attributes["dimensions"], attributes.get("blockSize")
        for numbers, least in ((dimensions, 0), (block_size, 1)):
            if not isinstance(numbers, list) or not all(type(n) is int and n >= least for n in numbers):
                raise self.damaged(path, f"dimensions {dimensions}, blockSize {block_size}")
        if not 0 < len(dimensions) == len(block_size or []):
            raise self.damaged(path, f"dimensions {dimensions}, blockSize {block_size}")
        kind = "label multisets" if attributes.get("isLabelMultiset") else str(attributes["dataType"])
        if kind not in _DTYPES:
            raise VolumeError(self.location.uri, f"'{path}' holds {kind}: export it as an array of numbers first.")
        compression = attributes.get("compression", attributes.get("compressionType", "raw"))
        compression = str(compression.get("type") if isinstance(compression, dict) else compression)
        if compression not in COMPRESSIONS:
            raise VolumeError(
                self.location.uri,
                f"'{path}' is compressed with '{compression}', which is not known: convert it to one of "
                f"{', '.join(COMPRESSIONS)}.",
            )
        shape, chunks = tuple(reversed(dimensions)), tuple(reversed(block_size or []))
        return _N5Array(self.files, path, shape, chunks, np.dtype(kind), compression)

    def children(self, path: str) -> list[str]:
        """Return the paths of what may be a group or a dataset in the group at `path`.

        Raises
        ------
        VolumeError
            If a web server has it, which cannot list.
        """
        if not self.files.can_list:
            raise VolumeError(
                self.location.uri,
                f"a web server cannot list what is in an N5 group: name the dataset, e.g. "
                f"{self.location.where}::volumes/raw.",
            )
        return [join(path, name) for name in self.files.folders(path)]

    def inner(self, path: str) -> str:
        """Return a path as it follows `::` in a URI."""
        return path.removeprefix(self.top).strip("/")


def _choose(container: _Container, path: str) -> str:
    """Return the dataset to open at or below `path`, or raise an error that lists what is there."""

    def inspect(at: str) -> tuple[Candidate | None, Iterable[str]]:
        names = container.level_names(at)
        if not names and not container.is_dataset(at):
            return None, container.children(at)
        array = container.array(join(at, names[0]) if names else at)
        return Candidate(container.inner(at), array.shape, str(array.dtype)), ()

    exists = container.exists(path)
    location = container.location
    if exists and location.inner:
        location = Location(location.uri, location.where, "", location.selection)
    return choose_dataset(location, find_datasets(path if exists else container.top, inspect))


def _array_source(container: _Container, path: str) -> Source:
    """Return one array; a level of an image if the group that holds it says so."""
    group, name = next(ancestors(path)) if path else ("", "")
    names = container.level_names(group) if path else []
    if name in names:
        return _source(container, path, group, [name], names[0])
    return _source(container, path, path, [""], "")


def _image_source(container: _Container, path: str) -> Source:
    names = container.level_names(path)
    return _source(container, path, path, names, names[0])


def _source(container: _Container, path: str, group: str, names: list[str], finest: str) -> Source:
    """Return the levels `names` of the image at `group`."""
    arrays = [container.array(join(group, name)) for name in names]
    placements = [_placement(container, group, name) for name in names]
    levels = [
        SourceLevel(array, placement.voxel_size_nm, array.chunks)
        for array, placement in zip(arrays, placements, strict=True)
        if len(array.shape) == len(arrays[0].shape)
    ]
    return Source(
        "N5",
        default_axes(len(arrays[0].shape)),
        tuple(levels),
        container.inner(path),
        placements[0].corner_nm(_placement(container, group, finest)),
        "attributes of N5" if placements[0].voxel_size_nm else "",
    )


def _placement(container: _Container, group: str, name: str) -> Placement:
    """Return where the level `name` of the image at `group` is, from its attributes and those of the group."""
    own, shared = container.attributes(join(group, name)), container.attributes(group)
    number = container.level_names(group).index(name) if name else 0
    transform: Any = own.get("transform") or _entry(shared, number).get("transform")
    match transform:
        case {"axes": [*axes], "units": [*units], "scale": [*scale]}:
            letters = "".join(str(axis)[:1].lower() for axis in axes)
            return Placement.from_axes(letters, units, scale, transform.get("translate"))
    for attributes in (own, shared):
        resolution, unit = _resolution(attributes)
        if resolution:
            break
    else:
        return Placement()
    factors = own.get("downsamplingFactors") or _numbered(shared, number)
    factors = factors if isinstance(factors, list) and len(factors) == 3 else [1, 1, 1]
    scale = [size * factor for size, factor in zip(resolution, factors, strict=True)]
    offset = own.get("offset", shared.get("offset"))
    centre = None  # of the first voxel, as if averaged from voxels of level 0 whose first corner is at the offset
    if isinstance(offset, list) and len(offset) == 3:
        centre = [at + (new - old) / 2 for at, new, old in zip(offset, scale, resolution, strict=True)]
    return Placement.from_axes("xyz", [unit] * 3, scale, centre)


def _entry(shared: Attributes, number: int) -> Attributes:
    """Return what a group's `multiscales` say of its level `number`; empty if nothing."""
    match shared:
        case {"multiscales": [{"datasets": [*datasets]}, *_]} if number < len(datasets):
            return datasets[number] if isinstance(datasets[number], dict) else {}
    return {}


def _numbered(shared: Attributes, number: int) -> Any:
    """Return the downsampling factors that a group states for its level `number`; None if it does not."""
    factors = shared.get("scales") or shared.get("downsamplingFactors")
    return factors[number] if isinstance(factors, list) and number < len(factors) else None


def _resolution(attributes: Attributes) -> tuple[list[float], str]:
    """Return the voxel size (x, y, z) and its unit; an empty list if the attributes hold none."""
    match attributes:
        case {"pixelResolution": {"dimensions": [_, _, _] as resolution, "unit": str(unit)}}:
            return resolution, unit
        case {"resolution": [_, _, _] as resolution}:
            return resolution, "nm"
    return [], ""


@dataclass(frozen=True)
class _N5Array:
    """One dataset; axes (..., z, y, x)."""

    files: Files
    path: str
    shape: tuple[int, ...]
    chunks: tuple[int, ...]
    dtype: np.dtype[Any]
    compression: str

    def __getitem__(self, index: tuple[slice | int, ...]) -> NDArray[Any]:
        spans = [
            (at, at + 1) if isinstance(at, int) else at.indices(n)[:2] for at, n in zip(index, self.shape, strict=True)
        ]
        out = np.zeros([stop - start for start, stop in spans], self.dtype)
        cells = [range(start // size, -(-stop // size)) for (start, stop), size in zip(spans, self.chunks, strict=True)]
        with ThreadPoolExecutor(_READS_AT_ONCE) as pool:
            list(pool.map(lambda cell: self._copy(cell, spans, out), product(*cells)))
        return out[tuple(0 if isinstance(at, int) else slice(None) for at in index)]

    def _copy(self, cell: tuple[int, ...], spans: list[tuple[int, int]], out: NDArray[Any]) -> None:
        """Copy the part of one block that lies in `spans` to where it belongs in `out`."""
        content = self.files.read(join(self.path, *map(str, reversed(cell))))
        if content is None:
            return
        block = read_block(content, self.compression, self.dtype, self.chunks)
        source, target = [], []
        for number, size, n, found, (start, stop) in zip(
            cell, self.chunks, self.shape, block.shape, spans, strict=True
        ):
            first = number * size
            if found < min(size, n - first):
                raise ValueError(f"the block {cell} is smaller than its place")
            begin, end = max(start, first), min(stop, first + size)
            source.append(slice(begin - first, end - first))
            target.append(slice(begin - start, end - start))
        out[tuple(target)] = block[tuple(source)]
