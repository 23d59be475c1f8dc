"""Tasks of the virtual loop that live and die together: what a crash severs, or a stall keeps from acting, as one.

A task belongs to the lifetime of the context in which it was created; so do the callbacks that it
schedules. A severed task is never resumed and its frames are kept until the loop closes, so that no
`finally` does anything in between.

Code that dies in the middle of a call, at `effect`, stands on the loop's own stack and has to leave
it. It leaves by an exception and under a tracer (`DeadFrames`), which ends each of its frames again
at whatever line it goes on with.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import ctypes
import inspect
import sys
import types
import weakref
from collections.abc import Callable, Generator
from typing import Any, Final, NoReturn

from job_harness.core.model import Instant
from job_harness.core.own_code import FOLDERS

LIFETIME: contextvars.ContextVar[Lifetime | None] = contextvars.ContextVar("lifetime", default=None)


_MOST_AWAITS = 20
"""How many awaits in its `finally` blocks a dead coroutine is thrown out of."""


class Severed(BaseException):
    """Raised where code of a severed lifetime still tries to do something; no `except Exception` holds it up."""


WITHIN_LIBRARY: contextvars.ContextVar[bool] = contextvars.ContextVar("job_harness_within_library", default=False)
"""Set while a library calls us in the middle of its own work, with a lock of its own held.

A worker may die there and must not wait: a thread that stood still would keep that lock.
"""


class WatchedTask(asyncio.Task[Any]):
    """A task of a processor's, which knows whether anything waits for it, or asks how it ended."""

    __module__ = "asyncio"  # Whatever names or looks through a task finds asyncio's.
    awaited = False
    made_in = ""
    """The file of the code that has made it, beyond asyncio's own."""

    def __await__(self) -> Generator[Any, None, Any]:
        self.awaited = True
        return super().__await__()

    __iter__ = __await__

    def add_done_callback(self, fn: Callable[[Any], object], /, *, context: contextvars.Context | None = None) -> None:
        """Be waited for, unless this only forgets the task: `kept.add(task)` goes with `kept.discard`."""
        forgets = isinstance(fn, types.BuiltinMethodType) and isinstance(fn.__self__, set)
        self.awaited = self.awaited or not forgets
        super().add_done_callback(fn, context=context)

    def result(self) -> Any:
        self.awaited = True
        return super().result()

    def exception(self) -> BaseException | None:
        self.awaited = True
        return super().exception()

    def cancel(self, msg: Any = None) -> bool:
        self.awaited = True
        return super().cancel(msg)


WatchedTask.__name__ = "Task"

_SUSPENDS: Final = inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR
_BASE: Final = asyncio.Handle._run.__code__


class DeadFrames:
    """The frames on the stack of the loop whose code is dead: each ends at the next line that it comes to.

    So neither a `finally` nor an `except` nor an `__exit__` does anything. What they hold is kept:
    a generator that was collected would go on to its own `finally`. Checked on Python 3.11 to 3.13.
    """

    def __init__(self) -> None:
        """Take those from the caller down to the step of the loop; none where no step of it is on the stack."""
        self.frames: list[types.FrameType] = []
        """Outermost first; what they hold is freed like all that the dead hold."""
        frame, found = sys._getframe(1), list[types.FrameType]()
        while frame.f_back is not None and frame.f_code is not _BASE:
            if not frame.f_code.co_filename.startswith((*FOLDERS, "<frozen")):  # An import gives back its lock.
                found.append(frame)
            frame = frame.f_back
        if frame.f_code is _BASE and found:
            before = sys.gettrace()
            self.frames, self._before = found[::-1], before._before if isinstance(before, DeadFrames) else before
            # A tracer in Python is taken off when it raises, and the next `finally` would run; one in C is not. This
            # function of C's is one: it asks `__delitem__` about the frame and returns -1 where that raises.
            ask = ctypes.cast(ctypes.pythonapi.PyObject_DelItem, ctypes.c_void_p)
            ctypes.pythonapi.PyEval_SetTrace(ask, ctypes.py_object(self))

    def __delitem__(self, frame: types.FrameType) -> None:
        """Hear that a frame comes to a line, or to its end: raise in those that are dead, and stop behind them."""
        caller: types.FrameType | None = frame
        while caller is not None and caller not in self.frames:
            caller = caller.f_back
        code = frame.f_code
        if caller is None:
            sys.settrace(self._before)
        elif caller is frame:
            raise Severed("dead code goes on")
        elif not code.co_filename.startswith(FOLDERS) and (code.co_flags & _SUSPENDS or code.co_name == "__exit__"):
            raise GeneratorExit  # With it, a generator is closed without a word.


