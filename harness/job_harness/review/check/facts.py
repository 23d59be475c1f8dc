"""What the files of a repository say, as values with their places; readers add to `Facts`, rules only read it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from posixpath import dirname
from typing import Final, NamedTuple, TypeAlias

PGBOSS: Final = "pg-boss"
BULLMQ: Final = "bullmq"
GRAPHILE: Final = "graphile-worker"
CELERY: Final = "celery"
PROCRASTINATE: Final = "procrastinate"
PGQUEUER: Final = "pgqueuer"
"""Libraries, by the names under which npm and PyPI have them."""

UNCOMMITTED: Final = "sent.transaction"
"""The option in which a reader notes the transaction within which a job is sent, over another connection."""
ROW_FIRST: Final = "sent.row"
"""The option that stands for the row which was written, and committed, before the job is sent that is given its id."""
FLAGGED: Final = "handler.flags."
"""How the options begin that stand for a flag of a row at which a handler gives up, and which it sets itself."""
LEFT: Final = "handler.leaves."
"""How the options begin in which a reader notes what a handler does not wait for."""

_ASIDE: Final = re.compile(
    r"(^|/)(__tests__|tests?|e2e|fixtures?|examples?|samples?|demos?|docs|seeds?|benchmarks?|scripts)(/|$)|\.(test|spec)\."
)


def is_aside(path: str) -> bool:
    """Tell tests, examples and the like: what is wrong there is wrong, but does not run in production."""
    return _ASIDE.search(path) is not None


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """A line of a file; lines count from 1, files are relative to the root of the repository."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


class Unknown(Enum):
    """What files cannot tell: a value that a secret store or a platform's dashboard holds."""

    UNKNOWN = "unknown"


UNKNOWN: Final = Unknown.UNKNOWN

Scalar: TypeAlias = str | int | float | bool | Unknown | None


class SettingSource(Enum):
    """What sets a value; a later one is outranked by an earlier one."""

    SEND = "send()"
    WORK = "work()"
    DATABASE = "the queue's row in the database"
    QUEUE = "the queue's options"
    UPDATE = "updateQueue()"
    """Wins over QUEUE for the same queue, whichever stands first: createQueue changes nothing where a queue exists."""
    CONSTRUCTOR = "the constructor's options"
    CONSTANT = "a constant"
    ENVIRONMENT = "the environment"
    COLUMN = "a column default"
    LIBRARY = "the library's default"


@dataclass(frozen=True, slots=True)
class Value:
    """One setting as one place has it.

    `service` is whose environment it is; `queue` the queue it holds for, empty for all; `variable` the environment
    variable that outranks `value` where it is set.
    """

    name: str
    value: Scalar
    place: Place
    source: SettingSource
    service: str = ""
    queue: str = ""
    variable: str = ""
    factor: float = 1.0
    """What the variable's number is multiplied with."""
    call: Place | None = None
    """The one call that it holds for; none where it holds for all. Of updateQueue, the call that sets it."""


@dataclass(frozen=True, slots=True)
class Service:
    """An environment in which one process runs: a folder's `.env` files, a service of the platform, or one named."""

    name: str
    profile: str
    values: Mapping[str, Value]
    place: Place
    named: bool = False
    """The user said which service this is."""
    complete: bool = True
    """Nothing else can set a variable here: false for platforms that have a dashboard or groups beside the file."""


@dataclass(frozen=True, slots=True)
class Cron:
    """A path that the platform requests on a schedule."""

    path: str
    schedule: str
    place: Place
    folder: str = ""


@dataclass(frozen=True, slots=True)
class Route:
    """A file that answers a path, with the methods it exports; none where that cannot be told."""

    path: str
    methods: tuple[str, ...]
    place: Place


@dataclass(frozen=True, slots=True)
class Slug:
    """A tool that is listed for the worker, or registered; `function` is what has to be called to register it."""

    name: str
    place: Place
    function: str = ""


@dataclass(frozen=True, slots=True)
class QueueCall:
    """A call of a queue's library: a method, a decorator, a constructor, or a setting that it reads by itself.

    `queue` is None where its name cannot be told, and `possible` holds the names that it may have then.
    """

    library: str
    method: str
    queue: str | None
    options: Mapping[str, Value]
    place: Place
    possible: frozenset[str] = frozenset()
    whole: bool = True
    """Whether all of its options could be read."""
    aside: bool = False
    """Whether it stands in a test, an example or a seed."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table, with its default as written."""

    table: str
    name: str
    default: str
    place: Place


@dataclass(frozen=True, slots=True)
class Seed:
    """A row that a migration or a seed inserts into the users' table."""

    status: str
    place: Place
    with_partner: bool = False


