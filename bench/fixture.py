"""The test fixture: a private database and the servers on it. Everything that it starts it also stops."""

import base64
import contextlib
import hashlib
import hmac
import http.client
import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

from machine import BenchError

ROOT = Path(__file__).resolve().parent.parent
DEV = ROOT / "dev"
# How long a process may take to start or to stop, in seconds.
TIMEOUT_SECONDS = 30
# The database counts as idle when so many checks in a row, 50 ms apart, find no running statement.
IDLE_CHECKS = 5
# Differences from PostgreSQL's defaults: all data fits into memory; no vacuum or checkpoint disturbs a measurement.
# `fsync` is on: a commit is on the disk before it is answered.
DATABASE_OPTIONS = (
    "-c shared_buffers=1GB -c autovacuum=off -c max_wal_size=8GB -c checkpoint_timeout=1h -c max_connections=200"
).split()
# User ids are numbers of this length, because pgbench computes only numbers.
FIRST_USER = 1_000_000_000_000_000
# What every second task of a user has.
DESCRIPTION = "It drips since Tuesday; ask for the price before they begin, and for the warranty."


def log(*words):
    print(*words, flush=True)


def run(command, **options):
    """Runs a command until it ends; returns its standard output."""
    done = subprocess.run(
        [str(word) for word in command], text=True, stdout=subprocess.PIPE, start_new_session=True, **options
    )
    if done.returncode != 0:
        raise BenchError(f"{command[0]} ended with {done.returncode}: {done.stdout[-2000:]}{done.stderr or ''}")
    return done.stdout


def token(secret, user, **claims):
    """A token signed with HS256, valid for a day."""
    now = int(time.time())
    parts = [
        {"alg": "HS256", "typ": "JWT"},
        {"sub": str(user), "email": f"{user}@example.com", "iat": now, "exp": now + 86_400, **claims},
    ]
    signed = b".".join(_base64url(json.dumps(part, separators=(",", ":")).encode()) for part in parts)
    return (signed + b"." + _base64url(hmac.digest(secret.encode(), signed, hashlib.sha256))).decode()


