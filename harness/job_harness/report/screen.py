"""A screen of text: what broke, what it costs, what happened, and how to see it again, in 80 columns and 24 lines.

Hides how text is made to fit (printable, clipped, wrapped), which events of a history are worth a
row, and how rows share columns. Knows no terminal and no file: a screen is a list of lines, each
with a style that a terminal may show.
"""

from __future__ import annotations

import re
import shlex
import textwrap
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import PurePath
from typing import Any, Final, NamedTuple, TypeGuard

from job_harness.core.faults import Cause, cause_of, events_of, kinds, ordinal, word_fault
from job_harness.core.faults import kind_of as fault_of
from job_harness.core.history import (
    DIFFER_OF,
    ROW_OF,
    STEP,
    Call,
    Effect,
    Event,
    Excuse,
    Fault,
    History,
    Observed,
    OutcomeKind,
    Return,
)
from job_harness.core.invariants import Guarantee, kind_of
from job_harness.core.invariants.order import PAUSING
from job_harness.core.model import DAY, Instant, JobId, QueueState, Settings, format_duration
from job_harness.core.printable import printable
from job_harness.core.run.verdict import Run, Verdict, fix_line
from job_harness.core.scenario.job_plan import Ending, JobPlan
from job_harness.core.scenario.scenario import DEFAULTS, Scenario, Step
from job_harness.core.target import Target
from job_harness.report.blame import CodeFrame, frames_of

# text that fits -------------------------------------------------------------------------------------------------------


ELLIPSIS = "…"


def one_line(text: str) -> str:
    """Escape whatever a terminal would not show as one visible character; fold white space."""
    return printable(" ".join(text.split()))


def columns_of(text: str) -> int:
    """Return how many columns a text takes. The tables of wide characters are loaded for a text that may have some."""
    if text.isascii() and text.isprintable():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def _brought_to(text: str, width: int) -> str:
    if text.isascii() and text.isprintable():
        return text[:width].ljust(width)
    from rich.cells import set_cell_size

    return set_cell_size(text, width)


def clip(text: str, width: int) -> str:
    """Shorten to at most this many columns."""
    if columns_of(text) <= width:
        return text
    return _brought_to(text, max(0, width - 1)).rstrip() + ELLIPSIS


def pad(text: str, width: int) -> str:
    """Bring to exactly this many columns."""
    return _brought_to(clip(text, width), width)


def wrap(label: str, text: str, *, width: int, lines: int) -> list[str]:
    """Set `label` before a text and break it into at most `lines` lines."""
    indent = " " * min(columns_of(label), 12)
    broken = textwrap.wrap(one_line(text), width - columns_of(label), break_on_hyphens=False) or [""]
    rest = textwrap.wrap(" ".join(broken[1:]), width - len(indent), break_on_hyphens=False)
    shown = [label + broken[0], *(indent + line for line in rest)]
    if len(shown) > lines:
        shown = [*shown[: lines - 1], clip(shown[lines - 1] + " " + ELLIPSIS, width)]
    return [clip(line, width) for line in shown]


def setting_text(name: str, value: object) -> str:
    """Write the value of a setting as a scenario does."""
    if name in Settings.duration_names() and isinstance(value, int):
        return format_duration(value)
    return str(value).lower() if isinstance(value, bool) else str(value)


def changed_settings(settings: Settings, *, default: Settings = DEFAULTS) -> dict[str, tuple[str, str]]:
    """Return the settings that differ from the defaults, each with its value and the default, in words."""
    return {
        name: (setting_text(name, getattr(settings, name)), setting_text(name, getattr(default, name)))
        for name in Settings.names()
        if getattr(settings, name) != getattr(default, name)
    }


def replay_command(
    path: str, *, engine: Target | None, seed: int | None = None, token: str | None = None, changes: Iterable[str] = ()
) -> str:
    """Write the command that plays a scenario file again; without an engine, on the one that the file names.

    A run that was a replay of a token is played again by that token.
    """
    parts = ["job-harness", "run", path, *(["--engine", *engine.words] if engine else [])]
    if seed is not None:
        parts += ["--seed", str(seed)]
    if token is not None:
        parts += ["--replay", token]
    for change in changes:
        parts += ["--set", change]
    return shlex.join(parts)


# which events are worth a row -----------------------------------------------------------------------------------------


MOST = 10


class Row(NamedTuple):
    """One event in words; `place` is its index in the history, `weight` how much it matters."""

    at: Instant
    actor: str
    text: str
    place: int
    weight: int


REPORTS = "reports a failure"
_VERBS = {
    "enqueue": "enqueues",
    "commit": "commits",
    "claim": "claims",
    "heartbeat": "extends",
    "complete": "completes",
    "fail": "fails",
    "release": "releases",
    "cancel": "cancels",
    "retry": "retries",
    "expire": "takes back",
    "rescue": "takes back",
    "reconcile": "repairs",
    "purge": "deletes",
    "update": "updates",
}


