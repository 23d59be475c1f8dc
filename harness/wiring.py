"""Names to things: engines, wrong queues, settings of a run. The only module that knows them all, and lazily.

An engine is named `memory`, `reference`, `postgres`, `postgres-gated`, `pgboss`, or what another package registers
under the entry point group `job_harness.engines` (a callable without arguments that answers an `Engine`).
`NAME@VERSION` is a release of somebody else's queue; such an entry point takes `version=`. `NAME+MISTAKE` is that
engine with one planted mistake.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

from harness.errors import HarnessError, UsageError, did_you_mean
from harness.extensions import ENGINES, offered
from harness.extras import missing_extra
from harness.port import Engine

if TYPE_CHECKING:
    from harness.run.processing import RealProcessors
    from harness.run.verdict import Run
    from harness.scenario.scenario import Scenario

SHIPPED: Final[Mapping[str, tuple[str, dict[str, Any]]]] = {
    "memory": ("harness.adapters.memory:MemoryEngine", {}),
    "reference": ("harness.adapters.reference:open_engine", {"name": "reference"}),
    "postgres": ("harness.adapters.reference:open_engine", {"name": "postgres"}),
    "pgboss": ("harness.adapters.pgboss:open_engine", {}),
    "pgboss-node": ("harness.adapters.pgboss.node:open_engine", {}),
    "pgboss-node-gated": ("harness.adapters.pgboss.node:open_engine", {"gated": True}),
    "postgres-gated": ("harness.adapters.reference:open_engine", {"name": "postgres-gated"}),
    "graphile-worker": ("harness.adapters.graphile:open_engine", {}),
    "graphile-worker-gated": ("harness.adapters.graphile:open_engine", {"gated": True}),
    "procrastinate": ("harness.adapters.procrastinate:open_engine", {}),
    "procrastinate-gated": ("harness.adapters.procrastinate:open_engine", {"gated": True}),
    "pgqueuer": ("harness.adapters.pgqueuer:open_engine", {}),
    "pgqueuer-gated": ("harness.adapters.pgqueuer:open_engine", {"gated": True}),
}
"""Engine name -> where its factory is, and what that is called with."""
STORES: Final[Mapping[str, str]] = {"pgboss": "harness.adapters.pgboss.tables:open_store"}
"""Where an application's two tables can be, beside memory: `my_app.py:MyApp@pgboss@10.4.2`."""
RELEASED: Final = frozenset(
    {
        "graphile-worker",
        "graphile-worker-gated",
        "pgboss",
        "pgboss-node",
        "pgboss-node-gated",
        "pgqueuer",
        "pgqueuer-gated",
        "procrastinate",
        "procrastinate-gated",
    }
)
"""Shipped engines that are somebody else's queue, in versions."""
MISTAKES = "harness.mistakes.catalogue"
COUNTERFACTUAL = "harness.explore.counterfactual"
TARGETS = "harness.explore.target"


class NotApplicable(UsageError):
    """A wrong queue cannot be made of this engine."""


def engine_names() -> list[str]:
    """List the engines there are, shipped ones first."""
    return [*SHIPPED, *(name for name in offered(ENGINES) if name not in SHIPPED)]


def wrong_queues() -> Mapping[str, Any]:
    """Answer the catalogue of wrong queues by name."""
    try:
        catalogue: Mapping[str, Any] = import_module(MISTAKES).CATALOGUE
    except ModuleNotFoundError as error:
        if error.name is None or not MISTAKES.startswith(error.name):
            raise
        return {}
    return catalogue


def is_target(name: str) -> bool:
    """Whether this is `module:factory` or `path.py:factory`: an engine or an application of somebody's own."""
    return ":" in name


def engine_name(engine: str, scenario: Scenario, *, folder: Path | None = None) -> str:
    """Answer what a scenario runs on: its own application, or the engine asked for with the wrong queue it names.

    A path in it is relative to `folder`, the scenario's own unless given. Raises UsageError where there is no file.
    """
    if scenario.application is not None and not is_target(engine):
        located = import_module(TARGETS).located
        return str(located(scenario.application, folder or Path(scenario.path).parent))
    return engine if scenario.queue is None else f"{split_name(engine)[0]}+{scenario.queue}"


def explained(run: Run, name: str, get: Callable[[str], Engine], *, anomaly: str = "") -> Run:
    """Answer a run that failed on the engine of this name together with what would have stopped its anomaly.

    On PostgreSQL fewer runs are drawn anew: hundreds for each change would keep everybody waiting.
    """
    engine = get(name)
    if not run.anomalies or run.scenario.processors:
        return run
    counterfactual = import_module(COUNTERFACTUAL)
    guarded = [counterfactual.Safeguard(what, get(other)) for what, other in safeguards(name, engine).items()]
    runs = counterfactual.RUNS_ON_A_SERVER if getattr(engine, "provenance", None) else counterfactual.RUNS
    told: Run = counterfactual.explained(run, engine=engine, safeguards=guarded, anomaly=anomaly, runs=runs)
    return told


