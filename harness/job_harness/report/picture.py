"""A run, a report or a search as one HTML file: time goes down the page, beside it the lease and the runs of each job.

Made from the JSON of a run (`docs/contracts/run_json.md`) and nothing else, by the template in
`picture_page/`. Hides how events become rows of a grid, which rows a bar spans, and where another
run goes its own way. The file needs no network and no other file; without its script it still shows
everything but the slider. Knows no file and no terminal.

Whatever comes from a run is text here: the template escapes all of it, and the script reads it from
a JSON block that cannot end early.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import SequenceMatcher
from importlib import resources
from itertools import pairwise
from typing import Any, Final, NamedTuple, TypeAlias

from job_harness.core.faults import CONSEQUENCES, events_of, lost_by
from job_harness.core.history import Excuse
from job_harness.core.invariants import kind_of
from job_harness.core.model import format_duration
from job_harness.core.printable import printable
from job_harness.report.screen import ALSO, moment

Json: TypeAlias = Mapping[str, Any]

MOST_RUNS: Final = 8
"""At most this many runs of a report are drawn; the rest is listed."""
MOST_JOBS: Final = 3
"""At most this many jobs have bars beside the rows: the one that the anomaly is about, and those with most to show."""
MOST_ROWS: Final = 600
MOST_GHOSTS: Final = 3
"""At most this many steps of the passing run are shown beyond the anomaly: enough to see how it went on instead."""
SHOWN_AFTER: Final = 12
"""What followed the anomaly is shown at once where it is no more than this many rows; more of it by a button."""
LONGEST_SQL: Final = 4_000
LONGEST: Final = 400
"""Characters of one value: an input of a megabyte tells nothing here."""
SHOWN_FIELDS: Final = ("status", "queue_state", "attempts", "token", "worker", "lease_until")
"""Of a job's row, in the table of all jobs."""
TIMES: Final = frozenset(
    ("lease_until", "created_at", "start_after", "started_at", "completed_at", "expires_at", "slot")
)


# from a document to a page --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Drawing:
    """One run and the words around it, in the order in which they are read."""

    run: Json
    title: str
    verdict: str
    heading: str = ""
    """What stands large where no anomaly does."""
    replay: str = ""
    place: str = ""
    """The scenario that was run or written, with its line where one is known."""
    lead: str = ""
    """The anomaly that it is about; the first one of the run, unless said."""
    minimal: bool = False
    """Whether every deviation was shown to be necessary: without any one of them the anomaly does not happen."""
    notes: tuple[str, ...] = ()
    recorded: bool = False
    """Whether production wrote down what happened: nothing replays it, and no engine showed its SQL."""

    @property
    def again(self) -> str:
        """Return what its command does."""
        return "Whole story" if self.recorded else "Replay"


def picture(document: Json) -> str:
    """Return the HTML page of what `run --json`, `explore --json` or `exhaust --json` writes.

    The same document gives the same bytes.
    """
    drawings = list(_drawings(document))
    shown = [_page_of(drawing, number) for number, drawing in enumerate(drawings[:MOST_RUNS], 1)]
    verdict = str(document.get("verdict", "inconclusive"))
    return _render(
        title=_title(document, drawings),
        verdict=verdict,
        shown=shown,
        left_out=[drawing.title for drawing in drawings[MOST_RUNS:]],
        cases=_cases(document),
        unjudged=_unjudged(document),
        campaign=_campaign(document),
    )


def picture_of(drawing: Drawing) -> str:
    """Return the HTML page of one run."""
    shown = [_page_of(drawing, 1)]
    return _render(
        title=drawing.title, verdict=drawing.verdict, shown=shown, left_out=[], cases=[], unjudged=[], campaign=None
    )


def _drawings(document: Json) -> Iterator[Drawing]:
    """Return what is drawn: the failures of a report, or its only case; every finding of a search."""
    cases = [case for case in document.get("cases", ()) if case["run"] is not None and case["run"]["events"]]
    failed = [case for case in cases if case["exit_code"] != 0]
    for case in failed or (cases[:1] if len(cases) == 1 else [c for c in cases if c["control"] is None][:1]):
        control = "" if case["control"] is None else f" [control {case['control']['name']}]"
        yield Drawing(
            case["run"],
            title=f"{case['scenario'] or case['title'] or 'scenario'}{control} on {case['engine']}",
            verdict=case["verdict"],
            heading=case["title"],
            replay=case["replay"],
            place=f"{case['scenario']}:{case['line']}" if case["scenario"] else "",
            lead=_gravest(case),
            notes=tuple(text for text in (case["hint"],) if text),
            recorded=bool(document.get("recorded")),
        )
    for finding in document.get("findings", ()):
        yield Drawing(
            finding["run"],
            title=f"{finding['anomaly']} on {document['engine']}",
            verdict="fail",
            replay=finding["replay"] or "",
            place=finding["written"] or "",
            lead=finding["anomaly"],
            minimal=bool(finding["minimal"]),
            notes=tuple(f"Replayed on {engine}: {told}." for engine, told in finding["replays"].items()),
        )


