"""A rig for queues that cannot be set back: it runs the whole path to a state once more."""

from __future__ import annotations

from typing import Any

from harness.explore.rig import Rig
from harness.explore.script import Move
from harness.explore.state import State
from harness.invariants.memory import freeze
from harness.sim.actor import Actor as Process


class ReplayRig(Rig):
    """For queues that cannot be set back: runs the whole path again, on an empty queue."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self._amid_verb: dict[str, list[Any]] = {}
        super().__init__(*arguments, **options)

    def _open(self) -> None:
        self._amid_verb.clear()
        super()._open()

    def _amid(self) -> bool:
        return True

    def _progress(self, process: Process) -> Any:
        return tuple(self._amid_verb.get(process.name, ()))

    def go(self, move: Move) -> None:
        stood = {process.name: process.request for process in self.kernel.actors.values()}
        super().go(move)
        for process in self.kernel.actors.values():
            if len(process.frames) < 2 or process.call is None:
                self._amid_verb.pop(process.name, None)
            elif process.request is not stood.get(process.name):
                seen = freeze(dict(self.session.board.views), {})
                self._amid_verb.setdefault(process.name, []).append(seen)

    def enter(self, state: State) -> None:
        self.session.close()
        self._open()
        for move in state.path:
            self.go(move)
        # Whatever happened on the way was judged when it happened first.
        self.memory.changed.clear()
        self.session.recorder.history.events.clear()
        self.session.judge.anomalies.clear()
