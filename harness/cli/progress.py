"""A progress bar on standard error, and nothing at all where that is no terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from harness.errors import ExitCode
from harness.printable import as_it_is
from harness.report.case import Case


@contextmanager
def progress(total: int, *, quiet: bool) -> Iterator[Callable[[Case], None]]:
    """Show how many of `total` cases are done; answers what is to be told of each."""
    if quiet or not sys.stderr.isatty():
        yield lambda case: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(file=as_it_is(sys.stderr)), transient=True) as bar:
        task = bar.add_task("", total=total)
        bad = 0

        def done(case: Case) -> None:
            nonlocal bad
            bad += case.exit_code is ExitCode.FAIL
            told = f"{case.engine}{f', {bad} failed' if bad else ''}"
            bar.update(task, advance=1, description=told)

        yield done
