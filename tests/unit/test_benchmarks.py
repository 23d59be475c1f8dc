"""Benchmarks that read what a search keeps: they break unseen, for no test asks what they measure."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_what_reductions_would_save_is_counted_on_the_smallest_scope() -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "reduction.py"), "1"]
    counted = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert counted.returncode == 0, counted.stderr
    assert "| memory | 2 workers, 1 job | 0 | 187 | 279 | 102 |" in counted.stdout
