"""Sources: the volumes of a pre-training, opened, brought to one voxel size, and split into what is measured on."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from napari_tokenunify.data import IntensityRange, choose_intensity, data_hash, open_volume
from napari_tokenunify.data.source import Location
from napari_tokenunify.errors import ConfigError
from napari_tokenunify.events import Message, Progress
from napari_tokenunify.geometry import parse_voxel_sizes, voxel_size_mismatch
from napari_tokenunify.train.pretraining.pretraining_samples import part_of
from napari_tokenunify.train.pretraining.pretraining_task import Part

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from napari_tokenunify.config import PretrainConfig
    from napari_tokenunify.data.volume import Volume
    from napari_tokenunify.events import Event
    from napari_tokenunify.geometry import Triple, VoxelSize
    from napari_tokenunify.network.card import ModelCard

_LEAST_CROPS: Final = 3  # a volume is split only if it has so many times the sections of a crop


@dataclass(frozen=True, eq=False)
class Source:
    """One volume of a pre-training.

    Attributes
    ----------
    volume : Volume
        As it was opened.
    intensity : IntensityRange
        How its voxels become 0..1.
    weight : float
        How often it is drawn, in proportion.
    licence : str
        What may be done with it; "unknown" if nothing was said.
    hash : str
        Its fingerprint.
    voxel_size_nm : tuple of float or None
        To which its crops are resampled; None if they are taken as they are.
    """

    volume: Volume
    intensity: IntensityRange
    weight: float
    licence: str
    hash: str
    voxel_size_nm: VoxelSize | None

    def split(self, share: float, crop: Triple) -> tuple[int, int]:
        """Return how many sections are learnt from, and how many after them are measured on.

        The latter are at least a crop's; none where the volume has too few of them.
        """
        count, own = self.volume.shape[0], self.volume.voxel_size_nm
        factor = self.voxel_size_nm[0] / own[0] if self.voxel_size_nm is not None and own is not None else 1.0
        deep = math.ceil(crop[0] * factor)
        kept = max(round(share * count), deep) if share and count >= _LEAST_CROPS * deep else 0
        return count - kept, kept

    def described(self) -> dict[str, Any]:
        """Return the entry of the data card."""
        return {
            "role": "volume",
            "uri": self.volume.uri,
            "shape": list(self.volume.shape),
            "voxels": math.prod(self.volume.shape),
            "dtype": str(self.volume.dtype),
            "voxel_size_nm": self.volume.voxel_size_nm,
            "resampled_to_nm": self.voxel_size_nm,
            "intensity": [self.intensity.low, self.intensity.high],
            "weight": self.weight,
            "licence": self.licence,
            "hash": self.hash,
        }


def open_sources(config: PretrainConfig) -> Generator[Event, None, tuple[Source, ...]]:
    """Open the volumes, and say which differ in voxel size and which may show the same tissue.

    Raises
    ------
    VolumeError
        If one cannot be opened, or is no image.
    ConfigError
        If weights, licences or voxel sizes are given for another number of volumes, or two hold the same voxels.
    """
    for name, given in (("weights", config.weights), ("licences", config.licences)):
        if given and len(given) != len(config.volumes):
            raise ConfigError(
                f"--{name} has {len(given)} entries for {len(config.volumes)} volumes: give one for each, or none."
            )
    if config.weights and not any(config.weights):
        raise ConfigError("--weights are all 0, so that no volume would be drawn: give one more than 0.")
    sizes = _voxel_sizes(config)
    found: list[Source] = []
    for number, uri in enumerate(config.volumes):
        yield Progress(number, len(config.volumes), "looking at the volumes")
        volume = open_volume(uri, sizes[number])
        fingerprint = data_hash(volume)
        yield from _compared(volume, fingerprint, found)
        resampled, sentence = _resampling(volume, found[0].volume if found else volume, resample=config.resample)
        if sentence:
            yield Message(sentence, "warning")
        found.append(
            Source(
                volume,
                choose_intensity(volume, None)[0],
                config.weights[number] if config.weights else 1.0,
                config.licences[number] if config.licences else "unknown",
                fingerprint,
                resampled,
            )
        )
    return tuple(found)


def _voxel_sizes(config: PretrainConfig) -> tuple[VoxelSize | None, ...]:
    """Return the voxel size that each volume is opened with; None for what its file says."""
    many = len(config.volumes)
    given = parse_voxel_sizes(config.voxel_size) if config.voxel_size else (None,)
    if len(given) not in {1, many}:
        raise ConfigError(
            f"--voxel-size has {len(given)} entries for {many} volumes: give one for all or one for each, with the "
            "word file where the file says it."
        )
    return given * many if len(given) == 1 else given


def _compared(volume: Volume, fingerprint: str, before: Sequence[Source]) -> Generator[Event, None, None]:
    """Refuse what is among the volumes already: sections held out of one must not be learnt from in another."""
    for other in before:
        if other.hash == fingerprint:
            what = "is given twice" if other.volume.uri == volume.uri else f"holds the voxels of {other.volume.uri}"
            raise ConfigError(
                f"{volume.uri}: {what}, so sections that are kept to measure on could be learnt from: name it once, "
                "with larger --weights if it is to count for more."
            )
        if Location.parse(other.volume.uri).where == Location.parse(volume.uri).where:
            yield Message(
                f"{volume.uri} and {other.volume.uri} lie in one file: if they show the same tissue, sections that "
                "are kept to measure on are learnt from, too, and the losses there look better than they are.",
                "warning",
            )


def parts_of(
    sources: Sequence[Source], share: float, crop: Triple, card: ModelCard
) -> Generator[Event, None, tuple[list[Part], list[Part]]]:
    """Split every source into what is learnt from and what is measured on, and say how much of it is kept.

    The grey values of the network's training are kept where a volume's are much the same.
    """
    training, held_out = [], []
    known = None if card.intensity is None else IntensityRange(card.intensity.low, card.intensity.high)
    for source in sources:
        if not source.weight:  # nothing is ever learnt from it
            continue
        learnt, kept = source.split(share, crop)
        intensity = source.intensity if known is None else choose_intensity(source.volume, known)[0]
        sections = (0, learnt)
        training.append(Part(part_of(source.volume, sections, source.voxel_size_nm), intensity, source.weight))
        if kept:
            sections = (learnt, learnt + kept)
            volume = part_of(source.volume, sections, source.voxel_size_nm)
            held_out.append(Part(volume, intensity, source.weight, learnt))
    if held_out:
        depth = sum(part.volume.shape[0] for part in held_out)
        yield Message(f"Kept to measure on: the last {depth} sections, of {len(held_out)} of {len(sources)} volumes.")
    else:
        yield Message("No sections are kept to measure on: reconstructions show what was learnt from.", "warning")
    return training, held_out


def _resampling(volume: Volume, first: Volume, *, resample: bool) -> tuple[VoxelSize | None, str | None]:
    """Return the voxel size that crops are brought to, if another one, and what to say."""
    own, wanted = volume.voxel_size_nm, first.voxel_size_nm
    if volume is first:
        said = "Its voxel size is unknown, so it is taken as it is; give --voxel-size if you know it."
        return None, f"{volume.uri}: {said}" if own is None else None
    if own is None or wanted is None:
        return None, f"{volume.uri}: whether it has the voxel size of {first.uri} is unknown; it is taken as it is."
    if voxel_size_mismatch(own, wanted) is None:
        return None, None
    here, there = ("x".join(f"{size:g}" for size in sizes) for sizes in (own, wanted))
    beginning = f"{volume.uri}: has voxels of {here} nm (z y x), and {first.uri} of {there} nm"
    if resample:
        return wanted, f"{beginning}; its crops are resampled to them."
    return None, f"{beginning}; it is taken as it is, and the network has to learn both."
