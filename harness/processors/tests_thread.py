"""What a processor finds of the thread that its test runs in: context variables, thread-locals, Django's connections.

A plain processor runs on a thread of its own, which is handed control, so that a test can look at it in the middle of
its work. It would find none of what belongs to the test's thread: no transaction that a fixture has begun, no session.
So that thread is lent it. Only one of them acts at a time, which is what makes that safe.

A thread-local has its values in a dict of the thread's state (checked on CPython 3.11 to 3.13), whose entries are
copied. Left out: asyncio's current loop, and what holds a `sqlite3` connection that may not leave its thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import ctypes
import sys
import threading
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

    @contextlib.contextmanager
    def lent(self) -> Generator[None]:
        """Lend what the calling code sees, inside the block."""
        self._context = contextvars.copy_context()
        with _django_shared():
            yield

    def show(self) -> None:
        """Set in the calling context what the test's has set, and this has not."""
        if self._context is None:
            return
        here = contextvars.copy_context()
        for variable, value in self._context.items():
            if variable not in here and variable.name not in _LEFT_OUT:
                variable.set(value)

    def lend(self) -> dict[str, Any]:
        """Let the calling thread find the thread-locals of the test's; return those that are new to it."""
        state = _thread_state()
        if state is None or self._state is None or threading.get_ident() == self._ident:
            return {}
        own = _key_of(getattr(asyncio.get_event_loop_policy(), "_local", None)) if _HAS_POLICY else ""
        lent = {
            key: value
            for key, value in list(self._state.items())
            if isinstance(key, str) and key.startswith(_KEY) and key != own and _may_leave(value)
        }
        before = {key: state[key] for key in lent if key in state}
        state.update(lent)
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
                state = _thread_state() or {}
                for key in self._state or ():
                    if key in before:
                        state[key] = before[key]
                    elif isinstance(key, str) and key.startswith(_KEY):
                        state.pop(key, None)

        return lent


_HAS_POLICY: Final = sys.version_info < (3, 14)  # Later it warns, and is no thread-local's owner any more.


def _thread_state() -> dict[Any, Any] | None:
    """Return the dict of the calling thread's state; None where this interpreter has none."""
    if sys.implementation.name != "cpython":
        return None
    borrowed = ctypes.PYFUNCTYPE(ctypes.c_void_p)(("PyThreadState_GetDict", ctypes.pythonapi))()
    state: dict[Any, Any] | None = ctypes.cast(borrowed, ctypes.py_object).value if borrowed else None
    return state


def _key_of(local: Any) -> str:
    return "" if local is None else f"{_KEY}{id(local):#x}"


def _may_leave(dummy: Any) -> bool:
    """Whether no value of a thread-local is a connection that refuses every other thread."""
    module = sys.modules.get("sqlite3")
    if module is None:
        return True
    import gc

    for values in gc.get_referents(dummy):
        if isinstance(values, dict):
            for value in values.values():
                if isinstance(value, module.Connection):
                    try:
                        value.cursor().close()
                    except module.ProgrammingError:
                        return False
    return True


@contextlib.contextmanager
def _django_shared() -> Generator[None]:
    """Let other threads use the connections that the test's thread has opened, and their transactions."""
    module = sys.modules.get("django.db")
    if module is None:
        yield
        return
    try:
        opened = list(module.connections.all(initialized_only=True))
    except Exception:  # noqa: BLE001 - settings that are not configured: then there is nothing to share
        opened = []
    for connection in opened:
        connection.inc_thread_sharing()
    try:
        yield
    finally:
        for connection in opened:
            connection.dec_thread_sharing()
