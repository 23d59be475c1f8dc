"""The calls by which code asks its machine for the time or waits, so that a processor gets virtual answers.

Replaced once a process, and for processors only: code that calls `time.time` outside of one
(pytest, a plugin, logging, a thread of the test) gets the machine's answer from the same function.
What decides is the `Lifetime` of the calling context, whose `machine` answers.

A C function is replaced *in place*: its object keeps its identity, so `from time import time`, a
default argument (`timer=time.monotonic`) and calls from C follow as well. For that its `m_self`
becomes a module that calls our function (pickle asks whether it is one, and then goes by the name,
as before), and its method one of the C API that calls what it is given (`PyObject_CallNoArgs` for
METH_NOARGS, and so on). Methods of C types are replaced in the type's own dict, whose cache is then
told. Checked on CPython 3.11 to 3.13; where the structures are not as they should be (PyPy, a
free-threaded build), the attribute of the module is replaced instead. Must not know loops, queues
or processors.
"""

from __future__ import annotations

import _queue
import asyncio
import atexit
import concurrent.futures
import contextlib
import ctypes
import datetime as datetime_module
import gc
import selectors
import sys
import threading
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import FrameType, ModuleType
from typing import Any, Final, Protocol, SupportsIndex

from job_harness.core.sim.lifetime import LIFETIME, Lifetime

SECOND_US: Final = 1_000_000
real_join = threading.Thread.join
REAL_READERS: Final = frozenset(
    {
        "_pytest", "pytest", "pluggy", "hypothesis", "xdist", "execnet", "pytest_timeout", "faulthandler", "coverage",
        "logging", "pdb", "bdb", "job_harness", "job_harness_reference",
        "asyncio", "selectors", "subprocess", "multiprocessing", "socket", "ssl", "psycopg", "trio", "gevent", "uvloop",
    }
)  # fmt: skip
"""Packages that get the machine's time even within a processor: they report it, or wait for the machine by it.

A loop that waits in `select` until a deadline would wait forever on a clock that stands still
meanwhile.
"""
_CALL_FOR_GUESTS: Final = frozenset({"job_harness.core.sim.guest_threads", "job_harness.core.sim.machine_calls"})
_WAITS: Final = frozenset({"threading", "queue", "concurrent.futures._base", "concurrent.futures.thread"})


def real_monotonic() -> float:
    """Return the machine's monotonic time in seconds, in processors too: patience is real."""
    return _ORIGINALS.get("monotonic", time.monotonic)()  # type: ignore[no-any-return]  # noqa: TID251


class GuestMachine(Protocol):
    """What a processor's code finds in place of its machine's clocks and waits."""

    over: bool
    """Whether it answers no more, and the real machine does."""
    clocks: bool
    """Whether the clocks are virtual too, and not only the waits."""

    def time_us(self) -> int:
        """Tell the time of day, in microseconds since 1970."""

    def monotonic_us(self) -> int:
        """Tell a time that never moves backwards, in microseconds."""

    def passed(self) -> float:
        """Tell how much virtual time has passed, in seconds."""

    def sleep(self, seconds: float, /) -> bool:
        """Let virtual time pass for the calling thread. False: it is not under control, and nothing was done."""

    def waiter(self) -> Any:
        """Return a lock on which the calling thread can wait virtually; None where it is not under control."""

    def join(self, thread: threading.Thread, seconds: float | None) -> bool:
        """Wait virtually until a thread has ended. False: it is not under control, and nothing was done."""

    def employ(
        self,
        function: Callable[[], Any],
        name: str,
        pool: ThreadPoolExecutor | None = None,
        *,
        ends_with_loop: bool = False,
    ) -> tuple[Callable[[], Any], Callable[[], None]]:
        """Return the function as a thread of the pool is to call it, and what is to be called once it is done."""


