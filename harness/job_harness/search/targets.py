"""Names to things: engines, wrong queues, settings of a run. The only module that knows them all, and lazily.

An engine is named `memory`, `reference`, `postgres`, `pgboss`, or what another package registers under the entry point
group `job_harness.engines` (a callable without arguments that returns an `Engine`). `NAME@VERSION` is a release of
another project's queue; such an entry point takes `version=`. `NAME+MISTAKE` is that engine with one planted mistake.
`queue.yaml` is a queue in a file, `system.yaml` a whole system. `NAME --sessions` gives every actor a database session;
reports call it `NAME-gated`, which names it, too.
"""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from functools import partial
from importlib import import_module
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType, TracebackType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from job_harness.core import yaml_files
from job_harness.core.extensions import ENGINES, loaded, offered, package_of
from job_harness.core.port import Capabilities, Engine, as_engine, with_sessions, without_anomalies, without_sessions
from job_harness.errors import EnvironmentUnavailable, HarnessError, UsageError, available, did_you_mean
from job_harness.extras import missing_extra

if TYPE_CHECKING:
    from job_harness.core.run.context import RealProcessors
    from job_harness.core.run.verdict import Run
    from job_harness.core.scenario.scenario import Scenario
    from job_harness.subjects.applications import TableStore
from job_harness.core.sim.watchdog import BUSY_SECONDS
from job_harness.worlds.patience import Deadline

