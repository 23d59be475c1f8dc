"""Right processors in TypeScript, each with its fakes in Python."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from job_harness import JavaScript, TypeScriptProcessor
from job_harness.errors import EnvironmentUnavailable
from job_harness.worlds.packages import find_typescript_node

from .conftest import Outside

HEAD = """
declare const charge: (key: unknown) => Promise<string>;
declare const read: (name: string) => Promise<any>;
declare const write: (name: string, value: unknown, unless?: unknown) => Promise<boolean>;
declare const wait: (ms: number) => Promise<void>;
const done = { success: true };
export async function work(job: { id: string; input: any; attempts: number }) {
"""
BODIES = {
    "a key from the input": "await charge(job.input); await wait(1_000); return done;",
    "a key from the job": "await wait(1_000); await charge(job.id); return done;",
    "a key that is kept before it is used": """
        let key = await read(job.id);
        if (!key) await write(job.id, (key = crypto.randomUUID()), null);
        await charge(await read(job.id));
        return done;""",
    "a mark after the charge": """
        if (await read(job.id)) return done;
        await charge(job.id);
        await write(job.id, "charged");
        return done;""",
    "two at once": "await Promise.all([charge(job.id), wait(500), write(`seen ${job.id}`, true)]); return done;",
    "a balance that is set by what was read": """
        for (;;) {
          const before = (await read("balance")) ?? null;
          await wait(100);
          if (await write("balance", { ...before, [job.id]: job.input }, before)) break;
        }
        await charge(job.id);
        return done;""",
    "cleaning up": """
        await write("open", job.id);
        try { await wait(1_000); await charge(job.id); } finally { await write("open", null); }
        return done;""",
    "a retry by chance": """
        for (let tried = 0; ; tried++) {
          await wait(Math.random() * 1_000);
          if (tried === 2) break;
        }
        await charge(job.id);
        return done;""",
    "a limit of its own": """
        const late = new Promise((_, reject) => setTimeout(() => reject(new Error("late")), 30_000).unref());
        await Promise.race([wait(1_000), late]);
        await charge(job.id);
        return done;""",
    "an interval that is cleared": """
        const beats = setInterval(() => {}, 200);
        try { await wait(1_000); } finally { clearInterval(beats); }
        await charge(job.id);
        return done;""",
}


@pytest.mark.parametrize("design", BODIES)
def test_typescript(play: Callable[..., None], outside: Outside, tmp_path: Path, design: str) -> None:
    try:
        find_typescript_node()
    except EnvironmentUnavailable as missing:
        pytest.skip(missing.message)
    file = tmp_path / "work.ts"
    file.write_text(f"{HEAD}{BODIES[design]}\n}}\n", encoding="utf-8")

    def write(name: str, value: Any, unless: Any = ...) -> bool:
        if unless is not ... and outside.rows.get(name) != unless:
            return False
        outside.rows[name] = value
        return True

    pause = JavaScript("(ms: number) => new Promise((go) => setTimeout(go, ms))")
    fakes = {"charge": outside.charge, "read": outside.rows.get, "write": write, "wait": pause}
    play(TypeScriptProcessor(f"{file}#work", globals=fakes), 1, 2)
