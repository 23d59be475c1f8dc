"""Files: what is opened, renamed and removed, heard by CPython's audit events."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from job_harness.core.sim.lifetime import Severed
from job_harness.subjects.processors.delivery import current
from job_harness.subjects.processors.observed.account import (
    LONGEST_SHOWN,
    Observations,
    ObservedEffect,
    Source,
    Stands,
    account_of,
    as_text,
    shortened,
    unobserved,
)
from job_harness.subjects.processors.sql_statement import Nature


@dataclass(slots=True)
class _File(Source):
    """A file that was opened to be written: what was added shows in its size."""

    path: str
    effect: ObservedEffect
    size: int
    fresh: bool = True
    """Whether nothing of it has come to stand yet."""
    settled: bool = False

    def find_what_stands(self) -> bool:
        if self.settled:
            return False
        grown = max(0, self._bytes - self.size)
        if self.effect.verb == "append to":
            return bool(grown) and self._appended()
        emptied, self.fresh = self.fresh, False
        self.settled = bool(grown)  # It stands from its opening on, and once more when it is filled.
        self.effect.stands = Stands.DONE
        return emptied or bool(grown)

    def _appended(self) -> bool:
        self.settled, self.effect.stands = True, Stands.DONE
        with contextlib.suppress(OSError), unobserved(), open(self.path, "rb") as file:
            file.seek(self.size)
            self.effect.detail = shortened(as_text(file.read(4 * LONGEST_SHOWN)))
        return True

    @property
    def written(self) -> tuple[str, int]:  # type: ignore[override]  # only files have it
        return self.effect.target, self._bytes

    @property
    def _bytes(self) -> int:
        """How many it has by now; -1 where it is gone."""
        try:
            return os.stat(self.path).st_size
        except OSError:
            return -1


class Paths(Source):
    """The paths that one delivery has made, moved and removed: what it made itself, it may remove without a trace."""

    def __init__(self, observed: Observations) -> None:
        """Write down what changes in `observed`."""
        self._observed = observed
        self._temporary: set[str] = set()
        """The paths that `tempfile` has made up."""
        self._own: dict[str, bool] = {}
        """Whether what lies at a path, and below it, was made by this delivery: then its removal is no deed."""
        self._trees: dict[str, str | None] = {}
        """What `shutil.rmtree` is removing, and the deed as which it is yet to be written down."""

    def called(self, path: str) -> str:
        """Say a path as a person would, and as in every other session: it is part of the name of a gate."""
        if path in self._temporary:
            path = os.path.join(os.path.dirname(path), "a temporary file")
        for folder, name in self._observed.folders.items():
            if path.startswith(folder + os.sep):
                return name + path[len(folder) :]
        return _relative(path)

    def made_up(self, path: str) -> None:
        """Hear that `tempfile` has chosen this path, by chance."""
        self._temporary.add(path)

    def made(self, path: str) -> None:
        """Hear that something is about to be made at this path."""
        if not os.path.lexists(path):
            self._own[path] = True

    def _made_it(self, path: str) -> bool:
        return next((self._own[each] for each in _upwards(path) if each in self._own), False)

    def moved(self, name: str, target: str | None) -> None:
        """Forget what was written into a file or a folder that is gone by now, or into a temporary file."""
        for effect in self._observed.effects:
            within = effect.target == name or effect.target.startswith(name + os.sep)
            if effect.kind == "file" and effect.verb != "remove" and within:
                effect.nature = Nature.LOOKS
        if target is not None:
            self._changed("write", target)

    def _changed(self, verb: str, target: str) -> None:
        self._observed.add(ObservedEffect("file", verb, target, nature=Nature.SETS))
        self._observed.came_to_stand()

    def renamed(self, path: str, to: str) -> None:
        """Hear that this path is about to become that one."""
        if os.path.lexists(path):
            self._own[to] = self._made_it(path) and (self._made_it(to) or not os.path.lexists(to))
            self._own.pop(path, None)
            self.moved(self.called(path), self.called(to))

    def clears(self, tree: str) -> None:
        """Hear that `shutil.rmtree` begins: however much is in the tree, it is one deed."""
        self._trees[tree] = None if self._made_it(tree) else self.called(tree)

    @property
    def clearing(self) -> bool:
        """Whether `shutil.rmtree` is at work."""
        return bool(self._trees)

    def cleared_with(self, path: str) -> str | None:
        """Name the tree that `shutil.rmtree` is removing and that this path belongs to."""
        return next((each for each in _upwards(path) if each in self._trees), None)

    def removed(self, path: str) -> None:
        """Hear that this path is about to be removed."""
        there = os.path.lexists(path) and (os.path.islink(path) or not os.path.isdir(path) or not os.listdir(path))
        deed = None if self._made_it(path) or not there else self.called(path)
        tree = self.cleared_with(path)
        if tree is not None and not self._made_it(tree):
            deed = self._trees[tree] if there else None
            self._trees[tree] = None if there else self._trees[tree]
        self.moved(self.called(path), None)
        if deed is not None:
            self._changed("remove", deed)
        if path == tree:
            del self._trees[tree]


def paths_of(observed: Observations) -> Paths:
    """Return the paths of a delivery, one object for each."""
    paths = observed.source(Paths, lambda: Paths(observed))
    assert isinstance(paths, Paths)
    return paths


_NOT_OUTSIDE: Final = ("/dev/", "/proc/", "/sys/")


TOUCHED: Final[Mapping[str, tuple[tuple[int, int], ...]]] = MappingProxyType(
    {
        "os.rename": ((0, 2), (1, 3)),
        "os.remove": ((0, 1),),
        "os.rmdir": ((0, 1),),
        "os.mkdir": ((0, 2),),
        "os.chmod": ((0, 2),),
        "os.link": ((1, 3), (0, 2)),
        "os.symlink": ((1, 2),),
        "shutil.rmtree": ((0, 1),),
    }
)
"""An audit event -> which of its arguments are paths that change, and which the open folders that these start from.

