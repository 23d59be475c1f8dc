"""`job-harness explore`: search an engine for a run that breaks an invariant, shrink it, save it, replay it."""

from __future__ import annotations

import argparse
import os
import re
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NoReturn

from job_harness.core.interruption import exit_code_of, raised_at_once, stopping_point
from job_harness.core.model import Settings
from job_harness.core.port import Engine
from job_harness.core.run.session import Limits
from job_harness.core.run.verdict import Verdict
from job_harness.core.target import Target
from job_harness.doors.cli.campaign_screen import (
    campaign_data,
    campaign_lines,
    given_up,
    gravest_first,
    level_lines,
    level_of,
)
from job_harness.doors.cli.explored_test import explore_test, is_test
from job_harness.doors.cli.output import show_lines
from job_harness.doors.cli.search import (
    STOPPED,
    SearchRequest,
    changed,
    configure_search,
    print_judges,
    print_unjudged,
    progress_bar,
    queues_to_search,
    refuse_blindness,
    usual_settings,
)
from job_harness.errors import ExitCode, UsageError, clipped
from job_harness.report.screen import changed_settings, wrap
from job_harness.search.finding import Campaign, ScenarioFinding
from job_harness.search.sampling import DRAWN_LIMITS, STRETCH, CampaignPlan, Sampler, Shard
from job_harness.search.scope.bounds import bounds
from job_harness.search.strategy import Strategy
from job_harness.search.targets import SHIPPED, Engines
from job_harness.search.watchdog import SearchTime, StepWatchdog
from job_harness.search.workload import drawable

if TYPE_CHECKING:
    from job_harness.search.process_pool import GrowingPool, ProcessPool
    from job_harness.search.ray_cluster import RayCluster

