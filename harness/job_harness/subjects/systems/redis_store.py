"""The Redis of a system: one server on a clock of ours, and the connections of processes, whose commands are gates.

The server is a real one, emptied before each run. Blocking commands wait in virtual time, here and
not at the server. What others hear of a command (messages of channels, events of keys) reaches them
before anything else happens. Must not know: kernels, what a job is.
"""

from __future__ import annotations

import re
import socket
from bisect import bisect_right
from collections.abc import Hashable, Iterable
from typing import Any, Final, cast

from job_harness.core.model import MILLISECOND, Instant
from job_harness.core.port import Sent
from job_harness.core.printable import printable
from job_harness.core.sim import Clocks
from job_harness.errors import EnvironmentUnavailable, HarnessError
from job_harness.subjects.systems.brokers import TakenJobs
from job_harness.subjects.systems.document import SystemFileError
from job_harness.subjects.systems.process import SystemProcess
from job_harness.subjects.systems.store_links import StoreLink
from job_harness.subjects.systems.traffic import KnownAnswers, key_of
from job_harness.worlds.patience import ready
from job_harness.worlds.redis.client import PATIENCE, RedisError
from job_harness.worlds.redis.gating import NOTHING, REFUSED, SCRIPTS, RedisCommand, RedisCoordinator, RedisSession
from job_harness.worlds.redis.server import started
from job_harness.worlds.redis.store import VirtualRedis
from job_harness.worlds.wire.database import exact_milliseconds_of

PORT: Final = 6379
_ROOM: Final = ("--maxmemory", "256mb")
"""What a program may store: one that stores without end would take the memory of the machine."""
_WISHES: Final = (
    (*_ROOM, "--enable-debug-command", "local", "--hash-seed", "job-harness"),
    (*_ROOM, "--enable-debug-command", "local"),
)
"""So that keys end where they are looked at, not when a timer of the server's finds them; and sets keep one order."""
MOST_KEYS: Final = 100_000
"""All keys are looked at whenever a command has changed something."""
_CHANGES: Final = re.compile(rb"rdb_changes_since_last_save:(\d+)")
_EXPIRIES: Final = """
local ends, wanted = {}, {}
for _, key in ipairs(KEYS) do wanted[key] = true end
for _, key in ipairs(redis.call('KEYS', '*')) do
  local spared = false
  for _, prefix in ipairs(ARGV) do spared = spared or string.sub(key, 1, #prefix) == prefix end
  local at = redis.call('PEXPIRETIME', key)
  if at > 0 and (wanted[key] or not spared) then ends[#ends + 1] = at end
end
return ends
"""
_ORIGIN: Final = round(exact_milliseconds_of(0)) * MILLISECOND
_LONGEST_WORD: Final = 60
_MOST_WORDS: Final = 12
_TELLS: Final = frozenset(b"EXEC PUBLISH SPUBLISH".split())
"""What others may hear of, or may have changed something, though no flag of the command says so."""
_SETS: Final = frozenset((b"notify-keyspace-events",))
"""What a process may set at the server; it is set back before the next run."""
IN_A_SYSTEM: Final[dict[tuple[bytes, ...], str]] = {
    **REFUSED,
    (b"AUTH",): "this Redis has no password: connect to it without one, as REDIS_URL says",
    (b"CLUSTER",): "this Redis is not a cluster: connect to it with a plain client",
    (b"READONLY",): "this Redis is not a cluster: connect to it with a plain client",
    (b"WAIT",): "this Redis has no replicas",
    (b"WAITAOF",): "this Redis writes no append-only file",
}
_OURS: Final = frozenset(b"SHUTDOWN DEBUG REPLICAOF SLAVEOF FAILOVER MODULE ACL SAVE BGSAVE BGREWRITEAOF".split())


