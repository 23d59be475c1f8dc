"""Between a client and Redis: every command that an actor sends is a gate, and its connection may break there.

An actor's process connects to a `RedisEndpoint`, a socket of ours; each connection is a
`RedisSession`, which reads RESP as far as it has to: where a command ends, what it is called, where
a reply ends. What Redis does at once is one gate: a command, a script, what stands between MULTI
and EXEC. It keeps the contract of `job_harness.worlds.wire.proxy`.

A command that waits for others would stop the server's clock and ours from moving on. It is sent
within a MULTI of its own, where Redis answers as if its time were up, and again whenever another
command was carried out.

Hides: RESP (redis.io, "Redis serialization protocol specification"), sockets. Must not know:
queues, peers, whose verb it is.
"""

from __future__ import annotations

import hashlib
import re
import socket
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, NamedTuple

from job_harness.core.model import MILLISECOND, SECOND, Instant
from job_harness.core.port import Sent
from job_harness.core.printable import printable
from job_harness.core.sim import Exchange, Poll
from job_harness.errors import EnvironmentUnavailable, HarnessError
from job_harness.worlds.patience import Deadline, ready
from job_harness.worlds.redis.client import PATIENCE
from job_harness.worlds.wire.proxy import Endpoint, ListeningSocket, Timekeeper

_CHUNK: Final = 1 << 16
_LINE: Final = b"\r\n"
_LONGEST_POINT: Final = 60
MOST_UNREAD: Final = 32 * 1024 * 1024
"""Bytes; Redis too ends the connection of a subscriber that is so far behind (client-output-buffer-limit)."""

FREE: Final = frozenset(
    b"HELLO AUTH CLIENT SELECT PING ECHO INFO COMMAND MULTI DISCARD UNWATCH RESET QUIT SCRIPT".split()
)
"""What sets a connection up or shows a client nothing of what others did."""
LISTENING: Final = frozenset(b"SUBSCRIBE PSUBSCRIBE SSUBSCRIBE".split())
"""What turns a connection into one over which the server speaks unasked."""
SCRIPTS: Final = frozenset(b"EVAL EVAL_RO EVALSHA EVALSHA_RO FCALL FCALL_RO".split())
REFUSED: Final[dict[tuple[bytes, ...], str]] = {
    (b"MONITOR",): "it shows what all others do as it happens",
    (b"SYNC",): "it makes a replica of the client",
    (b"PSYNC",): "it makes a replica of the client",
    (b"CLIENT", b"REPLY"): "a command without a reply cannot be seen to end",
    (b"CLIENT", b"TRACKING"): "the server would say unasked what others changed",
}
"""What cannot be controlled, and why."""
_SECONDS_LAST: Final = frozenset(b"BLPOP BRPOP BZPOPMIN BZPOPMAX BRPOPLPUSH BLMOVE".split())
_SECONDS_FIRST: Final = frozenset(b"BLMPOP BZMPOP".split())
_STREAMS: Final = frozenset(b"XREAD XREADGROUP".split())
NOTHING: Final = (b"$-1\r\n", b"*-1\r\n", b"_\r\n")
"""How Redis says that there is nothing."""
_MULTI: Final = b"*1\r\n$5\r\nMULTI\r\n"
_EXEC: Final = b"*1\r\n$4\r\nEXEC\r\n"
_MOVED: Final = (b"-MOVED ", b"-ASK ", b"-CLUSTERDOWN ")
_BY_CHANCE: Final = re.compile(r"[0-9a-f]{8}(?:-?[0-9a-f]{4}){3,}-?[0-9a-f]*", re.IGNORECASE)
"""A part of a key that is another one in every run."""


# RESP -----------------------------------------------------------------------------------------------------------------


