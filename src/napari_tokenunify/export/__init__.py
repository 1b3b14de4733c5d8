"""Files for others: voxels, meshes, skeletons and tables of segments, affinities, pictures.

Read `formats.py`, the table, then `content.py`, what is written, and any of the formats: `ome_zarr.py`, `n5.py`,
`precomputed.py`, `tiff.py`, `hdf5.py`, `mesh_files.py`, `skeleton_files.py`, `tables.py`, `contacts.py`; affinities
have their own `affinity_files.py`. `target.py` and `resume.py` see to it that what has a name is whole.
`export_segments.py` is the stage. Nothing here changes what it is given.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
