"""`job-harness audit`: what production has written, judged by the monitors that judge a run."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import threading
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias

from job_harness.core.history import Observed
from job_harness.core.invariants import anomalies_named, kind_of
from job_harness.core.model import SECOND, Instant, JobId, JobView, format_duration
from job_harness.core.printable import printable
from job_harness.core.run.verdict import Verdict
from job_harness.core.scenario.scenario import Scenario
from job_harness.core.scenario.writer import write_scenario
from job_harness.core.yaml_files import is_queue_file, is_system_file
from job_harness.doors.cli.job_tables import described
from job_harness.doors.cli.output import OutputFile, checked_folder, make_folder, output_files, show_lines
from job_harness.doors.cli.recorded_sources import (
    RecordedSources,
    configure_sources,
    database_of,
    duration,
    since_of,
    time_of_day,
)
from job_harness.engines.conformance.judge import cases
from job_harness.errors import ExitCode, UsageError
from job_harness.report.case import Case
from job_harness.report.json_report import report_data, run_data
from job_harness.report.picture import picture
from job_harness.report.screen import Line, first_screen, moment, rows_of, wrap
from job_harness.report.trace import trace
from job_harness.review.audit import database
from job_harness.review.audit.evidence import Evidence
from job_harness.review.audit.job_table import job_table, known_tables
from job_harness.review.audit.judging import STOPPED, STUCK_AFTER, Audit, AuditFinding, Auditor, Suspect
from job_harness.review.audit.recording import advice
from job_harness.search.cases import MEMORY, CaseRunner, tasks
from job_harness.search.targets import WITHOUT, Engines, wrong_queues

LOG: Final = "log"
FORMAT, VERSION = "job-harness-audit", 1
SCREENS: Final = 5
News: TypeAlias = tuple[str, JobId | None]
"""What --follow tells once: an anomaly of a job."""
WHOLE_STORY: Final = 200
"""Rows of one job's story that `--job` prints at most."""
_RECENT: Final[Instant] = 10**15
"""2001: an instant before it is counted from the start of a run."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    _read_options(parser)
    _judging_options(parser)
    _output_options(parser)
    _log_options(parser)


def _read_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    configure_sources(parser)
    add("--job", metavar="ID", help="show the whole history of one job")


def _judging_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--stuck-after",
        type=duration,
        default=STUCK_AFTER,
        metavar="DURATION",
        help="a job is stuck this long after its lease ended, or after its claim if it has no lease; its two rows may "
        "differ for as long (default: 1h)",
    )
    add("--without", action="append", default=[], metavar="ANOMALY", help=WITHOUT)
    add(
        "--follow",
        action="store_true",
        help="keep judging the log as it grows, until Ctrl-C; --metrics is written after each pass",
    )
    add(
        "--every",
        type=duration,
        default=10 * SECOND,
        metavar="DURATION",
        help="with --follow: how often to look (default: 10s)",
    )


def _output_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--scenarios",
        metavar="FOLDER",
        help="for each anomaly that a scenario can express, write one that replays on a model",
    )
    add("--json", metavar="FILE", help="write the findings as JSON; - is standard output here and below")
    add("--html", metavar="FILE", help="draw the stories, as one HTML file that needs no network")
    add("--trace", metavar="FILE", help="write the stories as a trace that ui.perfetto.dev opens")
    add("--metrics", metavar="FILE", help="write the counts as OpenMetrics text, for alerts")
    add("--quiet", "-q", action="store_true", help="print only what fails")


def _log_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    change = parser.add_mutually_exclusive_group().add_argument
    change("--install", metavar="TABLE", help="print SQL that logs every change of a table; --yes runs it")
    change("--uninstall", metavar="TABLE", help="print SQL that removes the log; --yes runs it")
    change(
        "--what-to-record",
        metavar="TABLE",
        help="print which columns, log and spans would show more: for a table, its description, a queue file or a "
        "system file, or the folder that has one",
    )
    add(
        "--keep",
        type=duration,
        default=None,
        metavar="DURATION",
        help="with --install: how long the log is kept, in whole days, rounded up (default: 14d)",
    )
    add("--yes", action="store_true", help="with --install or --uninstall: change the database")


def execute(arguments: argparse.Namespace) -> int:
    """Read, judge, tell; return the exit code."""
    installs = arguments.install is not None
    if arguments.keep is not None and not installs:
        raise UsageError(
            "--keep needs --install TABLE", hint="An existing log keeps the setting that it was installed with."
        )
    if installs or arguments.uninstall is not None:
        return _change_log(arguments)
    if arguments.what_to_record is not None:
        return _advise(arguments.what_to_record)
    if arguments.yes:
        raise UsageError("--yes needs --install or --uninstall TABLE", hint="An audit changes nothing.")
    if not arguments.sources:
        raise UsageError(
            "no source to audit was given", hint=f"Name a file, {LOG}, or a table: {', '.join(known_tables())}."
        )
    arguments.sources = list(dict.fromkeys(arguments.sources))
    outputs = output_files(arguments, "json", "html", "trace", "metrics", inputs=arguments.sources)
    into = None if arguments.scenarios is None else checked_folder(arguments.scenarios, "--scenarios")
    without = anomalies_named(arguments.without)
    if arguments.follow:
        return _follow(arguments, without, outputs)
    audited = _audited(arguments, without)
    arguments.sources = [source for source, _ in audited]
    audits = _told_apart(audited)
    incidents = {} if into is None else _incidents(audits, into)
    for audit, source in zip(audits, arguments.sources, strict=True):
        show_lines([*_screen(audit, source, arguments, incidents)], sys.stdout)
    _write(outputs, audits, arguments, incidents)
    return int(_verdict(audits).exit_code)


def _advise(source: str) -> int:
    """Say what to record of a table: the least that shows more."""
    folder = Path(source)
    files = sorted(each for each in folder.glob("*.y*ml") if is_system_file(str(each)) or is_queue_file(str(each)))
    if folder.is_dir() and len(files) != 1:
        raise UsageError(
            f"{source} has {len(files)} queue files and system files at its top level",
            hint=f"Name a file, or a table: {', '.join(known_tables())}.",
        )
    table = described(str(files[0]) if files else source)
    for line in advice(
        table.columns, table=source if source in known_tables() else "DESCRIPTION", changes=table.changes
    ):
        print("\n".join(wrap("", line, width=80, lines=6)))
    return int(ExitCode.PASS)


def _audited(arguments: argparse.Namespace, without: frozenset[str]) -> list[tuple[str, Audit]]:
    """Judge each source; where one job is asked for, tell its story first, and pass by a source that holds none."""
    audited: list[tuple[str, Audit]] = []
    silent: list[str] = []
    sources = RecordedSources.of(arguments)
    with ExitStack() as stack:
        for source in arguments.sources:
            evidence = sources.evidence(source, stack)
            if arguments.job is not None:
                if not _tell_story(evidence, arguments.job):
                    silent.append(source)
                    continue
                evidence = evidence.of_one_job()
            auditor = Auditor(evidence, without=without, stuck_after=arguments.stuck_after)
            if arguments.job is None:
                auditor.take_all()
            else:
                auditor.take(evidence.read({arguments.job}))
            audited.append((source, auditor.finish()))
    if not audited:
        raise UsageError(
            f"{' and '.join(silent)} {'has' if len(silent) == 1 else 'have'} no record of a job {arguments.job!r}",
            hint="Use the id that the audit shows without --job.",
        )
    for name in silent:
        print(printable(f"{name} has no record of the job {arguments.job}.") + "\n")
    return audited


def _told_apart(audited: list[tuple[str, Audit]]) -> list[Audit]:
    """Name audits of one name, such as those of two files, by their sources too."""
    names = Counter(audit.source for _, audit in audited)
    return [
        replace(audit, source=f"{audit.source} ({source})") if names[audit.source] > 1 else audit
        for source, audit in audited
    ]


def _verdict(audits: Iterable[Audit]) -> Verdict:
    verdicts = {audit.verdict for audit in audits}
    return next(each for each in (Verdict.FAIL, Verdict.INCONCLUSIVE, Verdict.PASS) if each in verdicts)


# the log --------------------------------------------------------------------------------------------------------------


def _change_log(arguments: argparse.Namespace) -> int:
    """Print what installs or removes the log; change the database only when told so."""
    table = job_table(arguments.uninstall if arguments.install is None else arguments.install)
    if arguments.install is not None:
        if table.changes:
            raise UsageError(
                f"{table.table} records its changes itself, and needs no log",
                hint=f"job-harness audit {arguments.install}",
            )
        plan = database.LogPlan(table) if arguments.keep is None else database.LogPlan(table, keep=arguments.keep)
        text = plan.install_sql()
    else:
        text = database.LogPlan.uninstall_sql(table.table)
    if not arguments.yes:
        print(text, end="")
        print("Nothing was changed. Run this yourself, or add --yes.", file=sys.stderr)
        return int(ExitCode.PASS)
    stands = database.run_sql(database_of(arguments), text)
    if arguments.install is not None:
        print(f"{table.table}: every change is logged")
    elif stands:
        print(f"{table.table}: its changes are not logged; the log stays, for it is of another table")
    else:
        print(f"{table.table}: the log is removed")
    return int(ExitCode.PASS)


def _follow(arguments: argparse.Namespace, without: frozenset[str], outputs: dict[str, OutputFile]) -> int:
    """Judge what the log gets, again and again; tell each anomaly once, and keep the metrics up to date."""
    if arguments.sources != [LOG]:
        raise UsageError(f"--follow works only with {LOG}", hint=f"job-harness audit {LOG} --follow --database DSN")
    once = [f"--{name}" for name in ("job", "scenarios", "json", "html", "trace") if getattr(arguments, name)]
    if once:
        raise UsageError(
            f"--follow prints anomalies as they appear, and does not go with {' and '.join(once)}",
            hint="Use that in a separate audit, without --follow. --metrics is written after each look.",
        )
    if not arguments.every > 0:
        raise UsageError("--every must be above 0", hint="Give a duration, such as 10s.")
    dsn, since, told = database_of(arguments), since_of(arguments.since), set[News]()
    shows: frozenset[str] | None = None
    pause = threading.Event()
    while True:
        with database.snapshot(dsn) as session:
            evidence = database.log_evidence(session)
            if evidence.shows != shows:  # a second writer came, say: what it makes visible is judged from the beginning
                shows, tail = evidence.shows, database.LogTail(since)
                auditor = Auditor(evidence, without=without, stuck_after=arguments.stuck_after)
            auditor.take(tail.events(session))
            suspects = auditor.suspects(session.now)
        for news, line in _news(evidence, auditor, suspects):
            if news not in told:
                told.add(news)
                print(printable(line), flush=True)
        if "metrics" in outputs:
            counts = Counter(suspect.name for suspect in suspects)
            outputs["metrics"].write(
                _metrics([Counted(evidence.name, evidence.shows - without, counts, not evidence.gap)])
            )
        if auditor.stopped:
            return int(ExitCode.FAIL)
        pause.wait(arguments.every / SECOND)


def _news(evidence: Evidence, auditor: Auditor, suspects: Iterable[Suspect]) -> Iterator[tuple[News, str]]:
    """Return what there is to tell after a look, each with what tells it from the rest."""
    if evidence.gap:
        yield ("gap", None), f"not judged: {evidence.gap}; {database.INSTALL_AGAIN}"
    for suspect in suspects:
        line = f"{time_of_day(suspect.at)}  {suspect.name}  job {suspect.job}: {suspect.message}"
        yield (suspect.name, suspect.job), line
    if auditor.stopped:
        yield ("stopped", None), STOPPED


# what is shown --------------------------------------------------------------------------------------------------------


def _origin(began: Instant) -> str:
    """Say from when on the times of a story are counted."""
    return f"t+0s is {time_of_day(began)}" if began > _RECENT else "t+0s is the job's first event"


def _jobs(count: int) -> str:
    return f"{count} job{'' if count == 1 else 's'}"


def _again(source: str, arguments: argparse.Namespace, job: JobId | None) -> str:
    """Return the command that tells the whole story of this job."""
    wanted = [] if job is None else [f"--job={job}"] if job.startswith("-") else ["--job", job]
    named = [part for name in arguments.job_attribute for part in ("--job-attribute", name)]
    # A file is named; the address of a server may hold a password.
    file = arguments.database if arguments.database and Path(arguments.database).is_file() else None
    stuck = None if arguments.stuck_after == STUCK_AFTER else format_duration(arguments.stuck_after)
    given = {"--database": file, "--at": arguments.at, "--stuck-after": stuck}
    read = [part for option, value in given.items() if value is not None for part in (option, value)]
    return shlex.join(["job-harness", "audit", source, *read, *named, *wanted])


def _screen(audit: Audit, source: str, arguments: argparse.Namespace, incidents: dict[str, str]) -> Iterator[Line]:
    for finding in audit.findings[:SCREENS]:
        title = f"{_jobs(finding.jobs)} in {audit.source}"
        yield from first_screen(finding.story, title=title, lead=finding.name)
        yield Line(f"{_origin(finding.began)}.")
        if finding.batch:
            yield from (Line(text) for text in wrap("Claimed together with it: ", finding.batch, width=80, lines=8))
        if finding.others:
            more = finding.jobs - 1 - len(finding.others)
            names = ", ".join(str(each.job) for each in finding.others) + (f" and {more} more" if more > 0 else "")
            yield from (Line(text) for text in wrap("Other jobs: ", names, width=80, lines=2))
        if arguments.job is None and finding.first.job is not None:
            yield Line(f"Whole story: {_again(source, arguments, finding.first.job)}")
        if finding.name in incidents:
            yield Line(f"Replay on a model: job-harness run {shlex.quote(incidents[finding.name])}")
        yield Line("")
    for finding in audit.findings[SCREENS:]:
        yield Line(f"FAIL  {_jobs(finding.jobs)}: {finding.name}: {kind_of(finding.name).sentence}", "bold red")
        yield from (Line(text) for text in wrap("  Here: ", _where(finding), width=80, lines=2))
        if arguments.job is None and finding.first.job is not None:
            yield Line(f"  Whole story: {_again(source, arguments, finding.first.job)}")
    if not arguments.quiet or audit.verdict is not Verdict.PASS:
        yield from _summary(audit)


def _where(finding: AuditFinding) -> str:
    job = "" if finding.first.job is None else f"job {finding.first.job}, "
    return f"{job}{time_of_day(finding.first.at)}: {finding.first.message}"


def _summary(audit: Audit) -> Iterator[Line]:
    span = (
        ""
        if audit.first is None or audit.last is None or audit.first < _RECENT
        else f", {time_of_day(audit.first)} to {time_of_day(audit.last)}"
    )
    yield Line(f"{audit.verdict}  {audit.source}: {_jobs(audit.jobs)}, {audit.events} events{span}", "bold")
    yield from (Line(text) for text in wrap("Judged: ", ", ".join(audit.judged) or "nothing", width=80, lines=4))
    for name, why in audit.not_judged:
        yield from (Line(text) for text in wrap("Not judged: ", f"{name}: {why}", width=80, lines=2))
    for note in audit.notes:
        yield from (Line(text) for text in wrap("Note: ", note, width=80, lines=3))


def _tell_story(evidence: Evidence, job: JobId) -> bool:
    """Print every event of one job; return False if there is none."""
    story = Auditor(evidence).story(job)
    if story is None:
        return False
    run, began = story
    print(printable(f"Job {job} in {evidence.name}; {_origin(began)}."))
    rows = [
        (moment(row.at), printable(row.actor), row.text) for row in rows_of(run.history, job=None, most=WHOLE_STORY)
    ]
    times, actors = (max((len(row[column]) for row in rows), default=0) for column in (0, 1))
    for at, actor, text in rows:
        print(printable(f"{at:<{times}}  {actor:<{actors}}  {text}"))
    last = next((event.after for event in reversed(run.history.events) if isinstance(event, Observed)), None)
    if last is not None:
        print(printable(f"Now: {_standing(last)}"))
    print()
    return True


def _standing(view: JobView) -> str:
    """Say how a job stands, with what its row keeps of what happened before."""
    error = None if view.error is None else "an error"  # Of its text only a hash is read.
    started = None if view.started_at is None else f"started at {moment(view.started_at)}"
    told = (f"{view.status}", f"queue {view.queue_state}", f"attempts {view.attempts}", started, error)
    return ", ".join(filter(None, told))


# scenarios, and files -------------------------------------------------------------------------------------------------


def _incidents(audits: Iterable[Audit], into: Path) -> dict[str, str]:
    """Write a scenario for each anomaly that the conformance suite can say; return where, by anomaly."""
    make_folder(into, "--scenarios")
    written: dict[str, str] = {}
    for finding in (each for audit in audits for each in audit.findings):
        scenario = _incident(finding) if finding.name not in written else None
        if scenario is not None:
            path = into / f"{finding.name}.yaml"
            OutputFile.checked(str(path), "--scenarios").write(write_scenario(scenario))
            written[finding.name] = str(path)
    return written


def _incident(finding: AuditFinding) -> Scenario | None:
    """Return the case of the conformance suite whose control shows this anomaly, with the incident's own settings.

    They are kept only where the case still passes on the model under them, and its control still
    finds the anomaly.
    """
    found = next(
        (
            (case.scenario, control)
            for case in cases(queues=wrong_queues())
            for control in case.scenario.controls
            if control.finds == finding.name and control.queue is not None
        ),
        None,
    )
    if found is None:
        return None
    scenario, control = found
    title = f"What happened to job {finding.first.job}: {scenario.title}"
    plain = replace(scenario, title=title[:200], controls=(control,), path=f"{finding.name}.yaml")
    own = _settings_of(finding)
    told = replace(plain, settings=plain.settings.changed(**own)) if own else plain
    return told if own and _holds(told) else plain


def _settings_of(finding: AuditFinding) -> dict[str, Any]:
    for view in (event.after for event in finding.story.history if isinstance(event, Observed)):
        if view is not None and view.started_at is not None and view.lease_until is not None:
            lease = view.lease_until - view.started_at
            if SECOND <= lease <= 86_400 * SECOND:
                return {"lease": lease}
    return {}


def _holds(scenario: Scenario) -> bool:
    with Engines() as engines:
        runner = CaseRunner(engines)
        runner.run(tasks([scenario], [MEMORY], controls=True))
    return all(case.exit_code is ExitCode.PASS for case in runner.cases)


def _write(
    outputs: dict[str, OutputFile], audits: list[Audit], arguments: argparse.Namespace, incidents: dict[str, str]
) -> None:
    writers = {
        "json": lambda: json.dumps(_data(audits, incidents), indent=2) + "\n",
        "html": lambda: picture(_pages(audits, arguments)),
        "trace": lambda: trace(_pages(audits, arguments)),
        "metrics": lambda: _metrics(
            Counted(audit.source, audit.shows, {each.name: each.jobs for each in audit.findings}, audit.whole)
            for audit in audits
        ),
    }
    for option, output in outputs.items():
        output.write(writers[option]())


def _data(audits: list[Audit], incidents: dict[str, str]) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "version": VERSION,
        "verdict": str(_verdict(audits)),
        "exit_code": int(_verdict(audits).exit_code),
        "sources": [
            {
                "name": audit.source,
                "verdict": str(audit.verdict),
                "jobs": audit.jobs,
                "events": audit.events,
                "first": audit.first,
                "last": audit.last,
                "judged": list(audit.judged),
                "not_judged": dict(audit.not_judged),
                "notes": list(audit.notes),
                "findings": [_finding_data(finding, incidents) for finding in audit.findings],
            }
            for audit in audits
        ],
    }


def _finding_data(finding: AuditFinding, incidents: dict[str, str]) -> dict[str, Any]:
    kind = kind_of(finding.name)
    return {
        "anomaly": finding.name,
        "sentence": kind.sentence,
        "guarantee_lost": str(kind.guarantee),
        "jobs": finding.jobs,
        "shown": [
            {"job": each.job, "at": each.at, "message": each.message} for each in (finding.first, *finding.others)
        ],
        "scenario": incidents.get(finding.name),
        "began": finding.began,
        "run": run_data(finding.story, lead=finding.name),
    }


def _pages(audits: list[Audit], arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the stories as the document that a picture is drawn of."""
    found = [
        (source, finding) for source, audit in zip(arguments.sources, audits, strict=True) for finding in audit.findings
    ]
    shown = [
        Case(replace(each.story.scenario, title=_heading(each)), each.story.engine, run=each.story) for _, each in found
    ]
    document = report_data(shown)
    for case, (source, finding) in zip(document["cases"], found, strict=True):
        case["scenario"] = ""
        case["replay"] = _again(source, arguments, finding.first.job)
    verdict = _verdict(audits)
    return {**document, "recorded": True, "verdict": str(verdict), "exit_code": int(verdict.exit_code)}


