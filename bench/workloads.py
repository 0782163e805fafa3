"""What every server and PostgreSQL itself are asked: the data, the requests, the statements, the load generators."""

import dataclasses
import json
import random
import re
from pathlib import Path

from fixture import FIRST_USER, run
from machine import BenchError

HERE = Path(__file__).resolve().parent
# The number of different requests of a workload; the load generator repeats them.
REQUESTS = 4_000
# The number of users of a group who read and change tasks. As many others create tasks: else a fast server would have
# longer lists to send in the mix than a slow one.
ASKING_USERS = 50
# Threads of the load generator.
THREADS = 2
# How long a server is loaded before it is measured, in seconds.
WARM_UP_SECONDS = 1
LIMIT = 20
NEW_TASK = {"title": "Buy oat milk", "description": "Two cartons, the one that can be foamed"}


@dataclasses.dataclass(frozen=True)
class Group:
    """Users with the same number of tasks. The ids of one user's tasks are spread evenly over those of the group."""

    tasks: int
    users: int
    first_user: int
    first_id: int

    def task(self, user, number):
        """The id of a user's task. Both are counted from 0; the highest number is the newest task."""
        return self.first_id + user + number * self.users


class Data:
    """The tasks in the table: half of them belong to users with 20 tasks, half to users with 100."""

    # The number of rows must be a multiple of this.
    STEP = 200

    def __init__(self, rows):
        if rows % self.STEP:
            raise ValueError(f"{rows} is not a multiple of {self.STEP}")
        half = rows // 2
        few = Group(20, half // 20, 0, 1)
        self.rows = rows
        self.groups = {20: few, 100: Group(100, half // 100, few.users, half + 1)}

    @property
    def users(self):
        return sum(group.users for group in self.groups.values())


@dataclasses.dataclass(frozen=True)
class Workload:
    """A mixture of requests. `shares` maps each kind of request to its percentage."""

    name: str
    title: str
    shares: dict
    # Which group of users sends the requests: the number of their tasks.
    tasks: int = 20
    expected: int = 200
    writes: bool = False


WORKLOADS = [
    Workload("read", "read one", {"read": 100}),
    Workload("list_20", "list of 20", {"list": 100}),
    Workload("list_100", "list of 100", {"list": 100}, tasks=100),
    Workload("limit", f"limit={LIMIT} of 100", {"limit": 100}, tasks=100),
    Workload("create", "create", {"create": 100}, writes=True),
    Workload("complete", "set complete", {"complete": 100}, writes=True),
    Workload(
        "mix", "70 read, 20 list, 10 write", {"read": 70, "list": 20, "create": 5, "complete": 5}, writes=True
    ),
    Workload("unauthorized", "401", {"unauthorized": 100}, expected=401),
]


def workload_named(name):
    return next(workload for workload in WORKLOADS if workload.name == name)


def request(kind, group, user, number):
    """Method, path and body."""
    task = group.task(user, number)
    match kind:
        case "read" | "unauthorized":
            return "GET", f"/api/tasks/{task}", ""
        case "list":
            return "GET", "/api/tasks", ""
        case "limit":
            return "GET", f"/api/tasks?limit={LIMIT}", ""
        case "create":
            return "POST", "/api/tasks", json.dumps(NEW_TASK)
        case "complete":
            return "PATCH", f"/api/tasks/{task}/complete", json.dumps({"completed": number % 2 == 0})


def users_of(kind, group):
    """The users of a group who send requests of this kind, counted from 0."""
    users = min(ASKING_USERS, group.users // 2)
    return range(users, 2 * users) if kind == "create" else range(users)


def write_requests(path, workload, data, token_of):
    """Writes the file that load.lua reads."""
    generator, group = random.Random(7), data.groups[workload.tasks]
    tokens = [token_of(group.first_user + user) for user in range(2 * ASKING_USERS)]
    lines = []
    for _ in range(REQUESTS):
        kind = generator.choices(list(workload.shares), list(workload.shares.values()))[0]
        user, number = generator.choice(users_of(kind, group)), generator.randrange(group.tasks)
        method, target, body = request(kind, group, user, number)
        token = tokens[user] if kind != "unauthorized" else tokens[user][:-4] + "AAAA"
        lines.append("\t".join([method, target, token, body]))
    path.write_text("\n".join(lines) + "\n")


def wrk(server, requests, connections, seconds, expected=200):
    """Loads a server; returns what load.lua prints. An unexpected status or a broken connection ends the bench."""
    command = ["wrk", "--threads", THREADS, "--connections", connections, "--duration", f"{seconds}s"]
    command += ["--timeout", "10s", "--script", HERE / "load.lua", f"http://127.0.0.1:{server.port}", "--", requests]
    text = run(command, timeout=seconds + 60)
    result = json.loads(text.strip().splitlines()[-1])
    unexpected = result["errors"] if expected < 400 else result["requests"] - result["errors"]
    if unexpected or result["broken"] or not result["requests"]:
        what = f"{unexpected} of {result['requests']} responses had another status, {result['broken']} requests failed"
        raise BenchError(f"{what}:\n{text}\n{server.name} {server.describe()}")
    return result


# What pgbench puts in place of the parameters of each statement. Further fields of a new task are null.
PARAMETERS = {
    "read": {"$1": ":user", "$2": ":id"},
    "list": {"$1": ":user"},
    "limit": {"$1": ":user", "$4": str(LIMIT)},
    "create": {"$1": ":user", "$2": ":title", "$3": ":description", "$4": ":completed"},
    "complete": {"$1": ":user", "$2": ":id", "$3": ":completed"},
}


def record_statements(server, database, data, token_of):
    """Asks our server for one request of each kind and records the statement that it sends, from PostgreSQL's log.

    The contender axum and pgbench run these statements, so that the bench holds no copy of the server's SQL.
    """
    group = data.groups[20]
    token = token_of(group.first_user)

    def send_all():
        for kind in PARAMETERS:
            method, path, body = request(kind, group, 0, 0)
            status, _, content = server.request(method, path, token, body or None)
            if status not in (200, 201):
                raise BenchError(f"{method} {path}: expected a success, got {status}: {content}")

    logged = database.statements_of(send_all)
    database.remove_new_tasks(data.rows)
    statements = [text for text in logged if re.search(r"\b(from|into|update) tasks\b", text)]
    if len(statements) != len(PARAMETERS):
        raise BenchError(f"{len(PARAMETERS)} requests sent {len(statements)} statements:\n" + "\n".join(logged))
    for (kind, parameters), text in zip(PARAMETERS.items(), statements, strict=True):
        found = set(re.findall(r"\$\d", text))
        if not found >= set(parameters) or (found > set(parameters) and kind != "create"):
            raise BenchError(f"the statement of {kind} has other parameters than {', '.join(parameters)}:\n{text}")
        database.statements[kind] = text


def pgbench_script(kind, statement, group):
    """The statement as pgbench reads it, for random users and tasks of the group."""
    sql = re.sub(r"\$\d", lambda found: PARAMETERS[kind].get(found[0], "null"), statement)
    users = users_of(kind, group)
    return (
        f"\\set number random({users[0]}, {users[-1]})\n\\set user {FIRST_USER + group.first_user} + :number\n"
        f"\\set id {group.first_id} + :number + random(0, {group.tasks - 1}) * {group.users}\n"
        f"\\set completed random(0, 1)\n{sql};\n"
    )


def pgbench(database, folder, workload, data, clients, seconds):
    """Runs the statements of a workload with PostgreSQL's own load generator: the upper limit for any server."""
    files = []
    for kind, share in workload.shares.items():
        path = folder / f"{kind}.pgbench"
        path.write_text(pgbench_script(kind, database.statements[kind], data.groups[workload.tasks]))
        files += ["--file", f"{path}@{share}"]
    variables = [word for name in NEW_TASK for word in ("--define", f"{name}={NEW_TASK[name]}")]
    command = ["pgbench", "--no-vacuum", "--protocol", "prepared", "--client", clients, "--jobs", THREADS]
    text = run([*command, "--time", seconds, *variables, *files], env=database.environment, timeout=seconds + 60)

    def number(pattern):
        found = re.search(pattern, text)
        if not found:
            raise BenchError(f"pgbench printed:\n{text}")
        return float(found[1])

    if number(r"number of failed transactions: (\d+)"):
        raise BenchError(f"pgbench failed:\n{text}")
    per_second = number(r"tps = ([\d.]+) \(without")
    return {"requests": number(r"actually processed: (\d+)"), "per_second": per_second}
