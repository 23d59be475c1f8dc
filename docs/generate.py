"""Writes the reference tables of these pages from the code: `python docs/generate.py`, with `--check` to compare only.

A table stands between `<!-- generated: NAME -->` and `<!-- end -->`. Something new in the code without a description
stops this script, by name. With `--site` it makes the pages that are not kept: the rules of `check`, in `build/docs`.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, Final

import pytest
from ruamel.yaml import YAML

import job_harness
from job_harness.core.faults import kinds
from job_harness.core.invariants import CATALOGUE, Invariant, Kind
from job_harness.core.invariants.property import Guarantee, Monitor
from job_harness.core.invariants.steps import STEPS as OF_STEPS
from job_harness.core.model.duration import format_duration
from job_harness.core.model.json_value import json_problem
from job_harness.core.model.moments import moments
from job_harness.core.model.settings import Settings
from job_harness.core.port import ALL_SHOWN, Capabilities, ShownFacts
from job_harness.core.scenario.job_plan import PAYLOADS as SENT
from job_harness.core.scenario.job_plan import Ending, Payload
from job_harness.core.scenario.scenario import _POINTS, GRAMMAR, VERBS
from job_harness.core.scenario.schema import (
    ControlPart,
    DeviationPart,
    ExpectPart,
    JobPart,
    ProcessorPart,
    ScenarioPart,
    SettingsPart,
    sentences,
)
from job_harness.doors.cli import COMMANDS, command
from job_harness.doors.documentation import about, split, whole
from job_harness.doors.pytest import plugin as pytest_plugin
from job_harness.engines.bullmq.queue import BullQueue
from job_harness.engines.celery import CeleryQueue
from job_harness.engines.chancy import ChancyQueue
from job_harness.engines.django_tasks import DjangoTasksQueue
from job_harness.engines.dramatiq import DramatiqQueue
from job_harness.engines.graphile import GraphileQueue
from job_harness.engines.memory import MemoryQueue
from job_harness.engines.pgboss.node.release import Release
from job_harness.engines.pgboss.queue import PgBossQueue
from job_harness.engines.pgqueuer import PgQueuerQueue
from job_harness.engines.procrastinate import ProcrastinateQueue
from job_harness.engines.reference import ReferenceQueue
from job_harness.review.audit.recording import ROWS_SHOW, SHOWN_BY_LOG
from job_harness.review.check.catalogue import RULES
from job_harness.review.check.pages import rule_pages
from job_harness.review.symptoms import QUEUE_NAMES, Symptom, symptoms
from job_harness.search.wrong_queues.catalogue import CATALOGUE as MISTAKES
from job_harness.subjects.processors.contract import CHECKS as CLAUSES
from job_harness_reference.config import Config

FOLDER: Final = Path(__file__).parent
MADE: Final = FOLDER.parent / "build" / "docs"
_BLOCK = re.compile(r"(<!-- generated: (?P<name>[\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)

KEYS: Final[Mapping[str, str]] = {
    "format": "always 1",
    "title": "one line that says what happens; printed with a failure",
    "why": "what a user would lose if this failed",
    "settings": "the settings that differ from their defaults, see below",
    "workers": "the workers by name (`[w1]`)",
    "jobs": "the jobs by name, at least one",
    "steps": "what happens, in this order; without steps the jobs just run",
    "tape": "the deviations from the usual order of events, as `explore` wrote them",
    "expect": "the expected result of each job",
    "controls": "wrong queues and wrong settings on which the scenario must fail",
    "tool": "the name of the processor (`tool`)",
    "input": "any JSON value",
    "priority": "the highest goes first (0)",
    "max_attempts": "deliveries in total (default: the setting)",
    "unique_key": "there may be only one unfinished job of this tool with this key",
    "every": "with `count`: that many jobs, this far apart, named `a1`, `a2`, ...",
    "count": "how many (1)",
    "status": "PENDING, PROCESSING, COMPLETED, FAILED, CANCELLED, or `gone` once it is deleted",
    "attempts": "how many deliveries counted",
    "output": "the result of the attempt that completed it",
    "queue": "a wrong queue by name",
    "finds": "the anomaly that must be found",
}
"""What the models do not say of their keys themselves."""

STEPS: Final[Mapping[str, str]] = {
    "act": "Time passes until the worker has done this; `->` asserts the reply of the queue.",
    "crash": "A process dies, now or once it gets there. What it held stays as it was.",
    "restart": "A process that crashed or was stopped starts again.",
    "pause": "A process pauses, now or once it gets there.",
    "suspend": "The same, but it continues by itself after this time.",
    "resume": "It continues.",
    "stop": "A shutdown: the worker finishes the running job, gives back the others, and ends.",
    "deploy": "In a system file: SIGTERM, SIGKILL once its grace is over, and a new process.",
    "lose": "The connection breaks before or after the verb took effect; the caller cannot tell which.",
    "twice": "The message arrives twice.",
    "advance": "Time passes, and everything that is due happens in order.",
    "jump": "The clock moves, and no process acts.",
    "run": "Time passes until nothing changes any more.",
    "upkeep": "The queue takes back overdue jobs; maintenance reconciles, rescues and deletes.",
    "enqueue": "Send a job that is `held_back`.",
    "cancel": "An operator cancels a job.",
    "retry": "An operator gives an ended job a new budget of attempts.",
    "check": "Assert the status of a job now.",
    "clock": "Set the clock of the store, or of one worker, wrong by this much.",
    "away": "No process can reach the store for this long: calls in that time are lost.",
    "cut": "One process cannot reach the store for this long.",
    "delay": "A request arrives this much later. Its caller gets no reply, and continues.",
    "hold": "An operator pauses the jobs of a tool, or resumes them.",
    "wait": "Time passes, and everything that is due happens, until the job has this status.",
}

ACTS: Final[Mapping[str, str]] = {
    "claims": "take the job, or any due job",
    "polls": "look for a job once, whether or not one is due",
    "starts": "start the processor",
    "completes": "settle the attempt as a success",
    "fails": "settle the attempt as a failure",
    "releases": "give the job back without running it",
    "heartbeats": "extend the lease",
    "settles": "complete or fail, as the outcome of the attempt says",
}

ENDINGS: Final[Mapping[Ending, str]] = {
    Ending.SUCCEED: "the processor returns `success: true`",
    Ending.FAIL: "it returns `success: false`",
    Ending.FAIL_FINALLY: "it returns `success: false` and `retryable: false`",
    Ending.RAISE: "it raises an error",
    Ending.RAISE_NUL: "it raises an error whose text contains a NUL",
    Ending.RAISE_SURROGATE: "it raises an error whose text contains a lone surrogate, which is half a character",
    Ending.RETURN_NAN: "its result contains NaN, which JSON does not allow",
    Ending.RETURN_NUL: "its result contains a NUL, which PostgreSQL refuses",
    Ending.HANG: "it never returns, and is stopped after `job_timeout`",
    Ending.EXIT: "it kills its worker",
    Ending.TOO_MANY: "it fails; a host that a system calls answers with 429 and `Retry-After: 30`",
}

PAYLOADS: Final[Mapping[Payload, str]] = {
    Payload.NUL: "text with a NUL, which PostgreSQL refuses",
    Payload.SURROGATE: "a lone surrogate: half a character, which is not valid text",
    Payload.NAN: "NaN, which JSON does not allow",
    Payload.LARGE: "9000 bytes of text",
    Payload.ESCAPES: "text that looks escaped, quotes, and a character of four bytes",
    Payload.BIG_NUMBER: "2 to the power of 70",
    Payload.FALSE: "`false`",
    Payload.ZERO: "`0`",
    Payload.EMPTY_TEXT: '`""`',
    Payload.EMPTY_LIST: "`[]`",
    Payload.EMPTY_OBJECT: "`{}`",
}

CAPABILITIES: Final[Mapping[str, str]] = {
    "heartbeat": "a worker may extend its lease",
    "release": "a worker may give a job back without running it",
    "cancel": "a job can be cancelled",
    "retry": "an operator may revive a job that ended",
    "priorities": "the highest priority is claimed first",
    "unique": "at most one unfinished job of a tool per unique key",
    "start_after": "a job can be sent for later",
    "maintenance": "two tables: reconcile, rescue and purge",
    "virtual_time": "the store's clock is the harness's",
    "snapshot": "the state can be saved and restored",
    "fencing": "a claim carries a token, and a lost claim changes nothing",
    "results": "a job shows its output, or its error",
    "concurrency_limits": "the number of jobs that run at once can be limited, for one tool or for all",
    "rate_limits": "the number of jobs of a tool that are claimed within a window can be limited",
    "flows": "jobs that wait for others to succeed, and end with one that fails",
    "parents": "jobs that join those that their parent waits for",
    "groups": "groups of jobs that end in one callback",
    "splits": "a system that splits a job into as many as it is asked for",
    "serial_keys": "jobs with the same key run one after the other",
    "dead_letters": "a job that failed for good leaves a new job, for another tool",
    "transactions": "a job can be sent inside a transaction",
    "schedules": "the queue makes a job for each slot of a schedule",
    "inputs": "a job's input can be read back",
    "sessions": "every actor has a database session of its own: only with `--sessions`",
    "takes_back_in_claim": "there is no sweep: `claim` itself takes over, or fails for good, the jobs of dead workers",
    "final_errors": "a worker can say that another attempt is pointless",
    "own_attempts": "a job may have its own `max_attempts`",
    "remote": "a verb may arrive twice or late, and a worker without a reply repeats it (see `called in process`)",
    "own_leases": "a job may have its own lease",
    "own_delays": "a job may have its own retry delay",
    "unique_windows": "a unique key is held for some time, whether its job has ended or not",
    "worker_tools": "a worker claims only jobs of the tools that it serves",
    "pausing": "the jobs of a tool can be paused and resumed",
    "calendars": "a schedule may have a cron expression and a time zone",
    "presets": "its counters can be advanced before the first job",
    "big_priorities": "64-bit priorities are kept unchanged",
    "blank_keys": "a unique key may be empty or blank",
    "wide_values": "32-bit priorities and long keys are kept unchanged",
    "signals": "its workers are processes: a signal stops them, a deploy replaces them",
    "replica": "its processes read from a replica that may lag",
    "any_settings": "it accepts any settings",
}

ENVIRONMENT: Final[Mapping[str, str]] = {
    "DATABASE_URL": "the address of PostgreSQL; every command needs it",
    "USE_PGBOSS_WORKERS": "workers start only if this is exactly `true`",
    "CRON_SECRET": "the bearer token of the maintenance request, which is refused without it",
    "JOB_TIMEOUT_MS": "a processor is stopped after this",
    "JOB_TIMEOUT_SECONDS": "the same in seconds; one of the two is enough",
    "JOB_EXPIRE_IN_SECONDS": "the cron takes a job back after this without a heartbeat",
    "STUCK_JOB_TIMEOUT_MINUTES": "maintenance takes a PROCESSING job back after this",
    "JOB_MAX_ATTEMPTS": "deliveries in total",
    "JOB_RETRY_LIMIT": "the same as retries, one less; one of the two is enough",
    "JOB_RETRY_DELAY_SECONDS": "the wait after a failed attempt",
    "JOB_RETRY_BACKOFF": "whether the wait doubles with each attempt",
    "JOB_RETRY_DELAY_MAX_SECONDS": "the longest wait",
    "JOB_RETENTION_DAYS": "terminal jobs are kept this long",
    "PGBOSS_BATCH_SIZE": "jobs taken with one claim",
    "PGBOSS_POLLING_INTERVAL": "seconds between two polls of an idle worker",
    "PROCESSOR_CANCEL_GRACE_SECONDS": "how long a processor may take to stop after its timeout",
    "WORKER_SHUTDOWN_GRACE_SECONDS": "how long a stopping worker lets running jobs continue",
    "JOB_INPUT_LIMIT_BYTES": "larger inputs are refused",
    "JOB_OUTPUT_LIMIT_BYTES": "larger outputs fail their job",
}

INVARIANTS: Final = (*CATALOGUE, *OF_STEPS)
QUEUES: Final[Sequence[Any]] = (
    MemoryQueue,
    ReferenceQueue,
    PgBossQueue,
    Release("12.38.0"),
    ProcrastinateQueue,
    PgQueuerQueue,
    GraphileQueue,
    BullQueue,
    DjangoTasksQueue,
    CeleryQueue,
    DramatiqQueue,
    ChancyQueue,
)
FIXTURES: Final = (
    "job_harness",
    "async_job_harness",
    "job_invariants",
    "job_on_start",
    "job_clock",
    "job_queue",
    "job_postgres",
    "job_postgres_schema",
)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Lay out a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join("| " + " | ".join(_cell(cell) for cell in line) + " |\n" for line in lines)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _code(text: object) -> str:
    return f"`{text}`"


def _seen_in_public() -> dict[str, str]:
    """Return for each rule a public repository that breaches it, by the verdict of a reader of its code."""
    wild = FOLDER.parent / "benchmarks/wild"
    names = ("wild.yaml", "held_out.yaml", "judged_later.yaml", "judged_unseen.yaml")
    lists = [YAML(typ="safe").load((wild / name).read_text(encoding="utf-8")) for name in names]
    found: dict[str, str] = {}
    for wanted, words in (("true", "Seen in"), ("arguable", "Seen, where its owner may have reasons, in")):
        for entry in (entry for listed in lists for entry in listed["repositories"]):
            for verdict in (one for one in entry["verdicts"] if one["verdict"] == wanted):
                where = f"{entry['repo']} ({entry['queue']}), `{verdict['file']}`"
                found.setdefault(verdict["rule"], f"{words} {where}: {verdict['why'].rstrip('.')}.")
    return found


def _settings() -> str:
    lengths = Settings.duration_names()
    told = sentences()[SettingsPart.__name__]
    rows = []
    for name in Settings.names():
        value = getattr(Settings(), name)
        shown = format_duration(value) if name in lengths else str(value).lower()
        rows.append((_code(name), _code(shown), told.get(name) or KEYS[name]))
    return table(("setting", "default", "meaning"), rows)


def _keys(model: Any) -> Callable[[], str]:
    def keys() -> str:
        told = sentences().get(model.__name__, {})
        described = ((name, told.get(name) or KEYS[name]) for name in model.model_fields)
        return table(("key", "meaning"), [(_code(name), text) for name, text in described])

    return keys


def _steps() -> str:
    return table(("step", "what happens"), [(_code(example), STEPS[kind]) for kind, _, example in GRAMMAR])


def _verbs() -> str:
    forms = {verb: f"w1 {verb}" if verb == "polls" else f"w1 {verb} a" for verb in VERBS}
    return table(("form", "meaning"), [(_code(form), ACTS[verb]) for verb, form in forms.items()])


def _places() -> str:
    rows = [(_code(place), f"just before the process reaches its point `{point}`") for place, point in _POINTS.items()]
    named = ('`at "NAME"`, `before "NAME"`', "just before the process reaches the point of this name")
    return table(("place", "meaning"), [*rows, named])


def _endings() -> str:
    return table(("outcome", "meaning"), [(_code(ending), ENDINGS[ending]) for ending in Ending])


def _payloads() -> str:
    rows = [
        (_code(payload), PAYLOADS[payload], "refused" if json_problem(value) else "taken")
        for payload, value in SENT.items()
    ]
    return table(("payload", "what is sent", "must be"), rows)


def _faults() -> str:
    rows = [
        (_code(kind.id), kind.sentence or f"What {kind.package} brings.", ", ".join(map(_code, kind.words)), kind.step)
        for kind in kinds().values()
    ]
    return table(("fault", "what happens", "on a tape", "as a step"), rows)


def _fault_sentences() -> str:
    return "".join(f"  - {kind.sentence}\n" for kind in kinds().values() if kind.sentence)


def _moments() -> str:
    settings = Settings()
    rows = [(_code(name), _code(format_duration(length))) for name, length in moments(settings).items()]
    return table(("moment", "with the default settings"), rows)


def _invariants() -> str:
    rows = [
        (f"[`{item.id}`](#{item.id})", _judged(item.kind), ", ".join(map(_code, item.capabilities)), item.sentence)
        for item in INVARIANTS
    ]
    return table(("invariant", "judged", "needs", "what must hold"), rows)


NO_EVIDENCE: Final = "no evidence"
MOST_OPEN: Final = 3
NOT_OF_PROCESSES: Final = {
    "maintenance_idempotent": "no evidence: what a request of cron led to cannot be told from other work",
    "expiry_is_total": "no evidence: which statement takes back is not known; what stays for good is `job_stuck`",
    "work_conserving": "no evidence: which statement is a claim that found nothing is not known",
    "claims_as_asked": "no evidence: how much a statement asked for is not known",
    "no_lost_update": "no evidence: what a process had read is not known",
    "own_lease_kept": "open: `send` cannot ask for a lease",
    "enqueue_iff_commit": "open: which transaction a job was sent in is not known",
    "no_deadlock": "open: what PostgreSQL refuses is not seen",
}
"""Why an application's processes are not judged by an invariant."""
NOT_DESCRIBED: Final = "by design"
NOT_OF_RECORDS: Final[Mapping[str, tuple[str, ...]]] = {
    "no evidence: they are about processes, signals, or times at which a process could not act": (
        "processes_survive",
        "lease_outlives_execution",
        "shutdown_leaves_nothing_claimed",
        "store_clock_decides",
    ),
    "no evidence: what a client or an operator asked for, and was answered, is not recorded": (
        "cancel_wins",
        "retry_reopens",
        "options_honoured",
        "own_lease_kept",
        "enqueue_iff_commit",
    ),
    "no evidence: what a claim could have had, or what a statement was for, is not recorded": (
        "priority_order",
        "work_conserving",
        "claims_as_asked",
        "maintenance_idempotent",
        "expiry_is_total",
        "no_lost_update",
        "no_deadlock",
    ),
    "no evidence: how the runs of a job ended is not recorded, nor which job had to succeed": (
        "failed_only_when_exhausted",
        "failure_is_recorded",
        "isolation_between_jobs",
        "no_livelock",
        "work_finished",
    ),
    "no evidence in rows as they stand; a log of their changes has it": (
        "legal_transition",
        "single_owner",
        "fenced",
        "retention_spares_live",
    ),
    f"{NOT_DESCRIBED}: a job table is described without keys of other jobs, limits and slots "
    "(`test_an_audit_takes_no_column_of_other_jobs`)": (
        "concurrency_limit",
        "rate_limit",
        "serial_key_exclusive",
        "cron_exactly_once",
        "dead_letters_complete",
        "flows_kept",
        "groups_kept",
    ),
}
"""Why rows, or a log of them, are not judged by invariants."""


