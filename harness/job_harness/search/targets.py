"""Opens targets: engines, wrong queues, a user's own queue or system. The only module that knows them all, and lazily.

An engine is `memory`, `reference`, `postgres`, `pgboss`, or what another package registers under the entry point group
`job_harness.engines` (a callable without arguments that returns an `Engine`; with `version=` where it has releases).
How a target is written and printed is `core.target`'s to know.
"""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from importlib import import_module
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType, TracebackType
from typing import TYPE_CHECKING, Any, Final

from job_harness.core.extensions import ENGINES, loaded, offered, package_of
from job_harness.core.port import Capabilities, Engine, as_engine, without_anomalies
from job_harness.core.target import Target
from job_harness.errors import EnvironmentUnavailable, HarnessError, UsageError, available, did_you_mean
from job_harness.extras import missing_extra

if TYPE_CHECKING:
    from job_harness.core.run.context import RealProcessors
    from job_harness.core.scenario.scenario import Scenario
    from job_harness.subjects.applications import TableStore
from job_harness.core.sim.watchdog import BUSY_SECONDS

SHIPPED: Final[Mapping[str, tuple[str, dict[str, Any]]]] = {
    "memory": ("job_harness.engines.memory:MemoryEngine", {}),
    "reference": ("job_harness.engines.reference:ReferenceEngine", {"name": "reference"}),
    "postgres": ("job_harness.engines.reference:ReferenceEngine", {"name": "postgres"}),
    "pgboss": ("job_harness.engines.pgboss:PgBossEngine", {}),
    "pgboss-node": ("job_harness.engines.pgboss.node:open_engine", {}),
    "graphile-worker": ("job_harness.engines.graphile:open_engine", {}),
    "bullmq": ("job_harness.engines.bullmq:open_engine", {}),
    "bullmq-redis": ("job_harness.engines.bullmq:open_redis_engine", {}),
    "procrastinate": ("job_harness.engines.procrastinate:open_engine", {}),
    "pgqueuer": ("job_harness.engines.pgqueuer:open_engine", {}),
    "django-tasks-db": ("job_harness.engines.django_tasks:open_engine", {}),
    "celery-redis": ("job_harness.engines.celery:open_engine", {}),
    "dramatiq-redis": ("job_harness.engines.dramatiq:open_engine", {}),
    "chancy": ("job_harness.engines.chancy:open_engine", {}),
}
"""Engine name -> where its factory is, and what that is called with."""
POSTGRES, REDIS, NPM, PIP = "PostgreSQL", "Redis", "npm", "pip"
NEEDS: Final[Mapping[str, tuple[str, ...]]] = {
    "memory": (),
    "reference": (),
    "postgres": (POSTGRES,),
    "pgboss": (POSTGRES, NPM, "job_harness.engines.pgboss.package:OLDEST_NODE"),
    "pgboss-node": (POSTGRES, NPM, "job_harness.engines.pgboss.node.release:NEWEST_ASKS_FOR"),
    "graphile-worker": (POSTGRES, NPM, "job_harness.engines.graphile:NEWEST_ASKS_FOR"),
    "bullmq": (POSTGRES, NPM, "job_harness.engines.bullmq:NODE"),
    "bullmq-redis": (REDIS, NPM, "job_harness.engines.bullmq:NODE"),
    "procrastinate": (POSTGRES, PIP),
    "pgqueuer": (POSTGRES, PIP),
    "django-tasks-db": (POSTGRES, PIP),
    "celery-redis": (REDIS, PIP),
    "dramatiq-redis": (REDIS, PIP),
    "chancy": (POSTGRES, PIP),
}
"""What the machine has to have for a shipped engine in its newest release; of Node, where its version is said."""
STORES: Final[Mapping[str, str]] = {"pgboss": "job_harness.engines.pgboss:open_store"}
"""Where an application's two tables can be, beside memory: `my_app.py:MyApp@pgboss@12.38.0`."""
RELEASED: Final = frozenset(SHIPPED) - {"memory", "reference", "postgres"}
"""Shipped engines that are another project's queue, in versions."""
SESSIONS: Final = (
    "give each worker, client and maintenance a database session of its own, and choose the order of their statements"
)
"""What the option says of itself, wherever a command has it."""
WITHOUT: Final = "ignore this anomaly: it is expected (repeatable)"
WITHOUT_PLACE: Final = "--without"
"""Where it is said of an anomaly that it is none."""
MISTAKES = "job_harness.search.wrong_queues.catalogue"
FORMS = "Write module:factory or path/to/file.py:factory."
TARGETS: Final = "an engine, a queue or system file (.yaml), module:factory or file.py:factory"


