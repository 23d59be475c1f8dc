"""Runs as a peer in Python: carries out requests by the functions of another script.

That script has a class `Answers`, whose coroutine methods are the requests. Where actors have sessions of their own,
`session(url)` makes one, over a connection to that URL, as another process would have it. A request says what time it
is; a script with `show(milliseconds)` is also told where it goes on with one after a while. The script must not need
this package, nor may this module: the process has only what was installed for it. A method that raises `Refused` says
that nothing happened; any other exception, that it is unknown what did. See docs/contracts/peer_protocol.md.
"""

from __future__ import annotations

import asyncio
import errno
import importlib.util
import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

VERSION = 1
VARIABLE = "JOB_HARNESS_PEER"
MARK = "$job-harness"
LONGEST = 64 * 1024 * 1024
"""Bytes of one message."""


class QueueHost:
    """This process as a peer: one script, and the sessions of actors over it."""

    def __init__(self, script: str) -> None:
        """Take the descriptors that the harness named, and load the script."""
        self._inward, self._outward, life = (int(number) for number in os.environ.pop(VARIABLE).split(","))
        for descriptor in (self._inward, self._outward, life):
            os.set_inheritable(descriptor, False)
        threading.Thread(target=_die_with_harness, args=(life,), daemon=True).start()
        self._module = _loaded(script)
        keeps_clock = "show" in vars(self._module.Answers)
        self._tell({"hello": VERSION, "clock": keeps_clock, "by": f"Python {sys.version.split()[0]}"})
        self._sessions: dict[str | None, Any] = {None: self._module.Answers()}
        self._under_way: set[asyncio.Task[None]] = set()

    async def serve(self) -> None:
        """Carry out requests until the harness is gone: those of an actor beside each other, all others in turn."""
        reader = asyncio.StreamReader(limit=LONGEST)
        pipe = os.fdopen(self._inward)
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), pipe)
        while line := await reader.readline():
            message = json.loads(line)
            if message.get("actor") is None:
                await self._turn(message)
            else:
                task = asyncio.create_task(self._turn(message))
                self._under_way.add(task)
                task.add_done_callback(self._under_way.discard)

    async def _turn(self, message: dict[str, Any]) -> None:
        number = next(message[kind] for kind in ("go", "time", "sever") if kind in message)
        try:
            outcome = {"value": await self._act(message)}
        except self._module.Refused as refused:
            outcome = {"refused": str(refused)}
        except Exception as error:  # noqa: BLE001 - whatever the library raises is an observation
            outcome = {"raised": _word_error(error), "code": _code_of(error)}
        self._tell({"idle": number, "next": None, **outcome})

    async def _act(self, message: dict[str, Any]) -> Any:
        actor = message.get("actor")
        if "sever" in message:
            leave = getattr(self._sessions.pop(actor, None), "leave", None)
            return None if leave is None else await leave()
        if "time" in message:
            return await self._sessions[None].show(message["now"])
        if message["do"] == "begin":
            self._sessions[actor] = await self._sessions[None].session(**message["with"])
            return None
        return await getattr(self._sessions[actor], message["do"])(**_made(message["with"]))

    def _tell(self, report: dict[str, Any]) -> None:
        line = memoryview(json.dumps(report).encode() + b"\n")
        while line:
            line = line[os.write(self._outward, line) :]


def _made(told: Any) -> Any:
    """Return what was told, with the values made that JSON cannot say: `{"$job-harness": "NaN"}`."""
    if isinstance(told, list):
        return [_made(item) for item in told]
    if not isinstance(told, dict):
        return told
    if MARK in told:
        return MADE[told[MARK]]()
    return {name: _made(value) for name, value in told.items()}


def _cycle() -> list[Any]:
    cycle: list[Any] = []
    cycle.append(cycle)
    return cycle


MADE: dict[str, Callable[[], Any]] = {
    "NUL": lambda: {"text": "a\x00b"},
    "surrogate": lambda: {"text": "\ud800"},
    "bytes": lambda: b"\xff",
    "NaN": lambda: {"score": float("nan")},
    "cycle": _cycle,
    "huge": lambda: "x" * 8_000_000,
}


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Go from an error to what it came from."""
    seen: set[int] = set()
    here: BaseException | None = error
    while here is not None and id(here) not in seen:
        yield here
        seen.add(id(here))
        here = here.__cause__ or here.__context__


def _word_error(error: BaseException) -> str:
    """Return what an error says, and what it came from says beyond that: a library's own may say next to nothing."""
    told = ""
    for here in _chain(error):
        if not told or str(here) not in told:
            told += f"{', from ' if told else ''}{type(here).__name__}: {here}"
    return told


def _code_of(error: BaseException) -> str | None:
    """Return the SQLSTATE of an error, or the name of its errno, or that of what it came from."""
    for here in _chain(error):
        if isinstance(code := getattr(here, "sqlstate", None), str):
            return code
        if isinstance(here, OSError) and here.errno:
            return errno.errorcode.get(here.errno)
    return None


def _die_with_harness(life: int) -> None:
    """Notice that the harness is gone, even while a queue's code keeps the other thread busy."""
    os.read(life, 1)
    os.kill(os.getpid(), signal.SIGKILL)


def _loaded(script: str) -> Any:
    spec = importlib.util.spec_from_file_location("answers", script)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["answers"] = module
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    asyncio.run(QueueHost(sys.argv[1]).serve())