def _heading(finding: AuditFinding) -> str:
    return f"{finding.name}: {_jobs(finding.jobs)}; job {finding.first.job} from {time_of_day(finding.began)}"


class Counted(NamedTuple):
    """What the metrics say of one source."""

    source: str
    shows: Collection[str]
    """The anomalies that it can show."""
    jobs: Mapping[str, int]
    """By anomaly, how many jobs showed it."""
    whole: bool
    """Whether nothing is known to be missing from it."""


def _metrics(counted: Iterable[Counted]) -> str:
    """Write one gauge for each anomaly that was judged, so that an alert sees a 0 too, and whether that says all."""
    jobs, incomplete = list[str](), list[str]()
    for source, shows, found, whole in counted:
        label = _label(source)
        jobs += [
            f'job_harness_audit_jobs{{anomaly="{name}",source="{label}"}} {found.get(name, 0)}'
            for name in sorted(shows)
        ]
        incomplete.append(f'job_harness_audit_incomplete{{source="{label}"}} {int(not whole)}')
    return "\n".join(
        [
            "# TYPE job_harness_audit_jobs gauge",
            "# HELP job_harness_audit_jobs Jobs that showed an anomaly, by source.",
            *jobs,
            "# TYPE job_harness_audit_incomplete gauge",
            "# HELP job_harness_audit_incomplete 1 where records are known to be missing from a source.",
            *incomplete,
            "# EOF",
            "",
        ]
    )


def _label(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
