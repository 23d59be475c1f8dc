"""A finding of an explored test, said as a scenario that was played and fails for the same reason.

Two halves. Where the test runs, `script_of` reads off its harness what a file can hold: processors
by their names, jobs with their options and times, how they ended. A process of its own then
searches for the tape: there modules are as fresh as they will be for `job-harness run`, and each
try has its own fork of it. Only what was written, read back and played from the file is kept. Knows
neither pytest nor how the finding was made.
"""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from subprocess import PIPE
from types import MethodType, ModuleType
from typing import TYPE_CHECKING, Any, Final

from job_harness.core.faults import events_of
from job_harness.core.history import Call, Excuse, Fault, History
from job_harness.core.invariants import ANOMALIES
from job_harness.core.model import Instant, JobId, Settings
from job_harness.core.run.play import play
from job_harness.core.scenario.job_plan import JobPlan, OperatorAct, ProcessorPlan
from job_harness.core.scenario.reader import read_scenario
from job_harness.core.scenario.scenario import FOUND, Expectation, Scenario
from job_harness.core.sim import EVERYBODY, Choices, Deviation, ListedGates, Option, Tape
from job_harness.core.target import Target
from job_harness.errors import HarnessError, UsageError
from job_harness.search.loop import Here, play_in_order
from job_harness.search.reproduction import FOUND_FOLDER, keep
from job_harness.search.targets import Engines, scenario_processors
from job_harness.subjects.processors.scenario_processors import found
from job_harness.subjects.processors.shut_off import shut_off
from job_harness.subjects.processors.typescript.target import JavaScript, TypeScriptProcessor, names_typescript
from job_harness.worlds.patience import Deadline
from job_harness.worlds.peers.peer import end_tree
from job_harness.worlds.private import ignored_folder, write_private

if TYPE_CHECKING:
    from job_harness.subjects.processors import JobHarness

IN_MEMORY: Final = "reference (memory)"
"""What a harness calls its place of work where a scenario has an engine like it."""
ENGINES: Final = ("memory", "reference")
TRIES: Final = 60
"""Tapes that are played, of one arrangement on one engine."""
SEARCH_SECONDS: Final = 20.0
"""Real seconds after which a search looks no further."""
LONGEST_SECONDS: Final = 60.0
"""Real seconds after which its process is ended."""
TEST: Final = "test"


class _NotSayable(Exception):
    """A scenario file cannot hold it."""


# what a test asked for ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TestScript:
    """One run of a test, as far as a scenario can say it; `unsayable` is why it cannot."""

    __test__ = False  # It is no test of pytest's.

    settings: Settings = field(default_factory=Settings)
    processors: Mapping[str, ProcessorPlan] = field(default_factory=dict)
    """By tool; the folder of each is where it is looked for."""
    jobs: tuple[JobPlan, ...] = ()
    ends: Mapping[JobId, Expectation] = field(default_factory=dict)
    """What became of each job, and which side effects were declared for it."""
    unsayable: str = ""


def script_of(harness: JobHarness) -> TestScript:
    """Read off a harness, at rest, what its test asked of it and what that came to."""
    try:
        if harness.engine != IN_MEMORY:
            raise _NotSayable(f"{harness.engine} has gates of its own, which a scenario cannot hold")
        if harness.bench.guests.is_process:
            raise _NotSayable("a file cannot say what a process does when it starts (on_start)")
        if jobs := sorted(harness.bench.descent.jobs):
            raise _NotSayable(f"a processor enqueues {jobs[0]} through the test's harness")
        history = harness.history
        plans = _jobs(history, harness.settings)
        wanted = dict.fromkeys(plan.tool for plan in plans)
        processors = {tool: _processor(tool, harness.book.served[tool]) for tool in wanted}
    except _NotSayable as why:
        return TestScript(unsayable=str(why))
    ends = {plan.name: _end(history, plan.name) for plan in plans if history.path(plan.name)}
    return TestScript(harness.settings, processors, tuple(plans), ends)