def rows_of(
    history: History,
    *,
    job: JobId | None,
    others: Collection[JobId] = (),
    beside: bool = False,
    until: int | None = None,
    most: int = MOST,
) -> list[Row]:
    """Return at most `most` rows in the order of the history; with no job, of all jobs.

    `others` are jobs that it is about too: their rows begin with their names; where there is no job, all end in one.
    The last event, the change of status or the same effect that it met, faults, changes of the job and, where the last
    event is a side effect, those of its name outlive the rest when there are too many; later ones outlive earlier. With
    `beside`, rows that are left go to all other jobs.
    """
    last = len(history) - 1 if until is None else until
    events = history.events[: last + 1]
    rows = _about(events, job, None if job is None else {job, *others})
    if until is not None and (row := _failed_call(history.events[last], last)) is not None:
        rows.append(row)
    if len(rows) > most:
        return _gravest(rows, history, last, most)
    if job is not None and beside and len(rows) < most:
        known = {row.place for row in rows}
        spare = [row for row in _about(events, job, _jobs(events)) if row.place not in known]
        rows += sorted(spare, key=lambda row: (-row.weight, -row.place))[: most - len(rows)]
    return sorted(rows, key=lambda row: row.place)


def _jobs(events: Sequence[Event]) -> set[JobId]:
    return {named for event in events if (named := getattr(event, "job", None)) is not None}


def _about(events: Sequence[Event], job: JobId | None, about: set[JobId] | None) -> list[Row]:
    """Return the rows of these jobs, or of all; `job` is the one whose rows are not named."""
    of_all = about is None or _jobs(events) <= about  # With one job alone, what goes wrong anywhere may concern it.
    involved = {_actor(event) for event in events if of_all or getattr(event, "job", None) in (about or ())}
    rows = [
        row for index, event in enumerate(events) if (row := _row_of(event, index, job, about, involved)) is not None
    ]
    kept = _not_given(events)
    rows = [row._replace(text=f"{row.text}: not given to it") if row.place in kept else row for row in rows]
    return sorted(
        [*rows, *_in_vain(events, job, about), *_other_answers(events, job, about)], key=lambda row: row.place
    )


def _other_answers(events: Sequence[Event], job: JobId | None, about: set[JobId] | None) -> list[Row]:
    """Return a row for the first answer that no caller hopes for to each other job: in a batch one harms all."""
    rows: dict[JobId, Row] = {}
    for index, event in enumerate(events):
        if isinstance(event, Effect) and event.reply is not None and about is not None and event.job not in about:
            text = _say_which_job(_effect(event), event.job, job)
            rows.setdefault(event.job, Row(event.at, event.actor, text, index, 4))
    return list(rows.values())


def _not_given(events: Sequence[Event]) -> set[int]:
    """Return where a claim made a job run that it did not give to its worker."""
    took: dict[str, dict[int, JobId]] = {}
    kept: set[int] = set()
    for index, event in enumerate(events):
        if (
            isinstance(event, Observed)
            and event.verb == "claim"
            and event.after is not None
            and event.after.lease_until
        ):
            took.setdefault(event.actor, {})[index] = event.job
        elif isinstance(event, Return) and event.verb == "claim":
            mine = took.pop(event.actor, {})
            claims = event.outcome.value or ()  # Of a run that was played elsewhere they are what JSON holds.
            given = {each["job"] if isinstance(each, dict) else each.job for each in claims}
            kept.update(at for at, job in mine.items() if event.outcome.done and event.answered and job not in given)
    return kept


def _gravest(rows: list[Row], history: History, last: int, most: int) -> list[Row]:
    """Leave out what says least."""
    final = rows[-1]
    shown = history.events[last]
    again = shown.name if isinstance(shown, Effect) else None
    weights = {row.place: 4 if _is_effect(history.events[row.place], again) else row.weight for row in rows}
    met = next((row for row in reversed(rows[:-1]) if _is_met_by(history.events[row.place], shown)), final)
    ranked = sorted(rows, key=lambda row: (row is not final, row is not met, -weights[row.place], -row.place))
    return sorted(ranked[:most], key=lambda row: row.place)


OPERATED: Final = frozenset({"cancel", "retry", "enqueue", "send"})
"""What is asked for once: where it was done and nothing changed, that is a row too."""
HELD_BACK: Final = PAUSING
"""What an operator does to a tool, and so to all of its jobs."""


def _in_vain(events: Sequence[Event], job: JobId | None, about: set[JobId] | None) -> list[Row]:
    """Return a row for each request that was answered with done and changed nothing."""
    changed: set[tuple[str, str]] = set()
    rows = []
    for index, event in enumerate(events):
        if isinstance(event, Observed) and event.verb in OPERATED:
            changed.add((event.actor, event.verb))
        elif isinstance(event, Return) and event.verb in OPERATED and event.job is not None:
            done, vain = event.outcome.kind is OutcomeKind.DONE, (event.actor, event.verb) not in changed
            changed.discard((event.actor, event.verb))
            if done and vain and (about is None or event.job in about):
                text = _say_which_job(f"{event.verb} done, nothing changed", event.job, job)
                rows.append(Row(event.at, event.actor, text, index, 3))
    return rows


def _is_met_by(event: Event, last: Event) -> bool:
    """Whether it gave the job of the last event the status in which that found it, or did what that does again."""
    if isinstance(event, Effect) and isinstance(last, Effect) and event.name == last.name:
        if last.name == STEP:
            return all(event.data[key] == last.data[key] for key in ("run", "step"))
        return bool(last.data) and event.data == last.data
    if not isinstance(event, Observed) or not isinstance(last, Observed) or event.job != last.job:
        return False
    return event.before is not None and (event.after is None or event.before.status is not event.after.status)


