"""Train the weights that come with the package, from nothing, on CC BY data alone.

    python scripts/train_weights.py --data DIR --out runs/small --size small --pretrain-minutes 12 --minutes 40

DIR holds `fib25_raw.npz` and `fib25_train_test.npz`: FIB-SEM of the medulla of Drosophila, 10 nm isotropic (FlyEM,
Janelia Research Campus; CC BY 3.0 US). The second is used up to section 120: what follows is a test that no training
saw. First the network is pre-trained without labels (recipe `paper`), then fine-tuned on dense labels. What was stopped
goes on with the same command; at the end the best weights are stored as float16 under `src/napari_tokenunify/weights`.
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
    from napari_tokenunify.config import Config

WEIGHTS = Path(__file__).parents[1] / "src" / "napari_tokenunify" / "weights"
TRAIN_END = 120
SPECK = 100  # voxels; smaller ids are no neurons
CROP = (32, 96, 96)  # what the networks' shapes were chosen with; larger ones leave too few steps on a CPU
DATA = (
    DataUsed(name="FIB-25, raw, 300x520x520 voxels (FlyEM, Janelia Research Campus)", licence="CC-BY-3.0-US"),
    DataUsed(name="FIB-25, training_sample2, z < 120, with labels (FlyEM, Janelia)", licence="CC-BY-3.0-US"),
)
DESCRIPTION = (
    "Membranes of neurons in FIB-SEM of the fly's medulla at 10 nm. Pre-trained without labels, then trained on dense "
    "labels. Expect less on other tissue, stains and voxel sizes until it is fine-tuned on a few labels of them."
)


def prepare(data: Path, out: Path) -> tuple[Path, Path]:
    """Write image and labels of the training part, the only part that trainings are shown."""
    out.mkdir(parents=True, exist_ok=True)
    raw, labels = out / "fib25-z0-120.npy", out / "fib25-z0-120-labels.npy"
    with np.load(data / "fib25_train_test.npz") as file:
        ids = file["labels"]
        np.save(raw, file["raw"][:TRAIN_END])
        np.save(labels, np.where(np.bincount(ids.ravel())[ids] >= SPECK, ids, 0)[:TRAIN_END])
    return raw, labels


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


def store(best: str, name: str) -> ModelCard:
    """Keep the best weights under a name, with a card that holds no paths."""
    network, card = load_checkpoint(best)
    history = tuple(
        done.replace(settings={key: value for key, value in done.settings.items() if key in _TOLD})
        for done in card.history
    )
    card = card.replace(
        name=name,
        description=DESCRIPTION,
        licence="CC-BY-4.0",
        source="scripts/train_weights.py",
        data=[used.model_dump() for used in DATA],
        history=[done.model_dump() for done in history],
    )
    return save_checkpoint(WEIGHTS / name, network, card, half=True)


_TOLD = {"recipe", "model", "minutes", "steps", "crop", "loss", "learning_rate", "hold_out", "parts", "seed", "batch"}


def main() -> None:
    """Pre-train, fine-tune, store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--size", choices=("tiny", "small"), default="small")
    parser.add_argument("--pretrain-minutes", type=float, default=12.0)
    parser.add_argument("--minutes", type=float, default=40.0)
    parser.add_argument("--seed", type=int, default=0)
    words = parser.parse_args()
    raw, labels = prepare(words.data, words.out)
    size = "10,10,10"
    before = PretrainConfig(
        volumes=(f"{words.data / 'fib25_raw.npz'}::raw", str(raw)),
        licences=("CC-BY-3.0-US", "CC-BY-3.0-US"),
        voxel_size=size,
        model=words.size,
        minutes=words.pretrain_minutes,
        out=str(words.out / "pretrain"),
        seed=words.seed,
    )
    run("pretrain", before)
    config = FinetuneConfig(
        volume=str(raw),
        annotations=str(labels),
        voxel_size=size,
        model=before.out,
        minutes=words.minutes,
        learning_rate=2e-3,
        crop=CROP,
        hold_out=0.1,
        patience=0,
        out=str(words.out / "finetune"),
        seed=words.seed,
    )
    card = store(run("finetune", config)["model"], f"{words.size}-fib25")
    print(card.model_dump_json(indent=1))


if __name__ == "__main__":
    main()
