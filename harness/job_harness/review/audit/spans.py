"""Spans of OpenTelemetry as evidence: who ran which job, from when until when. It is what shows two runs at once.

Reads OTLP as the collector's file exporter writes it: JSON, one document or one a line, or protobuf where the extra
`otel` is there. A consumer's span with a job's id is a run; a producer's says when the job was sent. Hosts share no
clock: a job that seems to run before it was sent shows by how much they differ; an overlap within that is not judged.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, NoReturn

from job_harness.core.history import Effect, Event
from job_harness.core.model import Instant, JobId, JobView, Status, format_duration
from job_harness.errors import UsageError, clipped
from job_harness.review.audit.evidence import Chronicle, Evidence, blank
from job_harness.review.audit.recording import SHOWN_BY_SPANS

JOB_ATTRIBUTES: Final = (
    "messaging.message.id",
    "messaging.message_id",
    "bullmq.job.id",
    "job.id",
)
"""Where instrumentations write the job's id: Celery's and the messaging conventions, BullMQ's own, hand-made ones."""
BULLMQ_JOB: Final = "bullmq.job.id"
BULLMQ_DONE: Final = "job completed"
"""The event of a run that BullMQ completed; it sets no status."""
TOOL_ATTRIBUTES: Final = ("celery.task_name", "bullmq.job.name", "messaging.destination.name", "bullmq.queue.name")
WORKER_ATTRIBUTES: Final = ("bullmq.worker.id", "messaging.consumer.id")
RESOURCE_ATTRIBUTES: Final = ("service.instance.id", "host.name", "service.name")
"""The first that a span's attributes, and then its resource's, have says who ran it."""
PRODUCER, CONSUMER = 4, 5
_KINDS: Final = {"SPAN_KIND_PRODUCER": PRODUCER, "SPAN_KIND_CONSUMER": CONSUMER}
_ERROR: Final = (2, "STATUS_CODE_ERROR")
_RETRIES: Final = ("celery.retry.reason",)
"""An attribute that says that a run which raised nothing did not end the job either."""
_OPERATION: Final = ("messaging.operation.type", "messaging.operation")
"""What a span is of, in this order: some write `receive` of a run in the second, and what it is in the first."""
_SPANS: Final = "resourceSpans"
_NO_RUN: Final = ("settle", "create")
_SILENT: Final = {
    "no_lost_job": "a job without a span may be one that was not sampled",
    "attempts_bounded": "spans do not say how often a job may be delivered",
    "fenced": "spans do not show the queue's rows: audit its table, or a log of it",
    "single_owner": "spans do not show claims",
}


@dataclass(frozen=True, slots=True)
class JobRun:
    """One run of a job, as a span has it."""

    job: JobId
    tool: str
    worker: str
    began: Instant
    ended: Instant
    succeeded: bool
    span: str
    parent: str = ""

    def within(self, other: JobRun) -> bool:
        """Whether it is a part of another run: its child, in the same process, that did not outlast it."""
        alike = (self.parent, self.worker) == (other.span, other.worker)
        return alike and other.began <= self.began and self.ended <= other.ended


@dataclass(slots=True)
class _Spans:
    runs: dict[JobId, list[JobRun]] = field(default_factory=dict)
    sent: dict[JobId, tuple[Instant, str]] = field(default_factory=dict)
    """When each job was sent, and who sent it."""
    received: dict[JobId, list[JobRun]] = field(default_factory=dict)
    """Spans of `receive`: runs only of a job that has no other, as where an instrumentation calls its runs so."""
    last: Instant = 0
    is_otlp: bool = False
    """Whether anything in the file was called `resourceSpans`: other formats are JSON too."""
    nameless: int = 0
    endless: int = 0
    """Consumers' spans that have no end, or one before their beginning."""
    twice: int = 0
    parts: int = 0
    """Spans within a run of the same job."""
    seen: set[str] = field(default_factory=set)
    cut: int = 0
    """The line at which the file ends in the midst of a document; 0 where it does not."""

    def take_runs(self) -> int:
        """Take what was received for runs where nothing else is one; return how many spans are none."""
        self.seen.clear()
        left = 0
        for job, received in self.received.items():
            left += len(received) if self.runs.setdefault(job, received) is not received else 0
        for job, runs in self.runs.items():
            spans = {run.span: run for run in runs}
            self.runs[job] = [run for run in runs if (of := spans.get(run.parent)) is None or not run.within(of)]
            self.parts += len(runs) - len(self.runs[job])
        return left


