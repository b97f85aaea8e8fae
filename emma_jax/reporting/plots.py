"""The figures of a report, drawn as inline SVG: they scale, need no fonts, and follow the light or dark page.

Owns marks, axes and ticks. Colours are the classes `c0`, `c1`, ... of the page, one for each series. Text in figures is
codes and numbers only, which every machine can draw.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from emma_jax.reporting.markup import Markup, join, tag

POINTS_PER_LINE = 400
LANE, GAP = 7, 6  # height in pixels of a series in a dot plot, and between its rows


class Span(NamedTuple):
    """What a dot plot shows of one series in one row: from a hollow dot to a full one, and a tick between them."""

    start: float
    end: float
    tick: float | None = None


class Point(NamedTuple):
    """A dot of a scatter plot; `name` shows when one points at it."""

    x: float
    y: float
    name: str


class Scale(NamedTuple):
    """A map from values between `low` and `high` to pixels between `start` and `end`."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """The pixel of a value."""
        low, high, value = (math.log10(v) if self.log else v for v in (self.low, self.high, value))
        return self.start + (value - low) / ((high - low) or 1.0) * (self.end - self.start)

    def ticks(self) -> list[float]:
        """Round values within the scale: about five, or the powers of ten."""
        if self.log:
            first, last = math.ceil(math.log10(self.low)), math.floor(math.log10(self.high))
            if first < last:
                return [10.0**power for power in range(first, last + 1)]
        return round_values(self.low, self.high)


def round_values(low: float, high: float, count: int = 5) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten between `low` and `high`, about `count` of them.

    >>> round_values(0.0, 4.3), round_values(-0.07, 0.21)
    ([0.0, 1.0, 2.0, 3.0, 4.0], [-0.05, 0.0, 0.05, 0.1, 0.15, 0.2])
    """
    rough = (high - low) / count or 1.0
    power = 10.0 ** math.floor(math.log10(rough))
    step = power * min((factor for factor in (1, 2, 5, 10)), key=lambda factor: abs(factor * power - rough))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(number * step, 10) for number in range(first, last + 1)]


def thin(points: Sequence[tuple[float, float]], most: int) -> list[tuple[float, float]]:
    """At most `most` points: means of neighbours, so that a long line stays true and small.

    >>> thin([(1, 4.0), (2, 2.0), (3, 1.0)], most=2)
    [(1.5, 3.0), (3.0, 1.0)]
    """
    size = math.ceil(len(points) / most) or 1
    groups = [points[at : at + size] for at in range(0, len(points), size)]
    return [(sum(x for x, _ in group) / len(group), sum(y for _, y in group) / len(group)) for group in groups]


def dot_plot(rows: Mapping[str, Sequence[Span | None]], series: Sequence[str], label: str) -> Markup:
    """A row for each key, with one lane for each of `series`; None leaves a lane empty."""
    width, left, top = 540, 84, 34
    pitch = LANE * len(series) + GAP
    bottom = top + pitch * len(rows)
    edges = [value for spans in rows.values() for span in spans if span for value in span if value is not None]
    margin = 0.03 * (max(edges) - min(edges))
    scale = Scale(min(edges) - margin, max(edges) + margin, left, width - 10)
    parts = [_line(scale(at), top, scale(at), bottom, "grid") for at in scale.ticks()]
    for at in scale.ticks():
        parts += [_text(scale(at), y, f"{at:g}", "middle") for y in (top - 8, bottom + 16)]
    parts.append(_text((left + width) / 2, 12, label, "middle"))
    for number, (name, spans) in enumerate(rows.items()):
        middle = top + pitch * (number + 0.5)
        if number % 2:
            parts.append(tag("rect", x=0, y=middle - pitch / 2, width=width, height=pitch, class_="band"))
        parts.append(_text(left - 8, middle + 4, name, "end", "code"))
        for lane, span in enumerate(spans):
            if span:
                y = middle + LANE * (lane - (len(series) - 1) / 2)
                parts.append(_span(scale, y, span, f"{name} {series[lane]}", f"c{lane}"))
    return _svg(width, bottom + 26, parts)


def line_plot(lines: Mapping[str, Sequence[tuple[float, float]]], colors: Mapping[str, int], labels) -> Markup:
    """Lines by name over a common pair of axes; `labels` are of the x and the y axis."""
    everything = [point for line in lines.values() for point in line]
    x, y = _scales([p[0] for p in everything], [p[1] for p in everything])
    parts = _axes(x, y, labels)
    for name, line in lines.items():
        path = " ".join(f"{x(a):.1f},{y(b):.1f}" for a, b in thin(line, POINTS_PER_LINE))
        parts.append(tag("polyline", tag("title", name), points=path, class_=f"line c{colors[name]}"))
    return _svg(x.end + 12, y.start + 40, parts)


