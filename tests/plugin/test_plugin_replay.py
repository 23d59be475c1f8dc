"""`pytest --job-record` keeps runs, and `job-harness replay` shows where a changed processor decides differently."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from job_harness.core.history.jsonl import load_history
from job_harness.core.scenario.replay_token import ReplayToken, encode
from job_harness.doors.cli import main
from job_harness.report.json_report import schema
from job_harness.search.decisions import divergence

INI = """[pytest]
addopts = -p no:cacheprovider -p no:hypothesispytest -p no:postgresql -p no:anyio -p no:xdist
"""
SHOP = """
from job_harness import JobResult, Steps, effect

stored = set()

def pay(job):
    run = Steps(job.id)
    if "charge" not in stored:
        run.begin("charge")
        effect("charged", order=job.input)
        run.finish("charge")
        stored.add("charge")
    run.record("charge")
    return JobResult(success=True, output="paid")

def same(job):
    return pay(job)

def refunds(job):
    if job.attempts > 1:
        effect("refunded", order=job.input)
    return pay(job)

def resumes_badly(job):
    run = Steps(job.id)
    run.begin("charge")
    effect("charged", order=job.input)
    run.finish("charge")
    run.record("charge")
    return JobResult(success=True, output="paid")

def stores_more(job):
    done = pay(job)
    stored.add("more")
    return done

async def other_kind(job):
    return pay(job)
"""
TEST = """
import shop

def test_paid(job_harness):
    shop.stored.clear()
    job_harness.register("pay", shop.pay)
    job_harness.enqueue("pay", "o1")
    job_harness.run_until_idle()
    assert "more" not in shop.stored
"""


SCENARIO = """
format: 1
title: paid
processors: {pay: "shop:pay"}
workers: [w1, w2]
jobs:
  a: {tool: pay, input: o1}
steps:
  - w1 claims a
  - crash w1 before completing a
  - run until idle
expect:
  a: {status: COMPLETED}
"""
pytestmark = pytest.mark.slow
CLI = ("-m", "job_harness.doors.cli")


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Record the runs of one test, and of a scenario, once for all tests here; none of them changes what is there."""
    folder = tmp_path_factory.mktemp("shop")
    for name, text in {"pytest.ini": INI, "shop.py": SHOP, "test_shop.py": TEST, "paid.yaml": SCENARIO}.items():
        (folder / name).write_text(text)
    command("-m", "pytest", "--job-explore", "12", "--job-record", "runs", folder=folder, code=0)
    command(*CLI, "run", "paid.yaml", "--history", "h.jsonl", "--no-controls", folder=folder, code=0)
    return folder


def command(*arguments: str, folder: Path, code: int) -> str:
    """Run a command of Python in a folder; return what it printed."""
    words, env = [sys.executable, *arguments], {**os.environ, "CI": ""}
    ended = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False, env=env)
    assert ended.returncode == code, ended.stdout + ended.stderr
    return ended.stdout + ended.stderr


def replay(*arguments: str, folder: Path, code: int, runs: str = "runs") -> str:
    return command(*CLI, "replay", runs, *arguments, folder=folder, code=code)


@pytest.mark.long
def test_a_run_is_replayed_and_what_decides_otherwise_is_shown(shop: Path, tmp_path: Path) -> None:
    files = sorted(shop.rglob("run-*.jsonl"))
    assert len(files) > 8
    assert len({json.loads(file.read_text().splitlines()[0])["about"]["token"] for file in files}) == len(files)
    assert replay(folder=shop, code=0) == f"pass: {len(files)} runs replayed, 0 different\n"

    told = replay("--against", "pay=shop:refunds", "--json", str(tmp_path / "out.json"), folder=shop, code=1)
    assert '    recorded  charge of job-1 records\n    now       refunded {"order":"o1"}\n' in told
    assert "  pytest test_shop.py::test_paid --job-replay jh1_" in told
    document = json.loads((tmp_path / "out.json").read_text())
    Draft202012Validator(schema()).validate(document)
    assert document["verdict"] == "fail"
    first = next(run for run in document["runs"] if run["divergence"])
    assert first["divergence"]["attempt"] == 2