class RedisCommand(NamedTuple):
    """What a client sent, whole."""

    words: tuple[bytes, ...]
    raw: bytes

    @property
    def name(self) -> bytes:
        """Its name, in capitals."""
        return self.words[0].upper()

    @property
    def point(self) -> str:
        """What its gate is called: `lpush celery`, `evalsha 1f2e3d4c`."""
        name = self.name.decode(errors="replace").lower()
        if len(self.words) == 1:
            return name
        about = self.words[1]
        if self.name in (b"EVAL", b"EVAL_RO"):  # by what EVALSHA calls the same script
            about = hashlib.sha1(about, usedforsecurity=False).hexdigest().encode()
        elif self.name in (b"XREAD", b"XREADGROUP"):
            about = next((key for at, key in zip(self.words, self.words[1:], strict=False) if _is(at, b"STREAMS")), b"")
        shown = about[:8] if self.name in SCRIPTS and not self.name.startswith(b"FCALL") else about
        key = printable(_BY_CHANCE.sub("*", shown.decode(errors="backslashreplace")))
        return " ".join(f"{name} {key}".split())[:_LONGEST_POINT].rstrip()

    @property
    def awaited(self) -> frozenset[bytes]:
        """The keys that it waits for, where it does, and other words of it."""
        return frozenset(self.words[1:])

    @property
    def waits_at_all(self) -> bool:
        """Whether it is one of those that may wait for others."""
        return self.name in _SECONDS_LAST or self.name in _SECONDS_FIRST or self.name in _STREAMS

    @property
    def waits(self) -> int | None:
        """For how many microseconds it waits where there is nothing, 0 forever; None: it does not wait.

        Raises ValueError or OverflowError where its time is no number: Redis will say so.
        """
        if self.name in _SECONDS_LAST:
            return round(float(self.words[-1]) * SECOND)
        if self.name in _SECONDS_FIRST and len(self.words) > 1:
            return round(float(self.words[1]) * SECOND)
        if self.name in _STREAMS:
            for at, milliseconds in zip(self.words, self.words[1:], strict=False):
                if _is(at, b"STREAMS"):
                    return None
                if _is(at, b"BLOCK"):
                    return int(milliseconds) * MILLISECOND
        return None

    def refusal(self, refused: Mapping[tuple[bytes, ...], str]) -> str | None:
        """Say why it cannot be sent, where it is one of those that are refused."""
        for words, why in refused.items():
            if tuple(word.upper() for word in self.words[: len(words)]) == words:
                return f"{b' '.join(words).decode()}: {why}"
        return None


class RedisCommands:
    """Cuts what a client sends into commands: arrays of bulk strings, as every client library sends them."""

    def __init__(self) -> None:
        self._incoming = bytearray()

    @property
    def empty(self) -> bool:
        """Whether nothing is half there."""
        return not self._incoming

    def take(self, data: bytes) -> list[RedisCommand]:
        """Take what came; return the commands that are whole. Raises ValueError if it is anything else."""
        self._incoming += data
        found = []
        while (command := self._next()) is not None:
            if command.words:
                found.append(command)
        return found

    def _next(self) -> RedisCommand | None:
        data = self._incoming
        if not data:
            return None
        if data[:1] != b"*":
            what = "TLS" if data[:1] == b"\x16" else f"{bytes(data[:20])!r}, which is no array of bulk strings"
            raise ValueError(what)
        if (head := _line(data, 0)) is None:
            return None
        words, at = [], head.end
        for _ in range(_count(head.text)):
            if (line := _line(data, at)) is None:
                return None
            if line.kind != b"$":
                raise ValueError(f"{line.kind + line.text[:20]!r} within an array, which is no bulk string")
            end = line.end + _count(line.text)
            if len(data) < end + 2:
                return None
            words.append(bytes(data[line.end : end]))
            at = end + 2
        raw = bytes(data[:at])
        del data[:at]
        return RedisCommand(tuple(words), raw)


class RespLine(NamedTuple):
    kind: bytes
    text: bytes
    end: int
    """Where what follows it begins."""


def _line(data: bytes | bytearray, at: int) -> RespLine | None:
    end = data.find(_LINE, at)
    return None if end < 0 else RespLine(bytes(data[at : at + 1]), bytes(data[at + 1 : end]), end + 2)


def _count(digits: bytes) -> int:
    if not digits.isdigit():
        raise ValueError(f"{digits[:20]!r}, which is no length")
    return int(digits)


def _is(word: bytes, name: bytes) -> bool:
    return word.upper() == name


_MEMBERS: Final = {b"*": 1, b"~": 1, b">": 1, b"%": 2}
"""Aggregates, and how many values each of their members has."""


