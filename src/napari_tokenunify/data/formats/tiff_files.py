"""TIFF files: multi-page, OME-TIFF, ImageJ hyperstacks and BigTIFF."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import tifffile

from napari_tokenunify.data.formats.tiff_headers import read_headers
from napari_tokenunify.data.formats.tiff_pages import open_series, quiet_tifffile, stored
from napari_tokenunify.data.source import Location, Source, SourceLevel, as_voxel_size, choose_dataset
from napari_tokenunify.errors import Candidate, DatasetChoiceError, VolumeError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_tokenunify.geometry import VoxelSize

_NM = {"pm": 1e-3, "å": 0.1, "nm": 1.0, "um": 1e3, "mm": 1e6, "cm": 1e7, "m": 1e9}
_SPELLINGS = {
    "angstrom": "å",
    "nanometer": "nm",
    "micron": "um",
    "micrometer": "um",
    "millimeter": "mm",
    "centimeter": "cm",
    "meter": "m",
}


def open_source(location: Location) -> Source:
    """Open `file.tif`, or `file.tif::series1` where pages of several kinds are inside.

    The voxel size is read from OME-XML (`PhysicalSizeX`, `Y`, `Z`), or from ImageJ's `spacing`, `unit` and
    resolution; a resolution in dots per inch is for printing, and is no voxel size.
    """
    if location.is_remote:
        raise VolumeError(location.uri, "TIFF files are read from this machine only: download it first.")
    read_headers(location.uri, location.path)  # tifffile would follow a chain in a circle for ever
    with quiet_tifffile(), tifffile.TiffFile(location.path) as tif:
        series = _all_series(location, tif)
        inner = _choose(location, series)
        number = int(inner.removeprefix("series"))
        chosen = series[number]
        axes = _axes(location, chosen)
        voxel_size, where = _voxel_size(tif, series, number)
        levels = tuple(_levels(location, chosen, axes, voxel_size))
        # The keyframes that decode keep `tif` alive: let go of the pages it holds, megabytes in a large file.
        vars(tif).pop("series", None)
        tif.pages.cache = False
    kind = {"ome": "OME-TIFF", "imagej": "ImageJ TIFF"}.get(chosen.kind, "TIFF")
    return Source(kind, axes, levels, inner if len(series) > 1 else "", voxel_size_source=where)


def _all_series(location: Location, tif: tifffile.TiffFile) -> list[tifffile.TiffPageSeries]:
    """Return every series; refuse a file whose description and pages do not fit, as it may be damaged."""
    try:
        series = tif.series
    except (RuntimeError, tifffile.TiffFileError) as error:
        raise VolumeError(
            location.uri,
            f"has pages of different size or type ({error}): save the sections as one stack of equal pages.",
        ) from error
    described = {kind for kind in ("shaped", "ome", "imagej") if getattr(tif, f"is_{kind}")}
    if not series or (described and series[0].kind not in described):
        raise VolumeError(
            location.uri,
            "has a description that does not fit its pages: it is damaged or one file of a larger set; open the set's "
            "first file, or save it again as a plain multi-page TIFF.",
        )
    return series


def _choose(location: Location, series: list[tifffile.TiffPageSeries]) -> str:
    """Return the name of the series to open, "series0" and so on."""
    candidates = tuple(
        Candidate(f"series{number}", stored(one)[1], str(one.dtype)) for number, one in enumerate(series)
    )
    if len(series) == 1 and not location.inner:
        return "series0"
    inner = choose_dataset(location, candidates)
    # A section of another size than the rest is a series of its own: without a word it would be left out.
    others = [one for number, one in enumerate(series) if f"series{number}" != inner]
    odd = [one.keyframe.index for one in others if one.kind == "generic" and not one.keyframe.is_reduced]
    if odd and not location.inner:
        raise DatasetChoiceError(
            location.uri,
            f"has pages of different size or type, the first is page {odd[0]}: save equal sections as one stack, or "
            f"open only the others with {location.where}::{inner}.",
            tuple(candidate for candidate in candidates if candidate.inner == inner),
        )
    return inner


def _axes(location: Location, series: tifffile.TiffPageSeries) -> str:
    """Return a letter a stored axis: pages of an unnamed axis are sections, samples of a pixel are channels."""
    there, shape = stored(series)
    named = {"T": "t", "Z": "z", "Y": "y", "X": "x", "C": "c", "S": "s" if "C" in there else "c"}
    free = [letter for letter in "zctabdefghijk" if letter not in {named.get(axis) for axis in there}]
    axes = "".join(reversed([named.get(axis) or free.pop(0) for axis in reversed(there)]))
    if "z" not in axes and len(axes) >= 3:
        raise VolumeError(
            location.uri,
            f"has the axes {axes} {shape} and none of depth (z): if these are sections, save them as "
            "slices (in ImageJ: Image > Properties).",
        )
    return axes


def _levels(
    location: Location, series: tifffile.TiffPageSeries, axes: str, voxel_size: VoxelSize | None
) -> Iterator[SourceLevel]:
    """Yield the series and its pyramid, finest first."""
    first, finest = stored(series)
    for level in series.levels:
        there, shape = stored(level)
        if there != first or level.dtype != series.dtype:
            raise VolumeError(location.uri, f"has a pyramid whose level of shape {shape} does not fit {finest}.")
        array, chunks = open_series(location.uri, level)
        size = voxel_size
        if voxel_size is not None and "z" in axes:
            z, y, x = (max(1, round(finest[i] / shape[i])) for i in map(axes.index, "zyx"))
            size = voxel_size[0] * z, voxel_size[1] * y, voxel_size[2] * x
        yield SourceLevel(array, size, chunks)


def _voxel_size(
    tif: tifffile.TiffFile, series: list[tifffile.TiffPageSeries], number: int
) -> tuple[VoxelSize | None, str]:
    size, where = None, ""
    if series[number].kind == "ome" and tif.ome_metadata:
        size, where = _ome_voxel_size(tif.ome_metadata, number, len(series)), "OME-XML"
    elif series[number].kind == "imagej" and tif.imagej_metadata:
        size, where = _imagej_voxel_size(tif.imagej_metadata, series[number].keyframe), "ImageJ tags"
    return size, where if size is not None else ""


def _ome_voxel_size(xml: str, index: int, count: int) -> VoxelSize | None:
    """Read `PhysicalSizeZ`, `Y`, `X` of the image that is series number `index` of `count`."""
    pixels = [element for element in ET.fromstring(xml).iter() if element.tag.endswith("}Pixels")]
    sizes = [
        as_voxel_size(
            [
                float(element.get(f"PhysicalSize{axis}", "nan")) * _nm(element.get(f"PhysicalSize{axis}Unit", "um"))
                for axis in "ZYX"
            ]
        )
        for element in pixels
    ]
    if len(sizes) == count:
        return sizes[index]
    return sizes[0] if len(set(sizes)) == 1 else None


def _imagej_voxel_size(meta: dict[str, Any], page: tifffile.TiffPage) -> VoxelSize | None:
    """Read ImageJ's `spacing` and `unit`; the pixels in a unit are in the tags XResolution and YResolution."""
    unit = str(meta.get("unit", ""))
    yx = [page.tags.valueof(code) for code in (283, 282)]
    if any(pixels is None or not pixels[0] for pixels in yx):
        return None
    y, x = (pixels[1] / pixels[0] for pixels in yx)
    units = str(meta.get("zunit", unit)), str(meta.get("yunit", unit)), unit
    return as_voxel_size([size * _nm(u) for size, u in zip((meta.get("spacing", math.nan), y, x), units, strict=True)])


def _nm(unit: str) -> float:
    """Return the nm in a unit of length; NaN for pixels, inches (a printer's unit) and what is no length."""
    name = unit.strip().lower().replace("metre", "meter")
    for mu in ("\\u00b5", "\N{MICRO SIGN}", "\N{GREEK SMALL LETTER MU}"):  # ImageJ writes the first as six letters
        name = name.replace(mu, "u")
    return _NM.get(_SPELLINGS.get(name.removesuffix("s"), name), math.nan)
