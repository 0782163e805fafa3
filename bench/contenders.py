"""The servers that are measured, and the check that they give the same responses."""

import dataclasses
import json
import os
import subprocess
from datetime import datetime
from pathlib import Path

from fixture import ROOT, log, run, server_binary
from machine import BenchError
from workloads import LIMIT, NEW_TASK, request

TARGET = Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target").absolute()
# Processes of uvicorn.
UVICORN_WORKERS = 2
# Keys of `responses` that FastAPI does not have: it sends none of these headers.
HEADERS = ("ETag of read", "X-Total-Count of list", "X-Total-Count of limit")


@dataclasses.dataclass(frozen=True)
class Contender:
    """A server that is measured, and how to start it."""

    name: str
    title: str
    command: tuple
    cwd: object = ROOT
    environment: tuple = ()
    # It gets our server's statements in its environment, as SQL_READ and so on.
    runs_our_sql: bool = False

    def start(self, fixture, pool_size):
        """Starts one process of it, with its own log."""
        environment = dict(self.environment)
        if self.runs_our_sql:
            environment |= {f"SQL_{kind.upper()}": text for kind, text in fixture.database.statements.items()}
        name = f"{self.name}-{pool_size}"
        return fixture.start(name, self.command, cwd=self.cwd, DB_POOL_SIZE=str(pool_size), **environment)


def build_program(name):
    """Builds a Rust program in this folder. Each is a workspace of its own."""
    folder = ROOT / "bench" / name
    target = TARGET / "bench"
    environment = {**os.environ, "CARGO_TARGET_DIR": str(target)}
    run(["cargo", "build", "--release", "--locked", "--quiet"], cwd=folder, env=environment)
    return target / f"release/bench-{folder.name}"


def install_fastapi():
    """Installs the packages in a virtual environment, which is kept for the next run."""
    folder = ROOT / "bench/peers/fastapi"
    requirements, venv = folder / "requirements.txt", TARGET / "python/bench-fastapi"
    installed = venv / "requirements.txt"
    if not installed.is_file() or installed.read_text() != requirements.read_text():
        log("installing the packages of bench/peers/fastapi with pip")
        run(["python3", "-m", "venv", "--clear", venv])
        pip = [venv / "bin/pip", "--quiet", "--disable-pip-version-check", "install", "--no-deps"]
        run([*pip, "--requirement", requirements])
        installed.write_text(requirements.read_text())
    return venv / "bin/uvicorn"


def our_server():
    return Contender("ours", "todo-backend", (server_binary(),))


def all_contenders():
    uvicorn = install_fastapi()
    start_uvicorn = 'exec "$0" main:app --host 127.0.0.1 --port "$PORT" --no-access-log --log-level warning'
    return [
        our_server(),
        Contender("axum", "axum, deadpool-postgres", (build_program("peers/axum"),), runs_our_sql=True),
        Contender(
            "fastapi",
            f"FastAPI, SQLModel, asyncpg, uvicorn × {UVICORN_WORKERS}",
            ("sh", "-c", start_uvicorn, uvicorn),
            ROOT / "bench/peers/fastapi",
            (("WEB_CONCURRENCY", str(UVICORN_WORKERS)), ("PYTHONDONTWRITEBYTECODE", "1")),
        ),
    ]


def _comparable(task, varying=()):
    """A task with its times parsed, without the fields that vary from one server to the next."""
    times = {name: datetime.fromisoformat(task[name]) for name in ("created_at", "updated_at")}
    return {name: value for name, value in {**task, **times}.items() if name not in varying}


