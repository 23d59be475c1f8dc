"""What a processor finds of the thread that its test runs in: context variables, thread-locals, Django's connections.

A plain processor runs on a thread of its own, which is handed control, so that a test can look at it in the middle of
its work. It would find none of what belongs to the test's thread: no transaction that a fixture has begun, no session.
So that thread is lent it. Only one of them acts at a time, which is what makes that safe.

On CPython 3.11 and 3.12 a thread-local has its values in a dict of the thread's state, whose entries are copied. Left
out: asyncio's current loop, and what holds a `sqlite3` connection that may not leave its thread. Later versions keep
the values elsewhere, and only Django's connections are lent there, by its own registry.

An entry is worth something only while its `threading.local` lives: afterwards it points at memory that was given back.
So each is held while an entry of it is read or copied, and one that cannot be found any more is not lent.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import ctypes
import gc
import sys
import threading
import weakref
from collections.abc import Callable, Generator
from typing import Any, Final

from harness.sim.lifetime import LIFETIME

_LEFT_OUT: Final = frozenset({"current_async_library_cvar", LIFETIME.name})
"""Context variables that say which loop runs, which is another one here."""
_KEY = "thread.local."


class TestsThread:
    """The thread in which this is made, and the context in which the test drives its harness."""

    __test__ = False  # It is no test of pytest's.

    def __init__(self) -> None:
        self._ident = threading.get_ident()
        self._state = _thread_state()
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

    def lend(self) -> dict[str, tuple[threading.local, Any]]:
        """Let the calling thread find the thread-locals of the test's.

        Returns, by key, each that was lent with the entry of the calling thread that it stands before, if any.
        """
        if not _HAS_ENTRIES:
            for connection in self._connections:
                sys.modules["django.db"].connections[connection.alias] = connection
        state = _thread_state()
        if state is None or self._state is None or threading.get_ident() == self._ident:
            return {}
        own = _key_of(getattr(asyncio.get_event_loop_policy(), "_local", None)) if _HAS_POLICY else ""
        before = {}
        for key, local in _LOCALS.of(self._state):
            dummy = self._state.get(key)
            if local is not None and dummy is not None and key != own and _may_leave(dummy):
                before[key] = (local, state.get(key))
                state[key] = dummy
        return before

    def lending(self, executor: Any, work: Callable[[], Any]) -> Callable[[], Any]:
        """Let work of asgiref that production runs in the main thread (`thread_sensitive`) find it meanwhile."""
        module = sys.modules.get("asgiref.sync")
        if module is None or executor is not module.SyncToAsync.single_thread_executor:
            return work

        def lent() -> Any:
            before = self.lend()
            try:
                return work()
            finally:
                if not _HAS_ENTRIES:
                    for connection in self._connections:
                        del sys.modules["django.db"].connections[connection.alias]
                state = _thread_state() or {}
                for key, (_, own) in before.items():
                    if own is not None:
                        state[key] = own
                    else:
                        state.pop(key, None)

        return lent


_HAS_ENTRIES: Final = sys.version_info < (3, 13)
_HAS_POLICY: Final = sys.version_info < (3, 14)  # Later it warns, and is no thread-local's owner any more.


def _thread_state() -> dict[Any, Any] | None:
    """Return the dict of the calling thread's state; None where this interpreter has none."""
    if sys.implementation.name != "cpython" or not _HAS_ENTRIES:
        return None
    borrowed = ctypes.PYFUNCTYPE(ctypes.c_void_p)(("PyThreadState_GetDict", ctypes.pythonapi))()
    state: dict[Any, Any] | None = ctypes.cast(borrowed, ctypes.py_object).value if borrowed else None
    return state


class _Locals:
    """The living objects of `threading.local`, by the key of their entry in a thread's state, which has the address."""

    def __init__(self) -> None:
        self._known: weakref.WeakValueDictionary[str, threading.local] = weakref.WeakValueDictionary()
        self._lost: frozenset[str] = frozenset()
        """Keys whose object the garbage collector does not list."""

    def of(self, state: dict[Any, Any]) -> list[tuple[str, threading.local | None]]:
        """List the keys of a thread's state with their objects, which live as long as this list."""
        keys = [key for key in list(state) if isinstance(key, str) and key.startswith(_KEY)]
        if any(key not in self._known and key not in self._lost for key in keys):
            for found in gc.get_objects():
                if issubclass(type(found), threading.local):
                    self._known[_key_of(found)] = found
            self._lost = frozenset(key for key in keys if key not in self._known)
        return [(key, self._known.get(key)) for key in keys]


_LOCALS: Final = _Locals()


def _key_of(local: Any) -> str:
    return "" if local is None else f"{_KEY}{id(local):#x}"


def _may_leave(dummy: Any) -> bool:
    """Whether no value of a thread-local, which the caller holds, is a connection that refuses every other thread."""
    module = sys.modules.get("sqlite3")
    if module is None:
        return True
    # The dummy refers to the values of its thread by a pointer that the garbage collector is not shown.
    pointer = ctypes.c_void_p.from_address(id(dummy) + object.__basicsize__).value
    values: dict[Any, Any] = ctypes.cast(pointer, ctypes.py_object).value if pointer else {}
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
