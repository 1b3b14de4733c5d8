"""Fragments on disk, and what a viewer reads from: any slice of fragments or segments within a frame or two.

A store is a Zarr v3 group with OME-Zarr 0.5 metadata and one level "0", so any viewer opens it. A block of the volume
is one shard, that is one file, and holds thin chunks: a section touches few bytes of each. Slices are read here and not
through zarr because zarr spends 0.3 ms on each chunk, three times what reading and decoding it takes.
"""

from __future__ import annotations

import itertools
import math
import struct
from collections import OrderedDict
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from imagecodecs import BloscError, blosc_decode

from napari_tokenunify.errors import SegmentError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import dask.array as da
    from numpy.typing import NDArray

    from napari_tokenunify.geometry import Triple, VoxelSize

    Index = int | slice | tuple[int | slice, ...]
    Shard = tuple[NDArray[np.uint8], NDArray[np.uint64]]

FRAGMENTS: Final = "fragments.zarr"  # in the folder of a segmentation
CHUNK: Final = (4, 128, 128)
SHARD: Final = (64, 512, 512)
# Of what Blosc offers, lz4hc without shuffle decodes ids fastest and packs them second best (zstd: twice as slow).
_CACHE_BYTES: Final = 64 << 20
_MISSING: Final = 2**64 - 1  # no id: a file that was lost is not taken for one without fragments
_NO_CHUNK: Final = 2**64 - 1  # in a shard's index
_HEADER: Final = struct.Struct("<4x3I")  # of a chunk: bytes unpacked, block size, bytes packed
_ENTRY_BYTES, _CHECKSUM_BYTES = 16, 4  # of a shard's index: offset and length a chunk, then CRC32C


def create_fragments(
    path: Path,
    shape: Triple,
    block: Triple,
    voxel_size_nm: VoxelSize | None = None,
    origin: Triple = (0, 0, 0),
    origin_nm: VoxelSize = (0.0, 0.0, 0.0),
) -> Any:
    """Make an empty store of fragments, in place of what is there.

    Parameters
    ----------
    path : Path
        The folder to make.
    shape : tuple of int
        (z, y, x) voxels.
    block : tuple of int
        (z, y, x) voxels of a shard: what is written at once, in one file.
    voxel_size_nm : tuple of float, optional
        (z, y, x) in nm.
    origin : tuple of int
        The voxel (z, y, x) of the volume that the first voxel here is.
    origin_nm : tuple of float
        Corner (z, y, x) in nm of the volume's first voxel.

    Returns
    -------
    zarr.Array
        uint64, shape (Z, Y, X), to be written shard by shard.

    Raises
    ------
    SegmentError
        If it cannot be written.
    """
    import zarr  # here and below, as who shows segments would wait for it: it is slow to load
    from zarr.codecs import BloscCodec

    try:
        group = zarr.open_group(path, mode="w", zarr_format=3)
        group.attrs["ome"] = _ome(voxel_size_nm, origin, origin_nm)
        group.create_array(
            "0",
            shape=shape,
            dtype="uint64",
            shards=block,
            chunks=tuple(chunk if n % chunk == 0 else n for chunk, n in zip(CHUNK, block, strict=True)),
            compressors=BloscCodec(cname="lz4hc", clevel=5, shuffle="noshuffle", typesize=8),
            fill_value=_MISSING,
            dimension_names=("z", "y", "x"),
        )
    except OSError as error:
        raise SegmentError(f"{path}: cannot be written ({error.strerror or error}); choose another place.") from error
    return writable_fragments(path)


def writable_fragments(path: Path) -> Any:
    """Open a store of fragments for reading and writing, as a zarr array."""
    import zarr

    return zarr.open_array(path / "0", mode="r+")


def _ome(voxel_size_nm: VoxelSize | None, origin: Triple, origin_nm: VoxelSize) -> dict[str, Any]:
    size, first = voxel_size_nm or (1.0, 1.0, 1.0), origin_nm if voxel_size_nm else (0.0, 0.0, 0.0)
    unit = {"unit": "nanometer"} if voxel_size_nm else {}
    transforms: list[dict[str, Any]] = [{"type": "scale", "scale": list(size)}]
    shift = [f + a * s for f, a, s in zip(first, origin, size, strict=True)]
    if any(shift):
        transforms.append({"type": "translation", "translation": shift})
    axes = [{"name": axis, "type": "space", **unit} for axis in "zyx"]
    level = {"path": "0", "coordinateTransformations": transforms}
    image = {"name": "fragments", "axes": axes, "datasets": [level]}
    return {"version": "0.5", "multiscales": [image], "image-label": {}}