class NotApplicable(UsageError):
    """A wrong queue cannot be made of this engine."""


def engine_names() -> list[str]:
    """List the engines there are, shipped ones first."""
    return [*SHIPPED, *(name for name in offered(ENGINES) if name not in SHIPPED)]


def wrong_queues() -> Mapping[str, Any]:
    """Return the catalogue of wrong queues by name."""
    try:
        catalogue: Mapping[str, Any] = import_module(MISTAKES).CATALOGUE
    except ModuleNotFoundError as error:
        if error.name is None or not MISTAKES.startswith(error.name):
            raise
        return {}
    return catalogue


class _WrongQueueNames(Collection[str]):
    """Their names, read when one is looked up: most scenarios name none, and the catalogue takes a while to import."""

    def __contains__(self, name: object) -> bool:
        return name in wrong_queues()

    def __iter__(self) -> Iterator[str]:
        return iter(wrong_queues())

    def __len__(self) -> int:
        return len(wrong_queues())


def wrong_queue_names() -> Collection[str] | None:
    """Return the names of the wrong queues; None where this installation has no catalogue of them."""
    return None if find_spec(MISTAKES.rpartition(".")[0]) is None else _WrongQueueNames()


def check(target: Target) -> None:
    """Refuse a target that does not exist, without opening it.

    Raises UsageError with the nearest name that does, NotApplicable for a wrong variant of a queue
    in a file.
    """
    if "://" in target.place:
        raise UsageError(
            f"the URL of a {target.place.partition('://')[0]} server is no target: runs never write to a database of "
            "yours",
            hint="job-harness init --queue URL writes a queue file from its tables; job-harness audit judges its rows.",
        )
    if target.is_file and target.safeguards:
        raise NotApplicable(
            f"{target.place} is a queue in a file, and {target.safeguards[0]!r} is a wrong variant of the engines that "
            "are shipped",
            hint="Run the scenarios alone: --no-controls.",
        )
    if target.is_own:
        return
    if target.place not in (known := engine_names()):
        if Path(target.place).exists():
            raise UsageError(f"{target} is not a target: expected {TARGETS}")
        near = did_you_mean(target.place, known)
        listed = available(known, near=target.place, listed="`job-harness doctor` lists them")
        raise UsageError(f"no such engine: {target.place!r}{near}", hint=listed)
    if target.version and target.place in SHIPPED and target.place not in RELEASED:
        raise UsageError(
            f"no such engine: {str(target.right)!r}: {target.place} has no versions",
            hint=f"Engines with versions are {', '.join(sorted(RELEASED))}, as in pgboss@10.4.2.",
        )
    if target.wrong_queue and target.wrong_queue not in wrong_queues():
        known = sorted(wrong_queues())
        raise UsageError(
            f"no such wrong queue: {target.wrong_queue!r}{did_you_mean(target.wrong_queue, known)}",
            hint=available(known, near=target.wrong_queue, listed="docs/wrong_queues.md")
            if known
            else "This installation has none.",
        )


def checked(text: str, *, sessions: bool = False) -> Target:
    """Parse a target and check that it exists. Raises what `Target.parse` and `check` raise."""
    target = Target.parse(text, sessions=sessions)
    check(target)
    return target


