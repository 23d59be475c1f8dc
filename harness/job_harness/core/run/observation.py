"""What is observed of one queue, and who judges it: clocks, index of jobs, judge and recorder, made in this one place.

An `Observation` alone is an audit: whatever feeds its recorder is judged. A `Session` adds a kernel and a script. The
`Recorder` is the only writer of a history; monitors see what it writes and never the queue.
"""

from __future__ import annotations

import os
import re
import sysconfig
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache, partial
from typing import Any, Final, Generic, TypeVar

from job_harness.core.faults import excuses, lost_by
from job_harness.core.faults.messages import REPLY
from job_harness.core.history import (
    DONE,
    UNKNOWN,
    Call,
    Effect,
    Event,
    Fault,
    History,
    Observed,
    Outcome,
    OutcomeKind,
    Phase,
    Return,
    SideEffect,
)
from job_harness.core.invariants import Invariant, JobFacts, Judge, Rules, everything, judge_of
from job_harness.core.model import Instant, JobId, JobView, Settings, done_statuses
from job_harness.core.own_code import PACKAGE, CodeLine
from job_harness.core.port import Claim, Contract, EngineInfo, QueueUnderTest, Sent
from job_harness.core.run.job_index import JobIndex
from job_harness.core.sim import Actor, Clocks, VerbCall
from job_harness.core.sim.user_code import is_others
from job_harness.errors import UsageError

Q = TypeVar("Q", bound=Any)

PROMISES_ALL = Contract()
"""What an engine without a contract promises."""
MOST_STATEMENTS = 4_000
"""The last ones are kept: a livelock sends tens of thousands."""
LOST_REQUEST = Outcome.unknown("the request was lost")
LOST_REPLY = Outcome.unknown("the reply was lost")

_new = tuple.__new__
"""Builds an event without the detour through its constructor: a third of the cost of recording."""


class IncompleteView(UsageError):
    """What `jobs()` shows of a job lacks a field that no monitor can do without."""

    def __init__(self, engine: EngineInfo, job: JobId, view: JobView) -> None:
        names = [name for name in _needed_of(engine) if getattr(view, name) is None]
        super().__init__(
            f"{engine.name}: jobs() shows the job {job!r} without {', '.join(names)}",
            hint=f"Every JobView needs {', '.join(_needed_of(engine))}: see docs/write_an_adapter.md.",
        )


NEEDED: Final = ("priority", "attempts", "max_attempts", "token", "created_at", "start_after")
"""Fields of a view that a queue sets for every job; `status` and `queue_state` too, where it has one table."""


def _needed_of(engine: EngineInfo) -> tuple[str, ...]:
    return NEEDED if engine.capabilities.maintenance else ("tool", "status", "queue_state", *NEEDED)


class Observation(Generic[Q]):
    """One queue under observation, from its first job on."""

    def __init__(
        self,
        open_queue: Callable[[Clocks], Q],
        *,
        settings: Settings,
        contract: Contract = PROMISES_ALL,
        engine: EngineInfo | None = None,
        jobs: Mapping[JobId, JobFacts] | None = None,
        invariants: Callable[[Q], Iterable[Invariant]] = lambda queue: everything(),
    ) -> None:
        """Open a queue, or whatever shows `jobs()` and `changed()` as one does, on clocks of its own.

        `jobs` is what the workload declares of each job; it may grow. `invariants` are those that can be judged there.
        The queue is asked for no more than its `engine` declares.
        """
        self.settings = settings
        self.contract = contract
        self.clocks = Clocks()
        self.job_index = JobIndex(settings, waits_for=done_statuses(contract.designs))
        self.queue = open_queue(self.clocks)
        rules = Rules(
            settings,
            {} if jobs is None else jobs,
            oldest_first=contract.oldest_first,
            doublings=contract.doublings,
            longest=contract.longest,
            granularity=contract.granularity,
            excuses=excuses(),
            operators=contract.operators,
            designs=contract.designs,
            slot_due=contract.slot_due,
            schedules=contract.schedules,
            inputs_shown=engine is not None and engine.capabilities.inputs,
            takes_back_in_claim=engine is not None and engine.capabilities.takes_back_in_claim,
        )
        judged = tuple(invariants(self.queue))
        self.judge = judge_of(judged, rules, accepted=contract.excuses)
        self.recorder = Recorder(self.queue, self.clocks, self.job_index, self.judge, engine=engine)

    @property
    def history(self) -> History:
        """Everything that was observed."""
        return self.recorder.history


