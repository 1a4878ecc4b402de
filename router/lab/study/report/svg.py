"""Charts as SVG text: frames with axes, and marks. Colours are CSS classes of the page's theme.

Numbers are rounded to a tenth of a unit of the drawing: small files, the same bytes every time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from html import escape
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64] | Sequence[float]
Scale = Callable[[float], float]
# Of every drawing, and of a frame that leaves room for its ticks.
WIDTH: Final = 960.0
LEFT: Final = 64.0
INNER: Final = WIDTH - LEFT - 20.0


def number(value: float) -> str:
    """A coordinate."""
    return f"{value:.1f}".removesuffix(".0")


def linear(low: float, high: float) -> Scale:
    """0 at ``low``, 1 at ``high``."""
    span = high - low or 1.0
    return lambda value: (value - low) / span


def logarithmic(low: float, high: float) -> Scale:
    """Likewise, by the logarithm."""
    return lambda value: math.log(max(value, 1e-300) / low) / (math.log(high / low) or 1.0)


def nines(most: int) -> Scale:
    """A probability: 0 at 0, 1 at ``most`` nines."""
    return lambda p: min(-math.log10(max(1.0 - p, 1e-12)), float(most)) / most


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round values in [low, high], roughly ``about`` of them."""
    raw = (high - low) / max(1, about) or 1.0
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1.0, 2.0, 2.5, 5.0, 10.0) if m * power >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [step * at for at in range(first, math.floor(high / step + 1e-9) + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten in [low, high]."""
    found = []
    for power in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1):
        found += [m * 10.0**power for m in (1, 2, 5) if low <= m * 10.0**power <= high]
    return found


class Frame:
    """One chart, or one panel of it: an area with axes, in units of the drawing."""

    def __init__(
        self, left: float, top: float, width: float, height: float, x: Scale, y: Scale
    ) -> None:
        self.left, self.top, self.width, self.height = left, top, width, height
        self._x, self._y = x, y
        self.parts: list[str] = []

    def x(self, value: float) -> float:
        return self.left + self.width * self._x(value)

    def y(self, value: float) -> float:
        return self.top + self.height * (1.0 - self._y(value))

    def x_axis(self, marks: Iterable[tuple[float, str]], title: str = "") -> None:
        """Ticks below, with faint lines up."""
        bottom = self.top + self.height
        for value, text in marks:
            at = self.x(value)
            self.line((at, self.top), (at, bottom), "grid")
            self.text(at, bottom + 16, text, "tick middle")
        self.line((self.left, bottom), (self.left + self.width, bottom), "axis")
        if title:
            self.text(self.left + self.width / 2, bottom + 34, title, "label middle")

    def y_axis(self, marks: Iterable[tuple[float, str]], title: str = "") -> None:
        """Ticks at the left, with faint lines across; the title above."""
        for value, text in marks:
            at = self.y(value)
            self.line((self.left, at), (self.left + self.width, at), "grid")
            self.text(self.left - 8, at + 4, text, "tick end")
        if title:
            self.text(self.left, self.top - 10, title, "label")

    def line(self, start: tuple[float, float], end: tuple[float, float], style: str) -> None:
        """Straight, in units of the drawing."""
        (x1, y1), (x2, y2) = start, end
        self.parts.append(
            f'<line x1="{number(x1)}" y1="{number(y1)}" x2="{number(x2)}" y2="{number(y2)}" '
            f'class="{style}"/>'
        )

    def text(self, x: float, y: float, text: str, style: str) -> None:
        self.parts.append(
            f'<text x="{number(x)}" y="{number(y)}" class="{style}">{escape(text)}</text>'
        )

    def rect(
        self, x: float, y: float, width: float, height: float, style: str, tip: str = ""
    ) -> None:
        """Filled; ``tip`` is shown under the pointer."""
        title = f"<title>{escape(tip)}</title>" if tip else ""
        self.parts.append(
            f'<rect x="{number(x)}" y="{number(y)}" width="{number(max(0.0, width))}" '
            f'height="{number(height)}" class="{style}">{title}</rect>'
        )

    def curve(self, xs: Floats, ys: Floats, style: str, tip: str = "") -> None:
        """Straight from point to point."""
        points = [
            f"{number(self.x(float(x)))},{number(self.y(float(y)))}"
            for x, y in zip(xs, ys, strict=True)
            if math.isfinite(x) and math.isfinite(y)
        ]
        title = f"<title>{escape(tip)}</title>" if tip else ""
        self.parts.append(
            f'<polyline points="{" ".join(points)}" class="{style}">{title}</polyline>'
        )

    def steps(self, edges: Floats, ys: Floats, style: str, tip: str = "") -> None:
        """Level between edges; one more edge than values. Gaps where a value is NaN."""
        parts, drawing = [], False
        for left, right, y in zip(edges[:-1], edges[1:], ys, strict=True):
            if not math.isfinite(y):
                drawing = False
                continue
            at = number(self.y(float(y)))
            move = f"V{at}" if drawing else f"M{number(self.x(float(left)))} {at}"
            parts.append(f"{move}H{number(self.x(float(right)))}")
            drawing = True
        title = f"<title>{escape(tip)}</title>" if tip else ""
        self.parts.append(f'<path d="{"".join(parts)}" class="{style}">{title}</path>')

    def band(self, edges: Floats, low: Floats, high: Floats, style: str, tip: str = "") -> None:
        """Filled between two level lines."""
        there = [
            f"V{number(self.y(float(y)))}H{number(self.x(float(right)))}"
            for right, y in zip(edges[1:], high, strict=True)
        ]
        back = [
            f"V{number(self.y(float(y)))}H{number(self.x(float(left)))}"
            for left, y in reversed(list(zip(edges[:-1], low, strict=True)))
        ]
        start = f"M{number(self.x(float(edges[0])))} {number(self.y(float(low[0])))}"
        self.parts.append(
            f'<path d="{start}{"".join(there)}{"".join(back)}Z" class="{style}">'
            f"<title>{escape(tip)}</title></path>"
        )

    def mark(self, x: float, y: float, shape: int, style: str, tip: str = "") -> None:
        """A point at units of the drawing, in one of six shapes."""
        r = 6.0
        outlines = (
            [(x + r * math.cos(a), y + r * math.sin(a)) for a in np.linspace(0, math.tau, 20)],
            [(x - r, y - r), (x + r, y - r), (x + r, y + r), (x - r, y + r)],
            [(x, y - r * 1.2), (x + r * 1.1, y + r * 0.8), (x - r * 1.1, y + r * 0.8)],
            [(x, y - r * 1.3), (x + r * 1.3, y), (x, y + r * 1.3), (x - r * 1.3, y)],
            [(x, y + r * 1.2), (x + r * 1.1, y - r * 0.8), (x - r * 1.1, y - r * 0.8)],
            [(x - r, y - 2), (x + r, y - 2), (x + r, y + 2), (x - r, y + 2)],
        )
        points = " ".join(f"{number(a)},{number(b)}" for a, b in outlines[shape % len(outlines)])
        self.parts.append(
            f'<polygon points="{points}" class="{style}"><title>{escape(tip)}</title></polygon>'
        )


def drawing(height: float, frames: Iterable[Frame], label: str) -> str:
    """One SVG, as wide as the page. ``label``: what it shows, for those who cannot see it."""
    inner = "\n".join(part for frame in frames for part in frame.parts)
    return (
        f'<svg viewBox="0 0 {number(WIDTH)} {number(height)}" role="img" '
        f'aria-label="{escape(label, quote=True)}">\n{inner}\n</svg>'
    )