def safeguards(name: str, engine: Engine) -> dict[str, str]:
    """Answer, by the name of each safeguard that an engine lacks, the name of the engine that has it."""
    declared: Mapping[str, Any] = getattr(engine, "safeguards", {})
    if declared or is_target(name):
        return {safeguard: f"{name}+{safeguard}" for safeguard in declared}
    right, mistake = split_name(name)
    return {} if mistake is None else {import_module(MISTAKES).safeguard_of(mistake): right}


def bare_name(name: str) -> str:
    """Answer the name of an engine or application without its mistake or safeguards, on whose server they stand."""
    return name.partition("+")[0]


def split_name(name: str) -> tuple[str, str | None]:
    """Take `engine+mistake` apart; a version stays with its engine, and a target is one name.

    Raises UsageError for names that do not exist, with the nearest that does.
    """
    if is_target(name):
        return name, None
    engine, plus, mistake = name.partition("+")
    base, at, version = engine.partition("@")
    if base not in engine_names():
        known = engine_names()
        raise UsageError(f"no such engine: {base!r}{did_you_mean(base, known)}", hint=f"There are {', '.join(known)}.")
    if at and (not version or (base in SHIPPED and base not in RELEASED)):
        raise UsageError(
            f"no such engine: {engine!r}: {base} has no versions" if version else f"{engine!r} names no version",
            hint=f"Engines with versions are {', '.join(sorted(RELEASED))}, as in pgboss@10.4.2.",
        )
    if plus and mistake not in wrong_queues():
        known = sorted(wrong_queues())
        raise UsageError(
            f"no such wrong queue: {mistake!r}{did_you_mean(mistake, known)}",
            hint=f"There are {', '.join(known)}." if known else "This installation has none.",
        )
    return engine, mistake or None


def open_engine(name: str) -> Engine:
    """Open an engine by name; the caller closes it.

    Raises UsageError for names that do not exist, NotApplicable where the mistake does not fit the engine,
    EnvironmentUnavailable where the machine lacks what the engine needs.
    """
    engine, mistake = split_name(name)
    if is_target(name):
        target: Engine = import_module(TARGETS).open_target(name, store=_store_of(name))
        return target
    if mistake is not None:
        return _mistaken(engine, mistake)
    opened: Engine = _factory(engine)()
    return opened


def _store_of(target: str) -> Any:
    """Open the store that a target names; None where it names none, or only memory."""
    named = import_module(TARGETS).store_of(target)[1]
    store, at, version = named.partition("@")
    if not named or named == "memory":
        return None
    if store not in STORES or (at and not version):
        raise UsageError(
            f"{target}: no application's tables can be on {named!r}{did_you_mean(store, STORES)}",
            hint=f"They are in memory, or on {', '.join(STORES)}, with a version as in pgboss@10.4.2.",
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


def _factory(engine: str) -> Callable[[], Engine]:
    base, _, version = engine.partition("@")
    wanted = {"version": version} if version else {}
    if base not in SHIPPED:
        found = load(f"{ENGINES}:{base}", offered(ENGINES)[base].load)
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


def scenario_processors(scenario: Scenario) -> RealProcessors:
    """Open the real processors of a scenario; the caller closes them.

    Raises UsageError for names that do not exist, EnvironmentUnavailable where there is no Node for TypeScript.
    """
    opened: RealProcessors = import_module("harness.processors.scenario_processors").ScenarioProcessors(scenario)
    return opened


def prepare(engine: Engine) -> None:
    """Let an engine that installs and starts something do so now, rather than within the first run.

    Raises EnvironmentUnavailable where what it needs cannot be had.
    """
    if ready := getattr(engine, "prepare", None):
        ready()


class Engines:
    """Opens each engine once and closes all. A context manager; closing never raises."""

    def __init__(self) -> None:
        self._open: dict[str, Engine] = {}

    def get(self, name: str) -> Engine:
        """Answer the engine with this name.

        Raises what `open_engine` raises.
        """
        engine = self._open.get(name)
        if engine is None:
            engine = self._open[name] = self._opened(name)
        return engine

    def _opened(self, name: str) -> Engine:
        """A wrong queue stands on the server of the right one, and an application with a safeguard on that without it.

        One server, however many mistakes and safeguards.
        """
        if is_target(name):
            bare, plus, safeguard = name.rpartition("+")
            guarded = getattr(self.get(bare), "guarded", None) if plus else None
            return open_engine(name) if guarded is None else guarded(safeguard)
        right, mistake = split_name(name)
        return open_engine(name) if mistake is None else _mistaken(right, mistake, beside=self.get(right))

    def provenances(self) -> list[str]:
        """Say of every open engine that had to be provisioned where it came from, each once."""
        told = (str(getattr(engine, "provenance", "")) for engine in self._open.values())
        return list(dict.fromkeys(text for text in told if text))

    def releases(self) -> list[str]:
        """Say of every open engine that was asked for without its whole version which release it is."""
        return [
            f"{name} is {engine.name}"
            for name, engine in self._open.items()
            if bare_name(name).partition("@")[0] in RELEASED and "+" not in name and engine.name != name
        ]

    def drop(self, name: str) -> None:
        """Close one engine; the next `get` opens it anew."""
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


def _close(engine: Engine) -> None:
    try:
        engine.close()
    except (HarnessError, OSError):
        return
