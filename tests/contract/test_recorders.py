"""The recorders among the examples write what an audit reads, and nothing of what a job holds."""

from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from job_harness.doors.cli import main
from job_harness.worlds.packages import find_node

RECORDERS = Path(__file__).parents[2] / "examples" / "recorders"
AT_WORK = """
import { recorder } from "RECORDERS/spans.mjs";
const [one, two] = ["worker-1", "worker-2"].map((name) => recorder(process.argv[2], name, { keepBytes: 1_000_000 }));
let release;
const held = new Promise((resolve) => { release = resolve; });
const first = one.job("mail", () => held)({ id: "7", data: "secret" });
await two.job("mail", async () => "a secret result")({ id: "7", data: "secret" });
release();
await first;
await one.batch("mail", async () => { throw new Error("secret"); })([{ id: "8" }, { id: "9" }]).catch(() => {});
"""


def test_the_spans_of_node_show_two_runs_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script, file = tmp_path / "work.mjs", tmp_path / "spans.jsonl"
    script.write_text(AT_WORK.replace("RECORDERS", RECORDERS.as_uri()))
    subprocess.run([find_node().path, str(script), str(file)], check=True, timeout=60)
    assert main(["audit", str(file)]) == 1
    told = capsys.readouterr().out
    assert "concurrent_execution" in told
    assert "job mail:7" in told
    assert "3 jobs" in told, "each job of a batch has a run"
    assert "secret" not in file.read_text()


class Signal:
    def connect(self, receiver: Any, *, weak: bool) -> None:
        assert not weak, "nothing else holds the recorder"
        self.send = receiver


def test_the_spans_of_celery_turn_over_and_hold_no_arguments(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    signals = SimpleNamespace(task_prerun=Signal(), task_postrun=Signal(), before_task_publish=Signal())
    celery = ModuleType("celery")
    monkeypatch.setattr(celery, "signals", signals, raising=False)
    monkeypatch.setitem(sys.modules, "celery", celery)
    record = runpy.run_path(str(RECORDERS / "celery_spans.py"))["record"]
    file = tmp_path / "worker-1.jsonl"
    record(str(file), worker="worker-1", keep_bytes=1_200)
    signals.before_task_publish.send(sender="shop.charge", headers={"id": "a"}, body="secret")
    for task in ("a", "b", "c"):
        signals.task_prerun.send(task_id=task, args=["secret"])
        signals.task_postrun.send(
            task_id=task, task=SimpleNamespace(name="shop.charge"), state="SUCCESS", retval="secret"
        )
    signals.task_postrun.send(task_id="never began", task=SimpleNamespace(name="shop.charge"), state="FAILURE")
    both = file.read_text() + (tmp_path / "worker-1.jsonl.1").read_text()
    assert len(both.splitlines()) == 4
    assert "secret" not in both
    assert main(["audit", str(tmp_path / "worker-1.jsonl.1")]) == 0
