"""Sample data: what the menu, the demo and the tutorial open; made or downloaded once, then kept as OME-Zarr."""

from __future__ import annotations

import logging
import math
import os
import shutil
from collections.abc import Callable
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import platformdirs
import pooch

from napari_tokenunify.data.labelled_zarr import write_labelled
from napari_tokenunify.data.synthetic import synthetic_em
from napari_tokenunify.data.volume import Volume, open_volume
from napari_tokenunify.errors import ConfigError, VolumeError
from napari_tokenunify.events import Event, Progress

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from napari_tokenunify.geometry import Triple, VoxelSize

CACHE_VARIABLE = "NAPARI_TOKENUNIFY_CACHE"

Report = Callable[[Event], None]
RawAndLabels = tuple["NDArray[np.uint8]", "NDArray[np.unsignedinteger[Any]]"]


@dataclass(frozen=True)
class RemoteFile:
    """A file on the internet, and the SHA-256 (hexadecimal) that its content must have."""

    url: str
    sha256: str


@dataclass(frozen=True)
class Sample:
    """One sample.

    Attributes
    ----------
    name : str
        What `load_sample` is called with.
    title, description : str
        For a menu, and for a page about it.
    licence, citation : str
        What may be done with it, and what to cite.
    homepage : str
        Where it comes from, and where to get it by hand; "" if it is made here.
    voxel_size_nm : tuple of float
        (z, y, x) in nm.
    megabytes : int
        About how much is downloaded, or kept on disk if nothing is; 0 if it is not loaded from here.
    files : tuple of RemoteFile
        What is downloaded.
    build : callable, optional
        Makes raw data and labels of the paths of `files`; None if the sample must be got by hand.
    edition : int
        Counts up when `build` makes something else than before, so that nobody gets an old one from the cache.
    """

    name: str
    title: str
    description: str
    licence: str
    citation: str
    homepage: str
    voxel_size_nm: VoxelSize
    megabytes: int = 0
    files: tuple[RemoteFile, ...] = ()
    build: Callable[..., RawAndLabels] | None = field(default=None, repr=False)
    edition: int = 1


@dataclass(frozen=True)
class LoadedSample:
    """A sample that lies on this machine.

    Attributes
    ----------
    sample : Sample
        What it is, and its licence.
    raw : Volume
        Grey values.
    labels : Volume or None
        Neurons, in the same voxels; 0 is unlabelled.
    """

    sample: Sample
    raw: Volume
    labels: Volume | None


def load_sample(name: str, cache: str | Path | None = None, report: Report | None = None) -> LoadedSample:
    """Open a sample; the first time it is made, or downloaded and checked, and kept in the cache.

    Parameters
    ----------
    name : str
        A key of `SAMPLES`.
    cache : str or Path, optional
        Folder to keep it in. Default: the environment variable NAPARI_TOKENUNIFY_CACHE, else the user's cache folder.
    report : callable, optional
        Gets a Progress now and then.

    Returns
    -------
    LoadedSample
        Lazy volumes, opened from the cache.

    Raises
    ------
    ConfigError
        If there is no sample of that name.
    VolumeError
        If it must be got by hand, cannot be downloaded, is not what was expected, or cannot be stored.
    """
    sample = SAMPLES.get(name)
    if sample is None:
        raise ConfigError(f"There is no sample '{name}': choose one of {', '.join(SAMPLES)}.")
    if sample.build is None:
        raise VolumeError(name, f"is not downloaded from here ({sample.licence}): get it from {sample.homepage}.")
    folder = cache_folder(cache) / f"{sample.name}-{sample.edition}.zarr"
    if not folder.is_dir():
        try:
            _make(sample, sample.build, folder, report or _quiet)
        except VolumeError:
            if not folder.is_dir():  # else another process was quicker
                raise
    return LoadedSample(sample, open_volume(folder), open_volume(f"{folder}::labels/neurons"))


