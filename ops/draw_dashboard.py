#!/usr/bin/env python3
"""Draws the panels of grafana_dashboard.json from the samples of a Prometheus, as an SVG on standard output.

    python3 ops/draw_dashboard.py http://127.0.0.1:9090 MINUTES >dashboard.svg

For machines without Grafana: the picture in specs/operations.md is made with it.
"""
import json
import math
import pathlib
import re
import sys
import time
import urllib.parse
import urllib.request
from xml.sax.saxutils import escape

WIDTH, HEIGHT = 420, 240  # of a panel, in pixels
LEFT, TOP, RIGHT, BOTTOM = 52, 30, 12, 70  # its margins
COLORS = ["#2f6fb3", "#d9822b", "#3d9a50", "#c23b3b", "#7a5bb5", "#8a6d3b", "#c2619e", "#6b7280", "#a3a300", "#1a9aaa"]


def samples(url, expression, start, end, step):
    """The series of an expression: labels and points (time, value)."""
    expression = expression.replace("$__rate_interval", f"{4 * step}s").replace("$job", "todo-backend")
    query = urllib.parse.urlencode({"query": expression, "start": start, "end": end, "step": step})
    with urllib.request.urlopen(f"{url}/api/v1/query_range?{query}", timeout=30) as response:
        result = json.load(response)["data"]["result"]
    for series in result:
        points = [(float(at), float(value)) for at, value in series["values"]]
        yield series["metric"], [(at, value) for at, value in points if math.isfinite(value)]


def legend(template, labels):
    return re.sub(r"{{(\w+)}}", lambda found: labels.get(found[1], ""), template)


def shown(value, unit):
    """A value with its unit, as an axis shows it."""
    if unit == "percentunit":
        return f"{value * 100:.3g} %"
    if unit == "s" and 0 < value < 1:
        return f"{value * 1000:.3g} ms"
    for size, prefix in ((1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g} {prefix}" + {"bytes": "B", "s": "s"}.get(unit, "")
    return f"{value:.3g}" + {"bytes": " B", "s": " s"}.get(unit, "")


def nice_maximum(value):
    """The next of 1, 2, 5, 10, 20, …, or of 0.5, 0.2, …"""
    if value <= 0:
        return 1
    power = 10 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= value * 0.999)


def text(x, y, words, size=11, color="#444", anchor="start"):
    return f'<text x="{x:.0f}" y="{y:.0f}" font-size="{size}" fill="{color}" text-anchor="{anchor}">{escape(words)}</text>'


def draw_panel(panel, series, start, end):
    unit = panel["fieldConfig"]["defaults"]["unit"]
    top = nice_maximum(max((value for _, points in series for _, value in points), default=0))
    width, height = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
    yield f'<rect x="1" y="1" width="{WIDTH - 8}" height="{HEIGHT - 8}" rx="3" fill="#fff" stroke="#d5d5d5"/>'
    yield text(10, 20, panel["title"], 13, "#111")
    for part in (0, 0.5, 1):
        y = TOP + height * (1 - part)
        yield f'<path d="M{LEFT} {y:.1f}h{width}" stroke="#e6e6e6"/>' + text(LEFT - 5, y + 4, shown(top * part, unit), 10, anchor="end")
    minutes = (end - start) / 60
    for part in (0, 0.5, 1):
        yield text(LEFT + width * part, TOP + height + 14, f"{minutes * part:.3g} min", 10, anchor=("start", "middle", "end")[int(part * 2)])
    x, y = 10, TOP + height + 30
    for number, (name, points) in enumerate(series):
        color = COLORS[number % len(COLORS)]
        place = [(LEFT + width * (at - start) / (end - start), TOP + height * (1 - value / top)) for at, value in points]
        line = " ".join(f"{at:.1f},{value:.1f}" for at, value in place)
        yield f'<polyline points="{line}" fill="none" stroke="{color}" stroke-width="1.4"/>'
        if x + 14 + 5.6 * len(name) > WIDTH - 10:
            x, y = 10, y + 13
        yield f'<path d="M{x} {y - 3}h8" stroke="{color}" stroke-width="3"/>' + text(x + 11, y, name, 10)
        x += 22 + 5.6 * len(name)


def main(url, minutes):
    dashboard = json.loads(pathlib.Path(__file__).with_name("grafana_dashboard.json").read_text())
    end = int(time.time())
    start = end - int(float(minutes) * 60)
    step = max(1, (end - start) // 120)
    panels = dashboard["panels"]
    columns, rows = 3, math.ceil(len(panels) / 3)
    print(f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {columns * WIDTH} {rows * HEIGHT}" font-family="sans-serif">')
    print(f'<rect width="{columns * WIDTH}" height="{rows * HEIGHT}" fill="#f4f5f5"/>')
    for number, panel in enumerate(panels):
        series = [
            (legend(target["legendFormat"], labels), points)
            for target in panel["targets"]
            for labels, points in samples(url, target["expr"], start, end, step)
        ]
        print(f'<g transform="translate({number % columns * WIDTH + 4} {number // columns * HEIGHT + 4})">')
        print("\n".join(draw_panel(panel, sorted(series), start, end)))
        print("</g>")
    print("</svg>")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
