"""SQL as a queue file has it: named parameters become numbered ones, and every character keeps its line in the file.

Knows no database, and no verb.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from job_harness.errors import Misdescribed, UsageError, did_you_mean
from job_harness.worlds.sql import Token, may_stand_in_a_transaction, point_of, substitute, tokens

# where it is written --------------------------------------------------------------------------------------------------


class QueueFileError(UsageError):
    """Something is wrong with a queue file, or with what its SQL does: one `file:line: ...`, and what to do."""


class MisdescribedQueue(QueueFileError, Misdescribed):
    """What a statement returned is not what the file says of it."""


@dataclass(frozen=True, slots=True)
class SqlSource:
    """A piece of SQL and where it is written; `lines` has the line (from 1) of each line of the text."""

    text: str
    path: str
    lines: tuple[int, ...]
    called: str
    """What it is in the file: `claim`, `jobs`, `schema`."""

    @classmethod
    def whole(cls, text: str, path: str, called: str, *, first: int = 1) -> SqlSource:
        """Take a text whose lines follow one another in the file, from the line `first` on."""
        return cls(text, path, tuple(range(first, first + text.count("\n") + 1)), called)

    def place(self, offset: int = 0) -> str:
        """Return `file:line` of a character."""
        return f"{self.path}:{self.lines[min(self.text.count(chr(10), 0, offset), len(self.lines) - 1)]}"

    def error(
        self, message: str, *, at: int | None = None, hint: str = "", kind: type[QueueFileError] = QueueFileError
    ) -> QueueFileError:
        """Return an error at a character, whose line is shown with a mark below it; at None, at the beginning."""
        told = f"{self.place(at or 0)}: {self.called}: {message}"
        if at is not None and at <= len(self.text):
            begin = self.text.rfind("\n", 0, at) + 1
            end = self.text.find("\n", at)
            line = self.text[begin : len(self.text) if end < 0 else end]
            told += f"\n    {line.expandtabs(4)}\n    {' ' * len(self.text[begin:at].expandtabs(4))}^"
        return kind(told, hint=hint)


# as it is loaded ----------------------------------------------------------------------------------------------------


_MACHINE_TIME: Final = re.compile(r"\bcurrent_timestamp\b(?!\s*\()", re.IGNORECASE)
_NOW: Final = "now()".ljust(len("CURRENT_TIMESTAMP"))


def on_our_clock(text: str) -> str:
    """Write `now()` for CURRENT_TIMESTAMP, which means the same and follows a virtual clock; nothing moves by that.

    In function bodies too, which are quoted; not in text or comments.
    """
    return substitute(text, _MACHINE_TIME, lambda _: _NOW)


_HALF: Final = re.compile(
    r"\s*--[\s-]*(?:(?:\+\s*(?:goose|migrate|micrate)\s+|migrate:\s*)(up|down)\b.*|(up|down)(?:\s+migration\b.*)?\s*)",
    re.IGNORECASE,
)
"""The line of a migration at which its up or down half begins: of node-pg-migrate, goose, sql-migrate, dbmate."""


def up_half(text: str) -> str:
    """Return a migration without its down half, each line in its place."""
    kept, up = [], True
    for line in text.split("\n"):
        if (half := _HALF.fullmatch(line)) is not None:
            up = (half[1] or half[2]).lower() == "up"
        kept.append(line if up else "")
    return "\n".join(kept)


def loadable(source: SqlSource) -> bytes:
    """Return a schema as PostgreSQL takes it, each character in its place: on our clock, and without what psql reads.

    pg_dump writes `\\restrict` and `\\unrestrict`. Raises QueueFileError for another command of psql.
    """
    text = source.text
    for kind, piece, at, _ in tokens(source.text):
        if kind == "sign" and piece == "\\":
            line = text[at:].partition("\n")[0]
            if line.split()[0] not in ("\\restrict", "\\unrestrict"):
                raise source.error(
                    f"{line.split()[0]} is a psql command, not SQL",
                    at=at,
                    hint="Leave it out. From pg_dump, take the output of --schema-only.",
                )
            text = f"{text[:at]}{' ' * len(line)}{text[at + len(line) :]}"
    return on_our_clock(text).encode()


# statements -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement of a verb, as PostgreSQL is sent it."""

    source: SqlSource
    sql: bytes
    """With `$1`, `$2`, ... for its parameters."""
    names: tuple[str, ...]
    """The parameters, the first of them `$1`."""
    point: str
    """What tapes call it: `update jobs`."""
    offsets: tuple[tuple[int, int], ...]
    """Where it goes on in the source: from which character of what is sent, and from which of the source."""

    def place_of(self, column: str | None) -> str:
        """Return `file:line` of an error about a column: where the statement writes that, else where it begins."""
        begin, end = self.offsets[0][1], self.at(len(self.sql.decode()))
        writes = re.compile(rf"\b(insert\s+into|set)\b[^;]*?\b{re.escape(column)}\b", re.IGNORECASE) if column else None
        found = writes and writes.search(self.source.text, begin, end)
        return self.source.place(found.end() if found else begin)

    def at(self, position: int) -> int:
        """Return the character of the source that is this one (from 0) of what PostgreSQL was sent."""
        sent, written = max(pair for pair in self.offsets if pair[0] <= position)
        return written + position - sent


