"""Lays out what was proven as `benchmarks/results/reliability.md`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from reliability.size import Proof

HEAD: Final = """# Reliability: proofs and their figures

Written by `{command}` on {date}.
It ran for {minutes:.0f} minutes on {machine}. All figures are from that run,
unless a section says that it was measured again; `make reliability ARGS="--size nightly"` does about ten times as
much. The command ends with exit code 1 if anything below did not hold.

| proof | held | result |
| --- | --- | --- |
"""


def written(proofs: Sequence[Proof], *, command: str, date: str, machine: str, minutes: float) -> str:
    """Return the page."""
    text = HEAD.format(command=command, date=date, machine=machine, minutes=minutes)
    return text + "".join(map(_row, proofs)) + "".join(_section(proof) for proof in proofs)


def renewed(before: str, proof: Proof, *, command: str, date: str) -> str:
    """Return the page with one proof measured anew, which its section says; everything else stays as it was."""
    start = _row(proof).partition("(")[0]
    lines = [_row(proof) if line.startswith(start) else line for line in before.splitlines(keepends=True)]
    head, *sections = "".join(lines).split("\n## ")
    again = f"{_section(proof).rstrip()}\n\nMeasured again on {date} by `{command}`.\n".removeprefix("\n## ")
    kept = [again if section.startswith(f"{proof.title}\n") else section for section in sections]
    return "\n## ".join([head, *kept])


def _row(proof: Proof) -> str:
    anchor = proof.title.lower().replace(" ", "-")
    return f"| [{proof.title}](#{anchor}) | {'yes' if proof.held else '**no**'} | {proof.result} |\n"


def _section(proof: Proof) -> str:
    lines = [proof.columns, ["---"] * len(proof.columns), *proof.rows]
    table = "".join("| " + " | ".join(cell.replace("|", "/") for cell in cells) + " |\n" for cells in lines)
    return f"\n## {proof.title}\n\n{proof.about}\n\n{table}"
