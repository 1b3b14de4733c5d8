"""The TokenUnify network: its Config and presets, the module itself, and its weights on disk.

Read `presets.py` first (what can be chosen), then `tokenunify.py` (the network), `mamba.py` and `scan/` (what mixes
tokens). Public names load when first used, so importing this package costs nothing.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
