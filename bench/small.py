"""`./dev bench small`: size of the binary, memory under load and with idle connections, time to the first response."""

import resource
import socket
import statistics
import time

import report
from compare import CONNECTIONS
from fixture import Fixture, log, server_binary
from machine import BenchError, memory_bytes, wait_until_idle
from workloads import WORKLOADS, Data, write_requests, wrk

IDLE_CONNECTIONS = 10_000
STARTS = 20
ROWS = 100_000
MEGABYTE = 1_000_000
# Targets: at most so much.
BINARY_MEGABYTES, LOADED_MEGABYTES, IDLE_MEGABYTES, START_MILLISECONDS = 9, 12, 40, 50


def memory_after_load(fixture, data, seconds):
    """Resident memory after all workloads in turn, and its maximum."""
    server = fixture.start("ours", [server_binary()])
    for workload in WORKLOADS:
        requests = fixture.folder / f"{workload.name}.requests"
        write_requests(requests, workload, data, fixture.token)
        wrk(server, requests, CONNECTIONS, seconds, workload.expected)
        server.check_log()
        if workload.writes:
            fixture.database.remove_new_tasks(data.rows)
    after, highest = memory_bytes(server.pid), memory_bytes(server.pid, "VmHWM")
    server.stop()
    return after, highest


def _exchange(connection, head):
    """Sends a request without a body and reads the whole response; returns its status."""
    connection.sendall(head)
    response = b""
    while b"\r\n\r\n" not in response:
        response += _received(connection)
    head, _, body = response.partition(b"\r\n\r\n")
    length = next((line for line in head.lower().splitlines() if line.startswith(b"content-length:")), b":0")
    missing = int(length.partition(b":")[2]) - len(body)
    while missing > 0:
        missing -= len(_received(connection))
    return int(head.split()[1])


def _received(connection):
    data = connection.recv(65_536)
    if not data:
        raise BenchError("the server closed a connection in the middle of a response")
    return data


def _connected(port):
    connection = socket.create_connection(("127.0.0.1", port), timeout=10)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def memory_of_idle_connections(fixture):
    """Resident memory of the idle server, and with many open connections that have had a response each."""
    needed = IDLE_CONNECTIONS + 1_000
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise BenchError(f"{needed} open files are needed, {hard} are allowed (ulimit -Hn)")
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
    server = fixture.start("ours-idle", [server_binary()])
    before, connections = memory_bytes(server.pid), []
    try:
        for _ in range(IDLE_CONNECTIONS):
            connections.append(_connected(server.port))
            if _exchange(connections[-1], b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n") != 200:
                raise BenchError("one of many connections had another response")
        idle = memory_bytes(server.pid)
        for connection in (connections[0], connections[-1]):
            _exchange(connection, b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")  # both are still open
    finally:
        for connection in connections:
            connection.close()
    server.stop()
    return before, idle


def first_response_seconds(fixture, data):
    """From the start of the process to the last byte of the first response that needs the database."""
    few = data.groups[20]
    bearer = fixture.token(few.first_user)
    path = f"/api/tasks/{few.task(0, 0)}"
    head = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {bearer}\r\n\r\n".encode()
    server = fixture.launch("ours-start", [server_binary()])
    while True:
        try:
            with _connected(server.port) as connection:
                status = _exchange(connection, head)
                taken = time.monotonic() - server.began
            break
        except ConnectionRefusedError:
            if server.process.poll() is not None or time.monotonic() - server.began > 10:
                raise BenchError(f"our server did not start: {server.log.read_text()}") from None
            time.sleep(0.0005)
    if status != 200:
        raise BenchError(f"the first response was {status}")
    server.stop()
    return taken


def small(seconds, results):
    binary = server_binary().stat().st_size
    with Fixture() as fixture:
        data = Data(ROWS)
        fixture.start_database().fill(data)
        wait_until_idle(log)
        after, highest = memory_after_load(fixture, data, seconds)
        before, idle = memory_of_idle_connections(fixture)
        wait_until_idle(log)
        starts = sorted(first_response_seconds(fixture, data) * 1_000 for _ in range(STARTS))
    median, loaded = statistics.median(starts), f"RSS after every workload at {CONNECTIONS} connections"
    rows = [
        ("binary, stripped, as in the image", binary / MEGABYTE, BINARY_MEGABYTES, "MB", ""),
        (loaded, after / MEGABYTE, LOADED_MEGABYTES, "MB", f"maximum {highest / MEGABYTE:.1f}"),
        (
            f"RSS with {IDLE_CONNECTIONS:,} idle connections",
            idle / MEGABYTE,
            IDLE_MEGABYTES,
            "MB",
            f"{before / MEGABYTE:.1f} with none",
        ),
        (
            f"start to first response, median of {STARTS}",
            median,
            START_MILLISECONDS,
            "ms",
            f"{starts[0]:.1f} to {starts[-1]:.1f}",
        ),
    ]
    lines = ["| | measured | at most | | |", "|---|--:|--:|---|---|"]
    lines += [
        f"| {what} | {value:.1f} {unit} | {most} {unit} | {'met' if value <= most else '**missed**'} | {remark} |"
        for what, value, most, unit, remark in rows
    ]
    report.publish(results, "small", "\n".join(lines))
