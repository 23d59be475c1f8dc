"""A finding on the screen and on the disk: shown, written, replayed at once, and held beside other engines.

Whatever goes wrong here costs only its own line: a finding that cannot be written or replayed is still shown.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass, replace
from pathlib import Path

from harness.cli import Terminated
from harness.cli.campaign_screen import Told
from harness.cli.output import OutputFile
from harness.cli.terminal import show_lines
from harness.errors import HarnessError, UsageError
from harness.explore.finding import Finding
from harness.explore.lockstep import compare
from harness.invariants import ANOMALIES
from harness.port import Engine
from harness.private import private_folder
from harness.report.screen import HEIGHT, Line, first_screen
from harness.report.wording import clip, replay_command, wrap
from harness.run.play import play
from harness.run.verdict import Run
from harness.scenario.problem import ScenarioError
from harness.scenario.reader import read_scenario_text
from harness.scenario.scenario import Scenario
from harness.scenario.writer import write_scenario
from harness.wiring import Engines, explained, is_target, split_name

INTERRUPTIONS = (KeyboardInterrupt, Terminated)
FOLDER = Path(".job-harness") / "found"
WIDTH = 80
LINES_BELOW = 4
"""What is told below the first screen; together they fit a terminal."""
LONGEST = 120
"""Signs of a file's name: a target may be a long path."""


def opened_as(target: str, engine: Engine) -> str:
    """Answer the name that opens an engine again: with its version, but never one that it merely gives itself."""
    if is_target(target) or _base(engine.name) != _base(target):
        return target
    return engine.name


def _base(name: str) -> str:
    return name.partition("+")[0].partition("@")[0]


@dataclass(slots=True)
class Teller:
    """Tells of what was found on one target; an interruption ends what is still run for that, and loses nothing."""

    name: str
    """Opens the engine on which it was found."""
    engines: Engines
    others: tuple[str, ...] = ()
    """Engines on which it is replayed too, each as it is named."""
    output: OutputFile | None = None
    """Where the first finding goes."""
    halted: str = ""
    """Why the target is not run any more: what hangs once would hang again, with nobody to end it."""

    def tell(self, finding: Finding, *, spent: str, first: bool = True) -> Told:
        """Show a finding, write its scenario, and replay it."""
        scenario = self._named(finding)
        written, problem = self._written(scenario, finding, first=first)
        engine = split_name(self.name)[0]
        command = replay_command(written, engine="" if scenario.application else engine) if written else ""
        run, unasked = self._explained(finding)
        lines = first_screen(
            run,
            title=f"{finding.anomaly} on {self.name}",
            replay=command,
            written=written,
            lead=finding.anomaly,
            height=HEIGHT - LINES_BELOW,
        )
        notes = [f"Not written: {problem}"] if problem else []
        notes += [f"Nobody knows what would have stopped it: {unasked}"] if unasked else []
        wrapped = [line for note in notes for line in wrap("", note, width=WIDTH, lines=3)]
        between = [] if first else [Line("")]
        show_lines([*between, *lines, Line(""), *(Line(text, "bold red") for text in wrapped)], sys.stdout)
        print(f"Found in {spent}; {finding.shrink_runs} more runs made it this small.")
        if ":" in finding.drawn:
            print("\n".join(wrap("Drawn by ", finding.drawn, width=WIDTH, lines=2)))
        if not finding.minimal:
            print("Cut short while it was made smaller: a smaller run may exist.")
        replays = {self.name: self._replay(scenario, self.name, finding)}
        replays |= {name: self._replay(scenario, name, finding) for name in self.others if name not in replays}
        return Told(written, problem, replays, command, run)

    def _named(self, finding: Finding) -> Scenario:
        kind = ANOMALIES[finding.anomaly][1]
        return replace(
            finding.scenario,
            title=f"{finding.anomaly} (found by exploration)",
            why=kind.sentence,
            queue=split_name(self.name)[1],
            application=self.name if is_target(self.name) else None,
        )

    def _explained(self, finding: Finding) -> tuple[Run, str]:
        if self.halted:
            return finding.run, self.halted
        try:
            return explained(finding.run, self.name, self.engines.get, anomaly=finding.anomaly), ""
        except INTERRUPTIONS:
            self.halted = "interrupted"
            return finding.run, self.halted
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a target may raise anything; the finding is told all the same
            return finding.run, f"{type(error).__name__}: {error}"

    # on the disk ----------------------------------------------------------------------------------------------------

    def _written(self, scenario: Scenario, finding: Finding, *, first: bool) -> tuple[str, str]:
        """Write it; answer where it is, or nothing and why not."""
        try:
            text = write_scenario(scenario)
            if read_scenario_text(text) != scenario:
                raise UsageError("a scenario file cannot hold this run: read back, it is another one")
            place = self._place(finding, first=first)
            place.write(text)
        except ScenarioError as error:
            return "", f"a scenario file cannot hold this run: {error.problems[0].message}"
        except HarnessError as error:
            return "", error.message
        except OSError as error:
            return "", f"{error.filename}: {error.strerror}"
        return "" if place.is_standard else _relative(place.path), ""

    def _place(self, finding: Finding, *, first: bool) -> OutputFile:
        """The first finding goes where it was asked for, each further one beside it, under its own name."""
        if self.output is None or (self.output.is_standard and not first):
            private_folder(FOLDER)
            name = re.sub(r"[^\w.+-]+", "-", f"{finding.anomaly}-{self.name}").strip("-")[:LONGEST]
            return OutputFile.checked(str(FOLDER / f"{name}.yaml"), "--save")
        if first:
            return self.output
        path = self.output.path
        return OutputFile.checked(str(path.with_name(f"{path.stem}-{finding.anomaly}{path.suffix}")), "--save")

    # replayed -------------------------------------------------------------------------------------------------------

    def _replay(self, scenario: Scenario, name: str, finding: Finding) -> str:
        """Replay on an engine; where the anomaly does not show there, tell the first step at which the engines part."""
        if self.halted:
            return _not_replayed(name, self.halted)
        try:
            run = play(scenario, engine=self.engines.get(name))
            same = f"shows {finding.anomaly} again" if finding.anomaly in run.found else _without(run, finding.anomaly)
            lines = [Line(clip(f"Replayed on {name}: {run.verdict}, {same}.", WIDTH))]
            if name != self.name and finding.anomaly not in run.found:
                lines += [Line(text) for text in self._parting(scenario, name)]
        except INTERRUPTIONS:
            self.halted = "interrupted"
            return _not_replayed(name, self.halted)
        except HarnessError as error:
            return _not_replayed(name, error.message)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a target may raise anything; the finding is told all the same
            return _not_replayed(name, f"{type(error).__name__}: {error}")
        show_lines(lines, sys.stdout)
        return f"{run.verdict}, {same}"

    def _parting(self, scenario: Scenario, name: str) -> list[str]:
        compared = compare(scenario, left=self.engines.get(self.name), right=self.engines.get(name))
        if compared.divergence is None:
            return ["Verb by verb the two do not differ: it is in what one of them cannot show."]
        return [clip(text, WIDTH) for text in str(compared.divergence).splitlines()[:4]]


def _without(run: Run, anomaly: str) -> str:
    others = ", ".join(sorted(run.found))
    return f"does not show {anomaly}" + (f" but {others}" if others else "")


def _not_replayed(name: str, why: str) -> str:
    print(clip(f"Not replayed on {name}: {why}.", WIDTH))
    return f"not replayed: {why}"


def _relative(path: Path) -> str:
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