def _doors() -> str:
    head = ("invariant", "a queue", "a system file", "an application", "rows (`audit`)", "a log of them, own workers")
    rows = [(f"`{item.id}`", *_asked_through(item)) for item in CATALOGUE]
    reasons = "".join(f"- `{name}`: {reason}.\n" for name, reason in NOT_OF_PROCESSES.items())
    grouped = "".join(f"- {', '.join(map(_code, names))}: {reason}.\n" for reason, names in NOT_OF_RECORDS.items())
    opened = sum(reason.startswith("open") for reason in NOT_OF_PROCESSES.values())
    assert opened <= MOST_OPEN, f"{opened} are open, and at most {MOST_OPEN} may be"
    return (
        f"{table(head, rows)}\nOf processes, these are not judged:\n\n{reasons}"
        f"\nOf rows and of a log of them, these are not judged:\n\n{grouped}"
        "\nOf the verbs of a queue, `processes_survive` is not judged: they are called in our process, so there is no "
        "evidence. By design, `steps_kept` is judged only where a workflow declares its steps "
        "(`tests/unit/test_steps.py`).\n"
    )


def _asked_through(item: Invariant) -> tuple[str, str, str, str, str]:
    queue = ", ".join(map(_code, item.capabilities)) or ("yes" if item.make is not Monitor else NO_EVIDENCE)
    reason = NOT_OF_PROCESSES.get(item.id, "")
    assert bool(reason) is (item.stepwise is None), f"{item.id}: say in NOT_OF_PROCESSES why it is not asked"
    if reason:
        return queue, reason.partition(":")[0], reason.partition(":")[0], *_of_audits(item)
    lines = ", ".join(map(_added, item.evidence.missing(ShownFacts(), item.id)))
    application = "`shows`" if item.evidence.missing(ALL_SHOWN, item.id) else "yes"
    return queue, lines or "yes", application, *_of_audits(item)


