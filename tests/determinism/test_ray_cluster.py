"""A Ray cluster of two nodes: the same campaign as on one process, whatever becomes of a node or a worker."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from job_harness.core.model.settings import Settings
from job_harness.core.port import Engine
from job_harness.core.run.verdict import Verdict
from job_harness.engines.memory import MemoryEngine
from job_harness.search.finding import Campaign
from job_harness.search.ray_cluster import RayCluster
from job_harness.search.sampling import CampaignPlan, Sampler
from job_harness.search.targets import open_engine
from job_harness.search.wrong_queues import CATALOGUE

pytest.importorskip("ray", reason="Ray is not installed: `make ray` tries this in an environment of its own")
pytestmark = [pytest.mark.campaign, pytest.mark.filterwarnings("ignore")]

OPENER = "job_harness.search.targets:open_engine"
RUNS = 300
TARGETS = """
import os, signal, time
from pathlib import Path
from job_harness.engines.memory import MemoryEngine, MemoryQueue
from job_harness.worlds.packages import find_typescript_node

class Dies(MemoryQueue):
    def fail(self, claim, error, final):
        os.kill(os.getpid(), signal.SIGKILL)

class DiesOnce(MemoryQueue):
    def fail(self, claim, error, final):
        marker = Path(__file__).with_name("died")
        if not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().fail(claim, error, final)

