"""Lines between this process and a client: what it asks, and the turns that it takes as the peer of its processors.

Hides: pipes, framing, whose line comes when (a client asks while its own turn is open), patience in
real time. Must not know: harnesses, jobs.
"""

from __future__ import annotations

import json
import os
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NoReturn, Protocol

from job_harness import __version__
from job_harness.core.sim.watchdog import WATCHDOG
from job_harness.worlds.patience import LOOK_SECONDS, Deadline, WorkLimit, ready
from job_harness.worlds.peers.peer import MOST_REPORTS, IncomingLines, PeerLost, Report, TurnTaker

VERSION: Final = 1
"""Of the protocol; the client says in `hello` which one it speaks."""
SCHEMA: Final = Path(__file__).with_name("serve_protocol.schema.json")
ANSWER_SECONDS: Final = 10.0
"""Real seconds for which a client may stay silent in a turn; while it waits for real I/O it says so."""
STANDSTILL_SECONDS: Final = 30.0
"""Real seconds of one turn, I/O included."""
HELD_SECONDS: Final = 24 * 3600.0
"""The same for all of them, where a debugger may hold the client at a breakpoint."""
PLAY_SECONDS: Final = 30.0
"""Real seconds without a line after which one run of an explored test counts as hanging."""
LARGEST_LINE: Final = 64 * 1024 * 1024
"""Bytes."""
_CHUNK: Final = 1 << 16


class ClientGone(SystemExit):
    """The client closed its end: everything here ends, too. No `except Exception` holds it up."""


class AskService(Protocol):
    """Does what a client asks for."""

    def carry_out(self, ask: dict[str, Any]) -> None:
        """Do it, and answer."""


