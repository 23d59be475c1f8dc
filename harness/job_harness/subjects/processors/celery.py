"""A Celery application's own tasks as processors: `task.delay()` enqueues, and each message is a job on virtual time.

What is kept of Celery is what its manual says of a worker: early or late acknowledgement, retries with their countdown,
`autoretry_for`, the request that a bound task reads, handlers. What there is of a broker is the reference queue: what a
dead worker held is delivered again once the lease is over, as on Redis after the visibility timeout. Must not know:
brokers, Celery's workers.
"""

from __future__ import annotations

import inspect
import json
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, NoReturn
from uuid import UUID

from job_harness.core.model import SECOND, Duration, Status, format_duration, json_problem, json_text, rounded, slug_of
from job_harness.engines.reference.application import JobResult, ToolJob
from job_harness.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    from job_harness.subjects.processors.job_book import JobHandle
    from job_harness.subjects.processors.job_harness import JobHarness

REDELIVERIES: Final = 20
"""Deliveries of one message that is acknowledged late; Celery itself has no limit."""
OWN: Final = "celery."
"""How the names of Celery's own tasks begin."""
ITSELF: Final = "Test each task by itself"
NOT_KEPT: Final[Mapping[str, str]] = {
    "link": f"{ITSELF}: call the callback with what the task returned, callback.delay(result.get()).",
    "link_error": f"{ITSELF}: call the error callback with the arguments that Celery would give it.",
    "chord": f"{ITSELF}: those of the header, then the body with the list of what they returned.",
    "chain": f"{ITSELF}: call the next one with what the one before returned, second.delay(first.delay().get()).",
    "group_id": f"{ITSELF}: send those of the group one by one, task.delay(...).",
}
"""Options that ask for more than one message, each with what to do instead."""
RESULTS: Final = (
    "get_many", "get_result", "get_state", "get_status", "get_task_meta", "get_task_meta_for", "get_traceback",
    "iter_native", "restore_group", "save_group", "task_result_exists", "wait_for", "wait_for_pending",
)  # fmt: skip
"""Methods by which a result backend is asked."""
CHORDS: Final = ("add_to_chord", "apply_chord", "ensure_chords_allowed", "on_chord_part_return", "set_chord_size")
SILENT: Final = (
    "add_pending_result", "add_pending_results", "cleanup", "delete_group", "forget", "remove_pending_result",
)  # fmt: skip
"""Methods that a result backend would write by, or wait with; as without a backend, nothing comes of them."""
VISIBILITY_SECONDS: Final = {"redis": 3600, "rediss": 3600, "sentinel": 3600, "sqs": 1800}
"""By the broker's scheme, its visibility timeout where the application sets none, as kombu has it."""
EXPIRED: Final = {"expired": True}
"""The output of a message that had expired when a worker came to it: its task did not run."""
_STATES: Final = {
    Status.PENDING: "PENDING",
    Status.PROCESSING: "STARTED",
    Status.COMPLETED: "SUCCESS",
    Status.FAILED: "FAILURE",
    Status.CANCELLED: "REVOKED",
}


class CeleryResult:
    """What `task.delay()` returns here: a task's state over all its messages, read live."""

    def __init__(self, tasks: CeleryTasks, task_id: str) -> None:
        self.id = task_id
        self._tasks = tasks

    def __repr__(self) -> str:
        return f"<CeleryResult {self.id}: {self.state}>"

    @property
    def jobs(self) -> Sequence[JobHandle]:
        """Its messages, the first one and one for each retry."""
        return self._tasks.sent[self.id]

    @property
    def job(self) -> JobHandle:
        """The message that was sent last."""
        return self.jobs[-1]

    @property
    def state(self) -> str:
        """PENDING, STARTED, RETRY, SUCCESS, FAILURE or REVOKED."""
        status = self.job.status
        if status is Status.COMPLETED and EXPIRED.items() <= (self.job.output or {}).items():
            return "REVOKED"
        return "RETRY" if status is Status.PENDING and len(self.jobs) > 1 else _STATES[Status(status)]

    status = state

    @property
    def result(self) -> Any:
        """What the task returned, or the text of its error."""
        job = self.job
        return job.error if self.state == "FAILURE" else _received((job.output or {}).get("result"))

    @property
    def retries(self) -> int:
        """How often the task was retried."""
        return len(self.jobs) - 1

    def ready(self) -> bool:
        """Whether it has ended."""
        return self.state in ("SUCCESS", "FAILURE", "REVOKED")

    def successful(self) -> bool:
        """Whether it has succeeded."""
        return self.state == "SUCCESS"

    def failed(self) -> bool:
        """Whether it has failed."""
        return self.state == "FAILURE"

    def get(self, *_: Any, **__: Any) -> Any:
        """Work until everything has ended, and return the result. Raises RuntimeError with the text of an error."""
        self._tasks.harness.run_until_idle()
        if not self.successful():
            raise RuntimeError(self.result)
        return self.result


