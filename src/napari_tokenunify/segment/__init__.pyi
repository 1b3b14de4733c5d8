from .affinity_store import AffinityStore as AffinityStore
from .affinity_store import open_affinities as open_affinities
from .affinity_store import write_affinities as write_affinities
from .agglomeration import METHODS as METHODS
from .agglomeration import Agglomeration as Agglomeration
from .agglomeration import agglomerate as agglomerate
from .annotation_places import SuggestedPlace as SuggestedPlace
from .annotation_places import Suggestions as Suggestions
from .annotation_places import suggest_places as suggest_places
from .crop_scores import crop_scores as crop_scores
from .evaluation import evaluate as evaluate
from .imported import import_segments as import_segments
from .merge_tree import MergeTree as MergeTree
from .neuron_scores import NeuronScore as NeuronScore
from .neuron_scores import Piece as Piece
from .neuron_scores import worst_neurons as worst_neurons
from .prediction.predict import predict as predict
from .prediction.tile_run import Prediction as Prediction
from .prediction.tile_run import predict_volume as predict_volume
from .region_graph import RegionGraph as RegionGraph
from .run_length import expected_run_length as expected_run_length
from .segment_volume import segment as segment
from .segmentation import Segmentation as Segmentation
from .tuning import Tuning as Tuning
from .tuning import tune as tune
from .tuning import tune_segmentation as tune_segmentation

__all__ = [
    "METHODS",
    "AffinityStore",
    "Agglomeration",
    "MergeTree",
    "NeuronScore",
    "Piece",
    "Prediction",
    "RegionGraph",
    "Segmentation",
    "SuggestedPlace",
    "Suggestions",
    "Tuning",
    "agglomerate",
    "crop_scores",
    "evaluate",
    "expected_run_length",
    "open_affinities",
    "predict",
    "predict_volume",
    "segment",
    "suggest_places",
    "tune",
    "tune_segmentation",
    "worst_neurons",
    "write_affinities",
]