class EngineSide:
    """What an engine says about its queue beside the verbs, as far as it declares that."""

    def __init__(self, queue: Any, engine: EngineInfo | None) -> None:
        sessions = engine is not None and engine.capabilities.sessions
        self.on_behalf: Callable[[str], QueueUnderTest] | None = queue.on_behalf if sessions else None
        self.made_at: Callable[[], Instant] | None = queue.made_at if sessions else None
        upkeep = None if engine is None else engine.next_upkeep
        self.next_upkeep: Callable[[], Instant | None] | None = None if upkeep is None else partial(upkeep, queue)
        """Tells when the queue's own upkeep has something to do beside leases, where it has."""
        asked = None if engine is None else engine.statements
        self.sent: Callable[[], Sequence[Sent]] | None = None if asked is None else partial(asked, queue)
        self._whole = engine if engine is not None and engine.processes is None else None
        """Whose views must have the fields that are needed; None: an application's rows may lack their partners."""
        self._from = 4 if engine is not None and engine.capabilities.maintenance else 1
        """From which field of a view on they are."""

    def refuse_incomplete_view(self, job: JobId, view: JobView) -> None:
        """Raise IncompleteView where a field is missing that the engine has to fill."""
        if self._whole is not None and (None in view[self._from : 8] or None in view[12:14]):
            raise IncompleteView(self._whole, job, view)


