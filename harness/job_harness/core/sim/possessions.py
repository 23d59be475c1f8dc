"""What a process holds, and what its death frees: locks, permits, places in waiting lines, sockets, connections.

A crash severs a lifetime without running any of its code, so what it held in the memory of this
process would stay held forever. A real crash frees all of that: the next process starts with new
locks and new pools. Three ways lead there:

- Exactly, for asyncio's and threading's own primitives: `_locked` and `_value` are watched by a data descriptor while a
  virtual loop is open, so that every acquisition has an owner, whichever method led to it. A wrapped `acquire` would
  miss the bound methods that `asyncio.Condition` keeps, and would stand in every stack.
- By looking, for what has no owner: a locked `threading.Lock` or a pool that the severed frames still reach was held by
  the dead process, for all that runs the user's code died with it.
- Not at all, where only the user knows what a new process would have: an item that was taken from a queue, a task that
  others wait for. These are kept as lost, and an attempt that waits for one forever is inconclusive, not failed.

Leans on names of CPython's asyncio and threading (checked on 3.11, 3.12 and 3.13); what is known of
other people's pools stands in `pools`. Knows neither queues nor processors.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import contextvars
import functools
import gc
import sys
import sysconfig
import threading
import traceback
import types
import weakref
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from job_harness.core.own_code import FOLDERS
from job_harness.core.sim.lifetime import LIFETIME, Lifetime
from job_harness.core.sim.pools import (
    ENDED,
    POOLS,
    Free,
    Reached,
    close_lent,
    close_opened,
    end_pools,
    hear_libraries,
    kinds_of,
)

if TYPE_CHECKING:
    from job_harness.core.sim.loop import VirtualLoop

_LIBRARIES = tuple(sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib"))
_CLOSED_BOOKS = frozenset({"job_harness", "job_harness_reference", "pydantic", "_pytest", *sys.stdlib_module_names})
"""Packages whose objects are not searched for a lock of the user's."""
_LOCK, _RLOCK = type(threading.Lock()), type(threading.RLock())
_SECRET = "_owners_of_job_harness"
_OF_LIBRARY = "_taken_by_a_library_says_job_harness"
DEEPEST, MOST_LOOKED_AT = 5, 5_000
OPENED_BEFORE: Final = (
    "an earlier test has opened it, whose connections were closed at its end; open it anew in each test, by "
    "job_on_start or where it is first used, and let a fixture set the variable back that keeps it"
)
MOST_TAKEN: Final = 1_000
"""Items missing from one queue that are remembered."""


class Taken(NamedTuple):
    """An item that was taken from a queue, and by whom. Kept with the queue until it is put back or said to be done."""

    life: Lifetime
    item: int
    place: str
    lent: Any = None
    """The item itself, where a library took it: what a pool lends."""


# who holds what -----------------------------------------------------------------------------------------------------


class _Count:
    """Watches the attribute by which a primitive says how often it may still be acquired."""

    def __init__(self, name: str, *, held_by_one: Callable[[Any], int]) -> None:
        self._name = name
        self._free = held_by_one

    def __get__(self, thing: Any, kind: type | None = None) -> Any:
        if thing is None:
            return self
        try:
            return thing.__dict__[self._name]
        except KeyError:
            raise AttributeError(self._name) from None

    def __set__(self, thing: Any, value: Any) -> None:
        values = thing.__dict__
        before = values.get(self._name)
        life = LIFETIME.get()
        gained = 0 if before is None else self._free(value) - self._free(before)
        if gained < 0:
            values[self._name] = value
            if (owner := _acquiring(life)) is not None:
                values.setdefault(_SECRET, []).append(owner)
                values[_OF_LIBRARY] = _is_of_package(sys._getframe(1))
                owner.own(thing)
            return
        owners: list[Lifetime] = values.get(_SECRET, ())
        if gained and life is not None and life.over and life not in owners:
            return  # A frame of the dead is closed: what it held was given back when it died.
        values[self._name] = value
        for _ in range(min(gained, len(owners))):
            owner = life if life in owners else owners[0]
            owners.remove(owner)
            owner.disown(thing)


def _acquiring(life: Lifetime | None) -> Lifetime | None:
    """Tell for whom a permit is taken: a semaphore that is released takes it at once for the next in its line."""
    frame = sys._getframe(2)
    if frame.f_code.co_name != "_wake_up_next":
        return life
    waiting = frame.f_locals.get("fut")
    for _, context in getattr(waiting, "_callbacks", None) or ():
        return context.get(LIFETIME)  # type: ignore[no-any-return]
    return None