def _gravest(case: Json) -> str:
    """Return the anomaly that the message names: the gravest."""
    named: str = case["message"].partition(":")[0]
    return named if any(anomaly["name"] == named for anomaly in case["run"]["anomalies"]) else ""


def _title(document: Json, drawings: Sequence[Drawing]) -> str:
    if len(drawings) == 1:
        return drawings[0].title
    if "findings" in document:
        return f"Search of {document['engine']}"
    return f"{len(document.get('cases', ()))} cases"


def _cases(document: Json) -> list[dict[str, str]]:
    """List every case where there is more than one."""
    cases = document.get("cases", ())
    if len(cases) < 2:
        return []
    return [
        {
            "verdict": case["verdict"],
            "name": case["scenario"] + (f" [control {case['control']['name']}]" if case["control"] else ""),
            "engine": case["engine"],
            "message": case["message"],
        }
        for case in cases
    ]


def _unjudged(document: Json) -> list[str]:
    """Say which cases were not run, and which files are no scenarios."""
    run = len(document.get("cases", ()))
    planned = document.get("planned", run)
    left_out = [f"{planned - run} of {planned} cases were not run."] if run < planned else []
    return left_out + [error["message"] for error in document.get("errors", ())]


# a search -------------------------------------------------------------------------------------------------------------


FEW: Final = 20
"""Runs looked at below which nothing is said of what a search left out: it ended with its first finding."""


def _campaign(document: Json) -> dict[str, Any] | None:
    """Return what a search covered: its figures, its situations, and where each fault struck."""
    if "findings" not in document:
        return None
    coverage = document.get("coverage") or {}
    seen = int(coverage.get("observed_runs", 0))
    figures = {
        name: f"{document[name]:,}".replace(",", " ")
        for name in ("runs", "steps", "states", "transitions")
        if name in document
    }
    if "states" in coverage:
        figures["states"] = f"{coverage['states']:,}".replace(",", " ")
    few = bool(document["findings"]) and "observed_runs" in coverage and seen < FEW
    if few:
        coverage = {}
    return {
        "engine": document["engine"],
        "figures": figures,
        "level": document.get("level", ""),
        "statement": list(document.get("statement", ())),
        "seen": seen,
        "few": few,
        "situations": [
            {"name": name, "count": count, "share": 100 * count / seen if seen else 0.0}
            for name, count in coverage.get("situations", {}).items()
        ],
        "heat": _heat(coverage.get("faults", ())),
        "curve": _curve(document.get("new_states_by_depth", ())),
        "growth": _growth(coverage.get("new_states", ())),
    }


def _heat(cells: Sequence[Json]) -> dict[str, Any] | None:
    """Return where faults struck: a row for each status and position, a column for each fault; darker is more often."""
    if not cells:
        return None
    faults = sorted({cell["fault"] for cell in cells})
    rows: dict[tuple[str, str], dict[str, int]] = {}
    for cell in cells:
        rows.setdefault((cell["status"], cell["position"]), {})[cell["fault"]] = cell["count"]
    most = max(cell["count"] for cell in cells)
    ranked = sorted(rows.items(), key=lambda item: (-sum(item[1].values()), item[0]))
    return {
        "faults": faults,
        "rows": [
            {
                "status": status,
                "position": position,
                "cells": [{"count": (n := counts.get(fault, 0)), "heat": _level(n, most)} for fault in faults],
            }
            for (status, position), counts in ranked
        ],
    }


def _level(count: int, most: int) -> int:
    """Return one of five shades, by orders of magnitude: a rare cell has to be seen beside a common one."""
    if not count:
        return 0
    return 1 + min(4, round(4 * (count.bit_length() - 1) / max(1, most.bit_length() - 1)))


def _curve(layers: Sequence[int]) -> list[dict[str, Any]]:
    most = max(layers, default=0)
    return [{"depth": depth, "count": n, "share": round(100 * n / most, 1)} for depth, n in enumerate(layers) if most]


def _growth(parts: Sequence[Json]) -> list[dict[str, Any]]:
    """Return how many states were new in each part of a search: where it stays low, more runs will show little."""
    most = max((part["new"] for part in parts), default=0)
    return [{**part, "share": round(100 * part["new"] / most, 1)} for part in parts if most]


