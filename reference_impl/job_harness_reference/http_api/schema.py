"""What goes over the wire, in the guide's camelCase. Parses what comes in, shapes what goes out."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Any, Self

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, JsonValue
from pydantic.alias_generators import to_camel

from job_harness_reference.models import MaintenanceReport, ToolJob, ToolJobStatus

_INT4 = 2**31
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")

_JOB_EXAMPLE: dict[str, JsonValue] = {
    "id": "0b8c8a2e-1f4e-4f7a-9d53-0d0a7b9f4f21",
    "toolSlug": "word-count",
    "status": "COMPLETED",
    "priority": 0,
    "input": {"text": "Hello world"},
    "output": {"lines": 1, "words": 2, "distinctWords": 2, "characters": 11},
    "error": None,
    "attempts": 1,
    "maxAttempts": 3,
    "createdAt": "2026-01-01T12:00:00Z",
    "startedAt": "2026-01-01T12:00:01Z",
    "completedAt": "2026-01-01T12:00:02Z",
    "expiresAt": "2026-01-08T12:00:02Z",
}


class _Wire(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, frozen=True, extra="forbid")


def _written_out(value: object) -> object:
    """Refuse a number, which pydantic would take for the seconds since 1970; so would it a text of digits."""
    if value is None or (isinstance(value, str) and _DATE.match(value)):
        return value
    raise ValueError("write an instant such as 2026-01-01T12:00:00Z")


def _number(value: object) -> object:
    """Refuse what only Python takes for a number."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value
    raise ValueError("write a number")


class CreateJob(_Wire):
    """A request to have something done."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"toolSlug": "word-count", "input": {"text": "Hello world"}}]}
    )

    tool_slug: Annotated[str, Field(min_length=1, max_length=100, description="Which tool does it.")]
    input: Annotated[Any, Field(description="What the tool gets: any JSON value.")]
    priority: Annotated[
        int, Field(gt=-_INT4, lt=_INT4, description="The higher, the sooner."), BeforeValidator(_number)
    ] = 0
    start_after: Annotated[
        AwareDatetime | None,
        BeforeValidator(_written_out),
        Field(description="Not before this instant, with its UTC offset."),
    ] = None


class Job(_Wire):
    """A job as its owner sees it."""

    model_config = ConfigDict(json_schema_extra={"examples": [_JOB_EXAMPLE]})

    id: str
    tool_slug: str
    status: ToolJobStatus
    priority: int
    input: Any
    output: Any
    error: str | None
    attempts: int
    max_attempts: int
    created_at: datetime | None
    started_at: datetime | None
    completed_at: datetime | None
    expires_at: datetime | None

    @classmethod
    def of(cls, job: ToolJob) -> Self:
        """Leave out what is internal: the owner and the queue's own id."""
        return cls(**{name: getattr(job, name) for name in cls.model_fields})


class JobList(_Wire):
    """The owner's jobs, newest first."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"jobs": [_JOB_EXAMPLE]}]})

    jobs: list[Job]


class Maintenance(_Wire):
    """What one maintenance run changed, by job id."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"reconciled": [], "rescued": ["job-1"], "expired": [], "deleted": []}]}
    )

    reconciled: list[str]
    rescued: list[str]
    expired: list[str]
    deleted: list[str]

    @classmethod
    def of(cls, report: MaintenanceReport) -> Self:
        """Write the report down."""
        return cls(
            reconciled=list(report.reconciled),
            rescued=list(report.rescued),
            expired=list(report.expired),
            deleted=list(report.deleted),
        )


class DatabaseHealth(_Wire):
    """Whether the database answers."""

    reachable: bool
    error: str | None = None


class WorkersHealth(_Wire):
    """Whether workers start in this environment, and if not, why."""

    enabled: bool
    reason: str | None = None


class Health(_Wire):
    """How the service is."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "status": "ok",
                    "database": {"reachable": True, "error": None},
                    "workers": {"enabled": True, "reason": None},
                }
            ]
        }
    )

    status: Annotated[str, Field(description="`ok`; `degraded` without workers; `down` without a database.")]
    database: DatabaseHealth
    workers: WorkersHealth


class Problem(_Wire):
    """Why a request was refused."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "error": "UnknownTool",
                    "detail": "No tool is called 'word-cout' (did you mean 'word-count'?).",
                }
            ]
        }
    )

    error: Annotated[str, Field(description="A word for programs.")]
    detail: Annotated[str, Field(description="A sentence for people.")]
