"""Files for others: labels and images as OME-Zarr, TIFF and HDF5, tables, pictures.

Read `formats.py`, the table, then `content.py`, what is written, and any of the formats: `ome_zarr.py`, `tiff.py`,
`hdf5.py`, `tables.py`. `export_segments.py` is the stage. Nothing here changes what it is given.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
