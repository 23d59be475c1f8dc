"""What production recorded, as a command is given it: databases, dumps, exported rows, spans, histories."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import psycopg

from job_harness.core.model import SECOND, Duration, Instant, parse_duration
from job_harness.core.yaml_files import SUFFIXES
from job_harness.doors.cli.job_tables import described
from job_harness.errors import UsageError, did_you_mean
from job_harness.review.audit import database, dump
from job_harness.review.audit.evidence import Evidence
from job_harness.review.audit.job_table import DescribedTable, instant_of, known_tables
from job_harness.review.audit.recorded import is_history, recorded_evidence
from job_harness.review.audit.spans import spans_evidence

LOG: Final = "log"


def duration(text: str) -> Duration:
    """Read an option's duration."""
    try:
        return parse_duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def time_of_day(at: Instant) -> str:
    """Write an instant since 1970 in UTC."""
    shown = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=min(at, 253_402_300_000 * SECOND))
    return shown.strftime("%Y-%m-%d %H:%M:%S UTC")


def configure_sources(parser: argparse.ArgumentParser) -> None:
    """Declare what is read, and from where."""
    add = parser.add_argument
    add(
        "sources",
        nargs="*",
        metavar="SOURCE",
        help="what was recorded, one or more of these. A file: spans.json (OTLP spans, from a collector's file "
        "exporter) or run.jsonl (a history, from `run --history`). In a database: a table known by name, such as "
        f"pgboss ({', '.join(known_tables())}); a file such as mail.yaml that describes your table, or the `jobs` of "
        f"a queue file or a system file; or {LOG}: the changes recorded by the triggers of `audit --install`",
    )
    add(
        "--database",
        metavar="DSN",
        help="the database, which is only read (default: DATABASE_URL; JOB_HARNESS_DSN is for runs); or a file "
        "exported from it: dump.sql (pg_dump as text), rows.csv or rows.jsonl (exported rows)",
    )
    add(
        "--at",
        metavar="WHEN",
        help="with a file as --database: when it was written (default: when the file was last changed)",
    )
    add(
        "--since",
        metavar="WHEN",
        help="only what happened since then, a time (2026-01-31T08:00Z) or a duration (2d); of a table also jobs "
        "that have not ended",
    )
    add(
        "--job-attribute",
        action="append",
        default=[],
        metavar="NAME",
        help="the span attribute that names the job (repeatable)",
    )


def database_of(arguments: argparse.Namespace) -> str:
    """Return what --database names. Raises UsageError where nothing does."""
    dsn = arguments.database or os.environ.get("DATABASE_URL")
    if not dsn:
        raise UsageError(
            "no database is named",
            hint="Give --database DSN, or set DATABASE_URL; JOB_HARNESS_DSN is for runs, and is not read here.",
        )
    return str(dsn)


def since_of(text: str | None, option: str = "--since") -> Instant | None:
    """Return a time that was written, or how long ago. Raises UsageError for a text that is neither."""
    if text is None:
        return None
    try:
        ago = timedelta(microseconds=parse_duration(text))
    except ValueError:
        try:
            at = datetime.fromisoformat(text)
        except ValueError:
            raise UsageError(
                f"{option}: {text!r} is neither a time nor a duration",
                hint="Write a time, such as 2026-01-31 or 2026-01-31T08:00+01:00 (without a zone: UTC), or how long "
                "ago: 90m, 2d.",
            ) from None
        return instant_of(at if at.tzinfo else at.replace(tzinfo=UTC))
    return int((datetime.now(UTC) - ago).timestamp() * SECOND)  # noqa: TID251 - production's own time


