"""Curves as SVG: small pictures for a summary, readable on light and dark ground, without a plotting library."""

from __future__ import annotations

import math
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

Point = tuple[float, float]

# Both are read well on white and on black: so no picture needs to know what is behind it.
_GREY: Final = "#808080"
_COLOURS: Final = ("#3f86d6", "#d97a1f", "#2e9e73")

_WIDTH, _HEIGHT = 720, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 78, 22, 40, 50
_FEW_POINTS: Final = 40  # up to which each is marked
_MOST_POINTS: Final = 400  # of a line; with more, neighbours are averaged


@dataclass(frozen=True)
class Line:
    """One curve.

    Attributes
    ----------
    name : str
        For the legend.
    points : sequence of (float, float)
        Step and value, ascending; what is not finite is left out.
    names : sequence of str
        What stands beside each point; none by default.
    """

    name: str
    points: Sequence[Point]
    names: Sequence[str] = ()


def curve_svg(
    title: str,
    lines: Sequence[Line],
    *,
    log: bool = False,
    mark: float | None = None,
    against: str | None = None,
) -> str:
    """Draw one to three curves over the steps of a training, or over something else.

    Parameters
    ----------
    title : str
        Stands above.
    lines : sequence of Line
        At least one with a point.
    log : bool
        Logarithmic values, if all are positive.
    mark : float, optional
        A step to mark with a dashed line, the best one.
    against : str, optional
        What the curves are drawn over instead of steps, on a logarithmic axis if its numbers are far apart.

    Returns
    -------
    str
        An SVG document of 720 x 300 pixels on a transparent ground.
    """
    shown = [_finite(line) for line in lines]
    steps = [step for line in shown for step, _ in line.points]
    values = [value for line in shown for _, value in line.points]
    across = _Axis.logarithmic(min(steps), max(steps)) if against and min(steps) > 0 else None
    across = across or _Axis.linear(min(steps), max(steps), 8)
    up = _Axis.logarithmic(min(values), max(values)) if log and min(values) > 0 else None
    up = up or _Axis.linear(min(values), max(values), 5)
    plot = _Plot(across, up)
    body = [*plot.axes(title, against or "step"), *plot.marked(mark)]
    for number, line in enumerate(shown):
        body += plot.curve(line, _COLOURS[number % len(_COLOURS)])
    body += _legend(shown)
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" '
        f'height="{_HEIGHT}" font-family="sans-serif" font-size="12" role="img">'
    )
    return "\n".join([head, f"<title>{escape(title)}</title>", *body, "</svg>", ""])


@dataclass(frozen=True)
class _Axis:
    """From values to 0..1, with ticks."""

    low: float
    high: float
    ticks: tuple[float, ...]
    log: bool = False

    @classmethod
    def linear(cls, low: float, high: float, most: int) -> _Axis:
        if high <= low:
            low, high = low - 0.5 * abs(low or 1), high + 0.5 * abs(high or 1)
        step = _round_step((high - low) / most)
        first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
        return cls(first * step, last * step, tuple(number * step for number in range(first, last + 1)))

    @classmethod
    def logarithmic(cls, low: float, high: float) -> _Axis | None:
        """Return None where the values lie so close together that a linear axis shows them better."""
        if high < 3 * low:
            return None
        first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
        every = -(-(last - first) // 6)
        within = (1, 2, 5) if last - first <= 2 else (1,)
        powers = range(first, last + every, every)
        ticks = [factor * 10.0**power for power in powers for factor in within]
        below = max(tick for tick in ticks if tick <= low * (1 + 1e-9))
        above = min(tick for tick in ticks if tick >= high * (1 - 1e-9))
        return cls(below, above, tuple(tick for tick in ticks if below <= tick <= above), log=True)

    def place(self, value: float) -> float:
        """Return where a value lies, 0 at the low end and 1 at the high one."""
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)


