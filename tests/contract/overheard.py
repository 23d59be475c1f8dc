"""What goes over the pipes of peers, held against the schema of the peer protocol."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jsonschema
import pytest

from job_harness.worlds.peers import Peer, peer

SCHEMA = json.loads(peer.SCHEMA.read_text(encoding="utf-8"))
DEFS = SCHEMA["$defs"]
_VALIDATORS: dict[str, Any] = {
    side: jsonschema.Draft202012Validator({"$defs": DEFS, "$ref": f"#/$defs/{side}"}) for side in DEFS
}
TURNS = ("go", "time", "sever")
KINDS = ("hello", "effect", "idle", "sever", "time", "gate", "go")


def fits(kind: str, line: Any) -> bool:
    """Whether a line is of a kind that the schema defines."""
    return bool(_VALIDATORS[kind].is_valid(line))


@contextmanager
def overheard() -> Iterator[set[str]]:
    """Take every line of every peer, which must fit the schema; in the end, say which kinds there were."""
    understood, tell = Peer._understood, Peer._tell
    lines: list[tuple[str, Any]] = []
    kinds: set[str] = set()

    def listening(self: Peer, line: bytes) -> Any:
        report = understood(self, line)
        lines.append(("report", report))
        return report

    def telling(self: Peer, message: Any) -> int:
        number = tell(self, message)
        lines.append(("message", {**message, **{kind: number for kind in TURNS if kind in message}}))
        return number

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Peer, "_understood", listening)
        patch.setattr(Peer, "_tell", telling)
        yield kinds
    kinds.update(next(kind for kind in KINDS if kind in line) for _, line in lines)
    assert [line for side, line in lines if not fits(side, line)] == []
