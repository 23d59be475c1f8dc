"""Who could do what right now: the lists that the rules of a state machine pick from. Plays nothing."""

from __future__ import annotations

from typing import ClassVar

from harness.explore.machine_acts import Act, is_stale, next_act, when
from harness.model.lifecycle import Status
from harness.run.session import Session
from harness.scenario.scenario import SCHEDULERS
from harness.sim.actor import Actor, State
from harness.sim.request import Call, Sleep

HOLDING = ("start", "complete", "fail", "release", "heartbeat")
"""What a worker does with a claim."""


class Standing:
    """Reads a session; the machine that mixes this in has one."""

    workers: ClassVar[tuple[str, ...]]

    @property
    def session(self) -> Session:
        """The run that is being stepped."""
        raise NotImplementedError

    def _actors(self) -> list[Actor]:
        """Those whom a step can name where they stand: no scenario has a name for the job of a dead letter."""
        actors = self.session.kernel.actors
        there = [actors[name] for name in (*self.workers, "queue", "maintenance", *SCHEDULERS) if name in actors]
        return [actor for actor in there if self._nameable(actor)]

    def _nameable(self, actor: Actor) -> bool:
        point = "" if actor.request is None else actor.request.point
        job = point.removeprefix("retrying ").partition(" ")[2]
        return job not in self.session.board.views or job in self.session.world.plans

    def _workers(self) -> list[Actor]:
        return [actor for actor in self._actors() if actor.name in self.workers]

    def _acts(self, *verbs: str) -> list[Act]:
        acts = (next_act(self.session, actor) for actor in self._workers())
        return [act for act in acts if act is not None and act.verb in verbs]

    def _stale_acts(self) -> list[Act]:
        return [act for act in self._acts(*HOLDING) if is_stale(self.session, act)]

    def _claims(self) -> list[Act]:
        """Who is idle, where something is due: polls that find nothing come with the time that passes."""
        now = self.session.clocks.store()
        live = self.session.board.live.values()
        due = any(view.status is Status.PENDING and view.start_after <= now for view in live)
        return self._acts("claim") if due else []

    def _busy(self) -> list[Actor]:
        holding = {act.actor for act in self._acts(*HOLDING)}
        return [actor for actor in self._alive() if actor.name in holding or type(actor.request) is Sleep]

    def _alive(self) -> list[Actor]:
        return [actor for actor in self._workers() if actor.alive]

    def _going(self) -> list[Actor]:
        upkeep = [actor for actor in self._actors() if actor.name not in self.workers and actor.alive]
        return [actor for actor in (*self._busy(), *upkeep) if actor.state is not State.HELD]

    def _held(self) -> list[Actor]:
        return [actor for actor in self._actors() if actor.state is State.HELD]

    def _down(self) -> list[Actor]:
        return [actor for actor in self._workers() if not actor.alive]

    def _unstopped(self) -> list[Actor]:
        """Those who may be shut down: one at a time, or soon nobody would be left."""
        stopping = self.session.world.stopping
        return [] if stopping or self._down() else self._alive()

    def _calling(self) -> list[Actor]:
        return [actor for actor in self._alive() if type(actor.request) is Call and when(actor)]