@dataclass(frozen=True)
class _Plot:
    across: _Axis
    up: _Axis

    def x(self, step: float) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * self.across.place(step)

    def y(self, value: float) -> float:
        return _HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * self.up.place(value)

    def axes(self, title: str, against: str) -> list[str]:
        """Return title, grid, ticks and their numbers."""
        left, right, floor = _LEFT, _WIDTH - _RIGHT, _HEIGHT - _BOTTOM
        parts = [
            f'<g fill="{_GREY}">',
            f'<text x="{left}" y="20" font-size="14" font-weight="bold">{escape(title)}</text>',
            f'<text x="{(left + right) / 2:.0f}" y="{_HEIGHT - 12}" text-anchor="middle">{escape(against)}</text>',
        ]
        lines = []
        for value in self.up.ticks:
            y = self.y(value)
            parts.append(f'<text x="{left - 8}" y="{y + 4:.1f}" text-anchor="end">{_number(value)}</text>')
            lines.append(f'<path d="M{left} {y:.1f}H{right}" stroke-opacity="0.3"/>')
        for step in self.across.ticks:
            x = self.x(step)
            parts.append(f'<text x="{x:.1f}" y="{floor + 18}" text-anchor="middle">{_number(step)}</text>')
            lines.append(f'<path d="M{x:.1f} {floor}v5"/>')
        lines.append(f'<path d="M{left} {_TOP}V{floor}H{right}"/>')
        return [*parts, "</g>", f'<g stroke="{_GREY}" fill="none">', *lines, "</g>"]

    def marked(self, step: float | None) -> list[str]:
        if step is None or not self.across.low <= step <= self.across.high:
            return []
        x = self.x(step)
        anchor, beside = ("start", x + 5) if x < _WIDTH - 120 else ("end", x - 5)
        y = _HEIGHT - _BOTTOM - 8
        return [
            f'<path d="M{x:.1f} {_TOP}V{_HEIGHT - _BOTTOM}" stroke="{_GREY}" stroke-dasharray="5 4"/>',
            f'<text x="{beside:.1f}" y="{y}" text-anchor="{anchor}" fill="{_GREY}">best</text>',
        ]

    def curve(self, line: Line, colour: str) -> list[str]:
        places = [f"{self.x(step):.1f},{self.y(value):.1f}" for step, value in line.points]
        parts = [
            f'<polyline points="{" ".join(places)}" fill="none" stroke="{colour}" stroke-width="2" '
            'stroke-linejoin="round" stroke-linecap="round"/>'
        ]
        if len(places) <= _FEW_POINTS:
            parts += [f'<circle cx="{p.split(",")[0]}" cy="{p.split(",")[1]}" r="3" fill="{colour}"/>' for p in places]
        for (step, value), name in zip(line.points, line.names, strict=False):
            above, anchor = self.y(value) - 8, "end" if self.x(step) > _WIDTH - 60 else "start"
            parts.append(
                f'<text x="{self.x(step):.1f}" y="{above:.1f}" text-anchor="{anchor}" fill="{_GREY}">'
                f"{escape(name)}</text>"
            )
        return parts


def _legend(lines: Sequence[Line]) -> list[str]:
    """Return names with a dash of their colour, at the upper right; a single line has its name in the title."""
    if len(lines) < 2:
        return []
    parts, x = [], float(_WIDTH - _RIGHT)
    for number, line in reversed(list(enumerate(lines))):
        x -= 7.0 * len(line.name)
        colour = _COLOURS[number % len(_COLOURS)]
        parts.append(f'<text x="{x:.0f}" y="20" fill="{_GREY}">{escape(line.name)}</text>')
        parts.append(f'<path d="M{x - 26:.0f} 16h20" stroke="{colour}" stroke-width="3"/>')
        x -= 44
    return parts


def _finite(line: Line) -> Line:
    """Leave out what is not finite, and what is too much to be seen."""
    kept = [number for number, (_, value) in enumerate(line.points) if math.isfinite(value)]
    names = [line.names[number] for number in kept] if line.names else []
    return Line(line.name, _thinned([line.points[number] for number in kept]), names)


def _thinned(points: Sequence[Point]) -> list[Point]:
    """Average neighbours until few enough are left; the last point stays where it is."""
    size = -(-len(points) // _MOST_POINTS)
    if size <= 1:
        return list(points)
    groups = [points[start : start + size] for start in range(0, len(points), size)]
    return [(group[-1][0], sum(value for _, value in group) / len(group)) for group in groups]


def _round_step(raw: float) -> float:
    """Return the smallest of 1, 2 and 5 times a power of ten that is at least `raw`."""
    power = 10.0 ** math.floor(math.log10(raw))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * (1 - 1e-9))


def _number(value: float) -> str:
    """Return `12,000`, `0.25` or `1e-05`."""
    value = round(value, 12)
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.6g}"