def _jobs(history: History, settings: Settings) -> list[JobPlan]:
    plans: dict[JobId, JobPlan] = {}
    for event in history:
        if type(event) is Fault:
            _refuse_moves(event)
        if type(event) is not Call or event.actor != TEST:
            continue
        if event.verb == "enqueue":
            asked = event.arguments[0]
            plans[asked.id] = JobPlan(
                name=asked.id,
                tool=asked.tool,
                input=asked.input,
                at=event.at,
                start_after=None if asked.start_after is None else max(0, asked.start_after - event.at),
                priority=asked.priority,
                max_attempts=None if asked.max_attempts == settings.max_attempts else asked.max_attempts,
                unique_key=asked.unique_key,
            )
        elif event.verb in ("cancel", "retry") and event.job in plans:
            plans[event.job] = _operated(plans[event.job], event.verb, event.at)
    if not plans:
        raise _NotSayable("the test enqueues no job")
    return list(plans.values())


def _refuse_moves(event: Fault) -> None:
    """Refuse what a test did to its harness that a scenario says by steps, which have no tape beside them."""
    if event.name in events_of(Excuse.DEATH) and event.data.get("at") == "now":
        raise _NotSayable("the test itself chooses when its worker crashes")
    if event.name in events_of(Excuse.LATE) and event.actor == EVERYBODY:
        raise _NotSayable("the test makes the clock jump")


def _operated(plan: JobPlan, verb: str, at: Instant) -> JobPlan:
    """Add what an operator did."""
    acts = list(plan.operated())
    after = at - plan.at - sum(act.after for act in acts)
    if verb == "cancel" and not acts:
        return replace(plan, cancel_after=after)
    if verb == "retry" and not plan.then and plan.retry_after is None:
        return replace(plan, retry_after=after)
    return replace(plan, then=(*plan.then, OperatorAct(verb, after)))


def _processor(tool: str, given: Any) -> ProcessorPlan:
    """Name a processor and the folder in which a scenario finds it."""
    if isinstance(given, str) and not names_typescript(given):
        name, _, path = given.partition(":")
        return _of_python(tool, import_module(name), path)
    if isinstance(given, str | TypeScriptProcessor):
        return _of_typescript(tool, TypeScriptProcessor(given) if isinstance(given, str) else given)
    path = str(getattr(given, "__qualname__", ""))
    module = sys.modules.get(str(getattr(given, "__module__", "")))
    found: Any = module
    if "<" in path:
        raise _NotSayable(f"the processor of {tool!r} is made inside a function, `{path}`, so no file can name it")
    for name in path.split("."):
        found = getattr(found, name, None)
    if not path or module is None:
        raise _NotSayable(f"the processor of {tool!r}, a {type(given).__name__}, has no name in a module")
    if isinstance(given, MethodType):
        raise _NotSayable(f"the processor of {tool!r} is a method of an object, `{path}`, which no file can name")
    if found is not given:
        raise _NotSayable(
            f"the processor of {tool!r} is not the object that {module.__name__}.{path} names: a decorator replaced it"
        )
    return _of_python(tool, module, path)


def _of_python(tool: str, module: ModuleType, path: str) -> ProcessorPlan:
    file = getattr(module, "__file__", None)
    run = f"{module.__name__}:{path}"
    if module.__name__ == "__main__" or file is None:
        raise _NotSayable(f"the processor of {tool!r} is in {module.__name__}, which a scenario cannot import")
    place, parts = Path(file).absolute(), module.__name__.split(".")
    if "site-packages" in place.parts:
        return ProcessorPlan(run)
    place = place.parent if place.stem == "__init__" else place.with_suffix("")
    if list(place.parts[-len(parts) :]) != parts:
        raise _NotSayable(f"the processor of {tool!r} is in {file}, which was imported as {module.__name__}")
    root = place.parents[len(parts) - 1]
    return ProcessorPlan(run, folder=str(root), further=tuple(each for each in _own_folders() if each != str(root)))


def _own_folders() -> list[str]:
    """List the folders of this project from which modules are imported here: pytest adds those of tests, and others."""
    here = Path.cwd()
    folders = [Path(each or here).absolute() for each in sys.path]
    return [str(each) for each in folders if each.is_relative_to(here) and "site-packages" not in each.parts]


