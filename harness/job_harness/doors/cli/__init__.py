"""The command `job-harness`: a table of subcommands, imported one at a time, and exit codes that mean something.

0 pass, 1 fail, 2 usage, 3 inconclusive, 4 environment; 130 after Ctrl-C, 143 after SIGTERM,
whatever was found so far.
"""

from __future__ import annotations

import argparse
import errno
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from importlib import import_module
from pathlib import Path
from typing import Any, Final, NamedTuple, TextIO

from job_harness import __version__
from job_harness.core.interruption import INTERRUPTIONS, Interruptions, Terminated, exit_code_of, raised_at_once
from job_harness.core.printable import keep_for_document, printable_streams
from job_harness.errors import ExitCode, HarnessError, NothingToJudge, UsageError, available, clipped, did_you_mean
from job_harness.extras import missing_extra

COMMANDS: Final[dict[str, tuple[str, str]]] = {
    "run": ("job_harness.doors.cli.run_command", "run scenarios and judge the results"),
    "explore": (
        "job_harness.doors.cli.explore_command",
        "search a queue, a system or a test for a run that breaks an invariant",
    ),
    "merge": ("job_harness.doors.cli.merge_command", "merge the parts of a search that `explore --shard` ran"),
    "exhaust": (
        "job_harness.doors.cli.exhaust_command",
        "examine every run within a small scope, with the faults that you allow",
    ),
    "conform": ("job_harness.doors.cli.conform_command", "run the conformance suite, level by level"),
    "check": ("job_harness.doors.cli.check_command", "check the job queue settings of a repository"),
    "audit": ("job_harness.doors.cli.audit_command", "find anomalies in what production recorded about its jobs"),
    "reproduce": (
        "job_harness.doors.cli.reproduce_command",
        "search a target for a run that agrees with what production recorded of an incident",
    ),
    "replay": (
        "job_harness.doors.cli.replay_command",
        "replay recorded runs against a changed processor, and show where it decides differently",
    ),
    "verify": (
        "job_harness.doors.cli.verify_command",
        "send one job through a running system and watch it until it ends",
    ),
    "doctor": (
        "job_harness.doors.cli.doctor_command",
        "show what is installed, what can run here, and how to repair the rest",
    ),
    "init": ("job_harness.doors.cli.project_commands:init", "write a first test, a first scenario and a CI workflow"),
    "new": (
        "job_harness.doors.cli.project_commands:new",
        "write a new kind of job: processor, registration, worker list, test, scenario",
    ),
    "examples": ("job_harness.doors.cli.project_commands:examples", "write runnable examples into a folder"),
    "explain": (
        "job_harness.doors.cli.explain_command:explain",
        "explain an anomaly, a rule, a fault, a setting or another word on the screen",
    ),
    "why": ("job_harness.doors.cli.why_command:why", 'say what it may be if "my job ran twice", and what shows which'),
    "docs": ("job_harness.doors.cli.explain_command:docs", "print the docs as one Markdown text, or one page of them"),
    "serve": (
        "job_harness.doors.cli.serve_command",
        "run the harness for a test in another language, such as TypeScript",
    ),
    "schema": (
        "job_harness.doors.cli.project_commands:schema",
        "print the JSON schema of scenario files, queue files, system files or reports",
    ),
}
"""Subcommand -> where it is, and what it does. See `command`."""

READ_ONLY: Final = frozenset(
    {"audit", "check", "merge", "verify", "init", "new", "examples", "schema", "serve", "explain", "docs", "why", None}
)
"""Commands that run no user code, or whose exit code is no verdict; every other one does so in a child, and if that
ends early it is not a pass."""
STANDARD_OUTPUT: Final = ("-", "/dev/stdout", "/dev/fd/1")
"""Each names standard output wherever a file to write is named."""
PIPE_CLOSED = 141
"""The reader of the output went away: the result was not delivered, so it is no pass."""
DISK_ERRORS: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS})
NAME_ERRORS: Final = frozenset(
    {errno.ENAMETOOLONG, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EISDIR, errno.EEXIST}
)
"""What the file or folder that was named does not allow."""
EPILOG = """\
exit codes:
  0  pass            everything was judged and is correct
  1  fail            something is broken, or a control did not find its anomaly
  2  usage           a command, an option or a scenario is wrong
  3  inconclusive    something could not be judged here; the output says what
  4  environment     the machine or a database lacks something or went away
  130, 143           stopped by Ctrl-C or SIGTERM; what was found so far is printed
  141                the output pipe was closed

environment:
  JOB_HARNESS_DSN    the PostgreSQL for runs; they create and drop their own databases there
  DATABASE_URL       your system's database; only `audit` and `verify` read it, runs never use it

FILE may be - for standard output; all other output then goes to standard error.
"""


