"""What of the npm package needs no npm: its version, its files, that nothing is installed with it."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from tests.docs import pages

from job_harness import __version__
from job_harness.core.model.settings import Settings
from job_harness.errors import EnvironmentUnavailable
from job_harness.worlds.peers import find_node

FOLDER = pages.ROOT / "clients/node"
PACKAGE: dict[str, Any] = json.loads((FOLDER / "package.json").read_text(encoding="utf-8"))


def files_of(exported: Any) -> list[str]:
    if isinstance(exported, str):
        return [exported]
    return [file for each in exported.values() for file in files_of(each)]


def test_wheel_and_npm_package_are_of_one_version() -> None:
    assert PACKAGE["version"] == __version__


def test_nothing_is_installed_with_it_and_every_file_that_it_names_is_there() -> None:
    assert "dependencies" not in PACKAGE
    assert "scripts" not in PACKAGE or list(PACKAGE["scripts"]) == ["prepack"]
    named = [*files_of(PACKAGE["exports"]), PACKAGE["main"], PACKAGE["types"], *PACKAGE["bin"].values()]
    assert [file for file in named if not (FOLDER / file).is_file()] == []
    packed = {Path(file).parts[0] for file in named} - {"package.json"}
    assert packed <= set(PACKAGE["files"])


@pytest.mark.parametrize(("door", "types"), [("index", "d.ts"), ("vitest", "d.mts"), ("jest", "d.ts")])
def test_every_way_to_import_a_door_has_what_its_types_declare(door: str, types: str) -> None:
    declared = re.findall(
        r"^export (?:declare (?:const|function|class) (\w+)|\{ ([\w, ]+) \} from)", read(f"{door}.{types}"), re.M
    )
    wanted = {name for one, more in declared for name in [one, *more.split(", ")] if name}
    [exported] = re.findall(r"^export const \{ ([\w, ]+) \}", read(f"{door}.mjs"), re.M)
    assert set(exported.split(", ")) == wanted
    if (FOLDER / f"lib/{door}.cjs").is_file():
        assert set(re.findall(r"^exports\.(\w+) = ", read(f"lib/{door}.cjs"), re.M)) == wanted


def test_the_types_have_every_setting() -> None:
    declared = read("index.d.ts").partition("export interface Settings {")[2].partition("\n}")[0]
    names = [re.sub(r"[A-Z]", lambda found: f"_{found[0].lower()}", name) for name in re.findall(r"(\w+)\?:", declared)]
    assert tuple(names) == Settings.names()


def read(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8")


def in_node(script: str) -> str:
    """Run a module in the package's folder; return what it prints. Skips where there is no Node."""
    try:
        node = find_node()
    except EnvironmentUnavailable as unavailable:
        pytest.skip(" ".join(str(unavailable).split()))
    done = subprocess.run(
        [node.path, "--input-type=module", "-e", script],
        cwd=FOLDER,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_python_that_cannot_be_run_is_named(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text("not executable")
    script = f"""
    import {{ spawnSync }} from "node:child_process";
    const env = {{ ...process.env, JOB_HARNESS_PYTHON: {json.dumps(str(python))} }};
    const {{ status, stderr }} = spawnSync(process.execPath, ["bin/job-harness.cjs", "doctor"], {{ env }});
    console.log(status, String(stderr));
    """
    told = in_node(script)
    assert told.startswith(f"4 job-harness: {python} cannot be run: ")
    assert "or let JOB_HARNESS_PYTHON name a Python that has it" in told


def test_what_it_shares_with_the_harness_is_respelled_for_jest() -> None:
    script = """
    import { commonJs, SHARED } from "./prepack.mjs";
    import fs from "node:fs";
    import path from "node:path";
    import vm from "node:vm";
    import { createRequire } from "node:module";
    for (const file of SHARED) {
      const module = { exports: {} };
      const source = commonJs(fs.readFileSync(path.join("../..", file), "utf8"));
      vm.compileFunction(source, ["module", "require"])(module, createRequire(import.meta.url));
      console.log(Object.keys(module.exports).join(" "));
    }
    """
    clock, chance, replies, values = map(str.split, in_node(script).splitlines())
    assert {"Clock", "timersOf", "virtualDate", "seeded"} <= set(clock)
    assert (chance, "Replies" in replies) == (["seededCrypto", "installChance"], True)
    assert {"toJson", "lenient", "described"} <= set(values)


PACKED = """
import { commonJs, SHARED } from "./prepack.mjs";
import fs from "node:fs";
import path from "node:path";
import { createRequire } from "node:module";
const folder = %s;
fs.cpSync("lib", folder, { recursive: true });
fs.copyFileSync("package.json", path.join(folder, "../package.json"));
fs.mkdirSync(path.join(folder, "shared"), { recursive: true });
for (const file of SHARED) {
  const source = fs.readFileSync(path.join("../..", file), "utf8");
  fs.writeFileSync(path.join(folder, "shared", `${path.basename(file, ".mjs")}.cjs`), commonJs(source));
}
const packed = createRequire(`${folder}/`);
"""
"""Brings the client as it is packed, without npm; `packed` requires its modules."""


def packed(folder: Path, script: str) -> Any:
    """Run a module that has the packed client; return the JSON that it prints."""
    return json.loads(in_node(PACKED % json.dumps(str(folder / "lib")) + script))


def test_what_the_end_of_a_run_breaks_may_be_rejected_a_little_later(tmp_path: Path) -> None:
    script = """
    const { Replies } = packed("./shared/replies.cjs");
    const told = { run: () => null, isDead: () => false, milliseconds: () => 0 };
    const replies = new Replies({ require: createRequire(import.meta.url), ...told });
    const { emit } = process;
    replies.begin();
    replies.end();
    replies.begin();
    replies.end();
    setImmediate(() => setImmediate(() => void Promise.reject(replies.gone)));
    setTimeout(() => console.log(JSON.stringify(process.emit === emit)), 200);
    """
    assert packed(tmp_path, script) is True


@pytest.mark.parametrize("check", ["async () => {}", "function* () {}", "async function* () {}"])
def test_a_check_whose_body_no_call_runs_is_refused_by_always(check: str, tmp_path: Path) -> None:
    script = f"""
    const later = {check};
    const session = new (packed("./harness.cjs").Session)();
    const told = [];
    const harness = new (packed("./harness.cjs").Harness)();
    try {{ harness.always(later); }} catch (error) {{ told.push(error.message); }}
    session.checks.push(() => later());
    session.check();
    told.push(...session.mistakes.map((each) => each.message));
    process.stdout.write(JSON.stringify(told), () => process.exit());
    """
    words = "the check returns a promise or a generator, and nothing waits for that"
    assert [told.partition(": ")[2].partition(", so")[0] for told in packed(tmp_path, script)] == [words, words]


def test_time_is_virtual_wherever_it_is_waited_for_and_other_fake_timers_are_refused_one_by_one(tmp_path: Path) -> None:
    script = """
    const { VirtualTime } = packed("./time.cjs");
    const { scheduler } = await import("node:timers/promises");
    const time = new VirtualTime();
    await scheduler.wait(1);
    time.on({ now: 1_893_456_000_000, seed: 1, owner: () => null, place: () => "" });
    void scheduler.wait(60_000);
    const told = { waits: [...time.clock.timers.values()].map(({ wait }) => wait) };
    const judged = (name, other) => {
      const ours = globalThis[name];
      globalThis[name] = other;
      try {
        return time.refuseOthers() ?? "taken";
      } catch (error) {
        return error.name;
      } finally {
        globalThis[name] = ours;
      }
    };
    for (const name of ["setTimeout", "setInterval", "clearTimeout", "clearInterval"]) {
      const fake = Object.assign(() => {}, { clock: {} });
      const spy = Object.assign(() => {}, { _isMockFunction: true });
      told[name] = [globalThis[name], fake, spy].map((each) => judged(name, each));
    }
    time.off();
    process.stdout.write(JSON.stringify(told), () => process.exit());
    """
    assert packed(tmp_path, script) == {
        "waits": [60_000],
        "setTimeout": ["taken", "BothClocks", "BothClocks"],
        **{name: ["taken", "BothClocks", "taken"] for name in ("setInterval", "clearTimeout", "clearInterval")},
    }


def test_a_process_that_ends_while_it_waits_for_its_run_is_replaced(tmp_path: Path) -> None:
    script = """
    const { IsolatedBodies, PLAYS } = packed("./isolated.cjs");
    const { world } = packed("./world.cjs");
    const plays = `const { EOL } = require("node:os");
      const socket = require("node:net").connect(process.env.${PLAYS}).on("close", () => process.exit());
      socket.on("data", (data) => {
        const { play } = JSON.parse(String(data).trim().split(EOL).at(-1));
        if (play !== undefined) socket.write(JSON.stringify({ played: play }) + EOL);
      });`;
    const bodies = new IsolatedBodies({ command: [process.execPath, "-e", plays], test: "t" });
    const played = new Map();
    const over = (number) => new Promise((go) => played.set(number, go));
    world().connection = { send: ({ played: number }) => played.get(number)?.(number), passedOn: new Map(), number: 0 };
    const first = over(1);
    void bodies.play({ play: 1 });
    const told = [await first];
    while (bodies.waiting.length === 0) await new Promise(setImmediate);
    const [spare] = bodies.waiting;
    const gone = new Promise((go) => spare.once("close", go));
    process.kill([...bodies.children].at(-1).pid, "SIGKILL");
    await gone;
    const second = over(2);
    void bodies.play({ play: 2 });
    told.push(await Promise.race([second, new Promise((go) => setTimeout(go, 2_000, "never"))]));
    bodies.end();
    process.stdout.write(JSON.stringify(told), () => process.exit());
    """
    assert packed(tmp_path, script) == [1, 2]


def test_a_socket_of_udp_and_a_unix_socket_that_was_answered_are_nothing_to_wait_for(tmp_path: Path) -> None:
    script = f"""
    import dgram from "node:dgram";
    import net from "node:net";
    const {{ Rest }} = packed("./rest.cjs");
    const at = {json.dumps(str(tmp_path / "socket"))};
    const server = net.createServer((line) => line.on("data", (data) => line.write(data)));
    await new Promise((go) => server.listen(at, go));
    const rest = new Rest();
    rest.begin();
    rest.look();
    const socket = dgram.createSocket("udp4");
    await new Promise((go) => socket.send("jobs:1|c", 9, "127.0.0.1", go));
    const sent = rest.outstanding();
    const line = net.connect(at);
    await new Promise((go) => line.once("connect", go));
    line.write("a question");
    const asked = rest.outstanding().at(-1);
    await new Promise((go) => line.once("data", go));
    process.stdout.write(JSON.stringify([sent, asked, rest.outstanding()]), () => process.exit());
    """
    assert packed(tmp_path, script) == [[], "a reply on a socket", []]


def test_timers_that_all_realms_share_are_given_back_and_taken_again(tmp_path: Path) -> None:
    script = """
    import timers from "node:timers";
    import timersPromises from "node:timers/promises";
    const { VirtualTime } = packed("./time.cjs");
    const shared = () => [
      timers.setTimeout, timers.clearInterval, timersPromises.setTimeout, timersPromises.scheduler.wait,
    ];
    const ours = (before) => shared().filter((each, index) => each !== before[index]).length;
    const real = shared();
    const time = new VirtualTime();
    const told = [ours(real)];
    time.leave();
    told.push(ours(real));
    time.enter();
    time.enter();
    told.push(ours(real));
    time.leave();
    told.push(ours(real));
    console.log(JSON.stringify(told));
    """
    assert packed(tmp_path, script) == [4, 0, 4, 0]


def test_a_socket_whose_reply_is_given_up_is_named_once(tmp_path: Path) -> None:
    script = """
    const { Rest } = packed("./rest.cjs");
    const rest = new Rest();
    rest.begin();
    const said = [];
    process.stderr.write = (line) => said.push(line);
    const socket = { remoteAddress: "127.0.0.1", remotePort: 8125 };
    const late = () => (rest.sent(socket, "q"), (rest.sockets.get(socket).since -= 5_001));
    const awaited = [rest.awaits(socket), (late(), rest.awaits(socket)), (late(), rest.awaits(socket))];
    console.log(JSON.stringify([awaited, said]));
    """
    awaited, [said] = packed(tmp_path, script)
    assert awaited == [True, False, False]
    assert said == ("job-harness: no reply 5 s of real time after something was sent to 127.0.0.1:8125: time goes on\n")


def test_time_waits_for_replies_that_come_between_two_looks_and_for_chains_of_immediates(tmp_path: Path) -> None:
    script = """
    const { Rest } = packed("./rest.cjs");
    const rest = new Rest();
    const still = { waiting: () => false, alive: () => {} };
    const answered = { asked: 0 };
    rest.outstanding = () => {
      if (answered.asked === 8) return [];
      answered.asked += 1;
      rest.sent(answered, "a question");
      rest.heard(answered, "a reply");
      return [];
    };
    await rest.reached(still);
    let links = 0;
    const link = () => void (++links < 8 && setImmediate(link));
    setImmediate(link);
    await rest.reached(still);
    const endless = () => setImmediate(endless);
    endless();
    rest.chain = performance.now() - 60_000;
    await rest.reached(still);
    process.stdout.write(JSON.stringify([answered.asked, links]), () => process.exit());
    """
    assert packed(tmp_path, script) == [8, 8]


def test_what_crypto_draws_is_seeded_while_a_harness_is_open(tmp_path: Path) -> None:
    script = """
    import crypto from "node:crypto";
    const { VirtualTime } = packed("./time.cjs");
    const time = new VirtualTime();
    const drawn = async () => [
      crypto.randomBytes(4).toString("hex"),
      crypto.randomInt(1_000_000),
      crypto.randomUUID(),
      [...crypto.randomFillSync(new Uint16Array(4), 1, 2)],
      [...crypto.getRandomValues(new Uint32Array(2))],
      [...globalThis.crypto.getRandomValues(new Uint8Array(4))],
      await new Promise((go) => crypto.randomFill(Buffer.alloc(4), 2, (_, buffer) => go([...buffer]))),
    ];
    const runs = [];
    for (const seed of [1, 1, 2]) {
      time.on({ now: 0, seed, owner: () => null, place: () => "" });
      runs.push(await drawn());
      time.off();
    }
    console.log(JSON.stringify([...runs, await drawn()]));
    """
    first, second, *others = packed(tmp_path, script)
    assert first == second
    assert all(one != another for run in others for one, another in zip(first, run, strict=True))
    numbers, filled = first[3], first[6]
    assert (numbers[0], numbers[3], filled[:2]) == (0, 0, [0, 0])
    assert min(numbers[1:3]) > 255


def test_a_run_in_a_process_of_its_own_waits_for_nothing_on_the_line_to_its_test(tmp_path: Path) -> None:
    script = f"""
    import net from "node:net";
    const {{ Connection, PROTOCOL }} = packed("./connection.cjs");
    const {{ version }} = packed("./python.cjs");
    const {{ Rest }} = packed("./rest.cjs");
    const at = {json.dumps(str(tmp_path / "line"))};
    const server = net.createServer((line) => line.write(JSON.stringify({{ hello: PROTOCOL, version }}) + "\\n"));
    await new Promise((go) => server.listen(at, go));
    const rest = new Rest();
    rest.begin();
    const connection = await Connection.at(at, {{ heard() {{}}, lost() {{}} }});
    connection.work();
    rest.look();
    connection.send({{ idle: 1, next: null }});
    process.stdout.write(JSON.stringify(rest.outstanding()), () => process.exit());
    """
    assert packed(tmp_path, script) == []


def test_what_is_set_on_a_class_of_the_virtual_date_is_that_classs_own(tmp_path: Path) -> None:
    script = """
    const { VirtualTime } = packed("./time.cjs");
    const time = new VirtualTime();
    time.on({ now: 1_000, seed: 1, owner: () => null, place: () => "" });
    class Other extends Date {}
    Other.isFake = true;
    Other.now = () => 7;
    const told = [Other.now(), Date.now(), Date.isFake ?? null];
    Date.now = () => 8;
    told.push(Date.now());
    time.off();
    process.stdout.write(JSON.stringify([...told, Date.isFake ?? null, Date.now() > 1e12]), () => process.exit());
    """
    assert packed(tmp_path, script) == [7, 1_000, None, 8, None, True]


def test_a_library_that_waits_longer_than_a_timer_can_does_not_wait_a_millisecond(tmp_path: Path) -> None:
    script = """
    const { Clock } = packed("./shared/clock.cjs");
    const library = path.join(folder, "../node_modules/pglite");
    fs.mkdirSync(library, { recursive: true });
    const source = "exports.wait = (clock) => clock.add(() => {}, 2 ** 34, [], false).wait;";
    fs.writeFileSync(path.join(library, "index.cjs"), source);
    const own = new Clock().add(() => {}, 2 ** 34, [], false).wait; // As in Node.
    console.log(JSON.stringify([own, packed("../node_modules/pglite/index.cjs").wait(new Clock())]));
    """
    assert packed(tmp_path / "job-harness", script) == [1, 2**31 - 1]
