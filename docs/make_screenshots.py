"""Do the whole job through the widgets and take a picture of each step: the screenshots of start.md.

    NTU_DATA=../shared/data xvfb-run -a -s "-screen 0 1366x768x24" python docs/make_screenshots.py --minutes 5

On the FIB-25 volume of which 50 sections are labelled (CC BY 3.0 US, FlyEM, Janelia), found in `NTU_DATA`; or on
any other volume and labels. All is done by pressing what a user presses; it ends with an error where a step fails.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path

from napari import Viewer
from PIL import Image
from qtpy.QtWidgets import QApplication

from napari_tokenunify.data import open_volume
from napari_tokenunify.jobs import JobState

FOLDER = Path(__file__).parent / "images" / "steps"
DATA = Path(os.environ.get("NTU_DATA", Path(__file__).parents[2] / "shared/data"))
SIZE = (1366, 768)


def settle(seconds: float = 0.5) -> None:
    """Let Qt and napari do what is pending."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        QApplication.processEvents()
        time.sleep(0.005)


def wait(panel, stage: str, minutes: float) -> dict:
    """Wait for the last job of a stage; return what it made."""
    end = time.monotonic() + 60 * minutes
    while time.monotonic() < end:
        settle(0.2)
        mine = [status for status in panel.session.jobs if status.stage == stage]
        if mine and mine[-1].state.final:
            if mine[-1].state is not JobState.DONE:
                raise RuntimeError(f"{stage}: {mine[-1].state}: {mine[-1].reason} {mine[-1].log}")
            settle(1.5)
            return mine[-1].result
    raise RuntimeError(f"{stage} was not done within {minutes} minutes")


class Tour:
    """napari with the widget, in a window of the size of a small laptop."""

    def __init__(self, folder: Path, quality: int) -> None:
        self.folder, self.quality, self.number = folder, quality, 0
        folder.mkdir(parents=True, exist_ok=True)
        self.viewer = Viewer(title="napari")
        self.viewer.window.resize(*SIZE)
        self.dock, self.panel = self.viewer.window.add_plugin_dock_widget("napari-tokenunify", "TokenUnify")
        settle(1.0)

    def show(self, step: str):
        """Go to a step; return its panel."""
        self.panel.steps.setCurrentIndex(self.panel.STEPS.index(step))
        settle()
        return self.panel.panels[step]

    def picture(self, name: str) -> None:
        """Keep what the window shows."""
        settle(1.0)
        self.number += 1
        path = self.folder / f"{self.number}_{name}.webp"
        image = self.viewer.screenshot(canvas_only=False, flash=False)
        Image.fromarray(image[..., :3]).save(path, quality=self.quality)
        print(path, f"{path.stat().st_size / 1e3:.0f} kB", flush=True)


def main() -> None:
    """Take all pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--volume", default=str(DATA / "fib25_sparse_sections.npz") + "::raw")
    parser.add_argument("--labels", default=str(DATA / "fib25_sparse_sections.npz") + "::labels")
    parser.add_argument("--voxel-size", default="10,10,10")
    parser.add_argument("--model", default="small")
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--section", type=int, default=78)
    parser.add_argument("--out", type=Path, default=FOLDER)
    parser.add_argument("--quality", type=int, default=80, help="of the pictures, 1 to 100")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        tour = Tour(chosen.out, chosen.quality)
        take_all(tour, Path(place), chosen)
        tour.panel.close_all()
        tour.viewer.close()


def take_all(tour: Tour, place: Path, chosen: argparse.Namespace) -> None:
    """Go through the steps as a user would."""
    viewer, panel = tour.viewer, tour.panel
    viewer.open(chosen.volume.partition("::")[0], plugin="napari-tokenunify")
    settle(2.0)
    data = tour.show("Data")
    data.voxel_size.setText(chosen.voxel_size)
    data.folder.setText(str(place / "neuropil.tokenunify"))
    tour.picture("data")
    data.start.click()
    settle(8.0)
    tour.picture("checked")

    annotate = tour.show("Annotate")
    annotate.use(chosen.labels)
    viewer.dims.set_point(0, chosen.section * float(chosen.voxel_size.split(",")[0]))
    settle(8.0)
    tour.picture("annotate")

    train = tour.show("Train")
    train.model.setCurrentText(chosen.model)
    train.minutes.setValue(chosen.minutes)
    settle(1.0)
    train.button.click()
    settle(60 * chosen.minutes * 0.7)
    tour.picture("train")
    print(wait(panel, "finetune", 10 + chosen.minutes))

    segment = tour.show("Segment")
    segment.everything.click()
    settle(20.0)
    tour.picture("predict")
    print(wait(panel, "predict", 60))
    print(wait(panel, "segment", 30))
    tour.picture("segments")
    segment.threshold.setValue(420)
    middle = [n // 2 for n in open_volume(chosen.volume).shape]
    segment.picking.picked.pick(int(viewer.layers["segments"].data.fragments[chosen.section, middle[1], middle[2]]))
    settle(2.0)
    tour.picture("threshold_and_pick")
    segment.picking.solid.click()
    settle(15.0)
    tour.picture("in_3d")
    segment.picking.solid.click()

    proofread = tour.show("Proofread")
    settle(5.0)
    proofread.queue.begin()
    settle(20.0)
    tour.picture("proofread")

    export = tour.show("Export")
    viewer.reset_view()
    export.export.click()
    print(wait(panel, "export", 10))
    tour.picture("export")


if __name__ == "__main__":
    main()
