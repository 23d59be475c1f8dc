"""TypeScript processors under `JobHarness`: the guide's own files, virtual time, stubs, modules, crashes, zombies."""

from __future__ import annotations

import asyncio
import http.server
import importlib.util
import json
import re
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.contract.node_at_hand import GUIDE, needs_node, processor, written

from job_harness.core.history.event import Effect
from job_harness.errors import EnvironmentUnavailable, UsageError
from job_harness.extras import install
from job_harness.subjects.processors import JavaScript, JobHarness, JobResult, TypeScriptProcessor, at_most_once, effect
from job_harness.subjects.processors.peer_runs import JavaScriptError
from job_harness.subjects.processors.typescript.node_processor import NodeProcessor
from job_harness.worlds import packages
from job_harness.worlds.packages import find_typescript_node

pytestmark = needs_node
DO_WORK = JavaScript("async (input: { text: string }) => input.text.toUpperCase()")


# the guide's files, byte for byte -------------------------------------------------------------------------------------


def test_the_guides_processor_completes_a_drain() -> None:
    target = TypeScriptProcessor(f"{GUIDE}/processor.ts#processMyTool", globals={"doWork": DO_WORK})
    with JobHarness() as jobs:
        jobs.register("my-tool", target)
        job = jobs.enqueue("my-tool", {"text": "Hello", "options": {"format": "json"}})
        assert jobs.drain() == {"completed": 1}
        assert (job.output, job.path) == ("HELLO", ["PENDING", "PROCESSING", "COMPLETED"])
        assert jobs.problems() == []


def test_the_guides_registration_registers_it() -> None:
    seen = []

    def do_work(value: object) -> object:
        seen.append(value)
        return {"ok": True}

    target = TypeScriptProcessor(f"{GUIDE}/register.ts#registerMyToolProcessor", globals={"doWork": do_work})
    with JobHarness() as jobs:
        jobs.register("my-tool", target)
        job = jobs.enqueue("my-tool", {"text": "Hello"})
        jobs.drain()
        assert (job.output, seen) == ({"ok": True}, [{"text": "Hello"}])
        assert jobs.perform_job(target, {"text": "x"}) == JobResult(success=True, output={"ok": True})


def test_without_its_global_the_guides_processor_says_so() -> None:
    with JobHarness() as jobs:
        result = jobs.perform_job(f"{GUIDE}/processor.ts#processMyTool", {"text": "Hello"})
        assert result == JobResult(success=False, error="doWork is not defined")


def test_a_registration_of_another_tool_is_refused() -> None:
    with JobHarness() as jobs, pytest.raises(UsageError, match=r'registered "my-tool", and not "other"'):
        jobs.register("other", f"{GUIDE}/register.ts#registerMyToolProcessor")


def test_the_files_are_the_guides_own() -> None:
    shared = Path(__file__).parents[3] / "shared" / "guide.md"
    if not shared.is_file():
        pytest.skip("the guide is not beside this checkout")
    blocks = re.findall(r"```typescript\n(.*?)```", shared.read_text(encoding="utf-8"), re.DOTALL)
    assert [(GUIDE / name).read_text(encoding="utf-8") for name in ("processor.ts", "register.ts")] == blocks[:2]


# time -----------------------------------------------------------------------------------------------------------------


def test_time_in_the_child_is_the_harnesss(tmp_path: Path) -> None:
    body = """
    const { setTimeout: wait } = await import("node:timers/promises");
    const began = [Date.now(), performance.now(), process.hrtime.bigint()];
    await wait(90_000);
    await new Promise((go) => setTimeout(go, 1_500));
    let beats = 0;
    await new Promise<void>((go) => {
      const t = setInterval(() => { if (++beats === 3) { clearInterval(t); go(); } }, 1000);
    });
    const nanoseconds = Number(process.hrtime.bigint() - began[2]);
    const passed = [Date.now() - began[0], performance.now() - began[1], nanoseconds / 1e6];
    const now = new Date();
    const is = now instanceof Date && (began[1] as number) > 0;
    return { success: true, output: { passed, now, year: Date().slice(11, 15), is } };
    """
    with JobHarness() as jobs:
        jobs.register("tool", processor(tmp_path, body))
        begin = jobs.now
        job = jobs.enqueue("tool", None)
        jobs.drain()
        assert jobs.now - begin == timedelta(seconds=94.5)
        moment = jobs.now.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        assert job.output == {"passed": [94500] * 3, "now": moment, "year": "2026", "is": True}


