"""Placement: how large the voxels of one array are and where it starts, from the axes, scales and units of a file."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_tokenunify.data.source import as_voxel_size

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_tokenunify.geometry import VoxelSize

_NM_PER_UNIT = {
    "meter": 1e9,
    "m": 1e9,
    "centimeter": 1e7,
    "cm": 1e7,
    "millimeter": 1e6,
    "mm": 1e6,
    "micrometer": 1e3,
    "micron": 1e3,
    "um": 1e3,
    "\N{MICRO SIGN}m": 1e3,
    "\N{GREEK SMALL LETTER MU}m": 1e3,
    "nanometer": 1.0,
    "nm": 1.0,
    "angstrom": 0.1,
    "\N{LATIN SMALL LETTER A WITH RING ABOVE}": 0.1,
    "picometer": 1e-3,
    "pm": 1e-3,
}


def nm_per_unit(unit: object) -> float | None:
    """Return the nanometres in a unit of length, e.g. 1000.0 for "micrometer" or "um"; None if it is not known."""
    name = str(unit).strip().lower()
    return _NM_PER_UNIT.get(name) or _NM_PER_UNIT.get(name.removesuffix("s").replace("metre", "meter"))


@dataclass(frozen=True)
class Placement:
    """Size and place of the voxels of one array.

    Attributes
    ----------
    voxel_size_nm : tuple of float or None
        (z, y, x) in nm; None if the file does not say, or not in a unit of length.
    translation_nm : tuple of float or None
        (z, y, x) in nm of the centre of the first voxel; None if the file does not say.
    """

    voxel_size_nm: VoxelSize | None = None
    translation_nm: VoxelSize | None = None

    @classmethod
    def from_axes(
        cls, axes: str, units: Sequence[object], scale: Sequence[float], translation: Sequence[float] | None
    ) -> Placement:
        """Make one from lists with an entry for each axis.

        Parameters
        ----------
        axes : str
            A letter an axis; holds z, y and x, or nothing is known.
        units : sequence
            Name of a unit for each axis.
        scale, translation : sequence of float
            In that unit.
        """
        if not set("zyx") <= set(axes) or not len(axes) == len(units) == len(scale):
            return cls()
        order = [axes.index(axis) for axis in "zyx"]
        nm = [nm_per_unit(units[at]) or 0.0 for at in order]  # zero makes no voxel size
        voxel_size = as_voxel_size([scale[at] * unit for at, unit in zip(order, nm, strict=True)])
        if voxel_size is None or translation is None or len(translation) != len(axes):
            return cls(voxel_size)
        z, y, x = (float(translation[at]) * unit for at, unit in zip(order, nm, strict=True))
        return cls(voxel_size, (z, y, x) if all(map(math.isfinite, (z, y, x))) else None)

    def corner_nm(self, finest: Placement) -> VoxelSize:
        """Return (z, y, x) in nm of the first voxel's corner; zeros if it is not known.

        A translation is the centre of the first voxel (so NGFF 0.6; earlier versions do not say), and the first
        voxel of a finest level without translation starts at zero, as in Neuroglancer: so level 0 starts at its
        translation, and a coarser level at its own less half the difference of the voxel sizes.

        Parameters
        ----------
        finest : Placement
            Level 0 of the same image.
        """
        if self.translation_nm is None or self.voxel_size_nm is None:
            return 0.0, 0.0, 0.0
        base = finest.voxel_size_nm or self.voxel_size_nm
        z, y, x = (t - (own - b) / 2 for t, own, b in zip(self.translation_nm, self.voxel_size_nm, base, strict=True))
        return z, y, x
