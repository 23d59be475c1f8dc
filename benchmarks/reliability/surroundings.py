"""The same seed gives the same bytes, whatever surrounds it: hash seeds, time zones, locales, Pythons, tools."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from job_harness.errors import HarnessError
from job_harness.worlds.peers import newest_python, python_package
from reliability.size import Proof, Size

ROOT: Final = Path(__file__).resolve().parents[2]
SOURCES: Final = os.pathsep.join(map(str, (ROOT, ROOT / "harness", ROOT / "reference_impl")))
RECORDING: Final = ROOT / "tests" / "determinism" / "recording.py"
PYTHONS: Final = ("3.11", "3.12", "3.13", "3.14")
BOUND_SECONDS: Final = 600
UNDER_PYTEST: Final = """
import runpy, pathlib, sys
def test_a(): pass
def test_record():
    recording = runpy.run_path({recording!r})
    pathlib.Path("digests").write_text(chr(10).join(recording["digests"]({seeds})))
"""


@dataclass(frozen=True, slots=True)
class Surrounding:
    """One way to be called; `missing` says why it is not available here."""

    name: str
    command: Sequence[str] = (sys.executable,)
    environment: Mapping[str, str] = field(default_factory=dict)
    umask: int = 0o022
    missing: str = ""
    under_pytest: bool = False


def prove(size: Size, *, seed: int) -> Proof:
    """Record the same histories in every surrounding, and compare their digests."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        here = _recorded(Surrounding("as it is"), size.seeds, folder)
        rows, different, compared = [], 0, 0
        for each in _surroundings():
            if each.missing:
                rows.append((each.name, "-", each.missing))
                continue
            theirs = _recorded(each, size.seeds, folder)
            unlike = sum(one != other for one, other in zip(here, theirs, strict=False)) + abs(len(here) - len(theirs))
            different += unlike
            compared += 1
            rows.append((each.name, str(len(theirs)), str(unlike)))
    whole = hashlib.sha256("".join(here).encode()).hexdigest()[:16]
    result = (
        f"{len(here)} histories in {compared} surroundings: {different} differ from those of Python "
        f"{'.'.join(map(str, sys.version_info[:3]))} as it is (all together: `{whole}`)."
    )
    about = (
        "The generic workload runs on the model queue and on an application, and one long scenario is played. For "
        "each surrounding, a separate process records the histories of the same seeds; they are compared by their "
        "SHA-256."
    )
    columns = ("surrounding", "histories", "different")
    return Proof("Determinism", about, columns, tuple(rows), result, held=bool(here) and not different)


def _surroundings() -> Iterator[Surrounding]:
    for value in ("0", "1", "424242", "random"):
        yield Surrounding(f"`PYTHONHASHSEED={value}`", environment={"PYTHONHASHSEED": value})
    for option in ("-O", "-OO", "-X dev", "-I"):
        yield Surrounding(f"`python {option}`", command=(sys.executable, *option.split()))
    for zone in ("Asia/Kathmandu", "America/St_Johns", "Pacific/Kiritimati"):
        yield Surrounding(f"`TZ={zone}`", environment={"TZ": zone})
    for name in ("C", "C.UTF-8", "POSIX"):
        yield Surrounding(f"`LC_ALL={name}`", environment={"LC_ALL": name, "PYTHONUTF8": "0"})
    for mask in (0o000, 0o077):
        yield Surrounding(f"umask {mask:03o}", umask=mask)
    for version in PYTHONS:
        yield from _pythons(version)
    yield _with_package("coverage", "coverage of every line and branch", _coverage)
    yield _with_package("pytest-randomly", "pytest with pytest-randomly", _randomly)


def _pythons(version: str) -> Iterator[Surrounding]:
    """Find every Python of this version; all that is recorded needs the standard library alone."""
    installed = sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python"))
    found = [str(path) for path in installed] + [path for path in (f"/usr/bin/python{version}",) if Path(path).exists()]
    if not found and (on_path := shutil.which(f"python{version}")):
        found = [on_path]
    working = {path: told for path in found if (told := _version(path)).startswith(f"{version}.")}
    for path, told in working.items():
        yield Surrounding(f"Python {told}{' of the system' if path.startswith('/usr/') else ''}", command=(path, "-S"))
    if not working:
        yield Surrounding(f"Python {version}", missing="is not on this machine")


def _version(python: str) -> str:
    ask = [python, "-S", "-c", "import sys; print('%d.%d.%d' % sys.version_info[:3])"]
    return subprocess.run(ask, capture_output=True, text=True, timeout=60, check=False).stdout.strip()


def _with_package(package: str, name: str, make: Callable[[str, str], Surrounding]) -> Surrounding:
    try:
        return make(name, str(python_package(package, newest_python(package, "latest"))))
    except HarnessError as error:
        return Surrounding(name, missing=error.message)


def _coverage(name: str, folder: str) -> Surrounding:
    command = (sys.executable, "-m", "coverage", "run", "--branch", "--data-file=covered", "--source=job_harness")
    return Surrounding(name, command=command, environment={"PYTHONPATH": os.pathsep.join((SOURCES, folder))})


def _randomly(name: str, folder: str) -> Surrounding:
    path = os.pathsep.join((SOURCES, folder))
    return Surrounding(name, environment={"PYTHONPATH": path}, under_pytest=True)


def _recorded(each: Surrounding, seeds: int, folder: Path) -> list[str]:
    """Return the digests; none where it fails, which then counts as different."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PYTEST_", "LC_"))}
    environment = {**kept, "PYTHONPATH": SOURCES, "PYTHONDONTWRITEBYTECODE": "1", **each.environment}
    command = [*each.command, str(RECORDING), str(seeds)]
    if "-I" in each.command:
        command = [*each.command, "-c", _ISOLATED, SOURCES, str(RECORDING), str(seeds)]
    if each.under_pytest:
        (folder / "test_it.py").write_text(UNDER_PYTEST.format(recording=str(RECORDING), seeds=seeds))
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_it.py"]
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        umask=each.umask,
        capture_output=True,
        text=True,
        timeout=BOUND_SECONDS,
        check=False,
    )
    if done.returncode:
        print(f"{each.name}: exit code {done.returncode}\n{done.stdout[-500:]}{done.stderr[-1500:]}", file=sys.stderr)
        return []
    return (folder / "digests").read_text().split() if each.under_pytest else _digests(done.stdout)


_ISOLATED: Final = """
import runpy, sys
sources, *sys.argv = sys.argv[1:]
sys.path[:0] = sources.split(":")
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def _digests(text: str) -> list[str]:
    return [word for word in text.split() if len(word) == 64]
