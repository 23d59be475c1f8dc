"""A mistake as a value: the rule that is broken, where it was seen, and what it must lead to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Literal, NamedTuple, TypeAlias

from job_harness.core.port import Contract, Engine
from job_harness.core.run.stock import StockApplication
from job_harness.core.run.worker import Worker
from job_harness.engines.memory import MemoryEngine, MemoryQueue, QueueRules
from job_harness.errors import ExitCode, HarnessError, UsageError

Kind: TypeAlias = Literal["memory", "reference", "postgres", "postgres-gated"]


class BlindSpot(StrEnum):
    """What a search once could not see; the wrong queues that stand for it keep it in sight."""

    OUTAGES = "outages, of the store or of one actor"
    ENDS = "settings at the ends of their ranges"
    CALENDARS = "calendar schedules"
    LARGE_VALUES = "large numbers, long names and keys"
    LONG_QUEUES = "long queues: 120 jobs due, 10 000 waiting"
    OWN_TERMS = "terms of a single job: lease, timeout, delay, window"
    TOOLS = "terms of a tool: who serves it, pauses, limits"
    LIVING_ON = "a handler that lives on after its timeout"
    DELIVERIES = "attempts, counted as deliveries"
    REPEATS = "maintenance that runs twice at one instant"
    EXCUSES = "what an engine documents, and does elsewhere too"
    RARE_WINDOWS = "rare windows: a holder that stalls before its report"


class StaleEdit(HarnessError):
    """A statement has moved on, and the mistake that edits it has not: nothing was planted."""

    exit_code = ExitCode.FAIL


class Edit(NamedTuple):
    """One place of a named SQL statement, and what the mistake makes of it."""

    search: str
    """Stands in the statement exactly once, character for character."""
    replace: str


@dataclass(frozen=True, slots=True)
class Mistake:
    """One wrong queue: a model queue with one wrong rule or verb, or its worker; perhaps the same on PostgreSQL."""

    name: str
    sentence: str
    source: str
    """Where the mistake was seen: `project#issue`, or what makes it."""
    finds: tuple[str, ...]
    """Anomalies that it must lead to, the one that names it first."""
    queue: type[MemoryQueue] | None = MemoryQueue
    """None where only a database can make it: one that locks rows."""
    rules: tuple[type[QueueRules], ...] = ()
    """What takes the place of the queue's right rules."""
    statements: Mapping[str, tuple[Edit, ...]] = field(default_factory=dict)
    """Edits of the reference queue's SQL by the name of the statement; empty where SQL cannot make this mistake."""
    settlement: Mapping[str, bool] = field(default_factory=dict)
    """How verbs of several statements are written wrong, where statements are gated; see `Settlement`."""
    worker: type[Worker] = Worker
    """The wrong worker that the engine brings along, on a right queue."""
    stands_for: BlindSpot | None = None
    contract: Contract | None = None
    """What the engine documents, where the mistake is to do the same in other circumstances, too."""
    documented: tuple[type[QueueRules], ...] = ()
    """The rules that do just what that contract says: nothing is reported of them."""

    @property
    def anomaly(self) -> str:
        """The anomaly that names this mistake."""
        return self.finds[0]

    def engine(self, kind: Kind, *, beside: Engine | None = None) -> Engine:
        """Return an engine whose queues make this mistake, on the database of the right engine `beside` it if given.

        Raises `UsageError` where it cannot be planted on that engine, `EnvironmentUnavailable`
        without a PostgreSQL.
        """
        if kind == "memory" and self.queue is not None:
            application = None if self.worker is Worker else StockApplication(self.worker)
            called = f"memory+{self.name}"
            return MemoryEngine(
                self.queue, rules=self.rules, name=called, application=application, contract=self.contract
            )
        if kind not in self.kinds or kind == "memory":
            raise UsageError(
                f"the wrong queue {self.name!r} cannot be planted on the engine {kind!r}",
                hint=f"it can on: {', '.join(self.kinds)}",
            )
        from job_harness.engines.reference import ReferenceEngine, Settlement

        settlement = Settlement(**self.settlement) if self.settlement else None
        if isinstance(beside, ReferenceEngine):
            return beside.planted(self.edited(), settlement=settlement, called=f"{kind}+{self.name}")
        return ReferenceEngine(kind, statements=self.edited(), settlement=settlement, called=f"{kind}+{self.name}")

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """List the engines that this mistake can be planted on."""
        possible: list[Kind] = ["memory"] if self.queue is not None else []
        if self.statements:
            possible.append("postgres")
        if self.statements or self.settlement:
            possible.append("postgres-gated")
        return tuple(possible)

    def edited(self) -> dict[str, str]:
        """Return the full text of every statement that this mistake changes, by name.

        Raises `StaleEdit` where the text to replace is not there exactly once: the statement has
        moved on.
        """
        from job_harness.engines.reference import shipped_statement

        return {name: _edit(shipped_statement(name), edits, self.name, name) for name, edits in self.statements.items()}


class Theme(NamedTuple):
    """Wrong queues that lack one safeguard, in the order of the catalogue."""

    safeguard: str
    """What a queue has that makes none of these mistakes."""
    mistakes: tuple[Mistake, ...]

    @classmethod
    def of(cls, safeguard: str, *mistakes: Mistake, stands_for: BlindSpot | None = None) -> Theme:
        """Collect the mistakes that lack this safeguard; all `stands_for` one blind spot where they name no other."""
        return cls(safeguard, tuple([replace(one, stands_for=one.stands_for or stands_for) for one in mistakes]))


def _edit(text: str, edits: tuple[Edit, ...], mistake: str, statement: str) -> str:
    for edit in edits:
        count = text.count(edit.search)
        if count != 1:
            raise StaleEdit(
                f"the wrong queue {mistake!r} replaces {edit.search!r}, which stands {count} times "
                f"in the statement {statement!r} and must stand there once",
                hint=f"bring the edit up to date with reference_impl/job_harness_reference/sql/{statement}.sql",
            )
        text = text.replace(edit.search, edit.replace)
    return text
