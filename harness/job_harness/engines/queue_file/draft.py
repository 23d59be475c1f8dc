"""A first draft of a queue file, from a schema or a database that is only read: which table, which columns, usual SQL.

Columns are known by the names that such tables give them. What is written is SQL that works on the
table as it is; it is not the user's own, and says so.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, LiteralString, NamedTuple

import psycopg
from psycopg.rows import dict_row

from job_harness.core.model import Design
from job_harness.engines.queue_file.database import hint_for
from job_harness.engines.queue_file.document import OPEN_STATUS
from job_harness.engines.queue_file.statement import QueueFileError, SqlSource, loadable
from job_harness.errors import did_you_mean
from job_harness.review.check.database import read_only
from job_harness.worlds.sql import code
from job_harness.worlds.wire.database import ForeignDatabase

_COLUMNS: Final[LiteralString] = """
SELECT quote_ident(n.nspname) AS schema, quote_ident(c.relname) AS table, quote_ident(a.attname) AS name,
       format_type(a.atttypid, a.atttypmod) AS type,
       a.attnotnull AS needed, pg_get_expr(d.adbin, d.adrelid) AS preset, a.attidentity <> '' AS numbered,
       a.attgenerated <> '' AS generated,
       coalesce((SELECT array_agg(e.enumlabel::text ORDER BY e.enumsortorder) FROM pg_enum e
                 WHERE e.enumtypid = a.atttypid), '{}') AS labels,
       coalesce((SELECT string_agg(pg_get_constraintdef(k.oid), ' ') FROM pg_constraint k
                 WHERE k.conrelid = c.oid AND k.contype = 'c' AND a.attnum = ANY (k.conkey)), '') AS checked,
       EXISTS (SELECT FROM pg_constraint k WHERE k.conrelid = c.oid AND k.contype = 'p'
               AND k.conkey = ARRAY[a.attnum]) AS key
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition
  AND n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'job_harness_clock', 'job_harness_chance')
