"""Which of the descriptors that a loop watches has something in flight: asked, and not answered yet.

Virtual time stands still while an answer is outstanding, and an idle connection must not stop it.
So a registered reader is looked at, not counted:

- **In flight**: a connect or a handshake under way, a writer that is registered, bytes written since the last read
  whose answer a task awaits, a child process or its pipe, a statement of psycopg's. Patience with these is long.
- **Idle**: a listening socket, a connection on which nothing was asked and that no task awaits. It holds no time.
- **In doubt**: something was written and no task is seen to await an answer (a pong, a log line); a task awaits and
  nothing was asked (LISTEN, a subscription, the rest of an answer); a reader that code has registered itself. These
  hold time for `GRACE_SECONDS` of real time from their last sign of life; then time moves, and the report says so.

In which order several requests and their answers arrive is the machine's doing, and no choice of a
run. Where order is asked for, a request is sent only when those before it are answered; the first
answer that comes waits for the others, and all are heard in the order of their requests. One that
waits for a lock of another job's cannot come before that job goes on, and one that takes very long
is not waited for.

Who awaits is found by looking at what a connection's protocol refers to. Leans on names of asyncio
(3.11 to 3.14) and of psycopg (3.2, 3.3), and imports no library. Must not know the loop's time.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import os
import selectors
import socket
import sys
import types
import weakref
from asyncio import selector_events
from collections.abc import Collection, Iterable
from contextvars import Context
from typing import Any, Final, Protocol

from job_harness.core.sim.guest_threads import GRACE_SECONDS, LoopHooks
from job_harness.core.sim.watchdog import real_seconds

MOST_LOOKED_AT: Final = 300
"""Objects that are looked at for a future that is awaited."""
DEEPEST: Final = 3
_SOCKETS: Any = vars(selector_events)["_SelectorSocketTransport"]
_DATAGRAMS: Any = vars(selector_events)["_SelectorDatagramTransport"]
_CLOSED: Final = (
    type, types.ModuleType, types.FunctionType, types.BuiltinFunctionType, types.CodeType, types.FrameType, str, bytes,
    bytearray, int, float, bool, asyncio.AbstractEventLoop, asyncio.Task, asyncio.Handle, Context, weakref.ref,
)  # fmt: skip
ORDER_SECONDS: Final = 0.5
"""Real seconds for which an answer that came waits for the others, where it is not known who waits for a lock."""
LOOK_SECONDS: Final = 0.003
"""Real seconds without an answer after which the database is asked who waits for a lock."""
_ASKS, _LISTENS, _TALKS, _SENDS, _OTHER = "asks", "listens", "talks", "sends", "other"


class LockWaiters(Protocol):
    """A database whose sessions may wait for locks."""

    def lock_waiters(self) -> int:
        """Count the sessions that wait for one."""


class _Descriptor:
    """What is known of one descriptor."""

    __slots__ = ("asked", "given_up", "identity", "kind", "late", "name", "number", "since", "transport")

    def __init__(self, kind: str, name: str, identity: int) -> None:
        self.kind = kind
        self.number = 0
        """That of its last request, among all."""
        self.late = False
        """Whether others no longer wait for its answer."""
        self.name = name
        self.identity = identity
        """The inode: its number may soon be another's."""
        self.asked = False
        self.since = real_seconds()
        """When there was last a sign of life."""
        self.given_up = False
        """Whether it holds no time until there is one."""
        self.transport: Any = None


