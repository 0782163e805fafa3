"""`./dev bench growth`: the cost of a request as the table, the number of connections and one user's list grow.

Each size of table is a database of its own in the one cluster, with a server of its own. A round measures all of them
in turn.
"""

import contextlib
import copy
import json
import socket
import statistics
import time
from pathlib import Path

import report
from fixture import DESCRIPTION, FIRST_USER, Fixture, log, server_binary
from machine import BenchError, cpu_seconds, memory_bytes, wait_until_idle
from workloads import LIMIT, WORKLOADS, Data, record_statements, workload_named, write_requests, wrk

SIZES, FULL_SIZES = (10_000, 1_000_000), (10_000, 1_000_000, 10_000_000)
MEASURED = ("read", "list_20", "create")
CONNECTIONS = 64
# All their requests have a place in the queue (specs/api/limits.md), which sheds a few of 1,024 at once.
CONNECTION_COUNTS = (2, 4, 16, 64, 256, 512)
LIST_LENGTHS = (1, 100, 1_000, 10_000, 100_000)
STALLED_READERS = 50
# Measurements of a size are short and many, because the speed of the machine varies by a tenth from one to the next.
# Each round has servers of its own, as in compare.py.
SECONDS, MEASUREMENTS_PER_ROUND = 1, 3
# By how much the cost at a larger size may exceed that at the smallest.
MAX_GROWTH = 0.10
# The most additional memory that a whole list may take, in bytes.
MAX_LIST_BYTES = 16_000_000
MEGABYTE = 1_000_000


def sized_database(database, name):
    """Another database of the same cluster."""
    database.sql(f"create database {name}")
    other = copy.copy(database)
    other.url = database.url.removesuffix("/postgres") + f"/{name}"
    other.environment = {**database.environment, "PGDATABASE": name}
    return other


class Size:
    """A table of one size, and the load on its server."""

    def __init__(self, fixture, rows):
        self.data = Data(rows)
        self.database = sized_database(fixture.database, f"rows_{rows}")
        log(f"inserting {rows:,} tasks")
        self.database.fill(self.data)
        self.files = {}
        for workload in WORKLOADS:
            self.files[workload.name] = fixture.folder / f"{rows}.{workload.name}.requests"
            write_requests(self.files[workload.name], workload, self.data, fixture.token)

    def start_server(self, fixture, name):
        return fixture.start(name, [server_binary()], self.database.url)

    def measure(self, server, workload):
        """Requests a second, and processor time a request of server and PostgreSQL together."""
        pids = (server.pid, self.database.pid)
        before = sum(map(cpu_seconds, pids))
        result = wrk(server, self.files[workload.name], CONNECTIONS, SECONDS)
        result["cpu_us"] = (sum(map(cpu_seconds, pids)) - before) * 1e6 / result["requests"]
        result["per_second"] = result["requests"] / result["seconds"]
        server.check_log()
        if workload.writes:
            self.database.remove_new_tasks(self.data.rows)
        return result


def measure_sizes(fixture, sizes, workloads, rounds):
    """The results by workload and number of rows."""
    figures = {(workload.name, size.data.rows): [] for workload in workloads for size in sizes}
    for number in range(rounds):
        servers = {size: size.start_server(fixture, f"ours-{size.data.rows}") for size in sizes}
        wait_until_idle(log)
        for measurement in range(1 + MEASUREMENTS_PER_ROUND):
            first = (number * MEASUREMENTS_PER_ROUND + measurement) % len(sizes)
            for workload in workloads:
                for size in sizes[first:] + sizes[:first]:
                    result = size.measure(servers[size], workload)
                    if measurement > 0:  # the first one is the warm-up
                        figures[workload.name, size.data.rows].append(result)
        for server in servers.values():
            server.stop()
    return figures


def table_sizes(fixture, row_counts, rounds):
    sizes = [Size(fixture, rows) for rows in row_counts]
    server = sizes[0].start_server(fixture, "ours-statements")
    record_statements(server, sizes[0].database, sizes[0].data, fixture.token)
    server.stop()
    workloads = [workload_named(name) for name in MEASURED]
    figures = measure_sizes(fixture, sizes, workloads, rounds)
    lines = [
        "| workload | tasks | requests/s | CPU µs, with PostgreSQL's | to the smallest: requests/s | CPU | |",
        "|---|--:|--:|--:|--:|--:|---|",
    ]
    for workload in workloads:
        smallest = figures[workload.name, row_counts[0]]
        for rows in row_counts:
            own = figures[workload.name, rows]
            rate, cpu = (report.ratio(own, smallest, what) for what in ("per_second", "cpu_us"))
            met = rate >= 1 - MAX_GROWTH and cpu <= 1 + MAX_GROWTH
            per_second, cpu_us = report.median(own, "per_second"), report.median(own, "cpu_us")
            lines.append(
                f"| {workload.title} | {rows:,} | {per_second:,.0f} | {cpu_us:.1f} | {rate:.2f} | {cpu:.2f} | "
                f"{'' if rows == row_counts[0] else 'met' if met else '**missed**'} |"
            )
    largest_plans = [query_plans(size) for size in sizes][-1]
    title = f"## Tasks in the table\n\nAllowed: {MAX_GROWTH:.0%} more cost than at the smallest.\n"
    return "\n".join([title, *lines, "", largest_plans])


