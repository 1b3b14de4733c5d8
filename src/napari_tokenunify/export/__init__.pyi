from .pictures import save_pictures as save_pictures

__all__ = ["save_pictures"]
