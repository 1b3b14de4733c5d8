from . import scan as scan
from .bioimageio import export_bioimageio as export_bioimageio
from .card import ModelCard as ModelCard
from .checkpoint import load_checkpoint as load_checkpoint
from .checkpoint import save_checkpoint as save_checkpoint
from .installed import find_model as find_model
from .official import LoadReport as LoadReport
from .official import export_pth as export_pth
from .official import load_weights as load_weights
from .official import read_official as read_official
from .presets import NETWORK_PRESETS as NETWORK_PRESETS
from .presets import NetworkConfig as NetworkConfig
from .tokenunify import TokenUnify as TokenUnify
from .tokenunify import build_network as build_network

__all__ = [
    "NETWORK_PRESETS",
    "LoadReport",
    "ModelCard",
    "NetworkConfig",
    "TokenUnify",
    "build_network",
    "export_bioimageio",
    "export_pth",
    "find_model",
    "load_checkpoint",
    "load_weights",
    "read_official",
    "save_checkpoint",
    "scan",
]
