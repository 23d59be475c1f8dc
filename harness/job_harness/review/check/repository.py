"""Reads a repository: which of its files are read, by name; each goes to its reader, which adds to the facts."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from operator import attrgetter
from pathlib import Path
from posixpath import dirname
from typing import Final, NamedTuple

from job_harness.core.yaml_files import SUFFIXES, describes_queue
from job_harness.errors import UsageError
from job_harness.review.check.facts import (
    GRAPHILE,
    PGBOSS,
    Facts,
    Place,
    QueueCall,
    Route,
    Service,
    Unreadable,
    Value,
    is_aside,
)
from job_harness.review.check.readers.commands import read_commands, read_processes
from job_harness.review.check.readers.compose import ComposeFile, add_environments, add_graces, asked_of, read_compose
from job_harness.review.check.readers.deployment import (
    is_documentation,
    process_environment,
    read_render,
    read_variables,
    read_vercel,
    services_of,
)
from job_harness.review.check.readers.manifests import read_lock, read_package, read_pyproject, read_requirements
from job_harness.review.check.readers.node_queues import NodeQueues, makers_of, note_imports, note_repairs, queues_of
from job_harness.review.check.readers.pm2 import is_ecosystem
from job_harness.review.check.readers.pods import WORTH_READING, Manifest, read_pods
from job_harness.review.check.readers.python import PythonModule, PythonQueues, read_python
from job_harness.review.check.readers.schedules import (
    WORKFLOWS,
    is_of_a_machine,
    read_crontab_lines,
    read_graphile_crontab,
    read_schedules,
)
from job_harness.review.check.readers.schema import forget_functions, read_prisma, read_sql
from job_harness.review.check.readers.scripts import WORTH_PARSING, read_script, route_path
from job_harness.review.check.typescript import Constants, Module, first_error, may_hold_jsx, parse

PASSED_BY: Final = frozenset({
    "node_modules", "bower_components", "vendor", "site-packages", "dist", "build", "out", "coverage", "target",
    "venv", "__pycache__", "tests", "test", "__tests__", "__mocks__", "__fixtures__", "fixtures", "e2e",
})  # fmt: skip
"""Folders that hold what others wrote, what a build made, or what tests set wrong on purpose."""

LARGEST_BYTES: Final = 2_000_000
MOST_FILES: Final = 400_000
DEEPEST: Final = 60

_TEST: Final = re.compile(
    r"(\.(test|spec|stories|d|min|bundle)\.[cm]?[jt]sx?|(^|_)test_?\w*\.py|_test\.py|conftest\.py)$"
)
_ENV: Final = re.compile(r"^\.env(\.[\w-]+)*$")
_NAMES: Final = {
    "vercel.json": "vercel",
    "render.yaml": "render",
    "render.yml": "render",
    "package.json": "package",
    "package-lock.json": "lock",
    "pnpm-lock.yaml": "lock",
    "yarn.lock": "lock",
    "bun.lock": "lock",
    "uv.lock": "lock",
    "poetry.lock": "lock",
    "pyproject.toml": "pyproject",
    "crontab": "crontab",
}
_REQUIREMENTS: Final = re.compile(r"^requirements[\w.-]*\.(txt|in)$")
_IMAGE: Final = re.compile(r"^((docker|container)file([.-].+)?|.+\.(docker|container)file)$", re.IGNORECASE)
_NO_IMAGE: Final = re.compile(r"[._-](dev|develop|development|local|debug|tests?|e2e|ci|dockerignore)(?=[._-]|$)")
"""Words in the name of a Dockerfile that builds nothing that is deployed."""
NOT_ENVIRONMENTS: Final = frozenset({
    "diff", "patch", "orig", "bak", "backup", "old", "swp", "md", "txt", "json", "ts", "js", "yml", "yaml", "enc",
    "gpg", "age", "encrypted", "sops",
})  # fmt: skip
"""Suffixes of files beside a `.env`, or a Dockerfile, that no deployment reads as one."""
_SUFFIXES: Final = {
    **dict.fromkeys(("ts", "tsx", "mts", "cts", "js", "jsx", "mjs", "cjs"), "script"),
    "sql": "sql",
    "prisma": "prisma",
    "py": "python",
    **dict.fromkeys(("sh", "service", "conf"), "commands"),
    **dict.fromkeys((suffix.removeprefix(".") for suffix in SUFFIXES), "processes"),
}


class Entry(NamedTuple):
    """A file that may say something: its path relative to the root with `/`, its kind, its absolute path."""

    path: str
    kind: str
    absolute: str
    regular: bool = False
    """Whether the listing of its folder already says that it is a regular file, and no link."""


class Unopened(NamedTuple):
    """A path that could not be looked into."""

    path: str
    why: str


def walk(root: Path) -> Iterator[Entry | Unopened]:
    """List the files that are read, in the order of their paths.

    Links to folders are not followed, so that no loop is one; what may not be looked into is said.
    """
    waiting: list[tuple[str, str, int]] = [(str(root), "", 0)]
    seen = 0
    while waiting:
        folder, prefix, depth = waiting.pop()
        try:
            with os.scandir(folder) as listing:
                entries = sorted(listing, key=attrgetter("name"))
        except OSError as error:
            if prefix != WORKFLOWS or not isinstance(error, FileNotFoundError):
                yield Unopened(prefix.rstrip("/") or ".", error.strerror or str(error))
            continue
        below: list[tuple[str, str, int]] = []
        for entry in entries:
            name = entry.name
            seen += 1
            if entry.is_dir(follow_symlinks=False):
                if depth == 0 and name == dirname(dirname(WORKFLOWS)):
                    below.append((f"{entry.path}/workflows", WORKFLOWS, depth + 2))
                elif depth < DEEPEST and name not in PASSED_BY and not name.startswith("."):
                    below.append((entry.path, f"{prefix}{name}/", depth + 1))
                continue
            kind = kind_of(name)
            if kind is not None:
                yield Entry(prefix + name, kind, entry.path, entry.is_file(follow_symlinks=False))
        if seen > MOST_FILES:
            yield Unopened(prefix.rstrip("/") or ".", f"more than {MOST_FILES} files: the rest was not looked at")
            return
        waiting.extend(reversed(below))


def kind_of(name: str) -> str | None:
    """Return what a file of this name may say; None where it is not read."""
    kind = _NAMES.get(name) or _SUFFIXES.get(name.rpartition(".")[2])
    if kind is None:
        if name.startswith(".env") and _ENV.match(name) and name.rpartition(".")[2] not in NOT_ENVIRONMENTS:
            return "env"
        if name in ("Procfile", "Makefile") or _is_image(name):
            return "commands"
        return "requirements" if name.startswith("requirements") and _REQUIREMENTS.match(name) else None
    return None if kind in ("script", "python") and _TEST.search(name) else kind


def _is_image(name: str) -> bool:
    """Tell a Dockerfile that is deployed by its name: `Dockerfile`, `Dockerfile.worker`, `worker.Dockerfile`."""
    if "file" not in name or _IMAGE.match(name) is None:
        return False
    return name.rpartition(".")[2] not in NOT_ENVIRONMENTS and _NO_IMAGE.search(f".{name}") is None


FLAGS: Final = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)


SMALL_BYTES: Final = 65_536
"""What is read at once: most files are smaller, and need no look at their size."""


def read_bytes(absolute: str, *, largest: int = LARGEST_BYTES, regular: bool = False) -> bytes:
    """Read a whole regular file; `regular` where it is known to be one.

    Raises ValueError saying why it is not read, OSError where the system refuses.
    """
    descriptor = os.open(absolute, FLAGS)
    try:
        start = os.read(descriptor, SMALL_BYTES) if regular else b""
        if regular and len(start) < SMALL_BYTES:
            return start
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("is not a regular file")
        if status.st_size > largest:
            raise ValueError(f"is larger than {largest // 1000} kB")
        return start + os.read(descriptor, status.st_size) if status.st_size else start
    finally:
        os.close(descriptor)


PROCESS = "-"
"""The name of the environment of this process, where a file is expected."""

LARGEST_BYTES_OF: Final = {"lock": 50_000_000, "render": 200_000, "processes": 200_000, "env": 200_000}
_PYTHON: Final = (
    b"TOOL_SLUGS", b"register_processor", b"Bearer ", b"BaseSettings", b"JOB_", b"STUCK_", b"PGBOSS_", b"MAX_ATTEMPTS",
    b"RETRY_LIMIT",
)  # fmt: skip
_PYTHON_QUEUES: Final = (
    b"celery", b"CELERY", b"procrastinate", b"pgqueuer", b"PgQueuer", b".task", b"shared_task", b"run_worker",
    b"dramatiq", b"import rq", b"from rq", b"import arq", b"from arq", b"huey", b"taskiq", b"import saq", b"from saq",
    b"inngest", b"apscheduler", b"temporalio", b"django_q", b"BROKER_", b"broker_url", b"acks_late", b"worker_prefetch",
    b".defer", b"apply_async",
    b"task_time_limit", b"task_soft_time_limit", b"beat_schedule", b"task_routes",
)  # fmt: skip
_DURABLE: Final = re.compile(
    rb"""^\s*(?:from|import)\s+(langgraph|dbos|pydantic_ai|agent_framework)\b|["'](@dbos-inc/dbos-sdk)["']""",
    re.MULTILINE,
)
"""Libraries of agents and workflows, which have no settings to check, and pages of ours."""
_SQL: Final = (b"job", b"JOB", b"Job", b"LISTEN", b"listen")
_TEXT_READERS: Final[Mapping[str, Callable[[str, str, Facts], object]]] = {
    "render": read_render,
    "prisma": read_prisma,
    "sql": read_sql,
    "pyproject": read_pyproject,
    "requirements": read_requirements,
}
_BYTE_READERS: Final[Mapping[str, Callable[[str, bytes, Facts], None]]] = {
    "vercel": read_vercel,
    "package": read_package,
    "lock": read_lock,
}
_SENDING: Final = (b".send(", b".work", b".createQueue(", b".schedule(")
_ADDING: Final = (b".add(", b".addBulk(", b".upsertJobScheduler(")
LONGEST_LINE: Final = 20_000
"""Characters of a line that no person writes: a bundle, or generated."""
_COMMANDS: Final = (b"celery", b"stalled_jobs")
_SCHEDULED: Final = (b"CronJob", b"cron:")
_FILTERED: Final = {"commands": (*_COMMANDS, b"STOPSIGNAL"), "processes": (*_COMMANDS, *_SCHEDULED)}
"""Files that count as read only where they start something: others of these names have nothing to do with a queue."""
_NEED_NOT_BE_TEXT: Final = frozenset({
    "script", "python", "sql", "lock", "crontab", "requirements", "pyproject", "commands", "processes",
})  # fmt: skip
_FILTERS: Final = {"script": WORTH_PARSING, "python": (*_PYTHON, *_PYTHON_QUEUES), "sql": _SQL}