def _added(line: str) -> str:
    """Return what has to be added to a file, as it is written there."""
    columns = line.removeprefix("the column ")
    return _code(line) if columns == line else " or ".join(map(_code, columns.split(" or ")))


def _of_audits(item: Invariant) -> tuple[str, str]:
    return _audited(item, ROWS_SHOW), _audited(item, SHOWN_BY_LOG)


def _audited(item: Invariant, shown: Mapping[str, frozenset[str]]) -> str:
    kinds = [anomaly.name for anomaly in item.anomalies if anomaly.name in shown]
    columns = sorted(set.intersection(*(set(shown[name]) for name in kinds))) if kinds else []
    if kinds:
        return ", ".join(map(_code, columns)) or "yes"
    reasons = [reason for reason, names in NOT_OF_RECORDS.items() if item.id in names]
    assert reasons, f"{item.id}: say in NOT_OF_RECORDS why it is not asked of rows"
    return NOT_DESCRIBED if reasons[0].startswith(NOT_DESCRIBED) else NO_EVIDENCE


def _judged(kind: Kind) -> str:
    return {Kind.ALWAYS: "at every step", Kind.EVENTUALLY: "at rest", Kind.SOMETIMES: "once in a campaign"}[kind]


def _anomalies() -> str:
    parts = []
    for item in INVARIANTS:
        rows = [
            (_code(anomaly.name), anomaly.sentence, anomaly.cost, ", ".join(_shown_by(anomaly.name)))
            for anomaly in item.anomalies
        ]
        head = ("anomaly", "what happened", "guarantee lost", "wrong queues that show it")
        parts.append(f"### {item.id}\n\n{item.sentence}\n\n{table(head, rows)}")
    return "\n".join(parts)


