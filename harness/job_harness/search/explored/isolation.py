"""What keeps the runs of an explored test apart, and what they share all the same.

*fork*: each run is a forked child, made after the fixtures. Whatever the parent holds is copied, but for what cannot be
copied: its threads, its event loops, and whatever stands behind its descriptors. *rerun*: fixtures and body
are made anew in one process, as pytest makes them for any test, so that only what outlives a test is shared: the state
of modules. *copy*: the same in one forked child, which is given up, for *fork* or *rerun*, where a run leaves anything
behind in it. What is shared is found here and named. Knows neither campaigns nor how a run is judged.
"""

from __future__ import annotations

import asyncio
import errno
import gc
import inspect
import os
import shutil
import socket
import stat
import sys
import threading
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import thread as futures
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from queue import SimpleQueue
from typing import Final, NamedTuple, NoReturn, Protocol

import pytest

from job_harness.core.sim.loop import VirtualLoop
from job_harness.errors import EnvironmentUnavailable, UsageError, did_you_mean
from job_harness.subjects.processors.chance import seed_shared_generators
from job_harness.subjects.processors.module_state import ModuleState, modules_below
from job_harness.subjects.processors.observed.databases import in_transaction
from job_harness.worlds.patience import still_running

ENDING_SECONDS: Final = 1.0
"""What a thread that an earlier test has let go of may spend before it ends: see `WorkLimit`."""
HINT: Final = "repeat its fixtures and its body for each run: job_explore(isolation='rerun')"
CLOSE_IT: Final = (
    "commit before the fixture yields or returns, and close the database there, so that each run opens its own: "
    f"engine.dispose() with SQLAlchemy, connection.close() with sqlite3 and Django; or {HINT}"
)
MOST_KEPT_BYTES: Final = 64 << 20
"""Of databases that are made after each run as they were."""
BESIDE: Final = ("-journal", "-wal", "-shm")
"""How what SQLite keeps beside a database is called."""


class Isolation(StrEnum):
    """How a run is kept apart from the next."""

    FORK = "fork"
    RERUN = "rerun"
    COPY = "copy"


def isolation_of(item: pytest.Function, *, marked: object) -> Isolation:
    """Return what the marker says, or the ini file, or what this system and this test can do.

    Raises UsageError for an unknown isolation, and for a fork where the platform has none.
    """
    asked = marked or item.config.getini("job_isolation")
    if asked:
        known = [each.value for each in Isolation]
        if asked not in known:
            raise UsageError(
                f"job_explore: there is no isolation {asked!r}{did_you_mean(str(asked), known)}",
                hint="Available: copy, fork, rerun.",
            )
        if asked == Isolation.COPY and not is_simple(item):
            raise UsageError(
                "job_explore: isolation='copy' knows no skipif or xfail, no caplog, and no hook of a conftest.py",
                hint="Write isolation='fork', or 'rerun'.",
            )
        if asked != Isolation.RERUN and not hasattr(os, "fork"):
            raise UsageError("job_explore: this system cannot fork", hint="Write isolation='rerun'.")
        return Isolation(str(asked))
    # macOS forks, but its own libraries refuse to work in the child; a coroutine runs on a loop of the parent.
    plain = hasattr(os, "fork") and sys.platform != "darwin" and not inspect.iscoroutinefunction(item.function)
    if not plain:
        return Isolation.RERUN
    own = hasattr(item, "callspec") and item.callspec.params.get("job_harness", "memory") != "memory"
    return Isolation.COPY if not own and is_simple(item) and not has_wider_fixtures(item) else Isolation.FORK


def unforkable_threads(before: Collection[threading.Thread]) -> str:
    """Say which threads run that were started since `before`: a child has none of them, and perhaps their locks."""
    here = threading.current_thread()
    others = [one for one in threading.enumerate() if one is not here and one not in before]
    idle = {thread for pool in idle_pools() for thread in pool._threads} if others else set()
    others = [one for one in others if one not in idle]
    # That of a loop's executor ends some time after its loop was closed by the test before; or it hangs, in what that
    # test gave it, and no other test can ask it for anything.
    names = [repr(one.name) for one in still_running(others, seconds=ENDING_SECONDS) if one not in VirtualLoop.outlived]
    if not names:
        return ""
    many = "threads run" if len(names) > 1 else "a thread runs"
    return f"{many} beside this test, which a forked child does not have: {', '.join(names)}; {HINT}"


