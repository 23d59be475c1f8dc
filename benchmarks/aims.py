"""The table of aims: what each kind of work costs, the aim beside it, and of what is missed the reason.

Each part is measured in a process of its own, within its time; parts that are not named keep their rows in
`results/aims.md`. Usage: .venv/bin/python benchmarks/aims.py [--quick] [PART ...]
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]  # a script runs from a checkout

PAGE = HERE / "results" / "aims.md"
SECONDS = 900
"""What one part may take."""
BASE = "9183ec65"
"""The commit whose medians are today's of the generic workload."""
SEEDS = 20
MOST_RUNS = 3_000
"""What a search for a wrong queue may take, there and here."""
OF_PAGES = {"finds": "rivals.md"}
"""Parts that take their figures from another page, which has a command of its own."""
Figures = dict[str, float]
"""By work, what was measured."""


@dataclass(frozen=True, slots=True)
class Row:
    """One aim. `why` says, where it is missed, what the time is spent on and what stands in the way."""

    part: str
    work: str
    limit: float | None
    unit: str = ""
    at_least: bool = False
    why: str = ""

    @property
    def aim(self) -> str:
        """Write the aim."""
        return "" if self.limit is None else f"{'>=' if self.at_least else '<='} {self.limit:g}{self.unit}"

    def met(self, value: float) -> bool:
        """Whether a figure is what was aimed at."""
        return self.limit is None or (value >= self.limit if self.at_least else value <= self.limit)


LEASED = "the small lease queue, runs/s of CPU to detangle's"
FINDS = ("the repeated receipt", "the lost update between two jobs", "the row that is written before its commit")
RUN = (
    "Sampled in 200 runs (2026-12-01): the search, with its look at what a run has left behind, 18 %, asyncio 13 %,"
    " monitors 11 %, kernel 11 %, the adapter of rows 9 %, the object `job_harness` 8 %, the reference worker 6 % "
    "and its store 5 %, the virtual loop 6 %, rows and events 3 %, pytest 3 %, the rest 7 %. No function has more "
    "than 5 %. Cut the other way: fixtures made and taken down 17 %, the 13 heartbeats of a job that sleeps 300 s "
    "20 %. Heartbeats are not joined: a history in which they are is another one, and so is one in which a worker "
    "does not wake after each (7 % fewer calls), since jobs of one instant then beat in another order."
)
START = (
    "Timed part by part (2026-12-01), while a whole start took 0.38 s: 73 dataclasses are made in 0.07 s, pytest "
    "goes through all objects twice at its end in 0.06 s, 71 patterns are compiled in 0.015 s; the rest is to read "
    "and run 222 modules, of which 139 are job-harness, 27 the reference worker and 29 asyncio. Databases, reports,"
    " shrinking, the peer of TypeScript processors and the search for incidents are imported later."
)
JUDGES = (
    "Sampled in 800 runs (2026-12-01): monitors 33 %, opening, judging and closing a run 24 %, kernel 15 %, events "
    "and rows 15 %, values of the core 12 %: ours judges all invariants and keeps the history."
)
ROWS = (
    Row("explored", "explored run, no database", 3, " ms", why=RUN),
    Row("explored", "`--job-explore 200` above the plain test", 0.6, " s", why="That is 200 times the row above."),
    Row(
        "postgres", "explored run on PostgreSQL", 25, " ms", why="It is the run without a database, and its statements."
    ),
    Row(
        "typescript",
        "TypeScript run",
        6,
        " ms",
        why="Sampled in 120 runs (2026-12-01): Python takes 6 ms of a run by itself, of which the processors' "
        "object has 16 %, peers 11 %, the kernel 11 %; the rest is Node, which answers each gate by a "
        "message.",
    ),
    Row(
        "typescript",
        "a further TypeScript test file above an empty one",
        0.1,
        " s",
        why="Vitest loads the client's 17 files anew for each file, and the Python side forks, which copies pages.",
    ),
    Row("startup", "one-line test above plain pytest, with bytecode", 0.15, " s", why=START),
    Row(
        "startup",
        "one-line test above plain pytest, without bytecode",
        0.6,
        " s",
        why="All of that is compiled as well.",
    ),
    Row("startup", "each further one-line test", 5, " ms"),
    *(
        Row(
            "rivals",
            f"{LEASED}, {kind}",
            1,
            "x",
            at_least=True,
            why=JUDGES,
        )
        for kind in ("fixed", "drawn")
    ),
    Row(
        "finds",
        "mistakes of the lease queue where a rival needs less CPU to the find",
        0,
        " of 10",
        why="In [these](rivals.md#where-ours-is-behind) a find takes milliseconds, and ours pays for its judges.",
    ),
    *(
        Row(
            "seeds",
            f"{each}, median runs of {SEEDS} seeds",
            10,
            "",
            why="See `search/deviations.py` for the order.",
        )
        for each in FINDS
    ),
    Row(
        "drains",
        "the reference worker's drain to its store's rate",
        0.6,
        "x",
        at_least=True,
        why="Profile of 4 000 jobs (2026-12-01): a job takes 170 us of CPU in the worker and 57 in its store "
        "alone. Of the worker's, asyncio has 32 %, psycopg 26 %, the worker itself 19 %: a task with its "
        "watch for each job is left.",
    ),
    Row(
        "drains",
        "the same to pg-boss 12",
        2,
        "x",
        at_least=True,
        why="On a disk that must sync, both wait for the same commits: a claim and a completion for each batch of "
        "50. Of the 15.6 s that 4 000 jobs took on a busy machine (2026-12-01), the worker computed for 0.7 s, and "
        "waited for the server or a processor for the rest.",
    ),
    Row("drains", "the same to graphile-worker", None, "x"),
    Row(
        "drains",
        "a claim while 200 000 jobs wait to one while 1 000 do",
        1.3,
        "x",
        why="The server has 32 MB of buffers, which that many jobs exceed; single rounds gave 0.7x to 1.7x.",
    ),
    Row(
        "workload",
        f"wrong queues on `memory` whose median of runs is above that of {BASE}",
        0,
        " of 125",
        why="The search is as it was, so that chance puts about half of them above.",
    ),
    Row(
        "workload",
        f"sum of the medians to that of {BASE}",
        0.5,
        "x",
        why="The search is as it was. Eight queues are 40 % of the sum, and each wants what few workloads draw:"
        " a key that is cut, 120 jobs that wait, 256 attempts. Tried on 2026-12-01: what is drawn in one "
        "run of 10 to 200, in one of 5 to 40, and keys that differ little in pairs. The 25 queues that take"
        " longest then took 0.70x of that commit's runs (two seeds), but a run took 9.8 ms of CPU instead of 5.7: "
        "more CPU to the find, so it was left.",
    ),
)