class Command(NamedTuple):
    """What a subcommand does."""

    configure: Callable[[argparse.ArgumentParser], None]
    execute: Callable[[argparse.Namespace], int]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code."""
    if argv is not None:
        return _answered(list(argv))
    _open_streams()
    arguments = sys.argv[1:]
    if _command_of(arguments) in READ_ONLY:
        return _terminable(arguments)
    from job_harness.doors.cli.supervised import supervised

    return supervised(lambda: _terminable(arguments))


def _open_streams() -> None:
    """Open /dev/null for each standard stream that the caller closed: else a pipe of ours would get its number."""
    for number, mode in enumerate(("r", "w", "w")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # It gets the lowest number that is free, which is this one.
            setattr(sys, ("stdin", "stdout", "stderr")[number], open(number, mode, closefd=False))  # noqa: SIM115


def _terminable(arguments: list[str]) -> int:
    """Run a command; where a signal arrived, its exit code is the signal's, also where that came too late to matter."""
    try:
        with Interruptions() as signals:
            code = _answered(arguments)
            return code if signals.exit_code is None else signals.exit_code
    finally:
        _let_go_of(sys.stdout)
        _let_go_of(sys.stderr)


def _let_go_of(stream: TextIO) -> None:
    """Write what is left; if the reader is gone, the interpreter must not try again with an exit code of its own."""
    try:
        stream.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _say(text: str) -> None:
    with suppress(OSError):  # Standard error may be full as well.
        print(text, file=sys.stderr)


def _answered(arguments: list[str]) -> int:
    with printable_streams():
        try:
            return _dispatch_reporting_errors(arguments)
        except Exception as error:  # noqa: BLE001 - whatever nothing has foreseen
            _say(f"{''.join(traceback.format_exception(error))}job-harness: {_own_mistake(error)}")
            return int(ExitCode.INCONCLUSIVE)


def _dispatch_reporting_errors(arguments: list[str]) -> int:
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
        if error.errno in NAME_ERRORS and error.filename is not None:
            _say(f"job-harness: {clipped(error.filename)}: {error.strerror}")
            return int(ExitCode.USAGE)
        if error.errno not in DISK_ERRORS:
            raise
        _say(f"job-harness: {error.filename or 'standard output'}: cannot be written: {error.strerror}")
        return int(ExitCode.ENVIRONMENT)
    except INTERRUPTIONS as stop:
        _say(f"job-harness: {'terminated' if isinstance(stop, Terminated) else 'interrupted'}")
        return exit_code_of(stop)


def _own_mistake(error: Exception) -> NothingToJudge:
    """Return what is said of an error that nothing has foreseen: it must not look like a finding."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    return NothingToJudge(
        f"the command failed, and judged nothing more: {type(error).__name__}: {error}",
        hint=f"This is a bug in job-harness, at {Path(place.filename).name}:{place.lineno}: please report it, with "
        "the lines above.",
    )


class _Parser(argparse.ArgumentParser):
    """Lets a help that cannot be written be an error: argparse passes over it, and says 0."""

    def _print_message(self, message: str, file: Any = None) -> None:
        (file or sys.stderr).write(message)


def _dispatch(arguments: list[str]) -> int:
    parser = _Parser(
        prog="job-harness",
        description="Test and simulate job processors and the queues behind them.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"job-harness {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    chosen = _command_of(arguments)
    used = parser
    for name, (module, summary) in COMMANDS.items():
        sub = commands.add_parser(
            name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.", allow_abbrev=False
        )
        if name == chosen:
            used = sub
            command(module).configure(sub)
    try:
        if chosen is not None and chosen not in COMMANDS:
            parser.error(f"no such command: {chosen!r}{did_you_mean(chosen, COMMANDS)}. {available(COMMANDS)}")
        parsed, unknown = parser.parse_known_args(arguments)
        if unknown:
            used.error(f"unrecognized arguments: {' '.join(unknown)}{_meant(unknown[0], used)}")
    except SystemExit as stop:
        return int(stop.code or 0)
    _keep_standard_output(parsed)
    try:
        with raised_at_once() if parsed.command in READ_ONLY else nullcontext():
            return command(COMMANDS[parsed.command][0]).execute(parsed)
    except SystemExit as stop:
        told = f"the code under test called sys.exit({clipped(stop.code)}); the rest was not judged"
        print(f"job-harness: {told}", file=sys.stderr)
        return int(ExitCode.INCONCLUSIVE)


def _meant(unknown: str, parser: argparse.ArgumentParser) -> str:
    """Say which option is near to one that does not exist, or where one belongs; of other arguments nothing."""
    known = [name for action in parser._actions if action.help != argparse.SUPPRESS for name in action.option_strings]
    option = unknown.partition("=")[0]
    if option in known:
        return " (options stand after the command)"
    return did_you_mean(option, known) if unknown.startswith("-") else ""


def command(where: str) -> Command:
    """Import a command: `module` has `configure(parser)` and `execute(arguments) -> int`.

    In `module:name`, where several share a module, they are called `configure_name` and
    `execute_name`.
    """
    path, _, name = where.partition(":")
    module, suffix = import_module(path), f"_{name}" if name else ""
    return Command(getattr(module, f"configure{suffix}"), getattr(module, f"execute{suffix}"))


def _keep_standard_output(parsed: argparse.Namespace) -> None:
    """Where a document is to go to standard output, let nothing else go there."""
    taken = [f"--{name.replace('_', '-')}" for name, value in vars(parsed).items() if value in STANDARD_OUTPUT]
    if len(taken) > 1:
        raise UsageError(f"{' and '.join(taken)} cannot both be standard output", hint="Name a file for one of them.")
    if taken:
        keep_for_document()


def _command_of(arguments: Sequence[str]) -> str | None:
    return next((argument for argument in arguments if not argument.startswith("-")), None)
