"""Plots of what was simulated: a picture by matplotlib, or one HTML file that needs nothing else."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from airflow_dla.errors import InvalidSpec

_COLOURS: Final = ("#1f6feb", "#d1570c", "#2da44e", "#8250df", "#bf3989", "#57606a")
_WIDTH, _HEIGHT, _LEFT, _TOP, _BOTTOM = 860, 300, 70, 34, 44
_TICKS: Final = 5
_MOST_POINTS: Final = 2000


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a chart.

    Parameters
    ----------
    name : str
    points : sequence of (float, float)
        By x.
    """

    name: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Chart:
    """Lines over the same axes.

    Parameters
    ----------
    title, x, y : str
        What it shows; what the axes are, with their units.
    lines : tuple of `Line`
    steps : bool
        Whether a value holds until the next point.
    """

    title: str
    x: str
    y: str
    lines: tuple[Line, ...]
    steps: bool = False


def write_plot(path: str, charts: Sequence[Chart]) -> None:
    """Write charts, one below the other.

    Parameters
    ----------
    path : str
        Ends with ``.png`` or ``.html``.

    Raises
    ------
    InvalidSpec
        If it ends otherwise, or for a picture matplotlib is not installed.
    """
    suffix = Path(path).suffix.lower()
    if suffix == ".html":
        Path(path).write_text(_page(charts), encoding="utf-8")
    elif suffix == ".png":
        _draw(path, charts)
    else:
        raise InvalidSpec(f"--plot must name a file that ends with .png or .html, got {path!r}")


def _draw(path: str, charts: Sequence[Chart]) -> None:
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415 an extra, and slow to load
    except ImportError:
        raise InvalidSpec("a picture needs matplotlib: pip install 'airflow-dla[plot]', or name a file that ends with .html") from None
    figure = Figure(figsize=(9, 3.2 * len(charts)), layout="constrained")
    for place, chart in enumerate(charts, start=1):
        axes = figure.add_subplot(len(charts), 1, place)
        draw: Any = axes.step if chart.steps else axes.plot
        for line in chart.lines:
            points = _thinned(line.points)
            draw([x for x, _ in points], [y for _, y in points], label=line.name, **({"where": "post"} if chart.steps else {}))
        axes.set_title(chart.title)
        axes.set_xlabel(chart.x)
        axes.set_ylabel(chart.y)
        axes.set_ylim(bottom=0)
        axes.legend()
    figure.savefig(path, dpi=120)


def _page(charts: Sequence[Chart]) -> str:
    body = "\n".join(_svg(chart) for chart in charts)
    return (
        '<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>airflow dla simulate</title>\n'
        "<style>body{font:14px sans-serif;margin:24px;color:#24292f}svg{display:block;margin-bottom:24px;max-width:100%}</style>\n"
        f"{body}\n</html>\n"
    )


def _svg(chart: Chart) -> str:
    points = [point for line in chart.lines for point in line.points] or [(0.0, 0.0)]
    low, high = min(x for x, _ in points), max(x for x, _ in points)
    most = max(y for _, y in points)
    across, down = (_WIDTH - _LEFT - 20) / ((high - low) or 1.0), (_HEIGHT - _TOP - _BOTTOM) / (most or 1.0)

    def at(x: float, y: float) -> str:
        return f"{_LEFT + (x - low) * across:.1f},{_HEIGHT - _BOTTOM - y * down:.1f}"

    parts = [f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{html.escape(chart.title)}">']
    parts.append(f'<text x="{_LEFT}" y="18" font-weight="bold">{html.escape(chart.title)}</text>')
    for tick in range(_TICKS + 1):
        x, y = low + (high - low) * tick / _TICKS, most * tick / _TICKS
        right, bottom = at(x, 0.0), at(low, y)
        parts.append(_label(right, f"{x:.4g}", dy=18, anchor="middle") + _label(bottom, f"{y:.4g}", dx=-8, dy=4, anchor="end"))
        parts.append(f'<path d="M{bottom} H{_WIDTH - 20}" stroke="#d0d7de" fill="none"/>')
    parts.append(
        _label(at((low + high) / 2, 0.0), chart.x, dy=36, anchor="middle") + _label(at(low, most), chart.y, dy=-10, anchor="middle")
    )
    for place, line in enumerate(chart.lines):
        colour = _COLOURS[place % len(_COLOURS)]
        parts.append(f'<path d="{_path(line, at, steps=chart.steps)}" stroke="{colour}" stroke-width="1.6" fill="none"/>')
        parts.append(f'<text x="{_WIDTH - 24}" y="{18 + 16 * place}" text-anchor="end" fill="{colour}">{html.escape(line.name)}</text>')
    return "\n".join([*parts, "</svg>"])


def _label(where: str, text: str, *, dx: int = 0, dy: int = 0, anchor: str = "start") -> str:
    x, y = where.split(",")
    return f'<text x="{x}" y="{y}" dx="{dx}" dy="{dy}" font-size="11" text-anchor="{anchor}">{html.escape(text)}</text>'


def _path(line: Line, at: Any, *, steps: bool) -> str:
    drawn, before = [], 0.0
    for place, (x, y) in enumerate(_thinned(line.points)):
        if steps and place:
            drawn.append(f"L{at(x, before)}")
        drawn.append(f"{'L' if place else 'M'}{at(x, y)}")
        before = y
    return " ".join(drawn)


def _thinned(points: Sequence[tuple[float, float]]) -> Sequence[tuple[float, float]]:
    """Keep at most so many points that a browser draws them at once."""
    step = max(1, -(-len(points) // _MOST_POINTS))
    return points[::step]
