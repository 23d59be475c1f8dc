"""Reads a repository: walks its files, hands each to its reader, and answers the facts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

from harness.errors import UsageError
from harness.lint.constants import Constants
from harness.lint.facts import Facts, Route, Service, Unreadable
from harness.lint.files import LARGEST_BYTES, Entry, Unopened, read_bytes, walk
from harness.lint.module import Module
from harness.lint.place import Place, Value
from harness.lint.readers.environment import (
    is_documentation,
    process_environment,
    read_variables,
    services_of,
)
from harness.lint.readers.packages import read_lock, read_package
from harness.lint.readers.platforms import read_render, read_vercel
from harness.lint.readers.prisma import read_prisma
from harness.lint.readers.python import read_python
from harness.lint.readers.scripts import WORTH_PARSING, read_script, route_path
from harness.lint.readers.sql import read_sql
from harness.lint.syntax import first_error, parse

PROCESS = "-"
"""The name of the environment of this process, where a file is expected."""

LARGEST_BYTES_OF: Final = {"lock": 50_000_000, "render": 200_000, "env": 200_000}
_PYTHON: Final = (
    b"TOOL_SLUGS", b"register_processor", b"Bearer ", b"BaseSettings", b"JOB_", b"STUCK_", b"PGBOSS_", b"MAX_ATTEMPTS",
    b"RETRY_LIMIT",
)  # fmt: skip
_SQL: Final = (b"job", b"JOB", b"Job", b"LISTEN", b"listen")
_TEXT_READERS: Final[Mapping[str, Callable[[str, str, Facts], None]]] = {
    "render": read_render,
    "prisma": read_prisma,
    "sql": read_sql,
    "python": read_python,
}
_BYTE_READERS: Final[Mapping[str, Callable[[str, bytes, Facts], None]]] = {
    "vercel": read_vercel,
    "package": read_package,
    "lock": read_lock,
}
_FILTERS: Final = {"script": WORTH_PARSING, "python": _PYTHON, "sql": _SQL}


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
        raise UsageError(f"{root}: there is no such folder", hint="Name the root of a repository.")
    reading = _Reading(named=bool(environments))
    for entry in walk(root):
        if isinstance(entry, Unopened):
            reading.facts.unreadable.append(Unreadable(Place(entry.path, 1), entry.why))
        else:
            reading.take(entry)
    reading.finish()
    for named in environments:
        reading.facts.services.append(_named(named, root, environ or {}, reading.facts))
    return reading.facts


def _named(named: NamedEnvironment, root: Path, environ: Mapping[str, str], facts: Facts) -> Service:
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
    return Module.of(path, parse(data, jsx=path.endswith("x")))


class _Reading:
    """One pass over the files; scripts are parsed first and evaluated once all constants are known."""

    def __init__(self, *, named: bool) -> None:
        self.facts = Facts()
        self._named = named
        self._constants = Constants()
        self._variables: dict[str, Mapping[str, Value]] = {}

    def take(self, entry: Entry) -> None:
        path, kind, absolute = entry
        if kind == "env" and (self._named or is_documentation(path)):
            return
        self.facts.files += 1
        try:
            data = read_bytes(absolute, largest=LARGEST_BYTES_OF.get(kind, LARGEST_BYTES))
            self._read(entry, data)
        except ValueError as error:
            if kind not in ("script", "python", "sql", "lock"):
                self.facts.unreadable.append(Unreadable(Place(path, 1), str(error)))
        except OSError as error:
            self.facts.unreadable.append(Unreadable(Place(path, 1), error.strerror or str(error)))

    def _read(self, entry: Entry, data: bytes) -> None:
        path, kind, absolute = entry
        worth = _FILTERS.get(kind)
        if worth is not None and not any(word in data for word in worth):
            self._route(path)
            if kind == "script":
                self._constants.unread[path] = partial(parsed_again, path, absolute)
        elif kind == "script":
            self._parse(path, data)
        elif kind == "env":
            self._variables[path] = read_variables(path, decoded(data), self.facts)
        elif kind in _BYTE_READERS:
            decoded(data)
            _BYTE_READERS[kind](path, data, self.facts)
        else:
            _TEXT_READERS[kind](path, decoded(data), self.facts)

    def _route(self, path: str) -> None:
        route = route_path(path)
        if route is not None:
            self.facts.routes.append(Route(route, (), Place(path, 1)))

    def _parse(self, path: str, data: bytes) -> None:
        decoded(data)
        root = parse(data, jsx=path.endswith("x"))
        broken = first_error(root)
        if broken is not None:
            self.facts.unreadable.append(Unreadable(Place(path, broken), "is no TypeScript from here on"))
        self._constants.add(Module.of(path, root))

    def finish(self) -> None:
        for module in list(self._constants.modules.values()):
            read_script(module, self._constants, self.facts)
        self.facts.services.extend(services_of(self._variables))
