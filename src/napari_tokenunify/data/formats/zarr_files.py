"""Zarr stores, versions 2 and 3, and the OME-Zarr images in them: in a folder, in a zip file or on a network."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numcodecs
import zarr
from zarr.codecs import BloscCodec, ShardingCodec
from zarr.storage import FsspecStore, LocalStore, WrapperStore, ZipStore

from napari_tokenunify.data.formats.blosc import CheckedBlosc
from napari_tokenunify.data.formats.placement import Placement
from napari_tokenunify.data.formats.stores import (
    Files,
    ancestors,
    find_datasets,
    is_zip,
    join,
    open_with_access,
    uppermost,
)
from napari_tokenunify.data.source import Location, Source, SourceLevel, choose_dataset, default_axes
from napari_tokenunify.errors import Candidate, VolumeError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from zarr.abc.codec import Codec
    from zarr.abc.store import ByteRequest, Store
    from zarr.core.buffer import Buffer, BufferPrototype

    Array = zarr.Array[Any]
    Node = Array | zarr.Group

_METADATA_NAMES = ("zarr.json", ".zgroup", ".zarray")


def open_source(location: Location) -> Source:
    """Open `store.zarr`, `store.zarr::group/array`, an OME-Zarr image, or one level of it (`image.zarr::0`).

    The voxel size is read from the multiscales metadata of OME-Zarr (0.4, 0.5), or from the attributes `resolution`
    or `voxel_size`, `offset` and `units` that funlib and CREMI write (z, y, x; nm where no unit is named). Chunks
    that are not there hold the fill value, as Zarr has it.
    """
    if location.is_remote:
        return open_with_access(location, lambda options: _open(_Hierarchy.at_address(location, options)))
    return _open(_Hierarchy.in_zip(location) if is_zip(location) else _Hierarchy.in_folder(location))


def _open(tree: _Hierarchy) -> Source:
    path = join(tree.top, tree.location.inner)
    node = tree.node(path)
    if node is None:
        path = _numbered_level(tree, path)
        node = tree.node(path)
    if isinstance(node, zarr.Group) and _Image.of(node) is None:
        path = join(tree.top, _choose(tree, replace(tree.location, inner=""), path))
    elif node is None:
        path = join(tree.top, _choose(tree, tree.location, tree.top))
    node = tree.node(path)
    return _array_source(tree, path, node) if isinstance(node, zarr.Array) else _image_source(tree, path, node)


def _numbered_level(tree: _Hierarchy, path: str) -> str:
    """Return the path of level N where `path` is image/N and levels have other names (s0, s1, ...), else `path`."""
    above, name = next(ancestors(path))
    image = _Image.of(tree.node(above)) if name.isdecimal() else None
    names = list(image.levels) if image is not None else []
    return join(above, names[int(name)]) if name.isdecimal() and int(name) < len(names) else path


@dataclass(frozen=True)
class _Hierarchy:
    """A store, open for reading.

    Attributes
    ----------
    location : Location
        What was asked for.
    store : zarr.abc.store.Store
        Where zarr reads.
    files : Files
        The same, for listing.
    top : str
        Path in the store of what `location` names before `::`; not "" where that is inside a larger store.
    """

    location: Location
    store: Store
    files: Files
    top: str = ""
    _known: dict[str, Node | None] = field(default_factory=dict)

    @classmethod
    def in_folder(cls, location: Location) -> _Hierarchy:
        """Open a folder; as its attributes may be told by a group above, go up to the uppermost group."""
        root, top = uppermost(location.path, _METADATA_NAMES)
        store = _StoreOfWholeFiles(LocalStore(root, read_only=True))
        return cls(location, store, Files.of_folder(str(root)), top)

    @classmethod
    def in_zip(cls, location: Location) -> _Hierarchy:
        """Open a zip file; what was zipped may be the folder itself or what is in it."""
        files = Files.of_zip(str(location.path))
        folders = files.folders("")
        wrapped = len(folders) == 1 and not any(map(files.system.exists, _METADATA_NAMES))
        store = _StoreOfWholeFiles(ZipStore(location.path, mode="r"))
        return cls(location, store, files, folders[0] if wrapped else "")

    @classmethod
    def at_address(cls, location: Location, options: dict[str, Any]) -> _Hierarchy:
        """Open a network address."""
        address = location.where.rstrip("/")
        files = Files.of_address(address, options)
        # Where nobody answers, this fails first: zarr asks for several files at once, and what it left unanswered
        # would complain when the program ends.
        files.read("zarr.json")
        store = FsspecStore.from_url(address, storage_options=options, read_only=True)
        return cls(location, _StoreOfWholeFiles(store), files)

    @property
    def index(self) -> zarr.Group | None:
        """The root, if it holds the metadata of all that is in the store (consolidated metadata)."""
        root = self.node("")
        has_all = isinstance(root, zarr.Group) and root.metadata.consolidated_metadata is not None
        return root if has_all else None  # type: ignore[return-value]

    def node(self, path: str) -> Node | None:
        """Return the array or group at a path; None if there is none."""
        if path not in self._known:
            index = self.index if path else None
            self._known[path] = index[path] if index is not None and path in index else self._read_node(path)
        return self._known[path]

    def _read_node(self, path: str) -> Node | None:
        # On this machine all metadata is at hand, and consolidated metadata may be out of date.
        use_consolidated = None if self.location.is_remote else False
        try:
            return zarr.open(store=self.store, path=path, mode="r", use_consolidated=use_consolidated)
        except FileNotFoundError:
            return None
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            reason = f"{type(error).__name__}: {error}".splitlines()[0][:160]
            raise VolumeError(
                self.location.uri, f"the metadata of '{path or '/'}' cannot be used ({reason}): copy the store again."
            ) from error

    def children(self, path: str) -> list[str]:
        """Return the paths of what may be a group or an array in the group at `path`.

        Raises
        ------
        VolumeError
            If a web server has it, which cannot list.
        """
        group = self.node(path) if self.index is not None else None
        if isinstance(group, zarr.Group) and group.metadata.consolidated_metadata is not None:
            return [join(path, name) for name in sorted(group.metadata.consolidated_metadata.metadata)]
        if not self.files.can_list:
            raise VolumeError(
                self.location.uri,
                "a web server cannot list what is in a group without consolidated metadata: name the "
                f"dataset, e.g. {self.location.where}::volumes/raw.",
            )
        return [join(path, name) for name in self.files.folders(path)]


class _StoreOfWholeFiles(WrapperStore["Store"]):
    """A store where a file of no bytes, as a full disk leaves it, is an error: zarr takes an empty shard for zeros."""

    async def get(self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None) -> Buffer | None:
        """Read a file or a part of it; None if it is not there."""
        content = await super().get(key, prototype, byte_range)
        if content is not None and len(content) == 0:
            raise ValueError(f"the file {key} is empty")
        return content


def _choose(tree: _Hierarchy, location: Location, start: str) -> str:
    """Return the dataset to open below `start`; what lies inside a dataset is a label image of it, not a rival."""

    def inspect(path: str) -> tuple[Candidate | None, Iterable[str]]:
        node = tree.node(path)
        if isinstance(node, zarr.Array):
            return _candidate(tree, path, node), ()
        if node is None and location.is_remote:  # maybe the chunks of an array; each look is a request
            return None, ()
        image = _Image.of(node)
        if image is None:
            return None, tree.children(path)
        if path == start:  # an image that was not meant, as the dataset inside that was named is not there
            return None, [*(join(path, name) for name in image.levels), *_label_paths(tree, path)]
        finest = tree.node(join(path, next(iter(image.levels))))
        found = _candidate(tree, path, finest) if isinstance(finest, zarr.Array) else None
        return found, _label_paths(tree, path)

    is_store = tree.node(tree.top) is not None
    candidates = find_datasets(start, inspect) if is_store or tree.files.can_list else []
    if not candidates and not is_store:
        raise VolumeError(location.uri, _nothing_found(location))
    if location.inner:
        return choose_dataset(location, candidates)
    inside = {c.inner for c in candidates for other in candidates if c.inner.startswith(f"{other.inner}/")}
    images = [c for c in candidates if c.inner not in inside and len(c.shape) >= 3]
    return choose_dataset(location, images if len(images) == 1 else candidates)


def _candidate(tree: _Hierarchy, path: str, array: Array) -> Candidate:
    return Candidate(path.removeprefix(tree.top).strip("/"), array.shape, str(array.dtype))


def _nothing_found(location: Location) -> str:
    if location.is_remote:
        return (
            "no Zarr store is there: check the address, name the dataset inside with ::, or write "
            f"precomputed://{location.where} if it is Neuroglancer precomputed."
        )
    return f"is no Zarr store, or one that lost its {_METADATA_NAMES[0]} or {_METADATA_NAMES[1]}: copy it again."


@dataclass(frozen=True)
class _Image:
    """The multiscales metadata of an OME-Zarr image.

    Attributes
    ----------
    version : str
        Of OME-Zarr, e.g. "0.4"; "" if it does not say.
    axes : str
        A letter an axis; "" if it does not say.
    levels : mapping of str to Placement
        The arrays by their path in the group, finest first.
    """

    version: str
    axes: str
    levels: Mapping[str, Placement]

    @classmethod
    def of(cls, node: Node | None) -> _Image | None:
        """Read it from a group's attributes; None if it is no image. Of several images the first is meant."""
        attributes = node.attrs.asdict() if isinstance(node, zarr.Group) else {}
        ome: Any = attributes.get("ome", attributes)
        match ome:
            case {"multiscales": [{"datasets": [{"path": str()}, *_] as datasets} as entry, *_]}:
                pass
            case _:
                return None
        axes = entry.get("axes") or []
        letters = "".join(map(_axis_letter, axes))
        units = [axis.get("unit") if isinstance(axis, dict) else None for axis in axes]
        common = entry.get("coordinateTransformations") or []
        levels = {}
        for dataset in datasets:
            scale, shift = _scale_and_translation([*(dataset.get("coordinateTransformations") or []), *common])
            levels[dataset["path"].strip("/")] = Placement.from_axes(letters, units, scale, shift)
        return cls(str(ome.get("version") or entry.get("version") or ""), letters, levels)


