"""YAML 1.2 text to plain data, with the line of every value, and what is wrong with a file, and where. Knows no
scenario.

The core schema is read strictly: only `true` and `false` are booleans, only digits are numbers, no
dates, no merge keys, no tags, keys are text. Aliases are allowed within a bound on what they expand
to.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeAlias

from job_harness.core.yaml_files import LARGEST
from job_harness.errors import UsageError, bounded

if TYPE_CHECKING:  # To load it takes longer than most of a command; a search that finds nothing reads no YAML.
    from ruamel.yaml.error import MarkedYAMLError
    from ruamel.yaml.events import ScalarEvent

# what is wrong, and where ---------------------------------------------------------------------------------------------


MOST_SHOWN = 20


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One thing that is wrong: the line, what it is, and what would have been accepted."""

    line: int
    """From 1; 0: the file as a whole."""
    message: str

    def locate(self, where: str) -> str:
        """Say it as `file:line: message`."""
        return f"{where}:{self.line}: {self.message}" if self.line else f"{where}: {self.message}"


class ScenarioError(UsageError):
    """A file is no scenario. The message has one `file:line: ...` for each problem, in the order of the file."""

    def __init__(self, path: str, problems: Iterable[Problem]) -> None:
        self.path = path
        self.problems = tuple(sorted({Problem(each.line, bounded(each.message)) for each in problems}))
        where = path or "scenario"
        shown = [problem.locate(where) for problem in self.problems[:MOST_SHOWN]]
        if len(self.problems) > MOST_SHOWN:
            shown.append(f"{where}: and {len(self.problems) - MOST_SHOWN} more problems")
        super().__init__("\n".join(shown))


def show_value(value: object) -> str:
    """Show an offending value on one line, shortened."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


# YAML -----------------------------------------------------------------------------------------------------------------


MOST_VALUES = 100_000
"""Values that a document may have once its aliases are expanded."""
DEEPEST = 60
"""Levels of nesting."""
_TOO_DEEP = f"nested deeper than {DEEPEST} levels, the most accepted"

Path: TypeAlias = tuple[str | int, ...]

_INT = re.compile(r"[-+]?[0-9]+")
_OCTAL = re.compile(r"0o[0-7]+")
_HEX = re.compile(r"0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NO_JSON = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_CONSTANTS: dict[str, Any] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}


@dataclass(frozen=True, slots=True)
class YamlDocument:
    """Plain data, and the line (from 1) of every path in it; a mapping's entry is where its key is."""

    data: Any
    lines: dict[Path, int]

    def line(self, path: Path) -> int:
        """Return the line of a path, or of the nearest thing around it."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)


@dataclass(slots=True)
class _Node:
    """A parsed value; `size` and `levels` count what its aliases expand to."""

    line: int
    value: Any
    size: int = 1
    levels: int = 0
    """How deeply values are nested in it."""


class Wrong(Exception):
    """A problem that ends the reading of this document."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.problem = Problem(line, message)


def plain_scalar(text: str) -> Any:
    """Resolve an unquoted scalar under the core schema of YAML 1.2.

    Raises ValueError for numbers that JSON does not have or that have too many digits.
    """
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if _INT.fullmatch(text):
        if len(text) > 1000:
            raise ValueError("a number of more than 1000 digits")
        return int(text)
    if _OCTAL.fullmatch(text):
        return int(text[2:], 8)
    if _HEX.fullmatch(text):
        return int(text[2:], 16)
    if _FLOAT.fullmatch(text) and float(text) not in (float("inf"), float("-inf")):
        return float(text)
    if _NO_JSON.fullmatch(text) or _FLOAT.fullmatch(text):
        raise ValueError("JSON has no such number")
    return text


def read_document(raw: bytes, path: str) -> YamlDocument:
    """Read one YAML document.

    Raises ScenarioError naming the line where the text is no single, bounded YAML 1.2 document.
    """
    if len(raw) > LARGEST:
        size = f"{len(raw):,} bytes".replace(",", " ")
        raise ScenarioError(path, [Problem(1, f"the file has {size}; a scenario has at most 1 000 000")])
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        message = f"the byte {raw[error.start]:#04x} is not UTF-8; save the file as UTF-8"
        raise ScenarioError(path, [Problem(line, message)]) from None
    try:
        return _document(text)
    except Wrong as wrong:
        raise ScenarioError(path, [wrong.problem]) from None
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = 1 if mark is None else mark.line + 1
        raise ScenarioError(path, [Problem(line, f"not valid YAML: {_why(error)}")]) from None
    except YAMLError as error:
        at = getattr(error, "position", 0)
        what = f"the character {text[at]!r}" if at < len(text) else "a character"
        message = f"not valid YAML: {what} may not stand in a YAML file; write it as an escape inside quotes"
        raise ScenarioError(path, [Problem(text.count("\n", 0, at) + 1, message)]) from None


@lru_cache(maxsize=256)
def _document(text: str) -> YamlDocument:
    """Read a text, once: a suite meets a scenario as a file, as a case of the conformance, and again in each search.

    The reader is plain Python and takes some ten milliseconds a file. No caller changes what it
    returns.
    """
    return _YamlReading(text).document()


