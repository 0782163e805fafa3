"""The private database, the servers on it, and their end: whatever is started here is stopped here."""

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
# How long anything may take to start or to stop, in seconds.
PATIENCE_SECONDS = 30
# So often in a row, a twentieth of a second apart, nothing must run in the database before it counts as quiet.
QUIET_LOOKS = 5
# What the database has beside PostgreSQL's defaults: all data in memory, and no vacuum or checkpoint in the middle of a turn.
# A commit is on the disk before it is answered.
DATABASE_OPTIONS = (
    "-c shared_buffers=1GB -c autovacuum=off -c max_wal_size=8GB -c checkpoint_timeout=1h -c max_connections=200"
).split()
# User ids are numbers, for pgbench can only compute numbers; as long as this one.
FIRST_USER = 1_000_000_000_000_000


def say(*words):
    print(*words, flush=True)


def run(command, **options):
    """Runs a command to its end; its standard output."""
    done = subprocess.run(
        [str(word) for word in command], text=True, stdout=subprocess.PIPE, start_new_session=True, **options
    )
    if done.returncode != 0:
        raise BenchError(f"{command[0]} ended with {done.returncode}: {done.stdout[-2000:]}{done.stderr or ''}")
    return done.stdout


def token(secret, user, **claims):
    """A token as project code mints it: HS256, good for a day."""
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
    """A PostgreSQL cluster of its own."""

    def __init__(self, folder, options=()):
        self.folder = folder
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
        """Runs statements, each in a transaction of its own; what the last ones print."""
        commands = [word for statement in statements for word in ("--command", statement)]
        options = ["--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--set", "ON_ERROR_STOP=1"]
        return run(["psql", *options, *commands], env=self.environment).strip()

    def fill(self, rows, users):
        """Makes the table anew with so many tasks. Those of one user lie scattered over it, as they do when many people write."""
        self.sql(
            "drop table if exists tasks",
            (ROOT / "schema.sql").read_text(),
            f"""insert into tasks (user_id, title, description, completed, created_at, updated_at)
            select ({FIRST_USER} + n % {users})::text, 'Call the plumber about sink number ' || n,
                case when n % 2 = 0 then 'It drips since Tuesday; ask for the price before they begin, and for the warranty.' end,
                n % 3 = 0, now() - ({rows} - n) * interval '1 second', now() - ({rows} - n) * interval '1 second'
            from generate_series(0, {rows - 1}) as n order by n""",
            "vacuum (freeze, analyze) tasks",
            "checkpoint",
        )

    def settle(self, rows):
        """Takes back what a turn has created, so that nobody inherits another's growth. Of a large table vacuum would leave the
        few dead entries in the indexes, and those who read there would meet them. What the load left behind may end first: FastAPI
        reads again what it has written, and must find it."""
        quiet, latest = 0, time.monotonic() + PATIENCE_SECONDS
        while quiet < QUIET_LOOKS:
            if time.monotonic() > latest:
                raise BenchError("the database does not come to rest")
            busy = self.sql("select count(*) from pg_stat_activity where state <> 'idle' and pid <> pg_backend_pid()")
            quiet = quiet + 1 if busy == "0" else 0
            time.sleep(0.05)
        self.sql(f"delete from tasks where id > {rows}", "vacuum (analyze, index_cleanup on) tasks")

    def statements_of(self, act):
        """What PostgreSQL was asked by prepared or unnamed statement while `act` ran."""
        log = self.folder / "log"
        self._log_statements("0")
        begin = log.stat().st_size
        act()
        self._log_statements("-1")
        text = log.read_text()[begin:]
        return re.findall(r"execute [^:\n]+: (.*?)(?=\n\d{4}-\d\d-\d\d |\Z)", text, re.DOTALL)

    def _log_statements(self, milliseconds):
        self.sql(f"alter system set log_min_duration_statement = {milliseconds}", "select pg_reload_conf()")
        time.sleep(0.3)  # each backend takes up the setting when it next wakes; nothing tells when all have


def free_port():
    return int(run([DEV, "free-port"]))


class Server:
    """One server process, with what descends from it, under the load of this bench."""

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
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            if self.process.poll() is not None:
                raise BenchError(f"{self.name} {self.last_words()}")
            with contextlib.suppress(OSError, http.client.HTTPException):
                if self.request("GET", path)[0] == 200:
                    return self
            if time.monotonic() > deadline:
                raise BenchError(f"{self.name} does not answer, and {self.last_words()}")
            time.sleep(pause_seconds)

    def request(self, method, path, bearer=None, body=None):
        """One request on a connection of its own: status, headers and body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_SECONDS)
        headers = {"Authorization": f"Bearer {bearer}"} if bearer else {}
        try:
            connection.request(
                method, path, body=body, headers=headers | ({"Content-Type": "application/json"} if body else {})
            )
            response = connection.getresponse()
            return response.status, response.headers, response.read()
        finally:
            connection.close()

    def last_words(self):
        """Whether it still runs, and the end of its log."""
        status = self.process.poll()
        state = "runs" if status is None else f"has ended with {status}"
        return f"{state}; its log ends so:\n{self.log.read_text(errors='replace')[-1500:]}"

    def check_log(self):
        """A warning or an error is a failure of the turn. The log begins anew, so that it stays small."""
        text = self.log.read_text(errors="replace")
        os.truncate(self.log, 0)
        bad = [line for line in text.splitlines() if re.search(r"\b(WARN|ERROR|Traceback|panicked)\b", line)]
        if bad:
            raise BenchError(f"{self.name} complains in {len(bad)} lines: {bad[0][:500]}")

    def stop(self):
        if self.is_stopped:
            return  # by now its number may be another's
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(PATIENCE_SECONDS)
            except subprocess.TimeoutExpired:
                os.killpg(self.pid, signal.SIGKILL)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)  # what may be left of its group
        self.process.wait()
        self.is_stopped = True


class Stage(contextlib.ExitStack):
    """A scratch folder, a database, servers; all of it goes when the `with` ends."""

    def __init__(self):
        super().__init__()
        self.secret = secrets.token_hex(32)
        self.folder = Path(tempfile.mkdtemp(prefix="todo-backend-bench."))
        self.folder.chmod(0o755)  # PostgreSQL may run as somebody else
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
        """Starts a server. Ours is told nothing but where the database is and what the secret, unless more is given."""
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


def ours():
    """The binary that is shipped, which ./dev has built."""
    return Path(os.environ["SERVER_BINARY"])
