"""Schemas: column defaults of job tables, rows that migrations insert, LISTEN; in SQL and in Prisma."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from job_harness.review.check.facts import (
    GRAPHILE,
    PGBOSS,
    Column,
    Facts,
    Place,
    QueueCall,
    Seed,
    SettingSource,
    Value,
    is_aside,
)
from job_harness.review.check.settings import meaning_of
from job_harness.worlds.sql import Token, code, name_at, without_comments

_AFTER_DEFAULT: Final = frozenset(
    {"NOT", "NULL", "PRIMARY", "UNIQUE", "REFERENCES", "CHECK", "CONSTRAINT", "GENERATED"}
)
_NO_COLUMN: Final = frozenset({"PRIMARY", "UNIQUE", "CHECK", "CONSTRAINT", "FOREIGN", "EXCLUDE", "LIKE"})
USERS_TABLES: Final = frozenset({"tool_job", "tooljob", "tool_jobs", "tooljobs"})
QUEUE_TABLES: Final = frozenset({"job"})


def statements_of(text: str) -> list[list[Token]]:
    """Break SQL into statements."""
    statements: list[list[Token]] = [[]]
    for token in code(text):
        if token.text == ";":
            statements.append([])
        else:
            statements[-1].append(token)
    return [statement for statement in statements if statement]


_CREATES_QUEUE: Final = re.compile(r"\bcreate_queue\(\s*'([^']+)'", re.IGNORECASE)


def read_sql(path: str, text: str, facts: Facts) -> None:
    """Read a schema, a migration or a seed."""
    statements = statements_of(text)
    for found in _CREATES_QUEUE.finditer(without_comments(text)):
        place = Place(path, text.count("\n", 0, found.start()) + 1)
        facts.calls.append(QueueCall(PGBOSS, "createQueue", found[1], {}, place, frozenset({found[1]})))
    partner = any(_inserts(statement, QUEUE_TABLES) for statement in statements)
    for statement in statements:
        if statement[0].says("CREATE") and any(token.says("TABLE") for token in statement[:5]):
            _create(path, statement, facts)
        elif statement[0].says("ALTER") and len(statement) > 2 and statement[1].says("TABLE"):
            _alter(path, statement, facts)
        elif _inserts(statement, USERS_TABLES):
            _insert(path, statement, facts, partner)
        elif statement[0].says("LISTEN"):
            facts.listens.append(Place(path, statement[0].line))
        elif statement[0].says("CREATE", "DROP") and any(token.says("FUNCTION") for token in statement[:4]):
            _function(path, statement, facts)


_ADDS_JOB: Final = re.compile(
    r"\bgraphile_worker\s*\.\s*add_job\s*\(\s*(?:identifier\s*=>\s*)?'([^']+)'", re.IGNORECASE
)


def _function(path: str, tokens: list[Token], facts: Facts) -> None:
    """Note which jobs of graphile-worker a function adds; a later migration defines it anew, or drops it."""
    start = next(index for index, token in enumerate(tokens) if token.says("FUNCTION")) + 1
    name, _ = _name_at(tokens, start)
    facts.added_in_sql.pop(name, None)
    for body in [token for token in tokens if token.kind == "dollar"][:1]:
        for found in _ADDS_JOB.finditer(text := without_comments(body.body)):
            place = Place(path, body.line + text.count("\n", 0, found.start(1)))
            names = frozenset({found[1]})
            call = QueueCall(GRAPHILE, "addJob", found[1], {}, place, names, aside=is_aside(path))
            facts.added_in_sql.setdefault(name, []).append(call)


_DEFINES: Final = re.compile(
    r"\b(?:CREATE(?:\s+OR\s+REPLACE)?|DROP)\s+FUNCTION\s+(?:IF\s+EXISTS\s+)?(?:[\w\"]+\.)*\"?(\w+)", re.IGNORECASE
)


def forget_functions(text: str, facts: Facts) -> None:
    """Forget what a function added that a later migration drops, or defines so that it adds nothing."""
    for name in _DEFINES.findall(without_comments(text)):
        facts.added_in_sql.pop(name.lower(), None)


def _name_at(tokens: Sequence[Token], start: int) -> tuple[str, int]:
    """Return the last part of the name that stands there, and where it ends."""
    parts, end = name_at(tokens, start)
    return parts[-1].name if parts else "", end


def _is_job_table(name: str) -> bool:
    return name.lower() in USERS_TABLES | QUEUE_TABLES


def _create(path: str, tokens: list[Token], facts: Facts) -> None:
    start = next(index for index, token in enumerate(tokens) if token.says("TABLE")) + 1
    table, index = _name_at(tokens, start)
    if not _is_job_table(table) or index >= len(tokens) or tokens[index].text != "(":
        return
    if table.lower() in USERS_TABLES:
        facts.users_tables.setdefault(table, Place(path, tokens[0].line))
    elif not _is_queue(tokens, start):
        return
    for part in _parts(tokens, index):
        if len(part) > 1 and not part[0].says(*_NO_COLUMN):
            _column(path, table, part[0].name, part[1:], facts)


_OF_A_QUEUE: Final = frozenset({"retry_limit", "retrylimit", "retry_count", "retrycount", "expire_in", "expirein"})


def _is_queue(tokens: Sequence[Token], start: int) -> bool:
    """Tell pg-boss's `job` from any other table of that name: by its schema, or by a column that only it has."""
    return any(token.name.startswith("pgboss") for token in tokens[start : start + 3]) or any(
        token.name.lower() in _OF_A_QUEUE for token in tokens if token.kind in ("word", "quoted")
    )


