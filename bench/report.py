"""The figures of `./dev bench` as people read them: tables in Markdown, and a chart."""

import statistics

import chart
from contenders import versions
from machine import describe
from stage import say

# For each workload what the targets of specs/performance.md ask: requests a second as a ratio of at least, or processor
# time or p99 as a ratio of at most.
TARGETS = [
    ("read", "axum", "per_second", 1.5),
    ("read", "pgbench", "per_second", 0.5),
    ("list", "axum", "per_second", 1.5),
    ("list", "pgbench", "per_second", 0.5),
    ("create", "axum", "per_second", 1.05),
    ("create", "axum", "cpu_us", 0.7),
    ("complete", "axum", "per_second", 1.05),
    ("complete", "axum", "cpu_us", 0.7),
]
TARGETS += [(name, "fastapi", "per_second", 20) for name in ("read", "list", "create", "complete", "mix", "refused")]
TARGETS += [(name, "axum", "p99_us", 1.0) for name in ("read", "list", "create", "complete", "mix", "refused")]
MEASURES = {"per_second": "requests a second", "cpu_us": "CPU a request", "p99_us": "p99"}


def median(results, what):
    """None where there is nothing of this kind."""
    values = [result[what] for result in results if result.get(what) is not None]
    return statistics.median(values) if values else None


def ratio(own, other, what):
    """The median of the ratios of the rounds."""
    return statistics.median(a[what] / b[what] for a, b in zip(own, other, strict=True))


def _shown(value, pattern="{:,.0f}", scale=1):
    return "–" if value is None else pattern.format(value / scale)


def table(written):
    """A line for each server and workload."""
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


def judged_targets(written):
    """A line for each target: what it asks, what there is."""
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


def others_share(written):
    """How much of the machine others took in a turn, in the middle and at most: what ran beside the bench spoils it."""
    shares = [
        one["others_share"]
        for figures in written["figures"].values()
        for results in figures.values()
        for one in results
    ]
    return f"Others took {statistics.median(shares):.0%} of the machine in the middle of all turns, {max(shares):.0%} in the worst."


def document(written):
    sizes = ", ".join(f"{name} {size}" for name, size in written["pool_sizes"].items())
    return f"""# `./dev bench`

{written["machine"]}. {written["versions"]}.

{written["rows"]:,} tasks of {written["users"]:,} users; {written["connections"]} connections;
medians of {written["rounds"]} rounds of {written["seconds"]} s. Load, servers and PostgreSQL share the machine,
so only ratios say anything, and only those of one run.
Connections to the database, the best of those that were tried, the fewest of equals: {sizes}. CPU is processor time a request, user and system. RSS of several processes is added up.
{others_share(written)}

{table(written)}

Ours {written["log_off"]}.

## Targets

{judged_targets(written)}
"""


def publish(results, name, text):
    """Prints what one of the smaller commands has found, and writes it."""
    text = f"# `./dev bench {name}`\n\n{describe()}. {versions()}.\n\n{text}\n"
    (results / f"{name}.md").write_text(text)
    say(f"\n{text}\nwritten to bench/results/{name}.md")


def write(written, results):
    text = document(written)
    (results / "compare.md").write_text(text)
    (results / "compare.svg").write_text(chart.draw(written))
    say(f"\n{text}\nwritten to bench/results/compare.md, .json and .svg")