# rows -----------------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class GridRow:
    """A row of the grid: a step, a mark between two steps, time that passed, or a step of the passing run."""

    key: tuple[float, int]
    """Its order: an index in the history, and what tells apart rows between the same two events."""
    kind: str
    at: int
    actor: str = ""
    text: str = ""
    job: str | None = None
    event: int | None = None
    lane: int | None = None
    anchor: str = ""
    marks: list[str] = field(default_factory=list)
    """What else it is: `fault`, `needed`, `breach`, `lead`, `refused`, `unknown`."""
    who: str = ""
    """What the actor is called."""
    label: str = ""
    """Why it is marked, in words: colour is never alone."""
    state: str = ""
    changes: list[dict[str, str]] = field(default_factory=list)
    facts: list[dict[str, str]] = field(default_factory=list)
    statements: list[Json] = field(default_factory=list)
    """The SQL that its actor sent since its row before."""
    after: bool = False
    """Whether it came after the anomaly."""


class Lane(NamedTuple):
    """A column of steps: one actor, or all clients, each of which only sends."""

    name: str
    kind: str
    actors: frozenset[str]


@dataclass(slots=True)
class Grid:
    """The rows of one run, the lanes beside them, and the bars that span them."""

    drawing: Drawing
    rows: list[GridRow]
    lanes: list[Lane]
    lead: Json | None

    @classmethod
    def of(cls, drawing: Drawing) -> Grid:
        """Lay out a run: steps, marks, ghosts, and between them the time that passed."""
        run = drawing.run
        lead = _lead(run, drawing.lead)
        rows = [_step(run, row) for row in run["story"][-MOST_ROWS:]]
        _mark_faults(run, rows, minimal=drawing.minimal)
        _add_statements(run, rows)
        _mark_breaches(run, rows, lead)
        rows += [*_orders(run, rows, minimal=drawing.minimal), *_lapses(run)]
        rows += _ghosts(run, rows)
        rows.sort(key=lambda row: row.key)
        lanes = _lanes(run, rows)
        for row in rows:
            row.who = next((lane.name for lane in lanes if lane.actors == {row.actor}), row.actor)
            row.lane = next((number for number, lane in enumerate(lanes) if row.actor in lane.actors), None)
            row.after = lead is not None and row.key[0] > lead["event"]
        for row in [row for row in rows if row.kind == "ghost" and row.after][:MOST_GHOSTS]:
            row.after = False
        return cls(drawing, list(_with_gaps(rows)), lanes, lead)

    def line_of(self, event: int) -> int:
        """Return the line of the grid, from 1, at which an event stands, or the next row after it."""
        return 1 + bisect_left([row.key for row in self.rows], (float(event), -1))

    def is_after(self, line: int) -> bool:
        """Return whether a line of the grid comes after the anomaly."""
        return self.lead is not None and line > self.line_of(self.lead["event"])


def _lanes(run: Json, rows: Sequence[GridRow]) -> list[Lane]:
    """Return the actors that have a row, workers first; several clients share a lane."""
    acting = {row.actor for row in rows} - {"*", ""}
    kinds = {_text(lane["name"]): str(lane["kind"]) for lane in run["lanes"] if _text(lane["name"]) in acting}
    titles = {_text(lane["name"]): _text(lane["title"]) for lane in run["lanes"]}
    kinds |= dict.fromkeys(sorted(acting - kinds.keys()), "")
    clients = frozenset(name for name, kind in kinds.items() if kind == "client")
    lanes = [Lane(titles.get(name, name), kind, frozenset({name})) for name, kind in kinds.items()]
    if len(clients) < 2:
        return lanes
    first = next(lane for lane in lanes if lane.actors <= clients)
    shared = Lane("clients", "", clients)
    return [shared if lane is first else lane for lane in lanes if lane is first or not lane.actors <= clients]


def _lead(run: Json, name: str) -> Json | None:
    anomalies = run["anomalies"]
    named = [anomaly for anomaly in anomalies if anomaly["name"] == name] or anomalies
    found: Json | None = min(named, key=lambda anomaly: anomaly["event"], default=None)
    return found


def _step(run: Json, told: Json) -> GridRow:
    index = told["event"]
    event = run["events"][index - run["first_event"]]
    row = GridRow(
        (float(index), 0),
        "step",
        told["at"],
        _text(told["actor"]),
        _words(told["text"]),
        told["job"],
        index,
        anchor=str(index),
    )
    if event["kind"] == "observed":
        row.changes = _changes(event["before"], event["after"])
        row.state = _state(event["after"])
    outcome = event.get("outcome")
    if outcome is not None:
        row.marks.append("unknown" if outcome["kind"] == "unknown" else "refused")
        row.label = "outcome unknown" if outcome["kind"] == "unknown" else ""
    row.facts = list(_facts(run, index, event))
    return row


