"""Task: what a training loop has to be told of what it trains for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import torch
    from torch import Tensor, nn

    from napari_tokenunify.data.prefetch import Numbered
    from napari_tokenunify.events import Preview
    from napari_tokenunify.geometry import Triple
    from napari_tokenunify.train.state import Standing


class Task(Protocol):
    """Samples, loss, validation and preview of one sort of training."""

    def samples(self, crop: Triple) -> Numbered[Any]:
        """Return the endless list of samples for crops of a size; picklable."""
        ...

    def known(self, samples: Sequence[Any]) -> float:
        """Return by what the loss of these samples is divided, e.g. their number of known pairs."""
        ...

    def loss(self, network: nn.Module, samples: Sequence[Any], device: torch.device) -> Tensor:
        """Return the sum of the loss over samples; sums over parts of a batch add up to that of the batch."""
        ...

    def validate(self, network: nn.Module, device: torch.device) -> dict[str, float]:
        """Return what is measured on data held out, `validation_loss` among it; {} if nothing was."""
        ...

    def preview(self, network: nn.Module, device: torch.device, step: int) -> Preview | None:
        """Write what the network makes of a region by now; None if none was chosen."""
        ...

    def save(self, path: Path, weights: dict[str, Tensor], standing: Standing) -> None:
        """Write a model for use."""
        ...


@runtime_checkable
class PacedTask(Protocol):
    """A Task whose loss depends on how far the training has come, and that has curves of its own."""

    def pace(self, share: float) -> float:
        """Hear before each step how much of the budget is used, 0..1; return how far the learning rate has come."""
        ...

    def told(self) -> dict[str, tuple[float, float]]:
        """Return sums and numbers of what was measured since it was last asked, by name: always the same names."""
        ...
