"""Charts as SVG, drawn on the server: no script, nothing to load. Pages give their numbers beside them."""

from collections.abc import Callable, Mapping, Sequence

from markupsafe import Markup, escape

WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 720, 220, 52, 24, 10
COLOURS = 8
"""Lines that can be told apart: the style sheet has `series-0` to `series-7`."""


def trend(rates: Sequence[float | None]) -> Markup:
    """A sparkline of rates from 0 to 1; nothing for fewer than two."""
    known = [rate for rate in rates if rate is not None]
    if len(known) < 2:
        return Markup("")
    step = 60 / (len(known) - 1)
    points = " ".join(f"{at * step + 2:.1f},{16 - 14 * rate:.1f}" for at, rate in enumerate(known))
    label = f"pass rates of the newest {len(known)} runs: {', '.join(f'{rate:.0%}' for rate in known)}"
    return Markup(
        '<svg class="trend" viewBox="0 0 64 18" role="img" aria-label="{}"><title>{}</title>'
        '<polyline points="{}"/></svg>'
    ).format(label, label, points)


Day = str
Label = Callable[[float], str]
Series = Mapping[str | None, Sequence[float | None]]
"""Values by day of each target; None is no target."""
Bounds = Mapping[str | None, Sequence[Sequence[float] | None]]
NO_TARGET = "(no target)"


def lines(
    title: str,
    days: Sequence[Day],
    series: Series,
    label: Label,
    address: Callable[[str | None, Day], str | None],
    *,
    most: float = 0.0,
    bounds: Bounds | None = None,
) -> Markup:
    """A line chart of daily values by target, from 0 (or the least) to `most` or more; unknown days are left out.

    Each point links to its runs, and an error bar shows the interval in `bounds`.
    """
    known = [value for values in series.values() for value in values if value is not None]
    low, high = min([0.0, *known]) / 2, (max([most, *known]) or 1.0) / 2  # halved against overflow

    def y(value: float) -> float:
        return _y((value / 2 - low) / ((high - low) or 1.0))

    parts = [_grid([(share, label(2 * ((1 - share) * low + share * high))) for share in (0, 0.25, 0.5, 0.75, 1)])]
    for number, (target, values) in enumerate(series.items()):
        name = NO_TARGET if target is None else target
        points = [(at, value) for at, value in enumerate(values) if value is not None]
        path = " ".join(f"{_x(at, len(days)):.1f},{y(value):.1f}" for at, value in points)
        parts.append(Markup('<g class="series-{}"><title>{}</title>').format(number % COLOURS, name))
        parts.append(Markup('<polyline points="{}"/>').format(path))
        for at, value in points:
            x, between = _x(at, len(days)), bounds[target][at] if bounds else None
            told = f"{name}, {days[at]}: {label(value)}"
            if between:
                told += f" ({label(between[0])} to {label(between[1])})"
                stroke = '<line class="interval" x1="{0:.1f}" x2="{0:.1f}" y1="{1:.1f}" y2="{2:.1f}"/>'
                parts.append(Markup(stroke).format(x, y(between[0]), y(between[1])))
            circle = Markup('<circle cx="{:.1f}" cy="{:.1f}" r="4"><title>{}</title></circle>')
            parts.append(_linked(address(target, days[at]), told, circle.format(x, y(value), told)))
        parts.append(Markup("</g>"))
    return _picture(title, days, parts)


def bars(
    title: str,
    days: Sequence[Day],
    values: Sequence[float | None],
    label: Label,
    address: Callable[[Day], str],
) -> Markup:
    """A bar for each day with a known value, linked to its runs."""
    most = max((value for value in values if value is not None), default=0) or 1
    parts = [_grid([(share, label(share * most)) for share in (0, 0.5, 1)])]
    width = min(40.0, (WIDTH - LEFT) / max(1, len(days)) * 0.7)
    for at, (day, value) in enumerate(zip(days, values, strict=True)):
        if value is None:
            continue
        top = _y(value / most)
        place = (_x(at, len(days)) - width / 2, top, width, HEIGHT - BOTTOM - top)
        told = f"{day}: {label(value)}"
        bar = Markup('<rect class="bar" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}">').format(*place)
        bar += Markup("<title>{}</title></rect>").format(told)
        parts.append(_linked(address(day), told, bar))
    return _picture(title, days, parts)


def _linked(address: str | None, label: str, shape: Markup) -> Markup:
    return shape if address is None else Markup('<a href="{}" aria-label="{}">{}</a>').format(address, label, shape)


def _x(at: int, count: int) -> float:
    return LEFT + (WIDTH - LEFT) * (at + 0.5) / max(1, count)


def _y(share: float) -> float:
    return HEIGHT - BOTTOM - share * (HEIGHT - BOTTOM - TOP)


def _grid(marks: Sequence[tuple[float, str]]) -> Markup:
    rows = Markup("")
    for share, label in marks:
        y = _y(share)
        rows += Markup('<line class="grid" x1="{}" x2="{}" y1="{:.1f}" y2="{:.1f}"/>').format(LEFT, WIDTH, y, y)
        rows += Markup('<text class="axis" x="{}" y="{:.1f}" text-anchor="end">{}</text>').format(
            LEFT - 6, y + 4, label
        )
    return rows


def _picture(title: str, days: Sequence[str], parts: Sequence[Markup]) -> Markup:
    shown = sorted({0, len(days) // 2, len(days) - 1}) if days else []
    labels = Markup("").join(
        Markup('<text class="axis" x="{:.1f}" y="{}" text-anchor="middle">{}</text>').format(
            min(max(_x(at, len(days)), LEFT + 30), WIDTH - 30), HEIGHT - 6, days[at]
        )
        for at in shown
    )
    return Markup('<svg class="chart" viewBox="0 0 {} {}" role="group" aria-label="{}">{}{}</svg>').format(
        WIDTH, HEIGHT, escape(title), Markup("").join(parts), labels
    )
