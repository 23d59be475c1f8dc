"""`job-harness replay`: recorded runs of ours against a changed processor, and where it decides differently."""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from job_harness.core.history import History
from job_harness.core.history.jsonl import load_history
from job_harness.core.interruption import raised_at_once
from job_harness.core.scenario.reader import read_scenario
from job_harness.core.scenario.replay_token import encode, target_of
from job_harness.core.sim import Tape
from job_harness.core.target import Target
from job_harness.doors.cli.output import OutputFile, output_files, show_lines
from job_harness.errors import ExitCode, UsageError
from job_harness.report.screen import Line, one_line
from job_harness.search.cases import CaseRunner, Task
from job_harness.search.decisions import OtherDecision, divergence
from job_harness.search.targets import Engines
from job_harness.subjects.processors.processor import Replacements

if TYPE_CHECKING:
    from job_harness.doors.pytest.recorded import RecordedRun

MOST_SHOWN: Final = 10
"""Ways to decide differently that are shown."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    add(
        "recorded",
        nargs="+",
        metavar="HISTORY",
        help="recorded runs, or folders of them: what `pytest --job-explore N --job-record FOLDER` or "
        "`job-harness run --history FILE` wrote",
    )
    add(
        "--against",
        action="append",
        default=[],
        metavar="[TOOL=]PROCESSOR",
        help='a changed processor, as "module:name" or "path.ts#name" (repeatable; default: those that the tests and '
        "scenarios have now)",
    )
    add(
        "--from-attempt",
        type=int,
        default=1,
        metavar="N",
        help="the changed processor runs attempts from the Nth on, and the test's own runs those before, as when it is "
        "deployed while jobs are under way (default: 1)",
    )
    add("--json", metavar="FILE", help="write the result as JSON")


@dataclass(frozen=True, slots=True)
class Replayed:
    """What one recorded run came to."""

    recorded: RecordedRun
    other: OtherDecision | None = None
    new: tuple[str, ...] = ()
    """Anomalies that the recorded run does not have."""
    lost: str = ""
    """Why nothing can be said of it."""
    fails: str = ""
    """What the test's own code raised in the run without faults, of which alone it speaks."""

    @property
    def differs(self) -> bool:
        """Whether it is not as it was recorded."""
        return self.other is not None or bool(self.new or self.fails)

    @property
    def way(self) -> tuple[object, ...]:
        """What is the same in all runs that differ in the same way."""
        other = None if self.other is None else (self.other.tool, self.other.recorded, self.other.now)
        return self.recorded.target, other, self.new, self.fails


@dataclass(slots=True)
class ReplayResult:
    """What all came to."""

    runs: list[Replayed] = field(default_factory=list)

    @property
    def exit_code(self) -> ExitCode:
        """0 where every run decides as recorded, 1 where one does not, 3 where nothing can be said of one."""
        if any(run.differs for run in self.runs):
            return ExitCode.FAIL
        return ExitCode.INCONCLUSIVE if any(run.lost for run in self.runs) else ExitCode.PASS

    @property
    def verdict(self) -> str:
        """The exit code in a word."""
        return {ExitCode.PASS: "pass", ExitCode.FAIL: "fail"}.get(self.exit_code, "inconclusive")

    def ways(self) -> list[list[Replayed]]:
        """Return the runs that differ, by how they do, the run with the fewest deviations first."""
        ways: dict[object, list[Replayed]] = {}
        for run in self.runs:
            if run.differs:
                ways.setdefault(run.way, []).append(run)
        return [sorted(way, key=lambda run: len(run.recorded.token.tape)) for way in ways.values()]


def execute(arguments: argparse.Namespace) -> int:
    """Play all, compare, tell; return the exit code."""
    from job_harness.doors.pytest.recorded import read_recorded

    files = list(_files(arguments.recorded))
    output = output_files(arguments, "json", inputs=files).get("json")
    recorded = [read_recorded(file) for file in files]
    against = _against(arguments.against)
    tests = [run for run in recorded if run.is_of_test]
    first = arguments.from_attempt
    if first < 1 or (first > 1 and not (against and len(tests) == len(recorded))):
        raise UsageError(
            f"--from-attempt {first}: it says from which attempt on a test runs the processor of --against",
            hint="Give a number of at least 1, --against PROCESSOR, and only runs of tests.",
        )
    result = ReplayResult()
    if tests:
        result.runs += _replay_tests(tests, against, first)
    if scenarios := [run for run in recorded if not run.is_of_test]:
        result.runs += _replay_scenarios(scenarios, against)
    show_lines(list(_screen(result)), sys.stdout)
    if output is not None:
        _write(output, result)
    return int(result.exit_code)


