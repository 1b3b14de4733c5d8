from .pretraining import pretrain as pretrain
from .recipes import Recipe as Recipe
from .recipes import load_recipe as load_recipe
from .recipes import recipe_names as recipe_names
from .reconstructions import Reconstruction as Reconstruction
from .reconstructions import read_reconstructions as read_reconstructions
from .tokens import TokenGrid as TokenGrid

__all__ = [
    "Recipe",
    "Reconstruction",
    "TokenGrid",
    "load_recipe",
    "pretrain",
    "read_reconstructions",
    "recipe_names",
]
