"""`./dev soak [MINUTES]`: whether the server grows under a mixed load: good clients beside bad tokens, aborted
requests, slow readers, reconnects and lost database connections.

Writes bench/results/soak.md and soak.svg. Fails if memory, descriptors or threads grow, or a response is wrong.
"""

import argparse
import contextlib
import http.client
import json
import os
import random
import re
import signal
import socket
import statistics
import struct
import sys
import threading
import time
from collections import Counter
from html import escape
from pathlib import Path

from chart import TEXT, _text
from machine import BenchError, describe, memory_bytes
from fixture import FIRST_USER, TIMEOUT_SECONDS, Fixture, log, server_binary

RESULTS = Path(__file__).resolve().parent / "results"
MEGABYTE = 1_000_000
SAMPLES = 300
LONG_LIST = 2_000
# The first quarter warms up. What follows may differ this much from its first third to its last, as medians.
WARM_UP = 0.25
RSS_GROWTH, RSS_GROWTH_BYTES = 0.05, 2 * MEGABYTE
DESCRIPTOR_GROWTH, THREAD_GROWTH = 8, 1
# What an idle server may have more than a fresh one: connections of the pool (DB_POOL_SIZE's default), each of which
# has a socket and three descriptors to wait for it.
IDLE_DESCRIPTORS = 8 * 4
# How long an idle server may take to close what clients left behind, in seconds.
SETTLE_SECONDS = 60
TITLE = "Call the plumber about the sink"


class Load:
    """What runs beside the measurement: clients of several kinds, each on threads of its own, until `over` is set."""

    def __init__(self, fixture, server):
        self.fixture, self.server = fixture, server
        self.over = threading.Event()
        self.counts, self.failures, self.lock = Counter(), [], threading.Lock()
        kinds = [
            (self.good_client, 4),
            (self.bad_tokens, 2),
            (self.aborted_requests, 2),
            (self.slow_reader, 3),
            (self.reconnects, 2),
            (self.idle_connections, 1),
            (self.lost_database_connections, 1),
        ]
        self.kinds = {kind.__name__ for kind, _ in kinds}
        self.threads = [
            threading.Thread(target=self.keep, args=(kind, number), daemon=True)
            for kind, count in kinds
            for number in range(count)
        ]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *details):
        self.over.set()
        for thread in self.threads:
            thread.join(2 * TIMEOUT_SECONDS)

    def keep(self, kind, number):
        """Calls this again and again. A connection that the server closes is no failure; a wrong response is."""
        choices = random.Random(f"{kind.__name__} {number}")
        while not self.over.is_set():
            try:
                kind(choices, number)
            except (OSError, http.client.HTTPException):
                self.count(kind, "cut")
            except Exception as error:  # noqa: BLE001 (any defect of a client ends the soak, and is shown)
                with self.lock:
                    self.failures.append(f"{kind.__name__}: {error!r}")
                return self.over.set()

    def count(self, kind, what):
        with self.lock:
            self.counts[f"{kind.__name__}: {what}"] += 1

    def pause(self, seconds):
        self.over.wait(seconds)

    @contextlib.contextmanager
    def socket(self, receive_bytes=None):
        with socket.socket() as opened:
            if receive_bytes:
                opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
            opened.settimeout(TIMEOUT_SECONDS)
            opened.connect(("127.0.0.1", self.server.port))
            yield opened

    def ask(self, kind, connection, expected, method, path, bearer=None, body=None):
        """One request on an open connection. A 503 is always allowed: the database connection may just be lost."""
        headers = {"Authorization": f"Bearer {bearer}"} if bearer else {}
        connection.request(method, path, body=body, headers=headers)
        response = connection.getresponse()
        content = response.read()
        self.count(kind, response.status)
        if response.status not in {*expected, 503}:
            raise BenchError(f"{method} {path} was {response.status}: {content[:200]}")
        return response.status, content

    @contextlib.contextmanager
    def connection(self):
        opened = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=TIMEOUT_SECONDS)
        try:
            yield opened
        finally:
            opened.close()

    def good_client(self, choices, number):
        """The life of a task, several times on one connection."""
        bearer = self.fixture.token(number)
        with self.connection() as connection:
            for _ in range(choices.randint(1, 20)):
                status, content = self.ask(
                    self.good_client, connection, {201}, "POST", "/api/tasks", bearer, json.dumps({"title": TITLE})
                )
                if status != 201:
                    continue
                path = f"/api/tasks/{json.loads(content)['id']}"
                for expected, method, end, body in [
                    (200, "GET", "", None),
                    (200, "PUT", "", json.dumps({"description": "é" * choices.randint(0, 2_000)})),
                    (422, "PUT", "", '{"title": 1}'),
                    (200, "PATCH", "/complete", None),
                    (200, "DELETE", "", None),
                ]:
                    allowed = {204, 404} if method == "DELETE" else {expected}
                    self.ask(self.good_client, connection, allowed, method, path + end, bearer, body)
                self.ask(self.good_client, connection, {200}, "GET", "/api/tasks?limit=20", bearer)
                self.pause(0.02)

    def bad_tokens(self, choices, number):
        good = self.fixture.token(number)
        head, claims, signature = good.split(".")
        bad = choices.choice(
            [
                self.fixture.token(number, exp=1),
                f"{head}.{claims}.{signature[::-1]}",
                f"{head}.{claims[:-4]}.{signature}",
                f"{head}.{claims}.",
                choices.randbytes(choices.randint(1, 2_000)).hex(),
            ]
        )
        with self.connection() as connection:
            for _ in range(5):
                self.ask(self.bad_tokens, connection, {401}, "GET", "/api/tasks", bad)
        self.pause(0.02)

    def aborted_requests(self, choices, number):
        """A request that ends anywhere, or whose response nobody reads; the connection is closed or reset."""
        body = json.dumps({"title": TITLE, "description": "x" * choices.randint(0, 50_000)})
        request = (
            f"PUT /api/tasks/1 HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {self.fixture.token(number)}\r\n"
            f"Content-Length: {len(body)}\r\n\r\n{body}"
        ).encode()
        with self.socket() as opened:
            opened.sendall(request[: choices.randint(1, len(request))])
            if choices.random() < 0.5:
                opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.pause(choices.choice([0, 0, 0.01]))
        self.count(self.aborted_requests, "sent")
        self.pause(0.01)

    def slow_reader(self, choices, number):
        """Reads a long list in small pieces; every second one leaves in the middle."""
        bearer = self.fixture.token(FIRST_USER)
        leaves = choices.random() < 0.5
        with self.socket(16_384) as opened:
            head = f"GET /api/tasks HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {bearer}\r\n"
            opened.sendall(f"{head}Connection: close\r\n\r\n".encode())
            while (piece := opened.recv(8_192)) and not self.over.is_set():
                if leaves and choices.random() < 0.1:
                    break
                self.pause(0.03)
        self.count(self.slow_reader, "left" if piece else "read all")

    def reconnects(self, choices, number):
        with self.connection() as connection:
            path, expected = choices.choice([("/health", 200), ("/ready", 200), ("/nowhere", 404), ("/docs", 200)])
            self.ask(self.reconnects, connection, {expected}, "GET", path)
        self.pause(0.02)

    def idle_connections(self, choices, number):
        with contextlib.ExitStack() as opened:
            for _ in range(50):
                opened.enter_context(self.socket())
            self.pause(choices.randint(1, 10))
        self.count(self.idle_connections, "held 50")

    def lost_database_connections(self, choices, number):
        self.pause(choices.randint(10, 30))
        self.fixture.database.sql(
            "set client_min_messages = error",  # one of them may have ended by itself
            "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'todo-backend'"
        )
        self.count(self.lost_database_connections, "ended all")