class Conversation(TurnTaker):
    """Speaks with one client. As the peer of its processors it takes one turn after the other."""

    def __init__(self, inward: int, outward: int, *, say: Callable[[str], None] = lambda words: None) -> None:
        """Read lines from the first descriptor and write to the second; `say` shows what cannot wait for the client."""
        self._inward = inward
        self._outward = outward
        self._say = say
        self._incoming = IncomingLines()
        self._lines: deque[bytes] = deque()
        self._later: deque[dict[str, Any]] = deque()
        """What the test asked while it was not its turn to ask."""
        self._unread: deque[dict[str, Any]] = deque()
        """What came while a check was waited for."""
        self._between: list[Report] = []
        self._process = 0
        """Whose time counts as that of a turn, as the client has told."""
        self._inspected = False
        """Whether a debugger may hold it."""
        self._turn = 0
        self._severed: set[int] = set()
        self._hear: Callable[[Sequence[Report]], None] = lambda said: None
        self.service: AskService | None = None
        """Carries out what is asked for; it may come in the middle of a turn."""

    @property
    def _service(self) -> AskService:
        assert self.service is not None
        return self.service

    def greet(self) -> None:
        """Say who is here. The client refuses another version by name."""
        self.send({"hello": VERSION, "version": __version__})

    def send(self, message: Mapping[str, Any]) -> None:
        """Write a line. Raises ClientGone."""
        line = json.dumps(message).encode() + b"\n"
        try:
            while line:
                line = line[os.write(self._outward, line) :]
        except BrokenPipeError:
            raise ClientGone from None

    def tell(self, words: str) -> None:
        """Show a line that cannot wait for the answer."""
        self._say(words)

    def next_ask(self) -> dict[str, Any]:
        """Wait for what the test asks next. Raises ClientGone at the end of the input."""
        while True:
            line = self._later.popleft() if self._later else self._line(None)
            assert line is not None, "without a limit there is always a line"
            if "ask" in line:
                return line
            if line.get("effect") == "died":
                self._between.append(line)
            # What else comes now belongs to a turn that was given up.

    def between_turns(self) -> list[Report]:
        """Return which workers died between two turns, since this was last asked."""
        died, self._between = self._between, []
        return died

    # turns of the peer ----------------------------------------------------------------------------------------------

    def hear_first(self, hear: Callable[[Sequence[Report]], None]) -> None:
        """Let what was reported in a turn be heard before an ask of the same turn is carried out."""
        self._hear = hear

    def sever(self, actor: str) -> None:
        """Say that a run is dead; nothing is waited for."""
        self._turn += 1
        self._severed.add(self._turn)
        self.send({"sever": self._turn, "actor": actor})

    def play(self, about: Mapping[str, Any]) -> dict[str, Any]:
        """Let the client play the body of an explored test once, and return how that ended. Raises PeerLost."""
        self._turn += 1
        number = self._turn
        self.send({"play": number, **about})
        while True:
            line = self._later.popleft() if self._later else self._awaited(PLAY_SECONDS)
            if line is None:
                raise PeerLost("blocked", f"its body gave no sign of life for {PLAY_SECONDS:g} s", name="the test")
            if "ask" in line:
                self._service.carry_out(line)
            elif line.get("played") == number:
                return line

    def check(self, news: Mapping[str, Any], *, at_rest: bool = False) -> list[dict[str, str]]:
        """Let the client judge by its own checks, now, or by those of the end; return those that do not hold.

        Raises PeerLost, ClientGone.
        """
        self._turn += 1
        number = self._turn
        self.send({"check": number, "news": news, **({"rest": True} if at_rest else {})})
        before: list[dict[str, Any]] = []
        while (line := self._awaited(ANSWER_SECONDS)) is not None and line.get("checked") != number:
            before.append(line)
        self._unread.extendleft(reversed(before))
        if line is None:
            raise PeerLost("blocked", f"a check of its own took longer than {ANSWER_SECONDS:g} s", name="the test")
        broken: list[dict[str, str]] = line["broken"]
        return broken

    def _whole(self, message: Report, *, do: str, patience: float | None = None) -> list[Report]:
        self._turn += 1
        number = self._turn
        self.send({**message, **{kind: number for kind in ("go", "time") if kind in message}})
        said: list[Report] = []
        try:
            self._converse(number, said, patience=patience or ANSWER_SECONDS)
        except PeerLost as lost:
            lost.said = said
            raise
        return said

    def _converse(self, number: int, said: list[Report], *, patience: float) -> None:
        still = Deadline(HELD_SECONDS if self._inspected else STANDSTILL_SECONDS)
        waits_for = "work without end"
        while True:
            report = self._awaited(patience)
            if report is None or still.passed:
                what = f"it did not answer for {patience:g} s of real time"
                if report is not None or still.passed:
                    what = f"virtual time stood still for {still.seconds:g} real seconds, for {waits_for}"
                # A test runner whose thread is taken cannot show it.
                self._say(f"job-harness: the process of the test: {what}; is a processor in an endless loop?")
                raise PeerLost("blocked", what, name="the process of the test")
            if "ask" in report:
                if "actor" not in report:
                    self._later.append(report)
                    continue
                self._hear(said)
                said.clear()
                self._service.carry_out(report)
            elif report.get("io"):
                waits_for = ", ".join(map(str, report["io"]))
            elif "idle" not in report:
                said.append(report)
            elif report["idle"] == number:
                said.append(report)
                return
            else:
                self._severed.discard(report["idle"])
            if len(said) > MOST_REPORTS:
                raise PeerLost("flooded", f"it reported more than {MOST_REPORTS} things in one turn", name="the test")

    # lines ----------------------------------------------------------------------------------------------------------

    def _awaited(self, seconds: float) -> dict[str, Any] | None:
        """Return the next line; None where the client had that long to write one.

        On a busy machine it waits for its turn to run, which does not count.
        """
        with WATCHDOG.patient():
            line = self._line(HELD_SECONDS if self._inspected else seconds / 10)
            if line is not None or self._inspected:
                return line
            limit = WorkLimit(self._process, seconds * 0.9)
            while line is None and not limit.passed:
                line = self._line(min(LOOK_SECONDS, seconds))
        return line

    def _line(self, seconds: float | None) -> dict[str, Any] | None:
        """Return the next line; None after that long without one. Raises ClientGone at the end of the input."""
        if self._unread:
            return self._unread.popleft()
        deadline = None if seconds is None else Deadline(seconds)
        while True:
            while not self._lines:
                if deadline is not None and not ready([self._inward], seconds=deadline.left)[0]:
                    return None
                data = os.read(self._inward, _CHUNK)
                if not data:
                    raise ClientGone
                self._take(data)
            line = self._read(self._lines.popleft())
            if "process" not in line:
                return line
            self._process, self._inspected = line["process"], line["inspected"]
            if "folder" in line:  # What started this process may have others.
                os.chdir(line["folder"])
                os.environ.clear()
                os.environ.update(line["environment"])

    def _take(self, data: bytes) -> None:
        self._lines.extend(self._incoming.take(data))
        if len(self._incoming.rest) > LARGEST_LINE:
            self._refuse(f"a line of more than {LARGEST_LINE >> 20} MiB")

    def _read(self, line: bytes) -> dict[str, Any]:
        try:
            said = json.loads(line)
        except (ValueError, RecursionError):
            said = None
        if not isinstance(said, dict):
            self._refuse(line[:200].decode(errors="replace"))
        return said

    def _refuse(self, shown: str) -> NoReturn:
        """Say that what comes in is no line of the protocol, and end: no one knows what was meant."""
        self._say(f"job-harness serve: the client sent {shown!r}, which is not a JSON object")
        raise ClientGone
