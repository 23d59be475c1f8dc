"""A system file, format 1: which processes there are, what is asked of them, how their jobs are seen, what must hold.

A `SystemFile` is everything that can be known of a system before anything is started; whatever is wrong with the file
is told with `file:line`. Knows no process and no connection.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import Field, ValidationError

from job_harness.core.invariants import ANOMALIES
from job_harness.core.model.duration import MINUTE, SECOND, Duration
from job_harness.core.model.lifecycle import Status
from job_harness.core.model.settings import Settings
from job_harness.core.scenario.document import YamlDocument, read_document
from job_harness.core.scenario.reader import problems_of
from job_harness.core.scenario.schema import NoNulls, Positive, SettingsPart, Text, described
from job_harness.core.yaml_files import LARGEST
from job_harness.errors import UsageError, did_you_mean
from job_harness.subjects.systems.http_wire import HttpMessage

TOOL_JOB_AND_PGBOSS: Final = "tool_job + pgboss"
KNOWN_JOBS: Final = (TOOL_JOB_AND_PGBOSS,)
"""Tables whose jobs are known by name; any other is shown by a SELECT."""
_UPKEEP: Final[Mapping[str, tuple[str, ...]]] = {TOOL_JOB_AND_PGBOSS: ("pgboss.version",)}
REPEAT: Final = Path(__file__).with_name("python") / "repeat.py"
"""Runs a program again and again, as cron does."""
METHODS: Final = ("GET", "POST", "PUT", "PATCH", "DELETE")
JOB: Final = "${job}"
"""Stands in a body for the job's name."""
_VARIABLE: Final = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")
_REQUEST: Final = re.compile(rf"({'|'.join(METHODS)}) (/\S*)")
_CALL: Final = re.compile(rf"(?:{'|'.join(METHODS)}) ([^/\s]+)/\S*")
TYPESCRIPT_NODE: Final = 22, 18
"""From this version on, Node reads TypeScript itself."""
_LAUNCHERS: Final = ("npm", "npx", "pnpm", "yarn", "bun", "docker", "uv", "poetry", "tsx")


class SystemFileError(UsageError):
    """Something is wrong with a system file, or with what it names: one `file:line: ...`, and what to do."""


# the keys -------------------------------------------------------------------------------------------------------------


Command = Annotated[Text, Field(min_length=1, max_length=10_000)]
Environment = dict[str, Text]
Name = Annotated[Text, Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,39}$")]


class DatabasePart(NoNulls):
    """The database that all processes share; the harness brings the server."""

    migrate: Command | None = None
    """The command that makes the tables, run once in an empty database."""
    schema_: Text | None = Field(default=None, alias="schema", min_length=1)
    """A file of SQL that makes them, in place of a command."""
    name: Annotated[Text, Field(min_length=1, max_length=63)] = "app"
    """What processes call the database, where they do not take the name from their environment."""


class HttpPart(NoNulls):
    """A process that takes requests."""

    port_env: Name = "PORT"
    """The environment variable that tells it the port."""
    ready: Text = "/"
    """A path that is answered with 2xx once the process is ready."""


class ProcessPart(NoNulls):
    """One kind of process."""

    command: Command
    """The command that starts it, without a shell; `node` is the Node that the harness finds. `$NAME`, `${NAME}` and
    `${NAME:-default}` are taken from the environment of the process, its port included."""
    instances: Annotated[int, Field(ge=1, le=3)] | None = None
    """Workers: as many as a run draws, up to this number, are called w1, w2, w3."""
    env: Environment = Field(default_factory=dict)
    """Its environment, beside `DATABASE_URL` and `PGHOST` to `PGDATABASE`."""
    http: HttpPart | None = None
    ends: bool = False
    """Whether it may end by itself, with exit code 0; any other process that ends by itself has died."""


