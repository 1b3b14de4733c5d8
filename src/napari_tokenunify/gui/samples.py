"""The entries of File > Open Sample: synthetic EM at once, real EM after a download."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_tokenunify.data import load_sample
from napari_tokenunify.gui.layers import volume_layer

if TYPE_CHECKING:
    from napari.types import LayerData


def _open(name: str) -> list[LayerData]:
    sample = load_sample(name)
    layers = [volume_layer(sample.raw, name=name, as_labels=False)]
    if sample.labels is not None:
        layers.append(volume_layer(sample.labels, name=f"{name} labels", as_labels=True))
    return layers


def synthetic_isotropic() -> list[LayerData]:
    """Grow a synthetic volume of 10 nm voxels, as of a FIB-SEM, with exact labels."""
    return _open("synthetic-isotropic")


def synthetic_anisotropic() -> list[LayerData]:
    """Grow a synthetic volume of thick sections, as of serial-section EM, with exact labels."""
    return _open("synthetic-anisotropic")


def fib25() -> list[LayerData]:
    """Download a cube of Drosophila medulla (FIB-25, CC BY 3.0 US, FlyEM, Janelia)."""
    return _open("fib25")
