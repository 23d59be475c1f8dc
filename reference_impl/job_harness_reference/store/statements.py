"""The named SQL statements, read from the folder `sql`. Knows their spelling, not what they do."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Final

_PIECE: Final = re.compile(
    r"""
      '(?:[^']|'')*'            # text
    | "(?:[^"]|"")*"            # a quoted name
    | \$\$.*?\$\$               # a function's body
    | --[^\n]*                  # a comment
    | ::                        # a cast
    | :(?P<name>[a-z_][a-z0-9_]*)
    | %
    """,
    re.VERBOSE | re.DOTALL,
)

NAMES: Final = (
    "register_tool",
    "enqueue",
    "enqueue_many",
    "claim",
    "heartbeat",
    "complete",
    "complete_many",
    "fail",
    "release",
    "cancel",
    "retry",
    "expire",
    "reconcile",
    "rescue_stuck",
    "delete_expired",
    "get",
    "list_owned",
    "next_due",
    "rows",
)
"""Every statement there is, by verb."""
SHARED_ENDS: Final[Mapping[str, str]] = {"expire": "take_back", "rescue_stuck": "take_back"}
"""Statements that say whom they concern, and share a file that says what becomes of them."""


@dataclass(frozen=True, slots=True)
class Statement:
    """A named statement as psycopg takes it, with `%(name)s` for each parameter."""

    name: str
    text: str


@cache
def to_psycopg(sql: str) -> str:
    """Turn `:name` into `%(name)s` outside text, names, comments and casts; double every `%`."""

    def replace(piece: re.Match[str]) -> str:
        name = piece["name"]
        return f"%({name})s" if name else piece[0].replace("%", "%%")

    return _PIECE.sub(replace, sql)


@cache
def shipped(name: str) -> str:
    """Read the SQL of a verb as it stands in the package, with `:name` parameters."""
    pieces = (name, SHARED_ENDS[name]) if name in SHARED_ENDS else (name,)
    folder = files("job_harness_reference").joinpath("sql")
    return "".join(folder.joinpath(f"{piece}.sql").read_text(encoding="utf-8") for piece in pieces)


class Statements:
    """All statements of one store, ready to send."""

    def __init__(self, replaced: Mapping[str, str] | None = None) -> None:
        """Take `replaced` in place of the shipped SQL, by name, in the same spelling (`:name`).

        Raises `ValueError` for a name that no verb has.
        """
        replaced = replaced or {}
        unknown = sorted(set(replaced) - set(NAMES))
        if unknown:
            raise ValueError(f"no statement is called {', '.join(unknown)}; there are {', '.join(NAMES)}")
        self._sql = {name: replaced.get(name) or shipped(name) for name in NAMES}
        self._ready: dict[tuple[str, int | None], Statement] = {}

    def get(self, name: str, *, limit: int | None = None) -> Statement:
        """Give the statement; `limit` is written into it as a number: a prepared LIMIT is planned anew."""
        key = (name, limit)
        ready = self._ready.get(key)
        if ready is None:
            text = to_psycopg(self._sql[name])
            if limit is not None:
                text = text.replace("%(limit)s", str(int(limit)))
            ready = self._ready[key] = Statement(name, text)
        return ready
