"""Where actors stand: everything that each was told since it began. Telling it again brings it back there.

Frames are no positions: two with equal variables may have different futures.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from typing import Any

from harness.errors import UsageError
from harness.port import Application
from harness.run.context import RunContext
from harness.sim.request import Frame

Factory = Callable[[], Frame]
FAITHFUL = (
    "An actor may go by its replies, world.now and world.told_to_stop only; "
    "and world.anew comes first in its loop, where nothing is left over from before."
)


class Unfaithful(UsageError):
    """An actor or a queue did not come back to where it stood."""


class ActorMemory:
    """Keeps what actors are told: replies, and what they read of their clocks and of shutdowns."""

    def __init__(self) -> None:
        self.told: dict[str, list[Any]] = {}
        """By actor, since it began or declared to begin anew."""
        self.changed: set[str] = set()
        """Actors that were told something since this was last emptied."""
        self.muted = False
        self._actor = ""
        self._script: tuple[Any, ...] = ()
        self._next = 0

    # what the world asks --------------------------------------------------------------------------------------------

    def read(self, value: Any) -> Any:
        """Keep what the actor at work reads, or answer what it read then."""
        if not self.muted:
            if self._actor:
                self.told[self._actor].append(value)
            return value
        if self._next >= len(self._script):
            return value
        self._next += 1
        return self._script[self._next - 1]

    def anew(self, actor: str) -> None:
        """Forget what this actor was told; it may as well have just been started."""
        if not self.muted and actor == self._actor:
            self.told[actor] = [None]

    # telling --------------------------------------------------------------------------------------------------------

    def watched(self, name: str, make: Factory) -> Factory:
        """Answer a factory of frames that remember what they are told."""

        def frame() -> Generator[Any, Any, None]:
            inner = make()
            if not self.muted:
                self.told[name] = []
            reply: Any = None
            while True:
                if not self.muted:
                    self.told[name].append(reply)
                    self.changed.add(name)
                self._actor = name
                try:
                    request = inner.send(reply)
                except StopIteration:
                    return
                finally:
                    self._actor = ""
                reply = yield request

        return frame

    def retell(self, name: str, make: Factory, told: tuple[Any, ...]) -> tuple[Frame, Any]:
        """Bring a frame of a watched factory to where it stood; answer it, and what it stands before.

        Raises Unfaithful where it ends on the way.
        """
        self.muted = True
        self._script = told
        self._next = 0
        try:
            frame = make()
            request: Any = None
            while self._next < len(told):
                self._next += 1
                request = frame.send(told[self._next - 1])
        except StopIteration:
            raise Unfaithful(
                f"the actor {name} ended when it was told again what it was told before",
                hint=FAITHFUL,
            ) from None
        finally:
            self.muted = False
            self._script = ()
        self.told[name] = list(told)
        return frame, request

    def dismiss(self, frames: list[Frame]) -> None:
        """Close frames that are needed no more; whatever they still do has no effect."""
        self.muted = True
        try:
            for frame in reversed(frames):
                try:
                    frame.close()
                except BaseException:  # noqa: BLE001 - a severed actor may do anything in its `finally`
                    continue
        finally:
            self.muted = False


class WatchedApplication:
    """An application whose actors remember what they are told."""

    def __init__(self, inner: Any, memory: ActorMemory) -> None:
        self._inner: Any = inner
        self._memory = memory

    def actors(self, world: RunContext) -> Mapping[str, Factory]:
        """Answer the processes."""
        return self._watched(self._inner.actors(world))

    def clients(self, world: RunContext) -> Mapping[str, Factory]:
        """Answer the clients."""
        return self._watched(self._inner.clients(world))

    def _watched(self, factories: Mapping[str, Factory]) -> dict[str, Factory]:
        return {name: self._memory.watched(name, make) for name, make in factories.items()}


__all__ = ["ActorMemory", "Application", "Unfaithful", "WatchedApplication"]
