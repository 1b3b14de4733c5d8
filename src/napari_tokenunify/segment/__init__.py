"""From a network's affinities to segments: prediction, fragments, region graph, agglomeration; any size of volume.

Read in the order of the data: `prediction/` (volume to affinities), `affinity_store.py`; `fragments.py`,
`region_graph.py`, `merge_tree.py`, `agglomeration.py`, `tuning.py` (arrays and graphs in memory); `segment_volume.py`,
`block_work.py`, `stitch.py`, `settle.py`, `block_graph.py` and `blocks/` (the same, block by block); `segmentation.py`
(the result), `evaluation.py` (how good it is).
Public names load when first used, so importing this package costs nothing.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