STRATEGIES = "how runs are drawn: uniform, pos, swarm, aimed or portfolio, which mixes them all (default: portfolio)"
LEAVE_OUT = "never use this ending of jobs or this feature, such as `raises NUL` or `schedules` (repeatable)"
RUNS = 5_000
TELLING = 0.1
"""Real seconds between two updates of the progress bar."""
OPENER = "job_harness.search.targets:open_engine"
MANY = 8
"""Processes that share the runs at most, unless the user says so."""
PROCESS_PATIENCE = 60.0
"""Real seconds that a step may take at least where it starts processes: on a busy machine that is no hang."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    configure_search(
        parser,
        also="a system file (system.yaml), ",
        or_a=", or a test: test_file.py::test_name",
        queues="each of its queues is searched",
        sessions="default: for a queue file yes, otherwise no",
    )
    add = parser.add_argument
    add("--seed", type=int, default=0, metavar="N", help="the seed of the first run (default: 0)")
    add("--runs", type=int, metavar="N", help="at most N runs (default: 5000; for a test 200)")
    add(
        "--processes",
        "-j",
        type=int,
        metavar="N",
        help="share the runs among N processes; the result is the same (default: 1 for your own code and systems, "
        "otherwise one for each processor where a search takes long)",
    )
    add(
        "--on",
        metavar="CLUSTER",
        help="share the runs on a Ray cluster: ray, or ray://HOST:PORT (needs the extra `ray`); the result is the same",
    )
    add(
        "--shard",
        default="1/1",
        metavar="K/N",
        help="do the K-th of N parts of the search; `job-harness merge` combines their --json files",
    )
    add("--coverage", action="store_true", help="show every situation, and where each fault struck")
    add(
        "--strategy",
        choices=[str(item) for item in Strategy],
        default=str(Strategy.PORTFOLIO),
        metavar="NAME",
        help=STRATEGIES,
    )
    add("--leave-out", action="append", default=[], metavar="WHAT", help=LEAVE_OUT)
    add(
        "--steps",
        type=int,
        default=DRAWN_LIMITS.steps,
        metavar="N",
        help="end a run after N steps: set it lower if jobs never finish (default: 20000)",
    )
    for name in bounds():
        add(f"--{name}", nargs="?", action=_Bound, default=argparse.SUPPRESS, help=argparse.SUPPRESS)


class _Bound(argparse.Action):
    """An option that bounds a complete search: here it would not count."""

    def __call__(
        self, parser: Any, namespace: argparse.Namespace, values: str | Sequence[Any] | None, option: str | None = None
    ) -> NoReturn:
        raise UsageError(
            f"{option} is an option of job-harness exhaust, not of explore",
            hint=f"Use job-harness exhaust, or leave {option} out.",
        )


def execute(arguments: argparse.Namespace) -> int:
    """Search, and report the result."""
    if is_test(arguments.target):
        return explore_test(arguments.target, _options_of_test(arguments))
    if arguments.runs is None:
        arguments.runs = RUNS
    if arguments.runs < 1:
        raise UsageError(f"--runs must be at least 1, not {arguments.runs}")
    if arguments.processes is not None and arguments.processes < 1:
        raise UsageError(f"--processes must be at least 1, not {arguments.processes}")
    if arguments.on is not None:
        _check_cluster(arguments)
    if arguments.steps < 1:
        raise UsageError(f"--steps must be at least 1, not {arguments.steps}")
    queues = queues_to_search(arguments)
    return _each_queue(arguments, queues) if queues else _explored(arguments)


def _check_cluster(arguments: argparse.Namespace) -> None:
    """Raise UsageError for a cluster that is none, and for what a cluster decides itself."""
    if arguments.on != "ray" and not re.fullmatch(r"ray://[^\s/]+:\d+", arguments.on):
        raise UsageError(
            f"--on {clipped(arguments.on)}: expected ray or ray://HOST:PORT",
            hint="`ray` is the cluster of RAY_ADDRESS or of this machine; if there is none, one is started.",
        )
    if (arguments.processes or 1) > 1:
        raise UsageError(
            "--processes and --on cannot both be given",
            hint="A Ray cluster runs as many processes as it has processors.",
        )


def _each_queue(arguments: argparse.Namespace, queues: list[str]) -> int:
    """Search under the settings of each queue; return what the gravest came to.

    Raises UsageError where the result is to be written: a file holds one search.
    """
    for option in ("save", "json", "html", "trace", "junit"):
        if getattr(arguments, option) is not None:
            raise UsageError(
                f"--{option} can hold only one search, but {arguments.settings_from} has {len(queues)} queues",
                hint=f"Name one of them, such as --queue {queues[0]}: {', '.join(queues)}.",
            )
    codes = list[int]()
    for number, queue in enumerate(queues, start=1):
        if codes:
            print()
        print(f"Queue {number} of {len(queues)}: {queue}")
        codes.append(_explored(argparse.Namespace(**{**vars(arguments), "queue": queue})))
        if codes[-1] not in list(ExitCode):  # it was interrupted
            return codes[-1]
    return ExitCode.FAIL if ExitCode.FAIL in codes else max(codes)


def _explored(arguments: argparse.Namespace) -> int:
    request = SearchRequest.checked(arguments, file_sessions=True)
    with Engines(without=request.without) as engines:
        engine = engines.get(request.target)
        with raised_at_once():
            engine.info.prepare()
        refuse_blindness(engine, request.wanted)
        return _sampled(arguments, request, engine, engines)


def _options_of_test(arguments: argparse.Namespace) -> list[str]:
    """Say in pytest's words what was asked of a test. Raises UsageError for what a test is not asked."""
    parser = argparse.ArgumentParser()
    configure(parser)
    usual = vars(parser.parse_args([]))
    for name, value in usual.items():
        if name not in ("target", "runs", "time", "seed") and getattr(arguments, name) != value:
            raise UsageError(
                f"--{name.replace('_', '-')} is not supported when a test is explored: {arguments.target}",
                hint="A test takes --runs, --time and --seed; for more, call pytest --job-explore.",
            )
    if arguments.runs is not None and arguments.time is not None:
        raise UsageError("a test is limited by --runs or by --time, not by both", hint="Leave one of them out.")
    bound = (
        f"{arguments.time:g}s" if arguments.time is not None else str(200 if arguments.runs is None else arguments.runs)
    )
    return [f"--job-explore={bound}", *([f"--job-seed={arguments.seed}"] if arguments.seed else [])]


