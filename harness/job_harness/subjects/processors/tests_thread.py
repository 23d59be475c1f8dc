"""What a processor finds of the thread that its test runs in: context variables, thread-locals, Django's connections.

A plain processor runs on a thread of its own, which is handed control, so that a test can look at
it in the middle of its work. It would find none of what belongs to the test's thread: no
transaction that a fixture has begun, no session. So that thread is lent it. Only one of them acts
at a time, which is what makes that safe.

CPython keeps the values of a thread-local by thread, in a dict to which an entry is added: on 3.11
and 3.12 in the state of each thread, by the object's address; from 3.13 on in the object, by a
marker of the thread. Then both threads find the same values, and no `__init__` of a subclass runs.
Only objects that the test's thread has used are lent. Left out: asyncio's current loop, and what
holds a `sqlite3` connection that may not leave its thread. Where values are kept otherwise (other
interpreters), Django's connections alone are lent, by its own registry.

An entry is worth something only while its `threading.local` lives: on 3.11 and 3.12 it points
afterwards at memory that was given back. So each is held while it is lent. Checked on 3.11.7,
3.12.1 and 3.13.0.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import ctypes
import functools
import gc
import sys
import threading
import weakref
from collections.abc import Callable, Generator
from typing import Any, Final, Protocol

from job_harness.core.sim.lifetime import LIFETIME

_LEFT_OUT: Final = frozenset({"current_async_library_cvar", LIFETIME.name})
"""Context variables that say which loop runs, which is another one here."""
_KEY = "thread.local."


class TestsThread:
    """The thread in which this is made, and the context in which the test drives its harness."""

    __test__ = False  # It is no test of pytest's.

    def __init__(self) -> None:
        self._ident = threading.get_ident()
        self._kept = _values_of_this_thread()
        self._context: contextvars.Context | None = None
        self._connections: list[Any] = []
        """Django's, while they are lent."""

    @contextlib.contextmanager
    def lent(self) -> Generator[None]:
        """Lend what the calling code sees, inside the block."""
        self._context = contextvars.copy_context()
        self._connections = _opened_by_django()
        for connection in self._connections:
            connection.inc_thread_sharing()
        try:
            yield
        finally:
            for connection in self._connections:
                connection.dec_thread_sharing()
            self._connections = []

    def show(self) -> None:
        """Set in the calling context what the test's has set, and this has not."""
        if self._context is None:
            return
        here = contextvars.copy_context()
        for variable, value in self._context.items():
            if variable not in here and variable.name not in _LEFT_OUT:
                variable.set(value)

    @contextlib.contextmanager
    def lend(self) -> Generator[None]:
        """Let the calling thread find the thread-locals of the test's, inside the block."""
        with contextlib.ExitStack() as stack:
            if self._kept is None:
                for connection in self._connections:
                    connections = sys.modules["django.db"].connections
                    connections[connection.alias] = connection
                    stack.callback(connections.__delitem__, connection.alias)
            elif threading.get_ident() != self._ident:
                self._lend_locals(self._kept, stack)
            yield

    def _lend_locals(self, kept: _ValuesOfThread, stack: contextlib.ExitStack) -> None:
        here = _values_of_this_thread()
        assert here is not None
        loops = getattr(asyncio.get_event_loop_policy(), "_local", None) if _HAS_POLICY else None
        for local in kept.used():
            if local is not loops:
                take_back = _lend(local, kept.entry(local), here.entry(local))
                stack.callback(take_back)

    def lending(self, executor: Any, work: Callable[[], Any]) -> Callable[[], Any]:
        """Let work of asgiref that production runs in the main thread (`thread_sensitive`) find it meanwhile."""
        module = sys.modules.get("asgiref.sync")
        if module is None or executor is not module.SyncToAsync.single_thread_executor:
            return work

        def lent() -> Any:
            with self.lend():
                return work()

        return lent


_IN_THREAD_STATE: Final = sys.version_info < (3, 13)
_HAS_POLICY: Final = sys.version_info < (3, 14)  # Later it warns, and is no thread-local's owner any more.

Entry = tuple[dict[Any, Any], Any]
"""Where the values of one thread-local are kept for one thread: a dict, and the key in it."""


