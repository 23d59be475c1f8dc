"""What every queue in a child has in common: a question under the store's clock, and no verb that nobody wrote."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from harness.foreign.database import ForeignDatabase, milliseconds_of
from harness.foreign.peer import Report, Responder
from harness.foreign.runtime import outcome_of
from harness.history.outcome import Outcome, done
from harness.model.duration import Duration, Instant
from harness.model.job import JobId
from harness.model.json_value import json_problem
from harness.model.settings import Settings
from harness.port import Claim, Clocks, JobRequest


class AskingQueue:
    """The base of a queue under test whose verbs are questions to a child. One table: nothing to reconcile."""

    def __init__(self, child: Responder, database: ForeignDatabase, settings: Settings, clocks: Clocks) -> None:
        self._child = child
        self._database = database
        self._settings = settings
        self._clocks = clocks

    def _ask(self, question: str, *, ago: Duration = 0, at: Instant | None = None, **arguments: Any) -> Outcome:
        """Ask at the store's time, or so long before it; `at` is what the peer's own clock shows, where it is off."""
        now = self._clocks.store() - ago
        self._database.set_now(now)
        shows = milliseconds_of(now if at is None else at)
        return self._answered(self._child.ask(question, {**self._stamped(now), **arguments}, now=shows))

    def _stamped(self, now: Instant) -> Mapping[str, Any]:
        """Return the arguments that say what time it is, where the peer keeps no clock."""
        return {}

    def _answered(self, idle: Report) -> Outcome:
        outcome = outcome_of(idle)
        return outcome if outcome.done else outcome._replace(reason=self._told(outcome.reason))

    def _told(self, reason: object) -> str:
        """Answer a reason of the child's in words that are the same in every run."""
        return str(reason)

    def _unacceptable(self, request: JobRequest, known: Collection[JobId]) -> Outcome | None:
        """Answer why nobody needs to be asked whether to take a job; None: ask."""
        if request.id in known:
            return Outcome.refused("this id exists", request.id)
        if problem := json_problem(request.input):
            return Outcome.refused(f"invalid input: {problem}")
        return None

    def changed(self) -> list[JobId] | None:
        """Nobody keeps book of what was touched."""
        return None

    def close(self) -> None:
        """Nothing to give back: child and database belong to the engine."""

    def heartbeat(self, claim: Claim) -> Outcome:
        """There is none, unless a queue has one."""
        raise NotImplementedError

    def release(self, claim: Claim) -> Outcome:
        """There is none, unless a queue has one."""
        raise NotImplementedError

    def reconcile(self) -> Outcome:
        """There is one table."""
        raise NotImplementedError

    def rescue(self) -> Outcome:
        """There is one table."""
        raise NotImplementedError

    def purge(self) -> Outcome:
        """What is to go goes by `expire`, or at once."""
        raise NotImplementedError


def without_value(outcome: Outcome) -> Outcome:
    """Answer a success without what the child said of it."""
    return done() if outcome.done else outcome
