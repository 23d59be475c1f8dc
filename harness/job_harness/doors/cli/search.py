"""What `explore` and `exhaust` share: the options of a search, checked before anything starts, and its findings, shown.

Whatever goes wrong with a finding costs only its own line: one that cannot be written or replayed
is still shown.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from job_harness.core.faults import kinds
from job_harness.core.history import Fault
from job_harness.core.interruption import INTERRUPTIONS
from job_harness.core.invariants import ANOMALIES, Guarantee, anomalies_named, everything, kind_of, stepwise, unasked
from job_harness.core.invariants.effects import at_most_once
from job_harness.core.model import SECOND, Design, Settings, parse_duration
from job_harness.core.port import Engine
from job_harness.core.printable import as_it_is
from job_harness.core.run.play import uncovered_capabilities
from job_harness.core.run.verdict import Run
from job_harness.core.scenario.scenario import DEFAULTS, Scenario, without_maintenance
from job_harness.core.target import Target
from job_harness.core.yaml_files import is_system_file
from job_harness.doors.cli.campaign_screen import Told, finding_results, search_result
from job_harness.doors.cli.output import ANNOTATIONS, OutputFile, annotate, output_files, show_lines
from job_harness.errors import ExitCode, NothingToJudge, UsageError, clipped, did_you_mean
from job_harness.report.blame import with_source
from job_harness.report.screen import (
    HEIGHT,
    Line,
    changed_settings,
    clip,
    first_screen,
    replay_command,
    screen_text,
    setting_text,
    wrap,
)
from job_harness.search.cases import FIX_SECONDS, SYSTEM_FIX_SECONDS, with_fixes
from job_harness.search.finding import ScenarioFinding
from job_harness.search.reproduction import FOUND_FOLDER, Reproduction, keep, reproduce, scenario_of
from job_harness.search.targets import SESSIONS, WITHOUT, Engines, check, reopening, targets
from job_harness.search.watchdog import PATIENCE, SearchTime
from job_harness.worlds.private import ignored_folder

if TYPE_CHECKING:
    from job_harness.review.check.releases import ReleaseSpan

STOPPED = "interrupted"
TIME_OVER = "--time is over"
MOST_PATIENCE = 86_400.0
"""Seconds that a step may take at most before it counts as hanging: longer is no limit."""
WIDTH = 80
LINE_EVERY = 10.0
"""Real seconds between two lines of progress where no terminal shows a bar."""
LINES_BELOW = 4
"""What is told below the first screen; together they fit a terminal."""
LONGEST = 120
"""Characters of a file's name: a target may be a long path."""
TARGET = "an engine, a queue file (queue.yaml), {}module:factory or file.py:factory"


# asked ----------------------------------------------------------------------------------------------------------------


def configure_search(
    parser: argparse.ArgumentParser, *, also: str = "", or_a: str = "", queues: str, sessions: str
) -> None:
    """Declare the options of every search.

    `also` and `or_a` are what else this one searches, `queues` says what it does with several, `sessions` when it has
    sessions.
    """
    add = parser.add_argument
    add("target", nargs="?", default="memory", metavar="TARGET", help=f"{TARGET.format(also)}{or_a} (default: memory)")
    add("--sessions", action=argparse.BooleanOptionalAction, help=f"{SESSIONS} ({sessions})")
    add(
        "--time",
        type=_seconds,
        metavar="TIME",
        help="stop after this time: 90 (seconds), 30s or 5m (default: no limit)",
    )
    add(
        "--set",
        action="append",
        default=[],
        dest="changes",
        metavar="SETTING=VALUE",
        help="change a setting, as listed in docs/scenarios.md#settings (repeatable)",
    )
    add(
        "--settings-from",
        metavar="DIR[#QUEUE]",
        help=f"use the settings of the repository in DIR, as `check` reads them; {queues}",
    )
    add("--queue", metavar="NAME", help="with --settings-from: only the queue of this name, as DIR#NAME does")
    add("--looking-for", action="append", default=[], metavar="ANOMALY", help="look for this anomaly only (repeatable)")
    add("--without", action="append", default=[], metavar="ANOMALY", help=WITHOUT)
    add(
        "--keep-going",
        action="store_true",
        help="keep searching after a finding, and report each anomaly once (otherwise the first one ends the search)",
    )
    add(
        "--patience",
        type=float,
        default=PATIENCE,
        metavar="SECONDS",
        help="a step that takes longer counts as hanging (default: 10)",
    )
    add("--save", metavar="FILE", help=f"where to write the failing scenario (default: a file in {FOUND_FOLDER}/)")
    engines = "also replay findings on these engines, separated by commas"
    add("--replay-on", dest="replay", default="", metavar="ENGINES", help=engines)
    add("--json", metavar="FILE", help="write what was found and covered as JSON")
    add("--trace", metavar="FILE", help="write what was found as a trace that ui.perfetto.dev opens")
    add("--html", metavar="FILE", help="draw what was found, as one HTML file that needs no network")
    add("--junit", metavar="FILE", help="write JUnit XML: a failing case for each anomaly")
    add("--verbose", "-v", action="store_true", help="also print how each failing run was drawn")
    add("--annotations", action="store_true", help=ANNOTATIONS)
    add("--quiet", "-q", action="store_true", help="print only the verdict and what was found")


