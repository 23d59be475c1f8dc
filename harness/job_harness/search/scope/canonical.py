"""The key of a state: equal for states that differ only in what nothing depends on.

That is the time of day, and which twin did what. Instants become distances from now; names of
workers and of interchangeable jobs are exchanged, also within texts. Everything else is taken as it
stands, so that a state is never taken for another by mistake.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from itertools import permutations
from math import lcm
from typing import Any, Final

from job_harness.core.invariants.memory import Alias, Frozen, Interned
from job_harness.core.model import Duration, Instant, JobView, Settings, Status
from job_harness.core.port import Claim
from job_harness.core.sim import State
from job_harness.search.scope.memo import Numbers
from job_harness.search.scope.rig import Rig
from job_harness.search.scope.state import EPOCH, NUMBER_OF, ActorState, Component, GlobalState, Vector

_EARLIEST: Final[Instant] = EPOCH // 2
_LATEST_KEPT = 1 << 62

Naming = Mapping[str, str]
"""Whose name stands for whom."""


@dataclass(frozen=True, slots=True)
class Ages:
    """How far back, and ahead, the distance of an instant is kept: as far as any setting lets it matter."""

    started: Duration
    """Since a running job was started: its lease, its timeout, the stuck timeout."""
    completed: Duration
    """Since a job ended: its retention, where that is within reach."""
    longest: Duration
    """Since anything else: what a monitor may compare with."""
    reach: Duration
    """How far ahead: no run within the scope lasts longer."""

    @classmethod
    def of(cls, settings: Settings, *, reach: Duration) -> Ages:
        """Return what these settings can ask for."""
        longest = max(settings.job_timeout, settings.lease, settings.stuck_timeout) + 2 * settings.max_skew
        return cls(longest, settings.retention if settings.retention < reach else 0, longest, reach)


def _current(items: tuple[Any, ...], now: Instant, momentary: frozenset[str]) -> tuple[Any, ...]:
    """Return attributes without the moments that are past."""
    kept = []
    for name, value in items:
        if name not in momentary:
            kept.append((name, value))
        elif type(value) is Frozen:
            kept.append((name, Frozen(dict, tuple([pair for pair in value.items if pair[1] >= now]))))
        elif value >= now:
            kept.append((name, value))
    return tuple(kept)


class Canonical:
    """Gives equal numbers to equal values, under one exchange of names."""

    def __init__(self, naming: Naming, numbers: dict[Any, int], ages: Ages) -> None:
        """Share `numbers`, in which a value's number is looked up, between exchanges."""
        self.naming = naming
        self._ages = ages
        self._numbers = numbers
        moved = [name for name, other in naming.items() if name != other]
        self._pattern = re.compile(rf"\b({'|'.join(map(re.escape, moved))})\b") if moved else None
        self._texts: dict[str, str] = {}
        self._known: dict[tuple[int, Instant], int] = {}
        self._timeless: dict[int, int] = {}
        """The numbers of values in which no instant is: they look the same at any time."""
        self._aged = False
        self._makers: dict[type[Any], Callable[[Any, Instant, list[Any]], Any]] = {}
        """By type, what makes the form of a value."""
        self._taken_as_is: set[type[Any]] = {type(None), bool}

    def number(self, value: Any, key: int, now: Instant) -> int:
        """Return the number of a value as it looks at this instant; `key` tells values apart, for the cache."""
        known = self._timeless.get(key)
        if known is None:
            known = self._known.get((key, now))
        if known is None:
            self._aged = False
            known = self._keep(self._form(value, now, []), key, now)
        return known

    def memories(
        self, memories: tuple[Vector, ...], now: Instant, momentary: list[frozenset[str]]
    ) -> tuple[int | None, ...]:
        """Return the numbers of what monitors remember."""
        numbers = list(map(self._timeless.get, map(NUMBER_OF, memories)))
        if None in numbers:
            known = self._known
            for place, number in enumerate(numbers):
                if number is None:
                    memory = memories[place]
                    numbers[place] = known.get((memory.number, now)) or self._memory(memory, now, momentary[place])
        return tuple(numbers)

    def _memory(self, memory: Vector, now: Instant, momentary: frozenset[str]) -> int:
        """Return the number of what a monitor remembers; what is `momentary` counts while its moment lasts."""
        parts = memory.parts
        numbers = list(map(self._timeless.get, map(NUMBER_OF, parts)))
        aged = False
        if None in numbers:
            for place, number in enumerate(numbers):
                if number is None:
                    numbers[place] = self._attribute(parts[place], now, momentary)
                    aged = aged or parts[place].number not in self._timeless
        self._aged = aged
        return self._keep(tuple(numbers), memory.number, now)

    def _attribute(self, part: Component, now: Instant, momentary: frozenset[str]) -> int:
        """Return the number of an attribute in which there is an instant, or that is not known yet."""
        known = self._known.get((part.number, now))
        if known is None:
            name, value = part.value
            kept = (part.value,) if name else value.items
            self._aged = bool(momentary) and (not name or name in momentary)
            if self._aged:
                kept = _current(kept, now, momentary)
            seen: list[Any] = []
            form = tuple([(known, self._form(item, now, seen)) for known, item in kept])
            known = self._keep(form, part.number, now)
        return known

    def _keep(self, form: Any, key: int, now: Instant) -> int:
        number = self._numbers.setdefault(form, len(self._numbers))
        if self._aged:
            self._known[key, now] = number
        else:
            self._timeless[key] = number
        return number

    def forget(self) -> None:
        """Empty the cache of what was looked up; numbers stay."""
        self._known.clear()
        self._timeless.clear()

    def form(self, value: Any, now: Instant) -> Any:
        """Return the form of a value: hashable, and equal for equal states."""
        return self._form(value, now, [])

    def text(self, value: str) -> str:
        """Return a text with names exchanged."""
        if self._pattern is None:
            return value
        known = self._texts.get(value)
        if known is None:
            known = self._texts[value] = self._pattern.sub(lambda found: self.naming[found[0]], value)
        return known

    def _form(self, value: Any, now: Instant, seen: list[Any]) -> Any:
        kind = type(value)
        if kind is str:
            return value if self._pattern is None else self.text(value)
        if kind is int:
            return self._age(value, now, self._ages.longest) if _EARLIEST < value < _LATEST_KEPT else value
        if kind in self._taken_as_is:
            return value
        if kind is Interned:
            return self._of_interned(value, now)
        make = self._makers.get(kind)
        if make is None:
            make = self._maker_of(kind)
            if make is None:
                self._taken_as_is.add(kind)
                return value
            self._makers[kind] = make
        return make(value, now, seen)

    def _maker_of(self, kind: type[Any]) -> Callable[[Any, Instant, list[Any]], Any] | None:
        """Return what makes the form of a value of this type; None: the value is its form."""
        if issubclass(kind, JobView):
            return self._of_view
        if issubclass(kind, Claim):
            return self._of_claim
        if issubclass(kind, Frozen):
            return self._of_frozen
        if issubclass(kind, tuple | list):
            return lambda value, now, seen: tuple([self._form(item, now, seen) for item in value])
        if issubclass(kind, Enum):
            return None
        if issubclass(kind, Mapping):
            return lambda value, now, seen: self._of_pairs(value.items(), now, seen)
        if issubclass(kind, set | frozenset):
            return lambda value, now, seen: frozenset([self._form(item, now, seen) for item in value])
        if issubclass(kind, datetime):
            return lambda value, now, seen: ("@",)
        names = getattr(kind, "__dataclass_fields__", None)
        if names is None:
            return None
        return lambda value, now, seen: (kind, *[self._form(getattr(value, name), now, seen) for name in names])

    def _of_interned(self, interned: Interned, now: Instant) -> Any:
        """Return the number of a value that was met before: the form of what it is part of is small then."""
        aged, self._aged = self._aged, False
        known = self.number(interned.value, interned.number, now)
        self._aged = aged or interned.number not in self._timeless
        return ("#", known)

    def _of_pairs(self, items: Iterable[tuple[Any, Any]], now: Instant, seen: list[Any]) -> frozenset[Any]:
        return frozenset([(self._form(key, now, seen), self._form(item, now, seen)) for key, item in items])

    def _of_claim(self, value: Claim, now: Instant, seen: list[Any]) -> Any:
        lease = self._age(value.lease_until, now, 0)
        return (self.text(value.job), value.attempt, value.token, self.text(value.worker), value.tool, lease)

    def _age(self, at: Instant, now: Instant, longest: Duration) -> Any:
        """Return the distance of an instant, as far as it may matter."""
        self._aged = True
        distance = at - now
        if distance < -longest:
            distance = -longest
        elif distance > self._ages.reach:
            distance = self._ages.reach
        return ("@", distance)

    def _of_view(self, view: JobView, now: Instant, seen: list[Any]) -> Any:
        """Return a job; when it was created is said by the order of all jobs."""
        ages = self._ages
        running = view.status is Status.PROCESSING
        return (
            self.text(view.id),
            view.status,
            view.queue_state,
            view.priority,
            view.attempts,
            view.token,
            view.worker and self.text(view.worker),
            self._form(view.output, now, seen),
            bool(view.error),
            self._age(view.start_after, now, 0),
            None if view.started_at is None else self._age(view.started_at, now, ages.started if running else 0),
            None if view.lease_until is None else self._age(view.lease_until, now, 0),
            None if view.completed_at is None else self._age(view.completed_at, now, ages.completed),
            None if view.expires_at is None else self._age(view.expires_at, now, 0),
            view.dead_of and self.text(view.dead_of),
            view.slot,
            view.callback_of,
        )

    def _of_frozen(self, value: Frozen, now: Instant, seen: list[Any]) -> Any:
        kind, items = value
        if kind is dict:
            return self._of_pairs(items, now, seen)
        if kind is set:
            return frozenset([self._form(item, now, seen) for item in items])
        if kind is JobView:
            return self._of_view(JobView(*items), now, seen)
        if kind is Alias:
            return ("same", seen[items[0]])  # one object with two names is not two objects that look alike
        if kind is list or issubclass(kind, tuple):
            return tuple([self._form(item, now, seen) for item in items])
        if momentary := getattr(kind, "momentary", None):
            self._aged = True
            items = _current(items, now, momentary)
        counted = not hasattr(kind, "__dataclass_fields__")  # as in `freeze`, which the number of an alias comes from
        place = len(seen)
        if counted:
            seen.append(None)
        form = tuple([(name, self._form(item, now, seen)) for name, item in items])
        if counted:
            seen[place] = form
        return form


