"""Queues on Redis that are known by name: where each keeps its jobs, read in one script, as rows of a SELECT would be.

Of a queue that takes a job out of Redis for as long as it is at work, what processes asked for says
which ones are. A row has the columns of `jobs` (docs/system_files.md). What a queue does not keep
is no column of its rows, and what needs it is not judged. Nor is when a job was sent: a client
writes that by its own clock, and where no delay was asked for, none is to be kept. Arguments are
looked for texts only; nothing of a pickle is ever loaded. Must not know: connections, and of
processes no more than which is which.
"""

from __future__ import annotations

import base64
import binascii
import json
import pickletools
import zlib
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias

Row: TypeAlias = dict[str, Any]
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LONGEST_ERROR: Final = 300
_SIZES: Final = 1 << 20
"""Numbers below are sizes and places within a pickle as often as values; times are above."""


class Broker(NamedTuple):
    """A queue that is known by name."""

    name: str
    rows: Callable[[Any], Iterator[Row]]
    """Reads what the script returns."""
    columns: frozenset[str]
    takes_once_more: bool = False
    """Whether a job that has failed for good is taken once more, to write that down."""
    takes_away_by: bytes = b""
    """The command by which a process takes a job out of Redis, where it is nowhere while at work (`TakenJobs`)."""

    @property
    def script(self) -> str:
        """What is run in Redis to look at all jobs."""
        return _script(self.name)

    def read(self, told: Any, *, most: int) -> list[Row]:
        """Return all jobs that the script returned; they may run `most` times unless the queue keeps another number.

        Raises ValueError, TypeError or AttributeError for what the library does not write.
        """
        rows = list(self.rows(told))
        return [{**row, "max_attempts": most + 1} for row in rows] if self.takes_once_more else rows


@cache
def _script(name: str) -> str:
    return Path(__file__).with_name(f"{name}.lua").read_text()


def _moment(milliseconds: float | bytes | str | None) -> datetime | None:
    if milliseconds in (None, b"", "", b"0", 0, b"-1", b"-2", -1, -2):
        return None
    return EPOCH + timedelta(milliseconds=float(milliseconds))


def _pairs(flat: list[Any]) -> dict[str, bytes]:
    return {key.decode(errors="replace"): value for key, value in zip(flat[::2], flat[1::2], strict=False)}


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode(errors="replace")


def _json(value: bytes | None) -> Any:
    """Return what a text of JSON says; where it is none, the text."""
    if value is None:
        return None
    try:
        return json.loads(value)
    except ValueError:
        return _text(value)


def texts_of_pickle(data: bytes) -> list[Any]:
    """Return the texts, large numbers and truth values in a pickle, in their order, without loading it."""
    found: list[Any] = []
    memo: list[Any] = []
    last: Any = None
    with suppress(ValueError, IndexError):
        for operation, argument, _ in pickletools.genops(data):
            match operation.name:
                case "MEMOIZE" | "BINPUT" | "LONG_BINPUT":
                    memo.append(last)
                    continue
                case "BINGET" | "LONG_BINGET":
                    last = memo[argument]  # type: ignore[index]
                case "NEWTRUE" | "NEWFALSE":
                    last = operation.name == "NEWTRUE"
                case _:
                    is_size = isinstance(argument, int) and argument <= _SIZES
                    last = None if is_size or not isinstance(argument, str | int | float) else argument
            if last is not None:
                found.append(last)
    return found


# BullMQ ---------------------------------------------------------------------------------------------------------------

_BULLMQ_STATES: Final = {"active": "PROCESSING", "completed": "COMPLETED", "failed": "FAILED"}


