"""The stages `info` and `check`: what a volume is, and what may spoil its segmentation."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from napari_tokenunify.data.preflight import check_volume
from napari_tokenunify.data.volume import Volume, open_volume
from napari_tokenunify.events import Progress
from napari_tokenunify.geometry import parse_voxel_size

if TYPE_CHECKING:
    from collections.abc import Generator

    from napari_tokenunify.config import CheckConfig, InfoConfig, VolumeConfig
    from napari_tokenunify.events import Event


def open_configured(config: VolumeConfig) -> Volume:
    """Open the volume that a Config names, with the voxel size that it gives."""
    return open_volume(config.uri, parse_voxel_size(config.voxel_size) if config.voxel_size else None)


def info(config: InfoConfig) -> Generator[Event, None, dict[str, Any]]:
    """Describe a volume without reading more than its middle.

    Returns
    -------
    dict
        `shape`, `dtype`, `voxel_size_nm` (None if unknown), `chunks` (None if it reads equally well anywhere),
        `levels`, `format`, `bytes`, `origin_nm`, `provenance`, and `checksum`: the SHA-256 of up to 32x128x128
        voxels in the middle, the same for the same voxels in any format.
    """
    yield Progress(0, 1, "reading")
    volume = open_configured(config)
    checksum = volume.checksum()
    yield Progress(1, 1, "reading")
    return {
        "shape": list(volume.shape),
        "dtype": str(volume.dtype),
        "voxel_size_nm": _as_list(volume.voxel_size_nm),
        "chunks": _as_list(volume.chunks),
        "levels": [
            {"shape": list(level.shape), "voxel_size_nm": _as_list(level.voxel_size_nm)} for level in volume.levels
        ],
        "format": volume.format,
        "bytes": volume.nbytes,
        "origin_nm": list(volume.origin_nm),
        "checksum": checksum,
        "provenance": volume.provenance,
    }


def check(config: CheckConfig) -> Generator[Event, None, dict[str, Any]]:
    """Run the preflight over a volume.

    Returns
    -------
    dict
        `uri`, `shape`, and `findings`: a list of dicts with `kind`, `severity`, `message`, `sections`, `places`.
    """
    volume = open_configured(config)
    findings = yield from check_volume(volume)
    return {
        "uri": volume.uri,
        "shape": list(volume.shape),
        "findings": [asdict(finding) for finding in findings],
    }


def _as_list(values: tuple[float, ...] | None) -> list[float] | None:
    return None if values is None else list(values)