@dataclass(frozen=True, slots=True)
class Dependency:
    """A dependency on a queue's library: the range that a manifest asks for, or the version that a lock file settles.

    `folder` is whose it is: the folder of the manifest; for a lock, the folder of what it is locked for.
    """

    library: str
    version: str
    place: Place
    folder: str
    locked: bool = False


@dataclass(frozen=True, slots=True)
class LongestWait:
    """How long code may wait at most, as a constant says; `file` is where it is used."""

    name: str
    seconds: float
    place: Place
    each: bool = False
    """Whether a handler waits so for each job of its batch, one after the other."""
    variable: str = ""
    """The variable of the environment that outranks it, and how many seconds one unit of that is."""
    factor: float = 1.0


@dataclass(frozen=True, slots=True)
class Handling:
    """A handler of a queue, with the waits in the code that it reaches: by calls, or only by imports."""

    queue: str
    place: Place
    called: tuple[LongestWait, ...]
    imported: tuple[LongestWait, ...]
    at_once: bool = False
    """Whether it takes the jobs of its batch all at once, by `Promise.all`, and none after another."""


LONGEST_GRACE: Final = 10**9
"""Seconds: who may take longer to stop counts as this."""


@dataclass(frozen=True, slots=True)
class Limit:
    """How long a platform lets something run, in seconds; `pattern` says which files it holds for.

    Of the kind `stop` how long code waits when it is told to stop, of `grace` how long a container
    or a process of PM2 may take to; `setting` is what that is called there.
    """

    kind: str
    seconds: float
    place: Place
    pattern: str = ""
    service: str = ""
    setting: str = ""
    usual: bool = False
    """Whether it is the default of a library or a platform, and stands nowhere."""
    signal: str = ""
    """Of the kind `grace`: how the platform tells it to stop."""


@dataclass(frozen=True, slots=True)
class SignalHandler:
    """Where a program of Node listens for signals, and all of them that its module names."""

    place: Place
    names: frozenset[str]


@dataclass(frozen=True, slots=True)
class NestStart:
    """Where an application of NestJS is made, or where something closes one when its process is told to stop."""

    place: Place
    closes: bool