def reply_end(data: bytes | bytearray, at: int = 0) -> int | None:
    """Return where the reply ends that begins `at`; None: it is not whole. Raises ValueError if it is not RESP."""
    left = 1
    while left:
        if (line := _line(data, at)) is None:
            return None
        left, at = left - 1, line.end
        if line.kind in (b"$", b"!", b"="):
            if line.text != b"-1":
                at += _count(line.text) + 2
                if len(data) < at:
                    return None
        elif line.kind in _MEMBERS:
            left += 0 if line.text == b"-1" else _count(line.text) * _MEMBERS[line.kind]
        elif line.kind == b"|":  # attributes: what they are about follows
            left += _count(line.text) * 2 + 1
        elif line.kind not in (b"+", b"-", b":", b"_", b",", b"#", b"("):
            raise ValueError(f"{line.kind + line.text[:20]!r}, which is no RESP")
    return at


# what actors' connections have in common ------------------------------------------------------------------------------


class RedisCoordinator:
    """Knows what actors' commands did, for one run. Redis carries out one after the other, and keeps nothing open."""

    def __init__(self, *, clock: Callable[[], Instant], now: Callable[[], Instant] | None = None) -> None:
        """`clock` is the store's, which may be off; `now` tells the true time, by which waits end."""
        self.clock = clock
        self.now = now or clock
        self.revision = 0
        """Rises whenever a command was carried out: what is stored may have changed."""
        self._sent: list[Sent] = []

    @property
    def made_at(self) -> Instant:
        """What the clock shows: a command is looked at before time moves on, and so is what a client made of it."""
        return self.clock()

    def has_news(self, command: RedisCommand, since: int) -> bool:
        """Whether a command that found nothing may find something, after a revision."""
        return self.revision != since

    def note(self, actor: str, command: RedisCommand, point: str) -> None:
        """Take note of a command that was carried out."""
        self.revision += 1
        self._sent.append(Sent(actor, point, b" ".join(command.words).decode(errors="backslashreplace")))

    def sent(self) -> list[Sent]:
        """Return what was sent since this was last asked."""
        sent, self._sent = self._sent, []
        return sent

    def sever(self, actor: str) -> Callable[[], None]:
        """Return what drops a dead actor's connections at the server: nothing there would outlive them."""
        return lambda: None

    def leftovers(self) -> list[str]:
        """Say what actors left open: nothing, since a transaction that was not executed has changed nothing."""
        return []

    def close(self) -> None:
        """Nothing to give back."""


# an actor's connection ------------------------------------------------------------------------------------------------


class RedisConnection:
    """A connection to Redis: what is sent over it, and its replies, one by one."""

    def __init__(self, server: socket.socket) -> None:
        self._socket = server
        self._incoming = bytearray()

    @property
    def descriptor(self) -> int:
        """The descriptor on which Redis answers."""
        return self._socket.fileno()

    def send(self, raw: bytes) -> None:
        """Send a command. Raises OSError where Redis is gone."""
        self._socket.sendall(raw)

    def reply(self) -> bytes:
        """Take one reply, with what the server says unasked before it.

        Raises OSError where none comes, ValueError for one that cannot be passed on.
        """
        deadline, at = Deadline(PATIENCE), 0
        while True:
            try:
                end = reply_end(self._incoming, at)
            except ValueError as error:
                raise ValueError(f"the server sends {error}") from None
            if end is None:
                self._incoming += self._more(deadline)
            elif self._incoming[at : at + 1] == b">":
                at = end
            else:
                break
        reply = bytes(self._incoming[:end])
        del self._incoming[:end]
        if reply.startswith(_MOVED):
            raise ValueError(f"the server answers {reply[:40].decode(errors='replace').strip()!r}: it is a cluster")
        return reply

    def _more(self, deadline: Deadline) -> bytes:
        if not ready([self.descriptor], seconds=deadline.left)[0]:
            raise TimeoutError(f"it did not answer for {PATIENCE:g} real seconds")
        data = self._socket.recv(_CHUNK)
        if not data:
            raise ConnectionError("it closed the connection")
        return data

    def overhear(self) -> bytes:
        """Take what it says unasked; empty where it has left."""
        try:
            return self._socket.recv(_CHUNK)
        except OSError:
            return b""

    def close(self) -> None:
        """Leave it; Redis forgets what was queued and not executed."""
        self._socket.close()