def targets(texts: str, *, sessions: bool = False) -> list[Target]:
    """Parse and check several, separated by commas, each once. Raises what `checked` raises."""
    return list(dict.fromkeys(checked(text, sessions=sessions) for text in texts.split(",") if text.strip()))


def target_of(scenario: Scenario, asked: Target, *, folder: Path | None = None) -> Target:
    """Return what a scenario runs on: its own application, or what was asked for with the wrong queue that it names.

    A path in it is relative to `folder`, the scenario's own unless given. Raises UsageError where
    there is no file, and NotApplicable where a wrong queue would take the place of a user's own.
    """
    if scenario.queue is not None and asked.is_own:
        raise NotApplicable(
            f"{scenario.queue} is a wrong queue of this project, and takes the place of no other",
            hint="Run it on memory or postgres.",
        )
    if scenario.application is not None and not asked.is_own:
        return Target.parse(scenario.application).located(folder or Path(scenario.path).parent)
    return asked if scenario.queue is None else replace(asked, wrong_queue=scenario.queue)


def safeguarded(target: Target, engine: Engine) -> dict[str, Target]:
    """Return, by the name of each safeguard that an engine lacks, the target that has it."""
    if engine.info.safeguards or target.is_own:
        return {safeguard: target.with_safeguard(safeguard) for safeguard in engine.info.safeguards}
    if not target.wrong_queue:
        return {}
    return {f"the right queue, with {import_module(MISTAKES).safeguard_of(target.wrong_queue)}": target.right}


def reopening(target: Target, engine: Engine) -> Target:
    """Return the target that opens an engine again: with the release that it turned out to be."""
    called = Target.parse(engine.info.name)
    return called if not target.is_own and called.place == target.place else target


def open_engine(name: str) -> Engine:
    """Open an engine by name; the caller closes it.

    Raises UsageError for names that do not exist, NotApplicable where the mistake does not fit the
    engine, EnvironmentUnavailable where the machine lacks what the engine needs.
    """
    return open_target(Target.parse(name))


def open_target(target: Target, *, beside: Engine | None = None) -> Engine:
    """Open a target; the caller closes it. A wrong queue stands on the server of the right one that is `beside` it.

    Raises what `open_engine` raises.
    """
    check(target)
    if target.wrong_queue:
        return _wrong(target, beside=beside)
    made = partial(open_own, target, store=_store_of(target)) if target.is_own else _factory(target)
    return _named_where_it_breaks(
        target, lambda: _with_sessions(as_engine(made())) if target.sessions else as_engine(made())
    )


def _with_sessions(engine: Engine) -> Engine:
    if engine.info.capabilities.sessions:
        return engine
    if engine.info.sessions is None:
        engine.close()
        raise UsageError(
            f"{engine.info.name} gives its actors no sessions of their own",
            hint="Leave out --sessions, or name an engine that has them, such as postgres, pgqueuer or celery-redis.",
        )
    return engine.info.sessions()


def open_own(target: Target, *, store: TableStore | None = None) -> Engine:
    """Make what the user's own target names: an engine, a queue or an application; `store` is opened already.

    Raises UsageError that says what is missing, or what was made instead.
    """
    if target.is_file:
        kind = "subjects.systems:SystemEngine" if target.is_system else "engines.queue_file:QueueFileEngine"
        opened: Engine = load_factory(f"job_harness.{kind}")(target.place)
        return opened
    from job_harness.subjects.applications.queue_target import engine_from

    factory = load_factory(target.place)
    if not callable(factory):
        raise UsageError(f"{target.place} is of type {type(factory).__name__}, which cannot be called", hint=FORMS)
    return engine_from(factory, name=target.place, safeguards=list(target.safeguards), store=store, asked=target.store)


