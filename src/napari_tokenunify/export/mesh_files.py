"""Surfaces of segments, a file each: OBJ, PLY, GLB, or a folder of Neuroglancer's precomputed meshes.

Places are nm in the order x, y, z, counted as the volume's file does; voxels from its corner where the voxel size is
unknown. Triangles turn counter-clockwise seen from outside. The formats take a dozen lines each; tests read the files
with trimesh.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from napari_tokenunify.errors import ExportError
from napari_tokenunify.events import Message
from napari_tokenunify.export.each_segment import ids_with_voxels, is_made_of, whole_segments, write_each
from napari_tokenunify.export.meshes import segment_mesh
from napari_tokenunify.export.precomputed import PROPERTIES, write_properties

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_tokenunify.events import Event
    from napari_tokenunify.export.content import Content, Segments

    Surface = tuple[NDArray[np.float32], NDArray[np.uint32]]

_PLY_FACE: Final = np.dtype([("corners", "u1"), ("rows", "<u4", 3)])
_FLOAT, _UINT, _VERTICES, _FACES = 5126, 5125, 34962, 34963  # of glTF
_GLB: Final = 0x46546C67, 2  # magic, version


def write_obj(content: Content, path: Path) -> Generator[Event, None, None]:
    """Write `ID.obj` for each segment; text, the form that every program reads.

    Parameters
    ----------
    content : Content
        Whole segments.
    path : Path
        The folder.

    Raises
    ------
    ExportError
        If it is an array, or a part of a segmentation.
    OSError
        If it cannot be written.
    """
    yield from _write(content, path, ".obj", _obj)


def write_ply(content: Content, path: Path) -> Generator[Event, None, None]:
    """Write `ID.ply` for each segment, binary; as `write_obj` else."""
    yield from _write(content, path, ".ply", _ply)


def write_glb(content: Content, path: Path) -> Generator[Event, None, None]:
    """Write `ID.glb` for each segment, glTF in one file; as `write_obj` else."""
    yield from _write(content, path, ".glb", _glb)


def write_precomputed(content: Content, path: Path) -> Generator[Event, None, None]:
    """Write Neuroglancer's meshes of one resolution: `info`, and `ID:0` that names `ID`; as `write_obj` else."""
    segments = whole_segments(content)
    if os.name == "nt":
        raise ExportError("Windows allows no ':' in the names of files, which these meshes need: choose GLB or PLY.")
    if segments.voxel_size_nm is None:
        yield Message("The voxel size is unknown, and Neuroglancer needs one: 1 nm is written.", "warning")
    ids = ids_with_voxels(segments)
    for segment in ids.tolist():
        manifest = json.dumps({"fragments": [str(segment)]})
        (path / f"{segment}:0").write_text(manifest, encoding="utf-8")
    sizes = np.bincount(segments.table.astype(np.int64), segments.segmentation.sizes)[ids]
    write_properties(path / PROPERTIES, ids, sizes, segments.voxel_size_nm)
    info = {"@type": "neuroglancer_legacy_mesh", PROPERTIES: PROPERTIES}
    (path / "info").write_text(json.dumps(info), encoding="utf-8")
    yield from _write(segments, path, "", _legacy)


def is_ours(path: Path) -> bool:
    """Whether a folder is one that was written here."""
    return is_made_of(path, "meshes")


def _write(
    content: Content, path: Path, suffix: str, encode: Callable[[Surface], bytes]
) -> Generator[Event, None, None]:
    segments = whole_segments(content)
    yield from write_each(segments, path, suffix, lambda segment: encode(_surface(segments, segment)))


def _surface(content: Segments, segment: int) -> Surface:
    """Return corners (x, y, z) in the place of the volume, and triangles that look outwards."""
    mesh = segment_mesh(content.segmentation, segment, content.table)
    size = content.voxel_size_nm
    middle = np.zeros(3) if size is None else np.array(content.segmentation.origin_nm) + np.array(size) / 2
    vertices = (mesh.vertices + middle)[:, ::-1].astype("<f4")
    return vertices, mesh.faces.astype("<u4")


def _obj(surface: Surface) -> bytes:
    vertices, faces = surface
    corners = "v %.9g %.9g %.9g\n" * len(vertices) % tuple(vertices.ravel().tolist())  # many times faster than savetxt
    return (corners + "f %d %d %d\n" * len(faces) % tuple((faces.astype(np.int64) + 1).ravel().tolist())).encode()


def _ply(surface: Surface) -> bytes:
    vertices, faces = surface
    rows = np.empty(len(faces), _PLY_FACE)
    rows["corners"], rows["rows"] = 3, faces
    header = (
        "ply\nformat binary_little_endian 1.0\n"
        f"element vertex {len(vertices)}\nproperty float x\nproperty float y\nproperty float z\n"
        f"element face {len(faces)}\nproperty list uchar uint vertex_indices\nend_header\n"
    )
    return header.encode() + vertices.tobytes() + rows.tobytes()


def _glb(surface: Surface) -> bytes:
    vertices, faces = surface
    views = [
        {"buffer": 0, "byteOffset": 0, "byteLength": vertices.nbytes, "target": _VERTICES},
        {"buffer": 0, "byteOffset": vertices.nbytes, "byteLength": faces.nbytes, "target": _FACES},
    ]
    low, high = vertices.min(axis=0).tolist(), vertices.max(axis=0).tolist()
    accessors = [
        {"bufferView": 0, "componentType": _FLOAT, "count": len(vertices), "type": "VEC3", "min": low, "max": high},
        {"bufferView": 1, "componentType": _UINT, "count": faces.size, "type": "SCALAR"},
    ]
    about: dict[str, Any] = {
        "asset": {"version": "2.0", "generator": "napari-tokenunify"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0}],
        "meshes": [{"primitives": [{"attributes": {"POSITION": 0}, "indices": 1}]}],
        "accessors": accessors,
        "bufferViews": views,
        "buffers": [{"byteLength": vertices.nbytes + faces.nbytes}],
    }
    text = json.dumps(about).encode()
    text += b" " * (-len(text) % 4)
    chunks = [(text, b"JSON"), (vertices.tobytes() + faces.tobytes(), b"BIN\0")]
    body = b"".join(len(data).to_bytes(4, "little") + kind + data for data, kind in chunks)
    magic, version = _GLB
    return np.array([magic, version, len(body) + 12], "<u4").tobytes() + body


def _legacy(surface: Surface) -> bytes:
    vertices, faces = surface
    return len(vertices).to_bytes(4, "little") + vertices.tobytes() + faces.tobytes()