def test_timers_fire_in_the_order_of_time_and_among_those_of_the_harness(tmp_path: Path) -> None:
    order: list[object] = []

    async def note(what: str) -> None:
        await asyncio.sleep(0.5)
        order.append(what)

    body = """
    const at = (ms: number, what: string) =>
      new Promise((go) => setTimeout(async () => { await note(what); go(0); }, ms));
    await Promise.all([at(3000, "c"), at(1000, "a"), at(2000, "b")]);
    return { success: true, output: null };
    """
    with JobHarness() as jobs:
        target = TypeScriptProcessor(processor(tmp_path, body), globals={"note": note})
        begin = jobs.now
        assert jobs.perform_job(target, None).success
        assert (order, jobs.now - begin) == (["a", "b", "c"], timedelta(seconds=3.5))


def test_a_long_input_arrives_whole(tmp_path: Path) -> None:
    with JobHarness() as jobs:
        target = processor(tmp_path, "return { success: true, output: [job.input.length, job.input.at(-1)] }")
        assert jobs.perform_job(target, "x" * 8_000_000 + "\u00e9").output == [8_000_001, "\u00e9"]


def test_the_same_seed_gives_the_same_chance(tmp_path: Path) -> None:
    draws = "[Math.random(), Math.random(), crypto.randomUUID(), crypto.getRandomValues(new Uint8Array(4)).join()]"
    target = processor(tmp_path, f"return {{ success: true, output: {draws} }}")

    def drawn(seed: int) -> object:
        with JobHarness(seed=seed) as jobs:
            return jobs.perform_job(target, None).output

    assert drawn(1) == drawn(1) != drawn(2)


def test_the_process_after_a_dead_one_draws_otherwise_and_the_same_in_each_run(tmp_path: Path) -> None:
    body = "await draw(Math.random()); await draw(Math.random()); return { success: true };"

    def drawn() -> list[float]:
        seen: list[float] = []
        with JobHarness() as jobs:
            jobs.register("pay", TypeScriptProcessor(processor(tmp_path, body), globals={"draw": seen.append}))
            job = jobs.enqueue("pay", None)
            jobs.crash_worker(at="before complete", job=job)
            jobs.run_until_idle()
            assert job.attempts == 2
        return seen

    first = drawn()
    assert len(set(first)) == 4
    assert first == drawn()


@pytest.mark.parametrize(
    "work",
    [
        'await (await import("node:fs/promises")).readFile("/etc/hosts")',
        'await crypto.subtle.digest("SHA-256", new Uint8Array(8))',
        'const z = await import("node:zlib"); await new Promise((go) => z.gzip(Buffer.alloc(1e6), go))',
        'const c = await import("node:crypto"); await new Promise((go) => c.pbkdf2("a", "b", 9999, 32, "sha1", go))',
        'const p = await import("node:child_process"); await new Promise((go) => p.exec("sleep 0.05", go))',
    ],
    ids=["file", "digest", "gzip", "pbkdf2", "process"],
)
def test_time_stands_still_while_real_work_is_in_flight(work: str, tmp_path: Path) -> None:
    body = f"const began = Date.now(); {work}; return {{ success: true, output: Date.now() - began }}"
    with JobHarness() as jobs:
        jobs.register("tool", processor(tmp_path, body))
        job = jobs.enqueue("tool", None)
        jobs.drain()
        assert (job.status, job.output, job.error) == ("COMPLETED", 0, None)


# what stands in for the world ----------------------------------------------------------------------------------------


def test_modules_are_stubbed_by_specifier(tmp_path: Path) -> None:
    source = """
    import db, { type Row, users as people } from "@repo/database";
    import { send } from "../mail";
    import * as deep from "@repo/deep/er";
    import { later } from "virtual";
    import type { Nothing } from "./nowhere";
    import { OnlyAType } from "./nowhere-else";
    export const run = async (job: OnlyAType) => {
      await send(people[0], { at: new Date(), fail: false });
      try {
        await send("b", { fail: true });
      } catch (error) {
        return { success: true, output: [String(error), db, deep.x, later()] };
      }
      return { success: false };
    };
    """
    written(tmp_path, "export const x: number = 7;", name="stub.ts")
    sent = []

    def send(to: str, options: dict[str, object]) -> None:
        sent.append((to, options))
        if options["fail"]:
            raise ConnectionError("mailbox full")

    target = TypeScriptProcessor(
        written(tmp_path, source) + "#run",
        stubs={
            "@repo/database": {"users": ["a"], "default": {"n": 1}},
            "../mail": {"send": send},
            "@repo/deep/*": str(tmp_path / "stub.ts"),
            "virtual": JavaScript("enum E { A = 3 }\nexport const later = () => E.A;"),
        },
    )
    with JobHarness() as jobs:
        assert jobs.perform_job(target, None).output == ["ConnectionError: mailbox full", {"n": 1}, 7, 3]
    assert sent[0] == ("a", {"at": "2026-01-01T00:00:00.000Z", "fail": False})


