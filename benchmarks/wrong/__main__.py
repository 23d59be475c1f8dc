"""Runs programs and files that are wrong, each through its door under CI=1, and prints how it ended.

None of them may pass.

Usage: python benchmarks/wrong [--only WORD]... [--processes N]

A table (`*.yaml` beside this file) has a door, which is a command, and the programs that go through it. Each says what
is `wrong` with it, and which words its report must have (`says`): a program that fails for another reason proves
nothing. `parts` fill `<<name>>` in a table's files; `copies` are files of this repository, in which `replace` puts one
text in the place of another. It ends with 1 where a program passed, or did not say why it failed.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple, NoReturn

from ruamel.yaml import YAML

HERE: Final = Path(__file__).resolve().parent
ROOT: Final = HERE.parents[1]
SECONDS: Final = 180
"""Real seconds that one program may take."""
PASS: Final = "pass"
VERDICTS: Final = {0: PASS, 1: "fail", 2: "refused", 3: "inconclusive", 4: "environment"}
"""Of our commands, by exit code."""
OF_PYTEST: Final = {0: PASS, 1: "fail", 2: "interrupted", 3: "internal error", 4: "refused", 5: "no tests"}


class WrongProgram(NamedTuple):
    """One of them."""

    table: str
    name: str
    wrong: str
    command: str
    files: dict[str, str]
    says: str


class Ended(NamedTuple):
    """How one ended."""

    program: WrongProgram
    code: int
    told: str

    @property
    def verdict(self) -> str:
        """The exit code in a word."""
        verdicts = OF_PYTEST if self.program.command.startswith("pytest ") else VERDICTS
        return verdicts.get(self.code, f"code {self.code}")

    @property
    def problem(self) -> str:
        """Why this is no verdict on a wrong program; empty where it is one."""
        if self.code == 0:
            return "it passes"
        said = re.search(self.program.says, self.told, re.DOTALL)
        return "" if said else f"it does not say {self.program.says!r}:\n{self.told[-1500:]}"


def programs() -> Iterator[WrongProgram]:
    """Read the tables."""
    for path in sorted(HERE.glob("*.yaml")):
        table = YAML(typ="safe").load(path)
        for name, entry in table["programs"].items():
            yield _program(path.stem, name, entry, table)


def _program(table: str, name: str, entry: dict[str, Any], of: dict[str, Any]) -> WrongProgram:
    """Put the parts of a table around those of a program: `{name}` in a file of the table is a part of the program."""
    parts = {**of.get("parts", {}), **entry}
    files = {**of.get("files", {}), **entry.get("files", {})}
    written = {path: re.sub(r"<<(\w+)>>", lambda part: str(parts[part[1]]), text) for path, text in files.items()}
    for path, source in of.get("copies", {}).items():
        written[path] = (ROOT / source).read_text(encoding="utf-8")
    for old, new in entry.get("replace", {}).items():
        found = [path for path, text in written.items() if old in text]
        if len(found) != 1:
            raise ValueError(f"{table}/{name}: {old!r} is in {found or 'none'} of its files")
        written[found[0]] = written[found[0]].replace(old, new)
    command = str(parts.get("command", of["command"]))
    return WrongProgram(table, name, entry["wrong"], command, written, entry["says"])


def run(program: WrongProgram, folder: Path) -> int:
    """Start it in a forked child, which has everything imported already; return its process."""
    if (pid := os.fork()) == 0:
        try:
            os.setpgid(0, 0)
            _become(program, folder)
        finally:
            os._exit(70)
    return pid


def _become(program: WrongProgram, folder: Path) -> NoReturn:
    for name, text in program.files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    os.chdir(folder)
    os.environ |= {"CI": "1", "COLUMNS": "120"}
    out = os.open("told.txt", os.O_WRONLY | os.O_CREAT)
    os.dup2(out, 1)
    os.dup2(out, 2)
    sys.path.insert(0, str(folder))
    door, *arguments = shlex.split(program.command)
    try:
        code = _pytest(arguments) if door == "pytest" else _job_harness([door, *arguments])
    except BaseException:  # noqa: BLE001 - it is told, and is no verdict
        traceback.print_exc()
        code = 70
    sys.stdout.flush()
    os._exit(code)


def _pytest(arguments: list[str]) -> int:
    import pytest

    return int(pytest.main(["-p", "no:cacheprovider", "--strict-markers", "-W", "error", *arguments]))


def _job_harness(arguments: list[str]) -> int:
    from job_harness.doors.cli import main

    return main(arguments)


def ended(waiting: dict[int, tuple[WrongProgram, Path, float]]) -> Iterator[Ended]:
    """Yield those that have ended, and end those that take too long."""
    for pid, (program, folder, until) in list(waiting.items()):
        found, status = os.waitpid(pid, os.WNOHANG)
        if not found and time.monotonic() < until:
            continue
        if not found:
            os.killpg(pid, signal.SIGKILL)
            _, status = os.waitpid(pid, 0)
        del waiting[pid]
        told = (folder / "told.txt").read_text(errors="replace") if (folder / "told.txt").exists() else ""
        yield Ended(program, os.waitstatus_to_exitcode(status), told)


def main() -> int:
    """Run them; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", default=[], metavar="WORD", help="programs with this in their name")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--verbose", action="store_true", help="print what each of them says")
    asked = parser.parse_args()
    import job_harness.doors.pytest.explored_test  # noqa: F401 - each child has it, at the price of a fork
    from job_harness.doors.cli import main as _  # noqa: F401

    todo = [each for each in programs() if not asked.only or any(w in f"{each.table}/{each.name}" for w in asked.only)]
    left, waiting, counts, bad = list(reversed(todo)), dict[int, tuple[WrongProgram, Path, float]](), 0, 0
    with tempfile.TemporaryDirectory(prefix="wrong-") as place:
        while left or waiting:
            while left and len(waiting) < asked.processes:
                program = left.pop()
                folder = Path(place, f"{program.table}-{program.name}")
                folder.mkdir()
                waiting[run(program, folder)] = program, folder, time.monotonic() + SECONDS
            for each in ended(waiting):
                counts += 1
                bad += bool(each.problem)
                shown = f"{each.verdict:<13}{each.program.table}/{each.program.name}: {each.program.wrong}"
                print(shown + (f"\n  WRONG: {each.problem}" if each.problem else ""), flush=True)
                if asked.verbose:
                    print(each.told)
            time.sleep(0.02)
    print(f"{counts} wrong programs, {bad} of them not seen to be wrong")
    return 1 if bad or not counts else 0


if __name__ == "__main__":
    sys.exit(main())