def _facts(run: Json, index: int, event: Json) -> Iterator[dict[str, str]]:
    """Say what is known of an event beside its change: the call, its outcome, and the place in the user's code."""
    number = event.get("number")
    events = [event] if number is None else [e for e in run["events"] if e.get("number") == number]
    for one in events:
        if one["kind"] == "call":
            yield {"name": "call", "value": _value(f"{one['verb']}({', '.join(map(str, one['arguments']))})")}
        if one["kind"] == "return":
            outcome = one["outcome"]
            yield {
                "name": "outcome",
                "value": _value(": ".join(filter(None, (outcome["kind"], outcome["reason"])))),
            }
            if not one["answered"]:
                yield {"name": "reply", "value": "lost: the actor never heard it"}
    if event["kind"] in ("effect", "fault") and event["data"] is not None:
        yield {"name": "data", "value": _value(event["data"])}
    if event["kind"] == "observed" and event["clock"] != event["at"]:
        yield {"name": "store's clock", "value": moment(event["clock"])}
    yield from _origins(run, index, event)
    yield {"name": "event", "value": str(index)}


def _origins(run: Json, index: int, event: Json) -> Iterator[dict[str, str]]:
    """Say where it comes from: the line of the scenario or the entry of its tape, the processor, the place in code."""
    healed = (n for n, e in _indexed(run) if e["kind"] == "phase" and e["name"] == "heal")
    played = [step for step in run["script"] if step["event"] <= index] if index < next(healed, index + 1) else []
    for step in played[-1:]:
        yield {"name": "scenario", "value": _text(f"{step['place']} {step['text']}".strip())}
    at = event["data"].get("at") if event["kind"] == "fault" and isinstance(event["data"], dict) else None
    for entry, deviation in zip(run["tape"], run["deviations"], strict=True):
        if at and (deviation["actor"], deviation["gate"]) == (event["actor"], at):
            nth = f", nth: {entry['nth']}" if entry["nth"] > 1 else ""
            yield {"name": "tape", "value": _text(f"at: {entry['at']}{nth}, do: {entry['do']}")}
    tools = {job["id"]: job["tool"] for job in run["jobs"]}
    processor = run["processors"].get(tools.get(event.get("job")))
    if event["kind"] == "effect" and processor is not None:
        yield {"name": "processor", "value": _text(processor)}
    if (raised := run["raised"].get(str(event.get("number")))) is not None:
        yield {"name": "raised at", "value": _text(raised)}
    for gate in run["gates"]:
        if gate["place"] is not None and index in gate["events"]:
            place = gate["place"]
            yield {"name": "code", "value": _text(f"{place['file']}, {place['function']}, gate {place['nth']}")}


def _add_statements(run: Json, rows: Sequence[GridRow]) -> None:
    """Give each row the SQL that its actor sent since its row before."""
    last: dict[str, int] = {}
    for row in rows:
        since, last[row.actor] = last.get(row.actor, -1), row.event or 0
        row.statements = [
            one
            for one in run["statements"]
            if _text(one["actor"]) == row.actor and since < one["event"] <= (row.event or 0)
        ]


def _changes(before: Json | None, after: Json | None) -> list[dict[str, str]]:
    """Return the columns that differ; of a new job those that hold something."""
    names = dict.fromkeys([*(before or {}), *(after or {})])
    pairs = [(name, (before or {}).get(name), (after or {}).get(name)) for name in names]
    return [
        {"name": name, "before": _cell(name, old, before), "after": _cell(name, new, after)}
        for name, old, new in pairs
        if old != new
    ]


def _cell(name: str, value: Any, row: Json | None) -> str:
    if row is None or value is None:
        return "" if row is None else "–"
    return moment(value) if name in TIMES and isinstance(value, int) else _value(value)


def _state(row: Json | None) -> str:
    if row is None:
        return "gone"
    parts = [str(row["status"])]
    parts += [f"attempt {row['attempts']}"] if row["attempts"] else []
    parts += [f"token {row['token']}"] if row["token"] else []
    return " · ".join(map(printable, parts))


def _mark_faults(run: Json, rows: list[GridRow], *, minimal: bool) -> None:
    """Mark each fault where it struck; red where the shrinker has shown that the anomaly needs it.

    What only followed, such as an exception that an actor raised, is none: the page may say that no
    fault was needed.
    """
    events = [(row, run["events"][(row.event or 0) - run["first_event"]]) for row in rows]
    struck = [row for row, event in events if event["kind"] == "fault" and event["name"] not in CONSEQUENCES]
    asked = [(item["actor"], item["gate"]) for item in run["deviations"]]
    for row in struck:
        row.marks.append("fault")
        row.label = "fault"
        data = run["events"][(row.event or 0) - run["first_event"]]["data"]
        at = data.get("at") if isinstance(data, dict) else None
        if minimal and (row.actor, at) in asked:
            row.marks.append("needed")
            row.label = "fault: without it this does not happen"


