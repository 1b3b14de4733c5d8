"""Signs of an error in the shape of segments, and where to look: ends inside of the volume, thin bridges, contacts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from napari_tokenunify.errors import SegmentError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_tokenunify.geometry import Triple

# Chance that a segment is not whole, by the faces of the volume that it touches: none, one, more.
_UNFINISHED: Final = (0.97, 0.7, 0.0)
_AT_MOST: Final = 0.97
_THIN: Final = 0.1  # contact over voxels of the smaller side ** (2/3): a cube's face is 1
_WEAK, _STRONG = 0.3, 0.7  # mean affinity


class Ends:
    """Which segments end inside of the volume: a neuron that is whole passes through it.

    Parameters
    ----------
    boxes : ndarray of int32, shape (nodes + 1, 6)
        First voxel of each fragment and the one past the last, (z, y, x); zeros for an id without voxels. The volume is
        the box around all of them.
    """

    def __init__(self, boxes: NDArray[np.int32]) -> None:
        there = boxes[:, 3] > 0
        low = boxes[there, :3].min(axis=0, initial=np.iinfo(np.int32).max)
        high = boxes[there, 3:].max(axis=0, initial=0)
        self._touches = np.concatenate([boxes[:, :3] <= low, boxes[:, 3:] >= high], axis=1) & there[:, None]

    def of_segments(self, table: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Return how many faces of the volume each segment touches, by its id, int64 (nodes + 1,)."""
        faces = np.zeros((len(table), 6), bool)
        for face in range(6):
            faces[table[self._touches[:, face]], face] = True
        found: NDArray[np.int64] = faces.sum(axis=1)
        return found

    def of_sides(self, sides: tuple[NDArray[np.uint64], NDArray[np.uint64]]) -> tuple[int, int]:
        """Return how many faces two sets of fragments touch."""
        one, other = (int(self._touches[side].any(axis=0).sum()) for side in sides)
        return one, other

    def complete(
        self, chance: NDArray[np.float64], pairs: NDArray[np.int64], table: NDArray[np.uint64]
    ) -> NDArray[np.float64]:
        """Raise the chances that segments go on in a neighbour, where one of them ends inside of the volume.

        As such a segment goes on somewhere, the chances of its contacts, taken as independent, have to come to that.

        Parameters
        ----------
        chance : ndarray of float64, shape (N,)
            That two segments are one neuron.
        pairs : ndarray of int64, shape (N, 2)
            The segments.
        table : ndarray of uint64, shape (nodes + 1,)
            Segment of each fragment.

        Returns
        -------
        ndarray of float64, shape (N,)
            None is lower than before.
        """
        missing = np.log1p(-np.minimum(chance, 1 - 1e-9))
        alone = sum(np.bincount(side, missing, len(table)) for side in pairs.T)
        anywhere = np.maximum(1 - np.exp(alone), 1e-6)
        wanted = np.array(_UNFINISHED)[np.minimum(self.of_segments(table), 2)]
        factor = np.maximum(1, wanted / anywhere)[pairs].max(axis=1, initial=1)
        raised: NDArray[np.float64] = np.maximum(chance, np.minimum(chance * factor, _AT_MOST))
        return raised


def reason_for(kind: str, count: float, mean: float, sizes: tuple[int, int], faces: tuple[int, int] | None) -> str:
    """Return in a few words why a place is suspicious.

    Parameters
    ----------
    kind : "merge" or "split"
        What is suggested.
    count, mean : float
        Pairs of voxels of the contact, and their mean affinity.
    sizes : tuple of int
        Voxels of both sides.
    faces : tuple of int, optional
        How many faces of the volume each side touches.
    """
    is_thin = count < _THIN * min(sizes) ** (2 / 3)
    if kind == "merge":
        smaller_faces = None if faces is None else faces[int(np.argmin(sizes))]
        if smaller_faces is not None and smaller_faces < 2:
            return "dead end" if smaller_faces else "orphan"
        return "likely contact" if mean >= _STRONG else "uncertain contact"
    if is_thin:
        return "thin bridge"
    if faces is not None and min(faces) >= 2:
        return "sudden contact"
    return "weak contact" if mean < _WEAK else "uncertain contact"


def contact_place(fragments: Any, boxes: NDArray[np.int32], pair: tuple[int, int]) -> Triple:
    """Return the middle of the contact of two fragments; only where their boxes meet is anything read.

    Parameters
    ----------
    fragments : array of uint64, shape (Z, Y, X)
        May be lazy.
    boxes : ndarray of int32, shape (nodes + 1, 6)
        First voxel of each fragment and the one past the last, (z, y, x).
    pair : tuple of int
        The two.

    Returns
    -------
    tuple of int
        The voxel (z, y, x) of the first one that lies nearest to the middle of all of its that touch the other.

    Raises
    ------
    SegmentError
        If they do not touch.
    """
    u, v = boxes[list(pair)]
    start = np.maximum(np.maximum(u[:3], v[:3]) - 1, 0)
    stop = np.minimum(u[3:], v[3:]) + 1
    if (stop <= start).any():
        raise SegmentError(f"The fragments {pair[0]} and {pair[1]} do not touch: look for suggestions again.")
    part = np.asarray(fragments[tuple(slice(int(a), int(b)) for a, b in zip(start, stop, strict=True))])
    first, second = (part == np.uint64(fragment) for fragment in pair)
    touching = np.zeros_like(first)
    for axis in range(3):
        lower = (slice(None),) * axis + (slice(None, -1),)
        upper = (slice(None),) * axis + (slice(1, None),)
        touching[lower] |= first[lower] & second[upper]
        touching[upper] |= first[upper] & second[lower]
    places = np.argwhere(touching)
    if not len(places):
        raise SegmentError(f"The fragments {pair[0]} and {pair[1]} do not touch: look for suggestions again.")
    nearest = places[((places - places.mean(axis=0)) ** 2).sum(axis=1).argmin()] + start
    return int(nearest[0]), int(nearest[1]), int(nearest[2])
