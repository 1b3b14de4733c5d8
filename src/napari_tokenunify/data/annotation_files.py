"""Annotations drawn elsewhere: points and shapes in CSV (napari's own, or plain), skeletons in SWC."""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_tokenunify.data.drawn_labels import Drawing, Polygon, Unit, nearest_voxels
from napari_tokenunify.errors import AnnotationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_tokenunify.data.volume import Volume

    ToVoxels = Callable[[NDArray[np.float64]], NDArray[np.float64]]

_NM_PER = {"nm": 1.0, "um": 1000.0}
_AXES = (("z", "y", "x"), ("axis-0", "axis-1", "axis-2"))
_OUTLINES = ("polygon", "rectangle", "ellipse")
_PATHS = ("path", "line")
_SWC = "SWC has seven numbers a line: number, type, x, y, z, radius, parent"


def drawing_files(path: Path) -> tuple[Path, ...]:
    """Return the CSV or SWC files that `path` stands for: itself, or the SWC files in a folder; () for neither."""
    if path.is_dir():
        return tuple(sorted(file for file in path.iterdir() if file.suffix.lower() == ".swc"))
    return (path,) if path.suffix.lower() in {".csv", ".swc"} else ()


def read_drawing(files: Iterable[Path], volume: Volume, unit: Unit | None = None) -> Drawing:
    """Read points, lines and polygons, and turn their coordinates into voxels of `volume`.

    - CSV of napari's Points layer (`index, axis-0, axis-1, axis-2`), of its Shapes layer (`index, shape-type,
      vertex-index, axis-0, axis-1, axis-2`), or any CSV with columns `z, y, x`. A column `id` holds the neuron;
      without it each point or shape of a napari file is a neuron of its own, numbered from 1.
    - SWC: each connected tree is one neuron, numbered from 1 through all files. Radii are not used.

    Parameters
    ----------
    files : iterable of Path
        One CSV file, or any number of SWC files.
    volume : Volume
        Gives the voxel size and origin for coordinates that are not voxels.
    unit : {"voxel", "nm", "um"}, optional
        What the coordinates count; see `Pen`.

    Raises
    ------
    AnnotationError
        If a file is damaged, lacks a column, holds nothing, or its unit is not known or cannot be used.
    """
    drawings: list[Drawing] = []
    for path in files:
        is_swc = path.suffix.lower() == ".swc"
        if is_swc and unit is None:
            raise AnnotationError(f"{path}: an SWC file does not say its unit: choose voxel, nm or um (micrometres).")
        to_voxels = _converter(volume, unit or "voxel")
        drawing = _read_swc(path, to_voxels) if is_swc else _read_csv(path, to_voxels)
        before = max((int(one.neurons.max()) for one in drawings), default=0)
        drawings.append(Drawing(drawing.lines, drawing.neurons + np.uint64(before), drawing.polygons))
    if not drawings:
        raise AnnotationError("There is no CSV or SWC file to read: name one, or a folder of SWC files.")
    return Drawing(
        np.concatenate([one.lines for one in drawings]),
        np.concatenate([one.neurons for one in drawings]),
        tuple(shape for one in drawings for shape in one.polygons),
    )


def _converter(volume: Volume, unit: Unit) -> ToVoxels:
    if unit == "voxel":
        return lambda points: points
    if volume.voxel_size_nm is None:
        raise AnnotationError(
            f"{volume.uri}: coordinates in {unit} need the volume's voxel size, which is not known: give it."
        )
    size, origin = np.array(volume.voxel_size_nm), np.array(volume.origin_nm)
    return lambda points: (points * _NM_PER[unit] - origin) / size - 0.5


@dataclass(frozen=True)
class _Row:
    """One line of a CSV file that holds a point or a vertex."""

    point: tuple[float, float, float]
    neuron: int
    index: str
    shape_type: str


def _read_csv(path: Path, to_voxels: ToVoxels) -> Drawing:
    rows = _csv_rows(path)
    if not rows[0].shape_type:
        points = to_voxels(np.array([row.point for row in rows]))
        return Drawing(points[:, None].repeat(2, axis=1), np.array([row.neuron for row in rows], np.uint64))
    by_shape: dict[str, list[_Row]] = {}
    for row in rows:
        by_shape.setdefault(row.index, []).append(row)
    polygons: list[Polygon] = []
    lines, neurons = [np.empty((0, 2, 3))], [np.empty(0, np.uint64)]
    for index, vertices in by_shape.items():
        kind, neuron = vertices[0].shape_type, vertices[0].neuron
        points = to_voxels(np.array([row.point for row in vertices]))
        if kind in _PATHS:
            lines.append(np.stack([points[:-1], points[1:]], axis=1) if len(points) > 1 else points[None].repeat(2, 1))
            neurons.append(np.full(len(lines[-1]), neuron, np.uint64))
        elif kind in _OUTLINES:
            polygons.append(_polygon(f"{path}: shape {index} ({kind})", kind, neuron, points))
        else:
            known = ", ".join(_OUTLINES + _PATHS)
            raise AnnotationError(f"{path}: shape {index} is of the unknown type '{kind}': known are {known}.")
    return Drawing(np.concatenate(lines), np.concatenate(neurons), tuple(polygons))


def _polygon(name: str, kind: str, neuron: int, points: NDArray[np.float64]) -> Polygon:
    if len(points) < (4 if kind == "ellipse" else 3):
        raise AnnotationError(f"{name} has only {len(points)} vertices: delete it, or save the layer again.")
    thickness = np.ptp(points, axis=0)
    axis = int(thickness.argmin())
    if thickness[axis] >= 0.5:
        raise AnnotationError(f"{name} does not lie in one section: draw it again in a single section.")
    outline = np.delete(points, axis, axis=1)
    if kind == "ellipse":  # napari saves the corners of the rectangle around it
        angle = np.linspace(0, 2 * np.pi, 64, endpoint=False)[:, None]
        first, second = (outline[1] - outline[0]) / 2, (outline[3] - outline[0]) / 2
        outline = outline.mean(axis=0) + first * np.cos(angle) + second * np.sin(angle)
    return Polygon(neuron, axis, int(nearest_voxels(points[:, axis].mean())), outline)