@pytest.mark.long
def test_a_processor_that_is_deployed_while_jobs_are_under_way_resumes_what_the_old_one_stored(shop: Path) -> None:
    told = replay("--against", "shop:resumes_badly", "--from-attempt", "2", folder=shop, code=1)
    assert "  now it shows step_repeated, which the recorded run does not" in told
    replay("--against", "shop:same", "--from-attempt", "2", folder=shop, code=0)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("run.jsonl", "--from-attempt", "2"), "--from-attempt 2: it says from which attempt"),
        (("nowhere.jsonl",), "nowhere.jsonl: cannot be read"),
        (("other.jsonl",), "its first line does not say which run this is"),
        (("empty",), "empty: no recorded runs in this folder"),
        (("run.jsonl", "seeded.jsonl"), "these runs come from several sessions of pytest"),
    ],
)
def test_what_makes_no_sense_is_refused(
    arguments: tuple[str, ...],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    for name, seed in {"run": 0, "seeded": 7, "other": None}.items():
        about = {
            "test": "test_shop.py::test_paid",
            "engine": "memory",
            "token": encode(ReplayToken("a" * 12, seed, ())),
        }
        header = {"format": "job-harness-history", "version": 1, **({} if seed is None else {"about": about})}
        Path(f"{name}.jsonl").write_text(json.dumps(header) + "\n")
    assert main(["replay", *arguments]) == 2
    assert words in capsys.readouterr().err


@pytest.mark.long
def test_what_cannot_be_played_is_inconclusive(shop: Path, tmp_path: Path) -> None:
    told = replay("--against", "shop:other_kind", "--from-attempt", "2", folder=shop, code=3)
    assert "only one is a coroutine function" in told
    for name in ("pytest.ini", "shop.py"):
        shutil.copy(shop / name, tmp_path)
    (tmp_path / "test_shop.py").write_text(TEST.replace("test_paid", "test_other"))
    other = ("--against", "mail=shop:pay")
    assert "no test of these runs registers a processor for mail" in replay(*other, folder=shop, code=2)
    assert "paid.yaml: no processor for mail; it has pay" in replay(*other, runs="h.jsonl", folder=shop, code=2)
    assert " runs: ERROR: not found: " in replay(folder=tmp_path, code=3, runs=str(shop / "runs"))
    (tmp_path / "test_shop.py").write_text(f"import pytest\n@pytest.fixture(autouse=True)\ndef no(): 1 / 0\n{TEST}")
    unplayed = "skipped, or failed before its body began; to see why: pytest test_shop.py::test_paid"
    for against in ((), ("--against", "pay=shop:pay")):
        assert unplayed in replay(*against, folder=tmp_path, code=3, runs=str(shop / "runs"))


@pytest.mark.long
def test_the_test_itself_is_judged_in_the_run_without_faults(shop: Path) -> None:
    told = replay("--against", "shop:stores_more", folder=shop, code=1)
    assert "test_shop.py::test_paid: different in 1 run\n  now the test itself fails: AssertionError: " in told
    assert "  the smallest of them: no fault\n" in told


def test_runs_that_nobody_explored_are_not_recorded_in_silence(shop: Path) -> None:
    told = command("-m", "pytest", "-q", "--job-record", "none", folder=shop, code=0)
    assert "job-harness: --job-record none: no run was recorded; only explored runs are: add --job-explore N" in told


@pytest.mark.long
def test_a_run_of_a_scenario_is_replayed_too(shop: Path) -> None:
    replay(runs="h.jsonl", folder=shop, code=0)
    assert "a (pay), attempt 2" in replay("--against", "pay=shop:refunds", runs="h.jsonl", folder=shop, code=1)


def test_times_are_no_decision() -> None:
    def history(at: int, order: int) -> Any:
        effect = {"kind": "effect", "at": at, "actor": "w", "job": "a", "attempt": 1, "token": 1, "name": "charged"}
        header = {"format": "job-harness-history", "version": 1}
        return load_history([json.dumps(header), json.dumps({**effect, "data": {"order": order}})])

    assert divergence(history(1, 7), history(2, 7)) is None
    other = divergence(history(1, 7), history(1, 8))
    assert other is not None
    assert (other.recorded, other.now) == ('charged {"order":7}', 'charged {"order":8}')
