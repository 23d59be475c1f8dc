"""`job-harness doctor`: what is installed, which engines can run here and why others cannot, and what repairs each.

Every answer is that of the code which is asked when an engine is opened: `extras`, the providers of
PostgreSQL, the search for Node, npm and pip. Nothing is started, unless `--try` says so. Must not
know: how any of them looks.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

from job_harness import __version__
from job_harness.core.extensions import offered
from job_harness.core.own_code import PACKAGE
from job_harness.doors.cli.output import output_files, show_lines
from job_harness.errors import EnvironmentUnavailable, ExitCode, HarnessError
from job_harness.extras import BROUGHT_BY, install
from job_harness.report.screen import WIDTH, Line
from job_harness.search.targets import NEEDS, NPM, PIP, POSTGRES, REDIS, engine_names, open_engine
from job_harness.worlds.private import cache_folder

FORMAT: Final = "job-harness-doctor"
VERSION: Final = 1
CORE: Final = ("memory", "pytest plugin")
"""What has to work wherever job-harness is installed."""


class Health(StrEnum):
    """Whether something can be used."""

    OK = "ok"
    UNUSED = "unused"
    """It is not there, and something else does its work."""
    MISSING = "missing"
    BROKEN = "broken"
    """It is there, and does not work."""


@dataclass(frozen=True, slots=True)
class Item:
    """One thing that was looked at: `about` says what was found, `repair` is the command that makes it work."""

    part: str
    name: str
    health: Health
    about: str
    repair: str = ""
    short: str = ""
    """What the screen says in the place of `about`, on one line: what was found is told above it."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    add(
        "--try",
        action="store_true",
        dest="really",
        help="also open every engine that can run: starts PostgreSQL, and installs packages of queues into the cache",
    )
    add("--json", metavar="FILE", help="write what was found as JSON; - is standard output")


def execute(arguments: argparse.Namespace) -> int:
    """Look, print, write; return the exit code: 0 where the core can run, whatever else is missing."""
    output = output_files(arguments, "json").get("json")
    items = list(examined(really=arguments.really))
    broken = [item for item in items if item.name in CORE and item.health is not Health.OK]
    code = ExitCode.ENVIRONMENT if broken else ExitCode.PASS
    show_lines(screen(items, broken), sys.stdout)
    if output is not None:
        output.write(as_json(items, code))
    return int(code)


# looking --------------------------------------------------------------------------------------------------------------


def examined(*, really: bool = False) -> Iterator[Item]:
    """Look at everything; `really` opens the engines too."""
    yield from _installation()
    yield from _extras()
    postgres = list(_postgres())
    yield from postgres
    programs = {item.name: item for item in _programs(really=really)}
    yield from programs.values()
    provided = next((item for item in postgres if item.health is Health.OK), None)
    found = {**programs, POSTGRES: provided or _no_postgres(postgres)}
    for name in engine_names():
        item = _engine(name, found)
        yield _opened(item) if really and item.health is Health.OK else item


def _installation() -> Iterator[Item]:
    part = "installation"
    yield Item(part, "job-harness", Health.OK, f"{__version__} in {PACKAGE.rstrip(os.sep)}")
    yield Item(part, "Python", Health.OK, f"{platform.python_version()} ({sys.executable}), {platform.system()}")
    yield _plugin(part)
    try:
        yield Item(part, "cache", Health.OK, str(cache_folder()))
    except EnvironmentUnavailable as error:
        yield Item(part, "cache", Health.BROKEN, error.message, error.hint or "")


