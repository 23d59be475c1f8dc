"""Prints lines: in colour on a terminal, plain everywhere else."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TextIO

from harness.report.screen import Line


def show_lines(lines: Sequence[Line], stream: TextIO) -> None:
    """Print lines as they are; NO_COLOR is honoured."""
    if stream.isatty() and not os.environ.get("NO_COLOR"):
        from rich.console import Console
        from rich.text import Text

        console = Console(file=stream, soft_wrap=True, highlight=False)
        for line in lines:
            console.print(Text(line.text, style=line.style))
        return
    for line in lines:
        stream.write(f"{line.text}\n")