def _mark_breaches(run: Json, rows: list[GridRow], lead: Json | None) -> None:
    """Mark the row at which each anomaly showed, or the last one before it; the page is about `lead`."""
    for anomaly in run["anomalies"]:
        row = next((row for row in reversed(rows) if (row.event or 0) <= anomaly["event"]), None)
        if row is None:
            continue
        if "breach" not in row.marks or anomaly is lead:
            row.marks = list(dict.fromkeys([*row.marks, "breach"]))
            row.label = _text(": ".join((anomaly["name"], anomaly["message"])))
        if anomaly is lead:
            row.marks.append("lead")


def _orders(run: Json, rows: Sequence[GridRow], *, minimal: bool) -> Iterator[GridRow]:
    """Return a mark for each deviation that left no fault in the history: before the call at which it was decided."""
    struck = {(row.actor, at) for row in rows for at in [_struck_at(run, row)] if at is not None}
    gates = {(gate["actor"], gate["name"]): gate["events"] for gate in run["gates"]}
    for number, item in enumerate(run["deviations"]):
        events = gates.get((item["actor"], item["gate"]), [])
        if (item["actor"], item["gate"]) in struck or not events:
            continue
        event = events[min(item["nth"], len(events)) - 1]
        at = run["events"][event - run["first_event"]]["at"]
        row = GridRow((event - 0.5, number), "mark", at, _text(item["actor"]), _text(item["words"]))
        row.marks = ["fault"] if item["is_fault"] else ["order"]
        row.label = "fault" if item["is_fault"] else "order"
        if minimal:
            row.marks.append("needed")
            row.label += ": without it this does not happen"
        yield row


def _struck_at(run: Json, row: GridRow) -> str | None:
    event = run["events"][(row.event or 0) - run["first_event"]]
    data = event["data"] if event["kind"] == "fault" else None
    return str(data["at"]) if isinstance(data, dict) and data.get("at") else None


def _lapses(run: Json) -> Iterator[GridRow]:
    """Return a mark where a lease ran out while its claim still stood, by the clock of the store."""
    times = [event["at"] for event in run["events"]]
    for number, lease in enumerate(run["leases"]):
        until, to = lease["until"], lease["to"]
        if until is None or until > max(run["ended_at"], times[-1]) or (to is not None and until >= to):
            continue
        place = run["first_event"] + bisect_left(times, until + 1)
        worker = f" of {lease['worker']}" if lease["worker"] else ""
        text = f"The lease{worker} runs out: attempt {lease['attempt']}, token {lease['token']}"
        yield GridRow((place - 0.4, number), "lapse", until, "", _text(text), lease["job"])


# the nearest run that passes ------------------------------------------------------------------------------------------


def _ghosts(run: Json, rows: Sequence[GridRow]) -> Iterator[GridRow]:
    """Return the steps of the passing run that this one does not have; the first one is where the two part."""
    other = run["nearest_pass"]
    mine = [row for row in rows if row.kind == "step"]
    if other is None or not mine:
        return
    theirs = other["story"][:MOST_ROWS]
    blocks = SequenceMatcher(
        None,
        [(row.at, row.actor, row.text, row.job) for row in mine],
        [(row["at"], _text(row["actor"]), _words(row["text"]), row["job"]) for row in theirs],
        autojunk=False,
    ).get_opcodes()
    parted = False
    for kind, start, stop, low, high in blocks:
        if kind == "equal":
            continue
        if not parted:
            parted = True
            yield _parting(mine[start] if start < len(mine) else mine[-1], _text(other["change"]))
        for number, told in enumerate(theirs[low:high], low):
            place = max(start, bisect_left([row.at for row in mine[:stop]], told["at"] + 1))
            key = mine[place - 1].key[0] + 0.3 if place else -1.0
            yield GridRow((key, number), "ghost", told["at"], _text(told["actor"]), _words(told["text"]), told["job"])


def _parting(row: GridRow, change: str) -> GridRow:
    """Return the mark before the first step that the passing run does not have."""
    text = f"From here on, a run with {change} goes another way, and passes"
    return GridRow((row.key[0] - 0.35, 0), "parting", row.at, "", text)


def _with_gaps(rows: Sequence[GridRow]) -> Iterator[GridRow]:
    """Put a row wherever time passed: idle time takes one line, however long it was."""
    yield from rows[:1]
    seen = rows[0].at if rows else 0
    for previous, row in pairwise(rows):
        if row.kind not in ("ghost", "parting") and row.at > seen:
            key = (previous.key[0], previous.key[1] + 1)
            yield GridRow(key, "gap", row.at, text=f"+{format_duration(row.at - seen)}", after=row.after)
            seen = row.at
        yield row


