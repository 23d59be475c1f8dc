"""One fuzzer for a given time, in a child: what ends or hangs the child is a finding too, and its input is kept.

Hypothesis draws and shrinks. A campaign goes on after a finding, and reports each place once. Must not know: what is
fuzzed.
"""

from __future__ import annotations

import faulthandler
import hashlib
import json
import os
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, Final

from hypothesis import HealthCheck, Phase, Verbosity, given, settings
from hypothesis import seed as seeded
from hypothesis.errors import Flaky, StopTest
from tests.fuzz.fuzzers import Fuzzer
from tests.fuzz.judging import HANG_SECONDS, Fault, Files, read, write

BATCH: Final = 100
"""Inputs that Hypothesis draws from one seed; the next batch has the next seed."""
SHRINK_SECONDS: Final = 20.0
KEPT: Final = Path(__file__).with_name("kept")
"""Inputs that found something once: `FUZZER-what.json`."""
SMALL: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Finding:
    """A rule that was broken, and the smallest input that breaks it, in `folder`."""

    fuzzer: str
    rule: str
    what: str
    folder: str


@dataclass(slots=True)
class Fuzzed:
    """What became of one fuzzer: how many inputs it tried in how many seconds, and each finding once."""

    fuzzer: str
    inputs: int = 0
    distinct: int = 0
    seconds: float = 0.0
    findings: list[Finding] = field(default_factory=list)


def fuzz(fuzzer: Fuzzer, *, seed: int, seconds: float, keep: Path, batches: int | None = None) -> Fuzzed:
    """Fuzz in a child for so long, or for this many batches; findings are kept in folders below `keep`."""
    with tempfile.TemporaryDirectory(prefix="job-harness-fuzz-") as scratch:
        place = Path(scratch)
        child = os.fork()
        if child == 0:
            code = 1
            try:
                _Campaign(fuzzer, place, keep, seconds=seconds).run(seed, batches)
                code = 0
            except BaseException:  # noqa: BLE001 - it goes into the log, which the parent reads
                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(code)
        _, status = os.waitpid(child, 0)
        fuzzed = _told(fuzzer, place)
        if os.waitstatus_to_exitcode(status) != 0:
            log = place / "log"
            how = f"the child ended with {os.waitstatus_to_exitcode(status)}\n{log.read_text()[-2000:]}"
            files = read(place / "input")
            fuzzed.findings.append(_kept(fuzzer, Fault("death", how, place="death"), files, keep))
        return fuzzed


def judged(fuzzer: Fuzzer, files: Files, folder: Path) -> Fault | None:
    """Judge one input, in an empty folder."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        fuzzer.judge(write(folder, files))
    except Fault as fault:
        return fault
    return None


def kept_inputs() -> Iterable[Path]:
    """List the inputs that found something once."""
    return sorted(KEPT.glob("*.json"))


class _Campaign:
    """What happens in the child."""

    def __init__(self, fuzzer: Fuzzer, place: Path, keep: Path, *, seconds: float) -> None:
        self.fuzzer = fuzzer
        self.place = place
        self.keep = keep
        self.fuzzed = Fuzzed(fuzzer.name)
        self.began = time.monotonic()
        self.until = self.began + seconds
        self.known: set[tuple[str, str]] = set()
        self.seen: set[bytes] = set()
        self.smallest: tuple[int, Fault, Files] | None = None
        self.shrink_until = 0.0

    def run(self, seed: int, batches: int | None) -> None:
        log = (self.place / "log").open("w")
        os.dup2(log.fileno(), 2)
        for number in count():
            if time.monotonic() > self.until or number == batches:
                return
            self.batch(seed + number)
            if self.smallest is not None:
                _, fault, files = self.smallest
                self.known.add((fault.rule, fault.place))
                self.fuzzed.findings.append(_kept(self.fuzzer, fault, files, self.keep))
                self.smallest = None
            self.tell()

    def batch(self, seed: int) -> None:
        quiet = settings(
            max_examples=BATCH,
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            phases=(Phase.generate, Phase.shrink),
            verbosity=Verbosity.quiet,
            report_multiple_bugs=False,
        )
        # After the finding was made small, Hypothesis raises it, or calls it flaky where time ran out on the way.
        with suppress(Fault, Flaky, StopTest, BaseExceptionGroup):
            seeded(seed)(quiet(given(self.fuzzer.inputs())(self.one)))()

    def one(self, files: Files) -> None:
        now = time.monotonic()
        if now > (self.until if self.smallest is None else self.shrink_until):
            return
        self.fuzzed.inputs += 1
        self.seen.add(_digest(files))
        faulthandler.dump_traceback_later(HANG_SECONDS + 10, exit=True)
        fault = judged(self.fuzzer, files, self.place / "input")
        faulthandler.cancel_dump_traceback_later()
        if fault is None or (fault.rule, fault.place) in self.known:
            return
        if self.smallest is None:
            self.shrink_until = now + SHRINK_SECONDS
        elif (fault.rule, fault.place) != (self.smallest[1].rule, self.smallest[1].place):
            return
        size = sum(len(name) + len(data) for name, data in files.items())
        if self.smallest is None or size < self.smallest[0]:
            self.smallest = (size, fault, dict(files))
        raise fault

    def tell(self) -> None:
        self.fuzzed.seconds = time.monotonic() - self.began
        self.fuzzed.distinct = len(self.seen)
        (self.place / "told.json").write_text(json.dumps(asdict(self.fuzzed)))


def _told(fuzzer: Fuzzer, place: Path) -> Fuzzed:
    path = place / "told.json"
    if not path.exists():
        return Fuzzed(fuzzer.name)
    told: dict[str, Any] = json.loads(path.read_text())
    return Fuzzed(**{**told, "findings": [Finding(**finding) for finding in told["findings"]]})


def _kept(fuzzer: Fuzzer, fault: Fault, files: Files, keep: Path) -> Finding:
    folder = keep / f"{fuzzer.name}-{_digest(files).hex()[:8]}"
    folder.mkdir(parents=True, exist_ok=True)
    write(folder, files)
    return Finding(fuzzer.name, fault.rule, fault.what[:SMALL], str(folder))


def _digest(files: Files) -> bytes:
    text = json.dumps({name: data.hex() for name, data in sorted(files.items())})
    return hashlib.sha256(text.encode()).digest()[:8]
