"""How a block of neuropil looks in a microscope: grey values, thick sections, blur, noise and uneven sections."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_tokenunify.data.neuropil.anatomy import ramp
from napari_tokenunify.data.neuropil.chance import Noise

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from napari_tokenunify.data.neuropil.anatomy import Anatomy
    from napari_tokenunify.data.neuropil.chance import Dice, Floats
    from napari_tokenunify.data.neuropil.growth import Neuropil
    from napari_tokenunify.geometry import VoxelSize


@dataclass(frozen=True)
class Style:
    """The look of one kind of microscope; grey values are 0..255.

    Attributes
    ----------
    cytoplasm : tuple of float
        Mean grey of thin neurites, how much brighter trunks are, and how far single ones stray.
    dark_neurites : tuple of float
        Their share, and the range of their grey.
    grain : tuple of float
        Depth of the cytoplasm's texture in thin neurites and in trunks, and its finest wavelength in nm.
    membrane : tuple of float
        Grey, and the distance in nm from its middle where it is still fully and no longer dark.
    mitochondrion : tuple of float
        Grey of the matrix, depth of the cristae, darkness of the double membrane.
    stain : float
        Darkness of microtubules, vesicles and synapses.
    blur : tuple of float
        Weight of each neighbour along z, y and x in one pass.
    noise : tuple of float
        Deviation of noise that is smooth along a scan line, and of white noise.
    sections : tuple of float
        How far contrast (as a fraction) and brightness of single sections stray.
    """

    cytoplasm: tuple[float, float, float]
    dark_neurites: tuple[float, float, float]
    grain: tuple[float, float, float]
    membrane: tuple[float, float, float]
    mitochondrion: tuple[float, float, float]
    stain: float
    blur: tuple[float, float, float]
    noise: tuple[float, float]
    sections: tuple[float, float]


BLOCK_FACE = Style(
    cytoplasm=(142, 32, 12),
    dark_neurites=(0.17, 100, 128),
    grain=(9, 17, 34),
    membrane=(78, 8, 17),
    mitochondrion=(80, 9, 12),
    stain=0.35,
    blur=(0.25, 0.4, 0.4),
    noise=(9, 2),
    sections=(0.01, 1.5),
)
THIN_SECTION = Style(
    cytoplasm=(158, 12, 9),
    dark_neurites=(0.12, 108, 130),
    grain=(30, 36, 13),
    membrane=(38, 6, 12),
    mitochondrion=(94, 46, 55),
    stain=0.6,
    blur=(0, 0.14, 0.14),
    noise=(18, 9),
    sections=(0.1, 14),
)


class Tissue:
    """The grey value of everything, before the microscope.

    Parameters
    ----------
    block : Neuropil
        The neurites.
    anatomy : Anatomy
        What lies at each voxel.
    voxel_size_nm : tuple of float
        Of `anatomy`, (z, y, x).
    style : Style
        The kind of microscope.
    dice : Dice
        Where chance comes from.
    """

    def __init__(self, block: Neuropil, anatomy: Anatomy, voxel_size_nm: VoxelSize, style: Style, dice: Dice) -> None:
        self._anatomy, self.style = anatomy, style
        self._cytoplasm = np.zeros(len(block.neurites) + 1, np.float32)
        self._grain = np.zeros(len(block.neurites) + 1, np.float32)
        for neurite in block.neurites:
            girth = min(1.0, neurite.radius_nm / 220)
            mean, brighter, stray = style.cytoplasm
            share, low, high = style.dark_neurites
            grey = dice.number(low, high) if dice.number(0, 1) < share else mean + brighter * girth
            self._cytoplasm[neurite.label] = grey + dice.number(-stray, stray)
            self._grain[neurite.label] = style.grain[0] + (style.grain[1] - style.grain[0]) * girth
        _, full, none = style.membrane
        self._membrane = ramp(full, none)
        self._shade = ramp(14, 50, 8)
        self._matrix = 1 - ramp(0.5, 6)
        self._rim = (1 - ramp(0.5, 4)) * ramp(7, 13, style.mitochondrion[2])
        waves = (style.grain[2], 80.0, 150.0, 480.0)
        self._noises = [Noise(dice, anatomy.label.shape, [wave / size for size in voxel_size_nm]) for wave in waves]

    def slice(self, z: int) -> Floats:
        """Return slice z of the anatomy as grey values, shape (Y, X)."""
        here, style = self._anatomy, self.style
        label, depth, inside = here.label[z], here.depth[z], here.mitochondrion[z]
        fine, coarse, wave, wide = (noise.plane(z) for noise in self._noises)
        grey: Floats = self._cytoplasm[label]
        grey += np.float32(2.5) * wide
        coarse *= np.float32(0.4)
        grey -= self._grain[label] * np.maximum(fine + coarse, np.float32(-0.4))
        grey -= here.stain[z] * np.float32(style.stain)
        grey -= self._shade[depth]
        if inside.any():
            cristae = _zigzag(wave * np.float32(1.9) + coarse) * np.float32(style.mitochondrion[1])
            grey += self._matrix[inside] * (cristae + 2 * fine + 3 * wide + np.float32(style.mitochondrion[0]) - grey)
            grey -= self._rim[inside]
        dark = np.minimum(grey, style.membrane[0] + 4 * wide)
        grey += self._membrane[depth] * (dark - grey)
        return grey


def _zigzag(x: Floats) -> Floats:
    """Return a wave of period 1 between -1 and 1."""
    wave: Floats = np.abs(x - np.floor(x) - np.float32(0.5)) * 4 - 1
    return wave


def photograph(
    tissue: Tissue, thickness: int, offsets: Sequence[tuple[int, int]], size: tuple[int, int], dice: Dice
) -> NDArray[np.uint8]:
    """Take the picture of every section.

    Parameters
    ----------
    tissue : Tissue
        What is before the microscope.
    thickness : int
        Slices of the tissue that one section shows at once.
    offsets : sequence of (int, int)
        For each section, where its picture begins (y, x).
    size : tuple of int
        Of the pictures, (y, x).
    dice : Dice
        Where chance comes from.

    Returns
    -------
    ndarray of uint8, shape (Z, Y, X)
    """
    style = tissue.style
    picture = np.empty((len(offsets), *size), np.float32)
    for z, (y, x) in enumerate(offsets):
        section = tissue.slice(z * thickness)
        for k in range(1, thickness):
            section += tissue.slice(z * thickness + k)
        picture[z] = section[y : y + size[0], x : x + size[1]] * np.float32(1 / thickness)
    if style.blur[0]:
        picture = _blurred(picture, 0, style.blur[0])
    out = np.empty(picture.shape, np.uint8)
    smooth, white = style.noise
    contrast, brightness = style.sections
    for z, section in enumerate(picture):
        grey = _blurred(_blurred(section, 0, style.blur[1]), 1, style.blur[2])
        grey -= 128
        grey *= np.float32(1 + dice.number(-contrast, contrast))
        grey += np.float32(128.5 + dice.number(-brightness, brightness))
        grey += _blurred(dice.normal(size), 1, 0.25) * np.float32(smooth)
        grey += dice.normal(size) * np.float32(white)
        out[z] = np.minimum(np.maximum(grey, 0), 255).astype(np.uint8)
    return out


def _blurred(values: Floats, axis: int, weight: float) -> Floats:
    """Mix each value with its two neighbours along an axis; the outermost stand for what is beyond them."""
    n = values.shape[axis]
    before = values.take(np.maximum(np.arange(n) - 1, 0), axis)
    before += values.take(np.minimum(np.arange(n) + 1, n - 1), axis)
    before *= np.float32(weight)
    before += values * np.float32(1 - 2 * weight)
    return before