class CeleryTasks:
    """The tasks of one application, served by one harness until it is closed."""

    def __init__(self, harness: JobHarness, app: Any) -> None:
        """Register every task of the application, and take over how they are sent.

        Raises UsageError if it is not a Celery application, or has no tasks.
        """
        if not hasattr(app, "tasks") or not hasattr(app, "send_task"):
            raise UsageError(
                f"{app!r} is no Celery application", hint="Pass the object that Celery(...) made: register_celery(app)."
            )
        self.harness = harness
        self.sent: dict[str, list[JobHandle]] = {}
        app.loader.import_default_modules()
        app.finalize()
        self._tasks = {name: task for name, task in app.tasks.items() if not name.startswith(OWN)}
        if not self._tasks:
            raise UsageError(
                f"the application {app.main!r} has no tasks",
                hint="Import the modules that define them first, or name them: Celery(..., include=['shop.tasks']).",
            )
        self._app = app
        self._before: list[tuple[dict[str, Any], str, Any]] = []
        """What was replaced, by the attributes that it is one of."""
        self._shut_off()
        for name, task in self._tasks.items():
            harness.register(slug_of(name), self._processor(task))
            harness.book.tasks[name] = slug_of(name)
            task.apply_async = self._sender(task)
        app.send_task = self._send_named

    def restore(self) -> None:
        """Give the tasks back as they were."""
        for task in self._tasks.values():
            task.__dict__.pop("apply_async", None)
        self._app.__dict__.pop("send_task", None)
        for own, name, value in reversed(self._before):
            own.pop(name, None)
            if value is not _ABSENT:
                own[name] = value

    def _shut_off(self) -> None:
        """Refuse what asks for the application's broker or its result backend, so that nothing connects."""
        backend = _no_backend(self._app)
        self._replace(self._app, _connection=_refuse_broker, producer_or_acquire=nullcontext, _pool=None)
        self._replace(self._app, _get_backend=lambda: backend, _backend_cache=None, _local=threading.local())
        self._replace(self._app.amqp, _producer_pool=None)

    def _replace(self, owner: Any, **values: Any) -> None:
        """Set attributes of an object, those that it keeps what it has opened in too, until it is restored."""
        own = vars(owner)
        self._before += [(own, name, own.get(name, _ABSENT)) for name in values]
        own.update(values)

    # sending --------------------------------------------------------------------------------------------------------

    def _sender(self, task: Any) -> Callable[..., CeleryResult]:
        def apply_async(
            args: Any = None, kwargs: Any = None, task_id: str | None = None, **options: Any
        ) -> CeleryResult:
            return self._send(task, args, kwargs, task_id=task_id, options=options)

        return apply_async

    def _send_named(self, name: str, args: Any = None, kwargs: Any = None, **options: Any) -> CeleryResult:
        if name not in self._tasks:
            near = did_you_mean(name, self._tasks)
            raise UsageError(f"the application has no task {name!r}{near}", hint=f"It has {', '.join(self._tasks)}.")
        return self._send(self._tasks[name], args, kwargs, task_id=options.pop("task_id", None), options=options)

    def _send(
        self, task: Any, args: Any, kwargs: Any, *, task_id: str | None, options: Mapping[str, Any]
    ) -> CeleryResult:
        if asked := [name for name in NOT_KEPT if options.get(name)]:
            raise UsageError(f"{task.name}: {asked[0].removesuffix('_id')} is not kept here", hint=NOT_KEPT[asked[0]])
        task_id = task_id or str(UUID(int=len(self.sent) + 1))  # As Celery's own, so that it is none of a user's.
        handle = self.harness.enqueue_part(
            slug_of(task.name),
            {
                **_by_name(task, args or (), kwargs or {}),
                "id": task_id,
                **_carried({"args": list(args or ()), "kwargs": dict(kwargs or {})}),
                "retries": options.get("retries") or 0,
                "expires": self._expiry(options.get("expires") or task.expires),
            },
            start_after=self._start(options),
            max_attempts=REDELIVERIES if task.acks_late else 1,
            work=f"{task.name} {task_id}",
        )
        self.sent.setdefault(task_id, []).append(handle)
        return CeleryResult(self, task_id)

    def _start(self, options: Mapping[str, Any]) -> timedelta | datetime | None:
        if options.get("countdown") is not None:
            return timedelta(seconds=options["countdown"])
        eta: datetime | None = options.get("eta")
        return None if eta is None else self._aware(eta)

    def _expiry(self, expires: float | str | datetime | None) -> str | None:
        """Return the moment after which a message is worth nothing, as JSON holds it."""
        if expires is None:
            return None
        if isinstance(expires, int | float):
            return (self.harness.now + timedelta(seconds=expires)).isoformat()
        return self._aware(datetime.fromisoformat(expires) if isinstance(expires, str) else expires).isoformat()

    def _aware(self, moment: datetime) -> datetime:
        return moment if moment.tzinfo is not None else moment.replace(tzinfo=self._app.timezone)

    # running --------------------------------------------------------------------------------------------------------

    def _processor(self, task: Any) -> Callable[[ToolJob], JobResult]:
        def run(job: ToolJob) -> JobResult:
            return self._run(task, job)

        run.__name__ = run.__qualname__ = task.name.rpartition(".")[2]
        run.__module__ = task.__module__
        return run

    def _run(self, task: Any, job: ToolJob) -> JobResult:
        begin = self.harness.bench.instant
        result = self._performed(task, job)
        if not self.harness.bench.session.explored:  # A pause of its worker is no length of the task's.
            self._judge_length(task, self.harness.bench.instant - begin)
        return result

    def _judge_length(self, task: Any, took: Duration) -> None:
        """Report a run that the application's own limits do not let come to its end, or not alone."""
        told = f"{task.name} ran for {format_duration(rounded(took))}"
        limit = task.time_limit  # Celery binds it to task_time_limit where the task has none of its own.
        if limit and took > limit * SECOND:
            self.harness.checks.report("time_limit", f"{told}, and Celery kills what runs for longer than {limit:g} s")
        visible = self._visibility_timeout()
        if visible and task.acks_late and took > visible * SECOND:
            again = "another worker is given the message while it still runs"
            self.harness.checks.report("visibility_timeout", f"{told}, and after {visible:g} s {again}")

    def _visibility_timeout(self) -> float | None:
        """Return after how many seconds the application's broker delivers a message again; None: by no clock."""
        conf = self._app.conf
        urls = conf.broker_write_url or conf.broker_url or ""
        url = str(urls if isinstance(urls, str) else next(iter(urls), ""))
        default = VISIBILITY_SECONDS.get(re.split(r"[:+]", url, maxsplit=1)[0])
        return default and (conf.broker_transport_options or {}).get("visibility_timeout", default)

    def _performed(self, task: Any, job: ToolJob) -> JobResult:
        from celery.exceptions import Ignore, Reject, Retry

        message: Any = job.input
        given = _arrived(message)
        about = message["id"], given["args"], given["kwargs"]
        task.push_request(
            id=message["id"],
            root_id=message["id"],
            args=given["args"],
            kwargs=given["kwargs"],
            retries=message["retries"],
            expires=message["expires"],
            called_directly=False,
            is_eager=False,
            hostname="job-harness",
            delivery_info={"redelivered": job.attempts > 1, "routing_key": "celery", "exchange": ""},
        )
        try:
            if message["expires"] and self.harness.now > datetime.fromisoformat(message["expires"]):
                return JobResult(success=True, output=EXPIRED)
            task.before_start(*about)
            value = task.run(*given["args"], **given["kwargs"])
        except Retry as retry:
            task.on_retry(retry.exc, *about, None)
            last = self.sent[message["id"]]
            self.harness.bench.descent.reasons[last[-1].id] = (
                f"; each retries {task.name}, the last one after {_words(retry.exc)}"
            )
            return JobResult(success=True, output={"retry": str(retry)})
        except Ignore:
            return JobResult(success=True, output={"ignored": True})
        except Reject as reject:
            return JobResult(success=False, error=f"rejected: {reject.reason}", retryable=bool(reject.requeue))
        except Exception as error:  # noqa: BLE001 - whatever a task raises is how its attempt ended
            task.on_failure(error, *about, None)
            raise_again = bool(task.acks_late and not task.acks_on_failure_or_timeout)
            return JobResult(success=False, error=f"{type(error).__name__}: {error}", retryable=raise_again)
        finally:
            task.pop_request()
        task.on_success(value, *about)
        return JobResult(success=True, output={"result": _serialized(value)})


