"""`job-harness doctor`: what can run here, why the rest cannot, and what repairs it; nothing is started for it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from job_harness.doors.cli import doctor_command, main
from job_harness.extras import install
from job_harness.search import targets as wiring
from job_harness.worlds import postgres
from job_harness.worlds.postgres import provider
from job_harness.worlds.postgres.provider import Prospect


@pytest.fixture
def nothing_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any, **named: Any) -> Any:
        raise AssertionError("doctor starts nothing")

    monkeypatch.setattr(postgres, "provision", refuse)
    monkeypatch.setattr(doctor_command, "open_engine", refuse)


def found(capsys: pytest.CaptureFixture[str], *, code: int = 0) -> dict[str, Any]:
    assert main(["doctor", "--json", "-"]) == code
    document = json.loads(capsys.readouterr().out)
    assert document["exit_code"] == code
    return {item["name"]: item for item in document["found"]}


@pytest.mark.usefixtures("nothing_starts")
def test_every_engine_and_extra_is_told_of(capsys: pytest.CaptureFixture[str]) -> None:
    items = found(capsys)
    assert set(wiring.SHIPPED) == set(wiring.NEEDS) <= items.keys()
    assert {"embedded", "reference", "node", "testcontainers", "npm", "pip", "pytest plugin"} <= items.keys()
    assert items["memory"]["health"] == "ok"
    for item in items.values():
        assert item["about"]
        assert item["repair"] or item["health"] in ("ok", "unused"), item


@pytest.mark.usefixtures("nothing_starts")
def test_a_node_that_is_too_old_is_told_with_what_repairs_it(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = tmp_path / "node"
    old.write_text("#!/bin/sh\necho v20.1.0\n")
    old.chmod(0o700)
    monkeypatch.setenv("JOB_HARNESS_NODE", str(old))
    items = found(capsys)
    assert items["Node"]["health"] == "ok"
    for name in ("Node for TypeScript", "pgboss-node", "graphile-worker"):
        assert items[name]["health"] == "missing"
        assert f"JOB_HARNESS_NODE names {old}, which is 20.1.0" in items[name]["about"]
        assert install("node") in items[name]["repair"]


@pytest.mark.usefixtures("nothing_starts")
def test_without_postgresql_the_engines_that_need_it_say_so(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    nothing = [Prospect(name, False, "not here", f"bring {name}") for name in provider.CHAIN]
    monkeypatch.setattr(provider, "prospects", lambda: nothing)
    assert main(["doctor"]) == 0
    told = capsys.readouterr().out
    assert "  missing  postgres             lacks PostgreSQL\n" in told
    assert told.count("repair: bring embedded\n") == 1, "it stands with PostgreSQL, and once"
    engines = told.partition("engines\n")[2].partition("\n\n")[0].splitlines()
    assert [line.split()[1] for line in engines] == wiring.engine_names(), "one line for each engine"
    assert "Ready: the core and 5 of 14 engines." in told


@pytest.mark.usefixtures("nothing_starts")
def test_an_installation_whose_plugin_pytest_does_not_know_is_no_core(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor_command, "offered", lambda group: {})
    assert main(["doctor"]) == 4
    assert "The core cannot run: pytest plugin." in capsys.readouterr().out


def test_with_try_an_engine_is_opened_and_what_it_says_is_shown(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor_command, "engine_names", lambda: ["memory"])
    assert main(["doctor", "--try"]) == 0
    assert "memory               opened, needs nothing" in capsys.readouterr().out
