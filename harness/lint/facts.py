"""What the files of a repository say, as values; readers add to `Facts`, rules only read it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from harness.lint.place import UNKNOWN, Place, Value


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
class Call:
    """A call of a queue's method; `queue` is None where its name cannot be told."""

    method: str
    queue: str | None
    options: tuple[str, ...]
    place: Place


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
class Package:
    """A dependency on pg-boss: the range asked for, or the version that a lock file settles."""

    version: str
    place: Place
    locked: bool = False


@dataclass(frozen=True, slots=True)
class Limit:
    """How long a platform lets something run, in seconds; `pattern` says which files it holds for."""

    kind: str
    seconds: float
    place: Place
    pattern: str = ""
    service: str = ""


@dataclass(frozen=True, slots=True)
class Door:
    """A comparison that lets in whoever sends `key` where the secret is not set."""

    key: str
    place: Place


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A file, or a part of one, that could not be read."""

    place: Place
    why: str


@dataclass(slots=True)
class Facts:
    """Everything that was read. Filled by readers, one file at a time, in the order of the paths."""

    values: list[Value] = field(default_factory=list)
    services: list[Service] = field(default_factory=list)
    crons: list[Cron] = field(default_factory=list)
    routes: list[Route] = field(default_factory=list)
    listed: list[Slug] = field(default_factory=list)
    registered: list[Slug] = field(default_factory=list)
    open_lists: list[Place] = field(default_factory=list)
    """Lists of slugs, or registrations, of which files do not tell everything."""
    called: set[str] = field(default_factory=set)
    """Functions that register something and are called, or handed on, somewhere; by name."""
    calls: list[Call] = field(default_factory=list)
    columns: list[Column] = field(default_factory=list)
    seeds: list[Seed] = field(default_factory=list)
    packages: list[Package] = field(default_factory=list)
    limits: list[Limit] = field(default_factory=list)
    listens: list[Place] = field(default_factory=list)
    open_doors: list[Door] = field(default_factory=list)
    """Comparisons with a secret that nothing guards against its being unset."""
    mentions: dict[str, Place] = field(default_factory=dict)
    """Paths that appear as text in sources: a route of a server that is no file of its own."""
    unreadable: list[Unreadable] = field(default_factory=list)
    files: int = 0

    def unknown_values(self) -> Iterator[Value]:
        """List what files cannot tell."""
        for service in self.services:
            yield from (value for value in service.values.values() if value.value is UNKNOWN)
