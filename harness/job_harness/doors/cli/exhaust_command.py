"""`job-harness exhaust`: every state within a stated scope, or how far the search got."""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from job_harness.core.faults import FaultPlan
from job_harness.core.interruption import (
    INTERRUPTIONS,
    Terminated,
    between_runs,
    exit_code_of,
    raised_at_once,
    stopping_point,
)
from job_harness.core.invariants import gravity
from job_harness.core.model import Settings
from job_harness.core.port import Engine
from job_harness.doors.cli.campaign_screen import Told, finding_data
from job_harness.doors.cli.output import OutputFile
from job_harness.doors.cli.search import (
    STOPPED,
    FindingPresenter,
    SearchRequest,
    changed,
    changes_of,
    configure_search,
    print_unjudged,
    progress_bar,
    refuse_blindness,
)
from job_harness.errors import ExitCode, HarnessError, UsageError, clipped
from job_harness.report.screen import changed_settings
from job_harness.search.finding import ScenarioFinding, broken_engine
from job_harness.search.sampling import HANG_HINT
from job_harness.search.scope.bounds import COUNTS, SCOPE_SETTINGS, Scope, parse_kind, searched_kinds, small
from job_harness.search.scope.checkpoint import Checkpoint, read_checkpoint
from job_harness.search.scope.search import Explorer, Forecaster, Progress, Sighting, finding_of, statement, worth_it
from job_harness.search.targets import Engines
from job_harness.search.watchdog import StepHung, StepWatchdog
from job_harness.search.workload import ENDINGS, MORE_ENDINGS, SPANS

SHARE = 64
ANY = "any"


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    configure_search(
        parser,
        queues="if it has several queues, name one with --queue",
        sessions="default: no, since each statement is then a step; needs a queue on PostgreSQL or Redis",
    )
    add = parser.add_argument
    for name, (meaning, default) in COUNTS.items():
        add(f"--{name}", type=int, default=default, metavar="N", help=f"{meaning} (default: {default})")
    for kind in searched_kinds():
        add(f"--{kind.scope_option}", type=int, default=0, metavar="N", dest=_place(kind.id), help=kind.scope_help)
    add(
        "--stalls",
        default="1",
        metavar="N",
        help=f"how often an actor that could act may wait instead; {ANY}: no limit (default: 1)",
    )
    add(
        "--kind",
        action="append",
        default=[],
        dest="kinds",
        metavar="ENDING[, DURATION]",
        help="how the attempts of a job end and, after a comma, how long each takes, such as "
        "'fails once, 1x timeout'; each job may be of any kind that is named (repeatable; default: succeeds, 1s). "
        f"Endings: {', '.join((*ENDINGS, *MORE_ENDINGS))}. Durations: {', '.join(SPANS)}; timeout and lease are the "
        "settings job_timeout and lease".replace("%", "%%"),
    )
    add("--priorities", default="0", metavar="N,N", help="the priorities that jobs may have (default: 0)")
    add("--unique", action="store_true", help="all jobs share one unique key")
    add(
        "--jitters",
        type=int,
        default=1,
        metavar="N",
        help="how many lengths of a retry delay with jitter to try, 1 to 4 (default: 1)",
    )
    add("--no-symmetry", action="store_true", help="treat workers and jobs of one kind as different")
    add(
        "--checkpoint",
        metavar="FILE",
        help="if the search stops before it is complete, save it in this file: after Ctrl-C, --time, --states or a "
        "finding",
    )
    add(
        "--resume",
        metavar="FILE",
        help="continue from a file that --checkpoint wrote, with the same options; if the search stops again, it is "
        "saved in this file, or in that of --checkpoint",
    )
    add("--states", type=int, default=5_000_000, metavar="N", help="at most N states (default: 5000000)")


def _place(fault: str) -> str:
    return f"fault {fault}"


def scope_of(arguments: argparse.Namespace, settings: Settings = SCOPE_SETTINGS) -> Scope:
    """Read the scope, under these settings but for what `--set` changes.

    Raises UsageError for bounds that make no sense.
    """
    stalls = arguments.stalls
    if stalls != ANY and not (stalls.isascii() and stalls.isdigit()):
        raise UsageError(f"--stalls must be a whole number or {ANY}, not {clipped(stalls)}")
    try:
        priorities = tuple(int(text) for text in arguments.priorities.split(","))
    except ValueError:
        raise UsageError(
            f"--priorities must be whole numbers with commas between them, not {clipped(arguments.priorities)}",
            hint="Write --priorities 0,5.",
        ) from None
    return Scope(
        **{name: getattr(arguments, name) for name in COUNTS},
        faults=FaultPlan(**{kind.id: getattr(arguments, _place(kind.id)) for kind in searched_kinds()}),
        stalls=None if stalls == ANY else int(stalls),
        kinds=tuple(parse_kind(text) for text in arguments.kinds) or Scope().kinds,
        priorities=priorities,
        unique=arguments.unique,
        jitters=arguments.jitters,
        symmetry=not arguments.no_symmetry,
        settings=settings.changed(**changes_of(arguments)),
    )


