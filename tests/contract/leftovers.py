"""What a child of a test leaves behind: processes that carry its mark, and folders without an owner."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from job_harness.worlds.patience import Deadline

ROOT = Path(__file__).resolve().parents[2]
ROOTS = tuple(dict.fromkeys((Path("/dev/shm"), Path(tempfile.gettempdir()), Path("/tmp"), Path("/var/tmp"))))
BOUND_SECONDS = 25
"""No child runs longer: one that does is a hang, and fails its test."""
GONE_SECONDS = 10
COMMAND = (sys.executable, "-m", "job_harness.doors.cli")


@dataclass(frozen=True, slots=True)
class Ended:
    """How a child ended and what it said."""

    code: int
    out: str
    err: str

    @property
    def said(self) -> str:
        """Both streams, whose lines were broken for the terminal, as one line of words."""
        return " ".join(f"{self.out} {self.err}".split())


@dataclass(slots=True)
class Place:
    """A folder to run children in, and whom they left behind."""

    folder: Path
    mark: str = field(default_factory=lambda: uuid.uuid1().hex)
    older: frozenset[int] = field(default_factory=lambda: frozenset(_pids()))
    """The processes there before this test started any: they carry no mark, and reading all of them is the cost."""
    before: frozenset[Path] = field(default_factory=lambda: frozenset(_clusters()))
    seen: set[str] = field(default_factory=set)
    children: list[subprocess.Popen[str]] = field(default_factory=list)

    def start(self, command: Sequence[str], *, without: Sequence[str] = (), **env: str) -> subprocess.Popen[str]:
        """Start a child that carries the mark, in a process group of its own."""
        environment: Mapping[str, str] = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("JOB_HARNESS_", "PYTEST_"))},
            "PYTHONPATH": str(ROOT),
            "LEFTOVER_MARK": self.mark,
            **env,
        }
        child = subprocess.Popen(
            command,
            cwd=self.folder,
            env={name: value for name, value in environment.items() if name not in without},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.children.append(child)
        return child

    def run(self, *arguments: str, without: Sequence[str] = (), **env: str) -> Ended:
        """Run `job-harness` to its end."""
        return self.end(self.start([*COMMAND, *arguments], without=without, **env))

    def end(self, child: subprocess.Popen[str]) -> Ended:
        """Wait for a child, within bounds."""
        out, err = child.communicate(timeout=BOUND_SECONDS)
        return Ended(child.returncode, out, err)

    def write(self, name: str, text: str | bytes) -> Path:
        """Write a file into the folder."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return path

    def server_of(self, child: subprocess.Popen[str]) -> int | None:
        """Wait for the server that a child started; its process id, or None where the child ended before."""
        deadline = Deadline(BOUND_SECONDS)
        while not deadline.passed:
            for pid in self.processes():
                words = _words(pid)
                if words and words[0].endswith("postgres") and "-D" in words:
                    return pid
            if child.poll() is not None:
                return None
            deadline.pause(0.02)
        raise AssertionError("no server was started")

    def processes(self) -> list[int]:
        """List the processes that carry the mark, or work in a folder of one that did."""
        pids = [pid for pid in _pids() if pid not in self.older]
        marked = [pid for pid in pids if self._marked(pid)]
        for pid in marked:
            self.seen.update(word for word in _words(pid) if Path(word).name.startswith("job-harness-"))
        inside = [pid for pid in pids if any(_cwd(pid).startswith(f"{folder}/") for folder in self.seen)]
        return sorted({*marked, *inside} - {os.getpid()})

    def _marked(self, pid: int) -> bool:
        try:
            return f"LEFTOVER_MARK={self.mark}".encode() in Path(f"/proc/{pid}/environ").read_bytes()
        except OSError:
            return False

    def folders(self) -> list[Path]:
        """List new cluster folders that no living process names: those of others at work are not ours."""
        new = [path for path in _clusters() if path not in self.before]
        if not new:
            return []
        named = {word for entry in Path("/proc").iterdir() if entry.name.isdigit() for word in _words(int(entry.name))}
        return [path for path in new if str(path) not in named and path.exists()]

    def assert_clean(self) -> None:
        """Fail where a process or a folder is still there after a while."""
        deadline = Deadline(GONE_SECONDS)
        while (left := (self.processes(), self.folders())) != ([], []):
            assert not deadline.passed, f"left behind: {left}"
            deadline.pause(0.02)


@contextmanager
def clean_place(folder: Path) -> Iterator[Place]:
    """Return a place, and see to it that nothing is left there; what is left is ended all the same."""
    place = Place(folder)
    try:
        yield place
        for child in place.children:
            if child.poll() is None:
                child.kill()
            child.communicate()
        place.assert_clean()
    finally:
        for pid in place.processes():
            os.kill(pid, signal.SIGKILL)
        for child in place.children:
            child.wait()


def _pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _clusters() -> list[Path]:
    found = []
    for root in ROOTS:
        if root.is_dir():
            found.extend(path for path in root.glob("job-harness-????????") if path.is_dir())
    return found


def _words(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return []


def _cwd(pid: int) -> str:
    try:
        return os.readlink(f"/proc/{pid}/cwd")
    except OSError:
        return ""
