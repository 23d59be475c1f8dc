"""What can go wrong in the queue, each with what to do about it."""

from __future__ import annotations

from collections.abc import Mapping

from job_harness_reference.models import MaintenanceReport


class QueueError(Exception):
    """Anything that the queue refuses."""


class StoreUnavailableError(QueueError):
    """The store did not answer; whether what was asked took effect is unknown. The driver's own words are the cause."""


class UnknownToolError(QueueError):
    """A tool slug that is not registered."""


class InvalidJsonError(QueueError, ValueError):
    """A value that PostgreSQL's JSONB cannot hold."""


class ConfigurationError(QueueError):
    """Settings that contradict each other, or that are missing."""


class WorkersDisabledError(ConfigurationError):
    """`USE_PGBOSS_WORKERS` is not exactly `true`."""


class MaintenanceError(QueueError):
    """Parts of a maintenance run failed, each for itself; the others had their turn."""

    def __init__(self, failures: Mapping[str, Exception], *, report: MaintenanceReport) -> None:
        """Keep what failed, by part, and what the other parts changed in `report`."""
        reasons = "; ".join(f"{part}: {str(error).partition(chr(10))[0]}" for part, error in failures.items())
        super().__init__(f"maintenance failed in {len(failures)} of 4 parts ({reasons})")
        self.failures = dict(failures)
        self.report = report

    @property
    def parts(self) -> str:
        """What failed, each with the kind of its error only: a driver's words may hold addresses and passwords."""
        return "; ".join(f"{part}: {type(error).__name__}" for part, error in self.failures.items())
