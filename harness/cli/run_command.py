"""`job-harness run`: scenarios on engines, with their controls, to a verdict."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from harness.cli.campaign import Campaign, Task, tasks
from harness.cli.collect import read_all, scenario_files
from harness.cli.output import OutputFile
from harness.cli.progress import progress
from harness.cli.terminal import show_as_it_is, show_lines
from harness.errors import ExitCode, UsageError
from harness.history.jsonl import dump_history
from harness.report.annotations import github_annotations
from harness.report.case import Case, exit_code_of, without_excused
from harness.report.json_report import json_report
from harness.report.junit import junit_xml
from harness.report.summary import case_screen, summary
from harness.run.session import Limits
from harness.scenario.scenario import Scenario
from harness.scenario.variant import parse_changes
from harness.wiring import Engines, split_name, wrong_queues

MOST_SCREENS = 10


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    add("paths", nargs="*", metavar="PATH", help="scenario files, or folders of them (default: scenarios/)")
    add(
        "--engine",
        default="memory",
        metavar="NAMES",
        help="engines, with commas; NAME+MISTAKE is a wrong queue",
    )
    add("--seed", type=int, metavar="N", help="draw what a scenario leaves open from this seed (a tape outranks it)")
    add("--set", action="append", default=[], dest="changes", metavar="SETTING=VALUE", help="change a setting in all")
    add(
        "--controls",
        action=argparse.BooleanOptionalAction,
        help="also show that each scenario can fail (default: yes, unless --set or --seed changes what is run)",
    )
    add(
        "--steps",
        type=int,
        default=Limits().steps,
        metavar="N",
        help="a run that is still at work after so many steps fails (default: 200000)",
    )
    add("--junit", metavar="FILE", help="write JUnit XML")
    add("--json", metavar="FILE", help="write the report as JSON")
    add("--history", metavar="FILE", help="write the history of the one scenario run, as JSON lines")
    add("--annotations", action="store_true", help="print annotations for GitHub")
    add("--quiet", "-q", action="store_true", help="print only what is not a pass")


def execute(arguments: argparse.Namespace) -> int:
    """Run, print, write; answers the exit code."""
    outputs = {
        option: OutputFile.checked(name, f"--{option}")
        for option in ("junit", "json", "history")
        if (name := getattr(arguments, option)) is not None
    }
    engines = _engines(arguments.engine)
    changes = parse_changes(arguments.changes)
    if arguments.steps < 1:
        raise UsageError("a run without steps shows nothing", hint="Give --steps of at least 1.")
    scenarios = _scenarios(arguments.paths, changes, annotated=arguments.annotations)
    controls = arguments.controls if arguments.controls is not None else not (changes or arguments.seed is not None)
    todo = tasks(scenarios, engines, controls=controls)
    if "history" in outputs and len(scenarios) * len(engines) != 1:
        raise UsageError(
            f"--history takes one history, and {len(scenarios)} scenarios on {len(engines)} engines would be run",
            hint="Name one scenario file and one engine.",
        )
    return _run(arguments, todo, outputs)


def _run(arguments: argparse.Namespace, todo: list[Task], outputs: dict[str, OutputFile]) -> int:
    with Engines() as engines:
        campaign = Campaign(engines, seed=arguments.seed, limits=Limits(steps=arguments.steps))
        try:
            with progress(len(todo), quiet=arguments.quiet) as done:
                campaign.run(todo, done=done)
        finally:
            for told in (*(() if arguments.quiet else engines.provenances()), *engines.releases()):
                print(told, file=sys.stderr)
            _report(campaign.cases, arguments, outputs, planned=len(todo))
    return int(exit_code_of(campaign.cases))


def _engines(names: str) -> list[str]:
    engines = [name.strip() for name in names.split(",") if name.strip()]
    if not engines:
        raise UsageError("--engine names no engine", hint="Write --engine memory,postgres.")
    for name in engines:
        split_name(name)
    return list(dict.fromkeys(engines))


def _scenarios(paths: Sequence[str], changes: dict[str, Any], *, annotated: bool) -> list[Scenario]:
    scenarios, errors = read_all(scenario_files(paths), queues=wrong_queues() or None)
    if errors:
        if annotated:
            show_as_it_is(github_annotations([], errors))
        raise UsageError("\n".join(error.message for error in errors))
    return [replace(scenario, settings=scenario.settings.changed(**changes)) for scenario in scenarios]


def _report(cases: list[Case], arguments: argparse.Namespace, outputs: dict[str, OutputFile], *, planned: int) -> None:
    bad = [case for case in without_excused(cases) if case.exit_code is not ExitCode.PASS]
    for case in bad[:MOST_SCREENS]:
        show_lines(case_screen(case, seed=arguments.seed, changes=arguments.changes), sys.stdout)
    if len(bad) > MOST_SCREENS:
        print(f"... and {len(bad) - MOST_SCREENS} more, listed below\n")
    show_lines(summary(cases, planned=planned, quiet=arguments.quiet), sys.stdout)
    if arguments.annotations:
        show_as_it_is(github_annotations(cases, []))
    sys.stdout.flush()
    writers: dict[str, Callable[[], str]] = {
        "junit": lambda: junit_xml(cases),
        "json": lambda: json_report(cases, seed=arguments.seed, changes=arguments.changes, planned=planned),
        "history": lambda: _history(cases),
    }
    for option, output in outputs.items():
        output.write(writers[option]())


def _history(cases: list[Case]) -> str:
    runs = [case.run for case in cases if case.control is None and case.run is not None]
    if not runs:
        return ""
    run = runs[0]
    about = {"engine": run.engine, "seed": run.seed, "scenario": run.scenario.path}
    return dump_history(run.history, about=about)
