"""What `check` says of releases of pg-boss is what these releases do: each is installed and asked."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.unit.guide_repository import write

from job_harness.errors import EnvironmentUnavailable
from job_harness.review.check.examination import examine
from job_harness.review.check.repository import read_repository
from job_harness.worlds.peers import find_node, npm_package
from job_harness.worlds.postgres import Cluster, provision

pytestmark = [pytest.mark.postgres, pytest.mark.slow]

RELEASES = ("10.4.2", "11.1.2", "12.27.0", "12.28.0", "12.38.0")
DAY = 86_400
ASK = """
import { createRequire } from "node:module";
const [folder, url] = process.argv.slice(2);
const loaded = createRequire(folder + "/package.json")("pg-boss");
const boss = new (loaded.PgBoss ?? loaded)({ connectionString: url, supervise: false, schedule: false });
boss.on("error", () => {});
const tried = async (act) => { try { return await act(); } catch (error) { return String(error.message); } };
await boss.start();
await boss.createQueue("plain");
await boss.createQueue("keyed", { name: "keyed", policy: "short" });
const twice = async (queue, options) => {
  const first = await boss.send(queue, {}, options), second = await boss.send(queue, {}, options);
  return [first !== null, second !== null];
};
const told = {
  plain: await twice("plain", { singletonKey: "k" }),
  keyed: await twice("keyed", { singletonKey: "k" }),
  timed: await twice("plain", { singletonKey: "t", singletonSeconds: 600 }),
  missing: await tried(() => boss.send("nobody-made-this", {})),
};
for (const seconds of [DAY - 1, DAY, DAY + 1]) {
  told[seconds] = await tried(async () => (await boss.send("plain", {}, { expireInSeconds: seconds })) !== null);
}
console.log(JSON.stringify(told));
await boss.stop({ graceful: false, close: true });
process.exit(0);
""".replace("DAY", str(DAY))


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    try:
        cluster = provision()
    except EnvironmentUnavailable as unavailable:
        pytest.skip(str(unavailable))
    with cluster:
        yield cluster


@pytest.fixture(params=RELEASES, scope="module")
def asked(
    request: pytest.FixtureRequest, cluster: Cluster, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, dict[str, Any]]:
    """Return a release, and what it does with keys, missing queues and expiries."""
    try:
        node, folder = find_node(), npm_package("pg-boss", request.param)
    except EnvironmentUnavailable as unavailable:
        pytest.skip(str(unavailable))
    url = cluster.create_database()
    script = tmp_path_factory.mktemp("ask") / "ask.mjs"
    script.write_text(ASK, encoding="utf-8")
    command = [str(node.path), str(script), str(folder), url]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    cluster.drop_database(url.rpartition("/")[2].partition("?")[0])
    assert ended.returncode == 0, ended.stderr
    return request.param, json.loads(ended.stdout.splitlines()[-1])


def rules(folder: Path, version: str, text: str) -> set[str]:
    files = {"package.json": f'{{"dependencies": {{"pg-boss": "{version}"}}}}', "boss.ts": text}
    return {finding.rule for finding in examine(read_repository(write(folder, files))).findings}


def test_a_key_is_inert_where_check_says_so(asked: tuple[str, dict[str, Any]], tmp_path: Path) -> None:
    version, told = asked
    made = 'await boss.createQueue("a"{});\nboss.send("a", {{}}, {{ singletonKey: id{} }});'
    found = {
        "plain": made.format("", ""),
        "keyed": made.format(', { policy: "short" }', ""),
        "timed": made.format("", ", singletonSeconds: 600"),
    }

    for name, text in found.items():
        inert = "singleton_key_inert" in rules(tmp_path / name, version, text)
        assert told[name] == [True, inert]


def test_a_queue_that_nobody_made_is_missing(asked: tuple[str, dict[str, Any]], tmp_path: Path) -> None:
    version, told = asked

    assert "queue_never_created" in rules(tmp_path, version, 'boss.send("a", {});')
    assert told["missing"] is None if version.startswith("10.") else "does not exist" in told["missing"]


@pytest.mark.parametrize("seconds", [DAY - 1, DAY, DAY + 1])
def test_an_expiry_is_refused_where_check_says_so(
    seconds: int, asked: tuple[str, dict[str, Any]], tmp_path: Path
) -> None:
    version, told = asked
    refused = "expiry_refused" in rules(tmp_path, version, f'boss.send("a", {{}}, {{ expireInSeconds: {seconds} }});')

    assert (told[str(seconds)] is True) is not refused
