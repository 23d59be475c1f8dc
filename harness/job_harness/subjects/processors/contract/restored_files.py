"""Puts back what a try has done to files, so that the next one finds the folder as the first did.

In the child, audit events tell which path is about to change; a file is copied first, a folder and
a link noted, and the move of a folder too. The parent reads this journal backwards after the child
has ended, however it ended, and undoes each line. What a library opens in C is not heard of, but
for SQLite's databases; nor what another process does, nor a file that is opened relative to a
folder's descriptor: no event names the folder. A folder of its own for each try would do less: a
processor may read templates from the working directory, and write to an absolute path.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import stat
import sys
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from job_harness.subjects.processors.observed import watch
from job_harness.subjects.processors.observed.account import unobserved
from job_harness.subjects.processors.observed.databases import in_transaction
from job_harness.subjects.processors.observed.files import touched

JOURNAL: Final = "files.jsonl"
MOST_BYTES: Final = 64 * 2**20
"""Of one file; a larger one is put back where it was moved, but not where it was written or removed."""
_BESIDE: Final = ("", "-wal", "-shm", "-journal")
"""What SQLite keeps beside a database."""
_NOT_FILES: Final = ("/dev/", "/proc/", "/sys/")


class FileJournal:
    """Remembers, in the child, how each path was before it was touched."""

    def __init__(self, folder: Path) -> None:
        """Keep copies and the journal in this folder, which is left alone itself."""
        self._folder = os.path.realpath(folder)
        self._known: set[str] = set()
        """What the journal has; a move begins it anew, for the same path is another thing then."""
        self._copies = 0
        self._busy = False

    def begin(self) -> None:
        """Listen from here on, to the end of the process or of this journal; one at a time."""
        watch()  # It hears first: at the moment that it comes to, another delivery may change the same files.
        _LISTENING[:] = [self]
        if not _HOOKED:
            _HOOKED.append(os.getpid())
            sys.addaudithook(_hear)  # It can never be taken away again.

    def keep_databases(self, paths: Iterable[str]) -> None:
        """Keep databases that are open already, whose connections may be used without opening them again."""
        for path in paths:
            self.hear("sqlite3.connect", (path,))

    def end(self) -> None:
        """Listen no more."""
        _LISTENING.clear()

    def hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Keep what this event is about."""
        if self._busy:
            return
        self._busy = True  # Copying opens files as well.
        try:
            with unobserved():
                paths = changed_paths(event, arguments)
                for path in paths:
                    self._keep(path, moved=event == "os.rename" and path == paths[0])
                if event == "os.rename" and self._heeds(paths[0]) and _moves_whole(paths[0]):
                    self._write("moved", *paths)
                    self._known.clear()
        except OSError as error:
            with contextlib.suppress(OSError):
                self._write("lost", os.fsdecode(arguments[0]), str(error), None)
        except Exception:  # noqa: BLE001 - a path may be anything that a user's code hands over
            return  # The caller is told what is wrong with the path by its own call.
        finally:
            self._busy = False

    def _heeds(self, path: str) -> bool:
        return not path.startswith((*_NOT_FILES, f"{self._folder}{os.sep}")) and "__pycache__" not in path

    def _keep(self, path: str, *, moved: bool) -> None:
        if path in self._known or not self._heeds(path) or (moved and _moves_whole(path)):
            return
        self._known.add(path)
        if not os.path.lexists(path):
            self._write("nothing", path)
        elif os.path.islink(path):
            self._write("link", path, os.readlink(path))
        elif os.path.isdir(path):
            self._write("folder", path, stat.S_IMODE(os.stat(path).st_mode))
        elif os.path.isfile(path):
            self._copy(path)

    def _copy(self, path: str) -> None:
        why = f"it is larger than {MOST_BYTES} bytes"
        if os.path.getsize(path) <= MOST_BYTES:
            self._copies += 1
            copy = os.path.join(self._folder, f"file-{os.getpid()}-{self._copies}")
            try:
                shutil.copy2(path, copy)
            except OSError as error:
                why = str(error)
            else:
                self._write("file", path, copy)
                return
        self._write("lost", path, why, _signature(path))

    def _write(self, *line: object) -> None:
        with open(os.path.join(self._folder, JOURNAL), "a", encoding="utf-8") as journal:
            journal.write(json.dumps(line) + "\n")


def _signature(path: str) -> list[int]:
    found = os.stat(path)
    return [found.st_size, found.st_mtime_ns]


def _real(path: str) -> str:
    """Name a path without links in the folders above it: one that is replaced would lead elsewhere afterwards."""
    above, name = os.path.split(path)
    return os.path.join(os.path.realpath(above), name)


def _moves_whole(path: str) -> bool:
    """Whether a move is undone by another move: nothing of a folder can be copied in time, nor of a large file."""
    if not os.path.lexists(path) or os.path.islink(path):
        return False
    return not os.path.isfile(path) or os.path.getsize(path) > MOST_BYTES


_LISTENING: Final[list[FileJournal]] = []
_HOOKED: Final[list[int]] = []