def _of_typescript(tool: str, given: TypeScriptProcessor) -> ProcessorPlan:
    if given.environment:
        raise _NotSayable(f"the processor of {tool!r} sets its own environment")
    if given.fetch is not None and not (isinstance(given.fetch, Mapping) and _is_json(given.fetch)):
        raise _NotSayable(f"`fetch` of the processor of {tool!r} is not a table of replies")
    return ProcessorPlan(
        given.target,
        globals={name: _source(tool, name, value) for name, value in given.globals.items()},
        stubs={name: _stub(tool, name, stub) for name, stub in given.stubs.items()},
        fetch={} if given.fetch is None else dict(given.fetch),
        folder=str(Path.cwd() if given.root is None else Path(given.root).absolute()),
    )


def _source(tool: str, name: str, value: Any) -> str:
    if isinstance(value, JavaScript):
        return value.source
    if not _is_json(value):
        raise _NotSayable(f"the global {name!r} of the processor of {tool!r} is a Python object")
    return json.dumps(value)


def _stub(tool: str, name: str, stub: Any) -> str:
    if not isinstance(stub, str | os.PathLike):
        raise _NotSayable(f"the stub of {name!r} for {tool!r} is not a file")
    return os.fspath(stub)


def _is_json(value: Any) -> bool:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        return False
    return True


# the search, where the test runs --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SoughtScenario:
    """What a scenario is to show: the finding, and what the undisturbed run came to, which it expects."""

    calm: TestScript
    script: TestScript
    anomaly: str
    tape: Tape
    title: str
    why: str
    file: Path


@dataclass(frozen=True, slots=True)
class WrittenScenario:
    """The scenario that shows it, or why there is none."""

    engine: str = ""
    problem: str = ""


def write_found(sought: SoughtScenario) -> WrittenScenario:
    """Write the scenario, by a process of its own; what it prints is dropped."""
    if problem := sought.script.unsayable or sought.calm.unsayable:
        return WrittenScenario(problem=problem)
    if not sought.tape and sought.anomaly not in ANOMALIES:
        return WrittenScenario(problem="the undisturbed run fails one of the test's own checks")
    folder = sought.file.parent
    command = [sys.executable, "-c", f"from {__name__} import main; main()"]
    try:
        (ignored_folder if folder.parts[-2:] == FOUND_FOLDER.parts else _made)(folder)
        with subprocess.Popen(command, stdin=PIPE, stdout=PIPE, stderr=PIPE) as process:
            try:
                answer, said = process.communicate(pickle.dumps(sought), timeout=LONGEST_SECONDS)
            except BaseException:
                end_tree(process.pid)  # The fork that tries a tape, and what a processor has started, end with it.
                raise
    except OSError as error:
        return WrittenScenario(problem=f"{error.filename}: {error.strerror}")
    except subprocess.TimeoutExpired:
        return WrittenScenario(problem=f"none was found within {LONGEST_SECONDS:g} s")
    if not answer:
        last = said.decode(errors="replace").strip().rpartition("\n")[2]
        return WrittenScenario(
            problem=f"the process that searches for one ended with exit code {process.returncode}: {last}"
        )
    written: WrittenScenario = pickle.loads(answer)
    return written


def _made(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)


# the search, in its process -------------------------------------------------------------------------------------------


def main() -> None:
    """Read what is sought from standard input, search, and write the answer to the real standard output."""
    sought: SoughtScenario = pickle.loads(sys.stdin.buffer.read())
    out, quiet = os.dup(1), os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1):
        os.dup2(quiet, stream)
    answer = pickle.dumps(ScenarioSearch(sought).written())
    with os.fdopen(out, "wb") as told:
        told.write(answer)


@dataclass(frozen=True, slots=True)
class PlayedScenario:
    """What a try came to."""

    problem: str = ""
    """Why it says nothing: it could not be played, or its tape never came up."""
    failed: str = ""
    """The first thing that its expectations found."""
    anomalies: frozenset[str] = frozenset()
    ends: Mapping[JobId, Expectation] = field(default_factory=dict)
    gates: tuple[tuple[str, int, tuple[Option, ...]], ...] = ()


