"""Measures in how many of ten seeds the generic search finds each planted mistake: `make planted`.

The mistakes are those of `tests/detection`: systems of real processes, queue files, and public incidents. A seed finds
one if one of its first runs (60 of a system, 850 of a queue file) shows the anomaly that stands beside it, at default
settings; nine seeds of ten have to. With --right each target without its mistake is run instead: nothing may show. What
was measured is kept in `build/planted.json`, each with the code it was measured on; --resume measures only the rest.

Usage: python benchmarks/planted.py [--only WORD]... [--seeds 10] [--right] [--resume] [--minutes M]
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from ruamel.yaml import YAML

from job_harness.core.model.settings import Settings
from job_harness.core.target import Target
from job_harness.search.sampling import Sampler, run_seed
from job_harness.search.targets import open_target

ROOT: Final = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT)]  # a script runs from a checkout

from benchmarks import resuming  # noqa: E402 - the path comes first

DETECTION: Final = ROOT / "tests/detection"
KEPT: Final = ROOT / "build/planted.json"
RUNS: Final = {"systems": 60, "incidents": 60, "queue_files": 850}
QUIET_RUNS: Final = {"systems": 100, "incidents": 40, "queue_files": 2000}
ENOUGH: Final = 0.9


class Planted(NamedTuple):
    """One target with one mistake, or with none."""

    kind: str
    file: str
    mistake: str
    finds: str
    replace: Mapping[str, str]
    """What stands in its file, or in the schema beside that, and what does instead."""
    environment: Mapping[str, str]

    @property
    def name(self) -> str:
        """What the screen calls it."""
        return f"{self.kind}/{self.file.removesuffix('.yaml')}: {self.mistake or 'no mistake'}"


def planted() -> Iterator[Planted]:
    """Read the tables."""
    for kind in ("systems", "queue_files"):
        table: dict[str, dict[str, dict[str, Any]]] = YAML(typ="safe").load(DETECTION / kind / "mistakes.yaml")
        for file, mistakes in table.items():
            yield Planted(kind, file, "", "", {}, {"MISTAKE": "", "LIMIT": "0"})
            for mistake, entry in mistakes.items():
                replace = dict(entry.get("replace", {}))
                environment = {"MISTAKE": mistake.partition(" ")[0], "LIMIT": "0"}
                for setting, value in entry.get("settings", {}).items():
                    replace["settings: {"] = f"settings: {{{setting}: {value}, "
                    environment["LIMIT"] = str(value)
                yield Planted(kind, file, mistake, entry.get("finds", ""), replace, environment)
    for incident, entry in YAML(typ="safe").load(DETECTION / "incidents/incidents.yaml").items():
        (file,) = [path.name for path in (DETECTION / "incidents" / incident).glob("*.yaml") if path.stem != "repaired"]
        yield Planted("incidents", f"{incident}/{file}", "as reported", entry["finds"], {}, {"REPAIRED": ""})
        repaired = "repaired.yaml" if (DETECTION / "incidents" / incident / "repaired.yaml").exists() else file
        yield Planted("incidents", f"{incident}/{repaired}", "", "", {}, {"REPAIRED": "yes"})


def written(target: Planted, folder: Path) -> Path:
    """Copy a target with its mistake into a folder; return its file. Raises ValueError for a stale replacement."""
    shutil.copytree(DETECTION / target.kind, folder, dirs_exist_ok=True)
    path = folder / target.file
    for old, new in target.replace.items():
        found = [each for each in (path, path.with_suffix(".sql")) if each.exists() and old in each.read_text()]
        if len(found) != 1:
            raise ValueError(f"{target.name}: {old!r} is not in {target.file} or its schema")
        found[0].write_text(found[0].read_text().replace(old, new))
    os.environ.update(target.environment)
    return path


def measured(target: Planted, seeds: int) -> dict[str, Any]:
    """Search with each seed; return the number of the run that found it first by seed, or what showed if none may."""
    with tempfile.TemporaryDirectory(prefix="planted-") as folder:
        file = written(target, Path(folder))
        engine = open_target(Target.parse(str(file), sessions=target.kind == "queue_files"))
        try:
            sampler = Sampler(engine, settings=engine.info.settings or Settings())
            if not target.finds:
                shown = [
                    sorted(found)
                    for number in range(QUIET_RUNS[target.kind])
                    if (found := sampler.sample(run_seed(1, number)).found)
                ]
                return {"shown": shown}
            return {"first": [first_run(sampler, target, seed) for seed in range(1, seeds + 1)]}
        finally:
            engine.close()


def first_run(sampler: Sampler, target: Planted, seed: int) -> int | None:
    """Return the number, from 1, of the first run of a seed that finds it."""
    for number in range(RUNS[target.kind]):
        if target.finds in sampler.sample(run_seed(seed, number)).found:
            return number + 1
    return None


def line(target: Planted, result: dict[str, Any]) -> tuple[str, bool]:
    """Return what the screen says of a target, and whether that is as it has to be."""
    if not target.finds:
        shown = result["shown"]
        runs = QUIET_RUNS[target.kind]
        return f"{target.name}: {f'shows {shown}' if shown else f'silent in {runs} runs'}", not shown
    first = [number for number in result["first"] if number is not None]
    right = len(first) >= ENOUGH * len(result["first"])
    when = f", at the median in run {statistics.median(first):g}, at the latest in run {max(first)}" if first else ""
    return f"{target.name}: {target.finds} with {len(first)} of {len(result['first'])} seeds{when}", right


def main() -> int:
    """Measure; return 1 if a mistake was found with too few seeds, or something showed in a right target."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", default=[], metavar="WORD", help="targets with this in their name")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--right", action="store_true", help="run the targets without their mistakes")
    resuming.add_options(parser, thing="target")
    asked = parser.parse_args()
    targets = [
        each
        for each in planted()
        if bool(each.finds) is not asked.right and any(word in each.name for word in asked.only or [""])
    ]
    if asked.seeds < 1:
        parser.error("--seeds must be at least 1")
    if not targets:
        parser.error(f"no target has {' or '.join(asked.only)} in its name")
    kept = json.loads(KEPT.read_text()) if KEPT.exists() else {}
    until, bad, left = resuming.deadline(asked), 0, 0
    for target in targets:
        key = f"{target.name} {resuming.current_commit()} {asked.seeds}"
        if not (asked.resume and key in kept):
            if time.monotonic() > until:
                left += 1
                continue
            kept[key] = measured(target, asked.seeds)
            KEPT.parent.mkdir(exist_ok=True)
            KEPT.write_text(json.dumps(kept, indent=1), encoding="utf-8")
        told, right = line(target, kept[key])
        bad += not right
        print(told if right else f"NOT ENOUGH: {told}", flush=True)
    print(f"{bad} not as they have to be, {left} not measured for want of time")
    return 1 if bad or left else 0


if __name__ == "__main__":
    sys.exit(main())