def scatter_plot(
    points: Mapping[str, Sequence[Point]], colors: Mapping[str, int], labels, log_x: bool, log_y: bool = False
) -> Markup:
    """Dots by series over a common pair of axes.

    Where y is not logarithmic there is a line at 0, and a few dots that are far off are drawn at the edge.
    """
    everything = [point for group in points.values() for point in group]
    ys = [p.y for p in everything]
    x, y = _scales([p.x for p in everything], ys if log_y else [*_without_far_off(ys), 0.0], log_x, log_y)
    parts = _axes(x, y, labels)
    if not log_y:
        parts.append(_line(x.start, y(0.0), x.end, y(0.0), "zero"))
    for name, group in points.items():
        for point in group:
            title = tag("title", f"{point.name} {name}: {point.y:.3g}")
            height = y(min(max(point.y, y.low), y.high))
            parts.append(tag("circle", title, cx=x(point.x), cy=height, r=3.5, class_=f"dot c{colors[name]}"))
    return _svg(x.end + 12, y.start + 40, parts)


def _without_far_off(values: Sequence[float]) -> list[float]:
    """The sorted values without the lowest and the highest fiftieth, which would press the others together.

    >>> kept = _without_far_off([1000.0, -33.0, *range(98)])
    >>> kept[0], kept[-1], _without_far_off([3.0, -1.0])
    (1, 96, [-1.0, 3.0])
    """
    cut = len(values) // 50
    return sorted(values)[cut : len(values) - cut]


def _scales(xs: Sequence[float], ys: Sequence[float], log_x: bool = False, log_y: bool = False) -> tuple[Scale, Scale]:
    low, high = min(ys), max(ys)
    margin = 0.04 * ((high - low) or abs(high) or 1.0)
    edges = (min(xs) / 1.3, max(xs) * 1.3) if log_x else (min(xs), max(xs))
    heights = (low / 1.3, high * 1.3) if log_y else (low - margin, high + margin)
    return Scale(*edges, 62.0, 528.0, log_x), Scale(*heights, 280.0, 12.0, log_y)


def _axes(x: Scale, y: Scale, labels: tuple[str, str]) -> list[Markup]:
    parts = []
    for at in x.ticks():
        parts += [_line(x(at), y.end, x(at), y.start, "grid"), _text(x(at), y.start + 16, _short(at), "middle")]
    for at in y.ticks():
        parts += [_line(x.start, y(at), x.end, y(at), "grid"), _text(x.start - 6, y(at) + 4, f"{at:g}", "end")]
    middle = (y.start + y.end) / 2
    turned = tag("text", labels[1], transform=f"translate(14 {middle}) rotate(-90)", text_anchor="middle")
    return [*parts, turned, _text((x.start + x.end) / 2, y.start + 34, labels[0], "middle")]


def _span(scale: Scale, y: float, span: Span, name: str, color: str) -> Markup:
    title = tag("title", f"{name}: {span.start:.3f} to {span.end:.3f}")
    parts = [title, _line(scale(span.start), y, scale(span.end), y, "stem")]
    if span.tick is not None:
        parts.append(_line(scale(span.tick), y - 3, scale(span.tick), y + 3, "tick"))
    parts.append(tag("circle", cx=scale(span.start), cy=y, r=2.6, class_="hollow"))
    parts.append(tag("circle", cx=scale(span.end), cy=y, r=2.9, class_="full"))
    return tag("g", *parts, class_=color)


def _short(value: float) -> str:
    """A tick of a wide axis.

    >>> _short(20.0), _short(12_000.0), _short(5_000_000.0)
    ('20', '12k', '5M')
    """
    for size, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:g}{unit}"
    return f"{value:g}"


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> Markup:
    return tag("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=kind)


def _text(x: float, y: float, text: str, anchor: str, kind: str | None = None) -> Markup:
    return tag("text", text, x=x, y=y, text_anchor=anchor, class_=kind)


def _svg(width: float, height: float, parts: Sequence[Markup]) -> Markup:
    return tag("svg", join(parts), viewBox=f"0 0 {width:.0f} {height:.0f}", role="img", width=int(width))
