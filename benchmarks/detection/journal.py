"""Keeps each measurement when it is made, so that a command that was stopped goes on where it was.

A line of the file is one measurement: what was asked, and the answer. The first line says of which code: other code's
measurements are not mixed with these, and the file begins anew.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import Executor, Future, as_completed
from dataclasses import asdict, dataclass, field, is_dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ("harness", "benchmarks/detection")


class Question(NamedTuple):
    """One measurement: which function, and what it is asked."""

    function: Any
    """At the top of a module; it answers with a dataclass of what JSON can hold, or with that itself."""
    arguments: tuple[Any, ...]
    named: tuple[tuple[str, Any], ...] = ()
    answer: Any = None
    """The dataclass, if it is one."""

    def read(self, answer: Any) -> Any:
        """Return an answer as the function gave it."""
        return answer if self.answer is None else self.answer(**answer)

    @property
    def key(self) -> str:
        """Name it, the same in every process."""
        told = [*map(str, self.arguments), *(f"{name}={value}" for name, value in self.named)]
        return f"{self.function.__name__}({', '.join(told)})"


def fingerprint() -> str:
    """Return what changes with the code that is measured, or that measures."""
    digest = sha256()
    for source in SOURCES:
        for path in sorted((ROOT / source).rglob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


@dataclass
class Journal:
    """The measurements in a file."""

    path: Path
    answers: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def opened(cls, path: Path) -> Journal:
        """Read a file, or begin one; one of other code is begun anew."""
        head = json.dumps({"code": fingerprint()})
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        kept = dict(_whole(lines[1:])) if lines and lines[0] == head else {}
        path.parent.mkdir(parents=True, exist_ok=True)
        whole = [head, *(json.dumps([key, answer]) for key, answer in kept.items())]
        path.write_text("\n".join(whole) + "\n", encoding="utf-8")
        return cls(path, kept)

    def ask(self, pool: Executor, questions: list[Question]) -> list[Any]:
        """Return the answers in the order of the questions; what is answered already is not asked again."""
        asked: dict[Future[Any], str] = {
            pool.submit(one.function, *one.arguments, **dict(one.named)): one.key
            for one in questions
            if one.key not in self.answers
        }
        with self.path.open("a", encoding="utf-8") as file:
            for done in as_completed(asked):
                key = asked[done]
                answer = done.result()
                self.answers[key] = asdict(answer) if is_dataclass(answer) else answer  # type: ignore[arg-type]
                file.write(json.dumps([key, self.answers[key]]) + "\n")
                file.flush()
        return [one.read(self.answers[one.key]) for one in questions]


def _whole(lines: list[str]) -> Iterator[tuple[str, Any]]:
    """Read lines; the last one may have been cut off when the command was stopped."""
    for line in lines:
        try:
            key, answer = json.loads(line)
        except ValueError:
            continue
        yield key, answer