def _axis_letter(axis: Any) -> str:
    name, kind = (axis.get("name", ""), axis.get("type")) if isinstance(axis, dict) else (str(axis), None)
    return {"channel": "c", "time": "t"}.get(str(kind)) or (name.lower() if len(name) == 1 else "?")


def _scale_and_translation(transformations: list[dict[str, Any]]) -> tuple[list[float], list[float] | None]:
    """Combine transformations, applied in this order; one entry an axis, in the axis' unit."""
    scale: list[float] = []
    shift: list[float] | None = None
    for transformation in transformations:
        if "scale" in transformation:
            factors = transformation["scale"]
            scale = [a * b for a, b in zip(scale, factors, strict=True)] if scale else factors
            shift = [a * b for a, b in zip(shift, factors, strict=True)] if shift else shift
        elif "translation" in transformation:
            steps = transformation["translation"]
            shift = [a + b for a, b in zip(shift, steps, strict=True)] if shift else steps
    return scale, shift


def _image_source(tree: _Hierarchy, path: str, group: Node | None) -> Source:
    """Return an image with all its levels; coarser ones that are missing are left out."""
    image = _Image.of(group)
    if image is None:
        raise VolumeError(tree.location.uri, f"has no image at '{path}'.")
    arrays = {name: tree.node(join(path, name)) for name in image.levels}
    name, finest = next(iter(arrays.items()))
    if not isinstance(finest, zarr.Array):
        raise VolumeError(tree.location.uri, f"the finest level '{name}' of the image is missing: copy it again.")
    levels = [
        _level(tree.location, array, image.levels[name])
        for name, array in arrays.items()
        if isinstance(array, zarr.Array) and array.ndim == finest.ndim
    ]
    others = tuple(p.removeprefix(tree.top).strip("/") for p in _label_paths(tree, path))
    return replace(_placed(tree, path, image, name, finest), levels=tuple(levels), others=others)