class NamedEnvironment(NamedTuple):
    """`--env worker=prod.env`: a service and the file with its variables, `-` for this process."""

    service: str
    file: str


def read_repository(
    root: Path, *, environments: Sequence[NamedEnvironment] = (), environ: Mapping[str, str] | None = None
) -> Facts:
    """Read what a repository sets.

    Raises UsageError where `root` is no folder, or a named environment cannot be read.
    """
    if not root.is_dir():
        told = "this is a file, and no queue file" if root.exists() else "there is no such folder"
        raise UsageError(f"{root}: {told}", hint="Name the root of a repository, or a queue file (queue.yaml).")
    reading = _RepositoryReading(root, named=bool(environments))
    for entry in walk(root):
        if isinstance(entry, Unopened):
            reading.facts.unreadable.append(Unreadable(Place(entry.path, 1), entry.why))
        else:
            reading.take(entry)
    reading.finish()
    for named in environments:
        reading.facts.services.append(_read_service(named, root, environ or {}, reading.facts))
    return reading.facts


def _read_service(named: NamedEnvironment, root: Path, environ: Mapping[str, str], facts: Facts) -> Service:
    if named.file == PROCESS:
        return process_environment(environ, service=named.service)
    path = Path(named.file) if Path(named.file).exists() else root / named.file
    try:
        text = decoded(read_bytes(str(path)))
    except (OSError, ValueError) as error:
        raise UsageError(
            f"--env {named.service}={named.file}: {getattr(error, 'strerror', None) or error}",
            hint=f"Write --env SERVICE=FILE, or --env SERVICE={PROCESS} for the environment of this process.",
        ) from None
    values = read_variables(named.file, text, facts, service=named.service)
    return Service(named.service, "production", values, Place(named.file, 1), named=True)


