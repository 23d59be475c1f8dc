"""What the text of a queue file tells the rules of `check`, without a database: columns by verb, order, indexes.

It goes by words, for a grammar of PostgreSQL is a large dependency: what is not written as usual is
left out, so that no rule says what is not so.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise, takewhile
from pathlib import Path
from typing import Final

from job_harness.core.model import SECOND, Design, Settings
from job_harness.engines.queue_file.document import QueueFile, read_queue_file
from job_harness.engines.queue_file.statement import SqlSource, Statement
from job_harness.errors import UsageError
from job_harness.review.check.facts import (
    Facts,
    OrderedColumn,
    Place,
    SettingSource,
    TableQueue,
    TableVerb,
    Unreadable,
    Value,
)
from job_harness.worlds.sql import code

_ENDS: Final = frozenset({"where", "from", "returning", "order", "limit", "for", "group", ";"})
_DIRECTIONS: Final = frozenset({"asc", "desc", "nulls", "first", "last"})


def facts_of(path: str) -> Facts:
    """Read a queue file for the rules. Raises QueueFileError or ScenarioError where it is none."""
    file = read_queue_file(path)
    facts = Facts(files=1 + sum(source.path != path for source in file.schema))
    facts.table_queues.append(_table_queue(file, Path()))
    return facts


def add_queue_files(facts: Facts, root: Path) -> None:
    """Read the queue files of a repository for the rules; what is wrong with one is noted at its line."""
    for place in facts.queue_files:
        path = str(root / place.file)
        try:
            facts.table_queues.append(_table_queue(read_queue_file(path), root))
            facts.files += 1
        except UsageError as error:
            told = error.message.splitlines()[0]
            found = re.match(rf"{re.escape(path)}:(\d+): ", told)
            at = Place(place.file, int(found[1])) if found else place
            why = told[found.end() :] if found else told
            facts.unreadable.append(Unreadable(at, f"is a queue file, and was not checked: {why}"))


def _table_queue(file: QueueFile, root: Path) -> TableQueue:
    """Return what the rules ask of a queue file; its places are relative to a folder."""
    places = _Places(root)
    verbs = {verb: _verb(statements, places) for verb, statements in file.verbs.items()}
    indexes = tuple(index for source in file.schema for index in _indexes(source))
    place = places.of(file.path, file.lines.get("queue", 1))
    settings = {name: value for name in sorted(file.given) if (value := _setting(file, name, places)) is not None}
    return TableQueue(place, verbs, _plain_columns(file), indexes, file.fencing, file.queue, settings)


def _setting(file: QueueFile, name: str, places: _Places) -> Value | None:
    """Return a setting that has any effect: maintenance waits for stuck_timeout only where a statement asks for it."""
    if name == "stuck_timeout" and not file.asks(name):
        return None
    value = getattr(file.settings, name)
    told = value / SECOND if name in Settings.duration_names() else value
    place = places.of(file.path, file.lines.get(f"settings.{name}", 1))
    return Value(name, told, place, SettingSource.QUEUE, queue=file.queue)


class _Places:
    """Names lines of files relative to a folder, as far as they lie in it."""

    def __init__(self, root: Path) -> None:
        self._root = root.absolute()

    def of(self, path: str, line: int) -> Place:
        known = Path(path).absolute()
        return Place(known.relative_to(self._root).as_posix() if known.is_relative_to(self._root) else path, line)


class _Word:
    """A word or sign of SQL in lower case, how deep it stands in parentheses, and where."""

    __slots__ = ("at", "depth", "text")

    def __init__(self, text: str, depth: int, at: int) -> None:
        self.text, self.depth, self.at = text, depth, at


def _words(source: SqlSource, begin: int = 0, end: int | None = None) -> list[_Word]:
    depth, found = 0, []
    for token in code(source.text):
        if token.at < begin or (end is not None and token.at >= end):
            continue
        depth -= token.text == ")"
        found.append(_Word("''" if token.kind in ("text", "dollar") else token.name, depth, token.at))
        depth += token.text == "("
    return found


def _verb(statements: Sequence[Statement], places: _Places) -> TableVerb:
    assigned: set[str] = set()
    compared: set[str] = set()
    claim: dict[str, object] = {}
    for number, statement in enumerate(statements):
        begin = statement.offsets[0][1]
        end = statements[number + 1].offsets[0][1] if number + 1 < len(statements) else None
        words = _words(statement.source, begin, end)
        assigned |= set(_assigned(words))
        compared |= set(_compared(words))
        claim = claim or _order(words, statement.source, places)
    place = places.of(statements[0].source.path, int(statements[0].source.place().rpartition(":")[2]))
    return TableVerb(place, frozenset(assigned), frozenset(compared), **claim)  # type: ignore[arg-type]


def _assigned(words: list[_Word]) -> Iterator[str]:
    """List what UPDATE ... SET sets."""
    for at, word in enumerate(words):
        if word.text != "set" or not any(other.text == "update" for other in words[:at]):
            continue
        begins = True
        for one, following in zip(words[at + 1 :], words[at + 2 :], strict=False):
            if one.depth < word.depth or (one.depth == word.depth and one.text in _ENDS):
                break
            if one.depth == word.depth and begins and following.text == "=":
                yield one.text
            begins = one.depth == word.depth and one.text == ","


def _compared(words: list[_Word]) -> Iterator[str]:
    """List the words in the condition of an UPDATE or a DELETE that stands by itself."""
    if not words or words[0].text not in ("update", "delete"):
        return
    where = next((at for at, word in enumerate(words) if word.text == "where" and word.depth == 0), None)
    for word in words[where + 1 :] if where is not None else ():
        if word.depth == 0 and word.text == "returning":
            return
        yield word.text


def _order(words: list[_Word], source: SqlSource, places: _Places) -> dict[str, object]:
    """Return by what a SELECT orders, from which table, and what it compares with something fixed."""
    for at, (one, two) in enumerate(pairwise(words)):
        if (one.text, two.text) != ("order", "by"):
            continue
        ends = (n for n, word in enumerate(words) if n > at + 1 and (word.depth < one.depth or word.text in _ENDS))
        columns = tuple(_columns(words[at + 2 : next(ends, len(words))]))
        if None in columns:
            return {}
        before = [word for word in words[:at] if word.depth == one.depth]
        froms = [n for n, word in enumerate(before) if word.text == "from"]
        if not froms or froms[-1] + 1 >= len(before):
            return {}
        equal = {a.text for a, b in pairwise(before) if b.text == "="}
        line = int(source.place(one.at).rpartition(":")[2])
        return {
            "order": columns,
            "table": before[froms[-1] + 1].text,
            "equal": frozenset(equal),
            "ordered_at": places.of(source.path, line),
        }
    return {}


def _columns(words: Sequence[_Word]) -> Iterator[OrderedColumn | None]:
    """Read a list of columns, each with its direction; None is an item that is more than a column."""
    item: list[str] = []
    for text in (*(word.text for word in words), ","):
        if text != ",":
            item.append(text)
            continue
        plain = [each for each in item if each not in _DIRECTIONS and not each.endswith("_ops")]
        descending = "desc" in item
        first = "first" in item if "nulls" in item else descending
        is_column = len(plain) == 1 or (len(plain) == 3 and plain[1] == ".")
        yield OrderedColumn(plain[-1], descending, first) if is_column and plain[-1].isidentifier() else None
        item = []


def _plain_columns(file: QueueFile) -> dict[str, str]:
    """Return which column of the table each column of `jobs` is, where it is one and nothing more."""
    words = _words(file.jobs.source)
    shown: dict[str, str] = {}
    item: list[str] = []
    for word in words[1:]:
        if word.depth == 0 and word.text in (",", "from"):
            plain = [text for text in item if text != "as"]
            if len(plain) >= 3 and plain[1] == ".":
                plain = plain[2:]
            if plain and all(text.replace("_", "a").isalnum() for text in plain) and len(plain) <= 2:
                shown[plain[-1]] = plain[0]
            item = []
            if word.text == "from":
                break
        else:
            item.append(word.text)
    return shown


_NO_COLUMNS: Final = frozenset(
    {"case", "when", "then", "else", "end", "is", "not", "null", "and", "or", "as", "now", "interval", "=", "<", "<=",
     ">", ">=", "+", "-", "*", "(", ")", "''", ".", ",", "where"}
)  # fmt: skip


def sweeps_by_lease(file: QueueFile) -> bool:
    """Say whether expire goes by what `jobs` shows as the end of a claim, so that it has nothing to do before that."""
    item: list[str] = []
    for word in _words(file.jobs.source)[1:]:
        if word.depth == 0 and word.text in (",", "from"):
            if item and item[-1] == "lease_until":
                break
            item = []
        else:
            item.append(word.text)
    status = _plain_columns(file).get("status", "status")
    shown = set(item[:-1] or item) - _NO_COLUMNS - {status}
    compared = {word for s in file.verbs.get("expire", ()) for word in _compared(_words(s.source))}
    return bool(shown & compared)


_COUNTED: Final[Mapping[str, tuple[str, ...]]] = {
    "attempts": ("attempt_not_counted", "attempts_changed", "attempt_overrun", "failed_early"),
    "token": ("token_reused",),
}
"""By column of `jobs`, what is found where it changes, or does not, and nothing else."""
_BY_DESIGN: Final[Mapping[Design, tuple[tuple[str, ...], str]]] = {
    Design.COUNTS_AT_THE_END: (_COUNTED["attempts"][:2], "attempts are counted when they fail or are taken back"),
    Design.UNIQUE_WHILE_IT_WAITS: (("unique_key_shared",), "a unique key is free once its job has been claimed"),
    Design.CHECKS_AFTER_THE_CLAIM: (("attempt_overrun",), "a worker that claims a job too often fails it unrun"),
    Design.RUNS_AGAIN: (("terminal_job_revived",), "an operator may run a job again that has completed"),
    Design.KEEPS_ALL_ERRORS: (("completed_with_error",), "a job keeps the errors of earlier attempts"),
    Design.KEEPS_NO_ERROR: (("error_lost",), "only the last error is kept"),
}
"""By design, what is found of it in a file that lacks its word, and when that is the word."""
_LOST_CLAIM: Final = ("stale_complete", "stale_fail", "job_vanished", "lost_update")
_HELD: Final = (
    "If your worker keeps the transaction of its claim open until the job ends, a crash gives the job back: a queue "
    "file cannot say that, so write an adapter (`job-harness docs write_an_adapter`)"
)


def doubts(file: QueueFile) -> dict[str, str]:
    """Name, by anomaly, what about the file may be the cause: a word that it lacks, or what `jobs` shows."""
    computed = file.columns - _plain_columns(file).keys()
    fenced = any(file.asks(name, "complete") for name in ("token", "attempt", "worker"))
    later = {
        anomaly: f"If {when}: `design: [{design}]`"
        for design, (anomalies, when) in _BY_DESIGN.items()
        if design not in file.designs
        for anomaly in anomalies
    }
    held = {} if fenced else dict.fromkeys(_LOST_CLAIM, _HELD)
    if file.takes_back == "never":
        held["job_stuck"] = _HELD
    if Design.COUNTS_AT_THE_END in file.designs and "token" not in file.columns:
        held["token_reused"] = (
            "`jobs` shows no token, and attempts stay the same when a job is taken over: show what each claim writes, "
            "such as locked_at, as token, or write `fencing: false`"
        )
    counted = {
        anomaly: f"`jobs` ({file.place('jobs')}) computes {column}, which may change where your queue counts nothing"
        + (f". {later[anomaly]}" if anomaly in later else "")
        for column in sorted(computed & _COUNTED.keys())
        for anomaly in _COUNTED[column]
    }
    return held | later | counted


def _indexes(source: SqlSource) -> Iterator[tuple[str, tuple[OrderedColumn, ...]]]:
    """List the indexes and primary keys of a schema, each with its table and its columns."""
    words = _words(source)
    table = ""
    for at, word in enumerate(words):
        texts = [other.text for other in words[at : at + 3]]
        if texts[:2] == ["create", "table"]:
            name = (
                words[at + 5] if [w.text for w in words[at + 2 : at + 5]] == ["if", "not", "exists"] else words[at + 2]
            )
            table = name.text
        elif texts[:2] == ["primary", "key"]:
            follows = words[at + 2] if at + 2 < len(words) else None
            if follows is not None and follows.text == "(":
                yield table, _indexed(words, at + 2)
            else:
                yield table, (OrderedColumn(_column_of(words, at), descending=False, nulls_first=False),)
        elif word.text == "index" and any(other.text == "create" for other in words[max(0, at - 2) : at]):
            on = next((n for n in range(at, min(at + 8, len(words))) if words[n].text == "on"), None)
            opening = next((n for n in range(on or 0, len(words)) if words[n].text == "("), None)
            if on is not None and opening is not None:
                of = words[on + 1].text if words[on + 1].text != "only" else words[on + 2].text
                yield of, _indexed(words, opening)


def _column_of(words: list[_Word], at: int) -> str:
    """Return the column in whose definition a word stands."""
    depth = words[at].depth
    begin = next((n for n in range(at, -1, -1) if words[n].text in (",", "(") and words[n].depth <= depth), 0)
    return words[begin + 1].text


def _indexed(words: list[_Word], opening: int) -> tuple[OrderedColumn, ...]:
    """Return the columns in the parentheses of an index, up to the first item that is more than a column."""
    within = takewhile(lambda word: word.depth > words[opening].depth, words[opening + 1 :])
    return tuple(takewhile(lambda each: each is not None, _columns(list(within))))  # type: ignore[arg-type]