SHIPPED: Final[Mapping[str, tuple[str, dict[str, Any]]]] = {
    "memory": ("job_harness.engines.memory:MemoryEngine", {}),
    "reference": ("job_harness.engines.reference:open_engine", {"name": "reference"}),
    "postgres": ("job_harness.engines.reference:open_engine", {"name": "postgres"}),
    "pgboss": ("job_harness.engines.pgboss:open_engine", {}),
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
COUNTERFACTUAL = "job_harness.search.counterfactual"
FIX_SECONDS: Final = 30.0
"""Real time in which fixes of one failing run are tried; the replay that is under way when it ends is done."""
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


def named(name: str, *, sessions: bool = False) -> str:
    """Return the one name of what was asked for: `postgres --sessions`, or `postgres` with `sessions`.

    Raises UsageError for an option that is none.
    """
    name, _, written = name.strip().partition(" --")
    options = [f"--{option}" for option in written.split(" --")] if written else []
    if wrong := [option for option in options if option != "--sessions"]:
        raise UsageError(
            f"{name} has no option {wrong[0]!r}{did_you_mean(wrong[0], ['--sessions'])}",
            hint="An engine has one option, --sessions, and it is written after its name.",
        )
    return with_sessions(name) if options or (sessions and not _parsed(name).sessions) else name


class _Parsed(NamedTuple):
    base: str
    version: str
    sessions: bool


def _parsed(engine: str) -> _Parsed:
    """Take the name of an engine without its mistake apart; a target is its own base."""
    if is_target(engine):
        plain = without_sessions(engine)
        return _Parsed(plain, "", plain != engine)
    name, _, version = engine.partition("@")
    plain = without_sessions(name)
    known = engine_names()
    return _Parsed(plain, version, True) if name not in known and plain in known else _Parsed(name, version, False)


def is_target(name: str) -> bool:
    """Whether this is `module:factory`, `path.py:factory` or a queue file: the user's own engine or application."""
    return ":" in name or is_yaml_target(name)


def is_shipped(name: str) -> bool:
    """Whether this is an engine of this project, with a mistake or a safeguard or none."""
    return not is_target(name) and _parsed(bare_name(name)).base in SHIPPED


def is_system_file(name: str) -> bool:
    """Whether this is a system in a file, by what is written there."""
    plain = without_sessions(name.partition(" --")[0].strip())
    return plain.endswith(yaml_files.SUFFIXES) and yaml_files.is_system_file(plain)


def is_yaml_target(name: str) -> bool:
    """Whether this is a queue file or a system file, by its ending."""
    return without_sessions(name.partition(" --")[0].strip()).endswith(yaml_files.SUFFIXES)


def engine_name(engine: str, scenario: Scenario, *, folder: Path | None = None) -> str:
    """Return what a scenario runs on: its own application, or the engine asked for with the wrong queue it names.

    A path in it is relative to `folder`, the scenario's own unless given. Raises UsageError where there is no file, and
    NotApplicable where a wrong queue would take the place of a user's own.
    """
    if scenario.queue is not None and is_target(engine):
        raise NotApplicable(
            f"{scenario.queue} is a wrong queue of this project, and takes the place of no other",
            hint="Run it on memory or postgres.",
        )
    if scenario.application is not None and not is_target(engine):
        return located(scenario.application, folder or Path(scenario.path).parent)
    return engine if scenario.queue is None else f"{split_name(engine)[0]}+{scenario.queue}"


def explained(run: Run, name: str, get: Callable[[str], Engine], *, anomaly: str = "") -> Run:
    """Return a run that failed on the engine of this name together with what would have stopped its anomaly.

    On PostgreSQL fewer runs are drawn anew: hundreds for each change would keep everybody waiting. So would an engine
    whose steps are slow: what was not tried within FIX_SECONDS is named as such.
    """
    engine = get(name)
    if not run.anomalies or run.scenario.processors:
        return run
    counterfactual, deadline = import_module(COUNTERFACTUAL), Deadline(FIX_SECONDS)
    guarded = [counterfactual.Safeguard(what, get(other)) for what, other in safeguards(name, engine).items()]
    runs = counterfactual.RUNS_ON_A_SERVER if _provenance(name, engine) else counterfactual.RUNS
    told: Run = counterfactual.explained(
        run,
        engine=engine,
        safeguards=guarded,
        anomaly=anomaly,
        runs=runs,
        over=lambda: deadline.passed,
    )
    return told


def safeguards(name: str, engine: Engine) -> dict[str, str]:
    """Return, by the name of each safeguard that an engine lacks, the name of the engine that has it."""
    if engine.info.safeguards or is_target(name):
        return {safeguard: f"{name}+{safeguard}" for safeguard in engine.info.safeguards}
    right, mistake = split_name(name)
    return {} if mistake is None else {f"the right queue, with {import_module(MISTAKES).safeguard_of(mistake)}": right}


def bare_name(name: str) -> str:
    """Return the name of an engine or application without its mistake or safeguards, on whose server they stand."""
    return named(name).partition("+")[0]


def split_name(name: str) -> tuple[str, str | None]:
    """Take `engine+mistake` apart; a version stays with its engine, and a target is one name.

    Raises UsageError for names that do not exist, with the nearest that does.
    """
    if "://" in name:
        raise UsageError(
            f"the URL of a {name.partition('://')[0]} server is no target: runs never write to a database of yours",
            hint="job-harness init --queue URL writes a queue file from its tables; job-harness audit judges its rows.",
        )
    if is_target(name):
        return named(name), None
    engine, plus, mistake = named(name).partition("+")
    if is_yaml_target(engine):
        raise NotApplicable(
            f"{engine} is a queue in a file, and {mistake!r} is a wrong variant of the engines that are shipped",
            hint="Run the scenarios alone: --no-controls.",
        )
    base, version, _ = _parsed(engine)
    at = "@" in engine
    if base not in (known := engine_names()):
        if (problem := _not_an_engine(name)) is not None:
            raise problem
        near = did_you_mean(base, known)
        listed = available(known, near=base, listed="`job-harness doctor` lists them")
        raise UsageError(f"no such engine: {base!r}{near}", hint=listed)
    if at and (not version or (base in SHIPPED and base not in RELEASED)):
        raise UsageError(
            f"no such engine: {engine!r}: {base} has no versions" if version else f"{engine!r} names no version",
            hint=f"Engines with versions are {', '.join(sorted(RELEASED))}, as in pgboss@10.4.2.",
        )
    if plus and mistake not in wrong_queues():
        known = sorted(wrong_queues())
        raise UsageError(
            f"no such wrong queue: {mistake!r}{did_you_mean(mistake, known)}",
            hint=available(known, near=mistake or "", listed="docs/wrong_queues.md")
            if known
            else "This installation has none.",
        )
    return engine, mistake or None


def _not_an_engine(name: str) -> UsageError | None:
    """Say that this is a file of another kind; None where it may be a misspelled engine."""
    return UsageError(f"{name} is not a target: expected {TARGETS}") if Path(name).exists() else None


def opened_as(name: str, engine: Engine) -> str:
    """Return the name that opens an engine again: with its version, but never one that it merely gives itself."""
    called = engine.info.name
    return called if not is_target(name) and _base(called) == _base(name) else name


def _base(name: str) -> str:
    return bare_name(name).partition("@")[0]


def open_engine(name: str) -> Engine:
    """Open an engine by name; the caller closes it.

    Raises UsageError for names that do not exist, NotApplicable where the mistake does not fit the engine,
    EnvironmentUnavailable where the machine lacks what the engine needs.
    """
    engine, mistake = split_name(name)
    if mistake is not None:
        return _mistaken(engine, mistake)
    base, _, sessions = _parsed(engine)
    made = partial(open_target, base, store=_store_of(base)) if is_target(name) else _factory(engine)
    return _named_where_it_breaks(engine, lambda: _with_sessions(as_engine(made())) if sessions else as_engine(made()))


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


def open_target(name: str, *, store: TableStore | None = None) -> Engine:
    """Make what a target names: an engine, a queue or an application; `store` is the one that it asks for, opened.

    `TARGET+SAFEGUARD` is an application with one of the safeguards switched on that it declares; `TARGET@STORE` is one
    whose two tables are elsewhere than in memory. Raises UsageError that says what is missing, or
    what was made instead.
    """
    if is_yaml_target(name):
        room = "job_harness.subjects.systems" if is_system_file(name) else "job_harness.engines.queue_file"
        opened: Engine = import_module(room).open_engine(name)
        return opened
    from job_harness.subjects.applications.queue_target import engine_from

    where, asked = store_of(name)
    factory = load_factory(where)
    if not callable(factory):
        raise UsageError(f"{where} is of type {type(factory).__name__}, which cannot be called", hint=FORMS)
    return engine_from(factory, name=where, safeguards=name.split("+")[1:], store=store, asked=asked)


def located(name: str, folder: Path) -> str:
    """Return a target whose file is found from here: in `folder`, or in the nearest folder above that has it.

    Raises UsageError where no folder has it.
    """
    where, colon, attribute = name.partition(":")
    if is_yaml_target(name):
        plain = without_sessions(name)
        where, colon, attribute = plain, "", name.removeprefix(plain)
    if not where.endswith((".py", *yaml_files.SUFFIXES)) or Path(where).is_absolute():
        return name
    start = folder.resolve()
    for above in (start, *start.parents):
        found = above / where
        if found.is_file():
            return f"{_shown(found)}{colon}{attribute}"
    raise UsageError(
        f"application: there is no file {where} in {start}, nor in any folder above it",
        hint="The path is relative to the folder of the scenario, or to one above it.",
    )


def _shown(path: Path) -> str:
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)


