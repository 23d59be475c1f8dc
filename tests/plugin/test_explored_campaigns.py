"""Long campaigns on a repaired processor: no false alarm in a thousand runs. Run by `make campaign`."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.contract.node_at_hand import missing_node
from tests.plugin.test_plugin_explore import CAREFUL, INI, PAY_TS, TYPESCRIPT

pytestmark = pytest.mark.campaign


@pytest.mark.parametrize(
    ("language", "engine", "runs"),
    [
        ("Python", "memory", 1000),
        ("TypeScript", "memory", 500),
        pytest.param("Python", "pgboss", 100, marks=pytest.mark.postgres),
        pytest.param("TypeScript", "pgboss", 100, marks=pytest.mark.postgres),
    ],
)
def test_a_repaired_processor_passes(pytester: pytest.Pytester, language: str, engine: str, runs: int) -> None:
    if language == "TypeScript" and (why := missing_node()):
        pytest.skip(why)
    pytester.makeini(INI)
    Path("pay.ts").write_text(PAY_TS, encoding="utf-8")
    pytester.makepyfile(test_it=CAREFUL if language == "Python" else TYPESCRIPT.format(once=True))
    ran = pytester.runpytest_subprocess(f"--job-engine={engine}", f"--job-explore={runs}", "-rP", timeout=1200)
    ran.assert_outcomes(passed=1)
    ran.stdout.fnmatch_lines([f"{runs} disturbed runs in * s (* runs/s, * ms of CPU each)*"])
