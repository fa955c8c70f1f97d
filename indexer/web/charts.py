"""Charts as SVG, drawn on the server: no script, nothing to load. Pages give their numbers beside them."""

from collections.abc import Callable, Mapping, Sequence

from markupsafe import Markup, escape

WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 720, 220, 52, 24, 10
COLOURS = 8
"""Lines that can be told apart: the style sheet has `series-0` to `series-7`."""


def trend(rates: Sequence[float | None]) -> Markup:
    """A line of rates from 0 to 1 in the height of a text line; nothing for less than two."""
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


Address = Callable[[str | None, str], str | None]
"""The address of the runs of a series, or of all for None, on a day; None where no filter tells them."""


def lines(title: str, days: Sequence[str], series: Mapping[str, Sequence[float | None]], address: Address) -> Markup:
    """Rates from 0 to 1 by day, a line for each series; days without a value are left out of a line.

    Each point leads to its runs.
    """
    parts = [_grid([(share, f"{share:.0%}") for share in (0, 0.25, 0.5, 0.75, 1)])]
    for number, (name, values) in enumerate(series.items()):
        known = [
            (day, value, _x(at, len(days)))
            for at, (day, value) in enumerate(zip(days, values, strict=True))
            if value is not None
        ]
        path = " ".join(f"{x:.1f},{_y(value):.1f}" for _, value, x in known)
        parts.append(Markup('<g class="series-{}"><title>{}</title>').format(number % COLOURS, name))
        parts.append(Markup('<polyline points="{}"/>').format(path))
        for day, value, x in known:
            label = f"{name}, {day}: {value:.0%}"
            circle = Markup('<circle cx="{:.1f}" cy="{:.1f}" r="4"><title>{}</title></circle>').format(
                x, _y(value), label
            )
            parts.append(_linked(address(name, day), label, circle))
        parts.append(Markup("</g>"))
    return _picture(title, days, parts)


def bars(
    title: str,
    days: Sequence[str],
    values: Sequence[float | None],
    label: Callable[[float], str],
    address: Address,
) -> Markup:
    """A bar for each day whose value is known, which leads to its runs."""
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
        parts.append(_linked(address(None, day), told, bar))
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