class _ValuesOfThread(Protocol):
    """What a thread keeps in thread-locals."""

    def used(self) -> list[threading.local]:
        """List those that the thread has used; they live as long as this list."""

    def entry(self, local: threading.local) -> Entry:
        """Return where its values are, or would be. Called where a thread has used it."""


class _InThreadState:
    """CPython 3.11 and 3.12: the calling thread's state has the values of each, by its address."""

    def __init__(self, state: dict[Any, Any]) -> None:
        self._state = state

    def used(self) -> list[threading.local]:
        # Only the list of keys is made in one go: a pair would be an allocation, and a collection may end a local.
        keys = [key for key in list(self._state) if isinstance(key, str) and key.startswith(_KEY)]
        dummies = [dummy for key in keys if (dummy := self._state.get(key)) is not None]
        return [local for dummy in dummies for local in _referring(dummy)]

    def entry(self, local: threading.local) -> Entry:
        return self._state, f"{_KEY}{id(local):#x}"


class _InObjects:
    """CPython 3.13 and later: each object has a dict from a marker of the calling thread to the values there."""

    def __init__(self) -> None:
        probe = threading.local()
        vars(probe)["probe"] = self
        markers, watchdogs = (each for each in gc.get_referents(probe) if type(each) in (dict, set))
        (self._marker,) = markers
        (self._watchdog,) = watchdogs  # A weak reference: the object ends with its thread.
        if markers[self._marker] is not vars(probe):
            raise TypeError("a thread-local keeps its values otherwise")

    def used(self) -> list[threading.local]:
        return _referring(self._watchdog())

    def entry(self, local: threading.local) -> Entry:
        for each in gc.get_referents(local):
            if type(each) is dict and any(type(key) is type(self._marker) for key in list(each)):
                return each, self._marker
        return {}, self._marker


def _values_of_this_thread() -> _ValuesOfThread | None:
    """Find where the calling thread's values are; None where this interpreter keeps them in another way."""
    if sys.implementation.name != "cpython":
        return None
    if _IN_THREAD_STATE:
        borrowed = ctypes.PYFUNCTYPE(ctypes.c_void_p)(("PyThreadState_GetDict", ctypes.pythonapi))()
        return _InThreadState(ctypes.cast(borrowed, ctypes.py_object).value) if borrowed else None
    try:
        return _InObjects()
    except (TypeError, ValueError):
        return None


def _referring(dummy: Any) -> list[threading.local]:
    """List the objects that want to hear when this one of a thread ends: each keeps values for that thread."""
    found = []
    for reference in weakref.getweakrefs(dummy):
        to = getattr(reference.__callback__, "__self__", None)
        local = to[0]() if type(to) is tuple else to() if isinstance(to, weakref.ref) else None
        if isinstance(local, threading.local):
            found.append(local)
    return found


def _lend(local: threading.local, kept: Entry, here: Entry) -> Callable[[], None]:
    """Let the calling thread find what is kept, unless that may not leave its thread; returns what takes it back."""
    (values, there), (own, key) = kept, here
    if (entry := values.get(there)) is None:
        return _take_nothing_back
    take_back = functools.partial(_take_back, local, own, key, own.get(key))
    own[key] = entry
    if _may_leave(threading.local.__getattribute__(local, "__dict__")):
        return take_back
    take_back()
    return _take_nothing_back


def _take_nothing_back() -> None: ...


def _take_back(held: threading.local, entries: dict[Any, Any], key: Any, before: Any) -> None:
    """Put back what the thread had of its own; nothing else can have got the address of what is held."""
    if before is not None:
        entries[key] = before
    else:
        entries.pop(key, None)


def _may_leave(values: dict[str, Any]) -> bool:
    """Whether none of these is a connection that refuses the calling thread."""
    module = sys.modules.get("sqlite3")
    if module is None:
        return True
    for value in list(values.values()):
        if isinstance(value, module.Connection):
            try:
                value.cursor().close()
            except module.ProgrammingError:
                return False
    return True


def _opened_by_django() -> list[Any]:
    """List the connections that the calling thread has opened."""
    module = sys.modules.get("django.db")
    if module is None:
        return []
    try:
        return list(module.connections.all(initialized_only=True))
    except Exception:  # noqa: BLE001 - settings that are not configured: then there is nothing to lend
        return []
