"""What a TypeScript processor costs in its Node child, beside a Python processor that does the same.

Usage: .venv/bin/python benchmarks/typescript.py [SECONDS]
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from paired import interleave, seconds_of, show

from job_harness.subjects.processors import JobHarness, JobResult, ToolJob, TypeScriptProcessor
from job_harness.worlds.packages import find_typescript_node

JOBS = 100
FRESH = 5
SOURCE = """
export const plain = async (job: any) => ({ success: true, output: job.input });
export const waits = async (job: any) => {
  await new Promise((go) => setTimeout(go, 1000));
  return { success: true, output: job.input };
};
export const calls = async (job: any) => ({ success: true, output: await work(job.input) });
"""


async def python(job: ToolJob) -> JobResult:
    return JobResult(success=True, output=job.input)


def drained(register: Callable[[JobHarness], None]) -> float:
    """Return the seconds of one job in a drain; what comes before the first job is not counted."""
    with JobHarness() as jobs:
        register(jobs)
        for number in range(JOBS):
            jobs.enqueue("tool", {"number": number, "text": "x" * 100})
        seconds = seconds_of(jobs.drain)
    return seconds / JOBS


def fresh(target: TypeScriptProcessor) -> float:
    """Return the seconds of one job with a harness and a Node child of its own, from start to end."""

    def once() -> None:
        with JobHarness() as jobs:
            jobs.perform_job(target, {"text": "x"})

    return seconds_of(lambda: [once() for _ in range(FRESH)]) / FRESH


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 20.0
    node = find_typescript_node()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "processor.ts"
        path.write_text(SOURCE, encoding="utf-8")
        plain, waits = (TypeScriptProcessor(f"{path}#{name}") for name in ("plain", "waits"))
        calls = TypeScriptProcessor(f"{path}#calls", globals={"work": lambda value: value})

        def of(target: TypeScriptProcessor) -> Callable[[], float]:
            return lambda: drained(lambda jobs: jobs.register("tool", target))

        rows = interleave(
            {
                "Python": lambda: drained(lambda jobs: jobs.register("tool", python)),
                "TypeScript": of(plain),
                "TypeScript, one timer": of(waits),
                "TypeScript, one stub in Python": of(calls),
                "TypeScript, a new child for the job": lambda: fresh(plain),
            },
            rounds=20,
            seconds=seconds,
        )
    version = ".".join(map(str, node.version))
    note = f"Node {version}. A job of a drain, enqueueing not counted; a harness keeps its child for all jobs."
    show("What does a job cost in a Node child?", rows, base="Python", unit="ms", scale=1000, note=note)


if __name__ == "__main__":
    main()
