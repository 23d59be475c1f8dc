"""What no input may do to the product: the rules that every fuzzer holds it to, and what a judged command said.

An *input* is a folder: file name -> bytes. A fuzzer writes it, has the product read it, and raises `Fault` where a rule
is broken. Must not know: how inputs are made, how long a campaign takes.
"""

from __future__ import annotations

import io
import json
import os
import re
import signal
import time
import traceback
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

from job_harness.doors.cli import main

Files: TypeAlias = Mapping[str, bytes]

DOCUMENTED: Final = frozenset({0, 1, 2, 3, 4})
"""The exit codes of the command line; 130, 143 and 141 need a signal, or a reader who left."""
SECONDS: Final = 5.0
"""CPU seconds that one input may take."""
HANG_SECONDS: Final = 60.0
"""Real seconds after which it counts as a hang, whatever it does."""
LARGEST_OUTPUT: Final = 200_000
"""Characters that one input may have printed to both streams."""
RULES: Final = {
    "traceback": "an error that is none of the product's own, or a traceback on a screen",
    "exit code": "an exit code that is not documented for this",
    "too long": f"more than {SECONDS:g} s of CPU time for one input",
    "hang": f"no end within {HANG_SECONDS:g} s of real time",
    "too much": f"more than {LARGEST_OUTPUT} characters of output",
    "raw signs": "what a terminal or a CI log would obey, in the output",
    "broken document": "a JSON, SARIF or JUnit file that cannot be read",
    "false green": "a pass for something that was not judged",
    "wrong answer": "an answer that its own documentation rules out",
    "death": "the process ended",
}
"""What counts as a failure."""
_COMMAND_OF_CI: Final = re.compile(r"^\s*::", re.MULTILINE)
_ANNOTATION: Final = re.compile(r"^::(error|warning|notice)( [^\n]*?)?::", re.MULTILINE)


class Fault(Exception):
    """A rule that was broken: its name in `RULES`, what was seen, and at which place, so that it is told once."""

    def __init__(self, rule: str, what: str, *, place: str = "") -> None:
        assert rule in RULES, rule
        super().__init__(f"{rule}: {what}")
        self.rule = rule
        self.what = what
        self.place = place or what.splitlines()[0][:80]


class _Hang(BaseException):
    pass


@dataclass(frozen=True, slots=True)
class Said:
    """How a command ended: exit code, both streams, and the documents that it wrote, by name."""

    code: int
    out: str
    err: str
    documents: Mapping[str, str]

    @property
    def report(self) -> Any:
        """The JSON document."""
        return json.loads(self.documents["report.json"])


def write(folder: Path, files: Files) -> Path:
    """Write an input; a name may have folders in it, and never leads out."""
    for name, data in files.items():
        path = folder / name
        assert path.resolve().is_relative_to(folder.resolve()), name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


def read(place: Path) -> dict[str, bytes]:
    """Read an input: from a folder, or from one file of JSON in which each byte is a character."""
    if place.is_file():
        return {name: text.encode("latin-1") for name, text in json.loads(place.read_text()).items()}
    folder = place
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def as_one_file(files: Files) -> str:
    """Write an input as one file, which no linter or collector takes for what it is a damaged example of."""
    return json.dumps({name: data.decode("latin-1") for name, data in files.items()}, indent=1) + "\n"


@contextmanager
def guarded(*known: type[Exception]) -> Iterator[None]:
    """Let a block take so long and no longer, and raise nothing but what is `known`."""
    before = signal.signal(signal.SIGALRM, _ring)
    signal.setitimer(signal.ITIMER_REAL, HANG_SECONDS)
    began = time.process_time()
    try:
        yield
    except (Fault, *known):
        raise
    except _Hang as error:
        raise Fault("hang", _last_of(error), place=_place_of(error)) from None
    except Exception as error:
        raise Fault("traceback", f"{type(error).__name__}: {error!s:.300}", place=_place_of(error)) from error
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    if (took := time.process_time() - began) > SECONDS:
        raise Fault("too long", f"{took:.1f} s of CPU time", place="too long")


def said_by(
    *arguments: str,
    folder: Path,
    documents: Sequence[str] = (),
    codes: frozenset[int] = DOCUMENTED,
    annotated: bool = False,
    run: Callable[[list[str]], int] = main,
) -> Said:
    """Run a command in `folder` and hold it to the rules; `documents` are the files that it was asked to write."""
    here = Path.cwd()
    out, err = io.StringIO(), io.StringIO()
    os.chdir(folder)
    try:
        with redirect_stdout(out), redirect_stderr(err), guarded():
            code = run(list(arguments))
    finally:
        os.chdir(here)
    written = {name: (folder / name).read_text("utf-8") for name in documents if (folder / name).exists()}
    said = Said(code, out.getvalue(), err.getvalue(), written)
    for name in written:
        (folder / name).unlink()
    hold(said, codes=codes, annotated=annotated)
    return said


def hold(said: Said, *, codes: frozenset[int] = DOCUMENTED, annotated: bool = False) -> None:
    """Raise Fault where a rule is broken that holds of every output."""
    streams = said.out + said.err
    if "Traceback (most recent call last)" in streams:
        raise Fault("traceback", streams[-600:], place=f"printed, exit code {said.code}")
    if said.code not in codes:
        raise Fault("exit code", f"{said.code}\n{streams[-600:]}", place=str(said.code))
    if len(streams) > LARGEST_OUTPUT:
        raise Fault("too much", f"{len(streams)} characters", place="streams")
    raw = next((sign for sign in streams if not sign.isprintable() and sign not in "\n\t"), None)
    if raw is not None:
        raise Fault("raw signs", f"{raw!r} in ...{streams[max(0, streams.index(raw) - 80) :][:160]!r}", place=repr(raw))
    obeyed = _ANNOTATION.sub("", said.out) + said.err if annotated else streams
    if found := _COMMAND_OF_CI.search(obeyed):
        raise Fault("raw signs", f"a line begins a CI command: {obeyed[found.start() :][:120]!r}", place="::")
    for name, text in said.documents.items():
        try:
            ElementTree.fromstring(text) if name.endswith(".xml") else json.loads(text)
        except (ValueError, ElementTree.ParseError) as error:
            raise Fault("broken document", f"{name}: {error}", place=name) from None


def _ring(number: int, frame: object) -> None:
    raise _Hang


def _place_of(error: BaseException) -> str:
    """Name the innermost line of the product that an error went through."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "/tests/fuzz/" not in frame.filename]
    ours = [frame for frame in frames if "/job_harness/" in frame.filename] or frames
    if not ours:
        return type(error).__name__
    return f"{type(error).__name__} at {Path(ours[-1].filename).name}:{ours[-1].name}"


def _last_of(error: BaseException) -> str:
    return "".join(traceback.format_tb(error.__traceback__)[-4:])