def _base64url(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=")


class Database:
    """A private PostgreSQL cluster."""

    def __init__(self, folder, options=()):
        self.folder = folder
        # The statements that our server sends, by kind of request (`workloads.record_statements`).
        self.statements = {}
        self.url = run([DEV, "database", "start", folder, *DATABASE_OPTIONS, *options]).strip()
        self.port = int((folder / "port").read_text())
        self.environment = {
            **os.environ,
            "PGHOST": "127.0.0.1",
            "PGPORT": str(self.port),
            "PGUSER": "todo",
            "PGDATABASE": "postgres",
            "PGPASSWORD": (folder / "password").read_text(),
            "PGOPTIONS": "-c client_min_messages=warning",
        }
        self.pid = int((folder / "data" / "postmaster.pid").read_text().splitlines()[0])

    def stop(self):
        run([DEV, "database", "stop", self.folder, "immediate"])

    def sql(self, *statements):
        """Runs statements, each in its own transaction; returns what they print."""
        commands = [word for statement in statements for word in ("--command", statement)]
        options = ["--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--set", "ON_ERROR_STOP=1"]
        return run(["psql", *options, *commands], env=self.environment).strip()

    def fill(self, data):
        """Creates the table anew with the tasks of these groups of users."""
        self.sql(
            "drop table if exists tasks",
            (ROOT / "schema.sql").read_text(),
            *(insert_group(group) for group in data.groups.values()),
            "vacuum (freeze, analyze) tasks",
            "checkpoint",
        )

    def remove_new_tasks(self, rows):
        """Deletes what a measurement has created, so that each starts with the same table."""
        # FastAPI reads what it has written, so a statement that is left from the load must find its row.
        self._wait_until_idle()
        # Of a large table vacuum would skip the few dead entries of the indexes, and reads would meet them.
        self.sql(f"delete from tasks where id > {rows}", "vacuum (analyze, index_cleanup on) tasks")

    def _wait_until_idle(self):
        idle, latest = 0, time.monotonic() + TIMEOUT_SECONDS
        while idle < IDLE_CHECKS:
            if time.monotonic() > latest:
                raise BenchError("statements still run in the database")
            busy = self.sql("select count(*) from pg_stat_activity where state <> 'idle' and pid <> pg_backend_pid()")
            idle = idle + 1 if busy == "0" else 0
            time.sleep(0.05)

    def statements_of(self, act):
        """The statements that PostgreSQL received by the extended protocol while `act` ran, in order."""
        log = self.folder / "log"
        self._log_statements("0")
        begin = log.stat().st_size
        act()
        self._log_statements("-1")
        text = log.read_text()[begin:]
        return re.findall(r"execute [^:\n]+: (.*?)(?=\n\d{4}-\d\d-\d\d |\Z)", text, re.DOTALL)

    def _log_statements(self, milliseconds):
        self.sql(f"alter system set log_min_duration_statement = {milliseconds}", "select pg_reload_conf()")
        time.sleep(0.3)  # a backend applies it when it is next scheduled; nothing reports that


def insert_group(group):
    """The statement that inserts the tasks of a group of users, in the order of time, the users in turn."""
    rows = group.users * group.tasks
    return f"""insert into tasks (user_id, title, description, completed, created_at, updated_at)
        select ({FIRST_USER + group.first_user} + n % {group.users})::text, 'Call the plumber about sink number ' || n,
            case when n / {group.users} % 2 = 0 then '{DESCRIPTION}' end, n % 3 = 0, moment, moment
        from generate_series(0, {rows - 1}) as n,
            lateral (select now() - ({rows} - n) * interval '1 second') as t (moment)
        order by n"""


def free_port():
    return int(run([DEV, "free-port"]))


class Server:
    """A running server: one process and its descendants."""

    def __init__(self, name, command, environment, log, cwd=ROOT):
        self.name, self.log = name, log
        self.port = int(environment["PORT"])
        inherited = {key: os.environ[key] for key in ("PATH", "HOME") if key in os.environ}
        self.began = time.monotonic()
        with open(log, "ab") as output:
            self.process = subprocess.Popen(
                [str(word) for word in command],
                env={**inherited, **environment},
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self.pid = self.process.pid
        self.is_stopped = False

    def wait_until_healthy(self, path="/health", pause_seconds=0.02):
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while True:
            if self.process.poll() is not None:
                raise BenchError(f"{self.name} {self.describe()}")
            with contextlib.suppress(OSError, http.client.HTTPException):
                if self.request("GET", path)[0] == 200:
                    return self
            if time.monotonic() > deadline:
                raise BenchError(f"{self.name} does not answer; it {self.describe()}")
            time.sleep(pause_seconds)

    def request(self, method, path, bearer=None, body=None):
        """Sends a request on a new connection; returns status, headers and body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT_SECONDS)
        headers = {"Authorization": f"Bearer {bearer}"} if bearer else {}
        try:
            connection.request(
                method, path, body=body, headers=headers | ({"Content-Type": "application/json"} if body else {})
            )
            response = connection.getresponse()
            return response.status, response.headers, response.read()
        finally:
            connection.close()

    def describe(self):
        """Whether it still runs, and the end of its log."""
        status = self.process.poll()
        state = "runs" if status is None else f"has ended with {status}"
        return f"{state}; its log ends with:\n{self.log.read_text(errors='replace')[-1500:]}"

    def check_log(self):
        """Ends the bench if the log has a warning or an error. Then truncates the log, so that it stays small."""
        text = self.log.read_text(errors="replace")
        os.truncate(self.log, 0)
        bad = [line for line in text.splitlines() if re.search(r"\b(WARN|ERROR|Traceback|panicked)\b", line)]
        if bad:
            raise BenchError(f"{self.name} logged {len(bad)} warnings or errors: {bad[0][:500]}")

    def stop(self):
        if self.is_stopped:
            return  # another process may have its id by now
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(TIMEOUT_SECONDS)
            except subprocess.TimeoutExpired:
                os.killpg(self.pid, signal.SIGKILL)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)  # the rest of its process group
        self.process.wait()
        self.is_stopped = True


class Fixture(contextlib.ExitStack):
    """A temporary folder, a database and servers. All of them are gone when the `with` block ends."""

    def __init__(self):
        super().__init__()
        self.secret = secrets.token_hex(32)
        self.folder = Path(tempfile.mkdtemp(prefix="todo-backend-bench."))
        self.folder.chmod(0o755)  # PostgreSQL may run as another user
        self.callback(shutil.rmtree, self.folder, ignore_errors=True)
        self.database = None

    def __exit__(self, *details):
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        return super().__exit__(*details)

    def start_database(self, *options):
        folder = self.folder / "postgres"
        self.callback(
            subprocess.run, [DEV, "database", "stop", folder, "immediate"], check=False, start_new_session=True
        )
        self.database = Database(folder, options)
        return self.database

    def start(self, name, command, database_url=None, cwd=ROOT, **environment):
        """Starts a server and waits until it answers."""
        server = self.launch(name, command, database_url, cwd, **environment)
        return server.wait_until_healthy()

    def launch(self, name, command, database_url=None, cwd=ROOT, **environment):
        """Starts a server. Everything that is not set here has its default."""
        environment = {
            "HOST": "127.0.0.1",
            "PORT": str(free_port()),
            "NEON_DATABASE_URL": database_url or self.database.url,
            "BETTER_AUTH_SECRET": self.secret,
            **environment,
        }
        server = Server(name, command, environment, self.folder / f"{name}.log", cwd)
        self.callback(server.stop)
        return server

    def token(self, user, **claims):
        return token(self.secret, FIRST_USER + user, **claims)


def server_binary():
    """Our server as it is shipped; ./dev has built it."""
    return Path(os.environ["SERVER_BINARY"])
