"""The results of `./dev bench` as tables in Markdown and a chart."""

import statistics
import textwrap

import chart
from contenders import versions
from fixture import log
from machine import describe

# The longest line of a result, in characters. Rows of a table cannot be broken.
MAX_LINE_CHARS = 120
ALL = ("read", "list_20", "list_100", "limit", "create", "complete", "mix", "unauthorized")
# The targets of specs/performance.md: workload, compared with, measure, bound of the ratio. Requests a second must
# reach the bound; CPU a request and p99 must not exceed it.
TARGETS = [
    ("read", "axum", "per_second", 1.5),
    ("read", "pgbench", "per_second", 0.5),
    ("list_20", "axum", "per_second", 1.3),
    ("list_20", "pgbench", "per_second", 0.5),
    ("list_100", "axum", "per_second", 1.1),
    ("limit", "axum", "per_second", 1.3),
    ("create", "axum", "per_second", 1.7),
    ("create", "axum", "cpu_us", 0.75),
    ("complete", "axum", "per_second", 1.7),
    ("complete", "axum", "cpu_us", 0.75),
    ("mix", "axum", "per_second", 1.3),
    ("unauthorized", "axum", "per_second", 1.2),
]
TARGETS += [(workload, "axum", "p99_us", 1.0) for workload in ALL]
TARGETS += [(workload, "fastapi", "per_second", 20) for workload in ALL]
MEASURES = {"per_second": "requests a second", "cpu_us": "CPU a request", "p99_us": "p99"}


def median(results, what):
    """None if no result has this measure."""
    values = [result[what] for result in results if result.get(what) is not None]
    return statistics.median(values) if values else None


def ratio(own, other, what):
    """The median of the ratios of the rounds."""
    return statistics.median(a[what] / b[what] for a, b in zip(own, other, strict=True))


def paragraph(text):
    return textwrap.fill(" ".join(text.split()), MAX_LINE_CHARS, break_long_words=False, break_on_hyphens=False)


def _shown(value, pattern="{:,.0f}", scale=1):
    return "–" if value is None else pattern.format(value / scale)


def table(written):
    """A row for each workload and server."""
    lines = [
        "| workload | server | requests/s | p50 ms | p99 ms | CPU µs | PostgreSQL's CPU µs | RSS MB | ours to it |",
        "|---|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for workload, title in written["workloads"].items():
        figures = written["figures"][workload]
        for name, results in figures.items():
            if not results:
                continue
            cells = [
                title,
                written["titles"][name],
                _shown(median(results, "per_second")),
                _shown(median(results, "p50_us"), "{:.2f}", 1_000),
                _shown(median(results, "p99_us"), "{:.2f}", 1_000),
                _shown(median(results, "cpu_us"), "{:.1f}"),
                _shown(median(results, "database_us"), "{:.1f}"),
                _shown(median(results, "rss"), "{:.1f}", 1_000_000),
                "" if name == "ours" else f"{ratio(figures['ours'], results, 'per_second'):.2f}",
            ]
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def table_of_targets(written):
    """A row for each target: its bound, what was measured, whether it is met."""
    lines = ["| workload | ours to | | target | measured | |", "|---|---|---|--:|--:|---|"]
    for workload, other, what, target in TARGETS:
        figures = written["figures"].get(workload)
        if not figures:
            continue
        measured = ratio(figures["ours"], figures[other], what)
        met = measured >= target if what == "per_second" else measured <= target
        bound = "at least" if what == "per_second" else "at most"
        lines.append(
            f"| {written['workloads'][workload]} | {other} | {MEASURES[what]} | {bound} {target:g} | {measured:.2f} | "
            f"{'met' if met else '**missed**'} |"
        )
    return "\n".join(lines)


def load_of_others(written):
    """How much of the machine other programs used. A high share makes the figures useless."""
    shares = [
        result["others_share"]
        for figures in written["figures"].values()
        for results in figures.values()
        for result in results
    ]
    median_share, highest = statistics.median(shares), max(shares)
    return f"Other programs used {median_share:.0%} of the machine (the median), at most {highest:.0%}."


def document(written):
    sizes = ", ".join(f"{name} {size}" for name, size in written["pool_sizes"].items())
    groups = " and ".join(f"{group['users']:,} users with {group['tasks']} each" for group in written["groups"])
    what = f"""{written["rows"]:,} tasks: {groups}. {written["connections"]} connections; medians of
        {written["rounds"]} rounds of {written["seconds"]} s. The load generator, the servers and PostgreSQL share the
        machine, so only ratios within one run are comparable. Connections to the database, the fewest that are as good
        as the best: {sizes}. CPU is processor time a request, user and system. RSS is the sum over a server's processes.
        {load_of_others(written)}"""
    log_off = f"Our server without a line for each request in its log, {written['log_off']}."
    return f"""# `./dev bench`

{paragraph(f"{written['machine']}. {written['versions']}.")}

{paragraph(what)}

{table(written)}

{paragraph(log_off)}

## Targets

{table_of_targets(written)}
"""


def publish(results, name, text):
    """Prints and writes the results of one of the smaller commands."""
    text = f"# `./dev bench {name}`\n\n{paragraph(f'{describe()}. {versions()}.')}\n\n{text}\n"
    (results / f"{name}.md").write_text(text)
    log(f"\n{text}\nwritten to bench/results/{name}.md")


def write(written, results):
    text = document(written)
    (results / "compare.md").write_text(text)
    (results / "compare.svg").write_text(chart.draw(written))
    log(f"\n{text}\nwritten to bench/results/compare.md, .json and .svg")
