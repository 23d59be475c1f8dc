"""The command `job-harness`: a table of subcommands, imported one at a time, and exit codes that mean something.

0 pass, 1 fail, 2 usage, 3 inconclusive, 4 environment; 130 after Ctrl-C, 143 after SIGTERM, with what was found so far.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Final, NoReturn

from harness import __version__
from harness.errors import ExitCode, HarnessError

COMMANDS: Final[dict[str, tuple[str, str]]] = {
    "run": ("harness.cli.run_command", "run scenarios and judge what happens"),
    "explore": ("harness.cli.explore_command", "search an engine for a run that breaks an invariant"),
    "exhaust": ("harness.cli.exhaust_command", "look at every run within a small scope"),
    "conform": ("harness.cli.conform_command", "say how far queues conform, level by level"),
    "check": ("harness.cli.check_command", "check what a repository sets for its job queue"),
    "verify": ("harness.cli.verify_command", "send one job through a running system, and watch it to its end"),
    "init": ("harness.cli.init_command", "write a first test, a first scenario and a CI workflow"),
    "new": ("harness.cli.new_command", "write a new tool: processor, registration, worker list, test, scenario"),
    "schema": ("harness.cli.schema_command", "print the JSON schema of scenario files"),
}
"""Subcommand -> its module (which has `configure(parser)` and `execute(arguments) -> int`), and what it does."""

INTERRUPTED = 130
TERMINATED = 143
EPILOG = """\
exit codes:
  0  pass            everything was judged, and holds
  1  fail            something was breached, or a control did not find its anomaly
  2  usage           a command, an option or a scenario that makes no sense
  3  inconclusive    something asked for could not be judged here; the output says what
  4  environment     the machine, or a database, is missing something or went away
  130, 143           stopped by Ctrl-C or SIGTERM; what was found so far is printed
"""


class Terminated(BaseException):
    """SIGTERM arrived."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; answers its exit code."""
    _printable_streams()
    arguments = list(sys.argv[1:] if argv is None else argv)
    before = signal.signal(signal.SIGTERM, _terminate) if argv is None else None
    try:
        return _dispatch(arguments)
    except HarnessError as error:
        print(f"job-harness: {error}", file=sys.stderr)
        return int(error.exit_code)
    except BrokenPipeError:
        sys.stderr.close()
        return int(ExitCode.PASS)
    except KeyboardInterrupt:
        print("job-harness: interrupted", file=sys.stderr)
        return INTERRUPTED
    except Terminated:
        print("job-harness: terminated", file=sys.stderr)
        return TERMINATED
    finally:
        if before is not None:
            signal.signal(signal.SIGTERM, before)


def _terminate(number: int, frame: object) -> NoReturn:
    """End once: `timeout` signals a process and its group, and the second must not cut short what the first prints."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise Terminated


def _printable_streams() -> None:
    """A lone surrogate in a job's error, or a terminal that knows only ASCII, must not stop a report."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")


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
    chosen = next((argument for argument in arguments if not argument.startswith("-")), None)
    for name, (module, summary) in COMMANDS.items():
        sub = commands.add_parser(
            name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.", allow_abbrev=False
        )
        if name == chosen:
            import_module(module).configure(sub)
    try:
        parsed = parser.parse_args(arguments)
    except SystemExit as stop:
        return int(stop.code or 0)
    code: int = import_module(COMMANDS[parsed.command][0]).execute(parsed)
    return code
