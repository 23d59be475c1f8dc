"""`job-harness explore`: search an engine for a run that breaks an invariant, shrink it, save it, replay it."""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from harness.cli import INTERRUPTED, TERMINATED, Terminated, explore_exhaustive
from harness.cli.campaign_screen import Told, campaign_data, campaign_lines, level_line
from harness.cli.output import OutputFile
from harness.cli.settings_source import configure_source, settings_of
from harness.cli.terminal import show_lines
from harness.errors import ExitCode, UsageError, did_you_mean
from harness.explore.crew import Crew, Orders
from harness.explore.finding import Campaign, Finding
from harness.explore.lockstep import compare
from harness.explore.sampling import Sampler
from harness.explore.strategy import Strategy
from harness.explore.watchdog import PATIENCE, Watchdog
from harness.invariants import ANOMALIES
from harness.model.settings import Settings
from harness.port import Engine
from harness.report.screen import HEIGHT, Line, first_screen
from harness.report.wording import changed_settings, clip, replay_command, wrap
from harness.run.play import play
from harness.run.verdict import Verdict
from harness.scenario.scenario import Scenario
from harness.scenario.variant import parse_changes
from harness.scenario.writer import write_scenario
from harness.wiring import Engines, NotApplicable, engine_name, explained, is_target, split_name

FOLDER = Path(".job-harness") / "found"
STRATEGIES = "how runs are drawn: uniform, pos, swarm or portfolio, all by turns (default: portfolio)"
TARGET = "what to search: an engine, or module:factory or file.py:factory of your own (default: memory)"
LINES_BELOW = 4
"""What is told below the first screen; together they fit a terminal."""
SHARE = 50
"""The progress bar hears of every so many runs."""
OPENER = "harness.wiring:open_engine"
INTERRUPTIONS = (KeyboardInterrupt, Terminated)


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


def execute(arguments: argparse.Namespace) -> int:
    """Search, and tell what came of it."""
    read = settings_of(arguments.settings_from)
    changes = parse_changes(arguments.changes)
    wanted = _anomalies(arguments.looking_for)
    split_name(arguments.target)
    others = [name.strip() for name in arguments.replay.split(",") if name.strip()]
    for name in others:
        split_name(name)
    _refuse_nothing(arguments)
    output = OutputFile.checked(arguments.save, "--save") if arguments.save else None
    report = OutputFile.checked(arguments.json, "--json") if arguments.json else None
    strategy = Strategy(arguments.strategy)
    with Engines() as engines:
        engine = engines.get(arguments.target)
        if arguments.exhaustive:
            return _exhaustively(arguments, engine, wanted, output, engines, others)
        own = None if arguments.settings_from else getattr(engine, "settings", None)
        settings = (own or read).changed(**changes)
        orders = Orders(
            OPENER, arguments.target, settings, wanted, strategy, arguments.keep_going, patience=arguments.patience
        )
        started = time.perf_counter()
        campaign = _searched(arguments, engine, orders)
        seconds = time.perf_counter() - started
        told = {
            finding.anomaly: _found(
                campaign, finding, _place(output, finding, campaign), engines, others, _spent(campaign, seconds)
            )
            for finding in campaign.findings
        }
        if not campaign.findings:
            _nothing(campaign, settings, seconds)
        if not campaign.findings or orders.keep_going:
            show_lines(campaign_lines(campaign, engine.capabilities), sys.stdout)
        print(level_line(campaign))
    if report is not None:
        changed = {name: value for name, (value, _) in changed_settings(settings).items()}
        report.write(
            campaign_data(
                campaign, engine.capabilities, told=told, settings=changed, strategy=strategy, seconds=seconds
            )
        )
    return _code(campaign)


def _exhaustively(
    arguments: argparse.Namespace,
    engine: Engine,
    wanted: frozenset[str],
    output: OutputFile | None,
    engines: Engines,
    others: list[str],
) -> int:
    def show(finding: Finding, spent: str) -> None:
        campaign = Campaign(arguments.target, 0, finding.runs, 0, (finding,))
        _found(campaign, finding, _place(output, finding, campaign), engines, others, spent)

    return explore_exhaustive.execute(arguments, engine, wanted=wanted, interruptions=INTERRUPTIONS, show=show)


def _refuse_nothing(arguments: argparse.Namespace) -> None:
    if arguments.runs < 1 or (arguments.time is not None and not arguments.time > 0):
        raise UsageError("a search without runs or time finds nothing", hint="Give --runs and --time above 0.")
    if arguments.jobs is not None and arguments.jobs < 1:
        raise UsageError(f"--jobs {arguments.jobs}: somebody has to do the runs", hint="Give 1 or more.")
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
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=1.0)

        def advance(done: int, spent: float) -> None:
            part = max(done / runs, spent / seconds if seconds else 0.0)
            limit = f" of {seconds:g} s" if seconds else f" of {runs}"
            bar.update(task, completed=part, description=f"{done} runs{limit}")

        yield advance


