"""Make the pictures of augmentations.md from the synthetic sample: `python docs/make_augmentation_figures.py`.

Left is before, right is after. Defects that show from section to section are seen from the side (xz, sections are
rows), all others in the section that changed most.
"""

from functools import partial
from pathlib import Path

import imageio.v3 as imageio
import numpy as np

from napari_tokenunify.data.augment import PerturbConfig, geometric, intensity, perturb
from napari_tokenunify.data.synthetic import synthetic_em

FOLDER = Path(__file__).parent / "images" / "augmentations"
SHAPE = (64, 128, 128)
HEIGHT = 256  # pixels
GAP = 8


def on_image(change, **strength):
    return lambda image, labels, rng: (change(image, rng, **strength), labels)


def only(kind):
    kinds = dict.fromkeys(("noise", "blur", "cutout"), False)
    return partial(perturb, config=PerturbConfig(probability=1, **{**kinds, kind: True}))


# name: what is done, the plane it is shown in, and a seed that shows it well
FIGURES = {
    "flip": (lambda image, labels, _: geometric.flip(image, labels, 2), "xy", 0),
    "rotate": (geometric.rotate, "xy", 0),
    "transpose": (lambda image, labels, _: geometric.transpose(image, labels), "xy", 0),
    "thicken": (geometric.thicken, "xz", 0),
    "elastic": (geometric.elastic, "xy", 0),
    "slip": (geometric.slip, "xz", 6),
    "translation": (geometric.translate, "xz", 19),
    "blur": (on_image(intensity.blur_sections), "xy", 0),
    "section_contrast": (
        on_image(intensity.change_contrast, contrast=0.1, brightness=0.05, gamma=0.25, per_section=True),
        "xz",
        0,
    ),
    "volume_contrast": (on_image(intensity.change_contrast), "xy", 19),
    "noise": (on_image(intensity.add_noise), "xy", 5),
    "saturate": (on_image(intensity.saturate_sections), "xy", 0),
    "missing": (intensity.lose_sections, "xz", 8),
    "perturb_noise": (on_image(only("noise")), "xy", 5),
    "perturb_blur": (on_image(only("blur")), "xy", 4),
    "perturb_cutout": (on_image(only("cutout")), "xy", 0),
}


def side_by_side(before, after, plane):
    """Return both as one uint8 picture, pixels enlarged without smoothing."""
    axis = 0 if plane == "xy" else 1
    change = np.abs(after - before).sum(axis=tuple({0, 1, 2} - {axis}))
    place = int(change.argmax()) if plane == "xy" else before.shape[1] // 2
    panels = [volume.take(place, axis) for volume in (before, after)]
    panels = [panel[:, : len(panel)] for panel in panels]
    factor = HEIGHT // len(panels[0])
    panels = [np.kron(panel, np.ones((factor, factor))) for panel in panels]
    gap = np.ones((panels[0].shape[0], GAP))
    return (np.hstack([panels[0], gap, panels[1]]) * 255).round().astype(np.uint8)


def make_figures(image, labels, folder):
    folder.mkdir(parents=True, exist_ok=True)
    for name, (change, plane, seed) in FIGURES.items():
        after, _ = change(image, labels, np.random.default_rng(seed))
        path = folder / f"{name}.png"
        imageio.imwrite(path, side_by_side(image, after, plane), optimize=True)
        print(f"{path.name}: {path.stat().st_size / 1000:.0f} kB")


def main():
    sample = synthetic_em(SHAPE, voxel_size_nm=(8, 8, 8), seed=1)
    low, high = np.percentile(sample.raw, (0.5, 99.5))
    image = ((sample.raw.astype(np.float32) - low) / (high - low)).clip(0, 1)
    make_figures(image, sample.labels, FOLDER)


if __name__ == "__main__":
    main()