_WATCHED: Final[tuple[tuple[type, str, _Count], ...]] = (
    (asyncio.Lock, "_locked", _Count("_locked", held_by_one=lambda locked: 0 if locked else 1)),
    (asyncio.Semaphore, "_value", _Count("_value", held_by_one=int)),
    (threading.Semaphore, "_value", _Count("_value", held_by_one=int)),
)
_BOUND: Any = vars(asyncio.mixins)["_LoopBoundMixin"]
"""The base of asyncio's primitives, which belong to the loop on which they were first waited for. 3.11 to 3.14."""
_LOOPS: weakref.WeakSet[VirtualLoop] = weakref.WeakSet()
"""The open loops, of all threads: with the last one, everything is unwatched again."""
_GUARD = threading.Lock()


def watch(loop: VirtualLoop) -> None:
    """Know from here on who acquires and takes what."""
    with _GUARD:
        if "_locked" not in vars(asyncio.Lock):
            for kind, name, count in _WATCHED:
                setattr(kind, name, count)
            asyncio.Queue.get_nowait = _taking(asyncio.Queue.get_nowait)  # type: ignore[method-assign]
            asyncio.Queue.put_nowait = _putting(asyncio.Queue.put_nowait)  # type: ignore[method-assign]
            asyncio.Queue.task_done = _finishing(asyncio.Queue.task_done)  # type: ignore[method-assign]
            _BOUND._get_loop = _finding_loop(_BOUND._get_loop)
        _LOOPS.add(loop)


def unwatch(loop: VirtualLoop) -> None:
    """End it, where no other loop is open."""
    with _GUARD:
        _LOOPS.discard(loop)
        if not _LOOPS and "_locked" in vars(asyncio.Lock):
            for kind, name, _ in _WATCHED:
                delattr(kind, name)
            for name in ("get_nowait", "put_nowait", "task_done"):
                setattr(asyncio.Queue, name, getattr(asyncio.Queue, name).__wrapped__)
            _BOUND._get_loop = _BOUND._get_loop.__wrapped__


def _finding_loop(real: Any) -> Any:
    """Let what an earlier test waited for on its loop, such as the lock of a module, be waited for on this one."""

    @functools.wraps(real)
    def get_loop(thing: Any) -> Any:
        if thing._loop is not None and thing._loop in ENDED:
            thing._loop = None
        return real(thing)

    return get_loop


def _taking(real: Any) -> Any:
    @functools.wraps(real)
    def get_nowait(queue: asyncio.Queue[Any]) -> Any:
        item = real(queue)
        life = LIFETIME.get()
        if life is not None and not life.over:
            taken = queue.__dict__.setdefault(_SECRET, collections.deque())
            if len(taken) == MOST_TAKEN:
                _given_back(queue, taken[0])  # As far as is known from here on.
            if not any(each.life is life for each in taken):
                life.own(queue)
            taker = sys._getframe(1)
            taken.append(Taken(life, id(item), _place(taker), item if _is_of_package(taker) else None))
        return item

    return get_nowait


def _putting(real: Any) -> Any:
    @functools.wraps(real)
    def put_nowait(queue: asyncio.Queue[Any], item: Any) -> None:
        real(queue, item)
        if taken := queue.__dict__.get(_SECRET):
            _given_back(queue, next((each for each in taken if each.item == id(item)), None))

    return put_nowait


def _finishing(real: Any) -> Any:
    @functools.wraps(real)
    def task_done(queue: asyncio.Queue[Any]) -> None:
        real(queue)
        if taken := queue.__dict__.get(_SECRET):
            _given_back(queue, next((each for each in taken if each.life is LIFETIME.get()), None))

    return task_done


def _given_back(queue: asyncio.Queue[Any], taken: Taken | None) -> None:
    if taken is not None:
        queue.__dict__[_SECRET].remove(taken)
        if not any(each.life is taken.life for each in queue.__dict__[_SECRET]):
            taken.life.disown(queue)


# what a death frees -------------------------------------------------------------------------------------------------