ORDER BY 1, 2, a.attnum
"""
_NAMES: Final[Mapping[str, tuple[str, ...]]] = {
    "status": ("status", "state", "job_status"),
    "attempts": ("attempts", "attempt", "attempt_count", "attempts_made", "tries", "retry_count", "retries"),
    "max_attempts": ("max_attempts", "max_attempt", "max_tries", "max_retries", "attempts_max", "attempt_limit"),
    "token": ("lock_token", "lease_token", "claim_token", "token", "lock_id", "fence", "fencing_token", "lock_version"),
    "worker": ("locked_by", "claimed_by", "leased_by", "reserved_by", "taken_by", "worker_id", "worker", "lease_owner",
               "owner", "picked_by", "processor_id"),
    "lease_until": ("locked_until", "lease_until", "lease_expires_at", "lock_expires_at", "leased_until",
                    "reserved_until", "visible_at", "claim_expires_at"),
    "started_at": ("locked_at", "started_at", "claimed_at", "picked_at", "leased_at", "reserved_at", "taken_at"),
    "heartbeat_at": ("heartbeat_at", "last_heartbeat_at", "last_heartbeat", "heartbeat", "last_seen_at", "alive_at"),
    "start_after": ("run_at", "run_after", "scheduled_at", "scheduled_for", "available_at", "next_attempt_at",
                    "next_run_at", "start_after", "due_at", "not_before"),
    "input": ("payload", "input", "args", "data", "params", "body"),
    "output": ("result", "output"),
    "error": ("last_error", "error", "error_message", "failure_reason"),
    "priority": ("priority",),
    "created_at": ("created_at", "inserted_at", "enqueued_at", "created_on"),
    "completed_at": ("finished_at", "completed_at", "done_at", "processed_at", "ended_at", "completed_on"),
    "updated_at": ("updated_at", "modified_at"),
    "name": ("name", "job_key", "idempotency_key", "dedupe_key"),
}  # fmt: skip
"""By what a column means, what it is usually called, the likeliest first."""
_STATUSES: Final[Mapping[str, tuple[str, ...]]] = {
    "PENDING": ("queued", "pending", "waiting", "ready", "available", "scheduled", "todo", "created", "new", "retry"),
    "PROCESSING": (
        "running",
        "processing",
        "active",
        "in_progress",
        "claimed",
        "locked",
        "started",
        "leased",
        "doing",
        "reserved",
    ),
    "COMPLETED": ("done", "completed", "succeeded", "success", "complete", "finished"),
    "FAILED": ("failed", "dead", "error", "errored", "discarded", "failure", "broken", "rejected"),
    "CANCELLED": ("cancelled", "canceled", "aborted", "withdrawn", "revoked"),
}
MORE_DRAWN: Final = "These statements are usual for such columns, and not your own: put yours in their place."


class TableColumn(NamedTuple):
    """One column, as the catalog has it."""

    name: str
    type: str
    needed: bool
    preset: str | None
    """Its default."""
    numbered: bool
    generated: bool
    labels: tuple[str, ...]
    checked: str
    """What a constraint says of it."""
    key: bool

    @property
    def by_itself(self) -> bool:
        """Whether an INSERT may leave it out."""
        return not self.needed or self.preset is not None or self.numbered or self.generated


Tables = Mapping[str, tuple[TableColumn, ...]]


# reading --------------------------------------------------------------------------------------------------------------


def tables_of(source: str) -> Tables:
    """Read which tables there are, from a file of SQL or from the database at a URL, which is only read.

    Raises QueueFileError where the schema does not load, EnvironmentUnavailable where a database
    does not answer.
    """
    if "://" in source or "=" in source:
        with read_only(source) as session:
            return _tables(session.rows(psycopg.sql.SQL(_COLUMNS)))
    with _loaded(Path(source)) as connection:
        return _tables(connection.execute(_COLUMNS.encode()).fetchall())


@contextmanager
def _loaded(path: Path) -> Iterator[psycopg.Connection[dict[str, Any]]]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise QueueFileError(f"{path}: {reason}", hint="Name a file of SQL, or the URL of a database.") from None
    source = SqlSource.whole(text, str(path), "schema")
    database = ForeignDatabase()
    try:
        with psycopg.Connection[dict[str, Any]].connect(
            database.guest_url(), autocommit=True, row_factory=dict_row
        ) as connection:
            try:
                connection.execute(loadable(source), prepare=False)
            except psycopg.Error as error:
                position = error.diag.statement_position
                said = error.diag.message_primary or str(error)
                raise source.error(
                    f"it does not load: {said}",
                    at=int(position) - 1 if position else None,
                    hint=hint_for(error),
                ) from None
            yield connection
    finally:
        database.close()


def _tables(rows: Iterable[Mapping[str, Any]]) -> Tables:
    tables: dict[str, list[TableColumn]] = {}
    for row in rows:
        name = row["table"] if row["schema"] == "public" else f"{row['schema']}.{row['table']}"
        tables.setdefault(name, []).append(
            TableColumn(
                row["name"], row["type"], row["needed"], row["preset"], row["numbered"], row["generated"],
                tuple(row["labels"]), row["checked"], row["key"],
            )
        )  # fmt: skip
    return {name: tuple(columns) for name, columns in tables.items()}


def chosen(tables: Tables, wanted: str | None) -> str:
    """Return the table that holds the jobs: the one that was named, or the likeliest.

    Raises QueueFileError if there is none of that name, or none that looks like a queue.
    """
    if wanted is not None:
        wanted = next((name for name in tables if name.replace('"', "") == wanted.replace('"', "")), wanted)
        if wanted not in tables:
            raise QueueFileError(
                f"--table {wanted}: there is no such table{did_you_mean(wanted, tables)}",
                hint=f"Available: {', '.join(tables) or 'none'}.",
            )
        return wanted
    likely = {name: len(_known(columns)) for name, columns in tables.items() if "status" in _known(columns)}
    if not likely:
        raise QueueFileError(
            "no table here has a column status or state, as a job queue would",
            hint=f"Name it: --table NAME. Available: {', '.join(tables) or 'none'}.",
        )
    return max(likely, key=lambda name: (likely[name], "job" in name or "queue" in name or "task" in name))


def _snake(name: str) -> str:
    """Return a name as most tables have it: `lockedUntil` is `locked_until`."""
    return re.sub(r"(?<=[a-z0-9])([A-Z])", r"_\1", name.strip('"')).lower()


_NOW: Final = ("now()", "CURRENT_TIMESTAMP", "statement_timestamp()", "clock_timestamp()")


def _known(columns: Sequence[TableColumn]) -> dict[str, TableColumn]:
    """Return the columns by what they mean, as far as their names tell."""
    named = {_snake(column.name): column for column in columns}
    found: dict[str, TableColumn] = {}
    for meaning, names in _NAMES.items():
        column = next((named[name] for name in names if name in named and named[name] not in found.values()), None)
        if column is not None and (meaning != "heartbeat_at" or column.type.startswith("timestamp")):
            found[meaning] = column
    for meaning, might in _MIGHT_BE.items():
        left = [column for column in columns if column not in found.values() and might(column)]
        if meaning not in found and len(left) == 1:
            found[meaning] = left[0]
    if "name" not in found and "input" not in found:
        # What a job is about stands in a column of its own, such as its recipient: that can hold the name.
        about = [each for each in named.values() if not each.by_itself and each.type in ("text", "character varying")]
        if free := [each for each in about if each not in found.values()]:
            found["name"] = free[0]
    return found


_MIGHT_BE: Final[Mapping[str, Callable[[TableColumn], bool]]] = {
    "started_at": lambda column: column.type.startswith("timestamp") and _snake(column.name).endswith("_since"),
    "created_at": lambda column: column.type.startswith("timestamp") and (column.preset or "") in _NOW,
    "input": lambda column: column.type in ("json", "jsonb") and not column.by_itself,
}
"""What a column of another name is taken for, where it is the only one of its kind."""


# writing --------------------------------------------------------------------------------------------------------------


def draft(tables: Tables, *, schema: str, table: str | None = None) -> str:
    """Write a queue file for one of these tables; `schema` is what it says of where they are, a line of YAML.

    Raises QueueFileError where no table can hold jobs.
    """
    name = chosen(tables, table)
    return _Draft(name, tables[name]).text(schema)


class _Draft:
    """One table on its way to a queue file."""

    def __init__(self, table: str, columns: Sequence[TableColumn]) -> None:
        self._table = table
        self._columns = columns
        self._known = _known(columns)
        keys = [column for column in columns if column.key] or [
            column for column in columns if column.numbered or column.name == "id"
        ]
        missing = [
            word
            for word, there in (("primary key of one column", keys), ("status", "status" in self._known))
            if not there
        ]
        if missing:
            raise QueueFileError(
                f"the table {table} has no {' and no '.join(missing)}", hint="Name another: --table NAME."
            )
        self._key = keys[0]
        self._status = self._words()

    def _words(self) -> dict[str, str]:
        """Return what the statuses are called: by the type, a constraint or the default, else as usual."""
        column = self._known["status"]
        preset = _texts(column.preset or "")
        said = [*column.labels, *_texts(column.checked), *preset]
        unsaid = not (column.labels or column.checked or _NO_TEXT.match(column.type))
        words: dict[str, str] = {}
        for meaning, usual in _STATUSES.items():
            lower = {word.lower().replace("-", "_"): word for word in said}
            word = next((lower[name] for name in usual if name in lower), None)
            if word is None and unsaid and meaning != "CANCELLED":
                word = usual[0] if not said or said[0].islower() else usual[0].upper()
            if word is not None:
                words[meaning] = word
        if preset and "PENDING" not in words:
            words["PENDING"] = preset[0]
        self._guessed = _guessed(words, list(dict.fromkeys(said)))
        return words | self._guessed

    def _is(self, meaning: str) -> str:
        return _quoted(self._status.get(meaning, OPEN_STATUS + meaning))

    def _meanings(self) -> list[str]:
        """Write what the statuses mean, with what the reader of the draft has to decide or to look at."""
        column = self._known["status"]
        means = {self._status.get(m, OPEN_STATUS + m): m for m in _STATUSES if m != "CANCELLED"}
        means |= {word: meaning for meaning, word in self._status.items()}
        said = [*column.labels, *_texts(column.checked)]
        among = f"of {', '.join(said)}" if said else column.type
        notes = [
            f"# TODO: which {among} means {meaning}? Replace {word} by it, everywhere in this file."
            for word, meaning in means.items()
            if meaning not in self._status
        ]
        if self._guessed:
            guessed = ", ".join(f"{word} means {meaning}" for meaning, word in self._guessed.items())
            notes.append(f"# TODO: check that {guessed}: this is a guess.")
        if not said:
            notes.append("# TODO: your statuses, here and in the statements: the schema does not list any.")
        return [*notes, f"status: {{{', '.join(f'{_yaml(word)}: {meaning}' for word, meaning in means.items())}}}"]

    def _column(self, meaning: str) -> str | None:
        return self._known[meaning].name if meaning in self._known else None

    # the SQL --------------------------------------------------------------------------------------------------------

    @property
    def _named_by(self) -> str:
        """Where the harness's name of a job is kept: the key, a column of text, or within the input."""
        if self._key.type in ("text", "character varying", "uuid"):
            return "key"
        return "name" if "name" in self._known else "input"

    def _enqueue(self) -> str:
        values: dict[str, str] = {}
        how, json = self._named_by, "jsonb_build_object('job', :job::text, 'input', :input::jsonb)"
        if how == "key":
            values[self._key.name] = ":job"
        elif how == "name":
            values[self._known["name"].name] = ":job"
        if "input" in self._known:
            values[self._known["input"].name] = json if how == "input" else ":input"
        for meaning, given in (
            ("max_attempts", ":max_attempts"),
            ("start_after", ":start_after"),
            ("priority", ":priority"),
        ):
            if meaning in self._known:
                values[self._known[meaning].name] = given
        if not self._known["status"].by_itself:
            values[self._known["status"].name] = self._is("PENDING")
        for column in self._columns:
            if not column.by_itself and column.name not in values:
                values[column.name] = _filler(column)
        return f"INSERT INTO {self._table} ({', '.join(values)})\nVALUES ({', '.join(values.values())})"

    def _sets(self, **values: str | None) -> str:
        """Write assignments, of those columns that there are."""
        told = [(self._column(meaning), value) for meaning, value in values.items() if value is not None]
        parts = [f"{name} = {value}" for name, value in told if name is not None]
        if "updated_at" in self._known:
            parts.append(f"{self._known['updated_at'].name} = now()")
        return _broken_up(parts)

    def _claim(self) -> str:
        attempts = self._column("attempts")
        token = self._known.get("token")
        sets = self._sets(
            status=self._is("PROCESSING"),
            attempts=attempts and f"{attempts} + 1",
            worker=":worker",
            token=None if token is None else _fresh(token),
            lease_until="now() + :lease",
            started_at="now()",
            heartbeat_at="now()",
        )
        due = f"{self._known['status'].name} = {self._is('PENDING')}"
        if start := self._column("start_after"):
            due += f" AND ({start} IS NULL OR {start} <= now())"
        order = [f"{self._column('priority')} DESC"] if "priority" in self._known else []
        order += [name for name in (self._column("created_at"), self._key.name) if name]
        returning = self._key.name if token is None else f"{self._key.name}, {token.name} AS token"
        return (
            f"UPDATE {self._table} SET {sets}\nWHERE {self._key.name} IN (\n"
            f"  SELECT {self._key.name} FROM {self._table} WHERE {due}\n"
            f"  ORDER BY {', '.join(order)} LIMIT :limit FOR UPDATE SKIP LOCKED)\nRETURNING {returning}"
        )

    def _held(self) -> str:
        """Write what tells that the claim still stands."""
        asked = f"{self._key.name} = :job AND {self._known['status'].name} = {self._is('PROCESSING')}"
        if token := self._column("token"):
            return f"{asked} AND {token} = :token"
        return f"{asked} AND {self._column('attempts')} = :attempt" if "attempts" in self._known else asked

    def _let_go(self) -> dict[str, str | None]:
        token = self._known.get("token")
        cleared = token is not None and not token.needed
        return {"token": "NULL" if cleared else None, "lease_until": "NULL", "worker": "NULL"}

    def _complete(self) -> str:
        sets = self._sets(
            status=self._is("COMPLETED"), output=":output", error="NULL", completed_at="now()", **self._let_go()
        )
        return f"UPDATE {self._table} SET {sets}\nWHERE {self._held()}"

    def _failed(self, error: str, delay: str, *, final: str = "") -> str:
        attempts, most = self._column("attempts"), self._column("max_attempts") or ":max_attempts"
        again = f"{attempts} < {most}{final}" if attempts else "false"
        sets = self._sets(
            status=f"CASE WHEN {again} THEN {self._is('PENDING')} ELSE {self._is('FAILED')} END{self._cast()}",
            start_after=f"now() + {delay}",
            error=error,
            completed_at=f"CASE WHEN {again} THEN NULL ELSE now() END",
            **self._let_go(),
        )
        return f"UPDATE {self._table} SET {sets}"

    def _cast(self) -> str:
        column = self._known["status"]
        return f"::{column.type}" if column.labels or _NO_TEXT.match(column.type) else ""

    def _wait(self) -> str:
        attempts = self._column("attempts")
        return f"least(:retry_delay_max, :retry_delay * 2 ^ ({attempts} - 1))" if attempts else ":retry_delay"

    def _overdue(self) -> str:
        until, since = self._column("lease_until"), self._since()
        running = f"{self._known['status'].name} = {self._is('PROCESSING')}"
        if until:
            return f"{running} AND {until} <= now()"
        return f"{running} AND {since} <= now() - :lease" if since else ""

    def _since(self) -> str | None:
        """Return the column from which a lease is counted, where none says when it ends."""
        return self._column("heartbeat_at") or self._column("started_at")

    def _heartbeat(self) -> str:
        if not {"lease_until", "heartbeat_at"} & set(self._known):
            return ""
        sets = self._sets(lease_until="now() + :lease", heartbeat_at="now()")
        return f"UPDATE {self._table} SET {sets}\nWHERE {self._held()}"

    def _jobs(self) -> str:
        how, shown = self._named_by, []
        if how == "key":
            shown.append(f"{self._key.name}::text AS id, {self._key.name} AS key")
        else:
            stored = self._known["name"].name if how == "name" else f"{self._column('input')}->>'job'"
            shown.append(f"{stored} AS id, {self._key.name} AS key")
        shown.append(_as(f"{self._known['status'].name}{'::text' if self._cast() else ''}", "status"))
        shown.append(_as(self._column("attempts") or "0", "attempts"))
        if "input" in self._known:
            shown.append(
                f"{self._column('input')}{'->' + chr(39) + 'input' + chr(39) if how == 'input' else ''} AS input"
            )
        plain = ("max_attempts", "token", "worker", "lease_until", "started_at", "start_after", "output", "error",
                 "priority", "created_at", "completed_at")  # fmt: skip
        shown += [_as(self._known[meaning].name, meaning) for meaning in plain if meaning in self._known]
        if "lease_until" not in self._known and (since := self._since()):
            running = f"{self._known['status'].name} = {self._is('PROCESSING')}"
            shown.append(f"CASE WHEN {running} THEN {since} + :lease END AS lease_until")
        lines = [", ".join(shown[at : at + 4]) for at in range(0, len(shown), 4)]
        return f"SELECT {(',' + chr(10) + '       ').join(lines)}\nFROM {self._table}"

    # the file -------------------------------------------------------------------------------------------------------

    def text(self, schema: str) -> str:
        """Return the whole file."""
        if self._named_by == "input" and "input" not in self._known:
            raise QueueFileError(
                f"the table {self._table} has no column of text or JSON that could keep the name of a job",
                hint="Write the file by hand: docs/queue_files.md.",
            )
        overdue = self._overdue()
        verbs = {
            "enqueue": self._enqueue(),
            "claim": self._claim(),
            "heartbeat": self._heartbeat(),
            "complete": self._complete(),
            "fail": f"{self._failed(':error', ':delay', final=' AND NOT :final')}\nWHERE {self._held()}",
            "expire": f"{self._failed(_LATE, self._wait())}\nWHERE {overdue}" if overdue else "",
            "jobs": self._jobs(),
        }
        parts = [
            f"# {MORE_DRAWN}",
            "draft: true  # take this line out then",
            "format: 1",
            f"queue: {self._table.replace(chr(34), '')}",
            schema,
        ]
        parts.append(f"design: [{Design.CALLED_IN_PROCESS}]  # leave it out if workers reach this queue over a network")
        if not self._key_is_plain:
            parts.append(f"ids: {'uuid' if self._key.type == 'uuid' else 'text'}")
        if "start_after" not in self._known:
            parts.append("settings: {retry_delay: 0s, retry_backoff: false}  # no column says when to try again")
        for verb, sql in verbs.items():
            if sql:
                parts.append(f"\n{verb}: |\n" + "\n".join(f"  {line}" for line in sql.splitlines()))
        if not overdue:
            parts.append(
                "\n# Nothing in the table says when a claim ends: a job whose worker dies stays as it is.\n"
                "takes_back: never"
            )
        return "\n".join([*parts, *self._left_out(" ".join(verbs.values())), *self._meanings(), ""])

    def _left_out(self, sql: str) -> list[str]:
        """Name the columns that no statement of the draft uses: what they are for is lost with them."""
        used = {token.text for token in code(sql)}
        names = [column.name for column in self._columns if column.name not in used and not column.generated]
        if not names:
            return []
        return [
            f"# Used by no statement here: {', '.join(names)}. A column that keeps jobs unique is set to :unique_key",
            "# by enqueue, and shown AS unique_key by jobs: without it nothing is unique here.",
        ]

    @property
    def _key_is_plain(self) -> bool:
        return self._named_by != "key" or self._key.type != "uuid"