class StoredFragments:
    """A lazy (z, y, x) array of fragments that `create_fragments` made; chunks read last stay in memory.

    May be read by several threads at once, and crosses to other processes as a path.

    Parameters
    ----------
    path : Path
        The store.
    nodes : int, optional
        Number of fragments; larger ids are an error.

    Attributes
    ----------
    shape, chunks : tuple of int
        (z, y, x) voxels, of the whole and of what is decoded at once.
    dtype : numpy.dtype
        uint64.
    ndim : int
        3.

    Raises
    ------
    SegmentError
        If there is no such store, or it was not made by `create_fragments`.
    """

    dtype = np.dtype(np.uint64)
    ndim = 3

    def __init__(self, path: Path, nodes: int | None = None) -> None:
        import zarr
        from zarr.codecs import BloscCodec

        self.path, self.nodes = Path(path), nodes
        try:
            stored: Any = zarr.open_array(self.path / "0", mode="r", zarr_format=3)
            codecs = stored.metadata.codecs[0].codecs
            ours = stored.dtype == self.dtype and stored.ndim == 3 and isinstance(codecs[-1], BloscCodec)
        except Exception as error:
            raise SegmentError(f"{path}: holds no fragments that can be read; copy the folder again.") from error
        if not ours:
            raise SegmentError(f"{path}: was written by another program; make the segmentation again.")
        self.shape: Triple = stored.shape
        self.chunks: Triple = stored.chunks
        z, y, x = (s // c for s, c in zip(stored.shards, stored.chunks, strict=True))
        self._inside: Triple = (z, y, x)  # chunks in a shard
        self._shard: Callable[[Triple], Shard] = lru_cache(64)(self._mapped)
        self._lock = Lock()
        self._pool: NDArray[np.uint64] | None = None
        self._free: list[int] = []  # places in the pool
        self._kept: OrderedDict[Triple, int] = OrderedDict()  # chunk -> its place in the pool, longest unused first

    def __reduce__(self) -> tuple[Any, ...]:
        """Cross to another process as a path."""
        return type(self), (self.path, self.nodes)

    def __getitem__(self, index: Index) -> NDArray[np.uint64]:
        """Read a part; `index` as of an array: integers and slices."""
        return self.read(index)

    def read(self, index: Index, table: NDArray[np.uint64] | None = None) -> NDArray[np.uint64]:
        """Read a part, of fragments or of what a table makes of them.

        Parameters
        ----------
        index : int, slice or tuple of these
            As of an array (z, y, x).
        table : ndarray of uint64, shape (nodes + 1,), optional
            Segment of each fragment.

        Raises
        ------
        SegmentError
            If a file is damaged there.
        """
        spans, steps, drop = _spans(index, self.shape)
        out = np.empty([len(span) for span in spans], self.dtype)
        with self._lock:
            for position, source, target in _pieces(spans, self.chunks):
                piece = self._chunk(position)[source]
                self._check_ids(position, piece)
                if table is None:
                    out[target] = piece
                else:
                    np.take(table, piece, out=out[target], mode="clip")  # faster than "raise"; ids were just checked
        return out[steps][drop]

    def _chunk(self, position: Triple) -> NDArray[np.uint64]:
        """Return a chunk by its place (z, y, x) among all chunks; it may be overwritten once the lock is given back."""
        if self._pool is None:  # one array: memory in large pages is had four times as fast
            slots = max(16, _CACHE_BYTES // (math.prod(self.chunks) * self.dtype.itemsize))
            self._pool, self._free = np.empty((slots, *self.chunks), self.dtype), list(range(slots))
        slot = self._kept.pop(position, None)
        if slot is None:
            slot = self._free.pop() if self._free else self._kept.popitem(last=False)[1]
            try:
                self._decode(position, self._pool[slot])
            except SegmentError:
                self._free.append(slot)
                raise
        self._kept[position] = slot
        chunk: NDArray[np.uint64] = self._pool[slot]
        return chunk

    def _decode(self, position: Triple, out: NDArray[np.uint64]) -> None:
        """Read a chunk from the disk into `out`."""
        try:
            content = self._packed(position)
            stated, _, held = _HEADER.unpack_from(content)
            if stated == out.nbytes and held == len(content):  # the C library trusts these numbers
                blosc_decode(content, numthreads=1, out=out.reshape(-1).view(np.uint8).data)
                return
        except (OSError, ValueError, IndexError, struct.error, BloscError) as error:
            raise SegmentError(self._damaged(position, "cannot be read")) from error
        raise SegmentError(self._damaged(position, "is cut off"))

    def _packed(self, position: Triple) -> Any:
        """Return the bytes of a chunk as stored; none if it was never written."""
        z, y, x = (divmod(p, n) for p, n in zip(position, self._inside, strict=True))
        packed, index = self._shard((z[0], y[0], x[0]))
        start, length = index[z[1], y[1], x[1]].tolist()
        return b"" if start == _NO_CHUNK else packed[start : start + length]

    def _check_ids(self, position: Triple, piece: NDArray[np.uint64]) -> None:
        largest = int(piece.max())
        if self.nodes is not None and largest > self.nodes:
            raise SegmentError(self._damaged(position, f"holds the id {largest}, but there are {self.nodes} fragments"))

    def _mapped(self, position: Triple) -> Shard:
        """Map a shard's file and read its index."""
        packed = np.memmap(self.path.joinpath("0", "c", *map(str, position)), np.uint8, "r").view(np.ndarray)
        tail = packed[-_ENTRY_BYTES * math.prod(self._inside) - _CHECKSUM_BYTES : -_CHECKSUM_BYTES]
        return packed, np.frombuffer(tail, "<u8").reshape(*self._inside, 2)

    def _damaged(self, position: Triple, what: str) -> str:
        corner = ", ".join(str(p * c) for p, c in zip(position, self.chunks, strict=True))
        return f"{self.path}: the block at voxel {corner} (z, y, x) {what}: the file seems damaged; copy it again."


class SegmentView:
    """A lazy (z, y, x) array of segments: fragments seen through a table, which may be replaced at any time.

    Parameters
    ----------
    fragments : StoredFragments
        The voxels.
    table : ndarray of uint64, shape (nodes + 1,)
        Segment of each fragment.

    Attributes
    ----------
    shape, chunks : tuple of int
        (z, y, x) voxels, of the whole and of what is decoded at once.
    dtype : numpy.dtype
        uint64.
    ndim : int
        3.
    """

    dtype = np.dtype(np.uint64)
    ndim = 3

    def __init__(self, fragments: StoredFragments, table: NDArray[np.uint64]) -> None:
        self.fragments = fragments
        self.shape, self.chunks = fragments.shape, fragments.chunks
        self.set_table(table)

    @property
    def table(self) -> NDArray[np.uint64]:
        """Segment of each fragment as shown, uint64 (nodes + 1,)."""
        return self._table

    def set_table(self, table: NDArray[np.uint64]) -> None:
        """Show other segments from now on; no voxel is read again that is still in memory.

        Raises
        ------
        SegmentError
            If the table is not one of these fragments.
        """
        nodes = self.fragments.nodes
        if table.ndim != 1 or table.dtype != np.uint64 or (nodes is not None and len(table) != nodes + 1):
            raise SegmentError(
                f"A table of {table.shape} {table.dtype} does not fit {nodes} fragments: it is uint64, with an entry "
                "for each of them and one for 0."
            )
        self._table = np.ascontiguousarray(table)

    def __getitem__(self, index: Index) -> NDArray[np.uint64]:
        """Read a part; `index` as of an array: integers and slices."""
        return self.fragments.read(index, self._table)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """Read all of it."""
        return self[:].astype(dtype or self.dtype, copy=False)

    def dask(self) -> da.Array:
        """Return it as a dask array, in blocks of a million voxels or so."""
        import dask.array as da

        chunks = tuple(c * f for c, f in zip(self.chunks, (4, 2, 2), strict=True))
        array: da.Array = da.from_array(  # type: ignore[no-untyped-call]
            self, chunks=chunks, name=False, asarray=False, meta=np.empty((0, 0, 0), self.dtype)
        )
        return array


def _spans(index: Index, shape: Triple) -> tuple[list[range], tuple[slice, ...], tuple[slice | int, ...]]:
    """Return the voxels to read along each axis, and how to step through them and drop axes afterwards."""
    parts: tuple[Any, ...] = index if isinstance(index, tuple) else (index,)
    if Ellipsis in parts:
        at = parts.index(Ellipsis)
        parts = (*parts[:at], *[slice(None)] * (len(shape) - len(parts) + 1), *parts[at + 1 :])
    if len(parts) > len(shape):
        raise IndexError(f"too many indices: {len(parts)} for 3 axes")
    parts = (*parts, *[slice(None)] * (len(shape) - len(parts)))
    spans: list[range] = []
    steps: list[slice] = []
    drop: list[slice | int] = []
    for part, n in zip(parts, shape, strict=True):
        asked = range(n)[part]
        is_slice = isinstance(asked, range)
        span = asked if isinstance(asked, range) else range(asked, asked + 1)
        low, high = (min(span[0], span[-1]), max(span[0], span[-1]) + 1) if len(span) else (0, 0)
        spans.append(range(low, high))
        steps.append(slice(None, None, span.step))
        drop.append(slice(None) if is_slice else 0)
    return spans, tuple(steps), tuple(drop)


def _pieces(
    spans: list[range], chunks: Triple
) -> Iterator[tuple[Triple, tuple[slice, slice, slice], tuple[slice, slice, slice]]]:
    """Yield each chunk that a box touches, what to take of it, and where that goes in the result."""
    axes = [
        [
            (
                number,
                slice(max(span.start - number * c, 0), min(span.stop - number * c, c)),
                slice(max(number * c - span.start, 0), min(number * c + c, span.stop) - span.start),
            )
            for number in range(span.start // c, -(-span.stop // c))
        ]
        for span, c in zip(spans, chunks, strict=True)
    ]
    for (z, from_z, to_z), (y, from_y, to_y), (x, from_x, to_x) in itertools.product(*axes):
        yield (z, y, x), (from_z, from_y, from_x), (to_z, to_y, to_x)
