"""A child process that answers one question after the other, on lines of JSON, and ends with its parent.

Whatever the child does (dies, floods its output, answers late, twice or with nonsense), the parent gets a named error
within a time limit, and no process is left behind.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Protocol, TypeAlias

from harness.errors import EnvironmentUnavailable
from harness.postgres.patience import Deadline
from harness.private import NOBODY_ELSE

MARK: Final = b"@harness "
"""A line that answers begins with this; every other line is the child's own talk."""
ANSWER_SECONDS: Final = 20.0
LEAVE_SECONDS: Final = 0.2
"""How long a child may take to leave once nobody asks it any more."""
KILL_SECONDS: Final = 5.0
TALK_LINES: Final = 20
LONGEST: Final = 64 * 1024 * 1024
"""Bytes of one line: past that it is a flood, not an answer."""
ANSWERING: Final = Path(__file__).with_name("answering.py")
_DEATH_SIGNAL: Final = 1

Reply: TypeAlias = Mapping[str, Any]


class Answering(Protocol):
    """Who is asked: a child, or one of its sessions."""

    def ask(self, question: str, arguments: Mapping[str, Any] | None = None) -> Reply:
        """Answer what was answered: `value`, `refused` or `raised`."""
        ...


class ChildDied(EnvironmentUnavailable):
    """The child is gone: it ended by itself, or was ended because it did not answer."""


