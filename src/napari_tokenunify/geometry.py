"""Boxes and voxel sizes: integers in, integers out, always in the order z, y, x."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from napari_tokenunify.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable

Triple = tuple[int, int, int]
VoxelSize = tuple[float, float, float]  # nm, z y x

_BOX = re.compile(r"(-?\d+):(-?\d+),(-?\d+):(-?\d+),(-?\d+):(-?\d+)")


def as_triple(values: Iterable[Any]) -> Triple:
    """Return three whole numbers (z, y, x), of an array, a list or JSON, as a tuple of int."""
    z, y, x = (int(value) for value in values)
    return z, y, x


@dataclass(frozen=True)
class Box:
    """A half-open box of voxels.

    Attributes
    ----------
    start : tuple of int
        First voxel inside, (z, y, x). May be negative: a box may reach past a volume.
    stop : tuple of int
        First voxel past the box, (z, y, x); larger than `start` on each axis.

    Raises
    ------
    ConfigError
        If the box is empty on any axis.
    """

    start: Triple
    stop: Triple

    def __post_init__(self) -> None:
        """Refuse an empty box."""
        if any(b <= a for a, b in zip(self.start, self.stop, strict=True)):
            raise ConfigError(f"The box {self} is empty: each stop must be larger than its start.")

    @classmethod
    def whole(cls, shape: Triple) -> Box:
        """Return the box that covers an array of `shape` (z, y, x)."""
        return cls((0, 0, 0), shape)

    @classmethod
    def centred(cls, shape: Triple, centre: Triple) -> Box:
        """Return the box of `shape` (z, y, x) whose middle voxel is `centre`."""
        start = (centre[0] - shape[0] // 2, centre[1] - shape[1] // 2, centre[2] - shape[2] // 2)
        return cls(start, (start[0] + shape[0], start[1] + shape[1], start[2] + shape[2]))

    @classmethod
    def parse(cls, text: str) -> Box:
        """Read `z0:z1,y0:y1,x0:x1`, the form of the command line.

        Raises
        ------
        ConfigError
            If the text has another form, or the box is empty.
        """
        match = _BOX.fullmatch(text.replace(" ", ""))
        if match is None:
            raise ConfigError(f"'{text}' is no box: write it as z0:z1,y0:y1,x0:x1, e.g. 0:64,0:256,0:256.")
        z0, z1, y0, y1, x0, x1 = (int(group) for group in match.groups())
        return cls((z0, y0, x0), (z1, y1, x1))

    def __str__(self) -> str:
        """Return the form that `parse` reads."""
        return ",".join(f"{a}:{b}" for a, b in zip(self.start, self.stop, strict=True))

    @property
    def shape(self) -> Triple:
        """Extent in voxels, (z, y, x)."""
        (z0, y0, x0), (z1, y1, x1) = self.start, self.stop
        return z1 - z0, y1 - y0, x1 - x0

    @property
    def slices(self) -> tuple[slice, slice, slice]:
        """Index that cuts this box out of an array; only for boxes without negative starts."""
        (z0, y0, x0), (z1, y1, x1) = self.start, self.stop
        return slice(z0, z1), slice(y0, y1), slice(x0, x1)

    def clipped(self, shape: Triple) -> Box | None:
        """Return the part inside an array of `shape` (z, y, x), or None if nothing is."""
        start = tuple(max(0, a) for a in self.start)
        stop = tuple(min(n, b) for n, b in zip(shape, self.stop, strict=True))
        if any(b <= a for a, b in zip(start, stop, strict=True)):
            return None
        return Box((start[0], start[1], start[2]), (stop[0], stop[1], stop[2]))

    def grown(self, by: Triple) -> Box:
        """Return the box with `by` (z, y, x) more voxels on both sides of each axis."""
        (z0, y0, x0), (z1, y1, x1) = self.start, self.stop
        dz, dy, dx = by
        return Box((z0 - dz, y0 - dy, x0 - dx), (z1 + dz, y1 + dy, x1 + dx))

    def shifted(self, by: Triple) -> Box:
        """Return the box moved by `by` (z, y, x) voxels."""
        (z0, y0, x0), (z1, y1, x1) = self.start, self.stop
        dz, dy, dx = by
        return Box((z0 + dz, y0 + dy, x0 + dx), (z1 + dz, y1 + dy, x1 + dx))

    def seen_from(self, start: Triple) -> Box:
        """Return the box in voxels of an array whose first voxel is `start` (z, y, x)."""
        z, y, x = start
        return self.shifted((-z, -y, -x))

    def overlap(self, other: Box) -> Box | None:
        """Return the voxels that lie in both boxes, or None if there are none."""
        inside = self.seen_from(other.start).clipped(other.shape)
        return inside and inside.shifted(other.start)


def parse_voxel_size(text: str) -> VoxelSize:
    """Read `z,y,x` in nm, e.g. `40,4,4`; one number means an isotropic voxel.

    Raises
    ------
    ConfigError
        If the text is not one or three positive numbers.
    """
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) == 1:
        numbers = numbers * 3
    if len(numbers) != 3 or not all(0 < number < float("inf") for number in numbers):
        raise ConfigError(f"'{text}' is no voxel size: write z,y,x in nm, e.g. 40,4,4.")
    return numbers[0], numbers[1], numbers[2]


def parse_voxel_sizes(text: str) -> tuple[VoxelSize | None, ...]:
    """Read voxel sizes with spaces between, `40,4,4 8,8,8`; the word `file` means what a file says, and gives None.

    Raises
    ------
    ConfigError
        If one of them is neither a voxel size nor that word.
    """
    words = re.sub(r"\s*,\s*", ",", text).split() or [""]
    return tuple(None if word == "file" else parse_voxel_size(word) for word in words)


def voxel_size_mismatch(volume: VoxelSize | None, network: VoxelSize | None) -> str | None:
    """Return a sentence if the voxel sizes (z, y, x in nm) differ by more than a fifth on an axis, or one is unknown.

    Parameters
    ----------
    volume : tuple of float or None
        That of the volume.
    network : tuple of float or None
        That of the network's training.
    """
    if volume is None:
        return "The volume's voxel size is unknown, so it is taken as it is; give --voxel-size if you know it."
    if network is None:
        return "The voxel size that the network was trained at is unknown, so the volume is taken as it is."
    if all(1 / 1.2 <= v / n <= 1.2 for v, n in zip(volume, network, strict=True)):
        return None
    here, there = ("x".join(f"{size:g}" for size in sizes) for sizes in (volume, network))
    return f"The volume has voxels of {here} nm (z y x), but the network was trained at {there} nm"
