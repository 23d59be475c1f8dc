"""What a SQL statement does, as far as its text says: to which table, and what doing it twice means.

It is read by patterns, in every dialect alike: a statement that a parser of one of them would
refuse is judged too. Values are cut out first, and quotes of names are ignored. Must not know
deliveries, drivers or what a repetition means.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from enum import StrEnum
from typing import Final, NamedTuple

from job_harness.worlds.sql import skeleton


class Nature(StrEnum):
    """What a repetition of a side effect does by itself."""

    ADDS = "adds"
    """Twice is not the same as once."""
    MAY_TELL = "may tell"
    """Only its author knows whether there is to be one for each attempt: a history, a journal."""
    LOOKS = "looks"
    """It changes nothing."""
    SETS = "sets"
    """It leaves the same behind however often it is done, as long as its target is the same."""
    TELLS = "tells"
    """Telemetry, and what is written down of each attempt."""


class SqlStatement(NamedTuple):
    """What a statement does."""

    verb: str
    table: str
    nature: Nature
    control: str = ""
    """`begin`, `commit`, `rollback`, `savepoint x`, `release x` or `to x`."""


_NAME: Final = r"[\w$]+(?:\.[\w$]+){0,2}"
_HOW: Final = r"(?:(?:OR\s+\w+|IGNORE|LOW_PRIORITY|HIGH_PRIORITY|DELAYED)\s+)*"
_CHANGES: Final = re.compile(
    rf"\b(?:(INSERT)\s+{_HOW}INTO\s+({_NAME})|(REPLACE)\s+INTO\s+({_NAME})|(DELETE)\s+FROM\s+(?:ONLY\s+)?({_NAME})"
    rf"|(MERGE)\s+INTO\s+({_NAME})|(COPY)\s+({_NAME})[^;]*\bFROM\b"
    rf"|(UPDATE)\s+{_HOW}(?:ONLY\s+)?({_NAME})(?:\s+(?:AS\s+)?\w+)??(?:\s+(?:\w+\s+){{0,2}}JOIN\b[^;]*?)?\s+SET\b)",
    re.IGNORECASE,
)
_FROM: Final = re.compile(rf"\b(?:FROM|JOIN)\s+({_NAME})", re.IGNORECASE)
_QUOTED: Final = re.compile(r"[`\"\[]([\w$]+)[`\"\]]|[`\"\[\]]")
_OURS: Final = re.compile(
    r"SELECT|SET|WHERE|FROM|JOIN|RETURNING|OUTPUT|LIMIT|CASE|WHEN|THEN|ELSE|END|VALUES", re.IGNORECASE
)
"""Words that mean something here; in quotes each is a name."""
_UPSERT: Final = re.compile(
    r"\bON\s+CONFLICT\b|\b(?:OR|INSERT)\s+(?:IGNORE|REPLACE)\b|\bON\s+DUPLICATE\s+KEY\b", re.IGNORECASE
)
_NOT_EXISTS: Final = re.compile(r"\bNOT\s+EXISTS\s*\(", re.IGNORECASE)
_WORDS: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_TELLING: Final = re.compile(r"(?:audit|auditlog|attempt|log|heartbeat|metric)s?", re.IGNORECASE)
_MAY_TELL: Final = re.compile(r"journals?|histor(?:y|ies)|traces?", re.IGNORECASE)
_ATTEMPT: Final = re.compile(
    r"\b(attempts?|attempt_\w+|try_(no|number|count)|tries|retry_count|retries)\b", re.IGNORECASE
)
_CONTROL: Final = re.compile(
    r"\s*(BEGIN|START\s+TRANSACTION|COMMIT|END|ROLLBACK(?:\s+TRANSACTION)?\s+TO(?:\s+SAVEPOINT)?|ROLLBACK|SAVEPOINT|"
    r"RELEASE(?:\s+SAVEPOINT)?)\b\s*(\w+)?",
    re.IGNORECASE,
)


@functools.lru_cache(maxsize=512)
def statement_of(sql: str) -> SqlStatement | None:
    """Say what a statement does; None where its text says nothing of it."""
    bare = _QUOTED.sub(_unquoted, skeleton(sql))
    if (control := _CONTROL.match(bare)) is not None:
        return SqlStatement("", "", Nature.LOOKS, _controls(" ".join(control[1].upper().split()), control[2] or ""))
    if (change := _CHANGES.search(bare)) is not None:
        verb, table = (each for each in change.groups() if each)
        return SqlStatement(verb.upper(), table, _nature(verb.upper(), table, bare))
    tables = _FROM.findall(bare)
    return SqlStatement("SELECT", tables[0], Nature.LOOKS) if tables else None


def _unquoted(quoted: re.Match[str]) -> str:
    name = quoted[1] or ""
    return f"{name}_" if _OURS.fullmatch(name) else name


def _controls(word: str, name: str) -> str:
    if word.startswith("ROLLBACK") and word.split()[-1] in ("TO", "SAVEPOINT"):
        return f"to {name}"
    kinds = {"SAVEPOINT": f"savepoint {name}", "COMMIT": "commit", "END": "commit", "ROLLBACK": "rollback"}
    return f"release {name}" if word.startswith("RELEASE") else kinds.get(word.split()[0], "begin")


def _nature(verb: str, table: str, sql: str) -> Nature:
    words = _WORDS.findall(table)
    if any(map(_TELLING.fullmatch, words)):
        return Nature.TELLS
    if verb in ("UPDATE", "INSERT", "MERGE") and any(map(_adds, _values_set(table, sql))):
        return Nature.ADDS
    if verb == "INSERT" and not _UPSERT.search(sql) and not _looks_first(table, sql):
        columns = re.search(r"\(([^)]*)\)\s*(?:VALUES|SELECT)", sql, re.IGNORECASE)
        if columns is not None and _ATTEMPT.search(columns[1]):
            return Nature.TELLS
        return Nature.MAY_TELL if any(map(_MAY_TELL.fullmatch, words)) else Nature.ADDS
    return Nature.ADDS if verb == "COPY" else Nature.SETS


def _looks_first(table: str, sql: str) -> bool:
    """Whether it inserts only what that table does not hold yet."""
    return any(table in _FROM.findall(_enclosed(sql[found.end() :])) for found in _NOT_EXISTS.finditer(sql))


def _enclosed(text: str) -> str:
    """Return what stands before the bracket that closes."""
    depth = 0
    for index, letter in enumerate(text):
        depth += (letter == "(") - (letter == ")")
        if depth < 0:
            return text[:index]
    return text


# what is set to what --------------------------------------------------------------------------------------------------

_SET: Final = re.compile(r"\b(?:SET|DUPLICATE\s+KEY\s+UPDATE)\s+", re.IGNORECASE)
_SET_ENDS: Final = re.compile(r"\b(?:WHERE|FROM|RETURNING|OUTPUT|ORDER\s+BY|LIMIT|WHEN)\b|;", re.IGNORECASE)
_SUBQUERY: Final = re.compile(r"\(\s*SELECT\b", re.IGNORECASE)
_CASE: Final = re.compile(r"\bCASE\b((?:(?!\bCASE\b).)*?)\bEND\b", re.IGNORECASE | re.DOTALL)
_BRANCH: Final = re.compile(r"\b(WHEN|THEN|ELSE)\b", re.IGNORECASE)
_CALL: Final = re.compile(r"(?:\b(\w+)\s*)?\(([^()]*)\)")
_INSERTED: Final = re.compile(r"\bVALUES\s*\(\s*[\w$.]+\s*\)", re.IGNORECASE)
"""What MySQL calls the value that the row was to have."""
_CAST: Final = re.compile(r"::\s*[\w.]+(?:\(\d+(?:,\s*\d+)?\))?")
_KEEPS: Final = frozenset(
    {
        "cast", "greatest", "least", "max", "min", "coalesce", "ifnull", "nvl", "isnull", "nullif", "lower", "upper",
        "trim", "btrim", "ltrim", "rtrim", "abs", "round", "floor", "ceil", "date_trunc", "jsonb_set", "json_set",
        "json_replace", "json_remove", "jsonb_strip_nulls", "array_remove",
    }
)  # fmt: skip
"""Functions of a column that, called again with what they returned, return the same once more."""
_OWN: Final = "\N{BULLET}"
"""Stands for the column that is set, where it is read."""


def _values_set(table: str, sql: str) -> Iterator[str]:
    """List what columns are set to in an UPDATE or an upsert; in each value its own column is `_OWN`, however named."""
    alias = re.search(rf"\b{re.escape(table)}\s+(?:AS\s+)?(\w+)", sql, re.IGNORECASE)
    owners = "|".join({re.escape(table), re.escape(table.rpartition(".")[2]), alias[1] if alias else table})
    for found in _SET.finditer(sql):
        for each in _parts(_until(_enclosed(sql[found.end() :]), _SET_ENDS)):
            columns, equals, value = each.partition("=")
            value = _INSERTED.sub("''", _CAST.sub("", _without_others(value, table)))
            for column in re.findall(r"[\w$.]+", columns) if equals else ():
                name = re.escape(column.rpartition(".")[2])
                own = re.compile(rf"(?<![\w.$])(?:(?:{owners})\.)?{name}(?![\w.$(])", re.IGNORECASE)
                yield own.sub(_OWN, value)


def _adds(value: str) -> bool:
    """Whether setting a column to this a second time changes it again."""
    before = ""
    while value != before:
        before = value
        value = _CALL.sub(_kept_by_call, _CASE.sub(_kept_by_case, value))
    return _OWN in value and value.strip() != _OWN


def _without_others(value: str, table: str) -> str:
    """Cut out subqueries that read other tables: a column of the same name is another one there."""
    for found in reversed(list(_SUBQUERY.finditer(value))):
        query = _enclosed(value[found.start() + 1 :])
        if table not in _FROM.findall(query):
            value = f"{value[: found.start()]}''{value[found.start() + len(query) + 2 :]}"
    return value


def _kept_by_call(call: re.Match[str]) -> str:
    """Reduce a call to the column, or to nothing of it, where a second one would change nothing."""
    name, values = (call[1] or "").lower(), [each.strip() for each in call[2].split(",")]
    if _OWN not in call[2]:
        return "''"
    if name == "cast":
        values = [re.split(r"\s+AS\s+", values[0], flags=re.IGNORECASE)[0]]
    keeps = not name or name in _KEEPS
    return _OWN if keeps and all(value == _OWN or _OWN not in value for value in values) else call[0]


def _kept_by_case(case: re.Match[str]) -> str:
    """Reduce it likewise: where its conditions read the column, there may be one of them, and else the column stays."""
    if _OWN not in case[1]:
        return "''"
    parts = _BRANCH.split(case[1])
    values = [text.strip() for word, text in zip(parts[1::2], parts[2::2], strict=True) if word.upper() != "WHEN"]
    conditions = [text for word, text in zip(parts[1::2], parts[2::2], strict=True) if word.upper() == "WHEN"]
    asks = _OWN in parts[0] or any(_OWN in text for text in conditions)
    stays = "ELSE" not in case[1].upper() or values[-1] == _OWN
    keeps = all(value == _OWN or _OWN not in value for value in values)
    return _OWN if keeps and (not asks or (len(conditions) == 1 and stays)) else case[0]


def _parts(text: str) -> Iterator[str]:
    """Split at the commas that stand in no brackets."""
    depth, begin = 0, 0
    for index, letter in enumerate(text):
        depth += (letter == "(") - (letter == ")")
        if letter == "," and not depth:
            yield text[begin:index]
            begin = index + 1
    yield text[begin:]


def _until(text: str, end: re.Pattern[str]) -> str:
    """Cut off what begins with a word that stands in no brackets and in no CASE."""
    depth, cases = 0, 0
    for found in re.finditer(rf"[()]|\bCASE\b|\bEND\b|{end.pattern}", text, re.IGNORECASE):
        word = found[0].upper()
        depth += (word == "(") - (word == ")")
        cases += (word == "CASE") - (word == "END")
        if not depth and not cases and word not in (")", "END"):
            return text[: found.start()]
    return text
