"""`./dev bench`: ours, its peers and PostgreSQL alone, in turn.

All servers run at the same time, for one that is not asked takes no processor time. Each round has its own: two of the same program
may differ by 7 % as long as they run, by where their memory and that of PostgreSQL's processes for them happens to lie. Within a round
every workload goes through all of them, each round in another order, so that what drifts drifts for all. A ratio is the median of
the ratios of the rounds.
"""

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

    def _settle(self, workload):
        if workload.writes:
            self.database.settle(self.plan.rows)


def calibrate(turns, contenders):
    """For each the pool size at which it does best under the mix, and a server of that size. Sizes take turns, too."""
    mix = next(workload for workload in WORKLOADS if workload.name == "mix")
    sizes = turns.plan.pool_sizes
    servers = {contender.name: {size: contender.start(turns.stage, size) for size in sizes} for contender in contenders}
    names = [*servers, LIMIT]
    given = {name: {size: [] for size in sizes} for name in names}
    for _ in range(TRIALS if len(sizes) > 1 else 0):
        for size in sizes:
            for name in names:
                result = turns.query(mix, size) if name == LIMIT else turns.serve(servers[name][size], mix)
                given[name][size].append(result["per_second"])
    best = {name: _fewest_of_the_best(name, trials) for name, trials in given.items()}
    for name, of_sizes in servers.items():
        for size in sizes:
            if size != best[name]:
                of_sizes[size].stop()
    return best, {name: of_sizes[best[name]] for name, of_sizes in servers.items()}


def _fewest_of_the_best(name, trials):
    """The fewest connections that give as much as any, but for what trials of the same differ by."""
    medians = {size: statistics.median(rates) for size, rates in trials.items() if rates}
    best = min((size for size in medians if medians[size] >= (1 - NOISE) * max(medians.values())), default=min(trials))
    tried = ", ".join(f"{size}: {rate:,.0f}/s" for size, rate in medians.items()) or "not tried"
    say(f"connections of {name} to the database: {best} ({tried})")
    return best


def run_rounds(turns, contenders, servers, best):
    """All figures: by workload and name a list, one entry a round. `servers` are those of the first; then they are others."""
    figures = {workload.name: {name: [] for name in (*servers, LIMIT)} for workload in turns.plan.workloads}
    names = [*servers, LIMIT]
    for number in range(turns.plan.rounds):
        for contender in contenders if number else ():
            servers[contender.name].stop()
            servers[contender.name] = contender.start(turns.stage, best[contender.name])
        wait_for_calm(say)
        turns.database.sql("checkpoint")
        for workload in turns.plan.workloads:
            for name in names[number % len(names) :] + names[: number % len(names)]:
                if name == LIMIT:
                    result = turns.query(workload, best[LIMIT])
                else:
                    result = turns.serve(servers[name], workload)
                if result:
                    figures[workload.name][name].append(result)
            rates = ", ".join(
                f"{name} {results[-1]['per_second']:,.0f}"
                for name, results in figures[workload.name].items()
                if results
            )
            say(f"round {number + 1} of {turns.plan.rounds}, {workload.title}: {rates}")
    return figures


def log_off(turns, contenders, servers, best):
    """What ours gives without a line a request in its log, beside itself with it."""
    workload = next(workload for workload in WORKLOADS if workload.name == QUIET_WORKLOAD)
    contender = next(contender for contender in contenders if contender.name == "ours")
    quiet = dataclasses.replace(contender, name="ours-quiet", environment=(("RUST_LOG", "warn"),))
    both = (servers["ours"], quiet.start(turns.stage, best["ours"]))
    pairs = [[turns.serve(server, workload) for server in both] for _ in range(turns.plan.rounds)]
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
        checked = [contender.start(stage, plan.pool_sizes[0]) for contender in contenders]
        compare_answers(checked, stage, data)
        for server in checked:
            server.stop()
        wait_for_calm(say)
        best, servers = calibrate(turns, contenders)
        figures = run_rounds(turns, contenders, servers, best)
        quiet = log_off(turns, contenders, servers, best)
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