def _files(names: Sequence[str]) -> Iterator[Path]:
    for name in names:
        path = Path(name)
        below = sorted(path.rglob("*.jsonl")) if path.is_dir() else [path]
        if not below:
            raise UsageError(f"{name}: no recorded runs in this folder", hint="They are files that end in .jsonl.")
        yield from below


def _against(said: Sequence[str]) -> dict[str, str]:
    against: dict[str, str] = {}
    for each in said:
        tool, equals, processor = each.partition("=")
        against[tool if equals else ""] = processor if equals else each
    return against


# tests ----------------------------------------------------------------------------------------------------------------


def _replay_tests(recorded: Sequence[RecordedRun], against: Mapping[str, str], first: int) -> Iterator[Replayed]:
    """Let pytest play each test with the tapes of its runs."""
    from job_harness.doors.pytest.recorded import PLUGIN, Replaying

    runs: dict[str, list[RecordedRun]] = {}
    for run in recorded:
        runs.setdefault(run.target, []).append(run)
    replaying = Replaying(runs, Replacements(against, first))
    told = _run_pytest(list(runs), _options_of(recorded), (PLUGIN, replaying))
    missing = [tool or "any tool" for tool in against if tool not in replaying.replacements.met]
    if missing and replaying.played.keys() == runs.keys():
        raise UsageError(
            f"no test of these runs registers a processor for {', '.join(missing)}", hint="Check its name."
        )
    for test, each in runs.items():
        campaign = replaying.played.get(test)
        unplayed = told or f"skipped, or failed before its body began; to see why: pytest {shlex.quote(test)}"
        for run in each:
            if campaign is None or campaign.unsure:
                yield Replayed(run, lost=unplayed if campaign is None else campaign.unsure)
                continue
            seen = campaign.recorded[run.token.tape]
            now = load_history(seen.history.splitlines()) if seen.history else History()
            lost = seen.lost or ("" if seen.sent else seen.failure)
            fails = "" if lost or run.token.tape else seen.failure
            yield replace(_compared(run, now, seen.tape, frozenset(seen.found), lost=lost), fails=fails)


def _options_of(recorded: Sequence[RecordedRun]) -> list[str]:
    """Return with which options pytest ran them. Raises UsageError where that is more than one session."""
    told = {(run.engine, run.token.seed or 0) for run in recorded}
    if len(told) > 1:
        raise UsageError(
            "these runs come from several sessions of pytest, with different engines or seeds",
            hint="Replay each session on its own.",
        )
    ((engine, seed),) = told
    return [f"--job-engine={engine}", f"--job-seed={seed}"]


def _run_pytest(tests: Sequence[str], options: Sequence[str], plugin: tuple[str, object]) -> str:
    """Run them; return the errors that pytest printed where it could not even begin them all."""
    import pytest

    class Named:
        """Registers the plug-in under its name, by which the rest of ours asks for it."""

        def pytest_configure(self, config: pytest.Config) -> None:
            config.pluginmanager.register(plugin[1], plugin[0])

    said = io.StringIO()
    with raised_at_once(), contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        code = pytest.main([*tests, "-q", "-p", "no:cacheprovider", *options], plugins=[Named()])
    began = code in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED)
    errors = dict.fromkeys(line for line in said.getvalue().splitlines() if line.startswith(("E ", "ERROR: ")))
    return "" if began else one_line("; ".join(errors)) or "pytest did not run it"


# scenarios ------------------------------------------------------------------------------------------------------------


