"""The tasks that a backend is asked to run. They write down that they ran, so that any process may run them.

Imported where Django is set up. Must not know: pytest, any particular backend.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final

import django

if django.VERSION >= (6,):
    from django.tasks import TaskResultStatus, task
    from django.tasks.exceptions import InvalidTask, TaskResultDoesNotExist
else:
    from django_tasks import TaskResultStatus, task
    from django_tasks.exceptions import InvalidTaskError as InvalidTask
    from django_tasks.exceptions import TaskResultDoesNotExist

__all__ = ["InvalidTask", "TaskResultDoesNotExist", "TaskResultStatus"]

KILLED: Final = 9


class Unspeakable(Exception):
    """An error that raises where it is asked for its text."""

    def __str__(self) -> str:
        raise RuntimeError("there is no text")


ERRORS: Final[dict[str, Any]] = {
    "plain": lambda: ValueError("it failed"),
    "NUL": lambda: ValueError("it failed \x00"),
    "lone surrogate": lambda: ValueError("it failed \ud800"),
    "huge": lambda: ValueError("it failed " * 200_000),
    "unspeakable": Unspeakable,
    "exit": lambda: SystemExit(3),
    "cyclic cause": lambda: _cyclic(),
}
RESULTS: Final[dict[str, Any]] = {
    "no JSON": object,
    "NaN": lambda: float("nan"),
    "NUL": lambda: {"text": "a\x00b"},
    "lone surrogate": lambda: {"text": "\ud800"},
    "bytes": lambda: b"\xff",
    "cyclic": lambda: _loop(),
    "huge": lambda: "x" * 2_000_000,
}


def _cyclic() -> Exception:
    one, other = ValueError("it failed"), KeyError("before")
    one.__cause__, other.__cause__ = other, one
    return one


def _loop() -> list[Any]:
    loop: list[Any] = []
    loop.append(loop)
    return loop


def _note(log: str, name: str) -> None:
    with Path(log).open("a", encoding="utf-8") as file:
        file.write(f"{name}\n")


@task()  # type: ignore[untyped-decorator]
def returns(log: str, name: str, value: Any = None) -> Any:
    """Return what was sent."""
    _note(log, name)
    return value


@task()  # type: ignore[untyped-decorator]
async def returns_later(log: str, name: str, value: Any = None) -> Any:
    """Return what was sent, as a coroutine."""
    _note(log, name)
    return value


@task(takes_context=True)  # type: ignore[untyped-decorator]
def tells_its_attempt(context: Any, log: str, name: str) -> Any:
    """Return what the context says."""
    _note(log, name)
    return [str(context.task_result.id), context.attempt]


@task()  # type: ignore[untyped-decorator]
def raises(log: str, name: str, kind: str) -> None:
    """Raise an error of this kind."""
    _note(log, name)
    raise ERRORS[kind]()


@task()  # type: ignore[untyped-decorator]
def results_in(log: str, name: str, kind: str) -> Any:
    """Return a value of this kind."""
    _note(log, name)
    return RESULTS[kind]()


@task()  # type: ignore[untyped-decorator]
def dies_once(log: str, name: str) -> str:
    """Take the whole process down the first time."""
    again = Path(log).exists() and name in Path(log).read_text(encoding="utf-8").split("\n")
    _note(log, name)
    if not again:
        os._exit(KILLED)
    return "survived"