def cache_folder(cache: str | Path | None = None) -> Path:
    """Return the folder that samples are kept in: `cache`, else what NAPARI_TOKENUNIFY_CACHE or the system names."""
    chosen = cache or os.environ.get(CACHE_VARIABLE)
    return Path(chosen).expanduser() if chosen else platformdirs.user_cache_path("napari-tokenunify") / "samples"


def _quiet(event: Event) -> None:
    pass


def _make(sample: Sample, build: Callable[..., RawAndLabels], folder: Path, report: Report) -> None:
    """Write a sample to `folder`; files that came whole stay until all have come."""
    downloads = folder.with_suffix(".download")
    try:
        paths = [_fetch(file, downloads, sample, report) for file in sample.files]
        report(Progress(0, 1, f"preparing {sample.title}"))
        raw, labels = build(*paths)
        write_labelled(folder, raw, labels, sample.voxel_size_nm)
        shutil.rmtree(downloads, ignore_errors=True)
        report(Progress(1, 1, f"preparing {sample.title}"))
    finally:
        with suppress(OSError):  # where nothing came whole it is empty
            downloads.rmdir()


# -- downloading ----------------------------------------------------------------------------------------------


class _Meter:
    """What pooch takes for a progress bar: turns bytes into Progress events, about a hundred a file."""

    def __init__(self, what: str, report: Report) -> None:
        self.total = 0
        self._what, self._report = what, report
        self._done = self._said = 0

    def update(self, count: int) -> None:
        self._done += count
        if self._done - self._said >= self.total / 100:
            self._said = self._done
            self._report(Progress(min(self._done, self.total), self.total, self._what))

    def reset(self) -> None:
        self._done = self._said = 0

    def close(self) -> None:
        pass


def _fetch(file: RemoteFile, folder: Path, sample: Sample, report: Report) -> Path:
    """Download a file, unless it came whole before; it gets its name only when its checksum is right."""
    name = file.url.rsplit("/", 1)[-1]
    meter: Any = _Meter(f"downloading {name} of {sample.title}", report)
    downloader = pooch.HTTPDownloader(progressbar=meter, chunk_size=1 << 16)
    try:
        with _pooch_quiet():
            path = pooch.retrieve(file.url, f"sha256:{file.sha256}", name, folder, downloader=downloader)
    except ValueError as error:
        raise VolumeError(
            file.url,
            "what came is not the expected file (its checksum differs) and was thrown away: try again, or get it "
            f"by hand from {sample.homepage}.",
        ) from error
    except OSError as error:  # every error of requests is one too, but has no number
        if error.errno is not None:
            problem = f"cannot be stored in {folder} ({error.strerror}): make room, or set {CACHE_VARIABLE}."
        else:
            problem = (
                f"cannot be downloaded ({type(error).__name__}): check the network connection and try again, or open "
                f"'{OFFLINE_SAMPLE}', which needs none."
            )
        raise VolumeError(file.url, problem) from error
    return Path(path)


@contextmanager
def _pooch_quiet() -> Iterator[None]:
    """Keep pooch's notes off the console; what the user must know comes as an event or an error."""
    logger = pooch.get_logger()
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


# -- the samples ----------------------------------------------------------------------------------------------


def _synthetic(name: str, title: str, look: str, shape: Triple, voxel_size_nm: VoxelSize) -> Sample:
    def build() -> RawAndLabels:
        made = synthetic_em(shape, voxel_size_nm)
        return made.raw, made.labels

    return Sample(
        name=name,
        title=title,
        description=f"{'x'.join(map(str, shape))} voxels that look like {look}; every neuron is labelled exactly. "
        "Needs no network.",
        licence="CC0 1.0",
        citation="Made by napari-tokenunify.",
        homepage="",
        voxel_size_nm=voxel_size_nm,
        megabytes=math.prod(shape) * 9 // 8_000_000,
        build=build,
    )


