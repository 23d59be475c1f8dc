"""Writes `benchmarks/results/system_proofs.md`: `make systems`, `make systems ARGS="--runs 30 --only python-app"`.

Two examples, each in two forms. As written: each anomaly that a search meets is played again from its token, again and
again. Repaired: it has to hold for hundreds of runs. What was run is kept, so that a long proof can be cut and taken up
again with --resume, as long as neither the code nor the example has changed. Usage: --help
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT)]  # a script runs from a checkout

from job_harness.core.run.play import play  # noqa: E402
from job_harness.core.run.verdict import Run  # noqa: E402
from job_harness.core.scenario.replay_token import ReplayToken, decode, encode, target_of  # noqa: E402
from job_harness.search.finding import first_difference  # noqa: E402 - the path comes first
from job_harness.search.sampling import Sampler  # noqa: E402
from job_harness.subjects.systems import SystemEngine  # noqa: E402
from job_harness.worlds.packages import npm_package  # noqa: E402

PAGE: Final = ROOT / "benchmarks" / "results" / "system_proofs.md"
KEPT: Final = ROOT / "build" / "system_proofs.json"
"""What was proven so far: an example, or half of its proof, can be run by itself, and the page shows all of it."""
SEEDS: Final = ROOT / "build" / "system_seeds"
"""By example, what each seed of its repaired form showed, under the code that `code_of` names."""
EXAMPLES: Final = {"guide-app": "GUIDE_APP_REPAIRED", "python-app": "MAIL_APP_REPAIRED"}
"""By example, the environment variable that switches its repaired form on."""
WANTED: Final = 5
"""How many different anomalies are looked for, as a rule."""


@dataclass(slots=True)
class Replayed:
    """One anomaly, and how its token was played."""

    anomaly: str
    seed: int
    token: str
    same: int
    times: int


@dataclass(slots=True)
class Proof:
    """What one example came to."""

    example: str
    searched: int = 0
    replayed: list[Replayed] = field(default_factory=list)
    held: int = 0
    broken: dict[str, list[str]] = field(default_factory=dict)
    seconds: float = 0.0
    processes: int = 0

    @property
    def holds(self) -> bool:
        """Whether every token played the same each time, and the repaired form showed nothing."""
        return bool(self.replayed) and not self.broken and all(each.same == each.times for each in self.replayed)


def prepared(example: str, folder: Path) -> Path:
    """Copy an example, with its packages as `npm install` puts them; return its system file."""
    app = folder / example
    if not app.exists():
        shutil.copytree(ROOT / "examples" / example, app, ignore=shutil.ignore_patterns("node_modules", ".job-harness"))
        if (app / "package.json").exists():
            shutil.copytree(npm_package("pg-boss", "10.4.2") / "node_modules", app / "node_modules", symlinks=True)
            (app / "node_modules" / "@repo").mkdir()
            for name in ("api", "database"):
                (app / "node_modules" / "@repo" / name).symlink_to(app / "packages" / name)
    return app / "system.yaml"


def opened(path: Path) -> tuple[SystemEngine, Sampler]:
    """Return the engine of a system file, and what draws its runs."""
    engine = SystemEngine(str(path))
    engine.info.prepare()
    assert engine.info.settings is not None
    return engine, Sampler(engine, settings=engine.info.settings)


def replayed(path: Path, proof: Proof, *, search: int, times: int) -> None:
    """Search until enough anomalies were met, and play each again from its token."""
    engine, sampler = opened(path)
    try:
        met: dict[str, Run] = {}
        while proof.searched < search and len(met) < WANTED:
            run = sampler.sample(proof.searched)
            for name in run.found:
                met.setdefault(name, run)
            proof.searched += 1
            print(f"{proof.example}: searched {proof.searched}, met {', '.join(met) or 'nothing'}", flush=True)
        for name, run in met.items():
            token = encode(ReplayToken(target_of(run.scenario), run.seed, run.tape))
            bare = replace(run.scenario, tape=())
            decoded = decode(token)
            decoded.expect(target_of(bare), called=proof.example)
            histories = [play(replace(bare, tape=decoded.tape), engine=engine, seed=run.seed) for _ in range(times)]
            first = histories[0].history.events
            same = sum(
                name in each.found and first_difference(first, each.history.events) is None for each in histories
            )
            proof.replayed.append(Replayed(name, proof.searched, token, same, times))
            print(f"{proof.example}: {name} {same} of {times} from {token[:40]}", flush=True)
    finally:
        engine.close()


def code_of(example: str) -> str:
    """Name the code that a run depends on: ours and the example's."""
    told = hashlib.sha256()
    for folder in (ROOT / "harness/job_harness", ROOT / "examples" / example):
        for path in sorted(folder.rglob("*")):
            if path.suffix in (".py", ".mjs", ".ts", ".sql", ".yaml") and "node_modules" not in path.parts:
                told.update(path.relative_to(ROOT).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return told.hexdigest()[:12]


def stretch(path: Path, seeds: Sequence[int]) -> None:
    """Run the seeds of one part, and print what they showed as a line of JSON each; this is a process of its own."""
    engine, sampler = opened(path)
    try:
        for seed in seeds:
            began = time.monotonic()
            found = sorted(sampler.sample(seed).found)
            print(json.dumps([seed, found, round(time.monotonic() - began, 3)]), flush=True)
    finally:
        engine.close()


def held(path: Path, proof: Proof, *, runs: int, processes: int, resume: bool) -> None:
    """Run the repaired form, in several processes beside each other; what was run before is not run again."""
    known = SEEDS / f"{proof.example}-{code_of(proof.example)}.jsonl"
    known.parent.mkdir(parents=True, exist_ok=True)
    lines = known.read_text(encoding="utf-8").splitlines() if resume and known.exists() else []
    told = {seed: (found, seconds) for seed, found, seconds in map(json.loads, lines) if seed < runs}
    print(f"{proof.example}: {len(told)} of {runs} runs of the repaired form are there already", flush=True)
    left = [seed for seed in range(runs) if seed not in told]
    environment = {**os.environ, EXAMPLES[proof.example]: "true"}
    with known.open("a" if resume else "w", encoding="utf-8") as file:
        parts = [
            subprocess.Popen(
                [sys.executable, __file__, "--stretch", str(path), ",".join(map(str, left[part::processes]))],
                env=environment,
                stdout=file,
            )
            for part in range(min(processes, len(left)))
        ]
        ends = [part.wait() for part in parts]
        if any(ends):
            proof.broken["end"] = [f"the parts of the runs ended with exit codes {ends}"]
    told |= {seed: (found, seconds) for seed, found, seconds in map(json.loads, known.read_text("utf-8").splitlines())}
    proof.broken |= {str(seed): found for seed, (found, _) in sorted(told.items()) if found}
    for seed, found in proof.broken.items():
        print(f"{proof.example}: the repaired form showed {', '.join(found)} with seed {seed}", flush=True)
    proof.held, proof.processes = len(told), processes
    proof.seconds = sum(seconds for _, seconds in told.values()) / processes
    print(f"{proof.example}: repaired form held for {proof.held - len(proof.broken)} of {proof.held} runs", flush=True)


def kept() -> dict[str, Proof]:
    """Return what was proven so far, by example."""
    if not KEPT.exists():
        return {}
    told = json.loads(KEPT.read_text(encoding="utf-8"))
    return {
        name: Proof(**{**each, "replayed": [Replayed(**one) for one in each["replayed"]]})
        for name, each in told.items()
    }


def keep(proof: Proof) -> None:
    """Keep what was proven anew, and write the page; a part that was not proven yet is named there."""
    proofs = kept()
    before = proofs.get(proof.example, Proof(proof.example))
    if not proof.seconds:
        proof.held, proof.broken, proof.seconds = before.held, before.broken, before.seconds
        proof.processes = before.processes
    if not proof.replayed:
        proof.searched, proof.replayed = before.searched, before.replayed
    proofs[proof.example] = proof
    KEPT.parent.mkdir(exist_ok=True)
    KEPT.write_text(json.dumps({name: asdict(each) for name, each in proofs.items()}), encoding="utf-8")
    PAGE.write_text(written([proofs.get(name, Proof(name)) for name in EXAMPLES]), encoding="utf-8")
    print(f"written: {PAGE.relative_to(ROOT)}")


def written(proofs: Sequence[Proof]) -> str:
    """Return the page."""
    machine = f"{os.cpu_count()} processors, Python {platform.python_version()}"
    text = f"""# System files: proofs and their figures

Written by `make systems` on {datetime.now(UTC).date()}, with {machine}. It shows whether
[system files](../../docs/system_files.md) keep what they promise: the two examples run unmodified, in real processes
on a real PostgreSQL. The command ends with exit code 1 if anything below did not hold.

## Repaired forms

| example | runs | showed an anomaly | runs a second |
| --- | --- | --- | --- |
"""
    for proof in proofs:
        rate = f"{proof.held / proof.seconds:.2f}, in {proof.processes} processes" if proof.seconds else "-"
        text += f"| {proof.example} | {proof.held or 'not run yet'} | {len(proof.broken)} | {rate} |\n"
    text += "\nOther work ran beside it on the same processors, so the rates are the least that may be expected.\n"
    text += "\n## Replays from tokens\n\nThe same history, event for event, and the same anomaly.\n\n"
    text += "| example | anomaly | from its token |\n| --- | --- | --- |\n"
    for proof in proofs:
        for each in proof.replayed:
            text += f"| {proof.example} | `{each.anomaly}` | {each.same} of {each.times} |\n"
    return text


def main() -> int:
    """Do what the command line says."""
    if sys.argv[1:2] == ["--stretch"]:
        stretch(Path(sys.argv[2]), [int(seed) for seed in sys.argv[3].split(",")])
        return 0
    parser = argparse.ArgumentParser(prog="make systems", description=__doc__)
    parser.add_argument("--runs", type=int, default=500, help="runs of each repaired form")
    parser.add_argument("--replays", type=int, default=20, help="how often each token is played")
    parser.add_argument("--search", type=int, default=60, help="runs in which anomalies are looked for")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1, help="how many runs at a time")
    parser.add_argument("--resume", action="store_true", help="leave out the runs that were made with this code before")
    parser.add_argument("--only", choices=EXAMPLES, help="one example; the page shows the other as it was")
    options = parser.parse_args()
    holds = True
    with tempfile.TemporaryDirectory() as scratch:
        for example in EXAMPLES if options.only is None else (options.only,):
            proof = Proof(example)
            path = prepared(example, Path(scratch))
            if options.replays:
                replayed(path, proof, search=options.search, times=options.replays)
                keep(replace(proof))
            if options.runs:
                held(path, proof, runs=options.runs, processes=options.processes, resume=options.resume)
            keep(proof)
            holds = holds and proof.holds
    return 0 if holds else 1


if __name__ == "__main__":
    raise SystemExit(main())
