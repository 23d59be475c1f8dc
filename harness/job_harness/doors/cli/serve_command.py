"""`job-harness serve --stdio`: the harness for tests in other languages."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Callable
from contextlib import suppress
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


def execute(arguments: argparse.Namespace) -> int:
    """Serve one client until it closes its end."""
    if not arguments.stdio:
        raise UsageError(
            "serve needs --stdio: there is no other way to talk to it yet",
            hint="A client starts it; see docs/contracts/serve_protocol.md.",
        )
    from job_harness.doors.serve import Conversation, HarnessService

    outward = os.dup(1)
    os.dup2(2, 1)  # What a library or a processor prints must not stand between the lines.
    sys.stdout = sys.stderr
    logging.getLogger().addHandler(logging.NullHandler())  # What a worker logs of each fault is no news to a test.
    HarnessService(Conversation(0, outward, say=_said_to(os.environ.pop(SAY, "2")))).run()
    return int(ExitCode.PASS)


def _said_to(descriptor: str) -> Callable[[str], None]:
    number = int(descriptor) if descriptor.isascii() and descriptor.isdigit() else 2

    def say(words: str) -> None:
        with suppress(OSError):
            os.write(number, f"{words}\n".encode("utf-8", "backslashreplace"))

    return say