def responses(server, fixture, data):
    """The responses of a server to each kind of request, in a form that does not depend on the server."""
    few, many = data.groups[20], data.groups[100]

    def ask(kind, group=few, user=0, number=3, bearer=None):
        method, path, body = request(kind, group, user, number)
        bearer = fixture.token(group.first_user + user) if bearer is None else bearer
        status, headers, content = server.request(method, path, bearer, body or None)
        return status, json.loads(content), headers

    found = {}
    status, task, headers = ask("read")
    found["read"] = (status, _comparable(task))
    found["ETag of read"] = headers["ETag"]
    for name, kind, group in (("list", "list", few), ("list of 100", "list", many), ("limit", "limit", many)):
        status, tasks, headers = ask(kind, group)
        found[name] = (status, [_comparable(task) for task in tasks])
        if name != "list of 100":
            found[f"X-Total-Count of {name}"] = headers["X-Total-Count"]
    # Another user's task, so that the next server still reads the lists of the first.
    status, task, _ = ask("complete", user=1, number=4)
    found["complete"] = (status, _comparable(task, ("updated_at",)))
    status, task, _ = ask("create")
    found["create"] = (status, _comparable(task, ("id", "created_at", "updated_at")))
    token = fixture.token(few.first_user)
    tokens = {
        "without a token": "",
        "with an invalid token": token[:-4] + "AAAA",
        "with an expired token": fixture.token(few.first_user, exp=1),
        "with another user's token": fixture.token(few.first_user + 1),
    }
    found |= {what: ask("read", bearer=bearer)[0] for what, bearer in tokens.items()}
    fixture.database.remove_new_tasks(data.rows)
    return found


def expect_right_responses(found, data):
    """Our server's responses must be right before the others are compared with them."""
    few, many = data.groups[20], data.groups[100]

    def newest(group, count):
        return [group.task(0, group.tasks - 1 - number) for number in range(count)]

    statuses = {"read": 200, "list": 200, "list of 100": 200, "limit": 200, "complete": 200, "create": 201}
    expected = {f"status of {name}": (found[name][0], status) for name, status in statuses.items()}
    for name, status in (("without a", 401), ("with an invalid", 401), ("with an expired", 401)):
        expected[f"{name} token"] = (found[f"{name} token"], status)
    expected |= {
        "with another user's token": (found["with another user's token"], 404),
        "id of read": (found["read"][1]["id"], few.task(0, 3)),
        "ETag of read": (bool(found["ETag of read"]), True),
        "X-Total-Count of list": (found["X-Total-Count of list"], None),
        "X-Total-Count of limit": (found["X-Total-Count of limit"], "100"),
        "completed": (found["complete"][1]["completed"], True),
        "created": ({name: found["create"][1][name] for name in NEW_TASK}, NEW_TASK),
    }
    for name, group, count in (("list", few, 20), ("list of 100", many, 100), ("limit", many, LIMIT)):
        expected[f"ids of {name}"] = ([task["id"] for task in found[name][1]], newest(group, count))
    for what, (actual, right) in expected.items():
        if actual != right:
            raise BenchError(f"{what}: expected {right}, got {actual}")


def compare_responses(servers, fixture, data):
    """Ends the bench unless all servers, given by name and ours first, give the same responses."""
    found = {name: responses(server, fixture, data) for name, server in servers.items()}
    expect_right_responses(found["ours"], data)
    for name, theirs in found.items():
        for what, expected in found["ours"].items():
            is_missing = name == "fastapi" and what in HEADERS
            if theirs[what] != expected and not is_missing:
                raise BenchError(f"{what}: {name} answers {theirs[what]}, ours {expected}")
    log(f"{', '.join(servers)} give the same responses")


def versions():
    """The commit, and the versions of what is measured."""
    git = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    done = subprocess.run(git, cwd=ROOT, capture_output=True, text=True, check=False)
    commit = done.stdout.strip() or "unknown"
    python = run(["python3", "--version"]).split()[1]
    postgres = run(["postgres", "--version"]).split()[2]
    pinned = (ROOT / "bench/peers/fastapi/requirements.txt").read_text().split()
    fastapi = [line for line in pinned if line.partition("==")[0] in ("fastapi", "sqlmodel", "asyncpg", "uvicorn")]
    lock = (ROOT / "bench/peers/axum/Cargo.lock").read_text().split("[[package]]")
    crates = {words[2].strip('"'): words[5].strip('"') for part in lock[1:] if (words := part.split())}
    axum = [f"{name} {crates[name]}" for name in ("axum", "tokio", "deadpool-postgres", "jsonwebtoken")]
    return f"commit {commit}; {', '.join(axum)}; Python {python}, {', '.join(fastapi)}; PostgreSQL {postgres}"