def store_of(name: str) -> tuple[str, str]:
    """Take `TARGET@STORE` apart; the store is empty where none is named."""
    place, colon, attribute = name.partition("+")[0].partition(":")
    attribute, _, store = attribute.partition("@")
    return f"{place}{colon}{attribute}", store


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


def _store_of(target: str) -> Any:
    """Open the store that a target names; None where it names none, or only memory."""
    named = store_of(target)[1]
    store, at, version = named.partition("@")
    if not named or named == "memory":
        return None
    if store not in STORES or (at and not version):
        raise UsageError(
            f"{target}: no application's tables can be on {named!r}{did_you_mean(store, STORES)}",
            hint=f"They are in memory, or on {', '.join(STORES)}, with a version as in pgboss@12.38.0.",
        )
    module, _, attribute = STORES[store].partition(":")
    factory = load(store, lambda: getattr(import_module(module), attribute))
    return factory(version) if version else factory()


def _mistaken(engine: str, mistake: str, *, beside: Engine | None = None) -> Engine:
    try:
        wrong: Engine = wrong_queues()[mistake].engine(engine, beside=beside)
    except UsageError as error:
        raise NotApplicable(error.message, hint=error.hint) from error
    return wrong


def _named_where_it_breaks(name: str, make: Callable[[], Engine]) -> Engine:
    """Make an engine of this name. Raises UsageError that names the package where one of another package breaks."""
    try:
        return make()
    except (Exception, SystemExit) as error:
        point = offered(ENGINES).get(_parsed(name).base)
        if point is None or _parsed(name).base in SHIPPED or isinstance(error, EnvironmentUnavailable):
            raise
        told, hint = (error.message, error.hint) if isinstance(error, HarnessError) else (_said(error), None)
        raise UsageError(
            f"the engine {name}{package_of(point)} cannot be used: {told}",
            hint=hint or "Repair or remove that package; other engines are not concerned.",
        ) from error


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def _factory(engine: str) -> Callable[[], Engine]:
    base, version, _ = _parsed(engine)
    wanted = {"version": version} if version else {}
    if base not in SHIPPED:
        found = loaded(offered(ENGINES)[base])
        return lambda: found(**wanted)
    where, arguments = SHIPPED[base]
    module, _, attribute = where.partition(":")
    factory = load(base, lambda: getattr(import_module(module), attribute))
    return lambda: factory(**arguments, **wanted)