def _fib25(raw_path: Path, labels_path: Path) -> RawAndLabels:
    """Read FlyEM's HDF5 layout: grey values under `raw`; under `stack` supervoxels, which `transforms` maps to neurons.

    A supervoxel that `transforms` does not name belongs to no neuron and becomes 0, as in torch-em's reader.
    """
    try:
        with h5py.File(raw_path) as file:
            raw = np.asarray(file["raw"])
        with h5py.File(labels_path) as file:
            supervoxels, neuron_of = np.asarray(file["stack"]), np.asarray(file["transforms"])
    except (OSError, KeyError) as error:
        raise VolumeError(str(raw_path.parent), "the downloaded files are not as expected: delete them.") from error
    table = np.zeros(int(max(supervoxels.max(), neuron_of[:, 0].max())) + 1, np.uint32)
    table[neuron_of[:, 0]] = neuron_of[:, 1]
    return raw, table[supervoxels]


OFFLINE_SAMPLE = "synthetic-isotropic"
_BUCKET = "https://storage.googleapis.com/ffn-flyem-fib25/training_sample2"

SAMPLES: dict[str, Sample] = {
    sample.name: sample
    for sample in (
        _synthetic(
            OFFLINE_SAMPLE, "Synthetic neuropil, isotropic", "a block milled in FIB-SEM", (128, 256, 256), (10.0,) * 3
        ),
        _synthetic(
            "synthetic-anisotropic",
            "Synthetic neuropil, thin sections",
            "serial sections in a TEM, uneven in contrast and slightly misaligned",
            (24, 448, 448),
            (40.0, 4.0, 4.0),
        ),
        Sample(
            name="fib25",
            title="FIB-25: fly medulla, FIB-SEM",
            description="250x250x250 voxels of the Drosophila medulla (training_sample2 of FlyEM's "
            "neuroproof_examples) with proofread neurons.",
            licence="CC BY 3.0 US",
            citation="Takemura et al. 2015, Synaptic circuits and their variations within different columns in the "
            "visual system of Drosophila, PNAS 112(44), doi:10.1073/pnas.1509820112. FlyEM project, Janelia.",
            homepage="https://github.com/janelia-flyem/neuroproof_examples",
            voxel_size_nm=(10.0, 10.0, 10.0),
            megabytes=16,
            # Google's copy of the repository's sections as one file each, which its flood-filling networks were
            # trained on; the checksums are those that torch-em publishes for these addresses.
            files=(
                RemoteFile(
                    f"{_BUCKET}/grayscale_maps.h5", "ea031c98ee2de778a9a3a1e6d410df5de73e4ac28022df8e7255d84e3394cafa"
                ),
                RemoteFile(
                    f"{_BUCKET}/groundtruth.h5", "fd508e7aee1fe51ac9ae0460db4a841d275236f013c1f2552314b4f21b1010ea"
                ),
            ),
            build=_fib25,
        ),
        Sample(
            name="isbi2012",
            title="ISBI 2012: fly larva ventral nerve cord, ssTEM",
            description="30 sections of 512x512 pixels with labelled membranes.",
            licence="free for generating or testing non-commercial image segmentation software",
            citation="Cardona et al. 2010, An integrated micro- and macroarchitectural analysis of the Drosophila "
            "brain by computer-assisted serial section electron microscopy, PLoS Biology 8(10), "
            "doi:10.1371/journal.pbio.1000502.",
            homepage="https://imagej.net/events/isbi-2012-segmentation-challenge",
            voxel_size_nm=(50.0, 4.0, 4.0),
        ),
        Sample(
            name="cremi",
            title="CREMI: adult fly brain, ssTEM",
            description="Three volumes of 125x1250x1250 voxels with neurons, clefts and synaptic partners.",
            licence="see the challenge's page",
            citation="CREMI, MICCAI challenge on circuit reconstruction from electron microscopy images, 2016.",
            homepage="https://cremi.org/data",
            voxel_size_nm=(40.0, 4.0, 4.0),
        ),
    )
}
"""Real volumes that can be fetched and the synthetic ones, by name."""
