"""The routes. Translates between HTTP and the users' side of the queue; knows no store and no SQL."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Header, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.security import HTTPBearer
from starlette.exceptions import HTTPException
from starlette.routing import compile_path

from job_harness_reference.config import Config
from job_harness_reference.errors import (
    InvalidJsonError,
    MaintenanceError,
    QueueError,
    StoreUnavailableError,
    UnknownToolError,
)
from job_harness_reference.http_api.identity import Authenticator, cron_refusal, trusted_header
from job_harness_reference.http_api.limits import BodyLimit
from job_harness_reference.http_api.schema import (
    CreateJob,
    DatabaseHealth,
    Health,
    Job,
    JobList,
    Maintenance,
    Problem,
    WorkersHealth,
)
from job_harness_reference.models import MaintenanceReport
from job_harness_reference.queue import (
    IdempotencyConflictError,
    InputTooLargeError,
    JobFinishedError,
    JobNotFoundError,
    JobQueue,
    JobRequest,
    NotOwnerError,
    Owner,
)

RunMaintenance = Callable[[], Awaitable[MaintenanceReport]]
"""Runs the three steps of maintenance once."""

_ENVELOPE_BYTES = 65_536
"""What a request body may hold beside the input."""

_log = logging.getLogger("job_harness_reference.http_api")

_STATUS_CODES: dict[type[QueueError], int] = {
    NotOwnerError: 403,
    JobNotFoundError: 404,
    UnknownToolError: 404,
    IdempotencyConflictError: 409,
    JobFinishedError: 409,
    InputTooLargeError: 413,
    InvalidJsonError: 422,
    StoreUnavailableError: 503,
}

_RETRY_AFTER_SECONDS = 1
"""When to ask again while the database restarts."""

_MEANINGS = {
    400: "The body is not JSON in UTF-8.",
    401: "The bearer secret is missing or wrong.",
    403: "The job belongs to another user or session, or the request does not say who is asking.",
    404: "No such job or tool.",
    409: "The job's state does not allow it.",
    413: "The input is too large.",
    422: "The request cannot be read.",
    500: "Something failed here; `detail` says what is known, the log says why.",
    503: "Something that the request needs is not there; `detail` says what. `Retry-After` says when to ask again.",
}


_CRON_BEARER = HTTPBearer(auto_error=False, scheme_name="cronSecret", description="$CRON_SECRET")
"""Only describes the secret in OpenAPI; `cron_refusal` compares it."""


async def _owner(
    request: Request,
    x_session_id: Annotated[
        str | None,
        Header(description="The anonymous session: it sees what it created while no user was signed in."),
    ] = None,
) -> Owner:
    user_id = await request.app.state.authenticate(request)
    return Owner(user_id=user_id, session_id=x_session_id or None)


Asking = Annotated[Owner, Depends(_owner)]


def create_app(
    *,
    queue: JobQueue,
    maintenance: RunMaintenance,
    config: Config,
    authenticate: Authenticator = trusted_header,
) -> FastAPI:
    """Build the ASGI application. It opens and closes nothing: the caller owns the store."""
    app = FastAPI(
        title="Job queue",
        version="1",
        summary="Create jobs, follow them, cancel them.",
        description=(
            "A job belongs to the user who created it (header `x-user-id`, set by the gateway), or, where no user was "
            "signed in, to the anonymous session (header `x-session-id`). No one else can see it."
        ),
    )
    app.state.authenticate = authenticate
    app.include_router(_job_routes(queue))
    app.include_router(_cron_routes(maintenance, config))
    app.include_router(_health_routes(queue, config))
    app.add_exception_handler(QueueError, _answer_queue_error)
    app.add_exception_handler(RequestValidationError, _answer_validation_error)
    app.add_exception_handler(HTTPException, _answer_http_error)
    app.add_exception_handler(Exception, _answer_failure)
    app.add_middleware(BodyLimit, limit_bytes=config.job_input_limit_bytes + _ENVELOPE_BYTES)
    return app


IdempotencyKey = Annotated[
    str | None,
    Header(
        min_length=1,
        max_length=255,
        description="The same key again answers 200 with the first job, as long as that is kept.",
    ),
]


_REPEATED: dict[int | str, dict[str, Any]] = {
    200: {"model": Job, "description": "The idempotency key stands for this job: nothing was created."}
}


def _job_routes(queue: JobQueue) -> APIRouter:
    router = APIRouter(prefix="/api/jobs", tags=["jobs"])

    @router.post(
        "", status_code=201, response_model=Job, responses=_REPEATED | _problems(400, 403, 404, 409, 413, 422, 500, 503)
    )
    async def create_job(
        body: CreateJob,
        response: Response,
        asking: Asking,
        idempotency_key: IdempotencyKey = None,
    ) -> Job:
        """Create a job; it is PENDING until a worker takes it."""
        request = JobRequest(
            tool_slug=body.tool_slug,
            input=body.input,
            priority=body.priority,
            start_after=body.start_after,
            idempotency_key=idempotency_key,
        )
        enqueued = await queue.create(request, owner=asking)
        response.status_code = 201 if enqueued.created else 200
        response.headers["Location"] = f"/api/jobs/{enqueued.job.id}"
        return Job.of(enqueued.job)

    @router.get("", response_model=JobList, responses=_problems(403, 422, 500, 503))
    async def list_jobs(
        asking: Asking,
        limit: Annotated[int, Query(ge=1, le=500, description="How many at most.")] = 100,
    ) -> JobList:
        """List the caller's jobs, newest first."""
        return JobList(jobs=[Job.of(job) for job in await queue.list_own(owner=asking, limit=limit)])

    @router.get("/{job_id}", response_model=Job, responses=_problems(403, 404, 500, 503))
    async def get_job(job_id: str, asking: Asking) -> Job:
        """Read a job's status, and its output or error once there is one."""
        return Job.of(await queue.get(job_id, owner=asking))

    @router.post("/{job_id}/cancel", response_model=Job, responses=_problems(403, 404, 409, 500, 503))
    async def cancel_job(job_id: str, asking: Asking) -> Job:
        """Cancel a PENDING or PROCESSING job; a running processor is stopped at its next heartbeat."""
        return Job.of(await queue.cancel(job_id, owner=asking))

    return router