def _shown_by(anomaly: str) -> list[str]:
    return [_code(name) for name, mistake in MISTAKES.items() if anomaly in mistake.finds]


def _guarantees() -> str:
    return "".join(f"{number}. {guarantee}\n" for number, guarantee in enumerate(Guarantee, start=1))


def _wrong_queues() -> str:
    rows = [
        (
            _code(name),
            mistake.sentence,
            ", ".join(map(_code, mistake.finds)),
            ", ".join(kind.replace("-gated", " --sessions") for kind in mistake.kinds),
            mistake.source,
        )
        for name, mistake in MISTAKES.items()
    ]
    return table(("wrong queue", "its mistake", "finds", "engines", "seen in"), rows)


def _capabilities() -> str:
    def mark(capabilities: Capabilities, name: str) -> str:
        return "yes" if getattr(capabilities, name) else "no"

    rows = [
        (_code(name), CAPABILITIES[name], *(mark(queue.capabilities, name) for queue in QUEUES))
        for name in Capabilities.names()
    ]
    engines = (
        "`memory`",
        "`reference`, `postgres`",
        "`pgboss`",
        "`pgboss-node`",
        "`procrastinate`",
        "`pgqueuer`",
        "`graphile-worker`",
        "`bullmq`, `bullmq-redis`",
        "`django-tasks-db`",
        "`celery-redis`",
        "`dramatiq-redis`",
        "`chancy`",
    )
    return table(("capability", "meaning", *engines), rows)


