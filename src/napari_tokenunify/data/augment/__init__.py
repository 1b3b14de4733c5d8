"""Changed copies of a training crop: what another specimen, knife or microscope might have shown.

Read `apply.py` first (the settings, and the fixed order), then `geometric.py` (image and labels together) and
`intensity.py` (grey values). `perturbation.py` holds what TokenUnify's pre-training does to its crops.
All are plain functions from arrays to arrays; the random generator is passed in, and no input is ever changed.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
