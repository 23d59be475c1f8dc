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


OLDER = """
from job_harness.core.faults import Circumstances
from job_harness.core.invariants import AnomalyKind, Guarantee, Invariant, Kind, Monitor


class Brownout:
    def __init__(self, count: int, met: Circumstances) -> None:
        self.left, self.met = count, met

    def options(self, kernel, actor):
        return ("brownout",) if self.left and actor is not None and actor.process else ()

    def apply(self, kernel, actor, option):
        if option != "brownout" or actor is None:
            return False
        self.left -= 1
        self.met.note(actor.name, "brownout", {})
        return True


brownout = Brownout
"""
"""A fault as packages wrote it before faults were values."""


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


@pytest.mark.parametrize("older", [False, pytest.param(True, marks=pytest.mark.long)])
def test_a_fault_and_an_invariant_of_another_package_are_searched_found_and_replayed(place: Place, older: bool) -> None:
    points = as_ini(page_block(r'```toml\n(\[project\.entry-points\."job_harness\.faults"\].*?)```'))
    module = page_block(r"<!-- file: my_power.py -->\n```python\n(.*?)```")
    where = install(place, points, OLDER + module[module.index("class Watch") :] if older else module)
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


OF_BEFORE = """
from job_harness.engines.memory import MemoryQueue
from job_harness.core.faults import Circumstances
from job_harness.core.invariants import AnomalyKind, Guarantee, Invariant, Kind, Monitor
from job_harness.core.port import Capabilities, Contract


class Ledger:
    name = "ledger 1.0"
    capabilities = MemoryQueue.capabilities
    contract = Contract(documented={"claimed_late": "its manual"})
    application = None
    provenance = "a ledger on the desk"

    def __init__(self):
        self.prepared = False

    def prepare(self):
        self.prepared = True

    def open(self, settings, clocks, jitter):
        assert self.prepared
        return MemoryQueue(settings, clocks, jitter)

    def close(self):
        pass


class NoDisk(Ledger):
    @property
    def contract(self):
        raise OSError("no disk")


class NoInfo:
    @property
    def info(self):
        return {"name": "ledger"}["version"]


class Brownout:
    def __init__(self, count: int, met: Circumstances) -> None:
        self.left, self.met = count, met

    def options(self, kernel, actor):
        return ("brownout",) if self.left and actor is not None and actor.process else ()

    def apply(self, kernel, actor, option):
        if option != "brownout" or actor is None:
            return False
        self.left -= 1
        self.met.note(actor.name, "brownout", {})
        return True


class Watch(Monitor):
    def on_fault(self, event):
        if event.name == "brownout":
            self.breach("power_lost", f"{event.actor} lost its power")


NO_BROWNOUT = Invariant(
    id="no_brownout",
    number=101,
    sentence="The power stays on.",
    kind=Kind.ALWAYS,
    anomalies=(AnomalyKind("power_lost", Guarantee.PROGRESS, "A worker lost its power."),),
    make=Watch,
)
"""
"""A package as it was written for the first release, before there was `EngineInfo`. Not to be brought up to date."""
POINTS = """
[job_harness.engines]
ledger = my_power:Ledger
no-disk = my_power:NoDisk
no-info = my_power:NoInfo
[job_harness.faults]
brownout = my_power:Brownout
[job_harness.invariants]
no_brownout = my_power:NO_BROWNOUT
"""


def test_a_package_written_for_the_first_release_is_searched_as_it_was(place: Place) -> None:
    where = install(place, POINTS, OF_BEFORE)
    found = place.run("explore", "ledger", "--runs", "100", "--save", "found.yaml", **where)
    assert found.code == 1, found
    assert "power_lost" in found.said
    assert "brownout" in (place.folder / "found.yaml").read_text()


def test_an_engine_that_raises_in_what_it_declares_is_named_with_its_package_and_costs_no_other(place: Place) -> None:
    place.write("scenarios/one.yaml", "format: 1\njobs: {a: {}}\n")
    ended = place.run(
        "run", "--engine", "memory,no-disk,no-info", "--json", "out.json", **install(place, POINTS, OF_BEFORE)
    )
    assert ended.code == 2, ended
    assert "the engine no-disk of power 1.0 cannot be used: OSError: no disk" in ended.said
    assert "the engine no-info of power 1.0 cannot be used: KeyError: 'version'" in ended.said
    assert "Traceback" not in ended.said
    cases = json.loads((place.folder / "out.json").read_text())["cases"]
    assert [case["verdict"] for case in cases if case["engine"] == "memory"] == ["pass"]
