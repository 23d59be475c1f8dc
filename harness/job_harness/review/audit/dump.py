"""A dump, or exported rows, as a database: what an incident left behind is loaded into a PostgreSQL of ours, as data.

No statement of a dump is carried out. Of its text only the names and types of columns are read,
names are quoted, types are those of a list, and rows go to the server as values. What does not fit
is left out and said: half a dump, a line with other columns, a value of another type.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Final, TypeAlias

import psycopg
from psycopg import sql

from job_harness.errors import EnvironmentUnavailable, UsageError, clipped
from job_harness.extras import install
from job_harness.review.audit.database import LOG

NEEDED: Final = 170_000
"""The first version that leaves out values of another type."""
ROWS: Final = "rows"
"""What the table of exported rows is called where no description names one."""
LOOKED_AT: Final = 1_000
"""Lines of JSON whose keys are the columns."""
LONGEST_LINE: Final = 16 * 1024 * 1024
BLOCK: Final = 1024 * 1024
"""Bytes of rows that are looked at together."""
_END: Final = b"\\."
_IN_A_VALUE: Final = bytes(set(range(256)) - set(b"\t\n"))
_NAME: Final = r'(?:"(?:[^"]|"")+"|\w+)'
_PATH: Final = rf"(?P<schema>{_NAME})\.(?P<table>{_NAME})"
_CREATE: Final = re.compile(rf"CREATE (?:UNLOGGED |FOREIGN )?TABLE {_PATH} \($")
_COLUMN: Final = re.compile(
    rf"    (?P<name>{_NAME}) (?P<type>[^,]+?)(?: (?:DEFAULT|NOT NULL|COLLATE|GENERATED)\b.*)?,?$"
)
_COPY: Final = re.compile(rf"COPY {_PATH} \((?P<columns>.+)\) FROM stdin;$")
_ATTACH: Final = re.compile(rf"ALTER TABLE ONLY {_PATH} ATTACH PARTITION (?P<part>{_NAME}\.{_NAME})\b")
_COMMENT: Final = re.compile(rf"COMMENT ON TABLE {_NAME}\.{LOG} IS '(?P<text>.*)';$")
_INSERT: Final = re.compile(rf"INSERT INTO {_NAME}")
_TYPE: Final = re.compile(
    r"(?:smallint|integer|bigint|real|double precision|numeric|boolean|text|uuid|jsonb?|date|interval|xid8|xid|bytea"
    r"|timestamp(?:\(\d\))? with(?:out)? time zone)(?:\[\])?"
)
"""Types that are kept; any other is text."""
_NUL: Final = re.compile(rb"\\(?:x0{1,2}(?![0-9a-fA-F])|0{1,3}(?![0-7]))")
_GUESSED: Final = ("bigint", "timestamptz", "boolean", "jsonb")
"""What columns of exported rows may be, in this order; all else is text."""
TablePath: TypeAlias = tuple[str, str]
_Wanted: TypeAlias = Callable[[str], bool]


@dataclass(slots=True)
class Loaded:
    """What was loaded, and what was not."""

    rows: dict[TablePath, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    gap: str = ""
    """What is known to be missing, in words."""


def is_rows(path: Path) -> bool:
    """Say whether a file has exported rows, by its name."""
    return path.suffix in (".csv", ".jsonl", ".ndjson")


def load(path: Path, session: psycopg.Connection[Any], *, wanted: _Wanted, table: str = ROWS) -> Loaded:
    """Load the wanted tables of a dump, or exported rows as `table`. Raises UsageError for a file that is neither."""
    if session.info.server_version < NEEDED:
        raise EnvironmentUnavailable(
            f"{path}: reading a file takes PostgreSQL 17 or newer, not {session.info.server_version // 10_000}",
            hint=f"Install one: {install('embedded')}",
        )
    try:
        if is_rows(path):
            return _load_rows(path, session, table)
        return _Dump(path, session, wanted).load()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: cannot be read: {error}", hint="Check its permissions and its content.") from None


def _sql_path(path: TablePath) -> sql.Composable:
    return sql.SQL(".").join(map(sql.Identifier, path))


def _unquoted(name: str) -> str:
    return name[1:-1].replace('""', '"') if name.startswith('"') else name


def _path_of(found: re.Match[str]) -> TablePath:
    return _unquoted(found["schema"]), _unquoted(found["table"])


def _create(session: psycopg.Connection[Any], path: TablePath, columns: dict[str, str]) -> None:
    session.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(path[0])))
    told = [sql.SQL("{} {}").format(sql.Identifier(name), sql.SQL(kind)) for name, kind in columns.items()]
    session.execute(sql.SQL("CREATE UNLOGGED TABLE {} ({})").format(_sql_path(path), sql.SQL(", ").join(told)))


# what pg_dump writes --------------------------------------------------------------------------------------------------


class _Dump:
    """Reads a dump once, from beginning to end."""

    def __init__(self, path: Path, session: psycopg.Connection[Any], wanted: _Wanted) -> None:
        self._path, self._session, self._wanted = path, session, wanted
        self._columns: dict[TablePath, dict[str, str]] = {}
        self._parents: dict[TablePath, TablePath] = {}
        self._comment: str | None = None
        self._left_out = 0
        self._loaded = Loaded()

    def load(self) -> Loaded:
        with self._path.open("rb") as file:
            if file.read(5) == b"PGDMP":
                raise UsageError(
                    f"{self._path}: this dump is not text",
                    hint=f"Write it as text: pg_restore -f dump.sql {self._path}",
                )
            file.seek(0)
            for line in iter(lambda: file.readline(LONGEST_LINE), b""):
                if not line.startswith((b"CREATE", b"COPY", b"ALTER TABLE ONLY", b"COMMENT", b"INSERT")):
                    continue
                self._take(line.decode("utf-8", "replace").rstrip("\r\n"), file)
        if not self._loaded.rows:
            raise UsageError(
                f"{self._path}: none of its {len(self._columns)} tables is one that is read here",
                hint="Dump the tables of jobs with their rows: pg_dump --table ... (not --schema-only).",
            )
        if self._comment is not None:
            told = sql.SQL("COMMENT ON TABLE {} IS {}").format(sql.Identifier(LOG), sql.Literal(self._comment))
            self._session.execute(told)
        if self._left_out:
            self._loaded.notes.append(f"left out because they do not fit their table: {self._left_out} rows")
        return self._loaded

    def _take(self, line: str, file: Any) -> None:
        if found := _CREATE.match(line):
            self._columns[_path_of(found)] = dict(_columns_in(file))
        elif found := _ATTACH.match(line):
            part = re.fullmatch(_PATH, found["part"])
            if part is not None:
                self._parents[_path_of(part)] = _path_of(found)
        elif found := _COMMENT.match(line):
            self._comment = found["text"].replace("''", "'")
        elif found := _COPY.match(line):
            self._copy(_path_of(found), [_unquoted(name) for name in re.findall(_NAME, found["columns"])], file)
        elif _INSERT.match(line) and not self._loaded.gap:
            self._loaded.gap = "the dump has INSERT statements, which are not read: dump without --inserts"

    def _copy(self, part: TablePath, names: list[str], file: Any) -> None:
        """Send the rows of a table; of a partition, to its table."""
        path = self._parents.get(part, part)
        columns = self._columns.get(path)
        if columns is None or not self._wanted(path[1]) or not columns.keys() >= set(names):
            if self._wanted(path[1]):
                self._loaded.gap = f"the dump has rows of {'.'.join(path)}, but does not say what its columns are"
            for _ in self._blocks(file, len(names), path):
                pass
            return
        if path not in self._loaded.rows:
            _create(self._session, path, columns)
            self._loaded.rows[path] = 0
        text = sql.SQL("COPY {} ({}) FROM STDIN WITH (ON_ERROR ignore)")
        told = sql.SQL(", ").join(map(sql.Identifier, names))
        sent = 0
        with self._session.cursor() as cursor:
            with cursor.copy(text.format(_sql_path(path), told)) as copy:
                for rows in self._blocks(file, len(names), path):
                    copy.write(rows)
                    sent += rows.count(b"\n")
            self._loaded.rows[path] += cursor.rowcount
            self._left_out += sent - cursor.rowcount

    def _blocks(self, file: Any, width: int, path: TablePath) -> Iterator[bytes]:
        """Return the rows that fit, up to the end of their table: a block at a time where all of it fits."""
        row, ended = b"\t" * (width - 1) + b"\n", False
        while not ended:
            place = file.tell()
            block = file.read(BLOCK)
            block = block[: block.rfind(b"\n") + 1]
            ends = block.startswith(_END) or b"\n" + _END in block
            alike = block != b"" and block.translate(None, _IN_A_VALUE) == row * block.count(b"\n")
            if alike and not ends and _is_text(block):
                file.seek(place + len(block))
                yield block
            else:
                file.seek(place)
                ended = yield from self._lines(file, width, path, until=place + max(len(block), 1))

    def _lines(self, file: Any, width: int, path: TablePath, *, until: int) -> Generator[bytes, None, bool]:
        """Return the rows that fit, up to this place; say whether their table ends before it."""
        while file.tell() < until:
            line = file.readline(LONGEST_LINE)
            if line in (b"\\.\n", b"\\.\r\n"):
                return True
            if not line.endswith(b"\n"):
                break
            if line.count(b"\t") != width - 1 or not _is_text(line):
                self._left_out += 1
            else:
                yield line
        else:
            return False
        self._loaded.gap = f"the dump ends in the middle of {'.'.join(path)}: what follows is missing"
        return True


def _is_text(line: bytes) -> bool:
    if b"\\" in line and _NUL.search(line) is not None:
        return False
    if line.isascii():
        return b"\0" not in line
    try:
        line.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return b"\0" not in line


def _columns_in(file: Any) -> Iterator[tuple[str, str]]:
    for line in iter(lambda: file.readline(LONGEST_LINE), b""):
        text = line.decode("utf-8", "replace").rstrip("\r\n")
        if text.startswith(")"):
            return
        found = _COLUMN.match(text)
        if found is not None and found["name"] not in ("CONSTRAINT", "PRIMARY", "UNIQUE", "CHECK"):
            kind = _TYPE.fullmatch(found["type"])
            yield _unquoted(found["name"]), "text" if kind is None else kind[0]


# exported rows --------------------------------------------------------------------------------------------------------


def _load_rows(path: Path, session: psycopg.Connection[Any], table: str) -> Loaded:
    """Load CSV with a header, or JSON lines; types are those that all values of a column have."""
    loaded, bad = Loaded(), list[int]()
    where: TablePath = ("public", table) if "." not in table else tuple(table.split(".", 1))  # type: ignore[assignment]
    names, lines = _csv_rows(path, bad) if path.suffix == ".csv" else _json_rows(path, bad)
    if not names:
        raise UsageError(f"{path}: this file has no rows", hint="Write CSV with a header, or one JSON object a line.")
    _create(session, where, dict.fromkeys(names, "text"))
    text = sql.SQL("COPY {} ({}) FROM STDIN").format(_sql_path(where), sql.SQL(", ").join(map(sql.Identifier, names)))
    loaded.rows[where] = 0
    with session.cursor() as cursor, cursor.copy(text) as copy:
        for row in lines:
            copy.write_row(row)
            loaded.rows[where] += 1
    for name in names:
        _guess_type(session, where, name)
    if bad:
        loaded.notes.append(f"left out because they are not rows: {len(bad)} lines, such as line {bad[0]}")
    return loaded


def _csv_rows(path: Path, bad: list[int]) -> tuple[list[str], Iterator[list[str | None]]]:
    file = path.open(encoding="utf-8-sig", errors="replace", newline="")
    reader = csv.reader(file)
    names = list(dict.fromkeys(next(reader, [])))

    def rows() -> Iterator[list[str | None]]:
        with file:
            for number, row in enumerate(reader, start=2):
                if len(row) == len(names):
                    yield [_clean(value) if value else None for value in row]
                else:
                    bad.append(number)

    return names, rows()


def _json_rows(path: Path, bad: list[int]) -> tuple[list[str], Iterator[list[str | None]]]:
    def objects() -> Iterable[dict[str, Any]]:
        with path.open(encoding="utf-8", errors="replace") as file:
            for number, line in enumerate(file, start=1):
                try:
                    found = json.loads(line)
                except (ValueError, RecursionError):
                    found = None
                if isinstance(found, dict):
                    yield found
                else:
                    bad.append(number)

    names = list(dict.fromkeys(name for each in islice(objects(), LOOKED_AT) for name in each))
    bad.clear()
    return names, ([_json_text(each.get(name)) for name in names] for each in objects())


def _json_text(value: Any) -> str | None:
    return None if value is None else _clean(value if isinstance(value, str) else json.dumps(value))


def _clean(text: str) -> str:
    """Return text as PostgreSQL can hold it."""
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode()


def _guess_type(session: psycopg.Connection[Any], path: TablePath, name: str) -> None:
    for kind in _GUESSED:
        column = sql.Identifier(name)
        valid = sql.SQL("SELECT bool_and(pg_input_is_valid({}, {})) FROM {}")
        begins = sql.SQL(" WHERE {} !~ '^[[{{]'").format(column) if kind == "jsonb" else sql.SQL("")
        if kind == "jsonb" and session.execute(
            sql.SQL("SELECT EXISTS (SELECT FROM {}{})").format(_sql_path(path), begins)
        ).fetchone() != (False,):
            return
        if session.execute(valid.format(column, sql.Literal(kind), _sql_path(path))).fetchone() == (True,):
            told = sql.SQL("ALTER TABLE {} ALTER {} TYPE {} USING {}::{}")
            session.execute(told.format(_sql_path(path), column, sql.SQL(kind), column, sql.SQL(kind)))
            return


def unfit(path: Path) -> UsageError:
    """Say that a path is no database."""
    return UsageError(
        f"--database: {clipped(str(path))} is neither a URL of a database nor a file",
        hint="Give a URL, or a file: dump.sql (pg_dump), rows.csv or rows.jsonl.",
    )
