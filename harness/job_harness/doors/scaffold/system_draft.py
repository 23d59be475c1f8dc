"""`init`: a draft of a system file, where a repository says how its own processes start.

It has what the repository's files say, each with its place, and a question for what none of them says. It lacks
`send`, which no file tells, so that nothing can be searched before the questions were answered.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from job_harness.doors.scaffold.plan import Project, needed, read_manifest

WORKS: Final = re.compile(r"work|consum|celery|\brq\b|\barq\b|dramatiq|queue", re.IGNORECASE)
SERVES: Final = re.compile(r"^(api|web|app|server|start|serve)\b", re.IGNORECASE)
BY_HAND: Final = re.compile(r"\b(dev|watch|test|lint|build)\b|--watch")
SHELL: Final = re.compile(r"[|&;<>`]|\$\(|^\w+=")
"""What only a shell understands; a command of a system file runs without one."""
ON_REDIS: Final = ("bullmq", "celery", "rq", "arq", "dramatiq", "pydocket")
"""Queues whose jobs in Redis have a name in `jobs`."""
ON_POSTGRES: Final = ("pg-boss", "graphile-worker", "pg", "psycopg", "asyncpg", "procrastinate", "pgqueuer", "prisma")
DRAFT: Final = """\
# A draft: how the processes of this repository start, as its files say. Answer the questions, take the # away, and run
#   job-harness explore system.yaml
# All keys: job-harness docs system_files
format: 1
system: NAME
clock: supervisor
STORES
processes:
PROCESSES
# Which request, or which statement, creates a job, and where is the id of its row? For example:
# send: SEND
JOBS
# Which services do the workers call? No other host can be reached; `work` says where the job is named in the call.
# outside: {pay.example.com: {work: $.order}}
# How long may a job take, by the code? A lease is how long a worker keeps a job without a sign of life.
# settings: {max_attempts: 3, job_timeout: 10m, lease: 10m, retry_delay: 1m}
# What must not happen twice? For example:
# promises: {at_most_once: [{call: POST pay.example.com/charge, per: [order]}]}
"""


REQUEST: Final = '{request: POST /orders, to: API, body: {order: "${job}"}, id: $.id}'
STATEMENT: Final = "{sql: 'INSERT INTO jobs (payload) VALUES (${job}) RETURNING id'}"


def draft_system(project: Project) -> str:
    """Return the text of a system file; empty where no process is named that works on jobs."""
    all_said = reversed([*_started(project)])
    said = {name: (command, place) for name, command, place in all_said if not BY_HAND.search(f"{name} {command}")}
    serving = [name for name in said if SERVES.match(name) and not WORKS.search(name)]
    working = [name for name, (command, _) in said.items() if name not in serving and WORKS.search(f"{name} {command}")]
    if not working:
        return ""
    hows = {
        **dict.fromkeys(working),
        **dict.fromkeys(serving, "http: {port_env: PORT}  # Which variable has its port?"),
    }
    hows[working[-1]] = "instances: 2"  # Only one kind may have several.
    processes = [_process(name, *said[name], hows[name]) for name in (*working[::-1], *serving[::-1])]
    queue, wants = _stores(project)
    return (
        DRAFT.replace("STORES\n", wants)
        .replace("SEND", REQUEST.replace("API", serving[-1]) if serving else STATEMENT)
        .replace("JOBS", queue)
        .replace("NAME", json.dumps(project.root.name))
        .replace("PROCESSES", "\n".join(processes))
    )


def _process(name: str, command: str, place: str, how: str | None) -> str:
    command = f"sh -c {json.dumps(command)}" if SHELL.search(command) else command
    return f"  {name}:\n    command: {json.dumps(command)}  # {place}" + (f"\n    {how}" if how else "")


def _stores(project: Project) -> tuple[str, str]:
    """Say what shows the jobs, and which stores the processes use, as far as the packages tell."""
    text = "".join(_text(project, name) for name in ("requirements.txt", "pyproject.toml"))
    names = {*needed(project.package), *needed(project.root), *re.findall(r"(?<![\w-])[a-z][\w-]*", text.lower())}
    queue = next((name for name in ON_REDIS if name in names), "")
    on_redis = bool(queue) and (queue != "celery" or "redis" in names)
    wants = "stores: {redis: {}}\n" if on_redis or "ioredis" in names or "redis" in names else ""
    if not wants or any(name in names for name in ON_POSTGRES):
        wants += "# Which command makes the tables in PostgreSQL, or which SQL file has them (schema: db/schema.sql)?\n"
        wants += "# database: {migrate: npm run migrate}\n"
    if on_redis:
        return f"jobs: {queue}  # named by the packages", wants
    return (
        "# Which SELECT shows the jobs? `job-harness docs system_files` has those of pg-boss and graphile-worker.\n"
        "# jobs: SELECT id, payload AS input, status, attempts FROM jobs ORDER BY id\n"
        "# status: {queued: PENDING, running: PROCESSING, done: COMPLETED, failed: FAILED}"
    ), wants


def _started(project: Project) -> Iterator[tuple[str, str, str]]:
    """Return what the files of a repository start, those first that say it for production."""
    for name, command in re.findall(r"^([\w-]+):[ \t]*(.+)$", _text(project, "Procfile"), re.MULTILINE):
        yield name, command.strip(), "Procfile"
    for file in ("compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml"):
        for name, command in _services(_text(project, file)):
            yield name, command, file
    scripts = read_manifest(project.package / "package.json", json.loads).get("scripts")
    for name, command in scripts.items() if isinstance(scripts, dict) else ():
        by_itself = re.match(r"node\b", str(command)) and not SHELL.search(command)
        yield re.sub(r"[^\w-]", "-", name), command if by_itself else f"npm run {name}", "package.json"
    for path in project.files("worker.py", "consumer.py"):
        text = path.read_text(encoding="utf-8", errors="replace")
        if "while True" in text and "__main__" in text:
            yield path.stem, f"python {path.relative_to(project.root).as_posix()}", "it loops"


def _services(text: str) -> Iterator[tuple[str, str]]:
    try:
        services = (YAML(typ="safe", pure=True).load(text) or {}).get("services") or {}
    except (YAMLError, AttributeError):
        return
    for name, service in services.items() if isinstance(services, Mapping) else ():
        command: Any = service.get("command") if isinstance(service, Mapping) and "build" in service else None
        if command:
            yield str(name), command if isinstance(command, str) else " ".join(map(str, command))


def _text(project: Project, name: str) -> str:
    path = project.root / name
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