def sample(server):
    """Resident memory, descriptors and threads of the server now."""
    folder = Path(f"/proc/{server.pid}")
    threads = int(re.search(r"^Threads:\s+(\d+)", (folder / "status").read_text(), re.MULTILINE)[1])
    return memory_bytes(server.pid), len(os.listdir(folder / "fd")), threads


def check_log(server):
    """A panic or an error is a failure; a lost database connection is none. Empties the log, so that it stays small."""
    text = server.log.read_text(errors="replace")
    os.truncate(server.log, 0)
    if bad := [line for line in text.splitlines() if re.search(r"\b(ERROR|panicked)\b", line)]:
        raise BenchError(f"the server complains in {len(bad)} lines: {bad[0][:500]}")


def watch(server, load, seconds):
    """Samples of the whole time: seconds since the start, and what `sample` says."""
    samples, begun = [], time.monotonic()
    while (now := time.monotonic() - begun) < seconds:
        if load.over.is_set() or server.process.poll() is not None:
            break
        samples.append((now, *sample(server)))
        check_log(server)
        load.pause(seconds / SAMPLES)
    if load.failures or server.process.poll() is not None:
        raise BenchError(f"{load.failures}; the server {server.describe()}")
    return samples


def growths(samples):
    """Of each measure the medians of the first and the last third after the warm-up, and how much more is allowed."""
    settled = [one[1:] for one in samples if one[0] >= samples[-1][0] * WARM_UP]
    third = max(1, len(settled) // 3)
    pairs = [
        (statistics.median(column[:third]), statistics.median(column[-third:]))
        for column in zip(*settled, strict=True)
    ]
    allowed = (max(RSS_GROWTH * pairs[0][0], RSS_GROWTH_BYTES), DESCRIPTOR_GROWTH, THREAD_GROWTH)
    return [(first, last, more) for (first, last), more in zip(pairs, allowed, strict=True)]


def settle(server, fresh):
    """Waits until the idle server has closed what the load left behind; its last sample."""
    deadline = time.monotonic() + SETTLE_SECONDS
    while True:
        now = sample(server)
        if now[1] <= fresh[1] + IDLE_DESCRIPTORS or time.monotonic() > deadline:
            return now
        time.sleep(1)


def draw(samples, heading):
    """Three curves over time, one below the other, in SVG."""
    width, left, height, gap, top = 820, 80, 110, 46, 56
    columns = [("RSS, MB", 1, MEGABYTE), ("descriptors", 2, 1), ("threads", 3, 1)]
    end, shapes = samples[-1][0], [_text(12, 20, heading, "start", 14)]
    for number, (title, column, unit) in enumerate(columns):
        y = top + number * (height + gap)
        values = [one[column] / unit for one in samples]
        highest = max(values) * 1.1
        points = " ".join(
            f"{left + one[0] / end * (width - left - 20):.1f},{y + height - value / highest * height:.1f}"
            for one, value in zip(samples, values, strict=True)
        )
        shapes += [
            f'<path d="M{left} {y}V{y + height}H{width - 20}" fill="none" stroke="{TEXT}"/>',
            f'<polyline points="{points}" fill="none" stroke="#2f81f7" stroke-width="1.5"/>',
            _text(left, y - 8, title, "start", 12),
            _text(left - 6, y + 10, f"{highest:.0f}", "end", 11),
            _text(left - 6, y + height, "0", "end", 11),
            _text(left, y + height + 16, "0", "middle", 11),
            _text(width - 20, y + height + 16, f"{end / 60:.0f} min", "end", 11),
        ]
    total = top + len(columns) * (height + gap)
    body = "\n".join(shapes)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {total}" width="{width}" height="{total}" '
        f'font-family="system-ui, sans-serif" role="img" aria-label="{escape(heading)}">\n{body}\n</svg>\n'
    )


