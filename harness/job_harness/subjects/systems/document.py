"""A system file, format 1: which processes there are, what is asked of them, how their jobs are seen, what must hold.

A `SystemFile` is everything that can be known of a system before anything is started; whatever is
wrong with the file is told with `file:line`. Knows no process and no connection.
"""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, Literal, TypeAlias
from urllib.parse import quote

from pydantic import AfterValidator, Field, ValidationError

from job_harness.core.invariants import ANOMALIES, everything
from job_harness.core.invariants.rows import AgreePromise, NoRowPromise, ShownBy
from job_harness.core.model import MINUTE, SECOND, Design, Duration, Settings, Status
from job_harness.core.port import JobRequest, Missed, Schedule
from job_harness.core.scenario.document import YamlDocument, read_document
from job_harness.core.scenario.reader import problems_of
from job_harness.core.scenario.schema import NoNulls, NoRowPart, Positive, SettingsPart, Text, described
from job_harness.core.yaml_files import LARGEST
from job_harness.errors import UsageError, did_you_mean
from job_harness.subjects.systems.brokers import BROKERS
from job_harness.subjects.systems.http_wire import HttpMessage
from job_harness.worlds.sqs.service import ACCOUNT, SqsQueues

TOOL_JOB_AND_PGBOSS: Final = "tool_job + pgboss"
REDIS: Final = "redis"
SQS: Final = "sqs"
"""A store, and what is known of the jobs in it by that name."""
KNOWN_JOBS: Final = (TOOL_JOB_AND_PGBOSS, *BROKERS, SQS)
"""What is known by name; any other table is shown by a SELECT."""
_UPKEEP: Final[Mapping[str, tuple[str, ...]]] = {
    TOOL_JOB_AND_PGBOSS: ("pgboss.version",),
    "rq": ("rq:worker", "rq:clean_registries", "rq:scheduler"),
    "arq": ("arq:queue:health-check",),
    "pydocket": ("docket:worker",),
}
_TELLING: Final = (TOOL_JOB_AND_PGBOSS, "bullmq", "rq")
"""Which of those that are known by name show max_attempts."""
REPEAT: Final = Path(__file__).with_name("python") / "repeat.py"
"""Runs a program again and again, as cron does."""
METHODS: Final = ("GET", "POST", "PUT", "PATCH", "DELETE")
JOB: Final = "${job}"
"""Stands in a body for the job's name."""
ID: Final = "${id}"
"""Stands in a path for the id of a job's row."""
REDIS_ENVIRONMENT: Final[Mapping[str, str]] = {
    "REDIS_URL": "redis://localhost:6379/0",
    "REDIS_HOST": "localhost",
    "REDIS_PORT": "6379",
}
"""What every process finds where there is a Redis."""
ASKED: Final[Mapping[str, str]] = {
    "${key}": "unique_key",
    "${serial_key}": "serial_key",
    "${priority}": "priority",
    "${children}": "children",
}
"""What may stand in a body beside it, by what a job then asks for; the rows have to show a column of that name.

A job that is to be split shows it by its children: they have the column `parent`.
"""
UNPLANNED: Final[Mapping[str, Any]] = {"children": 2}
"""What a job asks for where nothing was drawn."""
ACTIONS: Final = ("cancel", "retry")
"""What an operator can ask for, of a job by its id."""
_VARIABLE: Final = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")
QUEUE: Final = r"^([A-Za-z0-9_-]{1,80}|[A-Za-z0-9_-]{1,75}\.fifo)$"
"""How Amazon lets a queue of SQS be called."""
_FIFO: Final = ".fifo"
_REQUEST: Final = re.compile(rf"({'|'.join(METHODS)}) (/\S*)")
_CALL: Final = re.compile(rf"(?:{'|'.join(METHODS)}) ([^/\s]+)/\S*")
TYPESCRIPT_NODE: Final = 22, 18
"""From this version on, Node reads TypeScript itself."""
_SWITCHED_ON: Final[Mapping[str, str]] = {"false": "true", "off": "on", "no": "yes"}
_AT_ONCE: Final = re.compile(r"BATCH|CONCURRENCY|PREFETCH", re.IGNORECASE)
"""A variable that says how many jobs are taken or run at once."""
_SHELL: Final = frozenset(("&&", "||", "|", ";", "&", ">", "<"))
_REPEAT: Final = """while :; do "$@" || echo 'job-harness: this run of a cron command failed'; sleep {seconds}; done"""
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
    replica: Name | None = None
    """The variable in which processes find the URL of a read replica."""


