"""From a network's affinities to segments: prediction, fragments, region graph, agglomeration; any size of volume.

Read in the order of the data: `prediction.py` (volume to affinities), `fragments.py`, `region_graph.py`,
`merge_tree.py` and `agglomerate.py` (arrays and graphs in memory), `blocks.py` and `segment_volume.py` (the same, block
by block), `segmentation.py` (the result). Public names load when first used, so importing this package costs nothing.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
