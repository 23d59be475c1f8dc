"""Real processors in scenarios, Python and TypeScript: on the scenario's time, found beside its file."""

from __future__ import annotations

import os
import random
import sys
import textwrap
from pathlib import Path

import pytest
from tests.contract.node_at_hand import needs_node, processor

from job_harness.core.run.play import play
from job_harness.core.run.verdict import Run, Verdict
from job_harness.core.scenario.reader import read_scenario
from job_harness.core.scenario.writer import write_scenario
from job_harness.core.target import Target
from job_harness.engines.memory import MemoryEngine
from job_harness.errors import UsageError
from job_harness.search.targets import Engines, scenario_processors

TOOLS = """
import asyncio
import random
import secrets
import time
import uuid

from job_harness.subjects.processors import JobResult

effects = []


async def slow(job):
    effects.append(("begun", job.attempts))
    await asyncio.sleep(90)
    effects.append(("ended", job.attempts))
    return JobResult(success=True, output=job.input)


def draws(job):
    drawn = [random.random(), secrets.token_hex(4), str(uuid.uuid4()), random.Random().random()]
    time.sleep(random.uniform(1, 9))
    return JobResult(success=True, output=drawn)


def plain(job):
    time.sleep(3)
    return JobResult(success=True, output={"attempt": job.attempts})


def fails(job):
    raise ValueError("not today")


def hangs(job):
    time.sleep(1e6)


def wrong(job):
    return JobResult(success=True, output=float("nan"))
"""

BOTH_WORKERS = pytest.mark.parametrize("engine", ["memory", "reference"])
"""The stock worker, and the reference worker."""


def played(folder: Path, text: str, name: str, *, engine: str = "memory") -> Run:
    """Play a scenario whose Python tools are in a module of this name: modules stay imported."""
    (folder / f"{name}.py").write_text(TOOLS, encoding="utf-8")
    path = folder / "scenario.yaml"
    path.write_text(textwrap.dedent(text).replace("TOOLS", name), encoding="utf-8")
    with Engines() as engines:
        return play(read_scenario(path), engine=engines.get(Target.parse(engine)), processors=scenario_processors)


def test_what_a_processor_draws_is_the_same_in_each_run_and_the_machines_afterwards(tmp_path: Path) -> None:
    text = 'format: 1\nprocessors: {draws: "TOOLS:draws"}\njobs: {a: {tool: draws}, b: {tool: draws}}\n'
    before = random.getstate()
    first, again = (played(tmp_path, text, "drawing").history.events for _ in range(2))
    assert first == again
    assert random.getstate() == before
    assert os.urandom(8) != os.urandom(8)


@BOTH_WORKERS
def test_python_processors_run_on_the_scenarios_time(tmp_path: Path, engine: str) -> None:
    run = played(
        tmp_path,
        """
        format: 1
        settings: {max_attempts: 2}
        processors:
          {slow: "TOOLS:slow", plain: "TOOLS:plain", fails: "TOOLS:fails", hangs: "TOOLS:hangs", wrong: "TOOLS:wrong"}
        jobs:
          a: {tool: slow, input: [1]}
          b: {tool: plain}
          c: {tool: fails}
          d: {tool: hangs}
          e: {tool: wrong}
          f: {tool: scripted}
        expect:
          a: {status: COMPLETED, attempts: 1, output: [1]}
          b: {status: COMPLETED, output: {attempt: 1}}
          c: {status: FAILED, attempts: 2, error: "ValueError: not today"}
          d: {status: FAILED, error: timed out}
          e: {status: FAILED, error: JSON}
          f: {status: COMPLETED}
        """,
        f"tools_of_time_{engine}",
        engine=engine,
    )
    assert (run.failures, run.anomalies, run.verdict) == ((), (), Verdict.PASS)


@BOTH_WORKERS
@pytest.mark.parametrize(
    ("rest", "passes"),
    [
        ("", False),
        ("expect: {a: {attempts: 2}}", False),
        ("expect: {a: {status: FAILED}}", True),
        ("steps: [run until idle, a is FAILED]", True),
    ],
)
def test_a_real_processor_that_fails_is_no_pass_where_nothing_says_that_it_may(
    tmp_path: Path, engine: str, rest: str, passes: bool
) -> None:
    text = 'format: 1\nsettings: {max_attempts: 2}\nprocessors: {fails: "TOOLS:fails"}\njobs: {a: {tool: fails}}\n'
    run = played(tmp_path, text + rest, f"tools_of_failure_{engine}", engine=engine)
    assert run.verdict is (Verdict.PASS if passes else Verdict.FAIL)
    told = "a ended FAILED (ValueError: not today), and nothing says that it may; if it may: `expect: {a: {status: FAIL"
    assert all(f"scenario.yaml:3: {told}" in failure for failure in run.failures)


