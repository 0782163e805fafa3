"""`./dev bench growth`: what a request costs as the table, the number of connections and one user's list grow.

Each size has a database of its own in the one cluster, and a server of its own; a round goes through all of them in turn.
"""

import contextlib
import copy
import json
import socket
import statistics
import time
from pathlib import Path

import report
from machine import BenchError, cpu_seconds, memory_bytes, wait_for_calm
from stage import FIRST_USER, Stage, ours, say
from workloads import PAGE, WORKLOADS, Data, statement, write_requests, wrk

SIZES, FULL_SIZES = (10_000, 1_000_000), (10_000, 1_000_000, 10_000_000)
TASKS_OF_ONE = 100
MEASURED = ("read", "list", "create")
CONNECTIONS = 64
CONNECTION_COUNTS = (2, 4, 16, 64, 256, 1_024)
LIST_LENGTHS = (1, 100, 1_000, 10_000, 100_000)
STALLED_READERS = 50
# Sizes take turns so short, and so many of them, for from one turn to the next the machine is a tenth faster or slower; and each round
# has servers of its own, as in compare.py.
TURN_SECONDS, TURNS_A_ROUND = 1, 3
# How far the cost at a larger size may lie above that at the smallest.
SPREAD = 0.10
# A whole list may need so much more memory, in bytes.
LIST_MEMORY_BYTES = 16_000_000
MEGABYTE = 1_000_000


def sized_database(database, name):
    """Another database of the same cluster."""
    database.sql(f"create database {name}")
    other = copy.copy(database)
    other.url = database.url.removesuffix("/postgres") + f"/{name}"
    other.environment = {**database.environment, "PGDATABASE": name}
    return other


