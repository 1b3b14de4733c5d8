"""AffinityTask: to predict the affinities that annotations tell of, and to be measured on some that were held out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from napari_tokenunify.affinities import DEFAULT_OFFSETS, Offset
from napari_tokenunify.data.annotations import LabelledBlock
from napari_tokenunify.data.augment import AugmentConfig
from napari_tokenunify.data.crops import CropSampler
from napari_tokenunify.errors import TrainError
from napari_tokenunify.events import Preview
from napari_tokenunify.geometry import Box
from napari_tokenunify.network.device import DTYPES
from napari_tokenunify.project import whole_file
from napari_tokenunify.train.losses import LossKind, affinity_loss
from napari_tokenunify.train.place_scores import PlaceScores
from napari_tokenunify.train.samples import AffinitySamples, Sample, as_tensors, augmentation_margin

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import Tensor, nn

    from napari_tokenunify.data.annotations import Annotations
    from napari_tokenunify.data.intensity import IntensityRange
    from napari_tokenunify.data.resampled import Resampling
    from napari_tokenunify.data.volume import Volume
    from napari_tokenunify.geometry import Triple
    from napari_tokenunify.train.place_scores import SegmentScores
    from napari_tokenunify.train.state import Standing


@dataclass(frozen=True, eq=False)
class AffinityTask:
    """A Task; see `napari_tokenunify.train.task`.

    Parameters
    ----------
    volume : Volume
        The image.
    annotations : Annotations
        What is learnt from; without what was held out.
    intensity : IntensityRange
        How voxels become 0..1.
    held_out : Annotations
        What is measured on.
    boxes : sequence of Box
        Where; empty if nothing was held out.
    crop : tuple of int
        Voxels (z, y, x) that the network sees around a box.
    store : callable
        Stores weights: `store(path, weights, standing)`.
    offsets : sequence of (int, int, int)
        One (z, y, x) for each output.
    kind : {"mse", "bce", "dice", "focal"}
        The loss.
    augmentation : AugmentConfig
        How crops are changed.
    widen : bool
        Widen borders, in training and measuring.
    seed : int
        Of the crops.
    preview_box, preview_folder : Box or None, Path or None
        What to predict now and then, and where the files go.
    preview_from : Resampling or None
        How `volume` came from the voxels that `preview_box` counts, and the files hold; None: they are the same.
    segment : callable, optional
        From affinities (C, Z, Y, X), labels, offsets and voxel size to scores of segments by name, e.g. `voi`.
    precision : {"fp32", "bf16", "fp16"}
        In what validation and previews are computed.
    """

    volume: Volume
    annotations: Annotations
    intensity: IntensityRange
    held_out: Annotations
    boxes: Sequence[Box]
    crop: Triple
    store: Callable[[Path, dict[str, Tensor], Standing], None]
    offsets: Sequence[Offset] = DEFAULT_OFFSETS
    kind: LossKind = "bce"
    augmentation: AugmentConfig = field(default_factory=AugmentConfig)
    widen: bool = False
    seed: int = 0
    preview_box: Box | None = None
    preview_folder: Path | None = None
    preview_from: Resampling | None = None
    segment: SegmentScores | None = None
    precision: str = "fp32"

    def samples(self, crop: Triple) -> AffinitySamples:
        """Return the samples for crops of a size."""
        margin = augmentation_margin(crop, self.augmentation)
        crops = CropSampler(
            self.volume, self.annotations, crop, self.intensity, self.offsets, seed=self.seed, margin=margin
        )
        return AffinitySamples(crops, self.augmentation, self.annotations.boundary_id, self.widen)

    def known(self, samples: Sequence[Sample]) -> float:
        """Return the number of known pairs."""
        return float(sum(sample.known for sample in samples))

    def loss(self, network: nn.Module, samples: Sequence[Sample], device: torch.device) -> Tensor:
        """Return the loss summed over known pairs."""
        image, target, mask = as_tensors(samples, device)
        return affinity_loss(network(image), target, mask, self.kind)

    def validate(self, network: nn.Module, device: torch.device) -> dict[str, float]:
        """Return the scores of affinities, and of segments where boxes are densely labelled."""
        scores = PlaceScores(self.held_out.boundary_id, self.widen, self.segment, self.volume.voxel_size_nm)
        for box in self.boxes:
            place = LabelledBlock(box, *self.held_out.read_around(box, self.offsets))
            scores.add(self._predict(network, device, box), place, self.offsets)
        return scores.values()

    def preview(self, network: nn.Module, device: torch.device, step: int) -> Preview | None:
        """Write the affinities of the preview box as uint8."""
        if self.preview_box is None or self.preview_folder is None:
            return None
        if self.preview_from is None:
            affinities = self._predict(network, device, self.preview_box)
        else:
            seen = self.preview_from.box(self.preview_box, self.volume.shape)
            affinities = self.preview_from.back.values(self._predict(network, device, seen), seen, self.preview_box)
        path = self.preview_folder / f"{step:07d}.npy"
        with whole_file(path, TrainError) as part, part.open("wb") as file:
            np.save(file, np.rint(affinities * 255).astype(np.uint8), allow_pickle=False)
        return Preview(step, str(path), str(self.preview_box))

    def save(self, path: Path, weights: dict[str, Tensor], standing: Standing) -> None:
        """Store a model for use."""
        self.store(path, weights, standing)

    def _predict(self, network: nn.Module, device: torch.device, box: Box) -> NDArray[np.float32]:
        """Return the affinities (C, Z, Y, X) of a box; the network sees at least a crop around it."""
        around = _widened(box, self.crop, self.volume.shape)
        image = torch.from_numpy(self.intensity.normalise(self.volume.read(around)))[None, None].to(device)
        network.eval()
        with (
            torch.inference_mode(),
            torch.autocast(device.type, DTYPES[self.precision], enabled=self.precision != "fp32"),
        ):
            result = torch.sigmoid(network(image).float())[0].cpu().numpy()
        inner = box.seen_from(around.start)
        found: NDArray[Any] = result[(slice(None), *inner.slices)]
        return np.ascontiguousarray(found)


def _widened(box: Box, crop: Triple, shape: Triple) -> Box:
    """Grow a box to a crop where it is smaller, inside a volume."""
    start, stop = [], []
    for first, last, size, extent in zip(box.start, box.stop, crop, shape, strict=True):
        missing = max(0, min(size, extent) - (last - first))
        low = min(max(0, first - missing // 2), extent - (last - first) - missing)
        start.append(low)
        stop.append(low + (last - first) + missing)
    return Box((start[0], start[1], start[2]), (stop[0], stop[1], stop[2]))
