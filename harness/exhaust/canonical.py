"""The key of a state: equal for states that differ only in what nothing depends on.

That is the time of day, and which twin did what. Instants become distances from now; names of workers and of
interchangeable jobs are exchanged, also within texts. Everything else is taken as it stands, so that a state is never
taken for another by mistake.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from itertools import permutations, product
from math import lcm
from typing import Any, Final

from harness.exhaust.memo import Numbers
from harness.exhaust.rig import Rig
from harness.exhaust.state import EPOCH, ActorState, Component, GlobalState
from harness.invariants.memory import Alias, Frozen
from harness.model.duration import Duration, Instant
from harness.model.job import JobView
from harness.model.lifecycle import Status
from harness.model.settings import Settings
from harness.port import Claim
from harness.sim.actor import State

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


def namings(groups: Iterable[tuple[str, ...]]) -> list[dict[str, str]]:
    """List every way to exchange names within groups of twins; the first changes nothing."""
    ways = [[dict(zip(group, order, strict=True)) for order in permutations(group)] for group in groups]
    return [{name: other for part in choice for name, other in part.items()} for choice in product(*ways)]


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

    def number(self, value: Any, key: int, now: Instant, momentary: frozenset[str] = frozenset()) -> int:
        """Return the number of a value as it looks at this instant; `key` tells values apart, for the cache."""
        known = self._timeless.get(key)
        if known is None:
            known = self._known.get((key, now))
        if known is None:
            self._aged = bool(momentary)
            form = self.form(value, now) if not momentary else self._of_monitor(value, now, momentary)
            known = self._numbers.setdefault(form, len(self._numbers))
            if self._aged:
                self._known[key, now] = known
            else:
                self._timeless[key] = known
        return known

    def all_of(self, parts: tuple[Component, ...], now: Instant, momentary: list[frozenset[str]]) -> tuple[int, ...]:
        """Return the numbers of what monitors remember."""
        numbers = list(map(self._timeless.get, [part.number for part in parts]))
        for place, number in enumerate(numbers):
            if number is None:
                value, key = parts[place]
                numbers[place] = self.number(value, key, now, momentary[place])
        return tuple(numbers)  # type: ignore[arg-type]

    def forget(self) -> None:
        """Empty the cache of what was looked up; numbers stay."""
        self._known.clear()
        self._timeless.clear()

    def _of_monitor(self, memory: Frozen, now: Instant, momentary: frozenset[str]) -> Any:
        return self.form(Frozen(object, _current(memory.items, now, momentary)), now)

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
            return self.text(value)
        if kind is int:
            return self._age(value, now, self._ages.longest) if _EARLIEST < value < _LATEST_KEPT else value
        if value is None or kind is bool:
            return value
        if kind is JobView:
            return self._of_view(value, now, seen)
        if kind is Claim:
            lease = self._age(value.lease_until, now, 0)
            return (self.text(value.job), value.attempt, value.token, self.text(value.worker), value.tool, lease)
        if kind is Frozen:
            return self._of_frozen(value, now, seen)
        if isinstance(value, tuple | list):
            return tuple([self._form(item, now, seen) for item in value])
        if isinstance(value, Enum):
            return value
        if isinstance(value, Mapping):
            return frozenset([(self._form(key, now, seen), self._form(item, now, seen)) for key, item in value.items()])
        if isinstance(value, set | frozenset):
            return frozenset([self._form(item, now, seen) for item in value])
        if isinstance(value, datetime):
            return ("@",)
        if hasattr(kind, "__dataclass_fields__"):
            return (kind, *[self._form(getattr(value, name), now, seen) for name in kind.__dataclass_fields__])
        return value

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
        )

    def _of_frozen(self, value: Frozen, now: Instant, seen: list[Any]) -> Any:
        kind, items = value
        if kind is dict:
            return frozenset([(self._form(key, now, seen), self._form(item, now, seen)) for key, item in items])
        if kind is set:
            return frozenset([self._form(item, now, seen) for item in items])
        if kind is JobView:
            return self._of_view(JobView(*items), now, seen)
        if kind is Alias:
            return seen[items[0]]
        if momentary := getattr(kind, "momentary", None):
            self._aged = True
            items = _current(items, now, momentary)
        place = len(seen)
        seen.append(None)
        form = tuple([self._form(item, now, seen) for item in items])
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


class StateKeys:
    """Makes keys for the states of one rig.

    A part of a state comes again in many states, so its form is looked up by its number and by the time of day, part by
    part: a key then costs a look-up for each actor and one each for jobs, monitors and clocks.
    """

    def __init__(self, rig: Rig, *, workload: int, numbers: Numbers) -> None:
        """Take the number of the workload into every key; `numbers` is shared by all keys of a search."""
        groups = rig.scope.twins(rig.scenario)
        self._jobs = tuple(rig.scenario.plan_of())
        self._workload = workload
        self._twins = [group for group in groups if set(self._jobs).issuperset(group)]
        self._by_id_alone = rig.scenario.settings.retry_backoff
        self._momentary = [monitor.momentary for monitor in rig.session.judge.monitors]
        names = list(rig.kernel.actors)
        scope, settings = rig.scope, rig.scenario.settings
        reach = (
            rig.quiet
            * (settings.max_attempts + 1)
            * (1 + scope.jobs + scope.retries + sum(scope.faults.counts().values()))
        )
        ages = Ages.of(settings, reach=reach)
        self._grid = lcm(settings.poll_interval, settings.cron_period, settings.expire_interval)
        self._forms = [
            NamedForm(naming, Canonical(naming, numbers, ages), _places(names, naming))
            for naming in namings(groups) or [{}]
        ]
        self._numbers = numbers
        self._asked = 0

    def of(self, state: GlobalState) -> Key:
        """Return the key: the least of those under all exchanges of twins."""
        self._asked += 1
        if self._asked % _CACHED == 0:
            for form in self._forms:
                form.forget()
        heads = [self._head(state, form) for form in self._forms]
        least = min(heads)
        rest = min([self._rest(state, form) for form, head in zip(self._forms, heads, strict=True) if head == least])
        return (*least, *rest)

    def _head(self, state: GlobalState, form: NamedForm) -> Key:
        """Return what mostly tells exchanges apart: only those that share the least of it are looked at further."""
        now, actors, places, known = state.now, state.actors, form.places, form.actors
        jobs = form.rows.get((state.rows.number, now))
        if jobs is None:
            jobs = form.rows[state.rows.number, now] = self._of_rows(state, form)
        key = [self._workload, now % self._grid, jobs]
        for actor in (*[actors[place] for place in places], *actors[len(places) :]):
            number = known.get((actor.number, now))
            if number is None:
                number = known[actor.number, now] = self._of_actor(actor, form, now)
            key.append(number)
        return tuple(key)

    def _rest(self, state: GlobalState, form: NamedForm) -> Key:
        now = state.now
        monitors = form.monitors.get((state.monitors.number, now))
        if monitors is None:
            monitors = form.monitors[state.monitors.number, now] = self._of_monitors(state, form)
        clocks = form.clocks.get((state.clocks.number, now))
        if clocks is None:
            clocks = form.clocks[state.clocks.number, now] = self._of_clocks(state, form)
        text = form.form.text
        stalled = tuple(sorted(map(text, state.stalled))) if state.stalled else ()
        stopping = tuple(sorted(map(text, state.stopping))) if state.stopping else ()
        return (monitors, clocks, state.budgets, stalled, stopping)

    def _number(self, form: Any) -> int:
        return self._numbers.setdefault(form, len(self._numbers))

    def _of_actor(self, actor: ActorState, form: NamedForm, now: Instant) -> int:
        position, standing = actor.position, actor.standing
        stands = -1
        if position is not None:
            told = (position.told, position.request.point, position.reborn, position.progress)
            stands = form.form.number(told, position.number, now)
        if standing is State.SLEEPING:
            return self._number((stands, "wakes", actor.wake - now))
        if standing is State.POLLING and actor.last_tick >= now:
            return self._number((stands, "ticked"))
        return self._number((stands, int(standing)))

    def _of_rows(self, state: GlobalState, form: NamedForm) -> int:
        number, now = form.form.number, state.now
        rows = sorted([number(part.value, part.number, now) for part in state.rows.parts])
        return self._number((*rows, *self._order(state, form.naming)))

    def _of_monitors(self, state: GlobalState, form: NamedForm) -> int:
        return self._number(form.form.all_of(state.monitors.parts, state.now, self._momentary))

    def _of_clocks(self, state: GlobalState, form: NamedForm) -> int:
        clocks = state.clocks
        text = form.form.text
        offsets = tuple(sorted((text(name), offset) for name, offset in clocks.offsets.items()))
        return self._number((clocks.store_offset, offsets, form.form.form(clocks.drifts, state.now)))

    def _order(self, state: GlobalState, naming: Naming) -> tuple[tuple[int, ...], ...]:
        """Return in which order jobs were created, and which the queue may have to tell apart by their ids alone."""
        now, views = state.now, state.views
        born = {job: views[job].created_at if job in views else now for job in self._jobs}
        instants = sorted(set(born.values()))
        places = {naming.get(job, job): instants.index(at) for job, at in born.items()}
        ranks = {
            naming[job]: sum(1 for other in group if other < job and (self._by_id_alone or born[other] == born[job]))
            for group in self._twins
            for job in group
        }
        return tuple([places[job] for job in self._jobs]), tuple([ranks[job] for job in self._jobs if job in ranks])


def _places(names: list[str], naming: Naming) -> list[int]:
    """Return whose state stands at each place once names are exchanged."""
    text = Canonical(naming, {}, Ages(0, 0, 0, 0)).text
    place_of = {text(name): place for place, name in enumerate(names)}
    return [place_of[name] for name in names]