def _array_source(tree: _Hierarchy, path: str, array: Array) -> Source:
    """Return one array: a level of an image if a group above says so, else a plain one."""
    for above, name in ancestors(path):
        image = _Image.of(tree.node(above))
        if image is not None and name in image.levels:
            return _placed(tree, path, image, name, array)
    axes = _named_axes(array)
    placement, where = _attribute_placement(array, axes)
    source = Source(f"Zarr v{array.metadata.zarr_format}", axes, (_level(tree.location, array, placement),))
    inner = path.removeprefix(tree.top).strip("/")
    return replace(source, inner=inner, origin_nm=placement.corner_nm(placement), voxel_size_source=where)


def _placed(tree: _Hierarchy, path: str, image: _Image, name: str, array: Array) -> Source:
    """Return one level of an image."""
    placement, finest = image.levels[name], next(iter(image.levels.values()))
    return Source(
        f"OME-Zarr {image.version}".strip(),
        image.axes if len(image.axes) == array.ndim else default_axes(array.ndim),
        (_level(tree.location, array, placement),),
        path.removeprefix(tree.top).strip("/"),
        placement.corner_nm(finest),
        "multiscales metadata" if placement.voxel_size_nm else "",
    )


def _level(location: Location, array: Array, placement: Placement) -> SourceLevel:
    return SourceLevel(_checked(location, array), placement.voxel_size_nm, array.chunks)