def idle_pools() -> list[ThreadPoolExecutor]:
    """Return the pools of threads whose threads all wait for work, such as the one in which Django runs its ORM."""
    pools = [one for one in gc.get_objects() if type(one) is ThreadPoolExecutor] if futures._threads_queues else []
    return [each for each in pools if each._work_queue.empty() and each._idle_semaphore._value >= len(each._threads)]


# what a forked child shares -------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Inherited:
    """The descriptors, event loops and pools of threads that a child gets from its parent."""

    descriptors: dict[int, str]
    """Sockets and pipes, by what a person calls them."""
    files: dict[int, str]
    """Files that can be written, with their paths."""
    loops: list[asyncio.AbstractEventLoop]
    pools: list[ThreadPoolExecutor]
    _ours: dict[int, socket.socket] = field(default_factory=dict)
    """In the child: the far ends of what stands in for the descriptors."""
    _before: dict[int, tuple[int, ...]] = field(default_factory=dict)
    _refused: list[str] = field(default_factory=list)

    @classmethod
    def look_at(cls, *, own: Collection[int], opened: Collection[tuple[int, int, int]] = ()) -> Inherited:
        """Look at this process; `own` are descriptors that the harness makes anew in a child.

        `opened` was open before any test: pytest's own standard output, for one, which others write to as well.
        """
        descriptors, files = {}, {}
        for descriptor in open_descriptors():
            if descriptor in own or descriptor < 3:
                continue
            with suppress(OSError):
                found = os.fstat(descriptor)
                if (descriptor, found.st_dev, found.st_ino) in opened:
                    continue
                mode = found.st_mode
                if stat.S_ISSOCK(mode):
                    descriptors[descriptor] = _called(descriptor)
                elif stat.S_ISREG(mode) and (path := _writable(descriptor)):
                    files[descriptor] = path
        loops = [one for one in gc.get_objects() if _is_loop(one)]
        return cls(descriptors, files, [one for one in loops if not one.is_closed()], idle_pools())

    def keep_databases(self) -> KeptDatabases:
        """Let runs use the databases of SQLite that fixtures have open; with what is returned each finds them as now.

        Not where a transaction is open: its locks are the parent's, and no child could commit.
        """
        open_there = {descriptor: _database(path) for descriptor, path in self.files.items() if _is_sqlite(path)}
        kept = frozenset(open_there.values())
        sizes = sum(path.stat().st_size for each in kept for path in _with_beside(each) if path.exists())
        if sizes > MOST_KEPT_BYTES or in_transaction():
            kept = frozenset()
        self.files = {each: path for each, path in self.files.items() if open_there.get(each) not in kept}
        return KeptDatabases(kept)

    def cut(self) -> None:
        """In the child: put a socket that leads nowhere in the place of each, and refuse the parent's loops.

        An idle pool, whose threads stay with the parent, makes new ones for the work that it gets.
        """
        for pool in self.pools:
            pool._threads, pool._idle_semaphore, pool._work_queue = set(), threading.Semaphore(0), SimpleQueue()
        for descriptor in self.descriptors:
            with suppress(OSError):
                kind = socket.socket(fileno=os.dup(descriptor))
                with kind:
                    dgram = kind.type == socket.SOCK_DGRAM
                near, far = socket.socketpair(type=socket.SOCK_DGRAM if dgram else socket.SOCK_STREAM)
                far.setblocking(False)
                if not dgram:
                    far.shutdown(socket.SHUT_WR)  # code that waits for an answer is told that none will come
                os.set_blocking(near.fileno(), os.get_blocking(descriptor))
                os.dup2(near.fileno(), descriptor, inheritable=False)
                near.close()
                self._ours[descriptor] = far
        self._before = {descriptor: _position(descriptor) for descriptor in self.files}
        for loop in self.loops:
            with suppress(AttributeError):  # a loop written in C may have no place for it
                loop.run_forever = self._refuse  # type: ignore[method-assign]

    def _refuse(self) -> NoReturn:
        self._refused.append("an event loop that the parent made")
        raise RuntimeError(f"this event loop belongs to the parent of a forked run; {HINT}")

    def used(self) -> str:
        """In the child: say what of the parent's the run has used; empty where it used nothing."""
        names = [self.descriptors[descriptor] for descriptor, far in self._ours.items() if _is_released(far)]
        files = [path for each, path in self.files.items() if _position(each) != self._before.get(each)]
        names += [f"the file {path}" for path in files]
        if not (names := list(dict.fromkeys([*names, *self._refused]))):
            return ""
        cure = CLOSE_IT if any(map(_is_sqlite, files)) else HINT
        return f"it uses {', '.join(names)}, opened before the fork and shared with the parent; {cure}"