def test_callables_are_nested_in_stubs_as_deep_as_a_client_of_a_database_has_them(tmp_path: Path) -> None:
    rows: dict[int, dict[str, object]] = {7: {"id": 7, "total": 40}}

    async def update(wanted: dict[str, Any]) -> object:
        await asyncio.sleep(60)
        rows[wanted["where"]["id"]] |= wanted["data"]
        return rows[wanted["where"]["id"]]

    source = """
    import client, { db } from "../db/client";
    export const pay = async (job: any) => {
      const found = await db.invoice.find({ where: { id: job.input } });
      const total = db.rates[1].withTax(found.total);
      const began = Date.now();
      const paid = await db.invoice.update({ where: { id: job.input }, data: { total } });
      const lost = await client.invoice.find({ where: { id: 8 } }).catch((error: Error) => String(error));
      const noted = await Promise.all(log.sinks.map((each: any) => each("paid")));
      return { success: true, output: { paid, lost, noted, kind: db.kind, waited: Date.now() - began } };
    };
    """
    invoice = {"find": lambda wanted: rows[wanted["where"]["id"]], "update": update}
    tax = {"withTax": JavaScript("(total: number) => total * 1.2")}
    target = TypeScriptProcessor(
        written(tmp_path, source, name="jobs/pay.ts") + "#pay",
        stubs={
            "../db/client": {
                "db": {"invoice": invoice, "rates": [None, tax], "kind": "none"},
                "default": {"invoice": invoice},
            }
        },
        globals={"log": {"sinks": [str.upper, str.title]}},
    )
    with JobHarness() as jobs:
        assert jobs.perform_job(target, 7).output == {
            "paid": {"id": 7, "total": 48}, "lost": "KeyError: 8", "noted": ["PAID", "Paid"],
            "kind": "none", "waited": 60_000,
        }  # fmt: skip
    circle: dict[str, Any] = {"find": print}
    circle["again"] = circle
    wrong = {"a": {"db": {"invoice": {"at": [print, tmp_path]}}}, "b": {"db": circle}, "c": {"db": {1: print}}}
    for name, place in [("a", "a: db.invoice.at[1]"), ("b", "b: db.again"), ("c", "c: db")]:
        with pytest.raises(UsageError, match=re.escape(f"{place} is ") + ".*cannot be handed to JavaScript"):
            TypeScriptProcessor(target.target, stubs={name: wrong[name]}).wire()


def test_json_is_read_by_whoever_imports_or_requires_it(tmp_path: Path) -> None:
    package = "node_modules/classic"
    written(tmp_path, '{"name": "classic", "version": "1.2.3"}', name=f"{package}/package.json")
    written(tmp_path, "module.exports = require('./package.json').version;", name=f"{package}/index.js")
    written(tmp_path, '{"limit": 7}', name="settings.json")
    source = """
    import version from "classic";
    import settings from "./settings.json";
    import typed from "./settings.json" with { type: "json" };
    export const run = async () => ({ success: true, output: [version, settings.limit, typed.limit] });
    """
    with JobHarness() as jobs:
        assert jobs.perform_job(written(tmp_path, source) + "#run", None).output == ["1.2.3", 7, 7]


def test_fetch_is_answered_by_the_test_and_by_nobody_else(tmp_path: Path) -> None:
    body = """
    const init = { method: "POST", body: JSON.stringify(job.input), headers: { "X-Key": "k" } };
    const got = await fetch("https://api.example/things", init);
    const gone = await fetch(new URL("https://api.example/gone"));
    let refused = "";
    try { await fetch("https://api.example/away") } catch (error) { refused = `${error}` }
    const output = [await got.json(), got.headers.get("content-type"), got.url, gone.status, refused];
    return { success: got.ok, output };
    """
    asked = []

    async def answer(url: str, request: dict[str, object]) -> object:
        asked.append(request)
        await asyncio.sleep(30)
        return {"json": {"id": 1}}

    answers = {"POST https://api.example/things": answer, "https://api.example/gone": 410}
    with JobHarness() as jobs:
        begin = jobs.now
        target = processor(tmp_path, body)
        result = jobs.perform_job(TypeScriptProcessor(target, fetch=answers), {"a": 1})
        assert result.output == [
            {"id": 1},
            "application/json",
            "https://api.example/things",
            410,
            (
                "TypeError: fetch failed: nothing answers GET https://api.example/away; "
                "fetch= has POST https://api.example/things, https://api.example/gone"
            ),
        ]
        assert jobs.now - begin == timedelta(seconds=30)
        with pytest.raises(JavaScriptError, match=r"nothing answers https://api\.example/things in this test"):
            jobs.perform_job(target, None)
    headers = {"content-type": "text/plain;charset=UTF-8", "x-key": "k"}
    assert asked == [{"method": "POST", "headers": headers, "body": '{"a":1}'}]


