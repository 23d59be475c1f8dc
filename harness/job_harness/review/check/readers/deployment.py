"""What a deployment sets: `.env` files and named environments, `vercel.json`, `render.yaml`."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from posixpath import basename, dirname
from typing import Any, Final

from dotenv.parser import parse_stream
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from tree_sitter import Node

from job_harness.review.check.facts import (
    UNKNOWN,
    Cron,
    Facts,
    Limit,
    Place,
    Scalar,
    Service,
    SettingSource,
    Unreadable,
    Value,
)
from job_harness.review.check.typescript import is_template, line_of, pairs_of, parse_json, text_of, unquoted

DOCUMENTATION: Final = frozenset({"example", "sample", "template", "dist", "defaults", "schema", "test", "ci", "vault"})
"""Suffixes of files that show what to set, or that tests use; nothing runs under them."""

_PLACEHOLDER: Final = re.compile(
    r"\.\.\.|\$\{|<[\w -]+>|^your[-_ ]|^(encrypted|vault|op|secret|enc\[)[:/]|^ENC\[", re.IGNORECASE
)
_REFERENCE: Final = re.compile(r"\$\{|^\$[A-Za-z_]|://\S*\$[A-Za-z_]")
"""A variable that stands in place of a value, or of a part of a URL: what reads the file fills it in."""
PRODUCTION: Final = frozenset({"", "production", "prod"})


def is_documentation(path: str) -> bool:
    """Tell files that no deployment reads."""
    return not DOCUMENTATION.isdisjoint(basename(path).split(".")[2:])


def is_placeholder(text: str) -> bool:
    """Tell what documentation writes where a value belongs, and what another variable fills in."""
    return _PLACEHOLDER.search(text) is not None


def read_variables(path: str, text: str, facts: Facts, *, service: str = "") -> dict[str, Value]:
    """Read one file of `NAME=value` lines; the last line of a name counts, as everywhere."""
    values: dict[str, Value] = {}
    broken = False
    for binding in parse_stream(io.StringIO(text)):
        skipped = binding.original.string[: len(binding.original.string) - len(binding.original.string.lstrip())]
        line = binding.original.line + skipped.count("\n")
        if binding.error and not broken:
            broken = True
            facts.unreadable.append(Unreadable(Place(path, line), "this line is not NAME=value"))
        elif not binding.error and binding.key is not None:
            text = binding.value or ""
            told = UNKNOWN if _REFERENCE.search(text) else text
            values[binding.key] = Value(binding.key, told, Place(path, line), SettingSource.ENVIRONMENT, service)
    return values


def services_of(files: Mapping[str, Mapping[str, Value]]) -> Iterable[Service]:
    """Put `.env` files together, one service for each folder and profile: `.env` lies below `.env.production`.

    `.env` and `.env.production` are one service; what `.env.local` or `.env.staging` change is another.
    """
    folders: dict[str, dict[str, str]] = {}
    for path in files:
        folders.setdefault(dirname(path), {})[basename(path).removeprefix(".env").removeprefix(".")] = path
    for folder, profiles in folders.items():
        base = dict(files[profiles[""]]) if "" in profiles else {}
        production = sorted(PRODUCTION & profiles.keys())
        merged = dict(base)
        for profile in production:
            merged.update(files[profiles[profile]])
        if production:
            place = Place(profiles[production[0]], 1)
            yield Service(folder or "repository", "production", _owned(merged, folder), place)
        for profile, path in profiles.items():
            if profile not in PRODUCTION:
                changed = {**merged, **files[path]}
                yield Service(folder or "repository", profile, _owned(changed, folder), Place(path, 1), complete=False)


def _owned(values: Mapping[str, Value], folder: str) -> dict[str, Value]:
    """Make them the folder's; what stands for a value to be filled in is unknown."""
    service = folder or "repository"
    return {name: replace(value, service=service, value=_known(value.value)) for name, value in values.items()}


def _known(value: Scalar) -> Scalar:
    return UNKNOWN if isinstance(value, str) and is_placeholder(value) else value


def process_environment(environ: Mapping[str, str], *, service: str) -> Service:
    """Make a service of the environment of this process."""
    place = Place("(environment)", 1)
    values = {name: Value(name, text, place, SettingSource.ENVIRONMENT, service) for name, text in environ.items()}
    return Service(service, "production", values, place, named=True)