def read_statements(source: SqlSource, parameters: Collection[str]) -> tuple[Statement, ...]:
    """Cut a verb's SQL into its statements.

    Raises QueueFileError for an unknown parameter, for one that is numbered, for a statement that
    begins or ends a transaction, and where there is no statement at all.
    """
    statements: list[Statement] = []
    pieces: list[Token] = []
    for token in tokens(source.text):
        if token.kind != "end":
            pieces.append(token)
            continue
        statements.extend(_statement(source, pieces, parameters, first=not statements))
        pieces = []
    statements.extend(_statement(source, pieces, parameters, first=not statements))
    if not statements:
        raise source.error("there is no statement here", hint="Write the SQL, or leave the key out.")
    return tuple(statements)


FROM_BEFORE: Final = ("row_", "rows_")
"""How a parameter begins that is a column of what the statement before returned: of its first row, or of all."""


def _statement(
    source: SqlSource, pieces: list[Token], parameters: Collection[str], *, first: bool
) -> Iterator[Statement]:
    while pieces and pieces[0].is_aside:
        pieces = pieces[1:]
    if not pieces:
        return
    parts: list[str] = []
    names: dict[str, int] = {}
    offsets: list[tuple[int, int]] = [(0, pieces[0].at)]
    length = 0
    brackets = position = 0
    shown = [token.text.lower() for token in pieces if not token.is_aside]
    for token in pieces:
        kind, piece, at, _ = token
        sent = piece
        before, after = shown[max(0, position - 2) : position], shown[position + 1 : position + 3]
        position += not token.is_aside
        brackets += (piece == "[") - (piece == "]")
        if kind == "parameter":
            raise source.error(f"the parameter {piece} has no name", at=at, hint=_known(parameters))
        if (instead := _follows_no_clock(kind, piece, before, after)) is not None:
            raise source.error(f"{piece} is the machine's time, not the virtual time of a run", at=at, hint=instead)
        if kind == "name" and brackets and _is_slice(piece[1:], before, parameters):
            pass  # the colon of a slice: (ARRAY[1, 2])[1:attempts]
        elif kind == "name":
            if first or not piece[1:].startswith(FROM_BEFORE):
                _refuse_unknown(source, piece[1:], at, parameters)
            sent = f"${names.setdefault(piece[1:], len(names) + 1)}"
        elif piece.lower() == "current_timestamp" and after[:1] == ["("]:
            sent = "now()::timestamptz"
        elif kind in ("word", "dollar"):
            sent = on_our_clock(piece)
        parts.append(sent)
        length += len(sent)
        if len(sent) != len(piece):
            offsets.append((length, at + len(piece)))
    sql = "".join(parts).rstrip()
    if not may_stand_in_a_transaction(sql):
        raise source.error(
            f"{sql.split()[0].upper()} begins or ends a transaction: a verb is one transaction, and ends with it",
            at=pieces[0].at,
            hint="Leave it out. What your code does in two transactions is two verbs, or a bug that needs both.",
        )
    yield Statement(source, sql.encode(), tuple(names), point_of(sql), tuple(offsets))


_FOLLOWS_NO_CLOCK: Final[Mapping[str, str]] = {
    "localtimestamp": "timestamp",
    "localtime": "time",
    "current_date": "date",
    "current_time": "timetz",
    "timeofday": "text",
}
"""By the word that tells the machine's time, the type of what it tells."""
_SAYS_WHEN: Final = re.compile(r"'\s*(now|today|tomorrow|yesterday)\s*'")
_TIME: Final = re.compile(r"time|date")


def _follows_no_clock(kind: str, piece: str, before: Sequence[str], after: Sequence[str]) -> str | None:
    """Return what to write for a piece that tells the machine's time whatever the clock says; None for any other."""
    said = piece.lower()
    if kind == "word" and said in _FOLLOWS_NO_CLOCK and before[-1:] not in ([], ["."], ["as"]):
        return f"Write now()::{_FOLLOWS_NO_CLOCK[said]}." if said != "timeofday" or after[:1] == ["("] else None
    is_text = before[-2:] in (["-", ">"], [">", ">"]) or (after[:1] == ["::"] and not _TIME.match("".join(after[1:2])))
    if kind == "text" and _SAYS_WHEN.fullmatch(said) and not is_text:
        return f"Write now() or now()::date. Where it is no time, write {piece}::text."
    return None


def _is_slice(name: str, before: Sequence[str], parameters: Collection[str]) -> bool:
    """Say whether a colon in brackets separates the bounds of a slice, and names no parameter."""
    return before[-1][-1] in "0123456789)]" or (before[-1] not in ("[", ",") and name not in parameters)


def _refuse_unknown(source: SqlSource, name: str, at: int, parameters: Collection[str]) -> None:
    if name not in parameters:
        near = did_you_mean(name, parameters)
        raise source.error(f"there is no parameter :{name}{near}", at=at, hint=_known(parameters))


def _known(parameters: Collection[str]) -> str:
    return f"Here there are {', '.join(f':{name}' for name in sorted(parameters))}."
