"""How quickly the window answers: widgets that open, thresholds that move, jobs that start. Needs a screen with OpenGL.

- open       napari is there, nobody has used the plugin: from the menu's click until a widget is drawn. Target 1 s.
- threshold  1 million fragments, 5 million edges, a section of 1250 x 1250: from a move of the slider until the canvas
             is drawn again. Target 100 ms.
- merge      the same fragments and section: from the second click until the two stand out, and from Enter until the
             merged segment is drawn and the edit is on the disk. Target 100 ms each.
- start      a training is started: until the button gives back control. Target 100 ms.

A fresh process for each; medians, and the worst. Where graphics are drawn by the processor the canvas weighs most.

    xvfb-run -a -s "-screen 0 1600x1000x24" python benchmarks/gui.py
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rows import Row, Rows, add_json_option

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari import Viewer

SIDE, DEPTH = 1250, 64


def settle(seconds: float = 0.2) -> None:
    """Let Qt do what is pending."""
    from qtpy.QtWidgets import QApplication

    end = time.perf_counter() + seconds
    QApplication.processEvents()
    while time.perf_counter() < end:
        QApplication.processEvents()


def viewer() -> Viewer:
    import napari

    made = napari.Viewer()
    made.window.resize(1366, 768)
    settle(1.0)
    return made


def open_widget(name: str) -> list[float]:
    """Return the seconds until a widget of the manifest is drawn; napari's own loading is over by then."""
    shown = viewer()
    shown.add_image(np.zeros((8, 64, 64), np.uint8))
    settle(1.0)
    began = time.perf_counter()
    shown.window.add_plugin_dock_widget("napari-tokenunify", name)
    settle(0)
    return [time.perf_counter() - began]