def _bullmq(told: Any) -> Iterator[Row]:
    for queue, key, state, score, lock, flat in told:
        job = _pairs(flat)
        options = _json(job.get("opts")) or {}
        data = _json(job.get("data"))
        yield {
            "id": f"{_text(queue)}:{_text(key)}",
            "input": [data, _text(key)],
            "tool": _text(job.get("name")) or "job",
            "status": _BULLMQ_STATES.get(state.decode(), "PENDING"),
            # A job that was taken back from a dead worker has begun once more, and no attempt of its own is used up.
            "attempts": int(job.get("ats", job.get("attemptsStarted", job.get("atm", b"0")))),
            "max_attempts": max(1, int(options.get("attempts") or 1)) + int(job.get("stc", b"0")),
            "priority": int(job.get("priority", b"0") or 0),
            "output": _json(job.get("returnvalue")),
            "error": _text(job.get("failedReason")),
            "start_after": _moment(float(score) // 4096) if state == b"delayed" else None,
            "started_at": _moment(job.get("processedOn")),
            "completed_at": _moment(job.get("finishedOn")) if state in (b"completed", b"failed") else None,
            "lease_until": _moment(lock) if state == b"active" else None,
        }


# RQ -------------------------------------------------------------------------------------------------------------------

_RQ_STATES: Final = {
    "started": "PROCESSING",
    "finished": "COMPLETED",
    "failed": "FAILED",
    "stopped": "CANCELLED",
    "canceled": "CANCELLED",
}


def _rq(told: Any) -> Iterator[Row]:
    for key, lease, due, flat, last in told:
        job, result = _pairs(flat), _pairs(last)
        retries = int(job.get("number_of_retries") or 0)
        status = _RQ_STATES.get(_text(job.get("status")) or "", "PENDING")
        data = job.get("data", b"")
        with suppress(zlib.error):
            data = zlib.decompress(data)
        yield {
            "id": _text(key),
            "input": [*texts_of_pickle(data), _text(job.get("description")), _text(key)],
            "status": status,
            "attempts": retries + (status != "PENDING"),
            "max_attempts": 1 + retries + int(job.get("retries_left") or 0),
            "error": _rq_error(result.get("exc_string") or job.get("exc_info")) if status == "FAILED" else None,
            "start_after": _moment(float(due) * 1000) if due else None,
            "started_at": _iso(job.get("started_at")),
            "completed_at": _iso(job.get("ended_at")) if status in ("COMPLETED", "FAILED") else None,
            "lease_until": _moment(float(lease) * 1000) if lease and status == "PROCESSING" else None,
        }


def _iso(value: bytes | None) -> datetime | None:
    told = _text(value)
    return datetime.fromisoformat(told.replace("Z", "+00:00")) if told else None


def _rq_error(value: bytes | None) -> str:
    text = value or b""
    with suppress(binascii.Error, zlib.error):
        text = zlib.decompress(base64.b64decode(text) if text[:1] != b"x" else text)
    lines = text.decode(errors="replace").strip().splitlines()
    return lines[-1][:_LONGEST_ERROR] if lines else "failed without a message"


# arq ------------------------------------------------------------------------------------------------------------------


def _arq(told: Any) -> Iterator[Row]:
    for key, kind, data, due, lease, tries in told:
        said = texts_of_pickle(data)
        ended = kind == b"arq:result:"
        running = not ended and lease > 0
        succeeded = ended and _after("s", said) is True
        status = "COMPLETED" if succeeded else "FAILED" if ended else "PROCESSING" if running else "PENDING"
        sent, begun, ended_at = (_moment(_number_after(name, said)) for name in ("et", "st", "ft"))
        yield {
            "id": _text(key),
            "input": [*_arq_arguments(said), _text(key)],
            "status": status,
            "attempts": int(tries or 0),
            "error": "the result is not a success" if status == "FAILED" else None,
            "start_after": until if (until := _moment(due)) != sent else None,
            "started_at": begun if ended else None,
            "completed_at": ended_at if ended else None,
            "lease_until": _moment(lease) if running else None,
        }


def _arq_arguments(said: list[Any]) -> list[Any]:
    """Return what stands in the arguments of a job: between the keys `a` and `et`, but for the key `k` in between."""
    found = said[said.index("a") + 1 : said.index("et")] if "a" in said and "et" in said else []
    return [each for at, each in enumerate(found) if not (each == "k" and "k" not in found[at + 1 :])]


def _after(name: str, said: list[Any]) -> Any:
    """Return what follows a key in a pickled dictionary."""
    return next((said[at + 1] for at, each in enumerate(said[:-1]) if each == name and type(each) is str), None)


def _number_after(name: str, said: list[Any]) -> float | None:
    """Return the number that follows a key; None where it is too small for a time, and so was left out."""
    found = _after(name, said)
    return found if isinstance(found, int | float) else None


# Celery ---------------------------------------------------------------------------------------------------------------

_CELERY_STATES: Final = {
    "STARTED": "PROCESSING",
    "SUCCESS": "COMPLETED",
    "FAILURE": "FAILED",
    "REVOKED": "CANCELLED",
    "REJECTED": "FAILED",
}
"""By the state of a result; a task in retry waits."""


def _celery(told: Any) -> Iterator[Row]:
    results: dict[str, dict[str, Any]] = {}
    messages: dict[str, tuple[str, dict[str, Any]]] = {}
    for where, data, _ in told:
        said = _json(data)
        if where == b"result":
            if isinstance(said, dict) and said.get("task_id"):
                results[str(said["task_id"])] = said
            continue
        message = said[0] if where == b"unacked" and isinstance(said, list) and said else said
        headers = message.get("headers") if isinstance(message, dict) else None
        if isinstance(headers, dict) and headers.get("id"):
            known = messages.get(str(headers["id"]))
            if known is None or known[0] != "unacked":
                messages[str(headers["id"])] = where.decode(), message
    for key in dict.fromkeys((*messages, *results)):
        yield _celery_row(key, results.get(key) or {}, *messages.get(key, ("", {})))


def _celery_row(key: str, result: dict[str, Any], where: str, message: dict[str, Any]) -> Row:
    headers = message.get("headers") or {}
    state = str(result.get("status") or "")
    status = _CELERY_STATES.get(state) or ("PROCESSING" if where == "unacked" and not headers.get("eta") else "PENDING")
    body: Any = None
    with suppress(ValueError, TypeError):
        body = json.loads(base64.b64decode(message["body"]) if message else b"null")
    arguments = body[:2] if isinstance(body, list) else []
    failed, done = status == "FAILED", result.get("date_done")
    return {
        "id": key,
        "input": [*_leaves(arguments), *_leaves([result.get("args"), result.get("kwargs")]), key],
        "status": status,
        "attempts": int(headers.get("retries") or 0) + (status != "PENDING"),
        "output": result.get("result") if status == "COMPLETED" else None,
        "error": str(result.get("result") or "failed")[:_LONGEST_ERROR] if failed else None,
        "start_after": _iso(str(headers["eta"]).encode()) if headers.get("eta") else None,
        "completed_at": _iso(str(done).encode()) if done and status in ("COMPLETED", "FAILED") else None,
    }


def _leaves(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | dict):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _leaves(each)


# Dramatiq -------------------------------------------------------------------------------------------------------------


def _dramatiq(told: Any) -> Iterator[Row]:
    for key, data, where in told:
        message = _json(data)
        if not isinstance(message, dict):
            continue
        options = message.get("options") or {}
        state = where.decode()
        yield {
            "id": str(message.get("message_id") or _text(key)),
            "input": [*_leaves([message.get("args"), message.get("kwargs")])],
            "tool": str(message.get("actor_name") or "tool"),
            "status": {"dead": "FAILED", "taken": "PROCESSING"}.get(state, "PENDING"),
            "attempts": int(options.get("retries") or 0) + (state != "queued"),
            "error": str(options.get("traceback") or "dead")[-_LONGEST_ERROR:] if state == "dead" else None,
            "start_after": _moment(options.get("eta")),
        }


# pydocket -------------------------------------------------------------------------------------------------------------

_DOCKET_STATES: Final = {
    "running": "PROCESSING",
    "completed": "COMPLETED",
    "failed": "FAILED",
    "cancelled": "CANCELLED",
}


def _docket(told: Any) -> Iterator[Row]:
    for key, flat in told:
        run = _pairs(flat)
        status = _DOCKET_STATES.get(_text(run.get("state")) or "", "PENDING")
        name = key.decode(errors="replace").partition(":runs:")[2]
        yield {
            "id": name,
            "input": [name, *(texts_of_pickle(run.get("args", b""))), *(texts_of_pickle(run.get("kwargs", b"")))],
            "tool": _text(run.get("function")) or "tool",
            "status": status,
            "error": (_text(run.get("error")) or "failed")[:_LONGEST_ERROR] if status == "FAILED" else None,
            "start_after": _moment(float(run["when"]) * 1000) if run.get("when") else None,
            "started_at": _iso(run.get("started_at")),
            "completed_at": _iso(run.get("completed_at")) if status in ("COMPLETED", "FAILED") else None,
        }


# Sidekiq --------------------------------------------------------------------------------------------------------------


def _sidekiq(told: Any) -> Iterator[Row]:
    for place, score, data in told:
        job = _json(data)
        if isinstance(job, dict):
            yield {
                "id": str(job.get("jid")),
                "input": [job.get("args"), job.get("jid")],
                "tool": str(job.get("class") or "tool"),
                "status": "FAILED" if place == b"dead" else "PENDING",
                "error": job.get("error_message") if place == b"dead" else None,
                "start_after": _moment(float(score) * 1000) if place in (b"schedule", b"retry") else None,
            }


class TakenJobs:
    """What processes have taken out of Redis, where nothing says any more that it was there.

    A process asks for one job at a time, so when it asks again, the one that it had is over, and
    has succeeded unless it is in Redis again by then. Of one that its process never heard of, or
    died with, that never comes.
    """

    def __init__(self, command: bytes) -> None:
        self.command = command
        """By this a process asks."""
        self._known: dict[str, Row] = {}
        """All jobs that were in Redis once, as they were then."""
        self._held: dict[Hashable, str] = {}
        """By process, in the life that it had then, what it has."""
        self._over: set[str] = set()

    def asks(self, process: Hashable) -> bool:
        """Take note that a process asks for a job. True: one that it had is over by that."""
        if (job := self._held.pop(process, None)) is None:
            return False
        self._over.add(job)
        return True

    def take(self, process: Hashable, reply: bytes) -> None:
        """Take note of what a process heard when it asked: the name of a list, and a job; or nothing."""
        job = _json(reply.split(b"\r\n", 4)[-1])
        if isinstance(job, dict):
            self._held[process] = str(job.get("jid"))

    def rows(self, there: list[Row]) -> list[Row]:
        """Return all jobs, where `there` are those in Redis."""
        places = {row["id"]: row for row in there}
        self._over -= places.keys()
        self._held = {process: job for process, job in self._held.items() if job not in places}
        self._known |= places
        gone = (row for job, row in self._known.items() if job not in places)
        status = ((row, "COMPLETED" if row["id"] in self._over else "PROCESSING") for row in gone)
        return there + [{**row, "status": now, "start_after": None} for row, now in status]


_EVERY: Final = frozenset(("id", "input", "status", "attempts", "error", "start_after"))
_TIMED: Final = _EVERY | {"started_at", "completed_at", "lease_until"}

_BROKERS: Final = (
    Broker("bullmq", _bullmq, _TIMED | {"tool", "max_attempts", "priority", "output"}),
    Broker("rq", _rq, _TIMED | {"max_attempts"}),
    Broker("arq", _arq, _TIMED, takes_once_more=True),
    Broker("celery", _celery, _EVERY | {"output", "completed_at"}),
    Broker("dramatiq", _dramatiq, _EVERY | {"tool"}),
    Broker("pydocket", _docket, (_EVERY | {"tool"}) - {"attempts"}),
    Broker("sidekiq", _sidekiq, (_EVERY | {"tool"}) - {"attempts"}, takes_away_by=b"BRPOP"),
)
BROKERS: Final[Mapping[str, Broker]] = {broker.name: broker for broker in _BROKERS}
"""Queues on Redis whose jobs are known by name; those of any other are shown by a script in Lua."""