LARGEST_DELAY: Final = 1e9
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
    deep = too_deep(text)
    if deep is not None:
        facts.unreadable.append(Unreadable(Place(path, deep), "is nested too deeply to be read"))
        return
    try:
        with _only_yaml_errors():
            document = YAML(typ="rt").load(io.StringIO(text))
    except YAMLError as error:
        if not is_template(text.encode("utf-8", "replace")):
            facts.unreadable.append(_broken(path, error))
        return
    if not isinstance(document, CommentedMap):
        return
    groups = {_text(group.get("name")): group for group in _maps(document, "envVarGroups")}
    for service in _maps(document, "services"):
        _service(path, service, groups, facts)


def _broken(path: str, error: Exception) -> Unreadable:
    if not isinstance(error, MarkedYAMLError):
        told = str(error) if type(error) is YAMLError else type(error).__name__
        return Unreadable(Place(path, 1), f"is no YAML: {told}")
    line = error.problem_mark.line + 1 if error.problem_mark is not None else 1
    return Unreadable(Place(path, line), f"is no YAML: {error.problem}")


@contextmanager
def _only_yaml_errors() -> Iterator[None]:
    """Turn whatever the parser raises into an error of YAML: for a scalar that its tag does not fit it has none."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except YAMLError:
        raise
    except Exception as error:  # noqa: BLE001 - KeyError, IndexError, AttributeError, AssertionError and others
        raise YAMLError(type(error).__name__) from None


DEEPEST_YAML: Final = 40


def too_deep(text: str) -> int | None:
    """Return the line at which brackets or indentation are nested deeper than any blueprint; a parser takes minutes."""
    depth = 0
    for number, line in enumerate(text.splitlines(), start=1):
        depth += line.count("[") + line.count("{") - line.count("]") - line.count("}")
        blanks = len(line) - len(line.lstrip(" -?"))
        if depth > DEEPEST_YAML or line.count("[") + line.count("{") > DEEPEST_YAML or blanks > 8 * DEEPEST_YAML:
            return number
    return None


def yaml_documents(text: str) -> list[Any] | None:
    """Return the documents of a file, keys with their lines; None where it is no plain YAML, or nested too deeply."""
    try:
        with _only_yaml_errors():
            return None if too_deep(text) is not None else list(YAML(typ="rt").load_all(io.StringIO(text)))
    except YAMLError:
        return None


def _maps(owner: CommentedMap, key: str) -> Iterator[CommentedMap]:
    found = owner.get(key)
    yield from (item for item in found if isinstance(item, CommentedMap)) if isinstance(found, list) else ()


def _text(value: Any) -> str:
    """Write a scalar; nothing else, since aliases can make a small file enormous."""
    return str(value) if isinstance(value, (str, int, float)) else ""


def line_of_key(owner: CommentedMap, key: str) -> int:
    try:
        return int(owner.lc.key(key)[0]) + 1
    except (KeyError, AttributeError, TypeError):
        return int(owner.lc.line) + 1


def _service(path: str, service: CommentedMap, groups: dict[str, CommentedMap], facts: Facts) -> None:
    name = _text(service.get("name")) or "service"
    place = Place(path, line_of_key(service, "name"))
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
        facts.crons.append(Cron(command, service["schedule"], Place(path, line_of_key(service, "schedule"))))
    elif kind in ("worker", "web", "pserv"):
        delay = service.get("maxShutdownDelaySeconds", RENDER_SHUTDOWN_SECONDS)
        if isinstance(delay, (int, float)) and abs(delay) < LARGEST_DELAY:
            line = line_of_key(service, "maxShutdownDelaySeconds" if "maxShutdownDelaySeconds" in service else "name")
            facts.limits.append(Limit("shutdown", float(delay), Place(path, line), service=name))


def _variable(path: str, service: str, item: CommentedMap, values: dict[str, Value]) -> None:
    key = item.get("key")
    if not isinstance(key, str):
        return
    written: Any = item.get("value")
    known = isinstance(written, (str, int, float))
    text = str(written).lower() if isinstance(written, bool) else _text(written)
    place = Place(path, line_of_key(item, "value" if known else "key"))
    values[key] = Value(key, text if known else UNKNOWN, place, SettingSource.ENVIRONMENT, service)