def machine_of(life: Lifetime | None) -> GuestMachine | None:
    """Return what answers code of this lifetime; None where that is the real machine."""
    while life is not None:
        if life.machine is not None:
            return None if life.machine.over else life.machine
        life = life.parent
    return None


def _reading(life: Lifetime) -> GuestMachine | None:
    """Return whose time the caller of the caller of this function is to read; None for the real machine's."""
    machine = machine_of(life)
    if machine is None or not machine.clocks:
        return None
    return None if _is_real(sys._getframe(2)) else machine


def _dating(life: Lifetime) -> GuestMachine | None:
    """Return whose date it is: a test that travels by time-machine has the say over that, and over nothing else."""
    machine = machine_of(life)
    if machine is None or not machine.clocks or _is_real(sys._getframe(2)) or _travelling():
        return None
    return machine


def _is_real(reader: FrameType) -> bool:
    """Whether code is answered by the machine wherever it runs."""
    name = reader.f_globals.get("__name__", "")
    top = name.partition(".")[0]
    if top not in REAL_READERS or name in _CALL_FOR_GUESTS:
        return False
    return top != "psycopg" or name not in sys.modules or not _on_a_loop()


def _on_a_loop() -> bool:
    """Whether the calling thread runs an event loop: psycopg waits there for the loop, and elsewhere for its socket."""
    return asyncio._get_running_loop() is not None


def _waits_really() -> bool:
    """Whether the code that waits, in functions of the standard library, is answered by the machine."""
    frame: FrameType | None = sys._getframe(2)
    while frame is not None and frame.f_globals.get("__name__") in _WAITS:
        frame = frame.f_back
    return frame is None or _is_real(frame)


def _travelling() -> bool:
    """Whether a test travels by time-machine, which then has the say."""
    module = sys.modules.get("time_machine")
    return bool(module is not None and getattr(module, "traveller_stack", None))


# what stands in the place of a clock ---------------------------------------------------------------------------------


def _clock(
    whose: Callable[[Lifetime], GuestMachine | None], read: Callable[[GuestMachine], float]
) -> Callable[[Any], Any]:
    """Return what makes a clock that reads the machine of the calling lifetime in this way."""

    def standing_for(real: Any) -> Any:
        """Return what stands in the place of a call."""

        def clock() -> float:
            life = LIFETIME.get()
            if life is None or (machine := whose(life)) is None:
                return real()  # type: ignore[no-any-return]
            return read(machine)

        return clock

    return standing_for


def _of_now(real: Any) -> Any:
    def of_now(*arguments: Any) -> Any:
        """Break a time of day down: what is not given, or None, is now."""
        life = LIFETIME.get()
        if (arguments and arguments[0] is not None) or life is None or (machine := _dating(life)) is None:
            return real(*arguments)
        return real(machine.time_us() / SECOND_US)

    return of_now


def _strftime(real: Any) -> Any:
    def strftime(*arguments: Any) -> Any:
        life = LIFETIME.get()
        if len(arguments) != 1 or life is None or (machine := _dating(life)) is None:
            return real(*arguments)
        return real(arguments[0], time.localtime(machine.time_us() / SECOND_US))

    return strftime


def _clock_gettime(of_microseconds: Callable[[int], float]) -> Callable[[Any], Any]:
    def standing_for(real: Any) -> Any:
        """Return what stands in the place of a call."""

        def clock_gettime(clock: Any) -> Any:
            life = LIFETIME.get()
            if life is None or (machine := _reading(life)) is None:
                return real(clock)
            microseconds = _of_clock(machine, clock)
            return real(clock) if microseconds is None else of_microseconds(microseconds)

        return clock_gettime

    return standing_for


def _of_clock(machine: GuestMachine, clock: Any) -> int | None:
    if clock == time.CLOCK_REALTIME:
        return machine.time_us()
    return machine.monotonic_us() if clock == time.CLOCK_MONOTONIC else None


