"""What is asked of every server, and of PostgreSQL alone: the requests, the statements, and the programs that send them."""

import dataclasses
import json
import random
import re
from pathlib import Path

from machine import BenchError
from stage import FIRST_USER, run

HERE = Path(__file__).resolve().parent
# How many different requests a workload has; they are sent over and over.
REQUESTS = 4_000
# How many different people ask.
ASKING_USERS = 64
# Threads of the load generator.
THREADS = 2
# How long a server is loaded before it is measured, in seconds.
WARM_UP_SECONDS = 1
PAGE = 20
NEW_TASK = {"title": "Buy oat milk", "description": "Two cartons, the one that can be foamed"}


@dataclasses.dataclass
class Data:
    """The tasks that are there: the n-th of a user, counted from 0, has the id `user + n * users + 1`."""

    rows: int
    users: int

    def task(self, user, number):
        return user + number * self.users + 1

    @property
    def tasks_of_one(self):
        return self.rows // self.users


@dataclasses.dataclass(frozen=True)
class Workload:
    name: str
    title: str
    # Kinds of requests, and how many of a hundred are of each.
    shares: dict
    expected: int = 200
    writes: bool = False


WORKLOADS = [
    Workload("read", "read one", {"get": 100}),
    Workload("list", f"list of {PAGE}", {"page": 100}),
    Workload("create", "create", {"insert": 100}, writes=True),
    Workload("complete", "set complete", {"set_completed": 100}, writes=True),
    Workload(
        "mix", "70 read, 20 list, 10 write", {"get": 70, "page": 20, "insert": 5, "set_completed": 5}, writes=True
    ),
    Workload("refused", "401", {"refused": 100}, expected=401),
]


def request(kind, data, user, number):
    """Method, path and body."""
    match kind:
        case "get" | "refused":
            return "GET", f"/api/tasks/{data.task(user, number)}", ""
        case "page":
            return "GET", f"/api/tasks?limit={PAGE}", ""
        case "insert":
            return "POST", "/api/tasks", json.dumps(NEW_TASK)
        case "set_completed":
            body = json.dumps({"completed": number % 2 == 0})
            return "PATCH", f"/api/tasks/{data.task(user, number)}/complete", body


def write_requests(path, workload, data, token_of, tokens_are_valid=True):
    """The file that load.lua reads."""
    chance = random.Random(7)
    tokens = [token_of(user) for user in range(ASKING_USERS)]
    lines = []
    for _ in range(REQUESTS):
        kind = chance.choices(list(workload.shares), list(workload.shares.values()))[0]
        user, number = chance.randrange(min(ASKING_USERS, data.users)), chance.randrange(data.tasks_of_one)
        method, target, body = request(kind, data, user, number)
        token = tokens[user] if kind != "refused" else tokens[user][:-4] + "AAAA"
        lines.append("\t".join([method, target, token, body]))
    path.write_text("\n".join(lines) + "\n")


def wrk(server, requests, connections, seconds, expected=200):
    """Loads a server; what load.lua prints of it. Whatever is not as it has to be ends the bench."""
    command = [
        "wrk",
        "--threads",
        THREADS,
        "--connections",
        connections,
        "--duration",
        f"{seconds}s",
        "--timeout",
        "10s",
    ]
    command += ["--script", HERE / "load.lua", f"http://127.0.0.1:{server.port}", "--", requests]
    text = run(command, timeout=seconds + 60)
    result = json.loads(text.strip().splitlines()[-1])
    unwanted = result["refused"] if expected < 400 else result["requests"] - result["refused"]
    if unwanted or result["broken"] or not result["requests"]:
        what = f"{unwanted} answers of {result['requests']} had another status, {result['broken']} requests broke"
        raise BenchError(f"{what}:\n{text}\n{server.name} {server.last_words()}")
    return result


PARAMETERS = {
    "get": {"$1": ":user", "$2": ":id"},
    "page": {"$1": ":user", "$4": str(PAGE)},
    "insert": {"$1": ":user", "$2": ":title", "$3": ":description", "$4": ":completed"},
    "set_completed": {"$1": ":user", "$2": ":id", "$3": ":completed"},
}


def statement(kind):
    """The text of a statement in bench/sql."""
    return (HERE / "sql" / f"{kind}.sql").read_text().strip()


def pgbench_script(kind, data):
    """The statement as pgbench reads it, with the same people and tasks."""
    sql = re.sub(r"\$\d", lambda found: PARAMETERS[kind][found[0]], statement(kind))
    last_user, last_number = min(ASKING_USERS, data.users) - 1, data.tasks_of_one - 1
    return (
        f"\\set asking random(0, {last_user})\n\\set user {FIRST_USER} + :asking\n"
        f"\\set id :asking + random(0, {last_number}) * {data.users} + 1\n\\set completed random(0, 1)\n{sql};\n"
    )


def pgbench(database, folder, workload, data, clients, seconds):
    """Statements a second that PostgreSQL itself gives, asked by its own load generator."""
    files = []
    for kind, share in workload.shares.items():
        path = folder / f"{kind}.pgbench"
        path.write_text(pgbench_script(kind, data))
        files += ["--file", f"{path}@{share}"]
    variables = [word for name in NEW_TASK for word in ("--define", f"{name}={NEW_TASK[name]}")]
    command = ["pgbench", "--no-vacuum", "--protocol", "prepared", "--client", clients, "--jobs", THREADS]
    text = run([*command, "--time", seconds, *variables, *files], env=database.environment, timeout=seconds + 60)

    def number(pattern):
        found = re.search(pattern, text)
        if not found:
            raise BenchError(f"pgbench said:\n{text}")
        return float(found[1])

    if number(r"number of failed transactions: (\d+)"):
        raise BenchError(f"pgbench failed:\n{text}")
    per_second = number(r"tps = ([\d.]+) \(without")
    return {"requests": number(r"actually processed: (\d+)"), "per_second": per_second}