def _csv_rows(path: Path) -> list[_Row]:
    try:
        text = path.read_text(encoding="utf-8-sig")
        lines = text.splitlines()
        header = lines[0] if lines else ""
        table = csv.reader(lines, delimiter=max(",;\t", key=header.count))
        columns = {name.strip().lower(): place for place, name in enumerate(next(table, []))}
        axes = _check_columns(path, columns)
        rows = [_csv_row(path, table.line_num, cells, columns, axes) for cells in table if any(map(str.strip, cells))]
    except OSError as error:
        raise AnnotationError(f"{path}: cannot be read ({error.strerror}): check the path.") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise AnnotationError(f"{path}: is no CSV text ({error}): save the table as CSV in UTF-8.") from error
    if not rows:
        raise AnnotationError(f"{path}: holds no point: save the layer again after drawing.")
    return rows


def _check_columns(path: Path, columns: dict[str, int]) -> tuple[str, str, str]:
    axes = next((names for names in _AXES if set(names) <= set(columns)), None)
    if axes is None or "axis-3" in columns:
        found = ", ".join(columns) or "nothing"
        raise AnnotationError(
            f"{path}: needs the columns z, y, x or napari's axis-0, axis-1, axis-2 (and no fourth axis), but has "
            f"{found}."
        )
    if not {"id", "index"} & set(columns):
        raise AnnotationError(f"{path}: has no column id: add one that holds the number of the neuron, from 1.")
    return axes


def _csv_row(path: Path, line: int, cells: list[str], columns: dict[str, int], axes: tuple[str, str, str]) -> _Row:
    try:
        z, y, x = (float(cells[columns[name]]) for name in axes)
        index = cells[columns["index"]].strip() if "index" in columns else ""
        neuron = _whole(cells[columns["id"]]) if "id" in columns else _whole(index) + 1
        shape_type = cells[columns["shape-type"]].strip() if "shape-type" in columns else ""
    except (ValueError, IndexError, OverflowError) as error:
        raise AnnotationError(f"{path}: line {line} is damaged ({error}): mend or delete it.") from error
    if not all(map(math.isfinite, (z, y, x))) or not 0 < neuron < 2**63:
        raise AnnotationError(
            f"{path}: line {line} has the id {neuron} at {z}, {y}, {x}: ids are whole numbers from 1, and coordinates "
            "are finite."
        )
    return _Row((z, y, x), neuron, index, shape_type)


def _is_number(value: float) -> bool:
    return value.is_integer() and abs(value) < 2**53


def _whole(text: str) -> int:
    """Read a whole number; napari writes every column as a float."""
    try:
        return int(text)
    except ValueError:
        number = float(text)
        if number != int(number):
            raise ValueError(f"{text} is no whole number") from None
        return int(number)


def _read_swc(path: Path, to_voxels: ToVoxels) -> Drawing:
    nodes = _swc_nodes(path)
    numbers, parents = nodes[:, 0].astype(np.int64), nodes[:, 6].astype(np.int64)
    order = np.argsort(numbers, kind="stable")
    if (np.diff(numbers[order]) == 0).any():
        raise AnnotationError(f"{path}: two nodes have the same number: {_SWC}.")
    child = np.flatnonzero(parents >= 0)
    place = np.searchsorted(numbers, parents[child], sorter=order).clip(max=len(numbers) - 1)
    parent = order[place]
    lost = numbers[parent] != parents[child]
    if lost.any():
        node = int(child[lost][0])
        raise AnnotationError(
            f"{path}: node {numbers[node]} hangs on node {parents[node]}, which does not exist: the file seems cut off."
        )
    from scipy.sparse import coo_array  # here, as who only asks for names would wait for them
    from scipy.sparse.csgraph import connected_components

    graph = coo_array((np.ones(len(child), bool), (child, parent)), shape=(len(nodes), len(nodes)))
    trees, tree = connected_components(graph, directed=False)
    roots = np.flatnonzero(parents < 0)
    if len(roots) != trees:
        raise AnnotationError(f"{path}: a chain of nodes has no root, it bites its own tail: save the skeleton again.")
    points = to_voxels(nodes[:, [4, 3, 2]])
    ends = np.concatenate([np.stack([child, parent], axis=1), np.stack([roots, roots], axis=1)])
    return Drawing(points[ends], (tree[ends[:, 0]] + 1).astype(np.uint64))


def _swc_nodes(path: Path) -> NDArray[np.float64]:
    """Return an array of shape (N, 7), all finite: number, type, x, y, z, radius, parent."""
    nodes: list[list[float]] = []
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise AnnotationError(f"{path}: cannot be read ({error.strerror}): check the path.") from error
    for number, line in enumerate(text.splitlines(), start=1):
        fields = line.partition("#")[0].replace(",", " ").split()
        if not fields:
            continue
        try:
            node = [float(value) for value in fields]
        except ValueError:
            node = []
        if len(node) != 7 or not all(map(math.isfinite, node[2:5])) or not all(map(_is_number, (node[0], node[6]))):
            raise AnnotationError(f"{path}: line {number} is damaged ('{line.strip()[:60]}'): {_SWC}.")
        nodes.append(node)
    if not nodes:
        raise AnnotationError(f"{path}: holds no node: {_SWC}.")
    return np.array(nodes)
