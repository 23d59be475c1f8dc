"""`job-harness run`: scenarios on engines, with their controls, to a verdict; and which files a command means."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

from job_harness.core.history.jsonl import dump_history
from job_harness.core.interruption import INTERRUPTIONS
from job_harness.core.interruption import exit_code_of as exit_code_after
from job_harness.core.invariants import anomalies_named
from job_harness.core.run.session import Limits
from job_harness.core.scenario.document import ScenarioError
from job_harness.core.scenario.reader import parse_changes, read_scenario
from job_harness.core.scenario.replay_token import decode, target_of
from job_harness.core.scenario.scenario import Scenario
from job_harness.core.target import Target
from job_harness.core.yaml_files import SUFFIXES
from job_harness.doors.cli.output import ANNOTATIONS, OutputFile, annotate, output_files, progress, show_lines
from job_harness.errors import ExitCode, UsageError, did_you_mean
from job_harness.report.case import Case, exit_code_of, without_excused
from job_harness.report.summary import case_screen, summary
from job_harness.search.cases import CaseRunner, Task, tasks
from job_harness.search.targets import SESSIONS, WITHOUT, Engines, targets, wrong_queue_names

# which files ----------------------------------------------------------------------------------------------------------


DEFAULT = "scenarios"
APART = "findings"
"""Scenarios about other people's queues, which install them: they are run where they, or their folder, are named."""


def scenario_files(paths: Sequence[str]) -> list[Path]:
    """Return the files that the paths name: a file as it is, a folder with everything below it, in order, each once.

    Raises UsageError for what does not exist, for a folder without scenarios and for one that
    cannot be read.
    """
    found: dict[str, Path] = {}
    for name in paths or [DEFAULT]:
        for path in _below(Path(name), named=bool(paths)):
            found.setdefault(os.path.abspath(path), path)
    return list(found.values())


def _below(path: Path, *, named: bool) -> list[Path]:
    if path.is_dir():
        inside = (Path(folder, name) for folder, _, names in os.walk(path, onerror=_refuse_folder) for name in names)
        below = sorted(file for file in inside if file.suffix in SUFFIXES and file.is_file())
        below = [file for file in below if APART not in file.relative_to(path).parts[:-1]] or below
        if not below:
            raise UsageError(f"{path}: no scenarios in this folder", hint="Scenarios are files that end in .yaml.")
        return below
    if path.exists():
        return [path]
    if not named:
        raise UsageError("there is no folder scenarios/ here", hint="Name the scenario files or folders to run.")
    if path.is_symlink():
        raise UsageError(
            f"{path}: this link leads nowhere, or to itself", hint="Name scenario files, or folders of them."
        )
    near = did_you_mean(path.name, [file.name for file in path.parent.iterdir()] if path.parent.is_dir() else [])
    raise UsageError(f"{path}: no such file or folder{near}", hint="Name scenario files, or folders of them.")


def _refuse_folder(error: OSError) -> NoReturn:
    raise UsageError(
        f"{error.filename}: this folder cannot be read: {error.strerror}",
        hint="Change its permissions, or name the scenarios to run.",
    ) from None


def read_all(files: Iterable[Path], *, queues: Collection[str] | None) -> tuple[list[Scenario], list[ScenarioError]]:
    """Read every file; return the scenarios, and what is wrong with the others."""
    scenarios: list[Scenario] = []
    errors: list[ScenarioError] = []
    for file in files:
        try:
            scenarios.append(read_scenario(file, queues=queues))
        except ScenarioError as error:
            errors.append(error)
    return scenarios, errors


# the command ----------------------------------------------------------------------------------------------------------


MOST_SCREENS = 10


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    add("paths", nargs="*", metavar="PATH", help="scenario files, or folders of them (default: scenarios/)")
    _choice_options(parser)
    _limit_options(parser)
    add("--junit", metavar="FILE", help="write JUnit XML")
    add("--json", metavar="FILE", help="write the report as JSON")
    add("--html", metavar="FILE", help="draw what happened, as one HTML file that needs no network")
    add("--trace", metavar="FILE", help="write what happened as a trace that ui.perfetto.dev opens")
    add("--history", metavar="FILE", help="write the history of the one scenario run, as JSON lines")
    add("--annotations", action="store_true", help=ANNOTATIONS)
    add("--quiet", "-q", action="store_true", help="print only what is not a pass")


