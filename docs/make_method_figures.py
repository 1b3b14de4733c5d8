"""Make the pictures of how_it_works.md from the synthetic sample: `python docs/make_method_figures.py`.

No network is needed: affinities are those of the true labels, with membranes three voxels wide, blurred and with noise.
"""

from itertools import pairwise
from pathlib import Path

import imageio.v3 as imageio
import numpy as np
import torch
from PIL import Image, ImageDraw
from scipy.ndimage import gaussian_filter, minimum_filter

from napari_tokenunify.affinities import DEFAULT_OFFSETS, known_affinities
from napari_tokenunify.config import FragmentsConfig
from napari_tokenunify.data.synthetic import synthetic_em
from napari_tokenunify.segment.fragments import fragments
from napari_tokenunify.segment.merge_tree import merge_tree
from napari_tokenunify.segment.region_graph import region_graph
from napari_tokenunify.train.pretraining.objectives import ask_after_prefix, ask_random
from napari_tokenunify.train.pretraining.recipes import Recipe
from napari_tokenunify.train.pretraining.tokens import TokenGrid

FOLDER = Path(__file__).parent / "images" / "method"
SHAPE = (32, 128, 128)
PIXELS = 2  # of the picture, a voxel
GAP = 8
ASKED = (1.0, 0.75, 0.2)  # the colour of what is predicted
PLACE = 20  # the section that is shown


def picture(panel):
    """Return a section, grey or in colours 0..1, as RGB with enlarged pixels."""
    rgb = panel if panel.ndim == 3 else np.repeat(panel[..., None], 3, axis=2)
    return rgb.clip(0, 1).repeat(PIXELS, 0).repeat(PIXELS, 1)


def write(name, panels):
    """Write pictures of the same height side by side."""
    gap = np.ones((panels[0].shape[0], GAP, 3))
    row = [part for panel in panels for part in (panel, gap)][:-1]
    path = FOLDER / f"{name}.png"
    pixels = Image.fromarray((np.hstack(row) * 255).round().astype(np.uint8))
    imageio.imwrite(path, pixels.quantize(128, dither=Image.Dither.NONE).convert("RGB"), optimize=True)
    print(f"{path.name}: {path.stat().st_size / 1000:.0f} kB")


def outlined(panel, where, grid):
    """Draw lines between tokens, and a frame around those that are asked for."""
    _, height, width = grid.token
    drawn = picture(panel)
    drawn[:: height * PIXELS] = drawn[:, :: width * PIXELS] = 0.35
    for y in range(0, where.shape[0], height):
        for x in range(0, where.shape[1], width):
            if where[y, x]:
                a, b, c, d = (PIXELS * n for n in (y, y + height, x, x + width))
                inside = drawn[a + 3 : b - 2, c + 3 : d - 2].copy()
                drawn[a + 1 : b, c + 1 : d] = ASKED
                drawn[a + 3 : b - 2, c + 3 : d - 2] = inside
    return drawn


def objectives(image):
    """A crop, and what each objective hides and asks for."""
    crop = torch.from_numpy(image[PLACE - 6 : PLACE + 2])
    grid = TokenGrid(tuple(crop.shape))
    recipe = Recipe(title="-", description="-", mask=0.5, phases=({"until": 1, "weights": {"random": 1}},))
    at = 5  # the section, in the second layer of tokens
    panels = [outlined(crop[at].numpy(), np.zeros(SHAPE[1:], bool), grid)]
    asked = ask_random(crop, crop, grid, recipe, np.random.default_rng(1))
    panels.append(outlined(asked.image[at].numpy(), asked.asked["random"].voxels[at].numpy(), grid))
    seeds = (ask_after_prefix(crop, crop, grid, recipe, np.random.default_rng(seed)) for seed in range(100))
    asked = next(one for one in seeds if 0.4 < one.visible[at].float().mean() < 0.6 and one.visible[at, -1, 0] == 0)
    panels += [outlined(asked.image[at].numpy(), asked.asked[name].voxels[at].numpy(), grid) for name in asked.asked]
    write("objectives", panels)


def orders():
    """The way through 8 x 8 tokens in each order, from dark to light; lines join those that are neighbours."""
    panels = []
    for order in ("raster", "hilbert", "near-to-far"):
        grid = TokenGrid((1, 8, 8), (1, 1, 1), order)
        panel = Image.new("RGB", (8 * 32, 8 * 32), "white")
        draw = ImageDraw.Draw(panel)
        places = grid.places[grid.sequence][:, 1:]
        for rank, (y, x) in enumerate(places.tolist()):
            share = rank / len(places)
            shade = (int(35 + 215 * share), int(45 + 180 * share), int(110 + 60 * share))
            draw.rectangle([32 * x + 1, 32 * y + 1, 32 * x + 30, 32 * y + 30], shade)
        for start, stop in pairwise(places):
            if abs(start - stop).sum() == 1:
                draw.line([tuple((32 * place + 16)[::-1].tolist()) for place in (start, stop)], (215, 60, 40), 2)
        panels.append(np.asarray(panel) / 255)
    write("orders", panels)


def coloured(ids):
    """Give each id a colour of its own."""
    colours = np.random.default_rng(3).uniform(0.2, 1, (int(ids.max()) + 1, 3))
    return colours[ids.astype(np.int64)]


def segmentation(image, labels):
    """From image to affinities, fragments, and segments at two thresholds."""
    joined, known = known_affinities(labels)
    target = joined | ~known
    rng = np.random.default_rng(0)
    noise = gaussian_filter(rng.normal(size=target.shape), (0, 1.5, 3, 3))
    blurred = gaussian_filter(minimum_filter(target.astype(np.float32), (1, 3, 3, 3)), (0, 1, 1, 1))
    affinities = (blurred + 0.08 * noise / noise.std()).clip(0, 1).astype(np.float32)
    made = fragments(affinities, DEFAULT_OFFSETS, FragmentsConfig(fragment_mode="volume"))
    tree = merge_tree(region_graph(made, affinities, DEFAULT_OFFSETS))
    write(
        "segmentation",
        [
            picture(image[PLACE]),
            picture(np.moveaxis(affinities[::-1, PLACE], 0, -1)),
            picture(coloured(made[PLACE])),
            *(picture(coloured(tree.table(threshold)[made[PLACE]])) for threshold in (0.1, 0.75)),
        ],
    )


def main():
    FOLDER.mkdir(parents=True, exist_ok=True)
    sample = synthetic_em(SHAPE, voxel_size_nm=(8, 8, 8), seed=1)
    low, high = np.percentile(sample.raw, (0.5, 99.5))
    image = ((sample.raw.astype(np.float32) - low) / (high - low)).clip(0, 1)
    objectives(image)
    orders()
    segmentation(image, sample.labels)


if __name__ == "__main__":
    main()