class Lifetime:
    """A group of tasks; one inside another ends with it."""

    __slots__ = (
        "__weakref__",
        "_held",
        "_moment",
        "_owned",
        "_parked",
        "_tasks",
        "about",
        "dying",
        "left",
        "machine",
        "moments",
        "name",
        "parent",
        "paused",
        "polls_late_by",
        "severed",
        "stands_until",
        "threads",
    )

    def __init__(self, name: str, *, parent: Lifetime | None = None) -> None:
        self.name = name
        self.parent = parent
        self.paused = False
        self.severed = False
        self.stands_until: Instant | None = None
        """Until when it may stand still by itself, once; None: it may not, or has done so."""
        self.about: Any = None
        """Whatever its owner wants to find again from inside."""
        self.dying: Callable[[], None] = lambda: None
        """Called once it has been severed, before what it holds is freed."""
        self.machine: Any = None
        """What answers code in here that asks its machine for the time, or waits: a `GuestMachine`."""
        self.polls_late_by = 0.0
        """For how many virtual seconds threads that are started in here may be late to look for work again."""
        self.moments = 0
        """How often something was about to go on in here; counted once `on_moment` is set."""
        self._moment: Callable[[int], None] | None = None
        self._tasks: weakref.WeakSet[asyncio.Task[Any]] = weakref.WeakSet()
        self._held: list[asyncio.Task[Any]] = []
        self.left: list[DeadFrames] = []
        """What died in here, or further inside, in the middle of a call."""
        self._parked: list[asyncio.Handle] = []
        self._owned: list[Any] = []
        self.threads: set[int] = set()
        """The threads at work in here, or further inside."""

    @property
    def over(self) -> bool:
        """Whether this lifetime, or one around it, was severed."""
        return self.severed or (self.parent is not None and self.parent.over)

    @property
    def still(self) -> bool:
        """Whether nothing in here may act: it is severed or paused, or one around it is."""
        return self.severed or self.paused or (self.parent is not None and self.parent.still)

    @property
    def stopped_by(self) -> Lifetime | None:
        """The nearest of this lifetime and those around it that is itself severed or paused: it keeps callbacks."""
        life: Lifetime | None = self
        while life is not None and not (life.severed or life.paused):
            life = life.parent
        return life

    @property
    def tasks(self) -> list[asyncio.Task[Any]]:
        """List the unfinished tasks that were created in here, or further inside."""
        return [task for task in self._tasks if not task.done()] if self._tasks else []

    def end_code(self) -> NoReturn:
        """End the calling code of this lifetime, which is over: a thread stays where it is, all else is `Severed`."""
        if self.machine is not None and not WITHIN_LIBRARY.get():
            self.machine.bury()
        self._leave(DeadFrames())
        raise Severed(f"{self.name} is dead")

    def _leave(self, frames: DeadFrames) -> None:
        self.left.append(frames)
        if self.parent is not None:
            self.parent._leave(frames)

    def within(self, other: Lifetime | None) -> bool:
        """Whether this is `other`, or inside it."""
        return other is not None and (self is other or (self.parent is not None and self.parent.within(other)))

    def adopt(self, task: asyncio.Task[Any]) -> None:
        """Let a task belong here, and so to every lifetime around this one."""
        self._tasks.add(task)
        if self.severed:  # The code that died just now still runs, up to its next await.
            self._held.append(task)
        if self.parent is not None:
            self.parent.adopt(task)

    def context(self) -> contextvars.Context:
        """Return a context whose tasks and callbacks belong here, and which inherits nothing else."""
        context = contextvars.Context()
        context.run(LIFETIME.set, self)
        return context

    def count(self, on_moment: Callable[[int], None] | None) -> None:
        """Call `on_moment` with a running number whenever something in here is about to go on."""
        self._moment = on_moment

    def moment(self) -> None:
        """Something in here is about to go on: a task wakes up, or a side effect has just been declared."""
        self.moments += 1
        if self._moment is not None:
            self._moment(self.moments)

    def hold(self, tasks: list[asyncio.Task[Any]]) -> None:
        """Keep the frames of tasks that are never resumed."""
        self._held.extend(tasks)

    def park(self, handle: asyncio.Handle) -> None:
        """Keep a callback instead of running it, until whatever stands still here or around here goes on."""
        # It is kept by the lifetime that was stopped and not by the lifetime of the callback: only the one
        # that was paused is resumed, so a delivery's timer that its own lifetime kept would stay
        # there forever when its worker goes on.
        (self.stopped_by or self)._parked.append(handle)

    def unpark(self) -> list[asyncio.Handle]:
        """Return what was kept, once."""
        parked, self._parked = self._parked, []
        return [handle for handle in parked if not handle.cancelled()]

    @property
    def held_tasks(self) -> list[asyncio.Task[Any]]:
        """The tasks whose frames are kept."""
        return list(self._held)

    @property
    def owned(self) -> list[Any]:
        """What is held in here or further inside, as it was acquired: locks, permits, queues with an item missing."""
        return list(self._owned)

    def own(self, thing: Any) -> None:
        """Hold a thing once more, in here and so in every lifetime around this one."""
        self._owned.append(thing)
        if self.parent is not None:
            self.parent.own(thing)

    def disown(self, thing: Any) -> None:
        """Hold it once less."""
        for index, each in enumerate(self._owned):
            if each is thing:
                del self._owned[index]
                break
        if self.parent is not None:
            self.parent.disown(thing)

    def employ(self, thread: int, *, ends: bool = False) -> None:
        """Let a thread work in here, or end that."""
        (self.threads.discard if ends else self.threads.add)(thread)
        if self.parent is not None:
            self.parent.employ(thread, ends=ends)

    def close_frames(self) -> list[asyncio.Task[Any]]:
        """Close what was kept, after the verdict; return what refuses to be closed. Whatever that raises is ignored."""
        # A coroutine that is never finished is closed when it is collected, at a random moment
        # and in a random context: its `finally` would run in the middle of another run, and act
        # there. So it is kept until the verdict is in and closed here, where what it does is
        # known to come from the dead and reaches no other run. One that awaits in its `finally` has to
        # be thrown out of each of those awaits; one that always finds another is named.
        refusing: list[asyncio.Task[Any]] = []
        context = self.context()  # Code of the dead is told from code of the living, even now.
        for task in self._held:
            task._log_destroy_pending = False  # type: ignore[attr-defined]  # it never was destroyed by mistake
            coroutine = task.get_coro()
            for _ in range(_MOST_AWAITS):
                if getattr(coroutine, "cr_frame", None) is None:
                    break
                with contextlib.suppress(BaseException):
                    context.run(coroutine.close)
            else:
                refusing.append(task)
        self._held.clear()
        context.run(self.left.clear)
        self._parked.clear()
        return refusing