class RedisPart(NoNulls):
    """A Redis that all processes share, at port 6379 of `localhost` and `redis`, and as `REDIS_URL` says."""


def _whole_seconds(length: Duration) -> Duration:
    if length % SECOND:
        raise ValueError("SQS takes whole seconds, such as 30s")
    return length


_Seconds: TypeAlias = Annotated[Positive, AfterValidator(_whole_seconds)]


class SqsQueuePart(NoNulls):
    """A queue of SQS that is there when a run begins; of a FIFO queue the name ends in `.fifo`."""

    visibility_timeout: _Seconds = 30 * SECOND
    wait: _Seconds | None = None
    """How long a receive waits that does not say so itself (ReceiveMessageWaitTimeSeconds)."""
    delay: _Seconds | None = None
    retention: _Seconds | None = None
    max_receives: Annotated[int, Field(ge=1, le=1000)] | None = None
    """A message that was received so often goes to `dead_letters` in place of being received again."""
    dead_letters: Annotated[Text, Field(pattern=QUEUE)] | None = None
    content_based_deduplication: bool = False


class SqsPart(NoNulls):
    """An SQS that all processes share, under the names that it has at Amazon."""

    region: Annotated[Text, Field(pattern=r"^[a-z0-9-]{1,40}$")] = "us-east-1"
    queues: dict[Annotated[Text, Field(pattern=QUEUE)], SqsQueuePart] = Field(default_factory=dict)


class StoresPart(NoNulls):
    """What processes share beside the database; the harness brings the servers."""

    redis: RedisPart | None = None
    sqs: SqsPart | None = None


class HttpPart(NoNulls):
    """A process that takes requests."""

    port_env: Name = "PORT"
    """The environment variable that tells it the port."""
    ready: Text = "/"
    """A path that is answered with 2xx once the process is ready; to `/` any answer will do but an error of it."""


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
    grace: Positive = 30 * SECOND
    """How long after SIGTERM a deploy kills it."""
    next: Command | None = None
    """The command that runs in its place after a deploy: its next version."""


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


class ActionPart(NoNulls):
    """A request by which an operator does something to a job."""

    request: Text
    """`POST /jobs/${id}/retry`, with the id of the job's row."""
    to: Name
    headers: dict[str, Text] = Field(default_factory=dict)
    body: Any = None
    """JSON; `${id}` in it is that id too."""


class SchedulePart(NoNulls):
    """When a schedule of the system's own has its slots."""

    every: Positive | None = None
    """Whole multiples of it since 1970; or `cron`."""
    cron: Text | None = None
    zone: Text = "UTC"
    missed: Literal["each", "latest"] = "each"
    """Whether every slot has to have its job at last, or only the latest one."""


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
    rides_out: Positive | None = None
    """How long the host may be down, slow, limited or late, and no job fails for good because of it."""


class CallPart(NoNulls):
    """A call to the outside that must not come twice."""

    call: Text
    """`POST api.example.com/charge`."""
    per: list[Text] = Field(min_length=1)
    """The fields of its JSON body that say which one it is."""


class CallsPart(NoNulls):
    """Calls to a host outside, as one of two places that have to show the same."""

    calls: Text
    """`POST index.example.com/put`."""
    key: Text
    """The field of its JSON body that is the key."""
    value: Text = ""
    """The field that is the value, if there is one: the last call counts."""


class AgreePart(NoNulls):
    """Two places that have to show the same at rest."""

    each: Text | CallsPart
    """A SELECT, or a `.lua` file whose script is run in Redis, that shows `key`, and `value` if any; or calls."""
    with_: Text | CallsPart = Field(alias="with")
    """What shows the same: another one of these."""
    both: bool = True
    """Whether a key that only `with` shows is wrong too."""
    within: Positive | None = None
    """How long a key may differ that was struck by no fault meanwhile; without it, until everything is done."""