def load_factory(where: str) -> Any:
    """Import what `module:name` or `path.py:name` names. Raises UsageError that says what is missing."""
    place, _, attribute = where.partition(":")
    if not place or not attribute:
        raise UsageError(f"{where!r} is not a target", hint=FORMS)
    module = _from_file(Path(place)) if place.endswith(".py") else _from_path(place)
    found: Any = module
    for part in attribute.split("."):
        if not hasattr(found, part):
            callables = [name for name, value in vars(found).items() if callable(value) and not name.startswith("_")]
            raise UsageError(f"{place} has no {part!r}{did_you_mean(part, callables)}", hint=FORMS)
        found = getattr(found, part)
    return found


def _from_path(name: str) -> ModuleType:
    _on_path(Path.cwd())
    try:
        return import_module(name)
    except (Exception, SystemExit) as error:
        raise _broken(name, error) from error


def _from_file(path: Path) -> ModuleType:
    """Execute a file anew, so that what was repaired meanwhile is what runs; its neighbours can be imported."""
    if not path.is_file():
        near = did_you_mean(path.name, [file.name for file in path.parent.glob("*.py")])
        raise UsageError(f"{path}: there is no such file{near}", hint=FORMS)
    absolute = path.resolve()
    _on_path(absolute.parent)
    name = f"_job_harness_{absolute.stem}_{hashlib.sha256(str(absolute).encode()).hexdigest()[:8]}"
    spec = spec_from_file_location(name, absolute)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise _broken(str(path), error) from error
    return module


def _on_path(folder: Path) -> None:
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))


_NO_CAPABILITY: Final = re.compile(r"\bCapabilities\.__init__\(\) got an unexpected keyword argument '(?P<name>\w+)'")


def _broken(what: str, error: BaseException) -> UsageError:
    from job_harness.subjects.applications.engine import where_of

    hint = "Install it, or fix the import." if isinstance(error, ImportError) else f"Fix {what}."
    if isinstance(error, SyntaxError):
        at = f" ({error.filename}:{error.lineno})"
    elif where := where_of(error, own=False):
        at = f" ({where})"
    else:
        at, hint = "", FORMS
    if unknown := _NO_CAPABILITY.search(str(error)):
        near = did_you_mean(unknown["name"], Capabilities.names())
        hint = f"No such capability: {unknown['name']!r}{near}; docs/engines.md#capabilities lists them."
    return UsageError(f"importing {what} failed: {type(error).__name__}: {error}{at}", hint=hint)


def _store_of(target: Target) -> Any:
    """Open the store that a target names; None where it names none, or only memory."""
    store, at, version = target.store.partition("@")
    if target.store in ("", "memory"):
        return None
    if store not in STORES or (at and not version):
        raise UsageError(
            f"{target}: no application's tables can be on {target.store!r}{did_you_mean(store, STORES)}",
            hint=f"They are in memory, or on {', '.join(STORES)}, with a version as in pgboss@12.38.0.",
        )
    module, _, attribute = STORES[store].partition(":")
    factory = load(store, lambda: getattr(import_module(module), attribute))
    return factory(version) if version else factory()


def _wrong(target: Target, *, beside: Engine | None) -> Engine:
    try:
        wrong: Engine = wrong_queues()[target.wrong_queue].engine(str(target.right), beside=beside)
    except UsageError as error:
        raise NotApplicable(error.message, hint=error.hint) from error
    return wrong


def _named_where_it_breaks(target: Target, make: Callable[[], Engine]) -> Engine:
    """Make an engine. Raises UsageError that names the package where one of another package breaks."""
    try:
        return make()
    except (Exception, SystemExit) as error:
        point = offered(ENGINES).get(target.place)
        if point is None or target.place in SHIPPED or isinstance(error, EnvironmentUnavailable):
            raise
        what, hint = (error.message, error.hint) if isinstance(error, HarnessError) else (error_text(error), None)
        raise UsageError(
            f"the engine {target.right}{package_of(point)} cannot be used: {what}",
            hint=hint or "Repair or remove that package; other engines are not concerned.",
        ) from error


def error_text(error: BaseException) -> str:
    """Return the kind of an error and what it says."""
    return f"{type(error).__name__}: {error}"