Key = tuple[Any, ...]
_CACHED = 1_000_000


class NamedForm:
    """The forms of a state's parts under one exchange of names, each with what was looked up before."""

    def __init__(self, naming: Naming, form: Canonical, places: list[int]) -> None:
        """Take the exchange, and whose state stands at each place then."""
        self.naming = naming
        self.form = form
        self.places = places
        self.actors: dict[tuple[int, Instant], int] = {}
        self.rows: dict[tuple[int, Instant], int] = {}
        self.monitors: dict[tuple[int, Instant], int] = {}
        self.clocks: dict[tuple[int, Instant], int] = {}

    def forget(self) -> None:
        """Empty what was looked up; numbers stay."""
        self.form.forget()
        for known in (self.actors, self.rows, self.monitors, self.clocks):
            known.clear()


Order = tuple[int, ...]
"""Which of the workers is called by the first name, by the second, and so on."""


class NamedJobs:
    """The forms under which jobs have one exchange of names, and workers any."""

    def __init__(self, named: Mapping[Order, NamedForm]) -> None:
        """Take a form for each order of the workers."""
        self._named = named
        self._count = len(next(iter(named)))
        self._as_first = [[form for order, form in named.items() if order[0] == one] for one in range(self._count)]
        self.known: dict[Any, tuple[NamedForm, ...]] = {}
        """The candidates, by how the workers stand and the time of day."""

    def candidates(self, number_of: Callable[[int, NamedForm], int]) -> tuple[NamedForm, ...]:
        """Return the forms that order the workers by how each one looks when it is called by the first name.

        `number_of` returns that, for a worker and a form. Workers that look alike are taken in every order.
        """
        looks = [min([number_of(one, form) for form in self._as_first[one]]) for one in range(self._count)]
        ascending = sorted(looks)
        return tuple([form for order, form in self._named.items() if [looks[one] for one in order] == ascending])