def _spent(campaign: Campaign, seconds: float) -> str:
    return f"{campaign.runs} runs, {campaign.steps} steps, {seconds:.1f} s, seed {campaign.seed}"


def _nothing(campaign: Campaign, settings: Settings, seconds: float) -> None:
    word = "interrupted" if campaign.interrupted else str(campaign.verdict)
    found = "a run that cannot be had again" if campaign.unsteady is not None else "no anomaly"
    print(f"{word}: {found} on {campaign.engine} in {_spent(campaign, seconds)}.")
    _trouble(campaign)
    for name, (value, default) in changed_settings(settings).items():
        print(f"  {name} was {value} (default {default})")
    if campaign.verdict is Verdict.PASS:
        print("This is a sample, no proof: another seed looks at other runs.")


def _trouble(campaign: Campaign) -> None:
    if campaign.unsteady is not None:
        print(f"Not deterministic: {campaign.unsteady}.")
        print("No verdict on such a target can be relied on: find what it reads beside its arguments.")
    if campaign.trouble is not None:
        print(f"Ended early: {campaign.trouble.message}")
        if campaign.trouble.hint:
            print(f"  {campaign.trouble.hint}")


def _place(output: OutputFile | None, finding: Finding, campaign: Campaign) -> OutputFile:
    """The first finding goes where it was asked for, each further one beside it, under its own name."""
    if output is None:
        FOLDER.mkdir(parents=True, exist_ok=True)
        name = re.sub(r"[^\w.+-]+", "-", f"{finding.anomaly}-{campaign.engine}").strip("-")
        return OutputFile.checked(str(FOLDER / f"{name}.yaml"), "--save")
    if finding is campaign.finding:
        return output
    path = output.path
    return OutputFile.checked(str(path.with_name(f"{path.stem}-{finding.anomaly}{path.suffix}")), "--save")


def _found(
    campaign: Campaign, finding: Finding, output: OutputFile, engines: Engines, others: list[str], spent: str
) -> Told:
    scenario = _named(finding, campaign.engine)
    output.write(write_scenario(scenario))
    shown = _relative(output.path)
    engine = split_name(campaign.engine)[0]
    run = explained(finding.run, campaign.engine, engines.get, anomaly=finding.anomaly)
    command = replay_command(shown, engine="" if scenario.application else engine)
    lines = first_screen(
        run,
        title=f"{finding.anomaly} on {campaign.engine}",
        replay=command,
        written=shown,
        lead=finding.anomaly,
        height=HEIGHT - LINES_BELOW,
    )
    show_lines([*lines, Line("")], sys.stdout)
    print(f"Found in {spent}; {finding.shrink_runs} more runs made it this small.")
    if ":" in finding.drawn:
        print("\n".join(wrap("Drawn by ", finding.drawn, width=80, lines=2)))
    if not finding.minimal:
        print("Interrupted while it was made smaller: a smaller run may exist.")
    _trouble(campaign)
    replays = {name: _replay(scenario, name, engines, finding) for name in dict.fromkeys([engine, *others])}
    return Told(shown, replays, command, run)


def _named(finding: Finding, engine: str) -> Scenario:
    kind = ANOMALIES[finding.anomaly][1]
    return replace(
        finding.scenario,
        title=f"{finding.anomaly} (found by exploration)",
        why=kind.sentence,
        queue=split_name(engine)[1],
        application=engine if is_target(engine) else None,
    )


def _replay(scenario: Scenario, name: str, engines: Engines, finding: Finding) -> str:
    """Replay on an engine; where the anomaly does not show there, tell the first step at which the engines part."""
    anomaly, own = finding.anomaly, finding.run.engine
    try:
        opened = engines.get(engine_name(name, scenario))
    except NotApplicable as error:
        print(clip(f"Not replayed on {name}: {error.message}.", 80))
        return f"not replayed: {error.message}"
    run = play(scenario, engine=opened)
    same = f"shows {anomaly} again" if anomaly in run.found else f"does not show {anomaly}"
    lines = [Line(clip(f"Replayed on {name}: {run.verdict}, {same}.", 80))]
    if opened.name != own and anomaly not in run.found:
        divergence = compare(scenario, left=engines.get(own), right=opened).divergence
        lines.extend(Line(clip(text, 80)) for text in str(divergence).splitlines()[:4] if divergence is not None)
    show_lines(lines, sys.stdout)
    return f"{run.verdict}, {same}"


def _relative(path: Path) -> str:
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
