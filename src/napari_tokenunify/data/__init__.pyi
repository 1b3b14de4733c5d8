from .annotation_checks import AnnotationSummary as AnnotationSummary
from .annotation_checks import check_annotations as check_annotations
from .annotation_checks import summarise as summarise
from .annotations import Annotations as Annotations
from .annotations import open_annotations as open_annotations
from .crops import Crop as Crop
from .crops import CropSampler as CropSampler
from .drawn_labels import Pen as Pen
from .finding import Finding as Finding
from .fingerprint import data_hash as data_hash
from .intensity import IntensityRange as IntensityRange
from .intensity import choose_intensity as choose_intensity
from .intensity import intensity_range as intensity_range
from .labelled_zarr import create_labels as create_labels
from .prefetch import iterate as iterate
from .preflight import check_volume as check_volume
from .samples import SAMPLES as SAMPLES
from .samples import LoadedSample as LoadedSample
from .samples import Sample as Sample
from .samples import load_sample as load_sample
from .synthetic import SyntheticEM as SyntheticEM
from .synthetic import synthetic_em as synthetic_em
from .synthetic import write_sample as write_sample
from .volume import Volume as Volume
from .volume import list_datasets as list_datasets
from .volume import open_volume as open_volume

__all__ = [
    "SAMPLES",
    "AnnotationSummary",
    "Annotations",
    "Crop",
    "CropSampler",
    "Finding",
    "IntensityRange",
    "LoadedSample",
    "Pen",
    "Sample",
    "SyntheticEM",
    "Volume",
    "check_annotations",
    "check_volume",
    "choose_intensity",
    "create_labels",
    "data_hash",
    "intensity_range",
    "iterate",
    "list_datasets",
    "load_sample",
    "open_annotations",
    "open_volume",
    "summarise",
    "synthetic_em",
    "write_sample",
]