def _is_effect(event: Any, name: str | None) -> bool:
    return isinstance(event, Effect) and event.name == name


def _actor(event: Any) -> str:
    actor: str = getattr(event, "actor", "")
    return actor


def _failed_call(event: Any, index: int) -> Row | None:
    """Return the row of a call for many jobs that failed; one that names a job has a row of its own.

    Also of a failure that is being reported: nothing has come of it yet.
    """
    if isinstance(event, Call) and event.verb == "fail" and event.job is not None:
        errors = [each for each in event.arguments if isinstance(each, str)] if event.arguments else []
        return Row(event.at, event.actor, ": ".join((REPORTS, *errors[:1])), index, 4)
    if not isinstance(event, Return) or event.job is not None or event.outcome.kind is not OutcomeKind.UNKNOWN:
        return None
    return Row(event.at, event.actor, f"{event.verb} raises", index, 4)


def _row_of(event: Any, index: int, job: JobId | None, about: set[JobId] | None, involved: set[str]) -> Row | None:
    if isinstance(event, Fault):
        if event.actor != "*" and event.actor not in involved:
            return None
        return Row(event.at, event.actor, fault_text(event), index, 4)
    if isinstance(event, Return) and event.verb in HELD_BACK and event.outcome.kind is OutcomeKind.DONE:
        return Row(event.at, event.actor, f"{event.verb}s the tool {event.job}", index, 4)
    named = getattr(event, "job", None)
    if named is None or (about is not None and named not in about):
        return None
    if isinstance(event, Observed):
        return Row(event.at, event.actor, _say_which_job(_change(event), named, job), index, _weight(event))
    if isinstance(event, Effect) and event.name != "claimed":
        grave = event.name == "started" or event.name.startswith(ROW_OF)
        return Row(event.at, event.actor, _say_which_job(_effect(event), named, job), index, 4 if grave else 1)
    if isinstance(event, Return) and event.outcome.kind is not OutcomeKind.DONE:
        late = event.verb in ("complete", "fail", "release") and event.outcome.kind is OutcomeKind.REFUSED
        text = _say_which_job(f"{event.verb} {event.outcome.kind}", named, job)
        return Row(event.at, event.actor, text, index, 3 if late else 2)  # a late report may be what does the harm
    return None


def _say_which_job(text: str, named: JobId, job: JobId | None) -> str:
    """Say of which job that is, in a table that is not about this one alone."""
    if job is None:
        return f"{text} {named}"
    return text if named == job else f"{named}: {text}"


def _with_shared_keys(history: History, rows: list[Row]) -> list[Row]:
    """Say at the first row of each job the unique key that another job has too."""
    keys = {event.job: event.after.unique_key for event in history if isinstance(event, Observed) and event.after}
    shared = {key for key, count in Counter(keys.values()).items() if key is not None and count > 1}
    told: set[JobId] = set()
    marked = []
    for row in rows:
        job = getattr(history.events[row.place], "job", None)
        if job is not None and keys.get(job) in shared and job not in told:
            told.add(job)
            row = row._replace(text=f"{row.text}, key {keys[job]!r}")
        marked.append(row)
    return marked


def _weight(event: Observed) -> int:
    """A heartbeat, or a step that leaves status and state as they are, says least."""
    before, after = event.before, event.after
    if event.verb in ("heartbeat", "step heartbeat"):
        return 0
    if after is None or event.verb in _VERBS:
        return 3
    if before is None or before.status is not after.status:
        return 1 if before is None else 3
    if before.queue_state is after.queue_state:
        return 0
    return 1 if after.queue_state in (QueueState.CREATED, QueueState.ACTIVE) else 3


def _change(event: Observed) -> str:
    verb = _VERBS.get(event.verb, event.verb)
    after, before = event.after, event.before
    if after is None:
        return f"{verb}: gone"
    if event.verb == "claim" and after.queue_state is QueueState.ACTIVE:
        return f"claims, attempt {after.attempts}"
    if event.verb == "enqueue" and before is not None:
        return "enqueues it again" + (f" -> {after.status}" if after.status is not before.status else "")
    if event.verb not in _VERBS:
        return _rows_change(event)
    if before is None or event.verb in ("enqueue", "complete", "heartbeat", "cancel"):
        return verb
    error = f": {after.error}" if event.verb == "fail" and after.error else ""
    return f"{verb} -> {after.status}{error}"


def _rows_change(event: Observed) -> str:
    """Say what an application's step made of the two rows; of the job, where it changed both alike or they are one."""
    before, after = event.before, event.after
    told = []
    for name, field in (("tool_job", "status"), ("queue", "queue_state")):
        was, now = getattr(before, field, None), getattr(after, field, None)
        if was != now:
            told.append(f"{name}: {'gone' if now is None else now}")
    if len(told) == 2 and after is not None and after.agrees:
        return f"job: {after.status}"
    return ", ".join(told) or event.verb