def _choice_options(parser: argparse.ArgumentParser) -> None:
    """Declare on which engine scenarios run, and with which changes."""
    add = parser.add_argument
    add(
        "--engine",
        default="memory",
        metavar="NAMES",
        help="engines, separated by commas, as `job-harness doctor` lists them (default: memory); NAME+MISTAKE has a "
        "planted bug",
    )
    add("--sessions", action="store_true", help=SESSIONS)
    add(
        "--seed",
        type=int,
        metavar="N",
        help="the seed for whatever a scenario does not determine; its `tape` still applies",
    )
    add("--replay", metavar="TOKEN", help="replay a token on the one scenario that is named")
    add(
        "--set",
        action="append",
        default=[],
        dest="changes",
        metavar="SETTING=VALUE",
        help="change a setting in every scenario (repeatable)",
    )
    add(
        "--controls",
        action=argparse.BooleanOptionalAction,
        help="also check that each scenario can fail (default: yes, unless --set, --seed or --replay is given)",
    )
    add("--without", action="append", default=[], metavar="ANOMALY", help=WITHOUT)


def _limit_options(parser: argparse.ArgumentParser) -> None:
    """Declare what ends a run that does not end by itself."""
    add = parser.add_argument
    add(
        "--steps",
        type=int,
        default=Limits().steps,
        metavar="N",
        help="a run that has not finished after N steps fails (default: 200000)",
    )
    add(
        "--blocked-after",
        type=float,
        default=Limits().blocked_after,
        metavar="SECONDS",
        help="a processor that keeps control for this many real seconds fails the run (default: 30)",
    )


def execute(arguments: argparse.Namespace) -> int:
    """Run, print, write; return the exit code."""
    files = scenario_files(arguments.paths)
    outputs = output_files(arguments, "junit", "json", "html", "trace", "history", inputs=files)
    engines = _engines(arguments.engine, sessions=arguments.sessions)
    changes = parse_changes(arguments.changes)
    if arguments.steps < 1:
        raise UsageError(f"--steps must be at least 1, not {arguments.steps}")
    if not arguments.blocked_after > 0:
        raise UsageError(
            f"--blocked-after must be above 0, not {arguments.blocked_after:g}", hint="Give seconds, such as 30."
        )
    scenarios, errors = _scenarios(files, changes, annotated=arguments.annotations)
    if errors and not scenarios:
        _write(
            outputs,
            [],
            {**_replay_options(arguments), "planned": 0, "errors": errors, "exit_code": int(ExitCode.USAGE)},
        )
        raise UsageError("\n".join(error.message for error in errors))
    if arguments.replay is not None:
        scenarios = [_replayed(arguments, scenarios)]
    drawn = arguments.seed is not None or arguments.replay is not None
    controls = arguments.controls if arguments.controls is not None else not (changes or drawn)
    todo = tasks(scenarios, engines, controls=controls)
    if "history" in outputs and len(scenarios) * len(engines) != 1:
        raise UsageError(
            f"--history holds only one history, but {len(scenarios)} scenarios on {len(engines)} engines would be run",
            hint="Name one scenario file and one engine.",
        )
    code = _run(arguments, todo, outputs, changes, errors)
    for error in errors:
        print(error.message, file=sys.stderr)
    return code


def _replayed(arguments: argparse.Namespace, scenarios: list[Scenario]) -> Scenario:
    """Return the one scenario with the deviations of the token, and nothing drawn beside them."""
    token = decode(arguments.replay)
    if arguments.seed is not None:
        raise UsageError("--replay and --seed are both given", hint="A token has its own deviations: leave --seed out.")
    if len(scenarios) != 1:
        raise UsageError(
            f"--replay plays one scenario, but {len(scenarios)} are named",
            hint="Name the file that the token belongs to.",
        )
    token.expect(target_of(scenarios[0]), called=scenarios[0].path)
    return replace(scenarios[0], tape=token.tape)


