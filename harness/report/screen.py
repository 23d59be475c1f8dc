"""The first screen of a run that failed: what broke, what it costs, what happened, and how to see it again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from harness.history.event import History
from harness.invariants import ANOMALIES
from harness.model.duration import Instant, format_duration
from harness.model.job import JobId
from harness.printable import printable
from harness.report.rows import MOST, Row, rows_of
from harness.report.wording import changed_settings, clip, one_line, pad, wrap
from harness.run.trial import stopped_by
from harness.run.verdict import Run, Verdict
from harness.scenario.step import Step

WIDTH = 80
HEIGHT = 24
MOST_COLUMNS = 4
LONGEST_JOB = 15
FAULT_STEPS = frozenset({"crash", "pause", "stop", "lose", "twice", "jump", "clock"})


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
    width: int = WIDTH,
    height: int = HEIGHT,
) -> list[Line]:
    """Answer the screen, at most `height` lines of `width` columns; `replay` alone may be broken over more.

    `title` says what was run, `replay` is the command that shows it again, `written` the file that was written for it,
    `file` the one that it was read from, `lead` the anomaly that it is about: the gravest, unless said.
    """
    head = [Line(clip(f"{run.verdict.upper()}  {one_line(title or run.scenario.title)}", width), "bold red")]
    head += _breach(run, width, lead)
    foot = [*_normal(run, width), *_settings(run, width), *_stopped(run, width), *_also(run, width, lead)]
    foot += [Line(text) for text in _command(replay, width)] if replay else []
    foot += [Line(clip(f"Written: {one_line(written)}", width))] if written else []
    foot += [Line(clip(f"In file: {one_line(file)}", width))] if file else []
    room = min(MOST, height - len(head) - len(foot) - 3)
    return [*head, Line(""), *_table(run, width, room, lead), Line(""), *foot][:height]


def screen_text(lines: Sequence[Line]) -> str:
    """Write a screen without any style."""
    return "".join(f"{printable(line.text)}\n" for line in lines)


def _breach(run: Run, width: int, lead: str) -> list[Line]:
    anomaly = run.led_by(lead)
    if anomaly is not None:
        kind = ANOMALIES[anomaly.name][1]
        here = f"{f'job {anomaly.job}, ' if anomaly.job else ''}{moment(anomaly.at)}: {anomaly.message}"
        return [
            *(Line(text, "bold") for text in wrap("", f"{anomaly.name}: {kind.sentence}", width=width, lines=2)),
            *(Line(text) for text in wrap("Guarantee lost: ", str(kind.guarantee), width=width, lines=2)),
            *(Line(text) for text in wrap("Here: ", here, width=width, lines=2)),
        ]
    told = run.failures or run.uncovered
    shown = [Line(text) for problem in told[:3] for text in wrap("", problem, width=width, lines=2)]
    return [*shown, Line(f"and {len(told) - 3} more")] if len(told) > 3 else shown


def moment(at: Instant) -> str:
    """Write an instant relative to the start of the run."""
    return f"t+{format_duration(at)}"


def subject(run: Run, lead: str = "") -> JobId | None:
    """Answer the job that the screen is about."""
    anomaly = run.led_by(lead)
    if anomaly is not None:
        return anomaly.job
    jobs = list(run.scenario.plan_of())
    named = [job for job in run.scenario.expect if any(f"{job}: " in failure for failure in run.failures)]
    return next(iter([*named, *(jobs if len(jobs) == 1 else [])]), None)


def timeline(
    history: History, *, job: JobId | None = None, until: int | None = None, most: int = MOST, width: int = WIDTH
) -> list[Line]:
    """Answer what happened as at most `most` rows, one column for each actor; without `job`, to all jobs."""
    rows = rows_of(history, job=job, until=until, most=max(1, most))
    if not rows:
        return [Line("Nothing happened.")]
    columns = _columns(rows)
    about = "" if job is None else f"job {job}"
    times = max(8, min(len(about), LONGEST_JOB) + 1, max(len(moment(row.at)) for row in rows) + 1)
    cell = (width - times) // len(columns)
    header = pad(about, times) + "".join(pad(one_line(name), cell) for name in columns)
    return [Line(header.rstrip(), "bold"), *(_line(row, columns, times, cell) for row in rows)]


def _table(run: Run, width: int, room: int, lead: str) -> list[Line]:
    anomaly = run.led_by(lead)
    until = None if anomaly is None else anomaly.event
    return timeline(run.history, job=subject(run, lead), until=until, most=room, width=width)


def _columns(rows: list[Row]) -> list[str]:
    """One column for each actor; where there are too many, those with least to tell share the last."""
    told: dict[str, int] = {}
    for row in rows:
        told[row.actor] = told.get(row.actor, 0) + 1
    if len(told) <= MOST_COLUMNS:
        return list(told)
    kept = sorted(told, key=lambda name: -told[name])[: MOST_COLUMNS - 1]
    return [*(name for name in told if name in kept), "others"]


def _line(row: Row, columns: list[str], times: int, cell: int) -> Line:
    alone = row.actor in columns
    column = columns.index(row.actor) if alone else len(columns) - 1
    named = alone or row.text.startswith(f"{row.actor}: ")
    text = one_line(row.text if named else f"{row.actor} {row.text}")
    cells = pad(moment(row.at), times) + " " * (cell * column)
    # The last thing in its line may run on into the empty columns beside it.
    return Line((cells + clip(text, cell * (len(columns) - column))).rstrip())


def _normal(run: Run, width: int) -> list[Line]:
    deviations = [str(item) for item in run.tape if item.label != "jitter"]
    deviations += [_step_text(step) for step in run.scenario.steps if step.kind in FAULT_STEPS]
    if not deviations:
        return [Line("Normal run: nothing deviated.")]
    more = f"; and {len(deviations) - 4} more" if len(deviations) > 4 else ""
    return [Line(text) for text in wrap("Normal except: ", "; ".join(deviations[:4]) + more, width=width, lines=3)]


def _step_text(step: Step) -> str:
    return f"{step.text} (line {step.line})" if step.line else step.text


def _settings(run: Run, width: int) -> list[Line]:
    changed = changed_settings(run.scenario.settings)
    if not changed:
        return []
    words = ", ".join(f"{name} {value} (default {default})" for name, (value, default) in changed.items())
    return [Line(text) for text in wrap("Settings: ", words, width=width, lines=2)]


def _stopped(run: Run, width: int) -> list[Line]:
    told = stopped_by(run.trials)
    return [Line(text, "green") for text in wrap("Stopped by: ", told, width=width, lines=3)] if told else []


def _also(run: Run, width: int, lead: str) -> list[Line]:
    gravest = run.led_by(lead)
    names = sorted(run.found - ({gravest.name} if gravest is not None else set()))
    if run.verdict is Verdict.FAIL and gravest is not None and run.failures:
        names.append(f"{len(run.failures)} unmet expectation{'s' if len(run.failures) > 1 else ''}")
    return [Line(text) for text in wrap("Also: ", ", ".join(names), width=width, lines=1)] if names else []


def _command(replay: str, width: int) -> list[str]:
    """Break a command only where a shell allows it."""
    lines, line = [], "Replay: "
    words = replay.split(" ")
    for number, word in enumerate(words):
        last = number == len(words) - 1
        if line.strip() and len(line) + len(word) + (0 if last else 2) > width and not line.endswith(": "):
            lines.append(f"{line.rstrip()} \\")
            line = "  "
        line += word + " "
    return [*lines, line.rstrip()]