def cpu_of(command: list[str], folder: Path | str, **variables: str) -> float:
    """Return the CPU seconds of a command and of what it waits for."""
    from exploring import Spent

    spent = Spent()
    done = subprocess.run(
        command, cwd=folder, env={**os.environ, **variables}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}: {(done.stdout + done.stderr).strip()[-600:]}")
    return list(spent)[1]


def by_rounds(rounds: int, measures: Mapping[str, Callable[[], float]]) -> dict[str, list[float]]:
    """Take every measure in turn, `rounds` times after one that warms up."""
    from paired import interleave

    return interleave(measures, rounds=rounds, seconds=SECONDS)


def explored(rounds: int) -> Figures:
    """Measure explored runs of one test whose processor sleeps 300 s."""
    from exploring import TEST, slope, whole_test

    measures = {
        "run": slope("copy", TEST),
        **{str(runs): lambda runs=runs: whole_test("copy", runs) for runs in (0, 200)},
    }
    rows = by_rounds(rounds, measures)
    return {
        "explored run, no database": median(rows["run"]) * 1000,
        "`--job-explore 200` above the plain test": median(
            whole - plain for whole, plain in zip(rows["200"], rows["0"], strict=True)
        ),
    }


def postgres(rounds: int) -> Figures:
    """Measure explored runs on `job_postgres`, the server included."""
    from exploring import ON_POSTGRES, slope

    return {"explored run on PostgreSQL": median(by_rounds(rounds, {"run": slope("copy", ON_POSTGRES)})["run"]) * 1000}


TS_EXPLORED = """
import { effect, jobHarness, test } from "job-harness/vitest";
const harness = jobHarness();
test.explore("pays", { runs: RUNS }, async () => {
  harness.register("pay", async () => {
    await new Promise((go) => setTimeout(go, 300_000));
    await effect("charged", { order: 1 });
  });
  await harness.enqueue("pay", { order: 1 });
  await harness.runUntilIdle();
});
"""
TS_PLAIN = """
import { expect, jobHarness, test } from "job-harness/vitest";
const harness = jobHarness();
test("pays", async () => {
  harness.register("pay", async () => 1);
  const job = await harness.enqueue("pay");
  await harness.runUntilIdle();
  expect(job).toHaveRun(1);
});
"""
TS_EMPTY = 'import { test } from "vitest";\ntest("nothing", () => {});\n'
SHARED = 'globalSetup: "job-harness/global-setup", '
TS_CONFIG = f"export default {{ test: {{ {SHARED}fileParallelism: false }} }};\n"
VITEST = "vitest@4.1.12"
FILES = 9