def test_what_is_sent_by_fetch_is_what_node_would_send(tmp_path: Path) -> None:
    body = """
    const form = new FormData();
    form.set("order", "7");
    const search = new URLSearchParams({ order: "7" });
    const bytes = new TextEncoder().encode("order=7");
    const bodies = [form, search, bytes, new Blob(["order=7"], { type: "text/csv" }), new Response("order=7").body];
    for (const body of bodies) await fetch("https://pay.example/", { method: "post", body } as any);
    return { success: true };
    """
    asked: list[Any] = []

    def answer(url: str, request: dict[str, Any]) -> int:
        asked.append((request["method"], request["headers"].get("content-type"), request["body"]))
        return 200

    with JobHarness() as jobs:
        assert jobs.perform_job(TypeScriptProcessor(processor(tmp_path, body), fetch=answer), None).success
    (_, kind, form), *others = asked
    assert kind.startswith("multipart/form-data; boundary=")
    assert 'name="order"\r\n\r\n7\r\n' in form
    kinds = ("application/x-www-form-urlencoded;charset=UTF-8", None, "text/csv", None)
    assert others == [("POST", kind, "order=7") for kind in kinds]


class Echo(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        body = self.path.encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *about: object) -> None:
        """Say nothing."""


def test_a_fake_in_typescript_declares_what_it_did(tmp_path: Path) -> None:
    fake = """
    import { effect, step } from "job-harness";
    export const charge = async (order: number) => {
      await step("before charge");
      await effect("charged", { order }, { identity: `order-${order}`, idempotent: true });
    };
    """
    written(tmp_path, fake, name="payments.ts")
    source = """
    import { charge } from "@repo/payments";
    export const run = async (job: any) => {
      await charge(job.input);
      await effect("mailed");
      return { success: true };
    };
    """
    target = TypeScriptProcessor(written(tmp_path, source) + "#run", stubs={"@repo/payments": tmp_path / "payments.ts"})
    with JobHarness() as jobs:
        jobs.register("pay", target)
        job = jobs.enqueue("pay", 7)
        jobs.crash_worker(at="charged", job=job)
        jobs.run_until_idle()
        seen = [(done.name, done.attempt, done.data, done.identity, done.idempotent) for done in jobs.effects()]
        assert (job.status, job.attempts) == ("COMPLETED", 2)
    charged = ({"order": 7}, "order-7", True)
    assert seen == [("charged", 1, *charged), ("charged", 2, *charged), ("mailed", 2, {}, None, False)]


def test_an_effect_that_says_what_no_effect_has_is_refused_in_typescript(tmp_path: Path) -> None:
    body = "await effect('charged', { order: 7 }, { idempotency: 'k' }); return { success: true };"
    with JobHarness() as jobs, pytest.raises(JavaScriptError, match=r"unknown key 'idempotency' .did you mean"):
        jobs.perform_job(processor(tmp_path, body), None)


def test_a_global_of_the_tests_own_is_not_replaced(tmp_path: Path) -> None:
    said: list[Any] = []
    target = TypeScriptProcessor(
        processor(tmp_path, "await effect('mine'); return { success: true };"), globals={"effect": said.append}
    )
    with JobHarness() as jobs:
        jobs.perform_job(target, None)
        assert (said, jobs.effects()) == (["mine"], [])


def test_the_network_answers_where_a_test_lets_it(tmp_path: Path) -> None:
    body = """
    const got: string[] = [];
    for (const path of ["a", "b", "c", "d"]) got.push(await (await fetch(job.input + path)).text());
    const { get } = await import("node:http");
    got.push(await new Promise((go) => get(job.input + "e", (answer) => answer.on("data", (data) => go(`${data}`)))));
    return { success: true, output: [...got, Date.now()] };
    """
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Echo) as server, JobHarness() as jobs:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            target = TypeScriptProcessor(processor(tmp_path, body), fetch="real")
            output = jobs.perform_job(target, f"http://127.0.0.1:{server.server_port}/").output
        finally:
            jobs.close()
            server.shutdown()
            thread.join()
    assert output == ["/a", "/b", "/c", "/d", "/e", 1767225600000]


def test_only_imports_at_the_head_are_looked_at_and_a_comment_uses_nothing(tmp_path: Path) -> None:
    source = """
    // Unused, which leads nowhere, is only a type: Unused.
    import { Unused, type Other } from "./nowhere"; /* Unused */
    import {
      readFile as read,
      Nothing,
    } from "node:fs/promises";
    import "./effect";
    const template = `
    import { Gone } from "./gone";
    `;
    export const run = async (job: Unused) => ({
      success: true,
      output: [template.trim(), typeof read, (globalThis as any).effect, new Error().stack!.includes(":14:")],
    });
    """
    written(tmp_path, "(globalThis as any).effect = 'done';", name="effect.ts")
    with JobHarness() as jobs:
        output = jobs.perform_job(written(tmp_path, source) + "#run", None).output
    assert output == ['import { Gone } from "./gone";', "function", "done", True]


