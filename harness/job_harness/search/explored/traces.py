"""What a run has left in a process that is to play the next one as well.

Plain data of the project's modules is put back as it was. All else is named, and the runs of such a
test are forked instead. What events report (files, processes) is heard as it happens, with its
line. What stays as it is (a handler, a thread, a patched library) is looked for when that is asked:
nothing of a run counts before, so to see it late is early enough. What neither sees, such as a
cache in a library, shows where a run is compared with the same one in a process of its own. Knows
no campaign, and how no run is played.
"""

from __future__ import annotations

import asyncio
import contextvars
import encodings
import functools
import gc
import locale
import logging
import operator
import os
import resource
import signal
import socket
import sys
import tempfile
import threading
import time
import warnings
from asyncio import events
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from copy import deepcopy
from pathlib import Path
from types import CellType, FunctionType, ModuleType
from typing import Any, Final, NamedTuple

from job_harness.search.explored.isolation import open_descriptors
from job_harness.subjects.processors.contract.restored_files import CHANGING, changed_paths
from job_harness.subjects.processors.leak_detector import user_line
from job_harness.subjects.processors.module_state import DEEPEST, ModuleState, is_installed, is_plain, loaded_modules
from job_harness.worlds.patience import still_running

GRACE_SECONDS: Final = 1.0
"""What a thread of a run may spend before it ends, as ours do soon after it: see `WorkLimit`."""
STARTS: Final = frozenset({"subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn", "os.system", "os.exec"})
"""Events of processes that are started: they go on by themselves."""
_HEARD: Final = STARTS.union(CHANGING)
CURRENT: Final = "PYTEST_CURRENT_TEST"
_Policy: Final[Any] = getattr(asyncio, "_DefaultEventLoopPolicy", None) or asyncio.DefaultEventLoopPolicy
_OURS: Final = frozenset({signal.SIGURG})
"""The signal of the watchdog."""


class Loads(Exception):
    """A run has loaded modules of the project: what they held then is not known."""

    def __init__(self, modules: tuple[str, ...]) -> None:
        super().__init__(modules)
        self.modules = modules


