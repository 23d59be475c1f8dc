"""What comes from outside is shown, and obeyed by no terminal and no CI log, on any output."""

from __future__ import annotations

import io
import json
import sys
import xml.etree.ElementTree as ElementTree
from dataclasses import replace

import pytest

from job_harness.core.printable import printable, printable_streams
from job_harness.core.scenario.reader import read_scenario_text
from job_harness.doors.cli import main
from job_harness.doors.cli.output import show_as_it_is, show_lines
from job_harness.errors import EnvironmentUnavailable
from job_harness.report.case import Case
from job_harness.report.ci import case_results, check_results, github_annotations, junit_xml
from job_harness.report.findings import findings_junit, sarif
from job_harness.report.screen import Line, screen_text
from job_harness.review.check.examination import Examination
from job_harness.review.check.facts import Place
from job_harness.review.check.finding import CheckFinding, Severity

HOSTILE = "a\x1b[31m\r\x9b2J\n::error::owned\n  ::add-mask::e\n##[error]x ##vso[task.x]\u202eb\ud800\u2028c"
SHOWN = "a\\x1b[31m\\r\\x9b2J\n\\::error::owned\n  \\::add-mask::e\n#\\#[error]x #\\#vso[task.x]\\u202eb\\ud800\\u2028c"


def obeyed(text: str) -> list[str]:
    """List what a terminal or a CI log would obey."""
    signs = [repr(sign) for sign in text if not sign.isprintable() and sign not in "\n\t"]
    commands = [line for line in text.splitlines() if line.lstrip().startswith("::") or "##[" in line]
    return [*signs, *commands]


def test_what_would_be_obeyed_is_shown() -> None:
    assert obeyed(HOSTILE)
    assert printable(HOSTILE) == SHOWN
    assert not obeyed(SHOWN)
    assert printable("a::b, c ## d, 100 %\tü 漢 🙂\n") == "a::b, c ## d, 100 %\tü 漢 🙂\n"


def test_both_streams_are_printable_whatever_is_printed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with printable_streams():
        print(HOSTILE)
        print(HOSTILE, file=sys.stderr)
        sys.stdout.writelines([HOSTILE])
        show_lines([Line(HOSTILE, "red")], sys.stdout)
        show_as_it_is("::error::ours\n")
    told = capsys.readouterr()
    ours = "::error::ours\n"
    assert told.out.endswith(ours)
    assert not obeyed(told.out.removesuffix(ours) + told.err)


def test_colours_reach_a_terminal_and_nobody_elses_do(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr(sys, "stdout", terminal := Terminal())
    with printable_streams():
        show_lines([Line("a\x1b[32mb", "red")], sys.stdout)
    assert terminal.getvalue() == "\x1b[31ma\\x1b[32mb\x1b[0m\n"


def test_every_report_of_a_run_is_printable() -> None:
    scenario = replace(read_scenario_text("format: 1\ntitle: x\njobs: {a: {}}\n"), path=HOSTILE, title=HOSTILE)
    case = Case(scenario, "memory", error=EnvironmentUnavailable(HOSTILE))
    (annotation,) = github_annotations(case_results([case])).splitlines()
    assert annotation.startswith("::error file=")
    assert not obeyed(annotation.removeprefix("::"))
    root = ElementTree.fromstring(junit_xml(case_results([case])))
    assert not obeyed("".join(f"{element.attrib} {element.text or ''}" for element in root.iter()))
    assert not obeyed(screen_text([Line(HOSTILE)]))


def test_every_report_of_check_is_printable() -> None:
    finding = CheckFinding("r", Severity.ERROR, Place(HOSTILE.replace("\ud800", "\udcff"), 1), HOSTILE, repair=HOSTILE)
    examination = Examination((finding,), covered=True)
    (annotation,) = github_annotations(check_results([finding])).splitlines()
    assert not obeyed(annotation.removeprefix("::"))
    root = ElementTree.fromstring(findings_junit(examination, fail_on=Severity.ERROR))
    assert not obeyed("".join(f"{element.attrib} {element.text or ''}" for element in root.iter()))
    (result,) = json.loads(sarif(examination))["runs"][0]["results"]
    assert not obeyed(result["message"]["text"])


def test_a_hostile_argument_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", f"no{HOSTILE}.yaml"]) == 2
    assert not obeyed(capsys.readouterr().err)