_ABSENT: Final = object()


def _by_name(task: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return a message's arguments by the names that the task has for them, for assertions and invariants to find.

    Nothing where the task does not take them, which it says itself once it runs, or where no store
    can hold one.
    """
    try:
        bound = inspect.signature(task.run).bind(*args, **kwargs)
    except (TypeError, ValueError):
        return {}
    taken = bound.signature.parameters.values()
    several = {each.name for each in taken if each.kind in (each.VAR_POSITIONAL, each.VAR_KEYWORD)}
    named = _serialized({**kwargs, **{name: value for name, value in bound.arguments.items() if name not in several}})
    return {} if json_problem(named) else named


def _carried(given: dict[str, Any]) -> dict[str, Any]:
    """Return how a message holds its arguments: in one text where a broker takes them and JSONB does not (NUL, NaN)."""
    given = _serialized(given)
    text = None if json_problem(given) is None else json_text(given, nan=True)
    return given if text is None else {"body": text}


def _arrived(message: dict[str, Any]) -> Any:
    """Return the arguments that a message holds, as the task is given them."""
    sent = json.loads(message["body"]) if "body" in message else message
    return _received({"args": sent["args"], "kwargs": sent["kwargs"]})


def _serialized(value: Any) -> Any:
    """Return what Celery's JSON makes of a value: a UUID, date, Decimal or bytes becomes a tagged dict (kombu 5.3 on).

    What it cannot hold either is returned as it is: who keeps it says what is wrong with it.
    """
    from kombu.utils.json import dumps

    try:
        return value if json_problem(value) is None else json.loads(dumps(value))
    except (TypeError, ValueError, RecursionError):
        return value


def _received(value: Any) -> Any:
    """Return what a task, or who asks for its result, is given of what `_serialized` made."""
    from kombu.utils.json import loads

    return loads(json.dumps(value))


def _words(error: BaseException | None) -> str:
    return "no error" if error is None else f"{type(error).__name__}: {error}".partition("\n")[0]


def _refuse_broker(*_: Any, **__: Any) -> NoReturn:
    raise UsageError(
        "the application uses its broker, but there is none under job_harness",
        hint="Only delay(), apply_async() and send_task() are kept. Replace app.control and the like by a fake.",
    )


def _no_backend(app: Any) -> Any:
    """Return what stands in the place of the application's result backend: nothing is kept, and who asks is told so."""
    from celery.backends.base import DisabledBackend

    def ask(*_: Any, **__: Any) -> NoReturn:
        raise UsageError(
            "the application asks a result backend, but there is none under job_harness",
            hint="Use what delay() returns: its state, result and get() work.",
        )

    def join(*_: Any, **__: Any) -> NoReturn:
        raise UsageError("a chord is not supported here", hint=NOT_KEPT["chord"])

    def say_nothing(*_: Any, **__: Any) -> None: ...

    methods = {**dict.fromkeys(RESULTS, ask), **dict.fromkeys(CHORDS, join), **dict.fromkeys(SILENT, say_nothing)}
    return type("NoBackend", (DisabledBackend,), methods)(app=app)