class PromisesPart(NoNulls):
    """What is not promised, and what is beyond the catalogue."""

    without: dict[str, Text] = Field(default_factory=dict)
    """Anomalies that are meant to be so, each with the reason; they are not reported."""
    at_most_once: list[CallPart] = Field(default_factory=list)
    """Calls to the outside that must not come twice."""
    no_row: dict[Name, NoRowPart] = Field(default_factory=dict)
    """By name, SELECTs that must return no row."""
    agree: dict[Name, AgreePart] = Field(default_factory=dict)
    """By name, what two places have to show in the same way once everything is done."""
    operator: list[Name] = Field(default_factory=list)
    """Processes and cron entries that stand for an operator: only they may bring back a job that has ended."""
    also: list[Name] = Field(default_factory=list)
    """Invariants that a system may break and be right, and that this one keeps."""
    deploys: Literal["cost no attempt"] | None = None
    """What a deploy may not cost the jobs that it interrupts."""
    flows: Literal["wait for the end"] | None = None
    """What a job that depends on others, or is their parent, waits for; else it is their success."""
    schedules: dict[Name, SchedulePart] = Field(default_factory=dict)
    """By name, as the column `schedule` shows it, when each schedule has its slots."""


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
    database: DatabasePart | None = None
    """The database of the processes; they may do with `stores` alone."""
    stores: StoresPart = StoresPart()
    """What else they share; only with `clock: supervisor`."""
    processes: dict[Name, ProcessPart] = Field(min_length=1)
    cron: dict[Name, CronPart] = Field(default_factory=dict)
    send: SendPart
    actions: dict[Literal["cancel", "retry"], ActionPart] = Field(default_factory=dict)
    """What an operator can ask for, by request."""
    jobs: Text
    """`tool_job + pgboss`, or one SELECT, or the `.sql` file that has it; of jobs on Redis the name of their queue, as
    `bullmq`, or a `.lua` file whose script returns them as JSON."""
    status: dict[str, Literal["PENDING", "PROCESSING", "COMPLETED", "FAILED", "CANCELLED"]] = Field(
        default_factory=dict
    )
    """What each status in the table means; without it, they are called as the harness calls them."""
    deleted: Literal["COMPLETED"] | None = None
    """What the queue means by deleting the row of a job that is PROCESSING."""
    upkeep: list[Text] = Field(default_factory=list)
    """Tables, and beginnings of keys, in which processes write down no more than that they were there: such rounds of a
    loop may be left out."""
    outside: dict[Text, OutsidePart] = Field(default_factory=dict)
    settings: SettingsPart = SettingsPart()
    """What the system's own code keeps to; nothing of it is changed by a run."""
    promises: PromisesPart = PromisesPart()
    clock: Literal["inside", "supervisor"] = "inside"
    """Who owns the time of the processes: what is loaded into each (Node and Python), or a supervisor (any program)."""
    lines: bool = False
    """With a supervisor: whether Node and Python load what notes from which line of their code something is sent."""
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

    def about(self, job: str, **asked: Any) -> HttpRequest:
        """Return the request with what it says of a job in its path, its headers and its body."""
        headers = {name: str(filled(value, job, **asked)) for name, value in self.headers.items()}
        path = self.path.replace(JOB, quote(job)).replace(ID, str(asked.get("id", ID)))
        return replace(self, path=path, headers=headers, body=filled(self.body, job, **asked))


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
    grace: Duration = 30 * SECOND
    """How long after SIGTERM a deploy kills it."""
    next: tuple[str, ...] = ()
    """The command of its next version; empty: a deploy starts the same one again."""

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
    rides_out: Duration = 0
    """How long it may be in trouble without a job that fails for good; 0: nothing is promised."""

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
    """What processes call it; empty: there is none."""
    replica: str
    """The variable in which they find the URL of its read replica; empty: it has none."""
    redis: bool
    """Whether they share a Redis."""
    sqs: SqsQueues | None
    """The queues of the SQS that they share."""
    processes: tuple[ProcessKind, ...]
    crons: tuple[SystemCron, ...]
    send: HttpRequest | None
    send_sql: str
    actions: Mapping[str, HttpRequest]
    """What an operator can ask for."""
    id_path: tuple[str, ...]
    jobs: str
    script: bool
    """Whether `jobs` is a script in Lua."""
    status: Mapping[str, Status]
    deletes: bool
    """Whether the queue ends a job by deleting its row."""
    upkeep: frozenset[str]
    outside: Mapping[str, OutsideHost]
    settings: Settings
    given: frozenset[str]
    """The settings that the file says; our defaults stand in for the others."""
    also: frozenset[str]
    """Invariants that it asks for by name."""
    schedules: tuple[Schedule, ...]
    without: Mapping[str, str]
    at_most_once: tuple[CallPromise, ...]
    no_row: tuple[NoRowPromise, ...]
    agree: tuple[AgreePromise, ...]
    designs: frozenset[Design]
    """How it differs on purpose."""
    deploys_are_free: bool
    """Whether a deploy costs no job an attempt."""
    operators: frozenset[str]
    """Processes and crons that stand for an operator."""
    supervised: bool
    """Whether a supervisor owns the time of its processes, so that they may be any programs."""
    tells_lines: bool
    """Whether a process that is supervised says from which line it sends something."""
    gate: str
    ready_seconds: float
    lines: Mapping[str, int]

    @property
    def tells_max_attempts(self) -> bool:
        """Whether anything says how often a job may be delivered; nothing of ours stands in for that."""
        limited = self.sqs is not None and self.jobs == SQS and self.sqs.limits_receives
        return "max_attempts" in self.given or self.jobs in _TELLING or limited or "max_attempts" in self.jobs

    @property
    def jobs_on_redis(self) -> bool:
        """Whether its jobs are read from Redis, by the name of their queue or a script."""
        return self.jobs in BROKERS or self.script

    @property
    def asks(self) -> frozenset[str]:
        """What a job can ask for when it is sent, beside to be one."""
        body = str(self.send_sql if self.send is None else self.send.body)
        return frozenset(name for text, name in ASKED.items() if text in body)

    def place(self, key: str) -> str:
        """Return `file:line` of a key at the top."""
        return f"{self.path}:{self.lines.get(key, 1)}"

    def changes(self) -> Mapping[str, SystemFile]:
        """Return, by what is changed, the file with one variable of its environment changed that may be a repair.

        That is a switch that is off, and how many things are done at once.
        """
        known = {
            **self.environment,
            **{name: text for kind in self.processes for name, text in kind.environment.items()},
        }
        switched = {name: _SWITCHED_ON[text] for name, text in known.items() if text in _SWITCHED_ON}
        single = {
            name: "1" for name, text in known.items() if _AT_ONCE.search(name) and text.isdigit() and int(text) > 1
        }
        return {f"{name}={text}": self._with(name, text) for name, text in {**switched, **single}.items()}

    def _with(self, name: str, text: str) -> SystemFile:
        def put(known: Mapping[str, str]) -> Mapping[str, str]:
            return {**known, name: text} if name in known else known

        kinds = tuple(replace(kind, environment=put(kind.environment)) for kind in self.processes)
        return replace(self, environment=put(self.environment), processes=kinds)

    @property
    def workers(self) -> ProcessKind | None:
        """The kind of process that there are several of."""
        return next((kind for kind in self.processes if kind.instances), None)