def _sleep(real: Any) -> Any:
    def sleep(seconds: Any) -> None:
        life = LIFETIME.get()
        machine = None if life is None else machine_of(life)
        if machine is None or _is_real(sys._getframe(1)) or not machine.sleep(_seconds(seconds)):
            real(seconds)

    return sleep


def _seconds(given: Any) -> float:
    """Return what `time.sleep` takes for a number: text, which `float` takes too, is none."""
    if not isinstance(given, float | SupportsIndex):
        kind = type(given).__name__
        raise TypeError(f"'{kind}' object cannot be interpreted as an integer or float")
    return float(given)


def _now(real: Any) -> Any:
    def now(cls: Any, tz: Any = None) -> Any:
        life = LIFETIME.get()
        if life is None or (machine := _dating(life)) is None:
            return real.__get__(None, cls)(tz)
        return _moment(cls, machine, tz)

    return classmethod(now)


_UTCNOW_WARNING: Final = (
    "datetime.datetime.utcnow() is deprecated and scheduled for removal in a future version. Use timezone-aware "
    "objects to represent datetimes in UTC: datetime.datetime.now(datetime.UTC)."
)


def _utcnow(real: Any) -> Any:
    def utcnow(cls: Any) -> Any:
        if sys.version_info >= (3, 12):  # It warns its caller, which must not seem to be this module.
            warnings.warn(_UTCNOW_WARNING, DeprecationWarning, stacklevel=2)
        life = LIFETIME.get()
        if life is None or (machine := _dating(life)) is None:
            return _ORIGINALS["datetime.datetime.now"].__get__(None, cls)(datetime_module.UTC).replace(tzinfo=None)
        return _moment(cls, machine, datetime_module.UTC).replace(tzinfo=None)

    return classmethod(utcnow)


def _moment(cls: Any, machine: GuestMachine, tz: Any) -> Any:
    seconds, microseconds = divmod(machine.time_us(), SECOND_US)
    return cls.fromtimestamp(seconds, tz).replace(microsecond=microseconds)


# what stands in the place of a wait ----------------------------------------------------------------------------------


def _allocate_lock(real: Any) -> Any:
    def allocate_lock() -> Any:
        """Return the lock on which one wait of a `threading.Condition` waits."""
        life = LIFETIME.get()
        if life is None or (machine := machine_of(life)) is None or _waits_really():
            return real()
        return machine.waiter() or real()

    return allocate_lock


def _join(real: Any) -> Any:
    def join(self: threading.Thread, timeout: float | None = None) -> None:
        life = LIFETIME.get()
        machine = None if life is None else machine_of(life)
        own = self is threading.current_thread()  # Python refuses that.
        if machine is None or own or not machine.join(self, timeout) or not self.is_alive():
            real(self, timeout)

    return join


_WAITING: dict[int, list[Any]] = {}
"""By the id of a `queue.SimpleQueue`: the waiters of those who wait virtually for an item."""
_WAITING_GUARD = threading.Lock()


def _get(real: Any) -> Any:
    def get(self: Any, block: bool = True, timeout: float | None = None) -> Any:
        life = LIFETIME.get()
        if not block or life is None or (machine := machine_of(life)) is None or (timeout is not None and timeout < 0):
            return real(self, block, timeout)
        if _waits_really() or (waiter := machine.waiter()) is None:
            return real(self, block, timeout)
        waiter.acquire()
        with _WAITING_GUARD:
            _WAITING.setdefault(id(self), []).append(waiter)
        end = None if timeout is None else machine.passed() + timeout
        try:
            while True:
                try:
                    return real(self, False)
                except _queue.Empty:
                    if not waiter.acquire(True, -1 if end is None else max(0.0, end - machine.passed())):
                        return real(self, False)
        finally:
            with _WAITING_GUARD:
                _WAITING[id(self)].remove(waiter)
                if not _WAITING[id(self)]:
                    del _WAITING[id(self)]

    return get