What is written by the new name of a link is written by the old one, too.
"""


def touched(event: str, arguments: tuple[Any, ...]) -> list[str]:
    """List the paths that change. Raises OSError where this system does not tell which folder it is that is open."""
    folders = dict(enumerate(arguments))
    return [_located(arguments[path], folders.get(folder)) for path, folder in TOUCHED[event]]


def _located(path: Any, folder: int | None) -> str:
    name = os.fsdecode(path)
    if folder is not None and folder >= 0 and not os.path.isabs(name):
        name = os.path.join(_path_of(folder), name)
    return os.path.abspath(name)


def _path_of(folder: int) -> str:
    if sys.platform == "darwin":
        import fcntl

        return os.fsdecode(fcntl.fcntl(folder, fcntl.F_GETPATH, bytes(1024)).rstrip(b"\0"))
    return os.readlink(f"/proc/self/fd/{folder}")


def _upwards(path: str) -> Iterator[str]:
    """Name a path and each folder above it."""
    while True:
        yield path
        above = os.path.dirname(path)
        if above == path:
            return
        path = above


def hear_audit_event(event: str, arguments: tuple[Any, ...]) -> None:
    """Hear CPython's audit events. It must not raise: the caller would be told that the event is forbidden."""
    if event not in _HEARD or current() is None:
        return
    with contextlib.suppress(Exception):  # A path that is none, a folder that is gone: the call itself will say so.
        if (observed := account_of(current())) is not None:
            _HEARD[event](observed, event, arguments)


