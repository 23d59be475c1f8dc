"""`job-harness reproduce`: from what production recorded of an incident to a run of the target that shows it."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Final, NamedTuple

from job_harness.core.history import Event, Observed
from job_harness.core.interruption import exit_code_of, raised_at_once
from job_harness.core.invariants import anomalies_named, gravity, kind_of
from job_harness.core.model import SECOND, JobId, Settings, Status, format_duration, rounded
from job_harness.core.port import Engine
from job_harness.core.printable import printable
from job_harness.core.run.session import Limits
from job_harness.core.run.verdict import Run
from job_harness.core.scenario.job_plan import Ending
from job_harness.core.target import Target
from job_harness.doors.cli.explain_command import repair_of
from job_harness.doors.cli.explored_test import is_test
from job_harness.doors.cli.output import OutputFile, output_files
from job_harness.doors.cli.recorded_sources import RecordedSources, configure_sources, duration, time_of_day
from job_harness.doors.cli.search import FindingPresenter, changed, print_unjudged, progress_bar
from job_harness.engines.queue_file.document import read_queue_file
from job_harness.errors import ExitCode, UsageError
from job_harness.report.blame import OF_TWO_ROWS
from job_harness.report.case import Case
from job_harness.report.json_report import report_data
from job_harness.report.picture import picture
from job_harness.report.screen import moment, wrap
from job_harness.review.audit.evidence import NEVER, UNKNOWN_WRITER, Evidence
from job_harness.review.audit.job_table import job_table, known_tables
from job_harness.review.audit.judging import NAMED, STUCK_AFTER, Auditor, Suspect, claimed_together
from job_harness.review.audit.recording import what_decides
from job_harness.search.finding import Campaign, ScenarioFinding
from job_harness.search.incident import (
    DRAWN,
    STEPS,
    Disagreement,
    Incident,
    IncidentCause,
    IncidentGoal,
    Rows,
    causes_of,
    changes_lost,
    facts_of,
    fit,
    life_at,
    shows_failure,
)
from job_harness.search.sampling import DRAWN_LIMITS, Sampler, run_seed
from job_harness.search.targets import Engines, checked, reopening
from job_harness.search.watchdog import LATEST, SearchTime, StepHung, StepWatchdog
from job_harness.subjects.systems.document import KNOWN_JOBS, read_system_file

RUNS: Final = 3_000
SECONDS: Final = 600.0
WIDTH: Final = 100
WELL: Final = frozenset({Ending.SUCCEED, Ending.HANG, Ending.EXIT})
"""Ends of a run that no work reports as a failure."""
OTHERS: Final = 20_000
"""Events of other jobs that are read to learn how long a run usually takes."""
FEW: Final = 2
"""Runs that are drawn for a cause once it was tried in the place of the one that was found."""
ENOUGH: Final = 600
"""After this many runs, what never happened to any job counts as forbidden by the target, as far as these show."""
_PROCESS_PATIENCE: Final = 60.0


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    configure_sources(parser)
    add = parser.add_argument
    add(
        "--target",
        required=True,
        metavar="TARGET",
        help="what ran in production: an engine with its version, a queue file or a system file (system.yaml)",
    )
    add("--job", metavar="ID", help="the job of the incident (default: the first one with the most serious anomaly)")
    add("--anomaly", metavar="ANOMALY", help="the anomaly of the incident (default: the most serious one recorded)")
    add(
        "--stuck-after",
        type=duration,
        default=STUCK_AFTER,
        metavar="DURATION",
        help="a job is stuck this long after its lease ended, or after its claim if it has no lease; its two rows may "
        "differ for as long (default: 1h)",
    )
    add("--seed", type=int, default=0, metavar="N", help="the seed of the first run (default: 0)")
    add("--runs", type=int, default=RUNS, metavar="N", help=f"at most N runs (default: {RUNS})")
    add("--time", type=duration, default=None, metavar="TIME", help="stop after this time (default: 10m)")
    add(
        "--set",
        action="append",
        default=[],
        dest="changes",
        metavar="SETTING=VALUE",
        help="a setting that was in force, as listed in docs/scenarios.md#settings (repeatable)",
    )
    add("--save", metavar="FILE", help="where to write the scenario (default: a file in .job-harness/found/)")
    add("--html", metavar="FILE", help="draw the run, as one HTML file that needs no network")


class OtherCauses(NamedTuple):
    """What came of trying the causes that a run does not have."""

    fits: list[IncidentCause]
    tried: dict[IncidentCause, int]
    """In how many runs each was looked for."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """What the sources say of one incident."""

    suspect: Suspect
    anomalies: frozenset[str]
    incident: Incident
    sources: tuple[str, ...]
    """By chain of the incident, the name of its source."""
    statuses: frozenset[str]
    lacking: tuple[str, ...]
    """What is not recorded, in sentences."""
    failed: tuple[JobId, ...] = ()
    """Other jobs whose work failed, by the same source."""


def execute(arguments: argparse.Namespace) -> int:
    """Read, compare with the target, search; return the exit code."""
    if not arguments.sources:
        raise UsageError("no source was given", hint="Name one as for job-harness audit: log, a table, spans.jsonl.")
    if arguments.runs < 1:
        raise UsageError(f"--runs must be at least 1, not {arguments.runs}")
    if is_test(arguments.target):
        raise UsageError(
            f"--target {arguments.target}: a test makes jobs of its own, not those of an incident",
            hint=f"Name the engine or the system that it stands for, or search the test: job-harness explore "
            f"{arguments.target}",
        )
    target = checked(arguments.target)
    outputs = output_files(arguments, "save", "html", inputs=arguments.sources)
    with ExitStack() as stack:
        sources = RecordedSources.of(arguments)
        evidences = [sources.evidence(source, stack) for source in dict.fromkeys(arguments.sources)]
        recorded = _recorded(arguments, evidences)
    if recorded is None:
        print("inconclusive: the record shows no anomaly, so there is nothing to reproduce.")
        for note in (note for each in evidences for note in each.notes):
            print("\n".join(map(printable, wrap("Note: ", note, width=WIDTH, lines=3))))
        print("To see what these sources can show, run job-harness audit with the same sources.")
        return int(ExitCode.INCONCLUSIVE)
    _print_record(recorded)
    if reasons := [*_never_here(recorded, target)]:
        return _cannot(recorded, target, reasons)
    with Engines(reports=recorded.anomalies) as engines:
        engine = engines.get(target)
        with raised_at_once():
            engine.info.prepare()
        if reasons := [*_beyond(recorded, engine, own=target.is_own)]:
            return _cannot(recorded, target, reasons)
        print_unjudged(engine, frozenset())
        return _Search(arguments, recorded, target, engine, engines).run(outputs)


# what is recorded -----------------------------------------------------------------------------------------------------


def _recorded(arguments: argparse.Namespace, evidences: list[Evidence]) -> Recorded | None:
    """Read all sources, and choose the incident. Raises UsageError where what was named is not in them."""
    wanted = anomalies_named([arguments.anomaly] if arguments.anomaly else [])
    found: list[tuple[Suspect, Evidence]] = []
    for evidence in evidences:
        auditor = Auditor(evidence, stuck_after=arguments.stuck_after)
        if arguments.job is None:
            auditor.take_all()
        else:
            auditor.take(evidence.read({arguments.job}))
        found += [(suspect, evidence) for suspect in auditor.suspects(evidence.now()) if suspect.job is not None]
    suspects = [each for each in found if not wanted or each[0].name in wanted]
    if not suspects:
        if arguments.job is not None or wanted:
            named = sorted({each.name for each, _ in found})
            raise UsageError(
                f"the record shows no {arguments.anomaly or 'anomaly'}"
                f"{'' if arguments.job is None else f' of the job {arguments.job}'}",
                hint=f"It shows {', '.join(named)}." if named else "See what it shows: job-harness audit.",
            )
        return None
    lead, source = min(suspects, key=lambda each: (gravity(each[0].name), each[0].name, each[0].at))
    return _about(lead, source, evidences, frozenset(each.name for each, _ in found if each.job == lead.job))


def _about(lead: Suspect, source: Evidence, evidences: list[Evidence], anomalies: frozenset[str]) -> Recorded:
    assert lead.job is not None
    ordered = [source, *(each for each in evidences if each is not source)]
    stories = [(each, [*each.read({lead.job})]) for each in ordered]
    told = [(each, story) for each, story in stories if story]
    others = [*islice((each for each in source.read(None) if getattr(each, "job", None) != lead.job), OTHERS)]
    failed = tuple(dict.fromkeys(str(each.job) for each in others if type(each) is Observed and shows_failure(each)))
    lives = [life_at(story, lead.at) for _, story in told]
    events = [event for life in lives for event in life]
    until = NEVER if lead.at >= source.now() else lead.at
    chains = [
        facts_of(life, until=until, complete=each.complete and not changes_lost(life), unknown=UNKNOWN_WRITER)
        for (each, _), life in zip(told, lives, strict=True)
    ]
    incident = Incident.of({lead.name}, chains, events, others=others, disagreement=_disagreement(lead, source))
    statuses = frozenset(status for each, _ in told for status in each.statuses())
    lacking = [*_lacking(incident, events), *_gaps(told)]
    return Recorded(
        lead,
        anomalies,
        incident,
        tuple(each.name for each, _ in told),
        statuses,
        tuple(dict.fromkeys(lacking)),
        failed,
    )


def _disagreement(lead: Suspect, source: Evidence) -> Disagreement | None:
    """Return how the two rows of a job stood, where they contradict each other, and those claimed with it."""
    if lead.name not in OF_TWO_ROWS or lead.job is None:
        return None
    own = [each for each in source.read({lead.job}) if type(each) is Observed]
    batch = {
        job: Rows(view.status, view.queue_state)
        for job, view in claimed_together(_of_its_claims(source, own), lead.job, NEVER).items()
    }
    if lead.job not in batch:
        return None
    claimed = next((each.after.started_at for each in reversed(own) if each.after is not None), None)
    lasted = source.now() - own[-1].at
    return Disagreement(batch[lead.job], batch, lasted, None if claimed is None else source.now() - claimed)


def _of_its_claims(source: Evidence, own: list[Observed]) -> Iterator[Observed]:
    """Read what happened to a job and to those whose claims ended when one of its did: of others nothing is kept."""
    ends = {each.after.lease_until for each in own if each.after is not None} - {None, NEVER}
    jobs = {each.job for each in own}
    for event in source.read(None):
        if type(event) is Observed and event.after is not None:
            if event.after.lease_until in ends:
                jobs.add(event.job)
            if event.job in jobs:
                yield event


def _lacking(incident: Incident, events: list[Event]) -> Iterator[str]:
    """Say what of the incident is not recorded, so that the search chooses it."""
    facts = incident.facts
    if any(not fact.who for fact in facts if fact.what.is_worker):
        yield "which worker did what"
    if not any(fact.what.run for fact in facts):
        yield "when a worker began and ended its run"
    if incident.lease is None:
        yield "how long a claim lasts"
    if incident.max_attempts is None:
        yield "how often the job may be delivered"
    if incident.usual is None:
        yield "how long a run usually takes"
    yield "when processes started, stopped and died"


def _gaps(told: Iterable[tuple[Evidence, list[Event]]]) -> Iterator[str]:
    for evidence, story in told:
        if evidence.gap:
            yield evidence.gap
        lives = sum(type(event) is Observed and event.before is None for event in story)
        if lives > 1:
            yield f"which of the {lives} jobs that had this id one after the other, in {evidence.name}"
        if lost := changes_lost(story):
            yield f"at least {lost} of its changes: the status after one is not the status before the next"


def _print_record(recorded: Recorded) -> None:
    suspect, kind = recorded.suspect, kind_of(recorded.suspect.name)
    print(printable(f"Incident: {suspect.name} of the job {suspect.job} in {recorded.sources[0]}"))
    print(f"  {kind.sentence} {kind.label}: {kind.guarantee}")
    print(printable(f"  {time_of_day(suspect.at)}: {suspect.message}"))
    if (stood := recorded.incident.disagreement) is not None and len(stood.batch) > 1:
        others = "; ".join(f"{job} ({rows})" for job, rows in stood.batch.items() if job != suspect.job)
        print("\n".join(map(printable, wrap("  Claimed together with it: ", others, width=WIDTH, lines=8))))
    if more := sorted(recorded.anomalies - {suspect.name}):
        print(f"  The job also shows: {', '.join(more)}")
    for line in wrap("Not recorded, so the search may choose: ", "; ".join(recorded.lacking), width=WIDTH, lines=6):
        print(printable(line))
    print()


# what cannot come from the target -------------------------------------------------------------------------------------


def _vocabulary(target: Target) -> tuple[frozenset[str], str]:
    """Return the words for statuses that a target writes, and where they are told; none where that is not known."""
    if target.is_system:
        system = read_system_file(target.place)
        if system.jobs in KNOWN_JOBS:
            known = [job_table(name) for name in ("tool_job", "pgboss10")]
            return frozenset(word for table in known for word in table.status), target.place
        return frozenset(system.status), f"`status` of {target.place}"
    if target.is_file:
        return frozenset(read_queue_file(target.place).status), f"`status` of {target.place}"
    engine = target.place.removesuffix("-node")
    names = [name for name in known_tables() if name.removesuffix("-jobs").rstrip("0123456789") == engine]
    return frozenset(word for name in names for word in job_table(name).status), f"the tables of {engine}"


def _never_here(recorded: Recorded, target: Target) -> Iterator[str]:
    """Say which recorded statuses the target never writes."""
    words, where = _vocabulary(target)
    strange = sorted(recorded.statuses - words)
    if words and strange:
        told = ", ".join(map(repr, strange))
        yield f"the record has the status {told}, which is not among those of {where}: {', '.join(sorted(words))}"


def _beyond(recorded: Recorded, engine: Engine, *, own: bool) -> Iterator[str]:
    """Say what the record has that the target cannot do, or does otherwise by what its file fixes."""
    info = engine.info
    happened = {fact.what for fact in recorded.incident.facts}
    if info.processes is None:
        if not info.capabilities.cancel and any(what.after is Status.CANCELLED for what in happened):
            yield f"the job became CANCELLED, and {info.name} cannot cancel jobs"
        ended = (Status.FAILED, Status.CANCELLED)
        if not info.capabilities.retry and any(
            what.before in ended and what.after is Status.PENDING for what in happened
        ):
            yield f"the job went back to PENDING after it had ended, and {info.name} cannot retry such a job"
    if not own:
        return
    fixed = info.contract.effective(Settings())
    for name, value in (("lease", recorded.incident.lease), ("max_attempts", recorded.incident.max_attempts)):
        its = getattr(fixed, name)
        if name in info.contract.fixed and value is not None and abs(value - its) > its // 10:
            told, other = (format_duration(rounded(each)) if name == "lease" else str(each) for each in (value, its))
            yield f"the record says {name} {told}, and {info.contract.file or info.name} fixes it at {other}"


def _cannot(recorded: Recorded, target: Target, reasons: list[str]) -> int:
    print(f"FAIL  this record cannot come from {target}.")
    for reason in reasons:
        print("\n".join(map(printable, wrap("  ", reason, width=WIDTH, lines=4))))
    print("Another system, or another version of this one, wrote to these tables: find out which.")
    return int(ExitCode.FAIL)


# the search -----------------------------------------------------------------------------------------------------------


class _Search:
    """Searches one target for one incident, and tells the result."""

    def __init__(
        self, arguments: argparse.Namespace, recorded: Recorded, target: Target, engine: Engine, engines: Engines
    ) -> None:
        self._arguments, self._recorded, self._engines = arguments, recorded, engines
        self._target, self._engine = reopening(target, engine), engine
        own = engine.info.contract.effective(engine.info.settings or Settings())
        whole = engine.info.processes is not None or engine.info.application is not None
        self._goal = IncidentGoal(
            recorded.incident,
            own.lease,
            stuck_after=arguments.stuck_after,
            limits=(DRAWN_LIMITS.steps,) if whole else STEPS,
            capabilities=engine.info.capabilities,
        )
        self._seconds = (SECONDS if arguments.time is None else arguments.time / SECOND) / (1 + LATEST)

    def run(self, outputs: dict[str, OutputFile]) -> int:
        arguments, began = self._arguments, time.perf_counter()
        patience = _PROCESS_PATIENCE if self._target.is_system else 10.0
        own = self._engine.info.settings
        settings = changed(own or Settings(), arguments, self._engine)
        with StepWatchdog(patience) as watchdog, SearchTime(self._seconds) as search_time:
            with progress_bar(measured=True) as advance:
                sampler = Sampler(
                    self._engine,
                    self._engine.info.contract.held(settings),
                    watchdog=watchdog,
                    limits=Limits(steps=max(self._goal.limits)),
                    time=search_time,
                    keeps_runs=True,
                    goal=self._goal,
                    shrinking=lambda anomaly, runs: advance(f"{anomaly} found; making it smaller, run {runs}", None),
                )

                def watch(done: int) -> bool:
                    advance(f"{done} of {arguments.runs} runs", done / arguments.runs)
                    return not search_time.over

                campaign = sampler.explore(seed=arguments.seed, runs=arguments.runs, watch=watch)
            spent = f"{campaign.runs} runs, {time.perf_counter() - began:.1f} s, seed {campaign.seed}"
            if campaign.finding is None:
                return self._not_found(campaign, spent)
            presenter = FindingPresenter(
                self._target,
                self._engines,
                (),
                outputs.get("save"),
                "",
                until=search_time,
                recorded=True,
            )
            found = presenter.tell(self._of_one_job(campaign.finding), spent=spent).run
            self._print_found(found, campaign.finding.anomaly)
            with progress_bar(measured=False) as advance:
                others = self._others(sampler, campaign, search_time, advance)
        self._print_causes(causes_of(campaign.finding.scenario), others)
        if (html := outputs.get("html")) is not None:
            html.write(picture(report_data([Case(found.scenario, found.engine, run=found)])))
        stopped = campaign.interruption or presenter.interruption
        return exit_code_of(stopped) if stopped is not None else int(ExitCode.FAIL)

    def _of_one_job(self, finding: ScenarioFinding) -> ScenarioFinding:
        """Let the scenario be about the job that shows what was recorded; another may for a reason of its own."""
        audit = finding.scenario.audit
        if audit is None or finding.anomaly != audit.anomaly:
            return finding
        job = self._job_of(finding.run)
        scenario = replace(finding.scenario, audit=replace(audit, job=job))
        anomalies = sorted(finding.run.anomalies, key=lambda each: (each.name, each.job) != (audit.anomaly, job))
        run = replace(
            finding.run, scenario=replace(finding.run.scenario, audit=scenario.audit), anomalies=tuple(anomalies)
        )
        return replace(finding, scenario=scenario, run=run)

    def _others(
        self,
        sampler: Sampler,
        campaign: Campaign,
        search_time: SearchTime,
        advance: Callable[[str, float | None], None],
    ) -> OtherCauses:
        """Try the other causes: each in the place of the one that was found, then in the runs that were not needed."""
        finding = campaign.finding
        assert finding is not None
        shown, self._goal.kept = causes_of(finding.scenario), None
        fits: list[IncidentCause] = []
        tried: dict[IncidentCause, int] = {}
        for cause, numbers in self._goal.first_round.items():
            if cause in (*shown, DRAWN):
                continue
            tried[cause] = max(0, min(finding.runs, numbers.stop) - numbers.start)
            again = [partial(sampler.replay, each) for each in cause.in_place_of(finding.scenario)]
            later = numbers[tried[cause] :][: FEW if again else None]
            drawn = (partial(sampler.sample, run_seed(campaign.seed, number)) for number in later)
            for play in (*again, *drawn):
                left = f"{search_time.left:.0f} s of --time left"
                advance(f"looking whether another cause fits as well: {cause.words}, {left}", None)
                ended = search_time.over or campaign.interruption is not None or campaign.trouble is not None
                try:
                    run = None if ended else play()
                except (StepHung, Exception):  # noqa: BLE001 - a target may raise anything; what was found is told
                    run = None
                if run is None:
                    return OtherCauses(fits, tried)
                tried[cause] += 1
                if causes_of(replace(run.scenario, tape=run.tape)) == [cause] and self._goal.agrees(
                    run, finding.anomaly
                ):
                    fits.append(cause)
                    break
        return OtherCauses(fits, tried)

    def _print_causes(self, shown: list[IncidentCause], others: OtherCauses) -> None:
        """Say what the record fits, what was tried and did not, and what has to be recorded to decide."""
        told = [" and ".join(each.words for each in shown) or "a run in which nothing goes wrong"]
        told += [each.words for each in others.fits]
        lead = "The record fits these causes: " if others.fits else "The record fits this cause: "
        print("\n".join(["", *wrap(lead, "; ".join(told), width=WIDTH, lines=4)]))
        if others.fits:
            tells = dict.fromkeys(each.tells for each in (*shown, *others.fits))
            print("\n".join(wrap("To tell them apart, record: ", "; ".join(tells), width=WIDTH, lines=4)))
        tried = {each: runs for each, runs in others.tried.items() if runs}
        if misses := [f"{each.words} ({runs})" for each, runs in tried.items() if each not in others.fits]:
            lead = "Also looked for, and not found (in how many runs): "
            print("\n".join(wrap(lead, "; ".join(misses), width=WIDTH, lines=6)))
        known = {*shown, *others.fits, *tried, DRAWN}
        if untried := [each.words for each in self._goal.causes if each not in known]:
            lead = "Not looked for, so any of them may fit too: "
            print("\n".join(wrap(lead, "; ".join(untried), width=WIDTH, lines=4)))
        if unlikely := self._recorded.incident.unlikely:
            told = [each.words for each in unlikely]
            print("\n".join(wrap("How long its runs took speaks against: ", "; ".join(told), width=WIDTH, lines=4)))

    def _print_found(self, run: Run, anomaly: str) -> None:
        """Say how a run agrees with the record and, where no change that was tried heals it, what may."""
        announced = self._recorded.suspect.name
        if anomaly != announced:
            told = f"it shows {announced} while it goes on, as the record does, and then {anomaly}, which is graver"
            print("\n".join(wrap("This run: ", told, width=WIDTH, lines=3)))
        print()
        print("\n".join(self._pairs(run)))
        if alike := [trial.name for trial in run.trials if trial.seen]:
            told = "heals this run, but in new runs with the same fault at other places the same comes about"
            print("\n".join(["", *wrap(f"{', '.join(alike)} ", told, width=WIDTH, lines=3)]))
        if not any(trial.stops for trial in run.trials):
            tried = any(trial.tried for trial in run.trials)
            repair = f"{'no change that was tried heals it. ' if tried else ''}Untried: {repair_of(anomaly)}"
            print("\n".join(["", *wrap("Repair: ", repair, width=WIDTH, lines=4)]))
        if self._target.is_system:
            folder = Path(self._target.place).parent
            print(printable(f"Which settings of its code contradict each other: job-harness check {folder}"))

    def _pairs(self, run: Run) -> Iterator[str]:
        """Say which recorded event is which event of the run."""
        job = self._job_of(run)
        fitted = fit(self._recorded.incident.chains, run, job)
        yield printable(
            f"What was recorded of the job {self._recorded.suspect.job}, and what it is in the run (job {job}):"
        )
        rows = []
        for chain, places in zip(self._recorded.incident.chains, fitted.places, strict=True):
            for number, fact in enumerate(chain.facts):
                place = places[number] if number < len(places) else None
                event = None if place is None else run.history.events[place]
                there = (
                    ("", "not in the run") if event is None else (moment(event.at), str(getattr(event, "actor", "")))
                )
                rows.append((moment(max(0, fact.at - chain.facts[0].at)), fact.who or "?", str(fact.what), *there))
        widths = [max(len(row[column]) for row in rows) for column in range(5)]
        for row in rows:
            at, who, what, then, actor = (printable(text.ljust(width)) for text, width in zip(row, widths, strict=True))
            yield f"  {at}  {who}  {what}   {then}  {actor}".rstrip()
        failing = [plan.name for plan in run.scenario.jobs if plan.name != job and not WELL.issuperset(plan.outcomes)]
        if failing and (known := self._recorded.failed):
            few = f"{', '.join(known[:NAMED])}{'' if len(known) <= NAMED else ', ...'}"
            yield printable(f"The job {failing[0]} of the run, whose work fails, stands for one of these: {few}")
        if (stood := self._recorded.incident.disagreement) is not None:
            shown = min((each.at for each in run.anomalies if each.job == job), default=0)
            for each, its, alike in stood.stand_ins(run.history.events, job, shown):
                if each not in failing:
                    named = " or ".join(one for one in alike if one != self._recorded.suspect.job)
                    yield printable(f"The job {each} of the run ({its}) stands for {named or 'another one'}")

    def _job_of(self, run: Run) -> JobId:
        jobs = sorted({each.job for each in run.anomalies if each.job})
        fitted = {job: fit(self._recorded.incident.chains, run, job).facts for job in jobs}
        return max(jobs, key=lambda job: (self._goal.stands(run, job), fitted[job]), default="")

    def _not_found(self, campaign: Campaign, spent: str) -> int:
        goal, facts = self._goal, self._recorded.incident.facts
        if campaign.trouble is not None:
            print(f"Ended early: {campaign.trouble.message}")
        never = [*goal.never_seen()] if campaign.runs >= ENOUGH else []
        if never:
            told = "; ".join(str(fact.what) for fact in never)
            reason = f"in {campaign.runs} runs, with every kind of fault, this never happened to any job: {told}"
            return _cannot(self._recorded, self._target, [reason])
        print(f"inconclusive: no run of {self._target} agrees with this record ({spent}).")
        print(f"  {goal.shown} runs showed {', '.join(sorted(self._recorded.incident.anomalies))}.")
        if goal.nearest_run is not None:
            print(f"  The closest one has {goal.nearest.facts} of the {len(facts)} recorded events:")
            print("\n".join(self._pairs(goal.nearest_run)))
        only_rows = not any(
            chain.complete or any(fact.what.run for fact in chain.facts) for chain in goal.incident.chains
        )
        told = what_decides(self._recorded.suspect.name, beside_rows=only_rows)
        for line in wrap("To decide it, record: ", told, width=WIDTH, lines=6):
            print(line)
        return exit_code_of(campaign.interruption) if campaign.interruption else int(ExitCode.INCONCLUSIVE)