@dataclass(frozen=True, slots=True)
class RecordedSources:
    """Where sources are read from."""

    arguments: argparse.Namespace
    since: Instant | None
    at: Instant | None
    _opened: dict[tuple[str, str], tuple[str, dump.Loaded]] = field(default_factory=dict)
    """By file and table, the database that it was loaded into."""

    @classmethod
    def of(cls, arguments: argparse.Namespace) -> RecordedSources:
        """Check what was asked. Raises UsageError."""
        return cls(arguments, since_of(arguments.since), since_of(arguments.at, "--at"))

    def evidence(self, source: str, stack: ExitStack) -> Evidence:
        """Return what a source shows; what it is read with is closed with the stack. Raises UsageError."""
        path = Path(source)
        if source == LOG or source in known_tables() or (path.suffix in SUFFIXES and path.is_file()):
            return self._in_database(None if source == LOG else described(source), stack)
        if not path.is_file():
            raise _no_file(source, path)
        try:
            with path.open("rb") as file:
                first = file.readline(10_000)
            if is_history(first):
                if self.since is not None:
                    raise UsageError(
                        f"--since: the times of the history {source} are counted from the start of its run",
                        hint="Leave --since out; --job ID audits one job alone.",
                    )
                return recorded_evidence(path)
            return spans_evidence(path, attributes=self.arguments.job_attribute, since=self.since)
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(
                f"{source}: cannot be read: {error}", hint="Check its permissions and its content."
            ) from None

    def _in_database(self, table: DescribedTable | None, stack: ExitStack) -> Evidence:
        """Return what a table of a database shows, or the log in it; a file becomes a database of ours first."""
        dsn = database_of(self.arguments)
        file = Path(dsn)
        if not file.is_file():
            if dump.is_rows(file) or file.suffix == ".sql":
                raise dump.unfit(file)
            if self.at is not None:
                raise UsageError("--at is for a file as --database", hint="A database is read as it is now.")
            session = stack.enter_context(database.snapshot(dsn))
            return self._read(session, table)
        if dump.is_rows(file):
            if table is None:
                raise UsageError(
                    f"{file}: a log of changes is read from a dump", hint=f"pg_dump -t '{database.LOG}*' > dump.sql"
                )
            table = replace(table, rows=table.table or dump.ROWS)
        dsn, loaded = self._loaded(file, table, stack)
        session = stack.enter_context(database.snapshot(dsn, ours=True))
        found = self._read(session, table)
        changed = int(file.stat().st_mtime * SECOND)
        at = self.at if self.at is not None else max(changed, database.latest(session, table))
        notes = [*found.notes, *loaded.notes]
        if self.at is None:
            notes.append(f"read as of {time_of_day(at)}, when the file was last changed; --at says when it was written")
        name = found.name.replace(session.place, str(file))
        gap = "; ".join(filter(None, [loaded.gap, found.gap]))
        return replace(found, name=name, notes=notes, gap=gap, now=lambda: at)

    def _read(self, session: database.Snapshot, table: DescribedTable | None) -> Evidence:
        if table is None:
            return database.log_evidence(session, since=self.since)
        return database.rows_evidence(session, table, since=self.since, until=self.at)

    def _loaded(self, file: Path, table: DescribedTable | None, stack: ExitStack) -> tuple[str, dump.Loaded]:
        """Load a file once for each table: only tables that its description names are loaded."""
        named = database.LOG if table is None else f"{table.table} {table.rows}"
        key = str(file), named
        if key not in self._opened:
            from job_harness.worlds.postgres import provision

            cluster = provision()
            stack.callback(cluster.stop)
            dsn = cluster.create_database()
            with psycopg.connect(dsn, autocommit=True) as session:
                where = dump.ROWS if table is None or not table.table else table.table
                self._opened[key] = dsn, dump.load(file, session, wanted=_named_in(named), table=where)
        return self._opened[key]


def _named_in(text: str) -> Callable[[str], bool]:
    """Return what says if the name of a table is a word of a description."""
    return lambda name: re.search(rf"\b{re.escape(name)}\b", text) is not None


def _no_file(source: str, path: Path) -> UsageError:
    """Say what a source is that is neither a file nor known by name."""
    if path.is_dir():
        return UsageError(f"{source}: this is a folder", hint="Name the files in it, several if you like.")
    if source == "-" or path.exists():
        return UsageError(
            f"{source}: a pipe cannot be audited, since a source is read more than once",
            hint="Write it to a file first, and name that.",
        )
    return UsageError(
        f"{source}: no such file, and no known table has that name{did_you_mean(source, (LOG, *known_tables()))}",
        hint=f"Name a file, {LOG}, or one of {', '.join(known_tables())}. For a table of your own write a file that "
        "describes it (docs/audit.md#your-own-table).",
    )