class Traces:
    """Knows how a process was before its first run, and what a run has changed since."""

    def __init__(self, *, own: Path | None) -> None:
        """Look at this process; below `own` each run makes folders of its own."""
        self._own = None if own is None else os.path.realpath(own)
        self._modules = loaded_modules()
        self._kept = [kept for module in self._modules.values() for kept in _plain_data_of(module)]
        self._state = ModuleState(self._modules)
        self._codecs = _search_functions()
        self._foreign = _foreign(self._modules)
        self._threads = threading.enumerate()
        self._surroundings = self._look_around()
        self._paths: dict[str, tuple[bool, str]] = {}
        """What was written, renamed or removed -> whether it was there before, and at which line that was."""
        self._made: list[str] = []
        """Folders of the run's own."""
        self._started = ""
        self._listens = False
        sys.addaudithook(self._hear)

    def begin(self) -> None:
        """Listen to a run."""
        self._paths.clear()
        self._made.clear()
        self._listens = True

    def end(self) -> str:
        """Put plain data back, and say what was heard of the run that has ended; empty where it was nothing."""
        self._listens = False
        for kept in self._kept:
            kept.put_back()
        left = (
            f"changes {path} at {line}" for path, (was, line) in self._paths.items() if was or os.path.lexists(path)
        )
        return self._started or next(left, "")

    def look(self) -> str:
        """Say what the runs so far have left; empty where that is nothing. Raises Loads."""
        loaded = loaded_modules()
        if new := tuple(name for name in loaded if name not in self._modules):
            raise Loads(new)
        if changed := ModuleState(self._modules).changed(self._state):
            return f"changes {changed[0]}"
        here = self._look_around()
        differing = (name for name, value in here.items() if value != self._surroundings.get(name))
        if (name := next(differing, "")) or (name := next(self._patched(), "")):
            return f"changes {name}"
        return ""

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self._listens or event not in _HEARD:  # Of the others there are thousands in a run.
            return
        if event in STARTS:
            self._started = f"starts a process at {user_line(sys._getframe(1))}"
            return
        self._listens = False  # To look at a path may be heard as well.
        try:
            for path in changed_paths(event, arguments):
                self._change(event, path)
        except Exception:  # noqa: BLE001 - a path may be anything that a user's code hands over
            return
        finally:
            self._listens = True

    def _change(self, event: str, path: str) -> None:
        if path.startswith(("/dev/", "/proc/")) or "__pycache__" in path or path in self._paths:
            return
        is_new = not os.path.lexists(path)
        if os.path.dirname(path) == self._own:
            if event == "os.mkdir" and is_new:
                self._made.append(path + os.sep)
        elif not path.startswith(tuple(self._made)):
            self._paths[path] = (not is_new, user_line(sys._getframe(2)))

    def _look_around(self) -> dict[str, object]:
        """Read what belongs to the process as a whole, by what a person calls it."""
        still_running([each for each in threading.enumerate() if each not in self._threads], seconds=GRACE_SECONDS)
        threads = {thread.name: thread.ident for thread in threading.enumerate()}
        loggers = [logging.root, *logging.root.manager.loggerDict.values()]
        made = (each for each in loggers if isinstance(each, logging.Logger))
        limits = (getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_"))
        decimal, processes = sys.modules.get("decimal"), sys.modules.get("multiprocessing")
        return {
            **{f"os.environ[{name!r}]": value for name, value in os.environ.items() if name != CURRENT},
            "the variables of its environment": os.environ.keys() - {CURRENT},
            "the working directory": os.getcwd(),
            "the umask": (mask := os.umask(0o077), os.umask(mask)),
            "the handler of a signal": {each: signal.getsignal(each) for each in signal.valid_signals() - _OURS},
            "a timer of the process": [signal.getitimer(kind)[1] for kind in (0, 1, 2)],
            "the threads": threads,
            "the open descriptors": open_descriptors(),
            "the registered codecs": [len(each) for each in self._codecs],
            "the policy of asyncio": type(events._event_loop_policy or _Policy()),  # type: ignore[attr-defined]
            "sys.path": tuple(sys.path),
            "sys.meta_path": [each for each in sys.meta_path if not type(each).__module__.startswith("job_harness.")],
            "the filters of warnings": tuple(warnings.filters),
            "the recursion limit": sys.getrecursionlimit(),
            "the switch interval": sys.getswitchinterval(),
            "the default timeout of sockets": socket.getdefaulttimeout(),
            "tempfile.tempdir": tempfile.tempdir,
            "the context of decimal": decimal and repr(decimal.getcontext().copy()).partition("flags")[0],
            "the locale": locale.setlocale(locale.LC_ALL),
            "the time zone": time.tzname,
            "the trace function": (sys.gettrace(), sys.getprofile()),
            "the hooks for exceptions": (sys.excepthook, threading.excepthook, sys.unraisablehook),
            "a standard stream": tuple(map(id, (sys.stdin, sys.stdout, sys.stderr))),
            "the loggers": {each.name: _settings(each) for each in made if _is_set(each)},
            "the garbage collector": (gc.isenabled(), gc.get_threshold()),
            "a limit of the process": [resource.getrlimit(kind) for kind in limits],
            "the priority of the process": os.getpriority(os.PRIO_PROCESS, 0),
            "the start method of multiprocessing": processes and processes.get_start_method(allow_none=True),
            "a context variable": {var.name: id(value) for var, value in contextvars.copy_context().items()},
        }

    def _patched(self) -> Iterator[str]:
        """Name what of a library is the project's own by now."""
        for space in self._foreign:
            for name, value in space.changed():
                if _is_made_by(self._modules, value):
                    yield f"{space.name}.{name}"


def _settings(logger: logging.Logger) -> object:
    return (logger.level, logger.disabled, logger.propagate, tuple(map(id, logger.handlers)))


def _is_set(logger: logging.Logger) -> bool:
    """Whether a logger is not as it is made, and no library's own, which sets it once for its process."""
    is_library = is_installed(sys.modules.get(logger.name.partition(".")[0]))
    return not is_library and _settings(logger) != (logging.NOTSET, False, True, ())


def _search_functions() -> list[list[object]]:
    """Return the interpreter's own list of codecs, which no function tells: where the first of them stands."""
    return [each for each in gc.get_referrers(encodings.search_function) if type(each) is list]


class _Namespace(NamedTuple):
    """What a module or a class that is not the project's holds, as it was."""

    name: str
    held: Mapping[str, object]
    before: tuple[object, ...]

    def changed(self) -> Iterator[tuple[str, object]]:
        """Return what it holds now and did not hold then."""
        if len(self.held) == len(self.before) and all(map(operator.is_, self.held.values(), self.before)):
            return
        known = set(map(id, self.before))
        yield from ((name, value) for name, value in list(self.held.items()) if id(value) not in known)


def _foreign(own: Mapping[str, ModuleType]) -> list[_Namespace]:
    """Read all other modules, and their classes."""
    found = []
    for name, module in list(sys.modules.items()):
        if type(module) is ModuleType and name not in own and name != "__main__":
            spaces: dict[str, Mapping[str, object]] = {name: vars(module)}
            kinds = [each for each in vars(module).values() if isinstance(each, type) and each.__module__ == name]
            spaces |= {f"{name}.{kind.__name__}": vars(kind) for kind in kinds}
            found += [_Namespace(each, held, tuple(held.values())) for each, held in spaces.items()]
    return found


def _is_made_by(modules: Mapping[str, ModuleType], value: object) -> bool:
    """Whether code of these modules has made something: a function, a class, an object of such a class, a partial."""
    while isinstance(value, functools.partial):
        value = value.func
    value = getattr(value, "__func__", value)
    home = value.__module__ if isinstance(value, FunctionType | type) else type(value).__module__
    return home in modules or home == "unittest.mock"


# plain data -----------------------------------------------------------------------------------------------------------


class _Kept(NamedTuple):
    """A value of plain data, as it was, and how another one is put in its place."""

    now: Callable[[], object]
    put: Callable[[object], object]
    value: Any
    before: Any

    def put_back(self) -> None:
        """Let it be as it was, each container the one that it was."""
        with suppress(AttributeError, KeyError, ValueError):  # a cell is empty now, an attribute is gone: put anew
            if self.now() is self.value and self.value == self.before:
                return
        value, before = self.value, deepcopy(self.before)
        if isinstance(value, list):
            value[:] = before
        elif isinstance(value, dict | set):
            value.clear()
            value.update(before)
        elif isinstance(value, deque):
            value.clear()
            value.extend(before)
        self.put(value)


def _plain_data_of(module: ModuleType) -> Iterator[_Kept]:
    """Find the plain data of a module: its own, that of its classes and objects, and what its functions close over."""
    for name, value in list(vars(module).items()):
        if name.startswith(("__", "@")):
            continue
        if is_plain(value, DEEPEST):
            yield _kept_in(vars(module), name, value)
        elif isinstance(value, type) and value.__module__ == module.__name__:
            for each, held in list(vars(value).items()):
                if not each.startswith("__") and is_plain(held, DEEPEST):
                    put = functools.partial(type.__setattr__, value, each)
                    yield _Kept(functools.partial(vars(value).__getitem__, each), put, held, deepcopy(held))
        elif isinstance(value, FunctionType):
            for cell in value.__closure__ or ():
                yield from _plain_data_in(cell)
            for each in value.__defaults__ or ():
                if is_plain(each, DEEPEST):
                    yield _Kept(functools.partial(_same, each), _drop, each, deepcopy(each))
        elif isinstance(value, functools._lru_cache_wrapper):
            if not value.cache_info().currsize:
                yield _kept_empty(value)
        elif type(value).__module__ == module.__name__ and type(getattr(value, "__dict__", None)) is dict:
            own = value.__dict__
            yield from (_kept_in(own, each, held) for each, held in list(own.items()) if is_plain(held, DEEPEST))


def _kept_empty(cache: functools._lru_cache_wrapper[Any]) -> _Kept:
    return _Kept(lambda: cache.cache_info().currsize, lambda _: cache.cache_clear(), 0, 0)


def _same(value: object) -> object:
    return value


def _drop(_: object) -> None: ...


def _kept_in(held: dict[str, object], name: str, value: object) -> _Kept:
    return _Kept(
        functools.partial(held.__getitem__, name), functools.partial(held.__setitem__, name), value, deepcopy(value)
    )


def _plain_data_in(cell: CellType) -> Iterator[_Kept]:
    with suppress(ValueError):  # it is empty
        if is_plain(value := cell.cell_contents, DEEPEST):
            yield _Kept(
                lambda: cell.cell_contents, lambda new: setattr(cell, "cell_contents", new), value, deepcopy(value)
            )