def _is_loop(one: object) -> bool:
    return issubclass(type(one), asyncio.AbstractEventLoop) and type(one) is not VirtualLoop


def open_descriptors() -> list[int]:
    """List what this process has open, where the system tells."""
    for folder in ("/proc/self/fd", "/dev/fd"):
        with suppress(OSError):
            return sorted(int(name) for name in os.listdir(folder))
    return []


def _called(descriptor: int) -> str:
    with socket.socket(fileno=os.dup(descriptor)) as one:
        for ask, word in ((one.getpeername, "to"), (one.getsockname, "at")):
            with suppress(OSError):
                address = ask()
                if address:
                    told = ":".join(map(str, address[:2])) if isinstance(address, tuple) else str(address)
                    return f"the socket {word} {told}"
    return f"the socket pair on descriptor {descriptor}"


def _writable(descriptor: int) -> str:
    """Return the path of a file that runs could write over; empty for a log, which grows, and for captured output."""
    import fcntl  # not on Windows, which does not fork

    flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
    if flags & os.O_ACCMODE == os.O_RDONLY or flags & os.O_APPEND:
        return ""
    with suppress(OSError):
        path = os.readlink(f"/proc/self/fd/{descriptor}")
        return "" if path.endswith(" (deleted)") else path
    return f"on descriptor {descriptor}"


def _position(descriptor: int) -> tuple[int, ...]:
    try:
        found = os.fstat(descriptor)
        return (os.lseek(descriptor, 0, os.SEEK_CUR), found.st_size, found.st_mtime_ns)
    except OSError:
        return ()


def _is_sqlite(path: str) -> bool:
    """Whether a file is a database of SQLite, or what SQLite keeps beside one."""
    with suppress(OSError), open(_database(path), "rb") as file:
        return file.read(16) == b"SQLite format 3\0"
    return False


def _database(path: str) -> Path:
    """Return the database that a file belongs to."""
    return Path(next((path.removesuffix(end) for end in BESIDE if path.endswith(end)), path))


def _with_beside(database: Path) -> list[Path]:
    return [database, *(database.with_name(database.name + end) for end in BESIDE)]


def _is_released(far: socket.socket) -> bool:
    try:
        return bool(far.recv(1))
    except OSError as error:
        return error.errno not in (errno.EAGAIN, errno.EWOULDBLOCK, errno.ECONNRESET)


class Kept(Protocol):
    """What lies outside a forked run and is kept as it is now."""

    def restore(self) -> None:
        """Make it so again. Raises EnvironmentUnavailable where that cannot be done."""


class KeptFolder:
    """A folder as it is now, to be made so again: each forked run finds `tmp_path` as the fixtures left it.

    Only what has changed is touched, so that a file which a fixture holds open stays the same file.
    """

    def __init__(self, folder: Path) -> None:
        """Read the folder. What is neither a file, a folder nor a link is left alone."""
        self._folder = folder
        self._there = frozenset(folder.rglob("*"))
        self._copies = {path: _Copy.of(path) for path in sorted(self._there) if _is_plain(path)}

    def restore(self) -> None:
        """Make it so again. Raises EnvironmentUnavailable where what a run left cannot be taken away."""
        try:
            for path in sorted(self._folder.rglob("*"), reverse=True):  # what is in a folder goes before it
                if path not in self._there:
                    path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
            for path, copy in self._copies.items():
                copy.put_back(path)
        except OSError as error:
            told = f"what a run left in tmp_path is in the way of the next one: {error}"
            raise EnvironmentUnavailable(told, hint=f"{HINT[0].upper()}{HINT[1:]}.") from None


