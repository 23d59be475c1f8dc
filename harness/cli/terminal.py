"""Prints lines: in colour on a terminal, plain everywhere else."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import TextIO

from harness.printable import as_it_is, printable
from harness.report.screen import Line, screen_text


def show_lines(lines: Sequence[Line], stream: TextIO) -> None:
    """Print lines as they are; NO_COLOR is honoured."""
    stream = as_it_is(stream)
    if stream.isatty() and not os.environ.get("NO_COLOR"):
        from rich.console import Console
        from rich.text import Text

        console = Console(file=stream, soft_wrap=True, highlight=False)
        for line in lines:
            console.print(Text(printable(line.text), style=line.style))
        return
    stream.write(screen_text(lines))


def show_as_it_is(text: str) -> None:
    """Write commands for a CI log, or a document, to standard output: what made it has seen to each part of it."""
    as_it_is(sys.stdout).write(text)
