"""Searches the queues in `queues/` and writes a page for each, and the table of all: `make queues`.

`make queues ARGS="oban pgmq"` searches those alone; `--check` compares the marks with those of the pages and writes
nothing; `--runs N` is for a quick look, and is not written either; `--table` writes the table from the pages.
`make queues ARGS="chancy --releases 0.22.0 0.26.0"` searches these releases of one queue under the recommended settings
and writes their table, which shows where a promise began or ended.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import traceback
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from queues.catalogue import COLUMNS, QueueAbout, QueueTarget, catalogue, target_of
from queues.judged import JudgedColumn, search
from queues.page import INDEX, index, marks_of, page, releases_page, turns


def judged(about: QueueAbout, *, into: Path, runs: int | None) -> dict[str, JudgedColumn]:
    """Search a queue under both settings; what cannot be run is not judged, and says why."""
    columns = {}
    for name in COLUMNS:
        try:
            target = target_of(about, name, into=into)
            same = next((column for column in columns.values() if column.target == target), None)
            columns[name] = same or search(about, target, into=into, runs=runs or about.runs)
        except Exception as error:  # noqa: BLE001 - the page of a queue says what stopped it, and the others go on
            traceback.print_exc()
            columns[name] = JudgedColumn(QueueTarget(about.name, "unknown"), problem=str(error).splitlines()[0])
    return columns


def _said(about: QueueAbout, columns: dict[str, JudgedColumn]) -> None:
    for name, column in columns.items():
        lost = ", ".join(f.anomaly for findings in column.findings.values() for f in findings)
        told = column.problem or lost or "nothing found"
        print(
            f"{about.name}, {name}, {column.target.target}: {column.runs} runs, {column.seconds} s: {told}", flush=True
        )


def main() -> int:
    """Return 1 where a page's marks are not those of this run, or a queue was not judged."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--runs", type=int)
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--releases", nargs="+", default=[])
    parser.add_argument("--at-once", type=int, default=2)
    asked = parser.parse_args()
    abouts = catalogue(tuple(asked.names))
    if asked.releases:
        return over_releases(abouts[0], asked.releases, runs=asked.runs)
    wrong = 0
    with tempfile.TemporaryDirectory(prefix="job-harness-queues-") as folder, ThreadPoolExecutor(asked.at_once) as pool:
        into = Path(folder)
        rounds = [
            (about, pool.submit(judged, about, into=into, runs=asked.runs)) for about in abouts if not asked.table
        ]
        for about, waiting in rounds:
            wrong += ended(about, waiting.result(), check=asked.check, write=not asked.check and not asked.runs)
    if not asked.check and not asked.runs:
        everything = catalogue()
        pages = {about.name: text for about in everything if (text := kept(about))}
        INDEX.write_text(index(everything, pages), encoding="utf-8")
    return 1 if wrong else 0


def over_releases(about: QueueAbout, releases: list[str], *, runs: int | None) -> int:
    """Search several releases of one queue, and write their table; return 1 where one was not judged."""
    columns = {}
    with tempfile.TemporaryDirectory(prefix="job-harness-queues-") as folder:
        for release in releases:
            target = target_of(about, COLUMNS[-1], into=Path(folder), release=release)
            columns[release] = search(about, target, into=Path(folder), runs=runs or about.runs)
            _said(about, {release: columns[release]})
    print(*turns(columns), sep="\n", flush=True)
    text = releases_page(about, columns, date=f"{datetime.now(UTC):%Y-%m-%d}")
    (about.folder / "releases.md").write_text(text, encoding="utf-8")
    return int(any(column.problem for column in columns.values()))


def kept(about: QueueAbout) -> str:
    """Return the page that there is."""
    file = about.folder / "README.md"
    return file.read_text(encoding="utf-8") if file.exists() else ""


def ended(about: QueueAbout, columns: dict[str, JudgedColumn], *, check: bool, write: bool) -> bool:
    """Say what a queue came to, and keep it; return whether it was not judged, or the page has other marks."""
    _said(about, columns)
    text = page(about, columns, date=f"{datetime.now(UTC):%Y-%m-%d}")
    before, now = marks_of(kept(about)), marks_of(text)
    if check and before != now:
        other = {name: (before.get(name), marks) for name, marks in now.items() if before.get(name) != marks}
        print(f"{about.name}: other marks than on its page (then, now): {other}", flush=True)
    if write:
        (about.folder / "README.md").write_text(text, encoding="utf-8")
    return any(column.problem for column in columns.values()) or (check and before != now)


if __name__ == "__main__":
    sys.exit(main())
