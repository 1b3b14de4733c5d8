from napari_tokenunify.data.volume import Volume as Volume
from napari_tokenunify.data.volume import list_datasets as list_datasets
from napari_tokenunify.data.volume import open_volume as open_volume

__all__ = ["Volume", "list_datasets", "open_volume"]
