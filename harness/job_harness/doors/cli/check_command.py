"""`job-harness check`: what a repository sets for its job queue, read, judged, and reported at the line."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from job_harness.core.yaml_files import SUFFIXES, is_system_file
from job_harness.doors.cli.output import ANNOTATIONS, OutputFile, annotate, output_files, show_lines
from job_harness.errors import ExitCode, UsageError, did_you_mean
from job_harness.report.ci import check_results
from job_harness.report.findings import findings_json, findings_junit, findings_screen, sarif
from job_harness.report.screen import Line, one_line
from job_harness.review.check.catalogue import RULES
from job_harness.review.check.examination import Examination, Key, dump_baseline, examine, load_baseline, set_aside
from job_harness.review.check.facts import Facts
from job_harness.review.check.finding import CheckFinding, Severity
from job_harness.review.check.repository import PROCESS, NamedEnvironment, read_repository

NEVER = "never"
REPORTS = ("json", "sarif", "junit")


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    add(
        "folder",
        nargs="?",
        default=".",
        metavar="FOLDER",
        help="the root of the repository, or a queue file (default: this folder)",
    )
    add(
        "--env",
        action="append",
        default=[],
        dest="environments",
        metavar="SERVICE=FILE",
        help="read a service's environment from this file, not from the .env files found; "
        f"{PROCESS} is the environment of this command (repeatable)",
    )
    add("--database", metavar="DSN", help="also check this live database; it is only read")
    add(
        "--table",
        metavar="NAME",
        help="with --database: the table that has a row for each job (default: tool_job or ToolJob, as in the "
        "reference application)",
    )
    add(
        "--link",
        metavar="COLUMN",
        help="with --database: the column with the id of the queue's job; data.KEY if the job's data has the "
        "id of the row",
    )
    add("--without", action="append", default=[], metavar="RULE", help="leave out a rule (repeatable)")
    add(
        "--fail-on",
        default="warning",
        choices=[*(str(level) for level in reversed(Severity)), NEVER],
        metavar="SEVERITY",
        help="the lowest severity that fails: error, warning, note or never (default: warning)",
    )
    add(
        "--baseline",
        metavar="FILE",
        help="accept the findings in this file; new ones fail, and so does one that is no longer found",
    )
    add("--write-baseline", metavar="FILE", help="write the current findings as a baseline, and pass")
    add("--json", metavar="FILE", help="write the findings as JSON; - is standard output here and below")
    add("--sarif", metavar="FILE", help="write them as SARIF 2.1.0")
    add("--junit", metavar="FILE", help="write them as JUnit XML")
    add("--annotations", action="store_true", help=ANNOTATIONS)
    add("--quiet", "-q", action="store_true", help="print only what fails")


def execute(arguments: argparse.Namespace) -> int:
    """Read, judge, print, write; return the exit code."""
    root = Path(arguments.folder)
    named = [_parse_environment(text) for text in arguments.environments]
    outputs = _outputs(arguments, [root, *(environment.file for environment in named)])
    for name in arguments.without:
        if name not in RULES:
            raise UsageError(
                f"no such rule: {name!r}{did_you_mean(name, RULES)}", hint="`job-harness explain` lists them."
            )
    baseline = _baseline(arguments.baseline)
    facts = _facts(root, named)
    now = _now(arguments, facts)
    examination = examine(
        facts, without=arguments.without, now=now.findings, uncovered=now.uncovered, skipped=now.skipped
    )
    if "write_baseline" in outputs:
        return _write(outputs["write_baseline"], examination, baseline)
    examination = set_aside(examination, baseline)
    fail_on = None if arguments.fail_on == NEVER else Severity[arguments.fail_on.upper()]
    code = examination.exit_code(fail_on)
    _report(arguments, examination, fail_on, outputs, code)
    return int(code)


def _outputs(arguments: argparse.Namespace, inputs: list[str | Path]) -> dict[str, OutputFile]:
    """Return the files to write. A baseline may be written over itself, for it shrinks so; a report may not."""
    if arguments.baseline is not None:
        output_files(arguments, *REPORTS, inputs=[arguments.baseline])
    return output_files(arguments, *REPORTS, "write_baseline", inputs=inputs)


def _facts(root: Path, environments: list[NamedEnvironment]) -> Facts:
    """Read a repository, or one queue file. Raises UsageError for a system file, which sets nothing to be checked."""
    if root.is_file() and is_system_file(str(root)):
        raise UsageError(
            f"{root}: this is a system file: it says how your processes start, and `check` reads what your code sets",
            hint=f"Search it: job-harness explore {shlex.quote(str(root))}. Check the code: job-harness check "
            f"{shlex.quote(str(root.parent))}",
        )
    if root.is_file() and root.suffix in SUFFIXES:
        from job_harness.engines.queue_file.facts import facts_of

        return facts_of(str(root))
    facts = read_repository(root, environments=environments, environ=os.environ)
    if facts.queue_files:
        from job_harness.engines.queue_file.facts import add_queue_files

        add_queue_files(facts, root)
    return facts


class Now(NamedTuple):
    """What a database shows now, what could not be judged there, and what was not looked at."""

    findings: Sequence[CheckFinding] = ()
    uncovered: Sequence[str] = ()
    skipped: Sequence[str] = ()


def _now(arguments: argparse.Namespace, facts: Facts) -> Now:
    """Look into the database where one is named; without one, nothing is imported."""
    if arguments.database is None:
        for option in ("table", "link"):
            if getattr(arguments, option) is not None:
                raise UsageError(f"--{option} needs --database DSN", hint="Name the database to look into.")
        return Now()
    from job_harness.review.check.database import TableChoice, read_only
    from job_harness.review.check.diagnosis import diagnose

    choice = TableChoice(arguments.table or "", arguments.link or "")
    with read_only(arguments.database) as session:
        diagnosis = diagnose(session, facts, choice=choice)
    return Now(diagnosis.findings, diagnosis.uncovered, diagnosis.skipped)


def _parse_environment(text: str) -> NamedEnvironment:
    service, sign, file = text.partition("=")
    if not sign or not service or not file:
        raise UsageError(f"--env {text}: this is not SERVICE=FILE", hint="Write --env worker=prod.env.")
    return NamedEnvironment(service, file)


def _baseline(name: str | None) -> Counter[Key]:
    if name is None:
        return Counter()
    try:
        return load_baseline(Path(name).read_text(encoding="utf-8"), path=name)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "is no text"
        raise UsageError(f"--baseline {name}: {reason}", hint=f"Write one with --write-baseline {name}.") from None


def _write(output: OutputFile, examination: Examination, baseline: Counter[Key]) -> int:
    if baseline:
        new = set_aside(examination, baseline).findings
        if new:
            raise UsageError(
                f"the baseline would grow by {len(new)}, beginning with {new[0].rule} at {new[0].place}",
                hint="A baseline may only shrink: repair the new findings, or write a new one without --baseline.",
            )
    output.write(dump_baseline(examination.findings))
    many = len(examination.findings)
    said = "finding is" if many == 1 else "findings are"
    print(f"{many} {said} accepted in {output.path.name}; let it only shrink.")
    return int(ExitCode.PASS)


def _report(
    arguments: argparse.Namespace,
    examination: Examination,
    fail_on: Severity | None,
    outputs: dict[str, OutputFile],
    code: ExitCode,
) -> None:
    show_lines(findings_screen(examination, fail_on=fail_on, quiet=arguments.quiet), sys.stdout)
    if examination.gone:
        (rule, file, _), name = examination.gone[0], shlex.quote(arguments.baseline)
        told = f"Let it shrink: job-harness check --baseline {name} --write-baseline {name}"
        show_lines([Line(one_line(f"Such as {rule} in {file}.")), Line(told)], sys.stdout)
    if arguments.annotations:
        annotate(check_results(examination.findings))
    sys.stdout.flush()
    writers: dict[str, Callable[[], str]] = {
        "json": lambda: findings_json(examination, exit_code=code),
        "sarif": lambda: sarif(examination),
        "junit": lambda: findings_junit(examination, fail_on=fail_on),
    }
    for option, output in outputs.items():
        output.write(writers[option]())