def _run(
    arguments: argparse.Namespace,
    todo: list[Task],
    outputs: dict[str, OutputFile],
    changes: dict[str, Any],
    errors: list[ScenarioError],
) -> int:
    """Run what is to be done and report on it, also where it is interrupted; return the exit code."""
    code = int(ExitCode.INCONCLUSIVE)
    with Engines(without=anomalies_named(arguments.without)) as engines:
        campaign = CaseRunner(
            engines,
            seed=arguments.seed,
            limits=Limits(steps=arguments.steps, blocked_after=arguments.blocked_after),
            changes=changes,
        )
        try:
            with progress(len(todo), quiet=arguments.quiet) as (done, campaign.doing):
                campaign.run(todo, done=done)
            code = int(exit_code_of(campaign.cases) or (ExitCode.USAGE if errors else ExitCode.PASS))
        except INTERRUPTIONS as stop:
            code = exit_code_after(stop)
            raise
        finally:
            for told in (*(() if arguments.quiet else engines.provenances()), *engines.releases()):
                print(told, file=sys.stderr)
            _report(campaign.cases, arguments, outputs, planned=len(todo), errors=errors, code=code)
    return code


def _engines(names: str, *, sessions: bool) -> list[Target]:
    engines = targets(names, sessions=sessions)
    if not engines:
        raise UsageError("--engine names no engine", hint="Write --engine memory,postgres.")
    return engines


def _scenarios(
    files: Sequence[Path], changes: dict[str, Any], *, annotated: bool
) -> tuple[list[Scenario], list[ScenarioError]]:
    """Return what can be run, and what is wrong with the other files; one broken file does not stop a folder."""
    scenarios, errors = read_all(files, queues=wrong_queue_names())
    if errors and annotated:
        annotate([], errors)
    return [replace(scenario, settings=scenario.settings.changed(**changes)) for scenario in scenarios], errors


def _report(
    cases: list[Case],
    arguments: argparse.Namespace,
    outputs: dict[str, OutputFile],
    *,
    planned: int,
    errors: list[ScenarioError],
    code: int,
) -> None:
    asked = _replay_options(arguments)
    bad = [case for case in without_excused(cases) if case.exit_code is not ExitCode.PASS]
    for case in bad[:MOST_SCREENS]:
        show_lines(case_screen(case, **asked), sys.stdout)
    if len(bad) > MOST_SCREENS:
        print(f"... and {len(bad) - MOST_SCREENS} more, listed below\n")
    show_lines(summary(cases, planned=planned, quiet=arguments.quiet), sys.stdout)
    if arguments.annotations:
        from job_harness.report.ci import case_results, unjudged_results

        unjudged = unjudged_results([], run=len(cases), planned=planned)  # what cannot be read was told at once
        drawn = str(outputs["html"].path) if "html" in outputs else ""
        annotate([*(each._replace(picture=drawn) for each in case_results(cases)), *unjudged])
    sys.stdout.flush()
    _write(outputs, cases, {**asked, "planned": planned, "errors": errors, "exit_code": code})


def _replay_options(arguments: argparse.Namespace) -> dict[str, Any]:
    return {"seed": arguments.seed, "token": arguments.replay, "changes": arguments.changes}


def _write(outputs: dict[str, OutputFile], cases: list[Case], asked: dict[str, Any]) -> None:
    for option, output in outputs.items():
        output.write(_written(option, cases, asked))


def _written(option: str, cases: list[Case], asked: dict[str, Any]) -> str:
    """Return what an option asks to be written. Imported here: most runs write nothing, and start sooner for it."""
    from job_harness.report.ci import case_results, junit_xml, unjudged_results
    from job_harness.report.json_report import json_report, report_data
    from job_harness.report.picture import picture
    from job_harness.report.trace import trace

    match option:
        case "junit":
            unjudged = unjudged_results(asked["errors"], run=len(cases), planned=asked["planned"])
            return junit_xml([*case_results(cases), *unjudged])
        case "json":
            return json_report(cases, **asked)
        case "html":
            return picture(report_data(cases, **asked))
        case "trace":
            return trace(report_data(cases, **asked))
        case _:
            return _history(cases)


def _history(cases: list[Case]) -> str:
    runs = [case.run for case in cases if case.control is None and case.run is not None]
    if not runs:
        return ""
    from job_harness.report.json_report import token_of_run

    run = runs[0]
    about: dict[str, Any] = {"engine": run.engine, "seed": run.seed, "scenario": run.scenario.path}
    if (token := token_of_run(run)) is not None:
        about |= {"token": token, "anomalies": sorted(run.found)}
    return dump_history(run.history, about=about)
