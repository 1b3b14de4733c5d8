"""FragmentGraph: the region graph in a form in which the neighbours of a few fragments are found at once."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from napari_tokenunify.proofread.edits import FragmentCut
    from napari_tokenunify.segment.segmentation import Segmentation


@dataclass(frozen=True, eq=False)
class FragmentGraph:
    """Fragments and their contacts, read-only.

    Attributes
    ----------
    edges : ndarray of uint64, shape (E, 2)
        Pairs u < v of fragments that touch, sorted by u, then v.
    count : ndarray of float64, shape (E,)
        Pairs of neighbouring voxels in each contact.
    mean : ndarray of float32, shape (E,)
        Mean of their affinities, 0..1.
    sizes : ndarray of int64, shape (nodes + 1,)
        Voxels of each fragment; entry 0 is 0.
    first : ndarray of int64, shape (nodes + 2,)
        The edges (u, v) of u are those from first[u] to first[u + 1].
    spread : ndarray of float32, shape (E,), optional
        How much the answers to several orientations differ at each contact, 0..1; as of RegionGraph.
    """

    edges: NDArray[np.uint64]
    count: NDArray[np.float64]
    mean: NDArray[np.float32]
    sizes: NDArray[np.int64]
    first: NDArray[np.int64]
    spread: NDArray[np.float32] | None = None

    @property
    def nodes(self) -> int:
        """Number of fragments, parts of divided ones included; their ids are 1..nodes."""
        return len(self.sizes) - 1

    @classmethod
    def of(cls, segmentation: Segmentation) -> Self:
        """Take the graph of a segmentation; its arrays stay on the disk, beside 8 bytes a fragment."""
        graph = segmentation.graph
        return cls._indexed(graph.edges, graph.count, graph.mean, segmentation.sizes, graph.spread)

    @classmethod
    def _indexed(
        cls,
        edges: NDArray[np.uint64],
        count: NDArray[np.float64],
        mean: NDArray[np.float32],
        sizes: NDArray[np.int64],
        spread: NDArray[np.float32] | None = None,
    ) -> Self:
        first = np.searchsorted(edges[:, 0], np.arange(len(sizes) + 1, dtype=np.uint64)).astype(np.int64)
        arrays = _read_only(edges), _read_only(count), _read_only(mean), _read_only(sizes), _read_only(first)
        return cls(*arrays, None if spread is None else _read_only(spread))

    def with_divided(self, divided: Sequence[FragmentCut], nodes: int) -> FragmentGraph:
        """Return the graph in which fragments are divided, one after the other.

        Parameters
        ----------
        divided : sequence of FragmentCut
            In the order of their making.
        nodes : int
            The largest id that any part has; ids between that are not in use have no voxels.
        """
        if nodes == self.nodes:
            return self
        sizes = np.zeros(nodes + 1, np.int64)
        sizes[: len(self.sizes)] = self.sizes
        touched = {cut.fragment for cut in divided}
        kept = ~np.isin(self.edges, np.fromiter(touched, np.uint64, len(touched))).any(axis=1)
        spread = np.zeros(len(self.edges), np.float32) if self.spread is None else self.spread
        contacts: dict[tuple[int, int], tuple[float, float, float]] = {}
        for row in np.flatnonzero(~kept):
            u, v = self.edges[row].tolist()
            contacts[u, v] = (float(self.count[row]), float(self.mean[row]), float(spread[row]))
        for cut in divided:
            parts = (cut.fragment, *cut.parts)
            before = {sum(pair) - cut.fragment: value[2] for pair, value in contacts.items() if cut.fragment in pair}
            contacts = {pair: value for pair, value in contacts.items() if cut.fragment not in pair}
            for c in cut.contacts:  # what a part touches the whole did; the line itself nobody doubts
                contacts[c.u, c.v] = (c.count, c.mean, before.get(c.u if c.v in parts else c.v, 0.0))
            sizes[list(parts)] = cut.sizes
        pairs = np.array(list(contacts), np.uint64).reshape(-1, 2)
        values = np.array(list(contacts.values())).reshape(-1, 3)
        edges = np.concatenate([self.edges[kept], pairs])
        order = np.lexsort((edges[:, 1], edges[:, 0]))
        count = np.concatenate([self.count[kept], values[:, 0]])[order]
        mean, spread = (
            np.concatenate([old[kept], new.astype(np.float32)])[order]
            for old, new in ((self.mean, values[:, 1]), (spread, values[:, 2]))
        )
        return self._indexed(edges[order], count, mean, sizes, None if self.spread is None else spread)

    def contacts_of(self, fragment: int) -> list[tuple[int, float, float]]:
        """Return the neighbours of a fragment, each with the size of the contact and its mean affinity."""
        rows = np.flatnonzero((self.edges == np.uint64(fragment)).any(axis=1))
        return [(int(self.edges[row].sum()) - fragment, float(self.count[row]), float(self.mean[row])) for row in rows]


def _read_only(array: NDArray[Any]) -> NDArray[Any]:
    """Return a view that cannot be written to: Numba compiles once more for arrays that can."""
    view = array.view()
    view.setflags(write=False)
    return view


def fragments_key(segmentation: Segmentation) -> str:
    """Return what names the fragments of a segmentation: the hash of their voxels, or of shape and sizes.

    Segmentations from elsewhere have no hash of their voxels.
    """
    known = segmentation.spec.get("fragments_hash")
    if known:
        return str(known)
    digest = hashlib.blake2b(repr(tuple(segmentation.shape)).encode(), digest_size=16)
    digest.update(np.ascontiguousarray(segmentation.sizes).data)
    return digest.hexdigest()