class Possessions:
    """What the dead of one loop held, and what of it could not be freed."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop
        self._lost: list[tuple[Any, str]] = []
        self._loaded = hear_libraries()

    def hear_libraries(self) -> None:
        """Let those that were imported meanwhile tell what they open."""
        self._loaded = hear_libraries(self._loaded)

    def free(self, life: Lifetime) -> None:
        """Give back what a severed lifetime holds. None of its code may be running."""
        # The order matters. `dying` first: it hears out what a database has already done for the
        # dead, before its connection is closed. Then lines before locks: a lock that is released
        # while a dead task stands first in its line would be handed to the dead. And nothing here
        # runs code of the dead, for a `finally` of theirs would do what a crashed process cannot.
        # A thing whose insides are not as they were when this was checked is not guessed at: it
        # is lost, by name, and who waits for it is inconclusive, not failed.
        life.dying()
        tasks = sorted(life.held_tasks, key=_by_creation)
        self._lost += [(task, f"{life.name} died while it worked on it at {_place_of(task)}") for task in tasks]
        for task in tasks:
            with contextlib.suppress(Exception):  # A primitive of another loop, long closed.
                _give_up_turn(task, life)
        for protocol in self._loop.lives.close_sockets(life):
            if _is_of_library(protocol):  # Its pool hears of it, as that of another process would not have to.
                self._relieve(life, protocol, "of a connection", functools.partial(protocol.connection_lost, None))
        self._relieve(life, life, "of its connections", functools.partial(self._close_opened, life))
        for thing in life.owned:
            if isinstance(thing, asyncio.Queue):
                self._put_back(life, thing)
            else:
                self._relieve(life, thing, "of it", thing.release)
        threads = [thread for thread in threading.enumerate() if thread.ident in life.threads]
        found = _Reached(self._loop, {id(each) for each in (*tasks, *threads)})
        for task in tasks:
            found.look(_of_users(stack_of(task)), task)
        for left in life.left:
            found.look(_of_users(left.frames), None)
        frames = sys._current_frames()
        for ident in sorted(life.threads):
            found.look(_of_users(_callers(frames.get(ident))), None)
        for thing, name, own in found.things:
            free = functools.partial(_HOLDERS[_kind(thing)], thing, own, found)
            self._relieve(life, thing, f"of {name}", free)

    def _close_opened(self, life: Lifetime) -> None:
        self._lost += [(thing, f"{life.name} died and {told}") for thing, told in close_opened(life)]

    def _put_back(self, life: Lifetime, queue: asyncio.Queue[Any]) -> None:
        """Put what a pool had lent back into its line, closed; an item of a queue of the user's is lost."""
        for taken in [each for each in queue.__dict__[_SECRET] if each.life.within(life)]:
            if taken.lent is None:
                self._lost.append((queue, f"{life.name} died with an item of it, taken at {taken.place}"))
                continue
            self._relieve(life, queue, "of what it had lent", functools.partial(close_lent, taken.lent))
            if taken in queue.__dict__[_SECRET]:
                queue.put_nowait(taken.lent)

    def _relieve(self, life: Lifetime, thing: Any, name: str, free: Callable[[], Any]) -> None:
        """Free a thing; one that cannot be, perhaps of a version that was never checked, is lost."""
        try:
            told = free()
        except Exception as error:  # noqa: BLE001 - it is other people's code, whose insides may have changed
            told = f"could not be relieved {name} ({type(error).__name__}: {error})"
        if told is not None:
            self._lost.append((thing, f"{life.name} died and {told}"))

    def lend(self, life: Lifetime) -> list[asyncio.Lock]:
        """Free the locks that libraries hold for a lifetime which stalls, as if others were another process."""
        locks = [each for each in life.owned if isinstance(each, asyncio.Lock) and vars(each).get(_OF_LIBRARY)]
        for lock in locks:
            lock.release()
        return locks

    def take_back(self, life: Lifetime, locks: list[asyncio.Lock]) -> None:
        """Let the lifetime hold them again, as its code believes."""
        for lock in locks:
            if not lock.locked():
                life.context().run(setattr, lock, "_locked", True)

    def end(self) -> None:
        """Let go of everything, and close what was opened on this loop: nothing will be asked any more."""
        for protocol in self._loop.lives.close_sockets(None):
            if _is_of_library(protocol):
                with contextlib.suppress(Exception):  # Its own code: who uses it on another loop is told.
                    protocol.connection_lost(None)
        ENDED.add(self._loop)
        end_pools(self._loop, last=not any(each is not self._loop for each in _LOOPS))
        self._lost.clear()

    @property
    def lost(self) -> bool:
        """Whether the dead, or the loops of earlier tests, may have left something that cannot be freed."""
        return bool(self._lost or ENDED)

    def still_locked(self) -> list[str]:
        """Name the locks of threads that stay locked forever: who waits for one blocks, and raises nothing."""
        return [why for thing, why in self._lost if type(thing) in (_LOCK, _RLOCK)]

    def explain(self, attempt: asyncio.Task[Any] | BaseException, *, beside: Lifetime | None = None) -> str | None:
        """Say for what of the dead an attempt waits, or what it raised had waited; None where that is not the cause.

        What a lifetime `beside` it holds, which stalls and would do so in another process, counts
        too.
        """
        lost = list(self._lost)
        if beside is not None and not beside.over:
            lost += [(thing, f"{beside.name} holds it and stalls") for thing in beside.owned]
        if not (lost or ENDED):
            return None
        stacks = [list(stack_of(attempt))] if isinstance(attempt, asyncio.Task) else list(_tracebacks(attempt))
        for stack in stacks:
            for frame in reversed(stack):
                if not (_is_library(frame) or frame is stack[-1]):
                    continue
                values = {id(value): value for value in frame.f_locals.values()}
                ended = [(value, OPENED_BEFORE) for value in values.values() if _is_of_ended(value)]
                for thing, why in lost + ended:
                    if id(thing) in values:
                        return f"it waited at {_user_place(stack)} for {_name_in(stack, thing)}, and {why}"
        return None


