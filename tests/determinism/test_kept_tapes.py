"""Tapes kept from earlier versions play as they did: the same deviations, the same bytes of history.

`tapes.yaml` holds what was recorded. Where a history is meant to change, record it anew, look at the difference and
say in the commit why it is right:

    python tests/determinism/test_kept_tapes.py
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from job_harness.core.faults import CATALOGUE, FaultPlan
from job_harness.core.history.jsonl import dump_history
from job_harness.core.port import as_stepped
from job_harness.core.run.play import play
from job_harness.core.run.session import Session
from job_harness.core.run.verdict import Run
from job_harness.core.scenario.reader import read_scenario_text
from job_harness.core.scenario.scenario import Scenario
from job_harness.core.sim.choices import Deviation, Uniform
from job_harness.core.target import Target
from job_harness.search.targets import Engines

KEPT = Path(__file__).with_name("tapes.yaml")
LEAST, MOST = 2, 6
"""A tape worth keeping deviates, and is short enough to be read."""
LIST = YAML(typ="safe").load(KEPT.read_text())
DEVIATION = re.compile(r"(?P<label>.+) #(?P<nth>\d+): (?P<option>.+)")


def deviation(text: str) -> Deviation:
    found = DEVIATION.fullmatch(text)
    assert found is not None, f"{text!r} is no deviation such as `w1 claim #3: crash`"
    return Deviation(found["label"], int(found["nth"]), found["option"])


def scenario(workload: str) -> Scenario:
    return read_scenario_text(LIST["workloads"][workload])


def replayed(kept: dict[str, Any], engines: Engines) -> Run:
    tape = tuple(deviation(text) for text in kept["tape"])
    return play(replace(scenario(kept["play"]), tape=tape), engine=as_stepped(engines.get(Target.parse(kept["on"]))))


def digest(run: Run) -> str:
    return hashlib.sha256(dump_history(run.history).encode()).hexdigest()


def title(kept: dict[str, Any]) -> str:
    return f"{kept['play']} on {kept['on']}, seed {kept['seed']}"


@pytest.fixture(scope="module")
def engines() -> Iterator[Engines]:
    with Engines() as opened:
        yield opened


@pytest.mark.parametrize("kept", LIST["tapes"], ids=title)
def test_a_kept_tape_plays_as_it_did(kept: dict[str, Any], engines: Engines) -> None:
    run = replayed(kept, engines)
    assert [str(item) for item in run.tape] == kept["tape"], "another tape: a gate, its label or an option changed"
    assert sorted(run.found) == kept["finds"], "another verdict"
    assert digest(run) == kept["sha256"], "another history: compare what `dump_history` writes before and after"


# recording ----------------------------------------------------------------------------------------------------------


def recorded(engines: Engines) -> Iterator[dict[str, Any]]:
    """Keep, for each workload and engine, the first seeds whose tape has something that the kept ones have not."""
    for workload, wanted in LIST["record"].items():
        for name, count in wanted.items():
            seen: set[str] = set()
            kept = 0
            for seed in range(700):
                if kept == count:
                    break
                entry = tried(workload, name, seed, engines)
                new = set() if entry is None else {kind(text) for text in entry["tape"]} - seen
                if entry is not None and (new or seed > 150) and (entry["finds"] or "+" not in name):
                    seen |= new
                    kept += 1
                    yield entry


def kind(text: str) -> str:
    return " ".join(word for word in deviation(text).option.split() if word.isalpha())


def tried(workload: str, name: str, seed: int, engines: Engines) -> dict[str, Any] | None:
    faults = FaultPlan(**{fault.id: 1 for fault in CATALOGUE if not fault.needs})  # neither engine has sessions
    choices = Uniform(seed, rate=0.06)
    run = Session(
        scenario(workload), engine=as_stepped(engines.get(Target.parse(name))), choices=choices, faults=faults
    ).run()
    if not LEAST <= len(run.tape) <= MOST:
        return None
    entry = {"play": workload, "on": name, "seed": seed, "finds": sorted(run.found), "tape": [str(i) for i in run.tape]}
    again = replayed(entry, engines)
    return {**entry, "sha256": digest(again)} if again.tape == run.tape and again.found == run.found else None


def lines(entries: Iterator[dict[str, Any]]) -> Iterator[str]:
    head, _, _ = KEPT.read_text().partition("\ntapes:")
    yield f"{head}\ntapes:"
    for entry in entries:
        finds = ", ".join(entry["finds"])
        yield f"- {{play: {entry['play']}, on: {entry['on']}, seed: {entry['seed']}, finds: [{finds}],"
        yield f"   sha256: {entry['sha256']},"
        yield "   tape: [" + ",\n     ".join(f'"{text}"' for text in entry["tape"]) + "]}"


if __name__ == "__main__":
    with Engines() as opened:
        KEPT.write_text("".join([f"{line}\n" for line in lines(recorded(opened))]))
