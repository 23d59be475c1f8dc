"""Writes the pictures of the HTML report that README and docs show: `python -m tests.docs.pictures`.

Each is the page itself, as Chromium has it after its script has run, in an SVG of one width: text, so that the
repository holds no binary, and the same for the same page. `page()` is the run of the demo, and a test compares what is
drawn with it.
"""

from __future__ import annotations

import hashlib
import re
import sys
import tempfile
from pathlib import Path
from typing import Final

from tests.docs.browser import MISSING, opened_browser

from job_harness.core.run.play import play
from job_harness.core.scenario.reader import read_scenario_text
from job_harness.engines.memory import MemoryEngine
from job_harness.report.case import Case
from job_harness.report.json_report import report_data
from job_harness.report.picture import picture
from job_harness.search import counterfactual

FOLDER: Final = Path(__file__).parents[2] / "docs" / "pictures"
WIDTHS: Final = (1280, 390)
FINDING: Final = """\
format: 1
title: concurrent_execution (found by exploration)
settings: {stuck_timeout: 5m}
workers: [w1, w2]
jobs:
  b: {takes: 0.95 lease}
restart_after: 5s
"""
_STRIPPED: Final = """
for (const one of document.querySelectorAll("script, .facts, textarea, .more, .skip, title, meta")) one.remove();
for (const one of document.querySelectorAll("[id]")) one.removeAttribute("id");
for (const one of document.querySelectorAll("a[href]")) one.removeAttribute("href");
return [document.documentElement.scrollHeight, new XMLSerializer().serializeToString(document.documentElement)];
"""


def page() -> str:
    """Return the HTML page of the finding that the demo makes."""
    engine = MemoryEngine()
    run = play(read_scenario_text(FINDING, path="found.yaml"), engine=engine)
    return picture(report_data([Case(run.scenario, "memory", counterfactual.with_fixes(run, engine=engine))]))


def digest(text: str) -> str:
    """Return what tells one page from another."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def drawn_of(svg: str) -> str:
    """Return the digest of the page that an SVG shows."""
    found = re.search(r"of page ([0-9a-f]{16})", svg)
    return found[1] if found else ""


def main() -> None:
    """Draw it at each width."""
    if MISSING:
        sys.exit(MISSING)
    html = page()
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as name, opened_browser(Path(name) / "profile") as browser:
        file = Path(name) / "page.html"
        file.write_text(html, encoding="utf-8")
        for width in WIDTHS:
            browser.emulate(width=width, height=900)
            browser.open(file)
            height, text = browser.run(_STRIPPED)
            svg = (
                f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
                f'viewBox="0 0 {width} {height}"><!-- of page {digest(html)}, by python -m tests.docs.pictures -->'
                f'<foreignObject width="{width}" height="{height}">{text}</foreignObject></svg>\n'
            )
            FOLDER.joinpath(f"finding-{width}.svg").write_text(svg, encoding="utf-8")
            print(f"wrote docs/pictures/finding-{width}.svg ({len(svg) // 1000} KB)")


if __name__ == "__main__":
    main()