class Recorder:
    """Stands between the kernel and a queue."""

    def __init__(
        self, queue: Any, clocks: Clocks, job_index: JobIndex, judge: Judge, *, engine: EngineInfo | None = None
    ) -> None:
        """Ask the queue for no more than its `engine` declares."""
        self.history = History()
        self.queue: QueueUnderTest = queue
        self.job_index = job_index
        self._clocks = clocks
        self._events = self.history.events
        self._note = self.history.events.append
        self._see: Callable[[Event], None] = judge.see
        self.number = 0
        """How many calls were made."""
        self.raised_at: dict[int, str] = {}
        """By number of the call, where its verb raised."""
        self.lines: dict[int, CodeLine] = {}
        """By index of the event, the line of a user's own code that did it, or that was struck."""
        self._amid: dict[str, int] = {}
        """Who is in the middle of a call, and of which one."""
        self._met: set[str] = set()
        """Who of them was not alone at it."""
        self._verbs: dict[str, Any] = {}
        self._written_at: dict[str, CodeLine | None] = {}
        self.side = EngineSide(queue, engine)
        self.statements: deque[tuple[int, Sent]] = deque(maxlen=MOST_STATEMENTS)
        """The SQL that was sent, each with the index of the event that came next."""
        self._broken: set[str] = set()
        """Whose connection broke within the call under way: that it raises then is no answer of the queue's."""
        self._unheard_at: dict[str, int] = {}
        """When the reply of an actor's call under way was last said to be lost."""
        self.last_change = 0
        """When a job last changed."""

    def show(self, see: Callable[[Event], None]) -> None:
        """Show every event to this from now on, in the place of the judge: a search shows it some that it knows."""
        self._see = see

    def after_each(self, told: Callable[[], None]) -> None:
        """Call this after each event from now on."""
        see = self._see

        def see_and_tell(event: Event) -> None:
            see(event)
            told()

        self._see = see_and_tell

    def _write(self, event: Event) -> None:
        self._note(event)
        self._see(event)

    # what the kernel asks for ---------------------------------------------------------------------------------------

    def begin(self, actor: Actor, call: VerbCall) -> Any:
        """Call a verb; return its outcome, or a frame where it suspends."""
        self.number = number = self.number + 1
        name, verb, arguments = actor.name, call.verb, call.arguments
        if self._broken:
            self._broken.discard(name)
        amid = self._amid
        amid[name] = number
        if len(amid) > 1:
            self._met.update(amid)
        event = _new(Call, (self._clocks.now, name, verb, call.job, call.token, arguments, number))
        self._note(event)
        self._see(event)
        if self.side.on_behalf is not None:
            return getattr(self.side.on_behalf(name), verb)(*arguments)
        if call.run is not None:
            return call.run()
        method = self._verbs.get(verb)
        if method is None:
            method = self._verbs[verb] = getattr(self.queue, verb)
        return method(*arguments)

    def end(self, actor: Actor, call: VerbCall, result: Any) -> Outcome:
        """Write down the outcome; the actor hears it unless the reply is lost."""
        outcome = result if type(result) is Outcome else _as_outcome(call.verb, result)
        name, verb = actor.name, call.verb
        if verb == "claim" and outcome.value and outcome.done:
            _refuse_no_claims(outcome.value)
        # The loss is told before the change that it hides: monitors excuse a holder from the
        # instant in which it did not hear, and a claim that was given after that instant would
        # otherwise be blamed on it. Then what changed, then the return: a monitor that sees a
        # return has seen what it did.
        if not actor.heard:
            self._still_unheard(actor, call)
        self.observe(name, verb)
        answered = not self._broken or name not in self._broken or outcome.kind is not UNKNOWN
        self._returned(actor, call, outcome, answered=answered)
        return outcome if actor.heard else LOST_REPLY

    def suspended(self, actor: Actor, call: VerbCall) -> None:
        """Look before any other actor acts: what a verb has done so far is its own doing."""
        if not actor.heard:
            self._still_unheard(actor, call)
        self.observe(actor.name, call.verb)

    def _still_unheard(self, actor: Actor, call: VerbCall) -> None:
        """Say once more that a reply is lost, where time has passed within the call: what it gave counts from now."""
        if self._unheard_at.get(actor.name, self._clocks.now) != self._clocks.now:
            self.fault(actor.name, REPLY.words, {"at": call.point})

    def raised(self, actor: Actor, call: VerbCall, error: Exception) -> Outcome:
        """Write down that a verb raised: what it did is unknown."""
        self.raised_at[self._amid[actor.name]] = _place_of(error)
        return self.end(actor, call, Outcome.unknown(f"{type(error).__name__}: {error}"))

    def lost(self, actor: Actor, call: VerbCall) -> Outcome:
        """Write down a call that never arrived."""
        self.number += 1
        self._amid[actor.name] = self.number
        self._write(Call(self._clocks.now, actor.name, call.verb, call.job, call.token, call.arguments, self.number))
        self._returned(actor, call, LOST_REQUEST, answered=False)
        return LOST_REQUEST

    def cut(self, actor: Actor, call: VerbCall) -> Outcome:
        """Write down a call that was cut off in the middle: what it did by then stands, or is rolled back."""
        self.observe(actor.name, call.verb)
        self._returned(actor, call, LOST_REPLY, answered=False)
        return LOST_REPLY

    def record_call(
        self,
        actor: str,
        verb: str,
        outcome: Outcome,
        *,
        arguments: tuple[Any, ...] = (),
        job: JobId | None = None,
        token: int | None = None,
    ) -> None:
        """Write down a whole verb that other code called: the call, what is seen to have changed, the outcome."""
        self.number += 1
        now = self._clocks.now
        self._write(Call(now, actor, verb, job, token, arguments, self.number))
        self.observe(actor, verb)
        self._write(Return(now, actor, verb, job, token, outcome, self.number, True))

    def _returned(self, actor: Actor, call: VerbCall, outcome: Outcome, *, answered: bool) -> None:
        name = actor.name
        number = self._amid.pop(name, 0)
        alone = name not in self._met
        if not alone:
            self._met.discard(name)
        fields = (self._clocks.now, name, call.verb, call.job, call.token, outcome, number, answered, alone)
        event = _new(Return, fields)
        if (line := self._written(call.verb)) is not None:
            self.lines[len(self._events)] = line
        self._note(event)
        self._see(event)

    # what else there is to see --------------------------------------------------------------------------------------

    def observe(self, actor: str, verb: str, line: CodeLine | None = None) -> None:
        """Compare all jobs with what was known of them; every difference is an event, made at this line."""
        # What changed is read off the rows, whatever a verb says that it did: monitors judge what
        # is, and a verb may be wrong about it. `changed()` only narrows where to look; where it
        # is None, every job is compared. This has to happen before any other actor acts, or a
        # change is laid at the wrong door: hence also at each suspension of a verb (`suspended`).
        if self.side.sent is not None:
            at = len(self._events)
            self.statements.extend((at, one if one.actor else one._replace(actor=actor)) for one in self.side.sent())
        queue = self.queue
        views = queue.jobs()
        touched = queue.changed()
        if touched is not None and not touched:
            return
        known = self.job_index.views
        for job in self._candidates(views) if touched is None else touched:
            before, after = known.get(job), views.get(job)
            if before != after:
                if (place := line or self._written(verb)) is not None:
                    self.lines[len(self._events)] = place
                self._changed(actor, verb, job, before, after)

    def _written(self, verb: str) -> CodeLine | None:
        """Return where a verb of the user's own queue begins; None where it is not theirs."""
        if verb not in self._written_at:
            code = getattr(getattr(self.queue, verb, None), "__code__", None)
            ours = code is None or is_others(code.co_filename)
            self._written_at[verb] = None if code is None or ours else CodeLine(code.co_filename, code.co_firstlineno)
        return self._written_at[verb]

    def _candidates(self, views: Mapping[JobId, JobView]) -> list[JobId]:
        return [*views, *(job for job in self.job_index.views if job not in views)]

    def _changed(self, actor: str, verb: str, job: JobId, before: JobView | None, after: JobView | None) -> None:
        if after is not None:
            self.side.refuse_incomplete_view(job, after)
        self.job_index.put(job, after)
        self.last_change = self._clocks.now
        clocks = self._clocks
        now = clocks.now
        made_at = self.side.made_at
        clock = now + clocks.store_offset if made_at is None else made_at()
        event = _new(Observed, (now, actor, verb, job, before, after, clock))
        self._note(event)
        self._see(event)

    def effect(
        self,
        actor: str,
        job: JobId,
        attempt: int,
        token: int,
        name: str,
        data: Any = None,
        line: CodeLine | None = None,
    ) -> None:
        """Write down something that a processor did; a side effect that it declared is given whole, as `data`."""
        if line is not None:
            self.lines[len(self._events)] = line
        rest: tuple[Any, ...] = (data, None, False, None)
        if type(data) is SideEffect:
            rest = (data.data, data.identity, data.idempotent, data.reply)
        event = _new(Effect, (self._clocks.now, actor, job, attempt, token, name, *rest))
        self._note(event)
        self._see(event)

    def fault(self, actor: str, name: str, data: Any, line: CodeLine | None = None) -> None:
        """Write down something that was made to go wrong."""
        if line is not None:
            self.lines[len(self._events)] = line
        lost = lost_by(name)
        if lost == REPLY.point:
            self._unheard_at[actor] = self._clocks.now
        if lost and "statement" in data:
            self._broken.add(actor)
        self._write(Fault(self._clocks.now, actor, name, data))

    def phase(self, name: str) -> None:
        """Write down that a phase began."""
        self._write(Phase(self._clocks.now, name))


