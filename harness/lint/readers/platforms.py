"""Platform files: `vercel.json` (crons, function durations) and `render.yaml` (services, crons, variables)."""

from __future__ import annotations

import io
from collections.abc import Iterator
from posixpath import dirname
from typing import Any, Final

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from tree_sitter import Node

from harness.lint.facts import Cron, Facts, Limit, Service, Unreadable
from harness.lint.place import UNKNOWN, Place, Source, Value
from harness.lint.syntax import line_of, pairs_of, parse_json, text_of, unquoted

RENDER_SHUTDOWN_SECONDS: Final = 30
"""What Render grants a stopping service that does not say `maxShutdownDelaySeconds`."""


def read_vercel(path: str, data: bytes, facts: Facts) -> None:
    """Read `crons`, `functions` and `env`."""
    document = parse_json(data)
    if document.broken is not None:
        line, why = document.broken
        facts.unreadable.append(Unreadable(Place(path, line), why))
    for key, _, value in document.pairs:
        if key == "crons" and value.type == "array":
            for entry in value.named_children:
                _cron(path, entry, facts)
        elif key == "functions" and value.type == "object":
            for pattern, _, options in pairs_of(value):
                _duration(path, pattern, options, facts)


def _cron(path: str, entry: Node, facts: Facts) -> None:
    if entry.type != "object":
        return
    texts = {key: (unquoted(value), line_of(value)) for key, _, value in pairs_of(entry)}
    target, line = texts.get("path", ("", line_of(entry)))
    schedule, _ = texts.get("schedule", ("", line))
    facts.crons.append(Cron(target, schedule, Place(path, line), dirname(path)))


def _duration(path: str, pattern: str, options: Node, facts: Facts) -> None:
    for key, _, value in pairs_of(options) if options.type == "object" else ():
        if key == "maxDuration" and value.type == "number":
            place = Place(path, line_of(value))
            where = f"{dirname(path)}/{pattern}".lstrip("/")
            facts.limits.append(Limit("function", float(text_of(value).replace("_", "")), place, pattern=where))


def read_render(path: str, text: str, facts: Facts) -> None:
    """Read services with their variables, crons, and how long each may take to stop."""
    try:
        document = YAML(typ="rt").load(io.StringIO(text))
    except MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark is not None else 1
        facts.unreadable.append(Unreadable(Place(path, line), f"is no YAML: {error.problem}"))
        return
    except (YAMLError, ValueError, RecursionError) as error:
        facts.unreadable.append(Unreadable(Place(path, 1), f"is no YAML: {type(error).__name__}"))
        return
    if not isinstance(document, CommentedMap):
        return
    groups = {_text(group.get("name")): group for group in _maps(document, "envVarGroups")}
    for service in _maps(document, "services"):
        _service(path, service, groups, facts)


def _maps(owner: CommentedMap, key: str) -> Iterator[CommentedMap]:
    found = owner.get(key)
    yield from (item for item in found if isinstance(item, CommentedMap)) if isinstance(found, list) else ()


def _text(value: Any) -> str:
    """Write a scalar; nothing else, since aliases can make a small file enormous."""
    return str(value) if isinstance(value, (str, int, float)) else ""


def _line(owner: CommentedMap, key: str) -> int:
    try:
        return int(owner.lc.key(key)[0]) + 1
    except (KeyError, AttributeError, TypeError):
        return int(owner.lc.line) + 1


def _service(path: str, service: CommentedMap, groups: dict[str, CommentedMap], facts: Facts) -> None:
    name = _text(service.get("name")) or "service"
    place = Place(path, _line(service, "name"))
    values: dict[str, Value] = {}
    complete = True
    for item in _maps(service, "envVars"):
        group = item.get("fromGroup")
        if group is not None:
            shared = groups.get(_text(group))
            complete = complete and shared is not None
            for inner in _maps(shared, "envVars") if shared is not None else ():
                _variable(path, name, inner, values)
        else:
            _variable(path, name, item, values)
    facts.services.append(Service(name, "production", values, place, complete=complete))
    kind = service.get("type")
    if kind == "cron" and isinstance(service.get("schedule"), str):
        command = _text(service.get("startCommand", service.get("dockerCommand")))
        facts.crons.append(Cron(command, service["schedule"], Place(path, _line(service, "schedule"))))
    elif kind in ("worker", "web", "pserv"):
        delay = service.get("maxShutdownDelaySeconds", RENDER_SHUTDOWN_SECONDS)
        if isinstance(delay, (int, float)):
            line = _line(service, "maxShutdownDelaySeconds" if "maxShutdownDelaySeconds" in service else "name")
            facts.limits.append(Limit("shutdown", float(delay), Place(path, line), service=name))


def _variable(path: str, service: str, item: CommentedMap, values: dict[str, Value]) -> None:
    key = item.get("key")
    if not isinstance(key, str):
        return
    written: Any = item.get("value")
    known = isinstance(written, (str, int, float))
    text = str(written).lower() if isinstance(written, bool) else _text(written)
    place = Place(path, _line(item, "value" if known else "key"))
    values[key] = Value(key, text if known else UNKNOWN, place, Source.ENVIRONMENT, service)
