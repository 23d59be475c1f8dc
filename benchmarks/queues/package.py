"""An installed package of another project, and the statements that are read from it when a queue file is made.

Knows where a package came from and its text. Must not know: any particular queue, or what is made of the text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from job_harness.errors import EnvironmentUnavailable
from job_harness.worlds.packages import installed as installed_once
from job_harness.worlds.packages import pip_command, run

_PLACEHOLDER: Final = re.compile(r"%\((\w+)\)s")
_DOTTED: Final = re.compile(r"\d+(\.\d+)+")


class RecipeOutdated(Exception):
    """A package no longer has what its recipe reads."""


@dataclass(frozen=True)
class Package:
    """One release in a folder."""

    name: str
    version: str
    folder: Path

    def text(self, path: str) -> str:
        """Return a file of it."""
        try:
            return (self.folder / path).read_text(encoding="utf-8")
        except OSError as error:
            raise RecipeOutdated(f"{self.name} {self.version} has no {path}") from error

    def one(self, path: str, pattern: str) -> str:
        """Return the first group of the only match of `pattern` in a file."""
        found = re.findall(pattern, self.text(path), re.DOTALL)
        if len(found) != 1:
            raise RecipeOutdated(
                f"{path} of {self.name} {self.version} has {len(found)} places like {pattern!r}, not 1"
            )
        return str(found[0])


def with_parameters(sql: str, named: Mapping[str, str]) -> str:
    """Write the queue file's parameters in place of a driver's; one that is missing, or needless, is an error."""
    asked = set(_PLACEHOLDER.findall(sql))
    if asked != set(named):
        raise RecipeOutdated(f"the statement asks for {sorted(asked)}, and the recipe has {sorted(named)}")
    return _PLACEHOLDER.sub(lambda found: named[found[1]], sql)


def with_values(sql: str, *values: str) -> str:
    """Write the queue file's parameters in place of a driver's `%s`, in their order."""
    parts = sql.split("%s")
    if len(parts) != len(values) + 1:
        raise RecipeOutdated(f"the statement asks for {len(parts) - 1} values, and the recipe has {len(values)}")
    return "".join(f"{part}{value}" for part, value in zip(parts, (*values, ""), strict=True))


def replaced(sql: str, old: str, new: str) -> str:
    """Replace the only place of a text."""
    if sql.count(old) != 1:
        raise RecipeOutdated(f"{old!r} is there {sql.count(old)} times, not once")
    return sql.replace(old, new)


def block(key: str, sql: str) -> str:
    """Return a key of a queue file with its SQL."""
    lines = "\n".join(f"  {line}" if line.strip() else "" for line in sql.strip().rstrip(";").splitlines())
    return f"{key}: |\n{lines}\n"


def files_of(name: str, wanted: str) -> Package:
    """Install a release for its text alone, whatever Python it asks for."""
    version = wanted if _DOTTED.fullmatch(wanted) else _newest(name)

    def install(folder: Path) -> None:
        options = ["--quiet", "--disable-pip-version-check", "--no-input", "--only-binary=:all:", "--no-deps"]
        newest = ["--python-version", "3.14", "--target", str(folder)]
        command = [*pip_command(), "install", *options, *newest, f"{name}=={version}"]
        run(command, seconds=300, what=f"{name}=={version} cannot be installed", hint="Does the index answer?")

    return Package(name, version, installed_once("texts", f"{name}@{version}", install))


def _newest(name: str) -> str:
    options = ["--disable-pip-version-check", "--only-binary=:all:", "--python-version", "3.14"]
    command = [*pip_command(), "index", "versions", name, *options]
    told = run(command, seconds=60, what=f"the versions of {name} are unknown", hint="Does the index answer?")
    found = re.search(r"Available versions: (\S+?)(,|\n|$)", told)
    if found is None:
        raise EnvironmentUnavailable(f"no version of {name} is known here", hint="Does the index answer?")
    return found[1]


def debian_package(name: str) -> Package:
    """Return a package of Debian that is installed on this machine; its folder is that of its own gem."""
    asked = ["dpkg-query", "--show", "--showformat", "${Version}", name]
    version = run(asked, seconds=60, what=f"{name} is not here", hint=f"Install it with: apt-get install {name}")
    files = run(["dpkg-query", "--listfiles", name], seconds=60, what=name, hint="").splitlines()
    gem = next((file for file in files if re.search(r"/gems/[^/]+$", file)), None)
    if gem is None:
        raise RecipeOutdated(f"{name} {version} has no gem")
    return Package(name, version, Path(gem))
