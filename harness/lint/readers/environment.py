"""The environment: `.env` files by folder and profile, files that the user names, and the process's own."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from posixpath import basename, dirname
from typing import Final

from dotenv.parser import parse_stream

from harness.lint.facts import Facts, Service, Unreadable
from harness.lint.place import UNKNOWN, Place, Scalar, Source, Value

DOCUMENTATION: Final = frozenset({"example", "sample", "template", "dist", "defaults", "schema", "test", "ci", "vault"})
"""Suffixes of files that show what to set, or that tests use; nothing runs under them."""

_PLACEHOLDER: Final = re.compile(r"\.\.\.|\$\{|<[\w -]+>|^your[-_ ]", re.IGNORECASE)
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
            facts.unreadable.append(Unreadable(Place(path, line), "this line is no NAME=value"))
        elif not binding.error and binding.key is not None:
            place = Place(path, line)
            values[binding.key] = Value(binding.key, binding.value or "", place, Source.ENVIRONMENT, service)
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
    values = {name: Value(name, text, place, Source.ENVIRONMENT, service) for name, text in environ.items()}
    return Service(service, "production", values, place, named=True)
