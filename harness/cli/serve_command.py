"""`job-harness serve --stdio`: the harness for tests in other languages."""

from __future__ import annotations

import argparse
import logging
import os
import sys

from harness.errors import ExitCode, UsageError


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
            "serve needs --stdio: there is no other way to be spoken to yet",
            hint="A client starts it; see docs/contracts/serve_protocol.md.",
        )
    from harness.serve import Conversation, Service

    outward = os.dup(1)
    os.dup2(2, 1)  # What a library or a processor prints must not stand between the lines.
    sys.stdout = sys.stderr
    logging.getLogger().addHandler(logging.NullHandler())  # What a worker logs of each fault is no news to a test.
    Service(Conversation(0, outward)).run()
    return int(ExitCode.PASS)