def _plugin(part: str) -> Item:
    name, where = "pytest plugin", f"pytest {version('pytest')}, Hypothesis {version('hypothesis')}"
    if "job_harness" not in offered("pytest11"):
        again = f"{sys.executable} -m {install().replace('install', 'install --force-reinstall --no-deps', 1)}"
        return Item(part, name, Health.BROKEN, f"{where}; pytest does not know the plugin", again)
    if os.environ.get("PYTEST_DISABLE_PLUGIN_AUTOLOAD"):
        return Item(
            part,
            name,
            Health.OK,
            f"{where}; PYTEST_DISABLE_PLUGIN_AUTOLOAD is set, so that it is loaded only where it is named",
            "pytest -p job_harness",
        )
    return Item(part, name, Health.OK, where)


def _extras() -> Iterator[Item]:
    for extra in dict.fromkeys(BROUGHT_BY.values()):
        packages = [package for package, brings in BROUGHT_BY.items() if brings == extra]
        lacking = [package for package in packages if importlib.util.find_spec(package) is None]
        if lacking:
            yield Item("extras", extra, Health.MISSING, f"without {', '.join(lacking)}", install(extra))
        else:
            yield Item("extras", extra, Health.OK, ", ".join(f"{one} {_version_of(one)}".rstrip() for one in packages))


def _version_of(package: str) -> str:
    """Return the version of what is imported under a name; empty where the package is called something else."""
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _postgres() -> Iterator[Item]:
    from job_harness.worlds.postgres.provider import prospects

    looked_at = prospects()
    otherwise = Health.UNUSED if any(each.works for each in looked_at) else Health.MISSING
    for each in looked_at:
        health = Health.OK if each.works else otherwise
        yield Item(POSTGRES, each.provider, health, each.reason, each.repair if health is Health.MISSING else "")


def _no_postgres(items: Sequence[Item]) -> Item:
    """Return why there is no PostgreSQL, with the easiest repair."""
    easiest = next(item for item in items if item.name == "embedded")
    return Item(POSTGRES, POSTGRES, Health.MISSING, "there is no PostgreSQL", easiest.repair)


def _programs(*, really: bool) -> Iterator[Item]:
    from job_harness.worlds.clock import prospect
    from job_harness.worlds.packages import find_node, find_npm, find_typescript_node, pip_command

    yield _found("programs", "Node", lambda: str(find_node()))
    yield _found("programs", "Node for TypeScript", lambda: str(find_typescript_node()))
    yield _found("programs", NPM, find_npm)
    yield _found("programs", REDIS, _redis)
    yield _found("programs", PIP, lambda: f"{pip_command()[0]} -m pip")
    yield _found("programs", "clock of processes", lambda: prospect(really=really))


def _redis() -> str:
    """Return the server that a virtual clock can be had with. Raises EnvironmentUnavailable with what is lacking."""
    from job_harness.worlds.redis.server import EXTRA, faketime, programs

    library = faketime()
    for program in programs():
        return f"{program.path}, {library.name}"
    raise EnvironmentUnavailable(
        "there is no redis-server and no valkey-server", hint=f"Install one with: {install(EXTRA)}"
    )


def _found(part: str, name: str, find: Callable[[], str]) -> Item:
    try:
        return Item(part, name, Health.OK, find())
    except HarnessError as error:
        return Item(part, name, Health.MISSING, error.message, _command_in(error.hint))


def _command_in(hint: str | None) -> str:
    """Return the command alone where a hint ends in one: `Install it with: pip install ...`."""
    return (hint or "").rpartition("with: ")[2].partition(", or")[0]


def _engine(name: str, found: dict[str, Item]) -> Item:
    if name not in NEEDS:
        point = offered("job_harness.engines")[name]
        whose = f"{point.dist.name} {point.dist.version}" if point.dist else "another package"
        return Item("engines", name, Health.OK, f"from {whose}; --try shows whether it opens")
    lacking = [item for need in NEEDS[name] if (item := _need(need, name, found)).health is not Health.OK]
    if lacking:
        told = "; ".join(dict.fromkeys(item.about for item in lacking))
        repair = " && ".join(dict.fromkeys(item.repair for item in lacking))
        return Item("engines", name, Health.MISSING, told, repair, f"lacks {', '.join(map(_lacked, lacking))}")
    needs = _needs(name, found)
    uses = [item.about if item.part == "node" else _used(item) for item in needs]
    short = [item.about.partition(" (")[0] if item.part == "node" else _used(item) for item in needs]
    return Item("engines", name, Health.OK, ", ".join(uses) or "needs nothing", short=", ".join(short))


