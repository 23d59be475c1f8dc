"""SQL as PostgreSQL reads it: one lexer, and what a statement's text alone says of it.

Every reader of SQL stands on `tokens`: what names a gate, what looks for the tables that a
statement changes, what checks a schema, what runs a queue in a file. So what stands in a comment, a
text or a name in quotes is the same for all of them. Must not know: connections, jobs, what a
statement is good for.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Final, NamedTuple

# tokens ---------------------------------------------------------------------------------------------------------------

_TOKEN: Final = re.compile(
    r"""(?P<space>\s+)
    |(?P<text>[eE]'(?:[^'\\]|\\.|'')*'|'[^']*(?:''[^']*)*')
    |(?P<word>[^\W\d][\w$]*)
    |(?P<quoted>"[^"]*(?:""[^"]*)*")
    |(?P<comment>--[^\n]*|/\*)
    |(?P<dollar>\$(?P<tag>(?:[^\W\d]\w*)?)\$.*?\$(?P=tag)\$)
    |(?P<parameter>\$\d+)
    |(?P<number>\d+(?:\.\d+)?)
    |(?P<cast>::|:=)
    |(?P<name>:[A-Za-z_]\w*)
    |(?P<end>;)
    |(?P<sign>.)""",
    re.VERBOSE | re.DOTALL,
)
_COMMENT_MARK: Final = re.compile(r"/\*|\*/")


class Token(NamedTuple):
    """A piece of SQL: what it is, the piece, where it begins, and in which line (from 1).

    `kind` is `space`, `comment`, `word`, `quoted` (a name), `text`, `dollar`, `number`, `parameter` (`$1`), `name`
    (`:name`), `cast`, `end` (`;`) or `sign`. Whatever ends nowhere is signs and words: only PostgreSQL can say more.
    """

    kind: str
    text: str
    at: int
    line: int

    @property
    def is_aside(self) -> bool:
        """Whether it is white space or a comment."""
        return self.kind in ("space", "comment")

    @property
    def name(self) -> str:
        """The name it is, folded as PostgreSQL folds it."""
        return self.text[1:-1].replace('""', '"') if self.kind == "quoted" else self.text.lower()

    @property
    def body(self) -> str:
        """What stands between the tags of dollar quotes."""
        begin = self.text.index("$", 1) + 1
        return self.text[begin:-begin]

    def says(self, *words: str) -> bool:
        """Whether it is one of these words, which are in upper case."""
        return self.kind == "word" and self.text.upper() in words


def tokens(text: str) -> Iterator[Token]:
    """Cut SQL up, without loss. Comments may stand in comments."""
    at, line = 0, 1
    while (found := _TOKEN.match(text, at)) is not None:
        piece = found[0]
        kind = str(found.lastgroup) if found.lastgroup != "tag" else "dollar"
        if piece == "/*":
            piece = text[at : _end_of_comment(text, at)]
        yield Token(kind, piece, at, line)
        at += len(piece)
        line += piece.count("\n")


def _end_of_comment(text: str, at: int) -> int:
    depth = 0
    for mark in _COMMENT_MARK.finditer(text, at):
        depth += 1 if mark[0] == "/*" else -1
        if depth == 0:
            return mark.end()
    return len(text)


def code(text: str) -> list[Token]:
    """List the tokens that are neither white space nor comments."""
    return [token for token in tokens(text) if not token.is_aside]


def words(text: str) -> list[str]:
    """List the words of SQL in lower case, without what stands in quotes or comments."""
    return [token.text.lower() for token in tokens(text) if token.kind in ("word", "name")]


def without_comments(text: str) -> str:
    """Return SQL with blanks for its comments: every other character keeps its place."""
    return "".join(re.sub(r"[^\n]", " ", t.text) if t.kind == "comment" else t.text for t in tokens(text))


def substitute(text: str, pattern: re.Pattern[str], new: Callable[[re.Match[str]], str]) -> str:
    """Replace what matches where a word of code begins: in bodies in dollar quotes too, and no column of a table."""
    parts: list[str] = []
    end, before = 0, ""
    for token in tokens(text):
        if token.at < end:
            continue
        found = pattern.match(text, token.at) if token.kind == "word" and before != "." else None
        part = token.text if found is None else new(found)
        if token.kind == "dollar":
            tag = token.text[: token.text.index("$", 1) + 1]
            part = f"{tag}{substitute(token.body, pattern, new)}{tag}"
        parts.append(part)
        end = token.at + len(token.text) if found is None else found.end()
        before = before if token.is_aside else token.text
    return "".join(parts)


# what a statement says of itself --------------------------------------------------------------------------------------

POINT_LENGTH: Final = 60
_REMEMBERED: Final = 2048
"""At most this many statements are remembered: each stands at many gates, and is read once."""
_TOO_LONG: Final = 10_000
"""A statement of more characters than this is not remembered: it carries data, and does not come again."""
_BRIEFLY: Final = {"space": " ", "comment": " ", "text": "''", "dollar": "''"}
_OF_ITS_OWN: Final = re.compile(
    r"(begin|start|commit|end|rollback|abort|savepoint|release|prepare transaction|vacuum|reindex|cluster|"
    r"create\s+database|drop\s+database|alter\s+system|(create|drop)\s+(unique\s+)?index\s+concurrently|"
    r"alter\s+table\b.*\bconcurrently|discard\s+all|(create|alter|drop)\s+subscription)\b",
    re.IGNORECASE | re.DOTALL,
)
"""What opens or ends a transaction itself, or may not stand in one."""
_OTHERWISE_IN_ONE: Final = re.compile(r"\s*(lock|declare|call|do\b.*\b(commit|rollback|call))\b", re.I | re.DOTALL)
"""What PostgreSQL refuses outside of a transaction, and what may commit within: it is refused in a transaction."""
_CHANGING: Final = {"INSERT": "INTO", "DELETE": "FROM", "MERGE": "INTO"}
_NAMING: Final = {**_CHANGING, "UPDATE": "UPDATE", "SELECT": "FROM", "LOCK": "LOCK", "WITH": "WITH"}
"""By the verb of a statement, the word before the table that names it."""


class _StatementReading(NamedTuple):
    point: str
    changed: tuple[str, ...]
    skeleton: str
    in_transaction: bool
    alone: bool


def point_of(sql: str) -> str:
    """Name a statement for tapes and scenarios: `update tool_job`, `select pgboss.job for update`."""
    return _read(sql).point


def changed_tables(sql: str) -> tuple[str, ...]:
    """List the tables that a statement changes, also in its WITH: no `FOR UPDATE`, and no `DO UPDATE`."""
    return _read(sql).changed


def skeleton(sql: str) -> str:
    """Return a statement for patterns to look at: no comment, `''` for each text, one blank between words."""
    return _read(sql).skeleton


def may_stand_in_a_transaction(sql: str) -> bool:
    """Say whether a statement neither opens nor ends a transaction itself, and may stand in one."""
    return _read(sql).in_transaction


def may_be_put_into_one(sql: str) -> bool:
    """Say whether a statement that stands alone does the same in a transaction that is put around it."""
    return _read(sql).alone


def _read(sql: str) -> _StatementReading:
    return _remembered(sql) if len(sql) < _TOO_LONG else _remembered.__wrapped__(sql)


@lru_cache(maxsize=_REMEMBERED)
def _remembered(sql: str) -> _StatementReading:
    whole = list(tokens(sql))
    said = [token for token in whole if not token.is_aside]
    plain = "".join(" " if token.kind == "comment" else token.text for token in whole)
    brief = " ".join("".join(_BRIEFLY.get(token.kind, token.text) for token in whole).split())
    shown = " ".join(plain.split()).rstrip("; ")[:POINT_LENGTH].strip().lower()
    in_transaction = _OF_ITS_OWN.match(brief) is None
    alone = in_transaction and _OTHERWISE_IN_ONE.match(plain) is None
    return _StatementReading(
        _name_statement(said) or shown or "empty statement", _changed(said), brief, in_transaction, alone
    )


def _name_statement(said: Sequence[Token]) -> str:
    """Return what a statement is called by its verb and table; empty where it has no such name."""
    verb = said[0].text.upper() if said else ""
    places = [at + 1 for at, token in enumerate(said) if token.says(_NAMING.get(verb, ""))]
    names = (_plain(name_at(said, at)[0]) for at in (places if verb == "SELECT" else places[:1]))
    name = next(filter(None, names), "")
    if not name:
        return ""
    if verb == "SELECT" and any(one.says("FOR", "KEY") and two.says("UPDATE") for one, two in pairwise(said)):
        return f"select {name} for update"
    return f"with {name}".lower() if verb == "WITH" else f"{verb.lower()} {name}"


def _changed(said: Sequence[Token]) -> tuple[str, ...]:
    found: list[str] = []
    for at, token in enumerate(said):
        follows = _CHANGING.get(token.text.upper())
        if token.says("UPDATE") and not (at and said[at - 1].says("FOR", "KEY", "DO", "ON")):
            found.append(_plain(name_at(said, at + 1)[0]))
        elif follows is not None and any(token.says(follows) for token in said[at + 1 : at + 2]):
            found.append(_plain(name_at(said, at + 2)[0]))
        elif token.kind == "dollar" and said[0].says("DO"):
            found.extend(_changed(code(token.body)))
    return tuple(filter(None, found))


def _plain(name: Sequence[Token]) -> str:
    return ".".join(part.text for part in name).replace('"', "")


def name_at(said: Sequence[Token], at: int) -> tuple[list[Token], int]:
    """Return the parts of the name that stands there, and where it ends; none where no name stands there."""
    while at < len(said) and said[at].says("IF", "NOT", "EXISTS", "ONLY", "TABLE", "RECURSIVE"):
        at += 1
    parts: list[Token] = []
    while at < len(said) and said[at].kind in ("word", "quoted"):
        parts.append(said[at])
        at += 1
        if at == len(said) or said[at].text != ".":
            break
        at += 1
    return parts, at