@dataclass(frozen=True, slots=True)
class Door:
    """A comparison that lets in any request with `key` where the secret is not set."""

    key: str
    place: Place


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A file, or a part of one, that could not be read."""

    place: Place
    why: str


class OrderedColumn(NamedTuple):
    """A column that a claim orders by, or that an index is ordered by."""

    name: str
    descending: bool
    nulls_first: bool

    @property
    def backwards(self) -> OrderedColumn:
        """How it comes where the rows are read from the end."""
        return OrderedColumn(self.name, not self.descending, not self.nulls_first)

    def __str__(self) -> str:
        """As PostgreSQL writes it, without what goes without saying."""
        nulls = f" NULLS {'FIRST' if self.nulls_first else 'LAST'}" if self.nulls_first is not self.descending else ""
        return f"{self.name}{' DESC' * self.descending}{nulls}"


@dataclass(frozen=True, slots=True)
class TableVerb:
    """What the SQL of one verb of a queue file says, all words in lower case."""

    place: Place
    assigned: frozenset[str]
    """Columns that an UPDATE sets."""
    compared: frozenset[str]
    """Words in the condition of the UPDATE or DELETE, parameters with their colon; none: the SQL says nothing of it."""
    equal: frozenset[str] = frozenset()
    """Columns that a claim compares with something fixed."""
    order: tuple[OrderedColumn, ...] = ()
    """What a claim orders by, in order; empty where it is more than columns."""
    table: str = ""
    """Which table a claim looks for a job in."""
    ordered_at: Place | None = None

    @property
    def understood(self) -> bool:
        """Whether its SQL is written so that rules can read it; a call of a function is not."""
        return bool(self.assigned or self.compared or self.order)


@dataclass(frozen=True, slots=True)
class TableQueue:
    """A queue in a file, as far as its text tells."""

    place: Place
    verbs: Mapping[str, TableVerb]
    columns: Mapping[str, str]
    """By what `jobs` shows, the column of the table that it is."""
    indexes: tuple[tuple[str, tuple[OrderedColumn, ...]], ...]
    """Tables, each with the columns of one of its indexes."""
    fencing: bool
    name: str = ""
    settings: Mapping[str, Value] = field(default_factory=dict)
    """The settings that the file itself sets, durations in seconds."""


@dataclass(frozen=True, slots=True)
class ProcessCommand:
    """A command that starts a worker of Celery, or its beat."""

    program: str
    options: Mapping[str, Value]
    place: Place
    processes: int = 1
    """How many of it are started: replicas, or `numprocs`; none where compose starts it on request."""
    whole: bool = True
    """Whether no part of it is a variable."""
    together: bool = False
    """Whether all commands of its file run side by side."""
    library: str = "celery"


@dataclass(slots=True)
class Facts:
    """Everything that was read. Filled by readers, one file at a time, in the order of the paths."""

    values: list[Value] = field(default_factory=list)
    services: list[Service] = field(default_factory=list)
    crons: list[Cron] = field(default_factory=list)
    schedules: list[Cron] = field(default_factory=list)
    """What a machine starts by the clock: lines of a crontab, CronJobs, workflows."""
    routes: list[Route] = field(default_factory=list)
    listed: list[Slug] = field(default_factory=list)
    registered: list[Slug] = field(default_factory=list)
    open_lists: list[Place] = field(default_factory=list)
    """Lists of slugs, or registrations, of which files do not tell everything."""
    called: set[str] = field(default_factory=set)
    """Functions that register something and are called, or handed on, somewhere; by name."""
    calls: list[QueueCall] = field(default_factory=list)
    added_in_sql: dict[str, list[QueueCall]] = field(default_factory=dict)
    """Jobs of graphile-worker that a function in SQL adds, by its name: what was defined last holds."""
    columns: list[Column] = field(default_factory=list)
    seeds: list[Seed] = field(default_factory=list)
    packages: list[Dependency] = field(default_factory=list)
    workspaces: dict[str, list[str]] = field(default_factory=dict)
    """Packages of this repository: name -> the folders whose `package.json` has it."""
    has_python: bool = False
    """Whether a module of Python has anything to do with settings or queues."""
    manifests: set[str] = field(default_factory=set)
    """Folders that hold a `package.json`, a `pyproject.toml` or requirements: each is a package of its own."""
    users_tables: dict[str, Place] = field(default_factory=dict)
    """Tables of the user's own that hold a row for each job, by name."""
    named: dict[str, Place] = field(default_factory=dict)
    """Variables of the environment that sources name, and rules ask about."""
    forwarding: set[str] = field(default_factory=set)
    """Functions of the user's own that hand options on to a pg-boss as they got them, by name."""
    handlings: list[Handling] = field(default_factory=list)
    imported: dict[str, Place] = field(default_factory=dict)
    """Libraries of queues that some source imports, each with one of the places."""
    durable: dict[str, Place] = field(default_factory=dict)
    """The same for libraries of agents and durable workflows."""
    limits: list[Limit] = field(default_factory=list)
    nest_starts: list[NestStart] = field(default_factory=list)
    signal_handlers: list[SignalHandler] = field(default_factory=list)
    stopped: set[str] = field(default_factory=set)
    """Libraries that some script, which is no test, seems to stop."""
    hears_stop: bool = False
    """Whether some script says what happens when its process is told to stop."""
    hears_interrupt: bool = False
    """The same of SIGINT, by which PM2 tells it, or a container whose file says so."""
    rescues: bool = False
    """Whether some script that sends jobs speaks of looking for what was left behind."""
    cleared: dict[str, set[str]] = field(default_factory=dict)
    """By the name of a flag, the scripts that set it to false."""
    images_choose_signals: bool = False
    """Whether a Dockerfile has STOPSIGNAL."""
    listens: list[Place] = field(default_factory=list)
    open_doors: list[Door] = field(default_factory=list)
    """Comparisons with a secret that nothing guards against its being unset."""
    mentions: dict[str, Place] = field(default_factory=dict)
    """Paths that appear as text in sources: a route of a server that is no file of its own."""
    unreadable: list[Unreadable] = field(default_factory=list)
    table_queues: list[TableQueue] = field(default_factory=list)
    commands: list[ProcessCommand] = field(default_factory=list)
    queue_files: list[Place] = field(default_factory=list)
    """Queue files that lie in the repository."""
    passed_by: list[tuple[Place, str]] = field(default_factory=list)
    """What has to do with a queue and was not read, each with the reason."""
    unfollowed: list[Place] = field(default_factory=list)
    """Where an app of Celery takes settings from what was not found."""
    files: int = 0
    worked_out: dict[object, object] = field(default_factory=dict, repr=False)
    """What rules looked up before and ask for again."""

    @property
    def listens_for_its_end(self) -> bool:
        """Whether some script listens for the signal by which a process here is told to stop."""
        chosen = self.images_choose_signals or any(limit.signal == "SIGINT" for limit in self.limits)
        return self.hears_stop or (self.hears_interrupt and chosen)

    def package_of(self, file: str) -> str:
        """Return the nearest folder above a file that is a package; the root where none is."""
        folder = dirname(file)
        while folder and folder not in self.manifests:
            folder = dirname(folder)
        return folder

    def unknown_values(self) -> Iterator[Value]:
        """List what files cannot tell."""
        for service in self.services:
            yield from (value for value in service.values.values() if value.value is UNKNOWN)