def _replay_scenarios(recorded: Sequence[RecordedRun], against: Mapping[str, str]) -> Iterator[Replayed]:
    with Engines() as engines:
        runner = CaseRunner(engines)
        for run in recorded:
            scenario = read_scenario(Path(run.target))
            run.token.expect(target_of(scenario), called=run.target)
            plans = scenario.processors
            if not plans:
                raise UsageError(
                    f"{run.file}: {run.target} has no processor, so there is nothing to compare",
                    hint="Give runs of tests, or of scenarios with `processors:`.",
                )
            if missing := set(against) - {*plans, *([""] if len(plans) == 1 else [])}:
                lacking = ", ".join(sorted(filter(None, missing)))
                raise UsageError(
                    f"{run.target}: {f'no processor for {lacking}; ' if lacking else ''}it has {', '.join(plans)}",
                    hint=f"Write --against {next(iter(plans))}=PROCESSOR.",
                )
            plans = {
                tool: replace(plan, run=against.get(tool, against.get("", plan.run))) for tool, plan in plans.items()
            }
            changed = replace(scenario, processors=plans, tape=run.token.tape)
            case = runner.case(Task(changed, Target.parse(run.engine)))
            if case.run is None:
                yield Replayed(run, lost=case.skipped or str(case.error))
            else:
                found = frozenset(anomaly.name for anomaly in case.run.anomalies)
                now = History(list(case.run.history))
                yield _compared(run, now, case.run.tape, found, lost="")


# the result ---------------------------------------------------------------------------------------------------------


def _compared(recorded: RecordedRun, now: History, tape: Tape, found: frozenset[str], *, lost: str) -> Replayed:
    if lost:
        return Replayed(recorded, lost=lost)
    other = divergence(recorded.history, now)
    new = tuple(sorted(found - recorded.anomalies))
    missing = [deviation for deviation in recorded.token.tape if deviation not in tape]
    unfit = f"{missing[0]} never came up, though every decision is as before" if missing and other is None else ""
    return Replayed(recorded, other, new, unfit)


def _screen(result: ReplayResult) -> Iterator[Line]:
    differing = [run for run in result.runs if run.differs]
    lost = [run for run in result.runs if run.lost and not run.differs]
    ways = result.ways()
    for way in ways[:MOST_SHOWN]:
        yield from _way_lines(way)
    if len(ways) > MOST_SHOWN:
        yield Line(f"... and {len(ways) - MOST_SHOWN} other ways; --json FILE has all of them")
    reasons = dict.fromkeys(run.lost for run in lost)
    for reason in reasons:
        yield Line(f"not judged, {_counted(sum(run.lost == reason for run in lost))}: {reason}", "yellow")
    verdict = "FAIL" if differing else result.verdict
    told = f"{_counted(len(result.runs))} replayed, {len(differing)} different"
    yield Line(f"{verdict}: {told}{f', {len(lost)} could not be judged' if lost else ''}")


def _counted(runs: int) -> str:
    return "1 run" if runs == 1 else f"{runs} runs"


def _way_lines(way: Sequence[Replayed]) -> Iterator[Line]:
    first = way[0]
    yield Line(f"{first.recorded.target}: different in {_counted(len(way))}", "bold red")
    if (other := first.other) is not None:
        yield Line(f"  {other.job} ({other.tool}), attempt {other.attempt}" if other.attempt else f"  {other.job}")
        for words in other.before:
            yield Line(f"    both      {words}")
        yield Line(f"    recorded  {other.recorded}")
        yield Line(f"    now       {other.now}")
    for anomaly in first.new:
        yield Line(f"  now it shows {anomaly}, which the recorded run does not")
    if first.fails:
        yield Line(f"  now the test itself fails: {one_line(first.fails)}")
    tape = "; ".join(map(str, first.recorded.token.tape)) or "no fault"
    yield Line(f"  the smallest of them: {tape}")
    yield Line(f"  {_replay_of(first.recorded)}")


def _replay_of(run: RecordedRun) -> str:
    if run.is_of_test:
        return f"pytest {shlex.quote(run.target)} --job-replay {encode(run.token)}"
    return f"job-harness run {shlex.quote(run.target)} --replay {encode(run.token)}"


def _write(output: OutputFile, result: ReplayResult) -> None:
    document = {
        "format": "job-harness-replay",
        "version": 1,
        "verdict": result.verdict,
        "exit_code": int(result.exit_code),
        "runs": [_run_data(run) for run in result.runs],
    }
    output.write(json.dumps(document, indent=2) + "\n")


def _run_data(run: Replayed) -> dict[str, Any]:
    return {
        "file": str(run.recorded.file),
        "target": run.recorded.target,
        "token": encode(run.recorded.token),
        "divergence": None if run.other is None else run.other._asdict(),
        "new_anomalies": list(run.new),
        "test_fails": run.fails or None,
        "not_judged": run.lost or None,
    }
