"""Lays out what was proven as `docs/reliability.md`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from reliability.size import Proof

HEAD: Final = """# How reliable is it?

Written by `{command}` on {date}.
It ran for {minutes:.0f} minutes on {machine}. Every figure is from that run;
`make reliability ARGS="--size nightly"` does about ten times as much. The command ends with exit code 1 where anything
below did not hold.

| proof | held | result |
| --- | --- | --- |
"""


def written(proofs: Sequence[Proof], *, command: str, date: str, machine: str, minutes: float) -> str:
    """Return the page."""
    text = HEAD.format(command=command, date=date, machine=machine, minutes=minutes)
    for proof in proofs:
        anchor = proof.title.lower().replace(" ", "-")
        text += f"| [{proof.title}](#{anchor}) | {'yes' if proof.held else '**no**'} | {proof.result} |\n"
    return text + "".join(_section(proof) for proof in proofs)


def _section(proof: Proof) -> str:
    lines = [proof.columns, ["---"] * len(proof.columns), *proof.rows]
    table = "".join("| " + " | ".join(cell.replace("|", "/") for cell in cells) + " |\n" for cells in lines)
    return f"\n## {proof.title}\n\n{proof.about}\n\n{table}"
