"""`job-harness explore`: search an engine for a run that breaks an invariant, shrink it, save it, replay it."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from harness.cli import INTERRUPTED, TERMINATED, Terminated, explore_exhaustive
from harness.cli.campaign_screen import campaign_data, campaign_lines, level_line
from harness.cli.found import FOLDER, INTERRUPTIONS, Teller, opened_as
from harness.cli.output import OutputFile
from harness.cli.settings_source import configure_source, settings_of
from harness.cli.terminal import show_lines
from harness.errors import ExitCode, UsageError, did_you_mean
from harness.explore.crew import Crew, Orders
from harness.explore.finding import Campaign, Finding
from harness.explore.sampling import DRAWN_LIMITS, Sampler
from harness.explore.scope import SCOPE_SETTINGS
from harness.explore.strategy import Strategy
from harness.explore.watchdog import PATIENCE, Watchdog
from harness.invariants import ANOMALIES
from harness.model.settings import Settings
from harness.port import Engine
from harness.printable import as_it_is
from harness.report.wording import changed_settings
from harness.run.session import Limits
from harness.run.verdict import Verdict
from harness.scenario.variant import parse_changes
from harness.wiring import Engines, prepare, split_name

STRATEGIES = "how runs are drawn: uniform, pos, swarm or portfolio, all by turns (default: portfolio)"
TARGET = "what to search: an engine, or module:factory or file.py:factory of your own (default: memory)"
SHARE = 50
"""The progress bar hears of every so many runs."""
OPENER = "harness.wiring:open_engine"


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    add("target", nargs="?", default="memory", metavar="TARGET", help=TARGET)
    add("--seed", type=int, default=0, metavar="N", help="where the search begins (default: 0)")
    add("--runs", type=int, default=5_000, metavar="N", help="at most so many runs (default: 5000)")
    add("--time", type=float, metavar="SECONDS", help="and at most so long")
    add(
        "--jobs",
        "-j",
        type=int,
        metavar="N",
        help="share the runs among N processes, the answer is the same (1); or, with --exhaustive, so many jobs (2)",
    )
    add("--strategy", choices=[*Strategy], default=Strategy.PORTFOLIO, metavar="NAME", help=STRATEGIES)
    add("--set", action="append", default=[], dest="changes", metavar="SETTING=VALUE", help="search under this setting")
    configure_source(parser)
    add("--looking-for", action="append", default=[], metavar="ANOMALY", help="only this anomaly counts (repeatable)")
    add("--keep-going", action="store_true", help="go on after an anomaly, and tell of each one once")
    add(
        "--steps",
        type=int,
        default=DRAWN_LIMITS.steps,
        metavar="N",
        help="a run ends after so many steps: less where jobs go on for ever (default: 20000)",
    )
    add(
        "--patience",
        type=float,
        default=PATIENCE,
        metavar="SECONDS",
        help="a step that takes longer hangs (default: 10)",
    )
    add("--save", metavar="FILE", help=f"where the failing scenario goes (default: a file in {FOLDER}/)")
    add("--replay", default="", metavar="ENGINES", help="replay what was found on these engines too, with commas")
    add("--json", metavar="FILE", help="write what was found and covered as JSON")
    explore_exhaustive.configure(parser)
    parser.set_defaults(refuse_ignored=lambda given: explore_exhaustive.refuse_ignored(parser, given))


@dataclass(frozen=True, slots=True)
class _Asked:
    """What was asked for, checked before anything is started."""

    arguments: argparse.Namespace
    read: Settings
    wanted: frozenset[str]
    others: tuple[str, ...]
    """Engines on which what is found is replayed."""
    output: OutputFile | None
    report: OutputFile | None

    def teller(self, engine: Engine, engines: Engines, halted: str = "") -> Teller:
        """Answer who tells what was found on this engine."""
        return Teller(opened_as(self.arguments.target, engine), engines, self.others, self.output, halted)


def execute(arguments: argparse.Namespace) -> int:
    """Search, and tell what came of it."""
    arguments.refuse_ignored(arguments)
    read = settings_of(arguments.settings_from)
    parse_changes(arguments.changes)
    wanted = _anomalies(arguments.looking_for)
    split_name(arguments.target)
    others = tuple(name.strip() for name in arguments.replay.split(",") if name.strip())
    for name in others:
        split_name(name)
    _refuse_nothing(arguments)
    output = OutputFile.checked(arguments.save, "--save") if arguments.save else None
    report = OutputFile.checked(arguments.json, "--json") if arguments.json else None
    asked = _Asked(arguments, read, wanted, others, output, report)
    with Engines() as engines:
        engine = engines.get(arguments.target)
        prepare(engine)
        return (_exhausted if arguments.exhaustive else _sampled)(asked, engine, engines)


def _exhausted(asked: _Asked, engine: Engine, engines: Engines) -> int:
    teller = asked.teller(engine, engines)
    return explore_exhaustive.execute(
        asked.arguments,
        engine,
        settings=asked.read if asked.arguments.settings_from else SCOPE_SETTINGS,
        wanted=asked.wanted,
        interruptions=INTERRUPTIONS,
        show=lambda finding, spent: teller.tell(finding, spent=spent),
        report=asked.report,
    )


def _sampled(asked: _Asked, engine: Engine, engines: Engines) -> int:
    orders = _orders(asked, engine)
    started = time.perf_counter()
    campaign = _searched(asked.arguments, engine, orders)
    seconds = time.perf_counter() - started
    hangs = campaign.trouble is not None and campaign.trouble.code is ExitCode.FAIL
    teller = asked.teller(engine, engines, "the target does not come to an end" if hangs else "")
    told = {
        finding.anomaly: teller.tell(finding, spent=_met(campaign, finding, seconds), first=finding is campaign.finding)
        for finding in campaign.findings
    }
    if campaign.findings:
        _trouble(campaign, orders.steps)
    else:
        _nothing(campaign, orders.settings, seconds, orders.steps)
    if not campaign.findings or orders.keep_going:
        show_lines(campaign_lines(campaign, engine.capabilities), sys.stdout)
    print(level_line(campaign))
    if asked.report is not None:
        changed = {name: value for name, (value, _) in changed_settings(orders.settings).items()}
        data = campaign_data(
            campaign, engine.capabilities, told=told, settings=changed, strategy=orders.strategy, seconds=seconds
        )
        asked.report.write(data)
    return _code(campaign)


def _orders(asked: _Asked, engine: Engine) -> Orders:
    arguments = asked.arguments
    own = None if arguments.settings_from else getattr(engine, "settings", None)
    return Orders(
        OPENER,
        arguments.target,
        (own or asked.read).changed(**parse_changes(arguments.changes)),
        asked.wanted,
        Strategy(arguments.strategy),
        arguments.keep_going,
        patience=arguments.patience,
        steps=arguments.steps,
    )


def _refuse_nothing(arguments: argparse.Namespace) -> None:
    if arguments.runs < 1 or (arguments.time is not None and not arguments.time > 0):
        raise UsageError("a search without runs or time finds nothing", hint="Give --runs and --time above 0.")
    if arguments.jobs is not None and arguments.jobs < 1:
        raise UsageError(f"--jobs {arguments.jobs}: somebody has to do the runs", hint="Give 1 or more.")
    if arguments.steps < 1:
        raise UsageError("a run without steps shows nothing", hint="Give --steps of at least 1.")
    if not arguments.patience > 0:
        raise UsageError("without any patience every step hangs", hint="Give --patience above 0.")


def _searched(arguments: argparse.Namespace, engine: Engine, orders: Orders) -> Campaign:
    jobs = arguments.jobs or 1
    with Watchdog(orders.patience) as watchdog, ExitStack() as stack:
        sampler = Sampler(
            engine,
            orders.settings,
            orders.looking_for,
            strategy=orders.strategy,
            keep_going=orders.keep_going,
            watchdog=watchdog,
            limits=Limits(steps=orders.steps),
        )
        crew = stack.enter_context(Crew(orders, size=jobs)) if jobs > 1 else None
        advance = stack.enter_context(_progress(arguments.runs, arguments.time))
        watch = _watch(arguments.time, time.perf_counter(), advance)
        return sampler.explore(
            seed=arguments.seed, runs=arguments.runs, watch=watch, source=crew, interruptions=INTERRUPTIONS
        )


def _code(campaign: Campaign) -> int:
    """What was found counts more than that the search was ended."""
    if campaign.findings or campaign.interruption is None:
        code = campaign.verdict.exit_code
        return int(campaign.trouble.code if campaign.trouble is not None and code is not ExitCode.FAIL else code)
    return TERMINATED if isinstance(campaign.interruption, Terminated) else INTERRUPTED


def _anomalies(names: list[str]) -> frozenset[str]:
    for name in names:
        if name not in ANOMALIES:
            near = did_you_mean(name, ANOMALIES)
            raise UsageError(f"no such anomaly: {name!r}{near}", hint=f"There are {', '.join(sorted(ANOMALIES))}.")
    return frozenset(names)


def _watch(limit: float | None, started: float, advance: Callable[[int, float], None]) -> Callable[[int], bool]:
    told = 0

    def watch(done: int) -> bool:
        nonlocal told
        spent = time.perf_counter() - started
        if done >= told:
            told = done + SHARE
            advance(done, spent)
        return limit is None or spent < limit

    return watch


@contextmanager
def _progress(runs: int, seconds: float | None) -> Iterator[Callable[[int, float], None]]:
    """Show how far the search is: of the runs, or of the time where that is further."""
    if not sys.stderr.isatty():
        yield lambda done, spent: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (BarColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(file=as_it_is(sys.stderr)), transient=True) as bar:
        task = bar.add_task("", total=1.0)

        def advance(done: int, spent: float) -> None:
            part = max(done / runs, spent / seconds if seconds else 0.0)
            limit = f" of {seconds:g} s" if seconds else f" of {runs}"
            bar.update(task, completed=part, description=f"{done} runs{limit}")

        yield advance


def _spent(campaign: Campaign, seconds: float) -> str:
    return f"{campaign.runs} runs, {campaign.steps} steps, {seconds:.1f} s, seed {campaign.seed}"


def _met(campaign: Campaign, finding: Finding, seconds: float) -> str:
    """Say what it took; a search that went on says in which run it was."""
    spent = _spent(campaign, seconds)
    return spent if campaign.runs == finding.runs else f"run {finding.runs} of {spent}"


def _nothing(campaign: Campaign, settings: Settings, seconds: float, steps: int) -> None:
    word = "interrupted" if campaign.interrupted else str(campaign.verdict)
    found = "a run that cannot be had again" if campaign.unsteady is not None else "no anomaly"
    print(f"{word}: {found} on {campaign.engine} in {_spent(campaign, seconds)}.")
    _trouble(campaign, steps)
    for name, (value, default) in changed_settings(settings).items():
        print(f"  {name} was {value} (default {default})")
    if campaign.verdict is Verdict.PASS:
        print("This is a sample, no proof: another seed looks at other runs.")


def _trouble(campaign: Campaign, steps: int) -> None:
    if campaign.cut:
        print(f"Cut: {campaign.cut} of {campaign.runs} runs were still at work after {steps} steps, and what comes")
        print(f"  later in them was not judged. --steps {10 * steps} lets them go on.")
    if campaign.unsteady is not None:
        print(f"Not deterministic: {campaign.unsteady}.")
        print("No verdict on such a target can be relied on: find what it reads beside its arguments.")
    if campaign.trouble is not None:
        print(f"Ended early: {campaign.trouble.message}")
        if campaign.trouble.hint:
            print(f"  {campaign.trouble.hint}")