def _seconds(text: str) -> float:
    """Read seconds, or a duration with a unit. Raises ArgumentTypeError naming the text and what is accepted."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if math.isfinite(seconds):
        return seconds
    try:
        return parse_duration(text) / SECOND
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"expected seconds (90) or a duration (30s, 5m), not {clipped(text)}"
        ) from None


@dataclass(frozen=True, slots=True)
class SearchRequest:
    """What was asked of a search, checked before anything is started."""

    target: Target
    """With `--sessions`, where that was asked for."""
    settings: Settings
    """Of the repository that was named, else the defaults."""
    wanted: frozenset[str]
    without: frozenset[str]
    """Anomalies that are not reported."""
    others: tuple[Target, ...]
    """Engines on which what is found is replayed."""
    output: OutputFile | None
    report: OutputFile | None
    html: OutputFile | None
    trace: OutputFile | None
    junit: OutputFile | None
    checkpoint: OutputFile | None
    annotated: bool
    verbose: bool
    queue: str
    """The queue of the repository whose settings these are; empty: none was named."""

    @classmethod
    def checked(
        cls, arguments: argparse.Namespace, *, file_sessions: bool = False, checkpoint: str = ""
    ) -> SearchRequest:
        """Check what every search is asked; `file_sessions`: a queue file has sessions unless that is refused.

        `checkpoint` is the option that names where the search is kept; one with another name may be read for it.
        Raises UsageError that names the option.
        """
        _refuse_no_time(arguments)
        folder, queue = _named_queue(arguments.settings_from, arguments.queue)
        settings = settings_of(folder, queue, target=str(arguments.target))
        changes_of(arguments)
        wanted, without = _anomalies(arguments)
        target = _target(arguments, file_sessions=file_sessions)
        read = [target.file] if target.file else []
        if checkpoint == "checkpoint" and arguments.resume not in (None, arguments.checkpoint):
            read.append(arguments.resume)
        options = ("save", "json", "html", "trace", "junit", *filter(None, [checkpoint]))
        outputs = output_files(arguments, *options, inputs=read)
        return cls(
            target=target,
            settings=settings,
            wanted=wanted,
            without=without,
            others=tuple(targets(arguments.replay)),
            output=outputs.get("save"),
            report=outputs.get("json"),
            html=outputs.get("html"),
            trace=outputs.get("trace"),
            junit=outputs.get("junit"),
            checkpoint=outputs.get(checkpoint),
            annotated=arguments.annotations,
            verbose=arguments.verbose,
            queue=queue,
        )

    def held(self, settings: Settings, engine: Engine, *, named: bool) -> Settings:
        """Return the settings with what the target fixes; of a repository that was `named`, say what is lost."""
        held = engine.info.contract.held(settings)
        lost = changed_settings(settings, default=held) if named else {}
        for name, (wanted, own) in lost.items():
            where = engine.info.contract.fixed_where.get(name, f"{engine.info.name} fixes it")
            print(f"  not taken: {name} {wanted}. It stays {own}: {where}")
        return held

    @property
    def is_written(self) -> bool:
        """Whether the result is written as JSON, drawn, or traced."""
        return any((self.report, self.html, self.trace))

    def write(self, data: dict[str, Any]) -> None:
        """Write the result as JSON, draw it and trace it, where that was asked for."""
        if self.report is not None:
            self.report.write(json.dumps(data, indent=2) + "\n")
        if self.html is not None:
            from job_harness.report.picture import picture  # what few ask for is imported when it is asked for

            self.html.write(picture(data))
        if self.trace is not None:
            from job_harness.report.trace import trace

            self.trace.write(trace(data))

    def tell_ci(self, engine: str, told: Mapping[str, Told], *, code: int, message: str) -> None:
        """Write for CI what was found; of a search without a finding, its exit code and why."""
        from job_harness.report.ci import junit_xml

        known = ExitCode(code) if code in list(ExitCode) else ExitCode.INCONCLUSIVE
        results = finding_results(engine, told) or [search_result(engine, known, message)]
        if self.annotated:
            annotate([each._replace(picture=str(self.html.path)) for each in results] if self.html else results)
        if self.junit is not None:
            self.junit.write(junit_xml(results))

    def presenter(
        self, engine: Engine, engines: Engines, halted: str = "", search_time: SearchTime | None = None
    ) -> FindingPresenter:
        """Return who shows what is found on this engine."""
        until = search_time or SearchTime()
        return FindingPresenter(
            reopening(self.target, engine), engines, self.others, self.output, halted, self.verbose, self.queue, until
        )


def _refuse_no_time(arguments: argparse.Namespace) -> None:
    if arguments.time is not None and not arguments.time > 0:
        raise UsageError(
            f"--time must be above 0, not {arguments.time:g}", hint="Give seconds (90), or a duration (5m)."
        )
    if not arguments.patience > 0:
        raise UsageError(f"--patience must be above 0, not {arguments.patience:g}", hint="Give seconds, such as 600.")
    if arguments.patience > MOST_PATIENCE:
        raise UsageError(
            f"--patience must be a day at most, not {arguments.patience:g} s", hint="Give seconds, such as 600."
        )


def _anomalies(arguments: argparse.Namespace) -> tuple[frozenset[str], frozenset[str]]:
    """Return what is looked for, and what is not reported."""
    own = _own_promises(arguments.target)
    wanted, without = anomalies_named(arguments.looking_for, beside=own), anomalies_named(arguments.without, beside=own)
    if both := sorted(wanted & without):
        raise UsageError(f"--looking-for and --without both name {both[0]}", hint="Leave one of them out.")
    return wanted, without


def _target(arguments: argparse.Namespace, *, file_sessions: bool) -> Target:
    """Return the one engine or file that is searched, with sessions where it has them."""
    asked: bool | None = arguments.sessions
    target = Target.parse(arguments.target)
    if "," in target.place and not target.is_own:
        count = arguments.target.count(",") + 1
        raise UsageError(
            f"{arguments.command} takes one engine, and {count} are named: {arguments.target}",
            hint="Run the command once for each engine.",
        )
    unasked = file_sessions and target.is_file and not target.is_system  # A system's processes have their own anyway.
    target = replace(target, sessions=target.sessions or (unasked if asked is None else asked))
    check(target)
    return target


def _own_promises(target: str) -> frozenset[str]:
    """Name the anomalies that a file declares itself: a system file under `promises`, a queue file under `no_row`."""
    parsed = Target.parse(target)
    place = parsed.place
    if parsed.is_file and not is_system_file(place):
        from job_harness.engines.queue_file.document import read_queue_file

        return frozenset(each.name for each in read_queue_file(place).no_row)
    if not is_system_file(place):
        return frozenset()
    from job_harness.subjects.systems.document import read_system_file

    file = read_system_file(place)
    repeated = {kind.name for kind in at_most_once("").anomalies} if file.at_most_once else set()
    return frozenset(repeated.union(each.name for each in file.no_row))


def usual_settings(engine: Engine) -> tuple[Settings, str]:
    """Return the settings that are no news, and what they are called: those in the user's own file, or the defaults."""
    own = engine.info.settings if engine.info.contract.file else None
    return (DEFAULTS, "default") if own is None else (own, "in the file")