# bars -----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Bar:
    """A stretch of time beside the rows: from one line of the grid to another; open where no end is known."""

    kind: str
    track: int
    start: int
    end: int
    text: str
    open: bool = False
    after: bool = False
    """Whether it began after the anomaly."""


@dataclass(frozen=True, slots=True)
class JobColumns:
    """What stands beside the rows for one job: its lease, and beside that its runs, each in a track of its own."""

    id: str
    leases: list[Bar]
    executions: list[Bar]
    overlaps: list[Bar]
    tracks: int


def _columns_of(grid: Grid) -> list[JobColumns]:
    run = grid.drawing.run
    about = grid.lead["job"] if grid.lead is not None else None
    busy = {job["id"]: sum(item["job"] == job["id"] for item in run["executions"]) for job in run["jobs"]}
    ranked = sorted(busy, key=lambda job: (job != about, -busy[job]))[:MOST_JOBS]
    return [_columns(grid, job) for job in ranked]


def _columns(grid: Grid, job: str) -> JobColumns:
    run = grid.drawing.run
    last = len(grid.rows) + 1
    leases = [_lease_bar(grid, lease, last) for lease in run["leases"] if lease["job"] == job]
    executions: list[Bar] = []
    ends: list[int] = []
    for item in (item for item in run["executions"] if item["job"] == job):
        start, end = _execution_lines(grid, item, last)
        track = next((number for number, until in enumerate(ends) if until <= start), len(ends))
        ends[track : track + 1] = [end]
        ended = "still running" if item["end"] is None else f"{item['end']} at {moment(item['to'])}"
        claim = f"attempt {item['attempt']} (token {item['token']})"
        text = f"{item['actor']} runs {claim} from {moment(item['from'])}: {ended}"
        executions.append(Bar("run", track, start, end, _text(text), item["to"] is None))
    return JobColumns(
        _text(job),
        leases=_marked(grid, leases),
        executions=_marked(grid, executions),
        overlaps=_marked(grid, list(_overlaps(executions))),
        tracks=max(1, len(ends)),
    )


def _marked(grid: Grid, bars: Sequence[Bar]) -> list[Bar]:
    """Mark the bars that begin after the anomaly: they are hidden with what followed."""
    return [replace(bar, after=grid.is_after(bar.start)) for bar in bars]


def _overlaps(bars: Sequence[Bar]) -> Iterator[Bar]:
    """Return where two runs of one job stand side by side."""
    for number, bar in enumerate(bars):
        for other in bars[number + 1 :]:
            start, end = max(bar.start, other.start), min(bar.end, other.end)
            if start < end:
                yield Bar("overlap", 0, start, end, f"{bar.text}. At the same time {other.text}")


def _unheard(grid: Grid) -> list[dict[str, Any]]:
    """Return where an actor does not know whether its call took effect: until its next call, or without an end."""
    events = _indexed(grid.drawing.run)
    stretches = []
    for number, lane in enumerate(grid.lanes):
        mine = [(index, event) for index, event in events if _text(event.get("actor", "")) in lane.actors]
        for place, (index, event) in enumerate(mine):
            lost = event["kind"] == "fault" and bool(lost_by(event["name"]))
            if not lost and not (event["kind"] == "return" and _is_open(event)):
                continue
            calls = [later for later, other in mine[place + 1 :] if other["kind"] == "call"][lost:]
            end = grid.line_of(calls[0]) if calls else len(grid.rows) + 1
            stretches.append({"lane": number, "start": grid.line_of(index), "end": end, "open": not calls})
    return stretches


def _is_open(returned: Json) -> bool:
    return returned["outcome"]["kind"] == "unknown" or not returned["answered"]


def _lease_bar(grid: Grid, lease: Json, last: int) -> Bar:
    events = _indexed(grid.drawing.run)
    kind = "observed"
    start = _find(
        events, kind, lease["from"], lease["job"], lambda e: (e["after"] or {}).get("token") == lease["token"]
    )
    end = None
    if lease["to"] is not None:
        end = _find(events, kind, lease["to"], lease["job"], lambda e: e["verb"] == lease["ended_by"], after=start)
    until = "" if lease["until"] is None else f", until {moment(lease['until'])}"
    ended = "stands to the end" if lease["to"] is None else f"ended by {lease['ended_by']} at {moment(lease['to'])}"
    claim = f"{lease['worker'] or 'a worker'}, attempt {lease['attempt']}, token {lease['token']}"
    text = f"lease of {claim}: from {moment(lease['from'])}{until}; {ended}"
    return Bar(
        "lease", 0, grid.line_of(start or 0), last if end is None else grid.line_of(end), _text(text), end is None
    )