def query_plans(size):
    """How PostgreSQL reads one task and lists. A scan of the whole table ends the bench."""
    user = f"'{FIRST_USER}'"
    arguments = {
        "read": ("text, bigint", f"{user}, {size.data.groups[20].task(0, 7)}"),
        "list": ("text", user),
        "limit": ("text, boolean, text, bigint", f"{user}, null, null, {LIMIT}"),
    }
    parts = [f"Plans at {size.data.rows:,} tasks:\n"]
    for kind, (types, values) in arguments.items():
        text = size.database.sql(
            f'prepare "{kind}" ({types}) as {size.database.statements[kind]}',
            f'explain (analyze, buffers, costs off, timing off, summary off) execute "{kind}" ({values})',
        )
        if "Seq Scan on tasks" in text or "Index" not in text:
            raise BenchError(f"no index is used for {kind}:\n{text}")
        parts.append(f"```\n{text}\n```")
    return "\n".join(parts)


def connection_counts(fixture, size, seconds):
    lines = ["## Connections\n", "| connections | requests/s | p50 ms | p99 ms | RSS MB |", "|--:|--:|--:|--:|--:|"]
    server = size.start_server(fixture, "ours-connections")
    for count in CONNECTION_COUNTS:
        wrk(server, size.files["read"], count, 1)
        result = wrk(server, size.files["read"], count, seconds)
        server.check_log()
        lines.append(
            f"| {count:,} | {result['requests'] / result['seconds']:,.0f} | {result['p50_us'] / 1_000:.2f} | "
            f"{result['p99_us'] / 1_000:.2f} | {memory_bytes(server.pid) / MEGABYTE:.1f} |"
        )
    server.stop()
    return "\n".join(lines)


def insert_long_lists(database):
    """A user for each length, named after it. The tasks of one user follow each other in time."""
    for length in LIST_LENGTHS:
        database.sql(f"""insert into tasks (user_id, title, description, completed, created_at, updated_at)
            select ({FIRST_USER} * 2 + {length})::text, 'Call the plumber about sink number ' || n, '{DESCRIPTION}',
                false, now() - ({length} - n) * interval '1 second', now()
            from generate_series(1, {length}) as n order by n""")
    database.sql("vacuum (freeze, analyze) tasks", "checkpoint")


def reset_peak(pid):
    """Resets the maximum of the resident memory (VmHWM) to its present value."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def read_whole_list(server, bearer, length):
    """Reads all tasks of one user and checks them; returns seconds, bytes, and additional memory at the peak."""
    reset_peak(server.pid)
    before, start = memory_bytes(server.pid), time.monotonic()
    status, _, body = server.request("GET", "/api/tasks", bearer)
    duration = time.monotonic() - start
    tasks = json.loads(body) if status == 200 else []
    ids = [task["id"] for task in tasks]
    if len(ids) != length or ids != sorted(set(ids), reverse=True):
        raise BenchError(f"a list of {length} was {status} with {len(ids)} tasks, or not newest first")
    return duration, len(body), max(0, memory_bytes(server.pid, "VmHWM") - before)


def list_lengths(fixture, size, seconds):
    """The first tasks, and the whole, of lists of each length."""
    lines = [
        "## Tasks of one user\n",
        f"| tasks | limit={LIMIT}, requests/s | p99 ms | whole list, ms | MB | more RSS, MB "
        f"| at most {MAX_LIST_BYTES / MEGABYTE:.0f} MB |",
        "|--:|--:|--:|--:|--:|--:|---|",
    ]
    server = size.start_server(fixture, "ours-lists")
    for length in LIST_LENGTHS:
        bearer = fixture.token(FIRST_USER + length)
        file = fixture.folder / "long.requests"
        file.write_text(f"GET\t/api/tasks?limit={LIMIT}\t{bearer}\t\n")
        wrk(server, file, 16, 1)
        limited = wrk(server, file, 16, seconds)
        whole = [read_whole_list(server, bearer, length) for _ in range(3)]
        server.check_log()
        duration, more = statistics.median(one[0] for one in whole), max(one[2] for one in whole)
        lines.append(
            f"| {length:,} | {limited['requests'] / limited['seconds']:,.0f} | {limited['p99_us'] / 1_000:.2f} | "
            f"{duration * 1_000:.1f} | {whole[0][1] / MEGABYTE:.2f} | {more / MEGABYTE:.1f} | "
            f"{'met' if more <= MAX_LIST_BYTES else '**missed**'} |"
        )
    server.stop()
    return "\n".join(lines)


def stalled_readers(fixture, size):
    """How others are served while many clients request the longest list and do not read it."""
    server = size.start_server(fixture, "ours-stalled")
    few, bearer = size.data.groups[20], fixture.token(FIRST_USER + LIST_LENGTHS[-1])
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
            reader.recv(1)  # the response has begun
        for _ in range(50):
            start = time.monotonic()
            status, _, _ = server.request("GET", f"/api/tasks/{few.task(0, 0)}", fixture.token(few.first_user))
            slowest = max(slowest, time.monotonic() - start)
            if status != 200:
                raise BenchError(f"a read beside {STALLED_READERS} stalled lists was {status}")
        active = fixture.database.sql(
            "select count(*) from pg_stat_activity where state = 'active' and pid <> pg_backend_pid()"
        )
        more = memory_bytes(server.pid, "VmHWM") - before
    server.stop()
    return report.paragraph(
        f"""{STALLED_READERS} readers stall in a list of {LIST_LENGTHS[-1]:,}: {active} statements run in the database,
        the slowest of 50 reads beside them took {slowest * 1_000:.1f} ms, and RSS rose by at most
        {more / MEGABYTE:.1f} MB."""
    )


def growth(rounds, seconds, full, results):
    with Fixture() as fixture:
        fixture.start_database()
        parts = [table_sizes(fixture, FULL_SIZES if full else SIZES, rounds)]
        size = Size(fixture, 100_000)
        wait_until_idle(log)
        parts.append(connection_counts(fixture, size, seconds))
        insert_long_lists(size.database)
        parts += [list_lengths(fixture, size, seconds), stalled_readers(fixture, size)]
    report.publish(results, "growth", "\n\n".join(parts))
