"""`job-harness explore`: search an engine for a run that breaks an invariant, shrink it, save it, replay it."""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from harness.cli.campaign import broken_engine
from harness.cli.output import OutputFile
from harness.cli.settings_source import configure_source, settings_of
from harness.cli.terminal import show_lines
from harness.errors import ExitCode, HarnessError, UsageError, did_you_mean
from harness.explore.finding import Campaign, Finding
from harness.explore.sampling import Sampler
from harness.explore.strategy import Strategy
from harness.invariants import ANOMALIES
from harness.model.settings import Settings
from harness.report.screen import HEIGHT, Line, first_screen
from harness.report.wording import changed_settings, clip, replay_command, wrap
from harness.run.play import play
from harness.scenario.scenario import Scenario
from harness.scenario.variant import parse_changes
from harness.scenario.writer import write_scenario
from harness.wiring import Engines, engine_name, explained, is_target, split_name

FOLDER = Path(".job-harness") / "found"
STRATEGIES = "how runs are drawn: uniform, pos, swarm or portfolio, all by turns (default: portfolio)"
TARGET = "what to search: an engine, or module:factory or file.py:factory of your own (default: memory)"
LINES_BELOW = 3
"""What is told below the first screen; together they fit a terminal."""
SHARE = 50
"""The progress bar hears of every so many runs."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    add("target", nargs="?", default="memory", metavar="TARGET", help=TARGET)
    add("--seed", type=int, default=0, metavar="N", help="where the search begins (default: 0)")
    add("--runs", type=int, default=5_000, metavar="N", help="at most so many runs (default: 5000)")
    add("--time", type=float, metavar="SECONDS", help="and at most so long")
    add("--strategy", choices=[*Strategy], default=Strategy.PORTFOLIO, metavar="NAME", help=STRATEGIES)
    add("--set", action="append", default=[], dest="changes", metavar="SETTING=VALUE", help="search under this setting")
    configure_source(parser)
    add("--looking-for", action="append", default=[], metavar="ANOMALY", help="only this anomaly counts (repeatable)")
    add("--save", metavar="FILE", help=f"where the failing scenario goes (default: a file in {FOLDER}/)")
    add("--replay", default="", metavar="ENGINES", help="replay what was found on these engines too, with commas")


def execute(arguments: argparse.Namespace) -> int:
    """Search, and tell what came of it."""
    read = settings_of(arguments.settings_from)
    changes = parse_changes(arguments.changes)
    wanted = _anomalies(arguments.looking_for)
    split_name(arguments.target)
    others = [name.strip() for name in arguments.replay.split(",") if name.strip()]
    for name in others:
        split_name(name)
    if arguments.runs < 1 or (arguments.time is not None and arguments.time <= 0):
        raise UsageError("a search without runs or time finds nothing", hint="Give --runs and --time above 0.")
    output = OutputFile.checked(arguments.save, "--save") if arguments.save else None
    with Engines() as engines:
        strategy = Strategy(arguments.strategy)
        engine = engines.get(arguments.target)
        own = None if arguments.settings_from else getattr(engine, "settings", None)
        settings = (own or read).changed(**changes)
        sampler = Sampler(engine, settings, wanted, strategy=strategy)
        started = time.perf_counter()
        with _progress(arguments.runs) as advance:
            watch = _watch(arguments.time, started, advance)
            try:
                campaign = sampler.explore(seed=arguments.seed, runs=arguments.runs, watch=watch)
            except HarnessError:
                raise
            except Exception as error:
                raise broken_engine(arguments.target, error) from error
        seconds = time.perf_counter() - started
        if campaign.finding is None:
            return _nothing(campaign, settings, seconds)
        return _found(campaign, campaign.finding, output, engines, others, seconds)


def _anomalies(names: list[str]) -> frozenset[str]:
    for name in names:
        if name not in ANOMALIES:
            near = did_you_mean(name, ANOMALIES)
            raise UsageError(f"no such anomaly: {name!r}{near}", hint=f"There are {', '.join(sorted(ANOMALIES))}.")
    return frozenset(names)


def _watch(limit: float | None, started: float, advance: Callable[[int], None]) -> Callable[[int], bool]:
    def watch(done: int) -> bool:
        if done % SHARE == 0:
            advance(done)
        return limit is None or time.perf_counter() - started < limit

    return watch


@contextmanager
def _progress(total: int) -> Iterator[Callable[[int], None]]:
    if not sys.stderr.isatty():
        yield lambda done: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("runs"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=total)
        yield lambda done: bar.update(task, completed=done)


def _spent(campaign: Campaign, seconds: float) -> str:
    return f"{campaign.runs} runs, {campaign.steps} steps, {seconds:.1f} s, seed {campaign.seed}"


def _nothing(campaign: Campaign, settings: Settings, seconds: float) -> int:
    word = "interrupted" if campaign.interrupted else "pass"
    print(f"{word}: no anomaly on {campaign.engine} in {_spent(campaign, seconds)}.")
    for name, (value, default) in changed_settings(settings).items():
        print(f"  {name} was {value} (default {default})")
    print("This is a sample, no proof: another seed looks at other runs.")
    return 130 if campaign.interrupted else int(ExitCode.PASS)


def _found(
    campaign: Campaign,
    finding: Finding,
    output: OutputFile | None,
    engines: Engines,
    others: list[str],
    seconds: float,
) -> int:
    scenario = _named(finding, campaign.engine)
    if output is None:
        FOLDER.mkdir(parents=True, exist_ok=True)
        name = re.sub(r"[^\w.+-]+", "-", f"{finding.anomaly}-{campaign.engine}").strip("-")
        output = OutputFile.checked(str(FOLDER / f"{name}.yaml"), "--save")
    output.write(write_scenario(scenario))
    shown = _relative(output.path)
    engine = split_name(campaign.engine)[0]
    run = explained(finding.run, campaign.engine, engines.get, anomaly=finding.anomaly)
    lines = first_screen(
        run,
        title=f"{finding.anomaly} on {campaign.engine}",
        replay=replay_command(shown, engine="" if scenario.application else engine),
        written=shown,
        lead=finding.anomaly,
        height=HEIGHT - LINES_BELOW,
    )
    show_lines([*lines, Line("")], sys.stdout)
    print(f"Found in {_spent(campaign, seconds)}; {finding.shrink_runs} more runs made it this small.")
    for text in wrap("Drawn by ", finding.drawn, width=80, lines=2):
        print(text)
    if not finding.minimal:
        print("Interrupted while it was made smaller: a smaller run may exist.")
    for name in dict.fromkeys([engine, *others]):
        _replay(scenario, name, engines, finding.anomaly)
    return int(ExitCode.FAIL)


def _named(finding: Finding, engine: str) -> Scenario:
    kind = ANOMALIES[finding.anomaly][1]
    return replace(
        finding.scenario,
        title=f"{finding.anomaly} (found by exploration)",
        why=kind.sentence,
        queue=split_name(engine)[1],
        application=engine if is_target(engine) else None,
    )


def _replay(scenario: Scenario, name: str, engines: Engines, anomaly: str) -> None:
    opened = engines.get(engine_name(name, scenario))
    run = play(scenario, engine=opened)
    same = f"shows {anomaly} again" if anomaly in run.found else f"does not show {anomaly}"
    show_lines([Line(clip(f"Replayed on {name}: {run.verdict}, {same}.", 80))], sys.stdout)


def _relative(path: Path) -> str:
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