@dataclass(slots=True)
class ScenarioSearch:
    """Tries tapes until the scenario fails as the test did."""

    sought: SoughtScenario
    problem: str = ""
    """Why the last arrangement did not do."""
    tried: int = 0
    _plans: dict[str, ProcessorPlan] = field(default_factory=dict)
    """By tool, its processor with no more folders than it needs."""

    def written(self) -> WrittenScenario:
        """Search, and write what was found; it is kept if it shows the finding when it is played from its file."""
        deadline = Deadline(SEARCH_SECONDS)
        try:
            self._load()
            for engine, scenario, seen in play_in_order(
                self._candidates(), Here(self._try), goes_on=lambda: not deadline.passed
            ):
                self.tried += 1
                if self._shows(seen):
                    self._keep(scenario, engine, seen)
                    return WrittenScenario(engine)
        except HarnessError as error:
            return WrittenScenario(problem=error.message)
        tried = "1 tape does not fail" if self.tried == 1 else f"none of {self.tried} tapes fails"
        return WrittenScenario(problem=f"{tried} a scenario in the same way" if self.tried else self.problem)

    def _load(self) -> None:
        """Import what every try needs, so that no fork has to; the processors too, which a fresh process imports once.

        Raises what finding a processor raises.
        """
        with Engines() as engines:
            engines.get(Target.parse(ENGINES[0]))
        for tool, plan in self.sought.script.processors.items():
            self._plans[tool] = alone = replace(plan, further=())
            try:
                found(alone)
            except UsageError:
                found(plan)  # What it imports is elsewhere.
                self._plans[tool] = plan

    def _try(self, candidate: tuple[str, Scenario]) -> tuple[str, Scenario, PlayedScenario]:
        engine, scenario = candidate
        return engine, scenario, self._play(scenario, engine)

    def _candidates(self) -> Iterator[tuple[str, Scenario]]:
        for engine in ENGINES:
            for scenario in self._arrangements():
                calm = self._play(scenario, engine, ListedGates)
                if self.sought.tape and (why := calm.failed or ", ".join(calm.anomalies)):
                    self.problem = f"its undisturbed run does not end as the test's does: {why}"
                    break
                if self.sought.tape and calm.problem:
                    self.problem = calm.problem
                    break
                for tape in self._tapes(calm):
                    yield engine, replace(scenario, tape=tape)

    def _arrangements(self) -> Iterator[Scenario]:
        """Yield the scenario with a second worker, who takes over, and with one that comes back at once."""
        sought = self.sought
        expected = {job: end for job, end in sought.calm.ends.items() if job in sought.script.ends}
        folder = sought.file.parent
        plain = Scenario(
            title=sought.title,
            why=sought.why,
            settings=sought.script.settings,
            processors={tool: _at(plan, folder) for tool, plan in self._plans.items()},
            workers=("worker-1", "worker-2"),
            jobs=sought.script.jobs,
            expect=expected,
        )
        yield plain
        yield replace(plain, workers=("worker-1",), restart_after=0)

    def _tapes(self, calm: PlayedScenario) -> list[Tape]:
        """List the finding's own tape, the same with a scenario's gates, and each single deviation of its kinds."""
        tape = self.sought.tape
        gates = {(label, nth): {option.words for option in options} for label, nth, options in calm.gates}
        kinds = {deviation.option for deviation in tape}
        singles = [
            (Deviation(label, nth, words),) for (label, nth), offered in gates.items() for words in kinds & offered
        ]
        waits = tuple(_as_wait(deviation) for deviation in tape)
        return list(dict.fromkeys([tape, waits, *singles]))[:TRIES]

    def _keep(self, scenario: Scenario, engine: str, seen: PlayedScenario) -> None:
        """Write a scenario that shows the finding. Raises UsageError where it does not when played from its file."""
        file = self.sought.file
        if self.sought.anomaly in seen.anomalies:
            scenario = replace(scenario, title=f"{self.sought.anomaly}{FOUND}")
        if problem := keep(scenario, lambda text: write_private(file, text)):
            raise UsageError(problem)
        if not self._shows(self._play(read_scenario(file), engine)):
            file.unlink()
            raise UsageError("it does not fail when its file is run")

    def _shows(self, seen: PlayedScenario) -> bool:
        """Whether a try shows the same anomaly, or the jobs end differently from the expected in the same way."""
        if seen.problem:
            return False
        if self.sought.anomaly in seen.anomalies:
            return True
        calm = self.sought.calm.ends
        wanted = _changes(calm, self.sought.script.ends)
        return bool(wanted) and bool(seen.failed) and _changes(calm, seen.ends) == wanted

    def _play(self, scenario: Scenario, engine: str, choices: Callable[[], Choices] | None = None) -> PlayedScenario:
        """Play a scenario in a fork of this process, so that no try finds what another one has left in a module."""
        out, into = os.pipe()
        if (pid := os.fork()) == 0:
            try:
                with os.fdopen(into, "wb") as end:
                    end.write(pickle.dumps(_play_alone(scenario, engine, None if choices is None else choices())))
            finally:
                os._exit(0)  # Whatever was raised: this is a copy of the search, and must not go on with it.
        os.close(into)
        with os.fdopen(out, "rb") as told:
            answer = told.read()
        os.waitpid(pid, 0)
        seen: PlayedScenario = pickle.loads(answer) if answer else PlayedScenario(problem="its process ended")
        return seen


