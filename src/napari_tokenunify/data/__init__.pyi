from .volume import Volume as Volume
from .volume import list_datasets as list_datasets
from .volume import open_volume as open_volume

__all__ = ["Volume", "list_datasets", "open_volume"]