def _why(error: MarkedYAMLError) -> str:
    problem = str(error.problem or "it cannot be read")
    if "'\\t'" in problem:
        return "a tab cannot indent; use spaces"
    return f"{problem} ({error.context})" if error.context else problem


class _YamlReading:
    """One pass over the events of a text."""

    def __init__(self, text: str) -> None:
        from ruamel.yaml import YAML, events

        self._kinds = events
        self._events: Iterator[Any] = iter(YAML(typ="safe", pure=True).parse(text))
        self._anchors: dict[str, _Node | None] = {}
        self._lines: dict[Path, int] = {}
        self._values = 0

    def document(self) -> YamlDocument:
        """Read the only document there is."""
        root: _Node | None = None
        for event in self._events:
            if isinstance(event, self._kinds.DocumentStartEvent):
                if root is not None:
                    raise Wrong(event.start_mark.line + 1, "a second document starts here; one file is one scenario")
                if event.version is not None and tuple(event.version) != (1, 2):
                    raise Wrong(event.start_mark.line + 1, "scenarios are YAML 1.2; remove the %YAML line")
                root = self._node(next(self._events), 0)
        if root is None:
            raise Wrong(1, "the file is empty: begin it with `format: 1`")
        return YamlDocument(self._unfold(root, ()), self._lines)

    def _node(self, event: Any, depth: int) -> _Node:
        line: int = event.start_mark.line + 1
        if isinstance(event, self._kinds.AliasEvent):
            return self._alias(event.anchor, line)
        self._values += 1
        if self._values > MOST_VALUES:
            raise Wrong(line, f"more than {MOST_VALUES} values; a scenario has at most that many")
        if depth > DEEPEST:
            raise Wrong(line, _TOO_DEEP)
        if event.tag is not None and event.tag != "!":
            raise Wrong(line, f"the tag {show_value(event.tag)} is not accepted; write the value without a tag")
        if event.anchor is not None:
            self._anchors[event.anchor] = None
        node = self._untagged(event, line, depth)
        if event.anchor is not None:
            self._anchors[event.anchor] = node
        return node

    def _alias(self, name: str, line: int) -> _Node:
        node = self._anchors.get(name)
        if node is None:
            why = "contains itself" if name in self._anchors else "was never anchored above"
            raise Wrong(line, f"the alias *{name} {why}")
        return node

    def _untagged(self, event: Any, line: int, depth: int) -> _Node:
        if isinstance(event, self._kinds.ScalarEvent):
            return self._scalar(event, line)
        if isinstance(event, self._kinds.SequenceStartEvent):
            items = [self._node(item, depth + 1) for item in self._until(self._kinds.SequenceEndEvent)]
            return self._bounded(line, items, items)
        assert isinstance(event, self._kinds.MappingStartEvent)
        return self._mapping(line, depth)

    def _until(self, end: type[Any]) -> Iterator[Any]:
        for event in self._events:
            if isinstance(event, end):
                return
            yield event

    def _mapping(self, line: int, depth: int) -> _Node:
        entries: dict[str, tuple[int, _Node]] = {}
        for event in self._until(self._kinds.MappingEndEvent):
            at = event.start_mark.line + 1
            if not isinstance(event, self._kinds.ScalarEvent):
                raise Wrong(at, "a key is text, not a list, a mapping or an alias")
            key = event.value
            if key == "<<" and event.style is None:
                raise Wrong(at, "merge keys (<<) are not part of YAML 1.2; write the entries out")
            if key in entries:
                raise Wrong(at, f"the key {show_value(key)} was already given on line {entries[key][0]}")
            entries[key] = (at, self._node(next(self._events), depth + 1))
        return self._bounded(line, entries, [node for _, node in entries.values()])

    def _bounded(self, line: int, value: Any, inside: list[_Node]) -> _Node:
        size = 1 + sum(node.size for node in inside)
        levels = max((1 + node.levels for node in inside), default=0)
        if size > MOST_VALUES:
            raise Wrong(line, f"its aliases expand to more than {MOST_VALUES} values, the most accepted")
        if levels > DEEPEST:
            raise Wrong(line, _TOO_DEEP)
        return _Node(line, value, size, levels)

    def _scalar(self, event: ScalarEvent, line: int) -> _Node:
        if event.style is not None or event.tag == "!":
            return _Node(line, event.value)
        try:
            return _Node(line, plain_scalar(event.value))
        except ValueError as error:
            raise Wrong(line, f"{show_value(event.value)} is not accepted: {error}") from None

    def _unfold(self, node: _Node, path: Path) -> Any:
        self._lines.setdefault(path, node.line)
        if isinstance(node.value, list):
            return [self._unfold(item, (*path, index)) for index, item in enumerate(node.value)]
        if isinstance(node.value, dict):
            unfolded: dict[str, Any] = {}
            for key, (line, value) in node.value.items():
                self._lines[(*path, key)] = line
                unfolded[key] = self._unfold(value, (*path, key))
            return unfolded
        return node.value
