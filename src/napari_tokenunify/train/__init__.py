"""Training: labels of which little is known in, a network that fits the data out.

Read `loop.py` first (the one training loop), then `finetuning.py` (the stage), `losses.py` and `parts.py` (what is
learned, and by which weights). Public names load when first used, so importing this package costs nothing.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
