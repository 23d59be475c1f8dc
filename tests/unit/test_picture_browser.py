"""The page of a run in Chromium: keys, links, hostile text, accessibility, and how it looks at both widths.

Skipped where there is no Chromium, and the part that needs axe-core where that is not installed: `JOB_HARNESS_AXE`
names its `axe.min.js` (`npm install axe-core` brings it).
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.docs.browser import MISSING, Browser, opened_browser
from tests.unit.test_picture import HOSTILE, _poisoned, report

from job_harness.core.run.session import Session
from job_harness.core.scenario.job_plan import JobPlan
from job_harness.core.scenario.scenario import Scenario
from job_harness.engines.memory import MemoryEngine
from job_harness.report.json_report import run_data
from job_harness.report.picture import Drawing, picture, picture_of

pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(MISSING), reason=MISSING), pytest.mark.long]
SIZES = ((1280, 900), (390, 844))


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with opened_browser(tmp_path_factory.mktemp("profile")) as one:
        yield one


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a page that hides what followed the anomaly until it is asked for."""
    file = tmp_path_factory.mktemp("picture") / "page.html"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("job_harness.report.picture.SHOWN_AFTER", 2)
        file.write_text(picture(report()), encoding="utf-8")
    return file


def test_keys_links_and_the_slider_move_through_the_steps(browser: Browser, page: Path) -> None:
    browser.emulate(width=1280, height=900)
    browser.open(page)
    assert browser.run("return document.querySelector('.said').textContent") == "w2 starts, attempt 2"
    browser.run("document.querySelector('.step-button').focus()")
    browser.press("\ue015")  # arrow down
    assert browser.run("return document.querySelector('.said').textContent") == "w1 claims, attempt 1"
    browser.press("\ue007")  # enter
    facts = browser.run("return document.activeElement.getAttribute('aria-controls')")
    assert not browser.run("return document.getElementById(arguments[0]).hidden", facts)
    assert browser.run("return location.hash") == f"#{facts.replace('facts', 'step')}"
    browser.run("document.querySelector('.slider').focus()")
    browser.press("\ue010")  # end
    assert "FAILED" in browser.run("return document.querySelector('.states').textContent")
    assert browser.run("return document.querySelector('.after-switch').checked"), "what followed is shown"


def test_a_link_to_a_step_shows_it_also_where_it_was_hidden(browser: Browser, page: Path) -> None:
    browser.emulate(width=1280, height=900)
    browser.open(page, "#step-48")
    assert browser.run("return document.querySelector('.at').textContent").startswith("48 ")
    assert browser.run("return document.getElementById('step-48').offsetParent !== null")


def test_the_replay_command_and_the_text_for_an_issue_are_copied(browser: Browser, page: Path) -> None:
    browser.emulate(width=1280, height=900)
    browser.open(page)
    browser.run("navigator.clipboard.writeText = text => { window.copied = text; return Promise.resolve(); }")
    copied = []
    for number in (0, 1):
        browser.run("document.querySelectorAll('.more').forEach(one => { one.open = true; })")
        browser.run("document.querySelectorAll('.copy')[arguments[0]].click()", number)
        copied.append(browser.run("return window.copied"))
    assert copied[0] == "job-harness run scenarios/x.yaml --engine memory"
    assert copied[1].startswith("**FAIL: scenarios/x.yaml on memory**")
    assert "w2            starts, attempt 2 [a]" in copied[1]


def test_what_followed_is_shown_by_its_button(browser: Browser, page: Path) -> None:
    browser.emulate(width=1280, height=900)
    browser.open(page)
    seen = "return [...document.querySelectorAll('.row.after')].filter(row => row.offsetParent !== null).length"
    assert browser.run(seen) == 0
    browser.run("document.querySelector('.follow').click()")
    assert browser.run(seen) > 2
    assert browser.run("return document.activeElement.closest('.row').classList.contains('after')")


def test_a_click_shows_the_statement(browser: Browser, tmp_path: Path) -> None:
    document = report()
    run = document["cases"][0]["run"]
    anomaly = next(each["event"] for each in run["anomalies"] if each["name"] == "concurrent_execution")
    run["statements"] = [{"event": anomaly, "actor": "w2", "name": "update jobs", "sql": 0}]
    run["sql"] = [f"UPDATE jobs SET state = '{HOSTILE}'"]
    file = tmp_path / "page.html"
    file.write_text(picture(document), encoding="utf-8")
    browser.open(file)
    browser.run("document.querySelector('.row.lead .step-button').click()")
    assert "UPDATE jobs SET state" in browser.run("return document.querySelector('.row.lead .facts').innerText")
    assert not browser.has_dialog()