class RedisTransaction:
    """What a client has queued since its MULTI."""

    def __init__(self) -> None:
        self.open = False
        self._commands: list[RedisCommand] = []

    @property
    def first(self) -> RedisCommand | None:
        """The command that was queued first; None where none is."""
        return self._commands[1] if self.open and len(self._commands) > 1 else None

    def take(self, command: RedisCommand) -> None:
        """Take note of a command that is sent."""
        if command.name in (b"DISCARD", b"RESET"):
            self.open, self._commands = False, []
        elif command.name == b"EXEC":
            self.open = False
        elif self.open:
            self._commands.append(command)
        elif command.name == b"MULTI":
            self.open, self._commands = True, [command]

    def executed(self) -> list[RedisCommand]:
        """Return what EXEC carries out, MULTI included; it is told once."""
        done, self._commands = self._commands, []
        return done


class RedisSession:
    """One connection of one actor's client: a `WireProxy`. `carry_out` lets the command through that it sent first."""

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        """Stand between two sockets over which nothing was said yet."""
        self.actor = ""
        self.closed = False
        self.pending: deque[RedisCommand] = deque()
        """What the client has sent and waits for."""
        self.coordinator: RedisCoordinator | None = None
        """Where its commands are counted; None: they pass freely."""
        self.timekeeper = Timekeeper()
        self.listens = False
        """Whether the server speaks unasked over it."""
        self._client = client
        self._server = RedisConnection(server)
        self._from_client = RedisCommands()
        self._unread = bytearray()
        """What the server said over a connection that listens, as far as the client has no room for it."""
        self._transaction = RedisTransaction()
        self._command: RedisCommand | None = None
        """What is released next."""
        self._exchange = Exchange("")
        self._reply = b""

    @property
    def descriptor(self) -> int:
        """The descriptor on which the client asks."""
        return self._client.fileno()

    @property
    def server_descriptor(self) -> int:
        """The descriptor on which Redis answers."""
        return self._server.descriptor

    # the client's side ----------------------------------------------------------------------------------------------

    def arrive(self) -> None:
        """Take what the client sent, and what it waits for into `pending`; ends with the client.

        Raises EnvironmentUnavailable for what cannot be controlled.
        """
        try:
            data = self._client.recv(_CHUNK)
        except OSError:
            data = b""
        if not data:
            self.close()
            return
        try:
            commands = self._from_client.take(data)
        except ValueError as error:
            raise self._refused(f"its client sends {error}") from None
        for command in commands:
            if (why := self._refusal_of(command)) is not None:
                raise self._refused(why)
            if self.listens or command.name in LISTENING:
                self.listens = True
                with self._naming_actor():
                    self._server.send(command.raw)
            else:
                self.pending.append(command)

    def _refusal_of(self, command: RedisCommand) -> str | None:
        return command.refusal(REFUSED)

    def overhear(self) -> None:
        """Pass on what the server says over a connection that listens."""
        data = self._server.overhear()
        self._unread += data
        if not data or len(self._unread) > MOST_UNREAD:
            self.close()
        else:
            self.tell_on()

    def tell_on(self) -> None:
        """Pass on what the client has room for: no actor waits for one that subscribes and never looks."""
        try:
            if ready([], [self._client.fileno()], seconds=0)[1]:
                del self._unread[: self._client.send(self._unread)]
        except OSError:
            self.close()

    @property
    def unread(self) -> bool:
        """Whether there is something that the client had no room for."""
        return bool(self._unread)

    def pass_on(self) -> None:
        """Carry out what is pending at once, at no gate."""
        while self.pending and not self.closed:
            self._answered_at_once(self.pending.popleft())
            self.reply()

    def _answered_at_once(self, command: RedisCommand) -> None:
        self._transaction.take(command)
        with self._naming_actor():
            self._server.send(command.raw)
            self._reply = self._server.reply()

    # gates ----------------------------------------------------------------------------------------------------------

    async def carry_out(self) -> None:
        """Carry out what the client waits for, at its gate, and let it have the reply."""
        command = self.pending.popleft()
        if command.name in FREE or (self._transaction.open and command.name != b"EXEC"):
            self._answered_at_once(command)
            self.reply()
            return
        point = self._point_of(command)
        waits = self._waits_of(command)
        self._command = command
        if waits is not None:
            await self._release_waiting(command, point, waits)
        else:
            await self.gate(point)
            self._transaction.take(command)
            await self.release(command.raw, point)
        if self.closed:
            return
        if not self._exchange.heard:
            self.close()
            return
        self.timekeeper.before_reply()
        self.reply()

    def _point_of(self, command: RedisCommand) -> str:
        first = self._transaction.first if command.name == b"EXEC" else None
        return command.point if first is None else f"exec {first.point}"[:_LONGEST_POINT]

    @staticmethod
    def _waits_of(command: RedisCommand) -> int | None:
        try:
            return command.waits
        except (ValueError, OverflowError):  # Redis refuses it, at once.
            return None

    async def gate(self, point: str) -> None:
        """Stand before a command that is to be sent; the connection may break there, or before the reply is back."""
        self._exchange = Exchange(point)
        await self._exchange

    async def release(self, raw: bytes, point: str) -> None:
        """Send it and take its reply: Redis lets no command wait for another but those that say so.

        Where the request is lost, the connection is.
        """
        if not self._exchange.happens:
            self.close()
        if self.closed:  # by this, or by an outage that came while it stood at its gate
            return
        assert self.coordinator is not None
        assert self._command is not None
        self.timekeeper.before_request(self.coordinator.clock())
        with self._naming_actor():
            self._server.send(raw)
            self._reply = self._server.reply()
            if raw is not self._command.raw:  # within a MULTI of its own
                queued, carried_out = self._server.reply(), self._server.reply()
                self._reply = queued if queued.startswith(b"-") else carried_out.removeprefix(b"*1\r\n")
        self.coordinator.note(self.actor, self._command, point)

    async def _release_waiting(self, command: RedisCommand, point: str, waits: int) -> None:
        """Carry out a command that waits: again whenever another was carried out, until its time is up."""
        assert self.coordinator is not None
        coordinator, over = self.coordinator, False
        until = coordinator.now() + waits if waits else None
        while True:
            if not self._finds_nothing(command):
                await self.gate(point)
                await self.release(_MULTI + command.raw + _EXEC, point)
                if self.closed or self._reply not in NOTHING:
                    return
            if over or (until is not None and coordinator.now() >= until):
                return
            over = not await _Until(coordinator, until, point, command)

    def _finds_nothing(self, command: RedisCommand) -> bool:
        """Whether it is known that a command would find nothing; then `_reply` says so."""
        return False

    # the server's side ----------------------------------------------------------------------------------------------

    @contextmanager
    def _naming_actor(self) -> Iterator[None]:
        """Say of what goes wrong at the server whose command it was."""
        try:
            yield
        except OSError as error:
            raise self._lost(str(error)) from error
        except ValueError as error:
            raise self._refused(str(error)) from None

    def _lost(self, what: str) -> HarnessError:
        self.close()
        return EnvironmentUnavailable(
            f"Redis went away during {self._what()}: {what}", hint="Something outside ended or stopped the server."
        )

    def _refused(self, what: str) -> HarnessError:
        self.close()
        return EnvironmentUnavailable(
            f"commands of {self.actor or 'an actor'} cannot be put in order: {what}",
            hint="Leave out --sessions, or configure the client so that it does without.",
        )

    def _what(self) -> str:
        return f"{self.actor}'s {self._command.point!r}" if self._command is not None else "a command"

    def reply(self) -> None:
        """Let the client have its reply."""
        self._tell(self._reply)

    def _tell(self, told: bytes) -> None:
        try:
            self._client.sendall(told)
        except OSError:  # It is gone.
            self.close()

    # the end --------------------------------------------------------------------------------------------------------

    def cut(self) -> None:
        """Let the client hear nothing any more: its process is gone."""
        with suppress(OSError):
            self._client.shutdown(socket.SHUT_RDWR)
        self._client.close()

    def cancel(self, request: bytes) -> None:
        """Do nothing: a client of Redis cannot take back what it sent."""

    def close(self) -> None:
        """Leave both sides."""
        self.closed = True
        self.pending.clear()
        self.cut()
        self._server.close()


