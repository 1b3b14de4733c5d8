"""How good segmentations are, for how many labels: every data set, every network, every amount of labels, three seeds.

An arm is NETWORK/LABELS:

- network   a model with its weights (the bundled ones by default, or a name or path), a preset that starts from scratch
            (`small`), or `unet`, MONAI's BasicUNet from scratch. All go through the same loop with the same crops,
            augmentation, loss, minutes, tiles and fragments.
- labels    none: the model as it is; resampled: shown the image at its own voxel size; sections-3, -10, -30; scribbles
            (strokes over 1 % of the voxels, by a seeded script); dense; with --leave-one-out also others: from scratch
            on all other data sets, and on this one as it is.

Beside these: `intensity`, a watershed of the blurred image itself with blur, boundary and threshold tuned on the dense
training labels, as the floor; and the results of others that a data set brings along (FFN, NeuroProof's watershed).
Thresholds are tuned on the training labels; where there are none, they are the default.

A result is a line of JSON in `--results`; what is there already is not run again, so that a long comparison can be
stopped and goes on with the same command. One run at a time, each in a process of its own, on all cores.

    python benchmarks/segmentation.py --data ../shared/data --arms 'small/*' intensity --seeds 0 --minutes 5
    python benchmarks/segmentation.py --sets mine.yaml --data . --methods waterz multicut --proofread 500

`data_set.py` says how to add a data set. In `--table`: table.md, table.csv, effort.png, and pictures of the first seed.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from data_set import OWN, DataSet, read_data_set
from quality import UNET
from segmentation_report import write_report
from segmentation_run import FLOOR, UNTRAINED, Run, run

from napari_tokenunify.config import AgglomerateConfig
from napari_tokenunify.errors import ModelError, TokenUnifyError
from napari_tokenunify.geometry import voxel_size_mismatch
from napari_tokenunify.network.card import read_card
from napari_tokenunify.network.installed import find_model, installed_models
from napari_tokenunify.network.presets import NETWORK_PRESETS

if TYPE_CHECKING:
    from collections.abc import Iterator

DATA = Path(os.environ.get("NTU_DATA", Path(__file__).parents[1] / "../shared/data"))
LABELS = ("none", "resampled", "sections-3", "sections-10", "sections-30", "scribbles", "dense", "others")
MINUTES = {"dense": 15.0, "others": 15.0}
USUAL_MINUTES = 5.0
METHODS = get_args(AgglomerateConfig.model_fields["method"].annotation)


def runs(options: argparse.Namespace, sets: dict[str, DataSet]) -> Iterator[Run]:
    """Yield what is to be run, seed by seed, and say what cannot be."""
    for seed in options.seeds:
        for name, found in sets.items():
            for arm in (arm for arm in arms(options, found) if any(fnmatch(arm, one) for one in options.arms)):
                network, _, labels = arm.rpartition("/")
                is_trained = bool(network) and labels not in UNTRAINED
                if not is_trained and seed != options.seeds[0]:
                    continue  # the same again
                if reason := why_not(network, labels, found, options.data):
                    if seed == options.seeds[0]:
                        print(f"{name}, {arm}: skipped, {reason}", file=sys.stderr)
                    continue
                minutes = options.minutes or MINUTES.get(labels, USUAL_MINUTES)
                yield Run(
                    set=name,
                    arm=arm,
                    seed=seed,
                    minutes=minutes if is_trained and options.steps is None else None,
                    steps=options.steps if is_trained else None,
                    methods=options.methods,
                    proofread=options.proofread,
                    until=options.until,
                )


def arms(options: argparse.Namespace, found: DataSet) -> list[str]:
    """Return all arms of a data set, the quick ones first."""
    named = [FLOOR, *found.references]
    for network in options.networks:
        for labels in LABELS:
            if labels == "others" and not (options.leave_one_out and is_fresh(network)):
                continue  # what was trained before may have seen this data set
            if labels not in UNTRAINED or not is_fresh(network):
                named.append(f"{network}/{labels}")
    return named


def is_fresh(network: str) -> bool:
    """Tell whether a network starts from random weights."""
    return network == UNET or (network in NETWORK_PRESETS and network not in installed_models())


def why_not(network: str, labels: str, found: DataSet, data: Path) -> str:
    """Return why an arm cannot be run on a data set; "" if it can."""
    card = None
    if network and not is_fresh(network):
        try:
            card = read_card(find_model(network))
        except ModelError as error:
            return str(error)
    if labels in UNTRAINED and card and card.network.is_pretrained:
        return "as the model was only pre-trained"
    if labels == "resampled" and card and not voxel_size_mismatch(found.voxel_size_nm, card.voxel_size_nm):
        return "as the voxel size is the model's own"
    if labels.startswith("sections-") and (most := found.sections_to_label(data)) < int(labels.split("-")[1]):
        return f"as there are {most} sections to label"
    return ""


def found_sets(paths: list[Path], data: Path) -> dict[str, DataSet]:
    """Return the data sets whose files are there, by their names."""
    sets = {}
    for path in paths or sorted(OWN.glob("*.yaml")):
        found = read_data_set(path)
        if missing := found.missing(data):
            print(f"{found.name}: skipped, as there is no {', '.join(missing)}", file=sys.stderr)
        else:
            sets[found.name] = found
    return sets


def do_all(options: argparse.Namespace, words: list[str]) -> list[dict[str, Any]]:
    """Run what is not in the results yet, one after the other, and return all rows."""
    options.results.touch()
    rows = [json.loads(line) for line in options.results.read_text().splitlines()]
    if options.only_table:
        return rows
    sets = found_sets(options.sets, options.data)
    if options.leave_one_out and len(sets) < 2:
        print("leave-one-out: skipped, as it takes two data sets", file=sys.stderr)
        options.leave_one_out = False
    for one in runs(options, sets):
        if any(one.is_in(row) for row in rows):
            continue
        command = [sys.executable, __file__, *words, "--one", one.model_dump_json()]
        if one.seed == options.seeds[0]:
            command += ["--pictures", str(options.table / "pictures")]
        # Threads that spin while they wait slow each other down where others compete for the cores.
        told = subprocess.run(
            command, stdout=subprocess.PIPE, text=True, check=False, env={"OMP_WAIT_POLICY": "passive", **os.environ}
        )
        if told.returncode:
            print(f"{one.set}, {one.arm}, seed {one.seed}: failed, see above", file=sys.stderr, flush=True)
            continue
        rows.append(json.loads(told.stdout.splitlines()[-1]))
        with options.results.open("a") as file:
            file.write(json.dumps(rows[-1]) + "\n")
        best = min(rows[-1]["scores"].items(), key=lambda item: item[1]["voi"])
        print(
            f"{one.set}, {one.arm}, seed {one.seed}: {best[0]}, VOI {best[1]['voi']:.3f}, ARAND {best[1]['arand']:.3f}",
            file=sys.stderr,
            flush=True,
        )
    return rows


def main() -> None:
    """Run what is missing, then write table, figure and pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA, help="folder of the data")
    parser.add_argument("--sets", nargs="+", type=Path, default=[], help="YAML files; those of data_sets/ by default")
    parser.add_argument("--networks", nargs="+", help="by default small, unet and the bundled models")
    parser.add_argument("--arms", nargs="+", default=["*"], help="only arms like these, e.g. 'small/*' '*/dense'")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=["mean", "waterz"], help="of agglomeration")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--minutes", type=float, help="of training; by default 15 for dense and others, else 5")
    length.add_argument("--steps", type=int, help="of training, instead of minutes")
    parser.add_argument("--leave-one-out", action="store_true", help="also train on all data sets but one")
    parser.add_argument("--proofread", type=int, default=0, help="answers of the automatic proofreader at most")
    parser.add_argument("--until", type=float, help="the VOI that it works towards, beside half of the first one")
    parser.add_argument("--results", type=Path, default=Path("segmentation.jsonl"))
    parser.add_argument("--table", type=Path, default=Path("segmentation"), help="folder for table and pictures")
    parser.add_argument("--only-table", action="store_true", help="run nothing, write the table of what is there")
    parser.add_argument("--one", type=Run.model_validate_json, help=argparse.SUPPRESS)
    parser.add_argument("--pictures", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    bundled = [model.name for model in installed_models().values() if model.kind == "bundled"]
    options.networks = options.networks or [*bundled, "small", UNET]
    try:
        if options.one:
            sets = found_sets(options.sets, options.data)
            print(json.dumps(run(options.one, sets, options.data, options.pictures)))
            return
        if not bundled:
            print("no bundled model is installed: their arms are skipped", file=sys.stderr)
        rows = do_all(options, sys.argv[1:])
        print(write_report(rows, options.table))
    except TokenUnifyError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
