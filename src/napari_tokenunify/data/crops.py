"""Crops: the small boxes that a network is trained on, drawn where something is known."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from napari_tokenunify.affinities import DEFAULT_OFFSETS, Offset
from napari_tokenunify.data.places import Places, find_places
from napari_tokenunify.errors import AnnotationError, ConfigError
from napari_tokenunify.geometry import Box, Triple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from napari_tokenunify.data.annotations import Annotations
    from napari_tokenunify.data.intensity import IntensityRange
    from napari_tokenunify.data.volume import Volume

BLANK_STD = 0.02  # of normalised voxels; tissue has about ten times as much
BLANK_TRIES = 10


@dataclass(frozen=True, eq=False)
class Crop:
    """One piece of a volume, ready for a network.

    Attributes
    ----------
    image : ndarray of float32, shape (Z, Y, X)
        Normalised to 0..1; mirrored where the box reaches past the volume.
    labels : ndarray of uint64, shape (Z, Y, X)
        Ids; 0 is unlabelled, as is everything past the volume, and everything if there are no annotations.
    box : Box
        Where it lies in the volume; reaches past it where the volume is too small.
    """

    image: NDArray[np.float32]
    labels: NDArray[np.uint64]
    box: Box


@dataclass(frozen=True, eq=False)
class CropSampler:
    """An endless list of random crops: `sampler[i]` depends on the arguments and `i` only.

    So any number of workers gives the same crops, and training resumes where it stopped.

    With annotations, each crop holds a known pair at a random place in it: with the chance `border_share` one that
    is known to be apart (two neurons, or boundary), else one of a neuron, each neuron equally likely however
    large. Without, boxes are drawn anywhere, and drawn again where the image is blank.

    Parameters
    ----------
    volume : Volume
        The image.
    annotations : Annotations or None
        Labels of the same shape; None for pre-training.
    shape : tuple of int
        Of a crop, (z, y, x). Larger than the volume is fine.
    intensity : IntensityRange
        How voxels become 0..1.
    offsets : sequence of (int, int, int)
        Which pairs count, (z, y, x) each; those that do not fit into a crop are left out.
    seed : int
        Not negative; another one gives other crops.
    margin : tuple of int
        The known pair keeps this distance from the crop's faces, (z, y, x): what augmentation may cut off.
        Boxes may reach this far past the volume.
    border_share : float
        Chance that a crop is drawn around a known border, 0..1; larger shows more of the rare pairs that are apart.

    Attributes
    ----------
    places : Places or None
        The index of known pairs, made in one pass over the labels; None without annotations.

    Raises
    ------
    AnnotationError
        If nothing is known, or the annotations have not the volume's shape.
    ConfigError
        If shape and margin leave no room, or an argument is out of its range.
    """

    volume: Volume
    annotations: Annotations | None
    shape: Triple
    intensity: IntensityRange
    offsets: Sequence[Offset] = DEFAULT_OFFSETS
    seed: int = 0
    margin: Triple = (0, 0, 0)
    border_share: float = 0.25
    places: Places | None = field(init=False, default=None, repr=False)

    def __post_init__(self) -> None:
        """Check the arguments and make the index."""
        if self.seed < 0 or not 0 <= self.border_share <= 1:
            raise ConfigError(
                f"The seed {self.seed} and the border share {self.border_share} cannot be used: give a seed of 0 or "
                "more, and a share of 0 to 1."
            )
        room = [s - 2 * m for s, m in zip(self.shape, self.margin, strict=True)]
        if min(room) < 1 or min(self.margin) < 0:
            raise ConfigError(
                f"A crop of {self.shape} voxels has no room within a margin of {self.margin}: enlarge it."
            )
        if self.annotations is None:
            return
        if self.annotations.shape != self.volume.shape:
            raise AnnotationError(
                f"The annotations have {self.annotations.shape} voxels (z, y, x), but the volume has "
                f"{self.volume.shape}: give the labels that were made on this volume."
            )
        fitting = [o for o in self.offsets if all(abs(step) < r for step, r in zip(o, room, strict=True))]
        if not fitting:
            raise ConfigError(f"No pair of the offsets {list(self.offsets)} fits into {room} voxels: enlarge the crop.")
        object.__setattr__(self, "places", find_places(self.annotations, fitting, self.seed))

    def __getitem__(self, index: int) -> Crop:
        """Return the crop number `index`, 0 or more.

        Raises
        ------
        VolumeError
            If a file is damaged there.
        """
        if index < 0:
            raise IndexError(index)
        rng = np.random.default_rng((self.seed, index))
        if self.places is not None:
            pair = self.places.draw(rng, self.border_share)
            box = self._box(rng, pair)
            return Crop(self._image(box), self._labels(box), box)
        for _ in range(BLANK_TRIES):
            box = self._box(rng, None)
            image = self._image(box)
            if image.std() >= BLANK_STD:
                break
        return Crop(image, self._labels(box), box)

    def _box(self, rng: np.random.Generator, pair: NDArray[np.int64] | None) -> Box:
        """Return a random box around a pair of voxels, inside the volume and `margin` where it is large enough."""
        start = []
        for axis, (size, extent, margin) in enumerate(zip(self.shape, self.volume.shape, self.margin, strict=True)):
            if extent + 2 * margin <= size:
                start.append((extent - size) // 2)
                continue
            lowest, highest = -margin, extent + margin - size
            if pair is not None:
                lowest = max(lowest, int(pair[:, axis].max()) + 1 + margin - size)
                highest = min(highest, int(pair[:, axis].min()) - margin)
            start.append(int(rng.integers(lowest, highest + 1)))
        z, y, x = start
        return Box.whole(self.shape).shifted((z, y, x))

    def _image(self, box: Box) -> NDArray[np.float32]:
        inside, past = _inside(box, self.volume.shape)
        return np.pad(self.intensity.normalise(self.volume.read(inside)), past, mode="reflect")

    def _labels(self, box: Box) -> NDArray[np.uint64]:
        if self.annotations is None:
            return np.zeros(box.shape, np.uint64)
        inside, past = _inside(box, self.annotations.shape)
        return np.pad(self.annotations.read(inside), past)


def _inside(box: Box, shape: Triple) -> tuple[Box, list[tuple[int, int]]]:
    """Return the part of a box within `shape`, and by how much it reaches past it on both sides of each axis."""
    start = [max(0, a) for a in box.start]
    stop = [min(n, b) for n, b in zip(shape, box.stop, strict=True)]
    past = [(a - low, high - b) for low, a, b, high in zip(box.start, start, stop, box.stop, strict=True)]
    return Box((start[0], start[1], start[2]), (stop[0], stop[1], stop[2])), past
