from .affinity_store import AffinityStore as AffinityStore
from .affinity_store import open_affinities as open_affinities
from .affinity_store import write_affinities as write_affinities
from .agglomerate import METHODS as METHODS
from .agglomerate import Agglomeration as Agglomeration
from .evaluation import evaluate as evaluate
from .merge_tree import MergeTree as MergeTree
from .neuron_scores import NeuronScore as NeuronScore
from .neuron_scores import Piece as Piece
from .neuron_scores import worst_neurons as worst_neurons
from .prediction import predict as predict
from .region_graph import RegionGraph as RegionGraph
from .run_length import expected_run_length as expected_run_length
from .segment_volume import segment as segment
from .segmentation import Segmentation as Segmentation
from .tile_run import Prediction as Prediction
from .tile_run import predict_volume as predict_volume
from .tune import Tuning as Tuning

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
    "Tuning",
    "evaluate",
    "expected_run_length",
    "open_affinities",
    "predict",
    "predict_volume",
    "segment",
    "worst_neurons",
    "write_affinities",
]