# reading it -----------------------------------------------------------------------------------------------------------


SHORTEST_TROUBLE: Final[Duration] = 3 * SECOND
HINT: Final = "docs/system_files.md shows a whole file; `job-harness schema system` is for your editor."


def _is_typescript(command: tuple[str, ...]) -> bool:
    """Whether Node is to run TypeScript, with nothing that converts it first."""
    converts = any(word.startswith(("--import", "--require", "-r", "--loader")) for word in command)
    return not converts and any(word.endswith((".ts", ".mts", ".cts")) for word in command)


def read_system_file(path: str) -> SystemFile:
    """Read a system file.

    Raises SystemFileError or ScenarioError with `file:line` for what is wrong, and where a file
    cannot be read.
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
        self._supervised = part.clock == "supervisor"

    def file(self) -> SystemFile:
        """Return what the file says. Raises SystemFileError where that makes no sense."""
        part = self._part
        repeated = [self._repeated(name, each) for name, each in part.cron.items() if each.command is not None]
        processes = (*(self._process(name, each) for name, each in part.processes.items()), *repeated)
        self._refuse_contradictions(processes)
        send = part.send
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
            database="" if part.database is None else part.database.name,
            replica="" if part.database is None else part.database.replica or "",
            redis=self._stores(),
            sqs=self._sqs(),
            processes=processes,
            crons=tuple([self._cron(name, each) for name, each in part.cron.items() if each.command is None]),
            send=None if send.request is None else self._request(("send",), send),
            send_sql=self._sql() if send.sql else "",
            actions={name: self._request(("actions", name), each) for name, each in part.actions.items()},
            id_path=() if send.id is None else tuple(send.id.split(".")[1:]),
            jobs=self._jobs(),
            script=part.jobs.strip().endswith(".lua"),
            status={name: Status(meaning) for name, meaning in part.status.items()}
            or {str(status): status for status in Status},
            deletes=part.deleted is not None,
            upkeep=frozenset((*part.upkeep, *_UPKEEP.get(part.jobs.strip(), ()))),
            outside={host: self._outside(host, each) for host, each in part.outside.items()},
            settings=Settings().changed(**self._settings()),
            given=frozenset(part.settings.given()),
            also=self._also(),
            schedules=tuple(self._schedule(name, each) for name, each in part.promises.schedules.items()),
            without=part.promises.without,
            at_most_once=tuple(self._call(number, each) for number, each in enumerate(part.promises.at_most_once)),
            no_row=tuple(self._no_row(name, each) for name, each in part.promises.no_row.items()),
            agree=tuple(self._agree(name, each) for name, each in part.promises.agree.items()),
            designs=frozenset({Design.WAITS_FOR_THE_END}) if part.promises.flows else frozenset(),
            deploys_are_free=part.promises.deploys is not None,
            operators=self._operators(),
            supervised=self._supervised,
            tells_lines=self._tells_lines(),
            gate=part.gate,
            ready_seconds=part.ready_seconds,
            lines={str(key): self._line(str(key)) for key in self._document.data},
        )

    def _refuse_contradictions(self, processes: Iterable[ProcessKind]) -> None:
        several = [kind.name for kind in processes if kind.instances]
        if len(several) > 1:
            told = f"two kinds of process have `instances`, {several[0]} and {several[1]}: only the workers may"
            hint = f"Name each of the others by itself, as {several[1]}_a and {several[1]}_b with the same command."
            raise self._error(("processes",), told, hint)
        if (self._part.send.request is None) == (self._part.send.sql is None):
            raise self._error(("send",), "give either a `request` or `sql`")
        for name in self._part.promises.without:
            if name not in ANOMALIES:
                told = f"no such anomaly: {name!r}{did_you_mean(name, ANOMALIES)}"
                raise self._error(("promises", "without", name), told, "docs/invariants.md lists them.")

    def _also(self) -> frozenset[str]:
        named = [item.id for item in everything() if item.evidence.named]
        for number, name in enumerate(self._part.promises.also):
            if name not in named:
                told = f"no invariant {name!r} is asked only by name{did_you_mean(name, named)}"
                raise self._error(("promises", "also", number), told, f"Those that are: {', '.join(named)}.")
        return frozenset(self._part.promises.also)

    def _schedule(self, name: str, part: SchedulePart) -> Schedule:
        if (part.every is None) == (part.cron is None):
            raise self._error(("promises", "schedules", name), "give either `every` or `cron`")
        try:
            schedule = Schedule(
                name, part.every or 0, JobRequest(name), part.cron or "", part.zone, missed=Missed(part.missed)
            )
            schedule.following(0)
        except UsageError as error:
            raise self._error(("promises", "schedules", name), error.message) from None
        return schedule

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
        return CallPromise(self._named_call(("promises", "at_most_once", number), part.call), tuple(part.per))

    def _named_call(self, path: tuple[str | int, ...], call: str) -> str:
        """Return a call. Raises SystemFileError where it is none, or goes to no host of `outside`."""
        found = _CALL.fullmatch(call)
        if found is None:
            told = f"{call!r} is no call: write a method, a host and a path, such as POST api.example.com/charge"
            raise self._error(path, told)
        if found[1] not in self._part.outside:
            near = did_you_mean(found[1], self._part.outside)
            raise self._error(path, f"`outside` does not name the host {found[1]!r}{near}")
        return call

    def _outside(self, host: str, part: OutsidePart) -> OutsideHost:
        calls = [_CALL.fullmatch(each.call) for each in self._part.promises.at_most_once]
        if part.key is not None and not any(found is not None and found[1] == host for found in calls):
            told = f"nothing asks for it: no call of `promises.at_most_once` goes to {host}"
            raise self._error(("outside", host, "key"), told)
        work = None if part.work is None else tuple(part.work.split(".")[1:])
        if part.rides_out is not None and (work is None or part.rides_out < SHORTEST_TROUBLE):
            told = "it is about calls with `work`, and an outage takes 3s at least"
            raise self._error(("outside", host, "rides_out"), told)
        return OutsideHost(host, work, part.answer, part.status, part.key or "", part.rides_out or 0)

    def _no_row(self, name: str, part: NoRowPart) -> NoRowPromise:
        path = ("promises", "no_row", name)
        if re.match(r"\s*(select|with)\b", part.sql, re.IGNORECASE) is None:
            raise self._error(path, f"{part.sql!r:.80} is no SELECT")
        return NoRowPromise(name, part.sql, part.when == "always", f"{self._path}:{self._line(*path)}")

    def _agree(self, name: str, part: AgreePart) -> AgreePromise:
        path = ("promises", "agree", name)
        each, other = (
            self._read_shown_by((*path, key), text) for key, text in (("each", part.each), ("with", part.with_))
        )
        return AgreePromise(name, each, other, part.both, part.within, f"{self._path}:{self._line(*path)}")

    def _read_shown_by(self, path: tuple[str, ...], text: str | CallsPart) -> ShownBy:
        if isinstance(text, CallsPart):
            return ShownBy(self._named_call(path, text.calls), script=False, key=text.key, value=text.value)
        script = text.strip().endswith(".lua")
        if not script and re.match(r"\s*(select|with)\b", text, re.IGNORECASE) is None:
            raise self._error(path, f"{text!r:.80} is neither a SELECT nor a .lua file")
        if script and self._part.stores.redis is None:
            raise self._error(path, "a script runs on Redis: add `stores: {redis: {}}`")
        if not script and self._part.database is None:
            raise self._error(path, "there is no `database` to run it in")
        return ShownBy(self._text(path, text.strip()) if script else text, script)

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
        if self._supervised and words:
            return ("sh", "-c", text) if _SHELL.intersection(words) else tuple(words)
        if not words or Path(words[0]).name in _LAUNCHERS:
            raise self._error(
                path,
                f"{words[0] if words else 'it'} starts other programs, and a process is observed from its own start",
                "Write what it starts: `node dist/worker.js` in place of `npm run worker`, and "
                "`node --import tsx worker.ts` in place of `tsx worker.ts`.",
            )
        if _SHELL.intersection(words):
            raise self._error(path, "no shell runs it", "Put several commands into a file, and name that: sh run.sh")
        return tuple(words)

    def _migration(self) -> tuple[str, ...]:
        database = self._part.database
        if database is None:
            return ()
        if (database.migrate is None) == (database.schema_ is None):
            raise self._error(("database",), "give either `migrate`, a command, or `schema`, a file of SQL")
        if database.migrate is None:
            return ()
        try:
            return tuple(shlex.split(database.migrate))
        except ValueError as error:
            raise self._error(("database", "migrate"), f"it is no command: {error}") from None

    def _tells_lines(self) -> bool:
        """Return whether lines are asked for. Raises SystemFileError where that says nothing."""
        if self._part.lines and not self._supervised:
            raise self._error(
                ("lines",), "it works only with `clock: supervisor`", "Leave it out: lines are known without it."
            )
        return self._part.lines

    def _stores(self) -> bool:
        """Return whether there is a Redis. Raises SystemFileError where there is no store."""
        part, stores = self._part, sorted(self._part.stores.model_fields_set)
        if stores and not self._supervised:
            raise self._error(("stores", stores[0]), "it needs `clock: supervisor`", "Add that line at the top.")
        if part.database is None and not stores:
            raise self._error((), "give a `database`, or `stores`, such as {redis: {}}, or both")
        if part.database is None and (part.send.sql is not None or part.promises.no_row):
            key = "promises.no_row" if part.send.sql is None else "send.sql"
            raise self._error(tuple(key.split(".")), "there is no `database` to run SQL in")
        return part.stores.redis is not None

    def _sqs(self) -> SqsQueues | None:
        part = self._part.stores.sqs
        if part is None:
            return None
        for name, queue in part.queues.items():
            self._refuse_queue(name, queue, part.queues)
        dead_first = sorted(part.queues.items(), key=lambda each: each[1].dead_letters is not None)
        queues = SqsQueues(part.region, {name: _attributes(name, each, part.region) for name, each in dead_first})
        if taken := [host for host in queues.hosts if host in self._part.outside]:
            raise self._error(("outside", taken[0]), "`stores` has an SQS of that name", "Leave out one of the two.")
        return queues

    def _refuse_queue(self, name: str, queue: SqsQueuePart, queues: Mapping[str, SqsQueuePart]) -> None:
        where, dead = ("stores", "sqs", "queues", name), queue.dead_letters
        if queue.content_based_deduplication and not name.endswith(_FIFO):
            told = "only a FIFO queue has `content_based_deduplication`"
            raise self._error(where, told, f"Call it {name}{_FIFO}, or leave that out.")
        if (queue.max_receives is None) != (dead is None):
            raise self._error(where, "give `max_receives` and `dead_letters`, or neither")
        if dead is None:
            return
        if dead not in queues:
            near = did_you_mean(dead, queues)
            hint = f"Add it to `queues`: {dead}: {{}}"
            raise self._error(where, f"there is no queue {dead!r} for its dead letters{near}", hint)
        if queues[dead].dead_letters is not None:
            told = f"{dead!r}, the queue for its dead letters, has `dead_letters` too"
            raise self._error(where, told, f"Leave `max_receives` and `dead_letters` of {dead!r} out.")
        if name.endswith(_FIFO) != dead.endswith(_FIFO):
            told = f"{dead!r} cannot take its dead letters: both have to be FIFO queues, or neither"
            raise self._error(where, told, f"The name of a FIFO queue ends in {_FIFO}.")

    def _schema(self) -> str:
        name = None if self._part.database is None else self._part.database.schema_
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
        if part.next is not None and self._supervised:
            raise self._error((*path, "next"), "a second version runs only with `clock: inside`")
        return ProcessKind(
            name,
            self._command((*path, "command"), part.command),
            {**self._environment(("env",), self._part.env), **self._environment((*path, "env"), part.env)},
            part.instances or 0,
            port_variable="" if http is None else http.port_env,
            ready="" if http is None else http.ready,
            place=f"{self._path}:{self._line(*path)}",
            ends=part.ends,
            grace=part.grace,
            next=() if part.next is None else self._command((*path, "next"), part.next),
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
        if self._supervised:
            repeated = ("sh", "-c", _REPEAT.format(seconds=f"{part.every / SECOND:g}"), "cron", program, *words)
            return self._repeating(name, part, repeated)
        if not Path(program).name.startswith("python") or not words or (words[0] != "-m" and words[0].startswith("-")):
            raise self._error(
                (*path, "command"),
                f"{part.command!r} cannot be repeated: only `python SCRIPT` and `python -m MODULE` can",
                "Write a program that repeats it and sleeps in between, and name that under `processes`.",
            )
        return self._repeating(name, part, (program, str(REPEAT), f"{part.every / SECOND:g}", *words))

    def _repeating(self, name: str, part: CronPart, command: tuple[str, ...]) -> ProcessKind:
        path = ("cron", name)
        return ProcessKind(
            name,
            command,
            {**self._environment(("env",), self._part.env), **self._environment((*path, "env"), part.env)},
            instances=0,
            place=f"{self._path}:{self._line(*path)}",
        )

    def _refuse_process(self, name: str) -> None:
        if name in self._part.processes:
            raise self._error(("cron", name), "a process has this name already")

    def _request(self, path: tuple[str, ...], part: ActionPart | CronPart | SendPart) -> HttpRequest:
        found = _REQUEST.fullmatch(part.request or "")
        if found is None:
            told = f"{part.request!r} is no request: write a method and a path, such as POST /api/jobs"
            raise self._error((*path, "request"), told)
        taking = [name for name, process in self._part.processes.items() if process.http is not None]
        if part.to not in taking:
            near = did_you_mean(str(part.to), taking)
            told = f"no process {part.to!r} takes requests{near}: those with `http` are {', '.join(taking) or 'none'}"
            raise self._error(path, f"to: {told}")
        places = {} if isinstance(part, CronPart) else {"job": JOB}
        headers = {
            key.lower(): self._filled((*path, "headers"), value, part.to, **places)
            for key, value in part.headers.items()
        }
        return HttpRequest(found[1], found[2], str(part.to), headers, getattr(part, "body", None))

    def _filled(self, path: tuple[str, ...], text: str, process: str | None, **places: str) -> str:
        """Put the values of variables in place of `${NAME}`: from the environment of the process that is asked."""
        own = places if process is None else {**self._part.env, **self._part.processes[process].env, **places}
        return self._substituted(path, self._substituted(path, text, own), places)

    def _environment(self, path: tuple[str, ...], given: Mapping[str, str]) -> dict[str, str]:
        redis = {} if self._part.stores.redis is None else REDIS_ENVIRONMENT
        return {name: self._substituted((*path, name), text, redis) for name, text in given.items()}

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
        on_redis = text in BROKERS or text.endswith(".lua")
        if on_redis and self._part.stores.redis is None:
            raise self._error(("jobs",), f"{text!r:.80} needs `stores: {{redis: {{}}}}`")
        if text == SQS and self._part.stores.sqs is None:
            raise self._error(("jobs",), "'sqs' needs `stores: {sqs: {queues: ...}}`")
        if re.fullmatch(r"\S+\.lua", text):
            return self._text(("jobs",), text)
        if re.fullmatch(r"\S+\.sql", text):
            text = re.sub(r"^\s*--.*", "", self._text(("jobs",), text), flags=re.MULTILINE).strip().rstrip(";")
        if text in KNOWN_JOBS or re.match(r"(select|with)\b", text, re.IGNORECASE):
            if not on_redis and text != SQS and self._part.database is None:
                raise self._error(("jobs",), f"{text!r:.80} needs a `database`")
            return text
        near = did_you_mean(text, KNOWN_JOBS)
        told = f"{text!r:.80} is neither known{near} nor a SELECT. Known by name: {', '.join(KNOWN_JOBS)}"
        hint = "docs/system_files.md has a SELECT for pg-boss, and one for graphile-worker."
        raise self._error(("jobs",), told, hint)


def _attributes(name: str, part: SqsQueuePart, region: str) -> dict[str, str]:
    """Return the attributes of a queue as CreateQueue takes them."""
    seconds = {
        "VisibilityTimeout": part.visibility_timeout,
        "ReceiveMessageWaitTimeSeconds": part.wait,
        "DelaySeconds": part.delay,
        "MessageRetentionPeriod": part.retention,
    }
    told = {key: str(value // SECOND) for key, value in seconds.items() if value is not None}
    if name.endswith(_FIFO):
        told |= {"FifoQueue": "true", "ContentBasedDeduplication": str(part.content_based_deduplication).lower()}
    if part.dead_letters is not None:
        arn = f"arn:aws:sqs:{region}:{ACCOUNT}:{part.dead_letters}"
        told["RedrivePolicy"] = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": part.max_receives})
    return told


def filled(body: Any, job: str, **asked: Any) -> Any:
    """Return a body with the job's name in place of `${job}`, and what it asks for in place of the others.

    A text that is nothing but one of these becomes the value itself, so that a number stays one.
    """
    asked = {**UNPLANNED, **asked}
    if isinstance(body, str):
        if body in ASKED:
            return asked.get(ASKED[body])
        for text, name in ASKED.items():
            body = body.replace(text, "" if asked.get(name) is None else str(asked[name]))
        return body.replace(JOB, job).replace(ID, str(asked.get("id", ID)))
    if isinstance(body, Mapping):
        return {key: filled(value, job, **asked) for key, value in body.items()}
    return [filled(item, job, **asked) for item in body] if isinstance(body, list) else body


def at_path(value: Any, path: tuple[str, ...]) -> Any:
    """Return what JSON has at a path; None where it has nothing there."""
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value