def _guessed(words: Mapping[str, str], said: Sequence[str]) -> dict[str, str]:
    """Guess what the statuses mean that are not called as usual, where only one of them can be meant.

    What is at work ends in -ing; the one that is left between work and failure is the good end.
    """
    guessed: dict[str, str] = {}
    left = [word for word in said if word not in words.values()]
    at_work = [word for word in left if word.lower().endswith("ing")]
    if "PROCESSING" not in words and "PENDING" in words and len(at_work) == 1:
        guessed["PROCESSING"] = at_work[0]
        left.remove(at_work[0])
    known = {**words, **guessed}
    only_that = {"PENDING", "PROCESSING", "FAILED"} <= known.keys() and "COMPLETED" not in known and len(left) == 1
    if only_that and said.index(left[0]) > said.index(known["PROCESSING"]):
        guessed["COMPLETED"] = left[0]
    return guessed


def _texts(sql: str) -> list[str]:
    """List the texts that stand in SQL."""
    return [token.text[1:-1].replace("''", "'") for token in code(sql) if token.kind == "text" and len(token.text) > 2]


def _quoted(text: str) -> str:
    return "'{}'".format(text.replace("'", "''"))


def _yaml(word: str) -> str:
    """Write a word as a key of YAML: in quotes, where it is no plain name."""
    return (
        word if re.fullmatch(r"(?!(?i:yes|no|on|off|true|false|null|y|n)$)[A-Za-z_][\w-]*", word) else json.dumps(word)
    )