class _Line(collections.deque[Any]):
    """A line that the dead have left, and out of which they still want to take themselves when their frames close."""

    def remove(self, turn: Any) -> None:
        with contextlib.suppress(ValueError):
            super().remove(turn)


_LINES: Final[dict[types.CodeType, tuple[str, str]]] = {
    asyncio.Lock.acquire.__code__: ("_waiters", "fut"),
    asyncio.Semaphore.acquire.__code__: ("_waiters", "fut"),
    asyncio.Condition.wait.__code__: ("_waiters", "fut"),
    asyncio.Event.wait.__code__: ("_waiters", "fut"),
    asyncio.Queue.get.__code__: ("_getters", "getter"),
    asyncio.Queue.put.__code__: ("_putters", "putter"),
}
"""Where a coroutine of asyncio's waits: the attribute that is the line, and the local that is its turn in it."""


def _give_up_turn(task: asyncio.Task[Any], life: Lifetime) -> None:
    """Let a dead task wait for no turn that would otherwise be given to it."""
    frames = list(stack_of(task))
    for frame in frames:
        _leave_line(frame)
    waited = task._fut_waiter  # type: ignore[attr-defined]  # 3.11 to 3.14
    if type(waited) is asyncio.Future and frames and "-packages" in frames[-1].f_code.co_filename:
        callbacks = getattr(waited, "_callbacks", None) or ()
        if all(_belongs(context, life) for _, context in callbacks):  # Else someone alive waits for it, too.
            waited.cancel()


def _belongs(context: contextvars.Context, life: Lifetime) -> bool:
    own: Lifetime | None = context.get(LIFETIME)
    return own is not None and own.within(life)


def _leave_line(frame: types.FrameType) -> None:
    """Take a dead task out of the line in which it waits; a turn that it was given already goes to the next."""
    names = _LINES.get(frame.f_code)
    if names is None:
        return
    thing, turn = frame.f_locals["self"], frame.f_locals.get(names[1])
    line = getattr(thing, names[0])
    queue = isinstance(thing, asyncio.Queue)  # It takes a turn out of its line when that comes; the others keep it.
    if line is None or turn is None or not (queue or turn in line):
        return
    line = _Line(each for each in line if each is not turn)
    setattr(thing, names[0], line)
    if not turn.done() or turn.cancelled():
        return
    if queue:
        thing._wakeup_next(line)  # A waiter that finds nothing there waits again.
    elif isinstance(thing, asyncio.Condition) or (isinstance(thing, asyncio.Lock) and not thing.locked()):
        _answer_next(line)


def _answer_next(line: _Line) -> None:
    for turn in line:
        if not turn.done():
            turn.set_result(True)
            return


