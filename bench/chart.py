"""A bar chart in SVG. Its colours are readable on white and on black."""

import statistics
from html import escape

COLOURS = {"ours": "#2f81f7", "axum": "#d4762c", "fastapi": "#3fa66a", "pgbench": "#8b949e"}
TEXT = "#808891"
WIDTH, LEFT, RIGHT = 820, 190, 90
BAR, GAP, GROUP_GAP, TOP = 16, 2, 18, 64


def draw(written):
    """Requests a second: a group of bars for each workload, a bar for each server."""
    rates = {
        workload: {
            name: statistics.median(one["per_second"] for one in results)
            for name, results in figures.items()
            if results
        }
        for workload, figures in written["figures"].items()
    }
    highest = max(rate for group in rates.values() for rate in group.values())
    shapes, y = [], TOP
    for workload, group in rates.items():
        middle = y + len(group) * (BAR + GAP) / 2 + 4
        shapes.append(_text(LEFT - 12, middle, written["workloads"][workload], "end", 13))
        for name, rate in group.items():
            width = max(1, rate / highest * (WIDTH - LEFT - RIGHT))
            shapes.append(
                f'<rect x="{LEFT}" y="{y}" width="{width:.1f}" height="{BAR}" rx="2" fill="{COLOURS[name]}"/>'
            )
            shapes.append(_text(LEFT + width + 6, y + BAR - 4, f"{rate:,.0f}", "start", 11))
            y += BAR + GAP
        y += GROUP_GAP
    legend, x = [], 12
    for name, title in written["titles"].items():
        legend.append(f'<rect x="{x}" y="34" width="12" height="12" rx="2" fill="{COLOURS[name]}"/>')
        legend.append(_text(x + 17, 45, title, "start", 12))
        x += 40 + 6.4 * len(title)
    heading = f"Requests a second, {written['connections']} connections, {written['machine'].partition(',')[0]}"
    body = "\n".join([_text(12, 20, heading, "start", 14), *legend, *shapes])
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y}" width="{WIDTH}" height="{y}" '
        f'font-family="system-ui, sans-serif" role="img" aria-label="{escape(heading)}">\n{body}\n</svg>\n'
    )


def _text(x, y, text, anchor, size):
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" fill="{TEXT}">{escape(text)}</text>'
    )