def test_an_import_is_used_though_quotes_and_slashes_stand_around_its_use(tmp_path: Path) -> None:
    source = """
    import { sep } from "node:path";
    import { delimiter } from "node:path";
    const apostrophe = /'/;
    const sources = 'src/*.ts';
    export const run = async () => ({ success: true, output: sep + apostrophe.source + sources });
    const built = 'dist/*/index.js', half = 4 / 2, /* delimiter */ one = half / 2, quotes = /[/*'"]/;
    """
    with JobHarness() as jobs:
        target = written(tmp_path, source.replace("{ delimiter }", "{ Gone as delimiter }")) + "#run"
        assert jobs.perform_job(target, None).output == "/'src/*.ts"


@pytest.mark.parametrize("kind", ["commonjs", "module"])
def test_a_file_that_is_compiled_to_commonjs_finds_what_it_finds_there(kind: str, tmp_path: Path) -> None:
    written(tmp_path, json.dumps({"type": kind}), name="package.json")
    written(tmp_path, "module.exports = { word: 'required' };", name="lib/word.cjs")
    source = """
    const { path: __filename } = { path: "its own" };
    let alone = false;
    export const run = async () => {
      if (require.main === module) alone = true;
      return { success: true, output: [__dirname, __filename, require("./word.cjs").word, alone] };
    };
    """
    with JobHarness() as jobs:
        target = written(tmp_path, source, name="lib/charge.ts") + "#run"
        if kind == "commonjs":
            assert jobs.perform_job(target, None).output == [str(tmp_path / "lib"), "its own", "required", False]
        else:
            with pytest.raises(JavaScriptError, match="require is not defined"):
                jobs.perform_job(target, None)


def test_a_timeout_signal_is_virtual_too(tmp_path: Path) -> None:
    body = 'await fetch("https://slow.example", { signal: AbortSignal.timeout(5000) }); return { success: true }'

    async def never(url: str, request: object) -> object:
        return await asyncio.Event().wait()

    with JobHarness() as jobs:
        begin = jobs.now
        with pytest.raises(JavaScriptError, match="aborted due to timeout") as caught:
            jobs.perform_job(TypeScriptProcessor(processor(tmp_path, body), fetch=never), None)
        assert type(caught.value).__name__ == "TimeoutError"
        assert jobs.now - begin == timedelta(seconds=5)


def test_a_workspace_is_resolved_as_its_tsconfig_says(tmp_path: Path) -> None:
    config = '{ // a comment\n "extends": "./base", "compilerOptions": { "strict": true, }, /* another */ }'
    written(tmp_path, config, name="tsconfig.json")
    base = {"compilerOptions": {"baseUrl": "src", "paths": {"@/*": ["app/*"], "@repo/db": ["db/index.ts"]}}}
    written(tmp_path, json.dumps(base), name="base.json")
    written(tmp_path, 'import raw from "./data.json";\nexport const a = raw.a;', name="src/app/one.ts")
    written(tmp_path, '{"a": 1}', name="src/app/data.json")
    written(tmp_path, "export enum Kind { B = 2 }", name="src/db/index.ts")
    written(tmp_path, "export const c = 3;", name="src/plain.ts")
    written(tmp_path, "module.exports = { d: 4 };", name="node_modules/left/index.js")
    written(tmp_path, 'export { e } from "./deep/file";', name="node_modules/@repo/pkg/index.ts")
    written(tmp_path, '{"name": "@repo/pkg", "main": "index.ts"}', name="node_modules/@repo/pkg/package.json")
    written(tmp_path, "export const e = 5 as number;", name="node_modules/@repo/pkg/deep/file.ts")
    written(tmp_path, "export const f: number = 6;", name="src/lib/index.ts")
    source = """
    import { a } from "@/one";
    import { Kind } from "@repo/db";
    import { c } from "plain";
    import left from "left";
    import { e } from "@repo/pkg";
    import { e as again } from "@repo/pkg/deep/file";
    import { f } from "./lib";
    import { g } from "./other.js";
    export const run = async () => ({ success: true, output: [a, Kind.B, c, left.d, e, again, f, g] });
    """
    written(tmp_path, "export const g = 7;", name="src/other.ts")
    with JobHarness() as jobs:
        result = jobs.perform_job(written(tmp_path, source, name="src/processor.ts") + "#run", None)
        assert result.output == [1, 2, 3, 4, 5, 5, 6, 7]