def spans_evidence(path: Path, *, attributes: Collection[str] = (), since: Instant | None = None) -> Evidence:
    """Return what the spans of a file show; `attributes` name the job before the usual ones do.

    Raises UsageError with the line for what is not OTLP, and where no span names a job.
    """
    spans = _read(path, (*attributes, *JOB_ATTRIBUTES))
    received = spans.take_runs()
    if not spans.is_otlp:
        raise UsageError(f"{path}: this is not OTLP: it has no `resourceSpans`", hint=_HINT)
    endless = f", {spans.endless} have no end" if spans.endless else ""
    if not spans.runs:
        raise UsageError(
            f"{path}: none of its spans is a run of a job ({spans.nameless} name no job{endless})",
            hint=f"A run is a consumer's span with one of {', '.join(JOB_ATTRIBUTES)}; --job-attribute names another.",
        )
    clocks = _Clocks.of(spans)
    notes = [clocks.widest or "no sign that clocks of hosts differ"]
    notes += [f"left out because they name no job: {spans.nameless} of the consumers' spans"] if spans.nameless else []
    notes += [f"left out because they have no end: {spans.endless} of the consumers' spans"] if spans.endless else []
    notes += [f"not counted as runs, because each is part of a run: {spans.parts} spans"] if spans.parts else []
    notes += [f"counted once although the file repeats them: {spans.twice} spans"] if spans.twice else []
    notes += (
        [f"not counted as runs, because their jobs have other spans: {received} spans of `receive`"] if received else []
    )
    shifted = Counter[JobId]()
    runs = {
        job: _apart(sorted(own, key=lambda run: (run.began, run.ended)), clocks, shifted)
        for job, own in spans.runs.items()
    }
    notes += _of_shifted(shifted)
    return Evidence(
        name=f"the spans of {path.name}",
        shows=SHOWN_BY_SPANS,
        silent=_SILENT,
        read=lambda jobs: _events(runs, spans.sent, since, jobs),
        now=lambda: spans.last,
        notes=notes,
        gap=f"line {spans.cut} is incomplete and was left out: the file is still being written, or was not fully copied"
        if spans.cut
        else "",
    )


@dataclass(frozen=True, slots=True)
class _Clocks:
    """By how much the clock of each host is known to differ from another one, at least."""

    off: Mapping[str, Instant]
    widest: str
    """The largest difference, in words; empty where there is no sign of any."""

    @classmethod
    def of(cls, spans: _Spans) -> _Clocks:
        """Compare when jobs were sent with when they began: none begins before it was sent."""
        off: dict[str, Instant] = {}
        widest, told = 0, ""
        for job in spans.runs.keys() & spans.sent.keys():
            at, sender = spans.sent[job]
            first = min(spans.runs[job], key=lambda run: run.began)
            early = at - first.began
            for host in (sender, first.worker) if early > 0 else ():
                off[host] = max(early, off.get(host, 0))
            if (early, job) > (widest, told):
                widest, told = early, job
        return cls(off, cls._words(spans, widest, told) if widest else "")

    @staticmethod
    def _words(spans: _Spans, early: Instant, job: JobId) -> str:
        first = min(spans.runs[job], key=lambda run: run.began)
        return (
            f"clocks of hosts differ by at least {format_duration(early)}: {first.worker} began the job {job} that "
            f"long before {spans.sent[job][1]} sent it"
        )

    def may_explain(self, overlap: Instant, one: str, other: str) -> bool:
        """Whether two hosts may seem to be at work at once for so long and never were."""
        return one != other and 0 < overlap <= max(self.off.get(one, 0), self.off.get(other, 0))


def _apart(runs: list[JobRun], clocks: _Clocks, shifted: Counter[JobId]) -> list[JobRun]:
    """Let a run begin where the one before it ended, where clocks alone may be why it seems to have begun before."""
    told = runs[:1]
    for before, run in pairwise(runs):
        overlap = min(before.ended, run.ended) - run.began
        if clocks.may_explain(overlap, before.worker, run.worker):
            shifted[run.job] += 1
            run = replace(run, began=before.ended, ended=max(run.ended, before.ended))
        told.append(run)
    return told