@BOTH_WORKERS
def test_a_crash_while_running_severs_the_processor_after_its_first_steps(tmp_path: Path, engine: str) -> None:
    run = played(
        tmp_path,
        """
        format: 1
        workers: [w1, w2]
        processors: {slow: "TOOLS:slow"}
        jobs: {a: {tool: slow}}
        steps: [w1 claims a, crash w1 while running a, run until idle]
        expect: {a: {status: COMPLETED, attempts: 2, runs: 2}}
        """,
        f"tools_of_crash_{engine}",
        engine=engine,
    )
    assert run.verdict is Verdict.PASS
    tools = sys.modules[f"tools_of_crash_{engine}"]
    assert tools.effects == [("begun", 1), ("begun", 2), ("ended", 2)]


def test_a_paused_worker_finds_its_processor_over_and_its_lease_gone(tmp_path: Path) -> None:
    run = played(
        tmp_path,
        """
        format: 1
        workers: [w1, w2]
        processors: {slow: "TOOLS:slow"}
        jobs: {a: {tool: slow}}
        steps:
          - w1 claims a
          - w1 pauses while running a
          - advance 20m
          - a is COMPLETED
          - w1 completes a -> refused
        expect: {a: {status: COMPLETED, runs: 2}}
        """,
        "tools_of_pause",
    )
    assert (run.failures, run.verdict) == ((), Verdict.PASS)


@needs_node
@BOTH_WORKERS
def test_the_child_of_a_worker_that_crashed_is_killed_and_its_successor_begins_anew(
    tmp_path: Path, engine: str
) -> None:
    target = processor(
        tmp_path,
        """
        globalThis.begun = (globalThis.begun ?? 0) + 1;
        await new Promise((go) => setTimeout(go, 5_000));
        return { success: true, output: globalThis.begun };
        """,
    )
    run = played(
        tmp_path,
        f"""
        format: 1
        processors: {{ts: "{Path(target).name}"}}
        jobs: {{a: {{tool: ts}}, b: {{tool: ts, at: 1h}}}}
        steps: [w1 claims a, crash w1 while running a, restart w1, run until idle]
        expect: {{a: {{status: COMPLETED, attempts: 2, output: 1}}, b: {{status: COMPLETED, output: 2}}}}
        """,
        "tools_of_child",
        engine=engine,
    )
    assert (run.failures, run.verdict) == ((), Verdict.PASS)


def test_what_cannot_be_found_is_a_usage_error(tmp_path: Path) -> None:
    text = 'format: 1\nprocessors: {t: "TOOLS:slowly"}\njobs: {a: {tool: t}}\n'
    with pytest.raises(UsageError, match=r"has no 'slowly' \(did you mean 'slow'\?\)"):
        played(tmp_path, text, "tools_of_nothing")
    text = 'format: 1\nprocessors: {t: "lib/x.ts#run"}\njobs: {a: {tool: t}}\n'
    with pytest.raises(UsageError, match="there is no file"):
        played(tmp_path, text, "tools_of_nothing")


