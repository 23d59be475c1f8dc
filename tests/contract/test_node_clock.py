"""A program in Node sees the same of its timers and its Date on our clock as on Node's own."""

from __future__ import annotations

import json
import subprocess

import pytest
from tests.contract.node_at_hand import written

from job_harness.errors import EnvironmentUnavailable
from job_harness.worlds.peers import find_node
from job_harness.worlds.peers.runtime import NODE_HOST

SEEN = {
    "a timer that has fired is set again": """
        let n = 0;
        const timer = setTimeout(() => ++n < 3 && timer.refresh(), 5);
        await ms(60);
        return n;
    """,
    "a timer that was cleared is not": """
        let n = 0;
        const timer = setTimeout(() => ++n, 5);
        clearTimeout(timer);
        timer.refresh();
        await ms(20);
        return n;
    """,
    "`this` is the timer": """
        let n = 0;
        setInterval(function () { if (++n > 1) clearInterval(this); }, 5);
        await ms(60);
        return n;
    """,
    "an interval ends by its signal": """
        let n = 0;
        const ending = new AbortController();
        setTimeout(() => ending.abort("enough"), 22);
        try {
          for await (const _ of timers.setInterval(5, 0, { signal: ending.signal })) if (++n > 20) return "no end";
        } catch (error) {
          return [error.name, error.cause];
        }
    """,
    "a signal that aborts keeps nothing going": "AbortSignal.timeout(60_000); return kept();",
    "nor does a wait that says so": "void timers.setTimeout(60_000, 0, { ref: false }); return kept();",
    "but another wait does": """
        const timer = setTimeout(() => {}, 60_000);
        const seen = kept();
        clearTimeout(timer);
        return seen;
    """,
    "a spy on the time of day is heard, and taken away": """
        const { now } = Date;
        const about = Object.getOwnPropertyDescriptor(Date, "now");
        Date.now = () => 42;
        const heard = [Date.now()];
        Object.defineProperty(Date, "now", { ...about, value: () => 43 });
        heard.push(Date.now());
        Date.now = now;
        return [...heard, Date.now() > 43];
    """,
}
PROGRAM = """
import timers from "node:timers/promises";
import { Clock, install } from %s;
const works = [%s];
const seen = async (kept) => {
  const all = [];
  for (const work of works) all.push(await work({ kept, ms: (wait) => new Promise((go) => setTimeout(go, wait)) }));
  return all;
};
const real = await seen(() => process.getActiveResourcesInfo().includes("Timeout"));
const clock = new Clock();
clock.begin(1_893_456_000_000);
install(clock, 1);
const rest = async () => { for (let n = 0; n < 3; n++) await new Promise(setImmediate); };
let over = null;
seen(() => [...clock.timers.values()].some((timer) => timer.kept)).then((all) => (over = all));
const broken = (_, error) => { throw error; };
while (await rest(), over === null) await clock.moveTo(clock.next(), { rest, one: true, broken });
process.stdout.write(JSON.stringify([real, over]), () => process.exit());
"""


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[object], list[object]]:
    """What is seen on Node's clock, and on ours."""
    try:
        node = find_node().path
    except EnvironmentUnavailable as missing:
        pytest.skip(missing.message)
    works = ", ".join(f"async ({{ kept, ms }}) => {{ {work} }}" for work in SEEN.values())
    source = PROGRAM % (json.dumps(NODE_HOST.with_name("clock.mjs").as_uri()), works)
    path = written(tmp_path_factory.mktemp("clock"), source, name="seen.mjs")
    told = subprocess.run([node, path], capture_output=True, text=True, check=True, timeout=60).stdout
    real, ours = json.loads(told)
    return real, ours


@pytest.mark.parametrize("what", SEEN)
def test_time_of_ours_is_seen_as_that_of_node(what: str, seen: tuple[list[object], list[object]]) -> None:
    real, ours = (dict(zip(SEEN, each, strict=True)) for each in seen)
    assert ours[what] == real[what]
    assert real[what] is not None