class StateKeys:
    """Makes keys for the states of one rig.

    A part of a state comes again in many states, so its form is looked up by its number and by the
    time of day, part by part: a key then costs a look-up for each actor and one each for jobs,
    monitors and clocks.

    Of all exchanges of names one is picked by what the form itself shows: jobs get their names in
    the order in which they were created, those of one instant in the order of their ids; workers in
    the order of how they look. Two states that differ in names alone are so given one form, and
    only workers that look alike are tried in every order.
    """

    def __init__(self, rig: Rig, *, workload: int, numbers: Numbers) -> None:
        """Take the number of the workload into every key; `numbers` is shared by all keys of a search."""
        groups = rig.scope.twins(rig.session.scenario)
        self._jobs = tuple(rig.scenario.plan_of())
        self._workload = workload
        jobs = [group for group in groups if set(self._jobs).issuperset(group)]
        self._twins = [] if rig.scenario.settings.retry_backoff else jobs
        """Jobs that are exchanged: none where a queue may stretch a delay by a job's id."""
        self._workers = next((group for group in groups if group not in jobs), ())
        self._momentary = [monitor.momentary for monitor in rig.session.judge.monitors]
        self._names = list(rig.kernel.actors)
        self._places = [self._names.index(worker) for worker in self._workers]
        scope, settings = rig.scope, rig.scenario.settings
        reach = (
            rig.quiet
            * (settings.max_attempts + 1)
            * (1 + scope.jobs + scope.retries + sum(scope.faults.counts().values()))
        )
        self._ages = Ages.of(settings, reach=reach)
        self._grid = lcm(settings.poll_interval, settings.cron_period, settings.expire_interval)
        self._named: dict[tuple[str, ...], NamedJobs] = {}
        """By the jobs in their order."""
        self._named_at: dict[tuple[int, Instant], NamedJobs] = {}
        """By the number of the rows, and the time of day."""
        self._numbers = numbers
        self._asked = 0

    def of(self, state: GlobalState) -> Key:
        """Return the key: equal for states that are equal up to the names of twins, and the time of day."""
        # Two states with one key are one state to the search, so a key may leave out only what
        # nothing can depend on. What is left out is little: the time of day (but its place on the
        # grid of polls and crons stays), distances longer than any setting can ask for, and which
        # of several twins is called what.
        # To take the least key under all exchanges of names was right and slow: twelve forms of
        # each state with three jobs. Names are given by what the form itself shows instead, and
        # only twins that look alike are tried in every order; it is the least of those keys that
        # makes the choice among them no choice. A change of how
        # workers are ordered must not make it depend on their names.
        self._asked += 1
        if self._asked % _CACHED == 0:
            self._forget()
        at = (state.rows.number, state.now)
        named = self._named_at.get(at)
        if named is None:
            named = self._named_at[at] = self._named_jobs(state)
        workers = [state.actors[place] for place in self._places]
        standing = (state.now, *[worker.number for worker in workers])
        forms = named.known.get(standing)
        if forms is None:
            forms = named.known[standing] = named.candidates(
                lambda one, form: self._actor(workers[one], form, state.now)
            )
        if len(forms) == 1:
            return self._under(state, forms[0])
        return min([self._under(state, form) for form in forms])

    def _forget(self) -> None:
        self._named.clear()
        self._named_at.clear()

    def _named_jobs(self, state: GlobalState) -> NamedJobs:
        """Return the forms that give jobs their names in the order in which they were created."""
        born = self._born(state)
        order = tuple([job for group in self._twins for job in sorted(group, key=lambda job: (born[job], job))])
        named = self._named.get(order)
        if named is None:
            naming = dict(zip(order, [job for group in self._twins for job in group], strict=True))
            named = self._named[order] = NamedJobs(
                {way: self._form(naming, way) for way in permutations(range(len(self._workers)))}
            )
        return named

    def _form(self, jobs: Naming, order: Order) -> NamedForm:
        workers = self._workers
        naming = {**jobs, **{workers[one]: name for one, name in zip(order, workers, strict=True)}}
        return NamedForm(naming, Canonical(naming, self._numbers, self._ages), _places(self._names, naming))

    def _under(self, state: GlobalState, form: NamedForm) -> Key:
        """Return the key under one exchange of names."""
        now, actors, places = state.now, state.actors, form.places
        jobs = form.rows.get((state.rows.number, now))
        if jobs is None:
            jobs = form.rows[state.rows.number, now] = self._of_rows(state, form)
        monitors = form.monitors.get((state.monitors.number, now))
        if monitors is None:
            monitors = form.monitors[state.monitors.number, now] = self._of_monitors(state, form)
        clocks = form.clocks.get((state.clocks.number, now))
        if clocks is None:
            clocks = form.clocks[state.clocks.number, now] = self._of_clocks(state, form)
        text = form.form.text
        stalled = tuple(sorted(map(text, state.stalled))) if state.stalled else ()
        stopping = tuple(sorted(map(text, state.stopping))) if state.stopping else ()
        known = form.actors
        standing = []
        for actor in (*[actors[place] for place in places], *actors[len(places) :]):
            number = known.get((actor.number, now))
            standing.append(self._actor(actor, form, now) if number is None else number)
        head = (self._workload, now % self._grid, jobs, monitors, clocks)
        return (*head, state.budgets, stalled, stopping, *standing)

    def _actor(self, actor: ActorState, form: NamedForm, now: Instant) -> int:
        number = form.actors.get((actor.number, now))
        if number is None:
            number = form.actors[actor.number, now] = self._of_actor(actor, form, now)
        return number

    def _number(self, form: Any) -> int:
        return self._numbers.setdefault(form, len(self._numbers))

    def _of_actor(self, actor: ActorState, form: NamedForm, now: Instant) -> int:
        position, standing = actor.position, actor.standing
        stands = -1
        if position is not None:
            told = (position.told, position.request.point, position.reborn, position.progress)
            stands = form.form.number(told, position.number, now)
        if standing is State.SLEEPING and actor.wake > now:
            return self._number((stands, "wakes", actor.wake - now))
        looked = actor.last_tick >= now  # then it looks later the next time
        return self._number((stands, int(standing), looked))

    def _of_rows(self, state: GlobalState, form: NamedForm) -> int:
        number, now = form.form.number, state.now
        rows = sorted([number(part.value, part.number, now) for part in state.rows.parts])
        return self._number((self._order(state, form.naming), *rows))

    def _of_monitors(self, state: GlobalState, form: NamedForm) -> int:
        return self._number(form.form.memories(state.monitors.parts, state.now, self._momentary))

    def _of_clocks(self, state: GlobalState, form: NamedForm) -> int:
        clocks = state.clocks
        text = form.form.text
        offsets = tuple(sorted((text(name), offset) for name, offset in clocks.offsets.items()))
        return self._number((clocks.store_offset, offsets, form.form.form(clocks.drifts, state.now)))

    def _born(self, state: GlobalState) -> dict[str, Instant]:
        """Return when each job was created; one that is yet to come, now."""
        now, views = state.now, state.views
        return {job: views[job].created_at if job in views else now for job in self._jobs}

    def _order(self, state: GlobalState, naming: Naming) -> tuple[int, ...]:
        """Return in which order jobs were created."""
        born = self._born(state)
        instants = sorted(set(born.values()))
        places = {naming.get(job, job): instants.index(at) for job, at in born.items()}
        return tuple([places[job] for job in self._jobs])


def _places(names: list[str], naming: Naming) -> list[int]:
    """Return whose state stands at each place once names are exchanged."""
    text = Canonical(naming, {}, Ages(0, 0, 0, 0)).text
    place_of = {text(name): place for place, name in enumerate(names)}
    return [place_of[name] for name in names]