def million(folder: Path) -> None:
    """Make a project whose segmentation has a million fragments in a lattice, 4 x 12 x 12 voxels each."""
    from napari_tokenunify.project import Project, ProjectState
    from napari_tokenunify.segment.merge_tree import merge_tree
    from napari_tokenunify.segment.region_graph import RegionGraph
    from napari_tokenunify.segment.segmentation import Segmentation

    np.save(folder / "raw.npy", np.zeros((DEPTH, SIDE, SIDE), np.uint8))
    z, y, x = (np.arange(n) // size for n, size in ((DEPTH, 1), (SIDE, 10), (SIDE, 10)))
    ids = (z[:, None, None] * 125 + y[:, None]) * 125 + x + np.uint64(1)
    lattice = np.arange(1, int(ids.max()) + 1, dtype=np.uint64).reshape(DEPTH, 125, 125)
    chance = np.random.default_rng(0)
    near = [np.stack([np.delete(lattice, -1, a).ravel(), np.delete(lattice, 0, a).ravel()], axis=1) for a in range(3)]
    far = np.sort(chance.integers(1, lattice.size + 1, (2_100_000, 2), np.uint64))
    pairs = np.unique(np.concatenate([*near, far[far[:, 0] != far[:, 1]]]), axis=0)
    mean, count = chance.random(len(pairs), np.float32), np.ones(len(pairs))
    none = (np.empty((0, 2), np.uint64), np.empty(0), np.empty(0, np.float32))
    graph = RegionGraph(lattice.size, pairs, count, mean, mean, *none, np.bincount(ids.ravel().astype(np.int64)))
    tree = merge_tree(graph, "mean")
    project = Project.create(folder / "p.tokenunify", ProjectState(volume=str(folder / "raw.npy")))
    spec = {"method": "mean"}
    Segmentation.create(project.segmentation, ids, graph, tree.table(0.5), tree=tree, spec=spec)


def move_threshold(folder: Path) -> list[float]:
    """Return the seconds of each of 40 moves."""
    shown = viewer()
    _, panel = shown.window.add_plugin_dock_widget("napari-tokenunify", "TokenUnify")
    panel.session.open_project(folder / "p.tokenunify")
    settle(3.0)
    drawn: list[float] = []
    canvas = shown.window._qt_viewer.canvas._scene_canvas
    canvas.events.draw.connect(lambda _: drawn.append(time.perf_counter()), position="last")
    seconds = []
    for step in range(100, 900, 20):
        drawn.clear()
        began = time.perf_counter()
        panel.panels["Segment"].threshold.setValue(step)
        while not drawn and time.perf_counter() < began + 5:
            settle(0)
        seconds.append(drawn[-1] - began)
        settle(0.05)
    panel.close_all()
    return seconds


def merge(folder: Path) -> list[float]:
    """Return the seconds of 15 merges until the two are seen beforehand, then those until each is made."""
    shown = viewer()
    _, panel = shown.window.add_plugin_dock_widget("napari-tokenunify", "TokenUnify")
    panel.session.open_project(folder / "p.tokenunify")
    panel.steps.setCurrentIndex(panel.STEPS.index("Proofread"))
    settle(5.0)
    shown.dims.set_point(0, DEPTH // 2)
    step = panel.panels["Proofread"]
    step.tools.modes["Merge"].click()
    panel.session.move_threshold(0.0)  # each fragment a segment of its own
    settle(3.0)
    drawn: list[tuple[float, Any]] = []
    shown.window._qt_viewer.canvas._scene_canvas.events.draw.connect(
        lambda _: drawn.append((time.perf_counter(), step.marks.coloured)), position="last"
    )
    seconds: dict[str, list[float]] = {"seen": [], "made": []}
    for number in range(16):
        first, second = ((DEPTH // 2, 20 + 40 * number, x) for x in (605, 615))
        step.tools.click(first)
        rest(step)
        for kind, act in (("seen", lambda at=second: step.tools.click(at)), ("made", step.tools.confirm)):
            drawn.clear()
            before, began = step.marks.coloured, time.perf_counter()
            act()
            rest(step)
            settle(0.2)
            news = [end for end, coloured in drawn if coloured is not before]
            # Seen: the first drawing with both sides (the next moves the words in the corner). Made: the last.
            seconds[kind].append((news[0] if kind == "seen" else news[-1]) - began)
    panel.close_all()
    return seconds["seen"][1:] + seconds["made"][1:]  # the first one adds layers


def rest(step: Any) -> None:
    """Wait until all that was asked is done, and what follows of it is drawn."""
    segments = step.marks.layer.data
    while step.editing.busy or segments._work.busy:
        settle(0)
        time.sleep(0.001)  # as Qt waits; the threads need the interpreter


def start_job(folder: Path) -> list[float]:
    """Return the seconds that starting a training takes from the window."""
    from napari_tokenunify.project import Project, ProjectState

    np.save(folder / "labels.npy", np.ones((16, 64, 64), np.uint8))
    np.save(folder / "small.npy", np.zeros((16, 64, 64), np.uint8))
    state = ProjectState(volume=str(folder / "small.npy"), annotations=str(folder / "labels.npy"))
    project = Project.create(folder / "start.tokenunify", state)
    shown = viewer()
    _, panel = shown.window.add_plugin_dock_widget("napari-tokenunify", "TokenUnify")
    panel.session.open_project(project.folder)
    settle(2.0)
    seconds = []
    for _ in range(3):
        began = time.perf_counter()
        job = panel.session.start("finetune", panel.panels["Train"].config())
        seconds.append(time.perf_counter() - began)
        job.kill()
    panel.close_all()
    return seconds


def fresh(part: str, folder: Path, **more: str) -> list[float]:
    """Run a part in a process of its own."""
    words = [sys.executable, __file__, "--one", json.dumps({"part": part, "folder": str(folder), **more})]
    environment = {**os.environ, "NAPARI_TOKENUNIFY_STATE": str(folder / "state")}
    told = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True, env=environment)
    found: list[float] = json.loads(told.stdout.splitlines()[-1])
    return found


def row(what: str, seconds: list[float], target: float) -> Row:
    """Return the median, and the worst as a note."""
    median = 1000 * statistics.median(seconds)
    return Row(what, median, 1000 * target, unit="ms", note=f"worst {1000 * max(seconds):.0f} ms")


def main() -> None:
    """Print a Markdown table; exit 1 if a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    add_json_option(parser)
    options = parser.parse_args()
    chosen = options.one
    if chosen:
        told = json.loads(chosen)
        folder = Path(told["folder"])
        parts: dict[str, Callable[[], Any]] = {
            "open": lambda: open_widget(told["name"]),
            "threshold": lambda: move_threshold(folder),
            "merge": lambda: merge(folder),
            "start": lambda: start_job(folder),
        }
        print(json.dumps(parts[told["part"]]()), flush=True)
        os._exit(0)  # without waiting for napari's own cleaning up
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}", end="\n\n")
    rows = Rows()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        for name in ("TokenUnify", "TokenUnify jobs"):
            rows.add(row(f"{name} opens", [fresh("open", folder, name=name)[0] for _ in range(5)], 1.0))
        million(folder)
        rows.add(row("threshold moves, until drawn", fresh("threshold", folder), 0.1))
        merges = fresh("merge", folder)
        rows.add(row("second click of a merge, until both sides are drawn", merges[: len(merges) // 2], 0.1))
        rows.add(row("a merge, until drawn and on the disk", merges[len(merges) // 2 :], 0.1))
        rows.add(row("a training starts", fresh("start", folder), 0.1))
    rows.end(options.json)


if __name__ == "__main__":
    main()
