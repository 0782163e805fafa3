"""`./dev bench remote`: throughput and latency when the database is milliseconds away.

bench/delay is a proxy before the database. The latency of one client of pgbench through the proxy is the real round
trip: it includes the statement's own time and a commit's. Our server is compared with it, for the same statement.
"""

import subprocess

import report
from contenders import build_program, our_server
from fixture import TIMEOUT_SECONDS, Fixture, log, server_binary
from machine import BenchError, wait_until_idle
from workloads import THREADS, Data, pgbench, record_statements, workload_named, write_requests, wrk

DELAYS_MS = (5, 20)
POOL_SIZES = (4, 8, 16)
CONNECTIONS = 64
ROWS = 100_000
MEASURED = ("read", "list_20", "create")
# Targets: throughput as a share of pool size ÷ round trip, and latency above one round trip.
MIN_THROUGHPUT_SHARE, MAX_EXTRA_MS = 0.9, 1.0


def start_proxy(fixture, program, milliseconds):
    """Starts a proxy that delays each direction by half of this; returns its port and the database's URL through it."""
    database = fixture.database
    command = [program, str(database.port), str(milliseconds * 500)]
    proxy = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)

    def stop():
        proxy.kill()
        proxy.wait(TIMEOUT_SECONDS)

    fixture.callback(stop)
    line = proxy.stdout.readline()
    if not line.strip().isdigit():
        raise BenchError("the delaying proxy did not start")
    return int(line), database.url.replace(f":{database.port}/", f":{int(line)}/")


def round_trip_ms(fixture, port, workload, data, seconds):
    """The latency of one client of pgbench for the statement of a workload, through the proxy."""
    database = fixture.database
    direct = database.environment
    database.environment = {**direct, "PGPORT": str(port)}
    try:
        return 1_000 / pgbench(database, fixture.folder, workload, data, 1, seconds)["per_second"]
    finally:
        database.environment = direct


def measure(server, workload, file, size, round_trip, seconds, bearer):
    """A row of the table."""
    # The first load opens every connection and prepares the statement. A load leaves queued requests behind; the single
    # request is answered after them.
    wrk(server, file, CONNECTIONS, 2)
    server.request("GET", "/api/tasks/1", bearer)
    loaded = wrk(server, file, CONNECTIONS, seconds)
    server.request("GET", "/api/tasks/1", bearer)
    unloaded = wrk(server, file, THREADS, seconds)  # as few connections as wrk allows
    server.check_log()
    rate, p50 = loaded["requests"] / loaded["seconds"], unloaded["p50_us"] / 1_000
    share, extra = rate * round_trip / size / 1_000, p50 - round_trip
    met = share >= MIN_THROUGHPUT_SHARE and extra <= MAX_EXTRA_MS
    return (
        f"{workload.title} | {round_trip:.2f} ms | {size} | {rate:,.0f} | {share:.2f} | {p50:.2f} ms | "
        f"{extra:+.2f} ms | {'met' if met else '**missed**'} |"
    )


def measure_delay(fixture, program, milliseconds, data, files, seconds):
    """The rows of the table for one delay. `files` has the requests by workload."""
    port, url = start_proxy(fixture, program, milliseconds)
    workloads = [workload_named(name) for name in MEASURED]
    round_trips = {workload.name: round_trip_ms(fixture, port, workload, data, seconds) for workload in workloads}
    bearer, lines = fixture.token(data.groups[20].first_user), []
    for size in POOL_SIZES:
        server = fixture.start(f"ours-{milliseconds}-{size}", [server_binary()], url, DB_POOL_SIZE=str(size))
        for workload in workloads:
            name = workload.name
            line = measure(server, workload, files[name], size, round_trips[name], seconds, bearer)
            lines.append(f"| {milliseconds} ms | {line}")
            log(lines[-1])
            if workload.writes:
                fixture.database.remove_new_tasks(data.rows)
        server.stop()
    return lines


def remote(seconds, results):
    data, program = Data(ROWS), build_program("delay")
    columns = (
        "delay, both ways",
        "workload",
        "round trip",
        "connections to the database",
        "requests/s",
        "of connections ÷ round trip",
        "p50, not loaded",
        "to one round trip",
        "",
    )
    lines = [f"| {' | '.join(columns)} |", "|--:|---|--:|--:|--:|--:|--:|--:|---|"]
    with Fixture() as fixture:
        database = fixture.start_database()
        database.fill(data)
        server = our_server().start(fixture, POOL_SIZES[0])
        record_statements(server, database, data, fixture.token)
        server.stop()
        files = {}
        for name in MEASURED:
            files[name] = fixture.folder / f"{name}.requests"
            write_requests(files[name], workload_named(name), data, fixture.token)
        for milliseconds in DELAYS_MS:
            wait_until_idle(log)
            lines += measure_delay(fixture, program, milliseconds, data, files, seconds)
    text = f"""Targets: at least {MIN_THROUGHPUT_SHARE:g} of connections ÷ round trip, at most {MAX_EXTRA_MS:g} ms more
        than one round trip."""
    report.publish(results, "remote", "\n".join([*lines, "", report.paragraph(text)]))