class SearchEnd(NamedTuple):
    """How a search ended."""

    seconds: float
    interruption: BaseException | None
    trouble: HarnessError | None

    @property
    def stopped_by(self) -> str:
        """What ended it from outside; empty where nothing did."""
        if self.interruption is None:
            return ""
        return "SIGTERM" if isinstance(self.interruption, Terminated) else "Ctrl-C"


class Shown(NamedTuple):
    """A finding, and what was said of it."""

    finding: ScenarioFinding
    told: Told


def execute(arguments: argparse.Namespace) -> int:
    """Search, and report the result."""
    keeps = "resume" if arguments.checkpoint is None else "checkpoint"
    request = SearchRequest.checked(arguments, checkpoint=keeps)
    if arguments.states < 1:
        raise UsageError(f"--states must be at least 1, not {arguments.states}")
    kept = None if arguments.resume is None else read_checkpoint(_text_of(arguments.resume), arguments.resume)
    scope = scope_of(arguments, request.settings if arguments.settings_from else SCOPE_SETTINGS)
    with Engines(without=request.without) as engines:
        engine = engines.get(request.target)
        scope = _as_the_target_is_set(scope, arguments, request, engine)
        with raised_at_once():
            engine.info.prepare()
        refuse_blindness(engine, request.wanted)
        presenter = request.presenter(engine, engines)
        return _exhausted(arguments, request, scope, engine, presenter, kept=kept, checkpoint=request.checkpoint)


def _as_the_target_is_set(scope: Scope, arguments: argparse.Namespace, request: SearchRequest, engine: Engine) -> Scope:
    """Return the scope under the target's own settings, where it has any and no repository was named for them."""
    named = bool(arguments.settings_from)
    own = None if named else engine.info.settings
    settings = (request.settings if named else SCOPE_SETTINGS) if own is None else small(own)
    settings = changed(settings, arguments, engine)
    return replace(scope, settings=request.held(settings, engine, named=named))


def _text_of(name: str) -> str:
    """Return the text of a file. Raises UsageError where it cannot be read."""
    try:
        return Path(name).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is no text"
        raise UsageError(f"--resume {name}: {why}", hint="Name a file that --checkpoint wrote.") from None


def _exhausted(
    arguments: argparse.Namespace,
    request: SearchRequest,
    scope: Scope,
    engine: Engine,
    presenter: FindingPresenter,
    *,
    kept: Checkpoint | None,
    checkpoint: OutputFile | None,
) -> int:
    if missing := scope.missing(engine.info.capabilities):
        print(f"inconclusive: {engine.info.name} has no {', '.join(missing)}, which the scope needs.")
        return int(ExitCode.INCONCLUSIVE)
    watchdog = StepWatchdog(arguments.patience)
    explorer = Explorer(
        engine,
        scope,
        looking_for=request.wanted,
        first_only=not arguments.keep_going,
        state_limit=arguments.states,
        at_work=watchdog.watch,
    )
    if kept is not None:
        explorer.resume(kept)
    ending = _search(explorer, arguments.time, watchdog, estimated=kept is None)
    if ending.trouble is not None and not explorer.progress.states:
        raise ending.trouble
    print_unjudged(engine, request.without)
    code, shown = _tell(explorer, ending, presenter, quiet=arguments.quiet)
    if checkpoint is not None and ending.trouble is None:
        checkpoint.write(explorer.checkpoint().text())
        if not explorer.complete and not arguments.quiet:
            named = arguments.resume if arguments.checkpoint is None else arguments.checkpoint
            print(f"Saved in {named}. To continue, run the same command with --resume {shlex.quote(named)}.")
    if request.is_written:
        interrupted = code not in list(ExitCode)
        request.write(exhaustive_data(explorer, ending, shown=shown, interrupted=interrupted))
    told = {one.finding.anomaly: one.told for one in shown}
    message = statement(explorer, ending.seconds, stopped_by=ending.stopped_by)[0]
    request.tell_ci(engine.info.name, told, code=code, message=message)
    return code


def _search(explorer: Explorer, limit: float | None, watchdog: StepWatchdog, *, estimated: bool) -> SearchEnd:
    """Search, and say how that ended; whatever ends it, what was found is kept."""
    started = time.perf_counter()
    interruption: BaseException | None = None
    trouble: HarnessError | None = None
    with progress_bar(measured=False) as advance, watchdog:
        watchdog.opening()
        try:
            if estimated and worth_it(explorer.scope):
                forecaster = Forecaster(
                    explorer.engine, explorer.scope, clock=time.perf_counter, at_work=watchdog.watch
                )
                print(forecaster.forecast(), file=sys.stderr)
            started = time.perf_counter()
            explorer.run(_watch(limit, started, advance, watchdog))
        except INTERRUPTIONS as stop:
            interruption = stop
        except StepHung as hung:
            trouble = Hanging(str(hung), hint=HANG_HINT)
        except HarnessError as error:
            trouble = error
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a target may raise anything; what was found is kept
            trouble = broken_engine(explorer.engine.info.name, error)
        watchdog.done()
    trouble = _environment(explorer, interruption) or trouble
    if trouble is not None:
        explorer.stopped_by = "what is named below"
    return SearchEnd(time.perf_counter() - started, interruption, trouble)