def decoded(data: bytes) -> str:
    """Read UTF-8, with or without a byte order mark, or UTF-16 with one.

    Raises ValueError where it is no text.
    """
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16", "replace")
    if b"\x00" in data:
        raise ValueError("is no text")
    return data.decode("utf-8-sig", "replace")


def parsed_again(path: str, absolute: str) -> Module:
    """Parse a file that another one imports from; an empty one where it is gone by now."""
    try:
        data = read_bytes(absolute)
    except (OSError, ValueError):
        data = b""
    return Module.of(path, parse(data, jsx=may_hold_jsx(path)))


class _RepositoryReading:
    """One pass over the files; scripts and modules are parsed first and evaluated once all constants are known."""

    def __init__(self, root: Path, *, named: bool) -> None:
        self.facts = Facts()
        self._root = root
        self._named = named
        self._constants = Constants(sources=self._again)
        self._variables: dict[str, Mapping[str, Value]] = {}
        self._python: list[PythonModule] = []
        self._compose: list[ComposeFile] = []
        self._manifests: list[Manifest] = []
        self._crontabs: list[tuple[str, str]] = []
        self._sending: list[str] = []
        """Scripts that seemed to say nothing, and send something: perhaps on a pg-boss or a Queue of another file."""

    def take(self, entry: Entry) -> None:
        path, kind, absolute, regular = entry
        if kind == "env" and (self._named or is_documentation(path)):
            return
        try:
            data = read_bytes(absolute, largest=LARGEST_BYTES_OF.get(kind, LARGEST_BYTES), regular=regular)
            self.facts.files += kind not in _FILTERED or _holds(data, _FILTERED[kind])
            self._read(entry, data)
        except ValueError as error:
            if kind not in _NEED_NOT_BE_TEXT:
                self.facts.unreadable.append(Unreadable(Place(path, 1), str(error)))
        except OSError as error:
            if kind not in _FILTERED or not isinstance(error, FileNotFoundError):  # a link to a submodule, say
                self.facts.unreadable.append(Unreadable(Place(path, 1), error.strerror or str(error)))

    def _read(self, entry: Entry, data: bytes) -> None:
        path, kind, absolute, _ = entry
        if kind in ("package", "pyproject", "requirements"):
            self.facts.manifests.add(dirname(path))
        if kind == "script" and not is_aside(path):
            note_repairs(path, data, self.facts)
        if kind in ("script", "python") and (durable := _DURABLE.search(data)):
            line = data.count(b"\n", 0, durable.start(durable.lastindex or 0)) + 1
            self.facts.durable.setdefault((durable[1] or durable[2]).decode(), Place(path, line))
        worth = _FILTERS.get(kind)
        if worth is not None and not _holds(data, worth) and not is_ecosystem(path):
            self._route(path)
            if kind == "sql" and self.facts.added_in_sql:
                forget_functions(data.decode("utf-8", "replace"), self.facts)
            if kind == "script":
                self._constants.unread[path] = partial(parsed_again, path, absolute)
                if _holds(data, _SENDING) or (b"ueue" in data and _holds(data, _ADDING)):
                    self._sending.append(path)
        elif kind == "script":
            self._parse(path, data)
        elif kind == "python":
            self._module(path, data)
        elif kind == "env":
            self._variables[path] = read_variables(path, decoded(data), self.facts)
        elif kind == "crontab":
            self._crontabs.append((path, decoded(data)))
        elif kind in ("commands", "processes"):
            self._commands(path, data, kind)
        elif kind in _BYTE_READERS:
            decoded(data)
            _BYTE_READERS[kind](path, data, self.facts)
        else:
            _TEXT_READERS[kind](path, decoded(data), self.facts)
            if kind == "render" and b"celery" in data:
                read_processes(path, decoded(data), self.facts)

    def _again(self, path: str) -> bytes:
        """Read a file once more, without parsing it."""
        try:
            return read_bytes(str(self._root / path))
        except (OSError, ValueError):
            return b""

    def _route(self, path: str) -> None:
        route = route_path(path)
        if route is not None:
            self.facts.routes.append(Route(route, (), Place(path, 1)))

    def _parse(self, path: str, data: bytes) -> None:
        decoded(data)
        if is_bundle(data):
            return
        root = parse(data, jsx=may_hold_jsx(path))
        broken = first_error(root)
        if broken is not None:
            self.facts.unreadable.append(Unreadable(Place(path, broken), "is no TypeScript from here on"))
        self._constants.add(Module.of(path, root))

    def _module(self, path: str, data: bytes) -> None:
        self.facts.has_python = True
        tree = read_python(path, decoded(data), self.facts)
        if tree is not None and any(word in data for word in _PYTHON_QUEUES):
            self._python.append(PythonModule.of(path, tree))

    def _commands(self, path: str, data: bytes, kind: str) -> None:
        """Note what starts Celery, what looks after the jobs of workers that died, and how an image is stopped."""
        if b"celery" in data and not path.startswith(WORKFLOWS):  # What CI starts is none of the deployment's.
            (read_processes if kind == "processes" else read_commands)(path, decoded(data), self.facts)
        self.facts.images_choose_signals |= b"\nSTOPSIGNAL " in data
        if kind == "processes" and describes_queue(data):
            self.facts.queue_files.append(Place(path, 1))
        if kind == "processes" and _holds(data, _SCHEDULED):
            read_schedules(path, decoded(data), self.facts)
        found = read_compose(path, decoded(data)) if kind == "processes" and b"services:" in data else None
        if found is not None:
            self._compose.append(found)
        if kind == "processes" and _holds(data, WORTH_READING) and not is_aside(path):
            self._manifests.append(Manifest(path, decoded(data)))
        at = data.find(b"stalled_jobs")
        if at >= 0:
            place = Place(path, data.count(b"\n", 0, at) + 1)
            self.facts.calls.append(QueueCall("procrastinate", "stalled", None, {}, place))

    def finish(self) -> None:
        facts, constants = self.facts, self._constants
        constants.packages = facts.workspaces
        for module in list(constants.modules.values()):
            note_imports(module, facts)
        makers, queues = makers_of(constants.modules), queues_of(constants.modules)
        if makers or queues:
            words = [name.encode() for name in makers | queues]
            for path in self._sending:
                source = self._again(path)
                if any(word in source for word in words):
                    constants.module(path)
        copies = tuple(f"{folder}/" for folder in facts.workspaces.get(PGBOSS, ()) if folder)
        seen: set[tuple[str, int]] = set()
        readers = []
        for module in list(constants.modules.values()):
            if not module.path.startswith(copies):
                read_script(module, constants, facts)
                readers.append(NodeQueues(module, constants, facts=facts, makers=makers, queues=queues, seen=seen))
                readers[-1].read()
        for reader in readers:
            reader.read_travelling()
        PythonQueues(self._python, facts).read()
        graphile = GRAPHILE in facts.imported or any(one.library == GRAPHILE for one in facts.packages)
        for path, text in self._crontabs:
            if graphile and not is_of_a_machine(text):
                read_graphile_crontab(Place(path, 1), text, facts)
            else:
                read_crontab_lines(path, text, facts)
        facts.services.extend(services_of(self._variables))
        pods = read_pods(self._manifests, asked_of(facts), facts)
        if not self._named:
            add_environments(self._compose, self._variables, facts, pods=pods)
        add_graces(self._compose, facts)


def _holds(data: bytes, words: tuple[bytes, ...]) -> bool:
    """Tell whether any word stands in a file: a plain loop, since most files of a repository end here."""
    for word in words:  # noqa: SIM110 - any() with a generator costs as much again as the searches
        if word in data:
            return True
    return False


def is_bundle(data: bytes) -> bool:
    """Tell a bundle from a source by a line that no person writes."""
    head = data[:LARGEST_BYTES]
    return max(map(len, head.split(b"\n", 50)[:50]), default=0) > LONGEST_LINE