def _needs(name: str, found: dict[str, Item]) -> list[Item]:
    return [_need(need, name, found) for need in NEEDS[name]]


def _used(item: Item) -> str:
    return f"PostgreSQL from {item.name}" if item.part == POSTGRES else item.name


def _lacked(item: Item) -> str:
    """Name what is not there; of a Node, its oldest release that would do."""
    return item.about.partition(" is needed")[0] if item.part == "node" else item.name


def _need(need: str, engine: str, found: dict[str, Item]) -> Item:
    if ":" not in need:
        return found[need]
    from job_harness.worlds.packages import find_node

    module, _, constant = need.partition(":")
    oldest = getattr(import_module(module), constant)
    return _found("node", "Node", lambda: str(find_node(oldest, wanted_by=f"the newest {engine}")))


def _opened(item: Item) -> Item:
    """Open an engine as a run would, and close it."""
    try:
        engine = open_engine(item.name)
        try:
            engine.info.prepare()
            told = engine.info.name if engine.info.name != item.name else "opened"
        finally:
            engine.close()
    except HarnessError as error:
        return Item(item.part, item.name, Health.BROKEN, error.message, error.hint or "")
    return Item(item.part, item.name, Health.OK, f"{told}, {item.about}")


# showing --------------------------------------------------------------------------------------------------------------


_STYLES: Final = {Health.OK: "green", Health.UNUSED: "", Health.MISSING: "yellow", Health.BROKEN: "bold red"}


def screen(items: Sequence[Item], broken: Sequence[Item]) -> list[Line]:
    """Return what is printed: part by part, each with its repair; at last what can run."""
    lines: list[Line] = []
    width = max(len(item.name) for item in items)
    for part in dict.fromkeys(item.part for item in items):
        lines.append(Line(part))
        above = {item.repair for item in items if item.part != part} if part == "engines" else set()
        for item in (item for item in items if item.part == part):
            head = f"  {_word(item):8} {item.name:{width}}  "
            lines += [Line(text, _STYLES[item.health]) for text in _wrapped(head, item.short or item.about)]
            if item.repair and not above.issuperset(item.repair.split(" && ")):
                lines += [Line(f"{'':{len(head)}}repair: {item.repair}")]  # To be copied: one line.
    lines.append(Line(""))
    if broken:
        return [*lines, Line(f"The core cannot run: {', '.join(item.name for item in broken)}.", "bold red")]
    engines = [item for item in items if item.part == "engines"]
    able = sum(item.health is Health.OK for item in engines)
    return [*lines, Line(f"Ready: the core and {able} of {len(engines)} engines.", "green")]


def _word(item: Item) -> str:
    """Return its health in a word: a database for which no DSN is given is not set."""
    return "not set" if item.health is Health.UNUSED and item.name == "dsn" else str(item.health)


def _wrapped(head: str, text: str) -> list[str]:
    indent = " " * len(head)
    lines = textwrap.wrap(text, WIDTH - len(head), break_long_words=False, break_on_hyphens=False)
    return [f"{head}{lines[0]}", *(f"{indent}{line}" for line in lines[1:])]


def as_json(items: Sequence[Item], code: ExitCode) -> str:
    """Write it as JSON."""
    found: list[dict[str, Any]] = [
        {
            "part": item.part,
            "name": item.name,
            "health": str(item.health),
            "about": item.about,
            "repair": item.repair,
        }
        for item in items
    ]
    return json.dumps({"format": FORMAT, "version": VERSION, "exit_code": int(code), "found": found}, indent=2) + "\n"