def _parts(tokens: Sequence[Token], opening: int) -> list[list[Token]]:
    """Break what stands in parentheses at its commas."""
    parts: list[list[Token]] = [[]]
    depth = 0
    for token in tokens[opening:]:
        if token.text in "([":
            depth += 1
            if depth == 1:
                continue
        elif token.text in ")]":
            depth -= 1
            if depth == 0:
                break
        elif token.text == "," and depth == 1:
            parts.append([])
            continue
        parts[-1].append(token)
    return [part for part in parts if part]


def _closing(tokens: Sequence[Token], opening: int) -> int:
    depth = 0
    for index in range(opening, len(tokens)):
        depth += {"(": 1, ")": -1}.get(tokens[index].text, 0)
        if depth == 0:
            return index
    return len(tokens)


def _column(path: str, table: str, name: str, rest: Sequence[Token], facts: Facts) -> None:
    start = next((index for index, token in enumerate(rest) if token.says("DEFAULT")), None)
    if start is not None:
        _default(path, table, name, rest[start:], facts)


def _default(path: str, table: str, name: str, tokens: Sequence[Token], facts: Facts) -> None:
    """Take the default that follows the word DEFAULT at the start."""
    taken: list[Token] = []
    depth = 0
    for token in tokens[1:]:
        if depth == 0 and (token.says(*_AFTER_DEFAULT) or token.text == ","):
            break
        depth += {"(": 1, "[": 1, ")": -1, "]": -1}.get(token.text, 0)
        taken.append(token)
    if not taken:
        return
    place = Place(path, tokens[0].line)
    facts.columns.append(Column(table, name, " ".join(token.text for token in taken), place))
    value = scalar_of(taken)
    meaning = meaning_of(name, option=True)
    if value is not None and meaning is not None:
        facts.values.append(Value(name, value, place, SettingSource.COLUMN))


_CLOCK: Final = re.compile(r"^(?P<hours>\d+):(?P<minutes>\d\d)(?::(?P<seconds>\d\d(?:\.\d+)?))?$")
_SPAN: Final = re.compile(
    r"(?P<count>\d+(?:\.\d+)?)\s*(?:(?P<us>us|usecs?|microseconds?)|(?P<ms>ms|msecs?|milliseconds?)|(?P<s>s|secs?|seconds?)"
    r"|(?P<m>m|mins?|minutes?)|(?P<h>h|hrs?|hours?)|(?P<d>d|days?)|(?P<w>w|weeks?)|(?P<mon>mons?|months?)|(?P<y>y|yrs?|years?))"
    r"(?![a-z])"
)
_SPANS: Final = {
    "us": 1e-6, "ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800, "mon": 2_592_000, "y": 31_557_600,
}  # fmt: skip
"""In seconds; a month and a year as long as PostgreSQL takes them to be."""


def scalar_of(tokens: Sequence[Token]) -> str | float | bool | None:
    """Return what a default comes to: a number, a text, or an interval as seconds; None where it is computed."""
    plain = [token for token in tokens if token.text not in "()" and not token.says("INTERVAL")]
    if not plain or (len(plain) > 1 and plain[1].text != "::"):
        return None
    first = plain[0]
    if first.kind == "number":
        return float(first.text)
    if first.says("TRUE", "FALSE"):
        return first.says("TRUE")
    if first.kind == "text":
        text = first.text.lstrip("eE")[1:-1]
        seconds = interval_seconds(text)
        return text if seconds is None else seconds
    return None