def table(samples, fresh, idle, counts):
    rows = zip(("RSS, MB", "descriptors", "threads"), (MEGABYTE, 1, 1), fresh, growths(samples), idle, strict=True)
    lines = [
        "| | fresh | first third | last third | growth allowed | idle again | |",
        "|---|--:|--:|--:|--:|--:|---|",
    ]
    for name, unit, before, (first, last, more), after in rows:
        cells = [f"{value / unit:.{1 if unit > 1 else 0}f}" for value in (before, first, last, more, after)]
        lines.append(f"| {name} | {' | '.join(cells)} | {'met' if last - first <= more else '**missed**'} |")
    return "\n".join([*lines, "", "What happened:", "", *(f"- {name}: {n:,}" for name, n in sorted(counts.items()))])


def soak(minutes):
    with Fixture() as fixture:
        fixture.start_database()
        server = fixture.start("soak", [server_binary()])
        for path in ("/ready", "/docs"):
            server.request("GET", path)
        fixture.database.sql(f"""insert into tasks (user_id, title, description, completed, created_at, updated_at)
            select '{2 * FIRST_USER}', '{TITLE} ' || n, repeat('It drips. ', 20), false, now(), now()
            from generate_series(1, {LONG_LIST}) as n""")
        fresh = sample(server)
        log(f"soaking for {minutes} minutes")
        with Load(fixture, server) as load:
            samples = watch(server, load, minutes * 60)
        idle = settle(server, fresh)
        check_log(server)
        server.stop()
    RESULTS.mkdir(exist_ok=True)
    text = table(samples, fresh, idle, load.counts)
    (RESULTS / "soak.md").write_text(f"{minutes} minutes on {describe()}.\n\n{text}\n")
    (RESULTS / "soak.svg").write_text(draw(samples, f"A server under mixed load for {minutes} minutes"))
    log(text)
    if "**missed**" in text:
        raise BenchError("the server grew")
    if idle[1] > fresh[1] + IDLE_DESCRIPTORS:
        raise BenchError(f"{idle[1]} descriptors are open in an idle server, {fresh[1]} were in a fresh one")
    if missing := load.kinds - {name.split(":")[0] for name in load.counts}:
        raise BenchError(f"nothing happened in {missing}")


def main():
    parser = argparse.ArgumentParser(prog="./dev soak", description=__doc__.partition("\n\n")[0])
    parser.add_argument("minutes", type=float, nargs="?", default=60)
    minutes = parser.parse_args().minutes
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _frame: sys.exit(128 + number))
    try:
        soak(minutes)
    except BenchError as error:
        sys.exit(f"{error}\nThe soak failed.")


if __name__ == "__main__":
    main()