class CronPart(NoNulls):
    """A request that is sent every so often, or a command that is run."""

    every: Positive
    request: Text | None = None
    """`GET /path`, in place of `command`."""
    to: Name | None = None
    headers: dict[str, Text] = Field(default_factory=dict)
    command: Command | None = None
    """A Python program that runs and ends: `python reap.py`."""
    env: Environment = Field(default_factory=dict)
    """The environment of the command, beside that of every command."""


class SendPart(NoNulls):
    """How a job is sent."""

    request: Text | None = None
    """`POST /path`, in place of `sql`."""
    to: Name | None = None
    headers: dict[str, Text] = Field(default_factory=dict)
    body: Any = None
    """JSON; `${job}` in it is the job's name."""
    id: Annotated[Text, Field(pattern=r"^\$(\.[A-Za-z_][A-Za-z0-9_]*)+$")] | None = None
    """Where the response has the id of the job's row: `$.id`."""
    sql: Text | None = None
    """A statement that inserts the job, in place of a request; `${job}` in it is the job's name."""


class OutsidePart(NoNulls):
    """What stands for a host outside the system."""

    work: Annotated[Text, Field(pattern=r"^\$(\.[A-Za-z_][A-Za-z0-9_]*)+$")] | None = None
    """Calls are the work of a job: where the body has the job's name. How long they take and end is drawn."""
    answer: Any = Field(default_factory=dict)
    """The JSON that answers a call: of work, one that succeeds. `${job}` in it is the job's name."""
    status: Annotated[int, Field(ge=200, le=599)] = 200
    key: Annotated[Text, Field(pattern=r"^(\$(\.[A-Za-z_][A-Za-z0-9_]*)+|header [A-Za-z0-9-]+)$")] | None = None
    """Where a request has its idempotency key, `header Idempotency-Key` or `$.path`: the host does nothing a second
    time for a key that it knows."""


class CallPart(NoNulls):
    """A call to the outside that must not come twice."""

    call: Text
    """`POST api.example.com/charge`."""
    per: list[Text] = Field(min_length=1)
    """The fields of its JSON body that say which one it is."""


class NoRowPart(NoNulls):
    """A SELECT that must return no row."""

    sql: Text = Field(min_length=1)
    when: Literal["always", "at rest"] = "at rest"
    """After every statement that changed something, or once everything has come to rest."""


class PromisesPart(NoNulls):
    """What is not promised, and what is beyond the catalogue."""

    without: dict[str, Text] = Field(default_factory=dict)
    """Anomalies that are meant to be so, each with the reason; they are not reported."""
    at_most_once: list[CallPart] = Field(default_factory=list)
    """Calls to the outside that must not come twice."""
    no_row: dict[Name, NoRowPart] = Field(default_factory=dict)
    """By name, SELECTs that must return no row."""
    operator: list[Name] = Field(default_factory=list)
    """Processes and cron entries that stand for an operator: only they may bring back a job that has ended."""