def _factory(target: Target) -> Callable[[], Engine]:
    wanted = {"version": target.version} if target.version else {}
    if target.place not in SHIPPED:
        found = loaded(offered(ENGINES)[target.place])
        return lambda: found(**wanted)
    where, arguments = SHIPPED[target.place]
    module, _, attribute = where.partition(":")
    factory = load(target.place, lambda: getattr(import_module(module), attribute))
    return lambda: factory(**arguments, **wanted)


def load(what: str, importing: Callable[[], Any]) -> Any:
    """Import something by name.

    Raises EnvironmentUnavailable that names the extra which brings what is missing, UsageError for
    anything else.
    """
    try:
        return importing()
    except (ImportError, AttributeError) as error:
        if (lacking := missing_extra(error)) is not None:
            raise lacking from error
        raise UsageError(f"{what} cannot be loaded: {error}", hint="Install the package that it needs.") from error


def scenario_processors(scenario: Scenario, *, blocked_after: float = BUSY_SECONDS) -> RealProcessors:
    """Open the real processors of a scenario; the caller closes them. Each may keep control for `blocked_after` s.

    Raises UsageError for names that do not exist, EnvironmentUnavailable where there is no Node for
    TypeScript.
    """
    module = import_module("job_harness.subjects.processors.scenario_processors")
    opened: RealProcessors = module.ScenarioProcessors(scenario, blocked_after=blocked_after)
    return opened


class Engines:
    """Opens each engine once and closes all. A context manager; closing never raises."""

    def __init__(self, *, without: Iterable[str] = (), reports: Iterable[str] = ()) -> None:
        """Report no anomaly of the names in `without` on any; those in `reports` also where one documents them."""
        self._without, self._reports = frozenset(without), frozenset(reports)
        self._open: dict[Target, Engine] = {}

    def get(self, target: Target) -> Engine:
        """Return the engine of a target.

        Raises what `open_engine` raises.
        """
        engine = self._open.get(target)
        if engine is None:
            from job_harness.search.incident import reporting

            opened = reporting(self._opened(target), self._reports)
            engine = self._open[target] = without_anomalies(opened, self._without, why=WITHOUT_PLACE)
        return engine

    def _opened(self, target: Target) -> Engine:
        """A wrong queue stands on the server of the right one, and an application with a safeguard on that without it.

        One server, however many mistakes and safeguards.
        """
        if target.is_own and target.safeguards:
            make = self.get(target.weaker).info.safeguards.get(target.safeguards[-1])
            return open_target(target) if make is None else make()
        check(target)
        return open_target(target, beside=self.get(target.right) if target.wrong_queue else None)

    def provenances(self) -> list[str]:
        """Say of every open engine that had to be provisioned where it came from, each once."""
        said = (provenance(target, engine) for target, engine in self._open.items())
        return list(dict.fromkeys(text for text in said if text))

    def releases(self) -> list[str]:
        """Say of every open engine that was asked for without its whole version which release it is."""
        return [
            f"{target} is {engine.info.name}"
            for target, engine in self._open.items()
            if target.place in RELEASED and not target.wrong_queue and engine.info.name != str(target)
        ]

    def drop(self, target: Target) -> None:
        """Close one engine, and those that stand on its server; the next `get` opens it anew."""
        for other in [other for other in self._open if other != target and other.right == target]:
            self.drop(other)
        engine = self._open.pop(target, None)
        if engine is not None:
            _close(engine)

    def close(self) -> None:
        """Close all."""
        for target in reversed(list(self._open)):
            self.drop(target)

    def __enter__(self) -> Engines:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def provenance(target: Target, engine: Engine) -> str:
    """Ask for it at the end of a command, whose report no engine of another package may cost by raising here."""
    try:
        return str(engine.info.provenance())
    except Exception as error:  # noqa: BLE001 - whatever another package's engine raises
        return f"{target} does not say where its server came from: {error_text(error)}"


def _close(engine: Engine) -> None:
    try:
        engine.close()
    except (HarnessError, OSError):
        return