def _command_line() -> str:
    parts = []
    for name, (module, summary) in COMMANDS.items():
        parser = argparse.ArgumentParser(prog=f"job-harness {name}", add_help=False)
        command(module).configure(parser)
        rows = [
            (_code(_spelled(action)), action.help or "")
            for action in parser._actions
            if action.help != argparse.SUPPRESS
        ]
        options = table(("argument", "meaning"), rows) if rows else "It takes no arguments.\n"
        parts.append(f"### job-harness {name}\n\n{summary[0].upper()}{summary[1:]}.\n\n{options}")
    return "\n".join(parts)


def _spelled(action: argparse.Action) -> str:
    shown = _value(action)
    if not action.option_strings:
        return {None: shown, "?": f"[{shown}]", "+": f"{shown} ..."}.get(action.nargs, f"[{shown} ...]")
    names = ", ".join(action.option_strings)
    return names if action.nargs == 0 else f"{names} {shown}"


def _value(action: argparse.Action) -> str:
    if isinstance(action.metavar, str):
        return action.metavar
    return f"{{{','.join(map(str, action.choices))}}}" if action.choices else action.dest


class _Options(pytest.Parser):
    """Collects what a plugin declares."""

    def __init__(self) -> None:
        super().__init__(_ispytest=True)


def _pytest_options() -> str:
    parser = _Options()
    pytest_plugin.pytest_addoption(parser, pytest.PytestPluginManager())
    rows = [
        (_code(" ".join(filter(None, (attributes["option"][0], attributes["metavar"])))), attributes["help"])
        for attributes in _declared(parser)
    ]
    rows += [(f"`{name}` (ini file)", text) for name, (text, *_) in parser._inidict.items()]
    return table(("option", "meaning"), rows)


