"""Child processes of a process, where the system tells them (Linux); elsewhere none are known."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

_PROC = Path("/proc")


def children_of(pid: int | None = None) -> list[int]:
    """List the children that are alive."""
    found: list[int] = []
    with contextlib.suppress(OSError):
        for task in list((_PROC / str(pid or os.getpid()) / "task").iterdir()):
            with contextlib.suppress(OSError):  # A thread may end while it is looked at.
                found += [int(child) for child in (task / "children").read_text().split()]
    return [child for child in found if _state(child) not in ("Z", "X", "")]


def descendants_of(pid: int) -> list[int]:
    """List what a process has started and what that has started, sessions of their own too."""
    return [each for child in children_of(pid) for each in (child, *descendants_of(child))]


def end_session(session: int) -> None:
    """Kill every process of a session with SIGKILL."""
    with contextlib.suppress(OSError):
        for folder in _PROC.iterdir():
            if folder.name.isdigit() and _field(int(folder.name), 3) == str(session):
                _kill(int(folder.name))
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(session, signal.SIGKILL)


def end_descendants() -> None:
    """Kill every process that this one has started, and what those have started."""
    for pid in descendants_of(os.getpid()):
        _kill(pid)


def end_marked(entry: str) -> None:
    """Kill every process whose environment has an entry, wherever it has gone."""
    with contextlib.suppress(OSError):
        for folder in _PROC.iterdir():
            if not folder.name.isdigit() or int(folder.name) == os.getpid():
                continue
            with contextlib.suppress(OSError):
                if entry.encode() in (folder / "environ").read_bytes().split(b"\0"):
                    _kill(int(folder.name))


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal.SIGKILL)


def _state(pid: int) -> str:
    return _field(pid, 0)


def _field(pid: int, number: int) -> str:
    """Answer a field of a process after its name: 0 is its state, 3 its session."""
    try:
        text = (_PROC / str(pid) / "stat").read_text(errors="replace")
    except OSError:
        return ""
    return text.rpartition(")")[2].split()[number]