def _opened(observed: Observations, event: str, arguments: tuple[Any, ...]) -> None:
    path, mode, flags = arguments
    if isinstance(path, int):
        return
    name = os.path.abspath(os.fsdecode(path))
    mode, flags = mode if isinstance(mode, str) else "", flags if isinstance(flags, int) else 0
    verb = _file_verb(mode, flags)
    if name.startswith(_NOT_OUTSIDE) or "__pycache__" in name or os.path.isdir(name):
        return
    if verb == "read":
        if not mode and paths_of(observed).clearing and not os.path.isabs(os.fsdecode(path)):
            return  # rmtree opens a folder within the one that it is in.
        if flags & os.O_CREAT:
            paths_of(observed).made(name)
        observed.add(ObservedEffect("file", verb, paths_of(observed).called(name), nature=Nature.LOOKS))
        return
    try:
        observed.before()
    except Severed:
        return  # It goes on to its next await, as after `effect`.
    nature = Nature.ADDS if verb == "append to" and not name.endswith(".log") else Nature.SETS
    effect = ObservedEffect("file", verb, paths_of(observed).called(name), nature=nature, stands=Stands.GONE)
    size = os.stat(name).st_size if verb == "append to" and os.path.exists(name) else 0
    paths_of(observed).made(name)
    observed.add(effect)
    observed.source(id(effect), lambda: _File(name, effect, size))
    if ("w" in mode or flags & os.O_TRUNC) and (os.path.isfile(name) or ("w" in mode and not os.path.exists(name))):
        _empty(name, observed)  # What os.open is to make, it makes itself: with its own rights, or not at all.


def _empty(name: str, observed: Observations) -> None:
    """Come to the moment at which a file has been opened and is still empty.

    There is no event after an open, so its first deed is done here, and done again by the call
    itself.
    """
    with unobserved(), open(name, "ab") as file:  # FileJournal has kept it, or hears of this call first.
        file.truncate(0)
    with contextlib.suppress(Severed):  # It goes on to its next await.
        observed.before()


def _file_verb(mode: str, flags: int) -> str:
    if "a" in mode or flags & os.O_APPEND:
        return "append to"
    if "x" in mode or flags & os.O_EXCL:
        return "create"
    writes = any(letter in mode for letter in "w+") or flags & (os.O_WRONLY | os.O_RDWR)
    return "write" if writes else "read"


def _changed(observed: Observations, event: str, arguments: tuple[Any, ...]) -> None:
    paths = touched(event, arguments)
    if paths[-1].startswith(_NOT_OUTSIDE) or "__pycache__" in paths[-1]:
        return
    if paths_of(observed).cleared_with(paths[0]) is None:
        with contextlib.suppress(Severed):  # It goes on to its next await.
            observed.before()
    if event == "os.rename":
        paths_of(observed).renamed(paths[0], paths[1])
    else:
        paths_of(observed).removed(paths[0])


def _cleared(observed: Observations, event: str, arguments: tuple[Any, ...]) -> None:
    with contextlib.suppress(Severed):
        observed.before()
    paths_of(observed).clears(touched(event, arguments)[0])


def _made(observed: Observations, event: str, arguments: tuple[Any, ...]) -> None:
    paths_of(observed).made(touched(event, arguments)[0])


def _made_up(observed: Observations, event: str, arguments: tuple[Any, ...]) -> None:
    with contextlib.suppress(Severed):
        observed.before()
    path = os.path.abspath(os.fsdecode(arguments[0]))
    paths_of(observed).made_up(path)
    paths_of(observed).moved(paths_of(observed).called(path), None)


def _connects(observed: Observations, event: str, arguments: tuple[Any, ...]) -> None:
    paths_of(observed).made(os.path.abspath(os.fsdecode(arguments[0])))


_HEARD: Final[Mapping[str, Callable[[Observations, str, tuple[Any, ...]], None]]] = {
    "open": _opened,
    "os.rename": _changed,
    "os.remove": _changed,
    "os.rmdir": _changed,
    "shutil.rmtree": _cleared,
    "os.mkdir": _made,
    "os.link": _made,
    "os.symlink": _made,
    "sqlite3.connect": _connects,
    "tempfile.mkstemp": _made_up,
}


def _relative(path: str) -> str:
    """Say a path as a person would: below the working directory, from there."""
    here = os.getcwd() + os.sep
    return path.removeprefix(here)