def _declared(parser: pytest.Parser) -> list[dict[str, Any]]:
    return [
        {"option": option.names(), "metavar": option.attrs()["metavar"], "help": option.attrs()["help"]}
        for group in parser._groups
        for option in group.options
    ]


def _contract() -> str:
    rows = [(_code(check.id), check.sentence, check.repair) for check in CLAUSES]
    return table(("check", "what must hold", "how to repair it"), rows)


def _fixtures() -> str:
    rows = []
    for name in FIXTURES:
        text = getattr(pytest_plugin, name).__doc__
        assert text, f"the fixture {name} has no docstring"
        rows.append((_code(name), text))
    return table(("fixture", "meaning"), rows)


def _environment() -> str:
    rows = []
    for field in fields(Config):
        name = field.name.upper()
        default = (
            "unset"
            if field.default is None
            else f"{field.default:g}"
            if type(field.default) is float
            else field.default
        )
        rows.append(
            (_code(name), _code(str(default).lower() if isinstance(default, bool) else default), ENVIRONMENT[name])
        )
    return table(("variable", "default", "meaning"), rows)


def _public_names() -> str:
    source = Path(job_harness.__file__).read_text(encoding="utf-8")
    told = dict(re.findall(r'^    "(\w+)",  # (.+)$', source, re.MULTILINE))
    assert list(told) == job_harness.__all__, "every public name has its comment"
    return table(("name", "what it is"), [(_code(name), told[name]) for name in sorted(told, key=str.lower)])


