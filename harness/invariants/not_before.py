"""10: never claimed before `start_after`; retry delays and backoff are kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from harness.history.event import Observed
from harness.invariants.property import AnomalyKind, Guarantee, Invariant, Kind, Monitor
from harness.model.duration import SECOND, format_duration
from harness.model.lifecycle import Status
from harness.model.retry import retry_bounds

RETRYING = frozenset({"fail", "expire", "rescue"})
ROUNDING = SECOND


class NotBefore(Monitor):
    """Compares claims with the row's own `start_after`, and delays with the settings."""

    only: ClassVar[Mapping[str, frozenset[str]]] = {"on_changed": RETRYING | {"claim"}}

    def on_changed(self, event: Observed) -> None:
        before, after = event.before, event.after
        if before is None or after is None:
            return
        if event.verb == "claim" and before.status is Status.PENDING and after.status is Status.PROCESSING:
            if before.start_after > event.clock:
                early = format_duration(before.start_after - event.clock)
                self.breach("claimed_early", f"{event.actor} claimed it {early} before its time", job=event.job)
        elif event.verb in RETRYING and before.status is Status.PROCESSING and after.status is Status.PENDING:
            self._retried(event)

    def on_created(self, event: Observed) -> None:
        facts = self.rules.jobs.get(event.job)
        if facts is None or facts.start_after is None or event.after is None:
            return
        if event.after.start_after < facts.start_after:
            self.breach(
                "schedule_dropped", "it was sent with a start time, and the row has an earlier one", job=event.job
            )

    def _retried(self, event: Observed) -> None:
        assert event.after is not None
        most = self.rules.doublings
        doubled = event.after.attempts if most is None else min(event.after.attempts, most + 1)
        shortest, longest = retry_bounds(self.settings, attempts=doubled)
        wait = event.after.start_after - event.clock
        if not shortest - ROUNDING <= wait <= longest + ROUNDING:
            self.breach(
                "backoff_out_of_range",
                f"after attempt {event.after.attempts} it waits {format_duration(wait)}, "
                f"not {format_duration(shortest)} to {format_duration(longest)}",
                job=event.job,
            )


INVARIANT = Invariant(
    id="not_before",
    number=10,
    sentence="A job is never claimed before its start time; retry delays and backoff are kept, finite and monotone.",
    kind=Kind.ALWAYS,
    anomalies=(
        AnomalyKind("claimed_early", Guarantee.SCHEDULE, "A job was claimed before its time."),
        AnomalyKind("schedule_dropped", Guarantee.SCHEDULE, "A job lost its start time on the way in."),
        AnomalyKind("backoff_out_of_range", Guarantee.SCHEDULE, "A retry waits shorter or longer than configured."),
    ),
    make=NotBefore,
)