class KeptDatabases:
    """SQLite's databases as they are now, to be made so again: then each run may use a connection of a fixture's.

    A fork is no harm to such a connection as long as only one process works at a time. What a run
    has locked is free once it ends, and what the parent remembers of the file is true again once
    the file is as it was.
    """

    def __init__(self, databases: Collection[Path]) -> None:
        """Read them, and what SQLite keeps beside them."""
        paths = [path for database in databases for path in _with_beside(database)]
        self._copies = {path: _Copy.of(path) if path.exists() else None for path in paths}

    def restore(self) -> None:
        """Make them so again. Raises EnvironmentUnavailable where a file cannot be written."""
        try:
            for path, copy in self._copies.items():
                if copy is not None:
                    copy.put_back(path)
                else:
                    path.unlink(missing_ok=True)
        except OSError as error:
            told = f"what a run left in a database of SQLite is in the way of the next one: {error}"
            raise EnvironmentUnavailable(told, hint=f"{HINT[0].upper()}{HINT[1:]}.") from None


class _Copy(NamedTuple):
    """What one path was: a folder, a link to `target`, or a file with `content`."""

    mode: int
    size: int
    changed: int
    target: str = ""
    content: bytes = b""

    @classmethod
    def of(cls, path: Path) -> _Copy:
        found = path.lstat()
        signature = found.st_mode, found.st_size, found.st_mtime_ns
        if stat.S_ISLNK(found.st_mode):
            return cls(*signature, target=os.readlink(path))
        return cls(*signature, content=path.read_bytes() if stat.S_ISREG(found.st_mode) else b"")

    def put_back(self, path: Path) -> None:
        found = path.lstat() if os.path.lexists(path) else None
        if found is not None and stat.S_IFMT(found.st_mode) != stat.S_IFMT(self.mode):
            shutil.rmtree(path) if stat.S_ISDIR(found.st_mode) else path.unlink()
            found = None
        if stat.S_ISLNK(self.mode):
            if found is None or os.readlink(path) != self.target:
                path.unlink(missing_ok=True)
                path.symlink_to(self.target)
        elif stat.S_ISDIR(self.mode):
            path.mkdir(exist_ok=True)
            path.chmod(stat.S_IMODE(self.mode))
        elif found is None or (found.st_mode, found.st_size, found.st_mtime_ns) != self[:3]:
            path.write_bytes(self.content)
            path.chmod(stat.S_IMODE(self.mode))
            os.utime(path, ns=(self.changed, self.changed))


def _is_plain(path: Path) -> bool:
    mode = path.lstat().st_mode
    return stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_ISLNK(mode)


# what a rerun shares --------------------------------------------------------------------------------------------------


_CHEAP: Final = ("_pytest", "pytest_asyncio", "anyio")
"""Plugins whose fixtures of a wider scope hold nothing that costs anything to make."""
_OF_DATABASE: Final = ("_job_postgres_of_session", "job_postgres_schema")
"""What stands behind `job_postgres`: made before a process is copied, and the database is put back after each run."""


def has_wider_fixtures(item: pytest.Function) -> bool:
    """Whether a test uses fixtures that are made once for a module or a session. pytest's own names, 7 to 9."""
    used = {name: found[-1] for name, found in item._fixtureinfo.name2fixturedefs.items() if found}
    wider = (each for name, each in used.items() if each.scope != "function" and name not in _OF_DATABASE)
    return any(str(each.func.__module__).partition(".")[0] not in _CHEAP for each in wider)