class Child:
    """One child. `ask` sends a question and waits for its answer."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        name: str,
        environment: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> None:
        """Start the child; `name` is what errors call it. Raises EnvironmentUnavailable where it cannot be started."""
        self.name = name
        self._talk: deque[str] = deque(maxlen=TALK_LINES)
        self._unread = b""
        self._number = 0
        self._posted: dict[int, str] = {}
        """Questions under way beside the one that is waited for."""
        self._answered: dict[int, Reply] = {}
        read, write = os.pipe()
        try:
            self._process = subprocess.Popen(
                command,
                cwd=cwd,
                env={**os.environ, **(environment or {})},
                stdin=subprocess.PIPE,
                stdout=write,
                stderr=write,
                preexec_fn=_die_with_parent if sys.platform == "linux" else None,
                umask=NOBODY_ELSE,  # What it writes beside its packages, such as bytecode, is run by the next one.
            )
        except OSError as error:
            os.close(read)
            raise EnvironmentUnavailable(
                f"{name} cannot be started: {error}", hint=f"Is {command[0]} there?"
            ) from error
        finally:
            os.close(write)
        self._read = read
        self._open = True

    @property
    def pid(self) -> int:
        """The child's process id."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the child still runs."""
        return self._open and self._process.poll() is None

    def ask(
        self, question: str, arguments: Mapping[str, Any] | None = None, *, seconds: float = ANSWER_SECONDS
    ) -> Reply:
        """Send a question and wait for its answer, at most so long in real time.

        Raises ChildDied, with what the child last said, where no answer comes or what comes is none.
        """
        number = self._send(question, arguments or {}, {})
        deadline = Deadline(seconds)
        while True:
            answer = self._answer(question, deadline)
            if answer.get("id") == number:
                return answer
            self._sort(question, answer)

    def post(self, question: str, arguments: Mapping[str, Any] | None = None, *, session: str) -> int:
        """Send a question to one of the child's sessions and wait for nothing; answers its number.

        Raises ChildDied where the child takes no more questions.
        """
        number = self._send(question, arguments or {}, {"session": session})
        self._posted[number] = question
        return number

    def reply(self, number: int) -> Reply | None:
        """Take the answer to a posted question, if it came; waits for nothing."""
        question = self._posted.get(number, "")
        now = Deadline(0.0)
        while number not in self._answered and self._came():
            self._sort(question, self._answer(question, now))
        answered = self._answered.pop(number, None)
        if answered is not None:
            self._posted.pop(number, None)
        return answered

    def forget(self, number: int) -> None:
        """Do not care any more for the answer to a posted question."""
        self._posted.pop(number, None)
        self._answered.pop(number, None)

    def overdue(self, number: int) -> ChildDied:
        """End the child, which did not answer a posted question in time; answers the error that says so."""
        return self._ended(f"did not answer {self._posted.get(number, '')!r} in time")

    @property
    def descriptor(self) -> int:
        """What becomes readable when the child says something."""
        return self._read

    def _send(self, question: str, arguments: Mapping[str, Any], beside: Mapping[str, Any]) -> int:
        self._number += 1
        line = json.dumps({"id": self._number, "ask": question, "with": arguments, **beside}) + "\n"
        try:
            assert self._process.stdin is not None
            self._process.stdin.write(line.encode())
            self._process.stdin.flush()
        except (OSError, ValueError):  # Its end of the pipe is closed, or ours is since it was killed.
            raise self._died(f"took no more questions at {question!r}") from None
        return self._number

    def _sort(self, question: str, answer: dict[str, Any]) -> None:
        """Put an answer to another question where it belongs."""
        number = answer.get("id")
        if not isinstance(number, int) or number > self._number:
            raise self._ended(f"answered {question!r} with an answer to nothing")
        if number in self._posted and number not in self._answered:
            self._answered[number] = answer
        else:
            self._talk.append(f"(a late or second answer to question {number})")

    def _came(self) -> bool:
        """Say whether a whole answer is there; talk is put aside."""
        while True:
            while b"\n" in self._unread:
                line, _, rest = self._unread.partition(b"\n")
                if line.startswith(MARK):
                    return True
                self._unread = rest
                if text := line.decode("utf-8", "replace").rstrip():
                    self._talk.append(text[:400])
            if not select.select([self._read], [], [], 0)[0]:
                return False
            read = os.read(self._read, 1 << 20)
            if not read:
                raise self._died("went away")
            self._unread += read

    def _answer(self, question: str, deadline: Deadline) -> dict[str, Any]:
        while True:
            line = self._line(question, deadline)
            if not line.startswith(MARK):
                if text := line.decode("utf-8", "replace").rstrip():
                    self._talk.append(text[:400])
                continue
            try:
                answer = json.loads(line[len(MARK) :])
            except ValueError:
                raise self._ended(f"answered {question!r} with what is no JSON") from None
            if not isinstance(answer, dict):
                raise self._ended(f"answered {question!r} with what is no object")
            return answer

    def _line(self, question: str, deadline: Deadline) -> bytes:
        while b"\n" not in self._unread:
            if len(self._unread) > LONGEST:
                raise self._ended(f"wrote a line of more than {LONGEST} bytes at {question!r}")
            ready, _, _ = select.select([self._read], [], [], deadline.left)
            if not ready:
                raise self._ended(f"did not answer {question!r} in time")
            read = os.read(self._read, 1 << 20)
            if not read:
                raise self._died(f"went away at {question!r}")
            self._unread += read
            if deadline.passed and b"\n" not in read:
                raise self._ended(f"did not answer {question!r} in time")
        line, _, self._unread = self._unread.partition(b"\n")
        return line

    def kill(self) -> None:
        """End the child at once, as a power cut would: none of its cleaning up runs."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGKILL)
        self.close()

    def close(self) -> None:
        """End the child. Never raises."""
        if not self._open:
            return
        self._open = False
        if self._process.stdin is not None:
            with suppress(OSError):  # It was full, and nobody reads it any more.
                self._process.stdin.close()
        for seconds in (LEAVE_SECONDS, KILL_SECONDS):
            try:
                self._process.wait(seconds)
                break
            except subprocess.TimeoutExpired:
                self._process.kill()
        os.close(self._read)

    def _ended(self, what: str) -> ChildDied:
        self.kill()
        return self._complaint(what)

    def _died(self, what: str) -> ChildDied:
        code = self._process.poll()
        self.close()
        code = self._process.returncode if code is None else code
        return self._complaint(f"{what} (exit code {code})")

    def _complaint(self, what: str) -> ChildDied:
        said = "\n".join(f"  {line}" for line in self._talk)
        return ChildDied(f"{self.name} {what}" + (f"; it last said:\n{said}" if said else ""))


def python_child(script: Path, *, name: str, packages: Path, environment: Mapping[str, str] | None = None) -> Child:
    """Start a child that answers with a script's class `Answers`; it sees `packages`, and nothing of ours."""
    return Child(
        [sys.executable, "-P", str(ANSWERING), str(script)],
        name=name,
        environment={**(environment or {}), "PYTHONPATH": str(packages), "PYTHONUNBUFFERED": "1"},
    )


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_DEATH_SIGNAL, signal.SIGKILL)
