"""The stage `demo`: the main job, from a stack and a few labels to segments, on the bundled sample or on own data."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from napari_tokenunify.chain import Chain, run_chain
from napari_tokenunify.errors import ProjectError
from napari_tokenunify.events import Message, Progress
from napari_tokenunify.project import whole_file

if TYPE_CHECKING:
    from collections.abc import Generator

    from napari_tokenunify.config import DemoConfig
    from napari_tokenunify.data import Volume
    from napari_tokenunify.events import Event

_PAINTED: Final = 16  # sections of the sample that are labelled, a quarter of it; the others show what was learnt


def demo(config: DemoConfig) -> Generator[Event, None, dict[str, Any]]:
    """Train a small network on labels, predict, segment, compare and export; without labels only look at the volume.

    Returns
    -------
    dict
        `out` (the project), `volume` and `annotations` (URIs), `intensity` (low, high), `findings` of the preflight,
        `annotated` (a sentence), `pictures` (paths), `seconds`; with labels also what `finetune`, `predict`,
        `segment`, `evaluate` and `export` returned, under their names.
    """
    from napari_tokenunify.data import check_volume, intensity_range, open_annotations, open_volume, summarise

    started = time.monotonic()
    out = Path(config.out)
    out.mkdir(parents=True, exist_ok=True)
    uri, annotations_uri, truth = config.volume, config.annotations, config.annotations
    if uri is None:
        uri, annotations_uri, truth = yield from _sample(out)
    volume = open_volume(uri)
    yield Message(f"Opened {volume.uri}: {volume.format}, {' x '.join(map(str, volume.shape))} voxels (z y x).")
    findings = yield from check_volume(volume)
    intensity = intensity_range(volume, store=out / "intensity.json")
    annotations = None if annotations_uri is None else open_annotations(annotations_uri, volume)
    result: dict[str, Any] = {
        "out": str(out),
        "volume": uri,
        "annotations": annotations_uri,
        "intensity": [intensity.low, intensity.high],
        "findings": [asdict(finding) for finding in findings],
        "annotated": None if annotations is None else str(summarise(annotations)),
    }
    if annotations_uri is not None:
        result |= yield from run_chain(_chain(config, uri, annotations_uri, truth))
    yield Progress(0, 1, "drawing pictures")
    result["pictures"] = _pictures(volume, None if annotations is None else annotations.labels, out)
    result["seconds"] = round(time.monotonic() - started, 1)
    with whole_file(out / "result.json", ProjectError) as part:
        part.write_text(json.dumps(result, indent=1))
    return result


def _chain(config: DemoConfig, volume: str, annotations: str, truth: str | None) -> Chain:
    return Chain(
        project=config.out,
        volume=str(Path(volume).resolve()) if Path(volume).exists() else volume,
        annotations=config.annotations,  # the sample's are the project's own, and can be painted
        model="tiny",
        finetune={"minutes": config.minutes},
        predict={},
        segment={"tune": annotations},
        evaluate={"labels": truth, "worst": 0},
        export={"overwrite": True},
    )


def _sample(out: Path) -> Generator[Event, None, tuple[str, str, str]]:
    """Write the sample, unless it is there; return the URIs of its image, of a few of its labels, and of all."""
    import zarr

    from napari_tokenunify.data import create_labels, open_volume, synthetic_em, write_sample

    sample, painted = out.resolve() / "sample.zarr", out.resolve() / "annotations.zarr"
    every = f"{sample}::labels/neurons"
    if not sample.exists():
        yield Progress(0, 1, "growing synthetic neurites")
        write_sample(sample, synthetic_em())
    if not painted.exists():
        labels = open_volume(every)
        create_labels(painted, labels.shape, labels.voxel_size_nm)
        zarr.open_array(painted / "0", mode="r+")[:_PAINTED] = labels.dask()[:_PAINTED].compute()
    return str(sample), str(painted), every


def _pictures(volume: Volume, labels: Volume | None, out: Path) -> list[str]:
    """Draw what the window would show."""
    from napari_tokenunify.data import Volume
    from napari_tokenunify.export import save_pictures
    from napari_tokenunify.segment import Segmentation

    shown: dict[str, Volume] = {} if labels is None else {"labels": labels}
    if (out / "segmentation").exists():
        segmentation = Segmentation.open(out / "segmentation")
        shown["segments"] = Volume.from_array(segmentation.view(), volume.voxel_size_nm, "segments")
    return [str(path) for path in save_pictures(volume, shown, out / "pictures")]
