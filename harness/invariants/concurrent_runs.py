"""Whether two workers of an application run one job at once, told by what they declare of their runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from harness.history.event import Effect, Excuse, Fault
from harness.invariants.property import Monitor, Reporter, Rules
from harness.model.duration import Duration
from harness.model.job import JobId


class ConcurrentRuns(Monitor):
    """Knows who runs what, and who was held up by a fault for longer than any lease can bear."""

    only: ClassVar[Mapping[str, frozenset[str]]] = {"on_effect": frozenset({"started", "ended"})}

    def __init__(self, rules: Rules, breach: Reporter) -> None:
        super().__init__(rules, breach)
        self._running: dict[JobId, dict[str, int]] = {}
        """By job, who runs it, and the number of his claim."""
        self._late: dict[str, Duration] = {}
        margin = self.settings.lease - self.settings.job_timeout
        self._bearable: Duration = max(1, margin - 2 * self.settings.max_skew)

    def on_fault(self, event: Fault) -> None:
        excuse = self.rules.excuses.get(event.name)
        if excuse is Excuse.DEATH or event.name == "raised":
            for runs in self._running.values():
                runs.pop(event.actor, None)
        elif excuse is Excuse.LATE:
            self._late[event.actor] = self._late.get(event.actor, 0) + int(event.data["for"])
        elif excuse is Excuse.CLOCK:
            self._late["*"] = self._late.get("*", 0) + abs(event.data["offset"])

    def on_effect(self, event: Effect) -> None:
        runs = self._running.setdefault(event.job, {})
        if event.name == "ended":
            runs.pop(event.actor, None)
            return
        for other in runs:
            if other != event.actor and not self._held_up(other) and not self._held_up(event.actor):
                message = f"{event.actor} starts it while {other} still runs it"
                self.breach("concurrent_execution", message, job=event.job)
        runs[event.actor] = event.token

    def _held_up(self, actor: str) -> bool:
        return self._late.get(actor, 0) + self._late.get("*", 0) >= self._bearable
