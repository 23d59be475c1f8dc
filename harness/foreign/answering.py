"""Runs in a child, as a script: answers questions on lines of JSON by the functions of another script.

That script has a class `Answers`, whose coroutine methods are the questions. It must not need this package: the child
has only what was installed for it. A method that raises `Refused` says that nothing happened; any other exception, that
nobody knows what did.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import sys
from typing import Any


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
    """Answer one question after the other until nobody asks any more."""
    channel = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    answers = module.Answers()
    while line := sys.stdin.readline():
        question: dict[str, Any] = json.loads(line)
        try:
            told = {"value": await getattr(answers, question["ask"])(**question["with"])}
        except module.Refused as refused:
            told = {"refused": str(refused)}
        except Exception as error:  # noqa: BLE001 - whatever the library raises is an observation
            told = {"raised": f"{type(error).__name__}: {error}"}
        channel.write("\n@harness " + json.dumps({"id": question["id"], **told}) + "\n")
        channel.flush()


if __name__ == "__main__":
    asyncio.run(serve(load(sys.argv[1])))