@contextmanager
def npm_project() -> Iterator[Path]:
    """Have a folder with the packed client and Vitest while the block runs."""
    if (npm := shutil.which("npm")) is None:
        raise SystemExit("npm is not on the PATH")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        quiet = ("--silent", "--no-audit", "--no-fund")
        client = HERE.parent / "clients" / "node"
        subprocess.run(
            [npm, "pack", "--silent", "--pack-destination", name], cwd=client, capture_output=True, check=True
        )
        [tarball] = folder.glob("*.tgz")
        subprocess.run([npm, "init", "-y"], cwd=folder, capture_output=True, check=True)
        subprocess.run([npm, "install", *quiet, str(tarball), VITEST], cwd=folder, capture_output=True, check=True)
        (folder / "shared.config.mjs").write_text(TS_CONFIG, encoding="utf-8")
        (folder / "plain.config.mjs").write_text(TS_CONFIG.replace(SHARED, ""), encoding="utf-8")
        yield folder


def typescript(rounds: int) -> Figures:
    """Measure Vitest: explored runs, and test files of one plain job; the Python side is included."""
    few, many = 20, 220
    with npm_project() as folder:
        for kind, text in (("ours", TS_PLAIN), ("empty", TS_EMPTY)):
            for number in range(FILES):
                (folder / f"{kind}{number}.test.ts").write_text(text, encoding="utf-8")
        for runs in (few, many):
            (folder / f"explored{runs}.test.ts").write_text(TS_EXPLORED.replace("RUNS", str(runs)), encoding="utf-8")

        def vitest(config: str, *files: str) -> Callable[[], float]:
            command = ["npx", "--no-install", "vitest", "run", "--config", f"{config}.config.mjs", *files]
            return lambda: cpu_of(command, folder, JOB_HARNESS_PYTHON=sys.executable, CI="")

        rows = by_rounds(
            rounds,
            {
                "few": vitest("shared", f"explored{few}"),
                "many": vitest("shared", f"explored{many}"),
                "ours, one": vitest("shared", "ours0"),
                "ours, all": vitest("shared", "ours"),
                "empty, one": vitest("plain", "empty0"),
                "empty, all": vitest("plain", "empty"),
            },
        )

    def more(fewer: str, all_of_them: str, count: int) -> list[float]:
        return [(after - before) / count for before, after in zip(rows[fewer], rows[all_of_them], strict=True)]

    ours, empty = more("ours, one", "ours, all", FILES - 1), more("empty, one", "empty, all", FILES - 1)
    file = median(mine - base for mine, base in zip(ours, empty, strict=True))
    run = median(more("few", "many", many - few)) * 1000
    return {"TypeScript run": run, "a further TypeScript test file above an empty one": file}


MANY_LINES = """
import pytest

@pytest.mark.parametrize("number", range({}))
def test_one(job_harness, number):
    pass
"""


def startup(rounds: int) -> Figures:
    """Measure what one test of one line costs more than plain pytest, and each further one."""
    import plugin_startup

    found, many = {}, 41
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "test_plain.py").write_text(plugin_startup.PLAIN)
        (folder / "test_one_line.py").write_text(plugin_startup.ONE_LINE)
        (folder / "test_many.py").write_text(MANY_LINES.format(many))
        for bytecode in (True, False):
            measures = plugin_startup.measures(folder, bytecode=bytecode)
            if bytecode:
                measures["many"] = lambda: plugin_startup.started(
                    folder, "-p", "job_harness", "test_many.py", bytecode=True
                )
            rows = by_rounds(rounds * 3, measures)
            more = median(one - plain for one, plain in zip(rows["one line"], rows["plain"], strict=True))
            found[f"one-line test above plain pytest, with{'' if bytecode else 'out'} bytecode"] = more
            if bytecode:
                each = (every - one for every, one in zip(rows["many"], rows["one line"], strict=True))
                found["each further one-line test"] = median(each) / (many - 1) * 1000
    return found


def rivals(rounds: int) -> Figures:
    """Measure how many runs of the lease queue there are in a second of CPU, beside detangle."""
    from detection.rivals import installed
    from detection.rivals.leased import RIGHT

    def rate(tool: str, seed: int, *, drawn: bool) -> float:
        done = installed.campaign(tool, RIGHT, seed=seed, runs=300, drawn=drawn)
        if done.why:
            raise SystemExit(done.why)
        return done.runs / done.seconds

    return {
        f"{LEASED}, {'drawn' if drawn else 'fixed'}": median(
            rate("job-harness", seed, drawn=drawn) / rate("detangle", seed, drawn=drawn) for seed in range(rounds)
        )
        for drawn in (False, True)
    }


