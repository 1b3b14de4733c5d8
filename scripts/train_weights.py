"""Train the weights that come with the package, from nothing, on CC BY data alone.

    python scripts/train_weights.py --data DIR --out runs/small --size small --pretrain-minutes 6 --minutes 34
    python scripts/train_weights.py --data DIR --out runs/more --start small-fib25 --minutes 52
    python scripts/train_weights.py --data DIR --out runs/most --start small-fib25 --minutes 115 --seed 1
    python scripts/train_weights.py --data DIR --out runs/tiny --size tiny --sections 5

DIR holds `fib25_raw.npz`, `fib25_train_test.npz` and `fib25_sparse_sections.npz`: FIB-SEM of the medulla of Drosophila,
10 nm isotropic (FlyEM, Janelia Research Campus; CC BY 3.0 US). The second is used up to section 120: what follows is a
test that no training saw. With `--sections 5` every five sections become one of 50 nm, as if the tissue had been cut.
First the network is pre-trained without labels (recipe `paper`), then fine-tuned on labels; with `--start small-fib25`
it goes on from those weights instead. What was stopped goes on with the same command; at the end the best weights are
stored as float16 under `src/napari_tokenunify/weights`.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_tokenunify.config import FinetuneConfig, PretrainConfig
from napari_tokenunify.events import Message, Metric
from napari_tokenunify.network.card import DataUsed, ModelCard
from napari_tokenunify.network.checkpoint import load_checkpoint, save_checkpoint
from napari_tokenunify.pipeline import STAGES

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_tokenunify.config import Config

WEIGHTS = Path(__file__).parents[1] / "src" / "napari_tokenunify" / "weights"
TRAIN_END = 120
SPECK = 100  # voxels; smaller ids are no neurons
DATA = (
    DataUsed(name="FIB-25, raw, 300x520x520 voxels (FlyEM, Janelia Research Campus)", licence="CC-BY-3.0-US"),
    DataUsed(name="FIB-25, training_sample2, z < 120, with labels (FlyEM, Janelia)", licence="CC-BY-3.0-US"),
    DataUsed(name="FIB-25, 250x250x250 voxels (FlyEM, Janelia)", licence="CC-BY-3.0-US"),
    DataUsed(name="Labels on 50 sections of it (Funke lab)", licence="MIT"),
)
DESCRIPTION = (
    "Membranes of neurons in FIB-SEM of the fly's medulla at 10 nm{thick}. Pre-trained without labels, then trained on "
    "labels. Expect less on other tissue, stains and voxel sizes until it is fine-tuned on a few labels of them."
)
THICK = ", {n} sections of which make one of {nm} nm"


def prepare(data: Path, out: Path, sections: int) -> tuple[Path, Path, Path]:
    """Write raw, image and labels: what trainings are shown.

    The image is a pile of stacks. The first section of each is unlabelled, so that nothing is known across a seam.
    """
    out.mkdir(parents=True, exist_ok=True)
    with np.load(data / "fib25_train_test.npz") as file:
        ids = file["labels"]
        dense = file["raw"][:TRAIN_END], np.where(np.bincount(ids.ravel())[ids] >= SPECK, ids, 0)[:TRAIN_END]
    with np.load(data / "fib25_sparse_sections.npz") as file:
        sparse = file["raw"], file["labels"]
    with np.load(data / "fib25_raw.npz") as file:
        raw, _ = _thickened(file["raw"], np.zeros_like(file["raw"]), sections)
    images, labels, used = [], [], 0
    for stack, stack_labels in (dense, sparse):
        for first in range(sections):
            image, thick = _thickened(stack[first:], stack_labels[first:], sections)
            thick[0] = 0
            images.append(image)
            labels.append(np.where(thick, thick + used, 0))
            used += int(thick.max())
    paths = out / "raw.npy", out / "image.npy", out / "labels.npy"
    for path, array in zip(paths, (raw, np.concatenate(images), np.concatenate(labels)), strict=True):
        np.save(path, array)
    return paths


def _thickened(image: NDArray[Any], labels: NDArray[Any], sections: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Make one section of each so many: the mean grey value, and the labels of the labelled one nearest the middle."""
    groups = len(image) // sections
    thick = image[: groups * sections].reshape(groups, sections, *image.shape[1:]).mean(1).round().astype(image.dtype)
    chosen = np.zeros((groups, *labels.shape[1:]), np.uint32)
    for group in range(groups):
        for i in sorted(range(sections), key=lambda i: abs(i - sections // 2)):
            if labels[group * sections + i].any():
                chosen[group] = labels[group * sections + i]
                break
    return thick, chosen


def run(stage: str, config: Config) -> dict[str, Any]:
    """Run a stage and print what it says."""
    events = STAGES[stage].run(config)
    while True:
        try:
            event = next(events)
        except StopIteration as end:
            found: dict[str, Any] = end.value
            print(stage, found, flush=True)
            return found
        if isinstance(event, Message) or (isinstance(event, Metric) and "validation_loss" in event.values):
            print(stage, event, flush=True)


def store(best: str, name: str, sections: int) -> ModelCard:
    """Keep the best weights under a name, with a card that holds no paths."""
    thick = THICK.format(n=sections, nm=10 * sections) if sections > 1 else ""
    network, card = load_checkpoint(best)
    history = tuple(
        done.replace(settings={key: _told(value) for key, value in done.settings.items() if key in _TOLD})
        for done in card.history
    )
    card = card.replace(
        name=name,
        description=DESCRIPTION.format(thick=thick),
        licence="CC-BY-4.0",
        source="scripts/train_weights.py",
        data=[used.model_dump() for used in DATA],
        history=[done.model_dump() for done in history],
    )
    if sections > 1:  # the stacks show the same tissue, so what was held out was seen
        card = card.replace(metrics={})
    return save_checkpoint(WEIGHTS / name, network, card, half=True)


def _told(value: Any) -> Any:
    return Path(value).name if isinstance(value, str) else value


_TOLD = {"recipe", "model", "minutes", "steps", "crop", "loss", "learning_rate", "hold_out", "parts", "seed", "batch"}


def main() -> None:
    """Pre-train, fine-tune, store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--size", choices=("tiny", "small"), default="small")
    parser.add_argument("--sections", type=int, default=1, help="make one section of each so many")
    parser.add_argument("--start", help="a model in the package to go on with, in place of pre-training")
    parser.add_argument("--pretrain-minutes", type=float, default=12.0)
    parser.add_argument("--minutes", type=float, default=40.0)
    parser.add_argument("--seed", type=int, default=0)
    words = parser.parse_args()
    raw, image, labels = prepare(words.data, words.out, words.sections)
    size = f"{10 * words.sections},10,10"
    if words.start is None:
        before = PretrainConfig(
            volumes=(str(raw), str(image)),
            licences=("CC-BY-3.0-US", "CC-BY-3.0-US"),
            voxel_size=size,
            model=words.size,
            minutes=words.pretrain_minutes,
            out=str(words.out / "pretrain"),
            seed=words.seed,
        )
        run("pretrain", before)
    config = FinetuneConfig(
        volume=str(image),
        annotations=str(labels),
        voxel_size=size,
        resample=False,
        model=words.start or str(words.out / "pretrain"),
        learning_rate=1e-3 if words.start else None,
        minutes=words.minutes,
        hold_out=0.1,
        patience=0,
        out=str(words.out / "finetune"),
        seed=words.seed,
    )
    name = words.start or f"{words.size}-fib25" + f"-{10 * words.sections}nm" * (words.sections > 1)
    card = store(run("finetune", config)["model"], name, words.sections)
    print(card.model_dump_json(indent=1))


if __name__ == "__main__":
    main()
