"""Where a child's sessions meet its database: which line is whose, and what is asked over it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import EnvironmentUnavailable
from harness.foreign.child import ANSWER_SECONDS
from harness.foreign.database import timestamp_of
from harness.foreign.gating.fiber import Fibers
from harness.foreign.gating.line import Line
from harness.foreign.gating.proxied_session import ProxiedSession
from harness.foreign.node_child import milliseconds_of
from harness.postgres.gating import Room, SessionPool
from harness.postgres.patience import Deadline

if TYPE_CHECKING:
    from harness.foreign.child import Child, Reply
    from harness.foreign.database import ForeignDatabase
    from harness.model.duration import Duration, Instant


class Switchboard:
    """Keeps the lines of one child for as many runs as there are; those that were cut are replaced."""

    def __init__(self, child: Child, database: ForeignDatabase, *, keeps: bool = True) -> None:
        """Stand between a child that is open and its database.

        `keeps` says whether a session of the child remembers nothing from one run to the next, and may be kept.
        """
        self._keeps = keeps
        self.child = child
        self.database = database
        self.pool = SessionPool(database.url)
        database.let_transactions_stand()
        self._folder = Path(tempfile.mkdtemp(prefix="job-harness-lines-"))
        self._idle: list[Line] = []
        self._count = 0

    def take(self) -> Line:
        """Answer a line that nobody has; its session in the child is open."""
        if self._idle:
            return self._idle.pop(0)
        self._count += 1
        line = Line(f"s{self._count}", self._folder / str(self._count), self.pool)
        line.question = self.child.post("begin session", {"url": line.url}, session=line.name)
        told = self.hear(line)
        assert not isinstance(told, ProxiedSession)
        if "value" not in told:
            line.end()
            raise EnvironmentUnavailable(f"{self.child.name} opened no further session: {dict(told)}")
        return line

    def hear(self, line: Line) -> Reply | ProxiedSession:
        """Wait, in real time, for the answer to the question under way or for a statement that is to be let through.

        Raises ChildDied where neither comes.
        """
        deadline = Deadline(ANSWER_SECONDS)
        while True:
            reply = self.child.reply(line.question)
            if reply is not None:
                line.question = 0
                return reply
            session = line.at_gate()
            if session is not None:
                return session
            if deadline.passed:
                raise self.child.overdue(line.question)
            line.listen(self.child.descriptor, deadline.left)

    def take_back(self, line: Line) -> None:
        """Keep a line for the next run, or cut it where something was left open."""
        line.leave()
        if line.clean and self._keeps:
            self._idle.append(line)
        else:
            line.end()
            self.cut(line)

    def cut(self, line: Line) -> None:
        """End a line and its session in the child, as the end of a process does."""
        line.cut()
        if not self.child.alive:
            return
        if line.question:
            self.child.forget(line.question)
        self.child.forget(self.child.post("end session", session=line.name))

    def close(self) -> None:
        """End all lines. Never raises."""
        for line in self._idle:
            line.end()
        self._idle.clear()
        self.pool.close()
        shutil.rmtree(self._folder, ignore_errors=True)


class Exchange:
    """One run: the actors' lines, and the questions that their verbs ask over them."""

    def __init__(self, switchboard: Switchboard, clock: Callable[[], Instant]) -> None:
        """Give actors lines from `switchboard`; `clock` is the store's."""
        self.room = Room(switchboard.pool, clock=clock)
        self.fibers = Fibers()
        self._told_time: Any = None
        """What a child of Node was told last."""
        self.asked = 0
        """How many questions verbs have asked."""
        self._switchboard = switchboard
        self._clock = clock
        self._lines: dict[str, Line] = {}

    def ask(self, question: str, arguments: Mapping[str, Any] | None = None) -> Reply:
        """Ask on behalf of the actor whose verb runs: each statement of the answer is a gate of that verb.

        Where no verb runs, it is the harness that asks, over the child's first session and at no gate.
        """
        fiber = self.fibers.current
        if fiber is None:
            return self._switchboard.child.ask(question, arguments)
        self.asked += 1
        lag = self._clock() - self._switchboard.database.now
        return self.fibers.wait(self._answered(fiber.actor, question, arguments or {}, lag))

    async def _answered(self, actor: str, question: str, arguments: Mapping[str, Any], lag: Duration) -> Reply:
        line = self._line(actor)
        line.question = self._switchboard.child.post(question, arguments, session=line.name)
        self._told_time = arguments.get("now")
        while True:
            told = self._switchboard.hear(line)
            if not isinstance(told, ProxiedSession):
                return told
            told.clock = partial(self._told, lag)
            if isinstance(arguments.get("now"), int):
                told.resumes = self._tell_time
            await told.exchange()

    def _told(self, lag: Duration, began_at: Instant) -> datetime:
        """Set the database's clock before a statement is sent; answer when its transaction began, by that clock."""
        self._switchboard.database.set_now(self._clock() - lag)
        return timestamp_of(began_at - lag)

    def _tell_time(self) -> None:
        """Let Date show what time it is, where a child of Node goes on that was asked before."""
        now = milliseconds_of(self._clock())
        if now != self._told_time:
            self._switchboard.child.ask("tell time", {"now": now})
            self._told_time = now

    def _line(self, actor: str) -> Line:
        line = self._lines.get(actor)
        if line is not None and line.question:  # A verb was given up in the middle: nobody waits for its answer.
            self.sever(actor)()
            line = None
        if line is None:
            line = self._lines[actor] = self._switchboard.take()
            line.join(self.room, actor)
        return line

    def sever(self, actor: str) -> Callable[[], None]:
        """Take a dead actor's line from it; answer what drops its sessions, and with them what they had open."""
        drop = self.room.sever(actor)
        line = self._lines.pop(actor, None)
        if line is not None:
            self._switchboard.cut(line)
        return drop

    def close(self) -> None:
        """Give all lines back; what was open is rolled back, what was under way is ended."""
        self.room.close()
        for line in self._lines.values():
            self._switchboard.take_back(line)
        self._lines.clear()