def _symptoms() -> str:
    """Write each symptom with its causes; its heading has the queues: a search looks there first."""
    lines: list[str] = []
    for each in symptoms():
        lines += [f"## {_heading(each)}", "", f"Also: {'; '.join(each.also)}.", ""]
        for number, cause in enumerate(each.causes, start=1):
            lines.append(f"{number}. {cause.why} See: {_typed(cause.look)}.")
            lines += [f"    - {QUEUE_NAMES[queue]}: {_with_rules(words)}." for queue, words in cause.queues.items()]
        seen = ", ".join(f"[{issue}](https://github.com/{issue.replace('#', '/issues/')})" for issue in each.seen)
        lines += ["", *([f"Seen in {seen}.", ""] if seen else [])]
    return "\n".join(lines)


def _heading(symptom: Symptom) -> str:
    named = dict.fromkeys(queue for cause in symptom.causes for queue in cause.queues if queue not in ("any", "table"))
    return f"{symptom.says} ({', '.join(QUEUE_NAMES[queue] for queue in named)})" if named else symptom.says


def _typed(look: str) -> str:
    """Set what can be typed as code; `pytest --job-explore 50` before a comma, a sentence after it."""
    command, comma, rest = look.partition(",")
    typed = command.startswith(("job-harness", "pytest", "job_harness")) and "a scenario" not in command
    return f"`{command}`{comma}{rest}" if typed else look