def test_the_passing_run_can_be_switched_off(browser: Browser, page: Path) -> None:
    browser.emulate(width=1280, height=900)
    browser.open(page)
    seen = "return [...document.querySelectorAll('.row.ghost')].filter(row => row.offsetParent !== null).length"
    assert browser.run(seen) > 0
    browser.run("document.querySelector('.ghost-switch').click()")
    assert browser.run(seen) == 0


def test_hostile_text_does_not_run(browser: Browser, tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    file.write_text(picture(_poisoned(report())), encoding="utf-8")
    browser.emulate(width=1280, height=900)
    browser.open(file)
    assert not browser.has_dialog()
    assert browser.run("return document.querySelectorAll('img').length") == 0
    assert "onerror=alert(1)" in browser.run("return document.querySelector('.states').textContent")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("width", "height"), SIZES)
def test_the_page_fits_and_axe_finds_nothing(
    browser: Browser, page: Path, width: int, height: int, scheme: str
) -> None:
    browser.emulate(width=width, height=height, scheme=scheme)
    browser.open(page)
    assert browser.run("return document.documentElement.scrollWidth") <= width
    axe = Path(os.environ.get("JOB_HARNESS_AXE", "axe.min.js"))
    if not axe.is_file():
        pytest.skip("no axe-core here: npm install axe-core, and name its axe.min.js in JOB_HARNESS_AXE")
    browser.run(axe.read_text(encoding="utf-8"))
    found = browser.run_to_the_end(
        "const done = arguments[0]; axe.run().then(result => done(result.violations.map(one => one.id + ' ' + "
        "one.nodes.map(node => node.html).join(' '))))"
    )
    assert found == []


def test_bars_stand_where_the_run_has_them(browser: Browser, page: Path) -> None:
    """What a comparison of screenshots would show, without its dependence on fonts: the geometry of the bars."""
    browser.emulate(width=1280, height=900)
    browser.open(page)
    names = [".bar.lease", ".bar.execution", ".overlap", "#step-14", "#step-22"]
    script = "const box = document.querySelector(arguments[0]).getBoundingClientRect();"
    boxes = {name: browser.run(f"{script} return [box.left, box.top, box.bottom]", name) for name in names}
    lease, execution, overlap = boxes[".bar.lease"], boxes[".bar.execution"], boxes[".overlap"]
    assert lease[0] < execution[0], "the lease stands left of the run"
    assert boxes["#step-14"][1] < lease[2] < boxes["#step-14"][2], "the lease ends where it is taken back"
    assert execution[2] > boxes["#step-22"][1], "the first run is still there when the second one starts"
    assert boxes["#step-22"][1] < overlap[1] < boxes["#step-22"][2], "they overlap from the second start"


@pytest.mark.parametrize(("workers", "width"), [(3, 1280), (3, 1024), (9, 1280)])
def test_the_bars_of_a_run_can_be_seen_however_many_actors_stand_beside_them(
    browser: Browser, tmp_path: Path, workers: int, width: int
) -> None:
    names = tuple(f"w{number}" for number in range(workers))
    jobs = tuple(JobPlan(f"j{number}") for number in range(workers))
    run = Session(Scenario(workers=names, jobs=jobs), engine=MemoryEngine()).run()
    file = tmp_path / "page.html"
    file.write_text(picture_of(Drawing(run_data(run), "many actors", "pass")), encoding="utf-8")
    browser.emulate(width=width, height=900)
    browser.open(file)
    script = (
        "const box = document.querySelector('.scroll'), edge = box.getBoundingClientRect().left;"
        "const bars = [...document.querySelectorAll('.bar')].map(bar => bar.getBoundingClientRect().right - edge);"
        "return [Math.max(...bars), box.scrollWidth]"
    )
    last, reached = browser.run(script)
    assert last <= reached


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_screenshots_differ_between_light_and_dark_and_are_of_the_right_size(
    browser: Browser, page: Path, width: int, height: int
) -> None:
    taken = {}
    for scheme in ("light", "dark"):
        browser.emulate(width=width, height=height, scheme=scheme)
        browser.open(page)
        taken[scheme] = browser.screenshot()
        assert struct.unpack(">II", taken[scheme][16:24]) == (width, height)
    assert taken["light"] != taken["dark"]