class _Until:
    """Stand outside the schedule until another command was carried out (True), or a moment has come (False).

    Who is woken without news has waited for its time, whatever a clock that is off says of that.
    """

    def __init__(self, coordinator: RedisCoordinator, until: Instant | None, point: str, command: RedisCommand) -> None:
        self._coordinator, self._until, self._command = coordinator, until, command
        self._seen = coordinator.revision
        self._poll = Poll(1, self._due, point=point)

    def _has_news(self) -> bool:
        return self._coordinator.has_news(self._command, self._seen)

    def _due(self) -> Instant | None:
        return self._coordinator.now() if self._has_news() else self._until

    def __await__(self) -> Generator[Poll, Any, bool]:
        yield self._poll
        return self._has_news()


# where clients connect ------------------------------------------------------------------------------------------------


class RedisEndpoint(Endpoint[RedisSession, RedisCoordinator]):
    """One process's way to Redis."""

    def __init__(self, name: str, listener: ListeningSocket, server: Path) -> None:
        """Stand behind `listener`; `server` is the socket of Redis."""
        super().__init__(name, listener)
        self._server = server

    @property
    def url(self) -> str:
        """Where the client connects."""
        return f"unix://{self._listener.path}"

    @property
    def clean(self) -> bool:
        """Whether another run may have it: nothing is under way."""
        return not self.turn and not any(session.pending for session in self.sessions)

    def join(self, coordinator: RedisCoordinator, actor: str) -> None:
        """Let its connections be this actor's, and their commands gates, from here on."""
        self._coordinator, self.actor = coordinator, actor
        for session in self.sessions:
            session.actor, session.coordinator = actor, coordinator

    def listen(self, beside: int, seconds: float) -> None:
        """Wait until the client, or what is read from the descriptor `beside`, has something to say, and take it."""
        live = {session.descriptor: session for session in self.sessions if not session.closed}
        told = {session.server_descriptor: session for session in live.values() if session.listens}
        behind = {session.descriptor: session for session in live.values() if session.unread}
        heard, room = ready([beside, self._listener.descriptor, *live, *told], behind, seconds=seconds)
        for descriptor in room:
            behind[descriptor].tell_on()
        for descriptor in heard:
            if descriptor == self._listener.descriptor:
                self._accept()
            elif descriptor in told and not told[descriptor].closed:
                told[descriptor].overhear()
            elif descriptor in live and not live[descriptor].closed:
                live[descriptor].arrive()
                if self._coordinator is None:
                    live[descriptor].pass_on()

    def _accept(self) -> None:
        client = self._listener.accept()
        client.settimeout(PATIENCE)
        server = socket.socket(socket.AF_UNIX)
        server.settimeout(PATIENCE)
        try:
            server.connect(str(self._server))
        except OSError as error:
            client.close()
            server.close()
            raise EnvironmentUnavailable(
                f"Redis refuses another connection: {error}", hint="Something outside ended or stopped the server."
            ) from error
        session = RedisSession(client, server)
        session.actor, session.coordinator = self.actor, self._coordinator
        self.sessions = [*(other for other in self.sessions if not other.closed), session]

    def cut(self) -> None:
        """Refuse new connections and let the process hear nothing; Redis notices."""
        for session in self.sessions:
            session.close()
        self._listener.close()

    def end(self) -> None:
        """Cut it: nothing more is left at Redis."""
        self.cut()


class RedisGates:
    """What a `SessionRouter` needs to give actors connections of their own to one Redis."""

    def __init__(self, server: Path, *, forget_scripts: Callable[[], None]) -> None:
        """`server` is the socket of Redis; after `forget_scripts` it knows none, like one that has just started."""
        self._server = server
        self._forget_scripts = forget_scripts

    def endpoint(self, name: str, folder: Path) -> RedisEndpoint:
        """Return a new endpoint that listens in `folder`."""
        return RedisEndpoint(name, ListeningSocket.in_folder(folder, "redis.sock"), self._server)

    def coordinator(self, clock: Callable[[], Instant]) -> RedisCoordinator:
        """Return where the connections of one run meet: in each of them a client has to send its scripts first."""
        self._forget_scripts()
        return RedisCoordinator(clock=clock)

    def close(self) -> None:
        """Nothing to give back."""