class Rerunner:
    """Plays a test's whole protocol in this process: function-scoped fixtures, body, teardown, all anew each time."""

    def __init__(self, item: pytest.Function, *, forget: Callable[[], None]) -> None:
        """Play `item`; `forget` is called after each run, for what pytest keeps of it elsewhere."""
        self._item = item
        self._forget = forget
        self._first = self.state()
        self.uncalled: list[pytest.TestReport] = []
        """The reports of a run whose fixtures failed or were skipped."""

    def state(self) -> ModuleState:
        """Read the state of the project's modules now."""
        return ModuleState(modules_below(self._item.config.rootpath))

    def left_behind(self) -> list[str]:
        """Name what the runs so far have changed in modules."""
        return self.state().changed(self._first)

    def report_uncalled(self) -> None:
        """Let pytest report the run whose fixtures failed as the test's own: such fixtures are not asked twice."""
        hook, item = self._item.ihook, self._item
        hook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        for report in self.uncalled:
            hook.pytest_runtest_logreport(report=report)
        hook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)

    def play(self) -> str:
        """Play once, and return why the test was not called; empty where it was. What is reported of it is dropped."""
        from _pytest.runner import runtestprotocol  # what plugins that run a test again use, 7 to 9

        item = self._item
        sections, properties = len(item._report_sections), len(item.user_properties)
        # The parent as the next item: then all that belongs to the item alone is torn down, and nothing wider.
        reports = runtestprotocol(item, log=False, nextitem=item.parent)  # type: ignore[arg-type]
        del item._report_sections[sections:]
        del item.user_properties[properties:]
        self._forget()
        setup = reports[0]
        if setup.passed:
            return ""
        self.uncalled = reports
        return f"its fixtures {'are skipped' if setup.skipped else 'fail'}"

    def make_wider(self, use: Callable[[], None]) -> None:
        """Make the fixtures of the test, `use` them, and take down those that belong to it alone."""
        state, item = self._item.session._setupstate, self._item
        item._initrequest()
        try:
            state.setup(item)
            use()
        finally:
            with suppress(Exception):  # `tmp_path` asks what was reported of the test, and nothing was.
                state.teardown_exact(item.parent)  # type: ignore[arg-type]
            item._request, item.funcargs = False, None  # type: ignore[assignment]

    def call(self) -> str:
        """Play once as `play` does, without pytest's hooks, which capture and report: for what `is_simple`."""
        item = self._item
        item._initrequest()
        os.environ["PYTEST_CURRENT_TEST"] = f"{item.nodeid} (call)"
        before, made = seed_shared_generators(), False
        try:
            item.session._setupstate.setup(item)
            made = True
            item.runtest()
        except (Exception, pytest.skip.Exception, pytest.fail.Exception) as error:  # noqa: BLE001 - of fixtures, any
            return "" if made else f"its fixtures fail: {type(error).__name__}: {error}"
        finally:
            with suppress(Exception):  # As what is reported of it.
                item.session._setupstate.teardown_exact(item.parent)  # type: ignore[arg-type]
            before.put_back()
            os.environ.pop("PYTEST_CURRENT_TEST", None)
            item._request, item.funcargs = False, None  # type: ignore[assignment]
            self._forget()
        return ""


_HOOKS: Final = ("pytest_runtest_setup", "pytest_runtest_call", "pytest_runtest_teardown")
_KNOWN: Final = (
    "_pytest",
    "job_harness",
    "pytest_asyncio",
    "anyio",
    "xdist",
    "pytest_cov",
    "_hypothesis",
    "langsmith",
    "pytest_timeout",
)
"""Plugins whose hooks around a test change nothing in it; `caplog` alone needs one of them."""


def is_simple(item: pytest.Function) -> bool:
    """Whether nothing but its fixtures has a part in a test: no hook of a conftest's, or of a plugin's, and no mark."""
    impls = [impl for name in _HOOKS for impl in getattr(item.ihook, name).get_hookimpls()]
    judged = (
        any(item.get_closest_marker(name) for name in ("skip", "skipif", "xfail", "langsmith"))
        or "caplog" in item.fixturenames
    )
    return not judged and all(impl.function.__module__.startswith(_KNOWN) for impl in impls)