def _of_shifted(shifted: Counter[JobId]) -> list[str]:
    """Say which overlaps are not judged, and what is shown in their place."""
    if not shifted:
        return []
    overlaps = f"{shifted.total()} overlap{'' if shifted.total() == 1 else 's'}"
    told = (
        f"of runs, such as of the job {min(shifted)}: the later run is shown as if it began when the earlier one ended"
    )
    return [f"not judged because clocks alone may explain it: {overlaps} {told}"]


# spans to events ------------------------------------------------------------------------------------------------------


def _events(
    runs: Mapping[JobId, list[JobRun]],
    sent: Mapping[JobId, tuple[Instant, str]],
    since: Instant | None,
    jobs: Collection[JobId] | None,
) -> Iterator[Event]:
    moments: list[tuple[Instant, int, int, JobRun]] = []
    for job in runs if jobs is None else sorted(set(jobs) & set(runs)):
        for number, run in enumerate(runs[job], 1):
            if since is None or run.ended >= since:
                moments += [(run.began, 1, number, run), (run.ended, 0 if run.ended > run.began else 2, number, run)]
    moments.sort(key=lambda each: (*each[:3], each[3].span))
    teller = _Teller(sent)
    for at, order, number, run in moments:
        yield from teller.begin(at, number, run) if order == 1 else teller.end(at, number, run)


class _Teller:
    """Tells runs as events: what is at work, and how the job stands by what its runs came to."""

    def __init__(self, sent: Mapping[JobId, tuple[Instant, str]]) -> None:
        self._sent = sent
        self._chronicle = Chronicle()
        self._rows: dict[JobId, JobView] = {}
        self._running: dict[JobId, dict[str, str]] = {}
        """By job and span, under which name it runs: two at once in one process need two."""

    def begin(self, at: Instant, number: int, run: JobRun) -> Iterator[Event]:
        names = self._running.setdefault(run.job, {})
        worker, again = run.worker, 2
        while worker in names.values():
            worker, again = f"{run.worker} ({again})", again + 1
        names[run.span] = worker
        before = self._rows.get(run.job)
        if before is None:
            created = min(at, self._sent[run.job][0]) if run.job in self._sent else at
            before = blank(run.job, tool=run.tool, created_at=created, start_after=created)
            yield from self._chronicle.change(created, "sender", None, before)
        after = before._replace(
            status=Status.PROCESSING, queue_state=_ACTIVE, attempts=number, token=number, worker=worker, started_at=at
        )
        self._rows[run.job] = after
        yield from self._chronicle.change(at, worker, before, after)
        yield Effect(at, worker, run.job, number, number, "started", None)

    def end(self, at: Instant, number: int, run: JobRun) -> Iterator[Event]:
        worker = self._running.get(run.job, {}).pop(run.span, run.worker)
        yield Effect(at, worker, run.job, number, number, "ended", "success" if run.succeeded else "failure")
        before = self._rows[run.job]
        if before.status is not Status.PROCESSING or (not run.succeeded and self._running[run.job]):
            return
        status = Status.COMPLETED if run.succeeded else Status.PENDING
        after = before._replace(
            status=status,
            queue_state=blank("", status).queue_state,
            worker=None,
            completed_at=at if run.succeeded else None,
        )
        self._rows[run.job] = after
        yield from self._chronicle.change(at, worker, before, after)


_ACTIVE: Final = blank("", Status.PROCESSING).queue_state


# OTLP to spans --------------------------------------------------------------------------------------------------------


def _read(path: Path, attributes: tuple[str, ...]) -> _Spans:
    spans = _Spans()
    for number, document in _documents(path):
        if document is _CUT_OFF:
            spans.cut = number
            continue
        try:
            for resource, span in _spans_of(document):
                _take(spans, resource, span, attributes)
            spans.is_otlp |= _SPANS in document
        except (TypeError, ValueError) as error:
            raise UsageError(f"{path}:{number}: this is not OTLP: {error}", hint=_HINT) from None
    return spans