def _label_paths(tree: _Hierarchy, path: str) -> list[str]:
    """Return the paths of an image's label images."""
    group = tree.node(join(path, "labels"))
    attributes = group.attrs.asdict() if isinstance(group, zarr.Group) else {}
    ome: Any = attributes.get("ome", attributes)
    match ome:
        case {"labels": [*names]}:
            return [join(path, "labels", str(name).strip("/")) for name in names]
        case _:
            return []


def _named_axes(array: Array) -> str:
    """Return a letter an axis: as the dimensions are named (Zarr v3, xarray, funlib), else the usual ones."""
    attributes: dict[str, Any] = array.attrs.asdict()
    names = getattr(array.metadata, "dimension_names", None)
    names = names or attributes.get("_ARRAY_DIMENSIONS") or attributes.get("axis_names") or ()
    axes = "".join(str(name)[:1].lower() for name in names)
    named = len(axes) == len(set(axes)) == array.ndim and set(axes) <= set("tczyx")
    return axes if named else default_axes(array.ndim)


def _attribute_placement(array: Array, axes: str) -> tuple[Placement, str]:
    attributes: dict[str, Any] = array.attrs.asdict()
    for name in ("resolution", "voxel_size"):
        match attributes.get(name):
            case [_, _, _, *_] as scale:
                units = attributes.get("units") or "nm"
                units = [units] * len(scale) if isinstance(units, str) else units
                letters = axes if len(scale) == len(axes) else "".join(axis for axis in axes if axis in "zyx")
                placement = Placement.from_axes(letters, units, scale, attributes.get("offset"))
                return placement, f"attribute {name}" if placement.voxel_size_nm else ""
    return Placement(), ""


def _checked(location: Location, array: Array) -> Array:
    """Return the same array with codecs that are safe on damaged and malicious chunks."""
    metadata: Any = array.metadata
    if metadata.zarr_format == 2:
        filters = tuple(_checked_v2_codec(location, codec) for codec in metadata.filters or ())
        compressor = _checked_v2_codec(location, metadata.compressor)
        metadata = replace(metadata, compressor=compressor, filters=filters or None)
    else:
        metadata = replace(metadata, codecs=tuple(map(_checked_codec, metadata.codecs)))
    return zarr.Array(zarr.AsyncArray(metadata, array.store_path))


def _checked_v2_codec(location: Location, codec: Any) -> Any:
    if isinstance(codec, numcodecs.Pickle):
        raise VolumeError(location.uri, "is stored as Python objects (pickle), which are never loaded: convert it.")
    return CheckedBlosc() if isinstance(codec, numcodecs.Blosc) else codec


def _checked_codec(codec: Codec) -> Codec:
    if isinstance(codec, ShardingCodec):
        return replace(codec, codecs=tuple(map(_checked_codec, codec.codecs)))
    if isinstance(codec, BloscCodec):
        return _CheckedBloscCodec(typesize=codec.typesize, cname=codec.cname, shuffle=codec.shuffle)
    return codec


class _CheckedBloscCodec(BloscCodec):
    """zarr's Blosc, which decodes with CheckedBlosc."""

    @cached_property
    def _blosc_codec(self) -> CheckedBlosc:
        return CheckedBlosc()
