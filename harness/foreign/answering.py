"""Runs in a child, as a script: answers questions on lines of JSON by the functions of another script.

That script has a class `Answers`, whose coroutine methods are the questions. Where actors have sessions of their own,
`session(url)` answers another one, over a connection to that URL, as another process would have it. The script must not
need this package: the child has only what was installed for it. A method that raises `Refused` says that nothing
happened; any other exception, that nobody knows what did.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import sys
from typing import Any

LONGEST = 64 * 1024 * 1024
"""Bytes of one question."""


def load(script: str) -> Any:
    """Import the script that answers."""
    spec = importlib.util.spec_from_file_location("answers", script)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["answers"] = module
    spec.loader.exec_module(module)
    return module


async def serve(module: Any) -> None:
    """Answer until nobody asks any more: questions to a session beside each other, all others one after the other."""
    channel = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    reader = asyncio.StreamReader(limit=LONGEST)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    sessions: dict[str, Any] = {"": module.Answers()}
    under_way: set[asyncio.Task[None]] = set()
    while line := await reader.readline():
        answering = answer(module, sessions, json.loads(line), channel)
        if b'"session": ' in line:
            task = asyncio.create_task(answering)
            under_way.add(task)
            task.add_done_callback(under_way.discard)
        else:
            await answering


async def answer(module: Any, sessions: dict[str, Any], question: dict[str, Any], channel: Any) -> None:
    """Answer one question. `begin session` and `end session` are the protocol's own."""
    session = question.get("session", "")
    try:
        if question["ask"] == "begin session":
            sessions[session] = await sessions[""].session(**question["with"])
            value = None
        elif question["ask"] == "end session":
            value = await getattr(sessions.pop(session), "leave", nothing)()
        else:
            value = await getattr(sessions[session], question["ask"])(**question["with"])
        told = {"value": value}
    except module.Refused as refused:
        told = {"refused": str(refused)}
    except Exception as error:  # noqa: BLE001 - whatever the library raises is an observation
        told = {"raised": f"{type(error).__name__}: {error}"}
    channel.write("\n@harness " + json.dumps({"id": question["id"], **told}) + "\n")
    channel.flush()


async def nothing() -> None:
    """Leave as a process that is killed does."""


if __name__ == "__main__":
    asyncio.run(serve(load(sys.argv[1])))
