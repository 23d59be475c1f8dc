"""The HTTP face over the memory store."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import httpx
import pytest
from starlette.requests import Request

from job_harness_reference.config import Config
from job_harness_reference.errors import StoreUnavailableError
from job_harness_reference.http_api import create_app
from job_harness_reference.maintenance import run_maintenance
from job_harness_reference.models import MaintenanceReport
from job_harness_reference.queue import JobQueue
from job_harness_reference.store.memory import MemoryStore

START = datetime(2026, 1, 1, tzinfo=UTC)
ANNA = {"x-user-id": "anna"}
BERT = {"x-user-id": "bert"}
SESSION = {"x-session-id": "s-1"}
BODY = {"toolSlug": "word-count", "input": {"text": "Hello"}}


class Service:
    """The application and what stands behind it."""

    def __init__(self, **settings: Any) -> None:
        numbers = count(1)
        self.store = MemoryStore(now=lambda: START, jitter=lambda: 0.0)
        self.store.tools.add("word-count")
        self.config = Config(**settings)
        self.queue = JobQueue(
            self.store,
            self.config,
            new_id=lambda: f"00000000-0000-4000-8000-{next(numbers):012d}",
            tools=("word-count", "json-format"),
        )
        self.maintenance: Callable[[], Awaitable[MaintenanceReport]] = self._maintain
        self.authenticate: Callable[[Request], Awaitable[str | None]] | None = None

    async def _maintain(self) -> MaintenanceReport:
        return MaintenanceReport(rescued=("job-7",))

    def ask(self, method: str, path: str, **request: Any) -> httpx.Response:
        async def send() -> httpx.Response:
            extra = {} if self.authenticate is None else {"authenticate": self.authenticate}
            app = create_app(queue=self.queue, maintenance=self.maintenance, config=self.config, **extra)
            transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
                return await client.request(method, path, **request)

        return asyncio.run(send())

    def create(self, headers: dict[str, str], **body: Any) -> httpx.Response:
        return self.ask("POST", "/api/jobs", headers=headers, json={**BODY, **body})


@pytest.fixture
def service() -> Service:
    return Service()


def test_a_created_job_is_pending_and_carries_the_settings(service: Service) -> None:
    answer = service.create(ANNA, priority=5)

    assert answer.status_code == 201
    job = answer.json()
    assert answer.headers["location"] == f"/api/jobs/{job['id']}"
    assert (job["toolSlug"], job["status"], job["priority"]) == ("word-count", "PENDING", 5)
    assert (job["attempts"], job["maxAttempts"]) == (0, 3)
    assert "userId" not in job
    (row,) = service.store.queue_jobs.values()
    assert row.expire_in == timedelta(minutes=11)


def test_the_owner_reads_the_job_by_user_or_by_session(service: Service) -> None:
    by_user = service.create(ANNA).json()["id"]
    by_session = service.create(SESSION).json()["id"]

    assert service.ask("GET", f"/api/jobs/{by_user}", headers=ANNA).status_code == 200
    assert service.ask("GET", f"/api/jobs/{by_session}", headers=SESSION).status_code == 200
    assert service.ask("GET", f"/api/jobs/{by_session}", headers={**BERT, **SESSION}).status_code == 200


@pytest.mark.parametrize("headers", [{}, BERT, SESSION, {"x-session-id": "anna"}, {"x-user-id": ""}])
def test_nobody_else_reads_or_cancels_the_job(service: Service, headers: dict[str, str]) -> None:
    job_id = service.create(ANNA).json()["id"]

    assert service.ask("GET", f"/api/jobs/{job_id}", headers=headers).status_code == 403
    assert service.ask("POST", f"/api/jobs/{job_id}/cancel", headers=headers).status_code == 403
    assert service.ask("GET", f"/api/jobs/{job_id}", headers=ANNA).json()["status"] == "PENDING"


def test_a_session_opens_no_job_of_a_user_who_was_signed_in(service: Service) -> None:
    """A session id outlives a sign-out: the next user of the same browser has it too."""
    signed_in = service.create({**ANNA, **SESSION}).json()["id"]
    before = service.create(SESSION).json()["id"]

    assert service.ask("GET", f"/api/jobs/{signed_in}", headers=SESSION).status_code == 403
    assert service.ask("POST", f"/api/jobs/{signed_in}/cancel", headers={**BERT, **SESSION}).status_code == 403
    assert service.ask("GET", f"/api/jobs/{signed_in}", headers=ANNA).status_code == 200
    listed = service.ask("GET", "/api/jobs", headers=SESSION).json()["jobs"]
    assert [job["id"] for job in listed] == [before]


def test_a_request_from_nobody_creates_and_lists_nothing(service: Service) -> None:
    assert service.create({}).status_code == 403
    assert service.ask("GET", "/api/jobs").status_code == 403
    assert service.store.tool_jobs == {}


def test_a_list_holds_the_jobs_of_the_one_who_asks(service: Service) -> None:
    mine = {service.create(ANNA).json()["id"], service.create(SESSION).json()["id"]}
    service.create(BERT)

    jobs = service.ask("GET", "/api/jobs", headers={**ANNA, **SESSION}).json()["jobs"]

    assert {job["id"] for job in jobs} == mine


def test_the_injected_authenticator_decides_who_the_user_is(service: Service) -> None:
    async def always_anna(_request: Request) -> str | None:
        return "anna"

    service.authenticate = always_anna
    job_id = service.create(BERT).json()["id"]
    service.authenticate = None

    assert service.ask("GET", f"/api/jobs/{job_id}", headers=ANNA).status_code == 200


def test_a_pending_job_can_be_cancelled_once(service: Service) -> None:
    job_id = service.create(ANNA).json()["id"]

    first = service.ask("POST", f"/api/jobs/{job_id}/cancel", headers=ANNA)
    second = service.ask("POST", f"/api/jobs/{job_id}/cancel", headers=ANNA)

    assert (first.status_code, first.json()["status"]) == (200, "CANCELLED")
    assert (second.status_code, second.json()["error"]) == (409, "JobFinished")


def test_the_same_idempotency_key_answers_with_the_first_job(service: Service) -> None:
    first = service.create({**ANNA, "idempotency-key": "k"})
    again = service.create({**ANNA, "idempotency-key": "k"})
    service.ask("POST", f"/api/jobs/{first.json()['id']}/cancel", headers=ANNA)
    later = service.create({**ANNA, "idempotency-key": "k"})

    assert (first.status_code, again.status_code, later.status_code) == (201, 200, 200)
    assert first.json() == again.json()
    assert (later.json()["id"], later.json()["status"]) == (first.json()["id"], "CANCELLED")


def test_an_idempotency_key_belongs_to_its_owner(service: Service) -> None:
    ids = {service.create({**who, "idempotency-key": "k"}).json()["id"] for who in (ANNA, BERT, SESSION)}

    assert len(ids) == 3


def test_an_idempotency_key_belongs_to_its_tool(service: Service) -> None:
    service.store.tools.add("json-format")
    answers = [
        service.create({**ANNA, "idempotency-key": "k"}, toolSlug=tool) for tool in ("word-count", "json-format")
    ]

    assert [answer.status_code for answer in answers] == [201, 201]


def test_an_idempotency_key_with_another_input_is_a_conflict(service: Service) -> None:
    service.create({**ANNA, "idempotency-key": "k"}, input={"n": [1e23, True, -0.0]})

    for same in ([10**23, True, 0], [1e23, True, 0.0]):
        assert service.create({**ANNA, "idempotency-key": "k"}, input={"n": same}).status_code == 200
    for other in ([1e23, 1, 0], [1e23 + 1e8, True, 0], [1e23, True, False]):
        assert service.create({**ANNA, "idempotency-key": "k"}, input={"n": other}).status_code == 409


def test_an_unknown_tool_gets_did_you_mean(service: Service) -> None:
    answer = service.create(ANNA, toolSlug="word-cout")

    assert answer.status_code == 404
    assert "did you mean 'word-count'" in answer.json()["detail"]


def test_a_tool_without_a_partition_is_unknown_too(service: Service) -> None:
    assert service.create(ANNA, toolSlug="json-format").status_code == 404


def test_a_job_that_never_was_is_not_found(service: Service) -> None:
    for job_id in ("nope", "%00", "%ed%a0%80", "a" * 5000):
        assert service.ask("GET", f"/api/jobs/{job_id}", headers=ANNA).status_code == 404


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b'{"toolSlug": "word-count"}',
        b'{"toolSlug": "word-count", "input": 1, "priorty": 3}',
        b'{"toolSlug": "word-count", "input": 1, "priority": 99999999999}',
        b'{"toolSlug": "word-count", "input": 1, "startAfter": "2026-01-01T00:00:00"}',
        b'{"toolSlug": "word-count", "input": 1, "startAfter": 0}',
        b'{"toolSlug": "word-count", "input": 1, "priority": true}',
        b'{"toolSlug": "word-count", "input": 1, "priority": "5"}',
        b'{"toolSlug": "word-count", "input": 1, "startAfter": "1767225600"}',
        b'{"toolSlug": "\\ud800", "input": 1}',
        b'{"toolSlug": "word-count", "input": NaN}',
        b'{"toolSlug": "word-count", "input": "\\u0000"}',
        b'{"toolSlug": "word-count", "input": ["\\ud800"]}',
        b'{"toolSlug": "word-count", "input": ' + b"[" * 200 + b"]" * 200 + b"}",
    ],
)
def test_a_body_that_cannot_be_stored_is_refused_with_a_reason(service: Service, body: bytes) -> None:
    headers = {**ANNA, "content-type": "application/json"}
    answer = service.ask("POST", "/api/jobs", headers=headers, content=body)

    assert answer.status_code == 422
    assert answer.json()["detail"]
    assert service.store.tool_jobs == {}


def test_json_nested_beyond_pythons_stack_is_refused(service: Service) -> None:
    body = b'{"toolSlug": "word-count", "input": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    answer = service.ask("POST", "/api/jobs", headers={**ANNA, "content-type": "application/json"}, content=body)

    assert answer.status_code == 400
    assert answer.json()["error"] == "RequestRefused"


def test_an_input_over_the_limit_is_too_large() -> None:
    service = Service(job_input_limit_bytes=100)

    assert service.create(ANNA, input="x" * 98).status_code == 201
    answer = service.create(ANNA, input="x" * 99)
    assert answer.status_code == 413
    assert "JOB_INPUT_LIMIT_BYTES" in answer.json()["detail"]


@pytest.mark.parametrize("declared", [True, False])
def test_a_body_over_the_limit_is_not_read_to_its_end(declared: bool) -> None:
    service = Service(job_input_limit_bytes=100)
    pieces: list[int] = []

    def body() -> Iterator[bytes]:
        for number in range(1000):
            pieces.append(number)
            yield b"x" * 1000

    async def stream() -> Any:
        for piece in body():
            yield piece

    headers = {**ANNA, "content-type": "application/json"}
    if declared:
        headers["content-length"] = "1000000"
    answer = service.ask("POST", "/api/jobs", headers=headers, content=stream())

    assert answer.status_code == 413
    assert len(pieces) < 100


def test_the_cron_runs_maintenance_and_answers_with_the_report() -> None:
    service = Service(cron_secret="hush")
    answer = service.ask("GET", "/api/cron/job-maintenance", headers={"authorization": "Bearer hush"})

    assert answer.status_code == 200
    assert answer.json() == {"reconciled": [], "rescued": ["job-7"], "expired": [], "deleted": []}


@pytest.mark.parametrize(
    "header", [None, "", "Bearer", "Bearer ", "Bearer undefined", "Bearer null", "bearer hush", "Bearer hush ", "hush"]
)
def test_the_cron_refuses_a_wrong_secret(header: str | None) -> None:
    service = Service(cron_secret="hush!")
    headers = {} if header is None else {"authorization": header}

    assert service.ask("GET", "/api/cron/job-maintenance", headers=headers).status_code == 401


@pytest.mark.parametrize("secret", [None, "", " ", "undefined", "null"])
def test_the_cron_is_closed_without_a_secret_and_says_so(secret: str | None) -> None:
    service = Service(cron_secret=secret)
    answer = service.ask(
        "GET", "/api/cron/job-maintenance", headers={"authorization": f"Bearer {secret or ''}".strip()}
    )

    assert answer.status_code == 503
    assert "Set CRON_SECRET" in answer.json()["detail"]


SECRET = "postgresql://u:hush@h/d refused"


def breaking(service: Service, error: Exception) -> None:
    """Let every verb of the store that a request may need raise `error`."""

    async def broken(*_arguments: object, **_options: object) -> None:
        raise error

    for verb in ("enqueue", "get", "list_owned", "expire", "reconcile", "rescue_stuck", "delete_expired"):
        setattr(service.store, verb, broken)


def test_parts_of_maintenance_that_fail_are_named_without_the_drivers_words() -> None:
    service = Service(cron_secret="hush!")
    service.maintenance = lambda: run_maintenance(service.store, stuck_after=timedelta(minutes=30))
    breaking(service, ConnectionError(SECRET))
    answer = service.ask("GET", "/api/cron/job-maintenance", headers={"authorization": "Bearer hush!"})

    assert (answer.status_code, answer.json()["error"]) == (500, "MaintenanceFailed")
    assert "rescue_stuck: ConnectionError" in answer.json()["detail"]
    assert "hush" not in answer.text


def test_maintenance_of_a_database_that_restarts_is_to_be_asked_for_again() -> None:
    service = Service(cron_secret="hush!")
    service.maintenance = lambda: run_maintenance(service.store, stuck_after=timedelta(minutes=30))
    breaking(service, StoreUnavailableError("The database did not answer (AdminShutdown)."))
    answer = service.ask("GET", "/api/cron/job-maintenance", headers={"authorization": "Bearer hush!"})

    assert (answer.status_code, answer.json()["error"]) == (503, "Unavailable")
    assert int(answer.headers["retry-after"]) >= 1


REQUESTS = [
    ("POST", "/api/jobs", {"json": BODY}),
    ("GET", "/api/jobs", {}),
    ("GET", "/api/jobs/a", {}),
    ("POST", "/api/jobs/a/cancel", {}),
]


@pytest.mark.parametrize(("method", "path", "request_"), REQUESTS)
def test_a_database_that_restarts_is_said_to_and_when_to_ask_again(
    service: Service, method: str, path: str, request_: dict[str, Any]
) -> None:
    breaking(service, StoreUnavailableError("The database did not answer (AdminShutdown)."))
    answer = service.ask(method, path, headers=ANNA, **request_)

    assert (answer.status_code, answer.json()["error"]) == (503, "Unavailable")
    assert int(answer.headers["retry-after"]) >= 1
    assert "Idempotency-Key" in answer.json()["detail"]


@pytest.mark.parametrize(("method", "path", "request_"), REQUESTS)
def test_what_nobody_foresaw_is_a_problem_without_its_words(
    service: Service, method: str, path: str, request_: dict[str, Any]
) -> None:
    breaking(service, RuntimeError(SECRET))
    answer = service.ask(method, path, headers=ANNA, **request_)

    assert (answer.status_code, answer.json()["error"]) == (500, "Failed")
    assert "RuntimeError" in answer.json()["detail"]
    assert "hush" not in answer.text


def test_health_says_why_no_worker_starts(service: Service) -> None:
    answer = service.ask("GET", "/healthz")

    assert answer.status_code == 200
    assert answer.json()["status"] == "degraded"
    assert "Set USE_PGBOSS_WORKERS=true" in answer.json()["workers"]["reason"]


def test_health_is_ok_with_workers_enabled() -> None:
    answer = Service(use_pgboss_workers="true").ask("GET", "/healthz")

    assert answer.json()["status"] == "ok"


def test_health_is_down_without_a_database_and_tells_no_secrets() -> None:
    service = Service(use_pgboss_workers="true")

    async def away(**_arguments: object) -> None:
        raise ConnectionError("postgresql://u:hush@h/d refused")

    service.store.next_due = away  # type: ignore[method-assign]
    answer = service.ask("GET", "/healthz")
    assert int(answer.headers["retry-after"]) >= 1

    assert (answer.status_code, answer.json()["status"]) == (503, "down")
    assert "hush" not in answer.text


def test_openapi_describes_every_route_with_an_example(service: Service) -> None:
    document = service.ask("GET", "/openapi.json").json()

    assert set(document["paths"]) == {
        "/api/jobs",
        "/api/jobs/{job_id}",
        "/api/jobs/{job_id}/cancel",
        "/api/cron/job-maintenance",
        "/healthz",
    }
    schemas = document["components"]["schemas"]
    assert all(schemas[name]["examples"] for name in ("CreateJob", "Job", "JobList", "Maintenance", "Problem"))
    assert "toolSlug" in schemas["Job"]["properties"]
    assert schemas["CreateJob"]["properties"]["priority"]["exclusiveMinimum"] == -(2**31)
    create = document["paths"]["/api/jobs"]["post"]["responses"]
    assert {"200", "201", "400", "403", "404", "409", "413", "422", "500", "503"} == set(create)
    assert create["200"]["content"] == create["201"]["content"]


def test_an_unknown_path_is_refused_in_the_same_form(service: Service) -> None:
    assert set(service.ask("GET", "/nope").json()) == {"error", "detail"}


def test_a_method_that_a_path_lacks_is_told_all_that_it_has(service: Service) -> None:
    answer = service.ask("DELETE", "/api/jobs")

    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, POST")