def test_without_somebody_to_run_them_the_run_is_inconclusive(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text('format: 1\nprocessors: {t: "m:f"}\njobs: {a: {tool: t}}\n', encoding="utf-8")
    run = play(read_scenario(path), engine=MemoryEngine())
    assert run.verdict is Verdict.INCONCLUSIVE
    assert "m:f was not run for 't'" in run.uncovered[0]


def test_processors_are_written_as_they_were_read(tmp_path: Path) -> None:
    text = 'format: 1\nprocessors: {t: {run: "x.ts#f", globals: {a: "() => 1"}, stubs: {"@r/d": d.ts}}, u: "m:f"}\n'
    path = tmp_path / "s.yaml"
    path.write_text(text + "jobs: {a: {tool: t}, b: {tool: u}}\n", encoding="utf-8")
    scenario = read_scenario(path)
    again = tmp_path / "again.yaml"
    again.write_text(write_scenario(scenario), encoding="utf-8")
    assert read_scenario(again).processors == scenario.processors


PAYING = """
format: 1
processors:
  pay:
    run: pay.ts#run
    fetch:
      POST https://pay.example/charges: {status: 201, json: {id: c1}}
      https://pay.example/down: {error: refused}
workers: [w1, w2]
jobs:
  a: {tool: pay, input: {order: 7}}
steps:
  - w1 claims a
  - crash w1 while running a
  - run until idle
expect:
  a: {status: COMPLETED, runs: 2, output: [c1, "fetch failed: refused"], effects: {charged: CHARGED}}
"""


@needs_node
@pytest.mark.parametrize("charged", [2, 1])
@BOTH_WORKERS
def test_fetch_is_answered_and_effects_are_counted_as_the_scenario_says(
    tmp_path: Path, engine: str, charged: int
) -> None:
    source = """
    export const run = async (job: any) => {
      const answer = await fetch("https://pay.example/charges", { method: "POST" });
      await effect("charged", { order: job.input.order });
      const down = await fetch("https://pay.example/down").catch((error) => error.message);
      await new Promise((go) => setTimeout(go, 30_000));
      return { success: true, output: [(await answer.json()).id, down] };
    };
    """
    (tmp_path / "pay.ts").write_text(textwrap.dedent(source), encoding="utf-8")
    run = played(tmp_path, PAYING.replace("CHARGED", str(charged)), f"paying_{engine}_{charged}", engine=engine)
    if charged == 2:
        assert (run.verdict, run.failures) == (Verdict.PASS, ())
    else:
        [failure] = run.failures
        assert failure.endswith("a: expected effects {'charged': 1}, got {'charged': 2}")
    text = write_scenario(run.scenario)
    assert "fetch" in text
    assert f"charged: {charged}" in text


CHARGING = """
import asyncio
import time

from job_harness import effect, step
from job_harness.subjects.processors import JobResult

after = []


async def waits(job):
    effect("charged", order=7)
    after.append("same turn")
    effect("mailed")
    await asyncio.sleep(1)
    after.append("next turn")
    effect("recorded")
    return JobResult(success=True)


def plain(job):
    effect("charged", order=7)
    time.sleep(1)
    effect("recorded")
    return JobResult(success=True)


async def steps(job):
    effect("charged", order=7)
    await step("saved")
    effect("recorded")
    return JobResult(success=True)
"""


def crashed_at(folder: Path, point: str, processor: str, name: str, *, engine: str) -> Run:
    """Play one job whose worker crashes in the middle of its processor; another worker takes it over."""
    (folder / f"{name}.py").write_text(CHARGING, encoding="utf-8")
    path = folder / "scenario.yaml"
    path.write_text(
        f"format: 1\nprocessors: {{pay: {processor!r}}}\nworkers: [worker-1, worker-2]\n"
        f"jobs: {{job-1: {{tool: pay}}}}\ntape: [{{at: worker-1 {point} job-1, do: crash}}]\n",
        encoding="utf-8",
    )
    with Engines() as engines:
        return play(read_scenario(path), engine=engines.get(Target.parse(engine)), processors=scenario_processors)


@pytest.mark.parametrize(
    ("processor", "point", "effects"),
    [
        ("waits", "charged", {"charged": 2, "mailed": 1, "recorded": 1}),
        ("waits", "recorded", {"charged": 2, "mailed": 2, "recorded": 2}),
        ("plain", "charged", {"charged": 2, "recorded": 1}),
        ("plain", "recorded", {"charged": 2, "recorded": 2}),
        ("steps", "saved", {"charged": 2, "recorded": 1}),
    ],
)
@BOTH_WORKERS
def test_a_worker_can_crash_right_after_an_effect_or_at_a_named_step(
    tmp_path: Path, engine: str, processor: str, point: str, effects: dict[str, int]
) -> None:
    """Before, only its waits and its verbs were gates, so that a test's finding could not be said as a scenario."""
    name = f"charging_{processor}_{point}_{engine}"
    run = crashed_at(tmp_path, point, f"{name}:{processor}", name, engine=engine)
    assert (run.uncovered, run.failures, run.anomalies) == ((), (), ())
    assert run.history.effects("job-1") == effects
    assert [event.actor for event in run.history if getattr(event, "name", "") == "ended"] == ["worker-2"]
    if (processor, point) == ("waits", "charged"):
        assert sys.modules[name].after == ["same turn", "next turn"]  # of the second worker: no line after it ran


@needs_node
@BOTH_WORKERS
def test_a_worker_can_crash_right_after_an_effect_of_typescript(tmp_path: Path, engine: str) -> None:
    target = processor(
        tmp_path,
        """
        await effect("charged", { order: 7 });
        await new Promise((go) => setTimeout(go, 1_000));
        await effect("recorded", {});
        return { success: true };
        """,
    )
    run = crashed_at(tmp_path, "charged", Path(target).name, "charging_ts", engine=engine)
    assert (run.uncovered, run.failures, run.anomalies) == ((), (), ())
    assert run.history.effects("job-1") == {"charged": 2, "recorded": 1}