class SystemRedis(VirtualRedis):
    """One server for all runs of a system."""

    def __init__(self, *, upkeep: Iterable[str] = ()) -> None:
        """Start it; how long keys of the `upkeep` last is of no interest, unless a write had to wait for their end.

        Raises EnvironmentUnavailable where that cannot be.
        """
        self._upkeep = tuple(each.encode() for each in upkeep)
        self._wanted: set[bytes] = set()
        """Keys of the upkeep that a write left as they were, such as locks that others hold."""
        super().__init__(started(*_WISHES))
        self._client.ask("DEBUG", "SET-ACTIVE-EXPIRE", "0")
        self._changes = 0
        self._ends: tuple[int, list[Instant]] = (-1, [])
        """After which change, when each key ends."""
        self._writing = frozenset(each[0].upper() for each in self._client.ask("COMMAND") if b"write" in each[2])

    @property
    def path(self) -> str:
        """The socket at which it listens."""
        return str(self._server.socket)

    def renew(self) -> None:
        """Be as a server that has just started, at the instant 0."""
        for words in (("FLUSHALL",), ("SCRIPT", "FLUSH"), ("FUNCTION", "FLUSH")):
            self._client.ask(*words)
        self._client.ask("CONFIG", "SET", "notify-keyspace-events", "")
        self._wanted.clear()
        self.set_now(0)
        self.changed()

    def restart(self) -> None:
        """Be as one that has started again with all its data: what is loaded is forgotten."""
        self._client.ask("SCRIPT", "FLUSH")

    def changed(self) -> bool:
        """Whether something was changed since this was last asked; what a command makes others hear is on its way."""
        found = _CHANGES.search(self._client.ask("INFO", "persistence"))
        before, self._changes = self._changes, int(found[1]) if found else self._changes + 1
        return before != self._changes

    def want(self, commands: Iterable[RedisCommand]) -> None:
        """Take note of writes that changed nothing: they may once a key that they name has ended."""
        found = {word for each in commands for word in each.words[1:] if word.startswith(self._upkeep)}
        if not self._wanted.issuperset(found):
            self._wanted |= found
            self._ends = -1, []

    def next_expiry(self, after: Instant) -> Instant | None:
        """Tell when the next key ends, after an instant, but for those of the upkeep that nothing waits for."""
        if self._ends[0] != self._changes:
            told = self._client.ask("EVAL", _EXPIRIES, len(self._wanted), *sorted(self._wanted), *self._upkeep)
            self._ends = self._changes, sorted(each * MILLISECOND - _ORIGIN for each in told)
        ends = self._ends[1]
        # At that millisecond a key may still be there, and in the next one it is not.
        found = (at + step for at in ends[bisect_right(ends, after - MILLISECOND) :][:2] for step in (0, MILLISECOND))
        return min((at for at in found if at > after), default=None)

    def may_change(self, command: RedisCommand) -> bool:
        """Whether a command may change something, or others may hear of it."""
        return command.name in self._writing or command.name in SCRIPTS or command.name in _TELLS

    def run_script(self, script: str) -> Any:
        """Run a script that looks at all keys. Raises RedisError if it is refused, or there are too many keys."""
        if (keys := self.ask("DBSIZE")) > MOST_KEYS:
            raise RedisError(f"it holds {keys} keys, and the harness looks at no more than {MOST_KEYS}")
        return self.ask("EVAL", script, 0)


