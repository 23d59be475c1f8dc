"""`job-harness explore --exhaustive`: every state within a stated scope, or how far the search got."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from harness.cli import INTERRUPTED
from harness.cli.campaign_screen import Told
from harness.cli.exhaustive_data import Ending, Shown, exhaustive_data
from harness.cli.output import OutputFile
from harness.errors import ExitCode, HarnessError, UsageError
from harness.explore.counterexample import finding_of
from harness.explore.exhaustive import Explorer, Progress, Sighting
from harness.explore.finding import Finding
from harness.explore.forecast import Forecaster, worth_it
from harness.explore.sampling import HANG_HINT
from harness.explore.scope import SCOPE_SETTINGS, Scope, parse_kind
from harness.explore.statement import statement
from harness.explore.tally import broken_engine
from harness.explore.watchdog import Hung, Watchdog
from harness.explore.workload import ENDINGS, SPANS
from harness.invariants import gravity
from harness.model.settings import Settings
from harness.port import Engine
from harness.printable import as_it_is
from harness.scenario.variant import parse_changes

COUNTS = {
    "workers": ("so many workers", 2),
    "crashes": ("so many crashes", 0),
    "cancels": ("so many jobs are cancelled", 0),
    "retries": ("so many jobs are retried by an operator", 0),
    "lost-messages": ("so many requests or replies are lost", 0),
    "duplicates": ("so many calls are delivered twice", 0),
    "pauses": ("so many pauses of named lengths", 0),
    "lateness": ("so often time jumps past what was due", 0),
    "clock-offsets": ("so many steps of a clock", 0),
    "shutdowns": ("so many graceful shutdowns", 0),
}
SHARE = 64
ANY = "any"

SEEN_ALL = ("seed", "runs", "strategy")
"""Options of a sampled search; a search that does every run has no place for them."""

Show = Callable[[Finding, str], Told]


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    group = parser.add_argument_group("exhaustive search", "every state within a small scope")
    add = group.add_argument
    add("--exhaustive", action="store_true", help="search everything within the scope that these options state")
    for name, (meaning, default) in COUNTS.items():
        add(f"--{name}", type=int, default=default, metavar="N", help=f"{meaning} (default: {default})")
    add(
        "--stalls",
        default="1",
        metavar="N",
        help=f"how often one who is ready is passed by time until he acts, or {ANY} (1)",
    )
    add(
        "--kind",
        action="append",
        default=[],
        dest="kinds",
        metavar="ENDING[, DURATION]",
        help=f"a kind of job (repeatable; default: succeeds, 1s). Endings: {', '.join(ENDINGS)}. "
        f"Durations: {', '.join(SPANS)}".replace("%", "%%"),
    )
    add("--priorities", default="0", metavar="N,N", help="the priorities that jobs may have (default: 0)")
    add("--unique", action="store_true", help="all jobs share one unique key")
    add("--jitters", type=int, default=1, metavar="N", help="values of a stretched retry delay, 1 to 4 (default: 1)")
    add("--no-symmetry", action="store_true", help="do not take workers and jobs to be interchangeable")
    add("--states", type=int, default=5_000_000, metavar="N", help="at most so many states (default: 5000000)")


def refuse_ignored(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> None:
    """Raise UsageError where an option of one kind of search was given to the other: it would not count."""
    own = (*(name.replace("-", "_") for name in COUNTS), "stalls", "kinds", "priorities", "unique", "jitters")
    for name in SEEN_ALL if arguments.exhaustive else (*own, "no_symmetry", "states"):
        if getattr(arguments, name) == parser.get_default(name):
            continue
        option = "--kind" if name == "kinds" else "--" + name.replace("_", "-")
        if arguments.exhaustive:
            raise UsageError(f"{option} does not go with --exhaustive", hint="It looks at every run of its scope.")
        raise UsageError(f"{option} is a bound of an exhaustive search", hint="Add --exhaustive, or leave it out.")


def scope_of(arguments: argparse.Namespace, settings: Settings = SCOPE_SETTINGS) -> Scope:
    """Read the scope, under these settings but for what `--set` changes.

    Raises UsageError for bounds that make no sense.
    """
    counts: dict[str, int] = {name.replace("-", "_"): getattr(arguments, name.replace("-", "_")) for name in COUNTS}
    stalls = arguments.stalls
    if stalls != ANY and not stalls.isdigit():
        raise UsageError(f"--stalls is {stalls!r}", hint=f"Give a number, or {ANY}.")
    try:
        priorities = tuple(int(text) for text in arguments.priorities.split(","))
    except ValueError:
        raise UsageError(f"--priorities is {arguments.priorities!r}", hint="Give whole numbers with commas.") from None
    return Scope(
        **counts,
        jobs=2 if arguments.jobs is None else arguments.jobs,
        stalls=None if stalls == ANY else int(stalls),
        kinds=tuple(parse_kind(text) for text in arguments.kinds) or Scope().kinds,
        priorities=priorities,
        unique=arguments.unique,
        jitters=arguments.jitters,
        symmetry=not arguments.no_symmetry,
        settings=settings.changed(**parse_changes(arguments.changes)),
    )


def execute(
    arguments: argparse.Namespace,
    engine: Engine,
    *,
    settings: Settings,
    wanted: frozenset[str],
    interruptions: tuple[type[BaseException], ...],
    show: Show,
    report: OutputFile | None = None,
) -> int:
    """Search, and tell what came of it; `show` shows a finding, `report` takes all of it as data."""
    scope = scope_of(arguments, settings)
    if arguments.states < 1 or (arguments.time is not None and arguments.time <= 0):
        raise UsageError("a search without states or time finds nothing", hint="Give --states and --time above 0.")
    if missing := scope.missing(engine.capabilities):
        print(f"inconclusive: {engine.name} has no {', '.join(missing)}, which the scope needs.")
        return int(ExitCode.INCONCLUSIVE)
    watchdog = Watchdog(arguments.patience)
    explorer = Explorer(
        engine,
        scope,
        looking_for=wanted,
        first_only=not arguments.keep_going,
        state_limit=arguments.states,
        at_work=watchdog.watch,
    )
    ending = _search(explorer, arguments.time, watchdog, interruptions)
    if ending.trouble is not None and not explorer.progress.states:
        raise ending.trouble
    code, told = _tell(explorer, ending, show=show)
    if report is not None:
        report.write(exhaustive_data(explorer, ending, told=told))
    return code


def _search(
    explorer: Explorer, limit: float | None, watchdog: Watchdog, interruptions: tuple[type[BaseException], ...]
) -> Ending:
    """Search, and answer how that ended; whatever ends it, what was found is kept."""
    started = time.perf_counter()
    interrupted = False
    trouble: HarnessError | None = None
    with _progress() as advance, watchdog:
        watchdog.opening()
        try:
            if worth_it(explorer.scope):
                forecaster = Forecaster(
                    explorer.engine, explorer.scope, clock=time.perf_counter, at_work=watchdog.watch
                )
                print(forecaster.forecast(), file=sys.stderr)
            started = time.perf_counter()
            explorer.run(_watch(limit, started, advance, watchdog))
        except interruptions:
            interrupted = True
        except Hung as hung:
            trouble = Hanging(str(hung), hint=HANG_HINT)
        except HarnessError as error:
            trouble = error
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a target may raise anything; what was found is kept
            trouble = broken_engine(explorer.engine.name, error)
        watchdog.done()
    if trouble is not None:
        explorer.stopped_by = "what is named below"
    return Ending(time.perf_counter() - started, interrupted, trouble)


class Hanging(HarnessError):
    """A step of the target did not come to an end."""

    exit_code = ExitCode.FAIL


def _watch(
    limit: float | None, started: float, advance: Callable[[Progress], None], watchdog: Watchdog
) -> Callable[[Progress], bool]:
    asked = 0

    def watch(progress: Progress) -> bool:
        nonlocal asked
        watchdog.opening()
        asked += 1
        if asked % SHARE == 0:
            advance(progress)
        return limit is None or time.perf_counter() - started < limit

    return watch


@contextmanager
def _progress() -> Iterator[Callable[[Progress], None]]:
    if not sys.stderr.isatty():
        yield lambda progress: None
        return
    from rich.console import Console
    from rich.progress import Progress as Bar
    from rich.progress import SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Bar(*columns, console=Console(file=as_it_is(sys.stderr)), transient=True) as bar:
        task = bar.add_task("", total=None)

        def advance(progress: Progress) -> None:
            told = f"{progress.states} states, depth {progress.depth}, {progress.frontier} to expand"
            bar.update(task, description=told)

        yield advance


def _tell(explorer: Explorer, ending: Ending, *, show: Show) -> tuple[int, list[Shown]]:
    found = sorted(explorer.sightings.values(), key=lambda sighting: gravity(sighting.anomaly))
    code = int(ExitCode.PASS if explorer.complete else ExitCode.INCONCLUSIVE)
    told: list[Shown] = []
    if found:
        code, told = int(ExitCode.FAIL), _found(explorer, found, ending.seconds, show)
    for line in statement(explorer, ending.seconds, interrupted=ending.interrupted):
        print(line)
    if ending.trouble is not None:
        print(f"Ended early: {ending.trouble}")
    if found:
        return code, told
    if ending.trouble is not None:
        return int(ending.trouble.exit_code), told
    return INTERRUPTED if ending.interrupted else code, told


def _found(explorer: Explorer, found: list[Sighting], seconds: float, show: Show) -> list[Shown]:
    progress = explorer.progress
    finding = finding_of(explorer, found[0])
    spent = f"{progress.states} states, {progress.transitions} transitions, {seconds:.1f} s"
    told = [Shown(finding, show(finding, spent))]
    if len(found) > 1:
        print(f"Also within this scope: {', '.join(sighting.anomaly for sighting in found[1:])}.")
    return told
