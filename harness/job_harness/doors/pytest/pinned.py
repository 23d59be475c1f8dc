"""A finding that is kept as a test of its own: a file with its token, and the test in whose body it happens.

`--job-pin` writes the file; pytest collects it, and plays the token again. A token is of one body and one set of
fixtures, so the test itself is played, in a process of its own, and not a copy. Must not know how runs are chosen.
"""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import pytest

FOLDER: Final = "tests/regressions"
MOST_SECONDS: Final = 600
FIRST_KEY: Final = b"pinned:"
FITS_NOT: Final = "no longer fits"
"""What a replay says of a token whose gates do not come up any more."""
_NOT_THERE: Final = (pytest.ExitCode.USAGE_ERROR, pytest.ExitCode.NO_TESTS_COLLECTED)


def write_pin(
    item: pytest.Function, *, anomaly: str, token: str, message: str, lines: Sequence[str], options: str, name: str
) -> str:
    """Write a finding into the folder of pins, and return the file as a person finds it."""
    path = item.config.rootpath / FOLDER / f"{anomaly}-{name}.yaml"
    about = {"test": item.nodeid, "replay": token, "found": message, "options": options}
    told = [f"pinned: {anomaly}", *(f"{key}: {json.dumps(value)}" for key, value in about.items() if value)]
    told += ["lines:", *(f"  - {json.dumps(line)}" for line in lines)] if lines else []
    told += ["body: |  # as it was then; what is played is the test itself", textwrap.indent(_body(item), "  ")]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(told) + "\n", encoding="utf-8", errors="backslashreplace")
    return path.relative_to(item.config.rootpath).as_posix()


def _body(item: pytest.Function) -> str:
    try:
        return textwrap.dedent(inspect.getsource(item.function)).rstrip()
    except (OSError, TypeError):
        return "(not known)"


def is_pin(path: Path) -> bool:
    """Whether a YAML file is one of these."""
    try:
        with path.open("rb") as file:
            return file.read(len(FIRST_KEY)) == FIRST_KEY
    except OSError:
        return False


class PinnedFile(pytest.File):
    """One file."""

    def collect(self) -> Iterator[pytest.Item]:
        """Return its one test. Raises CollectError for a file that lacks a key."""
        from ruamel.yaml import YAML
        from ruamel.yaml.error import YAMLError

        try:
            read: Any = YAML(typ="safe").load(self.path.read_text(encoding="utf-8"))
        except YAMLError as error:
            raise self.CollectError(f"{self.nodeid}: not readable as YAML: {error}") from None
        wanted = ("pinned", "test", "replay")
        missing = [key for key in wanted if not isinstance(read, dict) or not isinstance(read.get(key), str)]
        if missing:
            raise self.CollectError(f"{self.nodeid}: {missing[0]!r} is missing; `pytest --job-pin` writes such files")
        item: PinnedFinding = PinnedFinding.from_parent(self, name=read["pinned"])
        item.test, item.token, item.given = read["test"], read["replay"], str(read.get("options", "")).split()
        yield item


class PinnedFinding(pytest.Item):
    """A finding: it passes where its run happens as its token says, and shows nothing any more."""

    test: str
    token: str
    given: list[str]

    def runtest(self) -> None:
        """Replay it."""
        from job_harness.subjects.processors.judgement import judged_nothing

        command = [sys.executable, "-m", "pytest", self.test, *self.given, "--job-replay", self.token, "-q", "-rs"]
        ended = subprocess.run(
            command, cwd=self.config.rootpath, capture_output=True, text=True, timeout=MOST_SECONDS, check=False
        )
        told = ended.stdout + ended.stderr
        if ended.returncode in _NOT_THERE:
            raise pytest.fail.Exception(
                f"the test that this finding belongs to cannot be collected: {self.test}\n"
                f"  Correct `test` in {self.nodeid.partition('::')[0]} if it has another name, or delete the file.",
                pytrace=False,
            )
        if FITS_NOT in told:
            why = next(line for line in told.splitlines() if FITS_NOT in line).partition(f"{FITS_NOT} this test; ")[2]
            anew = f"find it anew: pytest {self.test} --job-explore 200"
            raise judged_nothing(f"this finding {FITS_NOT} its test: {why.strip()}; {anew}")
        if ended.returncode:
            raise pytest.fail.Exception(told.partition("FAILURES")[2].partition("\n")[2] or told, pytrace=False)

    def reportinfo(self) -> tuple[Path, None, str]:
        """Name it for a report."""
        return self.path, None, f"{self.name} in {self.test}"
