"""15: at most one job of each serial key is PROCESSING."""

from __future__ import annotations

from harness.history.event import Observed
from harness.invariants.property import AnomalyKind, Guarantee, Invariant, Kind, Monitor, Reporter, Rules
from harness.model.job import JobId
from harness.model.lifecycle import Status


class SerialKeyExclusive(Monitor):
    """Keeps who is PROCESSING under which key."""

    def __init__(self, rules: Rules, breach: Reporter) -> None:
        super().__init__(rules, breach)
        self._active: dict[str, dict[JobId, None]] = {}

    def on_deleted(self, event: Observed) -> None:
        self.on_changed(event)

    def on_changed(self, event: Observed) -> None:
        view = event.after or event.before
        if view is None or view.serial_key is None:
            return
        active = self._active.setdefault(view.serial_key, {})
        if event.after is None or event.after.status is not Status.PROCESSING:
            active.pop(event.job, None)
        elif event.job not in active:
            active[event.job] = None
            if len(active) > 1:
                self.breach(
                    "serial_key_shared",
                    f"{', '.join(active)} are PROCESSING under the serial key {view.serial_key!r}",
                    job=event.job,
                )


INVARIANT = Invariant(
    id="serial_key_exclusive",
    number=15,
    sentence="At most one job of each serial key is PROCESSING.",
    kind=Kind.ALWAYS,
    anomalies=(
        AnomalyKind("serial_key_shared", Guarantee.CONCURRENCY, "Two jobs of one serial key are PROCESSING at once."),
    ),
    make=SerialKeyExclusive,
    capabilities=("serial_keys",),
)
