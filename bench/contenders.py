"""The servers that are measured, and whether they do the same."""

import dataclasses
import json
import os
import subprocess
from datetime import datetime
from pathlib import Path

from machine import BenchError
from stage import ROOT, ours, run, say
from workloads import NEW_TASK, PAGE, request, statement

TARGET = Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target").absolute()
# Processes of uvicorn.
UVICORN_WORKERS = 2


@dataclasses.dataclass(frozen=True)
class Contender:
    name: str
    title: str
    command: tuple
    cwd: object = ROOT
    environment: tuple = ()

    def start(self, stage, pool_size):
        """One of several servers, each with a log of its own."""
        name = f"{self.name}-{pool_size}"
        return stage.start(name, self.command, cwd=self.cwd, DB_POOL_SIZE=str(pool_size), **dict(self.environment))


def build_program(name):
    """A Rust program of this folder, which is a workspace of its own."""
    folder = ROOT / "bench" / name
    target = TARGET / "bench"
    environment = {**os.environ, "CARGO_TARGET_DIR": str(target)}
    run(["cargo", "build", "--release", "--locked", "--quiet"], cwd=folder, env=environment)
    return target / f"release/bench-{folder.name}"


def install_fastapi():
    """The packages in an environment of their own, kept from one run to the next."""
    folder = ROOT / "bench/peers/fastapi"
    requirements, venv = folder / "requirements.txt", TARGET / "python/bench-fastapi"
    installed = venv / "requirements.txt"
    if not installed.is_file() or installed.read_text() != requirements.read_text():
        say("installing the packages of bench/peers/fastapi with pip")
        run(["python3", "-m", "venv", "--clear", venv])
        pip = [venv / "bin/pip", "--quiet", "--disable-pip-version-check", "install", "--no-deps"]
        run([*pip, "--requirement", requirements])
        installed.write_text(requirements.read_text())
    return venv / "bin/uvicorn"


def all_contenders():
    uvicorn = install_fastapi()
    return [
        Contender("ours", "todo-backend", (ours(),)),
        Contender("axum", "axum, deadpool-postgres", (build_program("peers/axum"),)),
        Contender(
            "fastapi",
            f"FastAPI, SQLModel, asyncpg, uvicorn × {UVICORN_WORKERS}",
            (
                "sh",
                "-c",
                'exec "$0" main:app --host 127.0.0.1 --port "$PORT" --no-access-log --log-level warning',
                uvicorn,
            ),
            ROOT / "bench/peers/fastapi",
            (("WEB_CONCURRENCY", str(UVICORN_WORKERS)), ("PYTHONDONTWRITEBYTECODE", "1")),
        ),
    ]


def _comparable(task, changing):
    """A task whose times can be compared, without what differs from one turn to the next."""
    times = {name: datetime.fromisoformat(task[name]) for name in ("created_at", "updated_at")}
    return {name: value for name, value in {**task, **times}.items() if name not in changing}


def answers(server, stage, data):
    """What it says to each kind of request, in a form that does not depend on who says it."""
    token, other = stage.token(0), stage.token(1)

    def ask(kind, bearer):
        method, path, body = request(kind, data, 0, 4 if kind == "set_completed" else 3)
        status, _, content = server.request(method, path, bearer, body or None)
        return status, json.loads(content)

    status, task = ask("get", token)
    said = {"get": (status, _comparable(task, ()))}
    status, tasks = ask("page", token)
    said["page"] = (status, [_comparable(task, ()) for task in tasks])
    status, task = ask("set_completed", token)
    said["set_completed"] = (status, _comparable(task, ("updated_at",)))
    status, task = ask("insert", token)
    said["insert"] = (status, _comparable(task, ("id", "created_at", "updated_at")))
    said["with no token"] = ask("get", None)[0]
    said["with a bad token"] = ask("get", token[:-4] + "AAAA")[0]
    said["with an expired token"] = ask("get", stage.token(0, exp=1))[0]
    said["with another's token"] = ask("get", other)[0]
    stage.database.settle(data.rows)
    return said


def expect_right_answers(said, data):
    """Ours is right before the others are compared with it."""
    right = {"get": 200, "page": 200, "set_completed": 200, "insert": 201}
    right |= {"with no token": 401, "with a bad token": 401, "with an expired token": 401, "with another's token": 404}
    for what, status in right.items():
        if (said[what][0] if isinstance(said[what], tuple) else said[what]) != status:
            raise BenchError(f"{what}: expected {status}, got {said[what]}")
    newest = [data.task(0, data.tasks_of_one - 1 - number) for number in range(PAGE)]
    if [task["id"] for task in said["page"][1]] != newest or said["get"][1]["id"] != data.task(0, 3):
        raise BenchError(f"the wrong tasks: {said}")
    if {name: said["insert"][1][name] for name in NEW_TASK} != NEW_TASK:
        raise BenchError(f"another task than was sent: {said['insert']}")


def compare_answers(servers, stage, data):
    """Ends the bench unless all servers do the same, by the statements in bench/sql."""
    first, *others = servers
    said = {}
    asked = stage.database.statements_of(lambda: said.update(answers(first, stage, data)))
    expect_right_answers(said, data)
    squeezed = ["".join(text.split()) for text in asked]
    for kind in ("get", "page", "insert", "set_completed"):
        if "".join(statement(kind).split()) not in squeezed:
            texts = "\n".join(dict.fromkeys(text for text in asked if "tasks" in text))
            raise BenchError(f"bench/sql/{kind}.sql is not what our server sends:\n{texts}")
    for server in others:
        theirs = answers(server, stage, data)
        for what, ours_said in said.items():
            if theirs[what] != ours_said:
                raise BenchError(f"{what}: {server.name} says {theirs[what]}, ours {ours_said}")
    say(f"{', '.join(server.name for server in servers)} give the same answers, ours by the statements in bench/sql")


def versions():
    """What was measured."""
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
