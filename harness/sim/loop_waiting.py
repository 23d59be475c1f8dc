"""Says for what the tasks of a loop wait, and where. Words only."""

from __future__ import annotations

import asyncio
from types import FrameType
from typing import Any

MOST_SHOWN = 10


def describe_tasks(loop: asyncio.AbstractEventLoop) -> str:
    """Name each unfinished task and the line at which it waits, at most ten."""
    tasks = sorted(asyncio.all_tasks(loop), key=lambda task: task.get_name())
    lines = [f"  {task.get_name()}: {describe_task(task)}" for task in tasks[:MOST_SHOWN]]
    if len(tasks) > MOST_SHOWN:
        lines.append(f"  and {len(tasks) - MOST_SHOWN} more")
    return "\n".join(lines) if lines else "  no task is left"


def describe_task(task: asyncio.Task[Any]) -> str:
    """Say where a task waits."""
    frame = _innermost(task.get_coro())
    if frame is None:
        return repr(task)
    code = frame.f_code
    return (
        f"{code.co_qualname if hasattr(code, 'co_qualname') else code.co_name} at {code.co_filename}:{frame.f_lineno}"
    )


def _innermost(awaited: Any) -> FrameType | None:
    """Follow what a coroutine awaits to the last frame that is known, the user's own where asyncio's is below."""
    frames: list[FrameType] = []
    while awaited is not None:
        frame = getattr(awaited, "cr_frame", None) or getattr(awaited, "gi_frame", None)
        if frame is not None:
            frames.append(frame)
        awaited = getattr(awaited, "cr_await", None) or getattr(awaited, "gi_yieldfrom", None)
    own = [frame for frame in frames if "asyncio/" not in frame.f_code.co_filename.replace("\\", "/")]
    chosen = own or frames
    return chosen[-1] if chosen else None