def load(what: str, importing: Callable[[], Any]) -> Any:
    """Import something by name.

    Raises EnvironmentUnavailable that names the extra which brings what is missing, UsageError for anything else.
    """
    try:
        return importing()
    except (ImportError, AttributeError) as error:
        if (lacking := missing_extra(error)) is not None:
            raise lacking from error
        raise UsageError(f"{what} cannot be loaded: {error}", hint="Install the package that it needs.") from error


def scenario_processors(scenario: Scenario, *, blocked_after: float = BUSY_SECONDS) -> RealProcessors:
    """Open the real processors of a scenario; the caller closes them. Each may keep control for `blocked_after` s.

    Raises UsageError for names that do not exist, EnvironmentUnavailable where there is no Node for TypeScript.
    """
    module = import_module("job_harness.subjects.processors.scenario_processors")
    opened: RealProcessors = module.ScenarioProcessors(scenario, blocked_after=blocked_after)
    return opened


class Engines:
    """Opens each engine once and closes all. A context manager; closing never raises."""

    def __init__(self, *, without: Iterable[str] = ()) -> None:
        """Report no anomaly of these names on any of them."""
        self._without = frozenset(without)
        self._open: dict[str, Engine] = {}

    def get(self, name: str) -> Engine:
        """Return the engine with this name.

        Raises what `open_engine` raises.
        """
        name = named(name)
        engine = self._open.get(name)
        if engine is None:
            engine = self._open[name] = without_anomalies(self._opened(name), self._without, why=WITHOUT_PLACE)
        return engine

    def _opened(self, name: str) -> Engine:
        """A wrong queue stands on the server of the right one, and an application with a safeguard on that without it.

        One server, however many mistakes and safeguards.
        """
        if is_target(name):
            bare, plus, safeguard = name.rpartition("+")
            declared = self.get(bare).info.safeguards if plus else {}
            return declared[safeguard]() if safeguard in declared else open_engine(name)
        right, mistake = split_name(name)
        return open_engine(name) if mistake is None else _mistaken(right, mistake, beside=self.get(right))

    def provenances(self) -> list[str]:
        """Say of every open engine that had to be provisioned where it came from, each once."""
        told = (_provenance(name, engine) for name, engine in self._open.items())
        return list(dict.fromkeys(text for text in told if text))

    def releases(self) -> list[str]:
        """Say of every open engine that was asked for without its whole version which release it is."""
        return [
            f"{name} is {engine.info.name}"
            for name, engine in self._open.items()
            if _parsed(bare_name(name)).base in RELEASED and "+" not in name and engine.info.name != name
        ]

    def drop(self, name: str) -> None:
        """Close one engine; the next `get` opens it anew."""
        name = named(name)
        for wrong in [other for other in self._open if other.startswith(f"{name}+")]:
            self.drop(wrong)
        engine = self._open.pop(name, None)
        if engine is not None:
            _close(engine)

    def close(self) -> None:
        """Close all."""
        for name in reversed(list(self._open)):
            self.drop(name)

    def __enter__(self) -> Engines:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def _provenance(name: str, engine: Engine) -> str:
    """Ask for it at the end of a command, whose report no engine of another package may cost by raising here."""
    try:
        return str(engine.info.provenance())
    except Exception as error:  # noqa: BLE001 - whatever another package's engine raises
        return f"{name} does not say where its server came from: {_said(error)}"


def _close(engine: Engine) -> None:
    try:
        engine.close()
    except (HarnessError, OSError):
        return