class SystemFilePart(NoNulls):
    """Your own processes as they are: how they are started, what they are asked, how their jobs are seen."""

    nullable: ClassVar[frozenset[str]] = frozenset()

    format: Literal[1]
    system: Annotated[Text, Field(min_length=1, max_length=200)]
    """What reports call it."""
    node: Annotated[Text, Field(pattern=r"^\d+(\.\d+)?$")] | None = None
    """The oldest Node that the commands need."""
    python: Text | None = None
    """The Python that `python` stands for in commands; without it, the one that runs the harness."""
    env: Environment = Field(default_factory=dict)
    """The environment of every command; `${NAME}` and `${NAME:-default}` are taken from the one of the harness."""
    database: DatabasePart
    processes: dict[Name, ProcessPart] = Field(min_length=1)
    cron: dict[Name, CronPart] = Field(default_factory=dict)
    send: SendPart
    jobs: Text
    """`tool_job + pgboss`, or one SELECT, or the `.sql` file that has it."""
    status: dict[str, Literal["PENDING", "PROCESSING", "COMPLETED", "FAILED", "CANCELLED"]] = Field(
        default_factory=dict
    )
    """What each status in the table means; without it, they are called as the harness calls them."""
    deleted: Literal["COMPLETED"] | None = None
    """What the queue means by deleting the row of a job that is PROCESSING."""
    upkeep: list[Text] = Field(default_factory=list)
    """Tables in which processes write down no more than that they were there: such rounds of a loop may be left out."""
    outside: dict[Text, OutsidePart] = Field(default_factory=dict)
    settings: SettingsPart = SettingsPart()
    """What the system's own code keeps to; nothing of it is changed by a run."""
    promises: PromisesPart = PromisesPart()
    gate: Literal["statement", "transaction"] = "statement"
    """Where others may act: before every statement, or only before the first of a transaction and its commit."""
    ready_seconds: Annotated[float, Field(gt=0, le=600)] = 60.0
    """Real seconds that a command may take until it is ready, and a statement or request until it is answered."""


def json_schema() -> dict[str, Any]:
    """Return the JSON schema (draft 2020-12) of system files."""
    schema = SystemFilePart.model_json_schema(mode="validation", by_alias=True)
    for part in schema["properties"].values():
        part.pop("title", None)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "job-harness system file"}


# what a file says -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """A request that the harness sends, again and again."""

    method: str
    path: str
    to: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Any = None

    @property
    def name(self) -> str:
        """What gates call it."""
        return f"{self.method} {self.path}"


