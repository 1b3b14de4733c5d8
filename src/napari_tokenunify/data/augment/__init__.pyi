from .apply import AugmentConfig as AugmentConfig
from .apply import augment as augment
from .perturb import PerturbConfig as PerturbConfig
from .perturb import perturb as perturb

__all__ = ["AugmentConfig", "PerturbConfig", "augment", "perturb"]
