"""A short text that tells whether data is the same as before, without reading all of a large volume."""

from __future__ import annotations

import hashlib
from itertools import product
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from napari_tokenunify.data.annotations import Annotations
from napari_tokenunify.geometry import Box, Triple

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_tokenunify.data.volume import Volume

_SAMPLE: Final = (16, 64, 64)
_PLACES: Final = (0.0, 0.5, 1.0)  # along each axis: corners, edges, faces and the middle
_DIGITS: Final = 32


def data_hash(data: Volume | Annotations) -> str:
    """Return a fingerprint of a volume or of annotations as hexadecimal text.

    The same voxels give the same text, whatever file they are in and however it is chunked.

    Parameters
    ----------
    data : Volume or Annotations
        Of a Volume, 27 boxes of up to 16x64x64 voxels at its corners, edges, faces and middle are read, so that a
        change between them stays unseen. Of Annotations, every label counts, in one pass over what is labelled, and
        so does what stands for boundary.

    Returns
    -------
    str
        32 digits, a part of a SHA-256.

    Raises
    ------
    AnnotationError, VolumeError
        If the file is damaged, or there is a negative id.
    """
    parts: tuple[Any, ...]
    if isinstance(data, Annotations):
        parts = (data.shape, data.boundary_id, data.zero_is_boundary, _label_sum(data))
    else:
        parts = (data.shape, *(data.checksum(box) for box in _sample_boxes(data.shape)))
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:_DIGITS]


def _sample_boxes(shape: Triple) -> list[Box]:
    z, y, x = (min(n, size) for n, size in zip(shape, _SAMPLE, strict=True))
    starts = [
        dict.fromkeys(int(place * (n - size)) for place in _PLACES) for n, size in zip(shape, (z, y, x), strict=True)
    ]
    return [Box.whole((z, y, x)).shifted((a, b, c)) for a, b, c in product(*starts)]


def _label_sum(annotations: Annotations) -> int:
    """Return the sum of all ids, each times three random numbers for its z, y and x, modulo 2^64.

    Multilinear hashing: two sets of labels have the same sum with a chance of about 2^-64, and the parts add up
    whatever blocks they are read in.
    """
    weights = [_random_numbers(axis, extent) for axis, extent in enumerate(annotations.shape)]
    total = 0
    for block in annotations.labelled_blocks():
        z, y, x = (numbers[part] for numbers, part in zip(weights, block.box.slices, strict=True))
        total += int(z @ (block.ids @ x @ y))  # products and sums of arrays wrap around
    return total % 2**64


def _random_numbers(axis: int, count: int) -> NDArray[np.uint64]:
    """Return numbers that are the same in every version of NumPy."""
    return np.asarray(np.random.PCG64(axis).random_raw(count), np.uint64)
