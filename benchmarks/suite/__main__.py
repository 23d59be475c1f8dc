"""Where the CPU of the tests goes, and which tests detect what: one run of pytest that is watched.

    python benchmarks/suite run [--into FOLDER] [PYTEST ARGUMENT ...]
    python benchmarks/suite compare FOLDER FOLDER
    python benchmarks/suite blind FOLDER [ANOMALY ...]

`run` plays `make test`, or what is asked of pytest, and writes two files into the folder: `costs.txt`, the CPU seconds
by directory, file, test and fixture, and `detections.txt`, one line for each planted defect and what was found on it,
with the tests that saw it. `compare` names the detections that the first folder has and the second has not, and fails
where there are any; an anomaly that a wrong queue of the catalogue is not planted for counts as neither. `blind` plays,
for each anomaly of a folder's list, the tests that saw it while no judge reports it any more, until one fails; it fails
itself where none does: then an anomaly could be lost unnoticed.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

from job_harness.search.wrong_queues import CATALOGUE

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
MAKE_TEST = ("-n", "auto", "--dist", "worksteal", "-m", "not campaign and not long", "-q")
SHOWN = 60
PLACE = re.compile(r"/\S*/(?=[^/\s]+\.(?:py:|ya?ml\b))")
"""Where a target's file lies: another checkout, or the folder of a test, is no other target."""
Detections = dict[tuple[str, str], set[str]]


def watched(folder: Path, arguments: Iterable[str], **more: str) -> float:
    """Run pytest over the suite and let every process note into the folder; return the CPU seconds of all of them."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in (*folder.glob("cost-*.jsonl"), folder / "noted.tsv"):
        old.unlink(missing_ok=True)
    path = os.pathsep.join((str(HERE / "noting"), str(HERE), os.environ.get("PYTHONPATH", ""))).rstrip(os.pathsep)
    environment = {**os.environ, **more, "PYTHONPATH": path, "SUITE_FOLDER": str(folder)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # as `make test`: a child would compile the harness anew
    command = [sys.executable, "-m", "pytest", "-p", "plugin", *arguments]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, cwd=ROOT, env=environment, check=False, stdout=sys.stderr)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def costs(folder: Path, total: float) -> str:
    """Return the tables of CPU seconds."""
    spent: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    often: dict[str, int] = defaultdict(int)
    for path in folder.glob("cost-*.jsonl"):
        for kind, name, seconds in map(json.loads, path.read_text(encoding="utf-8").splitlines()):
            spent[kind][name] += seconds
            often[name] += 1
            if kind == "test":
                file = name.partition("::")[0]
                spent["file"][file] += seconds
                spent["directory"][file.rpartition("/")[0]] += seconds
    tests = sum(spent["test"].values())
    lines = [f"{total:8.1f} s of CPU in all, {tests:.1f} s of it within {len(spent['test'])} tests"]
    for kind in ("directory", "collection", "process", "file", "fixture", "test"):
        lines.append(f"\nby {kind}")
        ranked = sorted(spent[kind].items(), key=lambda item: -item[1])[: None if kind == "test" else SHOWN]
        lines.extend(f"{seconds:8.2f} s  {often[name]:5d}x {name}" for name, seconds in ranked)
    return "\n".join(lines) + "\n"


def noted(folder: Path) -> Detections:
    """Return what was noted: (anomaly, what it was found on) -> tests."""
    found: Detections = defaultdict(set)
    path = folder / "noted.tsv"
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        _, name, target, test = line.split("\t")
        found[name, PLACE.sub("", target)].add(test)
    return found


def listed(found: Detections) -> str:
    """Return the detection list as text."""
    lines = []
    for (name, target), tests in sorted(found.items()):
        lines.append(f"{name} on {target}")
        lines.extend(f"    {test}" for test in sorted(tests))
    return "\n".join(lines) + "\n"


def read_list(path: Path) -> Detections:
    """Read a detection list back."""
    found: Detections = defaultdict(set)
    key = ("", "")
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("    "):
            found[key].add(line.strip())
        else:
            name, _, target = line.partition(" on ")
            key = (name, PLACE.sub("", target))
    return found


def by_the_way(name: str, target: str) -> bool:
    """Whether a wrong queue showed an anomaly that it is not planted for: some run of a search met it, no test asks."""
    mistake = CATALOGUE.get(target.rpartition("+")[2])
    return mistake is not None and name not in mistake.finds


def compare(before: Detections, after: Detections) -> int:
    """Print what was lost and won, without what was seen by the way; return how many detections were lost."""
    before, after = ({key: list_[key] for key in list_ if not by_the_way(*key)} for list_ in (before, after))
    lost = [key for key in before if key not in after]
    for name, target in lost:
        print(f"lost: {name} on {target} (was seen by {', '.join(sorted(before[name, target]))})")
    for name, target in (key for key in after if key not in before):
        print(f"won: {name} on {target}")
    fewer = [key for key in before if key in after and len(after[key]) < len(before[key])]
    for key in fewer:
        print(f"fewer tests: {key[0]} on {key[1]}: {len(before[key])}, now {len(after[key])}")
    print(f"{len(before)} detections before, {len(after)} now, {len(lost)} lost")
    return len(lost)


def blind(folder: Path, found: Detections, only: list[str]) -> int:
    """Let one anomaly after the other go unreported; return how many of them no test misses."""
    tests: Mapping[str, set[str]] = defaultdict(set)
    for (name, _), seen_by in found.items():
        tests[name] |= seen_by - {"-"}
    unnoticed = 0
    for name in only or sorted(tests):
        under = folder / "blind" / name
        watched(under, ("-q", "-x", "--no-header", "-p", "no:cacheprovider", *sorted(tests[name])), SUITE_BLIND_TO=name)
        lines = [json.loads(line) for path in under.glob("cost-*.jsonl") for line in path.read_text().splitlines()]
        failed = sorted({test for kind, test, _ in lines if kind == "failed"})
        unnoticed += not failed
        print(f"{name}: {', '.join(failed) if failed else 'NO TEST FAILS'}", flush=True)
    return unnoticed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run")
    run.add_argument("--into", type=Path, default=ROOT / ".job-harness" / "suite")
    two = commands.add_parser("compare")
    two.add_argument("before", type=Path)
    two.add_argument("after", type=Path)
    gone_blind = commands.add_parser("blind")
    gone_blind.add_argument("folder", type=Path)
    gone_blind.add_argument("anomaly", nargs="*")
    asked, rest = parser.parse_known_args()
    if asked.command == "compare":
        return min(1, compare(*(read_list(folder / "detections.txt") for folder in (asked.before, asked.after))))
    if asked.command == "blind":
        folder = asked.folder.resolve()
        return min(1, blind(folder, read_list(folder / "detections.txt"), asked.anomaly))
    folder = asked.into.resolve()
    total = watched(folder, rest or MAKE_TEST)
    (folder / "costs.txt").write_text(costs(folder, total), encoding="utf-8")
    (folder / "detections.txt").write_text(listed(noted(folder)), encoding="utf-8")
    print(f"wrote {folder / 'costs.txt'} and {folder / 'detections.txt'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
