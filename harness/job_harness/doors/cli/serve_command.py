"""`job-harness serve --stdio`: the harness for tests in other languages."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Final

from job_harness.errors import ExitCode, UsageError

SAY: Final = "JOB_HARNESS_SAY"
"""Names a descriptor that leads to people even while the client does nothing: its own standard error."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "--stdio",
        action="store_true",
        help="speak the serve protocol over standard input and output, one JSON object a line",
    )
    parser.add_argument(
        "--at",
        type=Path,
        metavar="SOCKET",
        help="serve all clients that connect to this Unix socket, until standard input ends",
    )


def execute(arguments: argparse.Namespace) -> int:
    """Serve one client until it closes its end, or each that connects, in a fork, until the standard input ends."""
    if arguments.stdio == (arguments.at is not None):
        raise UsageError(
            "serve needs either --stdio or --at SOCKET",
            hint="A client starts it; see docs/contracts/serve_protocol.md.",
        )
    outward = os.dup(1)
    os.dup2(2, 1)  # What a library or a processor prints must not stand between the lines.
    sys.stdout = sys.stderr
    logging.getLogger().addHandler(logging.NullHandler())  # What a worker logs of each fault is no news to a test.
    from job_harness.doors.serve import Conversation, HarnessService

    say = _said_to(os.environ.pop(SAY, "2"))
    if arguments.at is None:
        HarnessService(Conversation(0, outward, say=say)).run()
        return int(ExitCode.PASS)
    from job_harness.doors.serve.listening import door_at, next_client

    with door_at(arguments.at) as door:
        Conversation(0, outward).greet()
        import_module("job_harness.doors.serve.exploration")  # Here and once, not in the fork of each client.
        client = next_client(door)
    os.close(outward)
    if client is not None:
        HarnessService(Conversation(client, client, say=say)).run()
    return int(ExitCode.PASS)


def _said_to(descriptor: str) -> Callable[[str], None]:
    number = int(descriptor) if descriptor.isascii() and descriptor.isdigit() else 2

    def say(words: str) -> None:
        with suppress(OSError):
            os.write(number, f"{words}\n".encode("utf-8", "backslashreplace"))

    return say
