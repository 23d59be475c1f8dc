"""A Celery application's own tasks as processors: `task.delay()` enqueues, and each message is a job on virtual time.

What is kept of Celery is what its manual says of a worker: early or late acknowledgement, retries with their countdown,
`autoretry_for`, the request that a bound task reads, handlers. What there is of a broker is the reference queue: what a
dead worker held is delivered again once the lease is over, as on Redis after the visibility timeout. Must not know:
brokers, Celery's workers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from harness.adapters.reference.application import JobResult, ToolJob
from harness.errors import UsageError
from harness.model.job import slug_of
from harness.model.lifecycle import Status

if TYPE_CHECKING:
    from harness.processors.assertions import JobHandle
    from harness.processors.job_harness import JobHarness

REDELIVERIES: Final = 20
"""Deliveries of one message that is acknowledged late; Celery itself has no limit."""
OWN: Final = "celery."
"""How the names of Celery's own tasks begin."""
NOT_KEPT: Final = ("link", "link_error", "chord", "chain", "group_id", "expires")
"""Options that ask for more than one message, or for a message that ends."""
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
        return "RETRY" if status is Status.PENDING and len(self.jobs) > 1 else _STATES[Status(status)]

    status = state

    @property
    def result(self) -> Any:
        """What the task returned, or the text of its error."""
        job = self.job
        return job.error if self.state == "FAILURE" else (job.output or {}).get("result")

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
        for name, task in self._tasks.items():
            harness.register(slug_of(name), self._processor(task))
            harness.tasks[name] = slug_of(name)
            task.apply_async = self._sender(task)
        app.send_task = self._send_named

    def restore(self) -> None:
        """Give the tasks back as they were."""
        for task in self._tasks.values():
            task.__dict__.pop("apply_async", None)
        self._app.__dict__.pop("send_task", None)

    # sending --------------------------------------------------------------------------------------------------------

    def _sender(self, task: Any) -> Callable[..., CeleryResult]:
        def apply_async(
            args: Any = None, kwargs: Any = None, task_id: str | None = None, **options: Any
        ) -> CeleryResult:
            return self._send(task, args, kwargs, task_id=task_id, options=options)

        return apply_async

    def _send_named(self, name: str, args: Any = None, kwargs: Any = None, **options: Any) -> CeleryResult:
        if name not in self._tasks:
            raise UsageError(f"the application has no task {name!r}", hint=f"It has {', '.join(self._tasks)}.")
        return self._send(self._tasks[name], args, kwargs, task_id=options.pop("task_id", None), options=options)

    def _send(
        self, task: Any, args: Any, kwargs: Any, *, task_id: str | None, options: Mapping[str, Any]
    ) -> CeleryResult:
        if asked := [name for name in NOT_KEPT if options.get(name)]:
            raise UsageError(
                f"{task.name}: {asked[0]} is not kept here", hint="Test each task by itself, and call the next one."
            )
        task_id = task_id or f"task-{len(self.sent) + 1}"
        handle = self.harness.enqueue(
            slug_of(task.name),
            {
                "id": task_id,
                "args": list(args or ()),
                "kwargs": dict(kwargs or {}),
                "retries": options.get("retries") or 0,
            },
            start_after=_start(options),
            max_attempts=REDELIVERIES if task.acks_late else 1,
        )
        self.sent.setdefault(task_id, []).append(handle)
        return CeleryResult(self, task_id)

    # running --------------------------------------------------------------------------------------------------------

    def _processor(self, task: Any) -> Callable[[ToolJob], JobResult]:
        def run(job: ToolJob) -> JobResult:
            return self._run(task, job)

        run.__name__ = run.__qualname__ = task.name.rpartition(".")[2]
        run.__module__ = task.__module__
        return run

    def _run(self, task: Any, job: ToolJob) -> JobResult:
        from celery.exceptions import Ignore, Reject, Retry

        message: Any = job.input
        about = message["id"], message["args"], message["kwargs"]
        task.push_request(
            id=message["id"],
            root_id=message["id"],
            args=message["args"],
            kwargs=message["kwargs"],
            retries=message["retries"],
            called_directly=False,
            is_eager=False,
            hostname="job-harness",
            delivery_info={"redelivered": job.attempts > 1, "routing_key": "celery", "exchange": ""},
        )
        try:
            task.before_start(*about)
            value = task.run(*message["args"], **message["kwargs"])
        except Retry as retry:
            task.on_retry(retry.exc, *about, None)
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
        return JobResult(success=True, output={"result": value})


def _start(options: Mapping[str, Any]) -> timedelta | datetime | None:
    if options.get("countdown") is not None:
        return timedelta(seconds=options["countdown"])
    eta: datetime | None = options.get("eta")
    return eta if eta is None or eta.tzinfo is not None else eta.replace(tzinfo=UTC)
