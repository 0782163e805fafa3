"""`./dev bench`: our server, its contenders and PostgreSQL alone, measured in turn.

All servers run at the same time: an idle one takes no processor time. Each round starts new processes, so that the luck
of one process is not in every ratio. Within a round each workload is measured on all of them, in another order each
round, so that a drift of the machine affects all. A ratio is the median of the ratios of the rounds.
"""

import contextlib
import dataclasses
import json
import statistics
import time

import report
from contenders import all_contenders, compare_responses, our_server, versions
from fixture import Fixture, log, server_binary
from machine import CORES, busy_seconds, cpu_seconds, describe, memory_bytes, own_seconds, wait_until_idle
from workloads import (
    WARM_UP_SECONDS,
    WORKLOADS,
    Data,
    pgbench,
    record_statements,
    workload_named,
    write_requests,
    wrk,
)

CONNECTIONS = 64
POOL_SIZES = (4, 8, 16)
# How often each pool size is tried.
TRIALS = 3
# How far medians of equal trials differ. Of pool sizes that are closer than this the smallest is taken.
NOISE = 0.03
# The upper limit: PostgreSQL alone.
LIMIT = "pgbench"
# The workload that is also measured without the line for each request in the log.
LOG_OFF_WORKLOAD = "read"


@dataclasses.dataclass
class Plan:
    """What is measured, and how long; `seconds` is the length of one measurement."""

    rounds: int
    seconds: int
    data: Data
    pool_sizes: tuple = POOL_SIZES
    workloads: tuple = tuple(WORKLOADS)


class Meter:
    """Measures servers and PostgreSQL under the workloads."""

    def __init__(self, fixture, plan):
        self.fixture, self.plan = fixture, plan
        self.database = fixture.database
        for workload in plan.workloads:
            write_requests(self.file(workload), workload, plan.data, fixture.token)

    def file(self, workload):
        return self.fixture.folder / f"{workload.name}.requests"

    def _used(self, pid):
        """Processor time so far: of the machine, of this program with its load, of PostgreSQL, of a server."""
        return busy_seconds(), own_seconds(), cpu_seconds(self.database.pid), cpu_seconds(pid) if pid else 0

    def _timed(self, pid, load):
        """Runs a load; returns its result with the processor time a request, of the server and of PostgreSQL."""
        before, start = self._used(pid), time.monotonic()
        result = load()
        duration = time.monotonic() - start
        busy, own, database, server = (now - then for now, then in zip(self._used(pid), before, strict=True))
        result["cpu_us"] = server * 1e6 / result["requests"] if pid else None
        result["database_us"] = database * 1e6 / result["requests"]
        result["others_share"] = min(1, max(0, busy - own - database - server) / CORES / duration)
        return result

    def measure_server(self, server, workload):
        """One measurement of a server."""
        file, seconds = self.file(workload), self.plan.seconds
        wrk(server, file, CONNECTIONS, WARM_UP_SECONDS, workload.expected)
        result = self._timed(server.pid, lambda: wrk(server, file, CONNECTIONS, seconds, workload.expected))
        result["per_second"] = result["requests"] / result["seconds"]
        result["rss"] = memory_bytes(server.pid)
        server.check_log()
        self._clean_up(workload)
        return result

    def measure_database(self, workload, clients):
        """One measurement of PostgreSQL alone; None for a workload without statements."""
        if workload.expected != 200:
            return None
        arguments = (self.database, self.fixture.folder, workload, self.plan.data, clients)
        pgbench(*arguments, WARM_UP_SECONDS)
        result = self._timed(None, lambda: pgbench(*arguments, self.plan.seconds))
        self._clean_up(workload)
        return result

    def measure(self, name, workload, servers, clients):
        """One measurement of one of the servers, or of PostgreSQL alone."""
        if name == LIMIT:
            return self.measure_database(workload, clients)
        return self.measure_server(servers[name], workload)

    def _clean_up(self, workload):
        if workload.writes:
            self.database.remove_new_tasks(self.plan.data.rows)


@contextlib.contextmanager
def running(meter, contenders, pool_size_of):
    """Starts a server of each, by name; they stop when the `with` block ends."""
    servers = {contender.name: contender.start(meter.fixture, pool_size_of(contender.name)) for contender in contenders}
    try:
        yield servers
    finally:
        for server in servers.values():
            server.stop()