def _with_rules(words: str) -> str:
    return re.sub(r"`(\w+)`", lambda found: f"[`{found[1]}`](checks.md)" if found[1] in RULES else found[0], words)


def _symptoms_by_queue() -> str:
    rows = []
    for queue, name in QUEUE_NAMES.items():
        has = [each for each in symptoms() if any(queue in cause.queues for cause in each.causes)]
        if queue != "any":
            rows.append((name, "; ".join(f"[{each.says}](#{_anchor(_heading(each))})" for each in has)))
    return table(("queue", "what is seen there"), rows)


def _anchor(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


TABLES: Final[Mapping[str, Callable[[], str]]] = {
    "symptoms": _symptoms,
    "symptoms-by-queue": _symptoms_by_queue,
    "public-names": _public_names,
    "settings": _settings,
    "scenario-keys": _keys(ScenarioPart),
    "job-keys": _keys(JobPart),
    "expect-keys": _keys(ExpectPart),
    "control-keys": _keys(ControlPart),
    "processor-keys": _keys(ProcessorPart),
    "tape-keys": _keys(DeviationPart),
    "steps": _steps,
    "verbs": _verbs,
    "places": _places,
    "outcomes": _endings,
    "payloads": _payloads,
    "faults": _faults,
    "fault-sentences": _fault_sentences,
    "moments": _moments,
    "invariants": _invariants,
    "doors": _doors,
    "anomalies": _anomalies,
    "guarantees": _guarantees,
    "wrong-queues": _wrong_queues,
    "capabilities": _capabilities,
    "command-line": _command_line,
    "pytest-options": _pytest_options,
    "fixtures": _fixtures,
    "environment": _environment,
    "contract": _contract,
}


def generated(text: str) -> str:
    """Return a page with its tables as the code has them now. Raises KeyError for a table that does not exist."""
    return _BLOCK.sub(lambda found: f"{found[1]}\n{TABLES[found['name']]()}\n{found[3]}", text)


def llms_text() -> str:
    """Return the list of pages for assistants, in the form that is usual for a file `llms.txt`."""
    lines = [
        "# job-harness",
        "",
        "> Testing harness and simulation framework for job processors and job queues: virtual time,",
    ]
    lines += ["> crashes, lost messages and duplicates, judged by invariants; in Python, TypeScript, YAML and SQL.", ""]
    lines += ["All pages as one text: `job-harness docs`, or [llms-full.txt](llms-full.txt).", "", "## Pages", ""]
    for name, page in {**split(whole(FOLDER.parent)), **rule_pages()}.items():
        title, sentence = about(page)
        lines.append(f"- [{title}]({address(name)}.html): {sentence}")
    return "\n".join(lines) + "\n"


def address(page: str) -> str:
    """Return where the site has a page; results are not of this folder, and stand where `docs/site.py` puts them."""
    return {"README": "index"}.get(page, f"repository/benchmarks/{page}" if page.startswith("results/") else page)


def make_pages() -> None:
    """Write the pages that only the site has, for `docs/site.py`: the rules of `check`."""
    for name, page in rule_pages(_seen_in_public()).items():
        path = MADE / f"{name}.md"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(page, encoding="utf-8")


def main(arguments: Sequence[str]) -> int:
    """Write the pages; with `--check` only say which are out of date, with `--site` only make what the site needs."""
    if "--site" in arguments:
        make_pages()
        return 0
    stale = []
    for page in sorted(FOLDER.glob("*.md")):
        before = page.read_text(encoding="utf-8")
        after = generated(before)
        if after != before:
            stale.append(page.name)
            if "--check" not in arguments:
                page.write_text(after, encoding="utf-8")
    llms = FOLDER / "llms.txt"
    if (text := llms_text()) != (llms.read_text(encoding="utf-8") if llms.is_file() else ""):
        stale.append(llms.name)
        if "--check" not in arguments:
            llms.write_text(text, encoding="utf-8")
    for name in stale:
        print(f"{name} was out of date")
    return 1 if stale and "--check" in arguments else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