class _Reached:
    """What the frames of the dead reach, as far as a death frees it."""

    def __init__(self, loop: VirtualLoop, dead: set[int]) -> None:
        self.loop = loop
        self.dead = dead
        self.things: list[tuple[Any, str, bool]] = []
        """With a name, and whether only the dead reach it."""
        self.seen: dict[int, Any] = {}
        self.frames: list[types.FrameType] = []

    def look(self, frames: list[types.FrameType], task: asyncio.Task[Any] | None) -> None:
        """Look at everything that these frames name, and at the `with` blocks in which the task stands."""
        shared: list[tuple[Any, str]] = []
        own: list[tuple[Any, str]] = []
        for frame in frames:
            globals_, code = frame.f_globals, frame.f_code
            shared += [(globals_[name], name) for name in code.co_names if name in globals_]
            for name, value in list(frame.f_locals.items()):
                (shared if name in code.co_freevars else own).append((value, name))
        if task is not None and frames:
            for part in _chain(task):
                own += [(each, "a block") for each in gc.get_referents(part)]
        self.frames += frames
        names = {name for frame in frames for name in frame.f_code.co_names}
        self._walk(shared, names, own=False)
        self._walk(own, names, own=True)

    def _walk(self, roots: list[tuple[Any, str]], names: set[str], *, own: bool) -> None:
        line = collections.deque((value, name, 0) for value, name in roots)
        most = len(self.seen) + MOST_LOOKED_AT
        while line and len(self.seen) < most:
            value, name, depth = line.popleft()
            if id(value) in self.seen:
                continue
            self.seen[id(value)] = value
            if _kind(value) in _HOLDERS:
                self.things.append((value, name, own))
            if depth < DEEPEST:
                line.extend((each, f"{name}{more}", depth + 1) for each, more in _inside(value, names))


def _inside(value: Any, names: set[str]) -> Iterator[tuple[Any, str]]:
    """List what can be reached from a value in one step. Runs none of the user's code."""
    kind = type(value)
    if kind in (types.MethodType, types.BuiltinMethodType):
        yield value.__self__, ""
    elif kind is types.ModuleType:
        if value.__name__.partition(".")[0] not in _CLOSED_BOOKS:
            yield from ((vars(value)[name], f".{name}") for name in names if name in vars(value))
    elif kind in (list, tuple, set, dict, collections.deque):
        if len(value) <= 100:
            yield from ((each, "[...]") for each in (value.values() if kind is dict else tuple(value)))
    elif kind is contextlib._GeneratorContextManager or kind is contextlib._AsyncGeneratorContextManager:
        frame = getattr(value.gen, "ag_frame", None) or getattr(value.gen, "gi_frame", None)
        if frame is not None:
            yield from ((each, "") for each in frame.f_locals.values())
    elif kind is threading.Condition:
        yield value._lock, ""
    elif str(kind.__module__).partition(".")[0] not in _CLOSED_BOOKS and not isinstance(value, type):
        with contextlib.suppress(AttributeError):
            yield from ((each, f".{name}") for name, each in list(object.__getattribute__(value, "__dict__").items()))


# known holders: what to do with a thing that a dead process reached ---------------------------------------------------


def _free_lock(lock: Any, own: bool, found: Reached) -> str | None:
    if lock.locked():
        lock.release()
    return None


def _free_rlock(lock: Any, own: bool, found: Reached) -> str | None:
    if not repr(lock).startswith("<locked"):
        return None
    try:
        lock._release_save()  # Up to 3.13 from any thread; later only from the owner's.
    except RuntimeError:
        return "held a threading.RLock, which only its own thread can release"
    return None


_HOLDERS: Final[dict[Any, Free]] = {
    _LOCK: _free_lock,
    _RLOCK: _free_rlock,
    **POOLS,
}


def _kind(value: Any) -> Any:
    """Return the key of the table under which a value is found; its type if there is none."""
    kind = type(value)
    if kind in _HOLDERS:
        return kind
    return next((name for name in kinds_of(value) if name in _HOLDERS), kind)


def tag(thing: Any, life: Lifetime | None = None) -> Lifetime | None:
    """Say to which lifetime a thing belongs, or note it. None: to none."""
    if thing is not None and life is not None:
        thing.__dict__[_SECRET] = life
    owner: Lifetime | None = getattr(thing, "__dict__", {}).get(_SECRET)
    return owner


# frames -------------------------------------------------------------------------------------------------------------


