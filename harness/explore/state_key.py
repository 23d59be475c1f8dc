"""The key of a state: equal for states that differ only in the time of day and in which twin did what."""

from __future__ import annotations

from math import lcm
from typing import Any

from harness.explore.canonical import Ages, Canonical, Naming, namings
from harness.explore.rig import Numbers, Rig
from harness.explore.state import State
from harness.sim.actor import State as Standing

Key = tuple[Any, ...]
_CACHED = 2_000_000


class Keys:
    """Makes keys for the states of one rig."""

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
            (Canonical(naming, numbers, ages), _places(names, naming), naming) for naming in namings(groups) or [{}]
        ]
        self._numbers = numbers
        self._asked = 0

    def of(self, state: State) -> Key:
        """Answer the key: the least of those under all exchanges of twins."""
        self._asked += 1
        if self._asked % _CACHED == 0:
            for form, _, _ in self._forms:
                form.forget()
        if len(self._forms) == 1:
            return self._under(state, *self._forms[0])
        return min([self._under(state, *form) for form in self._forms])

    def _under(self, state: State, form: Canonical, places: list[int], naming: Naming) -> Key:
        now = state.now
        number = form.number
        key: list[Any] = [self._workload, now % self._grid]
        for place in places:
            actor = state.actors[place]
            position, standing = actor.position, actor.standing
            key.append(
                -1
                if position is None
                else number((position.told, position.point, position.reborn), position.number, now)
            )
            if standing is Standing.SLEEPING:
                key.append(100 + actor.wake - now)
            elif standing is Standing.POLLING and actor.last_tick >= now:
                key.append(99)
            else:
                key.append(int(standing))
        key.extend(sorted([number(part.value, part.number, now) for part in state.rows]))
        for part, momentary in zip(state.monitors, self._momentary, strict=True):
            key.append(number(part.value, part.number, now, momentary))
        key.extend(state.budgets)
        key.append(tuple(sorted(map(form.text, state.stalled))))
        key.append(self._numbers.setdefault(form.form(state.drifts, now), len(self._numbers)) if state.drifts else -1)
        if state.store_offset or state.offsets or state.stopping:
            key.append(state.store_offset)
            key.append(tuple(sorted((form.text(name), offset) for name, offset in state.offsets.items())))
            key.append(tuple(sorted(map(form.text, state.stopping))))
        else:
            key.extend((0, (), ()))
        key.append(self._order(state, naming))
        return tuple(key)

    def _order(self, state: State, naming: Naming) -> tuple[tuple[int, ...], ...]:
        """Answer in which order jobs were created, and which the queue may have to tell apart by their ids alone."""
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
    """Answer whose state stands at each place once names are exchanged."""
    text = Canonical(naming, {}, Ages(0, 0, 0, 0)).text
    place_of = {text(name): place for place, name in enumerate(names)}
    return [place_of[name] for name in names]
