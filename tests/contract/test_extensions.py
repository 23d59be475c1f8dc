"""Faults and invariants of another package: the page's example as its reader would install it, and broken ones."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.contract.leftovers import Place, clean_place

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/write_an_adapter.md").read_text(encoding="utf-8")
pytestmark = pytest.mark.slow
INVARIANT = "[job_harness.invariants]\nx = my_power:X\n"


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with clean_place(tmp_path) as made:
        yield made


def install(place: Place, points: str, module: str) -> dict[str, str]:
    place.write("power-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: power\nVersion: 1.0\n")
    place.write("power-1.0.dist-info/entry_points.txt", points)
    place.write("my_power.py", module)
    return {"PYTHONPATH": f"{place.folder}:{ROOT}"}


def page_block(pattern: str) -> str:
    found = re.search(pattern, PAGE, re.DOTALL)
    assert found is not None
    return found[1]


def as_ini(toml: str) -> str:
    text = re.sub(r'\[project\.entry-points\."(.*?)"\]', r"[\1]", toml)
    return text.replace('"', "")


@pytest.mark.long
def test_a_fault_and_an_invariant_of_another_package_are_searched_found_and_replayed(place: Place) -> None:
    points = as_ini(page_block(r'```toml\n(\[project\.entry-points\."job_harness\.faults"\].*?)```'))
    module = page_block(r"<!-- file: my_power.py -->\n```python\n(.*?)```")
    where = install(place, points, module)
    found = place.run("explore", "memory", "--runs", "200", "--keep-going", "--save", "found.yaml", **where)
    assert found.code == 1, found
    assert "power_lost" in found.said
    assert re.search(r"Faults: .*brownout", found.said), "the campaign's screen counts it"
    assert "brownout" in (place.folder / "found.yaml").read_text()
    replayed = place.run("run", "found.yaml", "--engine", "memory", "--no-controls", **where)
    assert replayed.code == 1, replayed
    assert "power_lost" in replayed.said


RAISES = """
from job_harness.core.faults import FaultKind, Phrase
X = FaultKind("x", "It breaks.", (Phrase("x"),), lambda *_: 1 / 0, lambda *_: None, ("x",))
"""


@pytest.mark.parametrize(
    ("points", "module", "said"),
    [
        (
            INVARIANT,
            "1 / 0\n",
            "job_harness.invariants:x of power 1.0 cannot be loaded",
        ),
        (INVARIANT, "X = 3\n", "job_harness.invariants:x is not an invariant but int"),
        ("[job_harness.faults]\ny = my_power:X\n", RAISES, "job_harness.faults:y is the fault 'x'"),
        ("[job_harness.faults]\nx = my_power:X\n", RAISES, "the fault x of power 1.0 raised ZeroDivisionError"),
        ("[job_harness.faults]\nx = my_power:X\n", "X = 3\n", "job_harness.faults:x is not a fault but int"),
        ("[job_harness.faults]\ncrash = my_power:X\n", "X = print\n", "job_harness.faults:crash has a fault's name"),
        (
            INVARIANT,
            "from job_harness.core.invariants import CATALOGUE\nX = CATALOGUE[0]\n",
            "job_harness.invariants:x uses a name that is already taken",
        ),
    ],
)
def test_what_cannot_be_used_is_refused_with_its_entry_point(place: Place, points: str, module: str, said: str) -> None:
    ended = place.run("explore", "memory", "--runs", "60", **install(place, points, module))
    assert ended.code == 2, ended
    assert said in ended.said
    assert "Traceback" not in ended.said


BROKEN = """
class NoDisk:
    @property
    def info(self):
        raise OSError("no disk")

    def open(self, settings, clocks, jitter): ...

    def close(self): ...


class NoInfo(NoDisk):
    @property
    def info(self):
        return {"name": "ledger"}["version"]
"""
POINTS = """
[job_harness.engines]
no-disk = my_power:NoDisk
no-info = my_power:NoInfo
"""


def test_an_engine_that_raises_in_what_it_declares_is_named_with_its_package_and_costs_no_other(place: Place) -> None:
    place.write("scenarios/one.yaml", "format: 1\njobs: {a: {}}\n")
    ended = place.run(
        "run", "--engine", "memory,no-disk,no-info", "--json", "out.json", **install(place, POINTS, BROKEN)
    )
    assert ended.code == 2, ended
    assert "the engine no-disk of power 1.0 cannot be used: OSError: no disk" in ended.said
    assert "the engine no-info of power 1.0 cannot be used: KeyError: 'version'" in ended.said
    assert "Traceback" not in ended.said
    cases = json.loads((place.folder / "out.json").read_text())["cases"]
    assert [case["verdict"] for case in cases if case["engine"] == "memory"] == ["pass"]