class Descriptors:
    """What is known of the descriptors of one loop."""

    def __init__(self, hooks: LoopHooks, *, patience: float) -> None:
        """Tell `hooks` where time moved although something may be outstanding; be patient in real seconds."""
        self._known: dict[int, _Descriptor] = {}
        self._greeted: dict[int, int] = {}
        """Where something was written as soon as it was connected, before it was read from, with its inode."""
        self._hooks = hooks
        self.patience = patience
        self._numbers = itertools.count()
        self.locks: LockWaiters | None = None
        """The database of the test, where there is one that is known."""

    def watch(self, descriptor: int, callback: Any) -> None:
        """Know of a reader, by what is to be called when bytes come."""
        kind, name = _kind_of(descriptor, callback)
        identity = identity_of(descriptor)
        known = self._known.get(descriptor)
        if known is not None and known.identity == identity and known.kind == kind:
            if kind is not _TALKS and not known.given_up:
                known.since, known.number, known.late = real_seconds(), next(self._numbers), False
            return
        self._known[descriptor] = found = _Descriptor(kind, name, identity)
        found.number = next(self._numbers)
        found.asked = self._greeted.pop(descriptor, None) == identity
        if kind is _TALKS or kind is _SENDS:
            found.transport = weakref.ref(callback.__self__)

    def note_written(self, descriptor: int) -> None:
        """Hear that bytes were written."""
        known = self._known.get(descriptor)
        if known is None or known.identity != identity_of(descriptor):
            self._greeted[descriptor] = identity_of(descriptor)
        else:
            known.asked, known.given_up, known.since = True, False, real_seconds()
            known.number, known.late = next(self._numbers), False

    def heard(self, events: Iterable[Any]) -> None:
        """Hear what the machine has said."""
        for key, mask in events:
            if mask & selectors.EVENT_READ and (known := self._known.get(key.fd)) is not None:
                known.asked, known.given_up, known.since, known.late = False, False, real_seconds(), False

    def missing(
        self, keys: Iterable[selectors.SelectorKey], *, besides: Collection[int]
    ) -> list[selectors.SelectorKey]:
        """List on what an answer is sure to be outstanding that others wait for."""
        return [
            key
            for key in keys
            if key.fd not in besides
            and (known := self._known.get(key.fd)) is not None
            and not (known.late or known.given_up)
            and (key.events & selectors.EVENT_WRITE or self._bound(known) == self.patience)
        ]

    @property
    def order_seconds(self) -> float:
        """Real seconds for which an answer that came waits for the others."""
        return ORDER_SECONDS if self.locks is None else self.patience

    def are_locked(self, missing: Collection[selectors.SelectorKey]) -> bool:
        """Whether all of these wait for locks, as far as is known."""
        return self.locks is not None and self.locks.lock_waiters() >= len(missing)

    def wait_no_more(self, missing: Iterable[selectors.SelectorKey]) -> None:
        """Let no other answer wait for these, until they come or something else is asked there."""
        for key in missing:
            self._known[key.fd].late = True

    def in_order(self, events: Iterable[Any]) -> list[Any]:
        """Sort what came by when it was asked for."""
        numbers = {descriptor: known.number for descriptor, known in self._known.items()}
        return sorted(events, key=lambda event: numbers.get(event[0].fd, -1))

    def in_flight(self, keys: Iterable[selectors.SelectorKey]) -> tuple[list[str], float]:
        """Name what holds time, and for how many more real seconds at most if nothing happens."""
        now = real_seconds()
        names: list[str] = []
        longest = 0.0
        for key in keys:
            known = self._known.get(key.fd)
            if known is None or known.given_up:
                continue
            seconds = self.patience if key.events & selectors.EVENT_WRITE else self._bound(known)
            if seconds is None:
                continue
            left = seconds - (now - known.since)
            if left > 0:
                names.append(known.name)
                longest = max(longest, left)
            else:
                known.given_up = True
                self._hooks.note_doubt(
                    f"{known.name} has said nothing for {seconds:g} s of real time, and time moved on"
                )
        return names, longest

    def _bound(self, known: _Descriptor) -> float | None:
        """Return how long it may hold time in real seconds; None where it is idle."""
        # A descriptor alone does not say whether an answer is on its way, so two signs are read:
        # bytes were written since the last read, and a task awaits something that the protocol
        # refers to. Both together are a request, and worth all the patience there is. One alone
        # is a guess in either direction: a pong or a log line is written and not awaited, LISTEN
        # is awaited and not asked. To wait fully for those would stop time at every idle
        # connection; not to wait at all would jump over the second half of an answer. They get a
        # grace, and the report says when it ran out.
        if known.kind is _LISTENS:
            return None
        if known.kind is _ASKS:
            return self.patience
        if known.kind is _OTHER:
            return GRACE_SECONDS
        transport = known.transport()
        awaited = transport is not None and _is_awaited(transport)
        if known.asked and awaited:
            return self.patience
        if known.kind is _SENDS:  # Most datagrams have no answer.
            return GRACE_SECONDS if awaited else None
        return GRACE_SECONDS if known.asked or awaited else None

    def forget(self) -> None:
        """Know of none any more."""
        self._known.clear()
        self._greeted.clear()


