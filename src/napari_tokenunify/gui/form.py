"""Form: widgets made from the fields of a Config, and a Config made from what they say."""

from __future__ import annotations

import types
from typing import TYPE_CHECKING, Any, Final, Literal, Union, get_args, get_origin

import annotated_types
from magicgui.widgets import CheckBox, ComboBox, Container, FloatSpinBox, LineEdit, SpinBox
from magicgui.widgets.bases import ValueWidget
from pydantic import ValidationError

from napari_tokenunify.config import what_is_wrong
from napari_tokenunify.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pydantic.fields import FieldInfo

    from napari_tokenunify.config import Config


_AUTOMATIC: Final = "automatic"


class Form(Container[ValueWidget[Any]]):
    """A widget for each field, with the field's description as its tooltip.

    A field that may be None is a line of text: empty means None, "automatic".

    Parameters
    ----------
    kind : type of Config
        Whose fields.
    names : sequence of str
        Which of them, in order.
    """

    def __init__(self, kind: type[Config], names: Sequence[str]) -> None:
        self.kind, self.names = kind, tuple(names)
        super().__init__(widgets=[_widget(name, kind.model_fields[name]) for name in names], labels=True)

    def values(self) -> dict[str, Any]:
        """Return what the widgets say, by field."""
        return {name: _read(self[name], self.kind.model_fields[name]) for name in self.names}

    def fill(self, config: Config) -> None:
        """Let the widgets say what a Config says."""
        for name in self.names:
            self[name].value = _shown(getattr(config, name), self.kind.model_fields[name])

    def config(self, **others: Any) -> Config:
        """Return the Config of the widgets and the other fields.

        Raises
        ------
        ConfigError
            With a sentence that names the field.
        """
        try:
            return self.kind(**{**self.values(), **others})
        except ValidationError as error:
            raise ConfigError(what_is_wrong(error)) from error


def _widget(name: str, field: FieldInfo) -> ValueWidget[Any]:
    """Return the widget that suits a field's type."""
    common: dict[str, Any] = {"name": name, "label": name.replace("_", " "), "tooltip": field.description or ""}
    annotation = field.annotation
    shown = _shown(field.default, field)
    if words := _words(annotation):
        choices = [_AUTOMATIC, *words] if _may_be_none(annotation) else list(words)
        return ComboBox(choices=choices, value=shown, **common)
    if _may_be_none(annotation):
        widget = LineEdit(value=shown, **common)
        widget.native.setPlaceholderText(_AUTOMATIC)
        return widget
    if annotation is bool:
        return CheckBox(value=shown, text="", **common)
    if annotation is int:
        return SpinBox(value=shown, **_limits(field, 0, 2**31 - 1), **common)
    if annotation is float:
        limits = _limits(field, 0.0, 1e9)
        return FloatSpinBox(value=shown, step=0.05 if limits["max"] <= 1 else 1.0, **limits, **common)
    return LineEdit(value=shown, **common)


def _limits(field: FieldInfo, least: float, most: float) -> dict[str, Any]:
    """Return the field's smallest and largest value; where a limit itself is not allowed, the Config says so."""
    for mark in field.metadata:
        if isinstance(mark, annotated_types.Ge | annotated_types.Gt):
            least = mark.ge if isinstance(mark, annotated_types.Ge) else mark.gt  # type: ignore[assignment]
        elif isinstance(mark, annotated_types.Le | annotated_types.Lt):
            most = mark.le if isinstance(mark, annotated_types.Le) else mark.lt  # type: ignore[assignment]
    return {"min": least, "max": most}


def _may_be_none(annotation: Any) -> bool:
    return get_origin(annotation) in {Union, types.UnionType} and type(None) in get_args(annotation)


def _words(annotation: Any) -> tuple[str, ...]:
    """Return what a field that takes one of several words takes, besides None; nothing if it is another field."""
    kinds = get_args(annotation) if _may_be_none(annotation) else (annotation,)
    return next((get_args(kind) for kind in kinds if get_origin(kind) is Literal), ())


def _is_text(annotation: Any) -> bool:
    """Whether what may be None is text otherwise, with or without a check."""
    return any(kind is str or (get_args(kind) or (None,))[0] is str for kind in get_args(annotation))


def _shown(value: Any, field: FieldInfo) -> Any:
    if _words(field.annotation):
        return _AUTOMATIC if value is None else value
    if _may_be_none(field.annotation) or isinstance(value, tuple):
        return "" if value is None else ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
    return value


def _read(widget: ValueWidget[Any], field: FieldInfo) -> Any:
    value = widget.value
    if _words(field.annotation):
        return None if value == _AUTOMATIC else value
    if not isinstance(value, str) or field.annotation is str:
        return value
    text = value.strip()
    if _may_be_none(field.annotation) and not text:
        return None
    if _may_be_none(field.annotation) and _is_text(field.annotation):
        return text
    return tuple(part.strip() for part in text.split(",")) if "," in text else text
