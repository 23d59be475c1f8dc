"""Runs as a trace in Chrome's event format, which Perfetto opens: a track for each actor, one for each job's leases.

Made from the JSON of a run, a report or a search, as the picture is. Times are microseconds of
virtual time, so that a day of retries is as long there as it was for the queue.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from itertools import count
from typing import Any, TypeAlias

Json: TypeAlias = Mapping[str, Any]


def trace(document: Json) -> str:
    """Return what `run --json`, `explore --json` or `exhaust --json` writes as trace events."""
    events: list[dict[str, Any]] = []
    numbers = count(1)
    for title, run in _runs(document):
        events += _actors(run, title, next(numbers))
        events += _jobs(run, title, next(numbers))
    return json.dumps({"displayTimeUnit": "ms", "traceEvents": events}, separators=(",", ":")) + "\n"


def _runs(document: Json) -> Iterator[tuple[str, Json]]:
    for case in document.get("cases", ()):
        if case["run"] is not None:
            yield " ".join(filter(None, (case["scenario"] or case["title"], "on", case["engine"]))), case["run"]
    for finding in document.get("findings", ()):
        if finding["run"] is not None:
            yield f"{finding['anomaly']} on {document['engine']}", finding["run"]


def _actors(run: Json, title: str, process: int) -> Iterator[dict[str, Any]]:
    yield _name("process_name", title, process, 0)
    threads = {lane["name"]: number for number, lane in enumerate(run["lanes"], 1)}
    for name, number in threads.items():
        yield _name("thread_name", name, process, number)
    for execution in run["executions"]:
        end = run["ended_at"] if execution["to"] is None else execution["to"]
        name = f"{execution['job']}, attempt {execution['attempt']}: {execution['end'] or 'not ended'}"
        yield _slice(name, execution["from"], end, process, threads.get(execution["actor"], 0))
    for row in run["story"]:
        about = row["text"] if row["job"] is None else f"{row['text']} {row['job']}"
        yield _moment(about, row["at"], process, threads.get(row["actor"], 0))
    for anomaly in run["anomalies"]:
        told = {"job": anomaly["job"], "message": anomaly["message"], "guarantee": anomaly["guarantee"]}
        yield {**_moment(anomaly["name"], anomaly["at"], process, 0), "s": "p", "args": told}


def _jobs(run: Json, title: str, process: int) -> Iterator[dict[str, Any]]:
    yield _name("process_name", f"{title}: leases", process, 0)
    threads = {job["id"]: number for number, job in enumerate(run["jobs"], 1)}
    for name, number in threads.items():
        yield _name("thread_name", f"job {name}", process, number)
    for lease in run["leases"]:
        end = run["ended_at"] if lease["to"] is None else lease["to"]
        name = f"{lease['worker']}, token {lease['token']}"
        yield _slice(name, lease["from"], end, process, threads.get(lease["job"], 0))


def _name(kind: str, name: str, process: int, thread: int) -> dict[str, Any]:
    return {"ph": "M", "name": kind, "pid": process, "tid": thread, "args": {"name": name}}


def _slice(name: str, start: int, end: int, process: int, thread: int) -> dict[str, Any]:
    return {"ph": "X", "name": name, "ts": start, "dur": max(0, end - start), "pid": process, "tid": thread}


def _moment(name: str, at: int, process: int, thread: int) -> dict[str, Any]:
    return {"ph": "i", "s": "t", "name": name, "ts": at, "pid": process, "tid": thread}
