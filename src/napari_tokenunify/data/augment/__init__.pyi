from .apply import AugmentConfig as AugmentConfig
from .apply import augment as augment
from .perturbation import PerturbConfig as PerturbConfig
from .perturbation import perturb as perturb

__all__ = ["AugmentConfig", "PerturbConfig", "augment", "perturb"]