def open_databases() -> list[str]:
    """List SQLite's databases that this process has open; none where a transaction is, which a child cannot end."""
    if "sqlite3" not in sys.modules:
        return []
    found = []
    with contextlib.suppress(OSError):  # Linux alone says what a descriptor leads to.
        for name in os.listdir("/proc/self/fd"):
            with contextlib.suppress(OSError):
                path = os.readlink(f"/proc/self/fd/{name}")
                if os.path.isfile(path) and _begins_as_sqlite(path):
                    found.append(path)
    return sorted(set(found)) if found and not in_transaction() else []


def _begins_as_sqlite(path: str) -> bool:
    with open(path, "rb") as file:
        return file.read(16) == b"SQLite format 3\0"


def _hear(event: str, arguments: tuple[Any, ...]) -> None:
    if event in CHANGING and _LISTENING:
        _LISTENING[0].hear(event, arguments)


# afterwards -----------------------------------------------------------------------------------------------------------


def put_back(folder: Path) -> None:
    """Put back what the journal in this folder names; files and folders that there had not been are removed.

    Warns of what cannot be put back.
    """
    journal = folder / JOURNAL
    if not journal.exists():
        return
    lost = {}
    for line in reversed(journal.read_text(encoding="utf-8").splitlines()):
        with contextlib.suppress(ValueError):  # A last line may be cut: nothing had been done yet.
            kind, path, *how = json.loads(line)
            try:
                _UNDO[kind](path, *how)
            except OSError as error:
                lost[path] = str(error)
    journal.unlink()
    if lost:
        told = "; ".join(f"{path} ({why})" for path, why in lost.items())
        warnings.warn(f"not put back as it was before a try of the processor: {told}", stacklevel=2)


def _remove(path: str) -> None:
    """Remove what had not been there."""
    if os.path.isdir(path) and not os.path.islink(path):
        with contextlib.suppress(OSError):
            os.rmdir(path)  # It stays where something is in it that was not heard of.
    elif os.path.lexists(path):
        os.unlink(path)


def _make_room(path: str, *, keep: bool) -> None:
    """Remove what is in the place of something else; `keep` where it is to be used again."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    if keep or not os.path.lexists(path):
        return
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    else:
        os.unlink(path)


def _put_back_file(path: str, copy: str) -> None:
    _make_room(path, keep=not os.path.islink(path) and os.path.isfile(path) and os.access(path, os.W_OK))
    shutil.copy2(copy, path)  # Into the same file, where it is there: another process may hold it open.


def _put_back_folder(path: str, mode: int) -> None:
    _make_room(path, keep=not os.path.islink(path) and os.path.isdir(path))
    os.makedirs(path, exist_ok=True)
    if stat.S_IMODE(os.stat(path).st_mode) != mode:
        os.chmod(path, mode)


def _put_back_link(path: str, target: str) -> None:
    if not os.path.islink(path) or os.readlink(path) != target:
        _make_room(path, keep=False)
        os.symlink(target, path)


def _move_back(path: str, to: str) -> None:
    if os.path.lexists(to) and not os.path.lexists(path):  # Otherwise the move had failed.
        os.makedirs(os.path.dirname(path), exist_ok=True)
        os.rename(to, path)


def _lost(path: str, why: str, signature: list[int] | None) -> None:
    if signature is None or not os.path.exists(path) or _signature(path) != signature:
        raise OSError(why)


_UNDO: Final[dict[str, Callable[..., None]]] = {
    "nothing": _remove,
    "file": _put_back_file,
    "folder": _put_back_folder,
    "link": _put_back_link,
    "moved": _move_back,
    "lost": _lost,
}


def changed_paths(event: str, arguments: tuple[Any, ...]) -> list[str]:
    """Return which paths an audit event is about to change."""
    return [_real(path) for path in CHANGING[event](event, arguments)] if event in CHANGING else []


# what is heard --------------------------------------------------------------------------------------------------------


def _opened(event: str, arguments: tuple[Any, ...]) -> list[str]:
    path, mode, flags = arguments
    writes = isinstance(mode, str) and any(letter in mode for letter in "wax+")
    writes = writes or (isinstance(flags, int) and bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)))
    return _written(path) if writes else []


def _written(path: Any) -> list[str]:
    return [] if isinstance(path, int) else [os.path.realpath(os.fsdecode(path))]


def _connected(event: str, arguments: tuple[Any, ...]) -> list[str]:
    name = os.fsdecode(arguments[0])
    if name.startswith("file:"):
        uri = urlsplit(name)
        name = "" if "mode=memory" in uri.query.split("&") else unquote(uri.path)
    if name in ("", ":memory:"):
        return []
    return [f"{os.path.realpath(name)}{end}" for end in _BESIDE]


CHANGING: Final[dict[str, Callable[[str, tuple[Any, ...]], list[str]]]] = {
    "open": _opened,
    "os.rename": touched,
    "os.remove": touched,
    "os.rmdir": touched,
    "os.mkdir": touched,
    "os.chmod": lambda event, arguments: [os.path.realpath(path) for path in touched(event, arguments)],
    "os.truncate": lambda event, arguments: _written(arguments[0]),
    "os.link": touched,
    "os.symlink": touched,
    "sqlite3.connect": _connected,
}
