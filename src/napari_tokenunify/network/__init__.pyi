from . import scan as scan
from .presets import NETWORK_PRESETS as NETWORK_PRESETS
from .presets import NetworkConfig as NetworkConfig
from .tokenunify import TokenUnify as TokenUnify
from .tokenunify import build_network as build_network

__all__ = ["NETWORK_PRESETS", "NetworkConfig", "TokenUnify", "build_network", "scan"]