def _execution_lines(grid: Grid, item: Json, last: int) -> tuple[int, int]:
    events = _indexed(grid.drawing.run)
    start = _find(
        events, "effect", item["from"], item["job"], lambda e: e["name"] == "started" and e["actor"] == item["actor"]
    )
    if item["to"] is None:
        return grid.line_of(start or 0), last
    ends = {"ended", *events_of(Excuse.DEATH)}
    ended = [
        index
        for index, event in events
        if event["at"] == item["to"] and event.get("actor") == item["actor"] and event.get("name") in ends
    ]
    return grid.line_of(start or 0), grid.line_of(ended[0]) if ended else last


def _indexed(run: Json) -> list[tuple[int, Json]]:
    return list(enumerate(run["events"], run["first_event"]))


def _find(
    events: Sequence[tuple[int, Json]], kind: str, at: int, job: str, accept: Any, *, after: int | None = None
) -> int | None:
    return next(
        (
            index
            for index, event in events
            if event["kind"] == kind
            and event["at"] == at
            and event["job"] == job
            and (after is None or index > after)
            and accept(event)
        ),
        None,
    )


# one run on the page --------------------------------------------------------------------------------------------------


def _page_of(drawing: Drawing, number: int) -> dict[str, Any]:
    """Return what the template shows of a run; anchors of the first one have no prefix."""
    grid = Grid.of(drawing)
    run = drawing.run
    prefix = "" if number == 1 else f"run-{number}-"
    columns = _columns_of(grid)
    return {
        "prefix": prefix,
        "number": number,
        "title": _text(drawing.title),
        "heading": _text(drawing.heading or drawing.title),
        "verdict": drawing.verdict,
        "lead": grid.lead,
        "cost": "" if grid.lead is None else _cost(grid.lead),
        "here": "" if grid.lead is None else _here(grid.lead),
        "problems": [_text(item) for item in (*run["failures"], *run["uncovered"])],
        "told": [_labelled(item) for item in (*run["told"], *_source(run), *drawing.notes)],
        "frames": [(_text(title), "\n".join(map(printable, text))) for title, text in _frames(run)],
        "again": drawing.again,
        "recorded": drawing.recorded,
        "replay": _text(drawing.replay),
        "place": _text(drawing.place),
        "token": run["token"] or "",
        "lanes": grid.lanes,
        "rows": grid.rows,
        "hidden": (hidden := sum(row.after and row.kind in ("step", "mark", "lapse") for row in grid.rows)),
        "cut": grid.lead is not None and hidden > SHOWN_AFTER,
        "sql": [_text_lines(text) for text in run["sql"]] if any(row.statements for row in grid.rows) else [],
        "jobs": columns,
        "unheard": _unheard(grid),
        "others": len(run["jobs"]) - len(columns),
        "ghost": "" if run["nearest_pass"] is None else _text(run["nearest_pass"]["change"]),
        "shows": any("lead" in row.marks for row in grid.rows),
        "ghosts": sum(row.kind == "ghost" for row in grid.rows),
        "left_out": run["left_out"] + max(0, len(run["story"]) - MOST_ROWS),
        "moments": _moments(run, grid),
        "copied": _issue_text(drawing, grid),
    }


def _source(run: Mapping[str, Any]) -> list[str]:
    """Return the line that says where that is written which caused the anomaly; a report of before has none."""
    return [f"Source: {place}" for place in run.get("source", ())[:1]]


def _frames(run: Mapping[str, Any]) -> list[tuple[str, list[str]]]:
    """Return the lines of code that it turns on, each with its title; a report of before has none."""
    return [(frame["title"], frame["text"]) for frame in run.get("frames", ())]


def _labelled(line: str) -> tuple[str, str]:
    """Part a line such as `Fixed by: lease 11m` into its label and the rest."""
    label, colon, rest = _text(line).partition(": ")
    return (label + ":", rest) if colon and len(label) <= 32 else ("", _text(line))


def _cost(lead: Json) -> str:
    return kind_of(lead["name"]).label


def _here(lead: Json) -> str:
    about = f"job {lead['job']}, " if lead["job"] else ""
    return _text(f"{about}{moment(lead['at'])}: {lead['message']}")


