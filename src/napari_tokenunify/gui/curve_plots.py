"""Curves of a job: losses and scores; of a pre-training the loss of each objective, and below how much each counts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import pyqtgraph as pg
from qtpy.QtCore import Qt
from qtpy.QtGui import QPalette
from qtpy.QtWidgets import QLabel, QVBoxLayout, QWidget

if TYPE_CHECKING:
    from collections.abc import Mapping

_BLUE, _ORANGE, _GREEN = "#3f86d6", "#d97a1f", "#2e9e73"  # read well on light and dark
OBJECTIVES: Final = {"random": "random token", "next": "next token", "next_all": "next-all"}
"""What pre-training predicts, as metrics name it and as people do."""
_COLOURS: Final = dict(zip(OBJECTIVES, (_BLUE, _ORANGE, _GREEN), strict=True))


class _Look(NamedTuple):
    """How a curve is drawn; without a legend it is explained by another one of its colour."""

    colour: str
    legend: str | None = None
    dashed: bool = False


_TRAINING: Final = {
    "loss": _Look(_BLUE, "loss"),
    "validation_loss": _Look(_ORANGE, "validation loss"),
    "voi": _Look(_GREEN, "voi"),
}
_LOSSES: Final = {f"loss_{name}": _Look(_COLOURS[name], legend) for name, legend in OBJECTIVES.items()} | {
    f"validation_{name}": _Look(_COLOURS[name], dashed=True) for name in OBJECTIVES
}
_WEIGHTS: Final = {f"weight_{name}": _Look(_COLOURS[name]) for name in OBJECTIVES}
_DASHED: Final = "dashed: held out"
_SEVERAL: Final = "The loss of each objective: solid on what is learnt from, dashed on the sections held out."
_TALL: Final = 120  # pixels
_LOW: Final = 64
_NUMBERS: Final = 40  # beside the curves


class CurvePlots(QWidget):
    """One plot, or two for a pre-training; `lines` holds the curves by the names of their metrics."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: dict[str, pg.PlotDataItem] = {}
        self.legend, self.top, self.weights = QLabel(), _plot(_TALL), _plot(_LOW)
        self.legend.setWordWrap(True)
        self.weights.setYRange(0, 1)
        self.weights.setXLink(self.top)
        self.weights.getAxis("left").setTicks([[(0, "0"), (0.5, "0.5"), (1, "1")]])
        self.top.setLabel("bottom", "step")
        self.weights.setToolTip("How much each objective counts; the recipe says it.")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.legend)
        layout.addWidget(self.top, 2)
        layout.addWidget(self.weights, 1)
        self.draw({})

    def draw(self, measured: Mapping[str, Mapping[int, float]]) -> None:
        """Draw what was measured.

        Parameters
        ----------
        measured : mapping
            For each name of a metric its value at each step.
        """
        self._take_ink()
        several = any(name in measured for name in _LOSSES)
        wanted = {self.top: _LOSSES if several else _TRAINING, self.weights: _WEIGHTS}
        shown = {name for looks in wanted.values() for name in looks} & measured.keys()
        for name in [name for name in self.lines if name not in shown]:
            line = self.lines.pop(name)
            (self.weights if name in _WEIGHTS else self.top).removeItem(line)
        for plot, looks in wanted.items():
            for name in [name for name in looks if name in measured]:
                if name not in self.lines:
                    self.lines[name] = plot.plot(pen=_pen(looks[name]))
                steps = sorted(measured[name])
                self.lines[name].setData(steps, [measured[name][step] for step in steps])
        looks = wanted[self.top]
        told = [_told(looks[name]) for name in looks if name in self.lines and looks[name].legend]
        self.legend.setText("&ensp; ".join([*told, *([_DASHED] if several else [])]))
        self.top.setToolTip(_SEVERAL if several else "")
        self.weights.setVisible(any(name in measured for name in _WEIGHTS))
        self.top.showAxis("bottom", not self.weights.isVisibleTo(self))
        self.setVisible(bool(self.lines))

    def _take_ink(self) -> None:
        """Follow the theme."""
        ink = self.palette().color(QPalette.ColorRole.WindowText)
        for plot in (self.top, self.weights):
            for axis in ("left", "bottom"):
                plot.getAxis(axis).setPen(ink)
                plot.getAxis(axis).setTextPen(ink)


def _plot(height: int) -> pg.PlotWidget:
    plot = pg.PlotWidget(background=None)
    plot.setMinimumHeight(height)
    plot.setMouseEnabled(x=False, y=False)
    plot.setMenuEnabled(False)
    for axis in ("left", "bottom"):
        plot.getAxis(axis).enableAutoSIPrefix(False)
    plot.getAxis("left").setWidth(_NUMBERS)
    return plot


def _told(look: _Look) -> str:
    """Explain a curve, as rich text."""
    return f'<span style="color: {look.colour}">&#9473;</span>&nbsp;{(look.legend or "").replace(" ", "&nbsp;")}'


def _pen(look: _Look) -> pg.mkPen:
    style = Qt.PenStyle.DashLine if look.dashed else Qt.PenStyle.SolidLine
    return pg.mkPen(look.colour, width=2, style=style)