def best_pool_sizes(meter, contenders):
    """For each the pool size with which it answers most requests of the mix. The sizes are tried in turn."""
    mix, sizes = workload_named("mix"), meter.plan.pool_sizes
    names = [*(contender.name for contender in contenders), LIMIT]
    rates = {name: {size: [] for size in sizes} for name in names}
    for _ in range(TRIALS if len(sizes) > 1 else 0):
        for size in sizes:
            with running(meter, contenders, lambda _, size=size: size) as servers:
                for name in names:
                    rates[name][size].append(meter.measure(name, mix, servers, size)["per_second"])
    return {name: _smallest_of_the_best(name, trials) for name, trials in rates.items()}


def _smallest_of_the_best(name, trials):
    """The smallest pool size whose median is the highest, or so close that the difference may be noise."""
    medians = {size: statistics.median(rates) for size, rates in trials.items() if rates}
    best = min((size for size in medians if medians[size] >= (1 - NOISE) * max(medians.values())), default=min(trials))
    tried = ", ".join(f"{size}: {rate:,.0f}/s" for size, rate in medians.items()) or "not tried"
    log(f"connections of {name} to the database: {best} ({tried})")
    return best


def run_rounds(meter, contenders, best):
    """All results, by workload and name: a list with one result for each round."""
    names = list(best)
    figures = {workload.name: {name: [] for name in names} for workload in meter.plan.workloads}
    for number in range(meter.plan.rounds):
        order = names[number % len(names) :] + names[: number % len(names)]
        with running(meter, contenders, best.get) as servers:
            wait_until_idle(log)
            meter.database.sql("checkpoint")
            for workload in meter.plan.workloads:
                for name in order:
                    result = meter.measure(name, workload, servers, best[LIMIT])
                    if result:
                        figures[workload.name][name].append(result)
                rates = ", ".join(
                    f"{name} {results[-1]['per_second']:,.0f}"
                    for name, results in figures[workload.name].items()
                    if results
                )
                log(f"round {number + 1} of {meter.plan.rounds}, {workload.title}: {rates}")
    return figures


def measure_log_off(meter, contenders, best):
    """What our server gains without a line for each request in its log."""
    workload = workload_named(LOG_OFF_WORKLOAD)
    on = next(contender for contender in contenders if contender.name == "ours")
    off = dataclasses.replace(on, name="ours-log-off", environment=(("RUST_LOG", "warn"),))
    pairs = []
    for number in range(meter.plan.rounds):
        order = (on, off) if number % 2 == 0 else (off, on)
        with running(meter, order, lambda _: best["ours"]) as servers:
            results = {contender: meter.measure_server(servers[contender.name], workload) for contender in order}
        pairs.append((results[on], results[off]))
    rate = statistics.median(off["per_second"] / on["per_second"] for on, off in pairs)
    cpu = statistics.median(on["cpu_us"] - off["cpu_us"] for on, off in pairs)
    return f"{workload.title}: {rate:.2f} times as many requests, {cpu:.1f} µs less of CPU a request"


def compare(plan, results):
    contenders, data = all_contenders(), plan.data
    with Fixture() as fixture:
        database = fixture.start_database()
        log(f"inserting {data.rows:,} tasks of {data.users:,} users")
        database.fill(data)
        server = our_server().start(fixture, plan.pool_sizes[0])
        record_statements(server, database, data, fixture.token)
        server.stop()
        meter = Meter(fixture, plan)
        with running(meter, contenders, lambda _: plan.pool_sizes[0]) as servers:
            compare_responses(servers, fixture, data)
        wait_until_idle(log)
        best = best_pool_sizes(meter, contenders)
        figures = run_rounds(meter, contenders, best)
        log_off = measure_log_off(meter, contenders, best)
    written = {
        "machine": describe(),
        "versions": versions(),
        "binary": server_binary().name,
        "connections": CONNECTIONS,
        "rounds": plan.rounds,
        "seconds": plan.seconds,
        "rows": data.rows,
        "groups": [{"users": group.users, "tasks": group.tasks} for group in data.groups.values()],
        "pool_sizes": best,
        "titles": {contender.name: contender.title for contender in contenders} | {LIMIT: "pgbench -M prepared"},
        "workloads": {workload.name: workload.title for workload in plan.workloads},
        "log_off": log_off,
        "figures": figures,
    }
    (results / "compare.json").write_text(json.dumps(written, indent=1) + "\n")
    report.write(written, results)