def interval_seconds(text: str) -> float | None:
    """Read `00:10:00`, `15 minutes` or `7 days`; None for anything else."""
    clock = _CLOCK.match(text.strip())
    if clock is not None:
        return int(clock["hours"]) * 3600 + int(clock["minutes"]) * 60 + float(clock["seconds"] or 0)
    found = list(_SPAN.finditer(text.strip().lower()))
    if not found or re.sub(_SPAN, "", text.strip().lower()).strip():
        return None
    return sum(float(part["count"]) * _SPANS[part.lastgroup or ""] for part in found)


def _alter(path: str, tokens: list[Token], facts: Facts) -> None:
    table, index = _name_at(tokens, 2)
    if not _is_job_table(table):
        return
    column = ""
    for at in range(index, len(tokens)):
        token = tokens[at]
        if token.says("COLUMN", "ADD", "ALTER") and at + 1 < len(tokens) and not tokens[at + 1].says("COLUMN"):
            column, _ = _name_at(tokens, at + 1)
        elif token.says("DEFAULT") and column and not tokens[at - 1].says("DROP"):
            _default(path, table, column, tokens[at:], facts)


def _inserts(tokens: Sequence[Token], tables: frozenset[str]) -> bool:
    for index, token in enumerate(tokens[:-2]):
        if token.says("INSERT") and tokens[index + 1].says("INTO"):
            return _name_at(tokens, index + 2)[0].lower() in tables
    return False


def _insert(path: str, tokens: list[Token], facts: Facts, partner: bool) -> None:
    start = next(index for index, token in enumerate(tokens) if token.says("INTO")) + 1
    _, opening = _name_at(tokens, start)
    if opening >= len(tokens) or tokens[opening].text != "(":
        return
    columns = [part[0].name for part in _parts(tokens, opening)]
    values = next((index for index in range(opening, len(tokens)) if tokens[index].says("VALUES")), None)
    if values is None:
        return
    at = columns.index("status") if "status" in columns else None
    index = values + 1
    while index < len(tokens) and tokens[index].text == "(":
        row = _parts(tokens, index)
        status = "PENDING" if at is None else row[at][0].text.strip("'") if at < len(row) else ""
        line = tokens[index].line if at is None or at >= len(row) else row[at][0].line
        if at is None or (at < len(row) and row[at][0].kind == "text"):
            facts.seeds.append(Seed(status, Place(path, line), partner))
        index = _closing(tokens, index) + 2  # past the comma between two rows


_MODEL: Final = re.compile(r"^\s*model\s+(\w+)\s*\{")
_FIELD: Final = re.compile(r"^\s*(\w+)\s+[\w?\[\]]+")
_MAP: Final = re.compile(r'@@map\(\s*(?:name:\s*)?"([^"]+)"')
_DEFAULT: Final = re.compile(r"@default\(((?:[^()]|\([^()]*(?:\([^()]*\))?[^()]*\))*)\)")


LONGEST_LINE: Final = 2000


def read_prisma(path: str, text: str, facts: Facts) -> None:
    """Read the models of jobs."""
    block: list[tuple[int, str]] = []
    model = ""
    for line, written in enumerate(text.splitlines(), start=1):
        opened = _MODEL.match(written)
        if opened is not None:
            model, block = opened[1], []
        elif model and written.strip().startswith("}"):
            _model(path, model, block, facts)
            model = ""
        elif model:
            block.append((line, written.partition("//")[0] if '"' not in written else written))


def _model(path: str, model: str, block: list[tuple[int, str]], facts: Facts) -> None:
    mapped = next((found[1] for _, text in block if (found := _MAP.search(text)) is not None), model)
    table = mapped.lower()
    if table not in USERS_TABLES and table not in QUEUE_TABLES:
        return
    if table in USERS_TABLES and block:
        facts.users_tables.setdefault(mapped, Place(path, block[0][0] - 1))
    for line, text in block:
        if len(text) > LONGEST_LINE:
            continue
        name, default = _FIELD.match(text), _DEFAULT.search(text)
        if name is None or default is None:
            continue
        place = Place(path, line)
        facts.columns.append(Column(mapped, name[1], default[1], place))
        value, meaning = _scalar(default[1].strip()), meaning_of(name[1], option=True)
        if value is not None and meaning is not None:
            facts.values.append(Value(name[1], value, place, SettingSource.COLUMN))


def _scalar(text: str) -> str | float | bool | None:
    if text in ("true", "false"):
        return text == "true"
    within = re.search(r"'([^']*)'", text) if text.startswith("dbgenerated") else None
    quoted = within[1] if within is not None else text.strip('"')
    seconds = interval_seconds(quoted)
    if seconds is not None:
        return seconds
    try:
        return float(quoted)
    except ValueError:
        return None