def test_a_registry_that_exists_is_asked_for_what_was_registered(tmp_path: Path) -> None:
    written(
        tmp_path,
        """
        const known = new Map<string, unknown>();
        export const registerProcessor = (slug: string, p: unknown) => void known.set(slug, p);
        export const getProcessor = (slug: string) => known.get(slug);
        """,
        name="jobs/lib/processor-registry.ts",
    )
    for name in ("processor.ts", "register.ts"):
        written(tmp_path, (GUIDE / name).read_text(encoding="utf-8"), name=f"my-tool/{name}")
    source = (GUIDE / "register.ts").read_text(encoding="utf-8")
    assert "../jobs/lib/processor-registry" in source
    with JobHarness() as jobs:
        target = f"{tmp_path}/my-tool/register.ts#registerMyToolProcessor"
        jobs.register("my-tool", TypeScriptProcessor(target, globals={"doWork": DO_WORK}))
        job = jobs.enqueue("my-tool", {"text": "x"})
        jobs.drain()
        assert job.output == "X"


def test_the_environment_and_the_rows_fields_are_there(tmp_path: Path) -> None:
    body = """
    const { A_KEY, NODE_OPTIONS } = process.env;
    return { success: true, output: { A_KEY, none: NODE_OPTIONS ?? null, job, date: job.startedAt instanceof Date } };
    """
    with JobHarness() as jobs:
        target = TypeScriptProcessor(processor(tmp_path, body), environment={"A_KEY": "v"})
        jobs.register("tool", target)
        handle = jobs.enqueue("tool", {"a": 1})
        jobs.drain()
        output = handle.output
        assert (output["A_KEY"], output["none"], output["date"]) == ("v", None, True)
        row = output["job"]
        assert (row["id"], row["toolSlug"], row["input"], row["attempts"], row["maxAttempts"]) == (
            "job-1",
            "tool",
            {"a": 1},
            1,
            3,
        )


# failures, crashes, zombies -------------------------------------------------------------------------------------------


def test_a_thrown_error_is_retried_and_a_final_one_is_not(tmp_path: Path) -> None:
    body = """
    if (job.input === "final") throw Object.assign(new Error("no"), { retryable: false });
    if (job.input === "BullMQ's") throw Object.assign(new Error("no"), { name: "UnrecoverableError" });
    if (job.input === "refused") return { success: false, error: "never", retryable: false };
    if (job.attempts < 3) throw new RangeError(`attempt ${job.attempts}`);
    return { success: true, output: job.attempts };
    """
    with JobHarness() as jobs:
        jobs.register("tool", processor(tmp_path, body))
        handles = [jobs.enqueue("tool", kind) for kind in ("again", "final", "BullMQ's", "refused")]
        jobs.run_until_idle()
        assert [(job.status, job.attempts) for job in handles] == [("COMPLETED", 3), *[("FAILED", 1)] * 3]


def test_what_it_throws_comes_back_with_its_place(tmp_path: Path) -> None:
    with JobHarness() as jobs, pytest.raises(JavaScriptError, match="bad thing") as caught:
        jobs.perform_job(processor(tmp_path, "\n\nthrow new TypeError('bad thing')"), None)
    assert type(caught.value).__name__ == "TypeError"
    assert "processor.ts:4:9" in caught.value.stack
    notes = "\n".join(caught.value.__notes__)
    assert "processor.ts:4:9" in notes
    assert "node:internal" not in notes
    assert "main.mjs" not in notes


def test_what_built_code_throws_has_the_place_in_its_source(tmp_path: Path) -> None:
    built = """
    export const run = async () => {
      throw new TypeError("boom");
    };
    //# sourceMappingURL=pay.js.map
    """
    # Its third line is the seventh of the source, from the third column on.
    source_map = {"version": 3, "file": "pay.js", "sources": ["../src/pay.ts"], "names": [], "mappings": ";;AAME"}
    written(tmp_path, json.dumps(source_map), name="dist/pay.js.map")
    with JobHarness() as jobs, pytest.raises(JavaScriptError) as caught:
        jobs.perform_job(written(tmp_path, built, name="dist/pay.js") + "#run", None)
    assert str(tmp_path / "src" / "pay.ts:7:3") in "".join(caught.value.__notes__)


def test_what_code_ran_is_written_where_coverage_is_wanted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NODE_V8_COVERAGE", "covered")
    target = processor(tmp_path, "if (job.attempts === 2) return { success: true }; throw new Error('once');")
    with JobHarness() as jobs:
        jobs.register("tool", target)
        job = jobs.enqueue("tool", None)
        jobs.crash_worker(at="before fail", job=job)
        jobs.run_until_idle()
        assert (job.status, job.attempts) == ("COMPLETED", 2)
    files = [json.loads(file.read_text("utf-8")) for file in (tmp_path / "covered").iterdir()]
    ours = [each for file in files for each in file["result"] if each["url"].endswith("/processor.ts")]
    assert [each["functions"][-1]["functionName"] for each in ours] == ["run", "run"]