def _put(real: Any) -> Any:
    def put(self: Any, item: Any, *how: Any, **options: Any) -> None:
        real(self, item, *how, **options)
        for waiter in tuple(_WAITING.get(id(self), ())):
            waiter.release()

    return put


_SELECTING: dict[int, Any] = {}
"""By the id of an event loop that a thread of a processor runs itself: the waiter with which it waits in `select`."""
_REPLY_SECONDS: Final = 30.0
"""Real seconds for which such a loop waits for what it has open, before virtual time passes to its next timer."""


def _loop_of(selector: Any = None) -> tuple[Any, GuestMachine | None]:
    """Return the loop of asyncio's own that runs in this thread, by a selector, and what answers its processor."""
    life, loop = LIFETIME.get(), asyncio._get_running_loop()
    own = None if type(loop) is not asyncio.SelectorEventLoop else vars(loop)["_selector"]
    if life is None or own is None or (selector or own) is not own:
        return None, None
    return loop, machine_of(life)


def _loop_time(real: Any) -> Any:
    def time(self: Any) -> float:
        """Tell a loop in a thread of a processor the time by which its `select` waits."""
        loop, machine = _loop_of()
        return machine.monotonic_us() / SECOND_US if loop is self and machine and machine.clocks else real(self)

    return time


def _select(real: Any) -> Any:
    def select(self: Any, timeout: float | None = None) -> Any:
        loop, machine = _loop_of(self)
        waiter = machine.waiter() if machine and machine.clocks and (timeout is None or timeout > 0) else None
        if waiter is None:
            return real(self, timeout)
        if len(self.get_map()) > 1:  # More than the pipe by which other threads wake it: a reply may be on its way.
            found = real(self, timeout if timeout is None else min(timeout, _REPLY_SECONDS))
            if found or timeout is None:
                return found
        waiter.acquire()
        _SELECTING[id(loop)] = waiter
        try:
            if not (found := real(self, 0)):
                waiter.acquire(True, -1 if timeout is None else timeout)
        finally:
            _SELECTING.pop(id(loop), None)
        return found or real(self, 0)

    return select


def _write_to_self(real: Any) -> Any:
    def write_to_self(self: Any) -> None:
        real(self)
        if (waiter := _SELECTING.get(id(self))) is not None:
            waiter.release()

    return write_to_self


