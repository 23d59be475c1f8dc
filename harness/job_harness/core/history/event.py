"""One observed fact each, and the list of them. Judges nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from enum import StrEnum
from typing import Any, Final, NamedTuple, TypeAlias

from job_harness.core.history.outcome import Outcome
from job_harness.core.model import Instant, JobId, JobView


class Call(NamedTuple):
    """An actor asked the queue for something."""

    at: Instant
    actor: str
    verb: str
    job: JobId | None
    token: int | None
    """The fencing token presented, where the verb presents one."""
    arguments: Any
    number: int
    """Pairs the call with its return."""


class Return(NamedTuple):
    """The queue answered."""

    at: Instant
    actor: str
    verb: str
    job: JobId | None
    token: int | None
    outcome: Outcome
    number: int
    answered: bool
    """False where the queue answered and the actor never heard it."""
    alone: bool = True
    """Whether no other actor was in the middle of a call at any time of this one."""


class Observed(NamedTuple):
    """A job changed: None before is a new job, None after a job that is gone."""

    at: Instant
    actor: str
    verb: str
    job: JobId
    before: JobView | None
    after: JobView | None
    clock: Instant
    """The store's own clock when the change was made: where it took a transaction, at its first statement."""


class SideEffect(NamedTuple):
    """Something done to the world outside of the job system, as the code that does it declares it.

    `docs/contracts/effect.md` is the contract: what each field means to a monitor, and what may be left out.
    """

    kind: str
    """What is done: `charged`, `email sent`."""
    identity: str | None = None
    """Which one it is: two with the same kind and identity are one deed, done twice. None: unknown."""
    data: Any = None
    """What else is known of it, as JSON."""
    idempotent: bool = False
    """Whether its receiver ignores a repetition of the same identity: then twice does no harm."""
    reply: Any = None
    """What came back from outside, as JSON; None where nothing did, or nothing was awaited."""


STEP: Final = "step"
RUN_EVENTS: Final = frozenset({"claimed", "started", "ended", "point", STEP})
"""What every history says of a run of a processor, and no side effect."""


class StepFact(StrEnum):
    """What happened to a step of a workflow, as the data of an effect `step` say it."""

    BEGINS = "begins"
    FINISHES = "finishes"
    RECORDS = "records"
    """Its engine has stored it as done, or has read that back."""
    COMPENSATES = "compensates"
    TAKES = "takes"
    """It is a signal, an approval or a timer, and is taken."""


OF_DEPLOY: Final = "deploy"
"""The key by which a fault's data say that it is part of a deploy, and whether its process was killed."""
ROW_OF: Final = "row of "
DIFFER_OF: Final = "keys that differ of "
"""An effect `row of NAME`: the SELECT of the promise NAME begins to return a row. Its data has the `row`, and the
statement `after` which it did, with its `sql` and the line `at` which it was sent, where that is known."""


class Effect(NamedTuple):
    """Something a processor did: one of `RUN_EVENTS`, or a side effect that it declared."""

    at: Instant
    actor: str
    job: JobId
    attempt: int
    token: int
    name: str
    """One of `RUN_EVENTS`, or the kind of the side effect."""
    data: Any
    identity: str | None = None
    idempotent: bool = False
    reply: Any = None

    @property
    def declared(self) -> SideEffect | None:
        """The side effect; None where this is about a run and not about the world outside."""
        if self.name in RUN_EVENTS:
            return None
        return SideEffect(self.name, self.identity, self.data, self.idempotent, self.reply)


class Fault(NamedTuple):
    """Something that was made to go wrong."""

    at: Instant
    actor: str
    name: str
    data: Any


class Excuse(StrEnum):
    """What a fault explains by itself, so that no monitor blames the queue for it."""

    LATE = "late"
    """The actor it strikes (`*` is all of them) acts later by `data["for"]`."""
    CLOCK = "clock"
    """The clock of `data["whose"]` comes to be off by `data["offset"]`."""
    AWAY = "away"
    """The actor it strikes (`*` is all of them) reaches the store again only `data["for"]` later."""
    UNHEARD = "unheard"
    """The actor it strikes may never hear what the queue did, at `data["at"]`."""
    UNDONE = "undone"
    """What the actor it strikes asked for at `data["at"]` had no effect, and it heard so."""
    DEATH = "death"
    """The actor it strikes never hears what the queue did, and is gone with all that it had in hand."""


class Phase(NamedTuple):
    """The run entered a phase: chaos, heal, settle or judge."""

    at: Instant
    name: str


Event: TypeAlias = Call | Return | Observed | Effect | Fault | Phase


class History:
    """Events in the order in which they were observed."""

    __slots__ = ("events",)

    def __init__(self, events: list[Event] | None = None) -> None:
        self.events: list[Event] = [] if events is None else events

    def __iter__(self) -> Iterator[Event]:
        return iter(self.events)

    def __len__(self) -> int:
        return len(self.events)

    def of_job(self, job: JobId) -> list[Event]:
        """List the events that name a job."""
        return [event for event in self.events if getattr(event, "job", None) == job]

    def views(self) -> dict[JobId, JobView]:
        """Return the last view of every job that is still there."""
        last: dict[JobId, JobView] = {}
        for event in self.events:
            if type(event) is Observed:
                if event.after is None:
                    last.pop(event.job, None)
                else:
                    last[event.job] = event.after
        return last

    def path(self, job: JobId) -> list[str]:
        """List the statuses a job went through, repeats folded."""
        path: list[str] = []
        for event in self.events:
            if type(event) is Observed and event.job == job and event.after is not None:
                status = str(event.after.status)
                if not path or path[-1] != status:
                    path.append(status)
        return path

    def effects(self, job: JobId) -> dict[str, int]:
        """Count the side effects that were declared for a job, by name."""
        declared = (event.name for event in self.events if type(event) is Effect and event.job == job)
        return dict(Counter(name for name in declared if name not in RUN_EVENTS))

    def runs(self, job: JobId) -> int:
        """Count how often a processor was started on a job."""
        return sum(1 for event in self.events if type(event) is Effect and event.job == job and event.name == "started")