def _sampled(arguments: argparse.Namespace, request: SearchRequest, engine: Engine, engines: Engines) -> int:
    plan = _plan(arguments, request, engine)
    search_time = SearchTime(arguments.time, goes_on=arguments.keep_going)
    started = time.perf_counter()
    campaign = _searched(arguments, engine, plan, search_time)
    seconds = time.perf_counter() - started
    hangs = campaign.trouble is not None and campaign.trouble.code is ExitCode.FAIL
    halted = STOPPED if campaign.interrupted else "a run of the target does not end" if hangs else ""
    presenter = request.presenter(engine, engines, halted, search_time)
    told = {
        finding.anomaly: presenter.tell(finding, spent=_met(campaign, finding, seconds), first=place == 0)
        for place, finding in enumerate(gravest_first(campaign))
    }
    campaign = replace(campaign, interruption=campaign.interruption or presenter.interruption)
    print_unjudged(engine, plan.without)
    if plan.left_out:
        print(f"Left out of the workload, and so not looked at (--leave-out): {', '.join(sorted(plan.left_out))}.")
    if campaign.findings:
        if campaign.interrupted:
            print(f"interrupted after {_spent(campaign, seconds)}.")
        elif any(finding.runs != campaign.runs for finding in campaign.findings):
            print(f"Searched {_spent(campaign, seconds)}.")
        _unshown(campaign)
        _trouble(campaign, plan.steps)
        ended = campaign.interrupted or campaign.runs == arguments.runs
        if not (plan.keep_going or ended or arguments.quiet or len(plan.looking_for) == 1):
            print("The first finding ended the search. There may be other causes: --keep-going searches on.")
    else:
        _nothing(campaign, plan, seconds, usual_settings(engine))
        print_judges(engine, campaign.coverage.answers.exercised)
    if not arguments.quiet and (not campaign.findings or plan.keep_going):
        lines = campaign_lines(campaign, engine.info.capabilities, whole=arguments.coverage)
        show_lines(lines, sys.stdout)
    level = level_of(campaign.found, campaign.runs, given_up(engine.info, campaign.found))
    show_lines(level_lines(level, campaign.found, campaign.runs), sys.stdout)
    if request.is_written:
        data = campaign_data(
            campaign,
            engine.info,
            told=told,
            plan=plan,
            command=_command(arguments),
            seconds=seconds,
            planned=arguments.runs,
        )
        request.write(data)
    code = _code(campaign)
    request.tell_ci(campaign.engine, told, code=code, message=_headline(campaign, seconds))
    return code


def _command(arguments: argparse.Namespace) -> str:
    """Write the command that does the same runs, but for their seed, how many, and what is looked for."""
    words = ["job-harness", "explore", arguments.target, "--strategy", arguments.strategy]
    if arguments.sessions is not None:
        words.append("--sessions" if arguments.sessions else "--no-sessions")
    if arguments.steps != DRAWN_LIMITS.steps:
        words += ["--steps", str(arguments.steps)]
    for option in ("settings_from", "queue"):
        if (value := getattr(arguments, option)) is not None:
            words += [f"--{option.replace('_', '-')}", value]
    for option, values in (
        ("--set", arguments.changes),
        ("--leave-out", arguments.leave_out),
        ("--without", arguments.without),
    ):
        words += [word for value in values for word in (option, value)]
    return shlex.join(words)


def _plan(arguments: argparse.Namespace, request: SearchRequest, engine: Engine) -> CampaignPlan:
    own = None if arguments.settings_from else engine.info.settings
    settings = changed(own or request.settings, arguments, engine)
    return CampaignPlan(
        OPENER,
        str(request.target),
        request.held(settings, engine, named=bool(arguments.settings_from)),
        request.wanted,
        Strategy(arguments.strategy),
        arguments.keep_going,
        patience=max(arguments.patience, PROCESS_PATIENCE) if request.target.is_system else arguments.patience,
        steps=arguments.steps,
        without=request.without,
        shard=Shard.read(arguments.shard),
        left_out=drawable(arguments.leave_out),
    )


def _searched(arguments: argparse.Namespace, engine: Engine, plan: CampaignPlan, search_time: SearchTime) -> Campaign:
    with StepWatchdog(plan.patience) as watchdog, search_time, ExitStack() as stack:
        advance = stack.enter_context(progress_bar(measured=True))
        sampler = Sampler(
            engine,
            plan.settings,
            plan.looking_for,
            strategy=plan.strategy,
            keep_going=plan.keep_going,
            watchdog=watchdog,
            limits=Limits(steps=plan.steps),
            shard=plan.shard,
            left_out=plan.left_out,
            time=search_time,
            keeps_runs=True,
            shrinking=lambda anomaly, runs: advance(f"{anomaly} found; making it smaller, run {runs}", None),
        )
        crew = _crew(arguments, plan, sampler)
        if crew is not None:
            stack.enter_context(crew)
        watch = _watch(arguments.runs, search_time, time.perf_counter(), advance)
        campaign = sampler.explore(seed=arguments.seed, runs=arguments.runs, watch=watch, crew=crew)
    return replace(campaign, notes=tuple(crew.notes)) if crew is not None else campaign


