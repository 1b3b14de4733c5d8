"""Sphinx configuration; a warning is an error (see tox.ini)."""

import sys
from pathlib import Path

from napari_tokenunify import __version__

project = "napari-tokenunify"
author = "The napari-tokenunify developers"
copyright = "2026, the napari-tokenunify developers"  # noqa: A001  Sphinx wants this name
release = __version__

sys.path.append(str(Path(__file__).parent))  # where stage_reference is
extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "stage_reference",
]
html_theme = "furo"
html_title = "napari-tokenunify"
exclude_patterns = ["_build"]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False
autodoc_typehints = "none"
autodoc_member_order = "bysource"