def _refuse_no_claims(value: Any) -> None:
    if not isinstance(value, (list, tuple)) or not all(isinstance(item, Claim) for item in value):
        raise TypeError(f"claim returned done({value!r:.200}); it must return done with a list of Claim")


def _as_outcome(verb: str, result: Any) -> Outcome:
    if result is None:
        return DONE
    raise TypeError(f"{verb} returned {result!r:.200}; it must return an Outcome ({', '.join(OutcomeKind)})")


@cache
def _libraries() -> tuple[str, ...]:
    """Return the folders of this package, of the standard library and of what is installed."""
    installed = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    return (PACKAGE, *(folder + os.sep for folder in sorted(installed)))


_PLACE: Final = re.compile(r"\S.*:\d+")
"""What an engine notes on an error of SQL; others note what they like."""


def _place_of(error: BaseException) -> str:
    """Return `file:line` of the SQL that a user wrote, else of the innermost frame of their own files; else nothing."""
    told = [note for note in error.__dict__.get("__notes__", ()) if _PLACE.fullmatch(str(note))]
    if told:
        return str(told[0])
    place = ""
    entry = error.__traceback__
    while entry is not None:
        path = entry.tb_frame.f_code.co_filename
        if not path.startswith(_libraries()):
            place = f"{path}:{entry.tb_lineno}"
        entry = entry.tb_next
    return place
