from .ema import MovingAverage as MovingAverage
from .finetuning import finetune as finetune
from .holdout import HoldOut as HoldOut
from .holdout import hold_out as hold_out
from .losses import LossKind as LossKind
from .losses import affinity_loss as affinity_loss
from .parts import Parts as Parts
from .parts import choose_parts as choose_parts
from .parts import describe as describe
from .parts import merge_adapters as merge_adapters
from .parts import network_state as network_state
from .pretraining.pretraining import pretrain as pretrain
from .scores import AffinityScores as AffinityScores
from .summary import write_summary as write_summary

__all__ = [
    "AffinityScores",
    "HoldOut",
    "LossKind",
    "MovingAverage",
    "Parts",
    "affinity_loss",
    "choose_parts",
    "describe",
    "finetune",
    "hold_out",
    "merge_adapters",
    "network_state",
    "pretrain",
    "write_summary",
]
