"""`job-harness conform`: how far queues conform, level by level."""

from __future__ import annotations

import argparse
import json

from harness.cli.output import OutputFile
from harness.conformance.judge import Conformance, Level, conform
from harness.conformance.tables import detail, matrix, table
from harness.errors import EnvironmentUnavailable, ExitCode, HarnessError, UsageError
from harness.explore.finding import broken_engine
from harness.port import Engine
from harness.wiring import SESSIONS, Engines, named, split_name

TARGETS = "engines, or module:factory or file.py:factory of your own, with commas (default: memory)"
ORDER = (ExitCode.FAIL, ExitCode.ENVIRONMENT, ExitCode.USAGE, ExitCode.INCONCLUSIVE)


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    add("targets", nargs="?", default="memory", metavar="ENGINES", help=TARGETS)
    add("--sessions", action="store_true", help=SESSIONS)
    add("--level", action="append", default=[], choices=[str(level) for level in Level], help="only this level")
    add("--cases", action="store_true", help="a row for each case, a column for each engine, and what explains each")
    add("--json", metavar="FILE", help="write the results as JSON")
    add("--quiet", "-q", action="store_true", help="leave out what an engine does not claim to do")


def execute(arguments: argparse.Namespace) -> int:
    """Run the cases on each engine, and tell."""
    names = [named(name, sessions=arguments.sessions) for name in arguments.targets.split(",") if name.strip()]
    if not names:
        raise UsageError("no engine is named", hint="Write job-harness conform memory,postgres.")
    for name in names:
        split_name(name)
    output = OutputFile.checked(arguments.json, "--json") if arguments.json else None
    levels = [Level(name) for name in arguments.level] or list(Level)
    results, codes = _conformances(names, levels, quiet=arguments.quiet)
    if len(names) > 1:
        print("\n".join(table(results)))
    if arguments.cases:
        print("\n" * (len(names) > 1) + "\n".join(matrix(results)))
    if output is not None:
        output.write(json.dumps([result.as_data() for result in results], indent=2) + "\n")
    codes.extend(result.exit_code for result in results)
    return int(next((code for code in ORDER if code in codes), ExitCode.PASS))


def _conformance(engine: Engine, name: str, levels: list[Level]) -> Conformance:
    if engine.info.processes is not None:
        raise UsageError(
            f"{name} is an application: the suite asks the verbs of a queue, and it has none",
            hint=f"Search it instead: job-harness explore {name}.",
        )
    try:
        return conform(engine, levels=levels)
    except HarnessError:
        raise
    except (Exception, SystemExit) as error:
        raise broken_engine(name, error) from error


def _conformances(names: list[str], levels: list[Level], *, quiet: bool) -> tuple[list[Conformance], list[ExitCode]]:
    results: list[Conformance] = []
    codes: list[ExitCode] = []
    with Engines() as engines:
        for name in names:
            try:
                results.append(_conformance(engines.get(name), name, levels))
            except EnvironmentUnavailable as error:
                codes.append(error.exit_code)
                print(f"{name}: not judged: {error}\n")
                continue
            print("\n".join(detail(results[-1], quiet=quiet)) + "\n")
    return results, codes