def _environment(explorer: Explorer, interruption: BaseException | None) -> HarnessError | None:
    """Say what is gone that the engine stands on: then what ended the search, or was seen in it, is not the queue's."""
    if interruption is not None and not between_runs(interruption):
        return None
    try:
        explorer.engine.info.confirm()
    except HarnessError as gone:
        return gone
    return None


class Hanging(HarnessError):
    """A step of the target did not end."""

    exit_code = ExitCode.FAIL


def _watch(
    limit: float | None, started: float, advance: Callable[[str, float], None], watchdog: StepWatchdog
) -> Callable[[Progress], bool]:
    asked = 0

    def watch(progress: Progress) -> bool:
        nonlocal asked
        stopping_point()
        watchdog.opening()
        asked += 1
        if asked % SHARE == 0:
            advance(f"{progress.states} states, depth {progress.depth}, {progress.frontier} to expand", 0.0)
        return limit is None or time.perf_counter() - started < limit

    return watch


def _tell(
    explorer: Explorer, ending: SearchEnd, presenter: FindingPresenter, *, quiet: bool
) -> tuple[int, list[Shown]]:
    found = sorted(explorer.sightings.values(), key=lambda sighting: gravity(sighting.anomaly))
    shown = _found(explorer, found, ending, presenter) if found else []
    told = statement(explorer, ending.seconds, stopped_by=ending.stopped_by)
    print("\n".join(told[:1] if quiet else told))
    if ending.trouble is not None:
        print(f"Ended early: {ending.trouble}")
    interruption = ending.interruption or presenter.interruption
    if interruption is not None:
        return exit_code_of(interruption), shown
    if found:
        return int(ExitCode.FAIL), shown
    if ending.trouble is not None:
        return int(ending.trouble.exit_code), shown
    judged = explorer.complete and not explorer.unproven
    return int(ExitCode.PASS if judged else ExitCode.INCONCLUSIVE), shown


def _found(explorer: Explorer, found: list[Sighting], ending: SearchEnd, presenter: FindingPresenter) -> list[Shown]:
    stop, progress = ending.interruption, explorer.progress
    if stop is not None and not between_runs(stop):
        seen = ", ".join(sighting.anomaly for sighting in found)
        print(f"Seen, not shown: {seen}; the search was cut short in the middle of a step.")
        return []
    if stop is not None:
        presenter.halted = STOPPED
    spent = f"{progress.states} states, {progress.transitions} transitions, {ending.seconds:.1f} s"
    shown: list[Shown] = []
    left = found if not explorer.first_only else found[:1]
    for sighting in left:
        try:
            finding = finding_of(explorer, sighting, shrink=not presenter.halted)
        except HarnessError as error:
            if sighting is left[-1] and not shown:
                raise
            print(f"Seen, not shown: {sighting.anomaly}; {error.message}")
            continue
        shown.append(Shown(finding, presenter.tell(finding, spent=spent, first=not shown)))
    if len(found) > len(left):
        print(f"Also within this scope: {', '.join(sighting.anomaly for sighting in found[1:])}.")
    return shown


# as JSON --------------------------------------------------------------------------------------------------------------


def exhaustive_data(explorer: Explorer, ending: SearchEnd, *, shown: list[Shown], interrupted: bool) -> dict[str, Any]:
    """Return the verdict, the scope, the new states by depth and the findings."""
    progress, scope, trouble = explorer.progress, explorer.scope, ending.trouble
    return {
        "format": "job-harness-exhaustion",
        "version": 1,
        "engine": explorer.engine.info.name,
        "verdict": _verdict(explorer, trouble),
        "complete": explorer.complete,
        "interrupted": interrupted,
        "stopped_by": explorer.stopped_by or None,
        "trouble": None if trouble is None else trouble.message,
        "statement": statement(explorer, ending.seconds, stopped_by=ending.stopped_by),
        "scope": scope.sentence(),
        "kinds": [str(kind) for kind in scope.kinds],
        "settings": {name: value for name, (value, _) in changed_settings(scope.settings).items()},
        "states": progress.states,
        "transitions": progress.transitions,
        "depth": progress.depth,
        "new_states_by_depth": progress.layers,
        "waiting": progress.frontier,
        "seconds": round(ending.seconds, 3),
        "anomalies": sorted(explorer.sightings),
        "findings": [finding_data(*one) for one in shown],
    }


def _verdict(explorer: Explorer, trouble: HarnessError | None) -> str:
    if explorer.sightings or (trouble is not None and trouble.exit_code is ExitCode.FAIL):
        return "fail"
    return "pass" if explorer.complete and not explorer.unproven else "inconclusive"