def _chain(task: asyncio.Task[Any]) -> Iterator[Any]:
    """List a task's coroutine and what it awaits, inwards."""
    part: Any = task.get_coro()
    while part is not None:
        yield part
        part = getattr(part, "cr_await", None) or getattr(part, "gi_yieldfrom", None)


def stack_of(task: asyncio.Task[Any]) -> Iterator[types.FrameType]:
    """List the frames in which a task waits, outermost first, those of a greenlet that it waits for included."""
    for part in _chain(task):
        frame = getattr(part, "cr_frame", None) or getattr(part, "gi_frame", None)
        if frame is not None:
            yield frame
            if frame.f_code.co_name == "greenlet_spawn":  # SQLAlchemy's, which awaits for what stands in a greenlet.
                yield from _callers(getattr(frame.f_locals.get("context"), "gr_frame", None))


def _callers(frame: types.FrameType | None) -> list[types.FrameType]:
    frames = []
    while frame is not None:
        frames.append(frame)
        frame = frame.f_back
    return frames[::-1]


def _tracebacks(error: BaseException) -> Iterator[list[types.FrameType]]:
    """List the frames through which an exception came, and those of the exceptions behind it."""
    seen: set[int] = set()
    behind: BaseException | None = error
    while behind is not None and id(behind) not in seen:
        seen.add(id(behind))
        yield [frame for frame, _ in traceback.walk_tb(behind.__traceback__)]
        behind = behind.__cause__ or behind.__context__


def _is_ours(frame: types.FrameType) -> bool:
    return frame.f_code.co_filename.startswith(FOLDERS)


def _is_of_package(frame: types.FrameType | None) -> bool:
    """Whether the nearest code here that is not Python's own is of an installed package."""
    while frame is not None and frame.f_code.co_filename.startswith((*_LIBRARIES[:2], "<frozen")):
        if "-packages" in frame.f_code.co_filename:
            return True
        frame = frame.f_back
    return frame is not None and "-packages" in frame.f_code.co_filename and not _is_ours(frame)


def _is_of_library(thing: object) -> bool:
    """Whether a thing is of a class that the user has not written."""
    module = sys.modules.get(type(thing).__module__)
    return str(getattr(module, "__file__", "")).startswith(_LIBRARIES)


def _is_of_ended(thing: Any) -> bool:
    """Whether a thing of a library's belongs to a loop that has ended, and no pool that is given the next one."""
    if not _is_of_library(thing) or "asyncpg.Pool" in kinds_of(thing):
        return False
    try:
        return thing._loop in ENDED
    except (AttributeError, TypeError):  # It has no loop, or what it calls so is none.
        return False


def _is_library(frame: types.FrameType) -> bool:
    return frame.f_code.co_filename.startswith((*FOLDERS, *_LIBRARIES, "<frozen"))


def _of_users(frames: Iterator[types.FrameType] | list[types.FrameType]) -> list[types.FrameType]:
    """Leave out the standard library, and what the user's code did not call: a connection of the worker is its own."""
    found: list[types.FrameType] = []
    began = True
    for frame in frames:
        if _is_ours(frame):
            began = False
        began = began or not _is_library(frame)
        name = frame.f_code.co_filename
        if began and ("-packages" in name or not name.startswith((*_LIBRARIES[:2], "<frozen"))):
            found.append(frame)
    return found


def _place(frame: types.FrameType | None) -> str:
    while frame is not None:
        if not _is_library(frame):
            return f"{frame.f_code.co_filename}:{frame.f_lineno}"
        frame = frame.f_back
    return "an unknown place"


def _user_place(frames: list[types.FrameType]) -> str:
    return next((_place(frame) for frame in reversed(frames) if not _is_library(frame)), "an unknown place")


def _by_creation(task: asyncio.Task[Any]) -> tuple[int, str]:
    """Order tasks by the numbers in their names: they are held in no order."""
    return len(task.get_name()), task.get_name()


def _place_of(task: asyncio.Task[Any]) -> str:
    return _user_place(list(stack_of(task)))


def _name_in(frames: list[types.FrameType], thing: Any) -> str:
    """Call a thing what the user's code calls it."""
    kind = f"{type(thing).__module__.partition('.')[0].lstrip('_')}.{type(thing).__name__}"
    for frame in reversed(frames):
        if not _is_library(frame):
            for names in (frame.f_locals, frame.f_globals):
                for name, value in names.items():
                    if value is thing:
                        return f"{name!r} ({kind})"
    return f"its {kind}"