def _effect(event: Effect) -> str:
    if event.name == "started":
        return f"starts, attempt {event.attempt}" + (f": {event.data}" if isinstance(event.data, str) else "")
    if event.name == "ended":
        answered = f" ({event.reply})" if event.reply is not None else ""
        return "hangs" if event.data == "hangs" else f"ends: {event.data}{answered}"
    if event.name == STEP:
        return f"{event.data['did']} {event.data['step']}"
    if event.name.startswith(DIFFER_OF):
        return f"{event.name.removeprefix(DIFFER_OF)} differs in {', '.join(event.data) or 'nothing'}"
    if event.name.startswith(ROW_OF):
        at = f" at {event.data['at']}" if event.data["at"] else ""
        return f"breaks {event.name.removeprefix(ROW_OF)}{at}: {event.data['row']}"
    return event.name


def fault_text(event: Fault) -> str:
    """Say what was made to go wrong, or what followed from it."""
    data = event.data if isinstance(event.data, dict) else {}
    if event.name == "session ends":
        return f"THE SESSION of {data.get('whose')} ends"
    if event.name == "raised":
        return f"{'RAISES' if data.get('where') else 'DIES:'} {data.get('error', '')}"
    return word_fault(event)


# the screen -----------------------------------------------------------------------------------------------------------


WIDTH = 80
HEIGHT = 24
MOST_COLUMNS = 4
LONGEST_JOB = 15


def _is_fault(step: Step) -> bool:
    return any(step.kind in kind.steps for kind in kinds().values())


class Line(NamedTuple):
    """A line of a screen, and how a terminal may show it."""

    text: str
    style: str = ""


def first_screen(
    run: Run,
    *,
    title: str = "",
    replay: str = "",
    written: str = "",
    file: str = "",
    lead: str = "",
    default: Settings = DEFAULTS,
    usual: str = "default",
    width: int = WIDTH,
    height: int = HEIGHT,
) -> list[Line]:
    """Return the screen, at most `height` lines of `width` columns; `replay` may be broken over more, a path never.

    `title` says what was run, `replay` is the command that shows it again, `written` the file that was written for it,
    `file` the one that it was read from, `lead` the anomaly that it is about: the gravest, unless said; `default` the
    settings that are no news, and `usual` what they are called.
    """
    head = [Line(clip(f"{run.verdict.upper()}  {one_line(title or run.scenario.title)}", width), "bold red")]
    head += _breach(run, width, lead)
    foot = [Line(text) for text in _command(replay, width)] if replay else []
    # A path that is broken or cut cannot be opened.
    foot += [Line(f"{label}: {one_line(path)}") for label, path in (("Written", written), ("In file", file)) if path]
    causes = causes_of(run, lead, width=width, default=default, usual=usual, also=1)
    raised = _raised(run, lead, width, 2)  # Without it, a finding that an error leads to tells nothing of that.
    free = height - len(head) - len(foot) - 2 - len(raised)
    table = _table(run, width, min(MOST, free - len(causes) - 1), lead)
    table += _cut_error(run, table, lead, width, min(3, free - len(table) - len(causes)))
    spare = free - len(table) - len(causes)
    table += raised
    causes = causes_of(run, lead, width=width, default=default, usual=usual, also=max(1, 1 + spare))
    shown = [*head, Line(""), *table, Line(""), *causes, *foot][:height]
    return [
        *shown,
        *meeting_lines(run, lead, width),
        *source_lines(run, width),
        *frame_lines(frames_of(run, lead), width),
    ]


MEETING_LINES: Final = 12
"""Lines at most for the steps of jobs that met."""
MEETING_JOBS: Final = 4
"""Jobs at most of which these are the steps."""


def meeting_of(run: Run, lead: str = "") -> tuple[tuple[JobId, str], ...]:
    """Return the steps of jobs, each with its job, from where the first two met; empty where none did.

    Only where what one job did to another may be the cause: nothing went wrong beside, or the
    anomaly is of no single job, such as that of a check of the user's own.
    """
    anomaly = run.led_by(lead)
    steps = [(job, place.removeprefix("reply to ")) for job, place in run.passed]
    ends = {job: number for number, (job, _) in enumerate(steps)}
    began: set[JobId] = set()
    for number, (job, _) in enumerate(steps):
        if began - {job}:
            alone = anomaly is not None and anomaly.job is not None and bool(run.tape)
            return () if alone else tuple(steps[max(0, number - 1) :])
        began = {*began, job} if ends[job] > number else began - {job}
    return ()


