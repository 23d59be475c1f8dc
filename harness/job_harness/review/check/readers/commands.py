"""Commands that start Celery's workers and its beat, wherever a deployment writes them; what is not read is named."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from posixpath import basename
from typing import Any, Final, NamedTuple

from ruamel.yaml.comments import CommentedMap

from job_harness.review.check.facts import Facts, Place, ProcessCommand, Scalar, SettingSource, Value
from job_harness.review.check.readers.deployment import line_of_key, yaml_documents

_PROGRAMS: Final = ("worker", "beat")
_BEFORE: Final = frozenset({"-A", "--app", "-b", "--broker", "--result-backend", "--loader", "--config", "--workdir"})
"""Options of `celery` itself that take the next word."""
_OPTIONS: Final[Mapping[str, str]] = {
    "-Q": "queues",
    "--queues": "queues",
    "-X": "exclude_queues",
    "--exclude-queues": "exclude_queues",
    "--time-limit": "time_limit",
    "--soft-time-limit": "soft_time_limit",
    "-c": "concurrency",
    "--concurrency": "concurrency",
    "-P": "pool",
    "--pool": "pool",
    "-S": "scheduler",
    "-s": "schedule",
    "--scheduler": "scheduler",
}
_VARIABLE: Final = re.compile(r"[$`]|\{\{|%\(")
_ENDS: Final = re.compile(r"[;&|()<>]+")
_ASSIGNED: Final = re.compile(r"^\s*[\w.-]+\s*[:=]\s*")
_EXEC: Final = re.compile(r"^\s*(?:CMD|ENTRYPOINT)\s*(\[.*\])\s*$")
_SECTION: Final = re.compile(r"^\s*\[[^\]]+\]\s*$")
_PROCESSES: Final = re.compile(r"^\s*numprocs\s*=\s*(\d+)\s*$", re.MULTILINE)
_NAMED: Final = re.compile(r"(?<![\w.-])celery[\s\"',\]]")
_UNPARSED: Final = re.compile(r"(?<![\w.-])celery[\s\"',][^\n]*\b(worker|beat)\b")
_SHELL: Final = frozenset({"command", "entrypoint", "args", "startCommand", "dockerCommand", "run"})
_TOGETHER: Final = re.compile(r"^(Procfile|render\.ya?ml|(docker-)?compose[\w.-]*\.ya?ml|supervisor[\w.-]*\.conf)$")
"""Files of which all processes run side by side."""


class _Found(NamedTuple):
    program: str
    options: dict[str, str]
    whole: bool


def read_commands(path: str, text: str, facts: Facts) -> None:
    """Read the commands of a Procfile, a script, a unit, a Makefile, a Dockerfile or an INI file of supervisor."""
    lines = text.splitlines()
    start, processes = 0, 1
    while start < len(lines):
        end = start
        while lines[end].rstrip().endswith("\\") and end + 1 < len(lines):
            end += 1
        if _SECTION.match(lines[start]):
            below = [number for number in range(start + 1, len(lines)) if _SECTION.match(lines[number])]
            told = _PROCESSES.search("\n".join(lines[start : below[0] if below else len(lines)]))
            processes = int(told[1]) if told is not None else 1
        line = " ".join(one.rstrip().removesuffix("\\") for one in lines[start : end + 1])
        if "celery" in line and not line.lstrip().startswith(("#", ";")):
            _note(_words_of(line), Place(path, start + 1), processes, facts)
        start = end + 1


def _words_of(line: str) -> list[str]:
    listed = _EXEC.match(line)
    if listed is not None:
        try:
            return [str(word) for word in json.loads(listed[1])]
        except (ValueError, RecursionError):
            return []
    return _split(_ASSIGNED.sub("", line))


def _split(text: str) -> list[str]:
    """Break a line into words as a shell does; signs between two commands are words."""
    reader = shlex.shlex(text, posix=True, punctuation_chars=True)
    reader.whitespace_split = True
    try:
        return list(reader)
    except ValueError:
        return text.split()


def read_processes(path: str, text: str, facts: Facts) -> None:
    """Read the commands of a YAML file: of compose, Kubernetes, Render, and what is like them."""
    if not _NAMED.search(text):
        return
    documents = yaml_documents(text)
    found = _UNPARSED.search(text) if documents is None else None
    if found is not None:
        facts.passed_by.append((Place(path, text.count("\n", 0, found.start()) + 1), "the file is no plain YAML"))
    for owner, processes in _started(documents or []):
        named = sorted((key for key in owner if key in _SHELL), key=_order)
        words = [word for key in named for word in _words(owner[key])]
        if any("celery" in word for word in words):
            _note(words, Place(path, line_of_key(owner, named[0])), processes, facts)


def _order(key: str) -> int:
    return ("entrypoint", "command", "args").index(key) if key in ("entrypoint", "command", "args") else 3


def _words(value: Any) -> list[str]:
    if isinstance(value, list):
        return [str(word) for word in value if isinstance(word, (str, int, float))]
    return _split(value) if isinstance(value, str) else []


def _started(documents: Sequence[Any]) -> Iterator[tuple[CommentedMap, int]]:
    """List all maps of a file and how many of each are started: of what compose only keeps to be merged, none."""
    seen: set[int] = set()
    for document in documents:
        parts = list(document.items()) if isinstance(document, CommentedMap) else []
        kept = [value for key, value in parts if str(key).startswith("x-")]
        for value in [value for key, value in parts if not str(key).startswith("x-")] if kept else [document]:
            yield from _maps(value, 1, seen)
        for value in kept:
            yield from _maps(value, 0, seen)


def _maps(node: Any, processes: int, seen: set[int]) -> Iterator[tuple[CommentedMap, int]]:
    """List all maps, each once and with how many of it are started: none under a profile of compose."""
    if id(node) in seen:
        return  # An alias; a small file may hold very many.
    if isinstance(node, list):
        seen.add(id(node))
        for item in node:
            yield from _maps(item, processes, seen)
    elif isinstance(node, CommentedMap):
        seen.add(id(node))
        deploy = node.get("deploy")
        told = [node.get("replicas"), node.get("scale"), node.get("numInstances")]
        told.append(deploy.get("replicas") if isinstance(deploy, CommentedMap) else None)
        many = next((one for one in told if isinstance(one, int) and not isinstance(one, bool)), 1)
        here = 0 if "profiles" in node else processes * many
        yield node, here
        for value in node.values():
            yield from _maps(value, here, seen)


def _note(words: Sequence[str], place: Place, processes: int, facts: Facts) -> None:
    together = _TOGETHER.match(basename(place.file)) is not None
    for found in _commands(words):
        if isinstance(found, str):
            facts.passed_by.append((place, found))
            continue
        if not found.whole:
            facts.passed_by.append((place, "a part of the command is a variable"))
        options = {
            name: Value(name, name == "beat" or _scalar(text), place, SettingSource.CONSTANT)
            for name, text in found.options.items()
        }
        facts.commands.append(ProcessCommand(found.program, options, place, processes, found.whole, together))


def _scalar(text: str) -> Scalar:
    return float(text) if re.fullmatch(r"[0-9]{1,12}(\.[0-9]{1,6})?", text) else text


def _commands(words: Sequence[str]) -> Iterator[_Found | str]:
    """List the commands of Celery among words; for one that cannot be read, the reason."""
    for at, word in enumerate(words):
        if "celery" in word and " " in word.strip():
            yield from _commands(_split(word))
        elif basename(word) == "celery" and not _follows_app(words, at):
            yield from _command(words[at + 1 :])


def _follows_app(words: Sequence[str], at: int) -> bool:
    return at > 0 and words[at - 1] in _BEFORE


def _command(words: Sequence[str]) -> Iterator[_Found | str]:
    rest = []
    for word in words:
        if _ENDS.fullmatch(word):
            break
        rest.append(word)
    program, at = "", 0
    while at < len(rest) and not program:
        if rest[at].startswith("-"):
            at += 2 if rest[at] in _BEFORE else 1
        else:
            program = rest[at]
    if program == "multi" or _VARIABLE.search(program):
        yield "celery multi is not read" if program == "multi" else "what it starts is a variable"
    elif program in _PROGRAMS:
        options = _options(rest[:at] + rest[at + 1 :])
        yield _Found(program, options, not any(_VARIABLE.search(word) for word in rest))


def _options(words: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for at, word in enumerate(words):
        name, sign, value = word.partition("=")
        following = words[at + 1] if at + 1 < len(words) else ""
        if word in ("-B", "--beat"):
            found["beat"] = "1"
        elif name in ("-A", "--app"):
            found["app"] = value if sign else following
        elif name in _OPTIONS:
            found[_OPTIONS[name]] = value if sign else following
        elif re.match(r"-[QcX][^-=]", word):
            found[_OPTIONS[word[:2]]] = word[2:]
    return found
