"""Sections: what is measured of each section of a stack, and between neighbours, in a window of bounded size."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.fft
from skimage.feature import hessian_matrix, hessian_matrix_eigvals

from napari_tokenunify.data.intensity import tissue
from napari_tokenunify.errors import VolumeError
from napari_tokenunify.events import Progress
from napari_tokenunify.geometry import Box

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from numpy.typing import NDArray

    from napari_tokenunify.data.volume import Volume
    from napari_tokenunify.events import Event
    from napari_tokenunify.geometry import VoxelSize

_WINDOW = 512  # voxels along y and x
_SLAB_BYTES = 64 << 20
_RIDGE_SECTIONS = 16  # that are looked at for the contrast of membranes
_MEMBRANE_NM = 15.0  # standard deviation of the Gaussian that finds membranes best
_FINEST_RIDGE = 1.1  # voxels
_LARGEST_VOXEL_NM = 22.0  # membranes are not seen in larger voxels
_LEAST_TISSUE = 0.02  # share of a section


@dataclass(frozen=True)
class Section:
    """What was measured in the window of one section.

    Attributes
    ----------
    z : int
        Which section.
    not_finite : int
        Voxels that are NaN or infinite; the rest is measured without them.
    middle : float
        Median.
    spread : float
        95th minus 5th percentile; 0 if the section is blank.
    darkest, brightest : float
        Share of the voxels that have the lowest, or the highest, value of this section; padding does not count.
    flat : float
        Share of the voxels between these two that equal their neighbour in x: near 1 for labels.
    ridges : tuple of float
        In -1..1, one a scale: above 0 where thin lines are dark, as membranes must be; empty if not looked at.
    digest : bytes
        The same for two sections only if their windows are identical.
    """

    z: int
    not_finite: int
    middle: float
    spread: float
    darkest: float
    brightest: float
    flat: float
    ridges: tuple[float, ...]
    digest: bytes


@dataclass(frozen=True)
class Pair:
    """How a section lies on the last one before it that is not blank.

    Correlations are normalised to -1..1, of what is between 2 and 24 voxels in size.

    Attributes
    ----------
    before, z : int
        The two sections.
    move : tuple of int
        (y, x) voxels by which the content moved from `before` to `z`, where the correlation is highest.
    peak : float
        Correlation there.
    trough : float
        Lowest correlation at any move; far below 0 if the contrast of one of the two is inverted.
    unmoved : float
        Correlation without any move.
    detail : float
        Correlation of the finest detail, which is mostly noise; near 1 only for copies of one section.
    """

    before: int
    z: int
    move: tuple[int, int]
    peak: float
    trough: float
    unmoved: float
    detail: float


@dataclass(frozen=True)
class Sections:
    """What was measured in a stack.

    Attributes
    ----------
    sections : tuple of Section
        All that could be read, in order.
    pairs : tuple of Pair
        Neighbours, in order of `Pair.z`.
    unreadable : dict of int to str
        Sections that could not be read, and what the reader said.
    window : Box
        Which part was looked at.
    """

    sections: tuple[Section, ...]
    pairs: tuple[Pair, ...]
    unreadable: dict[int, str]
    window: Box

    @property
    def chance(self) -> float:
        """Correlation that unrelated sections reach at some move; it rises as the window gets smaller.

        Measured between far sections of FIB-SEM and ssTEM stacks: at most 0.25 at 512x512, 0.37 at 256x256.
        """
        return 100 / math.sqrt(self.window.shape[1] * self.window.shape[2])


def measure_sections(volume: Volume) -> Generator[Event, None, Sections]:
    """Look at the middle of every section, at most 512x512 voxels, a slab of chunks at a time.

    Parameters
    ----------
    volume : Volume
        An image of integers or floats.

    Returns
    -------
    Sections
        Measures of each section that is not damaged.
    """
    window = _window(volume)
    register = _Register(window)
    ridge_step = max(1, volume.shape[0] // _RIDGE_SECTIONS)
    sections: list[Section] = []
    pairs: list[Pair] = []
    unreadable: dict[int, str] = {}
    for box in _slabs(volume, window):
        try:
            slab = volume.read(box)
        except VolumeError as error:
            unreadable |= dict.fromkeys(range(box.start[0], box.stop[0]), error.problem)
            slab = np.empty((0, 0, 0))
        for z, voxels in enumerate(slab, box.start[0]):
            scales = _ridge_scales(volume.voxel_size_nm) if z % ridge_step == 0 else ()
            section, image = _measure(z, voxels, scales)
            sections.append(section)
            if section.spread > 0 and (pair := register.add(z, image)) is not None:
                pairs.append(pair)
        yield Progress(box.stop[0], volume.shape[0], "checking sections")
    return Sections(tuple(sections), tuple(pairs), unreadable, window)


def _ridge_scales(voxel_size_nm: VoxelSize | None) -> tuple[float, ...]:
    """Return the standard deviations in voxels at which membranes are thin lines; none if they cannot be seen.

    The finest is always among them: it keeps a wrong voxel size from making something else of the lines.
    """
    if voxel_size_nm is None:
        return _FINEST_RIDGE, 2.0
    voxel = max(voxel_size_nm[1:])
    if voxel > _LARGEST_VOXEL_NM:
        return ()
    scale = min(_MEMBRANE_NM / voxel, 5.0)
    return (_FINEST_RIDGE, scale) if scale > _FINEST_RIDGE else (_FINEST_RIDGE,)


def _window(volume: Volume) -> Box:
    """Return the middle of all sections, on the borders of chunks where that is possible."""
    chunks = volume.chunks or (1, 1, 1)
    (y0, y1), (x0, x1) = (_middle(volume.shape[axis], chunks[axis]) for axis in (1, 2))
    return Box((0, y0, x0), (volume.shape[0], y1, x1))


def _middle(length: int, chunk: int) -> tuple[int, int]:
    if length <= _WINDOW:
        return 0, length
    if chunk <= _WINDOW:  # whole chunks
        size = _WINDOW // chunk * chunk
        start = min(round((length - size) / 2 / chunk) * chunk, (length - size) // chunk * chunk)
        return start, start + size
    low = length // 2 // chunk * chunk  # a part of the chunk in the middle
    high = min(low + chunk, length)
    start = max(0, min(max(low, (length - _WINDOW) // 2), high - _WINDOW))
    return start, start + _WINDOW


def _slabs(volume: Volume, window: Box) -> Iterator[Box]:
    (depth, y0, x0), (_, y1, x1) = (volume.shape[0], *window.start[1:]), window.stop
    section_bytes = (y1 - y0) * (x1 - x0) * volume.dtype.itemsize
    thickness = min(volume.chunks[0] if volume.chunks else 8, max(1, _SLAB_BYTES // section_bytes))
    for z in range(0, depth, thickness):
        yield Box((z, y0, x0), (min(z + thickness, depth), y1, x1))


def _measure(z: int, voxels: NDArray[Any], scales: tuple[float, ...]) -> tuple[Section, NDArray[np.float32]]:
    """Return the measures of a section, and its voxels as floats around 0 with a spread of 1."""
    digest = hashlib.blake2b(voxels.tobytes(), digest_size=16).digest()
    finite = np.isfinite(voxels)
    if not finite.all():
        voxels = np.where(finite, voxels, np.median(voxels[finite]) if finite.any() else 0)
    values = tissue(voxels)
    not_finite = int(finite.size - np.count_nonzero(finite))
    if values.size < _LEAST_TISSUE * voxels.size:
        middle = float(np.median(voxels))
        return Section(z, not_finite, middle, 0.0, 0.0, 0.0, 0.0, (), digest), np.zeros(voxels.shape, np.float32)
    low, middle, high = (float(value) for value in np.percentile(values, (5, 50, 95)))
    spread = high - low
    image = ((voxels - np.float64(middle)) / (spread or 1.0)).clip(-1, 1).astype(np.float32)
    section = Section(
        z,
        not_finite,
        middle,
        spread,
        darkest=float(np.mean(values == values.min())),
        brightest=float(np.mean(values == values.max())),
        flat=_flat(voxels),
        ridges=tuple(_ridges(image, scale) for scale in scales),
        digest=digest,
    )
    return section, image


def _flat(voxels: NDArray[Any]) -> float:
    """Return the share of voxels that equal their neighbour in x; padding and saturation do not count."""
    left = voxels[:, :-1]
    counted = (left > voxels.min()) & (left < voxels.max())
    return float(np.mean((left == voxels[:, 1:])[counted])) if counted.any() else 1.0


def _ridges(image: NDArray[np.float32], scale: float) -> float:
    """Compare dark with bright thin lines: 1 if all are dark, -1 if all are bright.

    A line is where one eigenvalue of the Hessian is far from 0 and the other is near it. The fourth power lets
    the strongest lines, which are membranes, outweigh noise.
    """
    hessian = hessian_matrix(  # type: ignore[no-untyped-call]
        image, sigma=scale, mode="reflect", order="rc", use_gaussian_derivatives=True
    )
    high, low = hessian_matrix_eigvals(hessian)  # type: ignore[no-untyped-call]
    dark = float((np.maximum(high - np.abs(low), 0) ** 4).mean())
    bright = float((np.maximum(-low - np.abs(high), 0) ** 4).mean())
    return (dark - bright) / (dark + bright) if dark + bright else 0.0


class _Register:
    """Compares each section with the one before, by cross-correlation in the frequency domain.

    Plain correlation of a band of sizes finds the true move between 50 nm sections as well as between 10 nm
    ones; phase correlation (`skimage.registration.phase_cross_correlation`) whitens the spectrum, and there
    follows noise.
    """

    def __init__(self, window: Box) -> None:
        self.shape = window.shape[1:]
        self.taper = np.outer(*(np.hanning(length + 2)[1:-1] for length in self.shape)).astype(np.float32)
        fy, fx = scipy.fft.fftfreq(self.shape[0])[:, None], scipy.fft.rfftfreq(self.shape[1])[None]
        square = 2 * np.pi**2 * (fy**2 + fx**2)
        self.band = (np.exp(-square * 2**2) - np.exp(-square * 24**2)).astype(np.float32)
        self.fine = (1 - np.exp(-square)).astype(np.float32)
        # the real transform keeps half the spectrum: what it leaves out mirrors what it keeps
        self.weight = np.where((fx == 0) | (fx == 0.5), 1, 2).astype(np.float32)
        self.last: tuple[int, NDArray[np.complex64], NDArray[np.complex64]] | None = None

    def add(self, z: int, image: NDArray[np.float32]) -> Pair | None:
        """Return how `image` lies on the image added before it; None for the first."""
        spectrum = scipy.fft.rfft2(image * self.taper)
        band, fine = self._normal(spectrum * self.band), self._normal(spectrum * self.fine)
        last, self.last = self.last, (z, band, fine)
        if last is None:
            return None
        correlation = scipy.fft.irfft2(band * last[1].conj(), s=self.shape) * math.prod(self.shape)
        at = np.unravel_index(int(correlation.argmax()), correlation.shape)
        y, x = (int(i) - n if 2 * i > n else int(i) for i, n in zip(at, self.shape, strict=True))
        detail = float(np.sum(self.weight * (fine * last[2].conj()).real))
        peak, trough, unmoved = correlation[at], correlation.min(), correlation[0, 0]
        return Pair(last[0], z, (y, x), float(peak), float(trough), float(unmoved), detail)

    def _normal(self, spectrum: NDArray[np.complex64]) -> NDArray[np.complex64]:
        energy = float(np.sum(self.weight * np.abs(spectrum) ** 2))
        normal: NDArray[np.complex64] = spectrum / np.float32(math.sqrt(energy) or 1.0)
        return normal