class StoreCoordinator(RedisCoordinator):
    """Knows what the commands of processes did, for one run; `revision` rises with what is stored alone."""

    def __init__(self, redis: SystemRedis, clocks: Clocks, taken: TakenJobs | None = None) -> None:
        super().__init__(clock=clocks.store, now=lambda: clocks.now)
        self.redis = redis
        self.taken = taken
        self.asking: dict[Hashable, RedisLink] = {}
        """By process, the connection over which it waits for a job that it takes out of Redis."""
        self._touched: list[frozenset[bytes] | None] = []
        """By revision, the words of what changed something; None: any key may have been."""

    def has_news(self, command: RedisCommand, since: int) -> bool:
        """Whether a command that found nothing may find something, since one of its keys may have changed."""
        keys = command.awaited
        return any(touched is None or not keys.isdisjoint(touched) for touched in self._touched[since:])

    def touch(self, commands: Iterable[RedisCommand]) -> None:
        """Take note that these have changed something."""
        scripted = any(each.name in SCRIPTS for each in commands)
        self._touched.append(None if scripted else frozenset(word for each in commands for word in each.words[1:]))
        self.revision = len(self._touched)

    def note(self, actor: str, command: RedisCommand, point: str) -> None:
        """Nothing: a connection says what it carried out, with the transaction that it is the end of."""

    def link(self, ours: socket.socket, process: SystemProcess) -> RedisLink:
        """Take a connection of a process. Raises EnvironmentUnavailable where the server takes none."""
        return RedisLink(ours, self, process)


def _line(command: RedisCommand) -> str:
    """Show a command in one line: its first words, each with its first letters."""
    words = [word[:_LONGEST_WORD].decode(errors="backslashreplace") for word in command.words[:_MOST_WORDS]]
    return printable(" ".join(words)) + (" ..." if len(command.words) > _MOST_WORDS else "")


