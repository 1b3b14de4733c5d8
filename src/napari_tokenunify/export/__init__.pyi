from .affinity_files import Affinities as Affinities
from .content import Content as Content
from .content import Segments as Segments
from .export_segments import export as export
from .formats import AFFINITY_FORMATS as AFFINITY_FORMATS
from .formats import FORMATS as FORMATS
from .formats import write_export as write_export
from .meshes import Mesh as Mesh
from .meshes import segment_mesh as segment_mesh
from .pictures import save_pictures as save_pictures

__all__ = [
    "AFFINITY_FORMATS",
    "FORMATS",
    "Affinities",
    "Content",
    "Mesh",
    "Segments",
    "export",
    "save_pictures",
    "segment_mesh",
    "write_export",
]