def _cron_routes(maintenance: RunMaintenance, config: Config) -> APIRouter:
    router = APIRouter(prefix="/api/cron", tags=["cron"])

    @router.get(
        "/job-maintenance",
        response_model=Maintenance,
        responses=_problems(401, 500, 503),
        dependencies=[Depends(_CRON_BEARER)],
    )
    async def job_maintenance(request: Request) -> Maintenance | JSONResponse:
        """Take back jobs whose lease is over, reconcile the tables, free stuck jobs, delete what is past its retention.

        Takes `Authorization: Bearer $CRON_SECRET`; meant to be called every minute.
        """
        refusal = cron_refusal(request, config)
        if refusal is not None:
            status, detail = refusal
            headers = {"WWW-Authenticate": "Bearer"} if status == 401 else None
            return _problem(status, "CronRefused", detail, headers=headers)
        try:
            return Maintenance.of(await maintenance())
        except MaintenanceError as failed:
            _log.exception("maintenance failed")
            return _problem(500, "MaintenanceFailed", f"Some of the parts failed ({failed.parts}); the log says why.")

    return router


def _health_routes(queue: JobQueue, config: Config) -> APIRouter:
    router = APIRouter(tags=["health"])

    @router.get("/healthz", response_model=Health, responses={503: {"model": Health}})
    async def healthz(response: Response) -> Health:
        """Tell whether the database answers and whether workers start here. 503 without a database."""
        try:
            await queue.ping()
        except Exception as error:  # noqa: BLE001 - whatever the driver raises is the news
            database = DatabaseHealth(reachable=False, error=_unreachable(error))
            response.status_code = 503
            response.headers["Retry-After"] = str(_RETRY_AFTER_SECONDS)
        else:
            database = DatabaseHealth(reachable=True)
        workers = WorkersHealth(enabled=config.workers_enabled, reason=config.workers_off_reason)
        status = "ok" if workers.enabled else "degraded"
        return Health(status=status if database.reachable else "down", database=database, workers=workers)

    return router


def _unreachable(error: Exception) -> str:
    """Name the kind of failure only: a driver's message may hold addresses and passwords."""
    return f"The database does not answer ({type(error).__name__}): check DATABASE_URL and the server."


def _problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    return {status: {"model": Problem, "description": _MEANINGS[status]} for status in statuses}


def _problem(status: int, error: str, detail: str, *, headers: dict[str, str] | None = None) -> JSONResponse:
    readable = detail.encode("utf-8", "backslashreplace").decode()
    return JSONResponse({"error": error, "detail": readable}, status_code=status, headers=headers)


async def _answer_queue_error(_request: Request, error: Exception) -> JSONResponse:
    status = next((code for kind, code in _STATUS_CODES.items() if isinstance(error, kind)), 400)
    if isinstance(error, StoreUnavailableError):
        _log.warning("%s %s", error, error.__cause__)
        detail = f"{error} Whether the request took effect is unknown: ask again, with the same Idempotency-Key."
        return _problem(status, "Unavailable", detail, headers={"Retry-After": str(_RETRY_AFTER_SECONDS)})
    return _problem(status, type(error).__name__.removesuffix("Error"), str(error))


async def _answer_failure(_request: Request, error: Exception) -> JSONResponse:
    """Name the kind of failure only: its text may hold anything. The server logs the error itself."""
    return _problem(500, "Failed", f"The request failed here ({type(error).__name__}); the log says why.")


async def _answer_http_error(request: Request, error: Exception) -> JSONResponse:
    """Put the framework's own refusals, such as an unknown path, into the same form."""
    assert isinstance(error, HTTPException)
    headers = dict(error.headers) if error.headers else None
    if error.status_code == 405:
        headers = {"Allow": _methods_at(request)}
    return _problem(error.status_code, "RequestRefused", f"{error.detail}.", headers=headers)


def _methods_at(request: Request) -> str:
    """Name all methods of a path: the framework names those of one route, and a path may have several."""
    paths: dict[str, dict[str, object]] = request.app.openapi()["paths"]
    there = [methods for path, methods in paths.items() if compile_path(path)[0].match(request.url.path)]
    return ", ".join(sorted({method.upper() for methods in there for method in methods}))


async def _answer_validation_error(_request: Request, error: Exception) -> JSONResponse:
    """Say where and why, without repeating the input: it may be huge, or no text at all."""
    details = error.errors() if isinstance(error, RequestValidationError) else []
    lines = [f"{'.'.join(str(step) for step in each['loc'])}: {each['msg']}" for each in details]
    return _problem(422, "InvalidRequest", "; ".join(lines) or "The request cannot be read.")
