"""`job-harness explore --exhaustive`: every state within a stated scope, or how far the search got."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from harness.errors import ExitCode, HarnessError, UsageError
from harness.explore.counterexample import finding_of
from harness.explore.exhaustive import Explorer, Progress, Sighting
from harness.explore.finding import Finding
from harness.explore.scope import SCOPE_SETTINGS, Scope, parse_kind
from harness.explore.statement import statement
from harness.explore.tally import broken_engine
from harness.explore.workload import ENDINGS, SPANS
from harness.invariants import gravity
from harness.port import Engine
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

Show = Callable[[Finding, str], None]


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


def scope_of(arguments: argparse.Namespace) -> Scope:
    """Read the scope.

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
        settings=SCOPE_SETTINGS.changed(**parse_changes(arguments.changes)),
    )


def execute(
    arguments: argparse.Namespace,
    engine: Engine,
    *,
    wanted: frozenset[str],
    interruptions: tuple[type[BaseException], ...],
    show: Show,
) -> int:
    """Search, and tell what came of it; `show` shows a finding."""
    scope = scope_of(arguments)
    if arguments.states < 1 or (arguments.time is not None and arguments.time <= 0):
        raise UsageError("a search without states or time finds nothing", hint="Give --states and --time above 0.")
    if missing := scope.missing(engine.capabilities):
        print(f"inconclusive: {engine.name} has no {', '.join(missing)}, which the scope needs.")
        return int(ExitCode.INCONCLUSIVE)
    explorer = Explorer(
        engine, scope, looking_for=wanted, first_only=not arguments.keep_going, state_limit=arguments.states
    )
    started = time.perf_counter()
    interrupted = False
    with _progress() as advance:
        try:
            explorer.run(_watch(arguments.time, started, advance))
        except interruptions:
            interrupted = True
        except HarnessError:
            raise
        except Exception as error:
            raise broken_engine(engine.name, error) from error
    seconds = time.perf_counter() - started
    code = _tell(explorer, seconds, interrupted=interrupted, show=show)
    return 130 if interrupted and not explorer.sightings else code


def _watch(limit: float | None, started: float, advance: Callable[[Progress], None]) -> Callable[[Progress], bool]:
    asked = 0

    def watch(progress: Progress) -> bool:
        nonlocal asked
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
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None)

        def advance(progress: Progress) -> None:
            told = f"{progress.states} states, depth {progress.depth}, {progress.frontier} to expand"
            bar.update(task, description=told)

        yield advance


def _tell(explorer: Explorer, seconds: float, *, interrupted: bool, show: Show) -> int:
    found = sorted(explorer.sightings.values(), key=lambda sighting: gravity(sighting.anomaly))
    code = int(ExitCode.PASS if explorer.complete else ExitCode.INCONCLUSIVE)
    if found:
        code = _found(explorer, found, seconds, show)
    for line in statement(explorer, seconds, interrupted=interrupted):
        print(line)
    return code


def _found(explorer: Explorer, found: list[Sighting], seconds: float, show: Show) -> int:
    progress = explorer.progress
    show(
        finding_of(explorer, found[0]), f"{progress.states} states, {progress.transitions} transitions, {seconds:.1f} s"
    )
    if len(found) > 1:
        print(f"Also within this scope: {', '.join(sighting.anomaly for sighting in found[1:])}.")
    return int(ExitCode.FAIL)
