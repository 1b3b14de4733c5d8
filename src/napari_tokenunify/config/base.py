"""The base of all settings, and what several of them share."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator

from napari_tokenunify.geometry import Box, parse_voxel_size, parse_voxel_sizes


class Config(BaseModel):
    """Base of all settings: frozen, and a key it does not know is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    @field_validator("*")
    @classmethod
    def _is_at_home(cls, value: Any) -> Any:
        """Refuse `~name` of a user whom nobody knows: wherever the path is used, it would end in a traceback."""
        if isinstance(value, str) and value.startswith("~"):
            try:
                Path(value).expanduser()
            except RuntimeError:
                raise ValueError("there is no home folder of this name; write the whole path") from None
        return value

    def replace(self, **changes: Any) -> Self:
        """Return a copy with `changes`, validated again (pydantic's own copy is not)."""
        return type(self).model_validate({**self.model_dump(), **changes})


def what_is_wrong(error: ValidationError, flag: bool = False) -> str:
    """Return in one sentence what a Config did not accept; the first thing, if it is more than one.

    Parameters
    ----------
    error : ValidationError
        Of pydantic.
    flag : bool
        Whether to name the field as the command line does.
    """
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"]) or "a setting"
    if flag:
        names = [str(part) for part in first["loc"] if not isinstance(part, int)]  # of a list the list, not the place
        field = "--" + (names[-1] if names else field).replace("_", "-")
    if first["type"] == "missing":
        return f"{field} is missing."
    if first["type"] == "extra_forbidden":
        return f"there is no setting {field}."
    said = first["msg"].removeprefix("Value error, ").rstrip(".")
    return f"{field}: {said} (given: {first['input']!r})."


_PLACE = re.compile(r"\d+(,\d+,\d+)?")


def _is_voxel_size(text: str) -> str:
    parse_voxel_size(text)
    return text


def _are_voxel_sizes(text: str) -> str:
    parse_voxel_sizes(text)
    return text


def _is_box(text: str) -> str:
    Box.parse(text)
    return text


def _are_places(text: str) -> str:
    words = text.replace("/", " ").split()
    if not words or not all(_PLACE.fullmatch(word) for word in words):
        raise ValueError("a place is a voxel z,y,x or the id of a fragment; several are separated by spaces")
    return text


VoxelSizeText = Annotated[str, AfterValidator(_is_voxel_size)]
VoxelSizesText = Annotated[str, AfterValidator(_are_voxel_sizes)]
BoxText = Annotated[str, AfterValidator(_is_box)]
PlacesText = Annotated[str, AfterValidator(_are_places)]
Extent = tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]]
Margin = tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(ge=0)], Annotated[int, Field(ge=0)]]