def _crew(
    arguments: argparse.Namespace, plan: CampaignPlan, sampler: Sampler
) -> ProcessPool | GrowingPool | RayCluster | None:
    """Return who does the runs; None: they are done here."""
    if arguments.on is not None:
        from job_harness.search.ray_cluster import RayCluster

        return RayCluster(plan, arguments.on)
    size = usual_processes(Target.parse(plan.target)) if arguments.processes is None else arguments.processes
    if size == 1:
        return None
    from job_harness.search.process_pool import GrowingPool, ProcessPool

    if arguments.processes is None:
        return GrowingPool(sampler, plan, size=size, limit=arguments.time)
    return ProcessPool(plan, size=size)


def usual_processes(target: Target) -> int:
    """Return how many processes share the runs unless the user says so.

    What is a user's own may share a file or a server with another process of it, and runs would
    meet there; only of a queue file is it known what it reads.
    """
    alone = target.is_system or not (target.is_file or target.place in SHIPPED)
    return 1 if alone else min(MANY, _processors())


def _processors() -> int:
    """Return how many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _code(campaign: Campaign) -> int:
    """An interruption counts more than what the search found until then, which is printed."""
    if campaign.interruption is not None:
        return exit_code_of(campaign.interruption)
    code = campaign.verdict.exit_code
    return int(campaign.trouble.code if campaign.trouble is not None and code is not ExitCode.FAIL else code)


def _watch(
    runs: int, search_time: SearchTime, started: float, advance: Callable[[str, float | None], None]
) -> Callable[[int], bool]:
    """Tell now and then how far the search is: of the runs, or of the time where that is further."""
    due, limit = 0.0, search_time.limit

    def watch(done: int) -> bool:
        nonlocal due
        stopping_point()
        spent = time.perf_counter() - started
        if spent >= due:
            due = spent + TELLING
            told = f"run {done + 1}, {limit:g} s at most" if limit else f"{done} of {runs} runs"
            advance(told, max(done / runs, spent / limit if limit else 0.0))
        return not search_time.over

    return watch


def _spent(campaign: Campaign, seconds: float) -> str:
    runs = "1 run" if campaign.runs == 1 else f"{campaign.runs} runs"
    return f"{runs}, {campaign.steps} steps, {seconds:.1f} s, seed {campaign.seed}"


def _met(campaign: Campaign, finding: ScenarioFinding, seconds: float) -> str:
    """Say what it took; a search that went on says in which run it was, and what it took in all at its end."""
    return _spent(campaign, seconds) if campaign.runs == finding.runs else f"run {finding.runs}"


def _nothing(campaign: Campaign, plan: CampaignPlan, seconds: float, usual: tuple[Settings, str]) -> None:
    default, called = usual
    shard = plan.shard
    print(_headline(campaign, seconds))
    _unshown(campaign)
    _trouble(campaign, plan.steps)
    if not campaign.runs and shard.of > 1:
        print(f"Part {shard.index} of {shard.of} has no runs: {STRETCH} at a time go to one part. Take fewer parts.")
    for name, (value, other) in changed_settings(plan.settings, default=default).items():
        print(f"  {name} was {value} ({called} {other})")
    if campaign.verdict is Verdict.PASS:
        print("This is a sample, not a proof: another seed looks at other runs.")


def _headline(campaign: Campaign, seconds: float) -> str:
    word = "interrupted" if campaign.interrupted else str(campaign.verdict)
    found = "a run that does not reproduce" if campaign.unsteady is not None else "no anomaly"
    shown = "nothing that can be shown" if campaign.unshown else found
    never = f"; it never came to this: {'; '.join(item.name for item in campaign.missing)}" if campaign.missing else ""
    return f"{word}: {shown} on {Target.parse(campaign.engine).sentence} in {_spent(campaign, seconds)}{never}."


def _unshown(campaign: Campaign) -> None:
    for hit in campaign.unshown:
        print(f"Seen in run {hit.number}, not shown: {hit.anomaly}; the search was cut short in the middle of a step.")
        print(f"  The same command with --runs {hit.number + 1} shows it.")


def _trouble(campaign: Campaign, steps: int) -> None:
    for note in campaign.notes:
        print("\n".join(wrap("", note, width=100, lines=4)))
    if campaign.cut:
        print(f"Cut: {campaign.cut} of {campaign.runs} runs were still at work after {steps} steps, and what comes")
        print(f"  later in them was not judged. --steps {10 * steps} lets them continue.")
    if campaign.unsteady is not None:
        print(f"Not deterministic: {campaign.unsteady}.")
        print("No verdict on such a target can be relied on: find what it reads beside its arguments.")
    if campaign.trouble is not None:
        print(f"Ended early: {campaign.trouble.message}")
        if campaign.trouble.hint:
            print(f"  {campaign.trouble.hint}")
