"""Config: the one place where a setting is named, limited and explained.

The command line's flags, the forms of the plugin and the saved YAML are all made from these models.
"""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, ConfigDict

from napari_tokenunify.geometry import Box, parse_voxel_size


class Config(BaseModel):
    """Base of all settings: frozen, and a key it does not know is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    def replace(self, **changes: Any) -> Self:
        """Return a copy with `changes`, validated again (pydantic's own copy is not)."""
        return type(self).model_validate({**self.model_dump(), **changes})


def _is_voxel_size(text: str) -> str:
    parse_voxel_size(text)
    return text


def _is_box(text: str) -> str:
    Box.parse(text)
    return text


VoxelSizeText = Annotated[str, AfterValidator(_is_voxel_size)]
BoxText = Annotated[str, AfterValidator(_is_box)]