class RedisLink(RedisSession, StoreLink):
    """One connection of a process to Redis."""

    fails_over = True

    def __init__(self, client: socket.socket, coordinator: StoreCoordinator, process: SystemProcess) -> None:
        """Connect to the server behind the harness. Raises EnvironmentUnavailable where that takes no connection."""
        server = socket.socket(socket.AF_UNIX)
        server.settimeout(PATIENCE)
        try:
            server.connect(coordinator.redis.path)
        except OSError as error:
            server.close()
            raise EnvironmentUnavailable(f"Redis refuses another connection: {error}") from error
        super().__init__(client, server)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # Or the second reply waits for real time.
        self.key = key_of(client)
        self.actor, self.coordinator = process.name, coordinator
        self.wrote = False
        self.done = None
        self._known = KnownAnswers()
        """By commands but for their times."""
        self._owner = process, process.life
        """The process, and which of its lives opened this connection."""
        self._nothing: tuple[bytes, int, bytes] = (b"", -1, b"")
        """A command that found nothing, after which change, and what it was answered."""

    def arrive(self) -> None:
        """Take what the client sent; where it listens, it hears what that came to."""
        super().arrive()
        if self.listens and not self.closed and ready([self.server_descriptor], seconds=PATIENCE)[0]:
            self._store.redis.ask("PING")  # Until that is answered, all of it is there.
            self.overhear_all()

    def remember(self, asked: RedisCommand, *, change: int, at: Instant) -> None:
        """Keep the answer of a command that changed nothing; it holds if it says nothing, or was the same before."""
        if not asked.waits_at_all and not self.closed:
            command = _but_for_times(asked)
            holds = self._reply in _DULL or self._reply == self._known.answer_to(command)
            self._known.keep(command, self._reply, change=change if holds else -1, at=at)

    def found_nothing(self) -> tuple[int, Instant] | None:
        """Say after which change, and when, what waits here was answered in the same way; None: it was not."""
        if len(self.pending) != 1 or self._transaction.open or self.closed:
            return None
        return self._known.since(_but_for_times(self.pending[0]))

    def answer_again(self) -> None:
        """Let the client have the same answer as before."""
        self._tell(self._known.answer_to(_but_for_times(self.pending.popleft())))

    def overhear_all(self) -> bool:
        """Pass on what others made it hear. True: there was something."""
        heard = False
        while self.listens and not self.closed and ready([self.server_descriptor], seconds=0)[0]:
            self.overhear()
            heard = True
        return heard

    async def carry_out(self) -> None:
        """Let what the client waits for through its gate; of a process that takes jobs out of Redis, one at a time."""
        if self._taken_by(self.pending[0]) is None:
            await super().carry_out()
            return
        if (other := self._store.asking.get(self._life)) is not None and not other.closed:
            raise self._refused(
                "two threads ask for jobs at once, so it does not show when a job ends: start it with one thread"
            )
        self._store.asking[self._life] = self
        await super().carry_out()
        if self._store.asking.get(self._life) is self:  # Or its process has given this connection up, and has another.
            del self._store.asking[self._life]

    async def release(self, raw: bytes, point: str) -> None:
        """Send it and take its reply; find out whether it changed something."""
        command = self._command
        taken = None if command is None else self._taken_by(command)
        happens = not self.closed and self._exchange.happens
        over = taken is not None and happens and taken.asks(self._life)
        await super().release(raw, point)
        if taken is not None and not self.closed and self._exchange.heard:
            taken.take(self._life, self._reply)
        if self.closed or command is None:
            return
        if b"OOM command not allowed" in self._reply[:_LONGEST_WORD]:
            raise self._refused(f"{point}: the {_ROOM[1]} that the harness gives to Redis are full")
        commands = [*self._transaction.executed(), command]
        self.done = Sent(self.actor, point, "\n".join(map(_line, commands))), repr(self._reply[:_LONGEST_WORD])
        if self._store.redis.may_change(command):
            if self._store.redis.changed() or over:
                self.wrote = True
                self._store.touch(commands)
            else:
                self._store.redis.want(commands)
        self._nothing = command.raw, self._store.revision, self._reply

    def _taken_by(self, command: RedisCommand) -> TakenJobs | None:
        """Return what takes note of a command that takes a job out of Redis; None: it takes none."""
        taken = self._store.taken
        return taken if taken is not None and command.name == taken.command else None

    @property
    def _store(self) -> StoreCoordinator:
        return cast(StoreCoordinator, self.coordinator)

    def _finds_nothing(self, command: RedisCommand) -> bool:
        raw, revision, reply = self._nothing
        if raw != command.raw or reply not in NOTHING or self._store.has_news(command, revision):
            return False
        self._reply = reply
        return True

    def _refusal_of(self, command: RedisCommand) -> str | None:
        words = [word.upper() for word in command.words]
        if words[0] == b"HELLO" and b"AUTH" in words:
            return f"HELLO ... AUTH: {IN_A_SYSTEM[(b'AUTH',)]}"
        if words[:2] == [b"CONFIG", b"SET"] and not _SETS.issuperset(command.words[2::2]):
            return f"CONFIG SET {command.words[2].decode(errors='replace')}: the harness runs this server"
        if words[0] in _OURS:
            return f"{words[0].decode()}: the harness runs this server"
        return command.refusal(IN_A_SYSTEM)

    @property
    def _life(self) -> tuple[str, int]:
        return self.actor, self._owner[1]

    @property
    def _place(self) -> str:
        return self._owner[0].program.kind.place

    def _refused(self, what: str) -> HarnessError:
        self.close()
        return SystemFileError(
            f"{self._place}: {self.actor} and Redis: {what}", hint="docs/system_files.md#redis says what is supported."
        )

    def _lost(self, what: str) -> HarnessError:
        at = self._what()
        self.close()
        hint = "Does a script of yours loop?" if self._command and self._command.name in SCRIPTS else ""
        return EnvironmentUnavailable(
            f"{self._place}: Redis went away during {at}: {what}", hint=hint or "Something outside ended the server."
        )


_DULL: Final = (*NOTHING, b"*0\r\n", b":0\r\n", b"$0\r\n\r\n", b"%0\r\n", b"~0\r\n")
"""Replies that say that nothing was found."""
_PLAIN: Final = re.compile(rb"[ -~]*")
_TIME: Final = re.compile(rb"\d{10,}(\.\d+)?")


def _but_for_times(command: RedisCommand) -> tuple[bytes, ...]:
    """Return a command without what is another time or another token each time."""
    return tuple(_TIME.sub(b"*", word) if word.isascii() and _PLAIN.fullmatch(word) else b"*" for word in command.words)
