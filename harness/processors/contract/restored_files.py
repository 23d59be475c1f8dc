"""Puts back what a try has done to files, so that the next one finds the folder as the first did.

In the child, audit events tell which file is about to be written, moved or removed; it is copied first, and a journal
names the copy. The parent puts everything back after the child has ended, however it ended. What a library opens in C
is not heard of, but for SQLite's databases; nor what another process does. A folder of its own for each try would do
less: a processor may read templates from the working directory, and write to an absolute path.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from harness.processors.observed_effects import unobserved

JOURNAL: Final = "files.jsonl"
MOST_BYTES: Final = 64 * 2**20
"""Of one file; a larger one is not put back."""
_BESIDE: Final = ("", "-wal", "-shm", "-journal")
"""What SQLite keeps beside a database."""
_NOT_FILES: Final = ("/dev/", "/proc/", "/sys/")


class FileJournal:
    """Remembers, in the child, how each file was before it was touched."""

    def __init__(self, folder: Path) -> None:
        """Keep copies and the journal in this folder, which is left alone itself."""
        self._folder = folder
        self._known: set[str] = set()
        self._busy = False

    def begin(self) -> None:
        """Listen from here on, to the end of the process or of this journal; one at a time."""
        _LISTENING[:] = [self]
        if not _HOOKED:
            _HOOKED.append(os.getpid())
            sys.addaudithook(_hear)  # It can never be taken away again.

    def end(self) -> None:
        """Listen no more."""
        _LISTENING.clear()

    def hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Keep the files that this event is about."""
        if self._busy:
            return
        self._busy = True  # Copying opens files as well.
        try:
            with unobserved():
                for path in _EVENTS[event](*arguments):
                    self._keep(path)
        except Exception:  # noqa: BLE001 - a path may be anything that a user's code hands over
            return  # The caller is told what is wrong with the path by its own call.
        finally:
            self._busy = False

    def _keep(self, path: Any) -> None:
        name = os.path.abspath(os.fsdecode(path))
        if name in self._known or name.startswith((*_NOT_FILES, f"{self._folder}{os.sep}")) or "__pycache__" in name:
            return
        self._known.add(name)
        copy: str | None = None
        if os.path.isfile(name):
            if os.path.getsize(name) > MOST_BYTES:
                return
            copy = str(self._folder / f"file-{len(self._known)}")
            shutil.copy2(name, copy)
        elif os.path.exists(name):
            return
        with open(self._folder / JOURNAL, "a", encoding="utf-8") as journal:
            journal.write(json.dumps([name, copy]) + "\n")


_LISTENING: Final[list[FileJournal]] = []
_HOOKED: Final[list[int]] = []


def _hear(event: str, arguments: tuple[Any, ...]) -> None:
    if event in _EVENTS and _LISTENING:
        _LISTENING[0].hear(event, arguments)


def put_back(folder: Path) -> None:
    """Put back what the journal in this folder names; files and folders that there had not been are removed."""
    journal = folder / JOURNAL
    if not journal.exists():
        return
    for line in reversed(journal.read_text(encoding="utf-8").splitlines()):
        with contextlib.suppress(OSError, ValueError):  # A last line may be cut; a folder may be gone.
            name, copy = json.loads(line)
            if copy is not None:
                shutil.copy2(copy, name)
            elif os.path.isdir(name):
                os.rmdir(name)  # It stays where something is in it that was not heard of.
            else:
                os.unlink(name)
    journal.unlink()


def _opened(path: Any, mode: Any, flags: Any) -> list[Any]:
    writes = isinstance(mode, str) and any(letter in mode for letter in "wax+")
    writes = writes or (isinstance(flags, int) and bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)))
    return [path] if writes and not isinstance(path, int) else []


def _connected(database: Any) -> list[Any]:
    name = os.fsdecode(database)
    return [] if name in ("", ":memory:") or name.startswith("file:") else [f"{name}{end}" for end in _BESIDE]


_EVENTS: Final[dict[str, Callable[..., list[Any]]]] = {
    "open": _opened,
    "os.rename": lambda source, target, *rest: [source, target],
    "os.remove": lambda path, *rest: [path],
    "os.mkdir": lambda path, *rest: [path],
    "os.truncate": lambda path, *rest: [] if isinstance(path, int) else [path],
    "os.link": lambda source, target, *rest: [target],
    "os.symlink": lambda source, target, *rest: [target],
    "sqlite3.connect": _connected,
}