def changed(settings: Settings, arguments: argparse.Namespace, engine: Engine) -> Settings:
    """Return the settings with what `--set` changes.

    Raises UsageError for a change that the engine would ignore, or that asks for what it cannot do:
    what was found under it could not be replayed there.
    """
    changes = changes_of(arguments)
    engine.info.contract.refuse(changes)
    asked = settings.changed(**changes)
    if not engine.info.capabilities.maintenance and "stuck_timeout" not in changes:
        asked = without_maintenance(asked)
    before = uncovered_capabilities(Scenario(settings=settings), engine)
    for told in uncovered_capabilities(Scenario(settings=asked), engine):
        if told not in before:
            raise UsageError(f"--set: {told.partition('; ')[0]}", hint="Leave it out, or name an engine that has it.")
    return asked


def changes_of(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return what `--set` changes, durations in microseconds. Without it nothing is read, and pydantic not imported.

    Raises UsageError that names the option and what would have been accepted.
    """
    if not arguments.changes:
        return {}
    from job_harness.core.scenario.reader import parse_changes

    return parse_changes(arguments.changes)


def _named_queue(folder: str | None, queue: str | None) -> tuple[Path | None, str]:
    """Return the repository that was named and its queue, by --queue or as DIR#QUEUE; empty: none was."""
    if folder is None:
        if queue is not None:
            raise UsageError("--queue needs --settings-from DIR", hint="Name the repository whose settings count.")
        return None, ""
    if Path(folder).is_dir() or "#" not in folder:
        return Path(folder), queue or ""
    if queue is not None:
        raise UsageError(f"--settings-from {folder} names a queue, and so does --queue", hint="Leave one of them out.")
    name, _, queue = folder.rpartition("#")
    return Path(name), queue


def queues_to_search(arguments: argparse.Namespace) -> list[str]:
    """Return the queues of the repository that was named, where none of them was; empty, where there is one at most.

    Raises UsageError where there is no such folder.
    """
    folder, queue = _named_queue(arguments.settings_from, arguments.queue)
    if folder is None or queue:
        return []
    from job_harness.review.check.repository import read_repository
    from job_harness.review.check.settings import queues_of

    queues = queues_of(read_repository(folder))
    return queues if len(queues) > 1 else []


def settings_of(folder: Path | None, queue: str, *, target: str) -> Settings:
    """Return the settings to begin with; those of a repository are printed with their places and their contradictions.

    So is the release of pg-boss that it asks for, where `target` runs another one. Raises
    UsageError where there is no such folder, and NothingToJudge where it sets nothing.
    """
    if folder is None:
        return Settings()
    from job_harness.review.check.examination import examine
    from job_harness.review.check.finding import Severity
    from job_harness.review.check.releases import release_of
    from job_harness.review.check.repository import read_repository
    from job_harness.review.check.settings import queues_of, simulation_of

    facts = read_repository(folder)
    queues = queues_of(facts)
    if queue and queue not in queues:
        raise UsageError(
            f"--settings-from: {folder} sets nothing for a queue {queue!r}{did_you_mean(queue, queues)}",
            hint=f"It has settings for {', '.join(queues) or 'no queue by name'}.",
        )
    simulation = simulation_of(facts, queue=queue)
    if not simulation.origins:
        raise NothingToJudge(
            f"inconclusive: {folder} sets nothing that a search could use, such as a timeout, retries, a cron's period",
            hint=f"Name the folder that does, or leave --settings-from out. What is read: job-harness check {folder}",
        )
    print(f"Settings from {folder}{_of_queue(queue, queues)}:")
    for name, origin in simulation.origins.items():
        print(f"  {name} {setting_text(name, getattr(simulation.settings, name))}  ({origin})")
    if release := _other_release(release_of(facts, "package.json"), target):
        print(release)
    for finding in examine(facts).at_least(Severity.ERROR):
        for line in wrap(f"{finding.place} ", f"{finding.rule}: {finding.repair}", width=100, lines=3):
            print(line)
    print()
    return simulation.settings


def _other_release(release: ReleaseSpan | None, target: str) -> str:
    """Say which engine runs the pg-boss of a repository; "" where the target does, or none can."""
    if release is None or release.major < 10:
        return ""
    if re.match(r"pgboss(-node|@|$)" if release.major == 10 else rf"pgboss-node@{release.major}\b", target):
        return ""
    engine = f"pgboss-node@{release.written if release.locked else release.major}"
    return f"  {target} stands for its pg-boss {release.written} ({release.place}): explore {engine} runs that"


def _of_queue(queue: str, queues: list[str]) -> str:
    """Say which queue it is and, where none was named, which others there are."""
    if queue or not queues:
        return f", queue {queue!r}" if queue else ""
    others = queues[1:5]
    more = f"; others: {', '.join(others)}{', ...' if len(queues) > 5 else ''}, as DIR#QUEUE" if others else ""
    return f", queue {queues[0]!r}{more}"


@contextmanager
def progress_bar(*, measured: bool) -> Iterator[Callable[[str, float | None], None]]:
    """Show how far a search is, in words and, where that is `measured`, as a part of 1, on a terminal.

    None leaves the part as it was.
    """
    if not sys.stderr.isatty():
        with _progress_lines() as advance:
            yield advance
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (BarColumn() if measured else SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(file=as_it_is(sys.stderr)), transient=True) as bar:
        task = bar.add_task("", total=1.0 if measured else None)
        yield lambda told, part: bar.update(task, completed=part, description=told)


@contextmanager
def _progress_lines() -> Iterator[Callable[[str, float | None], None]]:
    """Write every few seconds how far a search is, for those who read a log."""
    latest, ended, since = [""], threading.Event(), time.perf_counter()

    def write() -> None:
        while not ended.wait(LINE_EVERY):
            if latest[0]:
                print(f"job-harness: {latest[0]} ({time.perf_counter() - since:.0f} s)", file=sys.stderr, flush=True)

    threading.Thread(target=write, name="job-harness: progress", daemon=True).start()
    try:
        yield lambda told, part: latest.__setitem__(0, told)
    finally:
        ended.set()


def refuse_blindness(engine: Engine, wanted: frozenset[str]) -> None:
    """Raise NothingToJudge where nothing that is looked for would be reported: such a search cannot fail."""
    sought = wanted or frozenset(ANOMALIES)
    if sought <= engine.info.contract.never_reported:
        named = f"no {', '.join(sorted(wanted))}" if wanted else f"none of the {len(sought)} anomalies"
        raise NothingToJudge(
            f"inconclusive: {named} would be reported of {engine.info.name}: its contract documents all of them, "
            "or --without leaves them out",
            hint="Let the contract name the circumstances in which each shows (`Documented`), or shorten --without.",
        )


def print_unjudged(engine: Engine, without: frozenset[str]) -> None:
    """Name what a verdict does not speak of: the user's own code beside a draft, and anomalies left out."""
    contract = engine.info.contract
    for note in contract.notes:
        print("\n".join(wrap("", note, width=WIDTH, lines=4)))
    own = contract.intended.keys() - without
    for names, where in ((without, "--without"), (own, f"`without` in {contract.file}")):
        if names:
            print("\n".join(wrap("", f"Not reported: {', '.join(sorted(names))} ({where}).", width=WIDTH, lines=3)))
    for name, reason in contract.unseen.items():
        if name not in without | own:
            print("\n".join(wrap("", f"Not judged: {name} ({reason}).", width=WIDTH, lines=3)))


def print_judges(engine: Engine, exercised: Collection[str]) -> None:
    """Name the invariants by which processes are judged that have no verbs of a queue, and what would add others.

    And what of the target no run reached, by the names of what they reached.
    """
    info = engine.info
    if info.processes is None:
        return
    catalogue, shown = everything(), info.shows()
    judges = [item.id for item in stepwise(catalogue, shown)]
    told = [f"Judged: {len(judges)} of {len(catalogue)} invariants, by what is shown: {', '.join(judges)}."]
    if others := [f"{name} (add {', '.join(lines)})" for name, lines in unasked(catalogue, shown).items()]:
        told.append(f"Not judged: {'; '.join(others)}.")
    if own := dict.fromkeys(kind.name for promise in info.promises for kind in promise.anomalies):
        told.append(f"And your own promises: {', '.join(own)}.")
    if idle := [f"{each.name} ({each.how})" for each in info.declared if each.name not in exercised]:
        told.append(f"No run reached: {'; '.join(idle)}.")
    for line in told:
        print("\n".join(wrap("", line, width=WIDTH, lines=20)))


# found ----------------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class FindingPresenter:
    """Shows what was found on one target; an interruption ends what is still run for that, and loses nothing."""

    target: Target
    """On what it was found."""
    engines: Engines
    others: tuple[Target, ...] = ()
    """Engines on which it is replayed too."""
    output: OutputFile | None = None
    """Where the first finding goes."""
    halted: str = ""
    """Why the target is no longer run: a step that hangs once would hang again."""
    verbose: bool = False
    """Whether to say how each failing run was drawn."""
    queue: str = ""
    """The queue whose settings were searched, where several are."""
    until: SearchTime = field(default_factory=SearchTime)
    """What is still run for a finding has to end within it."""
    recorded: bool = False
    """Whether it happened in production: then it is not meant to be so, and what heals a system is tried too."""
    interruption: BaseException | None = None
    """What ended the telling early, such as Ctrl-C."""

    def tell(self, finding: ScenarioFinding, *, spent: str, first: bool = True) -> Told:
        """Show a finding, write its scenario, and replay it."""
        target, mistake = self.target, self.target.wrong_queue
        scenario = scenario_of(finding, queue=mistake or None, application=str(target) if target.is_own else None)
        place = self._place(finding, first=first)
        problem = keep(scenario, lambda text: _made(place).write(text))
        written = "" if problem or place.is_standard else _relative(place.path)
        command = replay_command(written, engine=None if scenario.application else target.right) if written else ""
        run, unasked = self._try_fixes(finding)
        run = with_source(run, self.engines.get(self.target).info, anomaly=finding.anomaly)
        default, usual = usual_settings(self.engines.get(self.target))
        lines = first_screen(
            run,
            title=f"{finding.anomaly} on {target.plain}",
            replay=command,
            written=f"{written} (on the wrong queue {mistake})" if written and mistake else written,
            lead=finding.anomaly,
            default=default,
            usual=usual,
            height=HEIGHT - LINES_BELOW,
        )
        notes = [f"Not written: {problem}"] if problem else []
        notes += [f"No fix was tried: {unasked}"] if unasked else []
        wrapped = [line for note in notes for line in wrap("", note, width=WIDTH, lines=3)]
        between = [] if first else [Line("")]
        intended = self._intended(finding)
        show_lines([*between, *lines, *intended, Line(""), *(Line(text, "bold red") for text in wrapped)], sys.stdout)
        self._how(finding, spent)
        replays = {str(one): self._replay(scenario, one, finding) for one in dict.fromkeys((target, *self.others))}
        return Told(written, problem, replays, command, screen_text([*lines, *intended]), run)

    def _intended(self, finding: ScenarioFinding) -> list[Line]:
        """Say where the user's own file tells that an anomaly is meant to be so."""
        contract = self.engines.get(self.target).info.contract
        if self.recorded or not contract.file or kind_of(finding.anomaly).guarantee is Guarantee.OWN:
            return []
        entry = f'{finding.anomaly}: "why"'
        told = f"`without` in {contract.file}: {entry}"
        without = f"without: {{{entry}}}"
        if is_system_file(contract.file):
            without = f"promises: {{{without}}}"
        told = f"Add to {told}" if contract.intended else f"Add to {contract.file}: {without}"
        doubt = contract.doubts.get(finding.anomaly)
        said = [f"Intended? {told}", *([f"Or is it the file? {doubt}."] if doubt else [])]
        return [Line(""), *(Line(line) for each in said for line in wrap("", each, width=WIDTH, lines=3))]

    def _how(self, finding: ScenarioFinding, spent: str) -> None:
        smaller = shrunk(finding.shrink_runs) if finding.minimal or finding.shrink_runs else "not shrunk"
        print(f"Found in {spent}; {smaller}.")
        if self.verbose and finding.drawn:
            print("\n".join(wrap("Drawn by ", finding.drawn, width=WIDTH, lines=2)))
        file = self.engines.get(self.target).info.contract.file
        if file and not is_system_file(file) and _resent(finding.run):
            print(f"Does your code call the database itself, and never repeat a call? Add to {file}:")
            print(f"  design: [{Design.CALLED_IN_PROCESS}]")
        if not finding.minimal:
            print("Shrinking was cut short (interrupted, --time over, or too many steps): a smaller run may exist.")

    def _try_fixes(self, finding: ScenarioFinding) -> tuple[Run, str]:
        if self._halted():
            return finding.run, self._halted()
        try:
            with progress_bar(measured=False) as advance:
                advance("trying fixes", 0.0)
                seconds = SYSTEM_FIX_SECONDS if self.recorded and self.target.is_system else FIX_SECONDS
                return (
                    with_fixes(
                        finding.run,
                        self.target,
                        self.engines,
                        anomaly=finding.anomaly,
                        seconds=min(seconds, self.until.left),
                        of_systems=self.recorded,
                    ),
                    "",
                )
        except INTERRUPTIONS as stop:
            self._halt(stop)
            return finding.run, self.halted
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a target may raise anything; the finding is told all the same
            return finding.run, f"{type(error).__name__}: {error}"

    def _halted(self) -> str:
        """Say why nothing more is run; empty: it may be."""
        return self.halted or ("" if self.until.left else TIME_OVER)

    def _halt(self, stop: BaseException) -> None:
        self.halted, self.interruption = STOPPED, stop

    def _place(self, finding: ScenarioFinding, *, first: bool) -> OutputFile:
        """The first finding goes where it was asked for, each further one beside it, under its own name."""
        if self.output is None or (self.output.is_standard and not first):
            queue = f"-{self.queue}" if self.queue else ""
            target = str(self.target).removesuffix(".yaml")
            name = re.sub(r"[^\w.+-]+", "-", f"{finding.anomaly}-{target}{queue}").strip("-")[:LONGEST]
            return OutputFile(FOUND_FOLDER / f"{name}.yaml")
        if first:
            return self.output
        path = self.output.path
        return OutputFile(path.with_name(f"{path.stem}-{finding.anomaly}{path.suffix}"))

    def _replay(self, scenario: Scenario, engine: Target, finding: ScenarioFinding) -> str:
        """Replay on an engine, and say in a line or a few what that came to; the answer says it too."""
        if not self._halted():
            try:
                return _word_reproduction(
                    reproduce(scenario, finding.anomaly, engine=engine, found_on=self.target, get=self.engines.get),
                    finding.anomaly,
                )
            except INTERRUPTIONS as stop:
                self._halt(stop)
        return _not_replayed(engine, self._halted())


def shrunk(runs: int) -> str:
    """Say how many runs made a finding smaller."""
    return f"shrunk in {'1 run' if runs == 1 else f'{runs} runs'}" if runs else "already minimal"


def _word_reproduction(done: Reproduction, anomaly: str) -> str:
    run = done.run
    if run is None:
        return _not_replayed(done.engine, done.problem)
    same = f"shows {anomaly} again" if anomaly in run.found else _without(run, anomaly)
    lines = [f"Replayed on {done.engine.sentence}: {run.verdict}, {same}."]
    if done.divergence is not None:
        lines += str(done.divergence).splitlines()[:4]
    elif done.compared:
        lines.append("Verb by verb the two do not differ: it is in what one of them cannot show.")
    show_lines([Line(clip(line, WIDTH)) for line in lines], sys.stdout)
    return f"{run.verdict}, {same}"


def _without(run: Run, anomaly: str) -> str:
    others = ", ".join(sorted(run.found))
    return f"does not show {anomaly}" + (f" but {others}" if others else "")


def _not_replayed(engine: Target, why: str) -> str:
    print(clip(f"Not replayed on {engine.sentence}: {why}.", WIDTH))
    return f"not replayed: {why}"


def _made(place: OutputFile) -> OutputFile:
    """Make the folder of our own; check what was made up just now."""
    if place.is_standard:
        return place
    if place.path.parent == FOUND_FOLDER:
        ignored_folder(FOUND_FOLDER)
    return OutputFile.checked(str(place.path), "--save")


def _relative(path: Path) -> str:
    path = path.absolute()
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def _resent(run: Run) -> bool:
    """Say whether a request arrived twice or late, which only happens on the way between two processes."""
    remote = {name for kind in kinds().values() if "remote" in kind.needs for name in kind.events}
    return any(type(event) is Fault and event.name in remote for event in run.history)
