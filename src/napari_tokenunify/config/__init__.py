"""Config: the one place where a setting is named, limited and explained.

The command line's flags, the forms of the plugin and the saved YAML are all made from these models; `base.py` first.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