def _take(spans: _Spans, resource: Mapping[str, Any], span: Mapping[str, Any], attributes: tuple[str, ...]) -> None:
    kind = span.get("kind")
    kind = _KINDS.get(kind, kind) if isinstance(kind, str) else kind
    if kind not in (PRODUCER, CONSUMER):
        return
    own = _attributes(span)
    operation = next((own[name] for name in _OPERATION if name in own), None)
    if kind == CONSUMER and operation in _NO_RUN:
        return
    job = _job(own, attributes)
    began, ended = (_instant(span, name) for name in ("startTimeUnixNano", "endTimeUnixNano"))
    if job is None or began <= 0 or ended < began:
        spans.nameless += kind == CONSUMER and job is None
        spans.endless += kind == CONSUMER and job is not None
        return
    trace, own_id = span.get("traceId"), span.get("spanId")
    number = f"{trace}/{own_id}" if own_id else f"without an id: {len(spans.seen)}"
    if number in spans.seen:
        spans.twice += 1
        return
    spans.seen.add(number)
    spans.last = max(spans.last, ended)
    if kind == PRODUCER:
        sent = began, _worker(own, resource)
        spans.sent[job] = min(sent, spans.sent.get(job, sent))
        return
    tool = next((str(own[name]) for name in TOOL_ATTRIBUTES if name in own), str(span.get("name") or "job"))
    parent = f"{trace}/{span.get('parentSpanId')}"
    run = JobRun(job, tool, _worker(own, resource), began, ended, _succeeded(span, own), number, parent)
    (spans.received if operation == "receive" else spans.runs).setdefault(job, []).append(run)


def _job(own: Mapping[str, Any], attributes: tuple[str, ...]) -> JobId | None:
    """Return the job's id; with its queue for one of BullMQ, which numbers the jobs of each queue by themselves."""
    name = next((name for name in attributes if own.get(name) not in (None, "")), None)
    if name is None:
        return None
    queue = None
    if name == BULLMQ_JOB:
        queue = own.get("bullmq.queue.name")
    elif name in JOB_ATTRIBUTES and own.get("messaging.system") == "bullmq":
        queue = own.get("messaging.destination.name")
    return str(own[name]) if queue is None else f"{queue}:{own[name]}"


def _succeeded(span: Mapping[str, Any], own: Mapping[str, Any]) -> bool:
    if _object(span, "status").get("code") in _ERROR or any(name in own for name in _RETRIES):
        return False
    return BULLMQ_JOB not in own or any(event.get("name") == BULLMQ_DONE for event in _objects(span, "events"))


def _worker(own: Mapping[str, Any], resource: Mapping[str, Any]) -> str:
    for name in WORKER_ATTRIBUTES:
        if name in own:
            return str(own[name])
    for name in RESOURCE_ATTRIBUTES:
        if name in resource:
            process = resource.get("process.pid")
            return str(resource[name]) + (f":{process}" if process is not None and name == "host.name" else "")
    return "worker"


def _spans_of(document: Any) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    if not isinstance(document, dict):
        raise TypeError("it is no JSON object")
    for group in _objects(document, _SPANS):
        resource = _attributes(_object(group, "resource"))
        for scope in _objects(group, "scopeSpans"):
            for span in _objects(scope, "spans"):
                yield resource, span


