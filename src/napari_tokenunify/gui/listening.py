"""Listening to a Session: its signals outlive the widgets, and must not reach one that Qt has deleted."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any
from weakref import WeakMethod

from qtpy.compat import isalive

if TYPE_CHECKING:
    from collections.abc import Callable

    from psygnal import SignalInstance


def listen(signal: SignalInstance, method: Callable[..., Any]) -> None:
    """Connect a psygnal signal to a method of a widget, as long as the widget is there.

    Parameters
    ----------
    signal : psygnal.SignalInstance
        What to listen to.
    method : bound method of a QObject
        What to call, with as many of the signal's values as it takes. Neither it nor its widget is kept alive by this.
    """
    held, taken = WeakMethod(method), len(inspect.signature(method).parameters)

    def pass_on(*values: Any) -> None:
        known = held()
        if known is not None and isalive(known.__self__):  # type: ignore[attr-defined]
            known(*values[:taken])

    signal.connect(pass_on)
