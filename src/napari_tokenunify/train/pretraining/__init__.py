"""Pre-training: a network that has seen no label learns to predict what was hidden of its input.

Read `recipes.py` first (what is predicted, and when), then `objectives.py` (how the question is put), `heads.py` (what
answers) and `pretraining.py` (the stage). Public names load when first used, so importing this package costs nothing.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