def identity_of(descriptor: int) -> int:
    """Return the inode behind a descriptor, whose number may soon be another's; -1 where it was closed."""
    try:
        return os.fstat(descriptor).st_ino
    except OSError:
        return -1


def _kind_of(descriptor: int, callback: Any) -> tuple[str, str]:
    owner, name = getattr(callback, "__self__", None), getattr(callback, "__name__", "")
    if isinstance(owner, (_SOCKETS, _DATAGRAMS)):
        kind = _SENDS if isinstance(owner, _DATAGRAMS) else _TALKS
        return kind, f"the connection to {_name_peer(owner.get_extra_info('peername'), descriptor)}"
    if isinstance(owner, asyncio.AbstractEventLoop):
        return (_LISTENS if "accept" in name else _OTHER), f"the socket {descriptor}"
    if isinstance(owner, asyncio.BaseTransport):
        return _ASKS, f"the pipe {descriptor}"
    if name == "_do_wait":  # asyncio's watcher of child processes, by their descriptor
        return _ASKS, "a child process"
    if str(getattr(callback, "__module__", "")).partition(".")[0] == "psycopg":
        if _is_notified(sys._getframe(2)):
            return _OTHER, "LISTEN of psycopg"
        return _ASKS, "a statement of psycopg"
    where = getattr(callback, "__qualname__", None) or type(callback).__name__
    return (_LISTENS if _listens(descriptor) else _OTHER), f"the descriptor {descriptor}, which {where} reads,"


def _is_notified(frame: types.FrameType | None) -> bool:
    """Whether psycopg waits here for notifications and not for a statement."""
    while frame is not None and frame.f_code.co_name != "wait_async":
        frame = frame.f_back
    return frame is not None and getattr(frame.f_locals.get("gen"), "__name__", "") == "notifies"


def _listens(descriptor: int) -> bool:
    try:
        with socket.socket(fileno=os.dup(descriptor)) as looked_at:
            return bool(looked_at.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
    except OSError:
        return False


def _name_peer(peer: Any, descriptor: int) -> str:
    if isinstance(peer, tuple) and len(peer) >= 2:
        return f"{peer[0]}:{peer[1]}"
    return str(peer) if peer else f"descriptor {descriptor}"


def _is_awaited(transport: Any) -> bool:
    """Whether what a connection's protocol refers to holds a future that a task awaits."""
    protocol = transport.get_protocol()
    line: list[tuple[Any, int]] = [(protocol, 0)]
    inner = getattr(protocol, "_app_protocol", None)  # TLS: asyncio's protocol, and the library's inside
    reader = getattr(inner or protocol, "_stream_reader", None)  # a stream refers to its reader weakly
    line += [(each, 0) for each in (inner, reader) if each is not None]
    seen = {id(each) for each, _ in line}
    while line and len(seen) < MOST_LOOKED_AT:
        value, depth = line.pop(0)
        for each in gc.get_referents(value):
            if isinstance(each, _CLOSED) or id(each) in seen or isinstance(each, asyncio.BaseTransport):
                continue
            if asyncio.isfuture(each):
                if not each.done() and getattr(each, "_callbacks", None):
                    return True
                continue
            seen.add(id(each))
            if isinstance(each, dict) and depth <= DEEPEST:
                line.append((each, depth))
            elif depth < DEEPEST:
                line.append((each, depth + 1))
    return False


class AskingTransport(_SOCKETS):  # type: ignore[misc]  # asyncio's own, which has no public name
    """asyncio's transport of a socket, which tells its loop that something was asked."""

    def write(self, data: Any) -> None:
        """Write when it is its turn, and note it."""
        self._loop.selector.take_turn(self._sock_fd)
        super().write(data)
        self._loop.descriptors.note_written(self._sock_fd)

    def writelines(self, list_of_data: Any) -> None:
        """Write when it is its turn, and note it."""
        self._loop.selector.take_turn(self._sock_fd)
        super().writelines(list_of_data)
        self._loop.descriptors.note_written(self._sock_fd)


class AskingDatagramTransport(_DATAGRAMS):  # type: ignore[misc]  # asyncio's own, which has no public name
    """asyncio's transport of datagrams, which tells its loop that something was asked."""

    def sendto(self, data: Any, addr: Any = None) -> None:
        """Send, and note it."""
        super().sendto(data, addr)
        self._loop.descriptors.note_written(self._sock_fd)
