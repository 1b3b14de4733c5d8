"""Proofreading: edits on the graph of fragments, without limit of undo; voxels are never rewritten.

Read `edits.py`, what an edit is, and `history.py`, where edits are kept; then `constraints.py`, what edits demand
together, and `correction.py`, the segments that obey them. `split.py` finds where to cut, `planning.py` turns what a
user points at into an edit, and `proofreading.py` ties all together. `edited.py` is a segmentation as it was edited.
Public names load when first used, so importing this package costs nothing.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
