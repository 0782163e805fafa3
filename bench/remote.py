"""`./dev bench remote`: what is left when the database is milliseconds away.

bench/delay stands between. What one client of pgbench waits for a statement by way of it is the round trip that there really is,
the statement's own time and a commit's included; by that ours is judged, for the same statement.
"""

import subprocess

import report
from contenders import build_program
from machine import BenchError, wait_for_calm
from stage import PATIENCE_SECONDS, Stage, ours, say
from workloads import THREADS, WORKLOADS, Data, pgbench, write_requests, wrk

DELAYS_MS = (5, 20)
POOL_SIZES = (4, 8, 16)
CONNECTIONS = 64
ROWS, USERS = 100_000, 1_000
MEASURED = ("read", "list", "create")
# Of pool size over round trip, at least; and above one round trip, at most.
THROUGHPUT_SHARE, EXTRA_MS = 0.9, 1.0


def start_proxy(stage, program, milliseconds):
    """The port and the URL of the database by way of a delay, half of it in each direction."""
    command = [program, str(stage.database.port), str(milliseconds * 500)]
    proxy = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)

    def stop():
        proxy.kill()
        proxy.wait(PATIENCE_SECONDS)

    stage.callback(stop)
    line = proxy.stdout.readline()
    if not line.strip().isdigit():
        raise BenchError("the delaying proxy did not start")
    return int(line), stage.database.url.replace(f":{stage.database.port}/", f":{int(line)}/")


def round_trip_ms(stage, port, workload, data, seconds):
    """What one client of pgbench waits for the statement of a workload, by way of the proxy."""
    database = stage.database
    direct = database.environment
    database.environment = {**direct, "PGPORT": str(port)}
    try:
        return 1_000 / pgbench(database, stage.folder, workload, data, 1, seconds)["per_second"]
    finally:
        database.environment = direct


def measure(server, workload, file, size, round_trip, seconds, bearer):
    """A line of the table."""
    # The first load opens every connection, and prepares the statement. Each leaves requests behind that wait their turn:
    # who comes after them is answered when they are gone.
    wrk(server, file, CONNECTIONS, 2)
    server.request("GET", "/api/tasks/1", bearer)
    loaded = wrk(server, file, CONNECTIONS, seconds)
    server.request("GET", "/api/tasks/1", bearer)
    calm = wrk(server, file, THREADS, seconds)  # as few connections as wrk allows
    server.check_log()
    rate = loaded["requests"] / loaded["seconds"]
    share, extra = rate * round_trip / size / 1_000, calm["p50_us"] / 1_000 - round_trip
    met = share >= THROUGHPUT_SHARE and extra <= EXTRA_MS
    return (
        f"{workload.title} | {round_trip:.2f} ms | {size} | {rate:,.0f} | {share:.2f} | {calm['p50_us'] / 1_000:.2f} ms | "
        f"{extra:+.2f} ms | {'met' if met else '**missed**'} |"
    )


def remote(seconds, results):
    data = Data(ROWS, USERS)
    program = build_program("delay")
    workloads = [workload for workload in WORKLOADS if workload.name in MEASURED]
    lines = [
        "| delay, both ways | workload | round trip | connections to the database | requests/s | of connections ÷ round trip | p50, not loaded | to one round trip | |",
        "|--:|---|--:|--:|--:|--:|--:|--:|---|",
    ]
    with Stage() as stage:
        stage.start_database().fill(data.rows, data.users)
        files = {workload.name: stage.folder / f"{workload.name}.requests" for workload in workloads}
        for workload in workloads:
            write_requests(files[workload.name], workload, data, stage.token)
        for milliseconds in DELAYS_MS:
            wait_for_calm(say)
            port, url = start_proxy(stage, program, milliseconds)
            round_trips = {workload.name: round_trip_ms(stage, port, workload, data, seconds) for workload in workloads}
            for size in POOL_SIZES:
                server = stage.start(f"ours-{milliseconds}-{size}", [ours()], url, DB_POOL_SIZE=str(size))
                for workload in workloads:
                    name = workload.name
                    line = measure(server, workload, files[name], size, round_trips[name], seconds, stage.token(0))
                    lines.append(f"| {milliseconds} ms | {line}")
                    say(lines[-1])
                    if workload.writes:
                        stage.database.settle(data.rows)
                server.stop()
    lines += [
        "",
        f"Targets: at least {THROUGHPUT_SHARE:g} of connections ÷ round trip, at most {EXTRA_MS:g} ms more than one round trip.",
    ]
    report.publish(results, "remote", "\n".join(lines))