def open_it(name):
    if name == "held-up":
        if marker := os.environ.get("HELD_UP"):
            Path(marker).touch()
            time.sleep(600)
        return MemoryEngine()
    if name == "needs-node":
        if os.environ.get("LACKS_NODE"):
            os.environ["PATH"] = "/nowhere"
            find_typescript_node()
        return MemoryEngine()
    return MemoryEngine(globals()[name], name=name)
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A cluster with a head of one processor; the folder of the targets is on the path of its nodes."""
    from ray.cluster_utils import Cluster

    folder = tmp_path_factory.mktemp("targets")
    (folder / "ray_targets.py").write_text(TARGETS)
    patch = pytest.MonkeyPatch()
    patch.syspath_prepend(str(folder))
    patch.setenv("PYTHONPATH", str(folder))
    patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    patch.setenv("RAY_ADDRESS", made.address)
    yield made
    made.shutdown()
    patch.undo()


@pytest.fixture
def second(cluster: Any) -> Iterator[Callable[..., Any]]:
    """Starts a second node, which ends with the test."""
    nodes: list[Any] = []

    def start(**environment: str) -> Any:
        nodes.append(cluster.add_node(num_cpus=1, env_vars=environment))
        return nodes[-1]

    yield start
    for node in nodes:
        if node in cluster.list_all_nodes():
            cluster.remove_node(node, allow_graceful=False)


def searched(
    target: str,
    engine: Engine,
    *,
    runs: int = RUNS,
    opener: str = OPENER,
    watch: Callable[[int], bool] = lambda done: True,
) -> Campaign:
    with RayCluster(CampaignPlan(opener, target, Settings()), "ray") as crew:
        campaign = Sampler(engine).explore(seed=3, runs=runs, watch=watch, crew=crew)
    return replace(campaign, notes=tuple(crew.notes))


def test_a_node_killed_in_mid_campaign_changes_nothing_but_a_note(
    cluster: Any, second: Callable[..., Any], tmp_path: Path
) -> None:
    alone = Sampler(MemoryEngine()).explore(seed=3, runs=4 * RUNS)
    begun = tmp_path / "begun"
    node, killed = second(HELD_UP=str(begun)), list[int]()

    def watch(done: int) -> bool:
        if begun.exists() and not killed:
            killed.append(done)
            cluster.remove_node(node, allow_graceful=False)
        return True

    together = searched("held-up", MemoryEngine(), runs=4 * RUNS, opener="ray_targets:open_it", watch=watch)
    assert killed
    assert replace(together, notes=()) == alone
    (note,) = together.notes
    assert note.startswith("Ray node ")
    assert node.node_id[:8] in note
    assert note.endswith("went away")


def test_what_is_found_is_what_one_process_finds(cluster: Any, second: Callable[..., Any]) -> None:
    second()
    engine = CATALOGUE["stale-heartbeat"].engine("memory")
    alone = Sampler(engine).explore(seed=3, runs=400)
    together = searched("memory+stale-heartbeat", engine, runs=400)
    assert alone.finding is not None
    assert together.finding is not None
    assert together.finding.scenario == alone.finding.scenario
    assert (together.runs, together.steps, together.coverage) == (alone.runs, alone.steps, alone.coverage)


def test_each_node_has_a_postgresql_of_its_own(cluster: Any, second: Callable[..., Any]) -> None:
    second()
    engine = open_engine("postgres")
    try:
        engine.info.prepare()
        alone = Sampler(engine).explore(seed=3, runs=24)
        together = searched("postgres", engine, runs=24)
    finally:
        engine.close()
    assert alone.trouble is None
    assert together == alone


def test_a_worker_that_dies_is_replaced_and_its_runs_are_done_again(cluster: Any) -> None:
    alone = Sampler(MemoryEngine(name="DiesOnce")).explore(seed=3, runs=40)
    together = searched("DiesOnce", MemoryEngine(name="DiesOnce"), runs=40, opener="ray_targets:open_it")
    assert replace(together, notes=()) == alone
    assert together.notes == ("Ray: a worker process died",)


def test_runs_that_kill_every_worker_end_the_campaign_by_name(cluster: Any) -> None:
    done = searched("Dies", MemoryEngine(), runs=40, opener="ray_targets:open_it")
    assert done.trouble is not None
    assert "a worker process died, 4 times, at runs 0 to 3" in done.trouble.message
    assert done.verdict is Verdict.INCONCLUSIVE


def test_a_node_without_node_is_named_and_the_others_do_its_runs(cluster: Any, second: Callable[..., Any]) -> None:
    lacking = second(LACKS_NODE="1")
    alone = Sampler(MemoryEngine()).explore(seed=3, runs=RUNS)
    together = searched("needs-node", MemoryEngine(), opener="ray_targets:open_it")
    assert replace(together, notes=()) == alone
    (note,) = together.notes
    assert lacking.node_id[:8] in note
    assert "Node" in note
    assert note.endswith("it gets no more runs")


def test_a_node_out_of_memory_is_named_and_the_others_do_its_runs(cluster: Any, second: Callable[..., Any]) -> None:
    full = second(RAY_memory_usage_threshold="0.001", RAY_memory_monitor_refresh_ms="50")
    alone = Sampler(MemoryEngine()).explore(seed=3, runs=2 * RUNS)
    together = searched("memory", MemoryEngine(), runs=2 * RUNS)
    assert replace(together, notes=()) == alone
    assert together.notes
    assert all(full.node_id[:8] in note and "ran out of memory" in note for note in together.notes)


def test_ctrl_c_keeps_what_was_done_and_leaves_the_cluster(cluster: Any, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "job_harness.doors.cli", "explore", "memory", "--on", "ray", "--runs", "1000000"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as search:
        try:
            search.wait(timeout=15)
        except subprocess.TimeoutExpired:
            search.send_signal(signal.SIGINT)
        told, _ = search.communicate(timeout=60)
    assert search.returncode == 130, told
    assert "\ninterrupted: no anomaly on memory in" in f"\n{told}", told
    assert "in 0 runs" not in told


def test_a_cluster_that_is_not_there_is_named(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "job_harness.doors.cli", "explore", "--on", "ray://127.0.0.1:1", "--runs", "1"]
    ended = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False, env={**os.environ}
    )
    assert ended.returncode == 4, ended.stderr
    assert "no Ray cluster can be used at ray://127.0.0.1:1" in ended.stderr
    assert "Traceback" not in ended.stderr