def _attributes(holder: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for each in _objects(holder, "attributes"):
        value = each.get("value") or {}
        found[str(each.get("key"))] = next(iter(value.values()), None) if isinstance(value, dict) else value
    return found


def _objects(holder: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    """Return what is listed under a name; null says, as anywhere in OTLP, that nothing is."""
    listed = holder.get(name)
    if listed is None:
        return []
    if not isinstance(listed, list) or not all(isinstance(each, dict) for each in listed):
        raise ValueError(f"{name!r} is not a list of objects")
    return listed


def _object(holder: Mapping[str, Any], name: str) -> dict[str, Any]:
    found = holder.get(name)
    if found is not None and not isinstance(found, dict):
        raise ValueError(f"{name!r} is {clipped(found)}, not an object")
    return found or {}


def _instant(span: Mapping[str, Any], name: str) -> Instant:
    value = span.get(name)
    try:
        return int(value or 0) // 1000
    except (ValueError, TypeError, OverflowError):
        raise ValueError(f"{name!r} is {clipped(value)}, not a number of nanoseconds") from None


_HINT: Final = (
    "Expected OTLP as the collector's file exporter writes it: JSON, one document a line, or protobuf. "
    "Rows of jobs are read from their database: name the table, and --database. Events of jobs are brought into a "
    "table, or become spans, as in docs/audit.md#events-of-jobs."
)


_ROWS_HINT: Final = (
    "Rows are read from a database: copy them into a table of a PostgreSQL, as by psql's \\copy, name the database by "
    "--database, and the table by its own name or by a file that describes it (docs/audit.md#your-own-table)."
)


_JSON: Final = re.compile(rb'(\xef\xbb\xbf)?\s*\{\s*["}]')
"""How JSON begins, perhaps behind a byte order mark; a message in protobuf may begin with a line feed and a brace."""
_FIRST_FIELD: Final = b"\n"
"""How spans in protobuf begin: `resource_spans` is the only field of their message."""
_COMPRESSED: Final = (b"\x1f\x8b", b"\x28\xb5\x2f\xfd")
"""How files of gzip and of Zstandard begin."""
_SIZE: Final = 4
"""How many bytes the size of a message takes."""
_HEAD: Final = 1_000
"""How much of a file says what it holds, beyond its first line."""
_CUT_OFF: Final = object()
"""Stands for the last line of a file that ends in its midst."""
_CUT: Final = " (the file seems to be cut here)"


def _documents(path: Path) -> Iterator[tuple[int, Any]]:
    """Read documents, each with its line; one a line where each line holds one, since the file may be large.

    The last line may be `_CUT_OFF`: a collector may be writing it.
    """
    with path.open("rb") as file:
        first = next((line for line in file if line.strip()), b"")
        head = first + file.read(_HEAD)
    if not first:
        raise UsageError(f"{path}: this file is empty", hint=_HINT)
    if not _JSON.match(head):
        for number, message in enumerate(_messages(path, path.read_bytes()), 1):
            yield number, _from_protobuf(path, message)
        return
    try:
        _loaded(first, path)
    except ValueError:
        yield 1, _whole(path)
    else:
        yield from _by_line(path)


def _loaded(text: bytes | str, path: Path, line: int = 1) -> Any:
    """Read a document. Raises ValueError where it is no JSON, UsageError where it is nested as no trace is."""
    try:
        return json.loads(text)
    except RecursionError:
        raise UsageError(f"{path}:{line}: it is nested too deeply to be OTLP", hint=_HINT) from None


def _by_line(path: Path) -> Iterator[tuple[int, Any]]:
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                document = _loaded(line, path, number)
            except ValueError as error:
                if not line.endswith(b"\n"):
                    document = _CUT_OFF
                else:
                    raise UsageError(f"{path}:{number}: {error}", hint=_HINT) from None
            yield number, document


def _whole(path: Path) -> Any:
    raw = path.read_bytes()
    try:
        return _loaded(raw, path)
    except ValueError as error:
        cut = "" if b"\n" in raw.strip() else _CUT
        raise UsageError(f"{path}:{getattr(error, 'lineno', 1)}: {error}{cut}", hint=_HINT) from None


def _messages(path: Path, raw: bytes) -> Iterator[bytes]:
    """Return the messages of a file in protobuf: one, or, as the collector writes them, each after its size."""
    if raw.startswith(_FIRST_FIELD):
        yield raw
        return
    at, number = 0, 1
    while at < len(raw):
        begins = at + _SIZE
        at = begins + int.from_bytes(raw[at:begins], "big")
        message = raw[begins:at]
        if at > len(raw) or not message.startswith(_FIRST_FIELD):
            if number == 1:
                _refuse_text(path, raw)
            raise UsageError(f"{path}:{number}: this message is not OTLP in protobuf{_CUT}", hint=_HINT)
        yield message
        number += 1


def _refuse_text(path: Path, raw: bytes) -> NoReturn:
    """Say what is wrong with a file that holds no object of JSON and cannot be protobuf."""
    if raw.startswith(_COMPRESSED):
        raise UsageError(f"{path}: this file is compressed", hint="Unpack it first, such as with gunzip or zstd -d.")
    try:
        _loaded(raw.decode(), path)
    except json.JSONDecodeError as error:
        if "\0" not in raw.decode():
            hint = _ROWS_HINT if path.suffix.lower() in (".csv", ".tsv") else _HINT
            raise UsageError(f"{path}:{error.lineno}: this is not JSON: {error.msg}", hint=hint) from None
    except UnicodeDecodeError:
        pass
    else:
        raise UsageError(f"{path}:1: this is not OTLP, which is a JSON object", hint=_HINT)
    raise UsageError(f"{path}: this is neither JSON nor OTLP in protobuf", hint=_HINT)


def _from_protobuf(path: Path, raw: bytes) -> Any:
    from google.protobuf.json_format import MessageToDict
    from google.protobuf.message import DecodeError
    from opentelemetry.proto.trace.v1.trace_pb2 import TracesData

    try:
        return MessageToDict(TracesData.FromString(raw))
    except DecodeError:
        raise UsageError(f"{path}: this is neither JSON nor OTLP in protobuf", hint=_HINT) from None
