"""Neuroglancer precomputed volumes, in a folder or on a network, read with tensorstore (extra `precomputed`).

Format: https://github.com/google/neuroglancer/blob/master/src/datasource/precomputed/volume.md.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_tokenunify.data.source import Location, Source, SourceLevel, as_voxel_size
from napari_tokenunify.errors import Candidate, DatasetChoiceError, VolumeError

if TYPE_CHECKING:
    from napari_tokenunify.geometry import VoxelSize

_AXES = "xyzc"
_RETRIES = {f"{kind}_request_retries": {"max_retries": 3} for kind in ("http", "s3", "gcs")}  # its 32 take minutes


def open_source(location: Location) -> Source:
    """Open a folder or address with an `info` file; `address::KEY` or `address::1` opens one scale alone.

    Addresses are `http(s)://`, `s3://` or `gs://`, with or without `precomputed://` before. The voxel size and the
    origin are read from `resolution` and `voxel_offset`. Chunks that are not there are zeros, as the format has it.
    """
    try:
        import tensorstore
    except ImportError as error:
        raise VolumeError(
            location.uri,
            "needs tensorstore, which reads Neuroglancer precomputed: pip install 'napari-tokenunify[precomputed]'.",
        ) from error
    for store in _stores(location):
        try:
            return _open(location, tensorstore, store)
        except ValueError as error:  # tensorstore has no other type for what happens on a network
            refusal = error
            if "PERMISSION_DENIED" not in str(error):
                break
    reason = str(refusal).splitlines()[0][:200]
    if location.is_remote and "ABORTED" in reason:
        raise VolumeError(
            location.uri, f"cannot be reached: check the address and the network ({reason})."
        ) from refusal
    if location.is_remote and "PERMISSION_DENIED" in reason:
        raise VolumeError(
            location.uri, f"refuses access: check the address and your credentials ({reason})."
        ) from refusal
    raise VolumeError(location.uri, f"cannot be opened: its info file seems damaged ({reason}).") from refusal


def _stores(location: Location) -> list[dict[str, Any] | str]:
    """Return how tensorstore names the place; for S3 without credentials first, then with the user's."""
    where = location.where.removeprefix("precomputed://").rstrip("/")
    if "://" not in where:
        folder = location.path if where == location.where.rstrip("/") else Location("", where).path
        return [{"driver": "file", "path": f"{folder.absolute()}/"}]
    if not where.startswith("s3://"):
        return [f"{where}/"]
    bucket, _, path = where.removeprefix("s3://").partition("/")
    store = {"driver": "s3", "bucket": bucket, "path": f"{path}/" if path else ""}
    return [store | {"aws_credentials": {"type": "anonymous"}}, store]


def _open(location: Location, tensorstore: Any, store: dict[str, Any] | str) -> Source:
    context = tensorstore.Context(_RETRIES)
    found = tensorstore.KvStore.open(store, context=context).result().read("info").result()
    if found.state != "value":
        raise VolumeError(location.uri, "has no info file: give the folder of a Neuroglancer precomputed volume.")
    info = json.loads(found.value)
    scales = info.get("scales") if isinstance(info, dict) else None
    if not scales or info.get("@type", "neuroglancer_multiscale_volume") != "neuroglancer_multiscale_volume":
        raise VolumeError(location.uri, "its info file describes no volume: give the folder of the image or labels.")
    chosen = _chosen_scales(location, info)
    opening = [
        tensorstore.open(
            {"driver": "neuroglancer_precomputed", "kvstore": store, "scale_index": number},
            context=context,
            open=True,
            read=True,
        )
        for number in chosen
    ]
    levels = [
        _level(future.result()[tensorstore.d[:].translate_to[0]], scales[number])
        for future, number in zip(opening, chosen, strict=True)
    ]
    return Source(
        "Neuroglancer precomputed",
        _AXES,
        tuple(levels),
        location.inner,
        _origin_nm(scales[chosen[0]]),
        "resolution in the info file" if levels[0].voxel_size_nm else "",
    )


def _chosen_scales(location: Location, info: dict[str, Any]) -> list[int]:
    """Return the numbers of the scales to open: all, or the one that is named by its key or number."""
    keys = [str(scale["key"]).strip("/") for scale in info["scales"]]
    if not location.inner:
        return list(range(len(keys)))
    if location.inner in keys:
        return [keys.index(location.inner)]
    if location.inner.isdecimal() and int(location.inner) < len(keys):
        return [int(location.inner)]
    scales = zip(keys, info["scales"], strict=True)
    candidates = tuple(Candidate(key, tuple(scale["size"][::-1]), info["data_type"]) for key, scale in scales)
    listing = ", ".join(map(str, candidates))
    raise DatasetChoiceError(
        location.uri, f"has no scale '{location.inner}'; there are: {listing}; or leave it out.", candidates
    )


def _level(store: Any, scale: dict[str, Any]) -> SourceLevel:
    voxel_size = as_voxel_size(scale["resolution"][::-1])
    return SourceLevel(_Scale(store), voxel_size, tuple(store.chunk_layout.read_chunk.shape))


def _origin_nm(scale: dict[str, Any]) -> VoxelSize:
    offset = scale.get("voxel_offset", (0, 0, 0))
    x, y, z = (float(at) * float(size) for at, size in zip(offset, scale["resolution"], strict=True))
    return z, y, x


class _Scale:
    """One scale, axes x, y, z, c, its first voxel at zero."""

    def __init__(self, store: Any) -> None:
        self.store = store
        self.shape: tuple[int, ...] = tuple(store.shape)
        self.dtype: np.dtype[Any] = np.dtype(store.dtype.numpy_dtype)

    def __getitem__(self, index: tuple[slice | int, ...]) -> Any:
        return self.store[index].read().result()