@dataclass(frozen=True, slots=True)
class ProcessKind:
    """One kind of process."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    instances: int
    """How many workers there are of it at most; 0: it is no worker, and there is one."""
    port_variable: str = ""
    ready: str = ""
    place: str = ""
    ends: bool = False
    """Whether it may end by itself, with exit code 0."""

    @property
    def takes_requests(self) -> bool:
        """Whether it listens."""
        return bool(self.port_variable)

    @property
    def may_be_a_scheduler(self) -> bool:
        """Whether it is neither a worker nor takes requests, so that it may do what the time of day says."""
        return not self.instances and not self.takes_requests


@dataclass(frozen=True, slots=True)
class SystemCron:
    """A request that is sent every so often."""

    name: str
    every: Duration
    request: HttpRequest


@dataclass(frozen=True, slots=True)
class OutsideHost:
    """What stands for one host."""

    host: str
    work: tuple[str, ...] | None
    answer: Any
    status: int
    key: str = ""
    """Where a request has its idempotency key; nowhere: the host knows none."""

    def key_of(self, message: HttpMessage) -> str | None:
        """Return the idempotency key of a request; None where it has none."""
        if self.key.startswith("header "):
            found = message.headers.get(self.key.removeprefix("header ").lower())
        else:
            found = at_path(message.json(), tuple(self.key.split(".")[1:])) if self.key else None
        return None if found in (None, "") else str(found)


@dataclass(frozen=True, slots=True)
class CallPromise:
    """A call to the outside that must not come twice."""

    call: str
    per: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class NoRowPromise:
    """A SELECT that must return no row."""

    name: str
    sql: str
    always: bool
    """After every change; else at rest alone."""
    place: str


@dataclass(frozen=True, slots=True)
class SystemFile:
    """A system file that was read, and makes sense as far as that shows before anything is started."""

    path: str
    system: str
    folder: Path
    node: tuple[int, int] | None
    python: str | None
    environment: Mapping[str, str]
    """Of every command."""
    migrate: tuple[str, ...]
    """The command; empty: a schema is loaded."""
    schema: str
    database: str
    """What processes call it."""
    processes: tuple[ProcessKind, ...]
    crons: tuple[SystemCron, ...]
    send: HttpRequest | None
    send_sql: str
    id_path: tuple[str, ...]
    jobs: str
    status: Mapping[str, Status]
    deletes: bool
    """Whether the queue ends a job by deleting its row."""
    upkeep: frozenset[str]
    outside: Mapping[str, OutsideHost]
    settings: Settings
    sets_max_attempts: bool
    """Whether `settings` says it; else our default stands there."""
    without: Mapping[str, str]
    at_most_once: tuple[CallPromise, ...]
    no_row: tuple[NoRowPromise, ...]
    operators: frozenset[str]
    """Processes and crons that stand for an operator."""
    gate: str
    ready_seconds: float
    lines: Mapping[str, int]

    @property
    def tells_max_attempts(self) -> bool:
        """Whether anything says how often a job may be delivered; nothing of ours stands in for that."""
        return self.sets_max_attempts or self.jobs in KNOWN_JOBS or "max_attempts" in self.jobs

    def place(self, key: str) -> str:
        """Return `file:line` of a key at the top."""
        return f"{self.path}:{self.lines.get(key, 1)}"

    @property
    def workers(self) -> ProcessKind | None:
        """The kind of process that there are several of."""
        return next((kind for kind in self.processes if kind.instances), None)


# reading it -----------------------------------------------------------------------------------------------------------


HINT: Final = "docs/system_files.md shows a whole file; `job-harness schema system` is for your editor."


def _is_typescript(command: tuple[str, ...]) -> bool:
    """Whether Node is to run TypeScript, with nothing that converts it first."""
    converts = any(word.startswith(("--import", "--require", "-r", "--loader")) for word in command)
    return not converts and any(word.endswith((".ts", ".mts", ".cts")) for word in command)


def read_system_file(path: str) -> SystemFile:
    """Read a system file.

    Raises SystemFileError or ScenarioError with `file:line` for what is wrong, and where a file cannot be read.
    """
    try:
        raw = Path(path).read_bytes()
    except OSError as error:
        raise SystemFileError(
            f"{path}: cannot be read: {error.strerror}", hint="Check its name and permissions."
        ) from None
    document = read_document(raw[: LARGEST + 1], path)
    if not isinstance(document.data, dict):
        raise _wrong(
            path, 1, f"a system file is a mapping that starts with `format: 1`, not {described(document.data)}"
        )
    known = [each.alias or name for name, each in SystemFilePart.model_fields.items()]
    for key in document.data:
        if key not in known:
            near = did_you_mean(str(key), known)
            line = document.line((key,))
            raise _wrong(path, line, f"unknown key {key!r}{near}. Known keys: {', '.join(known)}")
    try:
        part = SystemFilePart.model_validate(document.data)
    except ValidationError as error:
        told = [f"{path}:{each.line}: {each.message}" for each in sorted(problems_of(error, document, SystemFilePart))]
        raise SystemFileError("\n".join(told), hint=HINT) from None
    return _SystemReading(part, document, path).file()


def _wrong(path: str, line: int, message: str, hint: str = HINT) -> SystemFileError:
    return SystemFileError(f"{path}:{line}: {message}", hint=hint)


class _SystemReading:
    """One file on its way to a `SystemFile`."""

    def __init__(self, part: SystemFilePart, document: YamlDocument, path: str) -> None:
        self._part = part
        self._document = document
        self._path = path

    def file(self) -> SystemFile:
        """Return what the file says. Raises SystemFileError where that makes no sense."""
        part = self._part
        repeated = [self._repeated(name, each) for name, each in part.cron.items() if each.command is not None]
        processes = (*(self._process(name, each) for name, each in part.processes.items()), *repeated)
        several = [kind.name for kind in processes if kind.instances]
        if len(several) > 1:
            told = f"two kinds of process have `instances`, {several[0]} and {several[1]}: only the workers may"
            hint = f"Name each of the others by itself, as {several[1]}_a and {several[1]}_b with the same command."
            raise self._error(("processes",), told, hint)
        send = part.send
        if (send.request is None) == (send.sql is None):
            raise self._error(("send",), "give either a `request` or `sql`")
        for name in part.promises.without:
            if name not in ANOMALIES:
                near = did_you_mean(name, ANOMALIES)
                hint = "docs/invariants.md lists them."
                raise self._error(("promises", "without", name), f"no such anomaly: {name!r}{near}", hint)
        migrate = self._migration()
        node = None if part.node is None else tuple(map(int, (*part.node.split("."), "0")[:2]))
        if node is None and any(map(_is_typescript, (migrate, *(kind.command for kind in processes)))):
            node = TYPESCRIPT_NODE
        return SystemFile(
            path=self._path,
            system=part.system,
            folder=Path(self._path).resolve().parent,
            node=node,  # type: ignore[arg-type]
            python=part.python,
            environment=self._environment(("env",), part.env),
            migrate=migrate,
            schema=self._schema(),
            database=part.database.name,
            processes=processes,
            crons=tuple([self._cron(name, each) for name, each in part.cron.items() if each.command is None]),
            send=None if send.request is None else self._request(("send",), send),
            send_sql=self._sql() if send.sql else "",
            id_path=() if send.id is None else tuple(send.id.split(".")[1:]),
            jobs=self._jobs(),
            status={name: Status(meaning) for name, meaning in part.status.items()}
            or {str(status): status for status in Status},
            deletes=part.deleted is not None,
            upkeep=frozenset((*part.upkeep, *_UPKEEP.get(part.jobs.strip(), ()))),
            outside={host: self._outside(host, each) for host, each in part.outside.items()},
            settings=Settings().changed(**self._settings()),
            sets_max_attempts="max_attempts" in part.settings.given(),
            without=part.promises.without,
            at_most_once=tuple(self._call(number, each) for number, each in enumerate(part.promises.at_most_once)),
            no_row=tuple(self._no_row(name, each) for name, each in part.promises.no_row.items()),
            operators=self._operators(),
            gate=part.gate,
            ready_seconds=part.ready_seconds,
            lines={str(key): self._line(str(key)) for key in self._document.data},
        )

    def _operators(self) -> frozenset[str]:
        part = self._part
        known = [*(name for name, each in part.processes.items() if each.instances is None), *part.cron]
        for number, name in enumerate(part.promises.operator):
            if name not in known:
                near = did_you_mean(name, known)
                told = f"{name!r} is neither a process without `instances` nor a cron entry{near}"
                hint = "An operator's process has a command of its own, or is a cron entry that sends a request."
                raise self._error(("promises", "operator", number), told, hint)
        return frozenset(part.promises.operator)

    def _call(self, number: int, part: CallPart) -> CallPromise:
        found = _CALL.fullmatch(part.call)
        if found is None:
            told = f"{part.call!r} is no call: write a method, a host and a path, such as POST api.example.com/charge"
            raise self._error(("promises", "at_most_once", number), told)
        if found[1] not in self._part.outside:
            near = did_you_mean(found[1], self._part.outside)
            told = f"`outside` does not name the host {found[1]!r}{near}"
            raise self._error(("promises", "at_most_once", number), told)
        return CallPromise(part.call, tuple(part.per))

    def _outside(self, host: str, part: OutsidePart) -> OutsideHost:
        calls = [_CALL.fullmatch(each.call) for each in self._part.promises.at_most_once]
        if part.key is not None and not any(found is not None and found[1] == host for found in calls):
            told = f"nothing asks for it: no call of `promises.at_most_once` goes to {host}"
            raise self._error(("outside", host, "key"), told)
        work = None if part.work is None else tuple(part.work.split(".")[1:])
        return OutsideHost(host, work, part.answer, part.status, part.key or "")

    def _no_row(self, name: str, part: NoRowPart) -> NoRowPromise:
        path = ("promises", "no_row", name)
        if re.match(r"\s*(select|with)\b", part.sql, re.IGNORECASE) is None:
            raise self._error(path, f"{part.sql!r:.80} is no SELECT")
        return NoRowPromise(name, part.sql, part.when == "always", f"{self._path}:{self._line(*path)}")

    def _line(self, *path: str | int) -> int:
        return self._document.line(path)

    def _error(self, path: tuple[str | int, ...], message: str, hint: str = HINT) -> SystemFileError:
        return _wrong(self._path, self._line(*path), f"{'.'.join(map(str, path))}: {message}", hint)

    def _settings(self) -> dict[str, Any]:
        given = self._part.settings.given()
        periods = {cron.every for cron in self._part.cron.values()}
        if periods and "cron_period" not in given:
            given["cron_period"] = min(periods)
        given.setdefault("cron_period", MINUTE)
        return given

    def _command(self, path: tuple[str, ...], text: str) -> tuple[str, ...]:
        try:
            words = shlex.split(text)
        except ValueError as error:
            raise self._error(path, f"{text!r} is no command: {error}") from None
        if not words or Path(words[0]).name in _LAUNCHERS:
            raise self._error(
                path,
                f"{words[0] if words else 'it'} starts other programs, and a process is observed from its own start",
                "Write what it starts: `node dist/worker.js` in place of `npm run worker`, and "
                "`node --import tsx worker.ts` in place of `tsx worker.ts`.",
            )
        if any(word in ("&&", "||", "|", ";", "&", ">", "<") for word in words):
            raise self._error(path, "no shell runs it", "Put several commands into a file, and name that: sh run.sh")
        return tuple(words)

    def _migration(self) -> tuple[str, ...]:
        database = self._part.database
        if (database.migrate is None) == (database.schema_ is None):
            raise self._error(("database",), "give either `migrate`, a command, or `schema`, a file of SQL")
        if database.migrate is None:
            return ()
        try:
            return tuple(shlex.split(database.migrate))
        except ValueError as error:
            raise self._error(("database", "migrate"), f"it is no command: {error}") from None

    def _schema(self) -> str:
        name = self._part.database.schema_
        return "" if name is None else self._text(("database", "schema"), name)

    def _text(self, path: tuple[str, ...], name: str) -> str:
        file = Path(self._path).parent / name
        try:
            return file.read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            hint = "The path is relative to the folder of this file."
            raise self._error(path, f"{file}: cannot be read: {error}", hint) from None

    def _process(self, name: str, part: ProcessPart) -> ProcessKind:
        path = ("processes", name)
        http = part.http
        return ProcessKind(
            name,
            self._command((*path, "command"), part.command),
            {**self._environment(("env",), self._part.env), **self._environment((*path, "env"), part.env)},
            part.instances or 0,
            port_variable="" if http is None else http.port_env,
            ready="" if http is None else http.ready,
            place=f"{self._path}:{self._line(*path)}",
            ends=part.ends,
        )

    def _cron(self, name: str, part: CronPart) -> SystemCron:
        self._refuse_process(name)
        if part.request is None or part.env:
            raise self._error(("cron", name), "give either a `request`, with `to`, or a `command`")
        return SystemCron(name, part.every, self._request(("cron", name), part))

    def _repeated(self, name: str, part: CronPart) -> ProcessKind:
        """Return a program that ends as a process that runs it every so often."""
        self._refuse_process(name)
        path = ("cron", name)
        if part.request is not None or part.to is not None or part.headers:
            raise self._error(path, "give either a `request`, with `to`, or a `command`")
        program, *words = self._command((*path, "command"), part.command or "")
        if not Path(program).name.startswith("python") or not words or (words[0] != "-m" and words[0].startswith("-")):
            raise self._error(
                (*path, "command"),
                f"{part.command!r} cannot be repeated: only `python SCRIPT` and `python -m MODULE` can",
                "Write a program that repeats it and sleeps in between, and name that under `processes`.",
            )
        return ProcessKind(
            name,
            (program, str(REPEAT), f"{part.every / SECOND:g}", *words),
            {**self._environment(("env",), self._part.env), **self._environment((*path, "env"), part.env)},
            instances=0,
            place=f"{self._path}:{self._line(*path)}",
        )

    def _refuse_process(self, name: str) -> None:
        if name in self._part.processes:
            raise self._error(("cron", name), "a process has this name already")

    def _request(self, path: tuple[str, ...], part: CronPart | SendPart) -> HttpRequest:
        found = _REQUEST.fullmatch(part.request or "")
        if found is None:
            told = f"{part.request!r} is no request: write a method and a path, such as POST /api/jobs"
            raise self._error((*path, "request"), told)
        taking = [name for name, process in self._part.processes.items() if process.http is not None]
        if part.to not in taking:
            near = did_you_mean(str(part.to), taking)
            told = f"no process {part.to!r} takes requests{near}: those with `http` are {', '.join(taking) or 'none'}"
            raise self._error(path, f"to: {told}")
        if self._part.processes[str(part.to)].instances is not None:
            told = f"to: {part.to} has `instances`, so it is several processes, and no request goes to one of several"
            hint = f"Name one of them by itself, as {part.to}_a with the same command, and let `to` name that."
            raise self._error(path, told, hint)
        headers = {key.lower(): self._filled((*path, "headers"), value, part.to) for key, value in part.headers.items()}
        return HttpRequest(found[1], found[2], str(part.to), headers, getattr(part, "body", None))

    def _filled(self, path: tuple[str, ...], text: str, process: str | None) -> str:
        """Put the values of variables in place of `${NAME}`: from the environment of the process that is asked."""
        own = {} if process is None else {**self._part.env, **self._part.processes[process].env}
        return self._substituted(path, self._substituted(path, text, own), {})

    def _environment(self, path: tuple[str, ...], given: Mapping[str, str]) -> dict[str, str]:
        return {name: self._substituted((*path, name), text, {}) for name, text in given.items()}

    def _substituted(self, path: tuple[str, ...], text: str, own: Mapping[str, str]) -> str:
        def value(found: re.Match[str]) -> str:
            name, otherwise = found[1], found[2]
            told = own.get(name, os.environ.get(name, otherwise))
            if told is None:
                raise self._error(path, f"the variable {name} is not set", "Set it, or write ${NAME:-default}.")
            return told

        return _VARIABLE.sub(value, text)

    def _sql(self) -> str:
        sql = self._part.send.sql or ""
        if JOB not in sql:
            raise self._error(("send", "sql"), f"it has no {JOB}, by which the job's row is known again")
        return sql

    def _jobs(self) -> str:
        text = self._part.jobs.strip()
        if re.fullmatch(r"\S+\.sql", text):
            text = re.sub(r"^\s*--.*", "", self._text(("jobs",), text), flags=re.MULTILINE).strip().rstrip(";")
        if text in KNOWN_JOBS or re.match(r"(select|with)\b", text, re.IGNORECASE):
            return text
        near = did_you_mean(text, KNOWN_JOBS)
        told = f"{text!r:.80} is neither known{near} nor a SELECT. Known by name: {', '.join(KNOWN_JOBS)}"
        hint = "docs/system_files.md has a SELECT for pg-boss, and one for graphile-worker."
        raise self._error(("jobs",), told, hint)


def filled(body: Any, job: str) -> Any:
    """Return a body with the job's name in place of `${job}`."""
    if isinstance(body, str):
        return body.replace(JOB, job)
    if isinstance(body, Mapping):
        return {key: filled(value, job) for key, value in body.items()}
    return [filled(item, job) for item in body] if isinstance(body, list) else body


def at_path(value: Any, path: tuple[str, ...]) -> Any:
    """Return what JSON has at a path; None where it has nothing there."""
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value
