"""Settle what neighbouring blocks disagree on, so that a fragment ends at the face of a block no more than elsewhere.

Two blocks may cut the place around their shared face differently. Then one gives way: what the other joins across the
face grows from there into what they disagree on, and meets what they agree on somewhere inside. Blocks do so in eight
rounds, and no two of a round touch: the result depends on the grid alone, not on who works when.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from bioimage_cpp.segmentation import label
from scipy.ndimage import find_objects

from napari_tokenunify.geometry import Box
from napari_tokenunify.segment.block_work import save
from napari_tokenunify.segment.blocks.run import WORK
from napari_tokenunify.segment.flood import OUTSIDE
from napari_tokenunify.segment.fragments import regrow
from napari_tokenunify.segment.stitch import cut_ids, groups_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_tokenunify.segment.block_work import BlockWork
    from napari_tokenunify.segment.blocks.grid import Block, BlockGrid

_NUMBERS = "numbers.npy"
_NEAR = 4  # a quarter of the halo is near the face: further in, a neighbour's cut is the worse one


def rounds(grid: BlockGrid) -> list[list[Block]]:
    """Return the blocks of each round; those of earlier rounds must be settled before one begins."""
    parts: list[list[Block]] = [[] for _ in range(8)]
    for block in grid:
        parts[_round(block)].append(block)
    return [part for part in parts if part]


def settle_block(work: BlockWork, block: Block) -> dict[str, int]:
    """Give way to the neighbours of earlier rounds where they join what this block holds apart at their shared face.

    Returns
    -------
    dict
        `voxels`: how many were filled again. The core is kept under the numbers of its groups.
    """
    seam = _Seam.of(work, block)
    for other in work.grid.touching(seam.box):
        if _round(other) < _round(block):
            seam.look_at(work, other)
    filled = seam.refill(work)
    kept = np.unique(seam.core)
    work.save("kept", block, kept[kept != 0])
    work.save_voxels("settled", block, seam.core)
    return {"voxels": filled}


def _round(block: Block) -> int:
    z, y, x = (part % 2 for part in block.position)
    return 4 * z + 2 * y + x


@dataclass(frozen=True, eq=False)
class _Seam:
    """A block's core and one voxel around it, in groups; what a neighbour has there differently, and where it matters.

    Attributes
    ----------
    block : Block
        Whose core.
    box : Box
        What the arrays cover.
    ids : ndarray of uint64, shape of the box
        Groups; OUTSIDE where no earlier block has settled anything.
    differs : ndarray of bool, shape of the box
        A neighbour has it in another group, near the face.
    wrong : ndarray of bool, shape of the box
        A voxel at the face that a neighbour joins with the one behind it, and that differs from it here.
    """

    block: Block
    box: Box
    ids: NDArray[np.uint64]
    differs: NDArray[np.bool_]
    wrong: NDArray[np.bool_]

    @classmethod
    def of(cls, work: BlockWork, block: Block) -> _Seam:
        """Begin with what the block itself has cut."""
        box = block.core.grown((1, 1, 1)).clipped(work.grid.shape) or block.core
        ids = np.full(box.shape, OUTSIDE, np.uint64)
        ids[block.core.seen_from(box.start).slices] = groups_of(work, block)[cut_ids(work, block, block.core)]
        return cls(block, box, ids, np.zeros(box.shape, bool), np.zeros(box.shape, bool))

    @property
    def core(self) -> NDArray[np.uint64]:
        """The groups of the core."""
        return self.ids[self.block.core.seen_from(self.box.start).slices]

    def look_at(self, work: BlockWork, other: Block) -> None:
        """Take over what a neighbour has settled behind the face, and mark what it has cut differently before it."""
        z, y, x = (-(-n // _NEAR) for n in work.grid.halo)
        behind, around = self.box.overlap(other.core), self.box.overlap(other.core.grown((z, y, x)))
        if behind is None or around is None:
            return
        self.ids[behind.seen_from(self.box.start).slices] = work.load_voxels(
            "settled", other, other.core, behind, np.uint64
        )
        cut = cut_ids(work, other, around)
        theirs = groups_of(work, other)[cut]
        ours = self.ids[around.seen_from(self.box.start).slices]
        self.differs[around.seen_from(self.box.start).slices] |= (theirs != ours) & (theirs != 0) & (ours != 0)
        steps = [a - b for a, b in zip(self.block.position, other.position, strict=True)]
        here = behind.shifted((steps[0], steps[1], steps[2]))
        if sum(map(abs, steps)) == 1 and here.overlap(around) == here:  # they share a face, and there is a halo
            now, before = here.seen_from(self.box.start).slices, behind.seen_from(self.box.start).slices
            joined = cut[here.seen_from(around.start).slices] == cut[behind.seen_from(around.start).slices]
            parted = (self.ids[now] != self.ids[before]) & (self.ids[now] != 0)
            self.wrong[now] |= joined & parted & (cut[here.seen_from(around.start).slices] != 0)

    def refill(self, work: BlockWork) -> int:
        """Fill again what is wrong and all that hangs together with it, and return how many voxels that are.

        It is filled from the voxels around it; what is linked to none of them stays as it was.
        """
        if not self.wrong.any():
            return 0
        core = self.block.core.seen_from(self.box.start).slices
        pieces = np.asarray(label((self.differs | self.wrong)[core], connectivity=1))
        taken = np.zeros(int(pieces.max()) + 1, bool)
        taken[pieces[self.wrong[core]]] = True
        free = np.zeros(self.box.shape, bool)
        free[core] = taken[pieces]
        part = _bounds(free)
        where = part.slices
        ids = self.ids[where].copy()
        ids[ids == 0] = OUTSIDE
        ids[free[where]] = 0
        z, y, x = (a + b for a, b in zip(self.box.start, work.start, strict=True))
        store = work.affinities
        regrow(store.read(part.shifted((z, y, x))), store.offsets, work.config, ids, store.voxel_size_nm)
        filled = free[where] & (ids != 0)
        self.ids[where][filled] = ids[filled]
        return int(filled.sum())


def _bounds(marked: NDArray[np.bool_]) -> Box:
    """Return the smallest box around marked voxels, with one voxel around it where there is one."""
    slices = find_objects(marked.view(np.uint8))[0]
    (z0, z1), (y0, y1), (x0, x1) = (
        (max(0, part.start - 1), min(n, part.stop + 1)) for part, n in zip(slices, marked.shape, strict=True)
    )
    return Box((z0, y0, x0), (z1, y1, x1))


def settled_ids(work: BlockWork, box: Box) -> NDArray[np.uint64]:
    """Return the groups in a box that may reach over several blocks."""
    ids = np.zeros(box.shape, np.uint64)
    for block in work.grid.touching(box):
        part = box.overlap(block.core)
        if part is not None:
            ids[part.seen_from(box.start).slices] = work.load_voxels("settled", block, block.core, part, np.uint64)
    return ids


def number_blocks(work: BlockWork) -> int:
    """Give the groups that are left the ids 1..n, in the order of blocks and of groups in them, and return n."""
    largest = max((int(kept.max(initial=0)) for kept in (work.load("kept", block) for block in work.grid)), default=0)
    numbers, count = np.zeros(largest + 1, np.uint64), 0
    for block in work.grid:
        kept = work.load("kept", block)
        new = kept[numbers[kept] == 0]
        numbers[new] = np.arange(count + 1, count + 1 + len(new))
        count += len(new)
    save(work.folder / WORK / _NUMBERS, numbers)
    return count


def numbers_of(work: BlockWork) -> NDArray[np.uint64]:
    """Return the id in the whole volume of each group; 0 of 0."""
    numbers: NDArray[np.uint64] = np.load(work.folder / WORK / _NUMBERS, mmap_mode="r", allow_pickle=False)
    return numbers
