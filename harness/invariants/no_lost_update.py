"""17: no verb overwrites what another wrote after it began to read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from harness.history.event import Call, Observed, Return
from harness.invariants.property import AnomalyKind, Guarantee, Invariant, Kind, Monitor, Reporter, Rules
from harness.model.duration import Instant
from harness.model.job import JobId, JobView
from harness.model.lifecycle import ARROWS_OF_VERB, Status

HOLDERS = frozenset({"complete", "fail", "release", "heartbeat"})
"""Present a claim's token."""
WRITING = HOLDERS | {"expire", "rescue", "cancel", "retry"}


class _Writer:
    """A call under way, and what others have changed since it began."""

    __slots__ = ("stale", "token", "verb")

    def __init__(self, verb: str, token: int | None) -> None:
        self.verb = verb
        self.token = token
        self.stale: dict[JobId, tuple[JobView, str]] = {}
        """By job, how it stood before another changed it, and who that was."""


class NoLostUpdate(Monitor):
    """Asks of a change that is wrong now: would it have been right on what stood before another's change?"""

    only: ClassVar[Mapping[str, frozenset[str]]] = {"on_call": WRITING, "on_return": WRITING}

    def __init__(self, rules: Rules, breach: Reporter) -> None:
        super().__init__(rules, breach)
        self._open: dict[str, _Writer] = {}

    def on_call(self, event: Call) -> None:
        self._open[event.actor] = _Writer(event.verb, event.token)

    def on_return(self, event: Return) -> None:
        self._open.pop(event.actor, None)

    def on_observed(self, event: Observed) -> None:
        before, after = event.before, event.after
        for actor, writer in self._open.items():
            if actor != event.actor:
                if before is not None:
                    writer.stale.setdefault(event.job, (before, f"{event.actor}'s {event.verb}"))
            elif event.job in writer.stale:
                stale, whose = writer.stale.pop(event.job)
                if before is None or after is None or event.verb != writer.verb:
                    continue
                right = self._right(before, after, writer, event.clock)
                if not right and self._right(stale, after, writer, event.clock):
                    self.breach(
                        "lost_update",
                        f"{actor}'s {writer.verb} wrote {after.status} over the {before.status} of {whose}",
                        job=event.job,
                    )

    def _right(self, before: JobView, after: JobView, writer: _Writer, clock: Instant) -> bool:
        """Say whether a verb may make this change of this row."""
        verb = writer.verb
        if verb in HOLDERS:
            held = before.status is Status.PROCESSING and before.token == writer.token
            return held and (verb == "heartbeat" or (before.status, after.status) in ARROWS_OF_VERB.get(verb, ()))
        if (before.status, after.status) not in ARROWS_OF_VERB.get(verb, ()):
            return False
        if verb == "expire":
            return before.lease_until is None or before.lease_until <= clock
        return verb != "rescue" or before.started_at is None or before.started_at + self.settings.stuck_timeout <= clock


INVARIANT = Invariant(
    id="no_lost_update",
    number=17,
    sentence="No verb overwrites what another wrote after it began to read.",
    kind=Kind.ALWAYS,
    anomalies=(
        AnomalyKind(
            "lost_update", Guarantee.UPDATES, "A verb wrote what was right when it read, over what another wrote since."
        ),
    ),
    make=NoLostUpdate,
)