def finds(rounds: int) -> Figures:
    """Read off the page of rivals, which has a command of its own, in how many rows one of them is ahead."""
    text = (HERE / "results" / "rivals.md").read_text(encoding="utf-8")
    behind = {
        match[1] for match in re.finditer(r"^- (`[\w-]+`, \w+): ", text.partition("## Where ours is behind")[2], re.M)
    }
    return {"mistakes of the lease queue where a rival needs less CPU to the find": len(behind)}


SOUGHT = """
import asyncio

import pytest
from job_harness import JobResult, at_most_once, effect, step


@pytest.fixture
def job_invariants():
    return [at_most_once("receipt")]


def test_repeated_receipt(job_harness):
    async def pay(job):
        for _ in range(20):
            await asyncio.sleep(1)
        effect("receipt", order=1)
        for _ in range(20):
            await asyncio.sleep(1)
        return JobResult(success=True)

    job_harness.register("pay", pay)
    job_harness.enqueue("pay")
    job_harness.run_until_idle()


def test_lost_update(job_harness):
    balance = {"is": 0, "added": 0}

    async def add(job):
        read = balance["is"]
        await asyncio.sleep(1)
        balance["is"] = read + 1
        balance["added"] += 1
        effect("added")
        return JobResult(success=True)

    job_harness.register("add", add)
    job_harness.enqueue("add")
    job_harness.enqueue("add", start_after=30)
    job_harness.always(lambda harness: balance["is"] == balance["added"])
    job_harness.run_until_idle()


def test_row_before_commit(job_harness):
    committed, missed = set(), []

    async def order(job):
        job_harness.enqueue("mail", {"order": job.id})
        await step("commit")
        committed.add(job.id)
        effect("ordered")
        return JobResult(success=True)

    async def mail(job):
        if job.input["order"] not in committed:
            missed.append(job.id)
        effect("mailed")
        return JobResult(success=True)

    job_harness.register("order", order)
    job_harness.register("mail", mail)
    job_harness.enqueue("order")
    job_harness.always(lambda harness: not missed)
    job_harness.run_until_idle()
"""


def played_here(folder: str, *options: str) -> str:
    """Run pytest in a fork of this process, which has imported what it needs; return what it printed."""
    import pytest

    import job_harness.doors.pytest.explored_test  # noqa: F401 - once for all forks

    with tempfile.TemporaryFile("w+") as out:
        if not (pid := os.fork()):
            os.dup2(out.fileno(), 1)
            os.chdir(folder)
            os._exit(pytest.main(["-q", "-p", "no:cacheprovider", *options]))
        os.waitpid(pid, 0)
        out.seek(0)
        return out.read()


def seeds(rounds: int) -> Figures:
    """Look for three mistakes with `--job-explore`, one seed after the other; a search of 60 runs that misses is 61."""
    names = ("test_repeated_receipt", "test_lost_update", "test_row_before_commit")
    taken: dict[str, list[int]] = {name: [] for name in names}
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "test_sought.py").write_text(SOUGHT, encoding="utf-8")
        for seed in range(SEEDS):
            told = played_here(folder, "--job-explore=60", f"--job-seed={seed}")
            for name in names:
                part = re.search(rf"_ {name} _.*?(?=\n_+ test_|\n=+ short|\Z)", told, re.S)
                found = re.search(r"Found in (?:the undisturbed run|(\d+) runs?)", part[0] if part else "")
                taken[name].append(61 if found is None else int(found[1] or 0))
    return {
        f"{work}, median runs of {SEEDS} seeds": median(taken[name]) for work, name in zip(FINDS, names, strict=True)
    }


def drains(rounds: int) -> Figures:
    """Measure drains of 20 000 jobs."""
    import drains

    rows, claims = drains.measure(rounds, drains.JOBS if rounds > 1 else 2_000)
    found = drains.ratios({name: [1 / each for each in values] for name, values in rows.items()}, drains.WORKER)
    return {
        "the reference worker's drain to its store's rate": found[drains.STORE],
        "the same to pg-boss 12": found["pg-boss 12"],
        "the same to graphile-worker": found["graphile-worker"],
        "a claim while 200 000 jobs wait to one while 1 000 do": claims,
    }


