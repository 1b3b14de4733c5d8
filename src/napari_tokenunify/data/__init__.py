"""Volumes and what is known of them: files in, lazy arrays, annotations and crops out.

Read `volume.py` first (what a Volume is), then `annotations.py` (sparse labels) and `crops.py` (what a
network is trained on). Public names load when first used, so importing this package costs nothing.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
