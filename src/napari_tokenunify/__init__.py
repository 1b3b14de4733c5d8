"""Segment neurons in electron-microscopy volumes with a TokenUnify network, in napari or headless."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("napari-tokenunify")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0+unknown"