def medians(text: str) -> dict[str, float]:
    """Read from a page of detection the median runs of each wrong queue, in the table of the gate."""
    gate = text.partition("<!-- gate -->")[2]
    return {match[1]: float(match[2]) for match in re.finditer(r"^\| `([\w-]+)` \| \d+/\d+ \| ([\d.]+) \(", gate, re.M)}


def workload(rounds: int) -> Figures:
    """Look for each wrong queue with one seed a round; the table of an earlier commit has the medians of ten."""
    from concurrent.futures import ProcessPoolExecutor

    from detection.measure import first_seen

    shown = ["git", "show", f"{BASE}:docs/detection.md"]
    before = medians(subprocess.run(shown, cwd=HERE, capture_output=True, text=True, check=True).stdout)
    with ProcessPoolExecutor() as pool:
        asked = {
            name: [pool.submit(first_seen, name, number=number, runs=MOST_RUNS) for number in range(rounds)]
            for name in before
        }
        now = {name: median(each.result() or MOST_RUNS for each in every) for name, every in asked.items()}
    return {
        f"wrong queues on `memory` whose median of runs is above that of {BASE}": sum(
            now[name] > before[name] for name in before
        ),
        f"sum of the medians to that of {BASE}": sum(now.values()) / sum(before.values()),
    }


PARTS: dict[str, Callable[[int], Figures]] = {
    each.__name__: each for each in (explored, postgres, typescript, startup, rivals, finds, seeds, drains, workload)
}
HEAD = """# What work costs, and the aims

Written by `make bench`, or `make aims ARGS="PART ..."` for some of its parts. CPU time of whole processes, unless it
says runs; a slope is taken between a short and a long run; figures are medians of interleaved rounds, and a ratio is
taken within one round. Where others use the machine, CPU time is up to three times that of an idle one: mind the load.
How each part is measured is in `benchmarks/aims.py`; the shares in the reasons are from profiles made apart.
"""


def measured(part: str, rounds: int) -> tuple[Figures, str]:
    """Measure a part in a process of its own; return its figures, or why there are none."""
    command = [sys.executable, str(Path(__file__)), "--measure", part, "--rounds", str(rounds)]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return {}, f"not done after {SECONDS} s"
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        return {}, " ".join((done.stderr.strip().splitlines() or ["it said nothing"])[-1].split())[:200]
    found: Figures = json.loads(lines[-1])
    return found, ""


def line(row: Row, figures: Figures, why: str, when: str) -> str:
    """Write a row of the table."""
    if row.work not in figures:
        return f"| {row.work} | {row.aim} | not measured: {why} | | {when} |"
    value = figures[row.work]
    verdict = "" if row.limit is None else "met" if row.met(value) else "**missed**"
    told = f"{value:.0f}" if value >= 100 else f"{value:.3g}"
    return f"| {row.work} | {row.aim} | {told}{row.unit} | {verdict} | {when} |"


def kept() -> dict[str, str]:
    """Return the rows that the page has, by their work."""
    lines = PAGE.read_text(encoding="utf-8").splitlines() if PAGE.exists() else []
    return {each.split(" | ")[0].removeprefix("| "): each for each in lines if each.startswith("| ")}


def main() -> None:
    """Measure, write the page, and print it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}")
    parser.add_argument("--quick", action="store_true", help="one round of each, for a look: the page stays as it is")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--measure", choices=PARTS, help=argparse.SUPPRESS)
    given = parser.parse_args()
    rounds = 1 if given.quick else given.rounds
    if given.measure:
        print(json.dumps(PARTS[given.measure](rounds)))
        return
    if unknown := [part for part in given.parts if part not in PARTS]:
        parser.error(f"there is no part {unknown[0]!r}; there are {', '.join(PARTS)}")
    lines = kept()
    for part in given.parts or PARTS:
        print(f"{part} ...", file=sys.stderr, flush=True)
        taken = f"load {os.getloadavg()[0]:.0f}, {rounds} round{'s' * (rounds > 1)}"
        when = f"{time.strftime('%Y-%m-%d')}, {f'from {OF_PAGES[part]}' if part in OF_PAGES else taken}"
        figures, why = measured(part, rounds)
        lines.update({row.work: line(row, figures, why, when) for row in ROWS if row.part == part})
    table = [lines[row.work] for row in ROWS if row.work in lines]
    reasons = [f"- {row.work}: {row.why}" for row in ROWS if row.why and "**missed**" in lines.get(row.work, "")]
    text = "\n".join([HEAD, "| work | aim | measured | | when |", "| --- | ---: | ---: | --- | --- |", *table, ""])
    text += "\n".join(["\n## What is missed, and why\n", *reasons, ""]) if reasons else ""
    if not given.quick:
        PAGE.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