def _play_alone(scenario: Scenario, engine: str, choices: Choices | None) -> PlayedScenario:
    """Play a scenario in this fork, and let it reach nothing outside: no fake of the test's stands there any more."""
    in_node = any(names_typescript(plan.run) for plan in scenario.processors.values())
    attempts = [] if in_node else shut_off()  # What a processor in Node reaches is its harness's affair.
    seen = _played(scenario, engine, choices)
    if attempts:
        return PlayedScenario(problem=f"without the test's replacements, a processor {attempts[0]}")
    return seen


def _played(scenario: Scenario, engine: str, choices: Choices | None) -> PlayedScenario:
    try:
        with Engines() as engines:
            run = play(
                scenario, engine=engines.get(Target.parse(engine)), processors=scenario_processors, choices=choices
            )
    except HarnessError as error:
        return PlayedScenario(problem=error.message)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - what a module raises while it is imported
        return PlayedScenario(problem=f"{type(error).__name__}: {error}")
    ends = {job: _end(run.history, job) for job in scenario.expect}
    gates = tuple(choices.gates) if isinstance(choices, ListedGates) else ()
    return PlayedScenario("; ".join(run.uncovered), "; ".join(run.failures[:1]), run.found, ends, gates)


def _end(history: History, job: JobId) -> Expectation:
    path = history.path(job)
    return Expectation(status=path[-1] if path else "gone", effects=history.effects(job))


def _changes(calm: Mapping[JobId, Expectation], ends: Mapping[JobId, Expectation]) -> set[tuple[JobId, str, str]]:
    """Return how jobs ended differently: another status, or a side effect more or less often."""
    changes: set[tuple[JobId, str, str]] = set()
    for job in calm.keys() & ends.keys():
        before, after = calm[job], ends[job]
        if before.status != after.status:
            changes.add((job, "status", str(after.status)))
        counts = (before.effects or {}), (after.effects or {})
        for name in counts[0].keys() | counts[1].keys():
            less, more = counts[0].get(name, 0), counts[1].get(name, 0)
            if less != more:
                changes.add((job, name, "more" if more > less else "less"))
    return changes


def _as_wait(deviation: Deviation) -> Deviation:
    """Return a deviation at a line of the user's as one at a wait of its processor, which is what a scenario has."""
    actor, _, rest = deviation.label.partition(" ")
    place, _, job = rest.rpartition(" ")
    if ":" not in place and not place.startswith("reply of"):
        return deviation
    return deviation._replace(label=f"{actor} running {job}")


def _at(plan: ProcessorPlan, folder: Path) -> ProcessorPlan:
    """Return a processor as a file in this folder names it."""
    roots = [os.path.relpath(each, folder) for each in (plan.folder, *plan.further) if each]
    return replace(plan, root=() if roots in ([], ["."]) else tuple(roots))
