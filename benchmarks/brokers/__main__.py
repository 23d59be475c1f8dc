"""Searches small programs on queues of others, each with one planted mistake, and prints what it came to as a table.

Each folder of `programs` is one system on one library as its package ships it. The environment variable MISTAKE makes
it wrong in one of five ways; without it the program is right, and has to be silent.

Usage: python benchmarks/brokers [LIBRARY]... [--mistake WORD] [--runs N]    (or `make brokers ARGS=...`)
       python benchmarks/brokers [LIBRARY]... --silent N [--first SEED]
       python benchmarks/brokers [LIBRARY]... --replay N
       python benchmarks/brokers [LIBRARY]... --known [--mistake WORD]

With --silent the right programs are run. With --replay the first double charge is found, and its tape is played again.
With --known the bugs of `known.py` are looked for, in the release that has them and in one that has not. It ends with 1
where a mistake was not found, a right program was not silent, or a replay differed.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final, NamedTuple

HERE: Final = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parents[1]), str(HERE.parent)]  # a script runs from a checkout

from brokers.known import KNOWN, Known  # noqa: E402 - the path comes first
from job_harness.core.history.event import Fault  # noqa: E402
from job_harness.core.run.play import play  # noqa: E402
from job_harness.core.run.verdict import Run  # noqa: E402
from job_harness.errors import HarnessError  # noqa: E402
from job_harness.search.finding import first_difference  # noqa: E402
from job_harness.search.sampling import Sampler  # noqa: E402
from job_harness.subjects.systems import SystemEngine  # noqa: E402
from job_harness.worlds.packages import npm_package, python_package  # noqa: E402

PROGRAMS: Final = HERE / "programs"
RELEASES: Final[dict[str, tuple[str, ...]]] = {
    "bullmq": ("5.81.5", "ioredis@5"),
    "celery": ("5.7.0", "redis==8.1.0", "packaging==25.0"),
    "rq": ("3.0.0",),
    "arq": ("0.28.0",),
    "pydocket": ("0.27.0",),
    "dramatiq": ("2.2.1", "redis"),
    "boto3": ("1.44.8",),
    "sqs-consumer": ("14.2.8", "@aws-sdk/client-sqs@3.1175.0"),
    "sidekiq": ("on the PATH",),
}
"""By library, its release and what is installed beside it."""
FROM_NPM: Final = ("bullmq", "sqs-consumer")
FEWEST_IN_THE_FIX: Final = 5


class Mistake(NamedTuple):
    """What may be planted, and how it shows."""

    name: str
    finds: frozenset[str]
    without: frozenset[str] = frozenset()
    """Faults that may not have happened in the run, since they would show another mistake."""


CUTS: Final = frozenset(("crash", "disconnect", "lose reply", "lose request", "store away"))
LOST: Final = frozenset(("job_vanished", "job_never_run", "job_stuck"))
MISTAKES: Final = (
    Mistake("charges twice", frozenset(("effect_repeated",))),
    Mistake("loses a job", frozenset(("job_vanished",))),
    Mistake("acknowledges first", LOST | {"silent_success"}),
    Mistake("stuck after a kill", LOST - {"job_vanished"}),
    Mistake("twice by timeout", frozenset(("effect_repeated", "double_claim")), CUTS),
)
_BY_ITSELF: Final = "not planted: the library acknowledges by itself, after the work"
LEFT_OUT: Final = {
    **{(each, "acknowledges first"): _BY_ITSELF for each in ("bullmq", "rq", "arq", "pydocket", "dramatiq")},
    ("sidekiq", "acknowledges first"): "not planted: so does Sidekiq's own fetch",
    ("sidekiq", "stuck after a kill"): "not planted: what a worker of Sidekiq is killed with is lost, by its manual",
    ("arq", "stuck after a kill"): "not planted: its key `in-progress` says until when a job is taken, by design",
}


@contextmanager
def opened(
    library: str, mistake: str, release: Sequence[str], shows: frozenset[str] = frozenset()
) -> Iterator[Sampler]:
    """Open a program with one mistake; empty: the right one. What the file takes for granted is judged if it `shows`.

    Raises HarnessError where it cannot run here.
    """
    version, *beside = release
    node = library in FROM_NPM
    if node:
        packages = npm_package(library, version, *beside) / "node_modules"
    else:
        packages = Path() if release == RELEASES["sidekiq"] else python_package(library, *release)
    os.environ["MISTAKE"], os.environ["PACKAGES"] = mistake, str(packages)
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(PROGRAMS, folder, dirs_exist_ok=True)
        if node:
            Path(folder, library, "node_modules").symlink_to(packages)
        file = Path(folder, library, "system.yaml")
        lines = file.read_text().splitlines(keepends=True)
        file.write_text("".join(line for line in lines if not line.startswith(tuple(f"    {each}:" for each in shows))))
        engine = SystemEngine(str(file))
        try:
            engine.info.prepare()
            assert engine.info.settings is not None
            yield Sampler(engine, settings=engine.info.settings)
        finally:
            engine.close()


def shown(run: Run, mistake: Mistake) -> str:
    """Return the anomalies by which a run shows a mistake; empty: it does not, or by what would show another one."""
    faults = {event.name for event in run.history if isinstance(event, Fault)}
    return "" if faults & mistake.without else ", ".join(sorted(run.found & mistake.finds))


def search(library: str, mistake: Mistake, runs: int, release: Sequence[str], form: str) -> tuple[int, str]:
    """Search for one mistake: return in which run it shows, or 0, and in words what came of the search."""
    with opened(library, form, release, mistake.finds) as sampler:
        for seed in range(runs):
            run = sampler.sample(seed)
            if found := shown(run, mistake):
                return seed + 1, f"{found} in run {seed + 1}"
            if run.found:
                print(f"  run {seed + 1} shows {', '.join(sorted(run.found))}", file=sys.stderr, flush=True)
    return 0, f"not found in {runs} runs"


def plant(library: str, asked: argparse.Namespace) -> bool:
    """Search for each mistake that is asked for. True: all were found."""
    good = True
    for mistake in (each for each in MISTAKES if asked.mistake in each.name):
        began = time.monotonic()
        if why := LEFT_OUT.get((library, mistake.name)):
            row(library, mistake.name, why, began)
            continue
        number, told = search(library, mistake, asked.runs, RELEASES[library], mistake.name)
        row(library, mistake.name, told, began)
        good = good and number > 0
    return good


def silent(library: str, asked: argparse.Namespace) -> bool:
    """Run the right program. True: it showed nothing."""
    began, loud = time.monotonic(), 0
    with opened(library, "", RELEASES[library]) as sampler:
        for done, seed in enumerate(range(asked.first, asked.first + asked.silent), 1):
            run = sampler.sample(seed)
            if run.found or run.failures:
                loud += 1
                print(f"  seed {seed}: {', '.join(sorted(run.found))} {run.failures}", flush=True)
            if done % 10 == 0:
                print(f"  {done} runs, {loud} of them not silent", file=sys.stderr, flush=True)
    row(library, "none", f"{asked.silent - loud} of {asked.silent} runs silent", began)
    return not loud


def replay(library: str, asked: argparse.Namespace) -> bool:
    """Play the first double charge that is found again and again. True: it was the same each time."""
    began, mistake = time.monotonic(), MISTAKES[0]
    with opened(library, mistake.name, RELEASES[library]) as sampler:
        run = next((each for each in map(sampler.sample, range(asked.runs)) if shown(each, mistake)), None)
        same = 0
        for _ in range(asked.replay if run is not None else 0):
            assert run is not None
            again = play(replace(run.scenario, tape=run.tape), engine=sampler.engine, seed=run.seed)
            same += first_difference(run.history.events, again.history.events) is None
    row(library, mistake.name, f"replayed: {same} of {asked.replay} the same", began)
    return same == asked.replay


def known(library: str, asked: argparse.Namespace) -> bool:
    """Look for known bugs in the releases that have them, and in those that have not. True: as was expected."""
    good = True
    for bug in (each for each in KNOWN if each.library == library and asked.mistake in each.url):
        began = time.monotonic()
        good = _known(bug, asked.runs, began) and good
    return good


def _known(bug: Known, runs: int, began: float) -> bool:
    mistake = Mistake(bug.about, bug.shows)
    number, told = search(bug.library, mistake, runs, bug.affected, bug.mistake)
    fixed = not bug.fixed
    if number and bug.fixed:
        fewest = max(FEWEST_IN_THE_FIX, number)
        still, seen = search(bug.library, mistake, fewest, bug.fixed, bug.mistake)
        fixed = not still
        told += f"; in {bug.fixed[0]} {seen if still else f'gone in {fewest} runs'}"
    name = "/".join(bug.url.split("/")[-4:]).replace("/issues/", "#")
    row(bug.library, f"{name}: {bug.about}", told, began, release=" ".join(bug.affected))
    return number > 0 and fixed


def row(library: str, mistake: str, told: str, began: float, *, release: str = "") -> None:
    """Print a row of the table."""
    took = f"{time.monotonic() - began:.0f} s"
    print(f"| {library} {release or RELEASES[library][0]} | {mistake} | {told} | {took} |", flush=True)


def main(words: Sequence[str] | None = None) -> int:
    """Search and run what is asked for; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("library", nargs="*", choices=[*RELEASES, []], help="only these")
    add("--mistake", default="", metavar="WORD", help="only mistakes, or known bugs, with this in their name")
    add("--runs", type=int, default=60, metavar="N", help="at most, for each mistake (60)")
    add("--silent", type=int, default=0, metavar="N", help="play each right program in N runs")
    add("--first", type=int, default=0, metavar="SEED", help="the first of them (0)")
    add("--replay", type=int, default=0, metavar="N", help="play what is found N times")
    add("--known", action="store_true", help="look for the bugs of known.py")
    asked = parser.parse_args(words)
    do: Callable[[str, argparse.Namespace], bool]
    do = silent if asked.silent else replay if asked.replay else known if asked.known else plant
    good = True
    print("| library | mistake | result | wall time |\n| --- | --- | --- | --- |")
    for library in asked.library or RELEASES:
        try:
            good = do(library, asked) and good
        except HarnessError as error:
            print(f"| {library} | | cannot run here: {error} | |", flush=True)
            good = False
    return int(not good)


if __name__ == "__main__":
    sys.exit(main())
