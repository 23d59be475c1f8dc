"""Who acts when by himself: sleepers with their times, and those who poll on a grid for what is due."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

from harness.model.duration import Instant
from harness.sim.actor import Actor

Sleeper: TypeAlias = tuple[Instant, int, Actor]
"""When he wakes, his ticket in the order of falling asleep, and who."""


class Agenda:
    """Plans the next wake-up once for each change; an idle poll costs nothing until something is due."""

    __slots__ = ("_planned", "_tickets", "_ticks", "_wake", "polling", "sleeping")

    def __init__(self) -> None:
        self.sleeping: list[Sleeper] = []
        """A heap; a search keeps it and hands it back to `restore`."""
        self.polling: dict[str, Actor] = {}
        self._tickets = 0
        self._planned = False
        """Whether `_wake` and `_ticks` still tell who wakes next."""
        self._wake: Instant | None = None
        self._ticks: list[tuple[Instant, Actor]] = []

    def changed(self) -> None:
        """Plan anew: something happened on which polls may depend."""
        self._planned = False

    def sleep(self, actor: Actor, wake: Instant) -> None:
        """Let an actor sleep until an instant."""
        self._planned = False
        self._tickets += 1
        heapq.heappush(self.sleeping, (wake, self._tickets, actor))

    def poll(self, actor: Actor) -> None:
        """Let an actor wait for what he polls for."""
        self._planned = False
        self.polling[actor.name] = actor

    def wake(self, actor: Actor) -> None:
        """Take a sleeper off, whatever his time."""
        self._planned = False
        self.sleeping = [entry for entry in self.sleeping if entry[2] is not actor]
        heapq.heapify(self.sleeping)

    def restore(self, sleeping: Sequence[Sleeper], polling: Iterable[Actor]) -> None:
        """Take over an agenda that stood before."""
        self.sleeping = list(sleeping)
        self.polling = {actor.name: actor for actor in polling}
        self._planned = False

    def next(self, now: Instant) -> Instant | None:
        """Tell when somebody next acts by himself: a sleeper wakes, or a poll's tick finds something due."""
        if self._planned:
            return self._wake
        wake = self.sleeping[0][0] if self.sleeping else None
        self._ticks = ticks = []
        for actor in self.polling.values():
            request: Any = actor.request
            due = request.due()
            if due is None:
                continue
            after = due if due > now else now
            if after <= actor.last_tick:
                after = actor.last_tick + 1
            tick = after + (request.origin - after) % request.interval
            ticks.append((tick, actor))
            if wake is None or tick < wake:
                wake = tick
        self._wake = wake
        self._planned = True
        return wake

    def take_due(self, now: Instant, target: Instant) -> list[Actor]:
        """Take off everybody whose time comes until an instant, in the order of their times."""
        due: list[Sleeper] = []
        self.next(now)
        self._planned = False
        for tick, actor in self._ticks:
            if tick <= target:
                due.append((tick, actor.order, actor))
                actor.last_tick = tick
                del self.polling[actor.name]
        while self.sleeping and self.sleeping[0][0] <= target:
            wake, ticket, actor = heapq.heappop(self.sleeping)
            due.append((wake, -1_000_000_000 + ticket, actor))
        if len(due) > 1:
            due.sort(key=_by_time)
        return [actor for _, _, actor in due]


def _by_time(entry: Sleeper) -> tuple[Instant, int]:
    return entry[:2]
