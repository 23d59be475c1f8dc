"""The command `job-harness`: a table of subcommands, imported one at a time, and exit codes that mean something.

0 pass, 1 fail, 2 usage, 3 inconclusive, 4 environment; 130 after Ctrl-C, 143 after SIGTERM, with what was found so far.
"""

from __future__ import annotations

import argparse
import errno
import os
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib import import_module
from typing import Final, NamedTuple, NoReturn, TextIO

from harness import __version__
from harness.errors import ExitCode, HarnessError, UsageError, clipped
from harness.extras import missing_extra
from harness.printable import keep_for_document, printable_streams

COMMANDS: Final[dict[str, tuple[str, str]]] = {
    "run": ("harness.cli.run_command", "run scenarios and judge what happens"),
    "explore": ("harness.cli.explore_command", "search an engine for a run that breaks an invariant"),
    "exhaust": ("harness.cli.exhaust_command", "look at every run within a small scope"),
    "conform": ("harness.cli.conform_command", "say how far queues conform, level by level"),
    "check": ("harness.cli.check_command", "check what a repository sets for its job queue"),
    "verify": ("harness.cli.verify_command", "send one job through a running system, and watch it to its end"),
    "init": ("harness.cli.project_commands:init", "write a first test, a first scenario and a CI workflow"),
    "new": (
        "harness.cli.project_commands:new",
        "write a new tool: processor, registration, worker list, test, scenario",
    ),
    "schema": (
        "harness.cli.project_commands:schema",
        "print the JSON schema of scenario files, queue files or reports",
    ),
}
"""Subcommand -> where it is, and what it does. See `command`."""

READ_ONLY: Final = frozenset({"check", "verify", "init", "new", "schema", None})
"""Commands that never run anybody's code; every other one does so in a child, and no early end of that is a pass."""
STANDARD_OUTPUT = "-"
"""Names standard output wherever a file to write is named."""
INTERRUPTED = 130
TERMINATED = 143
PIPE_CLOSED = 141
"""Whoever read the output went away: what was judged was not told, so it is no pass."""
DISK_ERRORS: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS})
EPILOG = """\
exit codes:
  0  pass            everything was judged, and holds
  1  fail            something was breached, or a control did not find its anomaly
  2  usage           a command, an option or a scenario that makes no sense
  3  inconclusive    something asked for could not be judged here; the output says what
  4  environment     the machine, or a database, is missing something or went away
  130, 143           stopped by Ctrl-C or SIGTERM; what was found so far is printed
  141                whoever read the output went away

A FILE to write may be -, which is standard output; all else then goes to standard error.
"""


class Command(NamedTuple):
    """What a subcommand does."""

    configure: Callable[[argparse.ArgumentParser], None]
    execute: Callable[[argparse.Namespace], int]


class Terminated(BaseException):
    """SIGTERM arrived."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code."""
    if argv is not None:
        return _answered(list(argv))
    arguments = sys.argv[1:]
    if _command_of(arguments) in READ_ONLY:
        return _terminable(arguments)
    from harness.cli.supervised import supervised

    return supervised(lambda: _terminable(arguments))


def _terminable(arguments: list[str]) -> int:
    before = signal.signal(signal.SIGTERM, _terminate)
    try:
        return _answered(arguments)
    finally:
        signal.signal(signal.SIGTERM, before)
        _let_go_of(sys.stdout)
        _let_go_of(sys.stderr)


def _let_go_of(stream: TextIO) -> None:
    """Write what is left; where nobody takes it, the interpreter must not try again, with a code of its own."""
    try:
        stream.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _say(text: str) -> None:
    with suppress(OSError):  # Standard error may be full as well.
        print(text, file=sys.stderr)


def _answered(arguments: list[str]) -> int:
    with printable_streams():
        return _told(arguments)


def _told(arguments: list[str]) -> int:
    try:
        code = _dispatch(arguments)
        sys.stdout.flush()
        return code
    except HarnessError as error:
        print(f"job-harness: {error}", file=sys.stderr)
        return int(error.exit_code)
    except ImportError as error:
        lacking = missing_extra(error)
        if lacking is None:
            raise
        print(f"job-harness: {lacking}", file=sys.stderr)
        return int(lacking.exit_code)
    except BrokenPipeError:
        return PIPE_CLOSED
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            _say(f"job-harness: {clipped(error.filename)}: {error.strerror}")
            return int(ExitCode.USAGE)
        if error.errno not in DISK_ERRORS:
            raise
        _say(f"job-harness: {error.filename or 'standard output'}: cannot be written: {error.strerror}")
        return int(ExitCode.ENVIRONMENT)
    except KeyboardInterrupt:
        print("job-harness: interrupted", file=sys.stderr)
        return INTERRUPTED
    except Terminated:
        print("job-harness: terminated", file=sys.stderr)
        return TERMINATED


def _terminate(number: int, frame: object) -> NoReturn:
    """End once: `timeout` signals a process and its group, and the second must not cut short what the first prints."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise Terminated


def _respelled(arguments: list[str]) -> list[str]:
    """Read `explore --exhaustive` as `exhaust`, which it was before that was a command of its own."""
    if "explore" not in arguments[:1] or "--exhaustive" not in arguments:
        return arguments
    print("job-harness: explore --exhaustive is now job-harness exhaust", file=sys.stderr)
    return ["exhaust", *(argument for argument in arguments[1:] if argument != "--exhaustive")]


def _dispatch(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="job-harness",
        description="Simulates and judges job processors and the queues that feed them.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"job-harness {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    arguments = _respelled(arguments)
    chosen = _command_of(arguments)
    for name, (module, summary) in COMMANDS.items():
        sub = commands.add_parser(
            name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.", allow_abbrev=False
        )
        if name == chosen:
            command(module).configure(sub)
    try:
        parsed = parser.parse_args(arguments)
    except SystemExit as stop:
        return int(stop.code or 0)
    _keep_standard_output(parsed)
    try:
        return command(COMMANDS[parsed.command][0]).execute(parsed)
    except SystemExit as stop:
        told = f"something that was run called sys.exit({clipped(stop.code)}); the rest was not judged"
        print(f"job-harness: {told}", file=sys.stderr)
        return int(ExitCode.INCONCLUSIVE)


def command(where: str) -> Command:
    """Import a command: `module` has `configure(parser)` and `execute(arguments) -> int`.

    In `module:name`, where several share a module, they are called `configure_name` and `execute_name`.
    """
    path, _, name = where.partition(":")
    module, suffix = import_module(path), f"_{name}" if name else ""
    return Command(getattr(module, f"configure{suffix}"), getattr(module, f"execute{suffix}"))


def _keep_standard_output(parsed: argparse.Namespace) -> None:
    """Where a document is to go to standard output, let nothing else go there."""
    taken = [f"--{name.replace('_', '-')}" for name, value in vars(parsed).items() if value == STANDARD_OUTPUT]
    if len(taken) > 1:
        raise UsageError(f"{' and '.join(taken)} cannot both be standard output", hint="Name a file for one of them.")
    if taken:
        keep_for_document()


def _command_of(arguments: Sequence[str]) -> str | None:
    return next((argument for argument in arguments if not argument.startswith("-")), None)
