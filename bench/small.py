"""`./dev bench small`: the binary, memory after a load and with many idle connections, and the time to the first answer."""

import resource
import socket
import statistics
import time

import report
from compare import CONNECTIONS
from machine import BenchError, memory_bytes, wait_for_calm
from stage import Stage, ours, say
from workloads import WORKLOADS, Data, write_requests, wrk

IDLE_CONNECTIONS = 10_000
STARTS = 20
ROWS, USERS = 100_000, 1_000
MEGABYTE = 1_000_000
# What is asked: at most so much.
BINARY_MEGABYTES, LOADED_MEGABYTES, IDLE_MEGABYTES, START_MILLISECONDS = 8, 12, 40, 50


def memory_after_load(stage, data, seconds):
    """Resident memory after each workload in turn: then, and the highest there was."""
    server = stage.start("ours", [ours()])
    for workload in WORKLOADS:
        requests = stage.folder / f"{workload.name}.requests"
        write_requests(requests, workload, data, stage.token)
        wrk(server, requests, CONNECTIONS, seconds, workload.expected)
        server.check_log()
        if workload.writes:
            stage.database.settle(data.rows)
    after, highest = memory_bytes(server.pid), memory_bytes(server.pid, "VmHWM")
    server.stop()
    return after, highest


def _exchange(connection, head):
    """Sends a request that has no body, and reads one answer to its end; its status."""
    connection.sendall(head)
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += _received(connection)
    head, _, body = answer.partition(b"\r\n\r\n")
    length = next((line for line in head.lower().splitlines() if line.startswith(b"content-length:")), b":0")
    missing = int(length.partition(b":")[2]) - len(body)
    while missing > 0:
        missing -= len(_received(connection))
    return int(head.split()[1])


def _received(connection):
    data = connection.recv(65_536)
    if not data:
        raise BenchError("the server closed a connection in the middle of an answer")
    return data


def _connected(port):
    connection = socket.create_connection(("127.0.0.1", port), timeout=10)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def memory_of_idle_connections(stage):
    """Resident memory before, and while so many connections that had an answer wait for their next request."""
    needed = IDLE_CONNECTIONS + 1_000
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise BenchError(f"{needed} open files are needed, {hard} are allowed (ulimit -Hn)")
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
    server = stage.start("ours-idle", [ours()])
    before, connections = memory_bytes(server.pid), []
    try:
        for _ in range(IDLE_CONNECTIONS):
            connections.append(_connected(server.port))
            if _exchange(connections[-1], b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n") != 200:
                raise BenchError("one of many connections had another answer")
        idle = memory_bytes(server.pid)
        for connection in (connections[0], connections[-1]):
            _exchange(connection, b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")  # they are still there
    finally:
        for connection in connections:
            connection.close()
    server.stop()
    return before, idle


def first_answer_seconds(stage, data):
    """From the start of the process to the last byte of the first answer that needed the database."""
    bearer = stage.token(0)
    head = f"GET /api/tasks/{data.task(0, 0)} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {bearer}\r\n\r\n".encode()
    server = stage.launch("ours-start", [ours()])
    while True:
        try:
            with _connected(server.port) as connection:
                status = _exchange(connection, head)
                taken = time.monotonic() - server.began
            break
        except ConnectionRefusedError:
            if server.process.poll() is not None or time.monotonic() - server.began > 10:
                raise BenchError(f"ours did not start: {server.log.read_text()}") from None
            time.sleep(0.0005)
    if status != 200:
        raise BenchError(f"the first answer was {status}")
    server.stop()
    return taken


def small(seconds, results):
    binary = ours().stat().st_size
    with Stage() as stage:
        data = Data(ROWS, USERS)
        stage.start_database().fill(data.rows, data.users)
        wait_for_calm(say)
        after, highest = memory_after_load(stage, data, seconds)
        before, idle = memory_of_idle_connections(stage)
        wait_for_calm(say)
        starts = sorted(first_answer_seconds(stage, data) * 1_000 for _ in range(STARTS))
    rows = [
        ("binary, stripped, as in the image", binary / MEGABYTE, BINARY_MEGABYTES, "MB", ""),
        (
            f"RSS after every workload at {CONNECTIONS} connections",
            after / MEGABYTE,
            LOADED_MEGABYTES,
            "MB",
            f"highest {highest / MEGABYTE:.1f}",
        ),
        (
            f"RSS with {IDLE_CONNECTIONS:,} idle connections",
            idle / MEGABYTE,
            IDLE_MEGABYTES,
            "MB",
            f"{before / MEGABYTE:.1f} with none",
        ),
        (
            f"start to first answer, median of {STARTS}",
            statistics.median(starts),
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