def test_an_inspector_is_opened_where_node_options_ask_for_one_and_nothing_else_of_them_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("NODE_OPTIONS", "--require ./absent.js --inspect=127.0.0.1:0")
    with JobHarness() as jobs:
        assert jobs.perform_job(processor(tmp_path, "return { success: true };"), None).success
    assert "Debugger listening on ws://127.0.0.1:" in capfd.readouterr().err


def test_an_attempt_over_time_is_abandoned_and_what_it_still_does_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    charged = []
    body = """
    if (job.attempts === 1) await new Promise((go) => setTimeout(go, 601_000));
    await charge(job.id, job.attempts);
    return { success: true, output: job.attempts };
    """
    with JobHarness() as jobs:
        target = TypeScriptProcessor(
            processor(tmp_path, body), globals={"charge": lambda *about: charged.append(about)}
        )
        jobs.register("tool", target)
        job = jobs.enqueue("tool", None)
        jobs.run_until_idle()
        assert (job.status, job.output, job.attempts) == ("COMPLETED", 2, 2)
        assert charged == [("job-1", 1), ("job-1", 2)]
        told = jobs.bench.node.findings
        assert "job-1, attempt 1: it was abandoned, and still called charge('job-1', 1)" in told[0]
        assert "it was abandoned, and ended later with a result, which is ignored" in told[1]
    assert "still called charge" in capsys.readouterr().err


CHARGES = """
await charge(job.id);
await new Promise((go) => setTimeout(go, 1_000));
return { success: true, output: [process.pid, job.attempts] };
"""


@pytest.mark.parametrize("place", ["while running", "charged", "before complete"])
def test_a_crash_of_the_worker_is_a_real_kill_and_costs_an_attempt(place: str, tmp_path: Path) -> None:
    def charge(job: str) -> None:
        effect("charged", order=job)

    with JobHarness() as jobs:
        target = TypeScriptProcessor(processor(tmp_path, CHARGES), globals={"charge": charge})
        jobs.register("tool", target)
        first = attached(jobs).pid
        assert first is not None
        job = jobs.enqueue("tool", None)
        jobs.crash_worker(at=place)
        jobs.run_until_idle()
        assert (job.status, job.attempts, job.output[1]) == ("COMPLETED", 2, 2)
        assert job.output[0] != first
        assert not Path(f"/proc/{first}").exists()
        assert jobs.problems() == []
        assert [event.name for event in jobs.history.events if type(event) is Effect].count("charged") == 2


def test_what_an_abandoned_attempt_does_twice_breaks_at_most_once(tmp_path: Path) -> None:
    body = """
    if (job.attempts === 1) await new Promise((go) => setTimeout(go, 700_000));
    await charge(job.id);
    return { success: true };
    """

    def charge(job: str) -> None:
        effect("charged", order=job)

    with JobHarness(invariants=[at_most_once("charged")]) as jobs:
        jobs.register("tool", TypeScriptProcessor(processor(tmp_path, body), globals={"charge": charge}))
        jobs.enqueue("tool", None)
        jobs.run_until_idle()
        jobs.advance("10m")
        assert "charged" in jobs.problems()[0]
        assert any("still called charge" in note for note in jobs.notes())


def attached(jobs: JobHarness) -> NodeProcessor:
    [(_, _, found)] = jobs.bench.node._attached
    return found


def test_what_an_attempt_left_running_is_a_leak(tmp_path: Path) -> None:
    body = """
    setInterval(() => {}, 5000);
    setInterval(() => {}, 6000).unref();
    setTimeout(() => {}, 7000);
    const { spawn } = await import("node:child_process");
    const child = spawn("sleep", ["100"], { stdio: "ignore", detached: true });
    child.unref();
    return { success: true, output: child.pid };
    """
    with JobHarness() as jobs:
        jobs.register("tool", processor(tmp_path, body))
        job = jobs.enqueue("tool", None)
        jobs.drain()
        [problem] = jobs.problems()
        assert "a setInterval of 5000 ms of" in problem
        assert f"the process {job.output} still runs" in problem
        assert "6000" not in problem
        assert "7000" not in problem


def test_an_interval_of_a_package_is_the_packages(tmp_path: Path) -> None:
    written(tmp_path, "export const pool = () => setInterval(() => {}, 1000);", name="node_modules/pool/index.js")
    written(tmp_path, '{"name": "pool", "type": "module"}', name="node_modules/pool/package.json")
    source = """
    import { pool } from "pool";
    export const run = async () => (pool(), { success: true });
    """
    with JobHarness() as jobs:
        jobs.register("tool", written(tmp_path, source) + "#run")
        jobs.enqueue("tool", None)
        jobs.drain()
        assert jobs.problems() == []


