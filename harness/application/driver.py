"""Drives one process of an application: observes what each of its steps changed, and survives what it raises."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import harness
from harness.application.request import Exit, Look, Rest
from harness.application.stage import Looked, Stage
from harness.model.duration import SECOND, Duration
from harness.run.world import World
from harness.sim.request import Frame, Point, Request, Sleep

RESTART: Duration = 5 * SECOND
"""How long a platform takes to bring a process back that died of itself."""
RESTARTS = 3
"""How often it does for a process that raised."""
End: TypeAlias = Literal["ended", "raised", "killed"]
"""Of itself, of what it raised, or by the job that it ran."""
END: Final = object()
OURS = str(Path(harness.__file__).parent) + os.sep


class Driver:
    """One process by name. Its code is called anew after each death."""

    def __init__(self, world: World, stage: Stage, name: str, order: int) -> None:
        self._world = world
        self._stage = stage
        self._name = name
        self._order = order
        self._at = "starting"
        self._looked = Looked(-1, -1)
        """Unless it has looked for work since, there may be some."""

    def forever(self, factory: Callable[[], Any]) -> Frame:
        """Run a process; where it dies of itself, bring it back a few times."""
        raised = 0
        while raised <= RESTARTS:
            end = yield from self.once(factory)
            if end == "ended":
                return
            raised += end == "raised"
            yield Sleep(RESTART, "restarting")

    def once(self, factory: Callable[[], Any]) -> Generator[Request, Any, End]:
        """Run a process to its end; answer how that was."""
        self._at = "starting"
        self._looked = Looked(-1, -1)
        frame: Any = None
        try:
            frame = factory()
            while True:
                asked = self._next(frame)
                if asked is END:
                    return "ended"
                if type(asked) is Exit:
                    self._world.died(self._name, asked.why)
                    return "killed"
                yield self._request(asked)
                if type(asked) is Look:
                    self._looked = Looked(self._world.events, self._stage.now())
        except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever a user's code raises is an observation
            self._world.observe(self._name, self._at)
            self._world.raised(self._name, self._at, f"{type(error).__name__}: {error}", where_of(error))
            return "raised"
        finally:
            if hasattr(frame, "close"):
                frame.close()

    def _next(self, frame: Any) -> Any:
        """Let it act up to the next place at which it suspends, or to its end."""
        if frame is not None and not hasattr(frame, "send"):
            kind = type(frame).__name__
            raise TypeError(f"{self._name} answered a {kind}: write an async def, a generator, or answer nothing")
        try:
            asked = END if frame is None else frame.send(None)
        except StopIteration:
            asked = END
        self._world.observe(self._name, self._at)
        return asked

    def _request(self, asked: Any) -> Request:
        if isinstance(asked, Point):
            self._at = f"step {getattr(asked, 'name', asked.point)}"
            return asked
        if type(asked) is Rest:
            self._at = asked.point
            return Sleep(asked.duration, asked.point)
        if type(asked) is Look:
            self._at = "polling"
            return self._stage.tick(asked, self._order, since=self._looked)
        raise TypeError(
            f"{self._name} waits for a {type(asked).__name__}, which nothing here answers: "
            "await step(...), sleep(...) or poll(...) of harness.application"
        )


def where_of(error: BaseException) -> str:
    """Answer `file:line` of the innermost frame that is not ours."""
    frames = traceback.extract_tb(error.__traceback__)
    theirs = [frame for frame in frames if not frame.filename.startswith(OURS)] or list(frames)
    if not theirs:
        return ""
    path = theirs[-1].filename
    inside = os.path.relpath(path)
    return f"{path if inside.startswith(os.pardir) else inside}:{theirs[-1].lineno}"
