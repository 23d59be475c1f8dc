"""What a command shows and writes: lines on a terminal, a progress bar, and files that are whole or not there.

Colours and the bar appear on a terminal only. A file is checked before anything runs, so that no
long run is lost to a name that cannot be written.
"""

from __future__ import annotations

import argparse
import errno
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, TextIO

from job_harness.core.printable import as_it_is, document_stream, printable
from job_harness.doors.cli import STANDARD_OUTPUT
from job_harness.errors import EnvironmentUnavailable, ExitCode, UsageError
from job_harness.report.screen import Line, screen_text

if TYPE_CHECKING:
    from job_harness.core.scenario.document import ScenarioError
    from job_harness.report.case import Case
    from job_harness.report.ci import CiResult

# lines ----------------------------------------------------------------------------------------------------------------


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


ANNOTATIONS: Final = "annotate for GitHub, with a summary on the job's page, or for GitLab: gl-code-quality-report.json"
CODE_QUALITY: Final = Path("gl-code-quality-report.json")
"""What a job of GitLab names under `artifacts: reports: codequality`."""


def annotate(results: Sequence[CiResult], errors: Sequence[ScenarioError] = ()) -> None:
    """Show results where this CI reads them: as commands for GitHub and on the job's page, or in GitLab's report."""
    from job_harness.doors.job_page import write_job_page
    from job_harness.report.ci import code_quality, github_annotations

    if os.environ.get("GITLAB_CI"):
        known = json.loads(CODE_QUALITY.read_text(encoding="utf-8")) if CODE_QUALITY.is_file() else []
        CODE_QUALITY.write_text(json.dumps([*known, *code_quality(results, errors)], indent=2), encoding="utf-8")
        return
    show_as_it_is(github_annotations(results, errors))
    write_job_page(results, errors)


# the progress bar -----------------------------------------------------------------------------------------------------


@contextmanager
def progress(total: int, *, quiet: bool) -> Iterator[tuple[Callable[[Case], None], Callable[[str], None]]]:
    """Show how many of `total` cases are done.

    Yields two functions: one takes each case, the other what a long one is doing.
    """
    if quiet or not sys.stderr.isatty():
        yield lambda case: None, lambda told: None
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

        yield done, lambda told: bar.update(task, description=told)


# files ----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class OutputFile:
    """A place to write to."""

    path: Path
    is_standard: bool = False
    """Whether it is standard output."""

    @classmethod
    def checked(cls, name: str, option: str) -> OutputFile:
        """Return the file; `-` is standard output.

        Raises UsageError where it cannot be written.
        """
        if name in STANDARD_OUTPUT:
            return cls(Path("standard output"), is_standard=True)
        if not name:
            raise UsageError(f"{option}: no file is named", hint="Name a file, or leave the option out.")
        path = Path(name)
        if not path.exists() or path.is_file():  # A link to a pipe, as a shell's `>(...)` is, leads nowhere.
            path = Path(os.path.realpath(name))
        if path.is_dir():
            raise UsageError(f"{option} {name}: this is a folder", hint="Name a file.")
        if path.exists() and not os.access(path, os.W_OK):
            raise UsageError(
                f"{option} {name}: may not be written", hint="Name another file, or change its permissions."
            )
        if not path.parent.is_dir():
            raise UsageError(f"{option} {name}: there is no folder {path.parent}", hint="Create the folder first.")
        if not path.exists() and not os.access(path.parent, os.W_OK | os.X_OK):
            raise UsageError(f"{option} {name}: {path.parent} is not writable", hint="Name another folder.")
        return cls(path)

    def write(self, text: str) -> None:
        """Write the whole text, or nothing; where the file cannot be replaced, overwrite it.

        Raises EnvironmentUnavailable where the disk refuses.
        """
        data = text.encode("utf-8", "backslashreplace")
        try:
            if self.is_standard:
                document_stream().write(data.decode())
                document_stream().flush()
            elif (self.path.exists() and not self.path.is_file()) or not self._replaced(data):
                self.path.write_bytes(data)
        except OSError as error:
            raise EnvironmentUnavailable(f"{self.path}: cannot be written: {error.strerror}") from error

    def _replaced(self, data: bytes) -> bool:
        """Put a new file in the place of the old one; False where the folder does not allow that."""
        try:
            self._replace(data)
        except OSError as error:
            if error.errno not in NOT_IN_ITS_PLACE or not self.path.exists():
                raise
            return False
        return True

    def _replace(self, data: bytes) -> None:
        descriptor, temporary = tempfile.mkstemp(dir=self.path.parent, prefix=f".{self.path.name[:80]}.")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
            mode = self.path.stat().st_mode & 0o777 if self.path.exists() else 0o666 & ~_umask()
            os.chmod(temporary, mode)
            os.replace(temporary, self.path)
        except BaseException:
            os.unlink(temporary)
            raise


NOT_IN_ITS_PLACE: Final = frozenset({errno.EACCES, errno.EPERM, errno.EBUSY, errno.EXDEV})
"""Why a folder takes no new file, or lets none be put in the place of one, as of a file that a container mounts."""


def output_files(
    arguments: argparse.Namespace, *options: str, inputs: Iterable[str | Path] = ()
) -> dict[str, OutputFile]:
    """Return the file of each of these options that was given; `inputs` are the files that the command reads.

    Raises UsageError where one cannot be written, and where it would be written over another one or
    over an input.
    """
    outputs: dict[str, OutputFile] = {}
    taken = {os.path.realpath(name): "is read" for name in inputs}
    for option in options:
        name = getattr(arguments, option)
        if name is None:
            continue
        written = f"--{option.replace('_', '-')}"
        outputs[option] = output = OutputFile.checked(name, written)
        if output.is_standard or (output.path.exists() and not output.path.is_file()):
            continue
        use = taken.setdefault(str(output.path), f"is also written by {written}")
        if use != f"is also written by {written}":
            raise UsageError(f"{written} {name}: this file {use}", hint="Name another file.")
    return outputs


def checked_folder(name: str, option: str) -> Path:
    """Return a folder that files are to be written into, and that is made when they are.

    Raises UsageError where that cannot be done.
    """
    if not name:
        raise UsageError(f"{option}: no folder is named", hint="Name a folder, or leave the option out.")
    folder = Path(name)
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not there.is_dir():
        raise UsageError(f"{option} {name}: {there} is not a folder", hint="Name a folder.")
    if not os.access(there, os.W_OK | os.X_OK):
        raise UsageError(f"{option} {name}: {there} is not writable", hint="Name another folder.")
    return folder


def make_folder(folder: Path, option: str) -> None:
    """Make it, with those above it. Raises EnvironmentUnavailable where that cannot be done after all."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EnvironmentUnavailable(f"{option} {folder}: cannot be made: {error.strerror}") from error


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