def meeting_lines(run: Run, lead: str = "", width: int = WIDTH) -> list[Line]:
    """Set the steps of jobs that met side by side: to be read from left to right, and then down."""
    met = meeting_of(run, lead)
    every = list(dict.fromkeys(job for job, _ in met))
    jobs = every[:MEETING_JOBS]
    if not jobs:
        return []
    steps = [step for step in met if step[0] in jobs]
    rows: list[dict[JobId, str]] = [{}]
    for job, place in steps:
        if any(jobs.index(one) >= jobs.index(job) for one in rows[-1]):
            rows.append({})
        rows[-1][job] = place
    # What is the same for all stands above them: the file, or the function in it.
    places = {place.partition(" in ")[2] for _, place in steps}
    files = {place.partition(":")[0] for place in places}
    where = "" if len(files) > 1 or "" in files else f" in {files.pop()}" if len(places) > 1 else f" in {places.pop()}"
    short = {place: place.removesuffix(where).replace(f"{where}:", " in ") if where else place for _, place in steps}
    earlier = [Line(f"  ... {len(rows) - MEETING_LINES} lines")] if len(rows) > MEETING_LINES else []
    cell = max(12, (width - 2) // len(jobs))
    heading = "".join(pad(job, cell) for job in jobs)
    cells = ("".join(pad(clip(short.get(row.get(job, ""), ""), cell - 2), cell) for job in jobs) for row in rows)
    shown = [Line(clip(f"  {text}".rstrip(), width)) for text in (heading, *cells)]
    of = f" of {MEETING_JOBS} of {len(every)} jobs" if len(every) > MEETING_JOBS else ""
    title = Line(clip(f"Steps{of}{where}, from left to right as they came:", width), "bold")
    changed = [*dict.fromkeys(run.remembered)]
    told = wrap("They changed in memory: ", "; ".join(changed), width=width, lines=2) if changed else []
    return [Line(""), title, shown[0], *earlier, *shown[1:][-MEETING_LINES:], *map(Line, told)]


STATEMENT_LINES: Final = 10
"""Lines at most for the place and what stands there."""


def source_lines(run: Run, width: int = WIDTH) -> list[Line]:
    """Return where that is written which caused the anomaly, and the beginning of what stands there."""
    if run.source is None:
        return []
    title, lines, matters = run.source
    room = STATEMENT_LINES - 1
    first = max(0, min(matters - room // 2, len(lines) - room))
    shown = [clip(f"  {line}", width) for line in lines[first : first + room]]
    before = [f"  ... {first} lines"] if first else []
    left = len(lines) - first - len(shown)
    more = [f"  ... {left} more lines"] if left else []
    return [Line(""), Line(clip(f"Source: {title}", width), "bold"), *map(Line, (*before, *shown, *more))]


def frame_lines(frames: Sequence[CodeFrame], width: int = WIDTH) -> list[Line]:
    """Return each line that an anomaly turns on, with those around it; the terminal's editor opens the first words."""
    lines: list[Line] = []
    for frame in frames:
        lines += [Line(""), *(Line(text, "bold") for text in wrap("", frame.title, width=width, lines=2))]
        lines += [Line(clip(text, width)) for text in frame.text]
    return lines


def screen_text(lines: Sequence[Line]) -> str:
    """Write a screen without any style."""
    return "".join(f"{printable(line.text)}\n" for line in lines)


def _breach(run: Run, width: int, lead: str) -> list[Line]:
    anomaly = run.led_by(lead)
    if anomaly is not None:
        kind = kind_of(anomaly.name)
        lost = "" if kind.guarantee is Guarantee.OWN else str(kind.guarantee)
        told = anomaly.message
        for actor, name in late_calls(run).items():
            told = told.replace(f"{actor} ", f"{name}, ")
        here = f"{f'job {anomaly.job}, ' if anomaly.job else ''}{moment(anomaly.at)}: {told}"
        return [
            *(Line(text, "bold") for text in wrap("", f"{anomaly.name}: {kind.sentence}", width=width, lines=2)),
            *(Line(text) for text in wrap(f"{kind.label}: ", lost, width=width, lines=2) if lost),
            *(Line(text) for text in wrap("Here: ", here, width=width, lines=2)),
        ]
    problems = run.failures or run.uncovered
    shown = [Line(text) for problem in problems[:3] for text in wrap("", problem, width=width, lines=2)]
    return [*shown, Line(f"and {len(problems) - 3} more")] if len(problems) > 3 else shown


def moment(at: Instant) -> str:
    """Write an instant relative to the start of the run."""
    return f"t-{format_duration(-at)}" if at < 0 else f"t+{format_duration(at)}"


def subject(run: Run, lead: str = "") -> JobId | None:
    """Return the job that the screen is about."""
    anomaly = run.led_by(lead)
    if anomaly is not None:
        return anomaly.job
    jobs = list(run.scenario.plan_of())
    named = [job for job in run.scenario.expect if any(f"{job}: " in failure for failure in run.failures)]
    return next(iter([*named, *(jobs if len(jobs) == 1 else [])]), None)


def late_calls(run: Run) -> dict[str, str]:
    """Name each request that arrived late as what it is, `w1's 3rd complete a, late`: by its name in the history."""
    drawn: dict[str, list[int]] = {}
    for item in run.tape:
        drawn.setdefault(item.label, []).append(item.nth)
    waiting: list[tuple[str, str]] = []
    named: dict[str, str] = {}
    for event in run.history:
        if isinstance(event, Fault) and (fault := fault_of(event)) is not None and fault.arrives_late:
            point = str(event.data.get("at", ""))
            which = drawn.get(f"{event.actor} {point}")
            waiting.append(
                (
                    f" of {event.actor}",
                    f"{ordinal(nth)} {point}" if (nth := which.pop(0) if which else 1) > 1 else point,
                )
            )
        elif isinstance(event, Call) and event.actor.startswith("message ") and event.actor not in named:
            point = event.verb if event.job is None else f"{event.verb} {event.job}"
            mine = [each for each in waiting if event.actor.endswith(each[0]) and each[1].endswith(point)]
            if mine:
                waiting.remove(mine[0])
                named[event.actor] = f"{mine[0][0].removeprefix(' of ')}'s {mine[0][1]}, late"
    return named


def timeline(
    history: History,
    *,
    job: JobId | None = None,
    others: Collection[JobId] = (),
    beside: bool = False,
    until: int | None = None,
    most: int = MOST,
    width: int = WIDTH,
    names: Mapping[str, str] | None = None,
) -> list[Line]:
    """Return what happened as at most `most` rows, one column for each actor; without `job`, to all jobs.

    With `beside`, rows that the job leaves show the other jobs. `names` are what some actors are
    called in the place of their own names. `…` before a time: rows are left out here.
    """
    job = job or _only_job(history, until)
    rows = rows_of(history, job=job, others=others, beside=beside, until=until, most=max(1, most))
    if job is None:
        rows = _with_shared_keys(history, rows)
    rows = [row._replace(actor=(names or {}).get(row.actor, row.actor)) for row in rows]
    if not rows:
        return [Line("Nothing happened.")]
    every = rows_of(history, job=job, others=others, until=until, most=len(history))
    marked = _with_gaps(rows, every)
    columns = _columns(rows)
    about = "" if job is None else f"job {job}"
    times = max(8, min(len(about), LONGEST_JOB) + 1, max(map(len, marked)) + 1)
    cell = (width - times) // len(columns)
    cells = [(about, times), *((one_line(name), cell) for name in columns)]
    header = "".join(pad(text, width - 1) + " " for text, width in cells)  # A name that is cut touches no other.
    lines = [_row_line(row, columns, pad(time, times), cell) for row, time in zip(rows, marked, strict=True)]
    return [Line(header.rstrip(), "bold"), *lines]


def _with_gaps(rows: Sequence[Row], every: Sequence[Row]) -> list[str]:
    """Return the times of rows, marked where rows before them are left out that are more than detail."""
    shown = {row.place for row in rows}
    left_out = [row.place for row in every if row.place not in shown and row.weight > 1]
    bounds = pairwise([-1, *(row.place for row in rows)])
    gaps = [any(low < place < high for place in left_out) for low, high in bounds]
    return [f"…{moment(row.at)}" if gap else moment(row.at) for row, gap in zip(rows, gaps, strict=True)]


def _only_job(history: History, until: int | None) -> JobId | None:
    events = history.events if until is None else history.events[: until + 1]
    jobs = {named for event in events if (named := getattr(event, "job", None)) is not None}
    return jobs.pop() if len(jobs) == 1 else None


def _table(run: Run, width: int, room: int, lead: str) -> list[Line]:
    anomaly = run.led_by(lead)
    until, others = (None, ()) if anomaly is None else (anomaly.event, anomaly.others)
    job, names = subject(run, lead), late_calls(run)
    return timeline(run.history, job=job, others=others, beside=True, until=until, most=room, width=width, names=names)


def _cut_error(run: Run, table: Sequence[Line], lead: str, width: int, most: int) -> list[Line]:
    """Write out the last error for which its row had no room, in at most `most` lines."""
    anomaly = run.led_by(lead)
    until = None if anomaly is None else anomaly.event
    job = subject(run, lead) or _only_job(run.history, until)
    rows = rows_of(run.history, job=job, until=until, most=len(run.history)) if most > 0 and job else []
    for row in reversed(rows):
        verb, _, error = one_line(row.text).partition(": ")
        if error and verb.startswith((_VERBS["fail"], REPORTS)):
            cut = not any(error in line.text for line in table)
            return [Line(text) for text in wrap("Failed with: ", error, width=width, lines=most)] if cut else []
    return []


def _raised(run: Run, lead: str, width: int, most: int) -> list[Line]:
    """Write out the error that a verb raised most often: its rows say `unknown`, as if the reply was lost."""
    anomaly = run.led_by(lead)
    until, message = (None, "") if anomaly is None else (anomaly.event + 1, anomaly.message)
    job = subject(run, lead)
    errors = Counter(
        (event.verb, event.outcome.reason, PurePath(run.raised[event.number]).name)
        for event in run.history.events[:until]
        if isinstance(event, Return) and event.number in run.raised and (job is None or event.job in (None, job))
    )
    if most <= 0 or not errors:
        return []
    (verb, error, place), count = errors.most_common(1)[0]
    if error in message and not place:
        return []
    times = f" ({count} times)" if count > 1 else ""
    told = f"{verb}{times}{f', at {place}' if place else ''}{'' if error in message else f': {error}'}"
    return [Line(text) for text in wrap("Raised by ", told, width=width, lines=most)]


def _columns(rows: list[Row]) -> list[str]:
    """One column for each actor; where there are too many, those with least to tell share the last."""
    told: dict[str, int] = {}
    for row in rows:
        told[row.actor] = told.get(row.actor, 0) + 1
    if len(told) <= MOST_COLUMNS:
        return list(told)
    kept = sorted(told, key=lambda name: -told[name])[: MOST_COLUMNS - 1]
    return [*(name for name in told if name in kept), "others"]


def _row_line(row: Row, columns: list[str], time: str, cell: int) -> Line:
    alone = row.actor in columns
    column = columns.index(row.actor) if alone else len(columns) - 1
    named = alone or row.text.startswith(f"{row.actor}: ")
    text = one_line(row.text if named else f"{row.actor} {row.text}")
    cells = time + " " * (cell * column)
    # The last thing in its line may run on into the empty columns beside it.
    return Line((cells + clip(text, cell * (len(columns) - column))).rstrip())


def _causes(run: Run, width: int) -> list[Line]:
    """Say what it took: the faults, then the choices that only put steps in another order."""
    effects = {f"{event.name} {event.job}" for event in run.history if isinstance(event, Effect)}
    causes = [cause_of(item, effects=effects) for item in run.tape if item.label != "jitter"]
    faults = list(dict.fromkeys(cause.words for cause in causes if cause.is_fault))
    faults += [_step_text(step) for step in run.scenario.steps[: run.played] if _is_fault(step)]
    orders = _orders([cause for cause in causes if not cause.is_fault])
    had = _list_line("With: ", ingredients(run.scenario), width, 2)
    answers = _answers(run)
    if not faults and not orders:
        return [*_without_cause(run, answers, width), *had]
    had = _list_line("Answers from outside: ", answers, width, 2) + had
    label = "No fault was needed, only an order: " if not faults else "Order: "
    lines = _list_line("One fault: " if len(faults) == 1 else f"{len(faults)} faults: ", faults, width, 3)
    return [*lines, *_list_line(label, orders, width, 2 if faults else 3), *had]


def ingredients(scenario: Scenario) -> list[str]:
    """Return what a run had that is no fault and in no row: all of it is needed, once the run was shrunk."""
    told = [
        f"the tool {pause.tool} paused from {format_duration(pause.at)} to {format_duration(pause.at + pause.lasts)}"
        for pause in scenario.pauses
    ]
    told += [f"{worker} serving only {', '.join(tools)}" for worker, tools in scenario.serves.items()]
    serial = {
        plan.serial_key: [each.name for each in scenario.jobs if each.serial_key == plan.serial_key]
        for plan in scenario.jobs
    }
    told += [f"{' and '.join(names)} under one serial key" for key, names in serial.items() if key and len(names) > 1]
    told += [_PRESETS[counter].format(value) for counter, value in scenario.presets.items()]
    for plan in scenario.jobs:
        if plan.cron is not None:
            told.append(f"{plan.name} at {plan.cron!r} in {plan.zone}{_clock_change(plan)}")
        elif plan.scheduled:
            told.append(f"{plan.name} every {format_duration(plan.every or 0)}")
        if plan.transaction == "rollback":
            told.append(f"{plan.name} in a transaction that is rolled back")
        terms = [(words, at) for name, words in _TERMS.items() if (at := getattr(plan, name)) is not None]
        told += [words.format(plan.name, format_duration(at)) for words, at in terms]
    if (first := min((plan.at for plan in scenario.jobs), default=0)) > DAY:
        from job_harness.core.calendars import local_time  # zoneinfo, which most screens do without

        told.append(f"all sent from {local_time('UTC', first)} on")
    return told + (["maintenance half-way to what is due"] if scenario.early_rounds else [])


_PRESETS: Final = {"token": "tokens from {} on", "put_off": "{} jobs that wait for a later day"}
_TERMS: Final = {
    "lease": "{} with a lease of {}",
    "timeout": "{} with a timeout of {}",
    "retry_delay": "{} with a retry delay of {}",
    "unique_for": "{} keeping its key for {}",
    "start_after": "{} due {} after it is sent",
}


def _clock_change(plan: JobPlan) -> str:
    """Say when the clocks of a schedule's zone are changed around its first slots."""
    from job_harness.core.calendars import changes_of_clock  # zoneinfo, which most screens do without

    changes = changes_of_clock(plan.cron or "", plan.zone, plan.count)
    return f", whose clocks change at {', '.join(changes)}" if changes else ""


ALSO = "Also shows: "
UNBROKEN = 10_000
"""A width at which every sentence stays on its line."""


def causes_of(
    run: Run,
    lead: str = "",
    *,
    width: int = UNBROKEN,
    default: Settings = DEFAULTS,
    usual: str = "default",
    also: int = 1,
) -> list[Line]:
    """Return what stands below the rows: what it took, under which settings, what fixes it, and what else showed.

    What else showed is explained where that takes at most `also` lines.
    """
    causes = [] if run.elsewhere else [*_causes(run, width), *_overlap(run, width, lead)]
    return [*causes, *_settings(run, width, default, usual), *_fixes(run, width), *_also(run, width, lead, also)]


def _overlap(run: Run, width: int, lead: str) -> list[Line]:
    """Say that the last change was begun before the one that it met had taken effect: what it had read was old.

    The rows do not show it, for each is the moment in which a change took effect.
    """
    anomaly, job = run.led_by(lead), subject(run, lead)
    if anomaly is None or job is None:
        return []
    events = run.history.events[: anomaly.event + 1]
    changes = [(place, event) for place, event in enumerate(events) if _changes_status(event, job)]
    if not changes:
        return []
    place, last = changes[-1]
    calls = (at for at in range(place - 1, -1, -1) if _is_call(events[at], last))
    began = next(calls, place)
    met = [event for at, event in changes if at > began and event.actor != last.actor]
    if not met:
        return []
    told = f"{last.actor} began `{last.verb}` before {met[-1].actor}'s `{met[-1].verb}` took effect"
    return [Line(text) for text in wrap("Overlap: ", told, width=width, lines=2)]


def _changes_status(event: Event, job: JobId) -> TypeGuard[Observed]:
    if not isinstance(event, Observed) or event.job != job:
        return False
    before, after = event.before, event.after
    return before is None or after is None or before.status is not after.status or before.token != after.token


def _is_call(event: Event, change: Observed) -> bool:
    return isinstance(event, Call) and (event.actor, event.verb) == (change.actor, change.verb)


def _orders(causes: Sequence[Cause]) -> list[str]:
    """Say at each gate once who came first, and how often."""
    gates: dict[str, dict[str, int]] = {}
    for cause in causes:
        ahead = gates.setdefault(cause.gate, {})
        ahead[cause.words] = ahead.get(cause.words, 0) + 1
    told = []
    for gate, ahead in gates.items():
        first = ", ".join(words if count == 1 else f"{words} ({count} times)" for words, count in ahead.items())
        told.append(f"{first} {gate}".rstrip())
    return told


def _answers(run: Run) -> list[str]:
    """List the answers from outside that no caller hopes for; those of a host in trouble go with that fault."""
    ends = (event for event in run.history if isinstance(event, Effect) and event.name == "ended")
    odd = (event for event in ends if event.reply is not None and event.identity is None)
    return list(dict.fromkeys(f"{event.job} gets {event.reply}" for event in odd))


def _without_cause(run: Run, answers: Sequence[str], width: int) -> list[Line]:
    """Say that nothing was made to go wrong: a step that would have done so was not reached, or there is none."""
    missed = [_step_text(step) for step in run.scenario.steps if _is_fault(step)]
    if missed:
        return _list_line("Not reached: ", missed, width, 2)
    struck = [event for event in run.history if type(event) is Fault]
    died = {event.data["at"] for event in struck if event.name in events_of(Excuse.DEATH)}
    exits = [job for job, plan in run.scenario.plan_of().items() if Ending.EXIT in plan.outcomes]
    if downed := [f"job {job} takes its worker down" for job in exits if f"running {job}" in died]:
        return _list_line("No fault was needed: ", [f"{'; '.join(downed[:4])}."], width, 2)
    jumps = [event for event in struck if event.name in events_of(Excuse.LATE) and event.data.get("by")]
    if jumps:
        told = [f"{format_duration(event.data['for'])} at {moment(event.at)}" for event in jumps[:4]]
        return _list_line("The test moved the clock over a running job: ", told, width, 2)
    if answers:
        return _list_line("No fault was needed, only an answer from outside: ", answers, width, 3)
    return [Line("No fault was needed: everybody ran on time.")]


def _list_line(label: str, items: Sequence[str], width: int, lines: int) -> list[Line]:
    more = f"; and {len(items) - 4} more" if len(items) > 4 else ""
    return [Line(text) for text in wrap(label, "; ".join(items[:4]) + more, width=width, lines=lines)] if items else []


def _step_text(step: Step) -> str:
    return f"{step.text} (line {step.line})" if step.line else step.text


def _settings(run: Run, width: int, default: Settings, usual: str) -> list[Line]:
    changed = changed_settings(run.scenario.settings, default=default)
    if not changed:
        return []
    words = ", ".join(f"{name} {value} ({usual} {other})" for name, (value, other) in changed.items())
    return [Line(text) for text in wrap("Settings: ", words, width=width, lines=2)]


def _fixes(run: Run, width: int) -> list[Line]:
    label, told = fix_line(run.trials)
    return [Line(text, "green") for text in wrap(label, told, width=width, lines=3)] if told else []


def _also(run: Run, width: int, lead: str, most: int) -> list[Line]:
    gravest = run.led_by(lead)
    names = sorted(run.found - ({gravest.name} if gravest is not None else set()))
    told = [Line(text) for text in _others(names, width, most)] if names else []
    if run.verdict is Verdict.FAIL and gravest is not None:
        told += _list_line("Unmet: ", [_without_place(failure, run) for failure in run.failures], width, 2)
    return told


def _others(names: Sequence[str], width: int, most: int) -> list[str]:
    """Name what else went wrong in this run, and say what it is where `most` lines hold that."""
    meanings = [f"{name} ({_in_brackets(kind_of(name).sentence)})" for name in names]
    lines = wrap(ALSO, "; ".join(meanings), width=width, lines=most + 1)
    return lines if len(lines) <= most else wrap(ALSO, ", ".join(names), width=width, lines=1)


def _in_brackets(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:].rstrip(".")


def _without_place(failure: str, run: Run) -> str:
    """Return an unmet expectation without its file, which the screen names anyway."""
    return failure.removeprefix(f"{run.scenario.path}:").partition(": ")[2] if run.scenario.path else failure


_WORDS = re.compile(r"""(?:\\.|[^\s'"\\]|'[^']*'|"(?:\\.|[^"\\])*"|['"\\])+""")
"""The words of a command; what is quoted is in one."""


def _command(replay: str, width: int) -> list[str]:
    """Break a command only where a shell allows it."""
    lines, line = [], "Replay: "
    words = _WORDS.findall(replay)
    for number, word in enumerate(words):
        last = number == len(words) - 1
        if line.strip() and len(line) + len(word) + (0 if last else 2) > width and not line.endswith(": "):
            lines.append(f"{line.rstrip()} \\")
            line = "  "
        line += word + " "
    return [*lines, line.rstrip()]