def test_an_attempt_that_waits_for_nothing_is_named(tmp_path: Path) -> None:
    with JobHarness() as jobs:
        jobs.register("tool", processor(tmp_path, "await new Promise(() => {})"))
        job = jobs.enqueue("tool", None, max_attempts=1)
        jobs.drain()
        assert "timed out" in str(job.error)
        [note] = jobs.notes()
        assert "it waits for something that never comes: no timer, no stub and no I/O is left" in note


def test_a_changed_input_is_told_once(tmp_path: Path) -> None:
    body = "job.input.items.push(2); return { success: true };"
    with JobHarness() as jobs:
        jobs.register("tool", processor(tmp_path, body))
        for _ in range(2):
            jobs.enqueue("tool", {"items": [1]})
        jobs.drain()
        found = [note.partition(": ")[2] for note in attached(jobs).notes.findings.values()]
        assert found == ["it changed its input"]


def test_after_its_process_died_the_next_attempt_gets_a_new_one(tmp_path: Path) -> None:
    body = """
    globalThis.count = (globalThis.count ?? 0) + 1;
    if (job.attempts === 1) process.kill(process.pid, "SIGKILL");
    await new Promise((go) => setTimeout(go, 10));
    return { success: true, output: globalThis.count };
    """
    with JobHarness() as jobs:
        jobs.register("tool", processor(tmp_path, body))
        job = jobs.enqueue("tool", None)
        jobs.run_until_idle()
        assert (job.status, job.attempts, job.output) == ("COMPLETED", 2, 1)


def test_what_the_console_says_is_on_standard_error(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    body = (
        "console.log('to', { log: 1 }); process.stdout.write('raw'); return { success: true, output: { a: undefined } }"
    )
    with JobHarness() as jobs:
        jobs.register("tool", processor(tmp_path, body))
        jobs.enqueue("tool", None)
        jobs.drain()
    out, err = capfd.readouterr()
    assert out == ""
    assert "tool: to { log: 1 }\n" in err
    assert "tool: raw\n" in err
    assert "output.a is undefined, which JSON drops" in err


# Node itself ----------------------------------------------------------------------------------------------------------


def program(folder: Path, version: str) -> Path:
    path = Path(written(folder, f"#!/bin/sh\necho v{version}\n", name=f"{version}/node"))
    path.chmod(0o755)
    return path


def test_without_a_node_the_one_command_that_repairs_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(program(tmp_path, "20.20.2").parent))
    monkeypatch.setattr(packages, "WHEEL", "there_is_no_such_wheel")
    monkeypatch.delenv(packages.VARIABLE, raising=False)
    with JobHarness() as jobs, pytest.raises(EnvironmentUnavailable, match=r"node is 20\.20\.2") as caught:
        jobs.register("my-tool", f"{GUIDE}/processor.ts#processMyTool")
    assert "Node 22.15 or newer is needed for TypeScript" in caught.value.message
    assert caught.value.hint.endswith(install("node"))


def test_a_node_on_the_path_that_is_too_old_gives_way_to_the_packages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(packages.VARIABLE, raising=False)
    monkeypatch.setenv("PATH", str(program(tmp_path, "24.1.0").parent))
    assert find_typescript_node().version == (24, 1, 0)
    monkeypatch.setenv("PATH", str(program(tmp_path, "20.20.2").parent))
    if importlib.util.find_spec(packages.WHEEL) is None:
        pytest.skip(f"{packages.WHEEL} is not installed")
    assert packages.WHEEL in find_typescript_node().path


def test_a_node_that_is_named_is_taken_or_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(packages.VARIABLE, str(program(tmp_path, "20.1.0")))
    with pytest.raises(EnvironmentUnavailable, match=r"JOB_HARNESS_NODE names \S+, which is 20\.1\.0"):
        find_typescript_node()
    monkeypatch.setenv(packages.VARIABLE, str(program(tmp_path, "22.15.0")))
    assert find_typescript_node().version == (22, 15, 0)


def test_a_stub_that_never_answers_is_told_from_what_the_processor_left(tmp_path: Path) -> None:
    async def ask() -> None:
        await asyncio.Event().wait()

    with JobHarness() as jobs:
        body = "void ask(); return { success: true };"
        jobs.register("forget", TypeScriptProcessor(processor(tmp_path, body), globals={"ask": ask}))
        jobs.enqueue("forget")
        jobs.drain()
        told = "\n".join(jobs.problems())
    assert "stubs of this test were still waiting when it ended" in told
    assert "ask(): " in told
    assert "left something running" not in told