_LATE: Final = "'the lease ran out'"


def _broken_up(parts: Sequence[str]) -> str:
    """Write a list, at most 90 characters a line."""
    lines = [""]
    for part in parts:
        if lines[-1] and len(lines[-1]) + len(part) > 90:
            lines.append("")
        lines[-1] += f", {part}" if lines[-1] else part
    return ",\n    ".join(lines)


def _as(column: str, meaning: str) -> str:
    return column if column == meaning else f"{column} AS {meaning}"


_NO_TEXT: Final = re.compile(r"(smallint|integer|bigint|numeric|real|double|boolean)\b")


def _fresh(token: TableColumn) -> str:
    """Write a value that no claim had before."""
    if token.type == "uuid":
        return "gen_random_uuid()"
    if token.type in ("integer", "bigint", "smallint"):
        return f"coalesce({token.name}, 0) + 1"
    return "gen_random_uuid()::text"


def _filler(column: TableColumn) -> str:
    """Write something that the column accepts."""
    if column.labels:
        return _quoted(column.labels[0])
    if column.type.endswith("[]"):
        return "'{}'"
    if column.type.startswith("interval"):
        return "'0'"
    if column.type.startswith(("json",)):
        return "'{}'"
    if column.type.startswith(("timestamp", "date")):
        return "now()"
    if column.type == "uuid":
        return "gen_random_uuid()"
    if column.type == "boolean":
        return "false"
    return "0" if _NO_TEXT.match(column.type) else "''"
