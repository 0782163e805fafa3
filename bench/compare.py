"""`./dev bench`: ours, its peers and PostgreSQL alone, in turn.

All servers run at the same time, for one that is not asked takes no processor time. Each round has new ones, so that whatever is lucky
or not about a process is not in every ratio. Within a round every workload goes through all of them, each round in another order, so
that what drifts drifts for all. A ratio is the median of the ratios of the rounds.
"""

import contextlib
import dataclasses
import json
import statistics
import time

import report
from contenders import all_contenders, compare_answers, versions
from machine import CORES, busy_seconds, cpu_seconds, describe, memory_bytes, own_seconds, wait_for_calm
from stage import Stage, ours, say
from workloads import WARM_UP_SECONDS, WORKLOADS, Data, pgbench, write_requests, wrk

CONNECTIONS = 64
POOL_SIZES = (4, 8, 16)
# How often each of several pool sizes is tried.
TRIALS = 3
# What medians of trials of the same may differ by; of sizes that are so close the smallest is taken.
NOISE = 0.03
LIMIT = "pgbench"
# Log lines are for operators; the line of figures without them is of this workload.
QUIET_WORKLOAD = "read"


@dataclasses.dataclass
class Plan:
    rounds: int
    seconds: int
    rows: int
    pool_sizes: tuple = POOL_SIZES
    workloads: tuple = tuple(WORKLOADS)
    tasks_of_one: int = 100

    @property
    def data(self):
        return Data(self.rows, self.rows // self.tasks_of_one)


class Turns:
    """Takes turns on one stage, and knows what each gave."""

    def __init__(self, stage, plan):
        self.stage, self.plan = stage, plan
        self.database = stage.database
        for workload in plan.workloads:
            write_requests(self.file(workload), workload, plan.data, stage.token)

    def file(self, workload):
        return self.stage.folder / f"{workload.name}.requests"

    def _used(self, pid):
        """Processor time so far: of everybody, of this program and its load, of PostgreSQL, of a server."""
        return busy_seconds(), own_seconds(), cpu_seconds(self.database.pid), cpu_seconds(pid) if pid else 0

    def _timed(self, pid, load):
        """Runs a load; its result with processor time a request, of the server and of PostgreSQL."""
        before, begun = self._used(pid), time.monotonic()
        result = load()
        lasted = time.monotonic() - begun
        busy, own, database, server = (now - then for now, then in zip(self._used(pid), before, strict=True))
        result["cpu_us"] = server * 1e6 / result["requests"] if pid else None
        result["database_us"] = database * 1e6 / result["requests"]
        result["others_share"] = min(1, max(0, busy - own - database - server) / CORES / lasted)
        return result

    def serve(self, server, workload):
        """A turn of a server."""
        file, seconds = self.file(workload), self.plan.seconds
        wrk(server, file, CONNECTIONS, WARM_UP_SECONDS, workload.expected)
        result = self._timed(server.pid, lambda: wrk(server, file, CONNECTIONS, seconds, workload.expected))
        result["per_second"] = result["requests"] / result["seconds"]
        result["rss"] = memory_bytes(server.pid)
        server.check_log()
        self._settle(workload)
        return result

    def query(self, workload, clients):
        """A turn of PostgreSQL alone; nothing where no statement is asked for."""
        if workload.expected != 200:
            return None
        asked = (self.database, self.stage.folder, workload, self.plan.data, clients)
        pgbench(*asked, WARM_UP_SECONDS)
        result = self._timed(None, lambda: pgbench(*asked, self.plan.seconds))
        self._settle(workload)
        return result

    def of(self, name, workload, servers, clients):
        """A turn of one of the servers, or of PostgreSQL alone."""
        return self.query(workload, clients) if name == LIMIT else self.serve(servers[name], workload)

    def _settle(self, workload):
        if workload.writes:
            self.database.settle(self.plan.rows)


@contextlib.contextmanager
def running(turns, contenders, pool_size_of):
    """A server of each, by name; they end with the `with`."""
    servers = {contender.name: contender.start(turns.stage, pool_size_of(contender.name)) for contender in contenders}
    try:
        yield servers
    finally:
        for server in servers.values():
            server.stop()


def calibrate(turns, contenders):
    """For each the pool size at which it does best under the mix. Sizes take turns, too."""
    mix = next(workload for workload in WORKLOADS if workload.name == "mix")
    sizes = turns.plan.pool_sizes
    names = [*(contender.name for contender in contenders), LIMIT]
    given = {name: {size: [] for size in sizes} for name in names}
    for _ in range(TRIALS if len(sizes) > 1 else 0):
        for size in sizes:
            with running(turns, contenders, lambda _, size=size: size) as servers:
                for name in names:
                    given[name][size].append(turns.of(name, mix, servers, size)["per_second"])
    return {name: _fewest_of_the_best(name, trials) for name, trials in given.items()}


def _fewest_of_the_best(name, trials):
    """The fewest connections that give as much as any, but for what trials of the same differ by."""
    medians = {size: statistics.median(rates) for size, rates in trials.items() if rates}
    best = min((size for size in medians if medians[size] >= (1 - NOISE) * max(medians.values())), default=min(trials))
    tried = ", ".join(f"{size}: {rate:,.0f}/s" for size, rate in medians.items()) or "not tried"
    say(f"connections of {name} to the database: {best} ({tried})")
    return best


def run_rounds(turns, contenders, best):
    """All figures: by workload and name a list, one entry a round."""
    names = list(best)
    figures = {workload.name: {name: [] for name in names} for workload in turns.plan.workloads}
    for number in range(turns.plan.rounds):
        order = names[number % len(names) :] + names[: number % len(names)]
        with running(turns, contenders, best.get) as servers:
            wait_for_calm(say)
            turns.database.sql("checkpoint")
            for workload in turns.plan.workloads:
                for name in order:
                    result = turns.of(name, workload, servers, best[LIMIT])
                    if result:
                        figures[workload.name][name].append(result)
                rates = ", ".join(
                    f"{name} {results[-1]['per_second']:,.0f}"
                    for name, results in figures[workload.name].items()
                    if results
                )
                say(f"round {number + 1} of {turns.plan.rounds}, {workload.title}: {rates}")
    return figures


def log_off(turns, contenders, best):
    """What ours gives without a line a request in its log, beside itself with it."""
    workload = next(workload for workload in WORKLOADS if workload.name == QUIET_WORKLOAD)
    on = next(contender for contender in contenders if contender.name == "ours")
    off = dataclasses.replace(on, name="ours-quiet", environment=(("RUST_LOG", "warn"),))
    pairs = []
    for number in range(turns.plan.rounds):
        order = (on, off) if number % 2 == 0 else (off, on)
        with running(turns, order, lambda _: best["ours"]) as servers:
            found = {contender: turns.serve(servers[contender.name], workload) for contender in order}
        pairs.append((found[on], found[off]))
    rate = statistics.median(off["per_second"] / on["per_second"] for on, off in pairs)
    cpu = statistics.median(on["cpu_us"] - off["cpu_us"] for on, off in pairs)
    return f"without the log's line a request ({workload.title}): {rate:.2f} times as many requests, {cpu:.1f} µs less of CPU each"


def compare(plan, results):
    contenders = all_contenders()
    with Stage() as stage:
        database = stage.start_database()
        data = plan.data
        say(f"filling {data.rows:,} tasks of {data.users:,} users")
        database.fill(data.rows, data.users)
        turns = Turns(stage, plan)
        with running(turns, contenders, lambda _: plan.pool_sizes[0]) as servers:
            compare_answers(list(servers.values()), stage, data)
        wait_for_calm(say)
        best = calibrate(turns, contenders)
        figures = run_rounds(turns, contenders, best)
        quiet = log_off(turns, contenders, best)
    written = {
        "machine": describe(),
        "versions": versions(),
        "binary": ours().name,
        "connections": CONNECTIONS,
        "rounds": plan.rounds,
        "seconds": plan.seconds,
        "rows": data.rows,
        "users": data.users,
        "pool_sizes": best,
        "titles": {contender.name: contender.title for contender in contenders} | {LIMIT: "pgbench -M prepared"},
        "workloads": {workload.name: workload.title for workload in plan.workloads},
        "log_off": quiet,
        "figures": figures,
    }
    (results / "compare.json").write_text(json.dumps(written, indent=1) + "\n")
    report.write(written, results)