def _submit(real: Any) -> Any:
    def submit(self: Any, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
        life = LIFETIME.get()
        if life is None or (machine := machine_of(life)) is None:
            return real(self, fn, *args, **kwargs)
        if not is_in_this_interpreter(self):
            return _told_when_done(real(self, fn, *args, **kwargs), machine, fn)
        name = getattr(fn, "__qualname__", type(fn).__name__)
        call, done = machine.employ(lambda: fn(*args, **kwargs), name, self)
        try:
            future = real(self, call)
        except BaseException:
            done()
            raise
        future.add_done_callback(lambda _: done())
        return future

    return submit


def _submit_to_process(real: Any) -> Any:
    def submit(self: Any, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
        life = LIFETIME.get()
        machine = None if life is None else machine_of(life)
        future = real(self, fn, *args, **kwargs)
        return future if machine is None else _told_when_done(future, machine, fn)

    return submit


def _told_when_done(future: Any, machine: GuestMachine, fn: Any) -> Any:
    """Hold time until work is done that no thread of this interpreter does."""
    _, done = machine.employ(fn, getattr(fn, "__qualname__", type(fn).__name__))
    future.add_done_callback(lambda _: done())
    return future


def is_in_this_interpreter(executor: object) -> bool:
    """Whether its threads can call any function: those of 3.14's InterpreterPoolExecutor share no objects with us."""
    others = sys.modules.get("concurrent.futures.interpreter")
    alien = others is not None and isinstance(executor, others.InterpreterPoolExecutor)
    return isinstance(executor, ThreadPoolExecutor) and not alien


def _lazily(real: Any) -> Any:
    def getattr_of_module(name: str) -> Any:
        found = real(name)
        if name == "ProcessPoolExecutor":
            _replace_process_pools()
        return found

    return getattr_of_module


# replacing -----------------------------------------------------------------------------------------------------------


class _MethodDef(ctypes.Structure):
    """CPython's PyMethodDef."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("method", ctypes.c_void_p),
        ("flags", ctypes.c_int),
        ("doc", ctypes.c_char_p),
    )


_Pair: Final = ctypes.c_size_t * 2
"""Where a function's PyMethodDef lies, and its `self`."""


class _Builtin(ctypes.Structure):
    """The beginning of CPython's PyCFunctionObject.

    `call` is one field and is written at once. Between two writes the garbage collector may run, and
    those who measure it (Hypothesis does) would ask a clock that is half exchanged.
    """

    _fields_ = (
        ("head", ctypes.c_byte * object.__basicsize__),
        ("call", _Pair),
        ("module", ctypes.c_void_p),
    )


_THROUGH: Final = {4: "PyObject_CallNoArgs", 8: "PyObject_CallOneArg", 1: "PyObject_CallObject"}
"""By METH_NOARGS, METH_O, METH_VARARGS: the method that calls its `self` in that way."""
_STOPWATCHES: Final = ("monotonic", "perf_counter")
_CLOCKS: Final[tuple[tuple[str, Any], ...]] = (
    ("time", _clock(_dating, lambda machine: machine.time_us() / SECOND_US)),
    ("time_ns", _clock(_dating, lambda machine: machine.time_us() * 1000)),
    *((name, _clock(_reading, lambda machine: machine.monotonic_us() / SECOND_US)) for name in _STOPWATCHES),
    *((f"{name}_ns", _clock(_reading, lambda machine: machine.monotonic_us() * 1000)) for name in _STOPWATCHES),
    ("sleep", _sleep), ("localtime", _of_now), ("gmtime", _of_now), ("ctime", _of_now), ("strftime", _strftime),
    ("clock_gettime", _clock_gettime(lambda us: us / SECOND_US)),
    ("clock_gettime_ns", _clock_gettime(lambda us: us * 1000)),
)  # fmt: skip
_ORIGINALS: dict[str, Any] = {}
"""What was replaced, by name."""
_UNDO: list[Callable[[], None]] = []
_KEPT: list[object] = []
"""What C code points to, for as long as this process lives."""
_GUARD = threading.Lock()


def replace() -> None:
    """Replace the calls, where that is not done yet. They stay replaced until the process ends."""
    if not _UNDO:
        with _GUARD:
            if not _UNDO:
                _replace()
                atexit.register(restore)
    _replace_process_pools()
    if (module := sys.modules.get("_time_machine")) is not None and not hasattr(module.patch, "__wrapped__"):
        _let_travel(module)


def _replace_process_pools() -> None:
    """Replace what they have, once they are imported: that takes 30 ms."""
    if (pools := sys.modules.get("concurrent.futures.process")) is not None and pools not in _KEPT:
        _KEPT.append(pools)
        _replace_attribute(pools.ProcessPoolExecutor, "submit", _submit_to_process)


def restore() -> None:
    """Put back what stood there."""
    while _UNDO:
        _UNDO.pop()()
    with contextlib.suppress(ValueError):
        _KEPT.remove(sys.modules.get("concurrent.futures.process"))


def _replace() -> None:
    for name, make in _CLOCKS:
        if hasattr(time, name):
            _replace_function(time, name, make)
    _replace_method(datetime_module.datetime, "now", _now)
    _replace_method(datetime_module.datetime, "utcnow", _utcnow)
    _replace_method(_queue.SimpleQueue, "get", _get)
    _replace_method(_queue.SimpleQueue, "put", _put)
    _replace_method(_queue.SimpleQueue, "put_nowait", _put)
    _replace_attribute(threading, "_allocate_lock", _allocate_lock)  # What Condition.wait asks for, 3.11 to 3.14.
    _replace_attribute(threading.Thread, "join", _join)
    _replace_attribute(ThreadPoolExecutor, "submit", _submit)
    _replace_attribute(asyncio.BaseEventLoop, "time", _loop_time)
    _replace_attribute(asyncio.selector_events.BaseSelectorEventLoop, "_write_to_self", _write_to_self)  # 3.11 to 3.14
    if "select" in vars(selectors.DefaultSelector):
        _replace_attribute(selectors.DefaultSelector, "select", _select)
    _replace_attribute(concurrent.futures, "__getattr__", _lazily)  # By which Python imports pools of processes.


def _replace_attribute(owner: Any, name: str, make: Any) -> None:
    real = vars(owner)[name]
    stands = make(real)
    stands.__wrapped__ = real
    setattr(owner, name, stands)
    _UNDO.append(lambda: setattr(owner, name, real))


def _replace_function(module: Any, name: str, make: Any) -> None:
    # To set `time.time` to another function misses all that hold the old one: `from time import
    # time`, a default argument, a C extension that looked it up once. So the object stays, and
    # what it calls is exchanged: `ml_meth` becomes a function of the C API that calls its `self`,
    # and `self` one of ours. `self` has to be a module, or pickle refuses the function. The
    # original lives on as a new builtin of the same definition, so that callers outside of
    # processors pay one call more and get what they always got.
    builtin = getattr(module, name)
    if (definition := _definition(builtin, name)) is None:
        _replace_attribute(module, name, make)
        return
    raw = _Builtin.from_address(id(builtin))
    before = _Pair(*raw.call)
    real = _new_builtin(before[0], before[1], raw.module)
    stands = _callable_module(module.__name__, make(real))
    _ORIGINALS[name] = real
    through = ctypes.cast(getattr(ctypes.pythonapi, _THROUGH[definition.flags]), ctypes.c_void_p)
    own = _MethodDef(definition.name, through, definition.flags, definition.doc)
    _KEPT.extend((builtin, real, stands, own))
    raw.call = _Pair(ctypes.addressof(own), id(stands))

    def undo() -> None:
        raw.call = before

    _UNDO.append(undo)


def _callable_module(name: str, function: Any) -> ModuleType:
    made: ModuleType = type("CallableModule", (ModuleType,), {"__call__": staticmethod(function)})(name)
    return made


def _definition(builtin: Any, name: str) -> _MethodDef | None:
    """Return how a builtin is defined; None where this interpreter keeps that otherwise, or something stands there."""
    if sys.implementation.name != "cpython" or object.__basicsize__ != 16 or type(builtin) is not type(len):
        return None
    found = _MethodDef.from_address(_Builtin.from_address(id(builtin)).call[0])
    return found if found.name == name.encode() and found.flags in _THROUGH else None


def _new_builtin(definition: int, owner: int, module: int) -> Any:
    make = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)(
        ("PyCFunction_NewEx", ctypes.pythonapi)
    )
    return make(definition, owner, module)


def _replace_method(kind: type, name: str, make: Any) -> None:
    names: Any = gc.get_referents(vars(kind))[0]
    real = names[name]
    _ORIGINALS[f"{kind.__module__}.{kind.__name__}.{name}"] = real

    def set_to(value: Any) -> None:
        names[name] = value
        ctypes.pythonapi.PyType_Modified(ctypes.py_object(kind))

    set_to(make(real))
    _UNDO.append(lambda: set_to(real))


def _let_travel(module: Any) -> None:
    """Let time-machine, which replaces the same functions in place, begin and end below what stands here."""

    def below(real: Any) -> Any:
        def change() -> Any:
            restore()
            try:
                return real()
            finally:
                _replace()

        change.__wrapped__ = real  # type: ignore[attr-defined]
        return change

    module.patch, module.unpatch = below(module.patch), below(module.unpatch)