class Size:
    """A table of some size, and how a server on it is loaded."""

    def __init__(self, stage, rows):
        self.data = Data(rows, rows // TASKS_OF_ONE)
        self.database = sized_database(stage.database, f"rows_{rows}")
        say(f"filling {rows:,} tasks")
        self.database.fill(rows, self.data.users)
        self.files = {}
        for workload in WORKLOADS:
            self.files[workload.name] = stage.folder / f"{rows}.{workload.name}.requests"
            write_requests(self.files[workload.name], workload, self.data, stage.token)

    def turn(self, server, workload):
        """Requests a second, and processor time a request of server and PostgreSQL together."""
        pids = (server.pid, self.database.pid)
        before = sum(map(cpu_seconds, pids))
        result = wrk(server, self.files[workload.name], CONNECTIONS, TURN_SECONDS)
        result["cpu_us"] = (sum(map(cpu_seconds, pids)) - before) * 1e6 / result["requests"]
        result["per_second"] = result["requests"] / result["seconds"]
        server.check_log()
        if workload.writes:
            self.database.settle(self.data.rows)
        return result


def table_sizes(stage, sizes, rounds):
    stages = [Size(stage, rows) for rows in sizes]
    workloads = [workload for workload in WORKLOADS if workload.name in MEASURED]
    figures = {(workload.name, size.data.rows): [] for workload in workloads for size in stages}
    for number in range(rounds):
        servers = {size: stage.start(f"ours-{size.data.rows}", [ours()], size.database.url) for size in stages}
        wait_for_calm(say)
        for turn in range(1 + TURNS_A_ROUND):
            first = (number * TURNS_A_ROUND + turn) % len(stages)
            for workload in workloads:
                for size in stages[first:] + stages[:first]:
                    result = size.turn(servers[size], workload)
                    if turn > 0:  # the first ones warm up
                        figures[workload.name, size.data.rows].append(result)
        for server in servers.values():
            server.stop()
    lines = [
        "| workload | tasks | requests/s | CPU µs, with PostgreSQL's | to the smallest: requests/s | CPU | |",
        "|---|--:|--:|--:|--:|--:|---|",
    ]
    for workload in workloads:
        smallest = figures[workload.name, sizes[0]]
        for rows in sizes:
            own = figures[workload.name, rows]
            rate, cpu = (report.ratio(own, smallest, what) for what in ("per_second", "cpu_us"))
            met = rate >= 1 - SPREAD and cpu <= 1 + SPREAD
            lines.append(
                f"| {workload.title} | {rows:,} | {report.median(own, 'per_second'):,.0f} | {report.median(own, 'cpu_us'):.1f} | "
                f"{rate:.2f} | {cpu:.2f} | {'' if rows == sizes[0] else 'met' if met else '**missed**'} |"
            )
    largest_plan = [plan(size) for size in stages][-1]
    return "\n".join(
        [f"## Tasks in the table\n\nAllowed: {SPREAD:.0%} more than at the smallest.\n", *lines, "", largest_plan]
    )


def plan(size):
    """How PostgreSQL reads one task and a page. A scan of the whole table ends the bench."""
    user = f"'{FIRST_USER}'"
    asked = {
        "get": ("text, integer", f"{user}, {size.data.task(0, 7)}"),
        "page": ("text, boolean, text, bigint", f"{user}, null, null, {PAGE}"),
    }
    parts = [f"Plans at {size.data.rows:,} tasks:\n"]
    for kind, (types, values) in asked.items():
        text = size.database.sql(
            f"prepare {kind}({types}) as {statement(kind)}",
            f"explain (analyze, buffers, costs off, timing off, summary off) execute {kind}({values})",
        )
        if "Seq Scan on tasks" in text or "Index" not in text:
            raise BenchError(f"no index is used for {kind}:\n{text}")
        parts.append(f"```\n{text}\n```")
    return "\n".join(parts)


def connection_counts(stage, size, seconds):
    read = next(workload for workload in WORKLOADS if workload.name == "read")
    lines = ["## Connections\n", "| connections | requests/s | p50 ms | p99 ms | RSS MB |", "|--:|--:|--:|--:|--:|"]
    server = stage.start("ours-connections", [ours()], size.database.url)
    for count in CONNECTION_COUNTS:
        wrk(server, size.files["read"], count, 1)
        result = wrk(server, size.files["read"], count, seconds, read.expected)
        server.check_log()
        lines.append(
            f"| {count:,} | {result['requests'] / result['seconds']:,.0f} | {result['p50_us'] / 1_000:.2f} | "
            f"{result['p99_us'] / 1_000:.2f} | {memory_bytes(server.pid) / MEGABYTE:.1f} |"
        )
    server.stop()
    return "\n".join(lines)


def add_long_lists(database):
    """A user for each length. They are called after it, and their tasks follow each other in time."""
    for length in LIST_LENGTHS:
        database.sql(f"""insert into tasks (user_id, title, description, completed, created_at, updated_at)
            select ({FIRST_USER} * 2 + {length})::text, 'Call the plumber about sink number ' || n,
                'It drips since Tuesday; ask for the price before they begin, and for the warranty.', false,
                now() - ({length} - n) * interval '1 second', now()
            from generate_series(1, {length}) as n order by n""")
    database.sql("vacuum (freeze, analyze) tasks", "checkpoint")


def reset_peak(pid):
    """The highest resident memory is counted from now on."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def whole_list(server, bearer, length):
    """Asks for all tasks of one user, and looks at each; seconds, bytes, and how much memory it took at most."""
    reset_peak(server.pid)
    before, begun = memory_bytes(server.pid), time.monotonic()
    status, _, body = server.request("GET", "/api/tasks", bearer)
    taken = time.monotonic() - begun
    tasks = json.loads(body) if status == 200 else []
    ids = [task["id"] for task in tasks]
    if len(ids) != length or ids != sorted(set(ids), reverse=True):
        raise BenchError(f"a list of {length} was {status} with {len(ids)} tasks, or not newest first")
    return taken, len(body), max(0, memory_bytes(server.pid, "VmHWM") - before)


def list_lengths(stage, size, seconds):
    """A page, and the whole, of lists of all lengths."""
    lines = [
        "## Tasks of one user\n",
        f"| tasks | page of {PAGE}, requests/s | p99 ms | whole list, ms | MB | more RSS, MB | at most {LIST_MEMORY_BYTES / MEGABYTE:.0f} MB |",
        "|--:|--:|--:|--:|--:|--:|---|",
    ]
    server = stage.start("ours-lists", [ours()], size.database.url)
    for length in LIST_LENGTHS:
        bearer = stage.token(FIRST_USER + length)
        file = stage.folder / "long.requests"
        file.write_text(f"GET\t/api/tasks?limit={PAGE}\t{bearer}\t\n")
        wrk(server, file, 16, 1)
        page = wrk(server, file, 16, seconds)
        whole = [whole_list(server, bearer, length) for _ in range(3)]
        server.check_log()
        taken, more = statistics.median(one[0] for one in whole), max(one[2] for one in whole)
        lines.append(
            f"| {length:,} | {page['requests'] / page['seconds']:,.0f} | {page['p99_us'] / 1_000:.2f} | {taken * 1_000:.1f} | "
            f"{whole[0][1] / MEGABYTE:.2f} | {more / MEGABYTE:.1f} | {'met' if more <= LIST_MEMORY_BYTES else '**missed**'} |"
        )
    server.stop()
    return "\n".join(lines)


def stalled_readers(stage, size):
    """What others notice while many ask for the longest list and read nothing of it."""
    server = stage.start("ours-stalled", [ours()], size.database.url)
    bearer, other = stage.token(FIRST_USER + LIST_LENGTHS[-1]), stage.token(0)
    head = f"GET /api/tasks HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {bearer}\r\n\r\n".encode()
    before, slowest = memory_bytes(server.pid), 0.0
    reset_peak(server.pid)
    with contextlib.ExitStack() as readers:
        for _ in range(STALLED_READERS):
            reader = readers.enter_context(socket.socket())
            reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16_384)
            reader.settimeout(30)
            reader.connect(("127.0.0.1", server.port))
            reader.sendall(head)
            reader.recv(1)  # its answer has begun
        for _ in range(50):
            begun = time.monotonic()
            status, _, _ = server.request("GET", f"/api/tasks/{size.data.task(0, 0)}", other)
            slowest = max(slowest, time.monotonic() - begun)
            if status != 200:
                raise BenchError(f"a read beside {STALLED_READERS} stalled lists was {status}")
        active = stage.database.sql(
            "select count(*) from pg_stat_activity where state = 'active' and pid <> pg_backend_pid()"
        )
        more = memory_bytes(server.pid, "VmHWM") - before
    server.stop()
    return (
        f"{STALLED_READERS} readers that stall in a list of {LIST_LENGTHS[-1]:,}: {active} statements run in the database, the slowest of 50 reads "
        f"beside them took {slowest * 1_000:.1f} ms, and RSS was at most {more / MEGABYTE:.1f} MB more."
    )


def growth(rounds, seconds, full, results):
    with Stage() as stage:
        stage.start_database()
        parts = [table_sizes(stage, FULL_SIZES if full else SIZES, rounds)]
        size = Size(stage, 100_000)
        wait_for_calm(say)
        parts.append(connection_counts(stage, size, seconds))
        add_long_lists(size.database)
        parts += [list_lengths(stage, size, seconds), stalled_readers(stage, size)]
    report.publish(results, "growth", "\n\n".join(parts))