def _moments(run: Json, grid: Grid) -> dict[str, Any]:
    """Return what the slider needs: each step, and every change of a job's row, in order."""
    changes = [
        [
            index,
            _text(event["job"]),
            None if event["after"] is None else [_cell(n, event["after"][n], {}) for n in SHOWN_FIELDS],
        ]
        for index, event in _indexed(run)
        if event["kind"] == "observed"
    ]
    steps = [
        {"event": row.event, "at": moment(row.at), "text": f"{row.who} {row.text}".strip(), "after": row.after}
        for row in grid.rows
        if row.kind == "step"
    ]
    return {"fields": [name.replace("_", " ") for name in SHOWN_FIELDS], "changes": changes, "steps": steps}


def _issue_text(drawing: Drawing, grid: Grid) -> str:
    """Return the finding as Markdown: what broke, what happened, how to replay it."""
    run, lead = drawing.run, grid.lead
    lines = [f"**{drawing.verdict.upper()}: {_markdown(drawing.title)}**", ""]
    if lead is not None:
        lines += [f"{lead['name']}: {lead['sentence']}", f"{_cost(lead)}: {lead['guarantee']}", ""]
    here = [] if lead is None else [f"Here: {_here(lead)}", ""]
    others = {
        each["name"]: _here(each) for each in reversed(run["anomalies"]) if each["name"] != (lead or each)["name"]
    }
    also = [f"Also {name}: {where}" for name, where in reversed(others.items())]
    code = [printable(line) for title, text in _frames(run) for line in ("", title, *text)]
    told = [_text(line) for line in run["told"] if not (also and line.startswith(ALSO))]
    body = "\n".join([*here, *_told_rows(grid), "", *told, *map(_text, _source(run)), *also, *code])
    fence = "`" * max(3, 1 + _longest_run(body + drawing.replay))
    lines += [f"{fence}text", body, *([f"{drawing.again}: {_text(drawing.replay)}"] if drawing.replay else []), fence]
    return "\n".join(lines) + "\n"


def _told_rows(grid: Grid) -> Iterator[str]:
    """Write what happened as lines, without the passing run; one line stands where the anomaly showed."""
    followed = [row for row in grid.rows if row.after and row.kind in ("step", "mark", "lapse")]
    for row in (row for row in grid.rows if row.kind not in ("gap", "ghost", "parting") and not row.after):
        yield _told_row(row)
    if followed:
        yield f"{'':>9}  ---- after the anomaly ----"
        yield from map(_told_row, followed[:SHOWN_AFTER])
    if len(followed) > SHOWN_AFTER:
        yield f"{'':>9}  and {len(followed) - SHOWN_AFTER} more steps"


def _told_row(row: GridRow) -> str:
    job = f" [{_text(row.job)}]" if row.job else ""
    return f"{moment(row.at):>9}  {row.who:<12}  {row.text}{job}"


def _markdown(text: str) -> str:
    return "".join(f"\\{letter}" if letter in "\\`*_[]<>#|@!" else letter for letter in _text(text))


def _longest_run(text: str) -> int:
    longest = current = 0
    for letter in text:
        current = current + 1 if letter == "`" else 0
        longest = max(longest, current)
    return longest


# text and template ----------------------------------------------------------------------------------------------------


def _text(value: object) -> str:
    """Return one line that shows every character: nothing in it turns text around or hides some of it."""
    return printable(" ".join(str(value).split()))


def _words(value: str) -> str:
    """Return a step in the words of the console, with an arrow that no line break takes apart."""
    return _text(value).replace(" -> ", " → ")


def _text_lines(text: str) -> str:
    """Return a text whose lines stay apart."""
    shown = "\n".join(printable(line.rstrip()) for line in text.strip().splitlines())
    return shown if len(shown) <= LONGEST_SQL else f"{shown[:LONGEST_SQL]}… ({len(shown)} characters)"


def _value(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    text = _text(text)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}… ({len(text)} characters)"


def _render(**content: Any) -> str:
    """Fill the template. Jinja2 is imported here: no run that draws nothing pays for it."""
    import jinja2

    folder = resources.files("job_harness.report").joinpath("picture_page")
    names = ("page.html", "run.html", "campaign.html", "style.css", "script.js")
    sources = {name: folder.joinpath(name).read_text(encoding="utf-8") for name in names}
    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_make_visible,
        loader=jinja2.DictLoader(sources),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["moment"] = moment
    environment.filters["as_json"] = _script_json
    return environment.get_template("page.html").render(**content).rstrip() + "\n"


def _make_visible(value: Any) -> Any:
    """Return what a template puts out, with every character visible: no field can be forgotten."""
    if type(value) is not str:  # Markup is a str, and is the template's own
        return value
    return "\n".join(map(printable, value.split("\n")))


def _script_json(value: Any) -> Any:
    """Write JSON that may stand in a script element: nothing in it ends the element or begins a comment."""
    import markupsafe

    text = json.dumps(value, ensure_ascii=True, separators=(",", ":"))
    return markupsafe.Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))
